//! Reports into the store: collected for a moment and committed together, so that ten thousand agents cost a few
//! transactions a second.

use std::{collections::HashMap, time::Duration};

use flotilla_proto::agent::v1 as wire;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::store::{
    Store,
    report::{ClusterEventRow, ObjectRow, Report, StatusRow},
};
use crate::trace::{self, Past};

/// How long reports are collected. The first of a batch waits this long.
const TICK: Duration = Duration::from_millis(10);
/// Reports of one transaction.
const BATCH: usize = 500;
/// Text of one row.
const MAX_MESSAGE: usize = 4096;
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

/// Translates a report. What has no unit id is dropped, long text is cut, a row named twice counts once: one
/// agent's nonsense stays its own.
pub fn rows(cluster: Uuid, epoch: u64, report: wire::Report) -> Report {
    let units: HashMap<Uuid, StatusRow> = report
        .units
        .into_iter()
        .filter_map(status_row)
        .map(|row| (row.unit, row))
        .collect();
    let objects: HashMap<_, ObjectRow> = report
        .objects
        .into_iter()
        .filter_map(object_row)
        .map(|row| {
            let key = (
                row.unit,
                row.group.clone(),
                row.kind.clone(),
                row.namespace.clone(),
                row.name.clone(),
            );
            (key, row)
        })
        .collect();
    Report {
        cluster,
        epoch,
        everything: report.everything,
        units: units.into_values().collect(),
        objects: objects.into_values().collect(),
        events: report.events.into_iter().filter_map(event_row).collect(),
        observed_root: report.observed_root.to_vec(),
    }
}

fn status_row(status: wire::UnitStatus) -> Option<StatusRow> {
    let ready = match status.ready() {
        wire::Readiness::True => "True",
        wire::Readiness::False => "False",
        wire::Readiness::Unknown | wire::Readiness::Unspecified => "Unknown",
    };
    let digest = |bytes: bytes::Bytes| (!bytes.is_empty()).then(|| bytes.to_vec());
    Some(StatusRow {
        unit: Uuid::from_slice(&status.unit_id).ok()?,
        version: status.version,
        attempted: digest(status.attempted),
        applied: digest(status.applied),
        healthy: digest(status.healthy),
        ready,
        reason: cut(status.reason),
        message: cut(status.message),
        health: cut(status.health),
        objects: count(status.objects),
        objects_failed: count(status.objects_failed),
        objects_pending_removal: count(status.objects_pending_removal),
        apply_ms: i64::try_from(status.apply_ms).unwrap_or(i64::MAX),
        observed_at: at(status.observed_at_ms),
    })
}

fn object_row(status: wire::ObjectStatus) -> Option<ObjectRow> {
    let state = match status.state() {
        wire::ObjectState::Applied => Some("Applied"),
        wire::ObjectState::Failed => Some("Failed"),
        wire::ObjectState::PendingRemoval => Some("PendingRemoval"),
        wire::ObjectState::Conflict => Some("Conflict"),
        wire::ObjectState::Waiting | wire::ObjectState::Unspecified => Some("Waiting"),
        wire::ObjectState::Gone => None,
    };
    let key = status.key?;
    Some(ObjectRow {
        unit: Uuid::from_slice(&status.unit_id).ok()?,
        group: cut(key.group),
        kind: cut(key.kind),
        namespace: cut(key.namespace),
        name: cut(key.name),
        api_version: cut(status.api_version),
        uid: cut(status.uid),
        state,
        health: cut(status.health),
        message: cut(status.message),
        adopted: status.adopted,
        sent: status.sent.to_vec(),
    })
}

fn event_row(event: wire::Event) -> Option<ClusterEventRow> {
    let object = event.key.map(|key| {
        let parts = [key.kind, key.namespace, key.name];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    });
    Some(ClusterEventRow {
        unit: Uuid::from_slice(&event.unit_id).ok()?,
        object: cut(object.unwrap_or_default()),
        warning: event.warning,
        reason: cut(event.reason),
        message: cut(event.message),
        at: at(event.at_ms),
    })
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn at(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Postgres takes no NUL in text; rows are bounded.
fn cut(text: String) -> String {
    let mut text = if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    };
    if text.len() > MAX_MESSAGE {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text.push_str(" … (cut)");
    }
    text
}
