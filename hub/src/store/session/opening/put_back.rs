//! Clusters that were put back to an earlier state, and their agents' ledgers with them: what was told of them is of a time that
//! is no more. Their agents tell it anew; until then nothing is let go of, or deleted, because of it.

use uuid::Uuid;

use crate::store::{Connection, Result};

/// Forgets what these clusters' agents have said that they hold and have applied, and what was decided of what had left their
/// units. Returns the clusters that are to be published: what was cleared is not any more.
pub(super) async fn forget_told(tx: &mut Connection, clusters: &[Uuid]) -> Result<Vec<Uuid>> {
    if clusters.is_empty() {
        return Ok(Vec::new());
    }
    let unpublished = sqlx::query_scalar!(
        r#"WITH accepted AS (DELETE FROM unit_accepted WHERE cluster_id = ANY($1)),
             status AS (
               DELETE FROM unit_status WHERE unit_id = ANY (ARRAY(SELECT id FROM unit WHERE cluster_id = ANY($1)))),
             gone AS (DELETE FROM leaving WHERE cluster_id = ANY($1) RETURNING cluster_id, unit_id, state),
             said AS (
               INSERT INTO event (warning, reason, message, cluster_id)
               SELECT true, 'ClusterPutBack', 'the agent holds an earlier state than it had accepted: the cluster, or the agent''s '
                 || 'state, was put back; it is brought to the newest commit, and what was let go of since stays, unknown to the hub',
                 c FROM unnest($1::uuid[]) AS c)
           INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, unit_id FROM gone WHERE state = 'Cleared' ORDER BY 1, 2
           ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now() RETURNING cluster_id AS "cluster!""#,
        clusters
    )
    .fetch_all(tx)
    .await?;
    Ok(unpublished)
}
