//! The opening of watches: few lists at once, since an agent that starts opens all of its watches in the same
//! moment, and no watch that ends by a fault of ours.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use flotilla_core::backoff::Backoff;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    cluster::{Cluster, ClusterError, Resource, Selector, WatchEvent},
    random::random,
};

/// Lists of watches at once.
pub(super) const LISTS: usize = 8;
/// A list that takes longer holds up the others no more.
const LONGEST: Duration = Duration::from_secs(60);
const FAULTY: Backoff = Backoff {
    base: Duration::from_secs(5),
    cap: Duration::from_secs(300),
};

type Events = BoxStream<'static, Result<Result<WatchEvent, ClusterError>, Box<dyn Any + Send>>>;

struct Opening {
    cluster: Arc<dyn Cluster>,
    resource: Resource,
    selector: Selector,
    lists: Arc<Semaphore>,
    events: Option<Events>,
    /// Held while the list is made, at most until then.
    permit: Option<(OwnedSemaphorePermit, Instant)>,
    panics: u32,
}

/// Watches a kind when it is its turn.
pub(super) fn watch(
    cluster: Arc<dyn Cluster>,
    resource: Resource,
    selector: Selector,
    lists: Arc<Semaphore>,
) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
    let opening = Opening {
        cluster,
        resource,
        selector,
        lists,
        events: None,
        permit: None,
        panics: 0,
    };
    stream::unfold(opening, |mut opening| async move {
        let event = opening.next().await?;
        Some((event, opening))
    })
    .boxed()
}

impl Opening {
    async fn next(&mut self) -> Option<Result<WatchEvent, ClusterError>> {
        loop {
            if self.events.is_none() {
                self.open().await;
            }
            let event = match (&mut self.events, &self.permit) {
                (None, _) => return None,
                (Some(events), None) => events.next().await,
                (Some(events), Some((_, until))) => {
                    match tokio::time::timeout_at(*until, events.next()).await {
                        Ok(event) => event,
                        Err(_) => {
                            self.permit = None;
                            continue;
                        }
                    }
                }
            };
            match event {
                None => return None,
                Some(Ok(event)) => {
                    if matches!(event, Ok(WatchEvent::Listed(_)) | Err(_)) {
                        self.permit = None;
                    }
                    return Some(event);
                }
                // The panic itself has been reported, with its place. What it was about may be one object: the
                // others are to be watched.
                Some(Err(_)) => {
                    (self.events, self.permit) = (None, None);
                    self.panics = self.panics.saturating_add(1);
                    return Some(Err(ClusterError::Unavailable(
                        "the watch failed and is opened again".to_owned(),
                    )));
                }
            }
        }
    }

    async fn open(&mut self) {
        tokio::time::sleep(FAULTY.delay(self.panics, random())).await;
        // The semaphore is never closed.
        let permit = self.lists.clone().acquire_owned().await.ok();
        self.permit = permit.map(|permit| (permit, Instant::now() + LONGEST));
        let events = self.cluster.watch(&self.resource, &self.selector);
        self.events = Some(AssertUnwindSafe(events).catch_unwind().boxed());
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::object::ObjectKey;
    use tokio::task::JoinSet;

    use super::*;
    use crate::cluster::{fake::Fake, limit::Limited};

    fn config_maps() -> Resource {
        Resource {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
            namespaced: true,
        }
    }

    async fn listed(cluster: Arc<dyn Cluster>) -> Vec<String> {
        let mut events = cluster.watch(&config_maps(), &Selector::default());
        let mut told = Vec::new();
        loop {
            match events.next().await.expect("a watch does not end") {
                Ok(WatchEvent::Listed(_)) => return told,
                Ok(_) => {}
                Err(e) => told.push(e.to_string()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_eight_watches_list_at_once() {
        let fake = Fake::new();
        fake.set_latency(Some(Box::new(|verb, _: &ObjectKey| {
            Duration::from_secs(if verb == "watch" { 10 } else { 0 })
        })));
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(Arc::new(fake)));
        let begun = Instant::now();
        let mut watches = JoinSet::new();
        for _ in 0..33 {
            watches.spawn(listed(cluster.clone()));
        }
        watches.join_all().await;
        assert_eq!(begun.elapsed().as_secs(), 50, "five rounds of ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_never_end_hold_up_the_others_for_a_minute() {
        let fake = Fake::new();
        let stuck = std::sync::atomic::AtomicUsize::new(0);
        fake.set_latency(Some(Box::new(move |_, _: &ObjectKey| {
            let earlier = stuck.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Duration::from_secs(if earlier < LISTS { 1_000_000 } else { 0 })
        })));
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(Arc::new(fake)));
        let mut stuck = JoinSet::new();
        for _ in 0..LISTS {
            stuck.spawn(listed(cluster.clone()));
        }
        tokio::task::yield_now().await;
        let begun = Instant::now();
        listed(cluster).await;
        let waited = begun.elapsed().as_secs();
        assert!((30..=60).contains(&waited), "{waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_panics_is_told_and_opened_again() {
        let fake = Fake::new();
        let panicked = std::sync::atomic::AtomicBool::new(false);
        fake.set_fault(Some(Box::new(move |verb, _| {
            let first = !panicked.swap(true, std::sync::atomic::Ordering::Relaxed);
            assert!(verb != "watch" || !first, "expected by this test");
            None
        })));
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(Arc::new(fake)));
        let told = listed(cluster).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("opened again"), "{told:?}");
    }
}
