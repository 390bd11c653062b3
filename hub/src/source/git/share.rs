//! One probe for all who ask at the same time: sources with the same URL, credential, CA and reference share an answer.
//! Whoever asks while a request is under way gets the answer of the next one: the one under way may have been answered
//! before the push that made them ask. Nothing is kept after an answer has come, so none is ever stale. Of requests of one
//! kind a burst goes out at once, and then one a second, whoever asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _, Shared};
use tokio::time::Instant;

use super::{GitError, Prober, Reference, Remote, RemoteKey, Resolved, discovery::within};

/// Requests that may go out at once after a while of none.
const BURST: u32 = 10;
/// Between requests beyond that.
const BETWEEN: Duration = Duration::from_secs(1);

type Answer = Shared<BoxFuture<'static, Result<Resolved, GitError>>>;
type Key = (RemoteKey, Reference);
type All = Arc<Mutex<HashMap<Key, Requests>>>;

/// Kinds of requests remembered before those that are at rest are forgotten.
const REMEMBERED: usize = 1024;

/// Probes under way. Cheap to clone.
#[derive(Clone)]
pub struct ProbeShare {
    prober: Prober,
    key: [u8; 32],
    all: All,
}

/// The requests of one kind.
#[derive(Default)]
struct Requests {
    /// Under way.
    now: Option<Answer>,
    /// Not begun: whoever asks joins it.
    next: Option<Answer>,
    /// The longest that one of those waits who have joined it: nobody needs it for longer, and the one after it waits for it.
    timeout: Duration,
    pace: Pace,
}

/// When requests of one kind may go out.
#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    /// When all that went out is worked off, at one each [`BETWEEN`].
    free_at: Option<Instant>,
}

impl Pace {
    /// Takes a request's turn, and tells how long to wait for it.
    fn take(&mut self, now: Instant) -> Duration {
        let free_at = self.free_at.filter(|at| *at > now).unwrap_or(now);
        self.free_at = Some(free_at + BETWEEN);
        (free_at - now).saturating_sub(BETWEEN * (BURST - 1))
    }

    fn is_at_rest(&self, now: Instant) -> bool {
        self.free_at.is_none_or(|at| at <= now)
    }
}

impl ProbeShare {
    /// Shares the requests of `prober`. `key` belongs to this hub, see [`Remote::key`].
    pub fn new(prober: Prober, key: [u8; 32]) -> Self {
        Self {
            prober,
            key,
            all: Arc::default(),
        }
    }

    /// Resolves `reference`, with those who ask the same before the request begins.
    pub async fn probe(
        &self,
        remote: &Remote,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Resolved, GitError> {
        Box::pin(within(remote, timeout, self.join(remote, reference, timeout))).await
    }

    fn join(&self, remote: &Remote, reference: &Reference, timeout: Duration) -> Answer {
        let key = (remote.key(&self.key), reference.clone());
        let now = Instant::now();
        let mut all = lock(&self.all);
        if all.len() >= REMEMBERED {
            all.retain(|_, one| one.now.is_some() || one.next.is_some() || !one.pace.is_at_rest(now));
        }
        let requests = all.entry(key.clone()).or_default();
        if let Some(next) = &requests.next {
            requests.timeout = requests.timeout.max(timeout);
            return next.clone();
        }
        requests.timeout = timeout;
        let wait = requests.pace.take(now);
        let answer = self.start(key, remote.clone(), requests.now.clone(), wait);
        requests.next = Some(answer.clone());
        answer
    }

    /// Makes the request, after the one before it, as a task of its own: it goes on when the asker that began it gives up.
    fn start(&self, key: Key, remote: Remote, before: Option<Answer>, wait: Duration) -> Answer {
        let mut turn = Turn {
            key,
            all: Arc::clone(&self.all),
            has_begun: false,
        };
        let (prober, url) = (self.prober.clone(), remote.shown());
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            tokio::time::sleep(wait).await;
            let timeout = turn.begin();
            prober.probe(&remote, &turn.key.1, timeout).await
        });
        let joined = async move {
            let lost = |_| GitError::Local {
                url,
                detail: "the probe was cut short".into(),
            };
            task.await.map_err(lost).and_then(|answer| answer)
        };
        joined.boxed().shared()
    }
}

fn lock(all: &All) -> MutexGuard<'_, HashMap<Key, Requests>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's turn; it ends with the request, however that does.
struct Turn {
    key: Key,
    all: All,
    has_begun: bool,
}

impl Turn {
    /// From here on nobody joins it. Returns how long it may take.
    fn begin(&mut self) -> Duration {
        self.has_begun = true;
        match lock(&self.all).get_mut(&self.key) {
            Some(requests) => {
                requests.now = requests.next.take();
                requests.timeout
            }
            None => Duration::ZERO,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(requests) = lock(&self.all).get_mut(&self.key) {
            match self.has_begun {
                true => requests.now = None,
                false => requests.next = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_out_at_once_and_then_one_a_second() {
        let mut pace = Pace::default();
        let now = Instant::now();
        let waits: Vec<Duration> = (0..BURST + 3).map(|_| pace.take(now)).collect();
        let (burst, rest) = waits.split_at(BURST as usize);
        assert!(burst.iter().all(Duration::is_zero), "{waits:?}");
        assert_eq!(rest, [1, 2, 3].map(Duration::from_secs));
        // Whoever asks for as long as they like gets one a second.
        let asked =
            (0..600_u32).filter(|tenth| pace.take(now + Duration::from_millis(100) * *tenth).is_zero());
        assert_eq!(asked.count(), 0, "the backlog is worked off first");
        let later = now + Duration::from_secs(3600);
        assert!(pace.is_at_rest(later) && pace.take(later).is_zero());
    }
}
