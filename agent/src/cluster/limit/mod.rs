//! How much is asked of the API server at once, and how often again. Concurrency rises by one for each round of
//! answers and halves when the server says it has too much to do or gets slow; `Retry-After` holds everything
//! back. One agent never makes a busy server busier.

mod opening;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use flotilla_core::backoff::Backoff;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use crate::random::random;

use super::{
    Account, Cluster, ClusterError, Deleted, Discovery, Page, Preconditions, Propagation, Resource, Selector,
    WatchEvent,
};

const FIRST: f64 = 8.0;
const MOST: f64 = 32.0;
/// An answer slower than this counts as a sign of load.
const SLOW: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 4;
/// After as many calls in a row without an answer none is tried again at once: it is not the single connection.
const SILENT: u32 = 8;
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(750),
    cap: Duration::from_secs(5),
};
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Gate {
    limit: f64,
    in_flight: usize,
    /// Halved at most once for each round, so that one burst of refusals is one sign.
    halved: Option<Instant>,
    held_until: Option<Instant>,
    /// Calls without an answer since the last that had one.
    unanswered: u32,
}

impl Gate {
    fn new() -> Self {
        Self {
            limit: FIRST,
            in_flight: 0,
            halved: None,
            held_until: None,
            unanswered: 0,
        }
    }

    fn silence(&mut self, now: Instant) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.overloaded(None, now);
    }

    fn success(&mut self, took: Duration, now: Instant) {
        self.unanswered = 0;
        if took > SLOW {
            self.overloaded(None, now);
        } else {
            self.limit = (self.limit + 1.0 / self.limit).min(MOST);
        }
    }

    fn overloaded(&mut self, retry_after: Option<Duration>, now: Instant) {
        if self
            .halved
            .is_none_or(|at| now.duration_since(at) > Duration::from_secs(1))
        {
            self.limit = (self.limit / 2.0).max(1.0);
            self.halved = Some(now);
        }
        if let Some(wait) = retry_after {
            let until = now + wait.min(RETRY_AFTER_MAX);
            self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 32 by construction"
    )]
    fn open(&self) -> bool {
        self.in_flight < self.limit as usize
    }
}

/// A cluster asked with care.
#[derive(Clone)]
pub struct Limited {
    inner: Arc<dyn Cluster>,
    gate: Arc<Mutex<Gate>>,
    freed: Arc<Notify>,
    /// Watches that may be listing.
    lists: Arc<Semaphore>,
}

struct Permit<'a>(&'a Limited);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.gate().in_flight -= 1;
        self.0.freed.notify_one();
    }
}

impl Limited {
    /// Wraps a cluster.
    pub fn new(inner: Arc<dyn Cluster>) -> Self {
        Self {
            inner,
            gate: Arc::new(Mutex::new(Gate::new())),
            freed: Arc::new(Notify::new()),
            lists: Arc::new(Semaphore::new(opening::LISTS)),
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn permit(&self) -> Permit<'_> {
        loop {
            let held = self.gate().held_until.filter(|until| *until > Instant::now());
            if let Some(until) = held {
                tokio::time::sleep_until(until).await;
                continue;
            }
            {
                let mut gate = self.gate();
                if gate.open() {
                    gate.in_flight += 1;
                    if gate.open() {
                        // A permit freed while nobody waited is passed on.
                        self.freed.notify_one();
                    }
                    return Permit(self);
                }
            }
            self.freed.notified().await;
        }
    }

    async fn ask<T, F>(&self, call: impl Fn() -> F) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ClusterError>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (result, took) = {
                let _permit = self.permit().await;
                let begun = Instant::now();
                let result = call().await;
                let now = Instant::now();
                let took = now.duration_since(begun);
                match &result {
                    Err(ClusterError::Overloaded { retry_after }) => {
                        self.gate().overloaded(*retry_after, now);
                    }
                    Err(ClusterError::Unavailable(_)) => self.gate().silence(now),
                    _ => self.gate().success(took, now),
                }
                (result, took)
            };
            match result {
                Err(ClusterError::Overloaded { .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(RETRY.delay(attempt, random())).await;
                }
                // A broken connection is tried again. One that was silent for long may have done what was asked:
                // the caller looks before it asks again.
                Err(ClusterError::Unavailable(_))
                    if attempt < ATTEMPTS && took < SLOW && self.gate().unanswered < SILENT =>
                {
                    tokio::time::sleep(RETRY.delay(attempt, random())).await;
                }
                other => return other,
            }
        }
    }
}

#[async_trait]
impl Cluster for Limited {
    /// All accounts share the limits: it is one agent that asks.
    fn acting_as(&self, account: &Account) -> Arc<dyn Cluster> {
        Arc::new(Self {
            inner: self.inner.acting_as(account),
            ..self.clone()
        })
    }

    /// Asked when others wait for an answer that does not come, so it waits for none of them.
    async fn uid(&self) -> Result<String, ClusterError> {
        self.inner.uid().await
    }

    async fn version(&self) -> Result<String, ClusterError> {
        self.ask(|| self.inner.version()).await
    }

    async fn discover(&self) -> Result<Discovery, ClusterError> {
        self.ask(|| self.inner.discover()).await
    }

    async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError> {
        self.ask(|| self.inner.get(resource, namespace, name)).await
    }

    async fn list_selected(
        &self,
        resource: &Resource,
        selector: &Selector,
        token: &str,
    ) -> Result<Page, ClusterError> {
        self.ask(|| self.inner.list_selected(resource, selector, token))
            .await
    }

    /// A creation of unknown outcome that is tried again finds its own object, and is a conflict: as with any
    /// write of unknown outcome, look before judging.
    async fn create(&self, resource: &Resource, object: &Value) -> Result<Value, ClusterError> {
        self.ask(|| self.inner.create(resource, object)).await
    }

    async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        propagation: Propagation,
    ) -> Result<Deleted, ClusterError> {
        self.ask(|| {
            self.inner
                .delete(resource, namespace, name, preconditions, propagation)
        })
        .await
    }

    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        self.ask(|| self.inner.apply(resource, object, dry_run)).await
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ClusterError> {
        self.ask(|| self.inner.patch_metadata(resource, namespace, name, patch))
            .await
    }

    fn watch(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
        opening::watch(
            self.inner.clone(),
            resource.clone(),
            selector.clone(),
            self.lists.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_rises_with_answers_and_halves_once_a_round() {
        let (mut gate, now) = (Gate::new(), Instant::now());
        for _ in 0..8 {
            gate.success(Duration::from_millis(5), now);
        }
        assert!(gate.limit > 8.9, "{}", gate.limit);
        for _ in 0..20 {
            gate.overloaded(None, now);
        }
        assert!(gate.limit > 4.0 && gate.limit < 5.0, "{}", gate.limit);
        for n in 2..20 {
            gate.overloaded(None, now + Duration::from_secs(n * 2));
        }
        assert!((gate.limit - 1.0).abs() < f64::EPSILON);
        assert!(gate.open());
    }

    #[test]
    fn a_slow_answer_is_a_sign_of_load() {
        let mut gate = Gate::new();
        gate.success(Duration::from_secs(4), Instant::now());
        assert!(gate.limit < FIRST);
    }
}
