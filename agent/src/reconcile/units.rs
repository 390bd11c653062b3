//! Which units there are, as the ledger says, and the evaluation of what each should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use flotilla_core::{
    digest::Digest,
    id::UnitId,
    unit::{
        Entry,
        event::{Accepted, EvaluatedFrom, Evaluation, EvaluationFailure, Event},
        object::Desired,
        problem::Retry,
        record::UnitRecord,
        state::State,
    },
    units::Edges,
};

use crate::{
    causes::with_causes,
    cluster::Discovery,
    ledger::{self, Recovered},
};

use super::{
    Reconciler, Unit,
    context::{Context, desired_state},
    evaluate::{EvaluateError, Since, Step, shared_key},
    keyrings::{Keyring, KeyringError},
    lately::Made,
    pace::Pace,
};

/// Entries that come at once; of more, all edges are arranged anew.
const ARRANGED_SINGLY: usize = 8;

impl Reconciler {
    /// Takes in what the ledger says about units.
    pub(super) async fn sync(&mut self) {
        let mut pace = Pace::default();
        let asked = self.nudge.take_asked();
        let (accepted, unread, mut offered, named) = self.context.ledger.read(|state| {
            let named = self.naming.named(state);
            let is_read = |unit: &ledger::state::Unit| {
                let offered = unit.offered.as_ref();
                offered.is_none_or(|offered| offered.entry.is_some())
            };
            let unread = state.units.iter().filter(|(_, unit)| !is_read(unit));
            let unread: BTreeSet<UnitId> = unread.map(|(id, _)| *id).collect();
            let offered: BTreeMap<UnitId, Accepted> = state
                .units
                .iter()
                .filter_map(|(id, unit)| {
                    let offered = unit.offered.as_ref()?;
                    // An entry that this version cannot read leaves what was enforced before in force.
                    let kept = match offered.entry.is_some() {
                        true => offered,
                        false => unit.enforced.as_ref()?,
                    };
                    let accepted = Accepted {
                        entry: kept.entry.clone()?,
                        bytes: kept.bytes.clone(),
                        digest: offered.digest,
                        at: offered.at,
                    };
                    Some((*id, accepted))
                })
                .collect();
            (desired_state(&state.accepted), unread, offered, named)
        });
        for unit in named {
            self.context.reports.again(unit);
        }
        let gone: Vec<UnitId> = self
            .units
            .keys()
            .filter(|id| !offered.contains_key(id))
            .copied()
            .collect();
        self.release(&gone, &mut pace).await;
        let concerned = self.arrange(&offered);
        self.unjudged.extend(concerned);
        // Units come after those that they need: whether one of those is news as well is known by then.
        for id in self.edges.apply_order().to_vec() {
            let Some(accepted) = offered.remove(&id) else {
                continue;
            };
            match self.units.get(&id) {
                None => {
                    let rows = self.begin(id, accepted);
                    pace.handled(rows).await;
                }
                Some(unit) => {
                    let is_news = unit.state.digest() != accepted.digest
                        || unit.state.lacks_inputs() && self.has_inputs(&accepted.entry);
                    if is_news {
                        // What it waits for holds for the new entry at once; that it waits no more, after that.
                        let waits = self.waits_for(id);
                        if waits.is_some() {
                            self.feed(id, Event::Edge(waits));
                        }
                        self.note_inputs(id, Some(&accepted.entry));
                        self.feed(id, Event::Accepted(accepted));
                    }
                }
            }
            if asked.contains(&id) {
                self.feed(id, Event::Requested);
            }
        }
        self.claiming.synced(accepted, unread);
    }

    /// Tells whether all that the evaluation of an entry reads is in the ledger.
    pub(super) fn has_inputs(&self, entry: &Entry) -> bool {
        self.context.ledger.read(|state| {
            let is_here = |digest: &Digest| state.blobs.contains_key(digest);
            let table = entry.content.and_then(|content| state.table(&content));
            entry.contents().all(|digest| is_here(&digest))
                && table.is_none_or(|table| table.digests().iter().all(is_here))
        })
    }

    /// Takes in the edges of entries that are news. Returns the units that are to be judged anew.
    fn arrange(&mut self, offered: &BTreeMap<UnitId, Accepted>) -> BTreeSet<UnitId> {
        let is_known = |id: &UnitId, accepted: &Accepted| {
            let unit = self.units.get(id);
            unit.is_some_and(|unit| unit.state.digest() == accepted.digest)
        };
        let news: Vec<&Entry> = offered
            .iter()
            .filter(|(id, accepted)| !is_known(id, accepted))
            .map(|(_, accepted)| &*accepted.entry)
            .collect();
        if news.len() > ARRANGED_SINGLY {
            self.edges = Edges::new(offered.values().map(|accepted| &*accepted.entry));
            return offered.keys().copied().collect();
        }
        news.into_iter().flat_map(|entry| self.edges.set(entry)).collect()
    }

    /// Begins a unit. Returns how many rows it has.
    fn begin(&mut self, id: UnitId, accepted: Accepted) -> usize {
        let (is_offered, record, enforced, items) = self.context.ledger.read(|state| {
            let unit = state.units.get(&id);
            let offered = unit.and_then(|unit| unit.offered.as_ref());
            let is_offered = offered.is_some_and(|offered| offered.digest == accepted.digest);
            let record: Option<UnitRecord> = unit
                .and_then(|unit| unit.record.as_ref())
                .and_then(|bytes| serde_json::from_slice(bytes).ok());
            let enforced = unit.and_then(|unit| unit.enforced.as_ref()?.entry.clone());
            let items: Vec<_> = unit
                .into_iter()
                .flat_map(|unit| &unit.items)
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect();
            (is_offered, record, enforced, items)
        });
        // Let go of, or offered another entry, while units before it were taken in: there is a nudge for that.
        if !is_offered {
            return 0;
        }
        let rows = items.len();
        self.holders.note(id, items.iter().map(|(key, _)| key));
        self.context
            .judges
            .note(id, &accepted.entry.settings.health.exprs);
        self.note_inputs(id, Some(&accepted.entry));
        let state = State::new(accepted, record, enforced, items, self.context.now());
        self.units.insert(id, Unit::new(state));
        let waits = self.waits_for(id);
        self.feed(id, Event::Edge(waits));
        if self.is_shown {
            self.feed(id, Event::Shown);
        }
        rows
    }

    /// Takes in objects that had left their units and that only an earlier state of the ledger knew: they are back where
    /// the cluster was put back with it. All is looked at anew then: a watch that found that out before has shown objects of
    /// which nothing was known yet, and one that went on where it was has passed over what became of the others.
    pub(super) async fn recovered(&mut self, recovered: Recovered) {
        let Recovered {
            of_units, unproven, ..
        } = recovered;
        let mut pace = Pace::default();
        if !of_units.is_empty() || !unproven.is_empty() {
            tracing::info!(
                of_apps = of_units.len(),
                unproven = unproven.len(),
                "objects that had left their apps were put back with the ledger's storage, and may be there again"
            );
        }
        for (id, key) in of_units {
            let record = self
                .context
                .ledger
                .read(|state| state.units.get(&id)?.items.get(&key).cloned());
            if let Some(record) = record {
                self.holders.note(id, [&key]);
                self.feed(id, Event::Recovered { key, record });
            }
            pace.handled(1).await;
        }
        if !unproven.is_empty() {
            self.context.tell_unproven(&unproven);
        }
        self.watch_anew().await;
    }

    /// Forgets units that the hub has let go of. What their jobs still answer is not heard, and what these write into the
    /// ledger is not kept there.
    async fn release(&mut self, gone: &[UnitId], pace: &mut Pace) {
        if gone.is_empty() {
            return;
        }
        let concerned = self.edges.remove(gone);
        self.unjudged.extend(concerned);
        let all: BTreeSet<UnitId> = gone.iter().copied().collect();
        self.queue.release(&all);
        self.holders.forget(&all);
        self.claiming.forget(&all);
        for &id in gone {
            self.restoring.remove(&id);
            self.note_inputs(id, None);
            self.set_deadline(id, None);
            self.watches.waiting.remove(&id);
            self.context.reports.forget(id);
            self.context.judges.forget(id);
            self.context.left.forget(id);
            let Some(unit) = self.units.remove(&id) else {
                continue;
            };
            self.gauges.remove(&self.context.metrics, unit.gauged);
            if let Some((_, cancel)) = &unit.job {
                cancel.cancel();
            }
            let rows = unit.state.objects().len();
            drop(unit);
            self.pass_ended(id);
            pace.handled(rows + 1).await;
        }
    }
}

/// Evaluates the offered entry, or when that fails the one enforced before, with the reason. Also tells what kept it
/// from being tried at all.
pub(super) async fn evaluate_unit(
    context: &Context,
    offered: &Arc<Entry>,
    enforced: Option<Arc<Entry>>,
    before: Option<EvaluatedFrom>,
) -> (Option<EvaluationFailure>, Option<Evaluation>, Option<String>) {
    let discovery = match context.discovered().await {
        Ok(discovery) => discovery,
        Err(error) => {
            let message = format!("discovery failed: {}", with_causes(&error));
            return (None, None, Some(message));
        }
    };
    let found = match context.keyring(offered).await {
        Ok(keyring) => evaluate(context, offered, discovery.clone(), keyring, before).await,
        Err(KeyringError::Unavailable(message)) => return (None, None, Some(message)),
        Err(error) => Err(error.into()),
    };
    let failure = match found {
        Ok(evaluation) => return (None, Some(evaluation), None),
        Err(error) => failure(&error),
    };
    let evaluation = match enforced {
        Some(entry) => match context.enforcing_keyring(&entry).await {
            Ok(keyring) => evaluate(context, &entry, discovery, keyring, before).await.ok(),
            Err(_) => None,
        },
        None => None,
    };
    (Some(failure), evaluation, None)
}

async fn evaluate(
    context: &Context,
    entry: &Arc<Entry>,
    discovery: Arc<Discovery>,
    keyring: Option<Keyring>,
    before: Option<EvaluatedFrom>,
) -> Result<Evaluation, EvaluateError> {
    let environment = context.environment(discovery, keyring);
    let mut made = Some(Made::begin(entry, &environment));
    let since = context
        .ledger
        .read(|state| Since::of(state, entry, environment, before))?;
    let mut steps = since.compared(&context.ledger).await;
    let mut objects = BTreeMap::new();
    while let Some(step) = steps.next().await {
        // The body ends here, but where there are few: what is written is evaluated again.
        if let Step::Object(object, value) = step? {
            made = made.and_then(|made| made.with(&object, &value));
            context.counters.evaluated.fetch_add(1, Ordering::Relaxed);
            let desired = Desired {
                digest: object.desired.digest,
                policy: object.desired.policy,
                secret: object.secret,
                withheld: object.withheld,
            };
            objects.insert(
                shared_key(&context.ledger, entry.unit, object.desired.key),
                desired,
            );
        }
    }
    context.lately.keep(entry.unit, made);
    Ok(Evaluation {
        objects,
        unchanged: steps.unchanged(),
        from: steps.evaluated_from(),
        complete: steps.is_complete(),
    })
}

fn failure(error: &EvaluateError) -> EvaluationFailure {
    let again = match error {
        EvaluateError::KeyService { passes: true, .. } => Some(Retry::Soon),
        EvaluateError::KeyService { passes: false, .. } => Some(Retry::Interval),
        _ => None,
    };
    EvaluationFailure {
        again,
        reason: error.reason(),
        message: error.to_string(),
        lacks_content: matches!(error, EvaluateError::Missing(_)),
    }
}
