//! Verifies that watches have told everything: now and then, spread over the hour, and when a person asks, the versions
//! of a kind's objects are listed and compared with what was observed. A list costs one request for each kind and
//! namespace, whatever number of units have objects there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{id::UnitId, object::ObjectKey, unit::event::Event};
use tokio::time::Instant;

use super::{Reconciler, context::Context, observe::version, watches::Scope};
use crate::cluster::{ClusterError, Served};

/// Each kind and namespace is verified about this often.
pub(super) const VERIFY: Duration = Duration::from_secs(3600);
/// A list that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(60);

/// A kind in a namespace, with the version to list it under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ListScope {
    scope: Scope,
    api_version: String,
}

/// What a list told: the version of each object that it has.
pub(super) type Listed = (ListScope, Result<HashMap<ObjectKey, Option<u64>>, ClusterError>);

/// When what is verified.
#[derive(Default)]
pub(super) struct Verification {
    /// When the whole is verified next; `None` before there is anything.
    next: Option<Instant>,
    /// Kinds and namespaces to list, and when.
    planned: BTreeMap<ListScope, Instant>,
    running: BTreeSet<ListScope>,
    period: Option<Duration>,
}

impl Verification {
    /// Verifies each kind about this often instead of once an hour.
    pub(super) fn every(period: Duration) -> Self {
        Self {
            period: Some(period),
            ..Self::default()
        }
    }

    fn period(&self) -> Duration {
        self.period.unwrap_or(VERIFY)
    }

    /// When a list is due next.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.planned.values().copied().chain(self.next).min()
    }
}

impl Reconciler {
    /// Plans to list what a unit has, at once.
    pub(super) fn verify_unit(&mut self, id: UnitId) {
        let now = Instant::now();
        for scope in self.list_scopes(Some(id)) {
            self.verification.planned.insert(scope, now);
        }
    }

    /// Begins the lists that are due.
    pub(super) fn verify(&mut self) {
        let now = Instant::now();
        let period = self.verification.period();
        match self.verification.next {
            None if self.units.is_empty() => {}
            None => self.verification.next = Some(now + period),
            Some(next) if next <= now => {
                let scopes = self.list_scopes(None);
                let count = u32::try_from(scopes.len()).unwrap_or(u32::MAX).max(1);
                for (n, scope) in (0_u32..).zip(scopes) {
                    self.verification
                        .planned
                        .entry(scope)
                        .or_insert(now + period / count * n);
                }
                self.verification.next = Some(now + period);
            }
            Some(_) => {}
        }
        let due: Vec<ListScope> = self
            .verification
            .planned
            .iter()
            .filter(|(scope, at)| **at <= now && !self.verification.running.contains(scope))
            .map(|(scope, _)| scope.clone())
            .collect();
        for scope in due {
            self.verification.planned.remove(&scope);
            self.verification.running.insert(scope.clone());
            let context = self.context.clone();
            self.lists.push(Box::pin(async move {
                let listed = list(&context, &scope).await;
                (scope, listed)
            }));
        }
    }

    /// Tells units what a list has of their objects.
    pub(super) fn listed(&mut self, (scope, listed): Listed) {
        self.verification.running.remove(&scope);
        let versions = match listed {
            Ok(versions) => versions,
            Err(ClusterError::NotServed { .. }) => return,
            Err(error) => {
                let (kind, namespace) = (&scope.scope.kind, &scope.scope.namespace);
                tracing::warn!(kind, namespace, "verification: {error}");
                self.verification.planned.insert(scope, Instant::now() + RETRY);
                return;
            }
        };
        let mut events: Vec<(UnitId, Arc<ObjectKey>)> = Vec::new();
        for (id, unit) in &self.units {
            let keys = unit.state.objects().keys();
            events.extend(
                keys.filter(|key| scope.scope.covers(key))
                    .map(|key| (*id, key.clone())),
            );
        }
        for (id, key) in events {
            let version = versions.get(&*key).copied().flatten();
            self.feed(id, Event::Listed { key, version });
        }
    }

    /// The kinds and namespaces of the inventories, or of one unit's.
    fn list_scopes(&self, only: Option<UnitId>) -> BTreeSet<ListScope> {
        let is_asked = |id: &UnitId| only.is_none_or(|only| only == *id);
        let active = self
            .units
            .iter()
            .filter(|(id, unit)| is_asked(id) && unit.state.is_active());
        self.context.ledger.read(|state| {
            active
                .filter_map(|(id, _)| state.units.get(id))
                .flat_map(|unit| unit.scopes())
                .map(|(key, record)| ListScope {
                    scope: Scope {
                        group: key.group.clone(),
                        kind: key.kind.clone(),
                        namespace: key.namespace.clone(),
                    },
                    api_version: record.api_version.clone(),
                })
                .collect()
        })
    }
}

async fn list(context: &Context, list: &ListScope) -> Result<HashMap<ObjectKey, Option<u64>>, ClusterError> {
    let unserved = || ClusterError::NotServed {
        kind: list.scope.kind.clone(),
        api_version: list.api_version.clone(),
    };
    let discovery = context.discovery();
    let Served::Yes(resource) = discovery.find(&list.api_version, &list.scope.kind) else {
        return Err(unserved());
    };
    let mut versions = HashMap::new();
    let mut token = String::new();
    loop {
        let cluster = context.agents_cluster();
        let page = cluster.list(resource, &list.scope.namespace, &token).await?;
        for item in &page.items {
            let metadata = &item["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default();
            let key = ObjectKey::new(
                &list.scope.group,
                &list.scope.kind,
                text("namespace"),
                text("name"),
            );
            versions.insert(key, version(item));
        }
        if page.next.is_empty() {
            return Ok(versions);
        }
        token = page.next;
    }
}
