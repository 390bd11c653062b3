//! A long action of a unit, such as installing or removing: steps that run for minutes, one after another, and have
//! to be found again after a crash. Before a step is taken it stands in the unit's record.
//!
//! A newer entry ends a wait at once, and the attempt before its next step; never inside a hook, and never between
//! the note in storage and the objects that it announces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{now::Now, record::Attained};
use crate::clock::Timestamp;

/// A step that was under way when the agent stopped has this long after its return: what ended meanwhile has not
/// failed.
const RESUMED: Duration = Duration::from_secs(60);

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
    /// What holds the step up, for people: an object with the finalizer that keeps it, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocker: Option<String>,
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
    /// What holds the step up was observed; `None`: nothing that has a name.
    Blocked {
        /// Which attempt.
        id: u64,
        /// Which step.
        at: u32,
        /// What holds it, without a running clock.
        blocker: Option<String>,
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
    /// The step under way goes on; make durable, and report, what holds it.
    Save(Attempt),
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
            blocker: None,
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
            Event::Failed { id, at, message } if (id, at) == (self.id, self.at) => self.failed(message),
            Event::Blocked { id, at, blocker } if (id, at) == (self.id, self.at) => {
                if self.blocker == blocker {
                    return Next::Stay;
                }
                self.blocker = blocker;
                Next::Save(self.clone())
            }
            Event::Done { .. } | Event::Failed { .. } | Event::Blocked { .. } => Next::Stay,
            Event::Superseded => {
                self.superseded = true;
                match self.kind_now() {
                    Some(StepKind::Wait) => Next::Superseded,
                    _ => Next::Stay,
                }
            }
            Event::Resumed if self.superseded && self.kind_now() == Some(StepKind::Wait) => Next::Superseded,
            // The step was durable before it was taken and may have been taken: steps are idempotent.
            Event::Resumed => {
                self.deadline = self.deadline.max(now.wall + RESUMED);
                Next::Take(self.clone())
            }
            Event::Tick if now.wall >= self.deadline => self.failed(match &self.blocker {
                Some(blocker) => format!("timed out: {blocker}"),
                None => "timed out".to_owned(),
            }),
            Event::Tick => Next::Stay,
        }
    }

    fn failed(&self, message: String) -> Next {
        let step = self.step().map(|step| step.name.clone()).unwrap_or_default();
        Next::Failed { step, message }
    }

    fn kind_now(&self) -> Option<StepKind> {
        self.step().map(|step| step.kind)
    }

    fn advance(&mut self, now: Now) -> Next {
        let parted = self.kind_now() != Some(StepKind::Storage);
        if self.superseded && parted {
            return Next::Superseded;
        }
        self.at += 1;
        self.blocker = None;
        match self.step() {
            None => Next::Finished,
            Some(step) => {
                self.deadline = now.wall + step.timeout;
                Next::Take(self.clone())
            }
        }
    }
}
