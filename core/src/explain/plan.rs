//! What an app is to be in a cluster: whether it belongs there, its target, and the rollout that brought it.

use super::{Facts, Name, Step, Unit, short_revision};
use crate::{
    fleet::{departure::Departure, placement::Match},
    rollout::waiting::Waiting,
};

const PLACEMENT: &str = "placement";
const PLAN: &str = "plan";
const ROLLOUT: &str = "rollout";

pub(super) fn placement(facts: &Facts) -> Step {
    if facts.deleting.is_some() {
        return Step::skipped(PLACEMENT, "the app is being deleted");
    }
    if let Some(why) = &facts.placing.unknown {
        let message = format!("where the app belongs is not known: {}", why.message());
        return Step::blocked(PLACEMENT, why.reason(), message).next("correct it and `flotilla apply` it");
    }
    let matches = &facts.placing.matches;
    if matches.is_empty() {
        return Step::blocked(PLACEMENT, "NoTarget", format!("no Placement names {}", facts.app))
            .next("apply a Placement that names it and chooses its clusters");
    }
    let said: Vec<String> = matches.iter().map(|(name, found)| words(name, found)).collect();
    let said = said.join("; ");
    if matches.iter().any(|(_, found)| found.chooses()) {
        return Step::ok(PLACEMENT, said);
    }
    if facts.cluster.is_empty() {
        let departing = |why: &&Waiting| matches!(why, Waiting::ClustersDeparting { .. });
        let why = facts.waiting.iter().find(departing);
        let why = why.unwrap_or(&Waiting::NoClusterMatches);
        return Step::blocked(PLACEMENT, why.reason(), why.message()).next(remedy(facts, why));
    }
    let departs = matches.iter().find_map(|(_, found)| match found {
        Match::Departs(departure) => Some(*departure),
        _ => None,
    });
    if let Some(departure) = departs {
        let (reason, message) = match departure {
            Departure::Drain => (
                "Draining",
                "the cluster is being emptied, and nothing is placed there any more",
            ),
            Departure::Retire => (
                "Retiring",
                "the cluster leaves the fleet, and nothing is placed there any more",
            ),
        };
        return Step::blocked(PLACEMENT, reason, message)
            .next(format!("flotilla cluster resume {}", facts.cluster));
    }
    let detached = facts.unit.as_ref().is_some_and(|unit| unit.state == "Detached");
    let (reason, message) = match detached {
        true => (
            "Detached",
            format!("{said}: what was applied there stays, and is not enforced any more"),
        ),
        false => ("NotPlaced", said),
    };
    Step::blocked(PLACEMENT, reason, message).next(format!("flotilla get clusters {} -o wide", facts.cluster))
}

fn words(placement: &str, found: &Match) -> String {
    match found {
        Match::Name => format!("{placement} names the cluster"),
        Match::Labels(labels) if labels.is_empty() => format!("{placement} chooses all clusters"),
        Match::Labels(labels) => format!("{placement} chooses it by {labels}"),
        Match::Excluded => format!("{placement} excludes the cluster"),
        Match::Departs(_) => format!("{placement} chooses no cluster that is on its way out"),
        Match::None => format!("{placement} chooses other clusters"),
    }
}

pub(super) fn plan(facts: &Facts) -> Step {
    let app = &facts.app;
    if let Some(deleting) = &facts.deleting {
        let mut message = format!("the app is being deleted ({})", deleting.policy);
        if !deleting.by.is_empty() {
            message.push_str(&format!(", as {} has asked", deleting.by));
        }
        return Step::waiting(PLAN, "Deleting", message).since(Some(deleting.at));
    }
    if facts.suspended {
        return Step::blocked(
            PLAN,
            "Suspended",
            "the app is suspended: it stays as it is, not enforced",
        )
        .next(format!("flotilla resume {}", app.argument()));
    }
    if let Some(unit) = facts.unit.as_ref().filter(|unit| !unit.waiting.is_empty()) {
        let waiting: Vec<&Waiting> = unit.waiting.iter().collect();
        return held(facts, &waiting, &target(unit)).since(unit.held);
    }
    let waiting = facts.waiting_here();
    if !waiting.is_empty() {
        let target = facts.unit.as_ref().map(target).unwrap_or_default();
        return held(facts, &waiting, &target).since(facts.held_since);
    }
    if !facts.not_supported.is_empty() {
        let message = format!(
            "not supported by this release: {}",
            facts.not_supported.join(", ")
        );
        return Step::blocked(PLAN, "NotSupported", message);
    }
    if !facts.is_planned() {
        return Step::waiting(PLAN, "Progressing", "it is about to be planned");
    }
    let Some(unit) = &facts.unit else {
        return match facts.placing.matches.iter().any(|(_, found)| found.chooses()) {
            true => Step::waiting(PLAN, "Progressing", "nothing is planned for the cluster yet"),
            false => Step::skipped(PLAN, "nothing is to be there"),
        };
    };
    if unit.has_rendered == Some(false) && unit.state == "Active" {
        let message = format!("what is rendered is not planned yet; {}", target(unit));
        return Step::waiting(PLAN, "Progressing", message);
    }
    Step::ok(PLAN, format!("{}, changed last by {}", target(unit), unit.cause)).since(unit.moved)
}

/// What a unit is to be.
fn target(unit: &Unit) -> String {
    match unit.target_revision.is_empty() {
        true => format!("version {}", unit.version),
        false => format!(
            "version {} at {}",
            unit.version,
            short_revision(&unit.target_revision)
        ),
    }
}

fn held(facts: &Facts, waiting: &[&Waiting], target: &str) -> Step {
    let mut message: Vec<String> = waiting.iter().take(NAMED).map(|why| why.message()).collect();
    if waiting.len() > NAMED {
        message.push(format!("and {} more", waiting.len() - NAMED));
    }
    let mut message = message.join("; ");
    let only_claimed = waiting.iter().all(|why| matches!(why, Waiting::Claimed { .. }));
    if !target.is_empty() {
        message = match only_claimed {
            // All else of the unit moves.
            true => format!("{message}; all else is {target}"),
            false => format!("{message}; it is held at {target}"),
        };
    }
    let first = waiting[0];
    let step = match first.is_passing() {
        true => Step::waiting(PLAN, first.reason(), message),
        false => Step::blocked(PLAN, first.reason(), message),
    };
    step.next(remedy(facts, first))
}

/// Reasons that are named.
const NAMED: usize = 5;

/// What helps against a reason to wait.
fn remedy(facts: &Facts, why: &Waiting) -> String {
    let mend = "mend it in Git";
    match why {
        Waiting::SourceNotFound {
            kind,
            namespace,
            name,
        } => {
            format!(
                "apply {kind}/{namespace}/{name}, or correct spec.sourceRef of {}",
                facts.app
            )
        }
        Waiting::NoArtifact | Waiting::ArtifactFailed { .. } | Waiting::Restored => {
            let source = facts.source.as_ref();
            source.map_or_else(String::new, |source| {
                format!("flotilla reconcile {}", source.name.argument())
            })
        }
        Waiting::BuildFailed { .. } => mend.to_owned(),
        Waiting::Claimed { owner, .. } => format!("take the object out of {owner} or out of {}", facts.app),
        Waiting::OverridesDiffer { first, second, .. } => format!("make {first} and {second} agree"),
        Waiting::DependencyNotReady { name, .. } => explain_dependency(facts, name),
        Waiting::DependencyCycle { .. } => {
            format!(
                "take one of them out of spec.dependsOn, and `flotilla apply` {}",
                facts.app
            )
        }
        Waiting::NotOnHub {
            kind,
            namespace,
            name,
            ..
        } => {
            format!("`flotilla apply` {kind} {namespace}/{name}")
        }
        Waiting::Unreadable { object, .. } => format!("correct {object} and `flotilla apply` it"),
        Waiting::NoTarget | Waiting::NoClusterMatches => "flotilla get clusters -o wide".to_owned(),
        Waiting::ClustersDeparting { clusters, .. } => {
            format!(
                "flotilla cluster resume {}",
                clusters.first().map_or("NAME", String::as_str)
            )
        }
        Waiting::NoClusterFor { reference } => {
            format!("add {reference} to spec.kubeConfigRefs of the Cluster, and `flotilla apply` it")
        }
        Waiting::ClustersFor { first, second, .. } => format!("correct {first} or {second}"),
        Waiting::KeptInvalid { object, .. } => format!("correct {object} in the source"),
        Waiting::KeptDenied { object, .. } => {
            format!("correct {object} in the source, or render it by an app without serviceAccountName")
        }
        Waiting::KeptElsewhere { object, owner, .. } => {
            format!("take {object} out of {owner} or out of {}", facts.app)
        }
        Waiting::KeptCycle { object, .. } => format!("take {object} out of {}", facts.app),
        Waiting::KeptTooDeep { .. } | Waiting::KeptTooMany { .. } | Waiting::KeptMore { .. } => {
            format!("divide what {} renders", facts.app)
        }
        Waiting::KeptUnasked { object, .. } => {
            format!("bring {object} back in the source, or `flotilla delete` it")
        }
        Waiting::KeptBlocked { .. } | Waiting::KeptEmpty { .. } => {
            "bring the objects back in the source, or `flotilla delete` each".to_owned()
        }
        Waiting::RendererBusy | Waiting::KeptRemains { .. } => String::new(),
        Waiting::Failed { .. } => "see the hub's log; it is tried again".to_owned(),
        Waiting::RenderingNotSupported { .. }
        | Waiting::NotSupported { .. }
        | Waiting::NoReferenceRenderer { .. }
        | Waiting::UnknownRenderer { .. } => "correct it and `flotilla apply` it".to_owned(),
        Waiting::Other(_) => "a newer hub says what that is".to_owned(),
    }
}

/// Where to look why an app is not as others need it.
pub(super) fn explain_dependency(facts: &Facts, name: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let dependency = Name {
        kind: facts.app.kind.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    format!("flotilla explain {}", dependency.argument())
}

pub(super) fn rollout(facts: &Facts) -> Step {
    let Some(rollout) = facts.unit.as_ref().and_then(|unit| unit.rollout.as_ref()) else {
        return Step::skipped(ROLLOUT, "nothing was rolled out to it");
    };
    let of = match rollout.revision.is_empty() {
        true => String::new(),
        false => format!(" of {}", short_revision(&rollout.revision)),
    };
    let became = match rollout.admission.as_str() {
        "Applied" => "applied here",
        "Withdrawn" => "withdrawn here: the cluster was let go of",
        "Superseded" => "superseded here by a later one",
        _ => "admitted here",
    };
    let message = format!("rollout {}{of} ({}): {became}", rollout.id, rollout.cause);
    Step::ok(ROLLOUT, message).since(rollout.at)
}
