//! Why an app is in a cluster as it is: the whole way from its source to its objects, step by step, from what is stored.
//! Nothing is found out here that no task has decided before: facts are put into an order, and the first that stands in the
//! way is the cause.

mod applied;
mod delivery;
mod facts;
mod origin;
mod plan;
#[cfg(test)]
mod tests;

use crate::clock::Timestamp;

pub use facts::{
    Agent, Deleting, Facts, Input, Leaving, Moved, Name, Object, Placing, Refused, RenderState, Rendering,
    Rollout, Source, SourceState, Stated, Unit, UnitWord,
};

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Not yet, and it goes on by itself.
    Waiting,
    /// Not, and somebody has to do something.
    Blocked,
    /// What was known last may be wrong by now.
    Unknown,
    /// It does not apply, or is not reached.
    Skipped,
}

impl State {
    /// As programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Waiting => "Waiting",
            Self::Blocked => "Blocked",
            Self::Unknown => "Unknown",
            Self::Skipped => "Skipped",
        }
    }
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// One word, where it is not as it should be.
    pub reason: String,
    /// What is so.
    pub message: String,
    /// What to do: a command, or a sentence; empty when nothing is to be done.
    pub next: String,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// When that was looked at last, where it is looked at from time to time.
    pub seen: Option<Timestamp>,
    /// When it is tried again by itself.
    pub again: Option<Timestamp>,
}

impl Step {
    fn new(name: &'static str, state: State, reason: &str, message: impl Into<String>) -> Self {
        Self {
            name,
            state,
            reason: reason.to_owned(),
            message: message.into(),
            next: String::new(),
            since: None,
            seen: None,
            again: None,
        }
    }

    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, State::Ok, "", message)
    }

    fn skipped(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, State::Skipped, "", message)
    }

    fn waiting(name: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(name, State::Waiting, reason, message)
    }

    fn blocked(name: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(name, State::Blocked, reason, message)
    }

    fn next(self, next: impl Into<String>) -> Self {
        Self {
            next: next.into(),
            ..self
        }
    }

    fn since(self, since: Option<Timestamp>) -> Self {
        Self { since, ..self }
    }

    fn is_in_the_way(&self) -> bool {
        !matches!(self.state, State::Ok | State::Skipped)
    }
}

/// The answer to "is what the source has now applied there".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is, and the app is ready.
    Applied,
    /// It is, and the app is not ready.
    NotReady,
    /// It is not.
    NotApplied,
    /// It was when it was looked at last, which says little.
    Unknown,
}

impl Verdict {
    /// As programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::NotReady => "NotReady",
            Self::NotApplied => "NotApplied",
            Self::Unknown => "Unknown",
        }
    }
}

/// An app in one cluster, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether what the source has now is applied.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub answer: String,
    /// The step that stands in the way first; `None` when nothing does.
    pub cause: Option<usize>,
    /// All steps, from source to objects.
    pub steps: Vec<Step>,
}

/// Explains what is known.
pub fn explain(facts: &Facts) -> Explanation {
    let steps = vec![
        origin::source(facts),
        origin::rendering(facts),
        plan::placement(facts),
        plan::plan(facts),
        plan::rollout(facts),
        delivery::publishing(facts),
        delivery::acceptance(facts),
        applied::apply(facts),
        applied::health(facts),
        applied::removal(facts),
    ];
    let verdict = verdict(facts, &steps);
    let cause = match verdict {
        Verdict::Applied => None,
        // Whoever can do something about it is to see that first, and of two things the earlier one.
        _ => [State::Blocked, State::Unknown, State::Waiting]
            .into_iter()
            .find_map(|state| steps.iter().position(|step| step.state == state)),
    };
    Explanation {
        answer: answer(facts, verdict),
        verdict,
        cause,
        steps,
    }
}

fn verdict(facts: &Facts, steps: &[Step]) -> Verdict {
    let Some(unit) = &facts.unit else {
        return Verdict::NotApplied;
    };
    let is_applied = unit.current && unit.applied && unit.waiting.is_empty() && is_newest(facts, unit);
    if !is_applied {
        return Verdict::NotApplied;
    }
    let is_known = |name: &str| !steps.iter().any(|step| step.name == name && step.is_in_the_way());
    if !is_known("source")
        || facts.input() == Input::Changed
        || facts
            .agent
            .as_ref()
            .is_none_or(|agent| !agent.connected && agent.silent)
    {
        return Verdict::Unknown;
    }
    // One that is kept as it is has what it should, and is not looked after.
    match unit.word.is_ready && unit.state == "Active" {
        true => Verdict::Applied,
        false => Verdict::NotReady,
    }
}

/// Tells whether a unit is to have what the source has now.
fn is_newest(facts: &Facts, unit: &Unit) -> bool {
    let is_of_source = facts.input() != Input::OtherSource;
    facts.is_planned() && !facts.is_held() && is_of_source && unit.has_rendered == Some(true)
}

fn answer(facts: &Facts, verdict: Verdict) -> String {
    let revision = facts.source.as_ref().and_then(|source| source.known.as_ref());
    let revision = revision.and_then(|source| source.revision.as_deref());
    let what = match revision {
        Some(revision) => short_revision(revision),
        None => "what its source has".to_owned(),
    };
    match verdict {
        Verdict::Applied => format!("{what} is applied and ready"),
        Verdict::NotReady => format!("{what} is applied and not ready"),
        Verdict::Unknown if facts.input() == Input::Changed => {
            format!("{what} was applied as the app said when it was rendered last")
        }
        Verdict::Unknown => format!("{what} was applied when it was looked at last"),
        Verdict::NotApplied => match facts.unit.as_ref().map(|unit| &*unit.applied_revision) {
            Some(applied) if !applied.is_empty() && Some(applied) != revision => {
                format!("{what} is not applied; {} is", short_revision(applied))
            }
            _ => format!("{what} is not applied"),
        },
    }
}

/// Shortens the digest in a revision to eight digits, as Flux does: `main@sha1:696f056d`.
pub fn short_revision(revision: &str) -> String {
    let Some((before, digest)) = revision.rsplit_once(':') else {
        return revision.to_owned();
    };
    let is_digest = digest.len() >= 40 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_digest {
        true => format!("{before}:{}", &digest[..8]),
        false => revision.to_owned(),
    }
}

/// A number of things.
fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}
