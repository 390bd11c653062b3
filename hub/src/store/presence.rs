//! Which clusters come and go, for people: an event and an audit row when one is there that was not, and when one has been
//! away for so long that what is known of it may be wrong. Streams that are opened anew in between are neither.
//! Who has gone is told by the pass behind lost wake-ups, in [`super::due`].

use uuid::Uuid;

use super::{Connection, Result};

/// Tells that a cluster is there. For who has found that this was not told.
pub(super) async fn tell_connected(tx: &mut Connection, cluster_id: Uuid, agent_version: &str) -> Result<()> {
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
