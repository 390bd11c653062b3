//! Objects that apps render and the hub keeps: how far each cluster's are, what there is of them, and what a plan makes of
//! them, in one transaction with a rise of the plan's version: of two hubs that decide at once one wins.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    apply::{policy::Policy, removal::is_never_unasked},
    digest::Digest,
    nest::Found,
    object::ObjectKey,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError, Topic,
    apply::{By, NewResource, put_all},
    authority::audit,
    event, nudge, nudge_all,
    plan::OUTDATED,
    reference::apps_of,
    resource::ResourceRow,
    session::signed,
    wake_apps,
};
use crate::auth::seal::Seal;

/// Apps that keep one another and are followed upwards: far more than may.
const MAX_DEPTH: i32 = 64;

/// How far what an app renders for one of its clusters is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nesting {
    /// The cluster.
    pub cluster: Uuid,
    /// What it was made from last.
    pub made_from: Option<Vec<u8>>,
    /// It waits for the unit to be applied.
    pub waits: bool,
    /// The unit has applied what it is to have, and is enforced.
    pub is_applied: bool,
}

/// What becomes of what an app renders for one cluster.
pub struct Keep<'a> {
    /// The app.
    pub app: &'a ResourceRow,
    /// The version of its plan that was read.
    pub version: u64,
    /// What of its rendering it is made from, which must still be the present one.
    pub kept: Option<Digest>,
    /// The cluster.
    pub cluster: Uuid,
    /// What is applied.
    pub resources: &'a [NewResource],
    /// What of that is the app's from now on.
    pub own: &'a [ObjectKey],
    /// What another app has given up, and is the app's from now on.
    pub take: &'a [Uuid],
    /// What goes to the app that renders it.
    pub hand_over: &'a [Uuid],
    /// What another app keeps, and would be the app's if that one gave it up.
    pub wants: &'a [ObjectKey],
    /// What is nobody's from now on.
    pub release: &'a [Uuid],
    /// What is deleted.
    pub delete: &'a [Uuid],
    /// What all of that was made from; `None`: it is to be looked at again.
    pub made_from: Option<Digest>,
}

impl Store {
    /// How far an app is in each cluster that it has a unit in, or waited for one.
    pub async fn nestings(&self, app: Uuid) -> Result<Vec<Nesting>> {
        Ok(sqlx::query_as!(
            Nesting,
            r#"SELECT coalesce(u.cluster_id, n.cluster_id) AS "cluster!", n.made_from, coalesce(n.waits, false) AS "waits!",
                      (u.state = 'Active' AND (s.applied_version, s.applied) = (u.version, u.target)) IS TRUE AS "is_applied!"
               FROM (SELECT * FROM unit WHERE app_uid = $1) AS u
               FULL JOIN (SELECT * FROM nesting WHERE app_uid = $1) AS n ON n.cluster_id = u.cluster_id
               LEFT JOIN unit_status s ON s.unit_id = u.id"#,
            app
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Records that what is kept for these clusters waits for their units.
    pub async fn await_applied(&self, app: Uuid, clusters: &[Uuid]) -> Result<()> {
        sqlx::query!(
            "INSERT INTO nesting AS n (app_uid, cluster_id, waits)
             SELECT $1, c.id, true FROM cluster c WHERE c.id = ANY ($2) ORDER BY c.id
             ON CONFLICT (app_uid, cluster_id) DO UPDATE SET waits = true WHERE NOT n.waits",
            app,
            clusters
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records that nothing waits in these clusters, or in all: what is kept is looked at again once it may change.
    pub async fn await_nothing(&self, app: Uuid, clusters: Option<&[Uuid]>) -> Result<()> {
        sqlx::query!(
            "UPDATE nesting SET waits = false, made_from = NULL
             WHERE app_uid = $1 AND waits AND ($2::uuid[] IS NULL OR cluster_id = ANY ($2))",
            app,
            clusters as Option<&[Uuid]>
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The apps by which an app is kept: its owner, that one's, and so on.
    pub async fn keepers(&self, app: Uuid) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!(
            r#"WITH RECURSIVE up AS (
                 SELECT owner AS uid, 1 AS place FROM resource WHERE uid = $1 AND owner IS NOT NULL
                 UNION ALL
                 SELECT r.owner, place + 1 FROM up JOIN resource r ON r.uid = up.uid
                 WHERE r.owner IS NOT NULL AND place < $2)
               SELECT uid AS "uid!" FROM up ORDER BY place"#,
            app,
            MAX_DEPTH
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// What there is in a scope of these names, and all that an app keeps there. What it has in the cluster is not counted.
    pub async fn kept(&self, app: &ResourceRow, scope: Uuid, keys: &[ObjectKey]) -> Result<Vec<Found>> {
        let column =
            |of: fn(&ObjectKey) -> &String| keys.iter().map(|key| of(key).clone()).collect::<Vec<_>>();
        let rows = sqlx::query!(
            r#"WITH named AS (
                 SELECT r.uid FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(api_group, kind, namespace, name)
                 JOIN resource r ON (r.scope, r.api_group, r.kind, r.namespace, r.name)
                   = ($2, v.api_group, v.kind, v.namespace, v.name)
                 UNION
                 SELECT uid FROM resource WHERE owner = $1 AND scope = $2)
               SELECT r.uid, r.api_group, r.kind, r.namespace, r.name, r.owner, r.labels, r.annotations, r.overlay,
                      r.owner IS NULL AND r.origin = $7 AS "was_parents!",
                      r.deleting_at IS NOT NULL AS "is_deleting!",
                      (r.deleting_at IS NOT NULL AND r.deletion_by = object_name(o.kind, o.namespace, o.name)) IS TRUE
                        AS "is_given_up!",
                      coalesce(object_name(o.kind, o.namespace, o.name), '') AS "owner_name!"
               FROM named JOIN resource r ON r.uid = named.uid LEFT JOIN resource o ON o.uid = r.owner
               ORDER BY r.kind, r.namespace, r.name"#,
            app.uid,
            scope,
            &column(|key| &key.group),
            &column(|key| &key.kind),
            &column(|key| &key.namespace),
            &column(|key| &key.name),
            origin(app)
        )
        .fetch_all(self.pool())
        .await?;
        let found = rows.into_iter().map(|row| {
            // What the source said of an object is not in the way of what it says of it now; what a person said is.
            let rendered = Policy::of(&json!({ "labels": row.labels, "annotations": row.annotations }));
            let person = Policy::of(&json!({ "annotations": row.overlay }));
            Found {
                uid: row.uid,
                key: ObjectKey {
                    group: row.api_group,
                    kind: row.kind,
                    namespace: row.namespace,
                    name: row.name,
                },
                owner: row.owner,
                owner_name: row.owner_name,
                was_parents: row.was_parents,
                policy: Policy {
                    keep: rendered.keep || person.keep,
                    ..person
                },
                is_deleting: row.is_deleting,
                is_given_up: row.is_given_up,
                is_wanted: false,
                objects: 0,
                unasked: None,
            }
        });
        Ok(found.collect())
    }

    /// Those of these that another app renders, which may have them.
    pub async fn wanted(&self, uids: &[Uuid]) -> Result<BTreeSet<Uuid>> {
        let wanted = sqlx::query_scalar!(
            r#"SELECT uid AS "uid!" FROM unnest($1::uuid[]) AS uid WHERE heir(uid) IS NOT NULL"#,
            uids
        )
        .fetch_all(self.pool())
        .await?;
        Ok(wanted.into_iter().collect())
    }

    /// What the units of each object have that an app keeps in a scope, and those of all that it keeps in turn: as their agents
    /// have said, or as they are to have.
    pub async fn weights(&self, app: Uuid, scope: Uuid) -> Result<BTreeMap<Uuid, u64>> {
        let rows = sqlx::query!(
            r#"WITH RECURSIVE below AS (
                 SELECT uid, uid AS root FROM resource WHERE owner = $1 AND scope = $2
                 UNION
                 -- Looked up one by one: how many there are is not known to whoever plans it.
                 SELECT r.uid, b.root FROM below b
                 CROSS JOIN LATERAL (SELECT uid FROM resource WHERE owner = b.uid OFFSET 0) AS r)
               SELECT b.root AS "root!",
                      sum(greatest(coalesce(s.objects + s.objects_pending_removal, 0), k.count))::bigint AS "objects!"
               FROM below b
               CROSS JOIN LATERAL (SELECT id, target FROM unit WHERE app_uid = b.uid OFFSET 0) AS u
               LEFT JOIN LATERAL (SELECT * FROM unit_status WHERE unit_id = u.id OFFSET 0) AS s ON true
               LEFT JOIN LATERAL (SELECT keyset FROM target WHERE digest = u.target OFFSET 0) AS t ON true
               CROSS JOIN LATERAL (SELECT count(*) FROM keyset_key WHERE keyset = t.keyset) AS k
               GROUP BY 1"#,
            app,
            scope
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.root, row.objects.unsigned_abs()))
            .collect())
    }

    /// Of each of these objects, and of all that is kept for it, one that its units have of a kind of which none goes unasked.
    pub async fn never_unasked(&self, uids: &[Uuid]) -> Result<BTreeMap<Uuid, ObjectKey>> {
        let rows = sqlx::query!(
            r#"WITH RECURSIVE below AS (
                 SELECT uid, uid AS root FROM unnest($1::uuid[]) AS uid
                 UNION
                 -- Looked up one by one: how many there are is not known to whoever plans it.
                 SELECT r.uid, b.root FROM below b
                 CROSS JOIN LATERAL (SELECT uid FROM resource WHERE owner = b.uid OFFSET 0) AS r),
               had AS (
                 SELECT b.root, u.id, u.target FROM below b
                 CROSS JOIN LATERAL (SELECT id, target FROM unit WHERE app_uid = b.uid OFFSET 0) AS u),
               keys AS (
                 SELECT had.root, o.api_group, o.kind, o.namespace, o.name FROM had
                 CROSS JOIN LATERAL (SELECT * FROM unit_object WHERE unit_id = had.id OFFSET 0) AS o
                 UNION ALL
                 SELECT had.root, k.api_group, k.kind, k.namespace, k.name FROM had
                 CROSS JOIN LATERAL (SELECT keyset FROM target WHERE digest = had.target OFFSET 0) AS t
                 CROSS JOIN LATERAL (SELECT * FROM keyset_key WHERE keyset = t.keyset OFFSET 0) AS k)
               SELECT DISTINCT ON (root, api_group, kind) root AS "root!", api_group AS "group!", kind AS "kind!",
                      namespace AS "namespace!", name AS "name!"
               FROM keys
               WHERE kind IN ('Namespace', 'PersistentVolumeClaim') OR api_group LIKE '%cluster.x-k8s.io'
                 OR api_group IN ('apiextensions.k8s.io', 'fleet.flotilla.dev')
               ORDER BY root, api_group, kind, namespace, name"#,
            uids
        )
        .fetch_all(self.pool())
        .await?;
        let mut found = BTreeMap::new();
        for row in rows {
            let key = ObjectKey::new(&row.group, &row.kind, &row.namespace, &row.name);
            if is_never_unasked(&key) {
                found.entry(row.root).or_insert(key);
            }
        }
        Ok(found)
    }

    /// Does what was decided of one cluster. `Conflict` where the app, its plan, its rendering or what is kept has changed
    /// since that was read, or the unit has something else to apply: gather and decide again.
    pub async fn keep(&self, keep: &Keep<'_>, seal: &Seal) -> Result<()> {
        let name = keep.app.display();
        let mut tx = self.pool().begin().await?;
        // One at a time in a cluster: what one gives up the other sees.
        sqlx::query!(
            "SELECT pg_advisory_xact_lock_shared(hashtext('nesting'), 0),
                    pg_advisory_xact_lock(hashtext('nesting of'), hashtext($1))",
            keep.cluster.to_string()
        )
        .fetch_one(&mut *tx)
        .await?;
        let raised = sqlx::query_scalar!(
            r#"UPDATE app_plan p SET version = version + 1
               WHERE app_uid = $1 AND version = $2 AND NOT superseded($3)
                 AND (SELECT true FROM resource WHERE uid = $1 AND generation = $4 AND deleting_at IS NULL LIMIT 1) IS NOT NULL
                 AND (SELECT true FROM unit u JOIN unit_status s ON s.unit_id = u.id
                        AND (s.applied_version, s.applied) = (u.version, u.target)
                      WHERE u.app_uid = $1 AND u.cluster_id = $5 AND u.state = 'Active' LIMIT 1) IS NOT NULL
                 AND (SELECT true FROM app_input i JOIN input_at t ON t.input_key = i.input_key AND t.newest
                        JOIN rendering x ON x.digest = t.rendering AND x.kept IS NOT DISTINCT FROM $6
                      WHERE i.app_uid = $1 LIMIT 1) IS NOT NULL
               RETURNING true AS "raised!""#,
            keep.app.uid,
            signed(keep.version),
            self.writer,
            keep.app.generation,
            keep.cluster,
            keep.kept.map(|digest| digest.as_bytes().to_vec())
        )
        .fetch_optional(&mut *tx)
        .await?;
        if raised.is_none() {
            tx.rollback().await?;
            return Err(self.not_ours(OUTDATED).await);
        }
        let by = By {
            name: &name,
            origin: origin(keep.app),
            keeper: Some(keep.app.uid),
        };
        if !take(&mut tx, keep).await? {
            return Err(StoreError::Conflict(OUTDATED));
        }
        put_all(&mut tx, keep.resources, seal, &by).await?;
        if !own(&mut tx, keep).await? {
            return Err(StoreError::Conflict(OUTDATED));
        }
        if hand_over(&mut tx, keep.app, keep.hand_over).await?.len() < keep.hand_over.len() {
            return Err(StoreError::Conflict(OUTDATED));
        }
        delete(&mut tx, keep.app, keep.delete).await?;
        if !note(&mut tx, keep).await? {
            return Err(StoreError::Conflict(OUTDATED));
        }
        let leaving = sqlx::query_scalar!(
            "SELECT DISTINCT app_uid FROM leaving WHERE cluster_id = $1 AND state = 'Open'",
            keep.cluster
        )
        .fetch_all(&mut *tx)
        .await?;
        nudge(&mut tx, Topic::Leaving, &leaving).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Has all deleted that is kept for an app that is to be deleted itself: apps first, and what is none of them after these.
    /// Returns what is left, by name; the version of its plan, `version` as it was read, is one higher then. `Conflict` where it is
    /// not to be deleted any more, or otherwise.
    pub async fn delete_kept(&self, app: &ResourceRow, version: u64) -> Result<Vec<String>> {
        let mut tx = self.pool().begin().await?;
        alone(&mut tx).await?;
        if !self.goes(&mut tx, app, version).await? {
            tx.rollback().await?;
            return Err(self.not_ours(OUTDATED).await);
        }
        let kept = sqlx::query!(
            r#"SELECT uid, is_app(kind) AS "is_app!", deleting_at IS NOT NULL AS "is_deleting!",
                      object_name(kind, namespace, name) AS "name!"
               FROM resource WHERE owner = $1 ORDER BY kind, namespace, name, scope"#,
            app.uid
        )
        .fetch_all(&mut *tx)
        .await?;
        // Also what is being deleted already: its app may have come since.
        let all: Vec<Uuid> = kept.iter().map(|row| row.uid).collect();
        let moved: BTreeSet<Uuid> = hand_over(&mut tx, app, &all).await?.into_iter().collect();
        let kept: Vec<_> = kept.into_iter().filter(|row| !moved.contains(&row.uid)).collect();
        let left: Vec<String> = kept
            .iter()
            .filter(|row| row.is_app)
            .map(|row| row.name.clone())
            .collect();
        let next = kept
            .iter()
            .filter(|row| row.is_app != left.is_empty() && !row.is_deleting);
        let next: Vec<Uuid> = next.map(|row| row.uid).collect();
        if !next.is_empty() {
            delete(&mut tx, app, &next).await?;
        }
        tx.commit().await?;
        Ok(left)
    }

    /// Lets go of all that is kept for an app that is to be deleted itself: it stays as it is. As for the version and `Conflict`,
    /// see [`delete_kept`](Self::delete_kept).
    pub async fn release_kept(&self, app: &ResourceRow, version: u64) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        alone(&mut tx).await?;
        if !self.goes(&mut tx, app, version).await? {
            tx.rollback().await?;
            return Err(self.not_ours(OUTDATED).await);
        }
        let kept = sqlx::query_scalar!("SELECT uid FROM resource WHERE owner = $1", app.uid)
            .fetch_all(&mut *tx)
            .await?;
        hand_over(&mut tx, app, &kept).await?;
        sqlx::query!("UPDATE resource SET owner = NULL WHERE owner = $1", app.uid)
            .execute(&mut *tx)
            .await?;
        stuck(&mut tx, app.uid, &kept).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Store {
    /// Raises the version of the plan of an app that is still to be deleted as it was read. What was kept for it is looked at again
    /// wherever it is wanted again.
    async fn goes(&self, tx: &mut Connection, app: &ResourceRow, version: u64) -> Result<bool> {
        let raised = sqlx::query_scalar!(
            r#"WITH again AS (UPDATE nesting SET made_from = NULL WHERE app_uid = $1 AND made_from IS NOT NULL)
               UPDATE app_plan p SET version = version + 1
               WHERE app_uid = $1 AND version = $2 AND NOT superseded($3)
                 AND (SELECT true FROM resource
                      WHERE uid = $1 AND deleting_at IS NOT NULL AND coalesce(deletion_policy, '') = $4 LIMIT 1) IS NOT NULL
               RETURNING true AS "raised!""#,
            app.uid,
            signed(version),
            self.writer,
            app.deletion.as_deref().unwrap_or_default()
        )
        .fetch_optional(tx)
        .await?;
        Ok(raised.is_some())
    }
}

/// Waits until nothing is being kept anywhere, and has all that would be wait.
async fn alone(tx: &mut Connection) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('nesting'), 0)")
        .fetch_one(tx)
        .await?;
    Ok(())
}

/// Has what other apps have given up be nobody's for a moment. `false`: something of it is not given up any more.
async fn take(tx: &mut Connection, keep: &Keep<'_>) -> Result<bool> {
    if keep.take.is_empty() {
        return Ok(true);
    }
    let owners = sqlx::query_scalar!(
        r#"UPDATE resource r SET owner = NULL FROM resource o
         WHERE r.uid = ANY ($1) AND o.uid = r.owner AND o.uid <> $2 AND r.deleting_at IS NOT NULL
           AND r.deletion_by = object_name(o.kind, o.namespace, o.name) RETURNING o.uid AS "uid!""#,
        keep.take,
        keep.app.uid
    )
    .fetch_all(&mut *tx)
    .await?;
    let is_all = owners.len() == keep.take.len();
    // One that is to be deleted waits for nothing of this any more.
    wake_apps(tx, &owners).await?;
    Ok(is_all)
}

/// Hands over what is kept for an app to those that render it. Returns what has gone to one.
async fn hand_over(tx: &mut Connection, owner: &ResourceRow, uids: &[Uuid]) -> Result<Vec<Uuid>> {
    if uids.is_empty() {
        return Ok(Vec::new());
    }
    let moved = sqlx::query!(
        r#"WITH moved AS MATERIALIZED (
             SELECT uid, heir(uid) AS heir FROM resource WHERE uid = ANY ($1) AND owner = $2 ORDER BY uid FOR NO KEY UPDATE)
           UPDATE resource r SET owner = m.heir FROM moved m WHERE r.uid = m.uid AND m.heir IS NOT NULL
           RETURNING r.uid AS "uid!", m.heir AS "heir!""#,
        uids,
        owner.uid
    )
    .fetch_all(&mut *tx)
    .await?;
    let heirs: BTreeSet<Uuid> = moved.iter().map(|row| row.heir).collect();
    let heirs: Vec<Uuid> = heirs.into_iter().collect();
    wake_apps(tx, &heirs).await?;
    let moved: Vec<Uuid> = moved.into_iter().map(|row| row.uid).collect();
    let said = format!(
        "{} renders it no more, and hands it over to the app that does",
        owner.display()
    );
    event::tell(tx, &moved, "Moved", &said).await?;
    Ok(moved)
}

/// Records how far what is kept for a cluster is. `false`: what another app keeps it has let go of, or given up, meanwhile.
async fn note(tx: &mut Connection, keep: &Keep<'_>) -> Result<bool> {
    let wants = keep.wants.iter().map(|key| {
        let parts = [&*key.group, &*key.kind, &*key.namespace, &*key.name];
        parts.join("/")
    });
    let wants: Vec<String> = wants.collect();
    let fresh = sqlx::query_scalar!(
        r#"WITH old AS (SELECT wants FROM nesting WHERE app_uid = $1 AND cluster_id = $2),
           put AS (
             INSERT INTO nesting (app_uid, cluster_id, made_from, waits, wants) VALUES ($1, $2, $3, false, $4)
             ON CONFLICT (app_uid, cluster_id)
               DO UPDATE SET made_from = excluded.made_from, waits = false, wants = excluded.wants)
           SELECT v.key AS "key!" FROM unnest($4::text[]) AS v(key)
           WHERE v.key <> ALL (coalesce((SELECT wants FROM old), '{}'))"#,
        keep.app.uid,
        keep.cluster,
        keep.made_from.map(|digest| digest.as_bytes().to_vec()),
        &wants
    )
    .fetch_all(&mut *tx)
    .await?;
    if wants.is_empty() {
        return Ok(true);
    }
    let others = sqlx::query!(
        r#"SELECT r.owner AS "owner!", concat_ws('/', r.api_group, r.kind, r.namespace, r.name) AS "key!",
                  (n.made_from IS NULL AND NOT n.waits) IS TRUE AS "is_stuck!"
           FROM resource r JOIN resource o ON o.uid = r.owner
           LEFT JOIN nesting n ON n.app_uid = r.owner AND n.cluster_id = r.scope
           WHERE r.scope = $1 AND concat_ws('/', r.api_group, r.kind, r.namespace, r.name) = ANY ($2) AND r.owner <> $3
             AND (r.deleting_at IS NOT NULL AND r.deletion_by = object_name(o.kind, o.namespace, o.name)) IS NOT TRUE"#,
        keep.cluster,
        &wants,
        keep.app.uid
    )
    .fetch_all(&mut *tx)
    .await?;
    if others.len() < wants.len() {
        return Ok(false);
    }
    // Too much of theirs may have left at once, and be on its way here.
    let stuck = others
        .iter()
        .filter(|row| row.is_stuck && fresh.contains(&row.key));
    let stuck: BTreeSet<Uuid> = stuck.map(|row| row.owner).collect();
    wake_apps(tx, &stuck.into_iter().collect::<Vec<_>>()).await?;
    Ok(true)
}

/// What is written of what an app has changed last.
fn origin(app: &ResourceRow) -> String {
    format!("kept/{}", app.display())
}

/// Writes whose what is. `false`: something of it is another app's by now, or one of those that keep this app.
async fn own(tx: &mut Connection, keep: &Keep<'_>) -> Result<bool> {
    let column =
        |of: fn(&ObjectKey) -> &String| keep.own.iter().map(|key| of(key).clone()).collect::<Vec<_>>();
    sqlx::query!(
        "WITH released AS (
           UPDATE resource SET owner = NULL WHERE uid = ANY ($7) AND owner = $1)
         UPDATE resource r SET owner = $1
         FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(api_group, kind, namespace, name)
         WHERE (r.scope, r.api_group, r.kind, r.namespace, r.name) = ($2, v.api_group, v.kind, v.namespace, v.name)
           AND r.owner IS NULL AND NOT keeps(r.uid, $1)",
        keep.app.uid,
        keep.cluster,
        &column(|key| &key.group),
        &column(|key| &key.kind),
        &column(|key| &key.namespace),
        &column(|key| &key.name),
        keep.release
    )
    .execute(&mut *tx)
    .await?;
    let owned = sqlx::query_scalar!(
        r#"SELECT count(*) AS "owned!"
           FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(api_group, kind, namespace, name)
           JOIN resource r ON (r.scope, r.api_group, r.kind, r.namespace, r.name)
             = ($2, v.api_group, v.kind, v.namespace, v.name)
           WHERE r.owner = $1"#,
        keep.app.uid,
        keep.cluster,
        &column(|key| &key.group),
        &column(|key| &key.kind),
        &column(|key| &key.namespace),
        &column(|key| &key.name)
    )
    .fetch_one(&mut *tx)
    .await?;
    stuck(tx, keep.app.uid, keep.release).await?;
    Ok(usize::try_from(owned).is_ok_and(|owned| owned == keep.own.len()))
}

/// Has objects deleted that are kept for an app: apps as each says, all others at once.
async fn delete(tx: &mut Connection, owner: &ResourceRow, uids: &[Uuid]) -> Result<()> {
    if uids.is_empty() {
        return Ok(());
    }
    let name = owner.display();
    let users = apps_of(tx, uids).await?;
    let apps = sqlx::query_scalar!(
        "UPDATE resource SET deleting_at = coalesce(deleting_at, now()), deletion_by = $3,
                deletion_policy = CASE WHEN coalesce(suspended, spec->'suspend' = 'true', false) THEN 'Orphan'
                  ELSE coalesce(spec->>'deletionPolicy', 'MirrorPrune') END
         WHERE uid = ANY ($1) AND owner = $2 AND is_app(kind) RETURNING uid",
        uids,
        owner.uid,
        name
    )
    .fetch_all(&mut *tx)
    .await?;
    let gone = sqlx::query_scalar!(
        r#"WITH gone AS MATERIALIZED (
             SELECT uid FROM resource WHERE uid = ANY ($1) AND owner = $2 AND NOT is_app(kind) ORDER BY uid FOR UPDATE),
           -- Units keep the number, of which nothing is shown any more.
           rolled AS (
             UPDATE rollout SET revision_id = NULL WHERE id = ANY (ARRAY(
               SELECT o.id FROM gone
               CROSS JOIN LATERAL (SELECT id FROM revision WHERE source_uid = gone.uid OFFSET 0) AS v
               CROSS JOIN LATERAL (SELECT id FROM rollout WHERE revision_id = v.id OFFSET 0) AS o)))
           SELECT uid FROM gone"#,
        uids,
        owner.uid
    )
    .fetch_all(&mut *tx)
    .await?;
    // In a statement of its own, which sees that nobody names its revisions any more.
    if !gone.is_empty() {
        sqlx::query!("DELETE FROM resource WHERE uid = ANY ($1)", &gone)
            .execute(&mut *tx)
            .await?;
    }
    let said = format!("{name} has it deleted, which renders it no more");
    event::tell(tx, &apps, "Deleting", &said).await?;
    for uid in apps.iter().chain(&gone) {
        audit(tx, &name, "delete", &format!("resource/{uid}")).await?;
    }
    wake_apps(tx, &users).await?;
    stuck(tx, owner.uid, &apps).await?;
    nudge_all(tx, &[(Topic::Resource, &apps), (Topic::Resource, &gone)]).await
}

/// Has those apps planned that could not keep something in the clusters of what another one gives up: it may be theirs.
async fn stuck(tx: &mut Connection, owner: Uuid, given_up: &[Uuid]) -> Result<()> {
    if given_up.is_empty() {
        return Ok(());
    }
    let apps = sqlx::query_scalar!(
        "SELECT DISTINCT app_uid FROM nesting WHERE made_from IS NULL AND NOT waits AND app_uid <> $2
           AND cluster_id IN (SELECT scope FROM resource WHERE uid = ANY ($1))",
        given_up,
        owner
    )
    .fetch_all(&mut *tx)
    .await?;
    wake_apps(tx, &apps).await
}

/// Has those apps planned that kept what is gone now, by owner and scope, and those that could not keep something in such a
/// scope: it may have been in the way.
pub(super) async fn gone(tx: &mut Connection, gone: &[(Option<Uuid>, Uuid)]) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let owners: BTreeSet<Uuid> = gone.iter().filter_map(|(owner, _)| *owner).collect();
    let owners: Vec<Uuid> = owners.into_iter().collect();
    let scopes: BTreeSet<Uuid> = gone.iter().map(|(_, scope)| *scope).collect();
    let apps = sqlx::query_scalar!(
        r#"WITH again AS (
             UPDATE nesting SET made_from = NULL WHERE app_uid = ANY ($1) AND cluster_id = ANY ($2) RETURNING app_uid)
           SELECT app_uid AS "app!" FROM again
           UNION SELECT app_uid FROM nesting WHERE cluster_id = ANY ($2) AND made_from IS NULL AND NOT waits
           UNION SELECT uid FROM resource WHERE uid = ANY ($1)"#,
        &owners,
        &scopes.into_iter().collect::<Vec<_>>()
    )
    .fetch_all(&mut *tx)
    .await?;
    wake_apps(tx, &apps).await
}
