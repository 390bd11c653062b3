//! The hub's tasks over the store, as `hub/src/task` does them: each gathers, decides in `core`, and commits; anything may
//! happen between two of these steps, and a crash forgets all that is not committed.

use flotilla_core::{
    app::{admission, decide},
    claim::{Claims, Keyset, settled, withheld},
    fleet::placement::Chosen,
    id::{AppName, ClusterId},
    removal::DeletionPolicy,
    rollout::{
        plan::{Admission, Admitted, Input as PlanInput},
        removal::{nothing, plan_removal},
        waiting::Waiting,
    },
    unit::{Settings, Substitution, UnitState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

use crate::{
    clearing::Clearing,
    git::{Contents, Repository},
    oracle::Oracle,
    store::{AppPlan, Commit, Input, Resource, Store, Unchanged},
    trace::Trace,
};

/// So often a plan is made anew because something has changed meanwhile.
const STRICT: usize = 3;

/// A task that has begun.
pub(crate) enum Task {
    Poll(Poll),
    Plan(Box<Planning>),
    Clear(Clearing),
}

pub(crate) struct Poll {
    source: Uuid,
    /// Version of the state as it was read.
    version: u64,
    /// What the remote has.
    seen: Option<i64>,
}

pub(crate) struct Planning {
    app: Uuid,
    tries: usize,
    step: PlanStep,
}

enum PlanStep {
    Take,
    Render(AppPlan, Resource),
    Decide(AppPlan, Resource, Admission),
    Commit(Box<Decided>),
}

struct Decided {
    recorded: AppPlan,
    app: Resource,
    planned: flotilla_core::rollout::plan::Planned,
    claims: Claims,
    waiting: Vec<Waiting>,
    confirms: bool,
    unchanged: Unchanged,
}

/// What a task is given.
pub(crate) struct Hub<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) repositories: &'a BTreeMap<Uuid, Repository>,
    pub(crate) contents: &'a mut Contents,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) trace: &'a Trace,
}

/// The name of an app, by which its units are the same whenever it is made again.
pub(crate) fn named(name: &str) -> AppName<'_> {
    AppName {
        scope: Uuid::nil(),
        group: "kustomize.toolkit.fluxcd.io",
        kind: "Kustomization",
        namespace: "apps",
        name,
    }
}

pub(crate) fn settings(prune: bool) -> Settings {
    Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(300),
        wait: false,
        prune,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::Off,
        default_namespace: String::new(),
        ..Settings::default()
    }
}

fn chosen(clusters: &BTreeSet<Uuid>) -> Vec<Chosen> {
    let one = |id: &Uuid| Chosen {
        id: ClusterId(*id),
        name: id.to_string(),
        variables: BTreeMap::new(),
        overrides: Ok(BTreeMap::new()),
    };
    clusters.iter().map(one).collect()
}

impl Task {
    pub(crate) fn poll(source: Uuid) -> Self {
        Self::Poll(Poll {
            source,
            version: 0,
            seen: None,
        })
    }

    pub(crate) fn plan(app: Uuid) -> Self {
        Self::Plan(Box::new(Planning {
            app,
            tries: 0,
            step: PlanStep::Take,
        }))
    }

    pub(crate) fn clear(apps: Vec<Uuid>) -> Self {
        Self::Clear(Clearing::new(apps))
    }

    /// Whether it is about this app or source.
    pub(crate) fn is_of(&self, uid: Uuid) -> bool {
        match self {
            Self::Poll(poll) => poll.source == uid,
            Self::Plan(planning) => planning.app == uid,
            Self::Clear(_) => false,
        }
    }

    /// Goes one step on. `None`: it has ended.
    pub(crate) fn advance(self, hub: &mut Hub<'_>) -> Option<Self> {
        match self {
            Self::Poll(poll) => hub.poll(poll).map(Self::Poll),
            Self::Plan(planning) => hub.plan(*planning).map(|planning| Self::Plan(Box::new(planning))),
            Self::Clear(clearing) => hub.clear(clearing).map(Self::Clear),
        }
    }
}

impl Hub<'_> {
    fn poll(&mut self, poll: Poll) -> Option<Poll> {
        let Some(seen) = poll.seen else {
            let version = self.store.sources.get(&poll.source).map_or(0, |row| row.version);
            let seen = Some(self.repositories[&poll.source].head());
            return Some(Poll {
                version,
                seen,
                ..poll
            });
        };
        if self.store.record_source(poll.source, poll.version, seen) {
            self.trace.say(|| format!("hub: source at r{seen}"));
        }
        None
    }

    fn plan(&mut self, planning: Planning) -> Option<Planning> {
        let Planning { app, tries, step } = planning;
        let next = match step {
            PlanStep::Take => self.take(app)?,
            PlanStep::Render(recorded, resource) => self.render(app, recorded, resource),
            PlanStep::Decide(recorded, resource, admission) => {
                self.decide(app, recorded, resource, admission)
            }
            PlanStep::Commit(decided) => {
                let is_strict = tries < STRICT;
                if self.commit(app, *decided, is_strict) {
                    return None;
                }
                return (tries <= STRICT).then_some(Planning {
                    app,
                    tries: tries + 1,
                    step: PlanStep::Take,
                });
            }
        };
        Some(Planning {
            app,
            tries,
            step: next,
        })
    }

    fn take(&mut self, app: Uuid) -> Option<PlanStep> {
        let recorded = self.store.app_plan(app);
        let Some(resource) = self.store.resources.get(&app).cloned() else {
            self.store.due.remove(&app);
            return None;
        };
        if let Some(policy) = resource.deletion {
            return Some(self.plan_deletion(recorded, resource, policy));
        }
        if recorded.is_any_unconfirmed && self.store.unconfirmed.contains(&resource.source) {
            let mut held = decided(recorded, resource);
            held.waiting = vec![Waiting::Restored];
            return Some(PlanStep::Commit(Box::new(held)));
        }
        Some(PlanStep::Render(recorded, resource))
    }

    fn plan_deletion(&mut self, recorded: AppPlan, resource: Resource, policy: DeletionPolicy) -> PlanStep {
        let planned = plan_removal(&recorded.units, policy, resource.suspended, resource.prune);
        let removed = planned
            .units
            .iter()
            .filter(|unit| matches!(unit.state, UnitState::Removing(_)));
        let clusters: Vec<ClusterId> = removed.map(|unit| unit.cluster).collect();
        self.contents.put(nothing(), BTreeMap::new());
        let mut end = decided(recorded, resource);
        end.claims = Claims::of(vec![(Keyset::of(Vec::new()), clusters)]);
        end.planned = planned;
        end.confirms = end.recorded.is_unconfirmed;
        PlanStep::Commit(Box::new(end))
    }

    /// What the current revision of its source gives.
    fn render(&mut self, app: Uuid, recorded: AppPlan, resource: Resource) -> PlanStep {
        let revision = self.store.sources[&resource.source].revision;
        let tree = self.repositories[&resource.source].tree(revision);
        let Some(tree) = tree else {
            let why = Waiting::NoArtifact;
            let why = Some(why).filter(|_| !resource.suspended);
            return PlanStep::Decide(recorded, resource, Admission::Held(why.into_iter().collect()));
        };
        let input = Input {
            source: resource.source,
            revision,
            folder: resource.folder,
        };
        self.store.inputs.insert(app, input);
        let known = self.store.renderings.get(&(app, input)).copied();
        let content = known.unwrap_or_else(|| {
            let folder = tree.get(&resource.folder).filter(|folder| !folder.broken);
            let content = folder.map(|folder| self.contents.render(folder));
            self.store.rendered_to(app, input, content);
            content
        });
        let admission = match content {
            // What it is rendered to counts for what others may delete, and it follows nothing.
            _ if resource.suspended => Admission::Held(Vec::new()),
            Some(content) => Admission::Admitted(Admitted { revision, content }),
            None => Admission::Held(vec![Waiting::BuildFailed {
                message: "no such file".to_owned(),
            }]),
        };
        PlanStep::Decide(recorded, resource, admission)
    }

    fn decide(&mut self, app: Uuid, recorded: AppPlan, resource: Resource, admitted: Admission) -> PlanStep {
        let staying: BTreeSet<Uuid> = resource
            .placed
            .difference(&self.store.draining)
            .copied()
            .collect();
        let chosen = chosen(&staying);
        let admission = admission(admitted, []);
        let admitted = admission.admitted();
        let mut claims = Claims::default();
        let mut left = BTreeMap::new();
        if let Some(admitted) = admitted.filter(|_| !chosen.is_empty()) {
            let content = &self.contents.get(&admitted.content).content;
            let keys = content.objects().iter().map(|entry| entry.key.clone());
            let set = Keyset::of(keys.collect());
            claims = match settled(&chosen, &recorded.units) == Some(set.digest) {
                true => Claims::settled(&chosen, set.digest),
                false => Claims::of(vec![(set, chosen.iter().map(|one| one.id).collect())]),
            };
            let clusters: Vec<ClusterId> = chosen.iter().map(|one| one.id).collect();
            let others = self.store.other_claims(app, &clusters, &claims.new_keys());
            left = withheld(&claims, &others);
        }
        let input = PlanInput {
            admission,
            settings: settings(resource.prune),
            layers: Vec::new(),
            suspended: resource.suspended,
            requested: String::new(),
            chosen,
            unreadable: BTreeMap::new(),
            draining: self.store.draining.iter().copied().map(ClusterId).collect(),
            retiring: BTreeSet::new(),
            deletion_policy: DeletionPolicy::MirrorPrune,
            units: recorded.units.clone(),
            withheld: left,
            dependencies: Default::default(),
        };
        let decision = decide(&input, true, &[]).expect("a plan that its checker lets pass");
        let removed = decision.planned.units.iter();
        let removed = removed.filter(|unit| matches!(unit.state, UnitState::Removing(_)));
        let removed: Vec<ClusterId> = removed.map(|unit| unit.cluster).collect();
        if !removed.is_empty() {
            self.contents.put(nothing(), BTreeMap::new());
            claims.add(Keyset::of(Vec::new()), removed);
        }
        let mut end = decided(recorded, resource);
        end.planned = decision.planned;
        end.claims = claims;
        end.waiting = decision.waiting;
        end.confirms = end.recorded.is_unconfirmed && admitted.is_some();
        end.unchanged = Unchanged {
            mark: Some(end.recorded.due),
            content: admitted.map(|admitted| admitted.content),
        };
        PlanStep::Commit(Box::new(end))
    }

    /// `false`: something was committed first.
    fn commit(&mut self, app: Uuid, decided: Decided, is_strict: bool) -> bool {
        let mark = decided.unchanged.mark.filter(|_| is_strict);
        let is_hold = decided.waiting == [Waiting::Restored];
        let commit = Commit {
            app,
            name: named(&decided.app.name),
            generation: decided.app.generation,
            planned: decided.planned,
            claims: decided.claims,
            waiting: decided.waiting,
            confirms: decided.confirms,
            unchanged: Some(Unchanged {
                mark: mark.filter(|_| !is_hold),
                ..decided.unchanged
            }),
            recorded: decided.recorded,
        };
        if commit.changes_anything() {
            if self.store.commit(&commit).is_err() {
                return false;
            }
            self.trace.say(|| {
                let units = &commit.planned.units;
                let units = units
                    .iter()
                    .map(|unit| format!("{:?} {}", unit.state, unit.cause.as_str()));
                let units: Vec<String> = units.collect();
                format!(
                    "hub: {} planned: {units:?} {:?}",
                    decided.app.name, commit.waiting
                )
            });
        } else if let Some(seen) = commit.recorded.due {
            self.store.planned(app, seen);
        }
        true
    }
}

/// A plan that says nothing yet.
fn decided(recorded: AppPlan, app: Resource) -> Decided {
    Decided {
        unchanged: Unchanged {
            mark: Some(recorded.due),
            content: None,
        },
        recorded,
        app,
        planned: flotilla_core::rollout::plan::Planned::default(),
        claims: Claims::default(),
        waiting: Vec::new(),
        confirms: false,
    }
}
