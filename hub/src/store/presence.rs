//! Which clusters come and go, for people: an event and an audit row when one is there that was not, and when one has been
//! away for so long that what is known of it may be wrong. Streams that are opened anew in between are neither.

use uuid::Uuid;

use super::{Result, Store, Topic};

impl Store {
    /// Tells of clusters that have gone: in order, by a broken connection, or with the hub that held their streams.
    /// Returns how many.
    pub async fn tell_gone(&self) -> Result<usize> {
        let gone: Vec<Uuid> = sqlx::query_scalar!(
            r#"WITH gone AS (
                 SELECT p.cluster_id FROM presence p JOIN session s ON s.cluster_id = p.cluster_id
                 WHERE s.told_connected AND NOT p.connected AND is_alive(p.last_seen) IS NOT TRUE
                 ORDER BY p.cluster_id FOR UPDATE OF s SKIP LOCKED
               ), told AS (
                 UPDATE session s SET told_connected = false FROM gone WHERE s.cluster_id = gone.cluster_id
               ), event AS (
                 INSERT INTO event (warning, reason, message, cluster_id)
                 SELECT true, 'ClusterDisconnected', 'the cluster''s agent is not connected any more', cluster_id FROM gone
               ), audited AS (
                 INSERT INTO audit (principal, verb, object)
                 SELECT 'cluster/' || cluster_id, 'disconnect', 'cluster/' || cluster_id FROM gone
               )
               SELECT cluster_id AS "cluster_id!" FROM gone"#
        )
        .fetch_all(self.pool())
        .await?;
        if !gone.is_empty() {
            self.wake(Topic::Session, &gone).await?;
        }
        Ok(gone.len())
    }
}

/// Tells that a cluster is there. For who has found that this was not told.
pub(super) async fn tell_connected(
    tx: &mut sqlx::PgConnection,
    cluster_id: Uuid,
    agent_version: &str,
) -> Result<()> {
    sqlx::query!(
        "WITH event AS (
             INSERT INTO event (reason, message, cluster_id)
             VALUES ('ClusterConnected', 'the cluster''s agent is connected, version ' || $2::text, $1)
         )
         INSERT INTO audit (principal, verb, object) VALUES ('cluster/' || $1::uuid, 'connect', 'cluster/' || $1::uuid)",
        cluster_id,
        agent_version
    )
    .execute(tx)
    .await?;
    Ok(())
}
