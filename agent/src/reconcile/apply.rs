//! Applies a batch of a unit's objects: looks, makes intents durable, writes, makes the answers durable. Which objects
//! and in which order is the state machine's to say. Nothing here deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    apply::{
        ignore::{Left, leave},
        inventory::{Record, State},
    },
    object::ObjectKey,
    unit::{
        event::{Adoption, Applied, Outcome},
        object::Observed,
        problem::{Problem, Retry},
    },
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    bodies::{BodiesError, Body, bodies},
    circuit_breaker::{CircuitBreaker, Stopped},
    context::UnitContext,
    evaluate::Object,
    jobs::{Done, caught, panicked},
    preflight::{Looked, Looks, Preflight, create, is_overtaken, write},
    problem::problem,
    records::{item, stored_record, written},
    replace::{Replaced, is_unchangeable, replace},
};
use crate::{
    causes::with_causes,
    cluster::Served,
    ledger::{LedgerError, record::Record as LedgerRecord},
};

/// Answers made durable at once, while further writes go on.
const ANSWERS: usize = 250;
/// How long an answer waits for others before it is made durable.
const SAVED: Duration = Duration::from_secs(1);
/// The API server publishes a new definition within a few seconds.
const DISCOVERIES: u32 = 6;

/// Applies objects. After a panic the rows learn at least what the ledger has of them.
pub(super) async fn apply(
    unit: &UnitContext,
    keys: Vec<(Arc<ObjectKey>, bool)>,
    cancel: &CancellationToken,
) -> Done<Outcome<Applied>> {
    let all: Vec<Arc<ObjectKey>> = keys.iter().map(|(key, _)| key.clone()).collect();
    match caught(apply_all(unit, keys, cancel)).await {
        Ok(done) => done,
        Err(message) => Done {
            outcomes: all.into_iter().filter_map(|key| not_begun(unit, key)).collect(),
            ..panicked(message)
        },
    }
}

/// The outcome of an object of which nothing is known but its record.
fn not_begun(unit: &UnitContext, key: Arc<ObjectKey>) -> Option<Outcome<Applied>> {
    let record = Some(stored_record(unit, &key)?);
    Some(Outcome {
        key,
        record,
        observed: None,
        adopted: None,
        result: Applied::NotBegun,
    })
}

async fn apply_all(
    unit: &UnitContext,
    keys: Vec<(Arc<ObjectKey>, bool)>,
    cancel: &CancellationToken,
) -> Done<Outcome<Applied>> {
    let evaluated = match bodies(unit, keys.iter().map(|(key, _)| key)).await {
        Ok(evaluated) => evaluated,
        Err(error) => return Done::failed(&error),
    };
    let fresh: BTreeMap<&ObjectKey, bool> = keys.iter().map(|(key, fresh)| (&**key, *fresh)).collect();
    let mut job = Job {
        unit,
        objects: Vec::new(),
        values: Vec::new(),
        shared: keys
            .iter()
            .map(|(key, _)| (key.as_ref().clone(), key.clone()))
            .collect(),
        outcomes: Vec::new(),
    };
    let mut by_key: BTreeMap<ObjectKey, (Object, Body)> = evaluated
        .objects
        .into_iter()
        .zip(evaluated.values)
        .map(|(object, value)| (object.desired.key.clone(), (object, value)))
        .collect();
    for (key, _) in &keys {
        match by_key.remove(&**key) {
            Some((object, value)) => {
                job.objects.push(object);
                job.values.push(value);
            }
            None => job.missing(key),
        }
    }
    // Discovery may be slow, and nothing is begun before it has ended.
    tokio::select! {
        resolved = job.resolve_kinds() => if let Err(error) = resolved {
            return Done::failed(&error);
        },
        () = cancel.cancelled() => return Done {
            outcomes: job.outcomes,
            failure: None,
            lost: false,
        },
    }
    let breaker = CircuitBreaker::new(unit);
    let is_fresh = |key: &ObjectKey| fresh.get(key).copied().unwrap_or_default();
    let all: Vec<usize> = (0..job.objects.len()).collect();
    let looks = Looks::at(unit, &breaker, cancel, &job.objects, &all, is_fresh).await;
    let overtaken = match job.write_all(looks, &breaker, cancel).await {
        Ok(overtaken) => overtaken,
        Err(error) => return Done::unsaved(job.outcomes, &error),
    };
    if !overtaken.is_empty() {
        // Somebody was faster.
        let mut looks = Looks::at(unit, &breaker, cancel, &job.objects, &overtaken, |_| false).await;
        for index in overtaken.into_iter().filter(|index| !looks.contains_key(index)) {
            job.end(index, job.intent(index), None, None, Applied::NotBegun);
        }
        for looked in looks.values_mut() {
            // A server that creates nothing with a version is asked as ever.
            if let Ok(Preflight::Write { create, .. }) = looked {
                *create = false;
            }
        }
        if let Err(error) = job.write_all(looks, &breaker, cancel).await {
            return Done::unsaved(job.outcomes, &error);
        }
    }
    Done {
        outcomes: job.outcomes,
        failure: None,
        lost: false,
    }
}

/// One object to write.
struct Write {
    index: usize,
    /// Only where it is not there.
    create: bool,
    adopted: Option<Adoption>,
    fold: Vec<Value>,
    left: Vec<Left>,
}

struct Job<'a> {
    unit: &'a UnitContext,
    objects: Vec<Object>,
    /// Their bodies.
    values: Vec<Body>,
    shared: BTreeMap<ObjectKey, Arc<ObjectKey>>,
    outcomes: Vec<Outcome<Applied>>,
}

impl Job<'_> {
    fn key(&self, index: usize) -> Arc<ObjectKey> {
        let key = &self.objects[index].desired.key;
        self.shared
            .get(key)
            .cloned()
            .unwrap_or_else(|| Arc::new(key.clone()))
    }

    fn record(&self, key: &ObjectKey) -> Option<Arc<Record>> {
        stored_record(self.unit, key)
    }

    /// An object's record where nothing was written yet: the row must know of it.
    fn intent(&self, index: usize) -> Option<Arc<Record>> {
        let record = self.record(&self.objects[index].desired.key);
        record.filter(|record| record.state == State::Intent)
    }

    fn end(
        &mut self,
        index: usize,
        record: Option<Arc<Record>>,
        observed: Option<Observed>,
        adopted: Option<Adoption>,
        result: Applied,
    ) {
        self.outcomes.push(Outcome {
            key: self.key(index),
            record,
            observed,
            adopted,
            result,
        });
    }

    /// The object was evaluated under this key before, and is not any more: a kind's scope became known.
    fn missing(&mut self, key: &Arc<ObjectKey>) {
        self.outcomes.push(Outcome {
            key: key.clone(),
            record: None,
            observed: None,
            adopted: None,
            result: Applied::Unknown,
        });
    }

    fn fail(
        &mut self,
        index: usize,
        record: Option<Arc<Record>>,
        adopted: Option<Adoption>,
        stopped: &Stopped,
    ) {
        let (problem, retry) = problem(&self.objects[index], stopped, &self.unit.acting);
        self.end(index, record, None, adopted, Applied::Problem { problem, retry });
    }

    /// Discovers again when a kind is not served as far as is known. Where the unit's own definition of it was
    /// established, discovery follows a moment later.
    async fn resolve_kinds(&mut self) -> Result<(), BodiesError> {
        for attempt in 0..DISCOVERIES {
            let unserved: BTreeSet<(String, String)> = self
                .objects
                .iter()
                .filter(|object| object.resource.is_none())
                .map(|object| (object.desired.key.group.clone(), object.desired.key.kind.clone()))
                .collect();
            if unserved.is_empty() {
                return Ok(());
            }
            let discovery = match attempt {
                0 => self.unit.context.rediscovered().await,
                _ if !self.defines(&unserved) => return Ok(()),
                _ => {
                    let pause = Duration::from_millis(100) * 2_u32.pow(attempt - 1);
                    tokio::time::sleep(pause).await;
                    self.unit.context.discovered_within(pause / 2).await
                }
            };
            let discovery = discovery.map_err(BodiesError::Discovery)?;
            for object in &mut self.objects {
                if let Served::Yes(resource) = discovery.find(&object.api_version, &object.desired.key.kind) {
                    object.resource = Some(resource.clone());
                }
            }
        }
        Ok(())
    }

    /// Tells whether the unit has a definition of the group of one of these kinds.
    fn defines(&self, kinds: &BTreeSet<(String, String)>) -> bool {
        self.unit.context.ledger.read(|state| {
            let unit = state.units.get(&self.unit.unit);
            unit.into_iter().flat_map(|unit| unit.items.keys()).any(|key| {
                key.kind == "CustomResourceDefinition"
                    && key
                        .name
                        .split_once('.')
                        .is_some_and(|(_, group)| kinds.iter().any(|(wanted, _)| wanted == group))
            })
        })
    }

    /// Writes what may be written after a look, and says of the rest why not. Returns what was to be created and is there:
    /// it is to be looked at again.
    async fn write_all(
        &mut self,
        looks: BTreeMap<usize, Looked>,
        breaker: &CircuitBreaker<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vec<usize>, LedgerError> {
        let mut writes = Vec::new();
        for (index, looked) in looks {
            match looked {
                Ok(Preflight::Write {
                    create,
                    adopted,
                    fold,
                    left,
                }) => writes.push(Write {
                    index,
                    create,
                    adopted,
                    fold,
                    left,
                }),
                Ok(Preflight::Leave) => self.end(index, self.intent(index), None, None, Applied::Left),
                Ok(Preflight::Withhold(problem)) => {
                    // What is about to go may be gone in a moment.
                    let retry = match problem {
                        Problem::Waiting(_) => Retry::Soon,
                        _ => Retry::Interval,
                    };
                    let result = Applied::Problem { problem, retry };
                    self.end(index, self.intent(index), None, None, result);
                }
                Err(stopped) => self.fail(index, self.intent(index), None, &stopped),
            }
        }
        // What was written once was this unit's, whatever its marks said meanwhile. An intent alone has written nothing.
        for write in &mut writes {
            let record = self.record(&self.objects[write.index].desired.key);
            if record.is_some_and(|record| record.sent.is_some()) {
                write.adopted = None;
            }
        }
        let writes = self.intend(writes).await?;
        if !writes.is_empty() {
            self.unit.context.check_sole_writer().await?;
        }
        self.write(writes, breaker, cancel).await
    }

    /// Makes durable that objects are about to be there. What is in the inventory already needs no second note.
    /// Returns what may be written: when the ledger takes nothing, that is what it knows.
    async fn intend(&mut self, writes: Vec<Write>) -> Result<Vec<Write>, LedgerError> {
        let mut intents = Vec::new();
        let mut new = BTreeSet::new();
        let mut kinds = BTreeMap::new();
        for Write { index, adopted, .. } in &writes {
            let object = &self.objects[*index];
            let policy = object.desired.policy;
            let key = self.key(*index);
            let record = match self.record(&key) {
                None => Record::intent(&object.api_version, adopted.is_some(), policy),
                Some(record) if record.state == State::PendingRemoval => {
                    let mut record = Arc::unwrap_or_clone(record);
                    record.intend();
                    record
                }
                // It was thought to be absent.
                Some(record) if record.state == State::Intent && adopted.is_some() && !record.adopted => {
                    let mut record = Arc::unwrap_or_clone(record);
                    record.adopted = true;
                    record
                }
                Some(_) => continue,
            };
            intents.push(item(self.unit, &key, record.into()));
            new.insert(*index);
            if let Some(resource) = &object.resource {
                kinds.insert((key.group.clone(), key.kind.clone()), resource.namespaced);
            }
        }
        // Where their kinds live is known as long as they are, also when those are served no more.
        self.unit
            .context
            .ledger
            .read(|state| kinds.retain(|kind, namespaced| state.kinds.get(kind) != Some(namespaced)));
        intents.extend(
            kinds
                .into_iter()
                .map(|((group, kind), namespaced)| LedgerRecord::Kind {
                    group,
                    kind,
                    namespaced,
                }),
        );
        if intents.is_empty() {
            return Ok(writes);
        }
        match self.unit.context.persist(intents).await {
            Ok(()) => {
                self.unit.context.intended.notify_one();
                Ok(writes)
            }
            Err(LedgerError::Lost) => Err(LedgerError::Lost),
            Err(error) => {
                let why = with_causes(&error);
                for index in &new {
                    let key = self.key(*index);
                    let problem =
                        Problem::Unanswered(format!("{key}: not written before the ledger has it: {why}"));
                    let retry = Retry::Soon;
                    self.end(*index, None, None, None, Applied::Problem { problem, retry });
                }
                Ok(writes
                    .into_iter()
                    .filter(|write| !new.contains(&write.index))
                    .collect())
            }
        }
    }

    /// Writes, and makes durable what came of it while further writes go on. A job that is cancelled, or whose time is
    /// over, begins no more: what it did not begin has no outcome. Returns what was to be created and is there, which has
    /// none yet either.
    async fn write(
        &mut self,
        writes: Vec<Write>,
        breaker: &CircuitBreaker<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vec<usize>, LedgerError> {
        let (unit, objects, values) = (self.unit, &self.objects, &self.values);
        let keys: Vec<Arc<ObjectKey>> = (0..objects.len()).map(|index| self.key(index)).collect();
        let context = &unit.context;
        let keys_of = &keys;
        let window = &context.windows.next(unit.unit);
        let writing = writes.into_iter().map(|planned| async move {
            let Write { index, adopted, .. } = planned;
            let Some(_place) = window.enter(&objects[index].desired.key, cancel).await else {
                return (index, adopted, Written::NotBegun);
            };
            let object = &objects[index];
            let mut value = values[index].value();
            leave(&mut value, &planned.left);
            let live = match planned.create {
                true => {
                    breaker
                        .call(&object.desired.key, create(unit, object, value))
                        .await
                }
                false => {
                    let call = write(unit, object, &value, planned.fold);
                    breaker.call(&object.desired.key, call).await
                }
            };
            // The body ends here: what is known of it is of fixed size.
            let answer = match live {
                Ok(live) => Written::Is(unit.observe(&live)),
                Err(Stopped::Cluster(error)) if planned.create && is_overtaken(&error) => Written::Overtaken,
                Err(stopped) if is_unchangeable(&stopped) => {
                    let replaced = replace(unit, breaker, object, &keys_of[index]).await;
                    let anew = || create(unit, object, values[index].value());
                    match replaced {
                        Replaced::Gone => match breaker.call(&object.desired.key, anew()).await {
                            Ok(live) => Written::Is(unit.observe(&live)),
                            Err(Stopped::Cluster(error)) if is_overtaken(&error) => Written::Overtaken,
                            Err(stopped) => Written::Stopped(stopped),
                        },
                        Replaced::Waits(why) => Written::Waits(why),
                        Replaced::Stays(None) => Written::Stopped(stopped),
                        Replaced::Stays(Some(why)) => Written::Stays(stopped, why),
                        Replaced::Stopped(stopped) => Written::Stopped(stopped),
                        Replaced::Lost(error) => Written::Lost(error),
                    }
                }
                Err(stopped) => Written::Stopped(stopped),
            };
            (index, adopted, answer)
        });
        let mut answers = Vec::new();
        // All of them wait for the window: those of a slow kind are not before the others.
        let writing: FuturesUnordered<_> = writing.collect();
        let mut chunks = Box::pin(tokio_stream::StreamExt::chunks_timeout(writing, ANSWERS, SAVED));
        let mut saved = Ok(());
        while let Some(chunk) = chunks.next().await {
            let mut records = Vec::new();
            for (index, adopted, answer) in chunk {
                let record = match &answer {
                    Written::Is(observed) => written(unit, &objects[index], observed),
                    _ => None,
                };
                records.extend(record.clone().map(|record| item(unit, &keys[index], record)));
                answers.push((index, adopted, record, answer));
            }
            saved = saved.and(context.persist_later(records));
        }
        drop(chunks);
        let mut overtaken = Vec::new();
        for (index, adopted, record, answer) in answers {
            // What the ledger has of it, an intent say, the row must know as well.
            let known = record.or_else(|| self.record(&self.objects[index].desired.key));
            match answer {
                Written::Is(observed) => self.end(index, known, Some(observed), adopted, Applied::Written),
                Written::Overtaken => overtaken.push(index),
                Written::Stopped(stopped) => self.fail(index, known, adopted, &stopped),
                Written::Waits(why) => {
                    let problem = Problem::Waiting(why.into());
                    let retry = Retry::Soon;
                    self.end(index, known, None, adopted, Applied::Problem { problem, retry });
                }
                Written::Stays(stopped, why) => {
                    let mut forced = self.objects[index].clone();
                    forced.desired.policy.force = true;
                    let (problem, retry) = problem(&forced, &stopped, &self.unit.acting);
                    let problem = Problem::Failed(format!("{}; {why}", problem.message()));
                    self.end(index, known, None, adopted, Applied::Problem { problem, retry });
                }
                Written::Lost(error) => saved = saved.and(Err(error)),
                Written::NotBegun => self.end(index, known, None, None, Applied::NotBegun),
            }
        }
        saved.map(|()| overtaken)
    }
}

/// What came of a write.
enum Written {
    /// It is there, as was observed of the answer.
    Is(Observed),
    /// It was to be created, and may be there.
    Overtaken,
    Stopped(Stopped),
    /// It is being deleted, to be made anew; in words.
    Waits(String),
    /// The server refuses to change it, and why it is not made anew although that was asked for.
    Stays(Stopped, String),
    /// This agent is not the only one.
    Lost(LedgerError),
    NotBegun,
}
