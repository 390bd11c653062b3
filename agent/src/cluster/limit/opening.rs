//! The opening of watches: few lists at once, be they the first ones, as of an agent that starts, or later ones, as of all
//! watches whose versions have expired in the same moment; and no watch that ends by a fault of ours.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use flotilla_core::backoff::Backoff;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::Limited;
use crate::{
    cluster::{ClusterError, Resource, Selector, WatchEvent},
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
    cluster: Limited,
    resource: Resource,
    selector: Selector,
    events: Option<Events>,
    /// Held while the list is made, at most until then.
    permit: Option<(OwnedSemaphorePermit, Instant)>,
    /// A list was announced, and nothing of it has come so far.
    is_announced: bool,
    /// Times in a row that the server has said that it has too much to do.
    overloads: u32,
    panics: u32,
}

/// Watches a kind; each of its lists is made when it is its turn.
pub(super) fn watch(
    cluster: Limited,
    resource: Resource,
    selector: Selector,
) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
    let opening = Opening {
        cluster,
        resource,
        selector,
        events: None,
        permit: None,
        is_announced: false,
        overloads: 0,
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
                    if let Some(event) = self.passed(event).await {
                        return Some(event);
                    }
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

    /// Takes in an event; `None`: it is nobody else's to know.
    async fn passed(
        &mut self,
        event: Result<WatchEvent, ClusterError>,
    ) -> Option<Result<WatchEvent, ClusterError>> {
        match &event {
            Ok(WatchEvent::Listing) => {
                // The list is not asked for before the next event is.
                self.permit = None;
                let permit = self.cluster.list().await;
                self.permit = permit.map(|permit| (permit, Instant::now() + LONGEST));
                // One that is tried again before anything of it has come is the same list.
                if std::mem::replace(&mut self.is_announced, true) {
                    return None;
                }
            }
            Ok(of) => {
                (self.is_announced, self.overloads) = (false, 0);
                if matches!(of, WatchEvent::Listed(_)) {
                    self.permit = None;
                }
            }
            Err(error) => {
                self.permit = None;
                if let ClusterError::Overloaded { retry_after } = error {
                    self.cluster.gate().overloaded(*retry_after, Instant::now());
                    self.overloads = self.overloads.saturating_add(1);
                    if self.overloads == 1 {
                        return None;
                    }
                }
            }
        }
        Some(event)
    }

    async fn open(&mut self) {
        tokio::time::sleep(FAULTY.delay(self.panics, random())).await;
        let events = self.cluster.inner.watch(&self.resource, &self.selector);
        self.events = Some(AssertUnwindSafe(events).catch_unwind().boxed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flotilla_core::object::ObjectKey;
    use tokio::task::JoinSet;

    use super::*;
    use crate::cluster::{Cluster, fake::Fake};

    fn config_maps() -> Resource {
        Resource {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
            namespaced: true,
            watchable: true,
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
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(Arc::new(slow_lists())));
        let begun = Instant::now();
        let mut watches = JoinSet::new();
        for _ in 0..33 {
            watches.spawn(listed(cluster.clone()));
        }
        watches.join_all().await;
        assert_eq!(begun.elapsed().as_secs(), 50, "five rounds of ten seconds");
    }

    /// Ten seconds a list.
    fn slow_lists() -> Fake {
        let fake = Fake::new();
        fake.set_latency(Some(Box::new(|verb, _: &ObjectKey| {
            Duration::from_secs(if verb == "watch" { 10 } else { 0 })
        })));
        fake
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_eight_of_forty_watches_whose_versions_expire_list_again_at_once() {
        let fake = slow_lists();
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(Arc::new(fake.clone())));
        let mut watches = JoinSet::new();
        let all = Arc::new(tokio::sync::Barrier::new(41));
        for _ in 0..40 {
            let (cluster, all) = (cluster.clone(), all.clone());
            watches.spawn(async move {
                let mut events = cluster.watch(&config_maps(), &Selector::default());
                while !matches!(events.next().await, Some(Ok(WatchEvent::Listed(_)))) {}
                all.wait().await;
                while !matches!(events.next().await, Some(Ok(WatchEvent::Listed(_)))) {}
            });
        }
        all.wait().await;
        let begun = Instant::now();
        fake.break_watches();
        watches.join_all().await;
        assert_eq!(begun.elapsed().as_secs(), 50, "five rounds of ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn no_watch_lists_while_the_server_has_asked_to_be_left_alone() {
        let fake = Fake::new();
        let refused = std::sync::atomic::AtomicBool::new(false);
        fake.set_fault(Some(Box::new(move |verb, _| {
            let is_first = verb == "watch" && !refused.swap(true, std::sync::atomic::Ordering::Relaxed);
            let retry_after = Some(Duration::from_secs(50));
            is_first.then_some(ClusterError::Overloaded { retry_after })
        })));
        let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(Arc::new(fake)));
        let first = tokio::spawn(listed(cluster.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        listed(cluster).await;
        assert!(
            begun.elapsed() >= Duration::from_secs(48),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(
            first.await.expect("no panic"),
            [""; 0],
            "a first refusal is told nobody"
        );
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
