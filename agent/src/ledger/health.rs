//! How the ledger stands, for the hub's status and for metrics.

use super::error::LedgerError;

/// How the ledger stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerHealth {
    /// Bytes that the facts held take in storage, without garbage.
    pub bytes: usize,
    /// Bytes that the storage takes.
    pub limit: usize,
    /// Whether it can be written.
    pub state: HealthState,
}

/// Whether the ledger can be written, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthState {
    /// It is written as it should be.
    Ok,
    /// More than three quarters of what its storage takes are in use.
    Warn,
    /// The last write did not fit. A write that needs less room is still taken.
    Full,
    /// What is stored is not what was written. What is in memory is enforced; nothing new is accepted.
    Damaged(String),
    /// The storage did not take the last write.
    Unwritable(String),
    /// Another agent writes this ledger: this one is to exit.
    Lost,
}

impl LedgerHealth {
    /// Judges the outcome of a write of a ledger that takes `bytes` of `limit`.
    pub(super) fn after(bytes: usize, limit: usize, outcome: Result<(), &LedgerError>) -> Self {
        let state = match outcome {
            Ok(()) if bytes / 3 >= limit / 4 => HealthState::Warn,
            Ok(()) => HealthState::Ok,
            Err(LedgerError::Full { .. }) => HealthState::Full,
            Err(LedgerError::Damaged(why)) => HealthState::Damaged(format!(
                "{why}; what the agent has in memory stays enforced, and nothing new is accepted; put back what was \
                 there, or restart the agent: it then keeps what is damaged under other names and begins anew with \
                 the whole state from the hub"
            )),
            Err(LedgerError::Lost) => HealthState::Lost,
            Err(LedgerError::Storage(error)) => HealthState::Unwritable(error.to_string()),
            Err(e @ (LedgerError::Moved { .. } | LedgerError::Arriving { .. } | LedgerError::Version(_))) => {
                HealthState::Unwritable(e.to_string())
            }
        };
        Self { bytes, limit, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_are_warned_of() {
        let state = |bytes| LedgerHealth::after(bytes, 16 << 20, Ok(())).state;
        assert_eq!(state(12 << 20), HealthState::Warn);
        assert_eq!(state((12 << 20) - 16), HealthState::Ok);
    }
}
