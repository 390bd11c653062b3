//! Whether a unit's objects together are ready, in the words that Flux uses.

use std::time::Duration;

use super::{Health, State};
use crate::{
    clock::{Timestamp, go_duration},
    object::ObjectKey,
};

/// One object that a unit waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The object.
    pub key: ObjectKey,
    /// Its health.
    pub health: Health,
    /// It is a Job that its controller deletes some time after it finished: gone means done.
    pub may_vanish: bool,
}

impl Checked {
    /// Where the object stands for whoever waits for it.
    fn state(&self) -> State {
        match self.health.state {
            State::NotFound if self.may_vanish => State::Current,
            state => state,
        }
    }
}

/// The state of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Every object is current.
    Ready,
    /// Some are not yet.
    Waiting {
        /// Those, in the order given.
        pending: Vec<ObjectKey>,
        /// How long the wait may still take.
        left: Duration,
    },
    /// One failed, or the time is over.
    Failed {
        /// What Flux would print.
        message: String,
    },
}

/// Judges a wait that began at `started` and may take `timeout`. One failed object ends it at once: what failed
/// does not become ready by waiting. An object of a unit that fails early may recover later; the caller asks
/// again with each change.
pub fn ready(objects: &[Checked], started: Timestamp, now: Timestamp, timeout: Duration) -> Readiness {
    let pending: Vec<&Checked> = objects
        .iter()
        .filter(|object| object.state() != State::Current)
        .collect();
    let failed: Vec<&Checked> = pending
        .iter()
        .copied()
        .filter(|object| object.state() == State::Failed)
        .collect();
    let elapsed = now.since(started);
    if pending.is_empty() {
        Readiness::Ready
    } else if elapsed >= timeout {
        failure("timeout waiting for", &pending, elapsed)
    } else if !failed.is_empty() {
        failure("failed early due to stalled resources", &failed, elapsed)
    } else {
        let pending = pending.into_iter().map(|object| object.key.clone()).collect();
        Readiness::Waiting {
            pending,
            left: timeout - elapsed,
        }
    }
}

fn failure(what: &str, objects: &[&Checked], elapsed: Duration) -> Readiness {
    let listed: Vec<String> = objects.iter().map(|object| describe(object)).collect();
    let message = format!(
        "health check failed after {}: {what}: [{}]",
        go_duration(elapsed),
        listed.join(", ")
    );
    Readiness::Failed { message }
}

fn describe(object: &Checked) -> String {
    let (key, state) = (&object.key, object.health.state);
    match state {
        State::Unknown => format!("{key} status: '{}': {}", state.as_str(), object.health.message),
        _ => format!("{key} status: '{}'", state.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, state: State) -> Checked {
        let key = ObjectKey::new("apps", "Deployment", "a", name);
        Checked {
            key,
            health: Health::new(state, "", "why"),
            may_vanish: false,
        }
    }

    fn at(objects: &[Checked], seconds: i64) -> Readiness {
        ready(
            objects,
            Timestamp(0),
            Timestamp(seconds * 1000),
            Duration::from_secs(60),
        )
    }

    #[test]
    fn a_wait_ends_when_all_are_current() {
        assert_eq!(at(&[], 0), Readiness::Ready);
        assert_eq!(at(&[checked("a", State::Current)], 99), Readiness::Ready);
    }

    #[test]
    fn a_wait_names_what_is_pending_and_what_time_is_left() {
        let objects = [
            checked("a", State::Current),
            checked("b", State::InProgress),
            checked("c", State::NotFound),
        ];
        let pending = objects[1..].iter().map(|object| object.key.clone()).collect();
        assert_eq!(
            at(&objects, 20),
            Readiness::Waiting {
                pending,
                left: Duration::from_secs(40)
            }
        );
    }

    #[test]
    fn one_failure_ends_the_wait_early() {
        let objects = [checked("a", State::InProgress), checked("b", State::Failed)];
        let message = "health check failed after 1s: failed early due to stalled resources: [Deployment/a/b status: 'Failed']";
        assert_eq!(
            at(&objects, 1),
            Readiness::Failed {
                message: message.into()
            }
        );
    }

    #[test]
    fn a_timeout_names_all_that_are_not_current() {
        let objects = [
            checked("a", State::InProgress),
            checked("b", State::Current),
            checked("c", State::Unknown),
            checked("d", State::Terminating),
        ];
        let message = "health check failed after 1m0s: timeout waiting for: [Deployment/a/a status: 'InProgress', \
                       Deployment/a/c status: 'Unknown': why, Deployment/a/d status: 'Terminating']";
        assert_eq!(
            at(&objects, 60),
            Readiness::Failed {
                message: message.into()
            }
        );
    }

    #[test]
    fn a_job_that_vanishes_after_its_time_is_done() {
        let mut job = checked("j", State::NotFound);
        job.may_vanish = true;
        assert_eq!(at(&[job.clone()], 0), Readiness::Ready);
        job.health.state = State::Failed;
        assert!(matches!(at(&[job], 0), Readiness::Failed { .. }));
    }
}
