//! How many writes of a job are handed to the cluster at once, and until when; the jobs of a pass learn from each other.
//! What was handed over is awaited, also when a newer entry has come, so a kind whose answers take long gets few places:
//! the newer entry, and the unit's own drift, wait for those alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use flotilla_core::{id::UnitId, object::ObjectKey};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::preflight::CONCURRENCY;

/// Doubled by each round of fast answers.
const FIRST: usize = 8;
/// An answer slower than this takes a place away; a faster one adds one.
const SLOW: Duration = Duration::from_secs(1);
/// A job begins no write later than this after its first.
pub(super) const OPEN: Duration = Duration::from_secs(10);

/// The places of each kind, by group and name.
type Kinds = Arc<Mutex<BTreeMap<(String, String), Arc<Places>>>>;

/// What the jobs of units have found out of how fast kinds answer, for as long as jobs follow each other.
#[derive(Default)]
pub(super) struct Windows(Mutex<BTreeMap<UnitId, Kinds>>);

/// The places of a job's writes.
#[derive(Default)]
pub(super) struct Window {
    kinds: Kinds,
    until: OnceLock<Instant>,
}

/// The places of a kind.
struct Places {
    free: Arc<Semaphore>,
    size: Mutex<usize>,
}

/// A write under way.
pub(super) struct Place {
    places: Arc<Places>,
    permit: Option<OwnedSemaphorePermit>,
    begun: Instant,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(FIRST)),
            size: Mutex::new(FIRST),
        }
    }
}

impl Places {
    fn at_least(&self, least: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        self.free.add_permits(least.saturating_sub(*size));
        *size = least.max(*size);
    }
}

impl Windows {
    /// The window of a unit's next job.
    pub(super) fn next(&self, unit: UnitId) -> Window {
        let kinds = self.lock().entry(unit).or_default().clone();
        // A kind that was slow may not be any more: each job tries as many as the first.
        for places in kinds.lock().unwrap_or_else(PoisonError::into_inner).values() {
            places.at_least(FIRST);
        }
        Window {
            kinds,
            until: OnceLock::new(),
        }
    }

    /// Forgets what the jobs of a unit have found out: none follows at once.
    pub(super) fn forget(&self, unit: UnitId) {
        self.lock().remove(&unit);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<UnitId, Kinds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Waits for a place. `None`: the job was cancelled before, or its time is over.
    pub(super) async fn enter(&self, key: &ObjectKey, cancel: &CancellationToken) -> Option<Place> {
        let until = *self.until.get_or_init(|| Instant::now() + OPEN);
        let places = self.places(key);
        let permit = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            () = tokio::time::sleep_until(until) => None,
            permit = places.free.clone().acquire_owned() => permit.ok(),
        }?;
        Some(Place {
            places,
            permit: Some(permit),
            begun: Instant::now(),
        })
    }

    fn places(&self, key: &ObjectKey) -> Arc<Places> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds
            .entry((key.group.clone(), key.kind.clone()))
            .or_default()
            .clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut size = self.places.size.lock().unwrap_or_else(PoisonError::into_inner);
        match self.begun.elapsed() > SLOW {
            true if *size > 1 => {
                *size -= 1;
                if let Some(permit) = self.permit.take() {
                    permit.forget();
                }
            }
            false if *size < CONCURRENCY => {
                *size += 1;
                self.places.free.add_permits(1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str) -> ObjectKey {
        ObjectKey::new("", kind, "default", "x")
    }

    async fn write(window: &Window, kind: &str, takes: Duration) {
        let cancel = CancellationToken::new();
        let _place = window.enter(&key(kind), &cancel).await.expect("a place");
        tokio::time::sleep(takes).await;
    }

    fn free(window: &Window, kind: &str) -> usize {
        window.places(&key(kind)).free.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn fast_answers_open_it_for_their_kind_and_slow_ones_close_it_to_one() {
        let window = Window::default();
        for _ in 0..100 {
            write(&window, "Secret", Duration::ZERO).await;
        }
        assert_eq!(free(&window, "Secret"), CONCURRENCY);
        let slow = (0..FIRST).map(|_| write(&window, "ConfigMap", Duration::from_millis(1100)));
        futures::future::join_all(slow).await;
        assert_eq!(
            (free(&window, "ConfigMap"), free(&window, "Secret")),
            (1, CONCURRENCY)
        );
        for _ in 0..100 {
            write(&window, "ConfigMap", Duration::ZERO).await;
        }
        assert_eq!(free(&window, "ConfigMap"), CONCURRENCY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_job_of_a_pass_begins_with_the_places_of_the_last() {
        let (windows, unit) = (Windows::default(), UnitId(uuid::Uuid::from_u128(1)));
        let first = windows.next(unit);
        for _ in 0..100 {
            write(&first, "Secret", Duration::ZERO).await;
        }
        write(&first, "ConfigMap", OPEN).await;
        let cancel = CancellationToken::new();
        assert!(
            first.enter(&key("Secret"), &cancel).await.is_none(),
            "its time is over"
        );
        let second = windows.next(unit);
        assert_eq!(
            (free(&second, "Secret"), free(&second, "ConfigMap")),
            (CONCURRENCY, FIRST)
        );
        write(&second, "Secret", Duration::ZERO).await;
        let another = windows.next(UnitId(uuid::Uuid::from_u128(2)));
        assert_eq!(free(&another, "Secret"), FIRST);
        windows.forget(unit);
        assert_eq!(free(&windows.next(unit), "Secret"), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_leaves_when_the_job_is_cancelled() {
        let (window, secret) = (Window::default(), key("Secret"));
        let cancel = CancellationToken::new();
        let mut places = Vec::new();
        for _ in 0..FIRST {
            places.push(window.enter(&secret, &cancel).await);
        }
        let (entered, ()) = tokio::join!(window.enter(&secret, &cancel), async { cancel.cancel() });
        assert!(entered.is_none());
        assert!(window.enter(&secret, &cancel).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_once_the_time_since_the_first_write_is_over() {
        let (window, secret) = (Window::default(), key("Secret"));
        let cancel = CancellationToken::new();
        // What is read before takes nothing of it.
        tokio::time::sleep(OPEN * 2).await;
        let slow = (0..FIRST).map(|_| write(&window, "Secret", OPEN - Duration::from_secs(1)));
        futures::future::join_all(slow).await;
        let last = window.enter(&secret, &cancel).await;
        assert!(last.is_some(), "a second is left, and a place");
        assert!(
            window.enter(&secret, &cancel).await.is_none(),
            "no place until the end"
        );
        drop(last);
        assert!(
            window.enter(&secret, &cancel).await.is_none(),
            "a place, and no time"
        );
    }
}
