//! A cluster and storage in memory, a simulated agent over them, and what a hub would have been told.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::memory::Memory,
    sim::{self, Contents, Options, SimAgent, SimClock},
};
use flotilla_core::{
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, Settings, VariableLayer},
};
use flotilla_proto::agent::v1::{Event, ObjectStatus, Readiness, UnitStatus};
use flotilla_sops::Transport;
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use flotilla_agent::sim::settings;

pub(crate) fn entry_with(
    n: u128,
    content: Digest,
    settings: Settings,
    variables: Vec<VariableLayer>,
) -> Entry {
    sim::entry(UnitId(Uuid::from_u128(n)), content, |entry| {
        entry.settings = settings;
        entry.variables = variables;
    })
}

pub(crate) fn entry(n: u128, content: Digest) -> Entry {
    entry_with(n, content, settings(), Vec::new())
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"a": value}})
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 1}})
}

pub(crate) fn key(kind: &str, name: &str) -> ObjectKey {
    let group = if kind == "Deployment" { "apps" } else { "" };
    ObjectKey::new(group, kind, "default", name)
}

/// What happened in ten minutes in which nothing came from outside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) wakes: u64,
    pub(crate) ledger_writes: u64,
    pub(crate) reports: usize,
    pub(crate) rows: usize,
    pub(crate) events: usize,
}

/// A cluster, its storage, what a hub would serve, and what the hub was told.
pub(crate) struct World {
    pub(crate) cluster: Fake,
    pub(crate) cells: Memory,
    clock: Arc<SimClock>,
    pub(crate) contents: Contents,
    pub(crate) agent: Option<SimAgent>,
    pub(crate) units: BTreeMap<Vec<u8>, UnitStatus>,
    /// All rows of units, in the order in which they were told.
    pub(crate) history: Vec<UnitStatus>,
    pub(crate) objects: BTreeMap<String, ObjectStatus>,
    /// All rows of objects, in the order in which they were told.
    pub(crate) told: Vec<ObjectStatus>,
    pub(crate) events: Vec<Event>,
    /// The ServiceAccount as which apps act that name none.
    pub(crate) default_account: String,
    /// What carries the agent's questions to services that have keys.
    pub(crate) key_services: Option<Arc<dyn Transport>>,
}

/// What an agent asks for and tells, and how often it wakes, in ten minutes after it has told all.
pub(crate) async fn ten_minutes_of(agent: &SimAgent, cluster: &Fake) -> Quiet {
    settle().await;
    while agent.report(Duration::from_secs(1)).await.is_some() {}
    cluster.take_requests();
    let wakes = || agent.counters.wakes.load(Ordering::Relaxed);
    let (woken, before) = (wakes(), agent.counts());
    tokio::time::sleep(Duration::from_secs(600)).await;
    while agent.report(Duration::ZERO).await.is_some() {}
    let told = agent.counts();
    Quiet {
        requests: cluster.take_requests(),
        wakes: wakes() - woken,
        reports: usize::try_from(told.reports - before.reports).unwrap(),
        rows: usize::try_from(told.rows - before.rows).unwrap(),
        events: usize::try_from(told.events - before.events).unwrap(),
        ..Quiet::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self {
            cluster: Fake::new(),
            cells: Memory::default(),
            clock: Arc::default(),
            contents: Contents::default(),
            agent: None,
            units: BTreeMap::new(),
            history: Vec::new(),
            objects: BTreeMap::new(),
            told: Vec::new(),
            events: Vec::new(),
            default_account: String::new(),
            key_services: None,
        };
        world.restart().await;
        world
    }

    /// Kills the agent and starts one over what is left.
    pub(crate) async fn restart(&mut self) {
        self.agent = None;
        tokio::task::yield_now().await;
        let options = Options {
            clock: Some(self.clock.clone()),
            default_service_account: self.default_account.clone(),
            key_services: self.key_services.clone(),
            ..Options::default()
        };
        let (cluster, cells) = (Arc::new(self.cluster.clone()), Arc::new(self.cells.clone()));
        self.agent = Some(SimAgent::start_as(cluster, cells, options).await.unwrap());
    }

    /// Tells the agent to stop, waits until it has, and starts one over what is left.
    pub(crate) async fn stop_and_start(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.stop().await.unwrap();
        self.restart().await;
    }

    pub(crate) fn agent(&self) -> &SimAgent {
        self.agent.as_ref().unwrap()
    }

    pub(crate) async fn offer(&mut self, entries: &[Entry]) -> flotilla_proto::agent::v1::Ack {
        let agent = self.agent.take().unwrap();
        let ack = agent.offer(entries, &mut self.contents).await;
        self.agent = Some(agent);
        ack.unwrap()
    }

    /// Takes in reports until `done`, for at most an hour of virtual time.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3600);
        while !done(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never happened: {what}; units {:?}, objects {:?}, events {:?}",
                self.units,
                self.objects,
                self.events
            );
            self.take_report(Duration::from_secs(1)).await;
        }
    }

    /// Takes in the next report. Returns what it had, or nothing when none came.
    pub(crate) async fn take_report(&mut self, within: Duration) -> Option<(usize, usize)> {
        let report = self.agent().report(within).await?;
        let rows = report.units.len() + report.objects.len();
        let events = report.events.len();
        for unit in report.units {
            self.history.push(unit.clone());
            self.units.insert(unit.unit_id.to_vec(), unit);
        }
        for object in report.objects {
            self.told.push(object.clone());
            self.objects
                .insert(object.key.as_ref().unwrap().name.clone(), object);
        }
        self.events.extend(report.events);
        Some((rows, events))
    }

    /// Lets everything come to rest, and counts what happens in the ten minutes that follow.
    pub(crate) async fn ten_minutes(&mut self) -> Quiet {
        settle().await;
        while self.take_report(Duration::from_secs(1)).await.is_some() {}
        self.cluster.take_requests();
        let counters = self.agent().counters.clone();
        let (wakes, writes) = (counters.wakes.load(Ordering::Relaxed), self.cells.writes());
        let mut quiet = Quiet::default();
        let end = tokio::time::Instant::now() + Duration::from_secs(600);
        while tokio::time::Instant::now() < end {
            let left = end - tokio::time::Instant::now();
            if let Some((rows, events)) = self.take_report(left).await {
                quiet.reports += 1;
                quiet.rows += rows;
                quiet.events += events;
            }
        }
        quiet.requests = self.cluster.take_requests();
        quiet.wakes = counters.wakes.load(Ordering::Relaxed) - wakes;
        quiet.ledger_writes = self.cells.writes() - writes;
        quiet
    }

    /// Nothing happens any more.
    pub(crate) async fn rests(&mut self) {
        assert_eq!(self.ten_minutes().await, Quiet::default());
        assert_eq!(self.agent().bytes_sighted(), 0);
    }

    /// Nothing happens but these requests, for each of which the agent wakes twice; nothing is written or reported.
    pub(crate) async fn rests_but_for(&mut self, requests: &[(&str, u64)]) {
        let quiet = self.ten_minutes().await;
        let expected: BTreeMap<String, u64> = requests
            .iter()
            .map(|(verb, n)| ((*verb).to_owned(), *n))
            .collect();
        let most: u64 = requests.iter().map(|(_, n)| n).max().copied().unwrap_or_default();
        assert_eq!(quiet.requests, expected, "{quiet:?}");
        assert!(quiet.wakes <= 2 * most, "{quiet:?}");
        assert_eq!((quiet.reports, quiet.events), (0, 0), "{quiet:?}");
        assert!(quiet.ledger_writes <= 1, "{quiet:?}");
        assert_eq!(self.agent().bytes_sighted(), 0);
    }

    pub(crate) fn unit(&self, n: u128) -> Option<&UnitStatus> {
        self.units.get(&UnitId(Uuid::from_u128(n)).to_vec())
    }

    pub(crate) fn is_ready(&self, entry: &Entry) -> bool {
        self.units.get(&entry.unit.to_vec()).is_some_and(|unit| {
            unit.ready() == Readiness::True
                && unit
                    .applied
                    .as_ref()
                    .is_some_and(|applied| applied.is(entry.version, entry.target.as_bytes()))
        })
    }

    pub(crate) async fn until_ready(&mut self, entry: &Entry) {
        self.until("the unit is ready", |world| world.is_ready(entry))
            .await;
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let object = self.cluster.object(&key("ConfigMap", name))?;
        Some(object["data"]["a"].as_str()?.to_owned())
    }

    pub(crate) fn events(&self, reason: &str) -> Vec<&Event> {
        self.events
            .iter()
            .filter(|event| event.reason == reason)
            .collect()
    }
}

/// Lets everything that is under way come to rest.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}
