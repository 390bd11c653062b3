//! The hub's hold on a cluster's stream. Opening a stream raises the epoch; every later write on its behalf
//! names it, so that a stream that was replaced, here or on another replica, can write nothing any more.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Connection, Result, Store, Topic, nudge,
    report::{ConditionRow, write_conditions},
};

mod opening;
mod removals;
mod told;

pub use opening::{Opened, Opening};
pub use told::{Answer, Refusal, Told};
pub(super) use told::{refuse_rest, take, tell};

/// Who holds a cluster's stream.
pub struct Holder {
    /// Epoch of the stream.
    pub epoch: u64,
    /// The instance of the agent.
    pub boot_id: String,
}

impl Store {
    /// Which instance of an agent holds a cluster's stream, and under which epoch; `None`: none was ever opened.
    pub async fn holder(&self, cluster_id: Uuid) -> Result<Option<Holder>> {
        let row = sqlx::query!(
            "SELECT epoch, boot_id FROM session WHERE cluster_id = $1",
            cluster_id
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Holder {
            epoch: row.epoch.unsigned_abs(),
            boot_id: row.boot_id,
        }))
    }

    /// Marks sessions closed, each unless another has replaced it.
    pub async fn close_sessions(&self, streams: &[(Uuid, u64)]) -> Result<()> {
        let (ids, epochs): (Vec<Uuid>, Vec<i64>) =
            streams.iter().map(|(id, epoch)| (*id, signed(*epoch))).unzip();
        let mut tx = self.pool().begin().await?;
        let closed = sqlx::query_scalar!(
            // Locked in one order, as reports lock them.
            "WITH held AS MATERIALIZED (
                 SELECT s.cluster_id
                 FROM unnest($1::uuid[], $2::bigint[]) AS v(id, epoch)
                 JOIN session s ON s.cluster_id = v.id AND s.epoch = v.epoch
                 ORDER BY s.cluster_id FOR UPDATE OF s
             )
             UPDATE session SET connected = false, last_seen = now() FROM held WHERE session.cluster_id = held.cluster_id
             RETURNING session.cluster_id",
            &ids,
            &epochs
        )
        .fetch_all(&mut *tx)
        .await?;
        nudge(&mut tx, Topic::Session, &closed).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes when clusters were last heard of, all in one statement; heartbeats live in memory until then, and one
    /// that was not heard of since is not written again: that its hub lives says that its stream does. Returns the
    /// streams that do not hold their cluster any more: they were replaced on another replica, or lost their right.
    pub async fn flush_last_seen(&self, seen: &[(Uuid, u64, OffsetDateTime)]) -> Result<Vec<(Uuid, u64)>> {
        let ids: Vec<Uuid> = seen.iter().map(|(id, _, _)| *id).collect();
        let epochs: Vec<i64> = seen.iter().map(|(_, epoch, _)| signed(*epoch)).collect();
        let times: Vec<OffsetDateTime> = seen.iter().map(|(_, _, at)| *at).collect();
        let lost = sqlx::query!(
            // A session that a report holds is seen by that report: nobody waits for another here.
            r#"WITH named AS (
                 SELECT v.id, v.epoch, v.at
                 FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS v(id, epoch, at)
             ), free AS (
                 SELECT s.cluster_id, named.at
                 FROM named JOIN session s ON s.cluster_id = named.id AND s.epoch = named.epoch
                 WHERE s.last_seen IS NULL OR s.last_seen < named.at
                 FOR UPDATE OF s SKIP LOCKED
             ), seen AS (
                 UPDATE session SET last_seen = free.at FROM free WHERE session.cluster_id = free.cluster_id
             )
             -- None, as a rule: of thousands nothing is sent back.
             SELECT named.id AS "id!", named.epoch AS "epoch!" FROM named
             LEFT JOIN (session s JOIN cluster c ON c.id = s.cluster_id AND c.state = 'Active')
               ON s.cluster_id = named.id AND s.epoch = named.epoch
             WHERE s.cluster_id IS NULL"#,
            &ids,
            &epochs,
            &times
        )
        .fetch_all(self.pool())
        .await?;
        Ok(lost
            .into_iter()
            .map(|row| (row.id, row.epoch.unsigned_abs()))
            .collect())
    }

    /// Of these streams those that still hold their cluster, which may have an agent.
    pub async fn held(&self, streams: &[(Uuid, u64)]) -> Result<Vec<(Uuid, u64)>> {
        let ids: Vec<Uuid> = streams.iter().map(|(id, _)| *id).collect();
        let epochs: Vec<i64> = streams.iter().map(|(_, epoch)| signed(*epoch)).collect();
        let held = sqlx::query!(
            r#"SELECT s.cluster_id, s.epoch FROM unnest($1::uuid[], $2::bigint[]) AS v(id, epoch)
               JOIN session s ON s.cluster_id = v.id AND s.epoch = v.epoch
               JOIN cluster c ON c.id = s.cluster_id WHERE c.state = 'Active'"#,
            &ids,
            &epochs
        )
        .fetch_all(self.pool())
        .await?;
        Ok(held
            .into_iter()
            .map(|row| (row.cluster_id, row.epoch.unsigned_abs()))
            .collect())
    }

    /// Records what the hub itself judges of a cluster.
    pub async fn judge_cluster(&self, cluster_id: Uuid, conditions: &[ConditionRow]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let judged: Vec<_> = conditions.iter().map(|row| (cluster_id, row)).collect();
        if !write_conditions(&mut tx, &judged).await?.is_empty() {
            nudge(&mut tx, Topic::Session, &[cluster_id]).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// At start: streams of this replica's former life are closed.
    pub async fn close_sessions_of(&self, replica: &str) -> Result<()> {
        sqlx::query!(
            // Locked in one order: another hub may open streams of many of them at this moment.
            "UPDATE session SET connected = false
             FROM (SELECT cluster_id FROM session WHERE replica = $1 AND connected ORDER BY cluster_id FOR UPDATE) AS open
             WHERE session.cluster_id = open.cluster_id",
            replica
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

/// Keeps agents of these clusters from reporting until this transaction has ended, for who deletes units: a report is written
/// by who holds the cluster's session, and what it tells of a unit is tied to it by nothing else.
pub(super) async fn lock(tx: &mut Connection, clusters: &[Uuid]) -> Result<()> {
    if clusters.is_empty() {
        return Ok(());
    }
    let held = hold(tx, clusters).await?;
    let mut without: Vec<Uuid> = clusters.iter().filter(|id| !held.contains(id)).copied().collect();
    if without.is_empty() {
        return Ok(());
    }
    without.sort_unstable();
    // Of a cluster that never had a stream none is opened before that: a session that is made looks at its cluster. One that was
    // made while this waited is held like the others.
    sqlx::query!(
        "SELECT FROM cluster WHERE id = ANY($1) ORDER BY id FOR UPDATE",
        &without
    )
    .fetch_all(&mut *tx)
    .await?;
    hold(tx, &without).await?;
    Ok(())
}

async fn hold(tx: &mut Connection, clusters: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        "SELECT cluster_id FROM session WHERE cluster_id = ANY($1) ORDER BY cluster_id FOR UPDATE",
        clusters
    )
    .fetch_all(tx)
    .await?)
}

/// Numbers of the wire are unsigned, Postgres' are not; none of ours comes near the difference.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
