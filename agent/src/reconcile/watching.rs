//! Which kinds are watched, and what their events mean for units.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use flotilla_core::{
    apply::{
        UNIT_LABEL,
        drift::{Judgement, judge},
        inventory::State,
    },
    id::UnitId,
    object::ObjectKey,
};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::cluster::{ClusterError, Resource, Selector, Served, WatchEvent};

/// Kinds watched at once: each is a stream of the API server.
const WATCHES: usize = 256;
/// How long a kind that is not served is not watched.
const UNSERVED: Duration = Duration::from_secs(60);

/// A kind, and the namespace when not all are watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    group: String,
    kind: String,
    namespace: String,
}

impl Scope {
    fn covers(&self, key: &ObjectKey) -> bool {
        (&key.group, &key.kind) == (&self.group, &self.kind)
            && (self.namespace.is_empty() || key.namespace == self.namespace)
    }
}

/// How a scope is watched.
pub(super) enum Watched {
    Open {
        /// Its objects live in namespaces.
        namespaced: bool,
    },
    /// It was not served when last tried; tried again then.
    Unserved(Instant),
    /// The whole cluster may not be watched: each namespace of the inventories is, in its place.
    Narrowed,
}

/// An event, and whose watch told it.
pub(super) type Seen = (Scope, Result<WatchEvent, ClusterError>);

impl Reconciler {
    /// Takes in a watch event.
    pub(super) fn seen(&mut self, (scope, event): Seen) {
        match event {
            Ok(WatchEvent::Listing) => {
                let expected = self.expected(&scope);
                self.listing.insert(scope, expected);
            }
            Ok(WatchEvent::Present(object)) => {
                if let Some((unit, key)) = self.owned(&object) {
                    if let Some(listing) = self.listing.get_mut(&scope) {
                        listing.remove(&(unit, key.clone()));
                    }
                    self.observe(unit, &key, Some(&object));
                }
                if scope.kind == "CustomResourceDefinition" {
                    self.definition_changed();
                }
            }
            Ok(WatchEvent::Gone(object)) => {
                if let Some((unit, key)) = self.owned(&object) {
                    self.observe(unit, &key, None);
                }
            }
            Ok(WatchEvent::Listed) => {
                for (unit, key) in self.listing.remove(&scope).unwrap_or_default() {
                    self.observe(unit, &key, None);
                }
            }
            Err(ClusterError::NotServed { .. }) => {
                self.context.forget_discovery();
                self.watches
                    .insert(scope, Watched::Unserved(Instant::now() + UNSERVED));
            }
            Err(error) if is_forbidden(&error) && self.narrows(&scope) => {
                self.watches.insert(scope, Watched::Narrowed);
                self.unwatched = true;
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

    /// Objects of a scope that the inventories have.
    fn expected(&self, scope: &Scope) -> HashSet<(UnitId, ObjectKey)> {
        self.context.ledger.read(|state| {
            let units = state.units.iter();
            units
                .flat_map(|(id, unit)| unit.items.iter().map(move |(key, record)| (*id, key, record)))
                .filter(|(_, key, record)| scope.covers(key) && record.state != State::Intent)
                .map(|(id, key, _)| (id, key.clone()))
                .collect()
        })
    }

    /// The unit in whose inventory an object is. Its mark alone proves nothing: operators copy labels.
    fn owned(&self, object: &Value) -> Option<(UnitId, ObjectKey)> {
        let key = ObjectKey::of(object)?;
        let mark = object["metadata"]["labels"][UNIT_LABEL]
            .as_str()
            .and_then(|mark| mark.parse().ok());
        self.context.ledger.read(|state| {
            let holds = |id: &UnitId| {
                state
                    .units
                    .get(id)
                    .is_some_and(|unit| unit.items.contains_key(&key))
            };
            let id = mark
                .map(UnitId)
                .filter(&holds)
                .or_else(|| state.units.keys().find(|id| holds(id)).copied())?;
            Some((id, key.clone()))
        })
    }

    fn observe(&mut self, unit: UnitId, key: &ObjectKey, object: Option<&Value>) {
        let before = self.context.live.get(unit, key);
        let seen = self.context.note(unit, key, object);
        let record = self.context.ledger.read(|state| {
            state
                .units
                .get(&unit)
                .and_then(|unit| unit.items.get(key).cloned())
        });
        let (Some(run), Some(record)) = (self.runs.get_mut(&unit), record) else {
            return;
        };
        // Judging a unit's health looks at all its objects: only what changes it asks for that.
        if before.is_none_or(|before| before.health != seen.health) {
            run.dirty.insert(key.clone());
            run.dirty_unit = true;
        }
        let suspicious = matches!(
            judge(&record, seen.observation.as_ref()),
            Judgement::Suspicious(_)
        );
        let gone = record.state == State::PendingRemoval && seen.observation.is_none();
        if (suspicious || gone) && !run.contested.contains_key(key) {
            run.suspects.insert(key.clone());
        } else if !suspicious {
            run.suspects.remove(key);
        }
    }

    /// A definition was written: what waits for a kind may go on.
    fn definition_changed(&mut self) {
        let now = Instant::now();
        for run in self.runs.values_mut().filter(|run| run.unserved && !run.busy) {
            run.due = Some(now);
        }
    }

    /// Watches what the inventories have, and definitions while somebody waits for one.
    pub(super) fn watch_kinds(&mut self, stop: &CancellationToken) {
        let now = Instant::now();
        let again = |watched: &Watched| matches!(watched, Watched::Unserved(until) if *until <= now);
        if std::mem::take(&mut self.unwatched) || self.watches.values().any(again) {
            self.watch_inventories(stop, now);
        }
        // An agent of some namespaces may not read definitions; it tries again now and then.
        let waits = self.context.namespaces.is_empty() && self.runs.values().any(|run| run.unserved);
        match (waits, &self.crd_watch) {
            (true, None) => {
                let (group, kind) = ("apiextensions.k8s.io", "CustomResourceDefinition");
                if let Some(resource) = self.context.discovery().preferred(group, kind) {
                    let token = stop.child_token();
                    let scope = Scope {
                        group: group.to_owned(),
                        kind: kind.to_owned(),
                        namespace: String::new(),
                    };
                    self.watch(resource, scope, "", token.clone());
                    self.crd_watch = Some(token);
                }
            }
            (false, Some(token)) => {
                token.cancel();
                self.crd_watch = None;
            }
            _ => {}
        }
    }

    fn watch_inventories(&mut self, stop: &CancellationToken, now: Instant) {
        let discovery = self.context.discovery();
        for (scope, api_version) in self.scopes() {
            match self.watches.get(&scope) {
                Some(Watched::Open { .. } | Watched::Narrowed) => continue,
                Some(Watched::Unserved(until)) if *until > now => continue,
                None if self.watches.len() >= WATCHES => continue,
                _ => {}
            }
            if let Served::Yes(resource) = discovery.find(&api_version, &scope.kind) {
                self.watch(resource, scope.clone(), UNIT_LABEL, stop.child_token());
                let namespaced = resource.namespaced;
                self.watches.insert(scope, Watched::Open { namespaced });
            }
        }
    }

    /// Tells whether a refused watch has narrower ones in its place: that of a namespaced kind in the whole cluster.
    fn narrows(&self, scope: &Scope) -> bool {
        let open = self.watches.get(scope);
        scope.namespace.is_empty() && matches!(open, Some(Watched::Open { namespaced: true }))
    }

    /// Tells whether the whole cluster may not be watched for a kind, as Secrets under most profiles.
    fn is_narrowed(&self, key: &ObjectKey) -> bool {
        let whole = Scope {
            group: key.group.clone(),
            kind: key.kind.clone(),
            namespace: String::new(),
        };
        matches!(self.watches.get(&whole), Some(Watched::Narrowed))
    }

    /// What there is to watch, with a version to watch it under: each kind of the inventories as a whole, or, for
    /// an agent of some namespaces, in each of these.
    fn scopes(&self) -> BTreeMap<Scope, String> {
        let namespaces = &self.context.namespaces;
        let namespace = |key: &ObjectKey| match namespaces.is_empty() {
            true if self.is_narrowed(key) => Some(key.namespace.clone()),
            true => Some(String::new()),
            false => namespaces.contains(&key.namespace).then(|| key.namespace.clone()),
        };
        self.context.ledger.read(|state| {
            let records = state.units.values().flat_map(|unit| &unit.items);
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

    fn watch(&self, resource: &Resource, scope: Scope, labels: &str, stop: CancellationToken) {
        let selector = Selector {
            namespace: scope.namespace.clone(),
            labels: labels.to_owned(),
        };
        let mut events = self.context.cluster.watch(resource, &selector);
        let tx = self.seen_tx.clone();
        let definitions = labels.is_empty();
        let narrows = !definitions && resource.namespaced && scope.namespace.is_empty();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.next() => event,
                };
                let Some(event) = event else { return };
                let last = narrows && event.as_ref().is_err_and(is_forbidden);
                // The watch of all definitions says nothing about which of ours are gone.
                let told = !definitions || matches!(event, Ok(WatchEvent::Present(_)));
                if (told && tx.send((scope.clone(), event)).await.is_err()) || last {
                    return;
                }
            }
        });
    }
}

/// RBAC refuses it.
fn is_forbidden(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { code: 403, .. })
}
