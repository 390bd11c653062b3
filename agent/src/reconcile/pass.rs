//! One pass over a unit: evaluate, plan, write stage by stage. Intents are durable before objects can exist by
//! our hand; what the server answered is durable before the next stage. Nothing here deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    apply::{
        drift::Observation,
        inventory::{Inventory, Left, Written},
        plan::{StagePlan, plan},
        stage::STAGE_WAIT,
    },
    health::State as HealthState,
    id::UnitId,
    object::ObjectKey,
    unit::Entry,
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    contact::look,
    context::{Context, shown},
    evaluate::{EvaluateError, Evaluated, Evaluation, Object},
    live::not_ready,
    obstacle::{Obstacles, Stopped},
    touch::{Touched, write},
};
use crate::{
    cluster::ClusterError,
    ledger::{LedgerError, record::Record},
};

/// Intents made durable at once.
const INTENTS: usize = 1000;
/// Results made durable at once, while further writes go on.
const RESULTS: usize = 250;
/// Calls begun at once; how many of them are asked of the server is the cluster's to limit.
pub const CONCURRENCY: usize = 32;

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
    /// Whether the server would take it is not known: it does not answer, or has too much to do.
    Unanswered(String),
    /// Its kind is not served, or an earlier object is being deleted, or an earlier stage is not ready.
    Waiting(String),
}

impl Problem {
    /// The words for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed(message)
            | Self::Withheld { message, .. }
            | Self::Unanswered(message)
            | Self::Waiting(message) => message,
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
async fn evaluate_unit(
    context: &Context,
    unit: UnitId,
    offered: &Entry,
) -> (Option<(Arc<Entry>, Evaluation, Evaluated)>, Option<EvaluateError>) {
    let error = match evaluate(context, Arc::new(offered.clone())).await {
        Ok(evaluated) => return (Some(evaluated), None),
        Err(error) => error,
    };
    let enforced = context
        .ledger
        .read(|state| state.units.get(&unit)?.enforced.as_ref()?.entry.clone());
    match enforced {
        Some(entry) => (evaluate(context, entry).await.ok(), Some(error)),
        None => (None, Some(error)),
    }
}

async fn evaluate(
    context: &Context,
    entry: Arc<Entry>,
) -> Result<(Arc<Entry>, Evaluation, Evaluated), EvaluateError> {
    let environment = context.environment();
    let mut evaluation = context
        .ledger
        .read(|state| Evaluation::begin(state, &entry, environment, None))?;
    let evaluated = evaluation.finish().await?;
    Ok((entry, evaluation, evaluated))
}

/// The problem of an object that this unit may not write.
pub fn withheld(why: &str) -> Problem {
    Problem::Withheld {
        reason: "Conflict",
        message: why.to_owned(),
    }
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
    let (evaluated, error) = evaluate_unit(context, unit, offered).await;
    let Some((entry, evaluation, evaluated)) = evaluated else {
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
        evaluation,
        objects: evaluated.objects,
        values: evaluated.values,
        inventory: inventory(context, unit),
        outcome: Outcome {
            evaluation: error,
            ..Outcome::default()
        },
        unsaved: Vec::new(),
    };
    for object in &pass.objects {
        if let Some(why) = &object.withheld {
            let key = object.desired.key.clone();
            pass.outcome.problems.insert(key, withheld(why));
        }
    }
    pass.begin(evaluated.complete);
    pass.stages().await?;
    context.persist(pass.unsaved).await?;
    Ok(pass.outcome)
}

/// Takes in that an object is applied, and returns the record that makes it durable.
fn applied(
    unit: UnitId,
    inventory: &mut Inventory,
    object: &Object,
    response: Option<Observation>,
) -> Option<Record> {
    let key = &object.desired.key;
    let written = Written {
        api_version: object.api_version.clone(),
        sent: object.desired.digest,
        policy: object.desired.policy,
        response: response?,
    };
    inventory.written(key, written);
    item(unit, inventory, key)
}

struct Pass<'a> {
    context: &'a Context,
    unit: UnitId,
    entry: Arc<Entry>,
    evaluation: Evaluation,
    objects: Vec<Object>,
    values: Vec<Value>,
    inventory: Inventory,
    outcome: Outcome,
    /// Notes that are made durable with the next that something depends on, or at the end.
    unsaved: Vec<Record>,
}

/// One object to write.
struct Write {
    index: usize,
    adopted: bool,
    fold: Vec<Value>,
}

impl Pass<'_> {
    /// Notes what is enforced from now on, and which objects are not wanted any more.
    fn begin(&mut self, complete: bool) {
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
            let left = Left {
                version: self.entry.version,
                content: self.entry.content,
            };
            for key in &first.removed {
                self.inventory.remove_later(key, left);
                records.extend(item(self.unit, &self.inventory, key));
            }
        }
        let skipped: BTreeSet<usize> = first.skipped.into_iter().collect();
        let wanted = self
            .objects
            .iter()
            .enumerate()
            .filter(|(index, object)| !skipped.contains(index) && object.withheld.is_none());
        self.outcome.desired = wanted.map(|(_, object)| object.desired.key.clone()).collect();
        self.unsaved = records;
    }

    async fn stages(&mut self) -> Result<(), PassError> {
        let desired: Vec<_> = self.objects.iter().map(|object| object.desired.clone()).collect();
        let stages = plan(&desired, &self.inventory, &BTreeSet::new()).stages;
        let mut closed: Option<String> = None;
        for mut stage in stages {
            stage
                .writes
                .retain(|(index, _)| self.objects[*index].withheld.is_none());
            if stage.writes.is_empty() {
                continue;
            }
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
            self.touch(&indices).await?;
            let keys = indices.iter().map(|index| &self.objects[*index].desired.key);
            closed = keys
                .into_iter()
                .find_map(|key| match self.outcome.problems.get(key)? {
                    Problem::Failed(_) => Some(format!("waits for {key}, which failed")),
                    Problem::Unanswered(_) => {
                        Some(format!("waits for {key}, about which there is no answer"))
                    }
                    Problem::Withheld { .. } | Problem::Waiting(_) => None,
                });
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
            .all(|(_, health)| !matches!(health.state, HealthState::Failed | HealthState::Terminating));
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
            self.evaluation.rediscovered(discovery);
            for (index, _) in &stage.writes {
                // What is served now decides the key, too.
                let object = &self.objects[*index];
                if object.resource.is_none()
                    && let Ok((object, value)) = self.evaluation.object(object.index).await
                {
                    (self.objects[*index], self.values[*index]) = (object, value);
                }
            }
        }
        Ok(())
    }

    /// Looks at the objects of a stage, and writes those that are ours to write.
    async fn touch(&mut self, indices: &[usize]) -> Result<(), PassError> {
        let context = self.context;
        let obstacles = Obstacles::new(context);
        let looks = look(
            context,
            self.unit,
            &self.objects,
            indices,
            &self.inventory,
            &obstacles,
        )
        .await;
        let mut writes = Vec::new();
        for (index, looked) in looks {
            let key = &self.objects[index].desired.key;
            match looked {
                Ok(Touched::Write { adopted, fold }) => writes.push(Write { index, adopted, fold }),
                Ok(Touched::Leave) => self.outcome.desired.retain(|desired| desired != key),
                Ok(Touched::Withhold(problem)) => {
                    self.outcome.problems.insert(key.clone(), problem);
                }
                Err(error) => self.failed(index, &error),
            }
        }
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(INTENTS));
            self.intend(&writes).await?;
            self.write(std::mem::replace(&mut writes, rest), &obstacles)
                .await?;
        }
        Ok(())
    }

    /// Makes durable that objects are about to be there. What is in the inventory already needs no second note.
    async fn intend(&mut self, writes: &[Write]) -> Result<(), PassError> {
        let mut intents = std::mem::take(&mut self.unsaved);
        let before = intents.len();
        for Write { index, adopted, .. } in writes {
            let object = &self.objects[*index];
            let key = &object.desired.key;
            let known = self.inventory.get(key).map(|record| record.state);
            self.inventory.intend(key.clone(), &object.api_version, *adopted);
            if known != self.inventory.get(key).map(|record| record.state) {
                intents.extend(item(self.unit, &self.inventory, key));
            }
            if *adopted {
                let message = format!("{key} was there already and is now managed by this unit");
                self.context
                    .event(self.unit, Some(key), false, "Adopted", message);
            }
        }
        if intents.len() == before {
            // Nothing depends on these; they go with the results.
            self.unsaved = intents;
            return Ok(());
        }
        self.context.persist(intents).await?;
        self.context.intended.notify_one();
        Ok(())
    }

    /// Writes, and makes durable what came of it while further writes go on.
    async fn write(&mut self, writes: Vec<Write>, obstacles: &Obstacles<'_>) -> Result<(), PassError> {
        let (context, unit) = (self.context, self.unit);
        let (objects, values) = (&self.objects, &self.values);
        let writing = writes.into_iter().map(|Write { index, fold, .. }| async move {
            let object = &objects[index];
            let key = &object.desired.key;
            let live = obstacles
                .pass(key, write(context, object, &values[index], fold))
                .await;
            // The body ends here: what is known of it is of fixed size.
            let seen = live.map(|live| context.note(unit, key, Some(&live)));
            (index, seen)
        });
        let (inventory, unsaved) = (&mut self.inventory, &mut self.unsaved);
        let mut failures = Vec::new();
        let mut written = 0;
        let mut saving = stream::iter(writing.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENCY)
            .chunks(RESULTS)
            .map(|answers| {
                let mut results = std::mem::take(unsaved);
                for (index, answer) in answers {
                    let object = &objects[index];
                    match answer {
                        Ok(seen) => {
                            results.extend(applied(unit, inventory, object, seen.observation));
                            written += 1;
                        }
                        Err(error) => failures.push((index, error)),
                    }
                }
                context.persist(results)
            })
            // The second of two waits its turn at the ledger; meanwhile writes go on.
            .buffered(2);
        while let Some(saved) = saving.next().await {
            saved?;
        }
        drop(saving);
        self.outcome.written += written;
        for (index, error) in failures {
            self.failed(index, &error);
        }
        Ok(())
    }

    fn failed(&mut self, index: usize, stopped: &Stopped) {
        let object = &self.objects[index];
        let key = &object.desired.key;
        if let Stopped::Cluster(ClusterError::NotServed { .. }) = stopped {
            self.outcome.unserved = true;
            if object.resource.is_some() {
                // It was served when last asked, and is no more.
                self.context.forget_discovery();
            }
        }
        if let Stopped::Cluster(error) = stopped {
            self.outcome.transient |= error.is_transient();
        }
        let problem = problem(key, &object.api_version, stopped);
        self.outcome.problems.insert(key.clone(), problem);
    }
}

/// What an object's status says of why it was not written.
pub fn problem(key: &ObjectKey, api_version: &str, stopped: &Stopped) -> Problem {
    match stopped {
        Stopped::Cluster(ClusterError::NotServed { .. }) => Problem::Waiting(format!(
            "{key}: no matches for kind {:?} in version {api_version:?}: waiting for its definition",
            key.kind
        )),
        Stopped::Cluster(error @ (ClusterError::Unavailable(_) | ClusterError::Overloaded { .. })) => {
            Problem::Unanswered(shown(key, error))
        }
        Stopped::Cluster(error) => Problem::Failed(shown(key, error)),
        Stopped::Terminating(why) if why.is_empty() => {
            Problem::Waiting(format!("{key}: its namespace is being deleted"))
        }
        Stopped::Terminating(why) => {
            Problem::Waiting(format!("{key}: its namespace is being deleted: {why}"))
        }
    }
}
