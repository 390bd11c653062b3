//! What is made once for all who ask for it, and kept while there is room.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;

/// What something that is kept costs besides its bytes; so that what has none is bounded too.
const ENTRY: usize = 256;

/// Values by key, bounded in bytes: the oldest is forgotten first. Whoever asks for one while it is made waits for it: ten
/// thousand agents that need the same at once cost one.
pub(super) struct Kept<K, V> {
    bound: usize,
    /// The bytes of a value.
    weigh: fn(&V) -> usize,
    held: Mutex<Held<K, V>>,
}

struct Held<K, V> {
    cells: HashMap<K, Arc<OnceCell<V>>>,
    /// Those that are made, oldest first, with what they cost.
    made: VecDeque<(K, usize)>,
    bytes: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Kept<K, V> {
    /// Keeps so many bytes.
    pub(super) fn new(bound: usize, weigh: fn(&V) -> usize) -> Self {
        Self {
            bound,
            weigh,
            held: Mutex::new(Held {
                cells: HashMap::new(),
                made: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    /// The value, by `make` where it is not held. What fails is not held: the next one makes it again.
    pub(super) async fn get<E>(&self, key: K, make: impl AsyncFnOnce() -> Result<V, E>) -> Result<V, E> {
        let cell = self.lock().cells.entry(key).or_default().clone();
        let mut is_new = false;
        let value = cell
            .get_or_try_init(async || {
                is_new = true;
                make().await
            })
            .await
            .cloned();
        let mut held = self.lock();
        match &value {
            Ok(value) if is_new => held.keep(key, ENTRY + (self.weigh)(value), self.bound),
            Ok(_) => {}
            // Unless somebody is at it again.
            Err(_) if Arc::strong_count(&cell) <= 2 => drop(held.cells.remove(&key)),
            Err(_) => {}
        }
        value
    }

    fn lock(&self) -> MutexGuard<'_, Held<K, V>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash, V> Held<K, V> {
    fn keep(&mut self, key: K, cost: usize, bound: usize) {
        self.made.push_back((key, cost));
        self.bytes += cost;
        while self.bytes > bound
            && let Some((oldest, cost)) = self.made.pop_front()
        {
            self.cells.remove(&oldest);
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

    use super::*;

    #[tokio::test]
    async fn what_a_thousand_ask_for_at_once_is_made_once() {
        let kept: Kept<u8, &str> = Kept::new(1 << 20, |text| text.len());
        let made = AtomicUsize::new(0);
        let ask = async || {
            kept.get(1, async || {
                made.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>("delta")
            })
            .await
        };
        let answers = futures::future::join_all((0..1000).map(|_| ask())).await;
        assert!(answers.iter().all(|one| matches!(one, Ok("delta"))));
        assert_eq!(made.load(Ordering::SeqCst), 1);
        // What fails is made again by the next.
        let failed = kept.get(2, async || Err("away")).await;
        assert_eq!(failed, Err("away"));
        let again = kept.get(2, async || Ok::<_, Infallible>("")).await;
        assert_eq!(again, Ok(""));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_bytes_and_the_oldest_is_forgotten() {
        let kept: Kept<u8, Vec<u8>> = Kept::new(4000, Vec::len);
        for number in 0..5 {
            let made = kept.get(number, async || Ok::<_, Infallible>(vec![0; 1000]));
            made.await.expect("made");
        }
        let held = kept.lock();
        assert!(held.bytes <= 4000 && held.made.len() == 3, "{}", held.bytes);
        assert!(!held.cells.contains_key(&0) && held.cells.contains_key(&4));
    }
}
