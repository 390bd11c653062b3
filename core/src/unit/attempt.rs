//! A long action of a unit, such as installing or removing: steps that run for minutes, one after another, and have
//! to be found again after a crash. Before a step is taken it stands in the unit's record.
//!
//! A newer entry ends a wait at once, and the attempt before its next step; never inside a hook, and never between
//! the note in storage and the objects that it announces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{now::Now, record::Attained};
use crate::clock::Timestamp;

/// What an attempt does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// First release of a chart.
    Install,
    /// A newer release.
    Upgrade,
    /// The tests of a release.
    Test,
    /// Back to an earlier release.
    Rollback,
    /// Removal of a release.
    Uninstall,
    /// Removal of a unit's objects.
    Remove,
}

/// What a step is, and so where it may be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepKind {
    /// A hook: it runs to its end, whatever comes.
    Hook,
    /// A note in storage of what the next step writes: the two are not parted.
    Storage,
    /// Objects are written or deleted; idempotent.
    Objects,
    /// Waits for objects, or for what holds a deletion.
    Wait,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is.
    pub kind: StepKind,
    /// What it is called in status and events.
    pub name: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// A long action under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Names this attempt: an outcome of an older one is not taken for one of this.
    pub id: u64,
    /// What it does.
    pub kind: Kind,
    /// What for.
    pub target: Attained,
    /// All steps, fixed when it began: a newer agent goes on with what an older one planned.
    pub steps: Vec<Step>,
    /// The step under way.
    pub at: u32,
    /// Until when that may take.
    pub deadline: Timestamp,
    /// A newer entry has come; the attempt ends where it may.
    pub superseded: bool,
}

/// What happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The step ended well.
    Done {
        /// Which attempt.
        id: u64,
        /// Which step.
        at: u32,
    },
    /// The step failed and is not to be tried again within this attempt.
    Failed {
        /// Which attempt.
        id: u64,
        /// Which step.
        at: u32,
        /// Why.
        message: String,
    },
    /// A newer entry was accepted.
    Superseded,
    /// The agent has restarted.
    Resumed,
    /// Time has passed.
    Tick,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the step under way goes on.
    Stay,
    /// Make this attempt durable, then take its step.
    Take(Attempt),
    /// All steps are done.
    Finished,
    /// A newer entry takes over. The work under way, a wait at most, is to be dropped.
    Superseded,
    /// It failed at a step.
    Failed {
        /// The step's name.
        step: String,
        /// Why.
        message: String,
    },
}

impl Attempt {
    /// Begins an attempt at its first step. Without steps there is nothing to attempt.
    pub fn begin(id: u64, kind: Kind, target: Attained, steps: Vec<Step>, now: Now) -> Option<Self> {
        let deadline = now.wall + steps.first()?.timeout;
        Some(Self {
            id,
            kind,
            target,
            steps,
            at: 0,
            deadline,
            superseded: false,
        })
    }

    /// The step under way.
    pub fn step(&self) -> Option<&Step> {
        self.steps.get(usize::try_from(self.at).ok()?)
    }

    /// Decides what follows an event. A step's end that is heard twice, or of another attempt, changes nothing.
    pub fn next(&mut self, event: Event, now: Now) -> Next {
        match event {
            Event::Done { id, at } if (id, at) == (self.id, self.at) => self.advance(now),
            Event::Failed { id, at, message } if (id, at) == (self.id, self.at) => Next::Failed {
                step: self.step_name(),
                message,
            },
            Event::Done { .. } | Event::Failed { .. } => Next::Stay,
            Event::Superseded => {
                self.superseded = true;
                match self.step().map(|step| step.kind) {
                    Some(StepKind::Wait) => Next::Superseded,
                    _ => Next::Stay,
                }
            }
            // The step was durable before it was taken and may have been taken: steps are idempotent.
            Event::Resumed if self.superseded && self.kind_now() == Some(StepKind::Wait) => Next::Superseded,
            Event::Resumed => Next::Take(self.clone()),
            Event::Tick if now.wall >= self.deadline => Next::Failed {
                step: self.step_name(),
                message: "timed out".to_owned(),
            },
            Event::Tick => Next::Stay,
        }
    }

    fn kind_now(&self) -> Option<StepKind> {
        self.step().map(|step| step.kind)
    }

    fn step_name(&self) -> String {
        self.step().map(|step| step.name.clone()).unwrap_or_default()
    }

    fn advance(&mut self, now: Now) -> Next {
        let parted = self.kind_now() != Some(StepKind::Storage);
        if self.superseded && parted {
            return Next::Superseded;
        }
        self.at += 1;
        match self.step() {
            None => Next::Finished,
            Some(step) => {
                self.deadline = now.wall + step.timeout;
                Next::Take(self.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Digest, unit::now::Mono};

    fn at(seconds: u64) -> Now {
        Now {
            mono: Mono(Duration::from_secs(seconds)),
            wall: Timestamp(1_000_000) + Duration::from_secs(seconds),
            random: 0,
        }
    }

    /// An upgrade with a hook of ten minutes, storage, objects, a wait and another hook.
    fn upgrade() -> Attempt {
        let step = |kind, name: &str, minutes: u64| Step {
            kind,
            name: name.to_owned(),
            timeout: Duration::from_secs(minutes * 60),
        };
        let steps = vec![
            step(StepKind::Hook, "pre-upgrade", 10),
            step(StepKind::Storage, "storage", 1),
            step(StepKind::Objects, "objects", 1),
            step(StepKind::Wait, "wait", 5),
            step(StepKind::Hook, "post-upgrade", 10),
        ];
        let target = Attained {
            version: 2,
            target: Digest::of("target", b"2"),
        };
        Attempt::begin(7, Kind::Upgrade, target, steps, at(0)).expect("it has steps")
    }

    fn done(attempt: &Attempt) -> Event {
        Event::Done {
            id: attempt.id,
            at: attempt.at,
        }
    }

    fn up_to(step: &str) -> Attempt {
        let mut attempt = upgrade();
        while attempt.step().expect("such a step").name != step {
            let event = done(&attempt);
            attempt.next(event, at(1));
        }
        attempt
    }

    #[test]
    fn attempt_of_ten_minutes_takes_each_step_once_and_finishes() {
        let mut attempt = upgrade();
        let mut taken = vec![attempt.step().expect("a step").name.clone()];
        loop {
            let event = done(&attempt);
            match attempt.next(event, at(60)) {
                Next::Take(next) => taken.push(next.step().expect("a step").name.clone()),
                Next::Finished => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            taken,
            ["pre-upgrade", "storage", "objects", "wait", "post-upgrade"]
        );
    }

    #[test]
    fn newer_entry_ends_a_wait_at_once_and_never_a_hook_or_a_write_announced_in_storage() {
        assert_eq!(up_to("wait").next(Event::Superseded, at(2)), Next::Superseded);
        let mut hook = upgrade();
        assert_eq!(hook.next(Event::Superseded, at(2)), Next::Stay);
        let event = done(&hook);
        assert_eq!(hook.next(event, at(3)), Next::Superseded);
        let mut storage = up_to("storage");
        assert_eq!(storage.next(Event::Superseded, at(2)), Next::Stay);
        let event = done(&storage);
        assert!(
            matches!(storage.next(event, at(3)), Next::Take(next) if next.step().expect("a step").name == "objects"),
            "what storage announced is written"
        );
        let event = done(&storage);
        assert_eq!(storage.next(event, at(4)), Next::Superseded);
    }

    #[test]
    fn crash_at_each_step_resumes_at_that_step_with_its_deadline() {
        for name in ["pre-upgrade", "storage", "objects", "wait", "post-upgrade"] {
            let stored = serde_json::to_vec(&up_to(name)).expect("JSON");
            let mut resumed: Attempt = serde_json::from_slice(&stored).expect("readable");
            let before = resumed.clone();
            assert_eq!(resumed.next(Event::Resumed, at(100)), Next::Take(before));
        }
        let mut superseded = up_to("storage");
        superseded.next(Event::Superseded, at(1));
        let stored = serde_json::to_vec(&superseded).expect("JSON");
        let mut resumed: Attempt = serde_json::from_slice(&stored).expect("readable");
        assert!(matches!(resumed.next(Event::Resumed, at(2)), Next::Take(_)));
    }

    #[test]
    fn outcome_of_another_attempt_or_step_changes_nothing() {
        let mut attempt = up_to("objects");
        let before = attempt.clone();
        for (id, step) in [
            (6, attempt.at),
            (attempt.id, attempt.at - 1),
            (attempt.id, attempt.at + 1),
        ] {
            assert_eq!(attempt.next(Event::Done { id, at: step }, at(2)), Next::Stay);
        }
        assert_eq!(attempt, before);
    }

    #[test]
    fn step_that_outlasts_its_time_fails_by_name() {
        let mut attempt = up_to("wait");
        assert_eq!(attempt.next(Event::Tick, at(300)), Next::Stay);
        let next = attempt.next(Event::Tick, at(302));
        assert!(matches!(next, Next::Failed { step, .. } if step == "wait"));
    }
}
