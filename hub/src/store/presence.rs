//! Which clusters come and go, for people: an event and an audit row when one is there that was not, and when one has been
//! away for so long that what is known of it may be wrong. Streams that are opened anew in between are neither.
//! Who has gone is told by the pass behind lost wake-ups, in [`super::due`].

use uuid::Uuid;

use super::{Connection, Result};

/// Tells that clusters are there, each with the version of its agent. For who has found that this was not told.
pub(super) async fn tell_connected(tx: &mut Connection, came: &[(Uuid, &str)]) -> Result<()> {
    if came.is_empty() {
        return Ok(());
    }
    let (clusters, versions): (Vec<Uuid>, Vec<&str>) = came.iter().copied().unzip();
    sqlx::query!(
        "WITH came AS (
             SELECT * FROM unnest($1::uuid[], $2::text[]) AS v(cluster, version)
         ), event AS (
             INSERT INTO event (reason, message, cluster_id)
             SELECT 'ClusterConnected', 'the cluster''s agent is connected, version ' || version, cluster FROM came
         )
         INSERT INTO audit (principal, verb, object)
         SELECT 'cluster/' || cluster, 'connect', 'cluster/' || cluster FROM came",
        &clusters,
        &versions as &[&str]
    )
    .execute(tx)
    .await?;
    Ok(())
}
