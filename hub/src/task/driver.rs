//! Wires the queues: reads the outbox, translates wake-ups into keys, and makes a full pass at start and every
//! minute, so that a lost wake-up costs a minute and no correctness.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{Context, app, poll, publish, queue::Queue, receivers::Registered};
use crate::{
    grpc::streams::Streams,
    index::Index,
    store::{Topic, outbox::Nudge},
    trace::{self, Past},
};

const FULL_PASS: Duration = Duration::from_secs(60);
/// Behind every notification.
const OUTBOX_POLL: Duration = Duration::from_secs(2);
/// First look after rows held by an open transaction; doubled while they stay held.
const HELD_FIRST: Duration = Duration::from_millis(2);
const HEARTBEAT_FLUSH: Duration = Duration::from_secs(30);

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
        let sources = Queue::start("source", workers.max(8), move |key| {
            let context = source_context.clone();
            async move { poll::reconcile(&context, key).await }
        });
        let apps = Queue::start("app", workers, move |key| {
            let context = app_context.clone();
            async move { app::reconcile(&context, key).await }
        });
        let clusters = Queue::start("cluster", workers, move |key| {
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
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => true,
                result = this.follow() => {
                    if let Err(error) = result {
                        warn!(%error, "reading the outbox failed; it is read again");
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    false
                }
            };
            if done {
                passes.abort();
                heartbeats.abort();
                return;
            }
        }
    }

    async fn follow(&self) -> anyhow::Result<()> {
        let mut listener = self.context.store.outbox_listener().await?;
        let mut cursor = self.context.store.outbox_end().await?;
        // What happened before the cursor is found by looking at everything.
        self.full_pass().await?;
        let mut pause = HELD_FIRST;
        loop {
            let batch = self.context.store.outbox_after(&cursor).await?;
            cursor = batch.end;
            if !batch.nudges.is_empty() {
                pause = HELD_FIRST;
                self.route(&batch.nudges).await?;
            } else if batch.held {
                listener.wait(pause).await;
                pause = (pause * 2).min(OUTBOX_POLL);
            } else {
                listener.wait(OUTBOX_POLL).await;
            }
        }
    }

    async fn route(&self, nudges: &[Nudge]) -> anyhow::Result<()> {
        for nudge in nudges {
            // No receiver is no error: nobody watches.
            let _ = self.topics.send(nudge.topic);
            match nudge.topic {
                Topic::Resource => self.resource(nudge.key).await?,
                Topic::Source => self
                    .apps
                    .push_all(self.context.store.apps_of_source(nudge.key).await?),
                Topic::App => self.apps.push(nudge.key),
                Topic::Cluster => self.clusters.push(nudge.key),
                Topic::Desired => self.index.refresh(nudge.key).await?,
                Topic::Report => self.finish_rollouts().await?,
                Topic::Identity => {
                    self.clusters.push(nudge.key);
                    self.all_apps().await?;
                }
            }
        }
        Ok(())
    }

    async fn resource(&self, uid: Uuid) -> anyhow::Result<()> {
        let Some(resource) = self.context.store.resource(uid).await? else {
            return Ok(());
        };
        match resource.kind.as_str() {
            "GitRepository" => {
                self.sources.push(uid);
                self.apps.push_all(self.context.store.apps_of_source(uid).await?);
            }
            "Kustomization" => self.apps.push(uid),
            // Credentials and variables; who refers to them is found by looking.
            "Secret" => {
                self.receivers.refresh().await?;
                self.sources
                    .push_all(self.context.store.uids_of_kind("GitRepository").await?);
                self.all_apps().await?;
            }
            "Receiver" => self.receivers.refresh().await?,
            "ConfigMap" | "Placement" | "Cluster" | "ClusterGroup" => self.all_apps().await?,
            _ => {}
        }
        Ok(())
    }

    async fn all_apps(&self) -> anyhow::Result<()> {
        self.apps
            .push_all(self.context.store.uids_of_kind("Kustomization").await?);
        Ok(())
    }

    async fn full_pass(&self) -> anyhow::Result<()> {
        self.receivers.refresh().await?;
        self.sources
            .push_all(self.context.store.uids_of_kind("GitRepository").await?);
        self.all_apps().await?;
        self.clusters.push_all(
            self.context
                .store
                .clusters()
                .await?
                .into_iter()
                .map(|cluster| cluster.id),
        );
        self.index.poll().await?;
        self.finish_rollouts().await?;
        self.context.store.outbox_trim().await?;
        Ok(())
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
        loop {
            tokio::time::sleep(FULL_PASS).await;
            if let Err(error) = self.full_pass().await {
                warn!(
                    error = format!("{error:#}"),
                    "the full pass failed; the next is in a minute"
                );
            }
        }
    }

    async fn heartbeats(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT_FLUSH).await;
            let seen: Vec<(Uuid, u64, OffsetDateTime)> = self.streams.last_seen();
            match self.context.store.flush_last_seen(&seen).await {
                Ok(held) => self.streams.close_unless(&seen, &held),
                Err(error) => {
                    warn!(%error, "writing when clusters were last seen failed; it is written in the next round");
                }
            }
        }
    }
}
