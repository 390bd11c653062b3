//! What becomes of an object that has left its unit's content: deleted, let go of, or kept for a reason that has a name.
//!
//! Absence is never deletion. An object is deleted only when its unit's whole content is applied without it, the hub has
//! cleared the version at which it left, no other unit wants it, the set it goes with is within the guards or a person has
//! allowed it, and a look just before shows the very object that the inventory knows, with our mark.
//!
//! Two steps: [`foresee`] judges by what is known without a request, for all objects of a unit, and [`guard`] the whole
//! set; [`at_look`] judges one object by what was just read of it.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    UNIT_LABEL,
    inventory::{Record, State},
    policy::{Policy, Write},
    protected::Protected,
};
use crate::{object::ObjectKey, removal::Clearing};

mod guard;
mod parting;

pub use guard::{Going, Guard, LEAST, guard, is_never_unasked, most};
pub use parting::{Parting, at_parting};

/// What is to become of an object that is no longer desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is deleted: this very object, as it was read.
    Delete {
        /// Its UID.
        uid: String,
        /// Its version.
        resource_version: String,
    },
    /// It is being deleted already.
    Deleting(Blocker),
    /// It is not there any more.
    Gone,
    /// It stays in the cluster and leaves the inventory.
    Release(Release),
    /// It stays, and stays in the inventory.
    Wait(Wait),
}

/// What an object that is being deleted waits for: its finalizers, as far as it names any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocker(pub Vec<String>);

/// Why an object leaves the inventory and stays in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// Its own switches say that it stays: those of its manifest, or of the live object.
    Kept,
    /// Another object stands under its name.
    Replaced,
    /// It bears no mark: somebody has taken it out of our hands.
    Unmarked,
    /// It bears the mark of somebody else.
    Marked(String),
    /// Another unit of this cluster has it by now.
    HandedOver(Arc<str>),
    /// Its app is deleted, and so is the ServiceAccount, `namespace/name`, as which that acted: nobody else deletes for it.
    NoAccount(Arc<str>),
    /// Another unit of this cluster is to have it; in words.
    LeftTo(Arc<str>),
    /// Its unit lets go of all that it has, and our mark is off.
    LetGo,
    /// The same, and the server has not let the mark be taken off; in its words.
    StillMarked(String),
}

/// Why an object is kept for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Its unit is suspended, detached, or to be removed as a whole.
    NotEnforced,
    /// The content without it is not applied whole.
    NotApplied,
    /// The content does not say that it is complete.
    Incomplete,
    /// `prune: false`.
    Off,
    /// The hub has not cleared the version at which it left.
    NotCleared,
    /// The hub excepts it: another app claims it, or is to.
    Excepted,
    /// What other units of this cluster want is not known yet.
    OthersUnknown,
    /// Another unit of this cluster wants it, or may want it; in words.
    Claimed(Arc<str>),
    /// Something is in it that does not go with it, or is not gone yet.
    Holds(Arc<str>),
    /// Its UID was never learnt: nothing proves that it is the one that this unit wrote.
    Unproven,
    /// It is the agent's own, or the cluster's.
    Protected,
    /// Its own switches say that it stays, and what it is in is to go.
    Kept,
}

/// What another unit of this cluster has to do with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who, or what, in words.
    pub by: Arc<str>,
    /// That unit has written it: it is handed over.
    pub has: bool,
    /// That unit is suspended: it takes nothing over until somebody resumes it.
    pub idle: bool,
}

/// What a unit's entry, and how far it has come, say of removing anything.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// It is enforced.
    pub active: bool,
    /// What is offered is evaluated and applied whole, and no object of it has a problem.
    pub applied: bool,
    /// Whoever rendered asserts that nothing is missing.
    pub complete: bool,
    /// `prune`.
    pub prune: bool,
    /// What the hub has cleared.
    pub cleared: Option<&'a Clearing>,
    /// It is known what other units of this cluster want.
    pub others_known: bool,
    /// The unit is to be removed as a whole.
    pub removing: bool,
    /// It lets go of all that it has: nothing of it is deleted.
    pub parting: bool,
}

/// Judges an object by what is known without a request. `None`: it may go, if the guards let its set pass and a look
/// proves it. `claim`: what another unit has to do with it.
pub fn foresee(
    key: &ObjectKey,
    record: &Record,
    claim: Option<&Claim>,
    terms: &Terms<'_>,
) -> Option<Verdict> {
    let wait = |wait| Some(Verdict::Wait(wait));
    if !terms.active {
        return wait(Wait::NotEnforced);
    }
    if !terms.applied {
        return wait(Wait::NotApplied);
    }
    if !terms.complete {
        return wait(Wait::Incomplete);
    }
    if !terms.others_known {
        return wait(Wait::OthersUnknown);
    }
    // A hand-over deletes nothing and needs no permission.
    if let Some(claim) = claim {
        // Whoever is suspended takes nothing over, and would keep a unit that is to be gone for ever.
        let is_left = terms.parting || terms.removing && claim.idle;
        return Some(match claim.has {
            true => Verdict::Release(Release::HandedOver(claim.by.clone())),
            false if is_left => Verdict::Release(Release::LeftTo(claim.by.clone())),
            false => Verdict::Wait(Wait::Claimed(claim.by.clone())),
        });
    }
    if terms.parting {
        return None;
    }
    if !terms.prune {
        return wait(Wait::Off);
    }
    let left = record
        .left
        .as_deref()
        .filter(|_| record.state == State::PendingRemoval);
    let Some((left, cleared)) = left.zip(terms.cleared) else {
        return wait(Wait::NotCleared);
    };
    if !cleared.covers(key, left.version) {
        return wait(match cleared.except.contains(key) {
            true => Wait::Excepted,
            false => Wait::NotCleared,
        });
    }
    is_kept(record.policy).then_some(Verdict::Release(Release::Kept))
}

/// A live object, as far as a removal looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// The unit that its mark names.
    pub mark: Option<String>,
    /// Its own switches.
    pub policy: Policy,
    /// It is being deleted.
    pub deleting: bool,
    /// What holds its deletion up.
    pub finalizers: Vec<String>,
}

impl Live {
    /// Reads the `metadata` of a live object.
    pub fn of(metadata: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let finalizers = metadata["finalizers"].as_array().map(Vec::as_slice);
        Self {
            uid: text(&metadata["uid"]).unwrap_or_default(),
            resource_version: text(&metadata["resourceVersion"]).unwrap_or_default(),
            mark: text(&metadata["labels"][UNIT_LABEL]),
            policy: Policy::of(metadata),
            deleting: metadata["deletionTimestamp"].is_string(),
            finalizers: finalizers.unwrap_or_default().iter().filter_map(text).collect(),
        }
    }
}

/// Judges an object by a look just taken; `None`: it is not there. `unit` as its mark names it. Asked only of objects that
/// [`foresee`] lets go and whose set passes the [`guard`].
pub fn at_look(
    key: &ObjectKey,
    record: &Record,
    unit: &str,
    protected: &Protected,
    live: Option<&Live>,
) -> Verdict {
    let Some(live) = live else {
        return Verdict::Gone;
    };
    if protected.covers_removal(key) {
        return Verdict::Wait(Wait::Protected);
    }
    if record.standing_uid().is_some_and(|uid| !uid.is(&live.uid)) {
        return Verdict::Release(Release::Replaced);
    }
    match &live.mark {
        None => return Verdict::Release(Release::Unmarked),
        Some(mark) if mark != unit => return Verdict::Release(Release::Marked(mark.clone())),
        Some(_) => {}
    }
    // It bears the mark, and whether it is what this unit wrote before it ended is not known.
    if record.uid.as_ref().is_none_or(|uid| !uid.is(&live.uid)) {
        return Verdict::Wait(Wait::Unproven);
    }
    if live.deleting {
        return Verdict::Deleting(Blocker(live.finalizers.clone()));
    }
    if is_kept(live.policy) || is_kept(record.policy) {
        return Verdict::Release(Release::Kept);
    }
    // A deletion that names no object, or no version of it, would be of whatever stands there.
    if live.uid.is_empty() || live.resource_version.is_empty() || record.state != State::PendingRemoval {
        return Verdict::Wait(Wait::Unproven);
    }
    Verdict::Delete {
        uid: live.uid.clone(),
        resource_version: live.resource_version.clone(),
    }
}

/// Tells whether an object's switches keep it from being removed, as Flux's do.
fn is_kept(policy: Policy) -> bool {
    policy.keep || policy.paused || policy.write == Write::Ignore
}

/// Tells whether objects live and die with this one: those of a namespace, and those of a definition's group.
pub fn is_container(key: &ObjectKey) -> bool {
    contains(key).is_some()
}

/// Tells whether an object lives in this one. A definition's name says the group of its kind, and nothing of the kind
/// itself: any object of the group counts.
pub fn holds(container: &ObjectKey, object: &ObjectKey) -> bool {
    match contains(container) {
        Some(Contents::Namespace(namespace)) => object.namespace == namespace,
        Some(Contents::Group(group)) => object.group == group,
        None => false,
    }
}

enum Contents<'a> {
    Namespace(&'a str),
    Group(&'a str),
}

fn contains(key: &ObjectKey) -> Option<Contents<'_>> {
    match (key.group.as_str(), key.kind.as_str()) {
        ("", "Namespace") => Some(Contents::Namespace(&key.name)),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let group = key.name.split_once('.').map_or("", |(_, group)| group);
            Some(Contents::Group(group))
        }
        _ => None,
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("being deleted"),
            finalizers => write!(f, "being deleted, held by finalizers {}", finalizers.join(", ")),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("an annotation says that it stays"),
            Self::Replaced => f.write_str("another object stands under its name"),
            Self::Unmarked => f.write_str("it does not bear our mark any more"),
            Self::Marked(mark) => write!(f, "it bears the mark of {mark}"),
            Self::HandedOver(unit) => write!(f, "moved to {unit}"),
            Self::NoAccount(account) => {
                write!(
                    f,
                    "ServiceAccount {account} is not there any more, as which its app acted"
                )
            }
            Self::LeftTo(unit) => write!(f, "left to {unit}"),
            Self::LetGo => f.write_str("it stays as it is"),
            Self::StillMarked(why) => write!(f, "it stays as it is, and still bears our mark: {why}"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEnforced => f.write_str("kept: the app is not enforced"),
            Self::NotApplied => f.write_str("kept until the app is applied whole"),
            Self::Incomplete => f.write_str("kept: the app's content is not complete"),
            Self::Off => f.write_str("kept: prune is off"),
            Self::NotCleared => f.write_str("kept until the hub clears its removal"),
            Self::Excepted => f.write_str("kept: the hub says that another app claims it"),
            Self::OthersUnknown => f.write_str("kept until the other apps of the cluster are evaluated"),
            Self::Claimed(by) => write!(f, "kept: claimed by {by}"),
            Self::Holds(what) => write!(f, "kept as long as {what} is in it"),
            Self::Unproven => f.write_str(
                "kept: its UID was never learnt, so that nothing proves that this app wrote it; delete it by hand",
            ),
            Self::Kept => f.write_str("kept: an annotation says that it stays"),
            Self::Protected => f.write_str("kept: the agent or the cluster itself lives on it"),
        }
    }
}

#[cfg(test)]
mod tests;
