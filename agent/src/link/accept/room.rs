//! Room in the ledger for what came: what does not fit is refused unwritten, and tried again only once there is as much
//! room as it lacked.

use flotilla_proto::agent::v1::UnitAcceptance;

use crate::ledger::{Ledger, LedgerError, record::Record, state::State};

/// Bytes that contents and entries take, at most.
pub(super) fn room(records: &[Record]) -> usize {
    let sizes = records.iter().map(|record| match record {
        Record::Blob(_, blob) => blob.room(),
        Record::Offered { entry, .. } => entry.bytes().len(),
        _ => 0,
    });
    sizes.sum()
}

/// A unit whose entry, or its content, the ledger did not take.
#[derive(Debug)]
pub(super) struct Untaken {
    /// As it is said to the hub.
    pub(super) answer: UnitAcceptance,
    again: Again,
}

/// When it is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// With time: storage may be back.
    Later,
    /// Once there is room for so many bytes more, or for more than there was when it was tried.
    Room { limit: usize, more: usize },
}

impl Untaken {
    pub(super) fn new(ledger: &Ledger, answer: UnitAcceptance, error: &LedgerError) -> Self {
        let again = match error {
            LedgerError::Full { more, .. } => Again::Room {
                limit: ledger.limit(),
                more: *more,
            },
            _ => Again::Later,
        };
        Self { answer, again }
    }

    /// Tells whether there may be room by now.
    pub(super) fn may_fit(&self, now: Room) -> bool {
        match self.again {
            Again::Later => false,
            // What others need by now counts: room that came and went again is none.
            Again::Room { limit, more } => now.limit > limit || now.need + more <= limit,
        }
    }

    /// Tells whether it is worth a try after a while.
    pub(super) fn is_due(&self, now: Room) -> bool {
        self.again == Again::Later || self.may_fit(now)
    }
}

/// What a ledger needs, and what it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    need: usize,
    limit: usize,
}

impl Room {
    pub(super) fn of(ledger: &Ledger) -> Self {
        Self {
            need: ledger.read(State::need),
            limit: ledger.limit(),
        }
    }
}
