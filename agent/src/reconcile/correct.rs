//! Corrections that a check has decided: made possible, written, and what came of each.

use std::sync::Arc;

use flotilla_core::{
    apply::{
        drift::{Corrections, Drift, Suspicion, confirm},
        ignore::{Left, leave},
        inventory::Record,
    },
    object::ObjectKey,
    unit::event::{CheckOutcome, Checked, ToCheck},
};
use serde_json::Value;

use super::{
    check::{Body, Check, Look, counted, is_none, outcome},
    circuit_breaker::Stopped,
    evaluate::Object,
    observe::version,
    preflight::write,
    problem::problem,
    records::{item, written},
    sightings::Sighting,
};
use crate::{causes::with_causes, cluster::ClusterError, ledger::LedgerError};

/// A correction that was decided.
pub(super) struct Correction<'a> {
    pub(super) key: Arc<ObjectKey>,
    pub(super) body: Body<'a>,
    pub(super) record: Arc<Record>,
    pub(super) fold: Vec<Value>,
    /// What it has of the fields that are left to others.
    pub(super) left: Vec<Left>,
    pub(super) suspicion: Suspicion,
    pub(super) confirmed: Confirmed,
    pub(super) corrections: Corrections,
    /// What a write has changed whose answer was lost, and whose repetition was refused for what it had done.
    pub(super) done: Option<Drift>,
}

/// What is known of a drift before it is corrected.
pub(super) enum Confirmed {
    /// A dry run has told, or what is gone needs none.
    Before(Option<Drift>),
    /// Nothing was corrected of the object lately, so that there is no contest to find out about: the write tells by
    /// itself what it changes of this.
    ByWrite(Value),
    /// The same of what a watch has shown and no request has read.
    AtSight(Sighting),
}

/// What came of a try.
enum Tried {
    Over(Box<CheckOutcome>),
    /// It is another by now than what was seen: by a write of somebody else, or by this one, whose answer was lost.
    Overtaken(Corrections, Box<Value>),
}

impl Check<'_> {
    /// Prepares for corrections. A ledger that takes nothing keeps no object from being corrected that it knows; one
    /// that is another agent's does.
    pub(super) async fn may_write(&self, corrections: &mut [Correction<'_>]) -> Result<(), LedgerError> {
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

    pub(super) async fn correct(&self, correction: Correction<'_>) -> Option<CheckOutcome> {
        let _place = self.window.enter(&correction.key, self.cancel).await?;
        let (key, body, record) = (correction.key.clone(), correction.body, correction.record.clone());
        let (corrections, seen) = match self.try_to(correction, true).await {
            Tried::Over(outcome) => return Some(*outcome),
            Tried::Overtaken(corrections, seen) => (corrections, seen),
        };
        // Who writes it again and again is not waited for: what is read is corrected, whatever it is by then.
        let object = ToCheck {
            key: key.clone(),
            corrections,
        };
        match self.read(object, body, record.clone(), Some(&seen)).await {
            Ok(Look::Over(outcome)) => Some(*outcome),
            // Another check creates it again, once the ledger knows.
            Ok(Look::Correct(correction)) if correction.suspicion == Suspicion::Gone => None,
            Ok(Look::Correct(correction)) => match self.try_to(*correction, false).await {
                Tried::Over(outcome) => Some(*outcome),
                Tried::Overtaken(..) => None,
            },
            Err(stopped) => Some(self.stopped_at(key, record, body.object, &stopped)),
        }
    }

    /// Writes a correction. `of_version`: of the object and version that were seen, where a write alone follows: the
    /// server refuses it for any other.
    async fn try_to(&self, correction: Correction<'_>, of_version: bool) -> Tried {
        let Correction {
            key,
            body: Body { object, value },
            record,
            fold,
            left,
            suspicion,
            confirmed,
            mut corrections,
            done,
        } = correction;
        let is_folded = !fold.is_empty();
        let context = &self.unit.context;
        let mut value = value.value();
        leave(&mut value, &left);
        let seen = match &confirmed {
            Confirmed::AtSight(Sighting { live, .. }) => Some(live),
            Confirmed::ByWrite(live) if !is_folded => Some(live),
            _ => None,
        };
        let seen = seen.filter(|_| of_version);
        if let Some(live) = seen {
            for field in ["uid", "resourceVersion"] {
                value["metadata"][field] = live["metadata"][field].clone();
            }
        }
        match self
            .breaker
            .call(&key, write(self.unit, object, &value, fold))
            .await
        {
            Ok(live) => {
                let observed = self.unit.observe(&live);
                let record = written(self.unit, object, &observed);
                let changed = |before: &Value| {
                    let is_news = version(before) != observed.version;
                    (confirm(before, &live), Some(is_news))
                };
                let (drift, news) = match confirmed {
                    Confirmed::Before(drift) => (drift, None),
                    Confirmed::ByWrite(before) => changed(&before),
                    Confirmed::AtSight(sighting) => changed(&sighting.live),
                };
                let drift = drift.or(done);
                let is_drift = !is_none(&suspicion, drift.as_ref()) || is_folded;
                // Also who changes no value, and only whose the fields are, may do so again and again.
                if news.is_some_and(|is_news| is_news || is_drift) {
                    let interval = self.unit.entry.settings.interval;
                    corrections.decide(&counted(drift.as_ref()), context.wall(), interval);
                }
                // It was as desired: what was read looked otherwise for what is not ours.
                if !is_drift {
                    let mut done = outcome(key, record, Some(observed), Checked::InSync);
                    done.corrections = news.filter(|is_news| *is_news).map(|_| corrections);
                    return Tried::Over(Box::new(done));
                }
                let result = Checked::Corrected { suspicion, drift };
                let mut done = outcome(key, record, Some(observed), result);
                done.corrections = Some(corrections);
                Tried::Over(Box::new(done))
            }
            Err(stopped) => match (&stopped, seen) {
                (Stopped::Cluster(ClusterError::Rejected { code: 409, .. }), Some(seen)) => {
                    Tried::Overtaken(corrections, Box::new(seen.clone()))
                }
                _ => Tried::Over(Box::new(self.stopped_at(key, record, object, &stopped))),
            },
        }
    }

    /// Nobody has undone a correction that was refused: it is no part of a contest.
    fn stopped_at(
        &self,
        key: Arc<ObjectKey>,
        record: Arc<Record>,
        object: &Object,
        stopped: &Stopped,
    ) -> CheckOutcome {
        let (problem, retry) = problem(object, stopped, &self.unit.acting);
        outcome(key, Some(record), None, Checked::Problem { problem, retry })
    }
}
