//! What lists have shown to be there, while jobs go on and for moments after them: most objects of a first apply are not,
//! and all batches of all units learn that from one list of a kind. Others may make an object since: what a list shows to
//! be absent is created and never overwritten, see [`super::preflight::write`].

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::cluster::{Account, Resource};

/// What was not there so long ago is looked at again, and a list that was not worth it may be by now.
const AGE: Duration = Duration::from_secs(300);
/// What lists have shown is kept so long while no job goes on: units that are offered one after another share it.
const LINGER: Duration = Duration::from_secs(30);
/// Names that are kept of a list, in 8 bytes each. What has more is looked at one by one.
const NAMES: usize = 50_000;

/// A kind, and the namespace that was listed; empty for the whole cluster.
type Scope = (Resource, String);

/// What became of a list.
pub(super) enum Shown {
    /// It came to its end, and these are there.
    There(HashSet<u64>),
    /// It was broken off: all of it costs as much as so many reads.
    Costs(usize),
}

/// What is known of a scope.
#[derive(Default)]
struct Known {
    /// When the last list that came to its end began, and what it showed.
    there: Option<(Instant, HashSet<u64>)>,
    /// As how many reads a list costs, and when that was found out.
    costs: Option<(Instant, usize)>,
    /// Reads that have found nothing since the last list began, and when the last of them did: a list saves such.
    missed: Option<(Instant, usize)>,
}

impl Known {
    fn is_of_use(&self) -> bool {
        let is_young = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < AGE);
        is_young(self.there.as_ref().map(|(at, _)| *at))
            || is_young(self.costs.map(|(at, _)| at))
            || is_young(self.missed.map(|(at, _)| at))
    }
}

/// What reads of a kind have found.
#[derive(Debug, Clone, Copy)]
struct Reads {
    /// How many have found nothing, and when the last of them did.
    missed: (Instant, usize),
    /// When one has found something last, or what was to be created was there.
    found: Option<Instant>,
}

/// What lists have shown each account: what one may not list says nothing of another.
#[derive(Default)]
pub(super) struct Presences(Mutex<BTreeMap<Account, Arc<Presence>>>);

impl Presences {
    /// What lists have shown an account.
    pub(super) fn of(&self, account: &Account) -> Arc<Presence> {
        let mut presences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        presences.entry(account.clone()).or_default().clone()
    }

    /// Tells whether any job goes on now. What is known is forgotten when none did for a while.
    pub(super) fn is_used(&self, is_used: bool) {
        let mut presences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        presences.retain(|account, presence| {
            presence.is_used(is_used);
            *account == Account::Agent || is_used || !presence.lock().is_empty()
        });
    }
}

/// Names of objects in 8 bytes each: two that look alike cost a look more, and no object is taken for absent that was
/// there.
#[derive(Default)]
pub(super) struct Presence {
    hasher: RandomState,
    scopes: Mutex<BTreeMap<Scope, Known>>,
    /// Where no list shows all of a kind: what reads of it have found, in whatever namespaces.
    kinds: Mutex<BTreeMap<Resource, Reads>>,
    /// When the last job ended, while none goes on.
    idle_since: Mutex<Option<Instant>>,
}

impl Presence {
    /// Notes that a list begins: reads from now on count for the next one.
    pub(super) fn begin(&self, resource: &Resource, namespace: &str) {
        if let Some(known) = self.lock().get_mut(&scope(resource, namespace)) {
            known.missed = None;
        }
    }

    /// Notes a list that began then. What an earlier one has shown stands when this one did not come to its end.
    pub(super) fn note(&self, resource: &Resource, namespace: &str, begun: Instant, shown: Shown) {
        let mut scopes = self.lock();
        scopes.retain(|_, known| known.is_of_use());
        let known = scopes.entry(scope(resource, namespace)).or_default();
        match shown {
            Shown::There(there) if there.len() <= NAMES => {
                (known.there, known.costs) = (Some((begun, there)), None);
            }
            Shown::There(_) => known.costs = Some((begun, usize::MAX)),
            Shown::Costs(reads) => known.costs = Some((begun, reads)),
        }
    }

    /// Notes that something of a kind was there.
    pub(super) fn found(&self, resource: &Resource) {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = kinds.entry(resource.clone()).or_insert(Reads {
            missed: (now, 0),
            found: None,
        });
        *reads = Reads {
            missed: (now, 0),
            found: Some(now),
        };
    }

    /// Tells whether what is not known of a kind is most likely absent: several reads of it have found nothing, and none
    /// something. It is created then without a look, which the server refuses where it is there.
    pub(super) fn is_likely_absent(&self, resource: &Resource, several: usize) -> bool {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(resource).is_some_and(|reads| {
            let (at, missed) = reads.missed;
            let is_found = reads.found.is_some_and(|at| at.elapsed() < AGE);
            missed >= several && at.elapsed() < AGE && !is_found
        })
    }

    /// Notes a read that has found nothing.
    pub(super) fn missed(&self, resource: &Resource, namespace: &str) {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = kinds.entry(resource.clone()).or_insert(Reads {
            missed: (now, 0),
            found: None,
        });
        let (at, before) = reads.missed;
        reads.missed = (now, if at.elapsed() < AGE { before + 1 } else { 1 });
        drop(kinds);
        let mut scopes = self.lock();
        for listed in listed(namespace) {
            let missed = &mut scopes.entry(scope(resource, listed)).or_default().missed;
            let before = missed.filter(|(at, _)| at.elapsed() < AGE);
            *missed = Some((Instant::now(), before.map_or(0, |(_, count)| count) + 1));
        }
    }

    /// How many reads a list would have saved since the last one.
    pub(super) fn misses(&self, resource: &Resource, namespace: &str) -> usize {
        let scopes = self.lock();
        let known = scopes.get(&scope(resource, namespace));
        let missed = known.and_then(|known| known.missed.filter(|(at, _)| at.elapsed() < AGE));
        missed.map_or(0, |(_, count)| count)
    }

    /// Tells whether an object was there; `None`: no list has shown it.
    pub(super) fn of(&self, resource: &Resource, namespace: &str, name: &str) -> Option<bool> {
        let scopes = self.lock();
        let object = self.name(namespace, name);
        listed(namespace).find_map(|listed| {
            let (at, there) = scopes.get(&scope(resource, listed))?.there.as_ref()?;
            (at.elapsed() < AGE).then(|| there.contains(&object))
        })
    }

    /// Notes that an object is there, or may be.
    pub(super) fn appeared(&self, resource: &Resource, namespace: &str, name: &str) {
        let object = self.name(namespace, name);
        let mut scopes = self.lock();
        for listed in listed(namespace) {
            let known = scopes.get_mut(&scope(resource, listed));
            if let Some((_, there)) = known.and_then(|known| known.there.as_mut()) {
                there.insert(object);
            }
        }
    }

    /// Tells whether a list is worth a try in place of so many reads.
    pub(super) fn may_list(&self, resource: &Resource, namespace: &str, reads: usize) -> bool {
        let scopes = self.lock();
        let known = scopes.get(&scope(resource, namespace));
        let costs = known.and_then(|known| known.costs.filter(|(at, _)| at.elapsed() < AGE));
        costs.is_none_or(|(_, costs)| costs <= reads)
    }

    /// An object as the lists note it.
    pub(super) fn name(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    /// Tells whether any job goes on now. When none did for a while, what is known is forgotten.
    pub(super) fn is_used(&self, is_used: bool) {
        let mut idle_since = self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        if idle_since.is_some_and(|since| since.elapsed() >= LINGER) {
            self.lock().clear();
            self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        *idle_since = match is_used {
            true => None,
            false => Some(idle_since.unwrap_or_else(Instant::now)),
        };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, Known>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn scope(resource: &Resource, namespace: &str) -> Scope {
    (resource.clone(), namespace.to_owned())
}

/// What may be listed to see objects of a namespace: it, and the whole cluster.
fn listed(namespace: &str) -> impl Iterator<Item = &str> {
    let whole = (!namespace.is_empty()).then_some("");
    [namespace].into_iter().chain(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_maps() -> Resource {
        Resource {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            plural: "configmaps".to_owned(),
            namespaced: true,
            watchable: true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn presence_of_a_list_ends_with_its_age_counted_from_its_beginning() {
        let (presence, kind, begun) = (Presence::default(), config_maps(), Instant::now());
        let there = HashSet::from([presence.name("a", "x")]);
        tokio::time::sleep(AGE / 2).await;
        presence.note(&kind, "", begun, Shown::There(there));
        assert_eq!(presence.of(&kind, "a", "x"), Some(true));
        assert_eq!(presence.of(&kind, "a", "y"), Some(false));
        presence.note(&kind, "", Instant::now(), Shown::Costs(50));
        assert_eq!(presence.of(&kind, "a", "y"), Some(false), "what was shown stands");
        presence.appeared(&kind, "a", "y");
        assert_eq!(presence.of(&kind, "a", "y"), Some(true));
        tokio::time::sleep(AGE / 2).await;
        assert_eq!(presence.of(&kind, "a", "y"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn presence_is_kept_between_jobs_and_forgotten_once_none_came_for_a_while() {
        let (presence, kind) = (Presence::default(), config_maps());
        presence.is_used(true);
        presence.note(&kind, "", Instant::now(), Shown::There(HashSet::new()));
        presence.missed(&kind, "a");
        for _ in 0..3 {
            presence.is_used(false);
            tokio::time::sleep(LINGER / 2).await;
            presence.is_used(true);
        }
        assert_eq!(presence.of(&kind, "a", "x"), Some(false));
        presence.is_used(false);
        tokio::time::sleep(LINGER / 2).await;
        presence.is_used(false);
        tokio::time::sleep(LINGER / 2).await;
        presence.is_used(false);
        assert!(presence.lock().is_empty(), "nothing is held of it");
    }

    #[tokio::test(start_paused = true)]
    async fn presence_counts_missed_reads_for_the_namespace_and_the_cluster_until_a_list_begins() {
        let (presence, kind) = (Presence::default(), config_maps());
        for namespace in ["a", "a", "b"] {
            presence.missed(&kind, namespace);
        }
        let misses = |namespace: &str| presence.misses(&kind, namespace);
        assert_eq!((misses("a"), misses("b"), misses("")), (2, 1, 3));
        presence.begin(&kind, "");
        assert_eq!((misses("a"), misses("b"), misses("")), (2, 1, 0));
        tokio::time::sleep(AGE).await;
        assert_eq!(misses("a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_is_likely_absent_after_several_reads_in_vain_until_one_has_found_something() {
        let (presence, kind) = (Presence::default(), config_maps());
        for namespace in ["a", "b", "c"] {
            assert!(!presence.is_likely_absent(&kind, 3));
            presence.missed(&kind, namespace);
        }
        assert!(presence.is_likely_absent(&kind, 3) && !presence.is_likely_absent(&kind, 4));
        presence.found(&kind);
        for _ in 0..5 {
            presence.missed(&kind, "a");
        }
        assert!(!presence.is_likely_absent(&kind, 3), "some are there");
        tokio::time::sleep(AGE).await;
        assert!(!presence.is_likely_absent(&kind, 3), "it is not known any more");
        for _ in 0..3 {
            presence.missed(&kind, "a");
        }
        assert!(presence.is_likely_absent(&kind, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn list_that_was_too_long_is_tried_again_for_as_many_reads_as_it_costs() {
        let (presence, kind) = (Presence::default(), config_maps());
        assert!(presence.may_list(&kind, "", 1));
        presence.note(&kind, "", Instant::now(), Shown::Costs(50));
        assert!(!presence.may_list(&kind, "", 49) && presence.may_list(&kind, "", 50));
        let many = (0..=NAMES as u64).collect();
        presence.note(&kind, "", Instant::now(), Shown::There(many));
        assert!(!presence.may_list(&kind, "", 1_000_000), "more than is kept");
        assert_eq!(presence.of(&kind, "a", "x"), None);
        tokio::time::sleep(AGE).await;
        assert!(presence.may_list(&kind, "", 1));
    }
}
