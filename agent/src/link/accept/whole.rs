//! An offer from beginning to end, without a stream: what simulated agents do.

use async_trait::async_trait;
use flotilla_core::{clock::Timestamp, desired::acceptance::Offer, digest::Digest};
use flotilla_proto::agent::v1::{Ack, UnitAcceptance};

use super::{AcceptError, Acceptance, Lane};
use crate::{
    ledger::Ledger,
    link::fetch::{Bases, FetchError, Fetched, Item},
};

/// Where contents come from.
#[async_trait]
pub trait Source: Send {
    /// Fetches items, at most [`BATCH`] at once. What came before an error is in `into`.
    async fn fetch(
        &mut self,
        items: &[Item],
        bases: &Bases<'_>,
        into: &mut Vec<Fetched>,
    ) -> Result<(), FetchError>;
}

/// Accepts an offer and fetches all that it needs, one batch after another.
pub async fn accept(
    ledger: &Ledger,
    offer: Offer,
    source: &mut dyn Source,
    now: Timestamp,
) -> Result<Ack, AcceptError> {
    let mut acceptance = Acceptance::default();
    let ack = acceptance.offer(ledger, offer, now).await?;
    let mut units = ack.units;
    for ack in drain(&mut acceptance, ledger, source).await? {
        units.extend(ack.units);
    }
    // One answer says all.
    acceptance.said.clear();
    Ok(acceptance.ack(ledger, units))
}

/// Tries again to get what stored entries lack. Returns an acknowledgement when something has come.
pub async fn complete(ledger: &Ledger, source: &mut dyn Source) -> Result<Option<Ack>, AcceptError> {
    let mut acceptance = Acceptance::resume(ledger);
    let acks = drain(&mut acceptance, ledger, source).await?;
    let units: Vec<UnitAcceptance> = acks.into_iter().flat_map(|ack| ack.units).collect();
    acceptance.said.clear();
    Ok(units
        .iter()
        .any(|unit| unit.accepted)
        .then(|| acceptance.ack(ledger, units)))
}

async fn drain(
    acceptance: &mut Acceptance,
    ledger: &Ledger,
    source: &mut dyn Source,
) -> Result<Vec<Ack>, AcceptError> {
    let bases = |digest: &Digest| ledger.read(|state| state.blobs.get(digest));
    let mut acks = Vec::new();
    loop {
        let mut items = acceptance.next(ledger, Lane::Small);
        if items.is_empty() {
            items = acceptance.next(ledger, Lane::Large);
        }
        if items.is_empty() {
            return Ok(acks);
        }
        let mut fetched = Vec::new();
        let outcome = source.fetch(&items, &bases, &mut fetched).await;
        acks.extend(acceptance.arrived(ledger, &items, fetched).await?);
        outcome?;
    }
}
