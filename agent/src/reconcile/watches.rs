//! Which kinds are watched.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flotilla_core::{
    apply::{UNIT_LABEL, inventory::Record},
    id::UnitId,
    object::ObjectKey,
    rights,
    unit::event::Event,
};
use flotilla_proto::agent::v1::ClusterConditionKind;
use futures::StreamExt as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    lent::Lent,
    narrowed::Narrowed,
    news::{WatchNews, reduce},
};
use super::{Reconciler, Unit, definitions::Definitions};
use crate::cluster::{ClusterError, Discovery, Resource, Selector, Served};

mod lent;
mod narrowed;
pub(super) mod news;
pub(super) mod unseen;

/// Kinds watched at once: each is a stream of the API server. More is reported, and the rest verified by lists alone.
const WATCHES: usize = 2048;
/// How long a kind that is not served is not asked for again: at first, doubled each time, and at most.
const UNSERVED: Duration = Duration::from_secs(60);
const UNSERVED_MAX: Duration = Duration::from_secs(3600);
/// Watch events that wait for the loop.
const EVENTS: usize = 256;

/// A kind, and the namespace when not all are watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    /// API group.
    pub(super) group: String,
    /// Kind.
    pub(super) kind: String,
    /// Namespace; empty: all.
    pub(super) namespace: String,
}

impl Scope {
    /// Tells whether objects of a kind and namespace fall into the scope.
    pub(super) fn covers(&self, group: &str, kind: &str, namespace: &str) -> bool {
        (group, kind) == (self.group.as_str(), self.kind.as_str())
            && (self.namespace.is_empty() || namespace == self.namespace)
    }

    fn definitions() -> Self {
        Self {
            group: "apiextensions.k8s.io".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            namespace: String::new(),
        }
    }
}

/// A scope in a version. Objects that were written in different versions of their kind are watched in each of these:
/// what was written can only be compared with what is shown in the same version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Stream {
    scope: Scope,
    version: String,
}

/// How a scope is watched in a version.
enum Watched {
    /// Dropping the guard ends it.
    Open {
        /// Its objects live in namespaces.
        namespaced: bool,
        /// It has shown what there is.
        is_shown: bool,
        /// Since when the server refuses it, where it has shown what there is before.
        refused_since: Option<Instant>,
        _guard: tokio_util::sync::DropGuard,
    },
    /// It was not served when last tried; discovered again then.
    Unserved { until: Instant, wait: Duration },
}

impl Watched {
    fn unserved(now: Instant, wait: Duration) -> Self {
        let until = now + wait;
        Self::Unserved { until, wait }
    }
}

/// The open watches.
pub(super) struct Watches {
    open: BTreeMap<Stream, Watched>,
    /// Kinds that may not be watched in the whole cluster: each namespace of the inventories is, in its place.
    narrowed: Narrowed,
    /// Kinds that the agent itself may not watch.
    lent: Lent,
    /// Which kinds the inventories had when they were last looked through; `None`: they are to be.
    revision: Option<(bool, u64)>,
    /// Watches whose first list has no answer yet, be it that it is refused.
    silent: BTreeSet<Stream>,
    /// Watches that the server refuses, and why.
    refused: BTreeMap<Stream, String>,
    /// Of which scopes that has changed since units were told.
    unsaid: BTreeSet<Scope>,
    /// Units that are to say anew what of their objects is not seen.
    to_note: BTreeSet<UnitId>,
    /// What the bound leaves out, in words.
    left_out: String,
    /// What cannot be watched by anybody, as it was found served.
    unwatchable: BTreeSet<Stream>,
    /// What was served then.
    looked_at: Option<Arc<Discovery>>,
    /// When it was last logged that a watch has no answer.
    unanswered: Option<Instant>,
    /// When it was last logged that the store was put back.
    went_back: Option<Instant>,
    /// What a running list has not shown yet.
    listing: HashMap<Stream, HashSet<(UnitId, Arc<ObjectKey>)>>,
    definitions: Definitions,
    /// Units that wait for a definition.
    pub(super) waiting: BTreeSet<UnitId>,
    news_tx: mpsc::Sender<WatchNews>,
    news_rx: mpsc::Receiver<WatchNews>,
    /// It was found out again what is served.
    rediscovered: Arc<AtomicBool>,
}

impl Default for Watches {
    fn default() -> Self {
        let (news_tx, news_rx) = mpsc::channel(EVENTS);
        Self {
            open: BTreeMap::new(),
            narrowed: Narrowed::default(),
            lent: Lent::default(),
            revision: None,
            silent: BTreeSet::new(),
            refused: BTreeMap::new(),
            unsaid: BTreeSet::new(),
            to_note: BTreeSet::new(),
            left_out: String::new(),
            unwatchable: BTreeSet::new(),
            looked_at: None,
            unanswered: None,
            went_back: None,
            listing: HashMap::new(),
            definitions: Definitions::default(),
            waiting: BTreeSet::new(),
            news_tx,
            news_rx,
            rediscovered: Arc::default(),
        }
    }
}

impl Watches {
    /// The next event; `None` is never given, since a sender is held.
    pub(super) async fn next(&mut self) -> Option<WatchNews> {
        self.news_rx.recv().await
    }

    /// An event that is there already.
    pub(super) fn ready(&mut self) -> Option<WatchNews> {
        self.news_rx.try_recv().ok()
    }

    /// When the watches have something to do by time alone.
    pub(super) fn wakes(&self) -> Option<Instant> {
        let wakes = [self.retry_at(), self.definitions.wakes(), self.widens()];
        wakes.into_iter().flatten().min()
    }

    fn retry_at(&self) -> Option<Instant> {
        self.open
            .values()
            .filter_map(|watched| match watched {
                Watched::Unserved { until, .. } => Some(*until),
                Watched::Open { .. } => None,
            })
            .min()
    }

    /// Tells whether the first list of each kind of the inventories has come, or will not.
    pub(super) fn has_lists(&self) -> bool {
        self.revision.is_some() && self.silent.is_empty()
    }

    fn is_open(&self, stream: &Stream) -> bool {
        matches!(self.open.get(stream), Some(Watched::Open { .. }))
    }

    /// Tells whether a watch is the one to believe about an object: that in the version it was written in, or the first
    /// one when there is none.
    fn believes(&self, stream: &Stream, record: Option<&Record>) -> bool {
        let Some(record) = record.filter(|record| record.api_version != stream.version) else {
            return true;
        };
        let scope = &stream.scope;
        let of = |version: &str| Stream {
            scope: scope.clone(),
            version: version.to_owned(),
        };
        let mut streams = self
            .open
            .range(of("")..)
            .take_while(|(one, _)| one.scope == *scope);
        let first = streams.find(|(_, watched)| matches!(watched, Watched::Open { .. }));
        !self.is_open(&of(&record.api_version)) && first.is_some_and(|(first, _)| first == stream)
    }
}

impl Reconciler {
    /// What waits for a kind may go on.
    pub(super) fn serve_definitions(&mut self) {
        let now = Instant::now();
        let Some(groups) = self.watches.definitions.take_due(now) else {
            return;
        };
        self.context.expire_discovery();
        for (stream, watched) in &mut self.watches.open {
            if let Watched::Unserved { until, wait } = watched
                && groups.contains(&stream.scope.group)
            {
                (*until, *wait) = (now, UNSERVED);
            }
        }
        let waits = |unit: &Unit| {
            unit.state.is_active() && unit.state.unserved().any(|key| groups.contains(&key.group))
        };
        let waiting: Vec<UnitId> = self
            .units
            .iter()
            .filter(|(_, unit)| waits(unit))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.feed(id, Event::KindServed);
        }
    }

    /// Watches what the inventories have.
    pub(super) async fn watch_kinds(&mut self) {
        // Before the first discovery nothing can be watched, and nothing is known to be unserved.
        if !self.context.has_discovered() {
            return;
        }
        let now = Instant::now();
        let again = self.watches.retry_at().is_some_and(|at| at <= now);
        self.renew_widths();
        let rediscovered = self.watches.rediscovered.swap(false, Ordering::Relaxed);
        if again {
            self.rediscover(now);
        }
        // Where every kind is watched as a whole, a kind in one more namespace is nothing to watch.
        let is_whole = self.context.namespaces.is_empty() && self.watches.narrowed.is_empty();
        let revision = self.context.ledger.read(|state| match is_whole {
            true => (true, state.usage().kinds_revision()),
            false => (false, state.usage().revision()),
        });
        let is_served_anew = !self.watches.unwatchable.is_empty() && {
            let discovery = self.context.discovery();
            let looked_at = self.watches.looked_at.as_ref();
            looked_at.is_none_or(|looked_at| !Arc::ptr_eq(looked_at, &discovery))
        };
        if self.watches.revision != Some(revision) || rediscovered || is_served_anew {
            self.watches.revision = Some(revision);
            self.watch_inventories(now, rediscovered).await;
        }
    }

    /// Watches definitions while a unit waits for one.
    pub(super) fn watch_definitions(&mut self) {
        // An agent of some namespaces may not read definitions; it tries again now and then.
        let waits = self.context.namespaces.is_empty() && !self.watches.waiting.is_empty();
        if waits == self.watches.definitions.is_watched() {
            return;
        }
        let scope = Scope::definitions();
        let discovery = self.context.discovery();
        let resource = discovery.preferred(&scope.group, &scope.kind);
        let watch = resource.filter(|_| waits).map(|resource| {
            let stop = CancellationToken::new();
            self.open(resource, scope, true, stop.clone());
            stop.drop_guard()
        });
        self.watches.definitions.watch(watch);
    }

    /// Finds out again what is served, and only then tries again to watch what was not.
    fn rediscover(&mut self, now: Instant) {
        for watched in self.watches.open.values_mut() {
            if let Watched::Unserved { until, wait } = watched
                && *until <= now
            {
                *watched = Watched::unserved(now, (*wait * 2).min(UNSERVED_MAX));
            }
        }
        let (context, rediscovered) = (self.context.clone(), self.watches.rediscovered.clone());
        tokio::spawn(async move {
            match context.rediscovered().await {
                Ok(_) => {
                    rediscovered.store(true, Ordering::Relaxed);
                    context.intended.notify_one();
                }
                Err(error) => tracing::warn!("discovery: {error}"),
            }
        });
    }

    async fn watch_inventories(&mut self, now: Instant, rediscovered: bool) {
        let discovery = self.context.discovery();
        let wanted: BTreeSet<Stream> = self.streams();
        let kinds = wanted.iter().map(|stream| &stream.scope);
        let kinds: HashSet<(&str, &str)> = kinds.map(|scope| (&*scope.group, &*scope.kind)).collect();
        self.watches.narrowed.keep_only(&kinds);
        let scopes: BTreeSet<&Scope> = wanted.iter().map(|stream| &stream.scope).collect();
        self.watches.lent.keep_only(|scope| scopes.contains(scope));
        self.watches.open.retain(|stream, _| wanted.contains(stream));
        self.watches.listing.retain(|stream, _| wanted.contains(stream));
        self.watches.silent.retain(|stream| wanted.contains(stream));
        let ended = self
            .watches
            .refused
            .extract_if(.., |stream, _| !wanted.contains(stream));
        for (stream, _) in ended.collect::<Vec<_>>() {
            self.note_unseen(stream.scope);
        }
        let (mut left_out, mut again): (Vec<Stream>, Vec<Scope>) = (Vec::new(), Vec::new());
        let mut unwatchable = BTreeSet::new();
        for stream in wanted {
            let was_unserved = matches!(self.watches.open.get(&stream), Some(Watched::Unserved { .. }));
            match self.watches.open.get(&stream) {
                Some(Watched::Open { .. }) => continue,
                Some(Watched::Unserved { .. }) if !rediscovered => continue,
                // One that takes the place of many is tried whatever there is.
                None if self.watches.open.len() >= WATCHES && !self.tries_wider(&stream.scope) => {
                    left_out.push(stream);
                    continue;
                }
                _ => {}
            }
            if let Served::Yes(resource) = discovery.find(&stream.version, &stream.scope.kind) {
                if !resource.watchable {
                    self.watches.open.remove(&stream);
                    unwatchable.insert(stream);
                    continue;
                }
                let stop = CancellationToken::new();
                self.open(resource, stream.scope.clone(), false, stop.clone());
                let watched = Watched::Open {
                    namespaced: resource.namespaced,
                    is_shown: false,
                    refused_since: None,
                    _guard: stop.drop_guard(),
                };
                self.watches.silent.insert(stream.clone());
                again.extend(was_unserved.then(|| stream.scope.clone()));
                self.watches.open.insert(stream, watched);
            } else {
                // One that was tried before keeps its time of the next try.
                self.watches
                    .open
                    .entry(stream)
                    .or_insert_with(|| Watched::unserved(now, UNSERVED));
            }
        }
        self.watches.left_out = unwatched(&left_out);
        let before = std::mem::replace(&mut self.watches.unwatchable, unwatchable);
        let changed = before.symmetric_difference(&self.watches.unwatchable);
        self.watches
            .unsaid
            .extend(changed.map(|stream| stream.scope.clone()));
        self.watches.looked_at = Some(discovery);
        self.report_unwatched();
        // A new watch knows of no version that was told before: a kind may have been away since the cluster's store was
        // put back to a state without it.
        for scope in again {
            self.forget_versions(&scope).await;
        }
    }

    /// Has all that is watched shown from the beginning, whatever its versions. An API server that begins with a store of
    /// before has soon reached the version at which a watch goes on, which shows nothing of what is different up to there.
    pub(super) async fn watch_anew(&mut self) {
        let open = &mut self.watches.open;
        let ended = open.extract_if(.., |_, watched| matches!(watched, Watched::Open { .. }));
        let ended: Vec<Stream> = ended.map(|(stream, _)| stream).collect();
        for stream in ended {
            self.watches.listing.remove(&stream);
            self.watches.silent.remove(&stream);
            self.forget_versions(&stream.scope).await;
        }
        self.watches.revision = None;
    }

    /// Reports what is not watched, to those who can narrow what there is to watch, or give rights.
    fn report_unwatched(&self) {
        let said = [
            self.watches.left_out.clone(),
            not_watchable(&self.watches.unwatchable),
            refused(&self.watches.refused),
        ];
        let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
        let (kind, now) = (ClusterConditionKind::Watches, self.context.wall());
        self.context
            .reports
            .condition(kind, said.is_empty(), said.join("; "), now);
    }

    /// Takes in whether the server refuses a watch. One that narrower ones take the place of is not told of.
    fn note_refusal(&mut self, stream: &Stream, refusal: Option<String>) {
        let told = self.watches.refused.get(stream);
        if told == refusal.as_ref() {
            return;
        }
        match refusal {
            Some(words) => drop(self.watches.refused.insert(stream.clone(), words)),
            None => drop(self.watches.refused.remove(stream)),
        }
        self.report_unwatched();
        self.note_unseen(stream.scope.clone());
    }

    /// What there is to watch: each kind of the inventories in each version that objects were last written in.
    fn streams(&self) -> BTreeSet<Stream> {
        self.context.ledger.read(|state| {
            let places = state.usage().places().filter_map(|(place, versions)| {
                let scope = self.scope(&place.group, &place.kind, &place.namespace)?;
                // As a rule nothing is narrowed.
                let tries = self.watches.narrowed.tries(&scope.group, &scope.kind);
                let wider = tries.then(|| Scope {
                    namespace: String::new(),
                    ..scope.clone()
                });
                Some((wider.into_iter().chain([scope]), versions))
            });
            let streams = places.flat_map(|(scopes, versions)| {
                scopes.flat_map(|scope| {
                    versions.keys().map(move |version| Stream {
                        scope: scope.clone(),
                        version: version.clone(),
                    })
                })
            });
            streams.collect()
        })
    }

    /// Tells whether a scope is one of all namespaces that is tried beside narrower ones.
    fn tries_wider(&self, scope: &Scope) -> bool {
        scope.namespace.is_empty() && self.watches.narrowed.tries(&scope.group, &scope.kind)
    }

    /// What is watched for objects of a kind in a namespace: the kind as a whole, or, for an agent of some namespaces
    /// and where the whole may not be watched, the kind in that namespace. Objects without a namespace are watched by
    /// whoever may.
    pub(super) fn scope(&self, group: &str, kind: &str, namespace: &str) -> Option<Scope> {
        let namespaces = &self.context.namespaces;
        let namespace = match namespaces.is_empty() {
            true if self.watches.narrowed.has(group, kind) => namespace,
            true => "",
            false if namespace.is_empty() || namespaces.contains(namespace) => namespace,
            false => return None,
        };
        Some(Scope {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
        })
    }

    fn open(&self, resource: &Resource, scope: Scope, definitions: bool, stop: CancellationToken) {
        let labels = if definitions { "" } else { UNIT_LABEL };
        let selector = Selector {
            namespace: scope.namespace.clone(),
            labels: labels.to_owned(),
            // That a definition changed is a reason to discover again; what it says is not read.
            metadata_only: definitions,
            ..Selector::default()
        };
        let mut events = self.watcher_of(&scope).watch(resource, &selector);
        let tx = self.watches.news_tx.clone();
        let version = resource.api_version();
        let (context, stream) = (self.context.clone(), Arc::new(Stream { scope, version }));
        tokio::spawn(async move {
            let mut told = None;
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.next() => event,
                };
                let Some(event) = event else { return };
                // A server that is away fails each watch again and again, which is no news and wakes nobody.
                let failure = event.as_ref().err().map(ToString::to_string);
                if failure.is_some() && failure == told {
                    continue;
                }
                told = failure;
                let news = WatchNews {
                    stream: stream.clone(),
                    definitions,
                    event: event.map(|event| reduce(event, &context)),
                };
                // A watch that ended while its event waited must not be heard any more.
                tokio::select! {
                    () = stop.cancelled() => return,
                    sent = tx.send(news) => if sent.is_err() { return },
                }
            }
        });
    }
}

/// Says what is not watched, what follows from it and what helps; empty when all is.
fn unwatched(left_out: &[Stream]) -> String {
    let Some(Stream { scope, .. }) = left_out.first() else {
        return String::new();
    };
    let place = match scope.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" in namespace {namespace}"),
    };
    format!(
        "{} pairs of kind and namespace beyond the first {WATCHES} are not watched, {}{place} among them: drift there is \
         found by the hourly verification alone; give the agent fewer namespaces, or the profile platform, which \
         watches a kind in all namespaces at once",
        left_out.len(),
        scope.kind
    )
}

/// Says what has no list or watch, and what follows from it; empty when all has.
fn not_watchable(streams: &BTreeSet<Stream>) -> String {
    let kinds: BTreeSet<&str> = streams.iter().map(|stream| stream.scope.kind.as_str()).collect();
    let Some(first) = kinds.first() else {
        return String::new();
    };
    let more = match kinds.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more kinds"),
    };
    format!(
        "drift of {first}{more} is not seen, since the API server cannot list and watch it: it is applied alone"
    )
}

/// Why a watch shows nothing, and what helps, from the server's refusal. `listed`: the namespaces that the agent works
/// in; empty: all.
fn why_not_listed(refusal: &ClusterError, listed: &BTreeSet<String>) -> String {
    match refusal {
        ClusterError::Rejected {
            code: 403, message, ..
        } => {
            let advice = rights::advice(message, listed).unwrap_or_else(|| {
                "give the agent get, list and watch there: a wider rbac.profile of its chart, \
                 rbac.platform.secretNamespaces, or rbac.extraRules"
                    .to_owned()
            });
            format!("the API server refuses to list and watch it: {message}; {advice}")
        }
        other => format!("the API server cannot list it now: {}", other.of_many()),
    }
}

/// Says what may not be watched, what follows from it and what helps; empty when all may be.
fn refused(watches: &BTreeMap<Stream, String>) -> String {
    let Some((Stream { scope, .. }, words)) = watches.first_key_value() else {
        return String::new();
    };
    let place = match scope.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" in namespace {namespace}"),
    };
    let more = match watches.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more kinds or namespaces"),
    };
    format!("drift of {}{place}{more} is not seen, since {words}", scope.kind)
}
