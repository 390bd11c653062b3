//! How much is asked of the API server at once, and how often again. Concurrency rises by one for each round of
//! answers and halves when the server says it has too much to do, or is slow about many kinds; `Retry-After` holds
//! everything back. One agent never makes a busy server busier. What is slow about one kind holds back that kind.

mod gate;
mod lane;
mod opening;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use flotilla_core::backoff::Backoff;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::random::random;

use self::{gate::Gate, lane::Lane};
use super::{
    Account, Cluster, ClusterError, Deleted, Discovery, Page, Preconditions, Propagation, Resource, Selector,
    WatchEvent,
};

/// An answer slower than this holds back its kind.
const SLOW: Duration = Duration::from_secs(3);
/// When the last answers about as many kinds were slow, it is the server that is.
const MANY: usize = 4;
/// How long a slow answer counts for that: as long as a webhook may take.
const LATELY: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;
/// After as many calls in a row without an answer none is tried again at once: it is not the single connection.
const SILENT: u32 = 8;
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(750),
    cap: Duration::from_secs(5),
};

/// The calls that share a lane: of a kind, those that webhooks see or those that they do not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Calls {
    group: String,
    kind: String,
    writes: bool,
}

impl Calls {
    /// Calls about no kind.
    fn other() -> Self {
        Self {
            group: String::new(),
            kind: String::new(),
            writes: false,
        }
    }

    fn reads(resource: &Resource) -> Self {
        Self {
            group: resource.group.clone(),
            kind: resource.kind.clone(),
            writes: false,
        }
    }

    fn writes(resource: &Resource) -> Self {
        Self {
            writes: true,
            ..Self::reads(resource)
        }
    }
}

/// A cluster asked with care.
#[derive(Clone)]
pub struct Limited {
    inner: Arc<dyn Cluster>,
    gate: Arc<Mutex<Gate>>,
    lanes: Arc<Mutex<BTreeMap<Calls, Arc<Lane>>>>,
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
            lanes: Arc::default(),
            freed: Arc::new(Notify::new()),
            lists: Arc::new(Semaphore::new(opening::LISTS)),
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many as kinds are asked about.
    fn lane(&self, calls: Calls) -> Arc<Lane> {
        self.lanes().entry(calls).or_default().clone()
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Calls, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what an answer tells of the server and of the kind that it is about.
    fn learn<T>(&self, lane: &Lane, result: &Result<T, ClusterError>, took: Duration, now: Instant) {
        match result {
            // The server says so itself.
            Err(ClusterError::Overloaded { retry_after }) => {
                return self.gate().overloaded(*retry_after, now);
            }
            Err(ClusterError::Unavailable(_)) => {
                let mut gate = self.gate();
                gate.silence();
                if took <= SLOW {
                    // Nothing takes calls there: no webhook answers as fast.
                    gate.overloaded(None, now);
                    return;
                }
            }
            _ => self.gate().answered(took),
        }
        if took <= SLOW {
            return lane.fast();
        }
        lane.slow(now);
        let mut slow: Vec<(String, String)> = self
            .lanes()
            .iter()
            .filter(|(_, lane)| lane.is_slow(now, LATELY))
            .map(|(calls, _)| (calls.group.clone(), calls.kind.clone()))
            .collect();
        slow.dedup();
        if slow.len() >= MANY {
            self.gate().overloaded(None, now);
        }
    }

    /// Waits for as long as the server has asked to be left alone.
    async fn unheld(&self) {
        loop {
            let held = self.gate().held_until.filter(|until| *until > Instant::now());
            match held {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Waits until a watch may list.
    async fn list(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        let permit = self.lists.clone().acquire_owned().await.ok();
        self.unheld().await;
        permit
    }

    async fn permit(&self) -> Permit<'_> {
        loop {
            self.unheld().await;
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

    async fn ask<T, F>(&self, calls: Calls, call: impl Fn() -> F) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ClusterError>>,
    {
        let lane = self.lane(calls);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (result, took) = {
                // Who waits for the server does not wait behind a kind that is slow.
                let _place = lane.enter(|| self.gate().share()).await;
                let _permit = self.permit().await;
                let begun = Instant::now();
                let result = call().await;
                let now = Instant::now();
                let took = now.duration_since(begun);
                self.learn(&lane, &result, took, now);
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
        self.ask(Calls::other(), || self.inner.version()).await
    }

    async fn discover(&self) -> Result<Discovery, ClusterError> {
        self.ask(Calls::other(), || self.inner.discover()).await
    }

    async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError> {
        self.ask(Calls::reads(resource), || {
            self.inner.get(resource, namespace, name)
        })
        .await
    }

    async fn list_selected(
        &self,
        resource: &Resource,
        selector: &Selector,
        token: &str,
    ) -> Result<Page, ClusterError> {
        self.ask(Calls::reads(resource), || {
            self.inner.list_selected(resource, selector, token)
        })
        .await
    }

    /// A creation of unknown outcome that is tried again finds its own object, and is a conflict: as with any
    /// write of unknown outcome, look before judging.
    async fn create(&self, resource: &Resource, object: &Value) -> Result<Value, ClusterError> {
        self.ask(Calls::writes(resource), || self.inner.create(resource, object))
            .await
    }

    async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        propagation: Propagation,
    ) -> Result<Deleted, ClusterError> {
        self.ask(Calls::writes(resource), || {
            self.inner
                .delete(resource, namespace, name, preconditions, propagation)
        })
        .await
    }

    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        self.ask(Calls::writes(resource), || {
            self.inner.apply(resource, object, dry_run)
        })
        .await
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ClusterError> {
        self.ask(Calls::writes(resource), || {
            self.inner.patch_metadata(resource, namespace, name, patch)
        })
        .await
    }

    fn watch(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
        opening::watch(self.clone(), resource.clone(), selector.clone())
    }
}

#[cfg(test)]
mod tests;
