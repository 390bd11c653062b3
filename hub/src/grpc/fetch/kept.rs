//! What is made once for all who ask for it, and kept while there is room.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::{BoxFuture, FutureExt as _, Shared};

/// What something that is kept costs besides its bytes; so that what has none is bounded too.
const ENTRY: usize = 256;

/// Values by key, bounded in bytes: the oldest is forgotten first. Each is made by a task of its own, for all who ask for it
/// meanwhile: ten thousand agents that need the same at once cost one, and one that gives up takes it from no other.
pub(super) struct Kept<K, V, E> {
    bound: usize,
    /// The bytes of a value.
    weigh: fn(&V) -> usize,
    held: Arc<Mutex<Held<K, V, E>>>,
}

/// `None`: it was cut short.
type Making<V, E> = Shared<BoxFuture<'static, Option<Result<V, E>>>>;

struct Held<K, V, E> {
    values: HashMap<K, V>,
    making: HashMap<K, Making<V, E>>,
    /// Those that are made, oldest first, with what they cost.
    made: VecDeque<(K, usize)>,
    bytes: usize,
}

impl<K, V, E> Kept<K, V, E>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Keeps so many bytes.
    pub(super) fn new(bound: usize, weigh: fn(&V) -> usize) -> Self {
        Self {
            bound,
            weigh,
            held: Arc::new(Mutex::new(Held {
                values: HashMap::new(),
                making: HashMap::new(),
                made: VecDeque::new(),
                bytes: 0,
            })),
        }
    }

    /// The value, by `make` where it is not held. What fails is not held: the next one makes it again. `None`: it was cut
    /// short.
    pub(super) async fn get<F>(&self, key: K, make: impl FnOnce() -> F) -> Option<Result<V, E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let making = {
            let mut held = lock(&self.held);
            if let Some(value) = held.values.get(&key) {
                return Some(Ok(value.clone()));
            }
            let start = || self.start(key, make());
            held.making.entry(key).or_insert_with(start).clone()
        };
        making.await
    }

    fn start(&self, key: K, make: impl Future<Output = Result<V, E>> + Send + 'static) -> Making<V, E> {
        let turn = Turn {
            key,
            held: Arc::clone(&self.held),
        };
        let (bound, weigh) = (self.bound, self.weigh);
        let task = async move {
            let value = make.await;
            if let Ok(value) = &value {
                lock(&turn.held).keep(key, value.clone(), ENTRY + weigh(value), bound);
            }
            drop(turn);
            value
        };
        // With the first look at it, outside of the lock: a runtime that ends drops the task at once, and with it its turn.
        async move { tokio::spawn(task).await.ok() }.boxed().shared()
    }
}

fn lock<K, V, E>(held: &Mutex<Held<K, V, E>>) -> MutexGuard<'_, Held<K, V, E>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that is being made; however that ends, it is made no more.
struct Turn<K: Eq + Hash, V, E> {
    key: K,
    held: Arc<Mutex<Held<K, V, E>>>,
}

impl<K: Eq + Hash, V, E> Drop for Turn<K, V, E> {
    fn drop(&mut self) {
        let ended = lock(&self.held).making.remove(&self.key);
        // Outside of the lock.
        drop(ended);
    }
}

impl<K: Copy + Eq + Hash, V, E> Held<K, V, E> {
    fn keep(&mut self, key: K, value: V, cost: usize, bound: usize) {
        self.values.insert(key, value);
        self.made.push_back((key, cost));
        self.bytes += cost;
        while self.bytes > bound
            && let Some((oldest, cost)) = self.made.pop_front()
        {
            self.values.remove(&oldest);
            self.bytes -= cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_a_thousand_ask_for_at_once_is_made_once() {
        let kept: Kept<u8, &str, &str> = Kept::new(1 << 20, |text| text.len());
        let made = Arc::new(AtomicUsize::new(0));
        let ask = async || {
            let made = Arc::clone(&made);
            kept.get(1, || async move {
                made.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok("delta")
            })
            .await
        };
        let answers = futures::future::join_all((0..1000).map(|_| ask())).await;
        assert!(answers.iter().all(|one| *one == Some(Ok("delta"))));
        assert_eq!(made.load(Ordering::SeqCst), 1);
        // What fails is made again by the next.
        let failed = kept.get(2, || async { Err("away") }).await;
        assert_eq!(failed, Some(Err("away")));
        let again = kept.get(2, || async { Ok("") }).await;
        assert_eq!(again, Some(Ok("")));
    }

    #[tokio::test]
    async fn what_is_begun_is_made_once_also_when_who_asked_for_it_gives_up() {
        let kept: Kept<u8, &str, Infallible> = Kept::new(1 << 20, |text| text.len());
        let (made, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (made, gate) = (Arc::clone(&made), Arc::clone(&gate));
            kept.get(1, || async move {
                made.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok("delta")
            })
        };
        for _ in 0..3 {
            let hasty = tokio::time::timeout(std::time::Duration::from_millis(1), ask());
            assert!(hasty.await.is_err(), "it waits for the gate");
        }
        gate.notify_one();
        assert_eq!(ask().await, Some(Ok("delta")));
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(lock(&kept.held).making.is_empty());
        // One that ends badly is forgotten too.
        async fn broken() -> Result<&'static str, Infallible> {
            panic!("as a test has it")
        }
        assert_eq!(kept.get(2, broken).await, None);
        assert!(lock(&kept.held).making.is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_bytes_and_the_oldest_is_forgotten() {
        let kept: Kept<u8, Vec<u8>, Infallible> = Kept::new(4000, Vec::len);
        for number in 0..5 {
            let made = kept.get(number, || async { Ok(vec![0; 1000]) });
            made.await.expect("made").expect("made");
        }
        let held = lock(&kept.held);
        assert!(held.bytes <= 4000 && held.made.len() == 3, "{}", held.bytes);
        assert!(!held.values.contains_key(&0) && held.values.contains_key(&4));
    }
}
