//! Which units there are, as the ledger says, and the evaluation of what each should be.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    id::UnitId,
    unit::{
        Entry,
        event::{Accepted, Evaluation, EvaluationFailure, Event},
        object::Desired,
        record::UnitRecord,
        state::State,
    },
};

use super::{
    Reconciler, Unit,
    context::Context,
    evaluate::{EvaluateError, Evaluated, evaluate},
    message::with_causes,
};

impl Reconciler {
    /// Takes in what the ledger says about units.
    pub(super) fn sync(&mut self) {
        let asked = self.nudge.take_asked();
        let offered: BTreeMap<UnitId, Accepted> = self.context.ledger.read(|state| {
            state
                .units
                .iter()
                .filter_map(|(id, unit)| {
                    let offered = unit.offered.as_ref()?;
                    // An entry that this version cannot read leaves what was enforced before in force.
                    let entry = offered
                        .entry
                        .clone()
                        .or_else(|| unit.enforced.as_ref()?.entry.clone())?;
                    let (digest, at) = (offered.digest, offered.at);
                    Some((*id, Accepted { entry, digest, at }))
                })
                .collect()
        });
        let gone: Vec<UnitId> = self
            .units
            .keys()
            .filter(|id| !offered.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.release(id);
        }
        for (id, accepted) in offered {
            match self.units.get(&id) {
                None => self.begin(id, accepted),
                Some(unit) => {
                    let is_news = unit.state.digest() != accepted.digest || unit.state.lacks_inputs();
                    if is_news {
                        self.feed(id, Event::Accepted(accepted));
                    }
                }
            }
            if asked.contains(&id) {
                self.feed(id, Event::Requested);
            }
        }
    }

    fn begin(&mut self, id: UnitId, accepted: Accepted) {
        let (record, enforced, items) = self.context.ledger.read(|state| {
            let unit = state.units.get(&id);
            let record: Option<UnitRecord> = unit
                .and_then(|unit| unit.record.as_ref())
                .and_then(|bytes| serde_json::from_slice(bytes).ok());
            let enforced = unit.and_then(|unit| unit.enforced.as_ref()?.entry.clone());
            let items: Vec<_> = unit
                .into_iter()
                .flat_map(|unit| &unit.items)
                .map(|(key, record)| (Arc::new(key.clone()), record.clone()))
                .collect();
            (record, enforced, items)
        });
        let state = State::new(accepted, record, enforced, items, self.context.now());
        self.units.insert(id, Unit { state, job: None });
        self.watches.stale = true;
        self.feed(id, Event::Tick);
    }

    /// Forgets a unit that the hub has let go of. What its job still answers is not heard, and what it writes into the
    /// ledger is not kept there.
    fn release(&mut self, id: UnitId) {
        if let Some((_, cancel)) = self.units.remove(&id).and_then(|unit| unit.job) {
            cancel.cancel();
        }
        self.queue.retain(|(unit, ..)| *unit != id);
        self.set_deadline(id, None);
        self.watches.stale = true;
        self.context.reports.forget(id);
    }
}

/// Evaluates the offered entry, or when that fails the one enforced before, with the reason. Also tells what kept it
/// from being tried at all.
pub(super) async fn evaluate_unit(
    context: &Context,
    unit: UnitId,
    offered: &Entry,
) -> (Option<EvaluationFailure>, Option<Evaluation>, Option<String>) {
    let discovery = match context.discovered().await {
        Ok(discovery) => discovery,
        Err(error) => {
            let message = format!("discovery failed: {}", with_causes(&error));
            return (None, None, Some(message));
        }
    };
    let key = context.ledger.key();
    context.ledger.read(|state| {
        let failure = match evaluate(state, offered, &discovery, key, None) {
            Ok(evaluated) => return (None, Some(evaluation(evaluated)), None),
            Err(error) => failure(&error),
        };
        let enforced = state
            .units
            .get(&unit)
            .and_then(|unit| unit.enforced.as_ref()?.entry.clone());
        let evaluated = enforced.and_then(|entry| evaluate(state, &entry, &discovery, key, None).ok());
        (Some(failure), evaluated.map(evaluation), None)
    })
}

fn failure(error: &EvaluateError) -> EvaluationFailure {
    EvaluationFailure {
        reason: error.reason(),
        message: error.to_string(),
    }
}

fn evaluation(evaluated: Evaluated) -> Evaluation {
    let complete = evaluated.complete;
    let objects = evaluated.objects.into_iter().map(|object| {
        let desired = Desired {
            digest: object.desired.digest,
            policy: object.desired.policy,
            api_version: object.api_version,
            withheld: object.withheld,
        };
        (Arc::new(object.desired.key), desired)
    });
    Evaluation {
        objects: objects.collect(),
        complete,
    }
}
