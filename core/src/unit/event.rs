//! What a unit's state machine is told, and what it asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Entry,
    health::HealthCheck,
    object::{Desired, Observed},
    problem::{Problem, Retry},
    record::UnitRecord,
    remove::{Claims, Removed},
};
use crate::{
    apply::{
        drift::{Corrections, Drift, Suspicion},
        inventory::Record,
    },
    clock::Timestamp,
    digest::Digest,
    health::Health,
    id::Uid,
    object::ObjectKey,
    units::Wait,
};

/// Numbers the jobs of a unit; an outcome names the job it is of.
pub type Job = u64;

/// An entry was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Its bytes as they came: they may hold fields that this version does not know.
    pub bytes: Arc<[u8]>,
    /// Digest of its bytes.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
}

/// What evaluation gave.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// The objects, but for those that are unchanged.
    pub objects: BTreeMap<Arc<ObjectKey>, Desired>,
    /// Objects of which the same is desired as before: by what the evaluation was told that they were evaluated from.
    pub unchanged: BTreeSet<Arc<ObjectKey>>,
    /// What all of them are evaluated from; `None`: nothing can be taken over from them.
    pub from: Option<EvaluatedFrom>,
    /// Whoever rendered asserts that nothing is missing.
    pub complete: bool,
}

/// What the desired objects of a unit were evaluated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluatedFrom {
    /// Digest of the content.
    pub content: Digest,
    /// Digest of all else: another one may make another object of the same bytes.
    pub basis: Digest,
}

/// Why the offered entry could not be evaluated. The same inputs give the same again, so only a change of inputs is
/// waited for, unless a part of them is with others, of which nobody tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationFailure {
    /// Flux's reason.
    pub reason: &'static str,
    /// Why.
    pub message: String,
    /// Content is lacking that may come without a change of the entry.
    pub lacks_content: bool,
    /// When it may be worth trying again although nothing here has changed; `None`: not before something does.
    pub again: Option<Retry>,
}

/// What became of an object that was to be applied.
#[derive(Debug, Clone)]
pub enum Applied {
    /// Written.
    Written,
    /// Its own switches, or those of the live object, say to leave it.
    Left,
    /// Not begun, though its intent is durable.
    NotBegun,
    /// What the entry gives now does not have it: what the cluster serves has changed, and keys with it.
    Unknown,
    /// Not written.
    Problem {
        /// Why.
        problem: Problem,
        /// When trying again may help.
        retry: Retry,
    },
}

impl Outcome<Applied> {
    /// Tells whether the job came to the object at all.
    pub(super) fn is_reached(&self) -> bool {
        !matches!(self.result, Applied::NotBegun)
    }
}

/// What became of an object that was checked.
#[derive(Debug, Clone)]
pub enum Checked {
    /// As it should be, or left alone by its switches.
    InSync,
    /// It was not as desired, and is again.
    Corrected {
        /// What it was suspected of.
        suspicion: Suspicion,
        /// What a dry run confirmed.
        drift: Option<Drift>,
    },
    /// Others change it back again and again.
    Contested {
        /// When to look again.
        until: Timestamp,
        /// What they change.
        drift: Drift,
    },
    /// It was not desired any more, and is gone.
    Gone,
    /// It could not be corrected.
    Problem {
        /// Why.
        problem: Problem,
        /// When trying again may help.
        retry: Retry,
    },
}

/// What an object bore that was there before this unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// No mark.
    Unmarked,
    /// The mark of a unit that this agent does not have.
    Marked(String),
}

/// The outcome of a job for one object.
#[derive(Debug, Clone)]
pub struct Outcome<T> {
    /// The object.
    pub key: Arc<ObjectKey>,
    /// Its new record; `None` when that did not change.
    pub record: Option<Arc<Record>>,
    /// What was seen of it, when something was.
    pub observed: Option<Observed>,
    /// It was there without our mark, and is ours now.
    pub adopted: Option<Adoption>,
    /// What became of it.
    pub result: T,
}

/// The outcome of a check, with the object's corrections.
#[derive(Debug, Clone)]
pub struct CheckOutcome {
    /// The outcome.
    pub outcome: Outcome<Checked>,
    /// Its recent corrections; `None` when nothing was decided.
    pub corrections: Option<Corrections>,
}

/// Why a job could not be done at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobFailure {
    /// The ledger cannot be written, or what the cluster serves cannot be found out.
    Unavailable(String),
    /// It panicked.
    Panicked(String),
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// An entry was accepted, or content for it has come.
    Accepted(Accepted),
    /// A person asks for a full look now.
    Requested,
    /// An object was seen.
    Observed {
        /// Which.
        key: Arc<ObjectKey>,
        /// What of it.
        observed: Observed,
    },
    /// A list names the object's version; `None`: the list is complete and does not have it.
    Listed {
        /// The object.
        key: Arc<ObjectKey>,
        /// Its resourceVersion.
        version: Option<u64>,
    },
    /// The cluster's store was put back to an earlier state: what comes next of an object is later than what is known,
    /// although its version may be lower.
    WentBack {
        /// The object.
        key: Arc<ObjectKey>,
    },
    /// An object that had left the unit may be there again: what knows of it was put back, and perhaps the cluster.
    Recovered {
        /// The object.
        key: Arc<ObjectKey>,
        /// What is known of it: it has left the unit.
        record: Arc<Record>,
    },
    /// Whatever the first lists after the start have to show was shown: of an object that was not seen nothing is known.
    Shown,
    /// A kind that was not served may be now.
    KindServed,
    /// Something that the evaluation reads in the cluster is other than it was.
    InputsChanged,
    /// What the unit waits for outside itself; `None`: nothing.
    Edge(Option<Wait>),
    /// Evaluation ended.
    Evaluated {
        /// Which job.
        job: Job,
        /// What failed of the offered entry.
        failure: Option<EvaluationFailure>,
        /// The objects: of the offered entry, or when that failed of the one enforced before, if there is one.
        evaluation: Option<Evaluation>,
    },
    /// Evaluation could not be tried at all.
    Failed {
        /// Which job.
        job: Job,
        /// Why.
        failure: JobFailure,
    },
    /// Objects were applied; those not named were not reached.
    Applied {
        /// Which job.
        job: Job,
        /// What became of each.
        outcomes: Vec<Outcome<Applied>>,
        /// What ended the job before its end.
        failure: Option<JobFailure>,
    },
    /// Objects were checked; those not named were not reached.
    Checked {
        /// Which job.
        job: Job,
        /// What became of each.
        outcomes: Vec<CheckOutcome>,
        /// What ended the job before its end.
        failure: Option<JobFailure>,
    },
    /// Another unit of this cluster has let go of objects that this one desires: what kept them from being written may be
    /// over.
    Freed(Vec<Arc<ObjectKey>>),
    /// What other units of this cluster want of the objects that leave this one; `None`: that is not known.
    Claims(Option<Claims>),
    /// Objects were to be removed; those not named were not reached.
    Removed {
        /// Which job.
        job: Job,
        /// What became of each.
        outcomes: Vec<(Arc<ObjectKey>, Removed)>,
        /// What ended the job before its end.
        failure: Option<JobFailure>,
    },
    /// Objects that are not the unit's, and that it waits for, were looked at.
    Looked {
        /// The version of the unit that it was for.
        version: u64,
        /// How each stands.
        seen: BTreeMap<ObjectKey, Health>,
    },
    /// Time has passed.
    Tick,
    /// The process is about to end: what is under way is cancelled, nothing is begun, and neither is a failure.
    Stopping,
}

/// An object to check.
#[derive(Debug, Clone)]
pub struct ToCheck {
    /// Which.
    pub key: Arc<ObjectKey>,
    /// Its recent corrections.
    pub corrections: Corrections,
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Evaluate the entry; when that fails, also the one enforced before.
    Evaluate {
        /// The job.
        job: Job,
        /// The offered entry.
        entry: Arc<Entry>,
        /// The one enforced before.
        enforced: Option<Arc<Entry>>,
        /// What the rows desire was evaluated from: it need not be evaluated again.
        before: Option<EvaluatedFrom>,
    },
    /// Look at these objects, and write those that are ours to write. Intents are durable before.
    Apply {
        /// The job.
        job: Job,
        /// The entry to evaluate their bodies from.
        entry: Arc<Entry>,
        /// The objects, in order, and whether a watch has shown each as we left it: then it needs no look.
        keys: Vec<(Arc<ObjectKey>, bool)>,
    },
    /// Compare these objects with the cluster, and correct what drifted.
    Check {
        /// The job.
        job: Job,
        /// The entry to evaluate their bodies from.
        entry: Arc<Entry>,
        /// The objects.
        objects: Vec<ToCheck>,
    },
    /// Look at these objects, and delete each that a look proves to be the one of its record.
    Remove {
        /// The job.
        job: Job,
        /// The entry that they are not in.
        entry: Arc<Entry>,
        /// The objects, in order of removal.
        keys: Vec<Arc<ObjectKey>>,
    },
    /// Drop what the job has not begun; its outcome is awaited.
    Cancel(Job),
    /// Look how these objects stand, which are not the unit's. Whatever comes of it is told.
    Look {
        /// The entry that waits for them.
        entry: Arc<Entry>,
        /// The objects.
        checks: Vec<HealthCheck>,
    },
    /// Compare all objects' versions with lists of their kinds.
    Verify,
    /// Make durable that this entry, in its own bytes, is enforced.
    Enforce(Arc<[u8]>),
    /// Make records of objects durable; `None` removes one.
    SaveObjects(Vec<(Arc<ObjectKey>, Option<Arc<Record>>)>),
    /// Note in the object's record, which a job under way may have renewed, that it has done its work.
    Finish {
        /// The object.
        key: Arc<ObjectKey>,
        /// Its UID: of another object the record says nothing.
        uid: Uid,
    },
    /// Make the unit's record durable.
    SaveUnit(Box<UnitRecord>),
    /// Tell people.
    Tell(Notice),
}

/// Something to tell people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The object it is about; `None`: the unit.
    pub key: Option<Arc<ObjectKey>>,
    /// It is a warning.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}
