//! What can go wrong with a ledger, by what the caller does next.

use super::{key_value::KeyValueError, record::InvalidRecord};

/// What helps against a ledger that is too small.
pub const VOLUME: &str = "give it a volume: `--set state.volume.enabled=true` of the agent's chart moves it there; without the chart stop the agent and run `flotilla-agent ledger move --to DIRECTORY`, then start it with `--state-dir DIRECTORY`";

/// Why the ledger could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Another agent has written it: this one must exit.
    #[error("another agent writes this ledger")]
    Lost,
    /// The storage does not take it now. Nothing was changed in memory; a write of unknown outcome is settled
    /// before the next one.
    #[error("ledger cannot be stored")]
    Storage(#[source] KeyValueError),
    /// What is stored is not what was written. What is held in memory goes on.
    #[error("ledger is damaged: {0}")]
    Damaged(String),
    /// It was moved to another form of storage: the agent is to be started on that one.
    #[error("ledger was moved to {to}; start the agent on that")]
    Moved {
        /// Where it is.
        to: String,
    },
    /// A move to this form of storage was broken off.
    #[error("ledger was not yet moved here whole; repeat the move from {from}")]
    Arriving {
        /// Where it comes from.
        from: String,
    },
    /// Another version of the agent wrote it, in a layout that this one does not know.
    #[error("ledger has layout {0}, which this version of the agent does not know")]
    Version(u32),
    /// Larger than this form of storage takes.
    #[error("ledger of {size} bytes exceeds the {limit} that it may have; {VOLUME}")]
    Full {
        /// Bytes needed.
        size: usize,
        /// Bytes allowed.
        limit: usize,
        /// Bytes that it needs more than without what was refused.
        more: usize,
    },
}

impl LedgerError {
    /// All together is more than storage takes.
    pub(super) fn full(size: usize, limit: usize) -> Self {
        let more = size.saturating_sub(limit);
        Self::Full { size, limit, more }
    }
}

impl From<InvalidRecord> for LedgerError {
    fn from(error: InvalidRecord) -> Self {
        Self::Damaged(error.to_string())
    }
}
