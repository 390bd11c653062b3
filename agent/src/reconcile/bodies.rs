//! The bodies of some objects of an entry, made again for a job that writes them.

use std::sync::Arc;

use flotilla_core::object::ObjectKey;
use serde_json::Value;

use super::{
    context::UnitContext,
    evaluate::{EvaluateError, Evaluation, Object, Step},
};
use crate::cluster::ClusterError;

/// Objects and their bodies.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// The objects, in the renderer's order.
    pub(super) objects: Vec<Object>,
    /// Their bodies.
    pub(super) values: Vec<Body>,
}

/// The body of an object as JSON text: parsed it takes many times as much, and a job has hundreds that wait for their
/// turn.
#[derive(Debug)]
pub(super) struct Body(Box<[u8]>);

impl Body {
    fn new(value: &Value) -> Self {
        Self(value.to_string().into_bytes().into())
    }

    /// Parses the body.
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.0).expect("JSON reads back")
    }
}

/// Evaluates the bodies of some objects of the entry.
pub(super) async fn bodies(
    unit: &UnitContext,
    keys: impl Iterator<Item = &Arc<ObjectKey>>,
) -> Result<Bodies, BodiesError> {
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
    let mut bodies = Bodies::default();
    while let Some(step) = evaluation.next().await {
        if let Step::Object(object, value) = step.map_err(failed)? {
            bodies.objects.push(*object);
            bodies.values.push(Body::new(&value));
        }
    }
    Ok(bodies)
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
