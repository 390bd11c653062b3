//! Reports into the store: collected for a moment and committed together, so that ten thousand agents cost a few
//! transactions a second.

mod allowance;
mod rows;
mod told;

use std::{sync::Arc, time::Duration};

pub use rows::{Rows, rows};
pub(crate) use rows::{condition_kind, text};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use told::Latest;
use tracing::{debug, error, warn};
use uuid::Uuid;

use self::allowance::Allowances;
use super::rollouts;
use crate::{
    pace::Pace,
    store::{Store, StoreError, report::Report, session::Told},
    trace::{self, Past},
};

/// How long reports are collected at least.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest, while many report: nobody waits for the end of a report, and others still wait for what they are to hear.
const LONGEST: Duration = Duration::from_millis(300);
/// The same while many states are still to be published, for which clusters wait: what comes back from those that have
/// theirs is behind them.
const BEHIND: Duration = Duration::from_secs(1);
/// Reports of one transaction.
const BATCH: usize = 500;
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Before what agents told and the store did not take is tried again.
const RETRY: Duration = Duration::from_secs(1);

type Waiting = (Report, oneshot::Sender<Outcome>);

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// Its stream was replaced: it counts for nothing.
    Replaced,
    /// The store will never take it, and why.
    Refused(String),
    /// The store does not answer now.
    Unavailable,
}

/// Takes reports, and what agents tell of their desired states. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    waiting_tx: mpsc::Sender<Waiting>,
    told: Arc<Latest>,
}

impl Ingest {
    /// Starts the task that commits; `is_publishing` tells whether many states are still to be published.
    pub fn start(store: Store, is_publishing: impl Fn() -> bool + Send + 'static) -> Self {
        let (waiting_tx, waiting_rx) = mpsc::channel(BATCH * 2);
        let told = Arc::<Latest>::default();
        tokio::spawn(run(store, waiting_rx, told.clone(), is_publishing));
        Self { waiting_tx, told }
    }

    /// Hands over what an agent tells. Of several of one cluster only the last is of interest: it replaces those before
    /// it, and is kept while the store does not answer. Returns whether there is so much that the cluster's stream is to
    /// wait for [`Self::room`] before it hears more.
    pub fn tell(&self, told: Told) -> bool {
        self.told.add(told)
    }

    /// Returns once most of what the cluster's agent has told is committed.
    pub async fn room(&self, cluster: Uuid) {
        self.told.room(cluster).await;
    }

    /// Hands a report over; the future tells what became of it.
    pub fn submit(&self, report: Report) -> impl Future<Output = Outcome> + Send + 'static {
        let waiting_tx = self.waiting_tx.clone();
        async move {
            let (done_tx, done_rx) = oneshot::channel();
            if waiting_tx.send((report, done_tx)).await.is_err() {
                return Outcome::Unavailable;
            }
            done_rx.await.unwrap_or(Outcome::Unavailable)
        }
    }
}

async fn run(
    store: Store,
    mut waiting_rx: mpsc::Receiver<Waiting>,
    told: Arc<Latest>,
    is_publishing: impl Fn() -> bool,
) {
    let mut allowances = Allowances::default();
    let mut pace = Pace::new(Instant::now());
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            first = waiting_rx.recv() => match first {
                Some(first) => batch.push(first),
                None => return,
            },
            () = told.wake.notified() => {}
            () = tokio::time::sleep(RETRY), if !told.is_empty() => {}
        }
        let longest = if is_publishing() { BEHIND } else { LONGEST };
        let collects = pace.collects(Instant::now(), longest);
        tokio::time::sleep(collects.max(SHORTEST)).await;
        while batch.len() < BATCH
            && let Ok(next) = waiting_rx.try_recv()
        {
            batch.push(next);
        }
        for (report, _) in &mut batch {
            allowances.apply(report, Instant::now());
        }
        // What was told before a report is kept before that is acknowledged.
        let (along, rest) = told.take(&batch.iter().map(|(report, _)| report.cluster).collect());
        let collected = batch.len() + rest.iter().map(Vec::len).sum::<usize>();
        pace.count(collected, Instant::now());
        let mut left = told::commit(&store, rest).await;
        if !batch.is_empty() {
            left.extend(commit(&store, along, batch).await);
        }
        told.end(left);
    }
}

/// Commits a batch, with what its agents told before; returns what of that the store does not take now. A batch that the
/// database will not have is halved until the report that it is about stands alone: one agent's nonsense costs the others a few
/// transactions, once, and is refused. What was told is committed by itself then, and before.
async fn commit(store: &Store, along: Vec<Told>, batch: Vec<Waiting>) -> Vec<Told> {
    let mut left = Vec::new();
    let mut batches = vec![(along, batch)];
    while let Some((along, batch)) = batches.pop() {
        let (reports, done): (Vec<Report>, Vec<oneshot::Sender<Outcome>>) = batch.into_iter().unzip();
        let again =
            |reports: Vec<Report>, done: Vec<_>| -> Vec<Waiting> { reports.into_iter().zip(done).collect() };
        match tokio::time::timeout(COMMIT_TIMEOUT, store.ingest_told(&along, &reports)).await {
            Ok(Ok(ingested)) => {
                for (done, counted) in done.into_iter().zip(ingested.counted) {
                    let _ = done.send(match counted {
                        true => Outcome::Committed,
                        false => Outcome::Replaced,
                    });
                }
                finish(store, &ingested.reached).await;
                trace_applied(store, ingested.applied);
            }
            Ok(Err(error)) if is_about_the_rows(&error) && !along.is_empty() => {
                left.extend(told::commit(store, vec![along]).await);
                batches.push((Vec::new(), again(reports, done)));
            }
            Ok(Err(error)) if is_about_the_rows(&error) && reports.len() > 1 => {
                // Taken from the end: the order of one cluster's reports is kept.
                let mut batch = again(reports, done);
                batches.push((Vec::new(), batch.split_off(batch.len() / 2)));
                batches.push((Vec::new(), batch));
            }
            Ok(Err(error)) if is_about_the_rows(&error) => {
                for (report, done) in again(reports, done) {
                    error!(cluster.id = %report.cluster, error = &error as &dyn std::error::Error,
                        "a report is refused: the database does not take its rows");
                    // Its agent will take it for acknowledged.
                    let nothing = Report::left_out(report.cluster, report.epoch);
                    let _ = done.send(match store.ingest(&[nothing]).await {
                        Ok(_) => Outcome::Refused("the hub's database does not take its rows".to_owned()),
                        Err(_) => Outcome::Unavailable,
                    });
                }
            }
            failed => {
                let why = failed.err().map_or_else(String::new, |e| e.to_string());
                warn!(
                    reports = done.len(),
                    why, "reports are not committed: the database does not answer"
                );
                left.extend(along);
                for done in done {
                    let _ = done.send(Outcome::Unavailable);
                }
            }
        }
    }
    left
}

/// Tells whether the database refused values, which it will again, and not the moment.
fn is_about_the_rows(error: &StoreError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(sqlx::Error::Database(error)) = error.downcast_ref::<sqlx::Error>() {
            // Data, constraint and limit errors.
            let code = error.code().unwrap_or_default();
            return ["22", "23", "54"].iter().any(|class| code.starts_with(class));
        }
        if matches!(error.downcast_ref::<sqlx::Error>(), Some(sqlx::Error::Encode(_))) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Ends the rollouts that these units were the last of. Where that fails they end with a later look.
async fn finish(store: &Store, reached: &[(Uuid, i64)]) {
    if reached.is_empty() {
        return;
    }
    let ended = async { store.end_rollouts(&store.turn_applied(reached).await?).await };
    match ended.await {
        Ok(ended) => rollouts::ended(ended),
        Err(error) => warn!(%error, "whether a rollout has ended is looked at later"),
    }
}

/// Exports that units have applied, beside the reports' way: a trace delays nobody.
fn trace_applied(store: &Store, units: Vec<Uuid>) {
    if units.is_empty() || !trace::is_exported() {
        return;
    }
    let store = store.clone();
    tokio::spawn(async move {
        let units = match store.traced(&units).await {
            Ok(units) => units,
            Err(error) => return debug!(%error, "applied units are missing from their traces"),
        };
        for unit in units {
            trace::past(&Past {
                name: "apply",
                revision: &unit.revision,
                app: &unit.app,
                cluster: &unit.cluster,
                began: unit.observed_at - time::Duration::milliseconds(unit.apply_ms),
                ended: unit.observed_at,
            });
        }
    });
}
