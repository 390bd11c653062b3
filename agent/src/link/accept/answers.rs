//! What the hub is told of entries, each named by its digest: taken, or not and why.

use std::collections::BTreeMap;

use flotilla_core::{
    desired::acceptance::{Known, Offer},
    digest::Digest,
    id::UnitId,
    unit::Entry,
};
use flotilla_proto::agent::v1::{Ack, Attained, UnitAcceptance};

use super::{Acceptance, content::Content, room::Untaken};
use crate::{
    causes::with_causes,
    ledger::{Ledger, LedgerError, VOLUME},
};

/// Apps that are named where all have the same problem.
const NAMED: usize = 5;

impl Acceptance {
    /// An acknowledgement of what is held, with `units`, and every unit of which something is wrong that this stream has
    /// not said so yet.
    pub(super) fn ack(&mut self, ledger: &Ledger, units: Vec<UnitAcceptance>) -> Ack {
        let accepted = ledger.read(|state| state.accepted);
        let mut named: BTreeMap<UnitId, UnitAcceptance> = BTreeMap::new();
        for (unit, untaken) in &self.untaken {
            named.insert(*unit, untaken.answer.clone());
        }
        for (unit, entry) in &self.lacking {
            if let Content::Missing(why) = self.arrived.how_far(ledger, &self.absent, entry) {
                let digest = stored_digest(ledger, *unit);
                named.insert(*unit, rejected(*unit, digest, "ContentMissing", why));
            }
        }
        for unit in units {
            if let Some(id) = UnitId::try_from_slice(&unit.unit_id) {
                named.insert(id, unit);
            }
        }
        for (unit, answer) in &named {
            let entry = self.pending.get(unit).map(|pending| &pending.entry);
            let entry = entry.or_else(|| self.lacking.get(unit));
            let app = || entry.map_or_else(|| stored_app(ledger, *unit), |entry| Some(entry.app.to_string()));
            self.turns.note(*unit, answer, app);
        }
        named.retain(|unit, answer| match answer.accepted {
            true => {
                self.said.remove(unit);
                true
            }
            false => self.said.insert(*unit, answer.clone()).as_ref() != Some(answer),
        });
        Ack {
            incarnation: accepted.incarnation,
            generation: accepted.generation,
            units: named.into_values().collect(),
        }
    }

    /// Says again of entries that the ledger had before the offer that it has them: the hub may not have heard it.
    pub(super) fn stored_before(
        &self,
        ledger: &Ledger,
        durable: &BTreeMap<UnitId, Known>,
        offer: &Offer,
    ) -> Vec<UnitAcceptance> {
        let mut units = Vec::new();
        for offered in &offer.entries {
            let unit = offered.unit;
            let Some(known) = durable.get(&unit).filter(|_| !self.pending.contains_key(&unit)) else {
                continue;
            };
            let stored = ledger.read(|state| state.units.get(&unit)?.offered.clone());
            let Some(stored) = stored.filter(|stored| stored.digest == known.digest) else {
                continue;
            };
            let digest = Some(stored.digest);
            let Some(entry) = &stored.entry else {
                let error = Entry::from_bytes(&stored.bytes).err();
                units.extend(error.map(|e| unreadable(unit, digest, &e)));
                continue;
            };
            match self.arrived.how_far(ledger, &self.absent, entry) {
                Content::Here => units.push(accepted(unit, digest, Some(entry))),
                Content::Unknown => units.push(unknown_content(unit, digest)),
                // Told once it has come, or is known to be missing.
                Content::Coming | Content::Missing(_) => {}
            }
        }
        units
    }

    pub(super) fn not_taken(&mut self, ledger: &Ledger, unit: UnitId, error: &LedgerError) -> UnitAcceptance {
        let reason = match error {
            LedgerError::Full { .. } => "LedgerFull",
            _ => "LedgerUnwritable",
        };
        let pending = self.pending.get(&unit).map(|pending| pending.digest);
        let digest = pending.or_else(|| stored_digest(ledger, unit));
        let why = match *error {
            LedgerError::Full { limit, more, .. } => no_room(more, limit),
            _ => with_causes(error),
        };
        let answer = rejected(unit, digest, reason, why);
        self.untaken
            .insert(unit, Untaken::new(ledger, answer.clone(), error));
        answer
    }

    /// Of which apps the ledger did not take what was offered, and why; `None`: it took all.
    pub fn ledger_problem(&self) -> Option<String> {
        let why = &self.untaken.values().next()?.answer.message;
        let entry = |unit: &UnitId| {
            let pending = self.pending.get(unit).map(|pending| &pending.entry);
            pending.or_else(|| self.lacking.get(unit))
        };
        let names = self.untaken.keys().filter_map(entry);
        let names: Vec<String> = names.map(|entry| entry.app.to_string()).collect();
        let mut apps = names[..names.len().min(NAMED)].join(", ");
        if names.len() > NAMED {
            apps.push_str(&format!(" and {} more", names.len() - NAMED));
        }
        Some(format!("{apps}: {why}"))
    }
}

/// Says what a unit needs of a ledger that takes `limit` bytes. How many of these are free changes with whatever else is
/// written, and is no part of what is said of the unit.
fn no_room(more: usize, limit: usize) -> String {
    format!(
        "the agent's ledger has no room for it: {} KiB are needed, and fewer are free of {} KiB; {VOLUME}",
        more.div_ceil(1 << 10),
        limit >> 10
    )
}

/// Digest of the entry that the ledger has of a unit.
pub(super) fn stored_digest(ledger: &Ledger, unit: UnitId) -> Option<Digest> {
    ledger.read(|state| Some(state.units.get(&unit)?.offered.as_ref()?.digest))
}

/// What people call the app of an entry that the ledger has.
fn stored_app(ledger: &Ledger, unit: UnitId) -> Option<String> {
    ledger.read(|state| {
        let entry = state.units.get(&unit)?.offered.as_ref()?.entry.as_ref()?;
        Some(entry.app.to_string())
    })
}

fn digest_bytes(digest: Option<Digest>) -> bytes::Bytes {
    digest.map_or_else(Default::default, |digest| digest.as_bytes().to_vec().into())
}

pub(super) fn accepted(unit: UnitId, digest: Option<Digest>, entry: Option<&Entry>) -> UnitAcceptance {
    UnitAcceptance {
        unit_id: unit.to_vec().into(),
        entry: digest_bytes(digest),
        accepted: true,
        held: entry.map(|entry| Attained {
            version: entry.version,
            target: entry.target.as_bytes().to_vec().into(),
        }),
        ..UnitAcceptance::default()
    }
}

pub(super) fn unreadable(unit: UnitId, digest: Option<Digest>, error: &serde_json::Error) -> UnitAcceptance {
    let at = format!("at {}:{}", error.line(), error.column());
    rejected(unit, digest, "EntryUnreadable", at)
}

pub(super) fn unknown_content(unit: UnitId, digest: Option<Digest>) -> UnitAcceptance {
    let message = "this version of the agent does not know this type of content; upgrade the agent";
    rejected(unit, digest, "NotSupported", message.to_owned())
}

pub(super) fn rejected(
    unit: UnitId,
    digest: Option<Digest>,
    reason: &str,
    message: String,
) -> UnitAcceptance {
    UnitAcceptance {
        unit_id: unit.to_vec().into(),
        entry: digest_bytes(digest),
        accepted: false,
        reason: reason.to_owned(),
        message,
        held: None,
    }
}
