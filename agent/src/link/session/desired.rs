//! Desired state on a stream: taken in, its contents fetched, acknowledged unit by unit, tried again.

use std::{collections::HashSet, time::Duration};

use flotilla_core::{
    desired::acceptance::{Offer, OfferedEntry},
    digest::Digest,
    id::UnitId,
};
use flotilla_proto::agent::v1::{
    Ack, ClusterConditionKind, Desired, Refused, RefusedReason, UnitEntry, agent_message,
};
use futures::FutureExt as _;
use tokio::time::Instant;

use super::{Open, SessionError};
use crate::{
    causes::with_causes,
    ledger::{LedgerError, state::State},
    link::{
        accept::{self, AcceptError, Lane},
        along::{self, Along},
        fetch::{self, FetchError, Fetched, Item},
    },
};

/// First and longest wait before what did not come, or was not taken, is tried again.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Apps that are named of those that the hub does not name.
const UNKNOWN_NAMED: usize = 5;

/// One batch that was asked for, and what came of it.
pub(super) struct Batch {
    lane: Lane,
    items: Vec<Item>,
    fetched: Vec<Fetched>,
    outcome: Result<(), FetchError>,
}

/// An offer that the ledger did not take.
pub(super) struct Refusal {
    /// When the hub is to make it again.
    again_at: Instant,
    why: String,
}

impl Open<'_> {
    pub(super) async fn desired(&mut self, mut desired: Desired) -> Result<(), SessionError> {
        if desired.epoch < self.wire.epoch {
            return Ok(());
        }
        let (incarnation, generation) = (desired.incarnation, desired.generation);
        let along = Along::new(std::mem::take(&mut desired.contents));
        let offer = match offer(desired) {
            Ok(offer) => offer,
            Err(why) => return Err(SessionError::Ended(why.to_owned())),
        };
        let session = &mut *self.session;
        let taken = session
            .acceptance
            .offer(&session.ledger, offer, session.clock.now());
        let taken = self.wire.beside(taken).await;
        self.is_judged = true;
        match taken {
            Ok(ack) => {
                if (ack.incarnation, ack.generation) != (incarnation, generation) {
                    tracing::info!(
                        incarnation,
                        generation,
                        "desired state is offered; some of it is still to come, or is not taken"
                    );
                }
                self.retry_wait = RETRY.0;
                self.refusal = None;
                self.along = along;
                // With what came along there is more to say within moments.
                let is_news = !ack.units.is_empty() || self.held != (ack.incarnation, ack.generation);
                if is_news || self.along.is_empty() || !self.session.acceptance.is_incomplete() {
                    self.accepted(ack);
                }
                self.fetch_more();
                Ok(())
            }
            Err(AcceptError::Refused(refusal)) => {
                tracing::warn!(incarnation, generation, "refused desired state: {refusal}");
                let reason = accept::refused_reason(&refusal);
                self.refuse((incarnation, generation), reason, refusal.to_string())
                    .await
            }
            Err(AcceptError::Ledger(LedgerError::Lost)) => Err(LedgerError::Lost.into()),
            Err(AcceptError::Ledger(e)) => {
                let reason = match e {
                    LedgerError::Full { .. } => RefusedReason::LedgerFull,
                    _ => RefusedReason::LedgerUnwritable,
                };
                let why = with_causes(&e);
                self.refusal = Some(Refusal {
                    again_at: Instant::now() + RETRY.1,
                    why: why.clone(),
                });
                self.ledger_condition();
                self.refuse((incarnation, generation), reason, why).await
            }
            Err(AcceptError::Fetch(e)) => Err(SessionError::Ended(e.to_string())),
        }
    }

    async fn refuse(
        &mut self,
        (incarnation, generation): (u64, u64),
        reason: RefusedReason,
        message: String,
    ) -> Result<(), SessionError> {
        self.session.acceptance.refused_whole();
        let refused = Refused {
            incarnation,
            generation,
            reason: reason as i32,
            message,
        };
        self.wire.send(agent_message::Kind::Refused(refused)).await
    }

    /// Tells hub and reconciler what is accepted now.
    fn accepted(&mut self, ack: Ack) {
        let held = (ack.incarnation, ack.generation);
        if std::mem::replace(&mut self.held, held) != held {
            let (incarnation, generation) = held;
            tracing::info!(incarnation, generation, "took in desired state");
        }
        let session = &mut *self.session;
        for turn in session.acceptance.take_turns() {
            session.reports.event(turn.into_event(session.clock.now()));
        }
        session.nudge.accepted();
        self.units_condition();
        self.ledger_condition();
        self.wire.acknowledge(ack);
    }

    /// Tells of units that the hub does not name. They stay as they are.
    pub(super) fn units_condition(&self) {
        let session = &*self.session;
        let unknown = session.ledger.read(State::unknown_apps);
        let message = unknown_to_hub(&unknown).unwrap_or_default();
        let (kind, now) = (ClusterConditionKind::Units, session.clock.now());
        session.reports.condition(kind, unknown.is_empty(), message, now);
    }

    /// Tells what the ledger does not take of what was offered: the last offer itself, or some of one before.
    fn ledger_condition(&self) {
        // What was said of it stands until an offer of this stream is judged, or none has come for a while.
        if self.judged_at().is_some() {
            return;
        }
        let session = &*self.session;
        let refused = self.refusal.as_ref().map(|refusal| refusal.why.clone());
        let refused = refused.or_else(|| session.acceptance.ledger_problem());
        session.ledger_watch.refused(refused.as_deref());
    }

    /// When nothing is to be expected of this stream that judges the ledger, unless it was.
    fn judged_at(&self) -> Option<Instant> {
        let is_awaited = !self.is_judged && Instant::now() < self.quiet_until;
        is_awaited.then_some(self.quiet_until)
    }

    /// When the hub is to make an offer again that the ledger did not take.
    pub(super) fn ask_again_at(&self) -> Option<Instant> {
        self.refusal.as_ref().map(|refusal| refusal.again_at)
    }

    /// Asks for what is lacking, in each lane that is free; with nothing to ask for and something lacking, later.
    fn fetch_more(&mut self) {
        // A new stream begins with what the ledger has by then.
        if self.ask_again_at().is_some_and(|at| at <= Instant::now()) {
            return;
        }
        let session = &mut *self.session;
        for lane in [Lane::Small, Lane::Large] {
            if self.busy.contains(&lane) {
                continue;
            }
            let items = session.acceptance.next(&session.ledger, lane);
            if items.is_empty() {
                continue;
            }
            self.busy.insert(lane);
            let came = self.along.take(&items);
            let (mut client, epoch, ledger) = (self.client.clone(), self.wire.epoch, session.ledger.clone());
            self.fetching.push(
                async move {
                    let bases = |digest: &Digest| ledger.read(|state| state.blobs.get(digest));
                    let mut fetched = along::decoded(came, &bases).await;
                    let here: HashSet<Digest> = fetched.iter().map(Fetched::digest).collect();
                    let rest: Vec<Item> = items
                        .iter()
                        .filter(|item| !here.contains(&item.digest))
                        .cloned()
                        .collect();
                    let outcome = match rest.is_empty() {
                        true => Ok(()),
                        false => fetch::fetch(&mut client, epoch, &rest, &bases, &mut fetched).await,
                    };
                    Batch {
                        lane,
                        items,
                        fetched,
                        outcome,
                    }
                }
                .boxed(),
            );
        }
        if !session.acceptance.is_incomplete() {
            self.along = Along::default();
            self.retry_wait = RETRY.0;
            self.retry_at = self.judged_at();
        } else if self.busy.is_empty() {
            self.retry_at = Some(Instant::now() + self.retry_wait);
        }
    }

    pub(super) async fn fetched(&mut self, batch: Batch) -> Result<(), SessionError> {
        self.busy.remove(&batch.lane);
        let session = &mut *self.session;
        let taken = session
            .acceptance
            .arrived(&session.ledger, &batch.items, batch.fetched);
        if let Some(ack) = self.wire.beside(taken).await? {
            self.accepted(ack);
        }
        self.ledger_condition();
        match batch.outcome {
            Ok(()) => self.fetch_more(),
            // What came is stored, the rest is asked for again: the stream itself may be well.
            Err(e) => {
                tracing::warn!("{e}; asking again in {} s", self.retry_wait.as_secs());
                self.retry_later();
            }
        }
        Ok(())
    }

    fn retry_later(&mut self) {
        self.retry_at = Some(Instant::now() + self.retry_wait);
        self.retry_wait = (self.retry_wait * 2).min(RETRY.1);
    }

    pub(super) async fn retry(&mut self) -> Result<(), SessionError> {
        self.retry_at = None;
        let session = &mut *self.session;
        let taken = session.acceptance.retry(&session.ledger);
        if let Some(ack) = self.wire.beside(taken).await? {
            self.accepted(ack);
        }
        self.ledger_condition();
        self.retry_wait = (self.retry_wait * 2).min(RETRY.1);
        self.fetch_more();
        Ok(())
    }
}

/// What is said of units that the hub does not name.
fn unknown_to_hub(apps: &[String]) -> Option<String> {
    let named = apps.get(..apps.len().min(UNKNOWN_NAMED))?.join(", ");
    let more = match apps.len() - apps.len().min(UNKNOWN_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!apps.is_empty()).then(|| {
        format!(
            "UnknownToHub: the hub does not know {named}{more}: it was restored from a backup and has not looked at the source \
             since, or this cluster was put back to before they were let go of; kept and enforced as before, and nothing of it \
             is removed; apply what is still unknown again, and delete it then if it is not wanted"
        )
    })
}

/// Reads an offer from the wire.
fn offer(desired: Desired) -> Result<Offer, &'static str> {
    Ok(Offer {
        incarnation: desired.incarnation,
        generation: desired.generation,
        root: Digest::try_from_slice(&desired.root).map_err(|_| "desired state without a root")?,
        base: desired.base_generation,
        entries: desired.units.into_iter().map(offered).collect::<Result<_, _>>()?,
        was_put_back: desired.was_put_back,
    })
}

fn offered(entry: UnitEntry) -> Result<OfferedEntry, &'static str> {
    Ok(OfferedEntry {
        unit: UnitId::try_from_slice(&entry.unit_id).ok_or("an entry without a unit id")?,
        bytes: entry.canonical.to_vec(),
        released: entry.released,
    })
}
