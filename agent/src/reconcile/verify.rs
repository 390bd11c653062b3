//! Verifies that watches have told everything: now and then, spread over the hour, and when a person asks, the versions
//! of a kind's objects are listed and compared with what was observed. Lists are as wide as watches are and have metadata
//! of marked objects alone: one request for each kind and page, whatever number of units and namespaces have objects.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{apply::UNIT_LABEL, backoff::Backoff, id::UnitId, object::ObjectKey, unit::event::Event};
use tokio::time::Instant;

use super::{Reconciler, observe::version, pace::Pace, watches::Scope};
use crate::{
    cluster::{Cluster, ClusterError, Resource, Selector, Served},
    random::random,
};

/// Each kind is verified about this often.
pub(super) const VERIFY: Duration = Duration::from_secs(3600);
/// A list that failed is tried again after this, and a while more.
const RETRY: Duration = Duration::from_secs(60);
const FAILED: Backoff = Backoff {
    base: Duration::from_secs(30),
    cap: Duration::from_secs(600),
};
/// Lists at once.
const LISTS: usize = 4;

/// What a list told: the version of each object that units have, where it has it.
pub(super) type Listed = (Scope, Result<Vec<Version>, ClusterError>);
type Version = (UnitId, Arc<ObjectKey>, Option<u64>);

/// When what is verified.
#[derive(Default)]
pub(super) struct Verification {
    /// When the whole is verified next; `None` before there is anything.
    next: Option<Instant>,
    /// What to list, and when; both ways round.
    planned: BTreeMap<Scope, Instant>,
    order: BTreeSet<(Instant, Scope)>,
    /// Lists that run, and whether each was asked for anew meanwhile.
    running: BTreeMap<Scope, bool>,
    /// How often lists failed in a row.
    failures: BTreeMap<Scope, u32>,
    /// Units of which a person asked, by what is listed for them.
    asked: BTreeMap<Scope, BTreeSet<UnitId>>,
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

    /// When a list is due next. While as many run as may, the end of one is waited for.
    pub(super) fn wakes(&self) -> Option<Instant> {
        let first = self.order.first().filter(|_| self.running.len() < LISTS);
        first.map(|(at, _)| *at).into_iter().chain(self.next).min()
    }

    /// Plans a list, sooner than planned before if that is so.
    fn plan(&mut self, scope: Scope, at: Instant) {
        if let Some(again) = self.running.get_mut(&scope) {
            *again = true;
            return;
        }
        match self.planned.get(&scope) {
            Some(before) if *before <= at => return,
            Some(before) => drop(self.order.remove(&(*before, scope.clone()))),
            None => {}
        }
        self.planned.insert(scope.clone(), at);
        self.order.insert((at, scope));
    }

    /// Begins a cycle: lists are spread over it, and what nobody has any more is forgotten.
    fn begin_cycle(&mut self, scopes: BTreeSet<Scope>, now: Instant) {
        self.planned.retain(|scope, _| scopes.contains(scope));
        self.order.retain(|(_, scope)| scopes.contains(scope));
        self.failures.retain(|scope, _| scopes.contains(scope));
        let period = self.period();
        let count = u32::try_from(scopes.len()).unwrap_or(u32::MAX).max(1);
        for (n, scope) in (0_u32..).zip(scopes) {
            if !self.running.contains_key(&scope) {
                self.plan(scope, now + period / count * n);
            }
        }
        self.next = Some(now + period);
    }

    /// Takes a list that is due and may run.
    fn take_due(&mut self, now: Instant) -> Option<Scope> {
        if self.running.len() >= LISTS || self.order.first()?.0 > now {
            return None;
        }
        let (_, scope) = self.order.pop_first()?;
        self.planned.remove(&scope);
        Some(scope)
    }

    /// A list has ended.
    fn ended(&mut self, scope: &Scope, error: Option<&ClusterError>, now: Instant) {
        let again = self.running.remove(scope).unwrap_or_default();
        let retry = error.is_some_and(is_worth_retrying);
        if retry {
            let failures = self.failures.entry(scope.clone()).or_default();
            *failures = failures.saturating_add(1);
            let at = now + RETRY + FAILED.delay(*failures, random());
            self.plan(scope.clone(), at);
            return;
        }
        self.failures.remove(scope);
        if again {
            self.plan(scope.clone(), now);
        }
    }
}

/// Tells whether a list that failed may succeed soon; others wait for the next cycle.
fn is_worth_retrying(error: &ClusterError) -> bool {
    !(matches!(error, ClusterError::NotServed { .. }) || error.is_lasting())
}

impl Reconciler {
    /// Plans to list what a unit has, at once.
    pub(super) fn verify_unit(&mut self, id: UnitId) {
        let now = Instant::now();
        for scope in self.scopes(Some(id)) {
            self.verification
                .asked
                .entry(scope.clone())
                .or_default()
                .insert(id);
            self.verification.plan(scope, now);
        }
    }

    /// A list that a person waits for has no answer: one object of each unit is read, so that the unit says so.
    fn tell_silence(&mut self, scope: &Scope, asked: BTreeSet<UnitId>) {
        for id in asked {
            let key = self.units.get(&id).and_then(|unit| {
                let mut keys = unit.state.objects().keys();
                keys.find(|key| scope.covers(&key.group, &key.kind, &key.namespace))
                    .cloned()
            });
            if let Some(key) = key {
                self.feed(id, Event::Listed { key, version: None });
            }
        }
    }

    /// Begins the lists that are due.
    pub(super) fn verify(&mut self) {
        let now = Instant::now();
        match self.verification.next {
            None if self.units.is_empty() => {}
            None => self.verification.next = Some(now + self.verification.period()),
            Some(next) if next <= now => {
                let scopes = self.scopes(None);
                self.verification.begin_cycle(scopes, now);
            }
            Some(_) => {}
        }
        while let Some(scope) = self.verification.take_due(now) {
            let Some(resource) = self.served_as(&scope) else {
                self.verification.asked.remove(&scope);
                continue;
            };
            let is_active = |id: &UnitId| self.units.get(id).is_some_and(|unit| unit.state.is_active());
            let objects: Vec<(UnitId, Arc<ObjectKey>)> = self
                .written(&scope)
                .filter(|(id, ..)| is_active(id))
                .map(|(id, key, _)| (id, key.clone()))
                .collect();
            if objects.is_empty() {
                self.verification.asked.remove(&scope);
                continue;
            }
            self.verification.running.insert(scope.clone(), false);
            let cluster = self.watcher_of(&scope);
            self.lists.push(Box::pin(async move {
                let listed = list(&*cluster, &resource, &scope, objects).await;
                (scope, listed)
            }));
        }
    }

    /// Tells units what a list has of their objects.
    pub(super) async fn listed(&mut self, (scope, listed): Listed) {
        let now = Instant::now();
        self.verification.ended(&scope, listed.as_ref().err(), now);
        let asked = self.verification.asked.remove(&scope).unwrap_or_default();
        match listed {
            Ok(versions) => {
                let mut pace = Pace::default();
                for (id, key, version) in versions {
                    self.feed(id, Event::Listed { key, version });
                    pace.handled(1).await;
                }
            }
            Err(ClusterError::NotServed { .. }) => {}
            Err(error) => {
                let (kind, namespace) = (&scope.kind, &scope.namespace);
                tracing::warn!(kind, namespace, "verification: {}", error.of_many());
                if matches!(
                    error,
                    ClusterError::Unavailable(_) | ClusterError::Overloaded { .. }
                ) {
                    self.tell_silence(&scope, asked);
                }
            }
        }
    }

    /// What is watched of the inventories, or of one unit's.
    fn scopes(&self, only: Option<UnitId>) -> BTreeSet<Scope> {
        self.context.ledger.read(|state| match only {
            Some(id) => {
                let unit = state.units.get(&id).into_iter();
                let keys = unit.flat_map(|unit| unit.scopes()).map(|(key, _)| key);
                keys.filter_map(|key| self.scope(&key.group, &key.kind, &key.namespace))
                    .collect()
            }
            None => {
                let places = state.usage().places();
                places
                    .filter_map(|(place, _)| self.scope(&place.group, &place.kind, &place.namespace))
                    .collect()
            }
        })
    }

    /// What to list a scope as. Versions of objects are the same in each version of their kind: that which most were
    /// written in, if it is served.
    fn served_as(&self, scope: &Scope) -> Option<Resource> {
        let discovery = self.context.discovery();
        let written = self.context.ledger.read(|state| {
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for (place, versions) in state.usage().places() {
                if scope.covers(&place.group, &place.kind, &place.namespace) {
                    for (version, count) in versions {
                        *counts.entry(version.clone()).or_default() += count;
                    }
                }
            }
            counts
        });
        let served =
            written
                .iter()
                .filter_map(|(version, count)| match discovery.find(version, &scope.kind) {
                    Served::Yes(resource) => Some((count, resource)),
                    _ => None,
                });
        let most = served.max_by_key(|(count, _)| **count);
        let resource = most.map(|(_, resource)| resource);
        resource
            .or_else(|| discovery.preferred(&scope.group, &scope.kind))
            .cloned()
    }
}

/// Lists a scope, and keeps the versions of these objects.
async fn list(
    cluster: &dyn Cluster,
    resource: &Resource,
    scope: &Scope,
    objects: Vec<(UnitId, Arc<ObjectKey>)>,
) -> Result<Vec<Version>, ClusterError> {
    let selector = Selector {
        namespace: scope.namespace.clone(),
        labels: UNIT_LABEL.to_owned(),
        metadata_only: true,
        without_managed_fields: true,
        ..Selector::default()
    };
    let mut versions: HashMap<Arc<ObjectKey>, Option<u64>> =
        objects.iter().map(|(_, key)| (key.clone(), None)).collect();
    let mut token = String::new();
    loop {
        let page = cluster.list_selected(resource, &selector, &token).await?;
        for item in &page.items {
            let metadata = &item["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default();
            let key = ObjectKey::new(&scope.group, &scope.kind, text("namespace"), text("name"));
            if let Some(known) = versions.get_mut(&key) {
                *known = version(item);
            }
        }
        if page.next.is_empty() {
            break;
        }
        token = page.next;
    }
    let version = |key: &Arc<ObjectKey>| versions.get(key).copied().flatten();
    Ok(objects
        .into_iter()
        .map(|(id, key)| {
            let version = version(&key);
            (id, key, version)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(kind: &str) -> Scope {
        Scope {
            group: String::new(),
            kind: kind.to_owned(),
            namespace: String::new(),
        }
    }

    fn rejected(code: u16) -> ClusterError {
        ClusterError::Rejected {
            code,
            reason: String::new(),
            message: String::new(),
        }
    }

    #[test]
    fn few_lists_run_at_once_and_one_asked_for_while_it_runs_runs_again() {
        let (now, mut verification) = (Instant::now(), Verification::default());
        for n in 0..10 {
            verification.plan(scope(&format!("K{n}")), now);
        }
        while let Some(scope) = verification.take_due(now) {
            verification.running.insert(scope, false);
        }
        assert_eq!(verification.running.len(), LISTS);
        // Nothing is to be done by time: the end of a list is waited for.
        assert_eq!(verification.wakes(), None);
        verification.plan(scope("K0"), now);
        verification.ended(&scope("K0"), None, now);
        assert_eq!(verification.planned.get(&scope("K0")), Some(&now));
        assert_eq!(verification.wakes(), Some(now));
        verification.ended(&scope("K1"), None, now);
        assert_eq!(verification.planned.get(&scope("K1")), None);
    }

    #[test]
    fn refused_list_waits_for_the_next_cycle_and_another_failure_for_more_than_a_minute() {
        let (now, mut verification) = (Instant::now(), Verification::default());
        for code in [401, 403, 405, 500] {
            verification.running.insert(scope("K"), false);
            verification.ended(&scope("K"), Some(&rejected(code)), now);
            assert_eq!(verification.wakes().is_some(), code == 500, "{code}");
        }
        assert!(verification.wakes().is_some_and(|at| at >= now + RETRY));
        // What nobody has any more is forgotten.
        verification.begin_cycle(BTreeSet::from([scope("Other")]), now);
        let planned: Vec<&Scope> = verification.planned.keys().collect();
        assert_eq!(planned, [&scope("Other")]);
        assert!(verification.failures.is_empty());
    }

    #[test]
    fn cycle_spreads_its_lists_over_the_whole() {
        let (now, mut verification) = (Instant::now(), Verification::every(VERIFY));
        let scopes = (0..60).map(|n| scope(&format!("K{n:02}"))).collect();
        verification.begin_cycle(scopes, now);
        let at: Vec<u64> = verification
            .order
            .iter()
            .map(|(at, _)| at.duration_since(now).as_secs())
            .collect();
        assert_eq!(at, (0..60).map(|n| n * 60).collect::<Vec<_>>());
    }
}
