//! What an object's labels and annotations ask of whoever applies it: Flux's per-object switches.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    /// Applied; fields that other appliers left behind are taken over and removed when not desired.
    #[default]
    Override,
    /// Applied; others keep the fields they own.
    Merge,
    /// Created when missing, never changed afterwards.
    IfNotPresent,
    /// Never written.
    Ignore,
}

/// The switches of one object, from `kustomize.toolkit.fluxcd.io/*` labels and annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// `ssa`.
    #[serde(default, skip_serializing_if = "Write::is_override")]
    pub write: Write,
    /// `reconcile: disabled`: neither written nor corrected nor removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// `prune: disabled`: stays when it leaves the desired state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// `force: enabled`: is deleted and made anew when a field cannot be changed; see [`super::replace`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

impl Write {
    fn is_override(&self) -> bool {
        *self == Self::Override
    }
}

/// Why an object is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// `reconcile: disabled` on the desired or the live object.
    Paused,
    /// `ssa: Ignore` on the desired or the live object.
    Ignored,
    /// `ssa: IfNotPresent` and the object exists.
    Present,
}

/// What to do with an object, from its desired and its live metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Leave it as it is, out of health checks; what is in the inventory stays there.
    Skip(Skip),
    /// Apply it.
    Apply {
        /// Fold the managers of other appliers into ours first.
        fold: bool,
    },
}

impl Policy {
    /// Tells whether no switch is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the switches from an object's `metadata`. Values compare without case, as in Flux; unknown ones
    /// are the default.
    pub fn of(metadata: &Value) -> Self {
        Self {
            write: write(metadata),
            paused: has(metadata, "reconcile", "disabled"),
            keep: has(metadata, "prune", "disabled"),
            force: has(metadata, "force", "enabled"),
        }
    }

    /// Decides whether and how an object is written. `self` is the desired object's policy; the live object's
    /// counts too, since a person may pause a single object in place.
    pub fn decide(self, live: Option<Self>) -> Decision {
        let either = |holds: fn(Self) -> bool| holds(self) || live.is_some_and(holds);
        if either(|policy| policy.paused) {
            Decision::Skip(Skip::Paused)
        } else if either(|policy| policy.write == Write::Ignore) {
            Decision::Skip(Skip::Ignored)
        } else if live.is_some() && self.write == Write::IfNotPresent {
            Decision::Skip(Skip::Present)
        } else {
            Decision::Apply {
                fold: !either(|policy| policy.write == Write::Merge),
            }
        }
    }
}

fn write(metadata: &Value) -> Write {
    let choices = [
        ("ignore", Write::Ignore),
        ("ifnotpresent", Write::IfNotPresent),
        ("merge", Write::Merge),
    ];
    choices
        .into_iter()
        .find(|(value, _)| has(metadata, "ssa", value))
        .map_or(Write::Override, |(_, write)| write)
}

fn has(metadata: &Value, switch: &str, value: &str) -> bool {
    let key = format!("kustomize.toolkit.fluxcd.io/{switch}");
    ["labels", "annotations"]
        .iter()
        .filter_map(|field| metadata[*field][&key].as_str())
        .any(|found| found.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(switch: &str, value: &str) -> Policy {
        Policy::of(&json!({"annotations": {format!("kustomize.toolkit.fluxcd.io/{switch}"): value}}))
    }

    #[test]
    fn switches_are_read_from_labels_and_annotations_without_case() {
        assert_eq!(policy("ssa", "IfNotPresent").write, Write::IfNotPresent);
        assert_eq!(policy("ssa", "ignore").write, Write::Ignore);
        assert_eq!(policy("ssa", "Merge").write, Write::Merge);
        assert_eq!(policy("ssa", "unheard of"), Policy::default());
        assert!(policy("reconcile", "Disabled").paused);
        assert!(policy("prune", "disabled").keep);
        assert!(policy("force", "enabled").force);
        assert!(!policy("force", "disabled").force);
        assert!(Policy::of(&json!({"labels": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}})).paused);
        assert_eq!(Policy::of(&json!(null)), Policy::default());
    }

    #[test]
    fn switches_read_back_and_defaults_take_no_room() {
        let set = Policy {
            write: Write::IfNotPresent,
            paused: true,
            keep: true,
            force: true,
        };
        let text = serde_json::to_string(&set).expect("JSON");
        assert_eq!(
            text,
            r#"{"write":"ifNotPresent","paused":true,"keep":true,"force":true}"#
        );
        assert_eq!(serde_json::from_str::<Policy>(&text).expect("readable"), set);
        assert_eq!(serde_json::to_string(&Policy::default()).expect("JSON"), "{}");
        assert_eq!(
            serde_json::from_str::<Policy>("{}").expect("readable"),
            Policy::default()
        );
    }

    #[test]
    fn a_pause_on_either_side_holds_the_object() {
        let (plain, paused) = (Policy::default(), policy("reconcile", "disabled"));
        assert_eq!(paused.decide(None), Decision::Skip(Skip::Paused));
        assert_eq!(plain.decide(Some(paused)), Decision::Skip(Skip::Paused));
        assert_eq!(
            plain.decide(Some(policy("ssa", "Ignore"))),
            Decision::Skip(Skip::Ignored)
        );
    }

    #[test]
    fn if_not_present_creates_once_and_counts_only_where_desired() {
        let once = policy("ssa", "IfNotPresent");
        assert_eq!(once.decide(None), Decision::Apply { fold: true });
        assert_eq!(
            once.decide(Some(Policy::default())),
            Decision::Skip(Skip::Present)
        );
        assert_eq!(
            Policy::default().decide(Some(once)),
            Decision::Apply { fold: true }
        );
    }

    #[test]
    fn merge_leaves_other_managers_alone() {
        let merge = policy("ssa", "Merge");
        assert_eq!(
            merge.decide(Some(Policy::default())),
            Decision::Apply { fold: false }
        );
        assert_eq!(
            Policy::default().decide(Some(merge)),
            Decision::Apply { fold: false }
        );
    }
}
