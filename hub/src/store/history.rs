//! What units were to be, and whether they were ready, over time: written by the planner and with reports, read in
//! intervals.

use std::time::Duration;

use flotilla_core::digest::Digest;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, StoreError};

/// A time in which a unit was to be one thing and was as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The cluster.
    pub cluster: Uuid,
    /// The unit.
    pub unit: Uuid,
    /// Version of its entry.
    pub version: u64,
    /// What it was to be.
    pub target: Digest,
    /// The content of that; `None`: it has none, or is not kept any more.
    pub content: Option<Digest>,
    /// `True`, `False`; `Unknown`: the agent had said nothing of this version yet.
    pub ready: String,
    /// From when.
    pub from: OffsetDateTime,
    /// Until when; `None`: it is so.
    pub until: Option<OffsetDateTime>,
}

impl Store {
    /// What these units were between two times, by unit and time. The first interval of each may begin earlier, the
    /// last one end later.
    pub async fn history(
        &self,
        units: &[Uuid],
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<Interval>> {
        let rows = sqlx::query!(
            // What was told of a version when a later one was planned already, ends before it begins.
            r#"SELECT h.cluster_id, h.unit_id, h.version, h.target, t.content AS "content?", h.ready, h.at, h.until
               FROM (SELECT *, lead(at) OVER (PARTITION BY unit_id ORDER BY version, at) AS until
                     FROM history WHERE unit_id = ANY($1)) h
               LEFT JOIN target t ON t.digest = h.target
               WHERE (h.until IS NULL OR h.until > greatest(h.at, $2)) AND h.at <= $3
               ORDER BY h.unit_id, h.version, h.at"#,
            units,
            from,
            until
        )
        .fetch_all(self.pool())
        .await?;
        let digest = |bytes: &[u8], unit: Uuid| {
            Digest::try_from_slice(bytes).map_err(|e| StoreError::corrupt(format!("history of {unit}"), e))
        };
        rows.into_iter()
            .map(|row| {
                let content = row.content.as_deref();
                Ok(Interval {
                    cluster: row.cluster_id,
                    unit: row.unit_id,
                    version: row.version.unsigned_abs(),
                    target: digest(&row.target, row.unit_id)?,
                    content: content.map(|bytes| digest(bytes, row.unit_id)).transpose()?,
                    ready: row.ready,
                    from: row.at,
                    until: row.until,
                })
            })
            .collect()
    }

    /// Forgets what ended longer ago than `keep`, by months that ended so long ago. The interval that reaches into the
    /// time kept stays whole. Returns how many rows went one by one, beside whole months.
    pub async fn history_trim(&self, now: OffsetDateTime, keep: Duration) -> Result<u64> {
        let before = now - keep;
        sqlx::query_scalar!("SELECT drop_partitions('history', $1)", before)
            .fetch_one(self.pool())
            .await?;
        let done = sqlx::query!(
            "DELETE FROM history_rest h WHERE h.at < $1
               AND (NOT EXISTS (SELECT 1 FROM unit u WHERE u.id = h.unit_id)
                    OR EXISTS (SELECT 1 FROM history n
                               WHERE n.unit_id = h.unit_id AND (n.version, n.at) > (h.version, h.at) AND n.at < $1))",
            before
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }
}
