//! What has left units' contents and is still in their clusters: what is cleared of it, and why the rest is not. Rows are
//! written with the reports that tell of it, and end with those that tell of no more.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    id::ClusterId,
    object::ObjectKey,
    removal::clearing::{Left, Sibling, clear},
    rollout::waiting::Waiting,
};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, Result, Store, StoreError, Topic, claim, nudge, session::signed};

/// Objects that one transaction decides about, unless one unit has more.
const OBJECTS: i64 = 20_000;
/// Units that one transaction decides about.
const UNITS: i64 = 1000;

/// A unit that something has left, and of which that is to be decided.
#[derive(Debug, Clone)]
pub struct LeavingUnit {
    /// The unit.
    pub unit: Uuid,
    /// Its cluster.
    pub cluster: Uuid,
    /// Its app.
    pub app: Uuid,
    /// What has left it.
    pub left: Left,
}

/// An app that is rendered from the same source as others.
#[derive(Debug, Clone)]
pub struct SiblingRow {
    /// The app.
    pub app: Uuid,
    /// The source.
    pub source: Uuid,
    /// Where it stands.
    pub sibling: Sibling,
}

/// Why a unit's objects are not cleared, for people.
#[derive(Debug, Clone)]
pub struct Held {
    /// The unit.
    pub unit: Uuid,
    /// Version that it is of.
    pub version: u64,
    /// A sentence; '' for none any more.
    pub why: String,
}

impl Store {
    /// The sources that apps are rendered from.
    pub async fn sources_of_apps(&self, apps: &[Uuid]) -> Result<BTreeMap<Uuid, Uuid>> {
        let rows = sqlx::query!(
            "SELECT i.app_uid, t.source_uid FROM unnest($1::uuid[]) AS v(uid)
             JOIN LATERAL (SELECT * FROM app_input WHERE app_uid = v.uid OFFSET 0) AS i ON true
             JOIN LATERAL (SELECT * FROM input_at WHERE input_key = i.input_key AND newest OFFSET 0) AS t ON true",
            apps
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.app_uid, row.source_uid))
            .collect())
    }

    /// All apps of these sources that are not settled, and may be held: those that were never rendered, too.
    pub async fn unsettled_apps(&self, sources: &[Uuid]) -> Result<Vec<SiblingRow>> {
        let rows = sqlx::query!(
            r#"WITH of_source AS (
                 SELECT i.app_uid AS uid, t.source_uid, t.rendering FROM unnest($1::uuid[]) AS v(source)
                 JOIN LATERAL (SELECT * FROM input_at WHERE source_uid = v.source AND newest OFFSET 0) AS t ON true
                 JOIN LATERAL (SELECT app_uid FROM app_input WHERE input_key = t.input_key OFFSET 0) AS i ON true
                 UNION ALL
                 -- Those that name it, and are not rendered from it yet: never, or from another one.
                 SELECT a.uid, s.uid, NULL FROM resource s
                 JOIN LATERAL (
                   SELECT referrer FROM reference f
                   WHERE (f.kind, f.scope, f.namespace, f.name) = (s.kind, s.scope, s.namespace, s.name) OFFSET 0) AS f ON true
                 JOIN LATERAL (SELECT uid, kind FROM resource WHERE uid = f.referrer OFFSET 0) AS a ON is_app(a.kind)
                 WHERE s.uid = ANY($1) AND (
                   SELECT true FROM app_input i JOIN LATERAL (
                     SELECT source_uid FROM input_at WHERE input_key = i.input_key AND newest OFFSET 0) AS t ON t.source_uid = s.uid
                   WHERE i.app_uid = a.uid LIMIT 1) IS NULL)
               SELECT o.uid AS "uid!", o.source_uid AS "source!", object_name(r.kind, r.namespace, r.name) AS "app!",
                      d.key IS NOT NULL AS "due!", coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>",
                      -- A suspended one is not rendered as it says now, where that was changed meanwhile.
                      coalesce(x.state = 'Done' AND (x.finished_at >= r.updated_at
                        OR NOT coalesce(r.suspended, r.spec->'suspend' = 'true', false)), false) AS "rendered!",
                      coalesce(x.state IN ('Failed', 'NotSupported'), false) AS "failed!",
                      coalesce(r.suspended, r.spec->'suspend' = 'true', false) AS "suspended!",
                      x.content
               FROM of_source o
               JOIN LATERAL (SELECT * FROM resource WHERE uid = o.uid OFFSET 0) AS r ON true
               LEFT JOIN LATERAL (SELECT waiting FROM app_plan WHERE app_uid = o.uid OFFSET 0) AS p ON true
               LEFT JOIN LATERAL (SELECT key FROM due WHERE topic = 'app' AND key = o.uid OFFSET 0) AS d ON true
               LEFT JOIN LATERAL (SELECT state, content, finished_at FROM rendering WHERE digest = o.rendering OFFSET 0) AS x ON true
               -- One that is to be deleted claims nothing more.
               WHERE (r.deleting_at IS NULL OR d.key IS NOT NULL) AND (x.state IS DISTINCT FROM 'Done' OR d.key IS NOT NULL OR p.waiting IS DISTINCT FROM '[]'
                 OR coalesce(r.suspended, r.spec->'suspend' = 'true', false))"#,
            sources
        )
        .fetch_all(self.pool())
        .await?;
        let suspended: Vec<Uuid> = rows
            .iter()
            .filter(|row| row.suspended)
            .map(|row| row.uid)
            .collect();
        let contents: Vec<Option<Vec<u8>>> = rows
            .iter()
            .filter(|row| row.suspended)
            .map(|row| row.content.clone())
            .collect();
        let behind = self.behind(&suspended, &contents).await?;
        let rows = rows.into_iter().map(|row| SiblingRow {
            app: row.uid,
            source: row.source,
            sibling: Sibling {
                app: row.app,
                due: row.due,
                waiting: row.waiting.0,
                rendered: row.rendered,
                failed: row.failed,
                suspended: row.suspended,
                behind: behind.contains(&row.uid),
            },
        });
        Ok(rows.collect())
    }

    /// Apps of which some unit has another content than this.
    async fn behind(&self, apps: &[Uuid], contents: &[Option<Vec<u8>>]) -> Result<BTreeSet<Uuid>> {
        if apps.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows = sqlx::query_scalar!(
            r#"SELECT v.app AS "app!" FROM unnest($1::uuid[], $2::bytea[]) AS v(app, content)
               WHERE EXISTS (SELECT FROM unit u JOIN LATERAL (SELECT content FROM target WHERE digest = u.target OFFSET 0) AS t ON true
                             WHERE u.app_uid = v.app AND u.state <> 'Detached' AND t.content IS DISTINCT FROM v.content)"#,
            apps,
            contents as &[Option<Vec<u8>>]
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// The clusters of which each of these apps has a unit.
    pub async fn clusters_of_apps(&self, apps: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>> {
        let rows = sqlx::query!(
            "SELECT app_uid, cluster_id FROM unit WHERE app_uid = ANY($1)",
            apps
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.app_uid, row.cluster_id))
            .collect())
    }

    /// Those of these apps that something has left of which it is not decided yet.
    pub async fn leaving_apps(&self, apps: &[Uuid]) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!(
            r#"SELECT v.app AS "app!" FROM unnest($1::uuid[]) AS v(app)
               WHERE (SELECT true FROM leaving l WHERE l.app_uid = v.app AND l.state = 'Open' LIMIT 1) IS NOT NULL"#,
            apps
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Records why nothing of an app is cleared anywhere.
    pub async fn hold_app(&self, app: Uuid, why: &str) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let held = sqlx::query!(
            "UPDATE leaving SET waits = $2 WHERE app_uid = $1 AND state = 'Open' AND waits <> $2",
            app,
            why
        )
        .execute(&mut *tx)
        .await?;
        if held.rows_affected() > 0 {
            nudge(&mut tx, Topic::Shown, &[app]).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Units of an app that something has left, that are applied as they are to be, and of which it is not decided yet, after a
    /// unit. Of all of them some may be left; the next call tells.
    pub async fn leaving(&self, app: Uuid, after: Uuid) -> Result<Vec<LeavingUnit>> {
        let rows = sqlx::query!(
            r#"SELECT e.unit_id AS "unit!", e.cluster_id AS "cluster!", e.app_uid AS "app!", e.version AS "version!",
                      e.objects AS "objects!", o.api_group AS "group?", o.kind AS "kind?", o.namespace AS "namespace?",
                      o.name AS "name?"
               FROM (
                 SELECT *, sum(objects) OVER (ORDER BY unit_id) - objects AS before FROM (
                   SELECT l.unit_id, l.cluster_id, l.app_uid, l.version, l.objects FROM leaving l
                   JOIN LATERAL (SELECT * FROM unit WHERE id = l.unit_id OFFSET 0) AS u ON u.version = l.version
                   JOIN LATERAL (SELECT * FROM unit_status WHERE unit_id = l.unit_id OFFSET 0) AS s ON s.version = l.version
                   WHERE l.app_uid = $1 AND l.state = 'Open' AND l.unit_id > $2 AND u.state IN ('Active', 'Removing')
                     AND NOT u.waits AND s.applied = u.target AND s.applied_version = u.version
                   ORDER BY l.unit_id LIMIT $4) AS due) AS e
               LEFT JOIN LATERAL (
                 SELECT api_group, kind, namespace, name FROM unit_object
                 WHERE unit_id = e.unit_id AND state = 'PendingRemoval' OFFSET 0) AS o ON true
               WHERE e.before < $3 ORDER BY e.unit_id"#,
            app,
            after,
            OBJECTS,
            UNITS
        )
        .fetch_all(self.pool())
        .await?;
        let mut units: Vec<LeavingUnit> = Vec::new();
        for row in rows {
            if units.last().is_none_or(|last| last.unit != row.unit) {
                units.push(LeavingUnit {
                    unit: row.unit,
                    cluster: row.cluster,
                    app: row.app,
                    left: Left {
                        version: row.version.unsigned_abs(),
                        objects: usize::try_from(row.objects).unwrap_or_default(),
                        keys: Vec::new(),
                    },
                });
            }
            if let (Some(last), Some(group), Some(kind), Some(namespace), Some(name)) =
                (units.last_mut(), row.group, row.kind, row.namespace, row.name)
            {
                last.left
                    .keys
                    .push(ObjectKey::new(&group, &kind, &namespace, &name));
            }
        }
        Ok(units)
    }

    /// Of these clusters, in which some unit of apps of a source waits: what it is to be it may have to claim still. With the
    /// name of its app.
    pub async fn waiting_units(&self, clusters: &[Uuid], source: Uuid) -> Result<BTreeMap<Uuid, String>> {
        let rows = sqlx::query!(
            r#"SELECT w.cluster_id, object_name(r.kind, r.namespace, r.name) AS "app!"
               FROM unnest($1::uuid[]) AS v(cluster)
               JOIN LATERAL (
                 SELECT cluster_id, app_uid FROM unit WHERE cluster_id = v.cluster AND waits OFFSET 0) AS w ON true
               JOIN LATERAL (SELECT input_key FROM app_input WHERE app_uid = w.app_uid OFFSET 0) AS i ON true
               JOIN LATERAL (
                 SELECT source_uid FROM input_at WHERE input_key = i.input_key AND newest OFFSET 0) AS t
                 ON t.source_uid = $2
               JOIN LATERAL (SELECT kind, namespace, name FROM resource WHERE uid = w.app_uid OFFSET 0) AS r ON true"#,
            clusters,
            source
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| (row.cluster_id, row.app)).collect())
    }

    /// Decides about units of one app, in one transaction with what others claim: a plan that claims any of it comes before,
    /// and is seen, or after, and takes the clearing away. Returns how many are cleared.
    pub async fn clear(&self, app: Uuid, units: &[LeavingUnit]) -> Result<usize> {
        let mut tx = self.pool().begin().await?;
        let keys: BTreeSet<&ObjectKey> = units.iter().flat_map(|unit| &unit.left.keys).collect();
        let keys: Vec<&ObjectKey> = keys.into_iter().collect();
        claim::lock_keys(&mut tx, Uuid::nil(), &keys).await?;
        let clusters: Vec<ClusterId> = units.iter().map(|unit| ClusterId(unit.cluster)).collect();
        let others = claim::others(&mut *tx, app, &clusters, &keys).await?;
        let mut claimed: BTreeMap<Uuid, BTreeSet<&ObjectKey>> = BTreeMap::new();
        for other in &others {
            claimed.entry(other.cluster.0).or_default().extend(&other.keys);
        }
        let none = BTreeSet::new();
        let (mut cleared, mut held) = (Vec::new(), Vec::new());
        for unit in units {
            match clear(&unit.left, claimed.get(&unit.cluster).unwrap_or(&none)) {
                Ok(clearing) => cleared.push((unit, clearing)),
                Err(why) => held.push(Held {
                    unit: unit.unit,
                    version: unit.left.version,
                    why,
                }),
            }
        }
        say(&mut tx, &held).await?;
        let ids: Vec<Uuid> = cleared.iter().map(|(unit, _)| unit.unit).collect();
        let versions: Vec<i64> = cleared
            .iter()
            .map(|(unit, _)| signed(unit.left.version))
            .collect();
        let excepts: serde_json::Result<Vec<Value>> = cleared
            .iter()
            .map(|(_, clearing)| serde_json::to_value(&clearing.except))
            .collect();
        let excepts = excepts.map_err(|e| StoreError::corrupt("what is excepted", e))?;
        let published = sqlx::query_scalar!(
            r#"WITH cleared AS (
                 UPDATE leaving l SET state = 'Cleared', except_for = v.excepted, waits = '', at = now()
                 FROM unnest($1::uuid[], $2::bigint[], $3::jsonb[]) AS v(unit, version, excepted)
                 WHERE l.unit_id = v.unit AND l.version = v.version AND l.state = 'Open'
                 RETURNING l.cluster_id, l.unit_id)
               INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, unit_id FROM cleared ORDER BY 1, 2
               ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now() RETURNING cluster_id AS "cluster!""#,
            &ids,
            &versions,
            &excepts
        )
        .fetch_all(&mut *tx)
        .await?;
        nudge(&mut tx, Topic::Cluster, &published).await?;
        tx.commit().await?;
        Ok(published.len())
    }

    /// Records why units' objects are not cleared.
    pub async fn hold_leaving(&self, held: &[Held]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        say(&mut tx, held).await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn say(tx: &mut Connection, held: &[Held]) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let units: Vec<Uuid> = held.iter().map(|one| one.unit).collect();
    let versions: Vec<i64> = held.iter().map(|one| signed(one.version)).collect();
    let whys: Vec<&str> = held.iter().map(|one| one.why.as_str()).collect();
    let apps = sqlx::query_scalar!(
        "WITH said AS (
           UPDATE leaving l SET waits = v.why FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS v(unit, version, why)
           WHERE l.unit_id = v.unit AND l.version = v.version AND l.state = 'Open' AND l.waits <> v.why RETURNING l.app_uid)
         SELECT DISTINCT app_uid FROM said",
        &units,
        &versions,
        &whys as &[&str]
    )
    .fetch_all(&mut *tx)
    .await?;
    nudge(tx, Topic::Shown, &apps).await
}

/// Takes clearings of other apps away, in clusters where an app claims what it may not have claimed before: of units of which
/// that is leaving, and of those that something was excepted for, since what others claim has changed. They are decided
/// anew. In the transaction of the plan, with what it claims locked.
pub(super) async fn withdraw(
    tx: &mut Connection,
    app: Uuid,
    clusters: &[Uuid],
    keys: &[&ObjectKey],
) -> Result<()> {
    let columns = claim::Columns::of(keys.iter().copied());
    let rows = sqlx::query!(
        r#"WITH cleared AS (
             SELECT l.unit_id FROM unnest($2::uuid[]) AS v(cluster)
             JOIN LATERAL (
               SELECT * FROM leaving WHERE cluster_id = v.cluster AND state = 'Cleared' OFFSET 0) AS l ON l.app_uid <> $1
             WHERE l.except_for <> '[]' OR EXISTS (
               SELECT FROM unit_object o WHERE o.unit_id = l.unit_id AND o.state = 'PendingRemoval'
                 -- Hashed: each is asked about once.
                 AND ((o.api_group, o.kind, o.namespace, o.name) IN (
                   SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]))) IS TRUE)
             ORDER BY 1),
           opened AS (
             UPDATE leaving l SET state = 'Open', except_for = '[]', at = now() FROM cleared c WHERE l.unit_id = c.unit_id
             RETURNING l.cluster_id, l.unit_id, l.app_uid),
           marked AS (
             INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, unit_id FROM opened ORDER BY 1, 2
             ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now())
           SELECT cluster_id AS "cluster!", app_uid AS "app!" FROM opened"#,
        app,
        clusters,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .fetch_all(&mut *tx)
    .await?;
    let clusters: BTreeSet<Uuid> = rows.iter().map(|row| row.cluster).collect();
    let apps: BTreeSet<Uuid> = rows.iter().map(|row| row.app).collect();
    nudge(tx, Topic::Cluster, &clusters.into_iter().collect::<Vec<_>>()).await?;
    nudge(tx, Topic::Leaving, &apps.into_iter().collect::<Vec<_>>()).await
}
