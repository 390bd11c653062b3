//! Wires the queues: reads the outbox, folds wake-ups into keys, and once a minute asks for what is marked and was not
//! done, so that a lost wake-up costs a minute and no correctness. Where nothing is marked, nothing is looked at.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{
    Context, app, clearing, departure, is_passing, judge, lanes::SHARE, planner::Planner, poll, publish,
    queue::Queue, receivers::Registered, retention, rollouts, wakeup::Wakeups, watchers::Watchers,
};
use crate::{
    grpc::streams::Streams,
    index::Index,
    store::{
        Store, Topic,
        listener::Listener,
        outbox::{Nudge, Reader},
        publish::CLUSTERS,
    },
};

/// The pass behind lost wake-ups.
const PASS: Duration = Duration::from_secs(60);
/// A wake-up that has not been acted on for so long is lost.
const LOST: Duration = Duration::from_secs(10);
/// What no mark tells is looked at whole this often: reports that were missed, receivers.
const WHOLE: Duration = Duration::from_secs(3600);
const HEARTBEAT_FLUSH: Duration = Duration::from_secs(30);
/// Bound of one reconciliation, above those of its parts: a rendering.
const DEADLINE: Duration = Duration::from_secs(600);
/// Looks at sources wait for servers, and those of one server have their share of them.
const SOURCE_WORKERS: usize = 8 * SHARE;
/// A source's own timeout may be long.
const SOURCE_DEADLINE: Duration = Duration::from_secs(3600);
/// Before what failed is done again.
const RETRY: Duration = Duration::from_secs(1);
/// What runs when the hub is told to stop may take so long to end.
const GRACE: Duration = Duration::from_secs(5);
/// Transactions that publish at once.
const PUBLISHERS: usize = 2;
/// Apps that are planned at the same time for each worker: they wait for the store most of the time, which they ask
/// together.
const APPS: usize = 32;
/// Apps whose removals are decided about together.
const LEAVING: usize = 500;

/// The running reconcilers.
pub struct Driver {
    context: Context,
    index: Arc<Index>,
    streams: Arc<Streams>,
    topics: tokio::sync::broadcast::Sender<Topic>,
    watchers: Watchers,
    receivers: Registered,
    sources: Queue,
    apps: Queue,
    clusters: Queue,
    leaving: Queue,
    departing: Queue,
    /// That rollouts are looked at whole.
    missed: Notify,
    /// No other hub was known when wake-ups were acted on last.
    was_alone: AtomicBool,
}

impl Driver {
    /// Starts the queues' workers.
    pub fn start(
        context: Context,
        index: Arc<Index>,
        streams: Arc<Streams>,
        topics: tokio::sync::broadcast::Sender<Topic>,
        watchers: Watchers,
        receivers: Registered,
        workers: usize,
    ) -> Self {
        let source_context = context.clone();
        let app_context = Context {
            store: context.store.for_planning(),
            ..context.clone()
        };
        let planner = Planner::start(&app_context);
        let cluster_context = Context {
            store: context.store.for_writing(),
            ..context.clone()
        };
        let lanes = context.sources.lanes.clone();
        let sources = Queue::in_lanes("source", SOURCE_WORKERS, SOURCE_DEADLINE, lanes, move |key| {
            let context = source_context.clone();
            async move { poll::reconcile(&context, key).await }
        });
        let apps = Queue::start("app", workers * APPS, DEADLINE, move |key| {
            let (context, planner) = (app_context.clone(), planner.clone());
            async move { app::reconcile(&context, &planner, key).await }
        });
        let published = index.clone();
        let clusters = Queue::together("cluster", PUBLISHERS, DEADLINE, CLUSTERS, move |keys| {
            let (context, index) = (cluster_context.clone(), published.clone());
            async move { publish::reconcile(&context, &index, &keys).await }
        });
        let clearing_context = Context {
            store: context.store.for_writing(),
            ..context.clone()
        };
        let leaving = Queue::together("leaving", 1, DEADLINE, LEAVING, move |apps| {
            let context = clearing_context.clone();
            async move { clearing::reconcile(&context, &apps).await }
        });
        let departure_context = Context {
            store: context.store.for_writing(),
            ..context.clone()
        };
        let departing = Queue::start("departure", 1, DEADLINE, move |key| {
            let context = departure_context.clone();
            async move { departure::reconcile(&context, key).await }
        });
        Self {
            context,
            index,
            streams,
            topics,
            watchers,
            receivers,
            sources,
            apps,
            clusters,
            leaving,
            departing,
            missed: Notify::new(),
            was_alone: AtomicBool::new(false),
        }
    }

    /// The queues, for metrics.
    pub fn queues(&self) -> [Queue; 5] {
        let Self {
            sources,
            apps,
            clusters,
            leaving,
            departing,
            ..
        } = self;
        [sources, apps, clusters, leaving, departing].map(Queue::clone)
    }

    /// The queue of clusters whose states are to be published.
    pub fn publishing(&self) -> Queue {
        self.clusters.clone()
    }

    /// Reads the outbox until told to stop.
    pub async fn run(self, listener: Listener, stop: CancellationToken) {
        let this = Arc::new(self);
        let beats = this.clone();
        let heartbeats = tokio::spawn(async move { beats.heartbeats().await });
        let context = this.context.clone();
        // Beside: it waits for artifacts and repositories, and wake-ups do not.
        let retention = tokio::spawn(async move { retention::from_time_to_time(&context, WHOLE).await });
        let behind = this.clone();
        let missed = tokio::spawn(async move { rollouts::when_asked(&behind.context, &behind.missed).await });
        tokio::select! {
            () = stop.cancelled() => {}
            () = this.follow(listener) => {}
        }
        let [sources, apps, clusters, leaving, departing] = this.queues();
        tokio::join!(
            sources.stop(GRACE),
            apps.stop(GRACE),
            clusters.stop(GRACE),
            leaving.stop(GRACE),
            departing.stop(GRACE)
        );
        heartbeats.abort();
        retention.abort();
        missed.abort();
    }

    /// Acts on wake-ups as they come. What fails for a while is acted on again; nothing else waits for it.
    async fn follow(&self, listener: Listener) {
        let mut outbox = Outbox::open(&self.context.store, listener).await;
        self.whole().await;
        // What was marked just before this hub began to listen wakes it no more.
        let mut due = self.pass(&mut outbox, Duration::ZERO).await;
        let (mut passed, mut seen_whole) = (Instant::now(), Instant::now());
        loop {
            let wait = match due.is_empty() {
                true => PASS.saturating_sub(passed.elapsed()),
                false => RETRY,
            };
            match outbox.read(&self.context.store, wait).await {
                Ok(nudges) => {
                    self.judge_streams(&nudges).await;
                    self.watchers.wake(nudges.iter().map(|nudge| nudge.key));
                    let topics: HashSet<Topic> = nudges.iter().map(|nudge| nudge.topic).collect();
                    for topic in topics {
                        // No receiver is no error: nobody watches.
                        let _ = self.topics.send(topic);
                    }
                    due.add(&nudges);
                }
                Err(error) => {
                    warn!(%error, "reading the outbox failed; it is read again from where it was");
                    tokio::time::sleep(RETRY).await;
                }
            }
            due = self.act(due).await;
            if passed.elapsed() >= PASS {
                // Wake-ups are kept for a few minutes only: a hub that stood still has missed some.
                if seen_whole.elapsed() >= WHOLE || passed.elapsed() >= 3 * PASS {
                    self.whole().await;
                    seen_whole = Instant::now();
                }
                passed = Instant::now();
                due.append(self.pass(&mut outbox, LOST).await);
            }
        }
    }

    /// Closes streams whose agent has lost its right, or whose cluster another hub holds, as soon as that is told.
    async fn judge_streams(&self, nudges: &[Nudge]) {
        let told = nudges
            .iter()
            .filter(|nudge| matches!(nudge.topic, Topic::Identity | Topic::Takeover));
        let streams = self.streams.of(&told.map(|nudge| nudge.key).collect());
        if streams.is_empty() {
            return;
        }
        match self.context.store.held(&streams).await {
            Ok(held) => self.streams.close_unless(&streams, &held),
            Err(error) => warn!(%error, "judging streams failed; they are judged in the next round"),
        }
    }

    /// Acts on each wake-up by itself. Returns those to act on again.
    async fn act(&self, mut due: Wakeups) -> Wakeups {
        let mut again = Wakeups::default();
        let resources = due.take(Topic::Resource);
        if !resources.is_empty() {
            match self.context.store.kinds_of(&resources).await {
                Ok(kinds) => kinds.iter().for_each(|(uid, kind)| due.resource(*uid, kind)),
                Err(error) => failed(&mut again, Topic::Resource, resources, &error.into()),
            }
        }
        self.sources.push_all(std::mem::take(&mut due.sources));
        self.apps.push_all(due.take(Topic::App));
        self.clusters.push_all(due.take(Topic::Cluster));
        self.leaving.push_all(due.take(Topic::Leaving));
        self.departing.push_all(due.take(Topic::Departure));
        let clusters = due.take(Topic::Identity);
        if !clusters.is_empty() {
            self.judge_clusters(clusters, &mut again).await;
        }
        let is_alone = self.context.store.is_alone();
        // What another hub had published before it was heard of may have passed for this one's.
        if self.was_alone.swap(is_alone, Ordering::Relaxed)
            && !is_alone
            && let Err(error) = self.index.poll().await
        {
            warn!(%error, "reading desired states failed; they are read again");
            self.was_alone.store(true, Ordering::Relaxed);
        }
        let published = self.index.unread(due.take(Topic::Desired), is_alone);
        if !published.is_empty()
            && let Err(error) = self.index.refresh(&published).await
        {
            failed(&mut again, Topic::Desired, published, &error.into());
        }
        if due.receivers
            && let Err(error) = self.receivers.refresh().await
        {
            warn!(
                error = format!("{error:#}"),
                "reading the receivers failed; they are read again"
            );
            again.receivers = true;
        }
        again
    }

    /// Asks for what is to be done and was not for so long. Returns what is to be looked at again.
    async fn pass(&self, outbox: &mut Outbox, lost: Duration) -> Wakeups {
        let mut again = Wakeups::default();
        let Outbox { listener, reader, .. } = outbox;
        // Held still by the connection that was given up, for as long as the server asks for that.
        if !listener.has_name()
            && let Err(error) = listener.take_name().await
        {
            warn!(%error, "taking this hub's name failed; it is tried again");
        }
        let stale = self
            .context
            .store
            .stale(listener, reader, self.context.incarnation, lost)
            .await;
        match stale {
            Ok(stale) => {
                self.sources.push_all(stale.sources);
                self.apps.push_all(stale.apps);
                self.clusters.push_all(stale.unpublished);
                self.leaving.push_all(stale.leaving);
                self.departing.push_all(stale.departing);
                outbox.is_unread = stale.is_unread;
                if stale.clusters {
                    self.judge_clusters(vec![Uuid::nil()], &mut again).await;
                }
            }
            Err(error) => warn!(%error, "asking for what is to be done failed; it is asked again"),
        }
        again
    }

    /// Judges the clusters that have changed. What another hub is at is looked at again until it is done: that may have
    /// ended.
    async fn judge_clusters(&self, woken: Vec<Uuid>, again: &mut Wakeups) {
        match judge::reconcile(&self.context).await {
            Ok(true) => again.keep(Topic::Identity, woken),
            Ok(false) => {}
            Err(error) => failed(again, Topic::Identity, woken, &error),
        }
    }

    /// Looks at what no mark tells: at the start, and behind all else.
    async fn whole(&self) {
        // Each state that is published tells of itself: only who was not there has missed any.
        if let Err(error) = self.index.poll().await {
            warn!(%error, "reading desired states failed; they are read again");
        }
        if let Err(error) = self.receivers.refresh().await {
            warn!(
                error = format!("{error:#}"),
                "reading the receivers failed; they are read again"
            );
        }
        match self.context.store.source_uids().await {
            // Each is to know when it is due.
            Ok(sources) => self.sources.push_all(sources),
            Err(error) => warn!(%error, "listing sources failed; they are listed again"),
        }
        self.missed.notify_one();
    }

    async fn heartbeats(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT_FLUSH).await;
            let seen: Vec<(Uuid, u64, OffsetDateTime)> = self.streams.last_seen();
            let kept_in = self.context.sources.artifacts.id().to_string();
            let beat = self.context.store.beat(&self.context.replica, &kept_in);
            if let Err(error) = beat.await {
                warn!(%error, "writing that this hub lives failed; it is written in the next round");
            }
            if seen.is_empty() {
                continue;
            }
            match self.context.store.flush_last_seen(&seen).await {
                Ok(lost) => self.streams.close(lost),
                Err(error) => {
                    warn!(%error, "writing when clusters were last seen failed; it is written in the next round");
                }
            }
        }
    }
}

/// Keeps wake-ups that failed for a while. What fails for good is named here, and found by the pass.
fn failed(again: &mut Wakeups, topic: Topic, keys: Vec<Uuid>, error: &anyhow::Error) {
    warn!(
        topic = topic.as_str(),
        keys = keys.len(),
        error = format!("{error:#}"),
        "acting on wake-ups failed"
    );
    if is_passing(error) {
        again.keep(topic, keys);
    }
}

/// The reader of the outbox. An error loses neither its place nor a wake-up.
struct Outbox {
    listener: Listener,
    reader: Reader,
    /// There are wake-ups that nobody was told of.
    is_unread: bool,
}

impl Outbox {
    async fn open(store: &Store, listener: Listener) -> Self {
        loop {
            match store.outbox_end().await {
                Ok(reader) => {
                    return Self {
                        listener,
                        reader,
                        is_unread: false,
                    };
                }
                Err(error) => warn!(%error, "the outbox cannot be read yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Waits for a notification, at most for `wait`, and returns what there is.
    async fn read(&mut self, store: &Store, wait: Duration) -> crate::store::Result<Vec<Nudge>> {
        if !self.reader.has_more() && !self.is_unread && !self.listener.wait(wait).await? {
            return Ok(Vec::new());
        }
        let read = store.outbox_after(&mut self.reader).await?;
        self.is_unread = false;
        Ok(read)
    }
}
