//! Whether an object of which a field cannot be changed is deleted and made anew, as `force` asks.
//!
//! Flux deletes after any refusal by validation. Here the kind's own rules have to say that a field cannot be changed
//! ([`super::failure::is_unchangeable`]), and no admission: what is wrong in itself would not be taken anew either, and the object would be lost.
//! And as with any deletion, only the very object is deleted that this unit wrote: by its UID and version, with our mark.

use std::fmt;

use super::{
    inventory::Record,
    policy::Policy,
    protected::Protected,
    removal::{Blocker, Live, is_container},
};
use crate::{id::Uid, object::ObjectKey};

/// What is done with an object that cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// It is not there any more: it is created.
    Create,
    /// It is being deleted: it is created once it is gone.
    Deleting(Blocker),
    /// It is deleted: this very object, as it was read.
    Delete {
        /// Its UID.
        uid: Uid,
        /// Its version.
        resource_version: String,
    },
    /// Nobody asks for it.
    NotForced,
    /// It stays as it is, though `force` asks for it.
    Refused(Refusal),
}

/// Why an object is not made anew although `force` asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// What is in it would go with it.
    Container,
    /// It is the agent's own, or the cluster's.
    Protected,
    /// This unit has not written it.
    NotOurs,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => {
                "what is in it would be deleted with it, which its own annotation \
                 `kustomize.toolkit.fluxcd.io/force: enabled` has to ask for"
            }
            Self::Protected => "it is the agent's own, or the cluster's",
            Self::NotOurs => "it is not known to be the object that this app has written",
        })
    }
}

/// Decides by a look just taken; `live` is `None` where it is not there. `unit` as its mark names it, `all`: the app asks for
/// it of all its objects.
pub fn replacement(
    key: &ObjectKey,
    record: Option<&Record>,
    (unit, all): (&str, bool),
    desired: Policy,
    protected: &Protected,
    live: Option<&Live>,
) -> Replacement {
    let Some(live) = live else {
        return Replacement::Create;
    };
    let by_itself = desired.force || live.policy.force;
    if !by_itself && !all {
        return Replacement::NotForced;
    }
    if live.deleting {
        return Replacement::Deleting(Blocker(live.finalizers.clone()));
    }
    if protected.covers_removal(key) {
        return Replacement::Refused(Refusal::Protected);
    }
    if !by_itself && is_container(key) {
        return Replacement::Refused(Refusal::Container);
    }
    let uid = record
        .and_then(|record| record.uid.as_ref())
        .filter(|uid| uid.is(&live.uid) && live.mark.as_deref() == Some(unit));
    match uid {
        Some(uid) if !live.resource_version.is_empty() => Replacement::Delete {
            uid: uid.clone(),
            resource_version: live.resource_version.clone(),
        },
        _ => Replacement::Refused(Refusal::NotOurs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORCED: Policy = Policy {
        write: super::super::policy::Write::Override,
        paused: false,
        keep: false,
        force: true,
    };

    fn record() -> Record {
        Record {
            uid: Some("u-1".into()),
            ..Record::default()
        }
    }

    fn live() -> Live {
        Live {
            uid: "u-1".into(),
            resource_version: "7".into(),
            mark: Some("unit".into()),
            policy: Policy::default(),
            deleting: false,
            finalizers: Vec::new(),
        }
    }

    fn job() -> ObjectKey {
        ObjectKey::new("batch", "Job", "shop", "migrate")
    }

    fn decide(
        key: &ObjectKey,
        record: &Record,
        all: bool,
        desired: Policy,
        live: Option<&Live>,
    ) -> Replacement {
        let protected = Protected::new("flotilla-system", "flotilla-agent");
        replacement(key, Some(record), ("unit", all), desired, &protected, live)
    }

    fn deletes() -> Replacement {
        Replacement::Delete {
            uid: "u-1".into(),
            resource_version: "7".into(),
        }
    }

    #[test]
    fn only_who_asks_for_it_is_made_anew() {
        let plain = Policy::default();
        let of = |all, desired, live: &Live| decide(&job(), &record(), all, desired, Some(live));
        assert_eq!(of(false, plain, &live()), Replacement::NotForced);
        let asks_itself = Live {
            policy: FORCED,
            ..live()
        };
        for (all, desired, live) in [
            (true, plain, live()),
            (false, FORCED, live()),
            (false, plain, asks_itself),
        ] {
            assert_eq!(of(all, desired, &live), deletes());
        }
    }

    #[test]
    fn only_the_object_that_was_written_is_deleted() {
        let refused = Replacement::Refused(Refusal::NotOurs);
        let other = Live {
            uid: "u-2".into(),
            ..live()
        };
        let unmarked = Live { mark: None, ..live() };
        let of_another = Live {
            mark: Some("other".into()),
            ..live()
        };
        for live in [other, unmarked, of_another] {
            assert_eq!(decide(&job(), &record(), true, FORCED, Some(&live)), refused);
        }
        assert_eq!(
            decide(&job(), &Record::default(), true, FORCED, Some(&live())),
            refused
        );
    }

    #[test]
    fn a_replacement_that_was_broken_off_goes_on_by_the_uid_that_was_noted() {
        let mut record = record();
        record.replace();
        assert_eq!(decide(&job(), &record, true, FORCED, Some(&live())), deletes());
        assert_eq!(decide(&job(), &record, true, FORCED, None), Replacement::Create);
        let deleting = Live {
            deleting: true,
            finalizers: vec!["example.com/hold".into()],
            ..live()
        };
        assert_eq!(
            decide(&job(), &record, true, FORCED, Some(&deleting)),
            Replacement::Deleting(Blocker(vec!["example.com/hold".into()]))
        );
    }

    #[test]
    fn containers_ask_for_it_themselves_and_what_is_protected_never_goes() {
        let namespace = ObjectKey::new("", "Namespace", "", "shop");
        let definition = ObjectKey::new("apiextensions.k8s.io", "CustomResourceDefinition", "", "a.b.c");
        for key in [namespace, definition] {
            let of = |desired| decide(&key, &record(), true, desired, Some(&live()));
            assert_eq!(of(Policy::default()), Replacement::Refused(Refusal::Container));
            assert_eq!(of(FORCED), deletes());
        }
        let own = ObjectKey::new("", "Namespace", "", "flotilla-system");
        assert_eq!(
            decide(&own, &record(), true, FORCED, Some(&live())),
            Replacement::Refused(Refusal::Protected)
        );
    }
}
