//! Checks objects that look drifted: reads each and corrects it at once. Of one that was corrected lately a dry run
//! tells first what a write would change, since it may be contested; of all others the write tells, and where nothing
//! drifted it changes nothing. What an answer means is decided in `core`; the outcome goes back to the state machine.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    apply::{
        drift::{Corrections, Drift, Judgement, Suspicion, Verdict, confirm, judge},
        inventory::{Record, State},
    },
    object::ObjectKey,
    unit::{
        event::{CheckOutcome, Checked, Outcome},
        object::Observed,
        problem::{Problem, Retry},
    },
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    apply::{Done, bodies, item, problem, stored_record, written},
    circuit_breaker::{CircuitBreaker, Stopped},
    context::UnitContext,
    evaluate::Object,
    message::shown,
    observe::{gone, observe, version},
    preflight::{CONCURRENCY, FluxOwners, Preflight, preflight, served, write},
    window::Window,
};
use crate::{
    causes::with_causes,
    cluster::{ClusterError, Served},
    ledger::LedgerError,
};

/// Checks objects, each with its recent corrections.
pub async fn check(
    unit: &UnitContext,
    keys: Vec<(Arc<ObjectKey>, Corrections)>,
    cancel: &CancellationToken,
) -> Done<CheckOutcome> {
    let evaluated = match bodies(unit, keys.iter().map(|(key, _)| key)).await {
        Ok(evaluated) => evaluated,
        Err(error) => return Done::failed(&error),
    };
    let objects: BTreeMap<&ObjectKey, Body<'_>> = evaluated
        .objects
        .iter()
        .zip(&evaluated.values)
        .map(|(object, value)| (&object.desired.key, Body { object, value }))
        .collect();
    let check = Check {
        unit,
        flux: FluxOwners::default(),
        breaker: CircuitBreaker::new(unit),
        cancel,
        window: Window::default(),
    };
    let looks = keys.into_iter().map(|(key, corrections)| {
        let body = objects.get(&*key).copied();
        check.look(key, body, corrections)
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
        Some(item(unit, &outcome.key, record))
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
struct Body<'a> {
    object: &'a Object,
    value: &'a Value,
}

/// What a look at an object gave.
enum Look<'a> {
    Over(Box<CheckOutcome>),
    Correct(Box<Correction<'a>>),
}

/// A correction that was decided.
struct Correction<'a> {
    key: Arc<ObjectKey>,
    body: Body<'a>,
    record: Arc<Record>,
    fold: Vec<Value>,
    suspicion: Suspicion,
    found: Found,
    /// Recent ones, and this one where it is confirmed.
    corrections: Corrections,
}

/// What is known of a drift before it is corrected.
enum Found {
    /// What it is, as far as anything differs.
    Confirmed(Option<Drift>),
    /// The object as it was read: what the write makes of it tells the rest.
    Unconfirmed(Box<Value>),
}

struct Check<'a> {
    unit: &'a UnitContext,
    flux: FluxOwners,
    breaker: CircuitBreaker<'a>,
    cancel: &'a CancellationToken,
    window: Window,
}

impl<'a> Check<'a> {
    /// Looks at an object and decides. `None`: cancelled before it was known.
    async fn look(
        &self,
        key: Arc<ObjectKey>,
        body: Option<Body<'a>>,
        corrections: Corrections,
    ) -> Option<Look<'a>> {
        if self.cancel.is_cancelled() {
            return None;
        }
        let looking = async {
            match body {
                Some(body) => self.desired(&key, body, corrections).await,
                None => Ok(self.undesired(&key).await),
            }
        };
        let looked = tokio::select! {
            () = self.cancel.cancelled() => return None,
            looked = looking => looked,
        };
        Some(looked.unwrap_or_else(|stopped| {
            let (problem, retry) = match body {
                Some(body) => problem(body.object, &stopped),
                None => (Problem::Waiting(key.to_string()), Retry::Soon),
            };
            over(key, None, None, Checked::Problem { problem, retry })
        }))
    }

    async fn desired(
        &self,
        key: &Arc<ObjectKey>,
        body: Body<'a>,
        mut corrections: Corrections,
    ) -> Result<Look<'a>, Stopped> {
        let Body { object, value } = body;
        // The last pass has said so, and the next one says when it is over.
        if object.withheld.is_some() {
            return Ok(over(key.clone(), None, None, Checked::InSync));
        }
        let Some(record) = stored_record(self.unit, key) else {
            return Ok(over(key.clone(), None, None, Checked::InSync));
        };
        let context = &self.unit.context;
        let resource = match served(object) {
            Ok(resource) => resource.clone(),
            // It may be served since the last answer.
            Err(unserved) => match context.rediscovered().await?.find(&object.api_version, &key.kind) {
                Served::Yes(resource) => resource.clone(),
                _ => return Err(unserved.into()),
            },
        };
        let cluster = &self.unit.cluster;
        let read = cluster.get(&resource, &key.namespace, &key.name);
        let live = self.breaker.call(key, read).await?;
        let observed = match &live {
            Some(live) => observe(live, context.ledger.key(), context.wall()),
            None => gone(None),
        };
        let suspicion = match judge(&record, observed.observation.as_ref()) {
            Judgement::Suspicious(suspicion) => suspicion,
            Judgement::InSync | Judgement::NotJudged => {
                return Ok(over(key.clone(), None, Some(observed), Checked::InSync));
            }
        };
        let fold = match preflight(self.unit, object, live.as_ref(), &self.flux).await? {
            Preflight::Write { fold, .. } => fold,
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
        let drift = match &live {
            None => Some(Drift::gone()),
            // Nothing of it can be contested.
            Some(_) if corrections.is_empty(context.wall()) => {
                return Ok(Look::Correct(Box::new(Correction {
                    key: key.clone(),
                    body,
                    record,
                    fold,
                    suspicion,
                    found: Found::Unconfirmed(Box::new(live.unwrap_or_default())),
                    corrections,
                })));
            }
            Some(live) => {
                let dry_run = self
                    .breaker
                    .call(key, cluster.apply(&resource, value, true))
                    .await?;
                confirm(live, &dry_run)
            }
        };
        // Nothing would change, and nobody else's entry is to be folded: this is what it looks like now.
        if drift.is_none() && is_harmless(&suspicion, &fold) {
            let mut record = accepted(record, &observed);
            Arc::make_mut(&mut record).uid = observed.observation.as_ref().and_then(|seen| seen.uid.clone());
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
            suspicion,
            found: Found::Confirmed(drift),
            corrections,
        })))
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
                let context = &self.unit.context;
                let observed = observe(&live, context.ledger.key(), context.wall());
                over(key.clone(), None, Some(observed), Checked::InSync)
            }
            // It is no problem of the unit that an object cannot be read which it does not want.
            Err(error @ ClusterError::Rejected { .. }) => {
                tracing::info!("{}", shown(key, key.is_secret(), record.policy, &error));
                over(key.clone(), None, None, Checked::InSync)
            }
            Err(error) => {
                let problem = Problem::Waiting(shown(key, key.is_secret(), record.policy, &error));
                let retry = Retry::Soon;
                over(key.clone(), None, None, Checked::Problem { problem, retry })
            }
        }
    }

    /// Prepares for corrections. A ledger that takes nothing keeps no object from being corrected that it knows; one
    /// that is another agent's does.
    async fn may_write(&self, corrections: &mut [Correction<'_>]) -> Result<(), LedgerError> {
        if corrections.is_empty() {
            return Ok(());
        }
        match self.expect_new_objects(corrections).await {
            Err(LedgerError::Lost) => return Err(LedgerError::Lost),
            Err(error) => tracing::warn!("ledger: {}", with_causes(&error)),
            Ok(()) => {}
        }
        self.unit.context.check_sole_writer().await
    }

    /// Forgets, durably, the UIDs of objects that are about to be created again: after a crash the new object must not
    /// look like one that somebody put in its place.
    async fn expect_new_objects(&self, corrections: &mut [Correction<'_>]) -> Result<(), LedgerError> {
        let mut records = Vec::new();
        for correction in corrections {
            if correction.suspicion == Suspicion::Gone && Arc::make_mut(&mut correction.record).recreate() {
                records.push(item(self.unit, &correction.key, correction.record.clone()));
            }
        }
        self.unit.context.persist(records).await
    }

    /// Counts a correction that was made, of an object without recent ones.
    fn count(&self, mut corrections: Corrections, drift: Option<&Drift>) -> Corrections {
        let interval = self.unit.entry.settings.interval;
        corrections.decide(&counted(drift), self.unit.context.wall(), interval);
        corrections
    }

    async fn correct(&self, correction: Correction<'_>) -> Option<CheckOutcome> {
        let _place = self.window.enter(&correction.key, self.cancel).await?;
        let Correction {
            key,
            body: Body { object, value },
            record,
            fold,
            suspicion,
            found,
            corrections,
        } = correction;
        let context = &self.unit.context;
        let harmless = is_harmless(&suspicion, &fold);
        match self
            .breaker
            .call(&key, write(self.unit, object, value, fold))
            .await
        {
            Ok(live) => {
                let observed = observe(&live, context.ledger.key(), context.wall());
                let record = written(self.unit, object, &observed);
                let (drift, corrections) = match found {
                    Found::Confirmed(drift) => (drift, Some(corrections)),
                    Found::Unconfirmed(before) => {
                        let drift = confirm(&before, &live);
                        let is_news = !harmless || drift.is_some() || version(&before) != observed.version;
                        let counted = is_news.then(|| self.count(corrections, drift.as_ref()));
                        (drift, counted)
                    }
                };
                let result = match drift.is_none() && harmless {
                    true => Checked::InSync,
                    false => Checked::Corrected { suspicion, drift },
                };
                let mut done = outcome(key, record, Some(observed), result);
                done.corrections = corrections;
                Some(done)
            }
            Err(stopped) => {
                let (problem, retry) = problem(object, &stopped);
                // Nobody has undone a correction that was refused: it is no part of a contest.
                Some(outcome(
                    key,
                    Some(record),
                    None,
                    Checked::Problem { problem, retry },
                ))
            }
        }
    }
}

/// Tells whether what looks so may be no drift, if a write changes nothing: nobody else's entry is to be folded either.
fn is_harmless(suspicion: &Suspicion, fold: &[Value]) -> bool {
    matches!(suspicion, Suspicion::Fields | Suspicion::Replaced { .. }) && fold.is_empty()
}

/// What is counted. Also who changes no value, and only whose the fields are, may do so again and again.
fn counted(drift: Option<&Drift>) -> Drift {
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

fn outcome(
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
            adopted: false,
            result,
        },
        corrections: None,
    }
}
