//! What units were to be, and whether they were ready, over time: written by the planner and with reports, read in
//! intervals.

use std::time::Duration;

use flotilla_core::digest::Digest;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, StoreError, session::signed};

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

/// Whose history.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Of all units of this app.
    pub app: Option<Uuid>,
    /// Of this unit, which need not be there any more.
    pub unit: Option<Uuid>,
}

/// A place among targets that were held.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// When it began.
    pub from: OffsetDateTime,
    /// The unit.
    pub unit: Uuid,
    /// Version of its entry.
    pub version: u64,
}

impl Place {
    /// Before all of them.
    pub fn newest() -> Self {
        Self {
            from: time::PrimitiveDateTime::MAX.assume_utc(),
            unit: Uuid::max(),
            version: i64::MAX.unsigned_abs(),
        }
    }
}

/// A target that a unit had for a time.
#[derive(Debug, Clone)]
pub struct HeldRow {
    /// Name of the cluster; its id where that is no more.
    pub cluster: String,
    /// The unit.
    pub unit: Uuid,
    /// Version of its entry.
    pub version: u64,
    /// The target.
    pub target: Vec<u8>,
    /// From when.
    pub from: OffsetDateTime,
    /// Until when; `None`: it has it, or had it when it went.
    pub until: Option<OffsetDateTime>,
    /// The unit is no more.
    pub gone: bool,
    /// When it was ready first.
    pub ready: Option<OffsetDateTime>,
    /// What was said of it last.
    pub last: String,
    /// Of the present version: it is applied.
    pub applied: bool,
    /// Of the present version: it is healthy.
    pub healthy: bool,
    /// What it was rolled out for; '' where that is not known any more.
    pub cause: String,
    /// At which revision; the same.
    pub revision: String,
}

impl Store {
    /// Targets that units had, the newest first, after a place. However often their readiness turned, each is one. Of each unit
    /// as few are read as make a page together: what is older than the last of those is on no page yet.
    pub async fn held_targets(&self, asked: &Asked, after: &Place, limit: i64) -> Result<Vec<HeldRow>> {
        let rows = sqlx::query!(
            r#"WITH asked AS MATERIALIZED (
                 SELECT id FROM unit WHERE app_uid = $1 UNION SELECT $2::uuid WHERE $2 IS NOT NULL),
               newest AS MATERIALIZED (
                 SELECT h.unit_id, h.at FROM asked CROSS JOIN LATERAL (
                   SELECT h.unit_id, h.at FROM history h
                   WHERE h.unit_id = asked.id AND h.at <= $3 AND (h.at, h.unit_id, h.version) < ($3, $4, $5)
                     -- Its first turn.
                     AND NOT EXISTS (SELECT FROM history p WHERE p.unit_id = h.unit_id AND p.version = h.version AND p.at < h.at)
                   ORDER BY h.version DESC LIMIT (SELECT ($6::bigint - 1) / greatest(count(*), 1) + 1 FROM asked)) AS h),
               since AS MATERIALIZED (
                 SELECT coalesce((SELECT at FROM newest ORDER BY at DESC OFFSET $6 - 1 LIMIT 1), '-infinity') AS at),
               held AS MATERIALIZED (
                 SELECT h.* FROM (
                   SELECT unit_id FROM newest WHERE at >= (SELECT at FROM since) GROUP BY unit_id) AS n
                 CROSS JOIN LATERAL (
                   SELECT * FROM history h
                   WHERE h.unit_id = n.unit_id AND h.at <= $3 AND (h.at, h.unit_id, h.version) < ($3, $4, $5)
                     AND h.at >= (SELECT at FROM since)
                     AND NOT EXISTS (SELECT FROM history p WHERE p.unit_id = h.unit_id AND p.version = h.version AND p.at < h.at)
                   ORDER BY h.version DESC LIMIT $6) AS h
                 ORDER BY h.at DESC, h.unit_id DESC, h.version DESC LIMIT $6)
               SELECT coalesce(c.name, h.cluster_id::text) AS "cluster!", h.unit_id AS "unit!", h.version AS "version!",
                      h.target AS "target!", h.at AS "at!", n.at AS "until?", u.id IS NULL AS "gone!",
                      r.ready_at AS "ready_at?", r.last AS "last!",
                      coalesce(s.applied_version = h.version AND s.version = h.version, false) AS "applied!",
                      coalesce(s.healthy_version = h.version AND s.version = h.version, false) AS "healthy!",
                      coalesce(o.cause, '') AS "cause!", coalesce(v.revision, '') AS "revision!"
               FROM held h
               LEFT JOIN cluster c ON c.id = h.cluster_id
               LEFT JOIN LATERAL (
                 SELECT n.at FROM history n WHERE n.unit_id = h.unit_id AND n.version > h.version
                 ORDER BY n.version, n.at LIMIT 1) AS n ON true
               CROSS JOIN LATERAL (
                 SELECT min(t.at) FILTER (WHERE t.ready = 'True') AS ready_at,
                        (array_agg(t.ready ORDER BY t.at DESC))[1] AS last
                 FROM history t WHERE t.unit_id = h.unit_id AND t.version = h.version) AS r
               LEFT JOIN unit u ON u.id = h.unit_id
               LEFT JOIN unit_status s ON s.unit_id = h.unit_id
               LEFT JOIN LATERAL (
                 -- The last that moved this cluster until then, if it brought that.
                 SELECT o.cause, o.content, o.revision_id FROM rollout o
                   JOIN admission a ON a.rollout_id = o.id AND a.cluster_id = h.cluster_id
                 WHERE o.app_uid = u.app_uid AND o.created_at <= h.at ORDER BY o.id DESC LIMIT 1
               ) AS o ON o.content IS NOT DISTINCT FROM h.content
               LEFT JOIN revision v ON v.id = o.revision_id
               ORDER BY h.at DESC, h.unit_id DESC, h.version DESC"#,
            asked.app,
            asked.unit,
            after.from,
            after.unit,
            signed(after.version),
            limit
        )
        .fetch_all(self.pool())
        .await?;
        let rows = rows.into_iter().map(|row| HeldRow {
            cluster: row.cluster,
            unit: row.unit,
            version: row.version.unsigned_abs(),
            target: row.target,
            from: row.at,
            until: row.until,
            gone: row.gone,
            ready: row.ready_at,
            last: row.last,
            applied: row.applied,
            healthy: row.healthy,
            cause: row.cause,
            revision: row.revision,
        });
        Ok(rows.collect())
    }

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
