//! Wake-ups between tasks and replicas. They carry no data: a reader looks at the key's whole state. Losing one
//! costs a poll interval, never correctness.

use std::time::Duration;

use sqlx::postgres::PgListener;
use uuid::Uuid;

use super::{Result, Store, Topic};

/// Where a reader stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    xid: String,
    seq: i64,
}

/// One wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nudge {
    /// What it is about.
    pub topic: Topic,
    /// Whom.
    pub key: Uuid,
}

/// What one reading of the outbox found.
#[derive(Debug)]
pub struct Batch {
    /// The wake-ups, oldest first.
    pub nudges: Vec<Nudge>,
    /// Where to go on.
    pub end: Cursor,
    /// There is more, behind a transaction that is still open. No notification will tell when it has ended.
    pub held: bool,
}

impl Store {
    /// The present end of the outbox: where a reader begins after having looked at everything.
    pub async fn outbox_end(&self) -> Result<Cursor> {
        let xid = sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS "xid!""#)
            .fetch_one(self.pool())
            .await?;
        Ok(Cursor { xid, seq: 0 })
    }

    /// Reads the wake-ups after `cursor`, oldest first, at most 1,000. Rows of transactions newer than one that was
    /// still open when this snapshot was taken are left for a later call, since an older one may yet come: `held`
    /// tells that there are such rows. A transaction of another database of the same server holds them as well.
    pub async fn outbox_after(&self, cursor: &Cursor) -> Result<Batch> {
        let mut rows = sqlx::query!(
            r#"SELECT xid::text AS "xid!", seq, topic, key,
                      xid < pg_snapshot_xmin(pg_current_snapshot()) AS "settled!"
               FROM outbox WHERE (xid, seq) > ($1::text::xid8, $2) ORDER BY xid, seq LIMIT 1000"#,
            cursor.xid,
            cursor.seq
        )
        .fetch_all(self.pool())
        .await?;
        let settled = rows.iter().take_while(|row| row.settled).count();
        let held = settled < rows.len();
        rows.truncate(settled);
        let end = rows.last().map_or_else(
            || cursor.clone(),
            |row| Cursor {
                xid: row.xid.clone(),
                seq: row.seq,
            },
        );
        let nudges = rows
            .into_iter()
            // A topic of a newer hub is not for this one.
            .filter_map(|row| {
                Some(Nudge {
                    topic: Topic::parse(&row.topic)?,
                    key: row.key,
                })
            })
            .collect();
        Ok(Batch { nudges, end, held })
    }

    /// Deletes wake-ups that every reader has long passed.
    pub async fn outbox_trim(&self) -> Result<u64> {
        let done = sqlx::query!("DELETE FROM outbox WHERE at < now() - interval '10 minutes'")
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected())
    }

    /// A listener for the notification that the outbox grew.
    pub async fn outbox_listener(&self) -> Result<OutboxListener> {
        let mut listener = PgListener::connect_with(self.pool()).await?;
        listener.listen("flotilla_outbox").await?;
        Ok(OutboxListener { listener })
    }
}

/// Waits for the outbox to grow.
pub struct OutboxListener {
    listener: PgListener,
}

impl OutboxListener {
    /// Waits for a notification, a lost connection, or `poll` to pass; after each of them the caller reads.
    pub async fn wait(&mut self, poll: Duration) {
        // `try_recv` tells a lost connection (`None`) from silence; both, and errors, end the wait: reading the
        // outbox is always right.
        let _ = tokio::time::timeout(poll, self.listener.try_recv()).await;
    }
}
