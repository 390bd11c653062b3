//! A unit in a simulated cluster: gives the machine its events, does its actions, and holds it to what must be true
//! after every step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::world::{Content, Key, World, desired};
use crate::{
    apply::inventory::State as RecordState,
    apply::policy::{Policy, Write},
    clock::Timestamp,
    digest::Digest,
    id::{ResourceUid, UnitId},
    random::Random,
    removal::Clearing,
    unit::{
        AppRef, Entry, Settings, Substitution, UnitState, Withheld,
        condition::Tally,
        event::{
            Accepted, Action, Applied, EvaluatedFrom, Evaluation, EvaluationFailure, Event, JobFailure,
            Notice, Outcome,
        },
        health::HealthCheck,
        now::{Mono, Now},
        object::{Check, Object, Withholding},
        problem::{Problem, Retry},
        record::{Ready, UnitRecord},
        remove::Claims,
        state::State,
        target_digest,
    },
    units::Wait,
};

/// A job that the machine has begun.
#[derive(Debug)]
pub(super) struct Work {
    action: Action,
    cancelled: bool,
}

/// What the machine has asked for.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// All actions but writes to the ledger.
    pub(super) actions: usize,
    pub(super) evaluations: usize,
    /// Version of the entry, and the objects.
    pub(super) applies: Vec<(u64, Vec<Key>)>,
    pub(super) checks: Vec<(u64, Vec<Key>)>,
    pub(super) removals: Vec<Vec<Key>>,
    pub(super) cancels: usize,
    pub(super) verifies: usize,
    /// Version of the entry, and the objects that are not the unit's.
    pub(super) looks: Vec<(u64, Vec<HealthCheck>)>,
    pub(super) told: Vec<Notice>,
    /// The unit's readiness after each step, when it changed.
    pub(super) ready: Vec<Ready>,
}

impl Log {
    pub(super) fn checked(&self, key: &Key) -> usize {
        self.checks.iter().filter(|(_, keys)| keys.contains(key)).count()
    }

    /// Events about the unit itself.
    pub(super) fn unit_events(&self) -> Vec<&str> {
        let unit = self.told.iter().filter(|notice| notice.key.is_none());
        unit.map(|notice| notice.reason.as_str()).collect()
    }
}

pub(super) struct Sim {
    pub(super) state: State,
    pub(super) world: World,
    pub(super) log: Log,
    /// Milliseconds of the wall since the unit was accepted.
    pub(super) millis: u64,
    /// When the process began: its own clock counts from then.
    began: u64,
    /// Contents by digest.
    pub(super) contents: BTreeMap<Digest, Content>,
    /// Contents that cannot be evaluated.
    pub(super) lacking: BTreeSet<Digest>,
    /// What is lacking is with others, who may have it later without a word.
    pub(super) asks_others: bool,
    /// Content is a part of what is desired only.
    pub(super) incomplete: bool,
    /// What evaluations take over besides, though nothing was evaluated so.
    pub(super) taken_over: Option<Key>,
    /// What was evaluated of entries that were offered: version, content, and whether that was complete.
    pub(super) history: Vec<(u64, Digest, bool)>,
    /// Objects evaluated.
    pub(super) evaluated: std::cell::Cell<usize>,
    pub(super) ledger_down: bool,
    pub(super) panics: bool,
    /// Jobs end by time, and not because all is reached.
    pub(super) slow_jobs: bool,
    pub(super) work: Option<Work>,
    pub(super) edge: bool,
    /// What other units want of what leaves; `None`: it is not known.
    pub(super) others: Option<Claims>,
    pub(super) accepted: Accepted,
    pub(super) unit: UnitRecord,
    pub(super) saves: usize,
    /// Rows of objects that were saved, but for those that jobs wrote.
    pub(super) rows_saved: usize,
    enforced: Option<Arc<Entry>>,
    random: u64,
}

pub(super) fn content(objects: &[(&Key, &str)]) -> Content {
    let plain = |(key, value): &(&Key, &str)| ((*key).clone(), ((*value).to_owned(), Policy::default()));
    objects.iter().map(plain).collect()
}

/// Another unit, which this one needs, is not ready.
pub(super) fn not_ready() -> Event {
    Event::Edge(Some(Wait::passing("dependency 'apps/base' is not ready")))
}

fn content_digest(content: &Content) -> Digest {
    let rows: Vec<_> = content.iter().map(|(key, row)| (key.as_ref(), row)).collect();
    Digest::of_json("content", &rows)
}

fn entry_of(version: u64, content: Digest) -> Entry {
    let settings = Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(120),
        timeout: Duration::from_secs(300),
        wait: true,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::Off,
        default_namespace: String::new(),
        ..Settings::default()
    };
    Entry {
        unit: UnitId(Uuid::from_u128(1)),
        version,
        app: AppRef {
            uid: ResourceUid(Uuid::from_u128(2)),
            kind: "Kustomization".into(),
            namespace: "apps".into(),
            name: "web".into(),
        },
        content: Some(content),
        target: target_digest(Some(content), &settings, &[]),
        revision: format!("main@sha1:{version}"),
        state: UnitState::Active,
        prune_cleared: None,
        prune_approved: None,
        settings,
        variables: Vec::new(),
        depends_on: Vec::new(),
        withheld: Vec::new(),
        requested: String::new(),
    }
}

fn accepted(entry: Entry, at: Timestamp) -> Accepted {
    Accepted {
        bytes: entry.to_bytes().into(),
        digest: Entry::digest_of(&entry.to_bytes()),
        entry: Arc::new(entry),
        at,
    }
}

impl Sim {
    /// A unit whose first entry was accepted and not looked at yet.
    pub(super) fn new(content: &Content) -> Self {
        let digest = content_digest(content);
        let accepted = accepted(entry_of(1, digest), Timestamp(1_000_000));
        let now = at(0, 0, 0);
        Self {
            state: State::new(accepted.clone(), None, None, [], now),
            world: World::default(),
            log: Log::default(),
            millis: 0,
            began: 0,
            contents: BTreeMap::from([(digest, content.clone())]),
            lacking: BTreeSet::new(),
            asks_others: false,
            incomplete: false,
            taken_over: None,
            history: Vec::new(),
            evaluated: std::cell::Cell::new(0),
            ledger_down: false,
            panics: false,
            slow_jobs: false,
            work: None,
            edge: false,
            others: Some(Claims::new()),
            accepted,
            unit: UnitRecord::default(),
            saves: 0,
            rows_saved: 0,
            enforced: None,
            random: 0,
        }
    }

    /// A unit that is ready.
    pub(super) fn ready(content: &Content) -> Self {
        let mut sim = Self::new(content);
        sim.send(Event::Tick);
        sim.run();
        assert_eq!(
            sim.state.condition().ready,
            Ready::True,
            "{:?}",
            sim.state.condition()
        );
        sim.log = Log::default();
        sim
    }

    pub(super) fn now(&self) -> Now {
        at(self.millis, self.began, self.random)
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        let mut numbers = Random(self.random);
        let number = numbers.below(below);
        self.random = numbers.0;
        number
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// Another entry is accepted.
    pub(super) fn accept(&mut self, change: impl FnOnce(&mut Entry)) {
        let mut entry = Entry::clone(&self.accepted.entry);
        change(&mut entry);
        entry.target = target_digest(entry.content, &entry.settings, &entry.variables);
        self.accepted = accepted(entry, self.now().wall);
        self.send(Event::Accepted(self.accepted.clone()));
    }

    /// The next version, with this content.
    pub(super) fn offer(&mut self, content: &Content) {
        let digest = content_digest(content);
        self.contents.insert(digest, content.clone());
        self.accept(|entry| {
            entry.version += 1;
            entry.content = Some(digest);
            entry.revision = format!("main@sha1:{}", entry.version);
        });
    }

    /// The next version, with content that has not come yet.
    pub(super) fn offer_lacking(&mut self, content: &Content) {
        self.lacking.insert(content_digest(content));
        self.offer(content);
    }

    /// What content was lacking has come.
    pub(super) fn content_comes(&mut self) {
        self.lacking.clear();
        self.send(Event::Accepted(self.accepted.clone()));
    }

    pub(super) fn set_state(&mut self, state: UnitState) {
        self.accept(|entry| entry.state = state);
    }

    pub(super) fn withhold(&mut self, keys: &[&Key]) {
        let withheld = keys.iter().map(|key| Withheld {
            key: key.as_ref().clone(),
            owner: "Kustomization/apps/other".into(),
        });
        let withheld = withheld.collect();
        self.accept(|entry| entry.withheld = withheld);
    }

    /// The agent stops in the middle of its job, which may have written to the cluster what is in no record.
    pub(super) fn crash(&mut self) {
        let content = |entry: &Entry| self.contents[&entry.content.expect("content")].clone();
        let (keys, content): (Vec<Key>, Content) = match self.work.as_ref().map(|work| &work.action) {
            Some(Action::Apply { keys, entry, .. }) => {
                (keys.iter().map(|(key, _)| key.clone()).collect(), content(entry))
            }
            Some(Action::Check { objects, entry, .. }) => (
                objects.iter().map(|object| object.key.clone()).collect(),
                content(entry),
            ),
            _ => Default::default(),
        };
        for key in keys {
            let choice = self.random(3);
            if choice > 0
                && self
                    .world
                    .records
                    .get(&key)
                    .is_none_or(|r| r.state != RecordState::PendingRemoval)
            {
                self.world.intend(&key);
                let before = self.world.records[&key].clone();
                self.world.apply(&key, &content);
                if choice > 1 {
                    self.world.records.insert(key, before);
                }
            }
        }
        self.restart();
    }

    /// It becomes known what other units want, or that this is not known.
    pub(super) fn others_want(&mut self, claims: Option<Claims>) {
        self.others.clone_from(&claims);
        self.send(Event::Claims(claims));
        self.run();
    }

    /// What is known of others is told once it is known what leaves.
    fn tell_claims(&mut self) -> bool {
        let is_due =
            self.state.wants_removal() && self.state.claims().is_none() && !self.state.is_evaluating();
        let Some(claims) = self.others.clone().filter(|_| is_due) else {
            return false;
        };
        self.send(Event::Claims(Some(claims)));
        true
    }

    /// What left until now may go.
    pub(super) fn clear(&mut self) {
        self.accept(|entry| {
            let version = entry.version;
            entry.prune_cleared = Some(Clearing {
                version,
                except: Vec::new(),
            });
        });
        self.run();
    }

    /// The agent stops here and begins anew: what is durable is all there is.
    pub(super) fn restart(&mut self) {
        self.restart_with(Event::Tick);
    }

    /// Restarts, and is told something at once.
    pub(super) fn restart_with(&mut self, first: Event) {
        let bytes = serde_json::to_vec(&self.unit).expect("JSON");
        let record = serde_json::from_slice(&bytes).expect("readable");
        self.work = None;
        self.edge = matches!(first, Event::Edge(Some(_)));
        self.began = self.millis;
        // The clock of the process begins anew; the wall goes on.
        let records = self.world.records.clone().into_iter();
        let records = records.map(|(key, record)| (key, Arc::new(record)));
        self.state = State::new(
            self.accepted.clone(),
            Some(record),
            self.enforced.clone(),
            records,
            self.now(),
        );
        self.world.relist();
        self.send(first);
    }

    /// A step, and what must be true after each.
    pub(super) fn send(&mut self, event: Event) {
        self.random(2);
        let ended = matches!(event, Event::Applied { .. } | Event::Checked { .. });
        let text = event.clone();
        let actions = self.state.step(event, self.now());
        self.carry_out(actions);
        while self.state.is_taking_in() {
            let actions = self.state.step(Event::Tick, self.now());
            self.carry_out(actions);
        }
        if self.state.is_unsettled() {
            let actions = self.state.step(Event::Tick, self.now());
            self.carry_out(actions);
        }
        let again = self.state.step(Event::Tick, self.now());
        assert!(again.is_empty(), "after {text:?} at {}: {again:?}", self.millis);
        let wake = self.state.wake_at(self.now().mono);
        assert!(
            wake.is_none_or(|at| at > self.now().mono),
            "wake in the past after {text:?}: {wake:?} at {}, {:#?}",
            self.millis,
            self.state
        );
        if ended && self.work.is_none() {
            let running = self
                .state
                .objects
                .values()
                .any(|object| object.check == Check::Running);
            assert!(!running, "a row is left running after {text:?}");
        }
        self.assert_index();
        let ready = self.state.condition().ready;
        if self.log.ready.last() != Some(&ready) {
            self.log.ready.push(ready);
        }
    }

    /// What a full scan of the rows gives.
    fn assert_index(&self) {
        let state = &self.state;
        let scan = |holds: &dyn Fn(&Object) -> bool| -> BTreeSet<Key> {
            let rows = state.objects.iter().filter(|(_, object)| holds(object));
            rows.map(|(key, _)| key.clone()).collect()
        };
        assert_eq!(state.index.due, scan(&|o| o.check == Check::Due), "due");
        assert_eq!(
            state.index.running,
            scan(&|o| o.check == Check::Running),
            "running"
        );
        assert_eq!(
            state.counts().objects,
            scan(&|o| match state.knows_desired {
                true => o.desired.is_some(),
                false => o
                    .record
                    .as_ref()
                    .is_none_or(|record| record.state != RecordState::PendingRemoval),
            })
            .len(),
            "desired"
        );
        assert_eq!(state.index.unhealthy, scan(&|o| !o.is_current()), "unhealthy");
        let by_health: BTreeSet<_> = state.index.by_health.iter().map(|(_, key)| key.clone()).collect();
        assert_eq!(by_health, state.index.unhealthy, "by health");
        assert_eq!(state.index.by_health.len(), by_health.len(), "by health, once");
        for (health, key) in state.index.by_health.iter() {
            assert_eq!(state.objects[key].health_state(), *health, "{key}");
        }
        let by_rank: BTreeSet<_> = state.index.by_rank.iter().map(|(_, key)| key.clone()).collect();
        assert_eq!(by_rank, state.index.problems, "by rank");
        assert_eq!(state.index.by_rank.len(), by_rank.len(), "by rank, once");
        for (rank, key) in state.index.by_rank.iter() {
            assert_eq!(
                state.objects[key]
                    .problem()
                    .map(super::super::problem::Problem::rank),
                Some(*rank),
                "{key}"
            );
        }
        assert_eq!(state.index.problems, scan(&|o| o.problem().is_some()), "problems");
        self.assert_counts();
        let unseen = |o: &Object| o.desired.is_some() && o.observed.is_none() && o.record.is_some();
        assert_eq!(state.index.unseen, scan(&unseen), "unseen");
        let leaving = |o: &Object| {
            let state = o.record.as_ref().map(|record| record.state);
            state == Some(RecordState::PendingRemoval)
        };
        assert_eq!(state.index.leaving, scan(&leaving), "leaving");
        assert_eq!(state.index.paused, scan(&|o| o.is_paused_in_place()), "paused");
        assert_eq!(state.index.to_write, scan(&|o| o.is_to_write()), "to write");
        let contested = state.corrections.iter().filter(|(_, of)| of.has_contests());
        let contested: BTreeSet<Key> = contested.map(|(key, _)| key.clone()).collect();
        assert_eq!(state.index.contested, contested, "contested");
        assert_eq!(state.index.withheld, scan(&|o| o.is_withheld()), "withheld");
        let awaited: BTreeSet<Key> = state
            .objects
            .iter()
            .filter(|(key, object)| object.is_awaited(key))
            .map(|(key, _)| key.clone())
            .collect();
        assert_eq!(state.index.awaited, awaited, "awaited");
        let later: BTreeSet<(Mono, Key)> = state
            .objects
            .iter()
            .filter_map(|(key, object)| match object.check {
                Check::NotBefore { at, .. } => Some((at, key.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(state.index.later, later, "later");
    }

    /// What is counted as rows change is what a walk over all of them counts.
    fn assert_counts(&self) {
        let state = &self.state;
        let mut tally = Tally::default();
        for object in state.objects.values() {
            let record = object.record.as_ref().map(|record| record.state);
            let count = match (object.problem(), record) {
                (Some(Problem::Failed(_)), _) => &mut tally.failed,
                (Some(Problem::Withheld { .. }), _) => &mut tally.conflict,
                (Some(Problem::Unpruned(_)), _) => &mut tally.pending_removal,
                (Some(_), _) => &mut tally.waiting,
                (None, Some(RecordState::PendingRemoval)) => &mut tally.pending_removal,
                (None, None | Some(RecordState::Intent)) if !object.is_left_alone() => &mut tally.waiting,
                (None, _) => &mut tally.applied,
            };
            *count += 1;
        }
        assert_eq!(state.tally(), tally);
    }

    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            if !matches!(
                action,
                Action::SaveUnit(_) | Action::SaveObjects(_) | Action::Finish { .. } | Action::Enforce(_)
            ) {
                self.log.actions += 1;
            }
            match action {
                Action::Evaluate { .. } => {
                    self.log.evaluations += 1;
                    self.begin(action);
                }
                Action::Apply {
                    ref entry, ref keys, ..
                } => {
                    self.assert_newest(entry);
                    assert!(
                        *entry == self.accepted.entry || self.edge || self.state.evaluation_failure.is_some(),
                        "a pass of an older entry"
                    );
                    let keys = keys.iter().map(|(key, _)| key.clone()).collect();
                    self.log.applies.push((entry.version, keys));
                    self.begin(action);
                }
                Action::Check {
                    ref entry,
                    ref objects,
                    ..
                } => {
                    self.assert_newest(entry);
                    let keys = objects.iter().map(|object| object.key.clone()).collect();
                    self.log.checks.push((entry.version, keys));
                    self.begin(action);
                }
                Action::Remove {
                    ref entry, ref keys, ..
                } => {
                    assert_eq!(*entry, self.accepted.entry, "a removal of an older entry");
                    self.assert_may_remove(keys);
                    self.log.removals.push(keys.clone());
                    self.begin(action);
                }
                Action::Cancel(_) => {
                    self.log.cancels += 1;
                    self.work.as_mut().expect("a job to cancel").cancelled = true;
                }
                Action::Verify => self.log.verifies += 1,
                Action::Look { entry, checks } => self.log.looks.push((entry.version, checks)),
                Action::Enforce(bytes) => {
                    self.enforced = Some(Arc::new(Entry::from_bytes(&bytes).expect("an entry")));
                }
                Action::SaveObjects(rows) => {
                    for (key, record) in rows {
                        self.rows_saved += 1;
                        match record {
                            Some(record) => self.world.records.insert(key, Arc::unwrap_or_clone(record)),
                            None => self.world.records.remove(&key),
                        };
                    }
                }
                Action::Finish { key, uid } => {
                    let record = self.world.records.get_mut(&key);
                    if let Some(record) = record.filter(|record| record.uid.as_ref() == Some(&uid)) {
                        record.finish();
                    }
                }
                Action::SaveUnit(record) => {
                    self.assert_attained(&record);
                    self.unit = *record;
                    self.saves += 1;
                }
                Action::Tell(notice) => self.log.told.push(notice),
            }
        }
    }

    fn begin(&mut self, action: Action) {
        assert!(self.work.is_none(), "two jobs at once: {action:?}");
        assert!(self.accepted.entry.state.is_active(), "not active: {action:?}");
        self.work = Some(Work {
            action,
            cancelled: false,
        });
    }

    /// Work is of the newest entry, unless that cannot be evaluated yet.
    fn assert_newest(&self, entry: &Arc<Entry>) {
        let is_lacking = self
            .accepted
            .entry
            .content
            .is_some_and(|content| self.lacking.contains(&content));
        let excused = is_lacking || self.edge || self.state.evaluation_failure.is_some();
        assert!(
            *entry == self.accepted.entry || excused,
            "work of version {} while {} is held",
            entry.version,
            self.accepted.entry.version
        );
    }

    /// What is said to be attained is.
    fn assert_attained(&self, record: &UnitRecord) {
        let entry = &self.accepted.entry;
        if record.applied != self.unit.applied {
            let applied = record.applied.expect("never taken back");
            assert_eq!((applied.version, applied.target), (entry.version, entry.target));
            let content = &self.contents[&entry.content.expect("content")];
            for (key, (value, policy)) in content {
                let object = &self.state.objects[key];
                let is_sent = object.record.as_ref().and_then(|record| record.sent)
                    == Some(super::world::sent(value, *policy));
                assert!(
                    is_sent || object.is_left_alone() || policy.write == Write::IfNotPresent,
                    "{key} was not applied"
                );
            }
        }
        if record.healthy != self.unit.healthy {
            assert_eq!(record.healthy, record.applied);
            assert!(self.state.objects.values().all(|object| object.is_current()));
        }
        let version =
            |attained: Option<crate::unit::record::Attained>| attained.map(|attained| attained.version);
        assert!(version(record.applied) >= version(self.unit.applied));
        assert!(version(record.healthy) >= version(self.unit.healthy));
        assert!(version(record.healthy) <= version(record.applied));
    }

    /// Evaluates an entry; what has the same bytes as `before` is taken over.
    fn evaluate(&self, entry: &Entry, before: Option<EvaluatedFrom>) -> Option<Evaluation> {
        let digest = entry.content.filter(|digest| !self.lacking.contains(digest))?;
        let withheld = |key: &Key| {
            let withheld = entry.withheld.iter().find(|withheld| withheld.key == **key);
            withheld.map(|withheld| Withholding::conflict(withheld.owner.clone()))
        };
        let basis = Digest::of_json("basis", &entry.withheld);
        let same = before
            .filter(|before| before.basis == basis)
            .and_then(|before| self.contents.get(&before.content));
        let (unchanged, changed): (Vec<_>, Vec<_>) = self.contents[&digest]
            .iter()
            .partition(|(key, body)| same.is_some_and(|same| same.get(*key) == Some(*body)));
        self.evaluated.set(self.evaluated.get() + changed.len());
        let mut unchanged: BTreeSet<Key> = unchanged.into_iter().map(|(key, _)| key.clone()).collect();
        unchanged.extend(same.and(self.taken_over.clone()));
        let objects = changed.into_iter().map(|(key, (value, policy))| {
            let mut row = desired(value, *policy);
            row.withheld = withheld(key);
            (key.clone(), row)
        });
        Some(Evaluation {
            objects: objects.collect(),
            unchanged,
            from: Some(EvaluatedFrom {
                content: digest,
                basis,
            }),
            complete: !self.incomplete,
        })
    }

    /// Ends the job under way; of objects it reaches so many.
    pub(super) fn finish(&mut self, reach: usize) {
        if let Some(event) = self.ended(reach) {
            self.send(event);
        }
    }

    /// What the job under way comes to; of objects it reaches so many.
    pub(super) fn ended(&mut self, reach: usize) -> Option<Event> {
        let work = self.work.take()?;
        let failure = match (self.ledger_down, self.panics) {
            (true, _) => Some(JobFailure::Unavailable("the ledger cannot be written".into())),
            (_, true) => Some(JobFailure::Panicked("panicked".into())),
            _ => None,
        };
        let reach = match (work.cancelled || self.slow_jobs, &failure) {
            (true, _) | (_, Some(_)) => reach,
            _ => usize::MAX,
        };
        let now = self.now().wall;
        let event = match work.action {
            Action::Evaluate {
                job,
                entry,
                enforced,
                before,
            } => {
                if let Some(failure) = failure {
                    return Some(Event::Failed { job, failure });
                }
                let evaluation = self.evaluate(&entry, before);
                if evaluation.is_some() && !work.cancelled && entry == self.accepted.entry {
                    let content = entry.content.expect("content");
                    self.history.push((entry.version, content, !self.incomplete));
                }
                let failure = evaluation.is_none().then(|| EvaluationFailure {
                    reason: "ArtifactFailed",
                    message: "content has not come".into(),
                    lacks_content: true,
                    again: self.asks_others.then_some(Retry::Soon),
                });
                let enforced = enforced.filter(|_| evaluation.is_none());
                let evaluation = evaluation.or_else(|| self.evaluate(enforced.as_deref()?, before));
                Event::Evaluated {
                    job,
                    failure,
                    evaluation,
                }
            }
            Action::Apply { job, entry, keys } => {
                let content = &self.contents[&entry.content.expect("content")];
                let keys = keys.iter().take(reach);
                let outcomes = keys.map(|(key, _)| self.world.apply(key, content)).collect();
                Event::Applied {
                    job,
                    outcomes,
                    failure,
                }
            }
            Action::Check { job, entry, objects } => {
                let content = self.contents.get(&entry.content.expect("content"));
                let reached = objects.into_iter().take(reach);
                let outcomes = reached
                    .map(|object| self.world.check(&object.key, object.corrections, content, now))
                    .collect();
                Event::Checked {
                    job,
                    outcomes,
                    failure,
                }
            }
            Action::Remove { job, keys, .. } => {
                let mut outcomes = Vec::new();
                for key in keys.into_iter().take(reach) {
                    let removed = self.world.remove(&key);
                    outcomes.push((key, removed));
                }
                Event::Removed {
                    job,
                    outcomes,
                    failure,
                }
            }
            other => panic!("no job: {other:?}"),
        };
        Some(event)
    }

    /// Ends the job that applies, with these outcomes for the first objects and with its own for the rest.
    pub(super) fn end_apply(&mut self, mut outcomes: Vec<Outcome<Applied>>) {
        let Some(Work {
            action: Action::Apply { job, entry, keys },
            ..
        }) = self.work.take()
        else {
            panic!("nothing is applied");
        };
        let content = &self.contents[&entry.content.expect("content")];
        for (key, _) in &keys {
            if !outcomes.iter().any(|outcome| outcome.key == *key) {
                outcomes.push(self.world.apply(key, content));
            }
        }
        self.send(Event::Applied {
            job,
            outcomes,
            failure: None,
        });
    }

    /// What has been seen is told.
    pub(super) fn deliver(&mut self) -> bool {
        let Some((key, observed)) = self.world.seen.pop_front() else {
            return false;
        };
        self.send(Event::Observed { key, observed });
        true
    }

    /// Lists tell the versions of all objects of the inventory.
    pub(super) fn list(&mut self) {
        for key in self.world.records.keys().cloned().collect::<Vec<_>>() {
            let version = self.world.live.get(&key).map(|live| live.version);
            self.send(Event::Listed { key, version });
        }
    }

    /// Goes on until nothing is left to do at this instant.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            if self.deliver() || self.work.is_none() && self.tell_claims() {
                continue;
            }
            match self.work.is_some() {
                true => self.finish(0),
                false => return,
            }
        }
        panic!("no end: {:#?}", self.state);
    }

    /// Goes on until a removal is under way.
    pub(super) fn run_until_removal(&mut self) {
        for _ in 0..1000 {
            if !self.log.removals.is_empty() {
                return;
            }
            if !self.deliver() && !self.tell_claims() {
                self.finish(0);
            }
        }
        panic!("nothing is removed: {:#?}", self.state);
    }

    /// Lets time pass; the machine is woken when it wants to be.
    pub(super) fn sleep(&mut self, duration: Duration) {
        let end = self.millis + millis(duration);
        for _ in 0..10_000 {
            self.run();
            let wake = self.wake().map(|wake| wake + 1);
            let is_over = wake.is_none_or(|wake| wake > end);
            self.millis = wake.filter(|_| !is_over).unwrap_or(end);
            self.send(Event::Tick);
            if is_over {
                self.run();
                return;
            }
        }
        panic!("woken without end: {:#?}", self.state);
    }

    /// When the machine wants to be woken, by the clock of the test.
    pub(super) fn wake(&self) -> Option<u64> {
        let wake = self.state.wake_at(self.now().mono)?;
        Some(self.began + millis(wake.0))
    }

    /// Ten minutes in which nothing is asked for, and no wake either.
    pub(super) fn assert_quiet(&mut self) {
        let before = self.log.actions;
        let end = self.millis + 600_000;
        let wake = self.wake();
        assert!(
            wake.is_none_or(|wake| wake > end),
            "wants to be woken at {wake:?}: {:#?}",
            self.state
        );
        while self.millis < end {
            self.millis += 10_000;
            self.send(Event::Tick);
        }
        assert_eq!(self.log.actions, before);
    }

    /// The message that people see.
    /// The message, and what is noted besides.
    pub(super) fn message(&self) -> String {
        let condition = self.state.condition();
        match condition.notes.as_str() {
            "" => condition.message,
            notes => format!("{}; {notes}", condition.message),
        }
    }

    pub(super) fn ready_word(&self) -> Ready {
        self.state.condition().ready
    }

    pub(super) fn problem(&self, key: &Key) -> Option<Problem> {
        self.state.objects.get(key)?.problem().cloned()
    }

    pub(super) fn content_now(&self) -> Content {
        self.contents[&self.accepted.entry.content.expect("content")].clone()
    }

    pub(super) fn is_active(&self) -> bool {
        self.accepted.entry.state.is_active()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("not for ever")
}

fn at(millis: u64, began: u64, random: u64) -> Now {
    Now {
        mono: Mono(Duration::from_millis(millis - began)),
        wall: Timestamp(1_000_000) + Duration::from_millis(millis),
        random,
    }
}
