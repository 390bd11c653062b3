//! The hub's reconcilers. Each gathers what it needs from the store, decides in `core`, commits by
//! compare-and-set, and is woken by the outbox, by time, and by a full pass.

pub mod app;
pub mod clearing;
pub mod departure;
pub mod driver;
pub mod explain;
pub mod gather;
pub mod ingest;
pub mod judge;
pub mod lanes;
mod lease;
mod nest;
pub mod planner;
pub mod poll;
pub mod publish;
pub mod queue;
pub mod receivers;
mod removal;
pub mod render;
pub mod retention;
mod rollouts;
mod wakeup;
pub mod watchers;

use std::{sync::Arc, time::Duration};

use flotilla_core::{
    nest::{Limits as NestLimits, account::Trust},
    removal::closure,
};
use uuid::Uuid;

use crate::{
    auth::seal::Seal,
    store::{Store, StoreError},
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
    /// Bounds of what is kept for an app that renders it.
    pub nested: NestLimits,
    /// How far apps are trusted that render what is kept.
    pub trust: Arc<Trust>,
    /// How much may be deleted by changes of one source without a person.
    pub removals: closure::Limits,
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
