//! The planner's rows: units, targets, rollouts. Committed by compare-and-set on the app's plan version, so that
//! of two replicas that plan at once one wins and the other plans again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use flotilla_core::{
    claim::Claims,
    digest::Digest,
    id::{AppName, ClusterId, UnitId},
    object::ObjectKey,
    rollout::{
        plan::{Cause, Current, Next, Planned},
        waiting::Waiting,
    },
    unit::{Dependency, UnitState, VariableLayer, Withheld},
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
    target::Targets,
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
    /// The hub keeps objects for it.
    pub keeps: bool,
    /// Some that it renders wait for a unit of it to be applied.
    pub awaits: bool,
    /// Units as recorded.
    pub units: Vec<Current>,
}

/// What is recorded of an app's plan beside its units, and whose it is to make.
#[derive(Debug)]
struct Head {
    app: Uuid,
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
    /// It has more units than are read with those of others.
    large: bool,
    keeps: bool,
    awaits: bool,
}

/// A plan whose units are not read yet.
#[derive(Debug)]
pub struct Unread(Head);

/// Units of an app that are read with those of others.
const TOGETHER: i32 = 100;

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

    /// The units that may not have claimed yet what they are to claim.
    fn units_anew(&self) -> Vec<&Next> {
        let units = self.planned.units.iter();
        units.filter(|unit| self.claims.is_new_in(unit.cluster)).collect()
    }

    /// Whether there are such.
    fn claims_anew(&self) -> bool {
        self.planned
            .units
            .iter()
            .any(|unit| self.claims.is_new_in(unit.cluster))
    }

    /// The units that it lets go of.
    fn detached(&self) -> Vec<&Next> {
        let is_detached = |state: &UnitState| matches!(state, UnitState::Detached);
        let before = self.recorded.units.iter().filter(|unit| is_detached(&unit.state));
        let before: HashSet<UnitId> = before.map(|unit| unit.id).collect();
        let units = self.planned.units.iter().filter(|unit| is_detached(&unit.state));
        units
            .filter(|unit| unit.id.is_some_and(|id| !before.contains(&id)))
            .collect()
    }

    /// Whether what is shown of the app itself changes.
    fn is_shown(&self) -> bool {
        self.recorded.waiting != self.waiting || self.recorded.generation != self.generation
    }
}

impl Store {
    /// Reads the plan of an app. `Superseded` where this hub does not plan.
    pub async fn app_plan(&self, app_uid: Uuid) -> Result<AppPlan> {
        let heads = self.heads(&[app_uid], None).await?;
        let plans = self.planned_units(heads).await?;
        Ok(plans.into_iter().map(|(_, plan)| plan).next().unwrap_or_default())
    }

    /// Reads the plan of an app and takes it for `replica`, where there is something to plan and nobody is at it.
    pub async fn take_plan(&self, app_uid: Uuid, replica: &str) -> Result<Lease> {
        let taken = self.take_plans(&[app_uid], replica).await?;
        Ok(match taken.into_iter().next() {
            Some(Lease::Large(plan)) => Lease::Held(self.read_plan(plan).await?),
            Some(lease) => lease,
            None => Lease::Settled,
        })
    }

    /// As [`Self::take_plan`], of several apps in as many statements as of one. The units of those that have many are left to
    /// [`Self::read_plan`]: those of all together might be more than fits into memory.
    pub async fn take_plans(&self, apps: &[Uuid], replica: &str) -> Result<Vec<Lease>> {
        let heads = self.heads(apps, Some(replica)).await?;
        let mut left = HashMap::new();
        let mut held = Vec::new();
        for head in heads {
            match (head.held, head.due, head.rendered && !head.awaits) {
                (false, Some(_), _) => drop(left.insert(head.app, Lease::Others)),
                (false, None, true) => drop(left.insert(head.app, Lease::Settled)),
                _ if head.large => drop(left.insert(head.app, Lease::Large(Unread(head)))),
                _ => held.push(head),
            }
        }
        let held = self.planned_units(held).await?;
        left.extend(held.into_iter().map(|(app, plan)| (app, Lease::Held(plan))));
        Ok(apps
            .iter()
            .map(|app| left.remove(app).unwrap_or(Lease::Settled))
            .collect())
    }

    /// Reads the units of a plan that was taken.
    pub async fn read_plan(&self, plan: Unread) -> Result<AppPlan> {
        let plans = self.planned_units(vec![plan.0]).await?;
        Ok(plans.into_iter().map(|(_, plan)| plan).next().unwrap_or_default())
    }

    async fn heads(&self, apps: &[Uuid], replica: Option<&str>) -> Result<Vec<Head>> {
        let heads = sqlx::query_as!(
            Head,
            // Marks in one order for all writers. With a limit what is asked is looked up, and not read whole for all.
            r#"WITH free AS MATERIALIZED (
                 SELECT key FROM due
                 WHERE $3::text IS NOT NULL AND topic = 'app' AND key = ANY ($1) AND NOT superseded($2)
                   AND (held_by IN ('', $3) OR held_until <= now())
                 -- Whoever holds a row has it, or wakes the app once more.
                 ORDER BY key FOR NO KEY UPDATE SKIP LOCKED),
               held AS (
                 UPDATE due SET held_by = $3, held_until = now() + make_interval(secs => $4)
                 WHERE topic = 'app' AND key = ANY (ARRAY(SELECT key FROM free))
                 RETURNING key)
               SELECT a.uid AS "app!", coalesce(p.version, 0) AS "version!",
                      coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>",
                      coalesce(p.observed_generation, 0) AS "generation!", d.change AS "due?",
                      superseded($2) AS "superseded!", a.uid IN (SELECT key FROM held) AS "held!",
                      (SELECT true FROM unconfirmed WHERE uid = a.uid LIMIT 1) IS NOT NULL AS "unconfirmed!",
                      EXISTS (SELECT FROM unconfirmed) AS "any_unconfirmed!",
                      -- What failed, or waits for its time, is looked at though nothing has changed.
                      (SELECT true FROM app_input i JOIN input_at t ON t.input_key = i.input_key AND t.newest
                         JOIN rendering x ON x.digest = t.rendering AND x.state = 'Done'
                       WHERE i.app_uid = a.uid LIMIT 1) IS NOT NULL AS "rendered!",
                      (SELECT count(*) FROM (SELECT FROM unit WHERE app_uid = a.uid LIMIT $5 + 1) AS u) > $5 AS "large!",
                      (SELECT true FROM resource k WHERE k.owner = a.uid LIMIT 1) IS NOT NULL AS "keeps!",
                      (SELECT true FROM nesting n WHERE n.app_uid = a.uid AND n.waits LIMIT 1) IS NOT NULL AS "awaits!"
               FROM unnest($1::uuid[]) AS a(uid) LEFT JOIN app_plan p ON p.app_uid = a.uid
                 LEFT JOIN LATERAL (
                   SELECT change FROM due WHERE topic = 'app' AND key = a.uid OFFSET 0) AS d ON true"#,
            apps,
            self.writer,
            replica,
            HELD.as_secs_f64(),
            TOGETHER
        )
        .fetch_all(self.pool())
        .await?;
        match heads.iter().any(|head| head.superseded) {
            true => Err(StoreError::Superseded),
            false => Ok(heads),
        }
    }

    /// The plans with their units.
    async fn planned_units(&self, heads: Vec<Head>) -> Result<Vec<(Uuid, AppPlan)>> {
        let apps: Vec<Uuid> = heads.iter().map(|head| head.app).collect();
        if apps.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query!(
            r#"SELECT app_uid, id, cluster_id, revision_id, target, withheld AS "withheld: Json<Vec<Withheld>>",
                      depends_on AS "depends_on: Json<Vec<Dependency>>", state, removal, requested, waiting AS "waiting: Json<Vec<Waiting>>"
               FROM unit WHERE app_uid = ANY ($1) ORDER BY cluster_id"#,
            &apps
        )
        .fetch_all(self.pool())
        .await?;
        let target = |id: Uuid, bytes: &[u8]| {
            Digest::try_from_slice(bytes).map_err(|e| StoreError::corrupt(format!("unit {id}"), e))
        };
        let named: Result<BTreeSet<Digest>> = rows.iter().map(|row| target(row.id, &row.target)).collect();
        let targets = Targets::named(self.pool(), named?).await?;
        let mut units: HashMap<Uuid, Vec<Current>> = HashMap::new();
        for row in rows {
            let digest = target(row.id, &row.target)?;
            let target = targets.get(digest)?;
            units.entry(row.app_uid).or_default().push(Current {
                id: UnitId(row.id),
                cluster: ClusterId(row.cluster_id),
                content: target.content,
                revision: row.revision_id,
                target: digest,
                keyset: target.keyset,
                settings: target.settings.clone(),
                variables: target.variables.clone(),
                withheld: row.withheld.0,
                depends_on: row.depends_on.0,
                state: parse_state(&row.state, row.removal),
                requested: row.requested,
                waiting: row.waiting.0,
            });
        }
        let plans = heads.into_iter().map(|head| {
            let plan = AppPlan {
                version: head.version.unsigned_abs(),
                waiting: head.waiting.0,
                generation: head.generation,
                due: head.due,
                is_unconfirmed: head.unconfirmed,
                is_any_unconfirmed: head.any_unconfirmed,
                keeps: head.keeps,
                awaits: head.awaits,
                units: units.remove(&head.app).unwrap_or_default(),
            };
            (head.app, plan)
        });
        Ok(plans.collect())
    }

    /// Commits a plan; returns the rollouts that it may have ended. `Conflict` when another plan of this app, or one of a
    /// newer spec, was committed meanwhile, or another app claimed an object first: gather and plan again.
    pub async fn commit_plan(&self, commit: &Commit<'_>, seal: &Seal) -> Result<Vec<Turned>> {
        let committed = self.commit_plans(&[commit], seal).await?;
        committed.each.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(committed.turned)
    }

    /// Commits plans of different apps in one transaction, in as many statements as one. A plan that is outdated is left out,
    /// and has `Conflict`. Any other error is one of all: nothing is committed, and each may be by itself.
    pub async fn commit_plans(&self, commits: &[&Commit<'_>], seal: &Seal) -> Result<Committed> {
        let configs = Prepared::config_values(commits.iter().flat_map(|commit| commit.configs), seal)?;
        let mut tx = self.pool().begin().await?;
        // First of all: who waits for it must hold nothing that others wake these apps by.
        let claiming = commits
            .iter()
            .filter(|commit| commit.claims_anew() || !commit.detached().is_empty());
        let (apps, keys): (Vec<Uuid>, Vec<Vec<&ObjectKey>>) = claiming
            .map(|commit| (commit.app_uid, commit.claims.new_keys()))
            .unzip();
        let keys: Vec<&ObjectKey> = keys.concat();
        if !apps.is_empty() {
            claim::lock(&mut tx, &apps, &keys).await?;
        }
        let apps: Vec<Uuid> = commits.iter().map(|commit| commit.app_uid).collect();
        let clusters: BTreeSet<Uuid> = let_go(commits).into_iter().map(|(_, cluster)| cluster).collect();
        hold_marks(&mut tx, &apps, &clusters.into_iter().collect::<Vec<_>>()).await?;
        let bumped = bump(&mut tx, commits, self.writer).await?;
        let turned = if bumped.is_empty() {
            tx.rollback().await?;
            Vec::new()
        } else {
            put_config_values(&mut tx, &configs).await?;
            let made = commits.iter().copied();
            let made: Vec<&Commit<'_>> = made.filter(|commit| bumped.contains(&commit.app_uid)).collect();
            let turned = write(&mut tx, &made).await?;
            tx.commit().await?;
            turned
        };
        let mut each = Vec::with_capacity(commits.len());
        for commit in commits {
            each.push(match bumped.contains(&commit.app_uid) {
                true => Ok(()),
                // Whose it is is asked on another connection: of these there are few.
                false => Err(self.not_ours(OUTDATED).await),
            });
        }
        Ok(Committed { each, turned })
    }
}

/// What became of plans that were committed together.
pub struct Committed {
    /// Of each, in their order.
    pub each: Vec<Result<()>>,
    /// The rollouts that they may have ended.
    pub turned: Vec<Turned>,
}

/// A unit to write.
struct Row<'a> {
    id: Uuid,
    unit: &'a Next,
    commit: &'a Commit<'a>,
    /// Which gives it another target.
    rollout: Option<i64>,
}

/// Writes what plans change beside their versions, and wakes whoever is concerned.
async fn write(tx: &mut Connection, commits: &[&Commit<'_>]) -> Result<Vec<Turned>> {
    let (opened, turned) = rollout::record(tx, commits).await?;
    let rows = commits.iter().flat_map(|&commit| {
        let rollout = opened.get(&commit.app_uid).copied();
        commit.planned.units.iter().map(move |unit| Row {
            id: unit.id.unwrap_or_else(|| UnitId::of(unit.cluster, commit.app)).0,
            unit,
            commit,
            rollout,
        })
    });
    let mut rows: Vec<Row<'_>> = rows.collect();
    // In one order for all writers.
    rows.sort_unstable_by_key(|row| (row.unit.cluster, row.id));
    let claiming: Vec<&Commit<'_>> = commits
        .iter()
        .copied()
        .filter(|commit| commit.claims_anew())
        .collect();
    if !claiming.is_empty() {
        let sets = claiming.iter().flat_map(|commit| &commit.claims.new);
        let sets: BTreeMap<Digest, &[ObjectKey]> = sets.map(|(digest, keys)| (*digest, &keys[..])).collect();
        claim::put_keysets(tx, &sets).await?;
    }
    for batch in rows.chunks(UNITS) {
        write_units(tx, batch).await?;
    }
    let anew = claiming
        .iter()
        .map(|commit| (commit.app_uid, commit.claims, commit.units_anew()));
    let anew: Vec<(Uuid, &Claims, Vec<&Next>)> = anew.collect();
    if !anew.is_empty() {
        claim::check(tx, &anew).await?;
        let claimed: Vec<claim::Asked<'_>> = anew
            .iter()
            .map(|(app, claims, units)| claim::Asked {
                app: *app,
                clusters: units.iter().map(|unit| unit.cluster).collect(),
                keys: claims.new_keys(),
            })
            .collect();
        leaving::withdraw(tx, &claimed).await?;
    }
    withdraw_detached(tx, commits).await?;
    let published = rows.iter().filter(|row| is_published(row.unit));
    let mut published: BTreeSet<Uuid> = published.map(|row| row.unit.cluster.0).collect();
    for commit in commits {
        if commit.confirms {
            published.extend(confirmed::app(tx, commit.app_uid).await?);
        }
    }
    let shown = commits
        .iter()
        .filter(|commit| commit.is_shown() || !commit.planned.units.is_empty());
    let shown: Vec<Uuid> = shown.map(|commit| commit.app_uid).collect();
    let claims = let_go(commits);
    let published: Vec<Uuid> = published.into_iter().collect();
    let planned: Vec<Uuid> = commits.iter().map(|commit| commit.app_uid).collect();
    let wakes = Wakes {
        claims: &claims,
        planned: &planned,
        told: &[(Topic::Cluster, &published), (Topic::Shown, &shown)],
        ..Wakes::default()
    };
    wake(tx, &wakes).await?;
    Ok(turned)
}

/// What a unit that is let go of was excepted for may go: it writes nothing any more.
async fn withdraw_detached(tx: &mut Connection, commits: &[&Commit<'_>]) -> Result<()> {
    let detaching = commits.iter().map(|commit| claim::Asked {
        app: commit.app_uid,
        clusters: commit.detached().into_iter().map(|unit| unit.cluster).collect(),
        keys: Vec::new(),
    });
    let detaching: Vec<claim::Asked<'_>> = detaching.filter(|one| !one.clusters.is_empty()).collect();
    match detaching.is_empty() {
        true => Ok(()),
        false => leaving::withdraw(tx, &detaching).await,
    }
}

/// The clusters in which plans may let go of what others leave to them, each with the app. Whoever has claimed nothing before lets
/// go of nothing.
fn let_go(commits: &[&Commit<'_>]) -> Vec<(Uuid, Uuid)> {
    let commits = commits.iter().filter(|commit| !commit.recorded.units.is_empty());
    let clusters = commits.flat_map(|commit| {
        let units = commit.units_anew().into_iter().chain(commit.detached());
        units.map(move |unit| (commit.app_uid, unit.cluster.0))
    });
    clusters.collect()
}

/// Takes the marks of these apps, and of those that they wake by what they let go of in these clusters, in the order in which all take marks. One
/// after the other, the first to take them away and the last to wake others, they were taken in no order, and whoever marks many
/// apps at once held one of them and waited for another. After the plans, which others hold when they mark an app.
pub(super) async fn hold_marks(tx: &mut Connection, apps: &[Uuid], clusters: &[Uuid]) -> Result<()> {
    if clusters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "WITH planned AS MATERIALIZED (
           SELECT app_uid FROM app_plan WHERE app_uid = ANY ($1) ORDER BY app_uid FOR NO KEY UPDATE),
         marks AS (
           SELECT u.app_uid AS key FROM unnest($2::uuid[]) AS c(cluster)
           CROSS JOIN LATERAL (
             SELECT app_uid FROM unit WHERE cluster_id = c.cluster AND withheld <> '[]' OFFSET 0) AS u
           WHERE u.app_uid <> ALL ($1)
           UNION
           -- With a limit it is looked up, and not read whole for all.
           SELECT app FROM unnest($1::uuid[]) AS app
           WHERE (SELECT true FROM due WHERE topic = 'app' AND key = app LIMIT 1) IS NOT NULL)
         INSERT INTO due AS d (topic, key)
         SELECT 'app', key FROM marks WHERE (SELECT count(*) FROM planned) >= 0 ORDER BY key
         -- What it says stays: they are woken once all is written.
         ON CONFLICT (topic, key) DO UPDATE SET at = d.at",
        apps,
        clusters
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Units in one statement.
const UNITS: usize = 2000;

/// Whether the unit's entry may become another by this: its reasons to wait are no part of that.
fn is_published(unit: &Next) -> bool {
    unit.id.is_none() || unit.cause != Cause::Waiting
}

/// Raises the plan versions by compare-and-set, and takes away that the apps are to be planned. Returns those of which it is
/// done: not where the plan is not the one that was read, is about a newer spec, what this one was made from has changed, or
/// it is not this hub's to make.
async fn bump(tx: &mut Connection, commits: &[&Commit<'_>], writer: i64) -> Result<HashSet<Uuid>> {
    let mark = |commit: &Commit<'_>| commit.unchanged.and_then(|unchanged| unchanged.mark);
    let content = |commit: &Commit<'_>| commit.unchanged.and_then(|unchanged| unchanged.content);
    let of = |commit: &&Commit<'_>| content(commit).map(|digest| digest.as_bytes().to_vec());
    let apps: Vec<Uuid> = commits.iter().map(|commit| commit.app_uid).collect();
    let versions: Vec<i64> = commits
        .iter()
        .map(|commit| signed(commit.recorded.version))
        .collect();
    let waiting: serde_json::Result<Vec<Value>> = commits
        .iter()
        .map(|commit| serde_json::to_value(commit.waiting))
        .collect();
    let waiting = waiting.map_err(|e| StoreError::corrupt("a plan", e))?;
    let generations: Vec<i64> = commits.iter().map(|commit| commit.generation).collect();
    let due: Vec<Option<i64>> = commits.iter().map(|commit| commit.recorded.due).collect();
    let handled: Vec<&str> = commits.iter().map(|commit| commit.handled).collect();
    let unchanged: Vec<bool> = commits.iter().map(|commit| commit.unchanged.is_some()).collect();
    let marked: Vec<bool> = commits.iter().map(|commit| mark(commit).is_some()).collect();
    let marks: Vec<Option<i64>> = commits.iter().map(|commit| mark(commit).flatten()).collect();
    let contents: Vec<Option<Vec<u8>>> = commits.iter().map(of).collect();
    let bumped = sqlx::query_scalar!(
        // In one order for all writers. With a limit what is compared is looked up, and not read whole for all.
        r#"WITH v AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::bigint[], $6::bigint[], $7::text[],
                                  $8::boolean[], $9::boolean[], $10::bigint[], $11::bytea[])
               AS v(app, version, waiting, generation, due, handled, unchanged, marked, mark, content)),
           bumped AS (
             INSERT INTO app_plan AS p (app_uid, version, waiting, observed_generation)
             SELECT v.app, v.version + 1, v.waiting, v.generation FROM v WHERE NOT superseded($5)
               AND (NOT v.unchanged OR (
                 SELECT true FROM resource WHERE uid = v.app AND generation = v.generation LIMIT 1) IS NOT NULL)
               AND (NOT v.marked
                 OR (SELECT change FROM due WHERE topic = 'app' AND key = v.app LIMIT 1) IS NOT DISTINCT FROM v.mark)
               AND (v.content IS NULL OR (
                 SELECT true FROM app_input i JOIN input_at t ON t.input_key = i.input_key AND t.newest
                   JOIN rendering x ON x.digest = t.rendering AND x.content = v.content
                 WHERE i.app_uid = v.app LIMIT 1) IS NOT NULL)
             ORDER BY v.app
             ON CONFLICT (app_uid) DO UPDATE SET version = excluded.version, waiting = excluded.waiting,
               observed_generation = excluded.observed_generation,
               held_at = CASE WHEN (p.waiting = '[]') = (excluded.waiting = '[]') THEN p.held_at ELSE now() END
             WHERE p.version = excluded.version - 1 AND p.observed_generation <= excluded.observed_generation
             RETURNING app_uid),
           done AS MATERIALIZED (SELECT v.* FROM bumped JOIN v ON v.app = bumped.app_uid),
           seen AS (
             DELETE FROM due d USING done
             WHERE d.topic = 'app' AND d.key = ANY (ARRAY(SELECT app FROM done)) AND d.key = done.app AND d.change = done.due),
           -- With the mark: nobody would look again to say so.
           handled AS (
             UPDATE resource r SET handled_at = done.handled FROM done
             WHERE r.uid = done.app AND r.handled_at <> done.handled)
           SELECT app AS "app!" FROM done"#,
        &apps,
        &versions,
        &waiting,
        &generations,
        writer,
        &due as &[Option<i64>],
        &handled as &[&str],
        &unchanged,
        &marked,
        &marks as &[Option<i64>],
        &contents as &[Option<Vec<u8>>]
    )
    .fetch_all(tx)
    .await?;
    Ok(bumped.into_iter().collect())
}

async fn write_units(tx: &mut Connection, rows: &[Row<'_>]) -> Result<()> {
    let json = |of: &dyn Fn(&Next) -> serde_json::Result<Value>| {
        let column: serde_json::Result<Vec<Value>> = rows.iter().map(|row| of(row.unit)).collect();
        column.map_err(|e| StoreError::corrupt("unit", e))
    };
    let withheld = json(&|unit| serde_json::to_value(&unit.withheld))?;
    let waiting = json(&|unit| serde_json::to_value(&unit.waiting))?;
    let depends_on = json(&|unit| serde_json::to_value(&unit.depends_on))?;
    let removals: serde_json::Result<Vec<Option<Value>>> =
        rows.iter().map(|row| removal(&row.unit.state)).collect();
    let removals = removals.map_err(|e| StoreError::corrupt("unit", e))?;
    let column = |f: fn(&Next) -> &str| rows.iter().map(|row| f(row.unit)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let apps: Vec<Uuid> = rows.iter().map(|row| row.commit.app_uid).collect();
    let clusters: Vec<Uuid> = rows.iter().map(|row| row.unit.cluster.0).collect();
    let targets: Vec<&[u8]> = rows.iter().map(|row| &row.unit.target.as_bytes()[..]).collect();
    let revisions: Vec<Option<i64>> = rows.iter().map(|row| row.unit.revision).collect();
    let retargeted: Vec<bool> = rows.iter().map(|row| row.unit.retargeted).collect();
    let rollouts = rows.iter().map(|row| row.rollout.filter(|_| row.unit.retargeted));
    let rollouts: Vec<Option<i64>> = rollouts.collect();
    let published: Vec<bool> = rows.iter().map(|row| is_published(row.unit)).collect();
    let shared = Columns::of(rows)?;
    let of_apps = OfApps::of(
        rows.iter()
            .map(|row| (row.unit.target, row.commit.app_uid, row.unit.cluster.0)),
    );
    sqlx::query!(
        // A target that is used again is touched, in one order for all writers: what removes the unused leaves it.
        "WITH named AS (
           INSERT INTO target AS t (digest, content, settings, variables, configs, keyset)
           SELECT d, c, s, v, ARRAY(SELECT decode(one, 'hex') FROM unnest(string_to_array(f, ',')) AS one), k
           FROM unnest($14::bytea[], $15::bytea[], $16::jsonb[], $17::jsonb[], $18::text[], $19::bytea[])
             AS v(d, c, s, v, f, k)
           ORDER BY d
           ON CONFLICT (digest) DO UPDATE SET referenced_at = now(), keyset = coalesce(excluded.keyset, t.keyset)
           RETURNING digest
         ), of_apps AS (
         -- Once the targets are held, so that none of them is removed meanwhile.
         INSERT INTO target_app AS a (target, app_uid, cluster_id)
         SELECT v.target, v.app, v.cluster FROM unnest($21::bytea[], $22::uuid[], $24::uuid[]) AS v(target, app, cluster)
         WHERE (SELECT count(*) FROM named) > 0 ORDER BY 1, 2
         ON CONFLICT (target, app_uid) DO UPDATE SET cluster_id = NULL
         WHERE a.cluster_id <> excluded.cluster_id OR a.cluster_id IS NOT NULL AND excluded.cluster_id IS NULL
         ), written AS (
         INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause, withheld, waiting,
                           requested, removal, depends_on)
         SELECT v.id, v.app, v.cluster, v.target, v.revision, v.rollout, v.state, v.cause, v.withheld, v.waiting, v.requested,
                v.removal, v.depends_on
         FROM unnest($3::uuid[], $1::uuid[], $4::uuid[], $5::bytea[], $6::bigint[], $2::bigint[], $7::text[], $8::text[],
                     $9::jsonb[], $10::jsonb[], $11::text[], $20::jsonb[], $23::jsonb[])
           AS v(id, app, cluster, target, revision, rollout, state, cause, withheld, waiting, requested, removal, depends_on)
         ON CONFLICT (id) DO UPDATE SET
           version = unit.version + (excluded.rollout_id IS NOT NULL)::int, target = excluded.target,
           revision_id = excluded.revision_id, rollout_id = coalesce(excluded.rollout_id, unit.rollout_id),
           state = excluded.state, cause = excluded.cause, withheld = excluded.withheld, waiting = excluded.waiting,
           requested = excluded.requested,
           moved_at = CASE WHEN excluded.rollout_id IS NULL THEN unit.moved_at ELSE now() END,
           held_at = CASE WHEN (unit.waiting = '[]') = (excluded.waiting = '[]') THEN unit.held_at ELSE now() END,
           released = unit.released AND excluded.state = 'Detached', removal = excluded.removal,
           depends_on = excluded.depends_on
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
        &apps,
        &rollouts as &[Option<i64>],
        &ids,
        &clusters,
        &targets as &[&[u8]],
        &revisions as &[Option<i64>],
        &column(|unit| state_name(&unit.state)) as &[&str],
        &column(|unit| unit.cause.as_str()) as &[&str],
        &withheld,
        &waiting,
        &column(|unit| &unit.requested) as &[&str],
        &retargeted,
        &published,
        &shared.digests,
        &shared.contents as &[Option<Vec<u8>>],
        &shared.settings,
        &shared.variables,
        &shared.configs,
        &shared.keysets as &[Option<Vec<u8>>],
        &removals as &[Option<Value>],
        &of_apps.targets,
        &of_apps.apps,
        &depends_on,
        &of_apps.clusters as &[Option<Uuid>]
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

/// Which apps have which targets, each once and in order, as columns: in which cluster, unless in several.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfApps {
    targets: Vec<Vec<u8>>,
    apps: Vec<Uuid>,
    clusters: Vec<Option<Uuid>>,
}

impl OfApps {
    fn of(units: impl IntoIterator<Item = (Digest, Uuid, Uuid)>) -> Self {
        let mut distinct: BTreeMap<(Digest, Uuid), Option<Uuid>> = BTreeMap::new();
        for (target, app, cluster) in units {
            let only = distinct.entry((target, app)).or_insert(Some(cluster));
            *only = only.filter(|one| *one == cluster);
        }
        let mut columns = Self::default();
        for ((target, app), cluster) in distinct {
            columns.targets.push(target.as_bytes().to_vec());
            columns.apps.push(app);
            columns.clusters.push(cluster);
        }
        columns
    }
}

/// The targets of units, each once, as columns.
#[derive(Default)]
struct Columns {
    digests: Vec<Vec<u8>>,
    contents: Vec<Option<Vec<u8>>>,
    settings: Vec<Value>,
    variables: Vec<Value>,
    /// Hexadecimal, with commas between: an array of arrays has one length.
    configs: Vec<String>,
    keysets: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn of(rows: &[Row<'_>]) -> Result<Self> {
        let mut distinct: BTreeMap<Digest, &Row<'_>> = BTreeMap::new();
        for row in rows {
            // Of a target that stays its claims are known.
            let known = distinct.entry(row.unit.target).or_insert(row);
            if row.unit.retargeted {
                *known = row;
            }
        }
        let mut columns = Self::default();
        for (digest, row) in distinct {
            let unit = row.unit;
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
            let claims = &row.commit.claims.of;
            let keyset = claims.get(&unit.cluster).filter(|_| unit.retargeted);
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
