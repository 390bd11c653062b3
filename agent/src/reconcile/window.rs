//! How many writes of a job are handed to the cluster at once. What was handed over is awaited, also when a newer
//! entry has come, so a server that takes long for each gets few: the newer entry waits for those alone.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::preflight::CONCURRENCY;

const FIRST: usize = 8;
/// An answer slower than this takes a place away; a faster one adds one.
const SLOW: Duration = Duration::from_secs(1);

/// The places of a job's writes.
pub(super) struct Window {
    places: Semaphore,
    size: AtomicUsize,
}

/// A write under way.
pub(super) struct Place<'a> {
    window: &'a Window,
    permit: Option<SemaphorePermit<'a>>,
    begun: Instant,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            places: Semaphore::new(FIRST),
            size: AtomicUsize::new(FIRST),
        }
    }
}

impl Window {
    /// Waits for a place. `None`: the job was cancelled before.
    pub(super) async fn enter(&self, cancel: &CancellationToken) -> Option<Place<'_>> {
        let permit = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            permit = self.places.acquire() => permit.ok(),
        }?;
        Some(Place {
            window: self,
            permit: Some(permit),
            begun: Instant::now(),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Window { places, size } = self.window;
        let now = size.load(Ordering::Relaxed);
        match self.begun.elapsed() > SLOW {
            true if now > 1 => {
                size.store(now - 1, Ordering::Relaxed);
                if let Some(permit) = self.permit.take() {
                    permit.forget();
                }
            }
            false if now < CONCURRENCY => {
                size.store(now + 1, Ordering::Relaxed);
                places.add_permits(1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn write(window: &Window, takes: Duration) {
        let cancel = CancellationToken::new();
        let _place = window.enter(&cancel).await.expect("not cancelled");
        tokio::time::sleep(takes).await;
    }

    #[tokio::test(start_paused = true)]
    async fn fast_answers_open_it_and_slow_ones_close_it_to_one() {
        let window = Window::default();
        for _ in 0..100 {
            write(&window, Duration::ZERO).await;
        }
        assert_eq!(window.places.available_permits(), CONCURRENCY);
        for _ in 0..100 {
            write(&window, Duration::from_secs(30)).await;
        }
        assert_eq!(window.places.available_permits(), 1);
        for _ in 0..100 {
            write(&window, Duration::ZERO).await;
        }
        assert_eq!(window.places.available_permits(), CONCURRENCY);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_leaves_when_the_job_is_cancelled() {
        let window = Window::default();
        let cancel = CancellationToken::new();
        let mut places = Vec::new();
        for _ in 0..FIRST {
            places.push(window.enter(&cancel).await);
        }
        let (entered, ()) = tokio::join!(window.enter(&cancel), async { cancel.cancel() });
        assert!(entered.is_none());
        assert!(window.enter(&cancel).await.is_none());
    }
}
