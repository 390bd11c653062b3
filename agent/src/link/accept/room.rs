//! Room in the ledger for what came: what surely does not fit is refused unwritten, and tried again only where it may
//! fit by then. The same size twice in a row costs one try.

use flotilla_core::id::UnitId;
use flotilla_proto::agent::v1::UnitAcceptance;

use crate::ledger::{Ledger, LedgerError, record::Record};

/// Bytes that contents and entries take, at most.
pub(super) fn room(records: &[Record]) -> usize {
    let sizes = records.iter().map(|record| match record {
        Record::Blob(_, blob) => blob.room(),
        Record::Offered { entry, .. } => entry.len(),
        _ => 0,
    });
    sizes.sum()
}

/// Appends one after another, the smallest first.
#[derive(Debug, Default)]
pub(super) struct Appends {
    refused: Option<NoRoom>,
}

/// The least for which there was no room.
#[derive(Debug, Clone, Copy)]
struct NoRoom {
    /// Bytes of what was to be appended.
    bytes: usize,
    /// What the ledger would have taken with it, and what it may take.
    size: usize,
    limit: usize,
    /// What was freed by then, of all time.
    freed: u64,
}

impl Appends {
    /// Appends what `unit` needs, unless it needs at least as much as something that had no room.
    pub(super) async fn append(
        &mut self,
        ledger: &Ledger,
        unit: Option<UnitId>,
        records: Vec<Record>,
    ) -> Result<(), LedgerError> {
        let most = self.surely_none(ledger, unit, &records)?;
        let appended = ledger.append(records).await;
        self.note(ledger, most, &appended);
        appended
    }

    /// Tells whether there may be room for contents that are not stored before their entry is.
    pub(super) fn may_fit(&mut self, ledger: &Ledger, records: &[Record]) -> Result<(), LedgerError> {
        // A content that comes takes the place of none.
        let most = self.surely_none(ledger, None, records)?;
        let fits = ledger.may_fit(records);
        self.note(ledger, most, &fits);
        fits
    }

    /// Returns the room that records take at most, unless there is none for as much.
    fn surely_none(
        &mut self,
        ledger: &Ledger,
        unit: Option<UnitId>,
        records: &[Record],
    ) -> Result<usize, LedgerError> {
        let most = room(records);
        let freed = ledger.read(|state| state.freed());
        self.refused = self.refused.filter(|refused| refused.freed == freed);
        if let Some(refused) = self.refused {
            let replaced = unit.map_or(0, |unit| ledger.read(|state| state.replaceable(&unit)));
            let least = most.saturating_sub(replaced);
            if least >= refused.bytes {
                return Err(LedgerError::Full {
                    size: refused.size + (least - refused.bytes),
                    limit: refused.limit,
                });
            }
        }
        Ok(most)
    }

    fn note(&mut self, ledger: &Ledger, most: usize, tried: &Result<(), LedgerError>) {
        if let Err(LedgerError::Full { size, limit }) = *tried
            && self.refused.is_none_or(|refused| most < refused.bytes)
        {
            self.refused = Some(NoRoom {
                bytes: most,
                size,
                limit,
                freed: ledger.read(|state| state.freed()),
            });
        }
    }
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
    /// Once the storage takes more than this, or as much was freed as is lacking.
    Room { limit: usize, freed: u64 },
}

impl Untaken {
    pub(super) fn new(ledger: &Ledger, answer: UnitAcceptance, error: &LedgerError) -> Self {
        let again = match error {
            LedgerError::Full { size, limit } => {
                let lacking = size.saturating_sub(*limit).max(1) as u64;
                Again::Room {
                    limit: *limit,
                    freed: ledger.read(|state| state.freed()) + lacking,
                }
            }
            _ => Again::Later,
        };
        Self { answer, again }
    }

    /// Tells whether there may be room by now.
    pub(super) fn may_fit(&self, ledger: &Ledger) -> bool {
        match self.again {
            Again::Later => false,
            Again::Room { limit, freed } => {
                ledger.limit() > limit || ledger.read(|state| state.freed()) >= freed
            }
        }
    }

    /// Tells whether it is worth a try after a while.
    pub(super) fn is_due(&self, ledger: &Ledger) -> bool {
        self.again == Again::Later || self.may_fit(ledger)
    }
}
