//! A removal as a scripted long action: a hook of ten minutes, deletions that are announced in storage, and a wait that
//! a finalizer holds up. The hook is a Job of the cluster and deletions are the API server's, so both go on while no
//! agent runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::attempt::at;
use crate::{
    digest::Digest,
    unit::{
        attempt::{Attempt, Event, Kind, Next, Step, StepKind},
        now::Now,
        record::{Attained, UnitRecord},
    },
};

const HOOK: u64 = 600;
const STEPS: [(StepKind, &str, u64); 4] = [
    (StepKind::Hook, "pre-delete", 15 * 60),
    (StepKind::Storage, "storage", 60),
    (StepKind::Objects, "delete", 60),
    (StepKind::Wait, "wait", 5 * 60),
];

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Finished,
    Superseded,
    Failed(String),
}

/// An agent, what it has stored, and the cluster.
struct Story {
    seconds: u64,
    /// The unit's record, as the ledger has it.
    stored: Vec<u8>,
    /// The attempt that the running agent has in memory.
    attempt: Option<Attempt>,
    /// Live objects, each with what holds its deletion.
    live: BTreeMap<&'static str, Option<&'static str>>,
    deleting: BTreeSet<&'static str>,
    /// When the hook's Job ends.
    hook: Option<u64>,
    /// The version of the entry that is held.
    version: u64,
    writes: usize,
    hooks: usize,
    deletions: usize,
    end: Option<End>,
}

impl Story {
    fn begin() -> Self {
        let mut story = Self {
            seconds: 0,
            stored: Vec::new(),
            attempt: None,
            live: BTreeMap::from([
                ("Deployment/a/web", None),
                ("PersistentVolumeClaim/a/data", Some("pvc-protection")),
            ]),
            deleting: BTreeSet::new(),
            hook: None,
            version: 2,
            writes: 0,
            hooks: 0,
            deletions: 0,
            end: None,
        };
        story.attempt_removal(1);
        story
    }

    fn now(&self) -> Now {
        at(self.seconds)
    }

    fn attempt_removal(&mut self, id: u64) {
        let steps = STEPS.map(|(kind, name, seconds)| Step {
            kind,
            name: name.to_owned(),
            timeout: Duration::from_secs(seconds),
        });
        let target = Attained {
            version: self.version,
            target: Digest::of("target", b"removal"),
        };
        let attempt =
            Attempt::begin(id, Kind::Remove, target, steps.to_vec(), self.now()).expect("it has steps");
        self.end = None;
        self.take(attempt);
    }

    fn save(&mut self, attempt: Option<&Attempt>) {
        let record = UnitRecord {
            attempt: attempt.cloned(),
            ..UnitRecord::default()
        };
        self.stored = serde_json::to_vec(&record).expect("JSON");
        self.writes += 1;
    }

    fn step(&self) -> &str {
        let step = self.attempt.as_ref().and_then(Attempt::step);
        step.map_or("", |step| step.name.as_str())
    }

    /// Makes an attempt durable, and begins its step.
    fn take(&mut self, attempt: Attempt) {
        self.save(Some(&attempt));
        self.attempt = Some(attempt);
        self.begin_step();
    }

    fn begin_step(&mut self) {
        match self.step() {
            "pre-delete" if self.hook.is_none() => {
                self.hook = Some(self.seconds + HOOK);
                self.hooks += 1;
            }
            "delete" => {
                for (object, finalizer) in self.live.clone() {
                    if self.deleting.contains(object) {
                        continue;
                    }
                    self.deletions += 1;
                    match finalizer {
                        Some(_) => drop(self.deleting.insert(object)),
                        None => drop(self.live.remove(object)),
                    }
                }
            }
            _ => {}
        }
    }

    /// What is seen of the step under way.
    fn observe(&self) -> Option<Event> {
        let attempt = self.attempt.as_ref()?;
        let (id, at) = (attempt.id, attempt.at);
        let is_done = match self.step() {
            "pre-delete" => self.hook.is_some_and(|end| end <= self.seconds),
            "wait" => self.live.is_empty(),
            _ => true,
        };
        if is_done {
            return Some(Event::Done { id, at });
        }
        let held = self
            .live
            .iter()
            .filter(|(object, _)| self.deleting.contains(*object));
        let held: Vec<String> = held
            .filter_map(|(object, finalizer)| {
                Some(format!("{object} is held by finalizer {}", (*finalizer)?))
            })
            .collect();
        let blocker = (!held.is_empty()).then(|| held.join(", "));
        Some(Event::Blocked { id, at, blocker })
    }

    fn tell(&mut self, event: Event) {
        let now = self.now();
        let Some(attempt) = self.attempt.as_mut() else {
            return;
        };
        let end = match attempt.next(event, now) {
            Next::Stay => return,
            Next::Save(attempt) => return self.save(Some(&attempt)),
            Next::Take(attempt) => return self.take(attempt),
            Next::Finished => End::Finished,
            Next::Superseded => End::Superseded,
            Next::Failed { step, message } => End::Failed(format!("{step}: {message}")),
        };
        self.end = Some(end);
        self.attempt = None;
        self.save(None);
    }

    /// Ten seconds in which the agent runs.
    fn pass(&mut self) {
        self.seconds += 10;
        if let Some(event) = self.observe() {
            self.tell(event);
        }
        self.tell(Event::Tick);
    }

    fn until(&mut self, step: &str) {
        for _ in 0..1000 {
            if self.step() == step {
                return;
            }
            self.pass();
        }
        panic!("{step} never came: {:?}", self.end);
    }

    fn until_end(&mut self) -> &End {
        for _ in 0..1000 {
            if self.end.is_some() {
                break;
            }
            self.pass();
        }
        self.end.as_ref().expect("an end")
    }

    /// The agent stops, and another begins after a while.
    fn crash_for(&mut self, seconds: u64) {
        self.seconds += seconds;
        let record: UnitRecord = serde_json::from_slice(&self.stored).expect("readable");
        self.attempt = record.attempt;
        self.tell(Event::Resumed);
        let is_older = |attempt: &Attempt| attempt.target.version < self.version;
        if self.attempt.as_ref().is_some_and(is_older) {
            self.tell(Event::Superseded);
        }
    }

    fn newer_entry(&mut self) {
        self.version += 1;
        self.tell(Event::Superseded);
    }

    fn release_finalizer(&mut self) {
        for finalizer in self.live.values_mut() {
            *finalizer = None;
        }
        let deleting = std::mem::take(&mut self.deleting);
        self.live.retain(|object, _| !deleting.contains(object));
    }

    fn blocker(&self) -> Option<&str> {
        self.attempt.as_ref()?.blocker.as_deref()
    }
}

const HELD: &str = "PersistentVolumeClaim/a/data is held by finalizer pvc-protection";

#[test]
fn removal_held_by_a_finalizer_names_it_and_ends_when_that_goes() {
    let mut story = Story::begin();
    story.until("wait");
    assert!(story.seconds >= HOOK, "the hook has run to its end");
    story.pass();
    assert_eq!(story.blocker(), Some(HELD));
    let writes = story.writes;
    for _ in 0..12 {
        story.pass();
    }
    assert_eq!(story.writes, writes, "a wait that goes on writes nothing");
    story.release_finalizer();
    assert_eq!(story.until_end(), &End::Finished);
    assert!(story.live.is_empty());
    // Each step, what holds the last one, and the end.
    assert_eq!(
        (story.writes, story.hooks, story.deletions),
        (STEPS.len() + 2, 1, 2)
    );
}

#[test]
fn removal_held_by_a_finalizer_for_too_long_fails_by_its_name_and_is_taken_up_without_a_second_deletion() {
    let mut story = Story::begin();
    let failed = End::Failed(format!("wait: timed out: {HELD}"));
    assert_eq!(story.until_end(), &failed);
    story.attempt_removal(2);
    story.until("wait");
    story.pass();
    assert_eq!(story.blocker(), Some(HELD));
    story.release_finalizer();
    assert_eq!(story.until_end(), &End::Finished);
    assert_eq!((story.hooks, story.deletions), (1, 2));
}

#[test]
fn removal_that_a_crash_meets_at_any_step_takes_each_step_once() {
    for (_, step, timeout) in STEPS {
        // Also so long that the step's time is over before anybody looks again.
        for down in [0, timeout + 1] {
            let mut story = Story::begin();
            story.until(step);
            for _ in 0..3 {
                story.crash_for(down);
            }
            assert_eq!(story.step(), step, "{down} s");
            story.until("wait");
            story.release_finalizer();
            assert_eq!(story.until_end(), &End::Finished, "{step}, {down} s");
            assert_eq!((story.hooks, story.deletions), (1, 2), "{step}, {down} s");
        }
    }
}

#[test]
fn newer_entry_ends_a_removal_at_a_wait_or_before_its_next_step_also_over_a_crash() {
    // The step at which it comes, whether objects are deleted all the same, and how long the attempt goes on.
    for (step, deleted, most) in [
        ("pre-delete", false, HOOK),
        ("storage", true, 20),
        ("delete", true, 10),
        ("wait", true, 0),
    ] {
        for crashes in [false, true] {
            let mut story = Story::begin();
            story.until(step);
            story.newer_entry();
            if crashes && story.end.is_none() {
                story.crash_for(0);
            }
            let from = story.seconds;
            assert_eq!(story.until_end(), &End::Superseded, "{step}");
            assert!(story.seconds - from <= most, "{step}: {} s", story.seconds - from);
            assert_eq!(story.hooks, 1, "{step}");
            assert_eq!(story.deletions > 0, deleted, "{step}");
            // What was never asked to go is there, and of what was, what a finalizer holds.
            assert_eq!(story.live.len(), if deleted { 1 } else { 2 }, "{step}");
            let record: UnitRecord = serde_json::from_slice(&story.stored).expect("readable");
            assert_eq!(record.attempt, None, "nothing is left to resume");
        }
    }
}
