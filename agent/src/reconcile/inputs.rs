//! Watches of what evaluations read in the cluster besides its kinds: Secrets with decryption keys, each by its name.
//! Only metadata come. A version other than the one that was read lets the units that read it be evaluated again.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    id::UnitId,
    unit::{Entry, UnitState, event::Event},
};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Reconciler,
    keyrings::{Place, Version, version},
};
use crate::cluster::{ClusterError, Selector, WatchEvent};

/// Secrets watched at once: each is a connection to the API server, with tens of KiB here, and a watch that is opened again every
/// few minutes. Of more, each evaluation asks again, and so does the hourly verification.
const WATCHES: usize = 8;
/// What was shown that waits for the loop.
const NEWS: usize = 64;

/// What a watch has shown of a Secret.
pub(super) struct InputNews {
    place: Place,
    /// `None`: nothing is known now.
    shown: Option<Version>,
}

/// Who reads which Secret, and the watches of these.
pub(super) struct Inputs {
    place_of: BTreeMap<UnitId, Place>,
    readers: BTreeMap<Place, BTreeSet<UnitId>>,
    open: BTreeMap<Place, DropGuard>,
    /// Secrets that are to be watched and are not yet.
    lacking: BTreeSet<Place>,
    tx: mpsc::Sender<InputNews>,
    rx: mpsc::Receiver<InputNews>,
}

impl Default for Inputs {
    fn default() -> Self {
        let (tx, rx) = mpsc::channel(NEWS);
        Self {
            place_of: BTreeMap::new(),
            readers: BTreeMap::new(),
            open: BTreeMap::new(),
            lacking: BTreeSet::new(),
            tx,
            rx,
        }
    }
}

impl Inputs {
    /// The next news; `None` is never given, since a sender is held.
    pub(super) async fn next(&mut self) -> Option<InputNews> {
        self.rx.recv().await
    }
}

impl Reconciler {
    /// Notes which Secret a unit's entry reads. One that is not enforced reads none.
    pub(super) fn note_inputs(&mut self, id: UnitId, entry: Option<&Entry>) {
        let active = entry.filter(|entry| entry.state == UnitState::Active);
        let place = active.and_then(Place::of);
        if self.inputs.place_of.get(&id) == place.as_ref() {
            return;
        }
        if let Some(before) = self.inputs.place_of.remove(&id)
            && let Some(readers) = self.inputs.readers.get_mut(&before)
        {
            readers.remove(&id);
            if readers.is_empty() {
                self.inputs.readers.remove(&before);
                self.inputs.open.remove(&before);
                self.inputs.lacking.remove(&before);
                self.context.keyrings.forget(&before);
            }
        }
        if let Some(place) = place {
            let readers = self.inputs.readers.entry(place.clone()).or_default();
            if readers.is_empty() {
                self.inputs.lacking.insert(place.clone());
            }
            readers.insert(id);
            self.inputs.place_of.insert(id, place);
        }
    }

    /// Opens the watches that are lacking.
    pub(super) fn watch_inputs(&mut self) {
        if self.inputs.lacking.is_empty() || !self.context.has_discovered() {
            return;
        }
        let discovery = self.context.discovery();
        let Some(resource) = discovery.preferred("", "Secret") else {
            return;
        };
        while self.inputs.open.len() < WATCHES
            && let Some(place) = self.inputs.lacking.pop_first()
        {
            let selector = Selector {
                namespace: place.namespace.clone(),
                name: place.name.clone(),
                metadata_only: true,
                ..Selector::default()
            };
            let events = self.context.agents_cluster().watch(resource, &selector);
            let stop = CancellationToken::new();
            let told = tell(events, place.clone(), self.inputs.tx.clone());
            tokio::spawn({
                let stop = stop.clone();
                async move { stop.run_until_cancelled(told).await }
            });
            self.inputs.open.insert(place, stop.drop_guard());
        }
    }

    /// Lets units be evaluated again that read what is different now.
    pub(super) fn input_shown(&mut self, news: InputNews) {
        let InputNews { place, shown } = news;
        // A watch that ended while its news waited is not heard any more.
        if !self.inputs.open.contains_key(&place) || !self.context.keyrings.shown(&place, shown) {
            return;
        }
        let readers = self.inputs.readers.get(&place).cloned().unwrap_or_default();
        for id in readers {
            self.feed(id, Event::InputsChanged);
        }
    }
}

type Events = futures::stream::BoxStream<'static, Result<WatchEvent, ClusterError>>;

/// Tells what a watch shows, as long as it goes on.
async fn tell(mut events: Events, place: Place, tx: mpsc::Sender<InputNews>) {
    let (mut told, mut listed) = (None, None);
    while let Some(event) = events.next().await {
        let shown = match event {
            Ok(WatchEvent::Listing) => {
                listed = None;
                continue;
            }
            Ok(WatchEvent::Present(object)) => {
                listed = version(&object);
                Some(listed.clone())
            }
            Ok(WatchEvent::Gone(_)) => Some(None),
            Ok(WatchEvent::Listed(_)) => Some(listed.take()),
            Ok(WatchEvent::WentBack) | Err(_) => None,
        };
        // A server that is away fails each watch again and again, which is no news.
        if told.as_ref() == Some(&shown) {
            continue;
        }
        told = Some(shown.clone());
        let place = place.clone();
        if tx.send(InputNews { place, shown }).await.is_err() {
            return;
        }
    }
    let _ = tx.send(InputNews { place, shown: None }).await;
}
