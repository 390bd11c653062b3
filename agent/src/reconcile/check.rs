//! Checks objects that look drifted: reads each, unless its watch has just shown it whole, and corrects it at once. Of
//! one that was corrected lately a dry run tells first what a write would change, since it may be contested; of all
//! others the write tells, and where nothing drifted it changes nothing. What an answer means is decided in `core`; the
//! outcome goes back to the state machine.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    apply::{
        drift::{
            Drift, Judgement, Suspicion, Verdict, confirm, is_applied_since, judge, observe as observation,
        },
        ignore::leave,
        inventory::{Record, State},
    },
    object::ObjectKey,
    unit::{
        event::{CheckOutcome, Checked, Outcome, ToCheck},
        object::Observed,
        problem::{Problem, Retry},
    },
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    bodies::{self, bodies},
    circuit_breaker::{CircuitBreaker, Stopped},
    context::UnitContext,
    correct::{Confirmed, Correction},
    evaluate::Object,
    jobs::Done,
    message::shown,
    observe::gone,
    preflight::{CONCURRENCY, FluxOwners, Preflight, preflight, served},
    problem::problem,
    records::{item, stored_record},
    sightings::Sighting,
    window::{OPEN, Window},
};
use crate::cluster::{ClusterError, Resource, Served};

/// Checks objects.
pub(super) async fn check(
    unit: &UnitContext,
    objects: Vec<ToCheck>,
    cancel: &CancellationToken,
) -> Done<CheckOutcome> {
    let evaluated = match bodies(unit, objects.iter().map(|object| &object.key)).await {
        Ok(evaluated) => evaluated,
        Err(error) => return Done::failed(&error),
    };
    let by_key: BTreeMap<&ObjectKey, Body<'_>> = evaluated
        .objects
        .iter()
        .zip(&evaluated.values)
        .map(|(object, value)| (&object.desired.key, Body { object, value }))
        .collect();
    let check = Check {
        until: Instant::now() + OPEN,
        unit,
        flux: FluxOwners::default(),
        breaker: CircuitBreaker::new(unit),
        cancel,
        window: unit.context.windows.next(unit.unit),
    };
    let looks = objects.into_iter().map(|object| {
        let body = by_key.get(&*object.key).copied();
        check.look(object, body)
    });
    let looks: Vec<Look<'_>> = stream::iter(looks.collect::<Vec<_>>())
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let (mut outcomes, mut corrections) = (Vec::new(), Vec::new());
    for look in looks {
        match look {
            Look::Over(outcome) => outcomes.push(*outcome),
            Look::Correct(correction) => corrections.push(*correction),
        }
    }
    if let Err(error) = check.may_write(&mut corrections).await {
        return Done::unsaved(outcomes, &error);
    }
    let corrected = corrections
        .into_iter()
        .map(|correction| check.correct(correction));
    let corrected: Vec<CheckOutcome> = stream::iter(corrected.collect::<Vec<_>>())
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
        .collect()
        .await;
    outcomes.extend(corrected);
    let records = outcomes.iter().filter_map(|CheckOutcome { outcome, .. }| {
        let record = outcome.record.clone()?;
        // A try that changed nothing is none of the ledger's business.
        let is_stored = stored_record(unit, &outcome.key).as_ref() == Some(&record);
        (!is_stored).then(|| item(unit, &outcome.key, record))
    });
    match unit.context.persist_later(records.collect()) {
        Ok(()) => Done {
            outcomes,
            failure: None,
            lost: false,
        },
        Err(error) => Done::unsaved(outcomes, &error),
    }
}

/// An object and what would be sent.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) object: &'a Object,
    pub(super) value: &'a bodies::Body,
}

/// What a look at an object gave.
pub(super) enum Look<'a> {
    Over(Box<CheckOutcome>),
    Correct(Box<Correction<'a>>),
}

pub(super) struct Check<'a> {
    /// No look begins later: what is not reached is checked again, behind other units.
    until: Instant,
    pub(super) unit: &'a UnitContext,
    flux: FluxOwners,
    pub(super) breaker: CircuitBreaker<'a>,
    pub(super) cancel: &'a CancellationToken,
    pub(super) window: Window,
}

impl<'a> Check<'a> {
    /// Looks at an object and decides. `None`: cancelled before it was known.
    async fn look(&self, object: ToCheck, body: Option<Body<'a>>) -> Option<Look<'a>> {
        let key = object.key.clone();
        if self.cancel.is_cancelled() || Instant::now() >= self.until {
            return None;
        }
        let looking = async {
            match body {
                Some(body) => self.desired(object, body).await,
                None => Ok(self.undesired(&key).await),
            }
        };
        let looked = tokio::select! {
            () = self.cancel.cancelled() => return None,
            looked = looking => looked,
        };
        Some(looked.unwrap_or_else(|stopped| {
            let (problem, retry) = match body {
                Some(body) => problem(body.object, &stopped, &self.unit.acting),
                None => (Problem::Waiting(key.to_string().into()), Retry::Soon),
            };
            over(key, None, None, Checked::Problem { problem, retry })
        }))
    }

    /// How an object's kind is served; it may be since the last answer.
    async fn resource(&self, object: &Object) -> Result<Resource, Stopped> {
        let unserved = match served(object) {
            Ok(resource) => return Ok(resource.clone()),
            Err(unserved) => unserved,
        };
        let discovery = self.unit.context.rediscovered().await?;
        match discovery.find(&object.api_version, &object.desired.key.kind) {
            Served::Yes(resource) => Ok(resource.clone()),
            _ => Err(unserved.into()),
        }
    }

    async fn desired(&self, object: ToCheck, body: Body<'a>) -> Result<Look<'a>, Stopped> {
        let key = &object.key;
        // The last pass has said so, and the next one says when it is over.
        if body.object.withheld.is_some() {
            return Ok(over(key.clone(), None, None, Checked::InSync));
        }
        let Some(record) = stored_record(self.unit, key) else {
            return Ok(over(key.clone(), None, None, Checked::InSync));
        };
        let sighting = self.unit.context.sightings.take(self.unit.unit, key);
        if let Some(sighting) = sighting
            && let Some(correction) = self.at_sight(&object, body, &record, sighting).await?
        {
            return Ok(Look::Correct(Box::new(correction)));
        }
        self.read(object, body, record, None).await
    }

    /// Reads an object and decides. `written`: as it was before a write for that version, which was refused for another:
    /// what it has changed all the same is a correction.
    pub(super) async fn read<'b>(
        &self,
        ToCheck { key, mut corrections }: ToCheck,
        body: Body<'b>,
        record: Arc<Record>,
        written: Option<&Value>,
    ) -> Result<Look<'b>, Stopped> {
        let key = &key;
        let Body { object, value } = body;
        let (context, cluster) = (&self.unit.context, &self.unit.cluster);
        let resource = self.resource(object).await?;
        // Also what a watch has told to be gone: it may only have lost our label, or be there again, and be somebody else's.
        let read = cluster.get(&resource, &key.namespace, &key.name);
        let live = self.breaker.call(key, read).await?;
        let observed = match &live {
            Some(live) => self.unit.observe(live),
            None => gone(None),
        };
        let done = written
            .zip(live.as_ref())
            .filter(|(before, live)| is_applied_since(before, live))
            .and_then(|(before, live)| confirm(before, live));
        let suspicion = match judge(&record, observed.observation.as_ref()) {
            Judgement::Suspicious(suspicion) => suspicion,
            Judgement::InSync | Judgement::NotJudged => {
                if let Some(drift) = done {
                    let interval = self.unit.entry.settings.interval;
                    corrections.decide(&drift, context.wall(), interval);
                    let result = Checked::Corrected {
                        suspicion: Suspicion::Fields,
                        drift: Some(drift),
                    };
                    let mut look = outcome(key.clone(), None, Some(observed), result);
                    look.corrections = Some(corrections);
                    return Ok(Look::Over(Box::new(look)));
                }
                return Ok(over(key.clone(), None, Some(observed), Checked::InSync));
            }
        };
        let (fold, left) = match preflight(self.unit, object, live.as_ref(), &self.flux).await? {
            Preflight::Write { fold, left, .. } => (fold, left),
            Preflight::Leave => {
                let record = accepted(record, &observed);
                return Ok(over(key.clone(), Some(record), Some(observed), Checked::InSync));
            }
            Preflight::Withhold(problem) => {
                let retry = Retry::Interval;
                return Ok(over(
                    key.clone(),
                    None,
                    Some(observed),
                    Checked::Problem { problem, retry },
                ));
            }
        };
        let drift = match live {
            None => Some(Drift::gone()),
            // Of what is left to others a write would become the owner: only a dry run tells whether there is a reason for one.
            Some(live) if corrections.is_empty(context.wall()) && left.is_empty() => {
                return Ok(Look::Correct(Box::new(Correction {
                    key: key.clone(),
                    body,
                    record,
                    fold,
                    left,
                    suspicion,
                    confirmed: Confirmed::ByWrite(live),
                    corrections,
                    done,
                })));
            }
            Some(live) => {
                let mut sent = value.value();
                leave(&mut sent, &left);
                let dry_run = self
                    .breaker
                    .call(key, cluster.apply(&resource, &sent, true))
                    .await?;
                confirm(&live, &dry_run)
            }
        };
        // Nothing would change, and nobody else's entry is to be folded: this is what it looks like now.
        if is_none(&suspicion, drift.as_ref()) && fold.is_empty() {
            let mut record = accepted(record, &observed);
            let uid = observed.observation.as_ref().and_then(|seen| seen.uid.clone());
            Arc::make_mut(&mut record).found(uid);
            return Ok(over(key.clone(), Some(record), Some(observed), Checked::InSync));
        }
        let counted = counted(drift.as_ref());
        let verdict = corrections.decide(&counted, context.wall(), self.unit.entry.settings.interval);
        if let Verdict::Contested { until } = verdict {
            let drift = counted;
            let result = Checked::Contested { until, drift };
            let mut look = outcome(key.clone(), None, Some(observed), result);
            look.corrections = Some(corrections);
            return Ok(Look::Over(Box::new(look)));
        }
        Ok(Look::Correct(Box::new(Correction {
            key: key.clone(),
            body,
            record,
            fold,
            left,
            suspicion,
            confirmed: Confirmed::Before(drift),
            corrections,
            done,
        })))
    }

    /// The correction of an object by what its watch has shown: where that is drift, which a write alone answers, and no
    /// contest. `None`: it is to be read.
    async fn at_sight(
        &self,
        ToCheck { key, corrections }: &ToCheck,
        body: Body<'a>,
        record: &Arc<Record>,
        sighting: Sighting,
    ) -> Result<Option<Correction<'a>>, Stopped> {
        let (context, live) = (&self.unit.context, &sighting.live);
        if !body.object.left.is_empty() {
            return Ok(None);
        }
        let seen = observation(live, context.ledger.key());
        let Judgement::Suspicious(suspicion) = judge(record, Some(&seen)) else {
            return Ok(None);
        };
        // Fields of two versions of a kind cannot be compared.
        if live["apiVersion"] != body.object.api_version.as_str() || !corrections.is_empty(context.wall()) {
            return Ok(None);
        }
        match preflight(self.unit, body.object, Some(live), &self.flux).await? {
            Preflight::Write { fold, .. } if fold.is_empty() => Ok(Some(Correction {
                key: key.clone(),
                body,
                record: record.clone(),
                fold,
                left: Vec::new(),
                suspicion,
                confirmed: Confirmed::AtSight(sighting),
                corrections: corrections.clone(),
                done: None,
            })),
            _ => Ok(None),
        }
    }

    /// An object that is not wanted any more: it stays. When somebody else has removed it, it is forgotten.
    async fn undesired(&self, key: &Arc<ObjectKey>) -> Look<'a> {
        let pending = |record: &Arc<Record>| record.state == State::PendingRemoval;
        let Some(record) = stored_record(self.unit, key).filter(pending) else {
            return over(key.clone(), None, None, Checked::InSync);
        };
        let discovery = self.unit.context.discovery();
        let Served::Yes(resource) = discovery.find(&record.api_version, &key.kind) else {
            // Whether it is there cannot be asked. Absence of its kind proves nothing.
            return over(key.clone(), None, None, Checked::InSync);
        };
        let read = self.unit.cluster.get(resource, &key.namespace, &key.name).await;
        match read {
            Ok(None) => over(key.clone(), None, Some(gone(None)), Checked::Gone),
            Ok(Some(live)) => {
                let observed = self.unit.observe(&live);
                over(key.clone(), None, Some(observed), Checked::InSync)
            }
            // It is no problem of the unit that an object cannot be read which it does not want.
            Err(error @ ClusterError::Rejected { .. }) => {
                tracing::info!(
                    "{}",
                    shown(key, key.is_secret(), record.policy, &self.unit.acting, &error)
                );
                over(key.clone(), None, None, Checked::InSync)
            }
            Err(error) => {
                let why = shown(key, key.is_secret(), record.policy, &self.unit.acting, &error);
                let problem = Problem::Waiting(why.into());
                let retry = Retry::Soon;
                over(key.clone(), None, None, Checked::Problem { problem, retry })
            }
        }
    }
}

/// Tells whether nothing of ours differs.
pub(super) fn is_none(suspicion: &Suspicion, drift: Option<&Drift>) -> bool {
    drift.is_none() && matches!(suspicion, Suspicion::Fields | Suspicion::Replaced { .. })
}

/// What a correction counts as. Also who changes no value, and only whose the fields are, may do so again and again.
pub(super) fn counted(drift: Option<&Drift>) -> Drift {
    drift.cloned().unwrap_or_else(|| Drift {
        paths: vec!["/metadata/managedFields".to_owned()],
        manager: None,
    })
}

fn accepted(mut record: Arc<Record>, observed: &Observed) -> Arc<Record> {
    if let Some(observation) = &observed.observation {
        Arc::make_mut(&mut record).accept(observation);
    }
    record
}

fn over<'a>(
    key: Arc<ObjectKey>,
    record: Option<Arc<Record>>,
    observed: Option<Observed>,
    result: Checked,
) -> Look<'a> {
    Look::Over(Box::new(outcome(key, record, observed, result)))
}

pub(super) fn outcome(
    key: Arc<ObjectKey>,
    record: Option<Arc<Record>>,
    observed: Option<Observed>,
    result: Checked,
) -> CheckOutcome {
    CheckOutcome {
        outcome: Outcome {
            key,
            record,
            observed,
            adopted: None,
            result,
        },
        corrections: None,
    }
}
