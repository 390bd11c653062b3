//! What has left units' contents and is still in their clusters: what is cleared of it, and why the rest is not. Rows are
//! written with the reports that tell of it, and end with those that tell of no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::{
    id::ClusterId,
    object::ObjectKey,
    removal::{
        Clearing,
        clearing::{Left, Pending, clear},
    },
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError, Topic, Wakes, beside, claim,
    closure::{self, Closure},
    nudge,
    session::signed,
    wake,
};

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
    /// It is being removed because its cluster is drained: nothing comes there any more.
    pub is_drained: bool,
    /// What has left it.
    pub left: Left,
}

/// What suspended apps take over when they are resumed, by cluster, each object with its app.
pub type TakenOver = BTreeMap<Uuid, BTreeMap<ObjectKey, Arc<str>>>;

/// What of a unit is to be cleared.
pub(super) struct Cleared<'a> {
    pub(super) unit: &'a LeavingUnit,
    pub(super) clearing: Clearing,
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
    /// unit. Of all of them some may be left; the next call tells. `drained`: those of clusters that are being drained alone.
    pub async fn leaving(&self, app: Uuid, after: Uuid, drained: bool) -> Result<Vec<LeavingUnit>> {
        let rows = sqlx::query!(
            r#"SELECT e.unit_id AS "unit!", e.cluster_id AS "cluster!", e.app_uid AS "app!", e.version AS "version!",
                      e.objects AS "objects!", e.is_drained AS "is_drained!", o.api_group AS "group?", o.kind AS "kind?", o.namespace AS "namespace?",
                      o.name AS "name?"
               FROM (
                 SELECT *, sum(objects) OVER (ORDER BY unit_id) - objects AS before FROM (
                   SELECT l.unit_id, l.cluster_id, l.app_uid, l.version, l.objects,
                          u.state = 'Removing' AND l.cluster_id = ANY(ARRAY(SELECT id FROM cluster WHERE departure = 'Drain'))
                            AS is_drained
                   FROM leaving l
                   JOIN LATERAL (SELECT * FROM unit WHERE id = l.unit_id OFFSET 0) AS u ON u.version = l.version
                   JOIN LATERAL (SELECT * FROM unit_status WHERE unit_id = l.unit_id OFFSET 0) AS s ON s.version = l.version
                   WHERE l.app_uid = $1 AND l.state = 'Open' AND l.unit_id > $2
                     AND (NOT $5 OR u.state = 'Removing'
                            AND l.cluster_id = ANY(ARRAY(SELECT id FROM cluster WHERE departure = 'Drain'))) AND u.state IN ('Active', 'Removing')
                     AND NOT u.waits AND s.applied = u.target AND s.applied_version = u.version
                   ORDER BY l.unit_id LIMIT $4) AS due) AS e
               LEFT JOIN LATERAL (
                 SELECT api_group, kind, namespace, name FROM unit_object
                 WHERE unit_id = e.unit_id AND state = 'PendingRemoval' OFFSET 0) AS o ON true
               WHERE e.before < $3 ORDER BY e.unit_id"#,
            app,
            after,
            OBJECTS,
            UNITS,
            drained
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
                    is_drained: row.is_drained,
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

    /// Decides about units of one app, in one transaction with what others claim: a plan that claims any of it comes before,
    /// and is seen, or after, and takes the clearing away. `pending`: what suspended apps take over when they are resumed, by
    /// cluster, each with its app. `closure`: what all that goes together is judged by; `beside`: that of the app's parent, where
    /// it goes with it or leaves it. Returns how many are cleared.
    pub async fn clear(
        &self,
        app: Uuid,
        units: &[LeavingUnit],
        pending: &TakenOver,
        closure: Option<&Closure>,
        beside: Option<&Closure>,
    ) -> Result<usize> {
        let mut tx = self.pool().begin().await?;
        let keys: BTreeSet<&ObjectKey> = units.iter().flat_map(|unit| &unit.left.keys).collect();
        let keys: Vec<&ObjectKey> = keys.into_iter().collect();
        claim::lock(&mut tx, &[], &keys).await?;
        let mut is_moving = beside::is_moving(&mut tx, app).await?;
        for closure in [closure, beside].into_iter().flatten() {
            is_moving = is_moving || closure::is_moving(&mut tx, closure).await?;
        }
        if is_moving {
            let held = units.iter().map(|unit| Held {
                unit: unit.unit,
                version: unit.left.version,
                why: "an app of the same source is being planned".to_owned(),
            });
            say(&mut tx, &held.collect::<Vec<_>>()).await?;
            tx.commit().await?;
            return Ok(0);
        }
        let asked = claim::Asked {
            app,
            clusters: units.iter().map(|unit| ClusterId(unit.cluster)).collect(),
            keys: keys.clone(),
        };
        let others = claim::others(&mut *tx, &[asked]).await?;
        let mut claimed: BTreeMap<Uuid, BTreeSet<&ObjectKey>> = BTreeMap::new();
        for other in others.iter().flatten() {
            claimed
                .entry(other.cluster.0)
                .or_default()
                .extend(other.keys.iter());
        }
        let none = BTreeSet::new();
        let (mut cleared, mut held) = (Vec::new(), Vec::new());
        for unit in units {
            let pending = pending.get(&unit.cluster).into_iter().flatten();
            let pending: Pending<'_> = pending.map(|(key, app)| (key, app.as_ref())).collect();
            match clear(&unit.left, claimed.get(&unit.cluster).unwrap_or(&none), &pending) {
                Ok(clearing) => cleared.push(Cleared { unit, clearing }),
                Err(why) => held.push(Held {
                    unit: unit.unit,
                    version: unit.left.version,
                    why,
                }),
            }
        }
        if let Some(closure) = closure {
            held.extend(closure::stop(&mut tx, closure, &mut cleared).await?);
        }
        say(&mut tx, &held).await?;
        let ids: Vec<Uuid> = cleared.iter().map(|one| one.unit.unit).collect();
        let versions: Vec<i64> = cleared.iter().map(|one| signed(one.unit.left.version)).collect();
        let excepts: serde_json::Result<Vec<Value>> = cleared
            .iter()
            .map(|one| serde_json::to_value(&one.clearing.except))
            .collect();
        let excepts = excepts.map_err(|e| StoreError::corrupt("what is excepted", e))?;
        let published = sqlx::query_scalar!(
            r#"WITH cleared AS (
                 UPDATE leaving l SET state = 'Cleared', except_for = v.excepted, waits = '', blocked = false, at = now()
                 FROM unnest($1::uuid[], $2::bigint[], $3::jsonb[]) AS v(unit, version, excepted)
                 WHERE l.unit_id = v.unit AND l.version = v.version AND l.state = 'Open'
                   -- What was to be removed may be kept since.
                   AND (SELECT state FROM unit WHERE id = v.unit) IN ('Active', 'Removing')
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
/// anew. In the transaction of the plans, with what they claim locked.
pub(super) async fn withdraw(tx: &mut Connection, claiming: &[claim::Asked<'_>]) -> Result<()> {
    let (mut of_key, mut keys, mut of_cluster, mut clusters) = (vec![], vec![], vec![], vec![]);
    for one in claiming {
        of_key.extend(one.keys.iter().map(|_| one.app));
        keys.extend_from_slice(&one.keys);
        of_cluster.extend(one.clusters.iter().map(|_| one.app));
        clusters.extend(one.clusters.iter().map(|cluster| cluster.0));
    }
    let columns = claim::Columns::of(keys);
    let rows = sqlx::query!(
        r#"WITH cleared AS (
             SELECT DISTINCT l.unit_id FROM unnest($1::uuid[], $2::uuid[]) AS v(app, cluster)
             JOIN LATERAL (
               SELECT * FROM leaving WHERE cluster_id = v.cluster AND state = 'Cleared' OFFSET 0) AS l
               ON l.app_uid <> v.app
             WHERE l.except_for <> '[]' OR EXISTS (
               SELECT FROM unit_object o WHERE o.unit_id = l.unit_id AND o.state = 'PendingRemoval'
                 -- Hashed: each is asked about once.
                 AND ((v.app, o.api_group, o.kind, o.namespace, o.name) IN (
                   SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[]))) IS TRUE)
             ORDER BY 1),
           opened AS (
             UPDATE leaving l SET state = 'Open', except_for = '[]', at = now() FROM cleared c WHERE l.unit_id = c.unit_id
             RETURNING l.cluster_id, l.unit_id, l.app_uid),
           marked AS (
             INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, unit_id FROM opened ORDER BY 1, 2
             ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now())
           SELECT cluster_id AS "cluster!", app_uid AS "app!" FROM opened"#,
        &of_cluster,
        &clusters,
        &of_key,
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

/// What units of these apps had, or were to have, in these clusters, they have not any more: those that left it to them are
/// planned, and what was excepted for them is decided anew.
pub(super) async fn freed(tx: &mut Connection, gone: &BTreeSet<(Uuid, Uuid)>) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let freed = gone.iter().map(|(app, cluster)| claim::Asked {
        app: *app,
        clusters: vec![ClusterId(*cluster)],
        keys: Vec::new(),
    });
    withdraw(tx, &freed.collect::<Vec<_>>()).await?;
    let claims: Vec<(Uuid, Uuid)> = gone.iter().copied().collect();
    let wakes = Wakes {
        claims: &claims,
        ..Wakes::default()
    };
    wake(tx, &wakes).await
}
