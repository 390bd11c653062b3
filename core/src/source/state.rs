//! The state of a source between looks, and the next one: from what is recorded, what a look ended with, and the time.
//! The last good artifact stays whatever fails.

use std::time::Duration;

use super::look::{Failure, Look, Remedy};
use crate::{
    backoff::{Backoff, jittered},
    clock::Timestamp,
    digest::Digest,
    printable::printable_lines,
    status::{Readiness, Ready},
};

/// A spec for which nothing can be done is judged again this late, as a newer hub may read it; a change of it is at
/// once.
const STALLED: Duration = Duration::from_secs(3600);
/// A failure that may pass is tried again no earlier.
const SOONEST: Duration = Duration::from_millis(200);
/// What a look needs of the hub's own and does not have is asked for again this late.
const WAITS: Duration = Duration::from_secs(10);

/// What the configured object asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Rises with each change of it.
    pub generation: i64,
    /// How often to look.
    pub interval: Duration,
    /// Not to be looked at.
    pub suspended: bool,
    /// A person or a webhook asked for a look that was not made yet.
    pub requested: bool,
    /// Why nothing can be done for it.
    pub unusable: Option<Failure>,
}

/// The revision that a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// As Flux names it: `main@sha1:…`.
    pub revision: String,
    /// Digest of the settings that shaped its artifact.
    pub config: Digest,
    /// The artifact.
    pub artifact: String,
    /// Whose signatures were verified; empty where none were asked for.
    pub verified: String,
    /// Whether the artifact is at hand here.
    pub at_hand: bool,
}

/// What is recorded of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Generation of the spec that it is about; 0 before the first look.
    pub generation: i64,
    /// When it is due.
    pub due_at: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// Its present revision.
    pub present: Option<Present>,
    /// What is shown of it, and since when its status is that.
    pub shown: Option<(Ready, Timestamp)>,
    /// What is shown of signatures, where some are asked for.
    pub verified: Option<(Ready, Timestamp)>,
    /// What a look waits for, and since when.
    pub waiting: Option<(String, Timestamp)>,
}

impl State {
    /// Whether the same is shown of both, of the same spec.
    pub fn is_shown_as(&self, other: &Self) -> bool {
        (self.generation, &self.shown, &self.verified, &self.waiting)
            == (other.generation, &other.shown, &other.verified, &other.waiting)
    }
}

/// Whether to look now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Look.
    Now,
    /// Look after this long.
    After(Duration),
    /// Nothing until the object changes.
    Never,
    /// Do not look: this is what is to be said.
    Unusable(Failure),
}

/// Something to tell once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Something a person should look at.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The state; its `present` is the former one where nothing new was fetched.
    pub state: State,
    /// When to look again: at the state's `due_at`.
    pub wait: Duration,
    /// The source has another revision, or another artifact of it.
    pub is_new: bool,
    /// The artifact of the present revision was lost, and is at hand again.
    pub is_restored: bool,
    /// What is told.
    pub event: Option<Event>,
}

/// Whether a source is to be looked at.
pub fn due(spec: &Spec, state: &State, now: Timestamp) -> Due {
    let is_observed = state.generation == spec.generation;
    if let Some(failure) = &spec.unusable {
        let is_shown = state
            .shown
            .as_ref()
            .is_some_and(|(shown, _)| *shown == said(failure));
        let is_recorded = is_observed && is_shown && !spec.requested && state.due_at > now;
        return if is_recorded {
            Due::After(state.due_at.since(now))
        } else {
            Due::Unusable(failure.clone())
        };
    }
    if spec.suspended {
        return Due::Never;
    }
    // One whose artifact was lost is fetched at once, and with backoff where that fails.
    let is_lost = state.failures == 0 && state.present.as_ref().is_some_and(|present| !present.at_hand);
    // What is due later than anything that was decided now would be was decided by a clock that was ahead.
    let is_of_this_time = state.due_at <= now + (spec.interval.max(STALLED) * 3 / 2);
    if is_observed && !spec.requested && !is_lost && state.due_at > now && is_of_this_time {
        return Due::After(state.due_at.since(now));
    }
    Due::Now
}

/// Whether what the remote has now is the present revision, made with the same settings, and at hand.
pub fn is_present(state: &State, revision: &str, config: Digest) -> bool {
    let same = |present: &Present| present.revision == revision && present.config == config;
    state
        .present
        .as_ref()
        .is_some_and(|present| same(present) && present.at_hand)
}

/// The state after a look, and what it means for others.
pub fn next(spec: &Spec, state: &State, look: Look, now: Timestamp, random: u64) -> Next {
    let verified = verified(state, &look, now);
    let (present, is_restored, outcome) = match look {
        Look::Same => (None, false, Ok(None)),
        Look::Fetched(found) => {
            let present = Present {
                revision: found.revision,
                config: found.config,
                artifact: found.artifact,
                verified: found.verified,
                at_hand: true,
            };
            let again = state.present.as_ref().is_some_and(|former| {
                (&former.revision, former.config, &former.artifact)
                    == (&present.revision, present.config, &present.artifact)
            });
            (Some(present), again, Ok((!again).then_some(found.subject)))
        }
        Look::Failed(failure) => (None, false, Err(failure)),
        Look::Waits(why) => return waits(spec, state, &why, now, random),
    };
    let is_new = present.is_some() && !is_restored;
    let present = present.or_else(|| state.present.clone());
    let (shown, failures, wait) = match &outcome {
        Ok(_) => {
            let revision = present.as_ref().map_or("", |present| present.revision.as_str());
            let message = format!("stored artifact for revision '{revision}'");
            let shown = ready(Readiness::True, "Succeeded", &message);
            (shown, 0, jittered(spec.interval, random))
        }
        Err(failure) => {
            let failures = state.failures.saturating_add(1);
            let wait = match failure.remedy {
                Remedy::Retry => Backoff::RECONCILE
                    .delay(failures, random)
                    .max(SOONEST)
                    .min(spec.interval),
                Remedy::Ask => jittered(spec.interval, random),
                Remedy::Respecify => STALLED,
            };
            (said(failure), failures, wait)
        }
    };
    let was = state.shown.as_ref();
    let event = match outcome {
        Err(failure) => told(&failure, was.map(|(shown, _)| shown), &shown),
        Ok(Some(subject)) => Some(Event {
            warning: false,
            reason: "NewArtifact".into(),
            message: printable_lines(&format!("stored artifact for commit '{subject}'")),
        }),
        Ok(None) => over(state).map(|message| Event {
            warning: false,
            reason: "Succeeded".into(),
            message: message.into(),
        }),
    };
    let since = was
        .filter(|(was, _)| was.status == shown.status)
        .map_or(now, |(_, since)| *since);
    Next {
        state: State {
            generation: spec.generation,
            due_at: now + wait,
            failures,
            present,
            shown: Some((shown, since)),
            verified,
            waiting: None,
        },
        wait,
        is_new,
        is_restored,
        event,
    }
}

/// What is told of a branch whose present commit does not follow the one before: `follows`, or `None` where that is not known.
/// Both revisions are named as Flux names them, `main@sha1:…`; of one under another name there is nothing to tell.
pub fn rewritten(former: &str, present: &str, follows: Option<bool>) -> Option<Event> {
    let ((name, before), (same, now)) = (former.rsplit_once('@')?, present.rsplit_once('@')?);
    (name == same && before != now && follows == Some(false)).then(|| Event {
        warning: true,
        reason: "HistoryRewritten".into(),
        message: printable_lines(&format!(
            "the history of {name} was rewritten: {before}, which it had before, is not an ancestor of {now}"
        )),
    })
}

/// What is known of the source stays, and beside it is said what is waited for. What was asked for is still to be done.
fn waits(spec: &Spec, state: &State, why: &str, now: Timestamp, random: u64) -> Next {
    let why = printable_lines(why);
    let shown = state
        .shown
        .clone()
        .filter(|_| state.generation == spec.generation);
    let shown = shown.unwrap_or_else(|| (ready(Readiness::Unknown, "ProgressingWithRetry", &why), now));
    let was = state.waiting.as_ref();
    let wait = jittered(WAITS.min(spec.interval), random);
    Next {
        wait,
        is_new: false,
        is_restored: false,
        event: was.is_none().then(|| Event {
            warning: true,
            reason: "StorageOperationFailed".into(),
            message: why.clone(),
        }),
        state: State {
            generation: spec.generation,
            due_at: now + wait,
            failures: state.failures,
            present: state.present.clone(),
            shown: Some(shown),
            verified: state.verified.clone(),
            waiting: Some((why, was.map_or(now, |(_, since)| *since))),
        },
    }
}

/// What is shown of signatures: what a look says of them, and else what was shown.
fn verified(state: &State, look: &Look, now: Timestamp) -> Option<(Ready, Timestamp)> {
    let of = |verified: &str| ready(Readiness::True, "Succeeded", verified);
    let said = match (look, &state.present) {
        (Look::Fetched(found), _) if found.verified.is_empty() => return None,
        (Look::Fetched(found), _) => of(&found.verified),
        // What the remote has is what is used, and it was verified when it came.
        (Look::Same, Some(present)) if !present.verified.is_empty() => of(&present.verified),
        (Look::Same, _) => return None,
        (Look::Failed(failure), _) if failure.is_of_signature => said(failure),
        (Look::Failed(_) | Look::Waits(_), _) => return state.verified.clone(),
    };
    let was = state
        .verified
        .as_ref()
        .filter(|(was, _)| was.status == said.status);
    let since = was.map_or(now, |(_, since)| *since);
    Some((said, since))
}

/// What is over once a look ends well, and was told when it began.
fn over(state: &State) -> Option<&'static str> {
    match state.waiting {
        Some(_) => Some("what the source waited for is there again"),
        None => (state.failures > 0).then_some("the source is reachable again"),
    }
}

/// A failure that is shown already was told.
fn told(failure: &Failure, was: Option<&Ready>, shown: &Ready) -> Option<Event> {
    (was != Some(shown)).then(|| Event {
        warning: true,
        reason: failure.reason.clone(),
        message: shown.message.clone(),
    })
}

fn said(failure: &Failure) -> Ready {
    ready(Readiness::False, &failure.reason, &failure.message)
}

/// Texts may quote the remote, or names in the tree.
fn ready(status: Readiness, reason: &str, message: &str) -> Ready {
    Ready {
        status,
        reason: reason.to_owned(),
        message: printable_lines(message),
    }
}
