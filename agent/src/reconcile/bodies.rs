//! The bodies of some objects of an entry, made again for a job that writes them.

use std::sync::Arc;

use flotilla_core::object::ObjectKey;

use super::{
    context::UnitContext,
    evaluate::{EvaluateError, Evaluated, Evaluation},
};
use crate::cluster::ClusterError;

/// Evaluates the bodies of some objects of the entry.
pub(super) async fn bodies(
    unit: &UnitContext,
    keys: impl Iterator<Item = &Arc<ObjectKey>>,
) -> Result<Evaluated, BodiesError> {
    let keys: Vec<ObjectKey> = keys.map(|key| key.as_ref().clone()).collect();
    let discovery = unit.context.discovered_for(keys.iter()).await;
    let discovery = discovery.map_err(BodiesError::Discovery)?;
    let environment = unit.context.environment(discovery);
    let failed = |error: EvaluateError| BodiesError::Evaluation(error.to_string());
    let mut evaluation = unit
        .context
        .ledger
        .read(|state| Evaluation::begin(state, &unit.entry, environment, Some(&keys)))
        .map_err(failed)?;
    evaluation.finish().await.map_err(failed)
}

/// Why the bodies of objects cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodiesError {
    /// What the cluster serves cannot be found out.
    #[error("discovery failed: {0}")]
    Discovery(ClusterError),
    /// What is enforced cannot be evaluated any more.
    #[error("what is enforced cannot be evaluated: {0}")]
    Evaluation(String),
}
