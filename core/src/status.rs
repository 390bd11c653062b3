//! What is said of units and apps: READY, reason and message, for command, page and notifications alike. Gathered are
//! facts; of many units that are alike, one stands for all, with their number.

mod reconcile;
#[cfg(test)]
mod tests;

use crate::{clock::Timestamp, rollout::waiting::Waiting};

pub use reconcile::{
    Followed, Outcome, Phase, Progress, SETTLED, SourceFacts, app_progress, source_progress,
};

/// Condition reason of a unit whose cluster is away.
pub const CLUSTER_OFFLINE: &str = "ClusterOffline";
/// Condition reason of what is on its way.
pub const PROGRESSING: &str = "Progressing";

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// It is as it should be.
    True,
    /// Not known, or on its way.
    Unknown,
    /// It is not as it should be.
    False,
}

impl Readiness {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::Unknown => "Unknown",
            Self::False => "False",
        }
    }

    /// Reads what [`Self::as_str`] gives; anything else is not known.
    pub fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// A Ready condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Whether it is ready.
    pub status: Readiness,
    /// One word.
    pub reason: String,
    /// A sentence, without a running clock.
    pub message: String,
}

impl Ready {
    fn new(status: Readiness, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// Condition reason of a unit of which all is removed. It has no revision: its agent's words say all there is.
pub const GONE: &str = "Gone";

/// What precedes the revision that is applied, as Flux says it.
const APPLIED: &str = "Applied revision: ";

/// A revision of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Rises with each revision of a source.
    pub id: i64,
    /// As Flux names it.
    pub name: String,
}

/// What is known of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// Name of its cluster.
    pub cluster: String,
    /// A stream to the cluster is open.
    pub connected: bool,
    /// Not heard of for so long that what was said last may be wrong by now.
    pub silent: bool,
    /// What was reported is about the present target.
    pub current: bool,
    /// The present target is applied.
    pub applied: bool,
    /// Its agent does not take the present entry: `ready`, `reason` and `message` say why.
    pub refused: bool,
    /// As reported.
    pub ready: Readiness,
    /// As reported.
    pub reason: String,
    /// As reported.
    pub message: String,
    /// What its agent notes of it although it is ready; empty when nothing.
    pub notes: String,
    /// Why it is held at an older target than its app asks for; empty when it is not.
    pub waiting: Vec<Waiting>,
    /// Newest revision of what is applied; `None` while nothing is, or it is not known.
    pub revision: Option<Revision>,
}

/// What is said of a unit: that its cluster is away, why it is held, then the agent's words about the present target.
pub fn unit(facts: &UnitFacts) -> Ready {
    let offline = || format!("cluster {} is not connected", facts.cluster);
    if !facts.connected && facts.silent {
        let message = match reported(facts).as_str() {
            "" => offline(),
            said => format!("{}; it said last: {said}", offline()),
        };
        return Ready::new(Readiness::Unknown, CLUSTER_OFFLINE, message);
    }
    if let Some(first) = facts.waiting.first() {
        let each: Vec<String> = facts.waiting.iter().map(ToString::to_string).collect();
        return Ready::new(Readiness::False, first.reason(), each.join("; "));
    }
    if facts.refused {
        return Ready::new(Readiness::False, &facts.reason, facts.message.clone());
    }
    if facts.current && facts.applied && facts.ready == Readiness::True && facts.reason != GONE {
        // The newest revision with this content: the agent may know an older one that gave the same.
        let revision = facts.revision.as_ref().map_or("", |revision| &revision.name);
        let mut message = format!("{APPLIED}{revision}");
        if !facts.notes.is_empty() {
            message.push_str(&format!("; {}", facts.notes));
        }
        return Ready::new(Readiness::True, &facts.reason, message);
    }
    if facts.current {
        return Ready::new(facts.ready, &facts.reason, reported(facts));
    }
    if !facts.connected {
        return Ready::new(Readiness::Unknown, CLUSTER_OFFLINE, offline());
    }
    Ready::new(Readiness::Unknown, PROGRESSING, "waiting for the agent")
}

/// The agent's words. Of a unit that it keeps as it is they are followed by what is applied: the newest revision with that
/// content, which the agent does not know.
fn reported(facts: &UnitFacts) -> String {
    let is_kept = matches!(facts.reason.as_str(), "Suspended" | "Detached");
    match &facts.revision {
        Some(revision) if is_kept => format!("{}; last applied revision: {}", facts.message, revision.name),
        _ => facts.message.clone(),
    }
}

/// Units that are alike: the first by cluster stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// How many there are.
    pub units: u64,
    /// The first of them.
    pub first: UnitFacts,
    /// When the first of them turned what it is.
    pub first_turned: Timestamp,
    /// When the last of them did.
    pub last_turned: Timestamp,
}

/// What is known of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppFacts {
    /// When its spec changed last; `None`: it is not known.
    pub asked: Option<Timestamp>,
    /// Since when it has reasons of its own to wait, or has none; `None` before it was looked at.
    pub held: Option<Timestamp>,
    /// Its present spec was looked at.
    pub observed: bool,
    /// It is left alone.
    pub suspended: bool,
    /// Why nothing, or not everything, moves.
    pub waiting: Vec<Waiting>,
    /// Its units, but for those that were let go.
    pub units: Vec<Alike>,
}

impl AppFacts {
    /// How many units there are.
    pub fn total(&self) -> u64 {
        self.units.iter().map(|alike| alike.units).sum()
    }

    /// The newest revision that every unit has applied; `None` while one of them has applied nothing that is known.
    pub fn revision(&self) -> Option<&Revision> {
        let each = self.units.iter().map(|alike| alike.first.revision.as_ref());
        let each: Option<Vec<&Revision>> = each.collect();
        each?.into_iter().min_by_key(|revision| revision.id)
    }
}

/// When what [`app`] says turned: True with the last of its units, anything else with the first that is so. `None`: it is
/// not known.
pub fn turned(facts: &AppFacts) -> Option<Timestamp> {
    if !facts.observed && !facts.suspended {
        return facts.asked;
    }
    if !facts.waiting.is_empty() {
        return facts.held;
    }
    let said = || facts.units.iter().map(|alike| (unit(&alike.first).status, alike));
    let worst = said().map(|(status, _)| status).max();
    match worst {
        None => facts.held,
        Some(Readiness::True) => said().map(|(_, alike)| alike.last_turned).max().max(facts.held),
        Some(worst) => {
            let those = said().filter(|(status, _)| *status == worst);
            those.map(|(_, alike)| alike.first_turned).min()
        }
    }
}

/// What is said of an app. It is ready only when it has units, and all of them are.
pub fn app(facts: &AppFacts) -> Ready {
    // Whether it was suspended before its last change was looked at does not matter: it is left alone.
    if !facts.observed && !facts.suspended {
        return Ready::new(Readiness::Unknown, PROGRESSING, "Reconciliation in progress");
    }
    if let Some(first) = facts.waiting.first() {
        let status = match first.is_passing() {
            true => Readiness::Unknown,
            false => Readiness::False,
        };
        return Ready::new(status, first.reason(), first.message());
    }
    let said: Vec<(&Alike, Ready)> = facts
        .units
        .iter()
        .map(|alike| (alike, unit(&alike.first)))
        .collect();
    let Some((worst, ready)) = said
        .iter()
        // Of those that are equally bad the first by name: the same one each time.
        .min_by_key(|(alike, ready)| (std::cmp::Reverse(ready.status), &alike.first.cluster))
    else {
        return Ready::new(Readiness::Unknown, PROGRESSING, "nothing is deployed yet");
    };
    let total = facts.total();
    if ready.status == Readiness::True && said.iter().all(|(_, ready)| ready.reason == GONE) {
        return ready.clone();
    }
    if ready.status == Readiness::True {
        let revision = facts.revision().map_or("", |revision| &revision.name);
        let mut message = match total {
            1 => format!("{APPLIED}{revision}"),
            count => format!("{APPLIED}{revision} on {count} clusters"),
        };
        let mut noted = facts.units.iter().filter(|alike| !alike.first.notes.is_empty());
        if let Some(alike) = noted.next() {
            if total > 1 {
                message.push_str(&format!("; on {}", alike.first.cluster));
            }
            let more = alike.units - 1 + noted.map(|alike| alike.units).sum::<u64>();
            if more > 0 {
                message.push_str(&format!(" and {more} more"));
            }
            message.push_str(&format!("; {}", alike.first.notes));
        }
        return Ready::new(Readiness::True, "ReconciliationSucceeded", message);
    }
    let done: u64 = said
        .iter()
        .filter(|(_, ready)| ready.status == Readiness::True)
        .map(|(alike, _)| alike.units)
        .sum();
    let message = format!("{done}/{total} ready; {}: {}", worst.first.cluster, ready.message);
    Ready::new(ready.status, &ready.reason, message)
}
