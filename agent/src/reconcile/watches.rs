//! Which kinds are watched, and what their events mean for units.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flotilla_core::{
    apply::{UNIT_LABEL, inventory::State as RecordState},
    id::UnitId,
    object::ObjectKey,
    unit::{event::Event, object::Observed},
};
use futures::StreamExt as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Reconciler,
    context::Context,
    observe::{gone, observe},
};
use crate::cluster::{ClusterError, Resource, Selector, Served, WatchEvent};

/// Kinds watched at once: each is a stream of the API server. More is told, and the rest verified by lists alone.
const WATCHES: usize = 2048;
/// How long a kind that is not served is not asked for again: at first, doubled each time, and at most.
const UNSERVED: Duration = Duration::from_secs(60);
const UNSERVED_MAX: Duration = Duration::from_secs(3600);
/// How long the API server takes to show a new definition in its discovery.
const PUBLISHED: Duration = Duration::from_secs(1);
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
    /// Tells whether an object falls into the scope.
    pub(super) fn covers(&self, key: &ObjectKey) -> bool {
        (&key.group, &key.kind) == (&self.group, &self.kind)
            && (self.namespace.is_empty() || key.namespace == self.namespace)
    }

    fn definitions() -> Self {
        Self {
            group: "apiextensions.k8s.io".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            namespace: String::new(),
        }
    }
}

/// How a scope is watched.
enum Watched {
    /// In a version; dropping the guard ends it.
    Open {
        version: String,
        /// Its objects live in namespaces.
        namespaced: bool,
        _guard: tokio_util::sync::DropGuard,
    },
    /// The whole cluster may not be watched: each namespace of the inventories is, in its place.
    Narrowed,
    /// It was not served when last tried; discovered again then.
    Unserved { until: Instant, wait: Duration },
}

impl Watched {
    fn unserved(now: Instant, wait: Duration) -> Self {
        let until = now + wait;
        Self::Unserved { until, wait }
    }
}

/// An event, and whose watch told it.
pub(super) struct WatchNews {
    scope: Arc<Scope>,
    /// The watch of all definitions: it tells which kinds come, and nothing of a unit's objects.
    definitions: bool,
    event: Result<Reduced, ClusterError>,
}

/// What is left of a watch event once the object is dropped: that happens in the watch's own task, so that what waits
/// for the loop is small whatever objects there are.
enum Reduced {
    Listing,
    Listed,
    Seen(Seen),
}

/// What was seen of an object.
struct Seen {
    /// The object; `None`: it has no name.
    key: Option<ObjectKey>,
    /// The unit that its mark names.
    mark: Option<UnitId>,
    is_present: bool,
    observed: Observed,
}

fn reduce(event: WatchEvent, context: &Context) -> Reduced {
    let (object, is_present) = match event {
        WatchEvent::Listing => return Reduced::Listing,
        WatchEvent::Listed => return Reduced::Listed,
        WatchEvent::Present(object) => (object, true),
        WatchEvent::Gone(object) => (object, false),
    };
    Reduced::Seen(Seen {
        key: ObjectKey::of(&object),
        mark: object["metadata"]["labels"][UNIT_LABEL]
            .as_str()
            .and_then(|mark| mark.parse().ok())
            .map(UnitId),
        is_present,
        observed: match is_present {
            true => observe(&object, context.ledger.key(), context.wall()),
            false => gone(Some(&object)),
        },
    })
}

/// The open watches.
pub(super) struct Watches {
    open: HashMap<Scope, Watched>,
    /// Inventories or what is served may have changed: other kinds may be to be watched.
    pub(super) stale: bool,
    /// What a running list has not shown yet.
    listing: HashMap<Scope, HashSet<(UnitId, Arc<ObjectKey>)>>,
    definitions: Option<tokio_util::sync::DropGuard>,
    /// When units that wait for a kind are told that definitions changed.
    definitions_at: Option<Instant>,
    news_tx: mpsc::Sender<WatchNews>,
    news_rx: mpsc::Receiver<WatchNews>,
    too_many: bool,
    /// It was found out again what is served.
    rediscovered: Arc<AtomicBool>,
}

impl Default for Watches {
    fn default() -> Self {
        let (news_tx, news_rx) = mpsc::channel(EVENTS);
        Self {
            open: HashMap::new(),
            stale: true,
            listing: HashMap::new(),
            definitions: None,
            definitions_at: None,
            news_tx,
            news_rx,
            too_many: false,
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
        self.retry_at().into_iter().chain(self.definitions_at).min()
    }

    fn retry_at(&self) -> Option<Instant> {
        self.open
            .values()
            .filter_map(|watched| match watched {
                Watched::Unserved { until, .. } => Some(*until),
                Watched::Open { .. } | Watched::Narrowed => None,
            })
            .min()
    }
}

impl Reconciler {
    /// Takes in a watch event.
    pub(super) fn observed(
        &mut self,
        WatchNews {
            scope,
            definitions,
            event,
        }: WatchNews,
    ) {
        match event {
            Ok(Reduced::Seen(seen)) if definitions => {
                if seen.is_present {
                    self.definition_changed();
                }
            }
            Ok(_) if definitions => {}
            Ok(Reduced::Listing) => {
                let expected = self.expected(&scope);
                self.watches.listing.insert(scope.as_ref().clone(), expected);
            }
            Ok(Reduced::Seen(seen)) => {
                let is_present = seen.is_present;
                if let Some((unit, key)) = self.owner(&seen) {
                    if let Some(listing) = self.watches.listing.get_mut(&*scope).filter(|_| is_present) {
                        listing.remove(&(unit, key.clone()));
                    }
                    self.observe(unit, key, seen.observed);
                }
                if is_present && *scope == Scope::definitions() {
                    self.definition_changed();
                }
            }
            Ok(Reduced::Listed) => {
                for (unit, key) in self.watches.listing.remove(&*scope).unwrap_or_default() {
                    self.observe(unit, key, gone(None));
                }
            }
            Err(ClusterError::NotServed { .. }) => {
                self.watches.open.insert(
                    scope.as_ref().clone(),
                    Watched::unserved(Instant::now(), UNSERVED),
                );
            }
            Err(error) if is_forbidden(&error) && self.narrows(&scope) => {
                self.watches
                    .open
                    .insert(scope.as_ref().clone(), Watched::Narrowed);
                self.watches.stale = true;
            }
            Err(error) => {
                tracing::warn!(
                    group = scope.group,
                    kind = scope.kind,
                    namespace = scope.namespace,
                    "watch: {error}"
                );
            }
        }
    }

    fn observe(&mut self, unit: UnitId, key: Arc<ObjectKey>, observed: Observed) {
        self.feed(unit, Event::Observed { key, observed });
    }

    /// Objects of a scope that the inventories have, and that were written.
    fn expected(&self, scope: &Scope) -> HashSet<(UnitId, Arc<ObjectKey>)> {
        let mut expected = HashSet::new();
        for (id, unit) in &self.units {
            for (key, object) in unit.state.objects() {
                let written = object
                    .record
                    .as_ref()
                    .is_some_and(|record| record.state != RecordState::Intent);
                if written && scope.covers(key) {
                    expected.insert((*id, key.clone()));
                }
            }
        }
        expected
    }

    /// The unit that has an object. Its mark alone proves nothing: operators copy labels.
    fn owner(&self, seen: &Seen) -> Option<(UnitId, Arc<ObjectKey>)> {
        let key = seen.key.as_ref()?;
        let holds = |id: &UnitId| {
            let (shared, _) = self.units.get(id)?.state.objects().get_key_value(key)?;
            Some((*id, shared.clone()))
        };
        seen.mark
            .as_ref()
            .and_then(holds)
            .or_else(|| self.units.keys().find_map(holds))
    }

    /// A definition was written. Discovery follows within a second, and many may come together.
    fn definition_changed(&mut self) {
        let at = Instant::now() + PUBLISHED;
        self.watches.definitions_at.get_or_insert(at);
    }

    /// What waits for a kind may go on.
    pub(super) fn serve_definitions(&mut self) {
        if self.watches.definitions_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.watches.definitions_at = None;
        self.watches.stale = true;
        self.context.expire_discovery();
        for watched in self.watches.open.values_mut() {
            if let Watched::Unserved { until, wait } = watched {
                (*until, *wait) = (Instant::now(), UNSERVED);
            }
        }
        let waiting: Vec<UnitId> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.state.waits_for_definition())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.feed(id, Event::KindServed);
        }
    }

    /// Watches what the inventories have, and definitions while a unit waits for one.
    pub(super) fn watch_kinds(&mut self) {
        // Before the first discovery nothing can be watched, and nothing is known to be unserved.
        if !self.context.has_discovered() {
            return;
        }
        let now = Instant::now();
        let again = self.watches.retry_at().is_some_and(|at| at <= now);
        let rediscovered = self.watches.rediscovered.swap(false, Ordering::Relaxed);
        if !std::mem::take(&mut self.watches.stale) && !again && !rediscovered {
            return;
        }
        if again {
            self.rediscover(now);
        }
        self.watch_inventories(now, rediscovered);
        // An agent of some namespaces may not read definitions; it tries again now and then.
        let waits = self.context.namespaces.is_empty()
            && self.units.values().any(|unit| unit.state.waits_for_definition());
        match (waits, self.watches.definitions.is_some()) {
            (true, false) => {
                let scope = Scope::definitions();
                let discovery = self.context.discovery();
                if let Some(resource) = discovery.preferred(&scope.group, &scope.kind) {
                    let stop = CancellationToken::new();
                    self.open(resource, scope, true, stop.clone());
                    self.watches.definitions = Some(stop.drop_guard());
                }
            }
            (false, true) => self.watches.definitions = None,
            _ => {}
        }
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

    fn watch_inventories(&mut self, now: Instant, rediscovered: bool) {
        let discovery = self.context.discovery();
        let wanted = self.scopes();
        let kinds: HashSet<(&str, &str)> = wanted
            .keys()
            .map(|scope| (scope.group.as_str(), scope.kind.as_str()))
            .collect();
        self.watches.open.retain(|scope, watched| match watched {
            Watched::Narrowed => kinds.contains(&(scope.group.as_str(), scope.kind.as_str())),
            _ => wanted.contains_key(scope),
        });
        let mut left_out = 0_usize;
        for (scope, version) in wanted {
            match self.watches.open.get(&scope) {
                Some(Watched::Open { version: open, .. }) if *open == version => continue,
                Some(Watched::Narrowed) => continue,
                Some(Watched::Unserved { .. }) if !rediscovered => continue,
                None if self.watches.open.len() >= WATCHES => {
                    left_out += 1;
                    continue;
                }
                _ => {}
            }
            if let Served::Yes(resource) = discovery.find(&version, &scope.kind) {
                let stop = CancellationToken::new();
                self.open(resource, scope.clone(), false, stop.clone());
                let watched = Watched::Open {
                    version,
                    namespaced: resource.namespaced,
                    _guard: stop.drop_guard(),
                };
                self.watches.open.insert(scope, watched);
            } else {
                let unserved = Watched::unserved(now, UNSERVED);
                match self.watches.open.get_mut(&scope) {
                    // It keeps its time of the next try.
                    Some(Watched::Unserved { .. }) => {}
                    Some(open) => *open = unserved,
                    None => drop(self.watches.open.insert(scope, unserved)),
                }
            }
        }
        if (left_out > 0) != self.watches.too_many {
            self.watches.too_many = left_out > 0;
            if left_out > 0 {
                tracing::error!(
                    "{left_out} kinds and namespaces are not watched: an agent watches at most {WATCHES}; \
                     their drift is found by the hourly verification"
                );
            }
        }
    }

    /// What there is to watch, each with the version its objects were last written with: each kind of the inventories
    /// as a whole, or, for an agent of some namespaces, in each of these.
    pub(super) fn scopes(&self) -> BTreeMap<Scope, String> {
        let namespaces = &self.context.namespaces;
        let namespace = |key: &ObjectKey| match namespaces.is_empty() {
            true if self.is_narrowed(key) => Some(key.namespace.clone()),
            true => Some(String::new()),
            false => namespaces.contains(&key.namespace).then(|| key.namespace.clone()),
        };
        self.context.ledger.read(|state| {
            let records = state.units.values().flat_map(crate::ledger::state::Unit::scopes);
            records
                .filter_map(|(key, record)| {
                    let scope = Scope {
                        group: key.group.clone(),
                        kind: key.kind.clone(),
                        namespace: namespace(key)?,
                    };
                    Some((scope, record.api_version.clone()))
                })
                .collect()
        })
    }

    /// Tells whether a refused watch has narrower ones in its place: that of a namespaced kind in the whole cluster.
    fn narrows(&self, scope: &Scope) -> bool {
        let open = self.watches.open.get(scope);
        scope.namespace.is_empty() && matches!(open, Some(Watched::Open { namespaced: true, .. }))
    }

    /// Tells whether the whole cluster may not be watched for a kind, as Secrets under most profiles.
    fn is_narrowed(&self, key: &ObjectKey) -> bool {
        let whole = Scope {
            group: key.group.clone(),
            kind: key.kind.clone(),
            namespace: String::new(),
        };
        matches!(self.watches.open.get(&whole), Some(Watched::Narrowed))
    }

    fn open(&self, resource: &Resource, scope: Scope, definitions: bool, stop: CancellationToken) {
        let labels = if definitions { "" } else { UNIT_LABEL };
        let selector = Selector {
            namespace: scope.namespace.clone(),
            labels: labels.to_owned(),
            // That a definition changed is a reason to discover again; what it says is not read.
            metadata_only: definitions,
        };
        let mut events = self.context.agents_cluster().watch(resource, &selector);
        let tx = self.watches.news_tx.clone();
        let (context, scope) = (self.context.clone(), Arc::new(scope));
        let narrows = !definitions && resource.namespaced && scope.namespace.is_empty();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.next() => event,
                };
                let Some(event) = event else { return };
                let last = narrows && event.as_ref().is_err_and(is_forbidden);
                let news = WatchNews {
                    scope: scope.clone(),
                    definitions,
                    event: event.map(|event| reduce(event, &context)),
                };
                // A watch that ended while its event waited must not be heard any more.
                tokio::select! {
                    () = stop.cancelled() => return,
                    sent = tx.send(news) => if sent.is_err() || last { return },
                }
            }
        });
    }
}

/// RBAC refuses it.
fn is_forbidden(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { code: 403, .. })
}
