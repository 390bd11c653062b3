//! One pass over a unit: evaluate, plan, write stage by stage. Intents are durable before objects can exist by
//! our hand; what the server answered is durable before the next stage. Nothing here deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    apply::{
        drift::observe,
        inventory::{Inventory, Written},
        plan::{StagePlan, plan},
        stage::STAGE_WAIT,
    },
    health::State as HealthState,
    id::UnitId,
    object::ObjectKey,
    unit::Entry,
};
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    context::{Context, shown},
    evaluate::{EvaluateError, Evaluated, Object, evaluate},
    live::not_ready,
    touch::{Touched, look, write},
};
use crate::{
    cluster::{ClusterError, Served},
    ledger::{LedgerError, record::Record},
};

/// Writes between two durable notes of what came of them.
const BATCH: usize = 200;
/// Writes begun at once; how many of them are asked of the server is the cluster's to limit.
const CONCURRENCY: usize = 32;

/// What became of an object that is not simply applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The server refuses it.
    Failed(String),
    /// Another unit owns it, or a live Flux object does.
    Withheld {
        /// `Conflict` or `StillManagedByFlux`.
        reason: &'static str,
        /// Who.
        message: String,
    },
    /// Its kind is not served, or an earlier object is being deleted, or an earlier stage is not ready.
    Waiting(String),
}

impl Problem {
    /// The words for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed(message) | Self::Withheld { message, .. } | Self::Waiting(message) => message,
        }
    }
}

/// What came of a pass.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The target that was tried is what the offered entry names; otherwise the last good one was enforced.
    pub evaluation: Option<EvaluateError>,
    /// Desired objects, without those that their own switches exclude.
    pub desired: Vec<ObjectKey>,
    /// Objects that are not applied.
    pub problems: BTreeMap<ObjectKey, Problem>,
    /// Something may be different soon: no answer, overload, a race.
    pub transient: bool,
    /// A kind is not served yet.
    pub unserved: bool,
    /// How many objects were written.
    pub written: usize,
    /// No content to work on: nothing was done.
    pub idle: bool,
}

/// Why a pass stopped.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The ledger cannot be written: nothing may be created.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What the cluster serves cannot be found out.
    #[error("discovery failed: {0}")]
    Discovery(ClusterError),
}

/// Evaluates the offered entry, or when that fails the one enforced before, with the reason.
pub fn evaluate_unit(
    context: &Context,
    unit: UnitId,
    offered: &Entry,
) -> (Option<(Arc<Entry>, Evaluated)>, Option<EvaluateError>) {
    let discovery = context.discovery();
    let key = context.ledger.key();
    context
        .ledger
        .read(|state| match evaluate(state, offered, &discovery, key) {
            Ok(evaluated) => (Some((Arc::new(offered.clone()), evaluated)), None),
            Err(error) => {
                let enforced = state
                    .units
                    .get(&unit)
                    .and_then(|unit| unit.enforced.as_ref()?.entry.clone());
                let evaluated = enforced.and_then(|entry| {
                    let evaluated = evaluate(state, &entry, &discovery, key).ok()?;
                    Some((entry, evaluated))
                });
                (evaluated, Some(error))
            }
        })
}

/// Returns the unit's inventory as the ledger has it.
pub fn inventory(context: &Context, unit: UnitId) -> Inventory {
    context.ledger.read(|state| {
        let items = state
            .units
            .get(&unit)
            .map(|unit| unit.items.clone())
            .unwrap_or_default();
        items.into_iter().collect()
    })
}

/// Returns the record that makes an object's place in the inventory durable.
pub fn item(unit: UnitId, inventory: &Inventory, key: &ObjectKey) -> Option<Record> {
    Some(Record::Item {
        unit,
        key: key.clone(),
        record: Box::new(inventory.get(key)?.clone()),
    })
}

/// Runs a pass.
pub async fn run(context: &Context, unit: UnitId, offered: &Entry) -> Result<Outcome, PassError> {
    if context.discovery().is_empty() {
        context.rediscover().await.map_err(PassError::Discovery)?;
    }
    let (evaluated, error) = evaluate_unit(context, unit, offered);
    let Some((entry, evaluated)) = evaluated else {
        return Ok(Outcome {
            evaluation: error,
            idle: true,
            ..Outcome::default()
        });
    };
    let mut pass = Pass {
        context,
        unit,
        entry,
        objects: evaluated.objects,
        inventory: inventory(context, unit),
        outcome: Outcome {
            evaluation: error,
            ..Outcome::default()
        },
    };
    for withheld in evaluated.withheld {
        let message = format!("{} is owned by {}", withheld.key, withheld.owner);
        let problem = Problem::Withheld {
            reason: "Conflict",
            message,
        };
        pass.outcome.problems.insert(withheld.key, problem);
    }
    pass.begin(evaluated.complete).await?;
    pass.stages().await?;
    Ok(pass.outcome)
}

struct Pass<'a> {
    context: &'a Context,
    unit: UnitId,
    entry: Arc<Entry>,
    objects: Vec<Object>,
    inventory: Inventory,
    outcome: Outcome,
}

impl Pass<'_> {
    /// Makes durable what is enforced from now on, and which objects are not wanted any more.
    async fn begin(&mut self, complete: bool) -> Result<(), PassError> {
        let mut records = Vec::new();
        let offered = self.outcome.evaluation.is_none();
        let bytes = self.entry.to_bytes();
        let held = self.context.ledger.read(|state| {
            let unit = state.units.get(&self.unit)?;
            Some((
                unit.offered.as_ref()?.bytes.to_vec(),
                unit.enforced.as_ref().map(|kept| kept.digest),
            ))
        });
        if let Some((offered_bytes, enforced)) = held
            && offered
            && enforced != Some(Entry::digest_of(&offered_bytes))
            // The entry may have been replaced while it was evaluated: then the next pass says so.
            && Entry::from_bytes(&offered_bytes).is_ok_and(|entry| entry.to_bytes() == bytes)
        {
            records.push(Record::Enforced {
                unit: self.unit,
                entry: offered_bytes,
            });
        }
        let desired: Vec<_> = self.objects.iter().map(|object| object.desired.clone()).collect();
        let first = plan(&desired, &self.inventory, &BTreeSet::new());
        for key in &first.kept {
            self.inventory.keep(key);
            records.extend(item(self.unit, &self.inventory, key));
        }
        // Only a complete set says that something is not wanted, and even then it stays: it is marked and shown.
        if complete && offered {
            for key in &first.removed {
                self.inventory.remove_later(key);
                records.extend(item(self.unit, &self.inventory, key));
            }
        }
        let skipped: BTreeSet<usize> = first.skipped.into_iter().collect();
        let wanted = self
            .objects
            .iter()
            .enumerate()
            .filter(|(index, _)| !skipped.contains(index));
        self.outcome.desired = wanted.map(|(_, object)| object.desired.key.clone()).collect();
        Ok(self.context.persist(records).await?)
    }

    async fn stages(&mut self) -> Result<(), PassError> {
        let desired: Vec<_> = self.objects.iter().map(|object| object.desired.clone()).collect();
        let stages = plan(&desired, &self.inventory, &BTreeSet::new()).stages;
        let mut closed: Option<String> = None;
        for stage in stages {
            if closed.is_none() {
                closed = self.wait(&stage).await;
            }
            if let Some(why) = &closed {
                for (index, _) in &stage.writes {
                    let key = self.objects[*index].desired.key.clone();
                    self.outcome
                        .problems
                        .entry(key)
                        .or_insert_with(|| Problem::Waiting(why.clone()));
                }
                continue;
            }
            self.serve(&stage).await?;
            let indices: Vec<usize> = stage.writes.iter().map(|(index, _)| *index).collect();
            for batch in indices.chunks(BATCH) {
                self.write(batch).await?;
            }
            let failed = indices
                .iter()
                .map(|index| &self.objects[*index].desired.key)
                .find_map(|key| {
                    matches!(self.outcome.problems.get(key), Some(Problem::Failed(_)))
                        .then(|| key.to_string())
                });
            closed = failed.map(|key| format!("waits for {key}, which failed"));
        }
        Ok(())
    }

    /// Waits until what must be ready before the stage is. Returns why it is not.
    async fn wait(&mut self, stage: &StagePlan) -> Option<String> {
        let keys: Vec<ObjectKey> = stage
            .after
            .iter()
            .map(|index| self.objects[*index].desired.key.clone())
            .collect();
        for index in &stage.after {
            let object = &self.objects[*index];
            // Applied earlier, and no watch has shown it yet.
            if self.context.live.get(self.unit, &object.desired.key).is_none()
                && let Some(resource) = &object.resource
                && let Ok(live) = {
                    let key = &object.desired.key;
                    self.context
                        .cluster
                        .get(resource, &key.namespace, &key.name)
                        .await
                }
            {
                self.context.note(self.unit, &object.desired.key, live.as_ref());
            }
        }
        let deadline = Instant::now() + STAGE_WAIT;
        let waiting = self.context.live.current(self.unit, &keys, deadline).await;
        if waiting.is_empty() {
            return None;
        }
        self.outcome.transient |= waiting
            .iter()
            .all(|(_, health)| health.state != HealthState::Failed);
        Some(format!("timeout waiting for: {}", not_ready(&waiting)))
    }

    /// Discovers again when a kind of the stage is not served as far as is known: its definition may just have
    /// been established, and discovery follows a moment later.
    async fn serve(&mut self, stage: &StagePlan) -> Result<(), PassError> {
        /// The API server publishes a new definition within a few seconds.
        const ATTEMPTS: u32 = 6;
        let defined = stage
            .after
            .iter()
            .any(|index| self.objects[*index].desired.key.kind == "CustomResourceDefinition");
        for attempt in 0..ATTEMPTS {
            let unserved = |object: &Object| object.resource.is_none();
            if !stage
                .writes
                .iter()
                .any(|(index, _)| unserved(&self.objects[*index]))
            {
                return Ok(());
            }
            if attempt > 0 {
                if !defined {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(attempt - 1)).await;
            }
            let discovery = self.context.rediscover().await.map_err(PassError::Discovery)?;
            for (index, _) in &stage.writes {
                let object = &mut self.objects[*index];
                if let Served::Yes(resource) = discovery.find(&object.api_version, &object.desired.key.kind) {
                    object.resource = Some(resource.clone());
                }
            }
        }
        Ok(())
    }

    /// Looks, notes intents, writes, notes results.
    async fn write(&mut self, batch: &[usize]) -> Result<(), PassError> {
        let (context, unit) = (self.context, self.unit);
        let mut looking = Vec::with_capacity(batch.len());
        for index in batch.iter().copied() {
            let object = &self.objects[index];
            let known = self.inventory.get(&object.desired.key);
            looking.push(async move { (index, look(context, unit, object, known).await) });
        }
        let looks: Vec<_> = stream::iter(looking).buffered(CONCURRENCY).collect().await;
        let mut intents = Vec::new();
        let mut writes = Vec::new();
        for (index, looked) in looks {
            let object = &self.objects[index];
            let key = &object.desired.key;
            match looked {
                Ok(Touched::Write { adopted, fold }) => {
                    self.inventory.intend(key.clone(), &object.api_version, adopted);
                    intents.extend(item(unit, &self.inventory, key));
                    writes.push((index, fold));
                    if adopted {
                        let message = format!("{key} was there already and is now managed by this unit");
                        context.event(unit, Some(key), false, "Adopted", message);
                    }
                }
                Ok(Touched::Leave) => self.outcome.desired.retain(|desired| desired != key),
                Ok(Touched::Withhold(problem)) => {
                    self.outcome.problems.insert(key.clone(), problem);
                }
                Err(error) => self.failed(index, &error),
            }
        }
        if !intents.is_empty() {
            context.persist(intents).await?;
            context.intended.notify_one();
        }
        let mut writing = Vec::with_capacity(writes.len());
        for (index, fold) in writes {
            let object = &self.objects[index];
            writing.push(async move { (index, write(context, object, fold).await) });
        }
        let answers: Vec<_> = stream::iter(writing)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut results = Vec::new();
        for (index, answer) in answers {
            let object = &self.objects[index];
            let key = object.desired.key.clone();
            match answer {
                Ok(live) => {
                    context.note(unit, &key, Some(&live));
                    self.inventory.written(
                        &key,
                        Written {
                            api_version: object.api_version.clone(),
                            sent: object.desired.digest,
                            response: observe(&live, context.ledger.key()),
                        },
                    );
                    results.extend(item(unit, &self.inventory, &key));
                    self.outcome.written += 1;
                }
                Err(error) => self.failed(index, &error),
            }
        }
        Ok(context.persist(results).await?)
    }

    fn failed(&mut self, index: usize, error: &ClusterError) {
        let object = &self.objects[index];
        let key = object.desired.key.clone();
        let problem = match error {
            ClusterError::NotServed { .. } => {
                self.outcome.unserved = true;
                if object.resource.is_some() {
                    // It was served when last asked, and is no more.
                    self.context.forget_discovery();
                }
                Problem::Waiting(format!(
                    "{key}: no matches for kind {:?} in version {:?}: waiting for its definition",
                    key.kind, object.api_version
                ))
            }
            other => {
                self.outcome.transient |= other.is_transient();
                Problem::Failed(shown(&key, other))
            }
        };
        self.outcome.problems.insert(key, problem);
    }
}
