//! Clusters that are drained, or leave the fleet: what was asked for, what would follow, and the last steps.

use flotilla_core::{fleet::departure::Departure, id::ClusterId, removal::DeletionPolicy};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError, Topic,
    authority::audit,
    claim,
    due::{wake_apps, wake_clusters},
    leaving, nudge, nudge_all, rollout,
};

/// Units that go in one transaction.
const GOING: i64 = 2000;
/// Apps that are planned again where they are behind.
const BEHIND: i64 = 1000;

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

/// A cluster that departs, as far as it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departing {
    /// How.
    pub departure: Departure,
    /// Somebody said so just now.
    pub is_fresh: bool,
    /// Its agent is there: what it does is seen soon.
    pub is_connected: bool,
    /// Units that may be let go of.
    pub leaving: Vec<Uuid>,
    /// Units that are let go of, and of which their agent may not have heard.
    pub released: i64,
    /// Apps that were given a unit there since, by a plan that was under way, and are not about to be planned.
    pub behind: Vec<Uuid>,
}

/// What would follow if a cluster departed.
#[derive(Debug, Clone)]
pub struct DeparturePreview {
    /// Its agent is there.
    pub connected: bool,
    /// It had an agent at some time.
    pub joined: bool,
    /// What it is doing already.
    pub departure: Option<Departure>,
    /// Its units, by app.
    pub units: Vec<DepartingUnit>,
}

/// A unit of a cluster that would depart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepartingUnit {
    /// Its app, by name.
    pub app: String,
    /// What its app says of deletion; `None`: a policy of a newer hub.
    pub policy: Option<DeletionPolicy>,
    /// Its app or it is suspended, or it is let go of.
    pub is_kept: bool,
    /// It prunes.
    pub prune: bool,
    /// What it has in the cluster.
    pub objects: u64,
}

impl Store {
    /// Records how a cluster is to depart; `None`: it stays. Returns whether that is new; `None`: there is no such cluster.
    pub async fn request_departure(
        &self,
        name: &str,
        departure: Option<Departure>,
        principal: &str,
    ) -> Result<Option<bool>> {
        let mut tx = self.pool().begin().await?;
        let found = sqlx::query!(
            "SELECT id, departure FROM cluster WHERE name = $1 FOR NO KEY UPDATE",
            name
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(cluster) = found else {
            return Ok(None);
        };
        let word = departure.map(|departure| departure.as_str());
        if cluster.departure.as_deref() == word {
            return Ok(Some(false));
        }
        let (verb, reason, message) = match departure {
            Some(Departure::Drain) => (
                "cluster.drain",
                "ClusterDraining",
                "what apps have applied here is being removed",
            ),
            Some(Departure::Retire) => (
                "cluster.retire",
                "ClusterRetiring",
                "the cluster leaves the fleet: what apps have applied here stays, and is let go of",
            ),
            None => (
                "cluster.stay",
                "ClusterStays",
                "the cluster stays in the fleet, and gets what is placed on it",
            ),
        };
        sqlx::query!(
            "UPDATE cluster SET departure = $2, departing_at = CASE WHEN $2::text IS NOT NULL THEN now() END, drained = false
             WHERE id = $1",
            cluster.id,
            word
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "INSERT INTO event (reason, message, cluster_id) VALUES ($1, $3 || ' (' || $4 || ')', $2)",
            reason,
            cluster.id,
            message,
            principal
        )
        .execute(&mut *tx)
        .await?;
        audit(&mut tx, principal, verb, &format!("cluster/{name}")).await?;
        // Placements choose it again, or no more. Marks in the order in which who plans locks them: the cluster's, then the
        // apps', then the units.
        wake_clusters(&mut tx, &[cluster.id]).await?;
        let apps = apps_of(&mut tx, cluster.id).await?;
        wake_apps(&mut tx, &apps).await?;
        if departure != Some(Departure::Drain) {
            keep(&mut tx, cluster.id).await?;
        }
        nudge_all(
            &mut tx,
            &[(Topic::Departure, &[cluster.id]), (Topic::Session, &[cluster.id])],
        )
        .await?;
        tx.commit().await?;
        Ok(Some(true))
    }

    /// How far a cluster has departed; `None`: it does not, or has.
    pub async fn departing(&self, cluster: Uuid) -> Result<Option<Departing>> {
        let row = sqlx::query!(
            r#"SELECT c.departure AS "departure!", c.departing_at > now() - interval '30 seconds' AS "is_fresh!",
                      coalesce((SELECT connected FROM presence WHERE cluster_id = c.id), false) AS "is_connected!",
                      -- What a drain has let go of stays known: the cluster may get it back.
                      ARRAY(SELECT id FROM unit WHERE cluster_id = c.id AND NOT released
                              AND (state = 'Removing' OR state = 'Detached' AND c.departure = 'Retire')) AS "leaving!",
                      (SELECT count(*) FROM unit WHERE cluster_id = c.id AND released) AS "released!",
                      ARRAY(SELECT u.app_uid FROM unit u WHERE u.cluster_id = c.id
                              AND u.state IN ('Active', 'Suspended') AND u.moved_at >= c.departing_at
                              AND NOT EXISTS (SELECT FROM due d WHERE d.topic = 'app' AND d.key = u.app_uid)
                            ORDER BY u.app_uid LIMIT $2) AS "behind!"
               FROM cluster c WHERE c.id = $1 AND c.departure IS NOT NULL AND (NOT c.drained OR EXISTS (
                 SELECT FROM unit u WHERE u.cluster_id = c.id AND u.state <> 'Detached'))"#,
            cluster,
            BEHIND
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Departing {
            departure: Departure::parse(&row.departure),
            is_fresh: row.is_fresh,
            is_connected: row.is_connected,
            leaving: row.leaving,
            released: row.released,
            behind: row.behind,
        }))
    }

    /// Whether any cluster is being drained.
    pub async fn drains(&self) -> Result<bool> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM cluster WHERE departure = 'Drain') AS "drains!""#
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Has apps planned again.
    pub async fn plan_again(&self, apps: &[Uuid]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        wake_apps(&mut tx, apps).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes away the units of a cluster that its agent has forgotten. Returns how many.
    pub async fn forget_units(&self, cluster: Uuid) -> Result<usize> {
        let mut tx = self.pool().begin().await?;
        // One that never had an agent has applied nothing of it.
        let turned = rollout::withdraw_released(&mut tx, cluster).await?;
        let apps = sqlx::query_scalar!(
            "DELETE FROM unit u WHERE u.id = ANY(ARRAY(
                 SELECT id FROM unit WHERE cluster_id = $1 AND released ORDER BY id LIMIT $2))
               AND (SELECT true FROM unpublished n WHERE n.cluster_id = u.cluster_id AND n.unit_id = u.id LIMIT 1) IS NULL
               AND (SELECT true FROM desired_entry e WHERE e.cluster_id = u.cluster_id AND e.unit_id = u.id LIMIT 1) IS NULL
             RETURNING u.app_uid",
            cluster,
            GOING
        )
        .fetch_all(&mut *tx)
        .await?;
        // What they claimed others may have by now, or what was excepted for them may go.
        let claimed = apps.iter().map(|app| claim::Asked {
            app: *app,
            clusters: vec![ClusterId(cluster)],
            keys: Vec::new(),
        });
        leaving::withdraw(&mut tx, &claimed.collect::<Vec<_>>()).await?;
        nudge(&mut tx, Topic::Shown, &apps).await?;
        tx.commit().await?;
        self.end_rollouts(&turned).await?;
        Ok(apps.len())
    }

    /// Says of a cluster that is drained that it is. `false`: there is more to remove.
    pub async fn end_drain(&self, cluster: Uuid) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "WITH drained AS (
               UPDATE cluster SET drained = true WHERE id = $1 AND departure = 'Drain' AND NOT drained
                 AND NOT EXISTS (SELECT FROM unit WHERE cluster_id = $1 AND state <> 'Detached')
               RETURNING id)
             INSERT INTO event (reason, message, cluster_id)
             SELECT 'ClusterDrained', 'all that was to be removed here is gone', id FROM drained",
            cluster
        )
        .execute(&mut *tx)
        .await?;
        let is_drained = done.rows_affected() == 1;
        if is_drained {
            nudge(&mut tx, Topic::Session, &[cluster]).await?;
        }
        tx.commit().await?;
        Ok(is_drained)
    }

    /// Ends a cluster that retires, once it has no units. `false`: it has, or does not retire.
    pub async fn end_retirement(&self, cluster: Uuid) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let name = sqlx::query_scalar!(
            "SELECT name FROM cluster c WHERE id = $1 AND departure = 'Retire'
               AND NOT EXISTS (SELECT FROM unit WHERE cluster_id = c.id) FOR UPDATE",
            cluster
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(name) = name else {
            return Ok(false);
        };
        if !elsewhere(&mut tx, cluster).await?.is_empty() {
            return Ok(false);
        }
        let said = "has left the fleet: what apps had applied there stays as it is";
        forget(&mut tx, cluster, &name, "ClusterRetired", said).await?;
        audit(&mut tx, "hub", "cluster.retired", &format!("cluster/{name}")).await?;
        tx.commit().await?;
        Ok(true)
    }

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

    /// What would follow if a cluster departed; `None`: there is no such cluster.
    pub async fn departure_preview(&self, name: &str) -> Result<Option<DeparturePreview>> {
        let found = sqlx::query!(
            r#"SELECT c.id, c.departure, coalesce(p.connected, false) AS "connected!", p.cluster_id IS NOT NULL AS "joined!"
               FROM cluster c LEFT JOIN presence p ON p.cluster_id = c.id WHERE c.name = $1"#,
            name
        )
        .fetch_optional(self.pool())
        .await?;
        let Some(cluster) = found else {
            return Ok(None);
        };
        let units = sqlx::query!(
            r#"SELECT object_name(r.kind, r.namespace, r.name) AS "app!", u.state,
                      coalesce(r.suspended, r.spec->'suspend' = 'true', false) AS "suspended!",
                      r.spec->'deletionPolicy' AS policy, coalesce((t.settings->'prune')::boolean, false) AS "prune!",
                      coalesce(s.objects + s.objects_pending_removal, 0) AS "objects!"
               FROM unit u JOIN resource r ON r.uid = u.app_uid JOIN target t ON t.digest = u.target
                 LEFT JOIN unit_status s ON s.unit_id = u.id
               WHERE u.cluster_id = $1 ORDER BY 1 LIMIT 20001"#,
            cluster.id
        )
        .fetch_all(self.pool())
        .await?;
        let units = units.into_iter().map(|row| DepartingUnit {
            app: row.app,
            policy: match row.policy.as_ref().map(Value::as_str) {
                None | Some(Some("")) => Some(DeletionPolicy::MirrorPrune),
                Some(said) => said.and_then(DeletionPolicy::parse),
            },
            is_kept: row.suspended || matches!(row.state.as_str(), "Suspended" | "Detached"),
            prune: row.prune,
            objects: u64::try_from(row.objects).unwrap_or_default(),
        });
        Ok(Some(DeparturePreview {
            connected: cluster.connected,
            joined: cluster.joined,
            departure: cluster.departure.as_deref().map(Departure::parse),
            units: units.collect(),
        }))
    }
}

async fn apps_of(tx: &mut Connection, cluster: Uuid) -> Result<Vec<Uuid>> {
    Ok(
        sqlx::query_scalar!("SELECT app_uid FROM unit WHERE cluster_id = $1", cluster)
            .fetch_all(tx)
            .await?,
    )
}

/// Apps that have their names in a cluster's scope, and units in others: these would not be known any more.
async fn elsewhere(tx: &mut Connection, cluster: Uuid) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        r#"SELECT object_name(r.kind, r.namespace, r.name) || ' on ' || c.name AS "app!"
           FROM resource r JOIN unit u ON u.app_uid = r.uid JOIN cluster c ON c.id = u.cluster_id
           WHERE r.scope = $1 AND u.cluster_id <> $1 ORDER BY 1 LIMIT 10"#,
        cluster
    )
    .fetch_all(tx)
    .await?)
}

/// Stops a drain at once: whatever units are to become is planned later, and may have to be rendered first. Plans under way that
/// go on with it fail.
async fn keep(tx: &mut Connection, cluster: Uuid) -> Result<()> {
    let kept = sqlx::query_scalar!(
        r#"WITH drained AS (
             SELECT u.id, u.app_uid FROM unit u JOIN resource r ON r.uid = u.app_uid
             WHERE u.cluster_id = $1 AND u.state = 'Removing' AND r.deleting_at IS NULL),
           outdated AS (
             UPDATE app_plan SET version = version + 1 WHERE app_uid = ANY (
               ARRAY(SELECT app_uid FROM drained ORDER BY 1))),
           kept AS (
             UPDATE unit u SET state = 'Detached', removal = NULL FROM drained d WHERE u.id = d.id
             RETURNING u.cluster_id, u.id)
           INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, id FROM kept ORDER BY 1, 2
           ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now() RETURNING unit_id"#,
        cluster
    )
    .fetch_all(&mut *tx)
    .await?;
    match kept.is_empty() {
        true => Ok(()),
        false => nudge(tx, Topic::Cluster, &[cluster]).await,
    }
}

/// Takes away all that is kept of a cluster, whose row is locked: who would add to it waits, and finds that it is gone. In the
/// order in which agents' reports and publishers lock it.
async fn forget(
    tx: &mut Connection,
    cluster: Uuid,
    name: &str,
    reason: &str,
    said: &str,
) -> Result<Vec<rollout::Turned>> {
    sqlx::query!("SELECT FROM session WHERE cluster_id = $1 FOR UPDATE", cluster)
        .fetch_optional(&mut *tx)
        .await?;
    sqlx::query!("SELECT FROM desired WHERE cluster_id = $1 FOR UPDATE", cluster)
        .fetch_optional(&mut *tx)
        .await?;
    // A plan that changes one of them ends before, or finds it gone.
    let apps = sqlx::query_scalar!(
        "SELECT app_uid FROM unit WHERE cluster_id = $1 ORDER BY id FOR UPDATE",
        cluster
    )
    .fetch_all(&mut *tx)
    .await?;
    let turned = rollout::withdraw_cluster(tx, cluster).await?;
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
