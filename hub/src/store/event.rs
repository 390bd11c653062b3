//! Events: what happened and is not a state.

use uuid::Uuid;

use super::{Result, Store};
use crate::printable::printable_lines;

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

impl Store {
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
