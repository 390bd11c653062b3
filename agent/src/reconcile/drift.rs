//! Suspicions of a unit's objects: look, judge again, confirm by one dry run, correct at once, say who it was.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    apply::{
        drift::{Corrections, Drift, Judgement, Suspicion, Verdict, confirm, judge, observe},
        inventory::{Inventory, State, Written},
    },
    clock::Timestamp,
    id::UnitId,
    object::ObjectKey,
    unit::Entry,
};
use serde_json::Value;

use super::{
    context::Context,
    evaluate::{Evaluated, Evaluation, Object},
    obstacle::{Obstacles, Stopped},
    pass::{PassError, Problem, inventory, item, problem, withheld},
    touch::{self, FluxOwners, Touched, served},
};
use crate::{cluster::ClusterError, ledger::record::Record};

/// What came of the suspicions.
#[derive(Debug, Default)]
pub struct Checked {
    /// Objects that could not be corrected.
    pub problems: BTreeMap<ObjectKey, Problem>,
    /// Objects that are as they should be.
    pub settled: Vec<ObjectKey>,
    /// When contested objects are to be looked at again.
    pub contested: BTreeMap<ObjectKey, Timestamp>,
    /// Objects gone that were not wanted any more.
    pub gone: Vec<ObjectKey>,
    /// How often each object was corrected lately.
    pub corrections: BTreeMap<ObjectKey, Corrections>,
}

/// Looks at each of `keys` and corrects what drifted.
pub async fn check(
    context: &Context,
    unit: UnitId,
    keys: Vec<ObjectKey>,
    corrections: BTreeMap<ObjectKey, Corrections>,
) -> Result<Checked, PassError> {
    if context.discovery().is_empty() {
        context.rediscover().await.map_err(PassError::Discovery)?;
    }
    let Some((entry, evaluated)) = enforced(context, unit, &keys).await else {
        return Ok(Checked::default());
    };
    let objects: BTreeMap<&ObjectKey, (&Object, &Value)> = evaluated
        .objects
        .iter()
        .zip(&evaluated.values)
        .map(|(object, value)| (&object.desired.key, (object, value)))
        .collect();
    let mut check = Check {
        context,
        unit,
        entry: &entry,
        inventory: inventory(context, unit),
        flux: FluxOwners::default(),
        obstacles: Obstacles::new(context),
        checked: Checked {
            corrections,
            ..Checked::default()
        },
    };
    for key in keys {
        let done = match objects.get(&key) {
            Some((
                Object {
                    withheld: Some(why), ..
                },
                _,
            )) => {
                check.checked.problems.insert(key, withheld(why));
                continue;
            }
            Some((object, value)) => check.one(&key, object, value).await,
            None => check.undesired(&key).await,
        };
        match done {
            Ok(()) => {}
            Err(Stop::Pass(e)) => return Err(e),
            Err(Stop::Object(stopped)) => {
                let api_version = objects.get(&key).map(|(object, _)| object.api_version.as_str());
                let problem = problem(&key, api_version.unwrap_or_default(), &stopped);
                check.checked.problems.insert(key, problem);
            }
        }
    }
    Ok(check.checked)
}

/// Evaluates what is enforced, of it only what may be among `keys`. What was offered since comes by a pass.
async fn enforced(context: &Context, unit: UnitId, keys: &[ObjectKey]) -> Option<(Arc<Entry>, Evaluated)> {
    let environment = context.environment();
    let (entry, mut evaluation) = context.ledger.read(|state| {
        let entry = state.units.get(&unit)?.enforced.as_ref()?.entry.clone()?;
        let evaluation = Evaluation::begin(state, &entry, environment, Some(keys)).ok()?;
        Some((entry, evaluation))
    })?;
    let evaluated = evaluation.finish().await.ok()?;
    Some((entry, evaluated))
}

enum Stop {
    Pass(PassError),
    Object(Stopped),
}

impl From<ClusterError> for Stop {
    fn from(error: ClusterError) -> Self {
        Self::Object(error.into())
    }
}

struct Check<'a> {
    context: &'a Context,
    unit: UnitId,
    entry: &'a Entry,
    inventory: Inventory,
    flux: FluxOwners,
    obstacles: Obstacles<'a>,
    checked: Checked,
}

impl Check<'_> {
    async fn one(&mut self, key: &ObjectKey, object: &Object, value: &Value) -> Result<(), Stop> {
        let Some(record) = self.inventory.get(key).cloned() else {
            return Ok(());
        };
        let resource = served(object)?;
        let read = self.context.cluster.get(resource, &key.namespace, &key.name);
        let live = self.obstacles.pass(key, read).await.map_err(Stop::Object)?;
        let seen = self.context.note(self.unit, key, live.as_ref());
        let suspicion = match judge(&record, seen.observation.as_ref()) {
            Judgement::Suspicious(suspicion) => suspicion,
            Judgement::InSync | Judgement::NotJudged => {
                self.checked.settled.push(key.clone());
                return Ok(());
            }
        };
        let fold = match touch::judge(self.context, self.unit, object, live.as_ref(), &self.flux).await? {
            Touched::Write { fold, .. } => fold,
            Touched::Leave => {
                self.checked.settled.push(key.clone());
                return Ok(());
            }
            Touched::Withhold(problem) => {
                self.checked.problems.insert(key.clone(), problem);
                return Ok(());
            }
        };
        let drift = match &live {
            None => Some(Drift::gone()),
            Some(live) => {
                let dry_run = self.context.cluster.apply(resource, value, true).await?;
                confirm(live, &dry_run)
            }
        };
        match (&drift, &suspicion, &live) {
            // Nothing would change, and nobody else's entry is to be folded: this is what it looks like now.
            (None, Suspicion::Fields, Some(live)) => self.accept(key, live).await,
            (Some(drift), ..) => match self.decide(key, drift) {
                Verdict::Correct => {
                    self.correct(key, (object, value), fold, &suspicion, Some(drift))
                        .await
                }
                Verdict::Contested { until } => {
                    self.checked.contested.insert(key.clone(), until);
                    Ok(())
                }
            },
            (None, ..) => self.correct(key, (object, value), fold, &suspicion, None).await,
        }
    }

    fn decide(&mut self, key: &ObjectKey, drift: &Drift) -> Verdict {
        let now = self.context.now();
        let corrections = self.checked.corrections.entry(key.clone()).or_default();
        let before = corrections.contested(now).is_some();
        let verdict = corrections.decide(drift, now, self.entry.settings.interval);
        if !before && corrections.contested(now).is_some() {
            let who = drift.manager.as_deref().unwrap_or("somebody");
            let message = format!(
                "{key}: {} is put back by {who} again and again; corrected from now on once in the unit's interval",
                drift.paths.join(", ")
            );
            self.context
                .event(self.unit, Some(key), true, "DriftContested", message);
        }
        verdict
    }

    async fn accept(&mut self, key: &ObjectKey, live: &Value) -> Result<(), Stop> {
        self.inventory
            .accept(key, &observe(live, self.context.ledger.key()));
        self.persist(key).await?;
        self.checked.settled.push(key.clone());
        Ok(())
    }

    async fn correct(
        &mut self,
        key: &ObjectKey,
        (object, value): (&Object, &Value),
        fold: Vec<Value>,
        suspicion: &Suspicion,
        drift: Option<&Drift>,
    ) -> Result<(), Stop> {
        let writing = touch::write(self.context, object, value, fold);
        let live = self.obstacles.pass(key, writing).await.map_err(Stop::Object)?;
        self.context.note(self.unit, key, Some(&live));
        self.inventory.written(
            key,
            Written {
                api_version: object.api_version.clone(),
                sent: object.desired.digest,
                policy: object.desired.policy,
                response: observe(&live, self.context.ledger.key()),
            },
        );
        self.persist(key).await?;
        self.checked.settled.push(key.clone());
        self.context.event(
            self.unit,
            Some(key),
            false,
            "DriftCorrected",
            told(key, suspicion, drift),
        );
        Ok(())
    }

    /// An object that is not wanted any more: it stays. When somebody else has removed it, it is forgotten.
    async fn undesired(&mut self, key: &ObjectKey) -> Result<(), Stop> {
        let Some(record) = self
            .inventory
            .get(key)
            .filter(|record| record.state == State::PendingRemoval)
        else {
            return Ok(());
        };
        let discovery = self.context.discovery();
        let crate::cluster::Served::Yes(resource) = discovery.find(&record.api_version, &key.kind) else {
            return Ok(());
        };
        if self
            .context
            .cluster
            .get(resource, &key.namespace, &key.name)
            .await?
            .is_none()
        {
            self.inventory.forget(key);
            let dropped = Record::Dropped {
                unit: self.unit,
                key: key.clone(),
            };
            self.context
                .persist(vec![dropped])
                .await
                .map_err(|e| Stop::Pass(e.into()))?;
            self.checked.gone.push(key.clone());
        }
        Ok(())
    }

    async fn persist(&self, key: &ObjectKey) -> Result<(), Stop> {
        let record = item(self.unit, &self.inventory, key);
        self.context
            .persist(record.into_iter().collect())
            .await
            .map_err(|e| Stop::Pass(e.into()))
    }
}

fn told(key: &ObjectKey, suspicion: &Suspicion, drift: Option<&Drift>) -> String {
    match (suspicion, drift) {
        (Suspicion::Gone, _) => format!("{key} was deleted; created again"),
        (_, Some(drift)) => {
            let who = drift.manager.as_deref().unwrap_or("somebody");
            let paths = drift.paths.join(", ");
            format!("{key} was changed by {who} at {paths}; corrected")
        }
        (suspicion, None) => format!("{key}: {suspicion}; applied again"),
    }
}
