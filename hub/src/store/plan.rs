//! The planner's rows: units, targets, rollouts. Committed by compare-and-set on the app's plan version, so that
//! of two replicas that plan at once one wins and the other plans again.

use std::collections::BTreeMap;

use flotilla_core::{
    claim::Claims,
    digest::Digest,
    id::{AppName, ClusterId, UnitId},
    rollout::{
        plan::{Cause, Current, Next, Planned},
        waiting::Waiting,
    },
    unit::{UnitState, VariableLayer},
};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError, Topic, Wakes, claim, confirmed,
    content::{Blob, Prepared, put_config_values},
    leaving,
    rollout::{self, Turned},
    session::signed,
    wake,
    work::{HELD, Lease},
};
use crate::auth::seal::Seal;

/// What a plan conflicts with that is not committed: it, or what it was made from, was changed meanwhile.
pub const OUTDATED: &str = "the app's plan";

/// What is recorded of an app's plan.
#[derive(Debug, Clone, Default)]
pub struct AppPlan {
    /// Compare-and-set.
    pub version: u64,
    /// Why nothing, or not everything, moves.
    pub waiting: Vec<Waiting>,
    /// Generation of the app's spec that it is about; 0 before the first.
    pub generation: i64,
    /// The last change that has the app planned; `None`: it was planned since.
    pub due: Option<i64>,
    /// The hub was restored from a backup, and nothing has confirmed since what is recorded of the app: none of its units
    /// is published.
    pub is_unconfirmed: bool,
    /// That holds for some source or app.
    pub is_any_unconfirmed: bool,
    /// Units as recorded.
    pub units: Vec<Current>,
}

/// What is recorded of an app's plan beside its units, and whose it is to make.
struct Head {
    version: i64,
    waiting: Json<Vec<Waiting>>,
    generation: i64,
    due: Option<i64>,
    superseded: bool,
    unconfirmed: bool,
    any_unconfirmed: bool,
    /// Its mark was taken for this hub.
    held: bool,
    /// It is rendered from what its source has now.
    rendered: bool,
}

/// A plan to commit.
pub struct Commit<'a> {
    /// The app.
    pub app_uid: Uuid,
    /// What it is called: a unit that it gets is named by that.
    pub app: AppName<'a>,
    /// What the plan was made from.
    pub recorded: &'a AppPlan,
    /// Generation of the app's spec the plan is about.
    pub generation: i64,
    /// The units to write.
    pub planned: &'a Planned,
    /// What the units claim.
    pub claims: &'a Claims,
    /// Values of the variable layers.
    pub configs: &'a [Blob],
    /// The revision that is rolled out.
    pub revision_id: Option<i64>,
    /// Its content.
    pub content: Option<Digest>,
    /// Why nothing, or not everything, moves.
    pub waiting: &'a [Waiting],
    /// It confirms what is recorded of the app since the hub was restored: its units are published from now on.
    pub confirms: bool,
    /// The request that is handled by this.
    pub handled: &'a str,
    /// What must still be so; `None`: nothing but that no other plan was committed.
    pub unchanged: Option<Unchanged>,
}

/// What a plan was made from, as far as it is looked at again when it is committed: between the two lies a rendering, which
/// takes its time. The generation of the app's spec is, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unchanged {
    /// The app's mark as it was read, which any change of what it is planned from raises; outer `None`: not looked at.
    pub mark: Option<Option<i64>>,
    /// What the source's present revision renders to; `None`: it is not known, and nothing is admitted.
    pub content: Option<Digest>,
}

impl Commit<'_> {
    /// Whether what is recorded would become another.
    pub fn changes_anything(&self) -> bool {
        self.is_shown() || self.confirms || !self.planned.units.is_empty()
    }

    /// Whether what is shown of the app itself changes.
    fn is_shown(&self) -> bool {
        self.recorded.waiting != self.waiting || self.recorded.generation != self.generation
    }
}

impl Store {
    /// Reads the plan of an app. `Superseded` where this hub does not plan.
    pub async fn app_plan(&self, app_uid: Uuid) -> Result<AppPlan> {
        let head = self.head(app_uid, None).await?;
        self.planned_units(app_uid, head).await
    }

    /// Reads the plan of an app and takes it for `replica`, where there is something to plan and nobody is at it.
    pub async fn take_plan(&self, app_uid: Uuid, replica: &str) -> Result<Lease> {
        let head = self.head(app_uid, Some(replica)).await?;
        Ok(match (head.held, head.due, head.rendered) {
            (false, Some(_), _) => Lease::Others,
            (false, None, true) => Lease::Settled,
            _ => Lease::Held(self.planned_units(app_uid, head).await?),
        })
    }

    async fn head(&self, app_uid: Uuid, replica: Option<&str>) -> Result<Head> {
        let head = sqlx::query_as!(
            Head,
            r#"WITH held AS (
                 UPDATE due SET held_by = $3, held_until = now() + make_interval(secs => $4)
                 WHERE $3::text IS NOT NULL AND topic = 'app' AND key = $1 AND NOT superseded($2)
                   AND (held_by IN ('', $3) OR held_until <= now())
                 RETURNING key)
               SELECT coalesce(p.version, 0) AS "version!", coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>",
                      coalesce(p.observed_generation, 0) AS "generation!", d.change AS "due?",
                      superseded($2) AS "superseded!", EXISTS (SELECT FROM held) AS "held!",
                      EXISTS (SELECT FROM unconfirmed WHERE uid = $1) AS "unconfirmed!",
                      EXISTS (SELECT FROM unconfirmed) AS "any_unconfirmed!",
                      -- What failed, or waits for its time, is looked at though nothing has changed.
                      EXISTS (SELECT FROM app_input i JOIN input_at t ON t.input_key = i.input_key AND t.newest
                                JOIN rendering x ON x.digest = t.rendering AND x.state = 'Done'
                              WHERE i.app_uid = $1) AS "rendered!"
               FROM (SELECT $1::uuid AS uid) AS a LEFT JOIN app_plan p ON p.app_uid = a.uid
                 LEFT JOIN due d ON d.topic = 'app' AND d.key = a.uid"#,
            app_uid,
            self.writer,
            replica,
            HELD.as_secs_f64()
        )
        .fetch_one(self.pool())
        .await?;
        match head.superseded {
            true => Err(StoreError::Superseded),
            false => Ok(head),
        }
    }

    async fn planned_units(&self, app_uid: Uuid, head: Head) -> Result<AppPlan> {
        let rows = sqlx::query!(
            r#"SELECT u.id, u.cluster_id, t.content, t.keyset, u.revision_id, u.target, t.settings, t.variables, u.withheld,
                      u.state, u.removal,
                      u.requested, u.waiting AS "waiting: Json<Vec<Waiting>>"
               FROM unit u JOIN target t ON t.digest = u.target WHERE u.app_uid = $1 ORDER BY u.cluster_id"#,
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
                keyset: row.keyset.as_deref().map(digest).transpose()?,
                settings: serde_json::from_value(row.settings.clone()).map_err(corrupt)?,
                variables: serde_json::from_value(row.variables.clone()).map_err(corrupt)?,
                withheld: serde_json::from_value(row.withheld.clone()).map_err(corrupt)?,
                state: parse_state(&row.state, row.removal.clone()),
                requested: row.requested.clone(),
                waiting: row.waiting.0,
            });
        }
        Ok(AppPlan {
            version: head.version.unsigned_abs(),
            waiting: head.waiting.0,
            generation: head.generation,
            due: head.due,
            is_unconfirmed: head.unconfirmed,
            is_any_unconfirmed: head.any_unconfirmed,
            units,
        })
    }

    /// Commits a plan; returns the rollouts that it may have ended. `Conflict` when another plan of this app, or one of a
    /// newer spec, was committed meanwhile, or another app claimed an object first: gather and plan again.
    pub async fn commit_plan(&self, commit: &Commit<'_>, seal: &Seal) -> Result<Vec<Turned>> {
        let configs = Prepared::config_values(commit.configs, seal)?;
        let claims_anew = |(_, unit): &(Uuid, &Next)| commit.claims.is_new_in(unit.cluster);
        let mut tx = self.pool().begin().await?;
        // First of all: who waits for it must hold nothing that others wake this app by.
        if commit
            .planned
            .units
            .iter()
            .any(|unit| commit.claims.is_new_in(unit.cluster))
        {
            claim::lock(&mut tx, commit.app_uid, commit.claims).await?;
        }
        if !bump(&mut tx, commit, self.writer).await? {
            // Whose it is is asked on another connection: of these there are few.
            tx.rollback().await?;
            return Err(self.not_ours(OUTDATED).await);
        }
        put_config_values(&mut tx, &configs).await?;
        let (opened, turned) = rollout::record(&mut tx, commit).await?;
        let ids: Vec<Uuid> = commit
            .planned
            .units
            .iter()
            .map(|unit| unit.id.unwrap_or_else(|| UnitId::of(unit.cluster, commit.app)).0)
            .collect();
        let mut units: Vec<(Uuid, &Next)> = ids.into_iter().zip(&commit.planned.units).collect();
        // In one order for all writers.
        units.sort_unstable_by_key(|(_, unit)| unit.cluster);
        let new: Vec<(Uuid, &Next)> = units.iter().copied().filter(claims_anew).collect();
        if !new.is_empty() {
            claim::put_keysets(&mut tx, commit.claims).await?;
        }
        for batch in units.chunks(UNITS) {
            write_units(&mut tx, commit, batch, opened).await?;
        }
        if !new.is_empty() {
            claim::check(&mut tx, commit.app_uid, commit.claims, &new).await?;
            let clusters: Vec<Uuid> = new.iter().map(|(_, unit)| unit.cluster.0).collect();
            leaving::withdraw(&mut tx, commit.app_uid, &clusters, &commit.claims.new_keys()).await?;
        }
        let mut published: Vec<Uuid> = units
            .iter()
            .filter(|(_, unit)| is_published(unit))
            .map(|(_, unit)| unit.cluster.0)
            .collect();
        if commit.confirms {
            published = confirmed::app(&mut tx, commit.app_uid).await?;
        }
        let shown: &[Uuid] = match units.is_empty() && !commit.is_shown() {
            true => &[],
            false => &[commit.app_uid],
        };
        let claims: Vec<Uuid> = new.iter().map(|(_, unit)| unit.cluster.0).collect();
        let wakes = Wakes {
            // Whoever has claimed nothing before lets go of nothing.
            claims: (!commit.recorded.units.is_empty()).then_some((commit.app_uid, &claims)),
            told: &[(Topic::Cluster, &published), (Topic::Shown, shown)],
            ..Wakes::default()
        };
        wake(&mut tx, &wakes).await?;
        tx.commit().await?;
        Ok(turned)
    }
}

/// Units in one statement.
const UNITS: usize = 2000;

/// Whether the unit's entry may become another by this: its reasons to wait are no part of that.
fn is_published(unit: &Next) -> bool {
    unit.id.is_none() || unit.cause != Cause::Waiting
}

/// Raises the plan version by compare-and-set, and takes away that the app is to be planned. `false` when the plan is
/// not the one that was read, is about a newer spec, what this one was made from has changed, or it is not this hub's to
/// make.
async fn bump(tx: &mut Connection, commit: &Commit<'_>, writer: i64) -> Result<bool> {
    let unchanged = commit.unchanged;
    let mark = unchanged.and_then(|unchanged| unchanged.mark);
    let content = unchanged.and_then(|unchanged| unchanged.content);
    let bumped = sqlx::query_scalar!(
        r#"WITH bumped AS (
             INSERT INTO app_plan AS p (app_uid, version, waiting, observed_generation)
             SELECT $1, 1, $3, $4 WHERE NOT superseded($5)
               AND (NOT $8 OR EXISTS (SELECT FROM resource WHERE uid = $1 AND generation = $4))
               AND (NOT $9 OR (SELECT change FROM due WHERE topic = 'app' AND key = $1) IS NOT DISTINCT FROM $10)
               AND ($11::bytea IS NULL OR EXISTS (
                 SELECT FROM app_input i JOIN input_at t ON t.input_key = i.input_key AND t.newest
                   JOIN rendering x ON x.digest = t.rendering AND x.content = $11 WHERE i.app_uid = $1))
             ON CONFLICT (app_uid) DO UPDATE SET version = p.version + 1, waiting = $3, observed_generation = $4,
               held_at = CASE WHEN (p.waiting = '[]') = ($3 = '[]'::jsonb) THEN p.held_at ELSE now() END
             WHERE p.version = $2 AND p.observed_generation <= $4
             RETURNING app_uid),
           seen AS (
             DELETE FROM due WHERE topic = 'app' AND key = $1 AND change = $6 AND EXISTS (SELECT FROM bumped)),
           -- With the mark: nobody would look again to say so.
           handled AS (
             UPDATE resource SET handled_at = $7
             WHERE uid = $1 AND handled_at <> $7 AND EXISTS (SELECT FROM bumped))
           SELECT true AS "bumped!" FROM bumped"#,
        commit.app_uid,
        signed(commit.recorded.version),
        Json(commit.waiting) as _,
        commit.generation,
        writer,
        commit.recorded.due,
        commit.handled,
        unchanged.is_some(),
        mark.is_some(),
        mark.flatten(),
        content.as_ref().map(|digest| &digest.as_bytes()[..])
    )
    .fetch_optional(tx)
    .await?;
    Ok(bumped.is_some())
}

async fn write_units(
    tx: &mut Connection,
    commit: &Commit<'_>,
    units: &[(Uuid, &Next)],
    rollout: Option<i64>,
) -> Result<()> {
    let json = |of: &dyn Fn(&Next) -> serde_json::Result<Value>| {
        let column: serde_json::Result<Vec<Value>> = units.iter().map(|(_, unit)| of(unit)).collect();
        column.map_err(|e| StoreError::corrupt("unit", e))
    };
    let withheld = json(&|unit| serde_json::to_value(&unit.withheld))?;
    let waiting = json(&|unit| serde_json::to_value(&unit.waiting))?;
    let removals: serde_json::Result<Vec<Option<Value>>> =
        units.iter().map(|(_, unit)| removal(&unit.state)).collect();
    let removals = removals.map_err(|e| StoreError::corrupt("unit", e))?;
    let column = |f: fn(&Next) -> &str| {
        units
            .iter()
            .map(|(_, unit)| f(unit).to_owned())
            .collect::<Vec<_>>()
    };
    let ids: Vec<Uuid> = units.iter().map(|(id, _)| *id).collect();
    let clusters: Vec<Uuid> = units.iter().map(|(_, unit)| unit.cluster.0).collect();
    let targets: Vec<Vec<u8>> = units
        .iter()
        .map(|(_, unit)| unit.target.as_bytes().to_vec())
        .collect();
    let revisions: Vec<Option<i64>> = units.iter().map(|(_, unit)| unit.revision).collect();
    let retargeted: Vec<bool> = units.iter().map(|(_, unit)| unit.retargeted).collect();
    let published: Vec<bool> = units.iter().map(|(_, unit)| is_published(unit)).collect();
    let shared = Targets::of(units, commit.claims)?;
    sqlx::query!(
        // A target that is used again is touched, in one order for all writers: what removes the unused leaves it.
        "WITH named AS (
           INSERT INTO target AS t (digest, content, settings, variables, configs, keyset)
           SELECT d, c, s, v, ARRAY(SELECT decode(one, 'hex') FROM unnest(string_to_array(f, ',')) AS one), k
           FROM unnest($14::bytea[], $15::bytea[], $16::jsonb[], $17::jsonb[], $18::text[], $19::bytea[])
             AS v(d, c, s, v, f, k)
           ORDER BY d
           ON CONFLICT (digest) DO UPDATE SET referenced_at = now(), keyset = coalesce(excluded.keyset, t.keyset)
         ), written AS (
         INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause, withheld, waiting,
                           requested, removal)
         SELECT v.id, $1, v.cluster, v.target, v.revision, CASE WHEN v.retargeted THEN $2::bigint END,
                v.state, v.cause, v.withheld, v.waiting, v.requested, v.removal
         FROM unnest($3::uuid[], $4::uuid[], $5::bytea[], $6::bigint[], $7::text[], $8::text[], $9::jsonb[],
                     $10::jsonb[], $11::text[], $12::boolean[], $20::jsonb[])
           AS v(id, cluster, target, revision, state, cause, withheld, waiting, requested, retargeted, removal)
         ON CONFLICT (id) DO UPDATE SET
           version = unit.version + (excluded.rollout_id IS NOT NULL)::int, target = excluded.target,
           revision_id = excluded.revision_id, rollout_id = coalesce(excluded.rollout_id, unit.rollout_id),
           state = excluded.state, cause = excluded.cause, withheld = excluded.withheld, waiting = excluded.waiting,
           requested = excluded.requested,
           moved_at = CASE WHEN excluded.rollout_id IS NULL THEN unit.moved_at ELSE now() END,
           held_at = CASE WHEN (unit.waiting = '[]') = (excluded.waiting = '[]') THEN unit.held_at ELSE now() END,
           released = unit.released AND excluded.state = 'Detached', removal = excluded.removal
         RETURNING id, cluster_id, version, target
         ), marked AS (
         -- In the order in which a publisher takes them.
         INSERT INTO unpublished (cluster_id, unit_id)
         SELECT v.cluster, v.id FROM unnest($3::uuid[], $4::uuid[], $13::boolean[]) AS v(id, cluster, is_published)
         WHERE v.is_published ORDER BY 1, 2
         ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now())
         INSERT INTO history (cluster_id, unit_id, version, target, ready, content)
         SELECT w.cluster_id, w.id, w.version, w.target, 'Unknown', t.content FROM written w
         JOIN unnest($3::uuid[], $12::boolean[]) AS v(id, retargeted) ON v.id = w.id AND v.retargeted
         JOIN unnest($14::bytea[], $15::bytea[]) AS t(digest, content) ON t.digest = w.target",
        commit.app_uid,
        rollout,
        &ids,
        &clusters,
        &targets,
        &revisions as &[Option<i64>],
        &column(|unit| state_name(&unit.state)),
        &column(|unit| unit.cause.as_str()),
        &withheld,
        &waiting,
        &column(|unit| &unit.requested),
        &retargeted,
        &published,
        &shared.digests,
        &shared.contents as &[Option<Vec<u8>>],
        &shared.settings,
        &shared.variables,
        &shared.configs,
        &shared.keysets as &[Option<Vec<u8>>],
        &removals as &[Option<Value>]
    )
    .execute(tx)
    .await
    // A cluster that was chosen is not there any more.
    .map_err(|error| match error.as_database_error() {
        Some(said) if said.is_foreign_key_violation() => StoreError::Conflict(OUTDATED),
        _ => error.into(),
    })?;
    Ok(())
}

/// The targets of units, each once.
#[derive(Default)]
struct Targets {
    digests: Vec<Vec<u8>>,
    contents: Vec<Option<Vec<u8>>>,
    settings: Vec<Value>,
    variables: Vec<Value>,
    /// Hexadecimal, with commas between: an array of arrays has one length.
    configs: Vec<String>,
    keysets: Vec<Option<Vec<u8>>>,
}

impl Targets {
    fn of(units: &[(Uuid, &Next)], claims: &Claims) -> Result<Self> {
        let distinct: BTreeMap<Digest, &Next> = units.iter().map(|(_, unit)| (unit.target, *unit)).collect();
        let mut columns = Self::default();
        for (digest, unit) in distinct {
            let corrupt = |e| StoreError::corrupt("target", e);
            columns.digests.push(digest.as_bytes().to_vec());
            columns
                .contents
                .push(unit.content.map(|digest| digest.as_bytes().to_vec()));
            columns
                .settings
                .push(serde_json::to_value(&unit.settings).map_err(corrupt)?);
            columns
                .variables
                .push(serde_json::to_value(&unit.variables).map_err(corrupt)?);
            let named = unit.variables.iter().filter_map(VariableLayer::config);
            let named: Vec<String> = named.map(|digest| hex::encode(digest.as_bytes())).collect();
            columns.configs.push(named.join(","));
            // Of a target that stays its claims are known.
            let keyset = claims.of.get(&unit.cluster).filter(|_| unit.retargeted);
            columns
                .keysets
                .push(keyset.map(|digest| digest.as_bytes().to_vec()));
        }
        Ok(columns)
    }
}

/// The state's word in the store and for people.
pub(crate) fn state_name(state: &UnitState) -> &'static str {
    match state {
        UnitState::Active => "Active",
        UnitState::Suspended => "Suspended",
        UnitState::Detached => "Detached",
        UnitState::Removing(_) => "Removing",
    }
}

/// Reads a state's word, and how a unit that is to be removed is. What this version does not know is held, never enforced
/// and never removed.
pub(crate) fn parse_state(text: &str, removal: Option<Value>) -> UnitState {
    match (text, removal.map(serde_json::from_value)) {
        ("Active", _) => UnitState::Active,
        ("Suspended", _) => UnitState::Suspended,
        ("Removing", Some(Ok(removal))) => UnitState::Removing(removal),
        _ => UnitState::Detached,
    }
}

/// How a unit that is to be removed is.
fn removal(state: &UnitState) -> serde_json::Result<Option<Value>> {
    match state {
        UnitState::Removing(removal) => serde_json::to_value(removal).map(Some),
        UnitState::Active | UnitState::Suspended | UnitState::Detached => Ok(None),
    }
}
