//! What became of a target that a unit had for a time, from what was recorded of it.

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// It is what the unit is to be, and its agent has not said yet what came of it.
    Progressing,
    /// It was applied.
    Applied,
    /// It was applied, and its objects are healthy.
    Healthy,
    /// It was not applied, or not ready, when it ended or was heard of last.
    Failed,
    /// Another one came before anything was said of it.
    Superseded,
    /// It was the last: the app, or the cluster, is no more.
    Removed,
}

impl Result {
    /// As people and programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Applied => "applied",
            Self::Healthy => "healthy",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Removed => "removed",
        }
    }
}

/// What is recorded of a target at one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held<'a> {
    /// Another one came.
    pub ended: bool,
    /// The unit is no more.
    pub gone: bool,
    /// It was ready at some time.
    pub was_ready: bool,
    /// What was said of it last: `True`, `False`, `Unknown`.
    pub last: &'a str,
    /// Of the present version: it is applied.
    pub applied: bool,
    /// Of the present version: it is healthy.
    pub healthy: bool,
}

/// Says what became of it. What was ready once was applied, whatever came later; of the present one its state counts.
pub fn result(held: &Held<'_>) -> Result {
    match (held.ended, held.last) {
        (false, _) if held.gone => Result::Removed,
        (false, "False") => Result::Failed,
        (false, _) if held.healthy => Result::Healthy,
        (false, _) if held.applied => Result::Applied,
        (false, _) => Result::Progressing,
        (true, _) if held.was_ready => Result::Applied,
        (true, "False") => Result::Failed,
        (true, _) => Result::Superseded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ready_once_was_applied_and_of_the_present_one_its_state_counts() {
        let past = |was_ready, last| Held {
            ended: true,
            was_ready,
            last,
            ..Held::default()
        };
        let now = |last, applied, healthy| Held {
            was_ready: true,
            last,
            applied,
            healthy,
            ..Held::default()
        };
        for (held, word) in [
            (past(true, "False"), "applied"),
            (past(true, "True"), "applied"),
            (past(false, "False"), "failed"),
            (past(false, "Unknown"), "superseded"),
            (now("Unknown", false, false), "progressing"),
            (now("True", true, false), "applied"),
            (now("True", true, true), "healthy"),
            (now("False", true, true), "failed"),
        ] {
            assert_eq!(result(&held).as_str(), word, "{held:?}");
        }
    }

    #[test]
    fn of_a_unit_that_is_no_more_nothing_is_present() {
        let gone = |ended, last| Held {
            ended,
            gone: true,
            was_ready: true,
            last,
            ..Held::default()
        };
        for (held, word) in [
            (gone(false, "Unknown"), "removed"),
            (gone(false, "False"), "removed"),
            (gone(false, "True"), "removed"),
            (gone(true, "True"), "applied"),
        ] {
            assert_eq!(result(&held).as_str(), word, "{held:?}");
        }
    }
}
