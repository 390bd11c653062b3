//! Reports into the store: collected for a moment and committed together, so that ten thousand agents cost a few
//! transactions a second.

mod rows;

use std::time::Duration;

pub(crate) use rows::text;
pub use rows::{Rows, rows};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::store::{Store, StoreError, report::Report};
use crate::trace::{self, Past};

/// How long reports are collected. The first of a batch waits this long.
const TICK: Duration = Duration::from_millis(10);
/// Reports of one transaction.
const BATCH: usize = 500;
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Takes reports. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    waiting_tx: mpsc::Sender<Waiting>,
}

impl Ingest {
    /// Starts the task that commits.
    pub fn start(store: Store) -> Self {
        let (waiting_tx, waiting_rx) = mpsc::channel(BATCH * 2);
        tokio::spawn(run(store, waiting_rx));
        Self { waiting_tx }
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

async fn run(store: Store, mut waiting_rx: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting_rx.recv().await {
        let mut batch = vec![first];
        tokio::time::sleep(TICK).await;
        while batch.len() < BATCH
            && let Ok(next) = waiting_rx.try_recv()
        {
            batch.push(next);
        }
        commit(&store, batch).await;
    }
}

/// Commits a batch. One that the database will not have is halved until the report that it is about stands alone:
/// one agent's nonsense costs the others a few transactions, once, and is refused.
async fn commit(store: &Store, batch: Vec<Waiting>) {
    let mut batches = vec![batch];
    while let Some(mut batch) = batches.pop() {
        let reports: Vec<Report> = batch.iter().map(|(report, _)| report.clone()).collect();
        match tokio::time::timeout(COMMIT_TIMEOUT, store.ingest(&reports)).await {
            Ok(Ok(ingested)) => {
                for ((_, done), counted) in batch.into_iter().zip(ingested.counted) {
                    let _ = done.send(match counted {
                        true => Outcome::Committed,
                        false => Outcome::Replaced,
                    });
                }
                trace_applied(store, ingested.applied);
            }
            Ok(Err(error)) if is_about_the_rows(&error) && batch.len() > 1 => {
                // Taken from the end: the order of one cluster's reports is kept.
                batches.push(batch.split_off(batch.len() / 2));
                batches.push(batch);
            }
            Ok(Err(error)) if is_about_the_rows(&error) => {
                for (report, done) in batch {
                    error!(cluster.id = %report.cluster, error = &error as &dyn std::error::Error,
                        "a report is refused: the database does not take its rows");
                    let _ = done.send(Outcome::Refused(
                        "the hub's database does not take its rows".to_owned(),
                    ));
                }
            }
            failed => {
                let why = failed.err().map_or_else(String::new, |e| e.to_string());
                warn!(
                    reports = batch.len(),
                    why, "reports are not committed: the database does not answer"
                );
                for (_, done) in batch {
                    let _ = done.send(Outcome::Unavailable);
                }
            }
        }
    }
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
