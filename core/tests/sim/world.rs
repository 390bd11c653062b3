//! A fleet: a hub with its store, clusters with their agents, the streams between them, the sources. One thing happens
//! after another, chosen by the seed.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{desired::acceptance::Offer, id::UnitId};
use uuid::Uuid;

use crate::{
    agent::{Agent, Env, ledger::Ledger},
    cluster::Cluster,
    git::{Contents, Repository},
    hub::{Hub, Task},
    link::{Down, Stream, Up},
    oracle::Oracle,
    random::Random,
    store::{Accepted, Resource, Store, Told},
    trace::Trace,
};

/// A cluster, its agent, and what is between that and the hub.
pub(crate) struct Site {
    pub(crate) id: Uuid,
    pub(crate) cluster: Cluster,
    pub(crate) agent: Agent,
    pub(crate) streams: Vec<Stream>,
    pub(crate) backup: Option<(Cluster, Ledger)>,
    /// No stream opens.
    pub(crate) is_cut: bool,
    /// Its API server does not answer.
    pub(crate) is_silent: bool,
    /// Contents cannot be had.
    pub(crate) is_lacking: bool,
}

pub(crate) struct World {
    /// Milliseconds.
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) store: Store,
    pub(crate) backup: Option<Store>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) sites: Vec<Site>,
    pub(crate) repositories: BTreeMap<Uuid, Repository>,
    pub(crate) contents: Contents,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// What people have asked for last, by name, deletions with it.
    pub(crate) wishes: BTreeMap<String, Resource>,
    /// Clusters that people have had drained last.
    pub(crate) drains: BTreeSet<Uuid>,
    /// Apps and sources that no hub gets to for now.
    pub(crate) stalled: BTreeSet<Uuid>,
    /// Numbers that are given once.
    pub(crate) numbers: u128,
}

/// Something that may happen next.
#[derive(Debug, Clone)]
enum Next {
    Task(usize),
    Poll(Uuid),
    Plan(Uuid),
    Publish(BTreeSet<Uuid>),
    Clear(Vec<Uuid>),
    Up(usize, usize),
    Offer(usize, usize),
    Down(usize, usize),
    Connect(usize),
    Fetch(usize),
    Sync(usize),
    Job(usize, usize),
    News(usize),
    Watch(usize),
    Turn(usize),
    Report(usize),
    Flush(usize),
    /// An agent finds out that its stream is broken.
    Notice(usize),
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        Self {
            now: 0,
            random: Random::new(seed),
            store: Store {
                incarnation: 1_700_000_000,
                ..Store::default()
            },
            backup: None,
            tasks: Vec::new(),
            sites: Vec::new(),
            repositories: BTreeMap::new(),
            contents: Contents::default(),
            oracle: Oracle::default(),
            trace,
            wishes: BTreeMap::new(),
            drains: BTreeSet::new(),
            stalled: BTreeSet::new(),
            numbers: 0,
        }
    }

    pub(crate) fn number(&mut self) -> Uuid {
        self.numbers += 1;
        Uuid::from_u128(self.numbers)
    }

    pub(crate) fn add_site(&mut self) {
        let id = self.number();
        self.sites.push(Site {
            id,
            cluster: Cluster::default(),
            agent: Agent::new(id, Ledger::default(), self.now),
            streams: Vec::new(),
            backup: None,
            is_cut: false,
            is_silent: false,
            is_lacking: false,
        });
    }

    pub(crate) fn hub(&mut self) -> Hub<'_> {
        Hub {
            store: &mut self.store,
            repositories: &self.repositories,
            contents: &mut self.contents,
            oracle: &mut self.oracle,
            trace: &self.trace,
        }
    }

    /// Has the agent of a site do something, and lets its loop go round.
    pub(crate) fn agent<T>(&mut self, at: usize, does: impl FnOnce(&mut Agent, &mut Env<'_>) -> T) -> T {
        let site = &mut self.sites[at];
        let mut env = Env {
            now: self.now,
            random: &mut self.random,
            contents: &self.contents,
            cluster: &mut site.cluster,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            silent: site.is_silent,
        };
        let done = does(&mut site.agent, &mut env);
        if site.agent.is_due(self.now) {
            site.agent.turn(&mut env);
        }
        self.tell_watches(at);
        done
    }

    /// What has happened in a cluster is on its way to whom it concerns.
    pub(crate) fn tell_watches(&mut self, at: usize) {
        let site = &mut self.sites[at];
        for change in std::mem::take(&mut site.cluster.changes) {
            site.agent.watch.tell(change);
        }
    }

    /// All that may happen next without anybody's doing. `eager`: also what need not be.
    fn choices(&self, eager: bool) -> Vec<Next> {
        let is_stalled = |task: &Task| self.stalled.iter().any(|uid| task.is_of(*uid));
        let tasks = self.tasks.iter().enumerate();
        let tasks = tasks.filter(|(_, task)| !is_stalled(task));
        let mut choices: Vec<Next> = tasks.map(|(index, _)| Next::Task(index)).collect();
        let is_at_it = |uid: Uuid| self.tasks.iter().filter(|task| task.is_of(uid)).count();
        // Two hubs may be at the same at once.
        let may_begin = |uid: Uuid| !self.stalled.contains(&uid) && is_at_it(uid) < if eager { 2 } else { 1 };
        for (source, repository) in &self.repositories {
            let known = self.store.sources.get(source).map(|row| row.revision);
            let is_behind = known != Some(repository.head()) || self.store.unconfirmed.contains(source);
            if is_behind && may_begin(*source) {
                choices.push(Next::Poll(*source));
            }
        }
        for app in self.store.due.keys().filter(|app| may_begin(**app)) {
            choices.push(Next::Plan(*app));
        }
        let unpublished: BTreeSet<Uuid> = self.unpublished().collect();
        if !unpublished.is_empty() {
            choices.push(Next::Publish(unpublished));
        }
        let clearing = self.to_clear();
        let is_clearing = !clearing.is_empty() || !self.store.draining.is_empty();
        if eager && is_clearing && self.tasks.len() < 6 {
            choices.push(Next::Clear(clearing));
        }
        for at in 0..self.sites.len() {
            self.choices_at(at, eager, &mut choices);
        }
        choices
    }

    fn unpublished(&self) -> impl Iterator<Item = Uuid> {
        let units = self.store.unpublished.iter().filter(|(_, unit)| {
            let unit = self.store.units.get(unit);
            !unit.is_some_and(|unit| self.store.unconfirmed.contains(&unit.app))
        });
        let former = self
            .store
            .desired
            .iter()
            .filter(|(_, desired)| desired.incarnation < self.store.incarnation);
        units
            .map(|(cluster, _)| *cluster)
            .chain(former.map(|(cluster, _)| *cluster))
    }

    /// Apps that something has left, or that are to be deleted.
    pub(crate) fn to_clear(&self) -> Vec<Uuid> {
        let mut apps = self.store.leaving_apps();
        let deleting = self
            .store
            .resources
            .iter()
            .filter(|(_, one)| one.deletion.is_some());
        apps.extend(deleting.map(|(app, _)| *app));
        apps.into_iter().collect()
    }

    fn choices_at(&self, at: usize, eager: bool, choices: &mut Vec<Next>) {
        let site = &self.sites[at];
        for (index, stream) in site.streams.iter().enumerate() {
            if stream.is_the_hubs && !stream.up.is_empty() {
                choices.push(Next::Up(at, index));
            }
            if stream.is_the_agents && !stream.is_the_hubs && stream.down.is_empty() {
                choices.push(Next::Notice(at));
            }
            if stream.has_offer(site.id, &self.store) {
                choices.push(Next::Offer(at, index));
            }
            if stream.is_the_agents && !stream.down.is_empty() {
                choices.push(Next::Down(at, index));
            }
            let is_open = stream.is_the_agents && stream.epoch.is_some() && stream.down.is_empty();
            if is_open && site.agent.reports.has_news() {
                choices.push(Next::Report(at));
            }
        }
        let is_connected = site.streams.iter().any(|stream| stream.is_the_agents);
        if !is_connected && !site.is_cut {
            choices.push(Next::Connect(at));
        }
        if is_connected
            && (eager || !site.is_lacking)
            && !site.agent.acceptance.lacking(&site.agent.ledger).is_empty()
        {
            choices.push(Next::Fetch(at));
        }
        if site.agent.needs_sync {
            choices.push(Next::Sync(at));
        }
        for index in 0..site.agent.jobs.len() {
            choices.push(Next::Job(at, index));
        }
        if site.agent.watch.has_news() {
            choices.push(Next::News(at));
        } else if !site.agent.watch.is_open() && !site.is_silent {
            choices.push(Next::Watch(at));
        }
        if site.agent.is_due(self.now) {
            choices.push(Next::Turn(at));
        }
        if eager && self.random.clone().once_in(4) {
            choices.push(Next::Flush(at));
        }
    }

    /// One of these happens. `false`: there is nothing.
    pub(crate) fn step(&mut self, eager: bool) -> bool {
        let choices = self.choices(eager);
        let Some(next) = self.random.pick(&choices).cloned() else {
            return false;
        };
        if !eager && std::env::var("FLOTILLA_SIM_STEPS").is_ok() {
            self.trace.say(|| format!("? {next:?}"));
        }
        self.happen(next);
        true
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Task(index) => {
                let task = self.tasks.swap_remove(index);
                let next = task.advance(&mut self.hub());
                self.tasks.extend(next);
            }
            Next::Poll(source) => self.tasks.push(Task::poll(source)),
            Next::Plan(app) => self.tasks.push(Task::plan(app)),
            Next::Clear(apps) => self.tasks.push(Task::clear(apps)),
            Next::Publish(clusters) => {
                let clusters: Vec<Uuid> = clusters.into_iter().collect();
                let before = self.store.desired.clone();
                for cluster in self.store.publish(&clusters) {
                    let (was, is) = (before.get(&cluster), self.store.desired[&cluster]);
                    let order = |of: &crate::store::Desired| (of.incarnation, of.generation);
                    assert!(was.map(order) < Some(order(&is)), "a generation goes back");
                    self.trace
                        .say(|| format!("hub: publishes generation {} of {cluster}", is.generation));
                }
                self.oracle.published(&self.store, &self.contents);
            }
            Next::Up(at, index) => self.deliver(at, index),
            Next::Offer(at, index) => {
                let site = &mut self.sites[at];
                site.streams[index].offer(site.id, &self.store);
            }
            Next::Down(at, index) => self.receive(at, index),
            Next::Connect(at) => self.connect(at),
            Next::Fetch(at) => self.fetch(at),
            Next::Sync(at) => {
                self.agent(at, |agent, env| agent.sync(env));
            }
            Next::Job(at, index) => self.agent(at, |agent, env| agent.advance(index, env)),
            Next::News(at) => self.agent(at, |agent, env| agent.observe(env)),
            Next::Watch(at) => self.agent(at, |agent, env| agent.open_watch(env)),
            Next::Turn(at) => self.agent(at, |_, _| ()),
            Next::Report(at) => self.report(at),
            Next::Flush(at) => self.sites[at].agent.ledger.flush(),
            Next::Notice(at) => self.cut_streams(at, true, true),
        }
    }

    fn deliver(&mut self, at: usize, index: usize) {
        let site = &mut self.sites[at];
        let message = site.streams[index].deliver(site.id, &mut self.store);
        match message {
            Some(Up::Report(..)) => self.oracle.told(&self.store),
            // Whoever opens a stream closes the others, also one that the agent believes to be its last.
            Some(Up::Hello { .. }) => {
                let others = site
                    .streams
                    .iter_mut()
                    .enumerate()
                    .filter(|(other, _)| *other != index);
                others.for_each(|(_, stream)| stream.is_the_hubs = false);
            }
            _ => {}
        }
        site.streams.retain(|stream| !stream.is_over());
    }

    pub(crate) fn connect(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let hello = Up::Hello {
            held: site.agent.ledger.live.held,
            observed_root: site.agent.reports.observed_root(),
            epoch_seen: site.agent.epoch_seen,
        };
        site.streams.push(Stream::new(hello));
    }

    /// The agent takes what comes next.
    fn receive(&mut self, at: usize, index: usize) {
        let now = self.now;
        let site = &mut self.sites[at];
        let Some(message) = site.streams[index].down.pop_front() else {
            return;
        };
        match message {
            Down::Welcome { epoch, everything } => {
                site.agent.epoch_seen = site.agent.epoch_seen.max(epoch);
                site.agent.reports.opened(everything);
            }
            Down::Acknowledged(seq) => site.agent.reports.acknowledged(seq),
            Down::Offer(offer) => {
                let wall = site.agent.wall(now);
                let before = site.agent.ledger.live.clone();
                let (acceptance, ledger) = (&mut site.agent.acceptance, &mut site.agent.ledger);
                let taken = acceptance.offer(ledger, &offer, wall);
                self.trace
                    .say(|| format!("  {}: offered {} {taken:?}", site.id, offer.generation));
                if taken.is_err() {
                    site.streams[index].up.push_back(Up::Refused);
                    return;
                }
                let after = site.agent.ledger.live.held;
                let order = |of: &flotilla_core::desired::Held| (of.incarnation, of.generation);
                assert!(order(&before.held) <= order(&after), "a generation goes back");
                for (unit, stored) in &before.units {
                    if !site.agent.ledger.live.units.contains_key(unit) {
                        self.oracle.forgotten(site.id, stored);
                    }
                }
                self.note_contents(at, &offer);
                self.accepted(at);
            }
        }
    }

    fn note_contents(&mut self, at: usize, offer: &Offer) {
        let ledger = &self.sites[at].agent.ledger.live;
        for entry in &offer.entries {
            let stored = ledger.units.get(&entry.unit);
            let content = stored.and_then(|unit| unit.offered.as_ref()?.entry.content);
            if let Some(content) = content {
                let objects = self.contents.get(&content).objects.len();
                self.oracle.holds(entry.unit, objects);
            }
        }
    }

    /// Says what the ledger has.
    fn accepted(&mut self, at: usize) {
        let site = &mut self.sites[at];
        site.agent.needs_sync = true;
        let memory = &site.agent.ledger.live;
        let units = memory.units.iter().filter(|(_, unit)| !unit.is_unknown);
        let accepted = units.filter_map(|(id, unit)| {
            let offered = unit.offered.as_ref()?;
            let held = flotilla_core::unit::record::Attained {
                version: offered.entry.version,
                target: offered.entry.target,
            };
            let entry = offered.digest;
            memory
                .has(offered.entry.content)
                .then_some((id.0, Accepted { held, entry }))
        });
        let told = Told {
            cluster: site.id,
            epoch: 0,
            accepted: (memory.held.generation > 0)
                .then_some((memory.held.incarnation, memory.held.generation)),
            units: accepted.collect(),
        };
        for stream in site.streams.iter_mut().filter(|stream| stream.is_the_agents) {
            if let Some(epoch) = stream.epoch {
                stream.up.push_back(Up::Told(Told {
                    epoch,
                    ..told.clone()
                }));
            }
        }
    }

    fn fetch(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let lacking: Vec<_> = site
            .agent
            .acceptance
            .lacking(&site.agent.ledger)
            .into_iter()
            .collect();
        let Some(content) = self.random.pick(&lacking).copied() else {
            return;
        };
        match site.is_lacking {
            true => site.agent.acceptance.absent(&mut site.agent.ledger, content),
            false => site.agent.acceptance.arrived(&mut site.agent.ledger, content),
        }
        let units = site.agent.ledger.live.units.iter();
        for (unit, stored) in units {
            let named = stored.offered.as_ref().and_then(|offered| offered.entry.content);
            if named == Some(content) {
                let objects = self.contents.get(&content).objects.len();
                self.oracle.holds(*unit, objects);
            }
        }
        self.accepted(at);
    }

    fn report(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let stream = site.streams.iter_mut().find(|stream| stream.is_the_agents);
        let Some((stream, epoch)) = stream.and_then(|stream| {
            let epoch = stream.epoch?;
            Some((stream, epoch))
        }) else {
            return;
        };
        let (seq, report) = site.agent.reports.next(site.id, epoch);
        stream.up.push_back(Up::Report(seq, report));
    }

    /// When the next agent wants to be woken.
    pub(crate) fn wake(&self) -> Option<u64> {
        self.sites
            .iter()
            .filter_map(|site| site.agent.wake(self.now))
            .min()
    }

    /// Asks units for a full look.
    pub(crate) fn request(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let units: BTreeSet<UnitId> = site.agent.units.keys().copied().collect();
        site.agent.asked = units;
        site.agent.needs_sync = true;
    }

    /// The agent's process ends, and another begins.
    pub(crate) fn crash_agent(&mut self, at: usize) {
        let now = self.now;
        let site = &mut self.sites[at];
        site.agent.crash(now);
        site.agent.needs_sync = true;
        self.cut_streams(at, true, false);
    }

    /// Streams break: the agent knows, or the hub, or both.
    pub(crate) fn cut_streams(&mut self, at: usize, agent: bool, hub: bool) {
        let site = &mut self.sites[at];
        for stream in &mut site.streams {
            stream.is_the_agents &= !agent;
            stream.is_the_hubs &= !hub;
            if !stream.is_the_agents {
                stream.down.clear();
            }
        }
        if agent {
            site.agent.acceptance.broke_off();
        }
        site.streams.retain(|stream| !stream.is_over());
    }
}
