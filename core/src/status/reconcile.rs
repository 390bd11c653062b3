//! Where a request to reconcile stands, and what came of it.

use std::time::Duration;

use super::{AppFacts, PROGRESSING, Readiness, Ready, Revision, app, unit};
use crate::rollout::waiting::Waiting;

/// How long a failure must have been the same to count: an agent that was asked tries again, and tells only what has
/// changed.
pub const SETTLED: Duration = Duration::from_secs(3);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The source's fetch.
    Source,
    /// The app's rendering and plan.
    Rendering,
    /// The clusters.
    Clusters,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as asked for.
    Succeeded,
    /// Something failed.
    Failed,
    /// All clusters that are connected are ready; the others follow when they return.
    ClustersOffline,
    /// There is nothing to apply, or no cluster to apply it on.
    NothingToApply,
    /// This release does not reconcile it.
    NotSupported,
    /// It is suspended.
    Suspended,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is waited for, or was when it ended.
    pub phase: Phase,
    /// `None` while it goes on.
    pub outcome: Option<Outcome>,
    /// What is said of it now.
    pub ready: Ready,
    /// Units.
    pub clusters: u64,
    /// Of these ready, and known to have been asked.
    pub clusters_ready: u64,
    /// What was fetched, or is applied everywhere.
    pub revision: Option<Revision>,
    /// It has failed unless that changes: tell how long it is so.
    pub failing: bool,
}

/// What the follower knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// The request, or a later one, was acted on.
    pub handled: bool,
    /// Connected clusters whose agent does not hold the request yet.
    pub unanswered: u64,
    /// How long it fails without a change; `None` while it does not.
    pub failing_for: Option<Duration>,
}

/// What is known of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// It is left alone.
    pub suspended: bool,
    /// What this release does not reconcile of it.
    pub not_supported: Vec<String>,
    /// Its condition, when that is about its present spec.
    pub ready: Option<Ready>,
    /// What was fetched last.
    pub revision: Option<Revision>,
}

/// Where the fetch of a source stands. Its own failure is never late: the hub itself has tried.
pub fn source_progress(facts: &SourceFacts, handled: bool) -> Progress {
    let progressing = || Ready::new(Readiness::Unknown, PROGRESSING, "reconciliation in progress");
    let ready = facts.ready.clone().unwrap_or_else(progressing);
    let (outcome, ready) = if let Some(ended) = not_reconciled(facts.suspended, &facts.not_supported) {
        ended
    } else {
        let outcome = match ready.status {
            _ if !handled => None,
            Readiness::True => Some(Outcome::Succeeded),
            Readiness::False => Some(Outcome::Failed),
            Readiness::Unknown => None,
        };
        (outcome, ready)
    };
    Progress {
        phase: Phase::Source,
        outcome,
        ready,
        clusters: 0,
        clusters_ready: 0,
        revision: facts.revision.clone(),
        failing: false,
    }
}

/// What is left alone, or unknown to this release, ends at once.
fn not_reconciled(suspended: bool, not_supported: &[String]) -> Option<(Option<Outcome>, Ready)> {
    if suspended {
        let ready = Ready::new(Readiness::Unknown, "Suspended", "resource is suspended");
        return Some((Some(Outcome::Suspended), ready));
    }
    if not_supported.is_empty() {
        return None;
    }
    let message = format!("not supported by this release: {}", not_supported.join(", "));
    Some((
        Some(Outcome::NotSupported),
        Ready::new(Readiness::False, "NotSupported", message),
    ))
}

/// Where an app stands.
pub fn app_progress(facts: &AppFacts, not_supported: &[String], followed: Followed) -> Progress {
    let mut clusters_ready = 0;
    let (mut offline, mut failed, mut behind) = (0, 0, 0);
    let mut refused = false;
    for alike in &facts.units {
        refused |= alike.first.refused && alike.first.connected;
        match unit(&alike.first).status {
            // Who is away was not asked, whatever is known of it.
            _ if !alike.first.connected => offline += alike.units,
            Readiness::True => clusters_ready += alike.units,
            Readiness::False => failed += alike.units,
            Readiness::Unknown => behind += alike.units,
        }
    }
    let mut progress = Progress {
        phase: Phase::Rendering,
        outcome: None,
        ready: app(facts),
        clusters: facts.total(),
        clusters_ready,
        revision: facts.revision().cloned(),
        failing: false,
    };
    if let Some((outcome, ready)) = not_reconciled(facts.suspended, not_supported) {
        (progress.outcome, progress.ready) = (outcome, ready);
        return progress;
    }
    if !followed.handled || !facts.observed {
        return progress;
    }
    if facts.waiting.first().is_some_and(Waiting::is_passing) {
        return progress;
    }
    let settled = followed.failing_for.is_some_and(|since| since >= SETTLED);
    let fails = |outcome| (true, settled.then_some(outcome));
    let waiting = facts.waiting.first().map(Waiting::reason);
    if waiting.is_some_and(|reason| reason == "NotSupported") {
        progress.outcome = Some(Outcome::NotSupported);
        return progress;
    }
    if facts.units.is_empty() || waiting.is_some() {
        let outcome = match facts.waiting.first() {
            Some(why) if !why.is_nowhere() => Outcome::Failed,
            _ => Outcome::NothingToApply,
        };
        (progress.failing, progress.outcome) = fails(outcome);
        return progress;
    }
    progress.phase = Phase::Clusters;
    (progress.failing, progress.outcome) = match (failed, behind + followed.unanswered, offline) {
        // What an agent says of the very entry that asks is its answer.
        (1.., ..) if followed.unanswered == 0 && refused => (true, Some(Outcome::Failed)),
        (1.., ..) if followed.unanswered == 0 => fails(Outcome::Failed),
        (0, 0, 0) => (false, Some(Outcome::Succeeded)),
        (0, 0, _) => (false, Some(Outcome::ClustersOffline)),
        _ => (false, None),
    };
    progress
}
