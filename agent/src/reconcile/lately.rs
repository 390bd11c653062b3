//! Bodies that an evaluation has made lately, for the job that writes them next: a commit of a few objects is as a rule
//! evaluated and applied at once, and need not read and build them twice. What is here is what would be made again, from
//! the same entry under the same circumstances, or it is not taken. As soon as no job goes on nothing is here.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_core::{digest::Digest, id::UnitId, object::ObjectKey, unit::Entry};
use serde_json::Value;

use super::{
    bodies::{Bodies, Body},
    evaluate::{Environment, Object},
};

/// Objects of one evaluation that are kept, and their bytes; of a larger one none are.
const OBJECTS: usize = 16;
const BYTES: usize = 32 << 10;
/// Evaluations of which something is kept.
const UNITS: usize = 16;

/// What was made lately, by unit.
#[derive(Debug, Default)]
pub(super) struct Lately(Mutex<BTreeMap<UnitId, Made>>);

/// What an evaluation has made.
#[derive(Debug)]
pub(super) struct Made {
    entry: Arc<Entry>,
    environment: Environment,
    bodies: Bodies,
    bytes: usize,
}

impl Made {
    pub(super) fn begin(entry: &Arc<Entry>, environment: &Environment) -> Self {
        Self {
            entry: entry.clone(),
            environment: environment.clone(),
            bodies: Bodies::default(),
            bytes: 0,
        }
    }

    /// Adds an object; `None`: it is too much by now. One that is a secret, or whose place is not known for certain, is made
    /// again by whoever needs it.
    pub(super) fn with(mut self, object: &Object, value: &Value) -> Option<Self> {
        if object.secret || object.unresolved || object.group_failed {
            return Some(self);
        }
        let body = Body::new(value);
        self.bytes += body.len();
        self.bodies.objects.push(object.clone());
        self.bodies.values.push(body);
        (self.bytes <= BYTES && self.bodies.objects.len() <= OBJECTS).then_some(self)
    }

    /// Tells whether all of these are here, made of this entry and where all was as it is now.
    fn is_of(&self, entry: &Arc<Entry>, environment: &Environment, keys: &HashSet<ObjectKey>) -> bool {
        let made = self.bodies.objects.iter();
        Arc::ptr_eq(&self.entry, entry)
            && Arc::ptr_eq(&self.environment.discovery, &environment.discovery)
            && self.environment.known == environment.known
            && digest(&self.environment) == digest(environment)
            && made.filter(|object| keys.contains(&object.desired.key)).count() == keys.len()
    }
}

fn digest(environment: &Environment) -> Option<Digest> {
    environment.keyring.as_ref().map(|keyring| keyring.digest)
}

impl Lately {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UnitId, Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what an evaluation has made, or forgets what the one before it had; `None`: it was too much.
    pub(super) fn keep(&self, unit: UnitId, made: Option<Made>) {
        let mut all = self.lock();
        all.remove(&unit);
        if let Some(made) = made.filter(|made| !made.bodies.objects.is_empty()) {
            // What nobody has taken by now is of units that had nothing to write.
            while all.len() >= UNITS {
                all.pop_first();
            }
            all.insert(unit, made);
        }
    }

    /// Takes the bodies of these objects of an entry, if all of them are here. What else was made with them is let go.
    pub(super) fn take(
        &self,
        entry: &Arc<Entry>,
        environment: &Environment,
        keys: &HashSet<ObjectKey>,
    ) -> Option<Bodies> {
        let made = self.lock().remove(&entry.unit)?;
        made.is_of(entry, environment, keys)
            .then(|| made.bodies.only(keys))
    }

    /// Forgets all, once no job goes on.
    pub(super) fn is_used(&self, is_used: bool) {
        if !is_used {
            self.lock().clear();
        }
    }
}
