//! A request to reconcile, followed to its end: the source first where that is asked for, then the app, then its
//! clusters. The store is looked at when something has changed, for one app whatever else there is.

use std::time::Duration;

use flotilla_core::status::{
    AppFacts, Followed, Outcome, Phase, Progress, Ready, app_progress, source_progress, unit,
};
use flotilla_proto::fleet::v1 as wire;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use super::{Fleet, status};
use crate::{
    auth::gate::{Principal, still_valid},
    grpc::status::from_store,
    store::resource::ResourceRow,
    task::watchers::Watch,
};

/// Changes that come close together are looked at together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Behind every wake-up, and for what changes with time alone: that a failure lasts, that a hub is silent.
const LOOK: Duration = Duration::from_secs(2);
/// Nobody waits for longer; what was asked for goes on.
const FOLLOWED: Duration = Duration::from_secs(6 * 3600);
/// The key under which replaced credentials are told.
const CREDENTIALS: Uuid = Uuid::nil();
/// Clusters named with an outcome.
const NAMED: i64 = 20;

type Progresses = mpsc::Sender<Result<wire::ReconcileProgress, Status>>;

/// Asks and follows. The stream ends after the message with an outcome, or when its reader has gone.
pub(super) fn start(
    fleet: Fleet,
    principal: Principal,
    row: ResourceRow,
    with_source: bool,
) -> ReceiverStream<Result<wire::ReconcileProgress, Status>> {
    // Progress that nobody reads yet is not made: the next one says it all.
    let (progress_tx, progress_rx) = mpsc::channel(1);
    tokio::spawn(async move {
        let following = follow(&fleet, &principal, &row, with_source, &progress_tx);
        tokio::select! {
            () = progress_tx.closed() => {}
            followed = timeout(FOLLOWED, following) => {
                let late = || Err(Status::deadline_exceeded("it has not ended within 6 h; what was asked for goes on"));
                if let Err(status) = followed.unwrap_or_else(|_| late()) {
                    let _ = progress_tx.send(Err(status)).await;
                }
            }
        }
    });
    ReceiverStream::new(progress_rx)
}

async fn follow(
    fleet: &Fleet,
    principal: &Principal,
    row: &ResourceRow,
    with_source: bool,
    progress: &Progresses,
) -> Result<(), Status> {
    if with_source && row.is_app() && row.not_supported.is_empty() && !row.is_suspended() {
        let (name, source) = status::source_of(&fleet.store, row).await.map_err(from_store)?;
        let Some(source) = source else {
            let why = Ready {
                status: flotilla_core::status::Readiness::False,
                reason: "SourceNotFound".to_owned(),
                message: format!("the source {name} does not exist"),
            };
            return send(
                progress,
                row,
                &ended(Phase::Source, Outcome::Failed, why),
                Vec::new(),
            )
            .await;
        };
        let mut following = Following::begin(fleet, principal, &source).await?;
        let outcome = following.run(progress, true).await?;
        if outcome != Outcome::Succeeded {
            return Ok(());
        }
    }
    let mut following = Following::begin(fleet, principal, row).await?;
    following.run(progress, false).await?;
    Ok(())
}

fn ended(phase: Phase, outcome: Outcome, ready: Ready) -> Progress {
    Progress {
        phase,
        outcome: Some(outcome),
        ready,
        clusters: 0,
        clusters_ready: 0,
        revision: None,
        failing: false,
    }
}

/// One object's request.
struct Following<'a> {
    fleet: &'a Fleet,
    principal: Principal,
    /// The object, and the clusters that have not answered.
    watch: Watch,
    /// Credentials that are replaced.
    credentials: Watch,
    row: ResourceRow,
    request: String,
    /// What fails, and since when it does without a change.
    failing: Option<(Ready, Instant)>,
}

impl<'a> Following<'a> {
    async fn begin(fleet: &'a Fleet, principal: &Principal, row: &ResourceRow) -> Result<Self, Status> {
        // Before the first look, so that no change falls between the two.
        let (mut watch, mut credentials) = (fleet.watchers.watch(), fleet.watchers.watch());
        watch.set([row.uid]);
        credentials.set([CREDENTIALS]);
        let request = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .map_err(|error| Status::internal(error.to_string()))?;
        if row.not_supported.is_empty() && !row.is_suspended() {
            fleet
                .store
                .request(&[row.uid], &request, Some(&principal.name))
                .await
                .map_err(from_store)?;
        }
        Ok(Self {
            fleet,
            principal: principal.clone(),
            watch,
            credentials,
            row: row.clone(),
            request,
            failing: None,
        })
    }

    /// Tells each change until there is an outcome. That of a source which the app follows is not told when it went
    /// well: the app goes on.
    async fn run(&mut self, progress: &Progresses, on_the_way: bool) -> Result<Outcome, Status> {
        let mut told = None;
        loop {
            let seen = match self.look().await {
                Ok(seen) => seen,
                // A database that is away for a moment ends nothing.
                Err(status) if status.code() == tonic::Code::Unavailable => {
                    sleep(LOOK).await;
                    continue;
                }
                Err(status) => return Err(status),
            };
            if let Some(outcome) = seen.outcome {
                let silent = on_the_way && outcome == Outcome::Succeeded;
                if !silent {
                    let behind = match seen.phase {
                        Phase::Clusters => self.behind().await?,
                        _ => Vec::new(),
                    };
                    send(progress, &self.row, &seen, behind).await?;
                }
                return Ok(outcome);
            }
            if told.as_ref() != Some(&seen) {
                send(progress, &self.row, &seen, Vec::new()).await?;
                told = Some(seen);
            }
            self.changed().await?;
        }
    }

    /// Waits for a change of what is followed, or for time to pass.
    async fn changed(&self) -> Result<(), Status> {
        let until = Instant::now() + LOOK;
        tokio::select! {
            () = sleep_until(until) => return Ok(()),
            () = self.credentials.changed() => still_valid(&self.fleet.store, &self.principal).await?,
            () = self.watch.changed() => {}
        }
        sleep(TOGETHER).await;
        Ok(())
    }

    async fn look(&mut self) -> Result<Progress, Status> {
        let store = &self.fleet.store;
        let gone = || Status::not_found(format!("{} was deleted meanwhile", self.row.display()));
        let row = store
            .resource(self.row.uid)
            .await
            .map_err(from_store)?
            .ok_or_else(gone)?;
        let handling = store.handling(row.uid, &self.request).await.map_err(from_store)?;
        let handling = handling.ok_or_else(gone)?;
        self.watch
            .set(handling.unanswered.iter().copied().chain([row.uid]));
        let unanswered = u64::try_from(handling.unanswered.len()).unwrap_or(u64::MAX);
        let seen = if row.is_source() {
            let facts = status::source_facts(store, &row).await.map_err(from_store)?;
            source_progress(&facts, handling.handled)
        } else if row.is_app() {
            // Whoever looks after the end sees no less.
            let counts = &self.fleet.counts;
            let mut facts = counts.facts_now(&[row.uid]).await.map_err(from_store)?;
            let facts: AppFacts = facts.remove(&row.uid).ok_or_else(gone)?;
            let followed = Followed {
                handled: handling.handled,
                unanswered,
                failing_for: None,
            };
            let seen = app_progress(&facts, &row.not_supported, followed);
            let failing_for = self.lasts(&seen);
            app_progress(
                &facts,
                &row.not_supported,
                Followed {
                    failing_for,
                    ..followed
                },
            )
        } else {
            let what = match row.not_supported.is_empty() {
                true => vec![format!("reconciling a {} by itself", row.kind)],
                false => row.not_supported.clone(),
            };
            app_progress(
                &AppFacts::default(),
                &what,
                Followed {
                    handled: true,
                    unanswered: 0,
                    failing_for: None,
                },
            )
        };
        self.row = row;
        Ok(seen)
    }

    /// How long what fails is the same; `None` while nothing does.
    fn lasts(&mut self, seen: &Progress) -> Option<Duration> {
        let now = Instant::now();
        self.failing = match self.failing.take() {
            _ if !seen.failing => None,
            Some((ready, since)) if ready == seen.ready => Some((ready, since)),
            _ => Some((seen.ready.clone(), now)),
        };
        self.failing.as_ref().map(|(_, since)| now - *since)
    }

    async fn behind(&self) -> Result<Vec<wire::ClusterBehind>, Status> {
        let behind = self.fleet.store.units_behind(self.row.uid, NAMED).await;
        Ok(behind
            .map_err(from_store)?
            .into_iter()
            .map(|one| {
                let ready = unit(&one.facts);
                wire::ClusterBehind {
                    cluster: one.facts.cluster,
                    connected: one.facts.connected,
                    last_seen: one.last_seen.map(timestamp),
                    reason: ready.reason,
                    message: ready.message,
                }
            })
            .collect())
    }
}

async fn send(
    progress: &Progresses,
    row: &ResourceRow,
    seen: &Progress,
    behind: Vec<wire::ClusterBehind>,
) -> Result<(), Status> {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let message = wire::ReconcileProgress {
        phase: phase(seen.phase).into(),
        outcome: seen
            .outcome
            .map_or(wire::reconcile_progress::Outcome::Unspecified, outcome)
            .into(),
        resource: Some(status::reference(row)),
        revision: seen
            .revision
            .as_ref()
            .map(|one| one.name.clone())
            .unwrap_or_default(),
        clusters: count(seen.clusters),
        clusters_ready: count(seen.clusters_ready),
        reason: seen.ready.reason.clone(),
        message: seen.ready.message.clone(),
        behind,
    };
    // Whoever has gone is noticed by the caller.
    let _ = progress.send(Ok(message)).await;
    Ok(())
}

fn phase(phase: Phase) -> wire::reconcile_progress::Phase {
    match phase {
        Phase::Source => wire::reconcile_progress::Phase::Source,
        Phase::Rendering => wire::reconcile_progress::Phase::Rendering,
        Phase::Clusters => wire::reconcile_progress::Phase::Clusters,
    }
}

fn outcome(outcome: Outcome) -> wire::reconcile_progress::Outcome {
    match outcome {
        Outcome::Succeeded => wire::reconcile_progress::Outcome::Succeeded,
        Outcome::Failed => wire::reconcile_progress::Outcome::Failed,
        Outcome::ClustersOffline => wire::reconcile_progress::Outcome::ClustersOffline,
        Outcome::NothingToApply => wire::reconcile_progress::Outcome::NothingToApply,
        Outcome::NotSupported => wire::reconcile_progress::Outcome::NotSupported,
        Outcome::Suspended => wire::reconcile_progress::Outcome::Suspended,
    }
}

fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or(0),
    }
}
