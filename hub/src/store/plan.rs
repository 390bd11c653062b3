//! The planner's rows: units, claims, rollouts. Committed by compare-and-set on the app's plan version, so that
//! of two replicas that plan at once one wins and the other plans again.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    digest::Digest,
    id::{ClusterId, UnitId},
    object::ObjectKey,
    rollout::{
        plan::{Current, Planned},
        waiting::Waiting,
    },
    unit::{UnitState, Withheld},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Result, Store, StoreError, Topic,
    authority::new_uuid,
    content::{Blob, put_config_values},
    nudge,
    session::signed,
    trace::TracedRollout,
};
use crate::auth::seal::Seal;

/// What is recorded of an app's plan.
#[derive(Debug, Clone, Default)]
pub struct AppPlan {
    /// Compare-and-set.
    pub version: u64,
    /// Units as recorded.
    pub units: Vec<Current>,
}

/// A plan to commit.
pub struct Commit<'a> {
    /// The app.
    pub app_uid: Uuid,
    /// Version the plan was made from.
    pub version: u64,
    /// Generation of the app's spec the plan is about.
    pub generation: i64,
    /// The units to write.
    pub planned: &'a Planned,
    /// Objects of the units' content to claim, by cluster.
    pub claims: &'a BTreeMap<ClusterId, Vec<ObjectKey>>,
    /// Values of the variable layers.
    pub configs: &'a [Blob],
    /// The revision that is rolled out.
    pub revision_id: Option<i64>,
    /// Its content.
    pub content: Option<Digest>,
    /// Why nothing, or not everything, moves.
    pub waiting: &'a [Waiting],
}

impl Store {
    /// Reads the plan of an app. `Superseded` where this hub does not plan.
    pub async fn app_plan(&self, app_uid: Uuid) -> Result<AppPlan> {
        let head = sqlx::query!(
            r#"SELECT coalesce((SELECT version FROM app_plan WHERE app_uid = $1), 0) AS "version!",
                      superseded($2) AS "superseded!""#,
            app_uid,
            self.writer
        )
        .fetch_one(self.pool())
        .await?;
        if head.superseded {
            return Err(StoreError::Superseded);
        }
        let version = head.version;
        let rows = sqlx::query!(
            "SELECT id, cluster_id, content, revision_id, target, settings, variables, withheld, state, requested,
                    waiting
             FROM unit WHERE app_uid = $1 ORDER BY cluster_id",
            app_uid
        )
        .fetch_all(self.pool())
        .await?;
        let mut units = Vec::with_capacity(rows.len());
        for row in rows {
            let corrupt = |e: serde_json::Error| StoreError::corrupt(format!("unit {}", row.id), e);
            let digest = |bytes: &[u8]| {
                Digest::try_from_slice(bytes).map_err(|e| StoreError::corrupt(format!("unit {}", row.id), e))
            };
            units.push(Current {
                id: UnitId(row.id),
                cluster: ClusterId(row.cluster_id),
                content: row.content.as_deref().map(digest).transpose()?,
                revision: row.revision_id,
                target: digest(&row.target)?,
                settings: serde_json::from_value(row.settings.clone()).map_err(corrupt)?,
                variables: serde_json::from_value(row.variables.clone()).map_err(corrupt)?,
                withheld: serde_json::from_value(row.withheld.clone()).map_err(corrupt)?,
                state: parse_state(&row.state),
                requested: row.requested.clone(),
                waiting: row.waiting.iter().map(|text| Waiting::parse(text)).collect(),
            });
        }
        Ok(AppPlan {
            version: version.unsigned_abs(),
            units,
        })
    }

    /// Which of `keys` other apps' units own in `clusters`, and who.
    pub async fn foreign_claims(
        &self,
        app_uid: Uuid,
        clusters: &[ClusterId],
        keys: &[ObjectKey],
    ) -> Result<Vec<(ClusterId, Withheld)>> {
        let columns = Columns::of(keys);
        let ids: Vec<Uuid> = clusters.iter().map(|cluster| cluster.0).collect();
        let rows = sqlx::query!(
            r#"SELECT c.cluster_id, c.api_group, c.kind, c.namespace, c.name,
                      r.kind || '/' || r.namespace || '/' || r.name AS "owner!"
               FROM claim c JOIN unit u ON u.id = c.unit_id JOIN resource r ON r.uid = u.app_uid
               WHERE c.cluster_id = ANY($1) AND u.app_uid <> $2
                 AND (c.api_group, c.kind, c.namespace, c.name) IN
                     (SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]))
               ORDER BY 1, 2, 3, 4, 5"#,
            &ids,
            app_uid,
            &columns.groups,
            &columns.kinds,
            &columns.namespaces,
            &columns.names
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let key = ObjectKey::new(&row.api_group, &row.kind, &row.namespace, &row.name);
                (
                    ClusterId(row.cluster_id),
                    Withheld {
                        key,
                        owner: row.owner,
                    },
                )
            })
            .collect())
    }

    /// Commits a plan. `Conflict` when another plan of this app, or one of a newer spec, was committed meanwhile, or
    /// another app claimed an object first: gather and plan again.
    pub async fn commit_plan(&self, commit: &Commit<'_>, seal: &Seal) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let waiting: Vec<String> = commit.waiting.iter().map(ToString::to_string).collect();
        let Some(shown) = bump(&mut tx, commit, &waiting, self.writer).await? else {
            return Err(self.not_ours("the app's plan").await);
        };
        put_config_values(&mut tx, commit.configs, seal).await?;
        let rollout = match commit.planned.is_rollout() {
            true => Some(open_rollout(&mut tx, commit).await?),
            false => None,
        };
        let mut clusters = BTreeSet::new();
        for unit in &commit.planned.units {
            let id = write_unit(&mut tx, commit.app_uid, unit, rollout).await?;
            if let Some(keys) = commit.claims.get(&unit.cluster) {
                claim(&mut tx, unit.cluster, id, keys, &unit.withheld).await?;
            }
            clusters.insert(unit.cluster.0);
        }
        let clusters: Vec<Uuid> = clusters.into_iter().collect();
        nudge(&mut tx, Topic::Cluster, &clusters).await?;
        if shown || !clusters.is_empty() {
            nudge(&mut tx, Topic::Report, &clusters).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Closes rollouts whose every unit has applied its target, and tells which.
    pub async fn finish_rollouts(&self) -> Result<Vec<TracedRollout>> {
        Ok(sqlx::query_as!(
            TracedRollout,
            r#"WITH done AS (
                 UPDATE rollout r SET state = 'Complete', finished_at = now()
                 WHERE r.state = 'Progressing' AND NOT EXISTS (
                   SELECT 1 FROM unit u LEFT JOIN unit_status s ON s.unit_id = u.id
                   WHERE u.rollout_id = r.id AND u.state = 'Active'
                     AND (s.applied_version, s.applied) IS DISTINCT FROM (u.version, u.target))
                 RETURNING r.app_uid, r.revision_id, r.created_at, r.finished_at)
               SELECT a.kind || '/' || a.namespace || '/' || a.name AS "app!", coalesce(v.revision, '') AS "revision!",
                      done.created_at, done.finished_at AS "finished_at!"
               FROM done JOIN resource a ON a.uid = done.app_uid LEFT JOIN revision v ON v.id = done.revision_id"#
        )
        .fetch_all(self.pool())
        .await?)
    }
}

/// Raises the plan version by compare-and-set. Tells whether what is shown of the app changed; `None` when the plan is
/// not the one that was read, is about a newer spec, or is not this hub's to make.
async fn bump(
    tx: &mut PgConnection,
    commit: &Commit<'_>,
    waiting: &[String],
    writer: i64,
) -> Result<Option<bool>> {
    sqlx::query!(
        "INSERT INTO app_plan (app_uid) VALUES ($1) ON CONFLICT DO NOTHING",
        commit.app_uid
    )
    .execute(&mut *tx)
    .await?;
    Ok(sqlx::query_scalar!(
        r#"UPDATE app_plan p SET version = p.version + 1, waiting = $3, observed_generation = $4
           FROM app_plan old WHERE p.app_uid = $1 AND old.app_uid = $1 AND p.version = $2
             AND p.observed_generation <= $4 AND NOT superseded($5)
           RETURNING (old.waiting <> $3 OR old.observed_generation <> $4) AS "changed!""#,
        commit.app_uid,
        signed(commit.version),
        waiting,
        commit.generation,
        writer
    )
    .fetch_optional(&mut *tx)
    .await?)
}

async fn open_rollout(tx: &mut PgConnection, commit: &Commit<'_>) -> Result<i64> {
    let parent = sqlx::query_scalar!(
        "SELECT id FROM rollout WHERE app_uid = $1 ORDER BY id DESC LIMIT 1",
        commit.app_uid
    )
    .fetch_optional(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE rollout SET state = 'Superseded', finished_at = now()
         WHERE app_uid = $1 AND state = 'Progressing'",
        commit.app_uid
    )
    .execute(&mut *tx)
    .await?;
    let cause = commit
        .planned
        .units
        .iter()
        .find(|unit| unit.retargeted)
        .map_or("", |unit| unit.cause.as_str());
    Ok(sqlx::query_scalar!(
        "INSERT INTO rollout (app_uid, parent, revision_id, content, state, cause)
         VALUES ($1, $2, $3, $4, 'Progressing', $5) RETURNING id",
        commit.app_uid,
        parent,
        commit.revision_id,
        commit.content.map(|digest| digest.as_bytes().to_vec()),
        cause
    )
    .fetch_one(&mut *tx)
    .await?)
}

async fn write_unit(
    tx: &mut PgConnection,
    app_uid: Uuid,
    unit: &flotilla_core::rollout::plan::Next,
    rollout: Option<i64>,
) -> Result<Uuid> {
    let json =
        |value: serde_json::Result<serde_json::Value>| value.map_err(|e| StoreError::corrupt("unit", e));
    let settings = json(serde_json::to_value(&unit.settings))?;
    let variables = json(serde_json::to_value(&unit.variables))?;
    let withheld = json(serde_json::to_value(&unit.withheld))?;
    let waiting: Vec<String> = unit.waiting.iter().map(ToString::to_string).collect();
    let id = unit.id.map_or_else(new_uuid, |id| id.0);
    sqlx::query!(
        "INSERT INTO unit (id, app_uid, cluster_id, content, target, revision_id, rollout_id, state, cause, settings,
                           variables, withheld, waiting, requested)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (id) DO UPDATE SET version = unit.version + $15, content = $4, target = $5, revision_id = $6,
           rollout_id = CASE WHEN $15 = 1 THEN $7 ELSE unit.rollout_id END, state = $8, cause = $9, settings = $10,
           variables = $11, withheld = $12, waiting = $13, requested = $14, updated_at = now()",
        id,
        app_uid,
        unit.cluster.0,
        unit.content.map(|digest| digest.as_bytes().to_vec()),
        &unit.target.as_bytes()[..],
        unit.revision,
        rollout,
        state_name(&unit.state),
        unit.cause.as_str(),
        settings,
        variables,
        withheld,
        &waiting,
        unit.requested,
        i64::from(unit.retargeted)
    )
    .execute(tx)
    .await?;
    Ok(id)
}

/// Claims the objects of a unit. Another's claim that was not foreseen is a conflict: plan again with it known.
async fn claim(
    tx: &mut PgConnection,
    cluster: ClusterId,
    unit: Uuid,
    keys: &[ObjectKey],
    withheld: &[Withheld],
) -> Result<()> {
    let mut own: Vec<ObjectKey> = keys
        .iter()
        .filter(|key| !withheld.iter().any(|one| one.key == **key))
        .cloned()
        .collect();
    // One order for all writers: two plans that claim the same objects wait for each other and never deadlock.
    own.sort_unstable();
    own.dedup();
    let columns = Columns::of(&own);
    sqlx::query!(
        "INSERT INTO claim (cluster_id, unit_id, api_group, kind, namespace, name)
         SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])
         ON CONFLICT DO NOTHING",
        cluster.0,
        unit,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .execute(&mut *tx)
    .await?;
    let held = sqlx::query_scalar!(
        r#"SELECT count(*) AS "held!" FROM claim
           WHERE cluster_id = $1 AND unit_id = $2 AND (api_group, kind, namespace, name) IN
             (SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]))"#,
        cluster.0,
        unit,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .fetch_one(&mut *tx)
    .await?;
    if usize::try_from(held) == Ok(own.len()) {
        Ok(())
    } else {
        Err(StoreError::Conflict("an object's claim"))
    }
}

struct Columns {
    groups: Vec<String>,
    kinds: Vec<String>,
    namespaces: Vec<String>,
    names: Vec<String>,
}

impl Columns {
    fn of(keys: &[ObjectKey]) -> Self {
        Self {
            groups: keys.iter().map(|key| key.group.clone()).collect(),
            kinds: keys.iter().map(|key| key.kind.clone()).collect(),
            namespaces: keys.iter().map(|key| key.namespace.clone()).collect(),
            names: keys.iter().map(|key| key.name.clone()).collect(),
        }
    }
}

/// The state's word in the store and for people.
pub(crate) fn state_name(state: &UnitState) -> &'static str {
    match state {
        UnitState::Active => "Active",
        UnitState::Suspended => "Suspended",
        UnitState::Detached => "Detached",
        UnitState::Removing { .. } => "Removing",
    }
}

/// Reads a state's word. What this version does not know is held, never enforced and never removed.
pub(crate) fn parse_state(text: &str) -> UnitState {
    match text {
        "Active" => UnitState::Active,
        "Suspended" => UnitState::Suspended,
        _ => UnitState::Detached,
    }
}
