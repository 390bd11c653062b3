//! For how long the loop holds its thread at most: link, watches and health port share it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The longest step so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Longest(Arc<AtomicU64>);

impl Longest {
    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Measures each step of a future. By the machine's clock: time that a test has stopped does not pass in a step.
    pub(super) fn of<F: Future>(&self, future: F) -> Timed<F> {
        Timed {
            future: Box::pin(future),
            longest: self.clone(),
        }
    }
}

/// A future whose steps are measured.
pub(super) struct Timed<F> {
    future: Pin<Box<F>>,
    longest: Longest,
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let begun = Instant::now();
        let polled = self.future.as_mut().poll(context);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest.0.fetch_max(took, Ordering::Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn longest_step_is_that_between_two_waits() {
        let longest = Longest::default();
        let holds = |millis| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(millis) {}
        };
        let both = async {
            holds(20);
            tokio::task::yield_now().await;
            holds(30);
        };
        longest.of(both).await;
        let took = longest.get();
        assert!(took >= Duration::from_millis(30), "{took:?}");
        longest.of(async { holds(1) }).await;
        assert_eq!(longest.get(), took);
    }
}
