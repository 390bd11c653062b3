//! What stands between an object and its desired state.

use std::sync::Arc;

/// Why an object is not as desired. Texts are for people and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The server refuses it.
    Failed(String),
    /// Another unit owns it, or a live Flux object does; or it lives where the agent does not work.
    Withheld {
        /// `Conflict`, `NamespaceNotWatched` or `StillManagedByFlux`.
        reason: &'static str,
        /// Who, and what to do.
        message: String,
    },
    /// The server does not answer or has too much to do: whether it would take the object is not known.
    Unanswered(String),
    /// Something else has to happen first: its namespace or an older object is being deleted, an earlier stage is
    /// not ready. Shared: a stage that stays closed says so of each of its objects.
    Waiting(Arc<str>),
    /// Its kind is not served: its definition has to come first.
    Unserved(String),
    /// It is no longer desired, and the server refuses to delete it.
    Unpruned(String),
}

/// When trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// In about a second: no answer, overload, or a race with something written at the same time.
    Soon,
    /// In about a second, twice; then as [`Interval`](Self::Interval): the server refuses, as it does when something
    /// that was written at the same moment has not arrived.
    Race,
    /// After the unit's retry interval: nothing but a change elsewhere helps.
    Interval,
}

impl Problem {
    /// All ranks there are.
    pub const RANKS: std::ops::RangeInclusive<u8> = 0..=5;

    /// The rank of what the server refuses.
    pub const FAILED: u8 = 0;
    /// The rank of what the server does not answer about.
    pub const UNANSWERED: u8 = 1;
    /// The rank of what is somebody else's.
    pub const WITHHELD: u8 = 2;
    /// The rank of what waits for a definition.
    pub const UNSERVED: u8 = 3;
    /// The rank of what waits for something else to happen first.
    pub const WAITING: u8 = 4;
    /// The rank of what the server refuses to delete.
    pub const UNPRUNED: u8 = 5;

    /// The words for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed(message)
            | Self::Withheld { message, .. }
            | Self::Unanswered(message)
            | Self::Unserved(message)
            | Self::Unpruned(message) => message,
            Self::Waiting(message) => message,
        }
    }

    /// Order in which problems are named: failures first, what merely waits for them last.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Failed(_) => Self::FAILED,
            Self::Unanswered(_) => Self::UNANSWERED,
            Self::Withheld { .. } => Self::WITHHELD,
            Self::Unserved(_) => Self::UNSERVED,
            Self::Waiting(_) => Self::WAITING,
            Self::Unpruned(_) => Self::UNPRUNED,
        }
    }
}
