//! Reports into the store: collected for a moment and committed together, so that ten thousand agents cost a few
//! transactions a second.

mod rows;

use std::time::Duration;

pub(crate) use rows::text;
pub use rows::{Rows, rows};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::store::{Store, report::Report};
use crate::trace::{self, Past};

/// How long reports are collected. The first of a batch waits this long.
const TICK: Duration = Duration::from_millis(10);
/// Reports of one transaction.
const BATCH: usize = 500;
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

type Waiting = (Report, oneshot::Sender<bool>);

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

    /// Hands a report over; the future tells whether it was committed and counted.
    pub fn submit(&self, report: Report) -> impl Future<Output = bool> + Send + 'static {
        let waiting_tx = self.waiting_tx.clone();
        async move {
            let (done_tx, done_rx) = oneshot::channel();
            if waiting_tx.send((report, done_tx)).await.is_err() {
                return false;
            }
            done_rx.await.unwrap_or(false)
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

/// Commits a batch; when it fails each report stands alone, so that one bad one does not fail the others.
async fn commit(store: &Store, batch: Vec<Waiting>) {
    let (reports, waiting): (Vec<Report>, Vec<oneshot::Sender<bool>>) = batch.into_iter().unzip();
    if let Ok(Ok(ingested)) = tokio::time::timeout(COMMIT_TIMEOUT, store.ingest(&reports)).await {
        for (done, counted) in waiting.into_iter().zip(ingested.counted) {
            let _ = done.send(counted);
        }
        trace_applied(store, ingested.applied);
        return;
    }
    warn!(
        reports = reports.len(),
        "committing reports together failed; committing each alone"
    );
    for (report, done) in reports.into_iter().zip(waiting) {
        let cluster = report.cluster;
        let counted = match tokio::time::timeout(COMMIT_TIMEOUT, store.ingest(&[report])).await {
            Ok(Ok(ingested)) => {
                trace_applied(store, ingested.applied);
                ingested.counted.first().copied().unwrap_or(false)
            }
            Ok(Err(error)) => {
                error!(cluster.id = %cluster, error = &error as &dyn std::error::Error, "a report is not stored");
                false
            }
            Err(_) => false,
        };
        let _ = done.send(counted);
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
