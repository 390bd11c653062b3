//! How a target gets to its cluster: published by the hub, taken by the agent.

use super::{Agent, Facts, State, Step};

const PUBLISHING: &str = "publishing";
const ACCEPTANCE: &str = "acceptance";

pub(super) fn publishing(facts: &Facts) -> Step {
    let Some(agent) = &facts.agent else {
        return Step::skipped(PUBLISHING, "there is no cluster");
    };
    let cluster = &facts.cluster;
    match agent.state.as_str() {
        "Pending" => {
            return Step::blocked(
                PUBLISHING,
                "NotJoined",
                format!("no agent of {cluster} has joined"),
            )
            .next(format!("flotilla cluster join {cluster}"));
        }
        "Suspended" => {
            let message = format!("{cluster} is suspended: {}", agent.said());
            return Step::blocked(PUBLISHING, "ClusterSuspended", message).next(format!(
                "flotilla cluster admit {cluster}, or flotilla cluster revoke {cluster}"
            ));
        }
        _ => {}
    }
    let Some(unit) = &facts.unit else {
        return Step::skipped(PUBLISHING, "nothing is to be published");
    };
    if facts.unconfirmed {
        let message = "the hub was restored from a backup: nothing is published of the app until its source was looked \
                       at, and the agent keeps what it has";
        return Step::waiting(PUBLISHING, "Restored", message);
    }
    if !agent.connected {
        return away(facts, agent);
    }
    if unit.unpublished || !unit.published {
        return Step::waiting(PUBLISHING, "Publishing", "the change is about to be published");
    }
    let message = format!(
        "generation {} is published, and {cluster} is connected",
        agent.desired
    );
    Step::ok(PUBLISHING, message).since(agent.published)
}

fn away(facts: &Facts, agent: &Agent) -> Step {
    let cluster = &facts.cluster;
    let reason = "ClusterOffline";
    let step = match (agent.silent, agent.seen) {
        // A hub that is restarted is no reason to look at a cluster.
        (false, _) => Step::waiting(PUBLISHING, reason, format!("{cluster} is not connected just now")),
        (true, None) => Step::blocked(PUBLISHING, reason, format!("{cluster} was never connected")),
        (true, Some(_)) => {
            let message = format!("{cluster} is not connected: its agent enforces what it has accepted");
            Step::blocked(PUBLISHING, reason, message)
        }
    };
    step.since(agent.seen).next(format!(
        "flotilla get clusters {cluster}; then look at the pod flotilla-agent in that cluster"
    ))
}

pub(super) fn acceptance(facts: &Facts) -> Step {
    let Some((unit, agent)) = facts.unit.as_ref().zip(facts.agent.as_ref()) else {
        return Step::skipped(ACCEPTANCE, "nothing is to be accepted");
    };
    if let Some(refused) = &unit.refused {
        let message = format!("the agent does not take it: {}", refused.message);
        let next = match refused.reason.as_str() {
            "LedgerFull" => "give the agent's state more room: docs/operate/agent-state.md",
            "ContentMissing" => "see the logs of hub and agent; the agent asks again by itself",
            "NotSupported" => "upgrade the agent",
            _ => "see the agent's log",
        };
        return Step::blocked(ACCEPTANCE, &refused.reason, message)
            .next(next)
            .since(Some(refused.at));
    }
    if unit.accepted && !unit.unpublished {
        return Step::ok(ACCEPTANCE, format!("the agent holds version {}", unit.version));
    }
    let behind = format!(
        "the agent has acknowledged generation {} of {}",
        agent.accepted, agent.desired
    );
    if !agent.connected && agent.silent {
        return Step::new(ACCEPTANCE, State::Unknown, "ClusterOffline", behind);
    }
    if !agent.refusal.is_empty() && agent.accepted < agent.desired {
        let message = format!("{behind}; {}", agent.refusal);
        return Step::blocked(ACCEPTANCE, "Refused", message).next("see the agent's log");
    }
    // What is wrong with the cluster may be so for weeks, and keeps nothing from being taken.
    let message = match agent.conditions.is_empty() {
        true => behind,
        false => format!("{behind}; of the cluster: {}", agent.conditions),
    };
    Step::waiting(ACCEPTANCE, "NotAccepted", message)
}
