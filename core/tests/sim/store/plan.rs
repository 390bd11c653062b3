//! Plans of apps: read, and committed by compare-and-set (`hub/src/store/plan.rs`, `claim.rs`).

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    claim::{Claims, Other, withheld},
    digest::Digest,
    id::{AppName, ClusterId, UnitId},
    object::ObjectKey,
    rollout::{
        plan::{Cause, Current, Next, Planned},
        waiting::Waiting,
    },
    unit::UnitState,
};
use uuid::Uuid;

use super::{AppPlan, Conflict, Plan, Store, Target, Unit};

/// A plan to commit.
#[derive(Debug, Clone)]
pub(crate) struct Commit<'a> {
    pub(crate) app: Uuid,
    pub(crate) name: AppName<'a>,
    pub(crate) recorded: AppPlan,
    pub(crate) generation: i64,
    pub(crate) planned: Planned,
    pub(crate) claims: Claims,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) confirms: bool,
    pub(crate) unchanged: Option<Unchanged>,
}

/// What must still be so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unchanged {
    pub(crate) mark: Option<Option<i64>>,
    pub(crate) content: Option<Digest>,
}

impl Commit<'_> {
    pub(crate) fn changes_anything(&self) -> bool {
        let is_shown = self.recorded.waiting != self.waiting || self.recorded.generation != self.generation;
        is_shown || self.confirms || !self.planned.units.is_empty()
    }
}

impl Commit<'_> {
    /// The units that it lets go of.
    fn lets_go(&self) -> impl Iterator<Item = &Next> {
        let was = |unit: &Next| {
            let of = self.recorded.units.iter().find(|one| one.cluster == unit.cluster);
            of.is_some_and(|one| one.state == UnitState::Detached)
        };
        let units = self.planned.units.iter();
        units.filter(move |unit| unit.state == UnitState::Detached && !was(unit))
    }
}

/// Whether a unit's entry may become another.
fn is_published(unit: &Next) -> bool {
    unit.id.is_none() || unit.cause != Cause::Waiting
}

impl Store {
    pub(crate) fn app_plan(&self, app: Uuid) -> AppPlan {
        let plan = self.plans.get(&app).cloned().unwrap_or_default();
        let mut units: Vec<Current> = self
            .units_of(app)
            .map(|(id, unit)| {
                let target = &self.targets[&unit.target];
                Current {
                    id: UnitId(id),
                    cluster: ClusterId(unit.cluster),
                    content: target.content,
                    revision: unit.revision,
                    target: unit.target,
                    keyset: target.keyset,
                    settings: target.settings.clone(),
                    variables: target.variables.clone(),
                    withheld: unit.withheld.clone(),
                    depends_on: Vec::new(),
                    state: unit.state.clone(),
                    requested: unit.requested.clone(),
                    waiting: unit.waiting.clone(),
                }
            })
            .collect();
        units.sort_by_key(|unit| unit.cluster);
        AppPlan {
            version: plan.version,
            waiting: plan.waiting,
            generation: plan.generation,
            due: self.due.get(&app).copied(),
            is_unconfirmed: self.unconfirmed.contains(&app),
            is_any_unconfirmed: !self.unconfirmed.is_empty(),
            units,
        }
    }

    /// What other apps' units have of these keys.
    pub(crate) fn other_claims(&self, app: Uuid, clusters: &[ClusterId], keys: &[&ObjectKey]) -> Vec<Other> {
        let mut others: BTreeMap<(Uuid, Uuid), Other> = BTreeMap::new();
        for (id, unit) in &self.units {
            if unit.app == app || !clusters.contains(&ClusterId(unit.cluster)) || unit.released {
                continue;
            }
            // What was let go of claims what its agent has of it.
            let has = |key: &&ObjectKey| {
                let object = self.objects.get(&(*id, (*key).clone()));
                unit.state != UnitState::Detached || object.is_some_and(|object| !object.uid.is_empty())
            };
            let keyset = self.targets[&unit.target].keyset;
            let Some(set) = keyset.and_then(|keyset| self.keysets.get(&keyset)) else {
                continue;
            };
            let keys: Arc<[ObjectKey]> = set
                .iter()
                .filter(|key| keys.contains(key) && has(key))
                .cloned()
                .collect();
            if !keys.is_empty() {
                let other = Other {
                    cluster: ClusterId(unit.cluster),
                    owner: format!("Kustomization/apps/{}", self.resources[&unit.app].name),
                    keys,
                    withheld: unit.withheld.clone(),
                };
                others.insert((unit.cluster, *id), other);
            }
        }
        others.into_values().collect()
    }

    pub(crate) fn commit(&mut self, commit: &Commit<'_>) -> Result<(), Conflict> {
        if !self.is_current(commit) {
            return Err(Conflict("the app's plan"));
        }
        let mut units: Vec<(Uuid, &Next)> = commit
            .planned
            .units
            .iter()
            .map(|unit| {
                let id = unit.id.unwrap_or_else(|| UnitId::of(unit.cluster, commit.name));
                (id.0, unit)
            })
            .collect();
        units.sort_by_key(|(_, unit)| unit.cluster);
        let new: Vec<&Next> = units
            .iter()
            .map(|(_, unit)| *unit)
            .filter(|unit| commit.claims.is_new_in(unit.cluster))
            .collect();
        if !new.is_empty() && !self.agrees(commit, &new) {
            return Err(Conflict("an object's claim"));
        }
        self.bump(commit);
        if !new.is_empty() {
            for (digest, keys) in &commit.claims.new {
                self.keysets.insert(*digest, keys.iter().cloned().collect());
            }
        }
        self.put_targets(commit, &units);
        for (id, unit) in &units {
            self.put_unit(commit.app, *id, unit);
        }
        let mut clusters: Vec<Uuid> = new.iter().map(|unit| unit.cluster.0).collect();
        if !new.is_empty() {
            self.withdraw(commit.app, &clusters, &commit.claims.new_keys());
        }
        let detached: Vec<Uuid> = commit.lets_go().map(|unit| unit.cluster.0).collect();
        self.withdraw(commit.app, &detached, &[]);
        clusters.extend(detached);
        if commit.confirms && self.unconfirmed.remove(&commit.app) {
            let all: Vec<(Uuid, Uuid)> = self
                .units_of(commit.app)
                .map(|(id, unit)| (unit.cluster, id))
                .collect();
            self.unpublished.extend(all);
        }
        if !commit.recorded.units.is_empty() {
            self.wake_claims(commit.app, &clusters);
        }
        Ok(())
    }

    /// Whether what the plan was made from is as it was.
    fn is_current(&self, commit: &Commit<'_>) -> bool {
        if let Some(unchanged) = &commit.unchanged {
            let resource = self.resources.get(&commit.app);
            if resource.is_none_or(|resource| resource.generation != commit.generation) {
                return false;
            }
            let mark = self.due.get(&commit.app).copied();
            if unchanged.mark.is_some_and(|read| read != mark) {
                return false;
            }
            let rendered = self.rendered(commit.app).and_then(|(_, content)| content);
            if unchanged.content.is_some() && unchanged.content != rendered {
                return false;
            }
        }
        let plan = self.plans.get(&commit.app);
        plan.is_none_or(|plan| {
            plan.version == commit.recorded.version && plan.generation <= commit.generation
        })
    }

    fn bump(&mut self, commit: &Commit<'_>) {
        let plan = self.plans.entry(commit.app).or_insert(Plan {
            version: 0,
            ..Plan::default()
        });
        plan.version += 1;
        plan.waiting.clone_from(&commit.waiting);
        plan.generation = commit.generation;
        if let Some(seen) = commit.recorded.due {
            self.planned(commit.app, seen);
        }
    }

    /// Takes away that an app is to be planned, unless it has changed since.
    pub(crate) fn planned(&mut self, app: Uuid, seen: i64) {
        if self.due.get(&app) == Some(&seen) {
            self.due.remove(&app);
        }
    }

    /// Whether what units leave to others is what others have.
    fn agrees(&self, commit: &Commit<'_>, units: &[&Next]) -> bool {
        let clusters: Vec<ClusterId> = units.iter().map(|unit| unit.cluster).collect();
        let others = self.other_claims(commit.app, &clusters, &commit.claims.new_keys());
        let theirs = withheld(&commit.claims, &others);
        let none = Vec::new();
        units.iter().all(|unit| {
            let theirs = theirs.get(&unit.cluster).unwrap_or(&none);
            commit.claims.agree(unit.cluster, &unit.withheld, theirs)
        })
    }

    fn put_targets(&mut self, commit: &Commit<'_>, units: &[(Uuid, &Next)]) {
        let distinct: BTreeMap<Digest, &Next> = units.iter().map(|(_, unit)| (unit.target, *unit)).collect();
        for (digest, unit) in distinct {
            // Of a target that stays its claims are known.
            let keyset = commit.claims.of.get(&unit.cluster).filter(|_| unit.retargeted);
            let target = self.targets.entry(digest).or_insert_with(|| Target {
                content: unit.content,
                settings: unit.settings.clone(),
                variables: unit.variables.clone(),
                keyset: None,
            });
            target.keyset = keyset.copied().or(target.keyset);
        }
    }

    fn put_unit(&mut self, app: Uuid, id: Uuid, next: &Next) {
        let known = self.units.get(&id);
        let version = known.map_or(1, |unit| unit.version + u64::from(next.retargeted));
        let released = known.is_some_and(|unit| unit.released) && matches!(next.state, UnitState::Detached);
        let unit = Unit {
            app: known.map_or(app, |unit| unit.app),
            cluster: next.cluster.0,
            version,
            target: next.target,
            revision: next.revision,
            state: next.state.clone(),
            cause: next.cause.as_str(),
            withheld: next.withheld.clone(),
            waiting: next.waiting.clone(),
            requested: next.requested.clone(),
            released,
        };
        if is_published(next) {
            self.unpublished.insert((unit.cluster, id));
        }
        self.units.insert(id, unit);
    }
}
