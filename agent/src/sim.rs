//! A simulated agent: the real ledger, acceptance, reconciler and reports over any cluster and storage,
//! in memory or real. What is left out is the network: whoever holds it plays the hub. Fleets of them run in one
//! process.

mod entry;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use flotilla_core::{
    clock::{Clock, Timestamp},
    content::{Content, Form, ObjectEntry, Objects, object_bytes, object_digest},
    desired::acceptance::{Offer, OfferedEntry},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, root},
};
use flotilla_proto::agent::v1::{Ack, Report};
use flotilla_sops::Transport;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::LEDGER,
    cluster::{Cluster, limit::Limited},
    ledger::{
        Ledger, LedgerError,
        key_value::KeyValue,
        state::{Blob, BlobKind},
    },
    link::{
        accept::{AcceptError, Source, accept, complete},
        fetch::{Bases, FetchError, Fetched, Item},
    },
    metrics::Metrics,
    reconcile::{
        Nudge, Reconciler,
        context::{Context, Counters},
    },
    report::{Counts, Reports},
};

pub use entry::{entry, settings};

/// Wall time that follows the runtime's, so that paused time pauses it too.
#[derive(Debug)]
pub struct SimClock {
    from: Timestamp,
    begun: tokio::time::Instant,
}

impl Default for SimClock {
    fn default() -> Self {
        Self {
            from: Timestamp(1_767_225_600_000),
            begun: tokio::time::Instant::now(),
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.from + self.begun.elapsed()
    }
}

/// What a hub would serve: contents by digest.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    blobs: HashMap<Digest, Blob>,
    /// How many items were asked for.
    pub fetched: usize,
}

impl Contents {
    /// Adds a content of final objects, and returns its digest.
    pub fn add(&mut self, objects: &[Value]) -> Digest {
        self.add_forms(objects.iter().map(|object| {
            let key = ObjectKey::of(object).unwrap_or_else(|| ObjectKey::new("", "", "", ""));
            (key, Form::Json, object_bytes(object))
        }))
    }

    /// Adds a content of templates in YAML, and returns its digest.
    pub fn add_yaml(&mut self, templates: &[(ObjectKey, &str)]) -> Digest {
        let templates = templates.iter();
        self.add_forms(templates.map(|(key, text)| (key.clone(), Form::Yaml, text.as_bytes().to_vec())))
    }

    fn add_forms(&mut self, objects: impl Iterator<Item = (ObjectKey, Form, Vec<u8>)>) -> Digest {
        let mut entries = Vec::new();
        for (key, form, bytes) in objects {
            let digest = object_digest(form, &bytes, None);
            self.put(digest, BlobKind::Object, &bytes);
            entries.push(ObjectEntry { key, form, digest });
        }
        let content = Content::Objects(Objects {
            count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            entries,
            complete: true,
        });
        let digest = content.digest();
        self.put(digest, BlobKind::Content, &content.to_bytes());
        digest
    }

    fn put(&mut self, digest: Digest, kind: BlobKind, bytes: &[u8]) {
        if let Ok(blob) = Blob::new(kind, bytes) {
            self.blobs.insert(digest, blob);
        }
    }

    /// Adds a content in its own bytes, of whatever type.
    pub fn put_raw(&mut self, digest: Digest, bytes: &[u8]) {
        self.put(digest, BlobKind::Content, bytes);
    }

    /// Loses an item, and returns it.
    pub fn lose(&mut self, digest: &Digest) -> Option<Blob> {
        self.blobs.remove(digest)
    }

    /// Puts a lost item back.
    pub fn restore(&mut self, digest: Digest, blob: Blob) {
        self.blobs.insert(digest, blob);
    }
}

#[async_trait]
impl Source for Contents {
    async fn fetch(
        &mut self,
        items: &[Item],
        _bases: &Bases<'_>,
        into: &mut Vec<Fetched>,
    ) -> Result<(), FetchError> {
        self.fetched += items.len();
        let found = items.iter().map(|item| match self.blobs.get(&item.digest) {
            Some(blob) => Fetched::Blob(item.digest, blob.clone().against(item.base)),
            None => Fetched::Missing(item.digest, "the hub does not hold it".to_owned()),
        });
        into.extend(found);
        Ok(())
    }
}

/// What a simulated agent is configured with.
#[derive(Default)]
pub struct Options {
    /// The namespaces that it may read; empty: the whole cluster.
    pub namespaces: Vec<String>,
    /// The ServiceAccount as which apps act that name none.
    pub default_service_account: String,
    /// Its wall clock; without, one that begins at its start.
    pub clock: Option<Arc<dyn Clock>>,
    /// How often each kind is verified; without, once an hour.
    pub verify_every: Option<Duration>,
    /// What carries its questions to services that have keys; without, it asks over HTTP.
    pub key_services: Option<Arc<dyn Transport>>,
}

/// A running simulated agent. Dropping it is a crash: storage and cluster live on.
pub struct SimAgent {
    /// Its ledger.
    pub ledger: Arc<Ledger>,
    /// Its rows for the hub.
    pub reports: Arc<Reports>,
    /// How often it woke, and how many jobs it began.
    pub counters: Arc<Counters>,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    context: Arc<Context>,
    nudge: Arc<Nudge>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), LedgerError>>,
}

impl Drop for SimAgent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl SimAgent {
    /// Starts an agent over a cluster and storage.
    pub async fn start(cluster: Arc<dyn Cluster>, key_value: Arc<dyn KeyValue>) -> Result<Self, LedgerError> {
        Self::start_as(cluster, key_value, Options::default()).await
    }

    /// Starts an agent that may read these namespaces only.
    pub async fn start_within(
        cluster: Arc<dyn Cluster>,
        key_value: Arc<dyn KeyValue>,
        namespaces: Vec<String>,
    ) -> Result<Self, LedgerError> {
        let options = Options {
            namespaces,
            ..Options::default()
        };
        Self::start_as(cluster, key_value, options).await
    }

    /// Starts an agent with what it would be configured with.
    pub async fn start_as(
        cluster: Arc<dyn Cluster>,
        key_value: Arc<dyn KeyValue>,
        options: Options,
    ) -> Result<Self, LedgerError> {
        let ledger = Arc::new(Ledger::open(key_value, LEDGER).await?);
        let (reports, nudge) = (Arc::new(Reports::default()), Arc::new(Nudge::default()));
        let clock = options.clock.unwrap_or_else(|| Arc::new(SimClock::default()));
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(cluster));
        let context = Context::new(ledger.clone(), cluster, reports.clone(), clock.clone())
            .within(options.namespaces)
            .acting_by_default_as(options.default_service_account);
        let context = match options.key_services {
            Some(transport) => context.asking_by(transport),
            None => context,
        };
        let (counters, metrics) = (context.counters.clone(), context.metrics.clone());
        let context = Arc::new(context);
        let mut reconciler = Reconciler::new(context.clone(), nudge.clone());
        if let Some(period) = options.verify_every {
            reconciler = reconciler.verifying_every(period);
        }
        let stop = CancellationToken::new();
        let running = tokio::spawn(reconciler.run(stop.clone()));
        Ok(Self {
            ledger,
            reports,
            counters,
            metrics,
            context,
            nudge,
            clock,
            stop,
            running,
        })
    }

    /// Tells it to stop, and returns once it has and what it found out is durable. Fails when another agent is at work.
    pub async fn stop(mut self) -> Result<(), LedgerError> {
        self.stop.cancel();
        // A panic has said so itself.
        (&mut self.running).await.unwrap_or(Ok(()))?;
        self.ledger.flush().await
    }

    /// Offers a whole desired state, as the next generation. Units that it does not name are let go of.
    pub async fn offer(&self, entries: &[Entry], contents: &mut Contents) -> Result<Ack, AcceptError> {
        let generation = self.ledger.read(|state| state.accepted.generation) + 1;
        self.offer_as(generation, entries, contents).await
    }

    /// Offers a whole desired state under a number.
    pub async fn offer_as(
        &self,
        generation: u64,
        entries: &[Entry],
        contents: &mut Contents,
    ) -> Result<Ack, AcceptError> {
        let ack = offer_to(&self.ledger, generation, entries, contents, self.clock.now()).await?;
        self.nudge.accepted();
        Ok(ack)
    }

    /// Tries again to get what is lacking.
    pub async fn complete(&self, contents: &mut Contents) -> Result<Option<Ack>, AcceptError> {
        let ack = complete(&self.ledger, contents).await?;
        self.nudge.accepted();
        Ok(ack)
    }

    /// What was sent to the hub so far: after the happy end none of it rises.
    pub fn counts(&self) -> Counts {
        self.reports.counts()
    }

    /// Bytes of objects that watches have shown and no check has taken: at rest there are none.
    pub fn bytes_sighted(&self) -> usize {
        self.context.bytes_sighted()
    }

    /// Asks for a unit to be looked at now.
    pub fn ask(&self, unit: UnitId) {
        self.nudge.ask(unit);
    }

    /// Takes the next report and acknowledges it, as a hub that has committed it does.
    pub async fn report(&self, within: Duration) -> Option<Report> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(report) = self.reports.next(1) {
                self.reports.ack(report.seq);
                return Some(report);
            }
            tokio::time::timeout_at(deadline, self.reports.changed())
                .await
                .ok()?;
        }
    }
}

/// Offers a ledger a whole desired state under a number. Units that it does not name are let go of.
pub async fn offer_to(
    ledger: &Ledger,
    generation: u64,
    entries: &[Entry],
    source: &mut dyn Source,
    now: Timestamp,
) -> Result<Ack, AcceptError> {
    let bytes: Vec<(UnitId, Vec<u8>)> = entries
        .iter()
        .map(|entry| (entry.unit, entry.to_bytes()))
        .collect();
    let is_named = |unit: &UnitId| entries.iter().any(|entry| entry.unit == *unit);
    let held = ledger.read(|state| state.units.keys().copied().collect::<Vec<_>>());
    let released = held
        .into_iter()
        .filter(|unit| !is_named(unit))
        .map(|unit| OfferedEntry {
            unit,
            bytes: Vec::new(),
            released: true,
        })
        .collect::<Vec<_>>();
    let offer = Offer {
        incarnation: 1,
        generation,
        root: root(bytes.iter().map(|(unit, bytes)| (*unit, Entry::digest_of(bytes)))),
        base: None,
        entries: bytes
            .into_iter()
            .map(|(unit, bytes)| OfferedEntry {
                unit,
                bytes,
                released: false,
            })
            .chain(released)
            .collect(),
        was_put_back: false,
    };
    accept(ledger, offer, source, now).await
}
