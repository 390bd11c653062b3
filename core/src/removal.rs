//! The removal of a unit as data: what is to become of its objects, and who has allowed that. What the hub permits is decided
//! in [`clearing`], and how much of it without a person in [`closure`].

pub mod clearing;
pub mod closure;

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, object::ObjectKey};

/// What becomes of an app's objects when it is deleted, in Flux's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// What `prune` says.
    MirrorPrune,
    /// They are deleted.
    Delete,
    /// They are deleted and waited for.
    WaitForTermination,
    /// They stay.
    Orphan,
}

impl DeletionPolicy {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MirrorPrune => "MirrorPrune",
            Self::Delete => "Delete",
            Self::WaitForTermination => "WaitForTermination",
            Self::Orphan => "Orphan",
        }
    }

    /// Reads what [`Self::as_str`] gives. `None`: a policy of a newer release.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::MirrorPrune,
            Self::Delete,
            Self::WaitForTermination,
            Self::Orphan,
        ];
        all.into_iter().find(|policy| policy.as_str() == text)
    }
}

/// How a unit is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// What becomes of its objects.
    pub policy: DeletionPolicy,
    /// The target that it was allowed for; `None`: it was not allowed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Digest>,
}

impl Removal {
    /// Whether it is allowed for a unit with this target: what was allowed for another one is void.
    pub fn is_approved(&self, target: Digest) -> bool {
        self.approval == Some(target)
    }
}

/// What the hub permits to be deleted of what has left a unit's content. The version says when it left at the latest: a
/// digest has no order, and after A → B → A → B an old permission would cover what left later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clearing {
    /// Objects that left at this version of the unit or before.
    pub version: u64,
    /// But for these: another unit claims them, or is to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<ObjectKey>,
}

impl Clearing {
    /// Whether it covers an object that left at this version.
    pub fn covers(&self, key: &ObjectKey, left_at: u64) -> bool {
        left_at <= self.version && !self.except.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::unit::UnitState;

    #[test]
    fn a_removal_reads_back_and_is_allowed_for_one_target_alone() {
        let (one, other) = (Digest::of("target", b"1"), Digest::of("target", b"2"));
        for policy in [
            DeletionPolicy::MirrorPrune,
            DeletionPolicy::Delete,
            DeletionPolicy::WaitForTermination,
            DeletionPolicy::Orphan,
        ] {
            assert_eq!(DeletionPolicy::parse(policy.as_str()), Some(policy));
            assert_eq!(json!(policy), json!(policy.as_str()));
            for approval in [None, Some(one)] {
                let removal = Removal { policy, approval };
                let state = UnitState::Removing(removal);
                let written = serde_json::to_value(&state).expect("JSON");
                assert_eq!(written["type"], "removing");
                assert_eq!(
                    serde_json::from_value::<UnitState>(written).expect("readable"),
                    state
                );
                assert_eq!(removal.is_approved(one), approval.is_some());
                assert!(!removal.is_approved(other));
            }
        }
        assert_eq!(DeletionPolicy::parse("Shred"), None);
    }

    #[test]
    fn a_clearing_covers_what_left_until_then_but_for_what_it_excepts() {
        let (one, other) = (
            ObjectKey::new("", "ConfigMap", "a", "x"),
            ObjectKey::new("", "ConfigMap", "a", "y"),
        );
        let clearing = Clearing {
            version: 7,
            except: vec![other.clone()],
        };
        assert!(clearing.covers(&one, 6) && clearing.covers(&one, 7) && !clearing.covers(&one, 8));
        assert!(!clearing.covers(&other, 1));
    }
}
