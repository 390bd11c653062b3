//! Wires the queues: reads the outbox, translates wake-ups into keys, and makes a full pass at start and every
//! minute, so that a lost wake-up costs a minute and no correctness.

use std::{collections::HashSet, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{Context, app, is_passing, poll, publish, queue::Queue, receivers::Registered, wakeup::Wakeups};
use crate::{
    grpc::streams::Streams,
    index::Index,
    store::{
        Store, StoreError, Topic,
        outbox::{Cursor, Nudge, OutboxListener},
    },
    trace::{self, Past},
};

const FULL_PASS: Duration = Duration::from_secs(60);
/// Events are trimmed in every so many passes.
const TRIM: u64 = 60;
/// Behind every notification.
const OUTBOX_POLL: Duration = Duration::from_secs(2);
/// First look after rows held by an open transaction; doubled while they stay held.
const HELD_FIRST: Duration = Duration::from_millis(2);
const HEARTBEAT_FLUSH: Duration = Duration::from_secs(30);
/// Bound of one reconciliation, above those of its parts: a rendering.
const DEADLINE: Duration = Duration::from_secs(600);
/// A source's own timeout may be long.
const SOURCE_DEADLINE: Duration = Duration::from_secs(3600);
/// Before what failed is done again.
const RETRY: Duration = Duration::from_secs(1);

/// The running reconcilers.
pub struct Driver {
    context: Context,
    index: Arc<Index>,
    streams: Arc<Streams>,
    topics: tokio::sync::broadcast::Sender<Topic>,
    receivers: Registered,
    sources: Queue,
    apps: Queue,
    clusters: Queue,
}

impl Driver {
    /// Starts the queues' workers.
    pub fn start(
        context: Context,
        index: Arc<Index>,
        streams: Arc<Streams>,
        topics: tokio::sync::broadcast::Sender<Topic>,
        receivers: Registered,
        workers: usize,
    ) -> Self {
        let source_context = context.clone();
        let app_context = context.clone();
        let cluster_context = context.clone();
        let sources = Queue::start("source", workers.max(8), SOURCE_DEADLINE, move |key| {
            let context = source_context.clone();
            async move { poll::reconcile(&context, key).await }
        });
        let apps = Queue::start("app", workers, DEADLINE, move |key| {
            let context = app_context.clone();
            async move { app::reconcile(&context, key).await }
        });
        let clusters = Queue::start("cluster", workers, DEADLINE, move |key| {
            let context = cluster_context.clone();
            async move { publish::reconcile(&context, key).await }
        });
        Self {
            context,
            index,
            streams,
            topics,
            receivers,
            sources,
            apps,
            clusters,
        }
    }

    /// The queues, for metrics.
    pub fn queues(&self) -> [Queue; 3] {
        [self.sources.clone(), self.apps.clone(), self.clusters.clone()]
    }

    /// Reads the outbox until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let periodic = this.clone();
        let passes = tokio::spawn(async move { periodic.passes().await });
        let beats = this.clone();
        let heartbeats = tokio::spawn(async move { beats.heartbeats().await });
        tokio::select! {
            () = stop.cancelled() => {}
            () = this.follow() => {}
        }
        passes.abort();
        heartbeats.abort();
    }

    /// Acts on wake-ups as they come. What fails for a while is acted on again; nothing else waits for it.
    async fn follow(&self) {
        let mut outbox = Outbox::open(&self.context.store).await;
        // What happened before is found by looking at everything.
        self.full_pass().await;
        let mut due = Wakeups::default();
        loop {
            let wait = if due.is_empty() { OUTBOX_POLL } else { RETRY };
            match outbox.read(&self.context.store, wait).await {
                Ok(nudges) => {
                    self.judge_streams(&nudges).await;
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
                Err(error) => failed(&mut again, Topic::Resource, resources, error.into()),
            }
        }
        for source in due.take(Topic::Source) {
            match self.context.store.apps_of_source(source).await {
                Ok(apps) => self.apps.push_all(apps),
                Err(error) => failed(&mut again, Topic::Source, vec![source], error.into()),
            }
        }
        self.sources.push_all(std::mem::take(&mut due.sources));
        self.apps.push_all(due.take(Topic::App));
        let identities = due.take(Topic::Identity);
        due.all_apps |= !identities.is_empty();
        self.clusters
            .push_all(due.take(Topic::Cluster).into_iter().chain(identities));
        for cluster in due.take(Topic::Desired) {
            if let Err(error) = self.index.refresh(cluster).await {
                failed(&mut again, Topic::Desired, vec![cluster], error.into());
            }
        }
        // One look closes all rollouts that are done, whoever reported.
        if let Some(cluster) = due.take(Topic::Report).first()
            && let Err(error) = self.finish_rollouts().await
        {
            failed(&mut again, Topic::Report, vec![*cluster], error);
        }
        again.receivers = due.receivers && !self.pass(Part::Receivers).await;
        again.all_sources = due.all_sources && !self.pass(Part::Sources).await;
        again.all_apps = due.all_apps && !self.pass(Part::Apps).await;
        again
    }

    /// Looks at everything, part by part: one that fails leaves the others alone, and comes again in a minute.
    async fn full_pass(&self) {
        for part in Part::ALL {
            self.pass(part).await;
        }
    }

    /// Looks at all of a part. Tells whether that went well.
    async fn pass(&self, part: Part) -> bool {
        let store = &self.context.store;
        let passed = match part {
            Part::Receivers => self.receivers.refresh().await,
            Part::Sources => push_all(&self.sources, store.uids_of_kind("GitRepository").await),
            Part::Apps => push_all(&self.apps, store.uids_of_kind("Kustomization").await),
            Part::Clusters => {
                let clusters = store.clusters().await;
                push_all(
                    &self.clusters,
                    clusters.map(|all| all.into_iter().map(|one| one.id).collect()),
                )
            }
            Part::Index => self.index.poll().await.map_err(Into::into),
            Part::Rollouts => self.finish_rollouts().await,
            Part::Presence => store.tell_gone().await.map(drop).map_err(Into::into),
            Part::Events => store.event_trim().await.map(drop).map_err(Into::into),
            Part::Outbox => store.outbox_trim().await.map(drop).map_err(Into::into),
        };
        if let Err(error) = &passed {
            warn!(
                ?part,
                error = format!("{error:#}"),
                "a part of the full pass failed; it is made again"
            );
        }
        passed.is_ok()
    }

    async fn finish_rollouts(&self) -> anyhow::Result<()> {
        for done in self.context.store.finish_rollouts().await? {
            let seconds = (done.finished_at - done.created_at).as_seconds_f64();
            tracing::info!(app = %done.app, revision = %done.revision, seconds, "applied everywhere");
            trace::past(&Past {
                name: "rollout",
                revision: &done.revision,
                app: &done.app,
                cluster: "",
                began: done.created_at,
                ended: done.finished_at,
            });
        }
        Ok(())
    }

    async fn passes(&self) {
        for number in 0_u64.. {
            tokio::time::sleep(FULL_PASS).await;
            self.full_pass().await;
            if number % TRIM == 0 {
                self.pass(Part::Events).await;
            }
        }
    }

    async fn heartbeats(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT_FLUSH).await;
            let seen: Vec<(Uuid, u64, OffsetDateTime)> = self.streams.last_seen();
            if let Err(error) = self.context.store.beat(&self.context.replica).await {
                warn!(%error, "writing that this hub lives failed; it is written in the next round");
            }
            match self.context.store.flush_last_seen(&seen).await {
                Ok(held) => {
                    let seen: Vec<(Uuid, u64)> = seen.iter().map(|(id, epoch, _)| (*id, *epoch)).collect();
                    self.streams.close_unless(&seen, &held);
                }
                Err(error) => {
                    warn!(%error, "writing when clusters were last seen failed; it is written in the next round");
                }
            }
        }
    }
}

/// A part of the full pass.
#[derive(Debug, Clone, Copy)]
enum Part {
    Receivers,
    Sources,
    Apps,
    Clusters,
    Index,
    Rollouts,
    Presence,
    Outbox,
    /// Less often than the others.
    Events,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Receivers,
        Self::Sources,
        Self::Apps,
        Self::Clusters,
        Self::Index,
        Self::Rollouts,
        Self::Presence,
        Self::Outbox,
    ];
}

fn push_all(queue: &Queue, keys: crate::store::Result<Vec<Uuid>>) -> anyhow::Result<()> {
    queue.push_all(keys?);
    Ok(())
}

/// Keeps wake-ups that failed for a while. What fails for good is left to the full pass, and named here.
fn failed(again: &mut Wakeups, topic: Topic, keys: Vec<Uuid>, error: anyhow::Error) {
    warn!(
        topic = topic.as_str(),
        ?keys,
        error = format!("{error:#}"),
        "acting on a wake-up failed"
    );
    if is_passing(&error) {
        again.keep(topic, keys);
    }
}

/// The reader of the outbox. An error loses neither its place nor a wake-up.
struct Outbox {
    listener: OutboxListener,
    cursor: Cursor,
    /// How long the next wait for rows is that an open transaction holds.
    pause: Duration,
}

impl Outbox {
    async fn open(store: &Store) -> Self {
        loop {
            let opened =
                async { Ok::<_, StoreError>((store.outbox_listener().await?, store.outbox_end().await?)) };
            match opened.await {
                Ok((listener, cursor)) => {
                    return Self {
                        listener,
                        cursor,
                        pause: HELD_FIRST,
                    };
                }
                Err(error) => warn!(%error, "the outbox cannot be read yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Returns the next wake-ups; none after waiting for them for `wait`, or when there may be some now.
    async fn read(&mut self, store: &Store, wait: Duration) -> crate::store::Result<Vec<Nudge>> {
        let batch = store.outbox_after(&self.cursor).await?;
        self.cursor = batch.end;
        if !batch.nudges.is_empty() {
            self.pause = HELD_FIRST;
        } else if batch.held {
            self.listener.wait(self.pause.min(wait)).await;
            self.pause = (self.pause * 2).min(OUTBOX_POLL);
        } else {
            self.listener.wait(wait).await;
        }
        Ok(batch.nudges)
    }
}
