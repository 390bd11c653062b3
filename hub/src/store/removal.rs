//! Deletions of configured objects: what would follow, what was asked for, and the last steps of an app's. What ends a removal,
//! of whatever kind: it is stopped, or its units are gone.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{id::ClusterId, removal::DeletionPolicy};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Connection, Result, Store, Topic, Wakes,
    authority::audit,
    claim,
    event::tell,
    leaving, nest, nudge, nudge_all,
    plan::hold_marks,
    reference::{INCLUDED, apps_of},
    session, wake, wake_apps,
};

/// Units that go at a time.
pub(super) const GOING: u16 = 2000;
/// Clusters whose agents wait with what they report while units of theirs are deleted.
pub(super) const SESSIONS: usize = 100;

/// A request to delete a configured object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Since when.
    pub at: OffsetDateTime,
    /// What is to become of what it has applied; `None`: a policy of a newer hub.
    pub policy: Option<DeletionPolicy>,
}

/// What would follow from a deletion.
#[derive(Debug, Clone, Default)]
pub struct DeletionPreview {
    /// Objects that name it, by name.
    pub used_by: Vec<String>,
    /// Apps that it places, by name.
    pub places: Vec<String>,
    /// Its units, where it is an app.
    pub units: Vec<DeletedUnit>,
    /// What these have, by kind.
    pub kinds: Vec<(String, u64)>,
}

/// A unit of an app that would be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedUnit {
    /// Name of its cluster.
    pub cluster: String,
    /// It is suspended.
    pub suspended: bool,
    /// Its agent is there.
    pub connected: bool,
    /// It prunes.
    pub prune: bool,
    /// What it has in the cluster.
    pub objects: u64,
}

impl Store {
    /// Records that an app is to be deleted. The first request gives its time, the last one the policy and who is named. `false`: there is no
    /// such app.
    pub async fn request_deletion(&self, uid: Uuid, policy: DeletionPolicy, principal: &str) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "UPDATE resource SET deleting_at = coalesce(deleting_at, now()), deletion_policy = $2, deletion_by = $3 WHERE uid = $1",
            uid,
            policy.as_str(),
            principal
        )
        .execute(&mut *tx)
        .await?;
        let found = done.rows_affected() == 1;
        if found {
            audit(&mut tx, principal, "delete", &format!("resource/{uid}")).await?;
            let said = format!("{principal} has it deleted, with the policy {}", policy.as_str());
            tell(&mut tx, &[uid], "Deleting", &said).await?;
            wake_apps(&mut tx, &[uid]).await?;
            nudge(&mut tx, Topic::Resource, &[uid]).await?;
        }
        tx.commit().await?;
        Ok(found)
    }

    /// Deletes an object that no units are made of, and has the apps planned that use it. `false`: there is none, or it is a
    /// source of which apps are.
    pub async fn delete_object(&self, uid: Uuid, principal: &str) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let users = apps_of(&mut tx, &[uid]).await?;
        // Revisions are shown of rollouts, and may have been this source's before an app was given another one. A unit keeps the
        // number, of which nothing is shown any more: which units have it is not looked for.
        let done = sqlx::query!(
            "WITH rolled AS (
               UPDATE rollout SET revision_id = NULL WHERE id = ANY (ARRAY(
                 SELECT o.id FROM revision v
                 CROSS JOIN LATERAL (SELECT id FROM rollout WHERE revision_id = v.id OFFSET 0) AS o
                 WHERE v.source_uid = $1)))
             SELECT uid, owner, scope FROM resource WHERE uid = $1 AND NOT is_app(kind) AND NOT (is_source(kind) AND $2) FOR UPDATE",
            uid,
            !users.is_empty()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(done) = done else {
            tx.rollback().await?;
            return Ok(false);
        };
        sqlx::query!("DELETE FROM resource WHERE uid = $1", uid)
            .execute(&mut *tx)
            .await?;
        nest::gone(&mut tx, &[(done.owner, done.scope)]).await?;
        audit(&mut tx, principal, "delete", &format!("resource/{uid}")).await?;
        wake_apps(&mut tx, &users).await?;
        nudge(&mut tx, Topic::Resource, &[uid]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What would follow from the deletion of an object: who uses it, and of an app what it has where.
    pub async fn deletion_preview(&self, uid: Uuid) -> Result<DeletionPreview> {
        let used_by = sqlx::query_scalar!(
            r#"SELECT DISTINCT object_name(a.kind, a.namespace, a.name) AS "name!" FROM (
                 SELECT used_by AS uid FROM users_of($1) AS used_by
                 UNION ALL
                 SELECT f.referrer FROM resource r JOIN reference f
                   ON (f.kind, f.scope, f.namespace, f.name) = ($2, r.scope, r.namespace, r.name)
                 WHERE r.uid = $1 AND r.kind = 'GitRepository') AS f
               JOIN resource a ON a.uid = f.uid ORDER BY 1 LIMIT 1001"#,
            uid,
            INCLUDED
        )
        .fetch_all(self.pool())
        .await?;
        let units = sqlx::query!(
            r#"SELECT c.name, u.state, coalesce(p.connected, false) AS "connected!",
                      coalesce(r.spec->'prune' = 'true', false) AS "prune!",
                      coalesce(s.objects + s.objects_pending_removal, 0) AS "objects!"
               FROM unit u JOIN cluster c ON c.id = u.cluster_id JOIN resource r ON r.uid = u.app_uid
                 LEFT JOIN unit_status s ON s.unit_id = u.id LEFT JOIN presence p ON p.cluster_id = u.cluster_id
               WHERE u.app_uid = $1 ORDER BY c.name LIMIT 20001"#,
            uid
        )
        .fetch_all(self.pool())
        .await?;
        let kinds = sqlx::query!(
            r#"SELECT o.kind, count(*) AS "count!" FROM unit u JOIN unit_object o ON o.unit_id = u.id
               WHERE u.app_uid = $1 GROUP BY 1 ORDER BY 1 LIMIT 100"#,
            uid
        )
        .fetch_all(self.pool())
        .await?;
        let units = units.into_iter().map(|row| DeletedUnit {
            cluster: row.name,
            suspended: row.state == "Suspended",
            connected: row.connected,
            prune: row.prune,
            objects: u64::try_from(row.objects).unwrap_or_default(),
        });
        let places = sqlx::query_scalar!(
            r#"SELECT object_name(a.kind, a.namespace, a.name) AS "name!" FROM resource r
               CROSS JOIN LATERAL apps_of(ARRAY[r.uid]) AS placed JOIN resource a ON a.uid = placed
               WHERE r.uid = $1 AND r.kind IN ('Placement', 'ClusterGroup') ORDER BY 1 LIMIT 1000"#,
            uid
        )
        .fetch_all(self.pool())
        .await?;
        Ok(DeletionPreview {
            used_by,
            places,
            units: units.collect(),
            kinds: kinds
                .into_iter()
                .map(|row| (row.kind, u64::try_from(row.count).unwrap_or_default()))
                .collect(),
        })
    }

    /// Those of these apps that are to be deleted, and whether somebody said so just now.
    pub async fn deleting_apps(&self, apps: &[Uuid]) -> Result<BTreeMap<Uuid, bool>> {
        let rows = sqlx::query!(
            r#"SELECT uid, deleting_at > now() - interval '30 seconds' AS "is_fresh!" FROM resource
               WHERE uid = ANY($1) AND deleting_at IS NOT NULL"#,
            apps
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| (row.uid, row.is_fresh)).collect())
    }

    /// Takes the last steps of apps that are to be deleted: units of which nothing is left are let go of, those that their
    /// agents have forgotten are gone, and an app without units is. `true`: more may be to be done in a moment.
    pub async fn end_deletions(&self, apps: &[Uuid]) -> Result<bool> {
        let units = sqlx::query!(
            "SELECT id, cluster_id, released FROM unit WHERE app_uid = ANY($1) ORDER BY cluster_id, id",
            apps
        )
        .fetch_all(self.pool())
        .await?;
        let held = units.iter().filter(|unit| !unit.released).map(|unit| unit.id);
        let held: Vec<Uuid> = held.collect();
        // Those that are let go of just now have to be published first.
        let going = units.iter().filter(|unit| unit.released).take(GOING.into());
        let (released, clusters): (Vec<Uuid>, Vec<Uuid>) =
            going.map(|unit| (unit.id, unit.cluster_id)).unzip();
        let mut moves = self.release(&held).await? > 0;
        if !released.is_empty() {
            moves |= self.forget_released().await? > 0;
        }
        let mut gone = Vec::new();
        for (units, clusters) in released.chunks(SESSIONS).zip(clusters.chunks(SESSIONS)) {
            let mut tx = self.pool().begin().await?;
            session::lock(&mut tx, clusters).await?;
            gone.extend(forget(&mut tx, units).await?);
            tx.commit().await?;
        }
        let mut tx = self.pool().begin().await?;
        let shown: BTreeSet<Uuid> = gone.iter().map(|(app, _)| *app).collect();
        let shown: Vec<Uuid> = shown.into_iter().collect();
        // In a statement of its own, which sees which units are left. One that is to be planned may get some.
        let ended = sqlx::query!(
            r#"WITH ended AS (
                 -- Looked up, and not among all that are to be deleted, nor joined with all that there is.
                 DELETE FROM resource r WHERE r.uid = ANY($1) AND (r.deleting_at IS NOT NULL) IS TRUE
                   AND (SELECT true FROM unit u WHERE u.app_uid = r.uid LIMIT 1) IS NULL
                   AND (SELECT true FROM due d WHERE d.topic = 'app' AND d.key = r.uid LIMIT 1) IS NULL
                   -- What it has rendered and the hub keeps goes first.
                   AND (SELECT true FROM resource k WHERE k.owner = r.uid LIMIT 1) IS NULL
                 RETURNING r.uid, object_name(r.kind, r.namespace, r.name) AS name, r.deletion_by, r.owner, r.scope),
               told AS (
                 INSERT INTO event (reason, message, object)
                 SELECT 'Deleted', name || ' is deleted' || coalesce(', as ' || deletion_by || ' has asked', ''), name FROM ended)
               SELECT uid, owner, scope FROM ended"#,
            apps
        )
        .fetch_all(&mut *tx)
        .await?;
        let gone_from: Vec<(Option<Uuid>, Uuid)> = ended.iter().map(|row| (row.owner, row.scope)).collect();
        nest::gone(&mut tx, &gone_from).await?;
        let ended: Vec<Uuid> = ended.into_iter().map(|row| row.uid).collect();
        nudge_all(&mut tx, &[(Topic::Shown, &shown), (Topic::Resource, &ended)]).await?;
        tx.commit().await?;
        moves |= !gone.is_empty();
        Ok(moves && ended.len() < apps.len())
    }

    /// Whether an object is to be deleted.
    pub async fn deletion(&self, uid: Uuid) -> Result<Option<Deletion>> {
        let row = sqlx::query!(
            r#"SELECT deleting_at AS "at!", coalesce(deletion_policy, '') AS "policy!" FROM resource
               WHERE uid = $1 AND deleting_at IS NOT NULL"#,
            uid
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Deletion {
            at: row.at,
            policy: DeletionPolicy::parse(&row.policy),
        }))
    }
}

/// Stops the removal of what apps have in a cluster, or in all, at once, unless they are to be deleted: whatever their units are
/// to become is planned later, and may have to be rendered first. Plans under way that go on with it fail, also where nothing
/// is being removed yet.
pub(super) async fn keep(tx: &mut Connection, apps: &[Uuid], cluster: Option<Uuid>) -> Result<()> {
    // Before the units, and in one order, as those who commit plans: what they have committed is seen below.
    sqlx::query!(
        "WITH held AS MATERIALIZED (
           SELECT app_uid FROM app_plan WHERE app_uid = ANY($1) ORDER BY app_uid FOR NO KEY UPDATE)
         UPDATE app_plan SET version = version + 1 WHERE app_uid = ANY (ARRAY(SELECT app_uid FROM held))",
        apps
    )
    .execute(&mut *tx)
    .await?;
    let clusters = sqlx::query_scalar!(
        r#"WITH kept AS (
             UPDATE unit u SET state = 'Detached', removal = NULL FROM resource r
             WHERE u.app_uid = ANY($1) AND u.state = 'Removing' AND ($2::uuid IS NULL OR u.cluster_id = $2)
               AND r.uid = u.app_uid AND r.deleting_at IS NULL
             RETURNING u.cluster_id, u.id)
           INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, id FROM kept ORDER BY 1, 2
           ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now() RETURNING cluster_id AS "cluster!""#,
        apps,
        cluster
    )
    .fetch_all(&mut *tx)
    .await?;
    let clusters: BTreeSet<Uuid> = clusters.into_iter().collect();
    nudge(tx, Topic::Cluster, &clusters.into_iter().collect::<Vec<_>>()).await
}

/// Takes away those of these units that are let go of and that their agents have forgotten, for who holds their clusters'
/// sessions. Returns of each the app and the cluster.
pub(super) async fn forget(tx: &mut Connection, units: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>> {
    let going = sqlx::query!(
        "SELECT u.app_uid, u.cluster_id FROM unit u WHERE u.id = ANY($1) AND u.released
           AND (SELECT true FROM unpublished n WHERE n.cluster_id = u.cluster_id AND n.unit_id = u.id LIMIT 1) IS NULL
           AND (SELECT true FROM desired_entry e WHERE e.cluster_id = u.cluster_id AND e.unit_id = u.id LIMIT 1) IS NULL",
        units
    )
    .fetch_all(&mut *tx)
    .await?;
    if going.is_empty() {
        return Ok(Vec::new());
    }
    // Before units, as plans do.
    let (apps, clusters): (BTreeSet<Uuid>, BTreeSet<Uuid>) =
        going.into_iter().map(|row| (row.app_uid, row.cluster_id)).unzip();
    let (apps, clusters): (Vec<Uuid>, Vec<Uuid>) =
        (apps.into_iter().collect(), clusters.into_iter().collect());
    hold_marks(tx, &apps, &clusters).await?;
    let gone = sqlx::query!(
        "DELETE FROM unit u WHERE u.id = ANY($1) AND u.released
           AND (SELECT true FROM unpublished n WHERE n.cluster_id = u.cluster_id AND n.unit_id = u.id LIMIT 1) IS NULL
           AND (SELECT true FROM desired_entry e WHERE e.cluster_id = u.cluster_id AND e.unit_id = u.id LIMIT 1) IS NULL
         RETURNING u.app_uid, u.cluster_id",
        units
    )
    .fetch_all(&mut *tx)
    .await?;
    let gone = gone.into_iter().map(|row| (row.app_uid, row.cluster_id));
    let gone: Vec<(Uuid, Uuid)> = gone.collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    // What they claimed others may have by now, or what was excepted for them may go.
    let mut clusters: BTreeMap<Uuid, Vec<ClusterId>> = BTreeMap::new();
    for (app, cluster) in &gone {
        clusters.entry(*app).or_default().push(ClusterId(*cluster));
    }
    let claimed = clusters.into_iter().map(|(app, clusters)| claim::Asked {
        app,
        clusters,
        keys: Vec::new(),
    });
    leaving::withdraw(tx, &claimed.collect::<Vec<_>>()).await?;
    let wakes = Wakes {
        claims: &gone,
        ..Wakes::default()
    };
    wake(tx, &wakes).await?;
    Ok(gone)
}
