//! Events: what happened and is not a state.

use uuid::Uuid;

use super::{Connection, Result, Store};
use flotilla_core::printable::printable_lines;

/// An event to record.
pub struct NewEvent<'a> {
    /// Something a person should look at.
    pub warning: bool,
    /// One word.
    pub reason: &'a str,
    /// A sentence; never a secret.
    pub message: &'a str,
    /// The configured object it is about.
    pub resource: Uuid,
    /// Source revision.
    pub revision: &'a str,
}

/// Events that are kept, whatever their age.
const KEPT: i64 = 500_000;

impl Store {
    /// Deletes events that are older than a week, and the oldest of too many.
    pub async fn event_trim(&self) -> Result<u64> {
        let done = sqlx::query!(
            "DELETE FROM event WHERE at < now() - interval '7 days' OR id <= (SELECT max(id) FROM event) - $1::bigint",
            KEPT
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Records an event, unless the same one was recorded for the same object in the last five minutes.
    pub async fn record_event(&self, event: &NewEvent<'_>) -> Result<()> {
        let message = printable_lines(event.message);
        sqlx::query!(
            "INSERT INTO event (warning, reason, message, resource_uid, revision)
             SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (
               SELECT 1 FROM event WHERE resource_uid = $4 AND reason = $2 AND message = $3 AND revision = $5
                 AND at > now() - interval '5 minutes')",
            event.warning,
            event.reason,
            message,
            event.resource,
            event.revision
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

/// Tells the same of several objects, in the transaction that did it.
pub(super) async fn tell(tx: &mut Connection, resources: &[Uuid], reason: &str, message: &str) -> Result<()> {
    sqlx::query!(
        "INSERT INTO event (reason, message, resource_uid) SELECT $2, $3, uid FROM unnest($1::uuid[]) AS uid",
        resources,
        reason,
        message
    )
    .execute(tx)
    .await?;
    Ok(())
}
