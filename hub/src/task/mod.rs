//! The hub's reconcilers. Each gathers what it needs from the store, decides in `core`, commits by
//! compare-and-set, and is woken by the outbox, by time, and by a full pass.

pub mod app;
pub mod driver;
pub mod gather;
pub mod ingest;
pub mod judge;
pub mod poll;
pub mod publish;
pub mod queue;
pub mod receivers;
pub mod render;
pub mod retention;
mod wakeup;
pub mod watchers;

use std::{sync::Arc, time::Duration};

use flotilla_core::rollout::admission::End;
use uuid::Uuid;

use crate::{
    auth::seal::Seal,
    store::{Store, StoreError, rollout::EndedRollout},
    trace::{self, Past},
};

/// What every task may use.
#[derive(Clone)]
pub struct Context {
    /// Store.
    pub store: Store,
    /// Seals and opens secrets.
    pub seal: Arc<Seal>,
    /// Permanent key of the digests of Secrets.
    pub digest_key: [u8; 32],
    /// Number of the hub's history.
    pub incarnation: u64,
    /// Sources and artifacts.
    pub sources: Arc<poll::Sources>,
    /// Renders.
    pub renderer: Arc<render::Engine>,
    /// Name of this replica.
    pub replica: Arc<str>,
    /// For how long history is kept; `None`: without limit.
    pub history: Option<Duration>,
}

/// Says which rollouts are complete.
pub(crate) fn rollouts_ended(ended: Vec<EndedRollout>) {
    for done in ended.into_iter().filter(|one| one.end == End::Complete) {
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
}

fn random() -> u64 {
    u64::from_le_bytes(Uuid::new_v4().into_bytes()[..8].try_into().unwrap_or_default())
}

/// Whether an error says nothing about what was reconciled: the database was away, or another writer was faster.
fn is_passing(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<StoreError>(),
        Some(StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Superseded)
    )
}
