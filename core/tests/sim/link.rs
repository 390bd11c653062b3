//! Streams between an agent and the hub. Each keeps its order; several live beside one another, since the hub may not know
//! yet that one was replaced, and what is on its way may come late, twice, or never.

use std::collections::VecDeque;

use flotilla_core::{
    desired::{
        Held, Offer as Offered,
        acceptance::{Offer, OfferedEntry},
    },
    digest::Digest,
    id::UnitId,
};
use uuid::Uuid;

use crate::store::{Report, Store, Told};

/// From the agent.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Hello {
        held: Held,
        observed_root: Option<Digest>,
        epoch_seen: u64,
    },
    Told(Told),
    Refused,
    Report(u64, Report),
}

/// To the agent.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Welcome { epoch: u64, everything: bool },
    Offer(Offer),
    Acknowledged(u64),
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// Given by the hub; `None`: it was not opened there yet.
    pub(crate) epoch: Option<u64>,
    /// The agent reads it.
    pub(crate) is_the_agents: bool,
    /// The hub reads it.
    pub(crate) is_the_hubs: bool,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    /// What the agent holds, as far as this stream's task knows.
    held: Held,
    /// All was sent since the last refusal.
    whole: bool,
    /// The agent had accepted more than it holds.
    was_put_back: bool,
}

impl Stream {
    pub(crate) fn new(hello: Up) -> Self {
        Self {
            epoch: None,
            is_the_agents: true,
            is_the_hubs: true,
            up: VecDeque::from([hello]),
            down: VecDeque::new(),
            held: Held::NOTHING,
            whole: false,
            was_put_back: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        !self.is_the_agents && (!self.is_the_hubs || self.up.is_empty())
    }

    /// Whether a newer state is to be offered.
    pub(crate) fn has_offer(&self, cluster: Uuid, store: &Store) -> bool {
        let desired = store.desired.get(&cluster);
        let is_open = self.epoch.is_some() && self.is_the_hubs && self.is_the_agents;
        is_open
            && desired.is_some_and(|desired| {
                let is_ahead = self.held.is_ahead(Some(desired.head()), store.incarnation);
                !is_ahead && self.held.offer(desired.head()) != Offered::Nothing
            })
    }

    /// Offers what is published.
    pub(crate) fn offer(&mut self, cluster: Uuid, store: &Store) {
        let Some(desired) = store.desired.get(&cluster) else {
            return;
        };
        let (since, base) = match self.held.offer(desired.head()) {
            Offered::Nothing => return,
            Offered::Since(generation) => (generation, Some(generation)),
            Offered::Whole => (0, None),
        };
        let Some(found) = store.desired_since(cluster, since) else {
            return;
        };
        let entries = found
            .entries
            .into_iter()
            .map(|(unit, bytes, released)| OfferedEntry {
                unit: UnitId(unit),
                bytes,
                released,
            });
        self.held = found.head.into();
        self.whole = base.is_none();
        self.down.push_back(Down::Offer(Offer {
            incarnation: found.head.incarnation,
            generation: found.head.generation,
            root: found.head.root,
            base,
            entries: entries.collect(),
            was_put_back: self.was_put_back,
        }));
    }

    /// The hub takes what comes next. Returns whether the agent's report was taken, or its acceptance.
    pub(crate) fn deliver(&mut self, cluster: Uuid, store: &mut Store) -> Option<Up> {
        let message = self.up.pop_front()?;
        match &message {
            Up::Hello {
                held,
                observed_root,
                epoch_seen,
            } => {
                let (epoch, everything, was_put_back) =
                    store.open_session(cluster, *held, *observed_root, *epoch_seen);
                self.epoch = Some(epoch);
                self.was_put_back = was_put_back;
                // What was forgotten since is in no change of what it holds.
                self.held = if was_put_back { Held::NOTHING } else { *held };
                self.down.push_back(Down::Welcome { epoch, everything });
            }
            Up::Told(told) => drop(store.told(told)),
            Up::Refused => {
                if self.held.is_sent_again(self.whole) {
                    self.held = Held::NOTHING;
                }
            }
            Up::Report(seq, report) => {
                if store.ingest(report) {
                    self.down.push_back(Down::Acknowledged(*seq));
                }
            }
        }
        Some(message)
    }
}
