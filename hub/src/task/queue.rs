//! A keyed work queue: one reconciliation of a key at a time, at most so many keys at once, a nudge while a key
//! runs runs it once more, failures back off per key. Keys may be worked at together; those that failed together are
//! tried again each alone, so that one bad key keeps back no other. A nudge carries no data; losing one costs the full pass's
//! interval.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_core::backoff::Backoff;
use prometheus_client::metrics::{
    counter::Counter,
    histogram::{Histogram, exponential_buckets},
};
use tokio::{
    sync::Notify,
    task::JoinError,
    time::{Instant, error::Elapsed, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, debug, error, info_span, warn};
use uuid::Uuid;

use super::{lanes::Lanes, random};
use crate::store::StoreError;

/// When to look whether the newer hub is still there.
const SUPERSEDED: Duration = Duration::from_secs(30);

/// Before what another writer was faster at is done again, at most: two as fast as each other must not stay so.
const AGAIN: u64 = 10_000;
/// Before what failed is done again, at least.
const FAILED: Duration = Duration::from_millis(50);

/// How a reconciliation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more to do until something changes.
    Done,
    /// Nothing more to do until something changes; what changes within this time is taken together, at its end.
    Rest(Duration),
    /// Look again after this long, or when it is nudged before.
    After(Duration),
    /// Look again after the second time, or when it is nudged before, at the end of the first.
    RestAfter(Duration, Duration),
    /// Somebody else was faster: gather again at once.
    Again,
}

/// A keyed work queue. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

/// How long keys wait and take, and how that ends: for metrics.
pub struct Times {
    /// From due to begun, seconds.
    pub waited: Histogram,
    /// From begun to ended, seconds.
    pub lasted: Histogram,
    success: Counter,
    requeued: Counter,
    error: Counter,
}

impl Default for Times {
    fn default() -> Self {
        let buckets = || exponential_buckets(0.001, 4.0, 11);
        Self {
            waited: Histogram::new(buckets()),
            lasted: Histogram::new(buckets()),
            success: Counter::default(),
            requeued: Counter::default(),
            error: Counter::default(),
        }
    }
}

impl Times {
    /// Reconciliations that ended, by how.
    pub fn ended(&self) -> [(&'static str, u64); 3] {
        [
            ("success", self.success.get()),
            ("requeue", self.requeued.get()),
            ("error", self.error.get()),
        ]
    }

    fn end(&self, began: Instant, outcome: &Result<Outcome, ()>) {
        self.lasted.observe(began.elapsed().as_secs_f64());
        match outcome {
            Ok(Outcome::Done | Outcome::Rest(_)) => &self.success,
            Ok(Outcome::After(_) | Outcome::RestAfter(..) | Outcome::Again) => &self.requeued,
            Err(()) => &self.error,
        }
        .inc();
    }
}

struct Shared {
    name: &'static str,
    deadline: Duration,
    /// Keys worked at together.
    batch: usize,
    lanes: Lanes,
    times: Times,
    state: Mutex<State>,
    wake: Notify,
    /// Nothing more is begun.
    stop: CancellationToken,
    /// What runs is dropped.
    dropped: CancellationToken,
    workers: TaskTracker,
}

#[derive(Default)]
struct State {
    /// Each with when it became due.
    ready: VecDeque<(Uuid, Instant)>,
    /// Keys in `ready`.
    queued: HashSet<Uuid>,
    running: HashSet<Uuid>,
    /// Nudged while running.
    again: HashSet<Uuid>,
    failures: HashMap<Uuid, u32>,
    /// Failed with others: the next time alone.
    alone: HashSet<Uuid>,
    /// When a key is due by itself; the earliest wins.
    due: BTreeSet<(Instant, Uuid)>,
    due_of: HashMap<Uuid, Instant>,
    /// Until when a key rests.
    resting: HashMap<Uuid, Instant>,
    /// In the order in which they began to.
    rests: VecDeque<(Instant, Uuid)>,
    /// Queued keys whose lane is full.
    parked: HashMap<Arc<str>, VecDeque<(Uuid, Instant)>>,
}

impl Queue {
    /// Starts `workers` workers that call `reconcile` with the keys pushed. One that has not ended by `deadline` is
    /// ended: whatever it hangs on, its worker is free again.
    pub fn start<F, Fut>(name: &'static str, workers: usize, deadline: Duration, reconcile: F) -> Self
    where
        F: Fn(Uuid) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Outcome>> + Send + 'static,
    {
        Self::in_lanes(name, workers, deadline, Lanes::default(), reconcile)
    }

    /// Starts workers of which the keys of a lane take no more than its share: `reconcile` says with [`Lanes::join`] which
    /// one a key is in.
    pub fn in_lanes<F, Fut>(
        name: &'static str,
        workers: usize,
        deadline: Duration,
        lanes: Lanes,
        reconcile: F,
    ) -> Self
    where
        F: Fn(Uuid) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Outcome>> + Send + 'static,
    {
        Self::of(name, workers, deadline, 1, lanes, move |keys| {
            let all: Vec<Fut> = keys.into_iter().map(&reconcile).collect();
            async move {
                let mut ended = Outcome::Done;
                for one in all {
                    ended = one.await?;
                }
                Ok(ended)
            }
        })
    }

    /// Starts workers that call `reconcile` with up to `batch` of the keys pushed.
    pub fn together<F, Fut>(
        name: &'static str,
        workers: usize,
        deadline: Duration,
        batch: usize,
        reconcile: F,
    ) -> Self
    where
        F: Fn(Vec<Uuid>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Outcome>> + Send + 'static,
    {
        Self::of(name, workers, deadline, batch, Lanes::default(), reconcile)
    }

    fn of<F, Fut>(
        name: &'static str,
        workers: usize,
        deadline: Duration,
        batch: usize,
        lanes: Lanes,
        reconcile: F,
    ) -> Self
    where
        F: Fn(Vec<Uuid>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Outcome>> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            name,
            deadline,
            batch,
            lanes,
            times: Times::default(),
            state: Mutex::default(),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            dropped: CancellationToken::new(),
            workers: TaskTracker::new(),
        });
        let reconcile = Arc::new(reconcile);
        for _ in 0..workers {
            let (held, reconcile) = (shared.clone(), reconcile.clone());
            shared
                .workers
                .spawn(async move { work(&held, &*reconcile).await });
        }
        shared.workers.close();
        Self { shared }
    }

    /// Nudges a key.
    pub fn push(&self, key: Uuid) {
        self.push_all([key]);
    }

    /// Nudges keys.
    pub fn push_all(&self, keys: impl IntoIterator<Item = Uuid>) {
        let mut state = self.shared.lock();
        for key in keys {
            state.push(key);
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Stops the workers: what runs may end within `grace`, and is dropped then. What waits is left to whoever comes
    /// after this hub.
    pub async fn stop(&self, grace: Duration) {
        let stopped = async {
            self.shared.stop.cancel();
            self.shared.workers.wait().await;
        };
        if timeout(grace, stopped).await.is_err() {
            warn!(
                task = self.shared.name,
                "what runs took too long to end; it is dropped"
            );
            self.shared.dropped.cancel();
            self.shared.workers.wait().await;
        }
    }

    /// Keys waiting or running now.
    pub fn depth(&self) -> usize {
        let state = self.shared.lock();
        let parked: usize = state.parked.values().map(VecDeque::len).sum();
        state.ready.len() + state.running.len() + parked
    }

    /// How long keys wait and take, for metrics.
    pub fn times(&self) -> &Times {
        &self.shared.times
    }

    /// The queue's name, for metrics.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next keys to run, or how long to wait for one that is due.
    fn take(&self) -> Result<Vec<Uuid>, Option<Instant>> {
        let mut state = self.lock();
        let now = Instant::now();
        while let Some((at, key)) = state.due.first().copied().filter(|(at, _)| *at <= now) {
            state.due.remove(&(at, key));
            state.due_of.remove(&key);
            state.push(key);
        }
        let mut keys = Vec::new();
        while keys.len() < self.batch
            && let Some((key, since)) = state.ready.front().copied()
        {
            let alone = state.alone.contains(&key);
            if alone && !keys.is_empty() {
                break;
            }
            state.ready.pop_front();
            if let Some(lane) = self.lanes.begin(key) {
                state.parked.entry(lane).or_default().push_back((key, since));
                continue;
            }
            self.times.waited.observe(since.elapsed().as_secs_f64());
            state.queued.remove(&key);
            state.running.insert(key);
            keys.push(key);
            if alone {
                break;
            }
        }
        if keys.is_empty() {
            return Err(state.due.first().map(|(at, _)| *at));
        }
        // One worker is woken for all keys that are pushed together, and each wakes the next one while there are more; or to
        // watch the time of those that are due later, as it has done itself.
        if !state.ready.is_empty() || !state.due.is_empty() {
            self.wake.notify_one();
        }
        Ok(keys)
    }

    fn finish(&self, keys: Vec<Uuid>, outcome: Result<Outcome, ()>) {
        let mut state = self.lock();
        for key in &keys {
            self.lanes.end(*key);
        }
        state.unpark(&self.lanes);
        if outcome.is_err() && keys.len() > 1 {
            for key in keys {
                state.running.remove(&key);
                state.again.remove(&key);
                state.alone.insert(key);
                state.push(key);
            }
        } else {
            for key in keys {
                state.finish(key, outcome);
            }
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn finish(&mut self, key: Uuid, outcome: Result<Outcome, ()>) {
        let state = self;
        state.running.remove(&key);
        if let Some(at) = state.due_of.remove(&key) {
            state.due.remove(&(at, key));
        }
        let again = state.again.remove(&key);
        match outcome {
            Ok(Outcome::Done) => {
                state.failures.remove(&key);
                state.alone.remove(&key);
            }
            Ok(Outcome::Rest(time)) => {
                state.failures.remove(&key);
                state.alone.remove(&key);
                state.rest(key, time);
            }
            Ok(Outcome::After(delay)) => {
                state.failures.remove(&key);
                state.alone.remove(&key);
                state.schedule(key, delay);
            }
            Ok(Outcome::RestAfter(time, delay)) => {
                state.failures.remove(&key);
                state.alone.remove(&key);
                state.rest(key, time);
                state.schedule(key, delay);
            }
            Ok(Outcome::Again) => state.schedule(key, Duration::from_micros(random() % AGAIN)),
            Err(()) => {
                let failures = state.failures.entry(key).or_insert(0);
                *failures = failures.saturating_add(1);
                // All that failed together must not come back together.
                let delay = Backoff::RECONCILE.delay(*failures, random()).max(FAILED);
                state.schedule(key, delay);
            }
        }
        if again {
            state.push(key);
        }
    }

    /// Brings back one key of each lane that has room: it is the next, since it has waited longest.
    fn unpark(&mut self, lanes: &Lanes) {
        let Self { parked, ready, .. } = self;
        parked.retain(|lane, keys| {
            if lanes.has_room(lane)
                && let Some(first) = keys.pop_front()
            {
                ready.push_front(first);
            }
            !keys.is_empty()
        });
    }

    fn push(&mut self, key: Uuid) {
        let now = Instant::now();
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if let Some(until) = self.resting.get(&key).copied().filter(|until| *until > now) {
            self.schedule_at(key, until);
        } else if self.queued.insert(key) {
            self.ready.push_back((key, now));
        }
    }

    fn schedule(&mut self, key: Uuid, delay: Duration) {
        self.schedule_at(key, Instant::now() + delay);
    }

    /// At `at`, unless it is due before.
    fn schedule_at(&mut self, key: Uuid, at: Instant) {
        match self.due_of.get(&key).copied() {
            Some(before) if before <= at => return,
            Some(later) => drop(self.due.remove(&(later, key))),
            None => {}
        }
        self.due.insert((at, key));
        self.due_of.insert(key, at);
    }

    fn rest(&mut self, key: Uuid, time: Duration) {
        let now = Instant::now();
        while let Some((until, over)) = self.rests.front().copied().filter(|(until, _)| *until <= now) {
            self.rests.pop_front();
            if self.resting.get(&over) == Some(&until) {
                self.resting.remove(&over);
            }
        }
        self.resting.insert(key, now + time);
        self.rests.push_back((now + time, key));
    }
}

async fn work<F, Fut>(shared: &Shared, reconcile: &F)
where
    F: Fn(Vec<Uuid>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<Outcome>> + Send + 'static,
{
    while !shared.stop.is_cancelled() {
        let woken = shared.wake.notified();
        match shared.take() {
            Ok(keys) => {
                let named = keys.first().copied().unwrap_or_default();
                let span = info_span!("reconcile", task = shared.name, key = %named, keys = keys.len());
                // In a task of its own: a panic is these keys' failure and not the worker's end.
                let mut task = tokio::spawn(reconcile(keys.clone()).instrument(span.clone()));
                let began = Instant::now();
                let ended = tokio::select! {
                    ended = timeout(shared.deadline, &mut task) => ended,
                    () = shared.dropped.cancelled() => {
                        task.abort();
                        return;
                    }
                };
                if ended.is_err() {
                    task.abort();
                }
                let _entered = span.enter();
                let outcome = judge(shared.name, named, ended);
                shared.times.end(began, &outcome);
                shared.finish(keys, outcome);
            }
            Err(Some(at)) => {
                tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                    () = shared.stop.cancelled() => {}
                }
            }
            Err(None) => tokio::select! {
                () = woken => {}
                () = shared.stop.cancelled() => {}
            },
        }
    }
}

fn judge(
    task: &str,
    key: Uuid,
    ended: Result<Result<anyhow::Result<Outcome>, JoinError>, Elapsed>,
) -> Result<Outcome, ()> {
    match ended {
        Ok(Ok(Ok(outcome))) => Ok(outcome),
        Ok(Ok(Err(error))) => match error.downcast_ref::<StoreError>() {
            Some(StoreError::Conflict(_)) => {
                debug!(task, key = %key, %error, "another writer was faster");
                Ok(Outcome::Again)
            }
            Some(StoreError::Superseded) => {
                debug!(task, key = %key, %error, "left to a newer hub");
                Ok(Outcome::After(SUPERSEDED))
            }
            _ => {
                warn!(task, key = %key, error = format!("{error:#}"), "reconciliation failed; it is tried again");
                Err(())
            }
        },
        Ok(Err(panic)) => {
            error!(task, key = %key, %panic, "reconciliation panicked; it is tried again");
            Err(())
        }
        Err(_) => {
            error!(task, key = %key, "reconciliation took too long; it is ended and tried again");
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(600);

    fn key(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[tokio::test]
    async fn a_nudge_while_a_key_runs_runs_it_once_more_and_never_twice_at_a_time() {
        let gate = Arc::new(Semaphore::new(0));
        let at_once = Arc::new(AtomicUsize::new(0));
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let (held, seen) = (gate.clone(), at_once.clone());
        let queue = Queue::start("test", 4, DEADLINE, move |_| {
            let (held, seen, ran_tx) = (held.clone(), seen.clone(), ran_tx.clone());
            async move {
                assert_eq!(seen.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                let _ = ran_tx.send(());
                held.acquire().await?.forget();
                seen.fetch_sub(1, Ordering::SeqCst);
                Ok(Outcome::Done)
            }
        });
        queue.push(key(1));
        ran_rx.recv().await.expect("first run");
        for _ in 0..5 {
            queue.push(key(1));
        }
        gate.add_permits(2);
        ran_rx.recv().await.expect("second run");
        while queue.depth() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(ran_rx.try_recv().is_err(), "five nudges made one more run");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_or_panicking_key_backs_off_and_others_go_on() {
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let queue = Queue::start("test", 1, DEADLINE, move |key| {
            let ran_tx = ran_tx.clone();
            async move {
                let _ = ran_tx.send((key.as_u128(), Instant::now()));
                match key.as_u128() {
                    1 => anyhow::bail!("always"),
                    2 => panic!("always"),
                    _ => Ok(Outcome::Done),
                }
            }
        });
        let start = Instant::now();
        queue.push_all([key(1), key(2), key(3)]);
        let mut runs = Vec::new();
        while runs.len() < 7 {
            runs.push(ran_rx.recv().await.expect("run"));
        }
        assert_eq!(runs[2], (3, start), "the good key waits for no bad one");
        let times: Vec<Duration> = runs
            .iter()
            .filter(|(key, _)| *key == 1)
            .map(|(_, at)| *at - start)
            .collect();
        for (failures, pair) in (1..).zip(times.windows(2)) {
            let waited = pair[1] - pair[0];
            assert!(
                waited >= FAILED && waited <= Backoff::RECONCILE.bound(failures) + Duration::from_millis(1),
                "{times:?}"
            );
        }
        assert!(times.len() >= 2, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_worked_at_together_and_those_that_fail_together_each_alone() {
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let queue = Queue::together("test", 1, DEADLINE, 3, move |keys: Vec<Uuid>| {
            let _ = ran_tx.send(keys.iter().map(Uuid::as_u128).collect::<Vec<_>>());
            async move {
                anyhow::ensure!(!keys.contains(&key(2)), "always");
                Ok(Outcome::Done)
            }
        });
        queue.push_all((1..=5).map(key));
        let mut runs = Vec::new();
        while runs.len() < 5 {
            runs.push(ran_rx.recv().await.expect("run"));
        }
        assert_eq!(runs, [vec![1, 2, 3], vec![4, 5], vec![1], vec![2], vec![3]]);
        // The bad one backs off; the good ones are worked at together again.
        queue.push_all([key(1), key(3)]);
        assert_eq!(ran_rx.recv().await.expect("run"), [1, 3]);
        assert_eq!(ran_rx.recv().await.expect("run"), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_due_again_after_its_delay_and_timers_do_not_multiply() {
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let queue = Queue::start("test", 1, DEADLINE, move |_| {
            let ran_tx = ran_tx.clone();
            async move {
                let _ = ran_tx.send(Instant::now());
                Ok(Outcome::After(Duration::from_secs(10)))
            }
        });
        for _ in 0..3 {
            queue.push(key(1));
            ran_rx.recv().await.expect("nudged");
        }
        let before = Instant::now();
        let due = ran_rx.recv().await.expect("due");
        assert_eq!((due - before).as_secs(), 10);
        assert!(ran_rx.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_rests_is_done_at_once_after_a_while_and_its_nudges_together() {
        const REST: Duration = Duration::from_millis(100);
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let queue = Queue::start("test", 1, DEADLINE, move |key: Uuid| {
            let ran_tx = ran_tx.clone();
            async move {
                let _ = ran_tx.send((key.as_u128(), Instant::now()));
                Ok(Outcome::Rest(REST))
            }
        });
        let start = Instant::now();
        queue.push(key(1));
        assert_eq!(
            ran_rx.recv().await,
            Some((1, start)),
            "the first waits for nothing"
        );
        for _ in 0..3 {
            tokio::time::sleep(REST / 10).await;
            queue.push_all([key(1), key(2)]);
        }
        assert_eq!(
            ran_rx.recv().await,
            Some((2, start + REST / 10)),
            "nor another key"
        );
        assert_eq!(ran_rx.recv().await, Some((1, start + REST)));
        assert_eq!(ran_rx.recv().await, Some((2, start + REST + REST / 10)));
        tokio::time::sleep(2 * REST).await;
        assert!(ran_rx.try_recv().is_err(), "three nudges were one run more");
        let later = Instant::now();
        queue.push(key(1));
        assert_eq!(ran_rx.recv().await, Some((1, later)));
        let state = queue.shared.lock();
        assert_eq!(
            state.rests.len(),
            state.resting.len(),
            "what is over is forgotten"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_stopped_begins_nothing_more_and_drops_what_does_not_end() {
        struct Ends(mpsc::UnboundedSender<&'static str>);
        impl Drop for Ends {
            fn drop(&mut self) {
                let _ = self.0.send("dropped");
            }
        }
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let queue = Queue::start("test", 1, DEADLINE, move |_| {
            let ran_tx = ran_tx.clone();
            async move {
                let _ends = Ends(ran_tx.clone());
                let _ = ran_tx.send("began");
                std::future::pending().await
            }
        });
        queue.push_all([key(1), key(2)]);
        assert_eq!(ran_rx.recv().await, Some("began"));
        let before = Instant::now();
        queue.stop(Duration::from_secs(5)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(5));
        assert_eq!(ran_rx.recv().await, Some("dropped"));
        queue.push(key(3));
        tokio::time::sleep(DEADLINE).await;
        assert!(ran_rx.try_recv().is_err(), "nothing more is begun");
    }

    /// As the sources of a server that takes connections and answers nothing.
    #[tokio::test(start_paused = true)]
    async fn keys_of_a_lane_that_hangs_hold_up_no_others_and_each_has_its_turn() {
        use crate::task::lanes::SHARE;
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let lanes = Lanes::default();
        let joined = lanes.clone();
        let queue = Queue::in_lanes("test", SHARE + 1, DEADLINE, lanes, move |key| {
            let (ran_tx, lanes) = (ran_tx.clone(), joined.clone());
            async move {
                let number = key.as_u128();
                if number < 100 && !lanes.join(key, "hangs") {
                    return Ok(Outcome::Again);
                }
                let _ = ran_tx.send(number);
                if number < 100 {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                Ok(Outcome::Done)
            }
        });
        let hanging = 3 * SHARE as u128;
        queue.push_all((0..hanging).map(key));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        let mut ran = BTreeSet::new();
        for number in 100..110 {
            queue.push(key(number));
            while !ran.contains(&number) {
                ran.insert(ran_rx.recv().await.expect("run"));
            }
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(ran.len(), SHARE + 10);
        while ran.len() < usize::try_from(hanging).expect("few") + 10 {
            ran.insert(ran_rx.recv().await.expect("run"));
        }
        assert!(
            start.elapsed() < Duration::from_secs(180),
            "{:?}",
            start.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconciliation_that_hangs_is_ended_and_frees_its_worker() {
        let (ran_tx, mut ran_rx) = mpsc::unbounded_channel();
        let queue = Queue::start("test", 1, DEADLINE, move |key| {
            let ran_tx = ran_tx.clone();
            async move {
                let _ = ran_tx.send(key.as_u128());
                if key.as_u128() == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(Outcome::Done)
            }
        });
        let start = Instant::now();
        queue.push_all([key(1), key(2)]);
        assert_eq!(ran_rx.recv().await, Some(1));
        assert_eq!(ran_rx.recv().await, Some(2));
        assert_eq!(start.elapsed(), DEADLINE);
        assert_eq!(ran_rx.recv().await, Some(1), "and it is tried again");
    }
}
