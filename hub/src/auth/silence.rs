//! For how long connections may say nothing. All of them are looked at from time to time: a timer of each would wake ten
//! thousand of them once a minute, to find that each has said something.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::{Instant, sleep};

/// A connection that has not begun to speak HTTP/2 by then is closed.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// Between two looks at all.
const EVERY: Duration = Duration::from_secs(5);
/// As good as never.
const NEVER: u64 = u64::MAX;

/// The connections there are.
#[derive(Debug, Default)]
pub(super) struct Silences {
    all: Mutex<Vec<Weak<Heard>>>,
}

impl Silences {
    /// Looks at connections for as long as there is anybody to add one.
    pub(super) fn watch() -> Arc<Self> {
        let this = Arc::new(Self::default());
        let watched = Arc::downgrade(&this);
        tokio::spawn(async move {
            loop {
                sleep(EVERY).await;
                let Some(this) = watched.upgrade() else { return };
                this.look(Instant::now());
            }
        });
        this
    }

    /// Adds one that has said nothing yet. `longest`: how long it may be silent after its first word; `None`: it is not
    /// bounded here.
    pub(super) fn add(&self, longest: Option<Duration>) -> Silence {
        let heard = Arc::new(Heard {
            began: Instant::now(),
            ends: AtomicU64::new(millis(FIRST_FRAME)),
            longest,
            waker: AtomicWaker::new(),
        });
        self.all().push(Arc::downgrade(&heard));
        Silence(heard)
    }

    /// Wakes those that were silent for too long, and forgets those that are closed.
    fn look(&self, now: Instant) {
        self.all().retain(|one| {
            let Some(heard) = one.upgrade() else { return false };
            if heard.is_over(now) {
                heard.waker.wake();
            }
            true
        });
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<Heard>>> {
        // Nothing between two changes of it can panic.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was heard of a connection.
#[derive(Debug)]
struct Heard {
    began: Instant,
    /// Milliseconds after that at which it was silent for too long.
    ends: AtomicU64,
    longest: Option<Duration>,
    waker: AtomicWaker,
}

impl Heard {
    fn is_over(&self, now: Instant) -> bool {
        let passed = millis(now.saturating_duration_since(self.began));
        // Ordered by the waker, where another thread is concerned.
        passed >= self.ends.load(Ordering::Relaxed)
    }
}

/// The silence of one connection.
#[derive(Debug)]
pub(super) struct Silence(Arc<Heard>);

impl Silence {
    /// It says something.
    pub(super) fn heard(&self) {
        let ends = self.0.longest.map_or(NEVER, |longest| {
            millis(Instant::now().saturating_duration_since(self.0.began) + longest)
        });
        self.0.ends.store(ends, Ordering::Relaxed);
    }

    /// Ends once it was too long, at the next look.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        match self.0.is_over(Instant::now()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    use tokio::time::{timeout, timeout_at};

    use super::*;

    const LONGEST: Duration = Duration::from_secs(75);

    /// After how long a connection that speaks at these seconds is closed, if it is within an hour.
    async fn ends(longest: Option<Duration>, speaks: impl IntoIterator<Item = u64>) -> Option<u64> {
        let begun = Instant::now();
        let silences = Silences::watch();
        let silence = silences.add(longest);
        let at = |second| begun + Duration::from_secs(second);
        for second in speaks {
            if timeout_at(at(second), poll_fn(|cx| silence.poll(cx)))
                .await
                .is_ok()
            {
                return Some(begun.elapsed().as_secs());
            }
            silence.heard();
        }
        let ended = timeout(Duration::from_secs(3600), poll_fn(|cx| silence.poll(cx))).await;
        ended.ok().map(|()| begun.elapsed().as_secs())
    }

    /// Within a look of this second.
    fn near(ended: Option<u64>, second: u64) -> bool {
        ended.is_some_and(|ended| (second..=second + EVERY.as_secs()).contains(&ended))
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_gone_at_the_next_look_and_one_that_asks_is_there() {
        assert!(near(ends(Some(LONGEST), [1]).await, 1 + 75));
        let asks = (0..100).map(|n| 1 + n * 40);
        assert!(near(ends(Some(LONGEST), asks).await, 1 + 99 * 40 + 75));
        assert!(near(ends(Some(LONGEST), [1, 74, 148, 222]).await, 222 + 75));
        assert!(near(ends(Some(LONGEST), [1, 90]).await, 1 + 75));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_closed_and_a_stranger_who_has_begun_is_asked_by_the_server() {
        assert!(near(ends(Some(LONGEST), []).await, 10));
        assert!(near(ends(None, []).await, 10));
        assert_eq!(ends(None, [9]).await, None);
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_in_time_is_never_woken_and_whoever_is_closed_is_forgotten() {
        let silences = Silences::watch();
        let (silence, wakes) = (silences.add(Some(LONGEST)), Arc::<Wakes>::default());
        let waker = Waker::from(wakes.clone());
        for _ in 0..90 {
            silence.heard();
            assert!(silence.poll(&mut Context::from_waker(&waker)).is_pending());
            sleep(Duration::from_secs(40)).await;
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "within an hour");
        assert_eq!(silences.all().len(), 1);
        drop(silence);
        sleep(2 * EVERY).await;
        assert!(silences.all().is_empty());
    }
}
