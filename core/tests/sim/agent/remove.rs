//! Removal of what is no longer desired: a look, and a DELETE of just what it has shown (`agent/src/reconcile/remove.rs`).

use flotilla_core::{
    apply::{
        inventory::{Record, State},
        protected::Protected,
        removal::{Blocker, Parting, Release, Verdict, Wait, at_look, at_parting},
    },
    id::UnitId,
    unit::{event::Event, remove::Removed},
};

use super::{
    Agent, Env,
    jobs::{Rest, Step},
};
use crate::{
    cluster::{Live, Refused},
    git::Key,
};

pub(super) struct Remove {
    rest: Rest<Key>,
    is_flushed: bool,
    /// What a look has proven.
    proven: Option<(Key, String, String)>,
    outcomes: Vec<(Key, Removed)>,
}

impl Remove {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self {
            rest: keys.into(),
            is_flushed: false,
            proven: None,
            outcomes: Vec::new(),
        }
    }
}

impl Agent {
    pub(super) fn remove(
        &mut self,
        unit: UnitId,
        job: u64,
        remove: &mut Remove,
        cancelled: bool,
        env: &mut Env<'_>,
    ) -> Step {
        if !remove.is_flushed {
            remove.is_flushed = true;
            self.ledger.flush();
            return Step::Goes;
        }
        if let Some((key, uid, version)) = remove.proven.take() {
            // It was asked to go before anything was cancelled.
            let removed = self.delete(unit, &key, &uid, &version, env);
            remove.outcomes.push((key, removed));
            return Step::Goes;
        }
        let Some(key) = remove.rest.pop_front().filter(|_| !cancelled) else {
            return Step::Ended(Event::Removed {
                job,
                outcomes: std::mem::take(&mut remove.outcomes),
                failure: None,
            });
        };
        match self.prove(unit, &key, env) {
            Ok((uid, version)) => remove.proven = Some((key, uid, version)),
            Err(removed) => remove.outcomes.push((key, removed)),
        }
        Step::Goes
    }

    fn prove(&self, unit: UnitId, key: &Key, env: &mut Env<'_>) -> Result<(String, String), Removed> {
        let stored = self.ledger.live.units.get(&unit);
        if stored.is_some_and(|stored| stored.is_unknown) {
            return Err(match self.is_parting(unit) {
                true => Removed::Overtaken,
                false => Removed::Kept(Wait::NotCleared),
            });
        }
        let record = self.ledger.live.item(unit, key);
        let Some(record) = record.filter(|record| record.state == State::PendingRemoval) else {
            return Err(Removed::Kept(Wait::Unproven));
        };
        if env.silent {
            return Err(Removed::Unknown(format!("{key}: no answer")));
        }
        if self.is_parting(unit) {
            return Err(self.part(unit, key, &record, env));
        }
        let protected = Protected::new("flotilla-system", "flotilla-agent");
        let live = env.cluster.get(key).map(Live::look);
        match at_look(key, &record, &unit.to_string(), &protected, live.as_ref()) {
            Verdict::Gone => Err(Removed::Gone),
            Verdict::Deleting(blocker) => Err(Removed::Deleting(blocker)),
            Verdict::Release(release) => Err(Removed::Released(release)),
            Verdict::Wait(wait) => Err(Removed::Kept(wait)),
            Verdict::Delete { .. } if !self.is_told_of_all() => Err(Removed::Overtaken),
            Verdict::Delete {
                uid,
                resource_version,
            } => {
                let live = env.cluster.get(key).expect("it was read");
                env.oracle
                    .proven(self.cluster, unit, key, live, &self.ledger.live, env.contents);
                Ok((uid, resource_version))
            }
        }
    }

    fn is_parting(&self, unit: UnitId) -> bool {
        let offered = self
            .ledger
            .live
            .units
            .get(&unit)
            .and_then(|unit| unit.offered.as_ref());
        offered.is_some_and(|offered| offered.entry.is_parting())
    }

    /// Takes off what says that an object is this unit's.
    fn part(&self, unit: UnitId, key: &Key, record: &Record, env: &mut Env<'_>) -> Removed {
        let metadata = env.cluster.get(key).map(Live::metadata);
        match at_parting(record, &unit.to_string(), metadata.as_ref()) {
            Parting::Gone => Removed::Gone,
            Parting::Release(release) => Removed::Released(release),
            Parting::Unmark(_) if !self.is_told_of_all() => Removed::Overtaken,
            Parting::Unmark(_) => {
                env.trace.say(|| format!("    {unit} lets go of {key}"));
                env.oracle.unmarks(self.cluster, unit, key);
                env.cluster.edit(key, |live| live.mark = None);
                Removed::Released(Release::LetGo)
            }
        }
    }

    fn delete(&mut self, unit: UnitId, key: &Key, uid: &str, version: &str, env: &mut Env<'_>) -> Removed {
        if env.silent {
            return Removed::Unknown(format!("{key}: no answer"));
        }
        match env.cluster.delete(key, uid, version) {
            Ok(is_gone) => {
                env.trace.say(|| format!("    {unit} deletes {key}"));
                env.oracle.deleted(self.cluster, unit, &self.ledger.live);
                match is_gone {
                    true => Removed::Gone,
                    false => Removed::Deleting(Blocker(vec!["example.com/hold".to_owned()])),
                }
            }
            Err(Refused::NotFound) => Removed::Gone,
            Err(Refused::Conflict) => Removed::Overtaken,
        }
    }
}
