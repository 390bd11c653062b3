//! The bodies of some objects of an entry, made again for a job that writes them.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use flotilla_core::{apply::inventory::State, object::ObjectKey};
use serde_json::Value;

use super::{
    context::UnitContext,
    evaluate::{Environment, EvaluateError, Evaluation, Object, Only, Step},
    records::stored_record,
};
use crate::cluster::ClusterError;

/// Objects and their bodies.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// The objects.
    pub(super) objects: Vec<Object>,
    /// Their bodies.
    pub(super) values: Vec<Body>,
}

/// The body of an object as JSON text: parsed it takes many times as much, and a job has hundreds that wait for their
/// turn.
#[derive(Debug)]
pub(super) struct Body(Box<[u8]>);

impl Bodies {
    /// Those of these objects alone.
    pub(super) fn only(self, keys: &HashSet<ObjectKey>) -> Self {
        let all = self.objects.into_iter().zip(self.values);
        let (objects, values) = all
            .filter(|(object, _)| keys.contains(&object.desired.key))
            .unzip();
        Self { objects, values }
    }
}

impl Body {
    pub(super) fn new(value: &Value) -> Self {
        Self(value.to_string().into_bytes().into())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
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
    let mut lacking: HashSet<ObjectKey> = keys.map(|key| key.as_ref().clone()).collect();
    let discovery = unit.context.discovered_for(lacking.iter()).await;
    let discovery = discovery.map_err(BodiesError::Discovery)?;
    let keyring = unit.context.enforcing_keyring(&unit.entry).await;
    let keyring = keyring.map_err(|error| BodiesError::Evaluation(EvaluateError::from(error).to_string()))?;
    let environment = unit.context.environment(discovery, keyring);
    if let Some(made) = unit.context.lately.take(&unit.entry, &environment, &lacking) {
        return Ok(made);
    }
    unit.context.counters.remade.fetch_add(1, Ordering::Relaxed);
    let mut bodies = Bodies::default();
    let keys: Vec<ObjectKey> = lacking.iter().cloned().collect();
    take(
        unit,
        environment.clone(),
        Only::Likely(&keys),
        &mut lacking,
        &mut bodies,
    )
    .await?;
    // What is not wanted any more is not expected to be among them.
    let is_expected = |key: &ObjectKey| {
        let record = stored_record(unit, key);
        record.is_none_or(|record| record.state != State::PendingRemoval)
    };
    lacking.retain(is_expected);
    if !lacking.is_empty() {
        let keys: Vec<ObjectKey> = lacking.iter().cloned().collect();
        take(
            unit,
            environment,
            Only::Possible(&keys),
            &mut lacking,
            &mut bodies,
        )
        .await?;
    }
    Ok(bodies)
}

/// Evaluates some objects, and keeps those that are lacking.
async fn take(
    unit: &UnitContext,
    environment: Environment,
    only: Only<'_>,
    lacking: &mut HashSet<ObjectKey>,
    bodies: &mut Bodies,
) -> Result<(), BodiesError> {
    let failed = |error: EvaluateError| BodiesError::Evaluation(error.to_string());
    let mut evaluation = unit
        .context
        .ledger
        .read(|state| Evaluation::begin(state, &unit.entry, environment, Some(only)))
        .map_err(failed)?;
    while let Some(step) = evaluation.next().await {
        if let Step::Object(object, value) = step.map_err(failed)?
            && lacking.remove(&object.desired.key)
        {
            bodies.objects.push(*object);
            bodies.values.push(Body::new(&value));
        }
    }
    Ok(())
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
