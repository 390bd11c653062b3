//! From an offer to acknowledgements. Contents are fetched and persisted as they arrive; an entry enters the ledger
//! once all of its content is there, each unit by itself; the generation is accepted once all of its entries are. An
//! entry whose content cannot be had enters it as well, and its unit keeps what it has. So a break loses nothing,
//! one large unit delays no other, and nothing is acknowledged that is not durable.

mod answers;
mod content;
mod room;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod whole;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use flotilla_core::{
    clock::Timestamp,
    desired::acceptance::{Judged, Known, Offer, Refusal, judge},
    digest::Digest,
    id::UnitId,
    unit::Entry,
};
use flotilla_proto::agent::v1::{Ack, RefusedReason, UnitAcceptance};

use self::{
    answers::unreadable,
    content::{Arrived, Base},
    room::{Room, Untaken, room},
    turns::Turns,
};
pub use self::{
    turns::Turn,
    whole::{Source, accept, complete},
};
use super::fetch::{BATCH, FetchError, Fetched, Item};
use crate::ledger::{
    Ledger, LedgerError,
    entry::EntryBytes,
    record::{Accepted, Record},
    state::State,
};

/// Bytes that are kept before they complete anything.
const WORTH_A_WRITE: usize = 64 << 10;
/// Bytes of contents that wait in memory for room in the ledger, so that they are not fetched again once there is.
const WAITING_MAX: usize = 4 << 20;

/// Why an offer led to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It is refused; the hub is to be told.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be persisted, so it was not accepted.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The stream of contents broke: what came is persisted, and the rest is asked for again.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// The wire's name of a refusal.
pub fn refused_reason(refusal: &Refusal) -> RefusedReason {
    match refusal {
        Refusal::Stale { .. } => RefusedReason::Stale,
        Refusal::Conflict(_) => RefusedReason::Conflict,
        Refusal::UnitMissing(_) | Refusal::NotReleasable(_) => RefusedReason::UnitMissing,
        Refusal::RootMismatch => RefusedReason::RootMismatch,
        Refusal::BaseUnknown { .. } => RefusedReason::BaseUnknown,
    }
}

/// When the entry that is stored of a unit was accepted.
fn accepted_at(ledger: &Ledger, unit: UnitId) -> Option<Timestamp> {
    ledger.read(|state| Some(state.units.get(&unit)?.offered.as_ref()?.at))
}

/// Which units a fetch is for: small ones never wait for a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Units that one batch completes.
    Small,
    /// All others.
    Large,
}

/// An entry whose content is not all here.
#[derive(Debug)]
struct Pending {
    bytes: EntryBytes,
    digest: Digest,
    entry: Arc<Entry>,
    at: Timestamp,
}

/// A desired state on its way into the ledger. It outlives the stream that it came by.
#[derive(Debug, Default)]
pub struct Acceptance {
    /// What is accepted once nothing is pending.
    target: Option<Accepted>,
    pending: BTreeMap<UnitId, Pending>,
    /// Units whose entry is stored and whose content is not all here.
    lacking: BTreeMap<UnitId, Arc<Entry>>,
    /// What came for either; the ledger may drop what no entry of its own refers to.
    arrived: Arrived,
    /// What the hub could not give at the last try, and why.
    absent: HashMap<Digest, String>,
    /// What was asked for, and the unit that it is for.
    in_flight: HashMap<Digest, UnitId>,
    /// What came and is not in the ledger, and the unit that it was asked for.
    unsaved: Vec<(Digest, Option<UnitId>)>,
    /// Units whose entry, or its content, the ledger did not take at the last try.
    untaken: BTreeMap<UnitId, Untaken>,
    /// What this stream has said of units of which something is wrong.
    said: BTreeMap<UnitId, UnitAcceptance>,
    /// Of what it was told that it is refused, and what of that is to be told.
    turns: Turns,
    /// The stream broke, and the next has offered nothing yet: what came is kept for what it will offer.
    awaits_offer: bool,
}

impl Acceptance {
    /// Takes up what an earlier life of the agent left incomplete.
    pub fn resume(ledger: &Ledger) -> Self {
        let mut this = Self::default();
        this.note_lacking(ledger);
        this
    }

    /// Takes in an offer; what needs no content is stored when this returns. Returns what to acknowledge.
    pub async fn offer(&mut self, ledger: &Ledger, offer: Offer, now: Timestamp) -> Result<Ack, AcceptError> {
        let accepted = self.target.unwrap_or_else(|| ledger.read(|state| state.accepted));
        let durable = ledger.read(State::known_units);
        let mut known = durable.clone();
        known.extend(self.pending.iter().map(|(unit, pending)| {
            // Whether its objects may be let go of is said by what is stored.
            let releasable = durable.get(unit).is_none_or(|known| known.releasable);
            let known = Known {
                digest: pending.digest,
                releasable,
                is_unknown: false,
            };
            (*unit, known)
        }));
        let (changed, released, unknown) = match judge(&accepted.held(), &known, &offer)? {
            Judged::Accepted => (Vec::new(), Vec::new(), Vec::new()),
            Judged::New {
                changed,
                released,
                unknown,
            } => (changed, released, unknown),
        };
        let mut units = Vec::new();
        let mut records = Vec::new();
        let mut entries: Vec<(UnitId, Option<Pending>)> = Vec::new();
        for position in changed {
            let offered = &offer.entries[position];
            let (unit, digest) = (offered.unit, Entry::digest_of(&offered.bytes));
            // Back to what is stored already, or named again by a history that did not.
            if let Some(known) = durable.get(&unit).filter(|known| known.digest == digest) {
                if known.is_unknown {
                    records.push(Record::Offered {
                        unit,
                        entry: offered.bytes.clone().into(),
                        at: accepted_at(ledger, unit).unwrap_or(now),
                    });
                }
                entries.push((unit, None));
                continue;
            }
            match Entry::from_bytes(&offered.bytes) {
                Ok(entry) => {
                    let entry = Arc::new(entry);
                    let bytes = EntryBytes::of(offered.bytes.as_slice().into(), digest, Some(entry.clone()));
                    entries.push((
                        unit,
                        Some(Pending {
                            bytes,
                            digest,
                            entry,
                            at: now,
                        }),
                    ));
                }
                Err(e) => {
                    units.push(unreadable(unit, Some(digest), &e));
                    records.push(Record::Offered {
                        unit,
                        entry: offered.bytes.clone().into(),
                        at: now,
                    });
                    entries.push((unit, None));
                }
            }
        }
        records.extend(released.iter().map(|unit| Record::Released { unit: *unit }));
        for unit in unknown {
            // What was on its way for it was of the history before.
            entries.push((unit, None));
            records.push(Record::Unknown { unit });
        }
        ledger.append(records).await?;
        for unit in released {
            entries.push((unit, None));
            self.lacking.remove(&unit);
            self.turns.forget(unit);
        }
        // What came for an entry that is offered no more is kept with the one that needs it, and not before.
        let others: BTreeSet<UnitId> = entries.iter().map(|(unit, _)| *unit).collect();
        self.unsaved
            .retain(|(_, owner)| owner.is_none_or(|unit| !others.contains(&unit)));
        for (unit, pending) in entries {
            self.untaken.remove(&unit);
            match pending {
                Some(pending) => drop(self.pending.insert(unit, pending)),
                None => drop(self.pending.remove(&unit)),
            }
        }
        // A new offer is a reason to ask again for what was absent.
        self.absent.clear();
        // What was said of an entry is nothing of the next, nor of what is placed again later.
        let waiting = |unit: &UnitId| self.pending.contains_key(unit) || self.lacking.contains_key(unit);
        self.said.retain(|unit, _| waiting(unit));
        for offered in &offer.entries {
            self.said.remove(&offered.unit);
        }
        self.awaits_offer = false;
        self.target = Some(Accepted {
            incarnation: offer.incarnation,
            generation: offer.generation,
            root: Some(offer.root),
            ..Accepted::default()
        });
        units.extend(self.settle(ledger).await?);
        units.extend(self.stored_before(ledger, &durable, &offer));
        Ok(self.ack(ledger, units))
    }

    /// Returns what to fetch next in a lane, the smallest units first; empty when there is nothing to ask for now.
    pub fn next(&mut self, ledger: &Ledger, lane: Lane) -> Vec<Item> {
        let mut lacking: Vec<(usize, UnitId, &Entry)> = self
            .entries()
            .map(|(unit, entry)| (self.arrived.count(ledger, &self.absent, entry), unit, entry))
            .filter(|(count, ..)| match lane {
                Lane::Small => (1..=BATCH).contains(count),
                Lane::Large => *count > BATCH,
            })
            .collect();
        lacking.sort_by_key(|(count, ..)| *count);
        let mut items = Vec::new();
        let mut asked = HashMap::new();
        for (_, unit, entry) in lacking {
            let is_wanted = |digest: &Digest| {
                !self.absent.contains_key(digest)
                    && !self.in_flight.contains_key(digest)
                    && !asked.contains_key(digest)
            };
            let lacks = self
                .arrived
                .lacking(ledger, entry, is_wanted, BATCH - items.len());
            if lacks.is_empty() {
                continue;
            }
            let base = Base::of(ledger, unit);
            for lack in lacks {
                asked.insert(lack.digest, unit);
                items.push(base.item(&lack));
            }
            if items.len() == BATCH {
                break;
            }
        }
        self.in_flight.extend(asked);
        items
    }

    /// Takes in what came of `asked`, and stores what is complete by it. Returns an acknowledgement when that tells
    /// something new.
    pub async fn arrived(
        &mut self,
        ledger: &Ledger,
        asked: &[Item],
        fetched: Vec<Fetched>,
    ) -> Result<Option<Ack>, LedgerError> {
        let mut owners = HashMap::new();
        for item in asked {
            owners.extend(self.in_flight.remove_entry(&item.digest));
        }
        for one in fetched {
            match one {
                Fetched::Blob(digest, blob) => {
                    let owner = owners.get(&digest).copied();
                    self.unsaved.push((digest, owner));
                    self.arrived.take(digest, blob).await;
                }
                Fetched::Missing(digest, why) => drop(self.absent.insert(digest, why)),
            }
        }
        let before = ledger.read(|state| state.accepted.generation);
        let mut units = self.settle(ledger).await?;
        units.extend(self.save(ledger).await?);
        self.bound_waiting();
        Ok(self.news(ledger, before, units))
    }

    /// An acknowledgement, where it tells something new since the generation was `before`.
    fn news(&mut self, ledger: &Ledger, before: u64, units: Vec<UnitAcceptance>) -> Option<Ack> {
        let ack = self.ack(ledger, units);
        (!ack.units.is_empty() || ack.generation != before).then_some(ack)
    }

    /// Keeps what has come and completes nothing yet, once it is worth a write: another life of the agent finds it.
    /// When there is no room for all it waits in memory until its entry is whole: that takes the room of what no entry
    /// names. A unit that finds no room then either is refused now; it refuses no other.
    async fn save(&mut self, ledger: &Ledger) -> Result<Vec<UnitAcceptance>, LedgerError> {
        self.forget_saved(ledger);
        let mut of: BTreeMap<Option<UnitId>, Vec<Record>> = BTreeMap::new();
        for (digest, owner) in &self.unsaved {
            if owner.is_some_and(|unit| self.untaken.contains_key(&unit)) {
                continue;
            }
            if let Some(blob) = self.arrived.blobs.get(digest) {
                of.entry(*owner)
                    .or_default()
                    .push(Record::Blob(*digest, blob.clone()));
            }
        }
        if of.values().map(|records| room(records)).sum::<usize>() < WORTH_A_WRITE {
            return Ok(Vec::new());
        }
        let mut refused: BTreeMap<Option<UnitId>, LedgerError> = BTreeMap::new();
        match ledger.append(of.values().flatten().cloned().collect()).await {
            Ok(()) => {}
            Err(LedgerError::Lost) => return Err(LedgerError::Lost),
            Err(LedgerError::Full { .. }) => {
                for (owner, records) in of {
                    let fits = ledger.fitting(std::slice::from_ref(&records)).await;
                    refused.extend(fits.into_iter().filter_map(|fits| Some((owner, fits.err()?))));
                }
            }
            Err(e) => refused.extend(of.into_keys().map(|owner| (owner, e.clone()))),
        }
        self.forget_saved(ledger);
        let mut units = Vec::new();
        for (owner, error) in refused {
            match owner.filter(|unit| self.waits(unit)) {
                // Nothing more is asked for.
                Some(unit) => units.push(self.not_taken(ledger, unit, &error)),
                // Nobody waits for it: whoever needs it later brings it with its entry.
                None => self.unsaved.retain(|(_, of)| *of != owner),
            }
        }
        Ok(units)
    }

    /// Lets go of what came for units that the ledger does not take, when it is much: it may wait for ever.
    fn bound_waiting(&mut self) {
        let waits = |owner: &Option<UnitId>| owner.is_some_and(|unit| self.untaken.contains_key(&unit));
        let waiting = self.unsaved.iter().filter(|(_, owner)| waits(owner));
        let bytes = waiting.filter_map(|(digest, _)| Some(self.arrived.blobs.get(digest)?.room()));
        if bytes.sum::<usize>() <= WAITING_MAX {
            return;
        }
        let (waiting, others) = std::mem::take(&mut self.unsaved)
            .into_iter()
            .partition(|(_, owner)| waits(owner));
        self.unsaved = others;
        let waiting: Vec<(Digest, Option<UnitId>)> = waiting;
        self.arrived.let_go(waiting.iter().map(|(digest, _)| digest));
    }

    /// Takes which apps are refused, or taken after all, and were not so when this was taken last.
    pub fn take_turns(&mut self) -> Vec<Turn> {
        self.turns.take()
    }

    /// The hub is told that an offer is refused whole: what it knows of single units is that.
    pub fn refused_whole(&mut self) {
        self.said.clear();
    }

    fn forget_saved(&mut self, ledger: &Ledger) {
        self.unsaved
            .retain(|(digest, _)| !ledger.read(|state| state.blobs.contains_key(digest)));
    }

    /// Asks again for what the hub did not have, and offers again to the ledger what it did not take and may take by
    /// now.
    pub async fn retry(&mut self, ledger: &Ledger) -> Result<Option<Ack>, LedgerError> {
        self.absent.clear();
        let before = self.untaken.len();
        if before > 0 {
            let now = Room::of(ledger);
            self.untaken.retain(|_, untaken| !untaken.is_due(now));
        }
        if self.untaken.len() < before {
            // Nothing more is asked for while there is no room for what came.
            self.save(ledger).await?;
        }
        self.note_lacking(ledger);
        let before = ledger.read(|state| state.accepted.generation);
        let units = self.settle(ledger).await?;
        Ok(self.news(ledger, before, units))
    }

    /// Tells whether something is still to come that asking again may bring.
    pub fn is_incomplete(&self) -> bool {
        !self.pending.is_empty() || !self.lacking.is_empty() || self.target.is_some()
    }

    /// The stream is gone: what it was about to bring comes again with the next. What came of contents stays.
    pub fn broke_off(&mut self) {
        self.in_flight.clear();
        self.absent.clear();
        self.untaken.clear();
        self.said.clear();
        self.awaits_offer |= !self.pending.is_empty();
        self.pending.clear();
        self.target = None;
    }

    fn entries(&self) -> impl Iterator<Item = (UnitId, &Entry)> {
        let pending = self
            .pending
            .iter()
            .map(|(unit, pending)| (*unit, &*pending.entry));
        pending
            .chain(self.lacking.iter().map(|(unit, entry)| (*unit, &**entry)))
            .filter(|(unit, _)| !self.untaken.contains_key(unit))
    }

    /// Tells whether an entry of the unit is not stored, or not with all its content.
    fn waits(&self, unit: &UnitId) -> bool {
        self.pending.contains_key(unit) || self.lacking.contains_key(unit)
    }

    fn note_lacking(&mut self, ledger: &Ledger) {
        let kept = ledger.read(|state| {
            let kept = state.units.iter().filter_map(|(id, unit)| {
                let entry = unit.offered.as_ref()?.entry.as_ref()?;
                Some((*id, entry.clone()))
            });
            kept.collect::<Vec<_>>()
        });
        let nothing = Arrived::default();
        self.lacking = kept
            .into_iter()
            .filter(|(_, entry)| !nothing.is_whole(ledger, entry))
            .collect();
    }
}
