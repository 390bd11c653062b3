//! Clusters that are forgotten: all that is kept of one goes in one transaction, and nothing in the cluster itself.

use uuid::Uuid;

use super::apps_of;
use crate::store::{
    Connection, Result, Store, StoreError, Topic, authority::audit, due::wake_apps, nudge_all, rollout,
    session,
};

/// So often a deletion is tried that others lock each other out of.
const DEADLOCKS: usize = 5;

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// The cluster is forgotten.
    Done,
    /// There is no such cluster.
    Unknown,
    /// Apps with names in its scope have units in other clusters: these are named.
    UsedElsewhere(Vec<String>),
}

impl Store {
    /// Forgets a cluster at once, whatever it has: nothing is removed there, its agent has no identity any more.
    pub async fn delete_cluster(&self, name: &str, principal: &str) -> Result<Deleted> {
        for _ in 1..DEADLOCKS {
            match self.try_delete_cluster(name, principal).await {
                Err(StoreError::Conflict(_)) => {}
                ended => return ended,
            }
        }
        self.try_delete_cluster(name, principal).await
    }

    async fn try_delete_cluster(&self, name: &str, principal: &str) -> Result<Deleted> {
        let mut tx = self.pool().begin().await?;
        let found = sqlx::query_scalar!("SELECT id FROM cluster WHERE name = $1", name)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(cluster) = found else {
            return Ok(Deleted::Unknown);
        };
        // Plans lock their app's mark first, and the cluster for a unit that they add.
        let apps = apps_of(&mut tx, cluster).await?;
        wake_apps(&mut tx, &apps).await?;
        let locked = sqlx::query_scalar!("SELECT id FROM cluster WHERE id = $1 FOR UPDATE", cluster)
            .fetch_optional(&mut *tx)
            .await?;
        if locked.is_none() {
            return Ok(Deleted::Unknown);
        }
        let elsewhere = elsewhere(&mut tx, cluster).await?;
        if !elsewhere.is_empty() {
            return Ok(Deleted::UsedElsewhere(elsewhere));
        }
        let said = format!("was deleted by {principal}: what apps had applied there stays as it is");
        let turned = forget(&mut tx, cluster, name, "ClusterDeleted", &said).await?;
        audit(&mut tx, principal, "cluster.delete", &format!("cluster/{name}")).await?;
        tx.commit().await?;
        self.end_rollouts(&turned).await?;
        Ok(Deleted::Done)
    }
}

/// Apps that have their names in a cluster's scope, and units in others: these would not be known any more.
pub(super) async fn elsewhere(tx: &mut Connection, cluster: Uuid) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        r#"SELECT object_name(r.kind, r.namespace, r.name) || ' on ' || c.name AS "app!"
           FROM resource r
           CROSS JOIN LATERAL (SELECT cluster_id FROM unit WHERE app_uid = r.uid OFFSET 0) AS u
           JOIN cluster c ON c.id = u.cluster_id
           WHERE r.scope = $1 AND u.cluster_id <> $1 ORDER BY 1 LIMIT 10"#,
        cluster
    )
    .fetch_all(tx)
    .await?)
}

/// Takes away all that is kept of a cluster, whose row is locked: who would add to it waits, and finds that it is gone. In the
/// order in which agents' reports and publishers lock it.
pub(super) async fn forget(
    tx: &mut Connection,
    cluster: Uuid,
    name: &str,
    reason: &str,
    said: &str,
) -> Result<Vec<rollout::Turned>> {
    session::lock(tx, &[cluster]).await?;
    sqlx::query!("SELECT FROM desired WHERE cluster_id = $1 FOR UPDATE", cluster)
        .fetch_optional(&mut *tx)
        .await?;
    // A plan that changes one of them ends before, or finds it gone.
    let units = sqlx::query!(
        "SELECT id, app_uid FROM unit WHERE cluster_id = $1 ORDER BY id FOR UPDATE",
        cluster
    )
    .fetch_all(&mut *tx)
    .await?;
    let (units, mut apps): (Vec<Uuid>, Vec<Uuid>) =
        units.into_iter().map(|row| (row.id, row.app_uid)).unzip();
    let turned = rollout::withdraw(tx, &units).await?;
    sqlx::query!("DELETE FROM desired_entry WHERE cluster_id = $1", cluster)
        .execute(&mut *tx)
        .await?;
    sqlx::query!("DELETE FROM unit WHERE cluster_id = $1", cluster)
        .execute(&mut *tx)
        .await?;
    // Last: who changes a unit says so here.
    sqlx::query!("DELETE FROM unpublished WHERE cluster_id = $1", cluster)
        .execute(&mut *tx)
        .await?;
    // Its labels and variables, and what has its names in this cluster alone: apps first, which others are named by.
    let resources = sqlx::query_scalar!(
        r#"WITH own AS (
             SELECT uid, is_app(kind) AS is_app FROM resource WHERE scope = $1
             UNION ALL
             SELECT uid, false FROM resource
             WHERE scope = fleet() AND kind = 'Cluster' AND namespace = '' AND name = $2),
           apps AS (DELETE FROM resource WHERE uid IN (SELECT uid FROM own WHERE is_app))
           SELECT uid AS "uid!" FROM own WHERE NOT is_app"#,
        cluster,
        name
    )
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM resource WHERE uid = ANY($1)", &resources)
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "WITH desired AS (DELETE FROM desired WHERE cluster_id = $1),
              session AS (DELETE FROM session WHERE cluster_id = $1),
              condition AS (DELETE FROM cluster_condition WHERE cluster_id = $1),
              token AS (DELETE FROM join_token WHERE cluster_id = $1),
              identity AS (DELETE FROM identity WHERE cluster_id = $1),
              nesting AS (DELETE FROM nesting WHERE cluster_id = $1),
              due AS (DELETE FROM due WHERE topic = 'cluster' AND key = $1)
         DELETE FROM event WHERE cluster_id = $1",
        cluster
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM cluster WHERE id = $1", cluster)
        .execute(&mut *tx)
        .await?;
    let object = format!("Cluster/{name}");
    sqlx::query!(
        "INSERT INTO event (warning, reason, message, object) VALUES (true, $1, $2, $3)",
        reason,
        format!("{object} {said}"),
        object
    )
    .execute(&mut *tx)
    .await?;
    // Those that have no cluster left say which depart.
    let naming = sqlx::query_scalar!(
        r#"SELECT app_uid FROM app_plan WHERE waiting @> '[{"reason": "ClustersDeparting"}]'"#
    )
    .fetch_all(&mut *tx)
    .await?;
    apps.extend(naming);
    wake_apps(tx, &apps).await?;
    nudge_all(
        tx,
        &[
            (Topic::Identity, &[cluster]),
            (Topic::Session, &[cluster]),
            (Topic::Resource, &resources),
        ],
    )
    .await?;
    Ok(turned)
}
