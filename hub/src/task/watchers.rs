//! Who waits for a change of one thing: a wake-up reaches those who named its key, and nobody else.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

/// Those who watch, by key. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers {
    by_key: Arc<Mutex<HashMap<Uuid, Vec<Arc<Notify>>>>>,
}

/// One who watches; no longer once it is dropped.
pub struct Watch {
    watchers: Watchers,
    keys: HashSet<Uuid>,
    woken: Arc<Notify>,
}

impl Watchers {
    /// Watches nothing yet.
    pub fn watch(&self) -> Watch {
        Watch {
            watchers: self.clone(),
            keys: HashSet::new(),
            woken: Arc::default(),
        }
    }

    /// Wakes those who watch one of these.
    pub fn wake(&self, keys: impl IntoIterator<Item = Uuid>) {
        let by_key = self.lock();
        for key in keys {
            for woken in by_key.get(&key).into_iter().flatten() {
                woken.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Arc<Notify>>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Watches these from here on, and no others.
    pub fn set(&mut self, keys: impl IntoIterator<Item = Uuid>) {
        let keys: HashSet<Uuid> = keys.into_iter().collect();
        let mut by_key = self.watchers.lock();
        for gone in self.keys.difference(&keys) {
            remove(&mut by_key, *gone, &self.woken);
        }
        for new in keys.difference(&self.keys) {
            by_key.entry(*new).or_default().push(self.woken.clone());
        }
        drop(by_key);
        self.keys = keys;
    }

    /// Waits for a change. One that came since the last time is not missed.
    pub async fn changed(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_key = self.watchers.lock();
        for key in &self.keys {
            remove(&mut by_key, *key, &self.woken);
        }
    }
}

fn remove(by_key: &mut HashMap<Uuid, Vec<Arc<Notify>>>, key: Uuid, one: &Arc<Notify>) {
    if let Some(watching) = by_key.get_mut(&key) {
        watching.retain(|other| !Arc::ptr_eq(other, one));
        if watching.is_empty() {
            by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn key(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn is_woken(watch: &Watch) -> bool {
        watch.changed().now_or_never().is_some()
    }

    #[test]
    fn a_change_wakes_who_named_it_among_a_thousand_others_and_nobody_else() {
        let watchers = Watchers::default();
        let all: Vec<Watch> = (0..1000)
            .map(|number| {
                let mut watch = watchers.watch();
                watch.set([key(number), key(5000)]);
                watch
            })
            .collect();
        watchers.wake([key(7), key(9999)]);
        let woken: Vec<usize> = (0..1000).filter(|number| is_woken(&all[*number])).collect();
        assert_eq!(woken, [7]);
        assert!(!all.iter().any(is_woken), "a change wakes once");
        watchers.wake([key(5000)]);
        assert!(all.iter().all(is_woken), "many may name the same");
    }

    #[test]
    fn what_is_not_watched_any_more_wakes_nobody_and_leaves_nothing() {
        let watchers = Watchers::default();
        let mut watch = watchers.watch();
        watch.set([key(1), key(2)]);
        watch.set([key(2), key(3)]);
        watchers.wake([key(1)]);
        assert!(!is_woken(&watch));
        watchers.wake([key(2)]);
        watchers.wake([key(3)]);
        assert!(is_woken(&watch), "one that came before it waited");
        assert!(!is_woken(&watch), "two that came together are one");
        drop(watch);
        assert!(watchers.lock().is_empty());
    }
}
