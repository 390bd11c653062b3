//! What became of a target in its cluster: applied, healthy, and what it no longer has removed.

use super::{Facts, Leaving, Object, State, Step, Unit, counted, plan::explain_dependency};
use crate::status::GONE;

const APPLY: &str = "apply";
const HEALTH: &str = "health";
const REMOVAL: &str = "removal";
/// Condition reasons that are about removal.
const OF_REMOVAL: [&str; 4] = ["PruneBlocked", "PruneFailed", "Removing", GONE];
/// Objects that a message names.
const NAMED: usize = 3;

pub(super) fn apply(facts: &Facts) -> Step {
    let Some(unit) = &facts.unit else {
        return Step::skipped(APPLY, "nothing is to be applied");
    };
    let step = last_known(facts, applied(facts, unit));
    Step {
        seen: unit.observed,
        ..step
    }
}

/// What was said last by an agent that is away may be wrong by now.
fn last_known(facts: &Facts, step: Step) -> Step {
    let is_away = facts
        .agent
        .as_ref()
        .is_none_or(|agent| !agent.connected && agent.silent);
    match is_away && step.state != State::Skipped {
        true => Step {
            state: State::Unknown,
            message: format!("said last: {}", step.message),
            ..step
        },
        false => step,
    }
}

fn applied(facts: &Facts, unit: &Unit) -> Step {
    let Some(said) = unit.said_version else {
        return Step::waiting(APPLY, "Progressing", "the agent has said nothing of it yet");
    };
    if !unit.current {
        let message = format!(
            "the agent has reported version {said}, not version {} yet",
            unit.version
        );
        return Step::waiting(APPLY, "Progressing", message);
    }
    if matches!(unit.state.as_str(), "Suspended" | "Detached") {
        return Step::blocked(APPLY, &unit.state, unit.word.message.clone()).since(unit.turned);
    }
    if unit.applied {
        let mut message = format!(
            "version {} is applied, {}",
            unit.version,
            counted(unit.objects, "object")
        );
        if !unit.word.notes.is_empty() {
            message.push_str(&format!("; {}", unit.word.notes));
        }
        return Step::ok(APPLY, message).since(unit.turned);
    }
    let message = with_objects(&unit.word.message, &unit.failing, unit.failing_total);
    let step = match unit.word.is_failed {
        true => Step::blocked(APPLY, &unit.word.reason, message).next(where_to_look(facts, unit)),
        false => Step::waiting(APPLY, &unit.word.reason, message),
    };
    step.since(unit.turned)
}

/// Where it is said why a unit is not applied: of the app that it waits for, or of itself.
fn where_to_look(facts: &Facts, unit: &Unit) -> String {
    let waits = unit.word.reason == "DependencyNotReady";
    match unit.word.message.split('\'').nth(1).filter(|_| waits) {
        Some(name) => explain_dependency(facts, name),
        None => format!(
            "flotilla events --for {}/{} -n {} --cluster {}",
            facts.app.kind, facts.app.name, facts.app.namespace, facts.cluster
        ),
    }
}

/// Adds objects that the message does not name itself.
fn with_objects(message: &str, objects: &[Object], total: u64) -> String {
    let unnamed = objects
        .iter()
        .filter(|one| !message.contains(&one.key.to_string()));
    let named: Vec<String> = unnamed.take(NAMED).map(described).collect();
    let mut parts: Vec<String> = Vec::new();
    if !message.is_empty() {
        parts.push(message.to_owned());
    }
    if !named.is_empty() {
        parts.push(named.join("; "));
    }
    if total > 1 {
        parts.push(format!("{total} objects are not as they should be"));
    }
    parts.join("; ")
}

fn described(object: &Object) -> String {
    let state = match object.state.as_str() {
        "Applied" => object.health.as_str(),
        other => other,
    };
    match object.message.is_empty() {
        true => format!("{} ({state})", object.key),
        false => format!("{} ({state}): {}", object.key, object.message),
    }
}

pub(super) fn health(facts: &Facts) -> Step {
    let Some(unit) = facts.unit.as_ref().filter(|unit| unit.current && unit.applied) else {
        return Step::skipped(HEALTH, "it is not applied yet");
    };
    last_known(facts, healthy(facts, unit))
}

fn healthy(facts: &Facts, unit: &Unit) -> Step {
    if unit.word.is_ready || OF_REMOVAL.contains(&unit.word.reason.as_str()) {
        if unit.failing_total == 0 {
            return Step::ok(HEALTH, "").since(unit.healthy_since);
        }
        // Of an app that does not wait for its objects that is no more than a word.
        let message = with_objects("", &unit.failing, unit.failing_total);
        return Step::ok(HEALTH, format!("not waited for: {message}"));
    }
    let message = with_objects(&unit.word.message, &unit.failing, unit.failing_total);
    let step = match unit.word.is_failed {
        true => Step::blocked(HEALTH, &unit.word.reason, message).next(format!(
            "flotilla inventory {} --cluster {}",
            facts.app, facts.cluster
        )),
        false => Step::waiting(HEALTH, &unit.word.reason, message),
    };
    step.since(unit.turned)
}

pub(super) fn removal(facts: &Facts) -> Step {
    let Some(unit) = &facts.unit else {
        return Step::skipped(REMOVAL, "nothing is to be removed");
    };
    let mut step = removed(facts, unit);
    let moved: Vec<String> = unit.moved_to.iter().take(NAMED).map(moved).collect();
    if !moved.is_empty() {
        let mut said = moved.join("; ");
        let more = unit
            .moved_total
            .saturating_sub(moved.len().try_into().unwrap_or(0));
        if more > 0 {
            said.push_str(&format!("; and {more} more"));
        }
        step.message = format!("{}; {said}", step.message);
    }
    step
}

fn moved(moved: &super::Moved) -> String {
    match moved.done {
        true => format!("{} moved to {}", moved.key, moved.to),
        false => format!("{} is to move to {}", moved.key, moved.to),
    }
}

fn removed(facts: &Facts, unit: &Unit) -> Step {
    let is_current = unit.current;
    let approve = format!("flotilla approve {} --cluster {}", facts.app, facts.cluster);
    if is_current && unit.word.reason == "PruneBlocked" {
        return match &unit.approved {
            Some(by) => {
                let message = format!("{by} has allowed it, and the agent has still to hear of that");
                Step::waiting(REMOVAL, "Approved", message)
            }
            None => Step::blocked(REMOVAL, "PruneBlocked", unit.word.message.clone())
                .next(approve)
                .since(unit.turned),
        };
    }
    let left = counted(unit.leaving_total, "object");
    if is_current && unit.word.reason == "PruneFailed" {
        let message = with_objects(&unit.word.message, &unit.leaving, 0);
        return Step::blocked(REMOVAL, "PruneFailed", message)
            .next("mend the agent's rights, or the webhook that refuses it")
            .since(unit.turned);
    }
    if unit.leaving_total == 0 {
        return match unit.state == "Removing" {
            false => Step::ok(REMOVAL, "nothing is to be removed"),
            true if is_current && unit.word.reason == GONE => Step::ok(REMOVAL, "all of it is removed"),
            true => Step::waiting(REMOVAL, "Removing", "all of it is to be removed"),
        };
    }
    let objects: Vec<String> = unit.leaving.iter().take(NAMED).map(leaving).collect();
    let objects = objects.join("; ");
    let Some(cleared) = &unit.cleared else {
        return Step::waiting(REMOVAL, "NotCleared", format!("{left} left; {objects}"));
    };
    decided(cleared, &left, &objects).since(Some(cleared.at))
}

fn decided(cleared: &Leaving, left: &str, objects: &str) -> Step {
    match cleared.state.as_str() {
        "Off" => Step::ok(REMOVAL, format!("{left} left and stays: prune is off; {objects}")),
        "Cleared" => {
            let excepted = match cleared.excepted {
                0 => String::new(),
                count => format!(", but for {count} that other apps claim"),
            };
            let message = format!("{left} left, cleared by the hub{excepted}; {objects}");
            Step::waiting(REMOVAL, "PendingRemoval", message)
        }
        _ if cleared.waits.is_empty() => {
            let message = format!("{left} left, and the hub has not decided of it yet; {objects}");
            Step::waiting(REMOVAL, "NotCleared", message)
        }
        _ => {
            let message = format!("{left} left and is kept: {}; {objects}", cleared.waits);
            Step::waiting(REMOVAL, "NotCleared", message).next("mend, resume or delete that app")
        }
    }
}

fn leaving(object: &Object) -> String {
    match (&object.other, object.message.is_empty()) {
        (Some(other), _) => format!("{}: to move to {other}", object.key),
        (None, true) => object.key.to_string(),
        (None, false) => format!("{}: {}", object.key, object.message),
    }
}
