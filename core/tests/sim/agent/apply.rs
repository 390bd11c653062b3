//! Applying a batch: looks, intents made durable, writes (`agent/src/reconcile/apply.rs`, `preflight.rs`).

use std::sync::Arc;

use flotilla_core::{
    apply::{
        inventory::{Record, State, Written},
        ownership::{Contact, FluxState, first_contact, holds_on},
    },
    id::UnitId,
    unit::{
        Entry,
        event::{Adoption, Applied, Event, Outcome},
        object::Observed,
        problem::{Problem, Retry},
    },
};

use super::{
    Agent, Env,
    jobs::{Rest, Step, body},
};
use crate::{
    cluster::{Live, is_left},
    git::{Body, Key},
};

pub(super) struct Apply {
    entry: Arc<Entry>,
    looks: Rest<(Key, bool)>,
    writes: Rest<(Key, Body, Option<Adoption>)>,
    is_intended: bool,
    outcomes: Vec<Outcome<Applied>>,
}

/// What a look says of a write.
pub(super) enum Look {
    Write(Option<Adoption>),
    Leave,
    Withhold(Problem),
}

impl Apply {
    pub(super) fn new(entry: Arc<Entry>, keys: Vec<(Key, bool)>) -> Self {
        Self {
            entry,
            looks: keys.into(),
            writes: Rest::new(),
            is_intended: false,
            outcomes: Vec::new(),
        }
    }

    fn end(&mut self, key: Key, record: Option<Arc<Record>>, observed: Option<Observed>, result: Applied) {
        self.outcomes.push(Outcome {
            key,
            record,
            observed,
            adopted: None,
            result,
        });
    }
}

pub(super) fn unanswered(key: &Key) -> Applied {
    Applied::Problem {
        problem: Problem::Unanswered(format!("{key}: no answer")),
        retry: Retry::Soon,
    }
}

impl Agent {
    /// Tells whether another unit, by the text of its mark, has an object in its inventory.
    fn is_held_by(&self, mark: &str, key: &Key) -> bool {
        let Ok(id) = mark.parse() else { return false };
        let unit = self.ledger.live.units.get(&UnitId(id));
        unit.is_some_and(|unit| {
            let entry = unit.offered.as_ref().map(|offered| &*offered.entry);
            let record = unit.items.get(key);
            record.is_some_and(|record| holds_on(record, key, entry))
        })
    }

    pub(super) fn look(&self, unit: UnitId, key: &Key, body: &Body, live: Option<&Live>) -> Look {
        if is_left(body, live) {
            return Look::Leave;
        }
        let metadata = live.map(Live::metadata);
        let id = unit.to_string();
        let contact = first_contact(metadata.as_ref(), &id, FluxState::Absent, |mark| {
            self.is_held_by(mark, key)
        });
        match contact {
            Contact::Create | Contact::Owned => Look::Write(None),
            Contact::Adopt { stray: None } => Look::Write(Some(Adoption::Unmarked)),
            Contact::Adopt { stray: Some(mark) } => Look::Write(Some(Adoption::Marked(mark))),
            Contact::Conflict { owner } => Look::Withhold(Problem::Withheld {
                reason: "Conflict",
                message: format!("{key} is owned by unit {owner}"),
            }),
            Contact::StillManagedByFlux(_) => unreachable!("Flux is nowhere"),
            Contact::BeingDeleted { .. } => {
                Look::Withhold(Problem::Waiting(format!("{key} is being deleted").into()))
            }
        }
    }

    pub(super) fn apply(
        &mut self,
        unit: UnitId,
        job: u64,
        apply: &mut Apply,
        cancelled: bool,
        env: &mut Env<'_>,
    ) -> Step {
        if cancelled {
            apply.looks.clear();
        }
        if let Some((key, is_fresh)) = apply.looks.pop_front() {
            self.look_before(unit, apply, key, is_fresh, env);
            return Step::Goes;
        }
        if !apply.is_intended {
            apply.is_intended = true;
            self.intend(unit, apply);
            return Step::Goes;
        }
        let Some((key, body, adopted)) = apply.writes.pop_front() else {
            return Step::Ended(Event::Applied {
                job,
                outcomes: std::mem::take(&mut apply.outcomes),
                failure: None,
            });
        };
        let known = self.ledger.live.item(unit, &key);
        if cancelled {
            apply.end(key, known, None, Applied::NotBegun);
        } else if env.silent {
            let result = unanswered(&key);
            apply.end(key, known, None, result);
        } else {
            let (record, observed) = self.write(unit, &apply.entry, &key, &body, env);
            self.ledger.live.put(unit, &key, Some(record.clone()));
            apply.outcomes.push(Outcome {
                key,
                record: Some(record),
                observed: Some(observed),
                adopted,
                result: Applied::Written,
            });
        }
        Step::Goes
    }

    fn look_before(&self, unit: UnitId, apply: &mut Apply, key: Key, is_fresh: bool, env: &mut Env<'_>) {
        let Some(body) = body(&apply.entry, &key, env.contents) else {
            apply.end(key, None, None, Applied::Unknown);
            return;
        };
        let record = self.ledger.live.item(unit, &key);
        let intent = record.clone().filter(|record| record.state == State::Intent);
        if is_fresh {
            apply.writes.push_back((key, body, None));
            return;
        }
        if env.silent {
            let result = unanswered(&key);
            apply.end(key, intent, None, result);
            return;
        }
        match self.look(unit, &key, &body, env.cluster.get(&key)) {
            Look::Write(adopted) => {
                // What was written once was this unit's, whatever its marks said meanwhile.
                let was_written = record.is_some_and(|record| record.sent.is_some());
                apply
                    .writes
                    .push_back((key, body, adopted.filter(|_| !was_written)));
            }
            Look::Leave => apply.end(key, intent, None, Applied::Left),
            Look::Withhold(problem) => {
                let retry = match problem {
                    Problem::Waiting(_) => Retry::Soon,
                    _ => Retry::Interval,
                };
                apply.end(key, intent, None, Applied::Problem { problem, retry });
            }
        }
    }

    /// Makes durable that objects are about to be there.
    fn intend(&mut self, unit: UnitId, apply: &Apply) {
        for (key, body, adopted) in &apply.writes {
            let record = match self.ledger.live.item(unit, key) {
                None => Record::intent("v1", adopted.is_some(), body.policy),
                Some(record) if record.state == State::PendingRemoval => {
                    let mut record = Arc::unwrap_or_clone(record);
                    record.intend();
                    record
                }
                Some(_) => continue,
            };
            self.ledger.live.put(unit, key, Some(record.into()));
        }
        self.ledger.flush();
    }

    /// Writes an object, whatever is there.
    pub(super) fn write(
        &mut self,
        unit: UnitId,
        entry: &Entry,
        key: &Key,
        body: &Body,
        env: &mut Env<'_>,
    ) -> (Arc<Record>, Observed) {
        let live = env.cluster.apply(key, body, &unit.to_string(), None);
        let live = live.expect("no precondition");
        self.written(unit, entry, key, body, &live, env)
    }

    pub(super) fn written(
        &mut self,
        unit: UnitId,
        entry: &Entry,
        key: &Key,
        body: &Body,
        live: &Live,
        env: &mut Env<'_>,
    ) -> (Arc<Record>, Observed) {
        env.oracle.wrote(self.cluster, unit, entry, key, live);
        env.trace
            .say(|| format!("    {unit} v{} writes {key} = {}", entry.version, body.value));
        let known = self.ledger.live.item(unit, key);
        let written = Written {
            api_version: "v1".into(),
            sent: body.sent(),
            policy: body.policy,
            response: live.observation(),
        };
        (
            Arc::new(Record::written(known.as_deref(), written)),
            live.observed(),
        )
    }
}
