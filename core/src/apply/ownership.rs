//! Who owns an object that is already in the cluster, before anything is written to it.
//!
//! A mark is a label, and who may patch an object may write one. It counts as another unit's only where the
//! agent's own ledger bears it out; any other mark is drift.

use serde_json::Value;

use super::{
    UNIT_LABEL,
    inventory::{Record, State},
};
use crate::{
    object::ObjectKey,
    unit::{Entry, UnitState},
};

/// A Flux object named by the owner labels of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluxOwner {
    /// `Kustomization` or `HelmRelease`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Whether the Flux object that an object's labels name still acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FluxState {
    /// It does not exist in this cluster, or its kind is not served.
    Absent,
    /// It exists and is suspended.
    Suspended,
    /// It exists and reconciles.
    Live,
}

/// Whose mark an object bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// None.
    Nobody,
    /// The unit's own.
    Us,
    /// Another unit's, which this agent knows.
    Unit(&'a str),
    /// One of no unit that this agent knows: to be corrected like any other label.
    Stray(&'a str),
}

/// Tells whose mark an object bears. `known` tells whether the ledger holds the object for that unit.
pub fn owner<'a>(mark: Option<&'a str>, unit: &str, known: impl Fn(&str) -> bool) -> Owner<'a> {
    match mark {
        None => Owner::Nobody,
        Some(mark) if mark == unit => Owner::Us,
        Some(mark) if known(mark) => Owner::Unit(mark),
        Some(mark) => Owner::Stray(mark),
    }
}

/// Tells whether a unit holds on to an object that it has in its inventory: it is to have it still, and the hub does not
/// say that another is. One that was let go of gives up whatever the hub has another for: it would leave that alone if it knew
/// of who has it. `entry`: what it was offered last.
pub fn holds_on(record: &Record, key: &ObjectKey, entry: Option<&Entry>) -> bool {
    let leaves = |entry: &Entry| entry.withheld.iter().any(|one| one.key == *key);
    let is_let_go = entry.is_some_and(|entry| matches!(entry.state, UnitState::Detached));
    record.state != State::PendingRemoval && !is_let_go && !entry.is_some_and(leaves)
}

/// What the first look at a live object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// Nothing there: write the intent, then create.
    Create,
    /// There without a mark, or with one of no unit that is known: write the intent as adopted, then apply.
    Adopt {
        /// That mark: another installation may manage the object, too.
        stray: Option<String>,
    },
    /// Ours already.
    Owned,
    /// Another unit's: withhold this object only.
    Conflict {
        /// The unit that owns it, as its mark says.
        owner: String,
    },
    /// Flux still reconciles it: two managers never fight, so it is withheld until Flux's object is suspended
    /// or gone.
    StillManagedByFlux(FluxOwner),
    /// Being deleted: wait until it is gone; what holds it is named.
    BeingDeleted {
        /// Its finalizers.
        finalizers: Vec<String>,
    },
}

/// The Flux object that an object's owner labels name. `metadata` is the live object's.
pub fn flux_owner(metadata: &Value) -> Option<FluxOwner> {
    let labels = &metadata["labels"];
    [("Kustomization", "kustomize"), ("HelmRelease", "helm")]
        .into_iter()
        .find_map(|(kind, group)| {
            let part = |field: &str| labels[format!("{group}.toolkit.fluxcd.io/{field}")].as_str();
            Some(FluxOwner {
                kind,
                namespace: part("namespace")?.into(),
                name: part("name")?.into(),
            })
        })
}

/// Decides what a live object is to `unit`. `live` is its metadata, `None` when it does not exist; `flux` is
/// the state of its [`flux_owner`], asked only when there is one; `known` as for [`owner`].
///
/// Another unit's mark wins over everything; a live Flux owner wins over our own mark, since whoever resumed
/// it means Flux to act.
pub fn first_contact(
    live: Option<&Value>,
    unit: &str,
    flux: FluxState,
    known: impl Fn(&str) -> bool,
) -> Contact {
    let Some(metadata) = live else {
        return Contact::Create;
    };
    let owner = owner(metadata["labels"][UNIT_LABEL].as_str(), unit, known);
    if let Owner::Unit(owner) = owner {
        return Contact::Conflict {
            owner: owner.to_owned(),
        };
    }
    if flux == FluxState::Live
        && let Some(owner) = flux_owner(metadata)
    {
        return Contact::StillManagedByFlux(owner);
    }
    if metadata.get("deletionTimestamp").is_some_and(Value::is_string) {
        return Contact::BeingDeleted {
            finalizers: finalizers(metadata),
        };
    }
    match owner {
        Owner::Us => Contact::Owned,
        Owner::Stray(mark) => Contact::Adopt {
            stray: Some(mark.to_owned()),
        },
        Owner::Nobody | Owner::Unit(_) => Contact::Adopt { stray: None },
    }
}

fn finalizers(metadata: &Value) -> Vec<String> {
    let listed = metadata["finalizers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    listed
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flux_labelled() -> Value {
        json!({"labels": {
            "kustomize.toolkit.fluxcd.io/name": "apps",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        }})
    }

    fn marked(unit: &str) -> Value {
        json!({"labels": {UNIT_LABEL: unit}})
    }

    #[test]
    fn first_contact_creates_adopts_or_keeps() {
        assert_eq!(contact(None, FluxState::Absent), Contact::Create);
        assert_eq!(
            contact(Some(&json!({"name": "x"})), FluxState::Absent),
            Contact::Adopt { stray: None }
        );
        assert_eq!(contact(Some(&marked("u1")), FluxState::Absent), Contact::Owned);
    }

    fn contact(live: Option<&Value>, flux: FluxState) -> Contact {
        first_contact(live, "u1", flux, |unit| matches!(unit, "u1" | "u2"))
    }

    /// A hub that was restored may give an object to another unit than the one that has it: that one would keep it for ever
    /// from who is to write it, and not write it itself.
    #[test]
    fn who_has_an_object_lets_go_of_it_once_it_leaves_or_the_hub_says_that_it_is_anothers() {
        use std::{collections::BTreeMap, time::Duration};

        use uuid::Uuid;

        use crate::{
            apply::policy::Policy,
            digest::Digest,
            id::{ResourceUid, UnitId},
            unit::{AppRef, Settings, Substitution, Withheld, health::HealthChecks},
        };

        let key = ObjectKey::new("", "ConfigMap", "a", "x");
        let of = |name: &str| Withheld {
            key: ObjectKey::new("", "ConfigMap", "a", name),
            owner: "Kustomization/apps/b".to_owned(),
        };
        let entry = |state: UnitState, withheld: Vec<Withheld>| Entry {
            unit: UnitId(Uuid::nil()),
            version: 1,
            app: AppRef {
                uid: ResourceUid(Uuid::nil()),
                kind: "Kustomization".into(),
                namespace: "apps".into(),
                name: "a".into(),
            },
            content: None,
            target: Digest::of("target", b"a"),
            revision: String::new(),
            state,
            prune_cleared: None,
            prune_approved: None,
            settings: Settings {
                interval: Duration::from_secs(60),
                retry_interval: Duration::from_secs(60),
                timeout: Duration::from_secs(60),
                wait: false,
                prune: true,
                common_labels: BTreeMap::new(),
                common_annotations: BTreeMap::new(),
                substitution: Substitution::Off,
                default_namespace: String::new(),
                service_account: String::new(),
                force: false,
                ignore: Vec::new(),
                health: HealthChecks::default(),
                decryption: None,
                kept: None,
            },
            variables: Vec::new(),
            depends_on: Vec::new(),
            withheld,
            requested: String::new(),
        };
        let enforced = |withheld| entry(UnitState::Active, withheld);
        let let_go = entry(UnitState::Detached, Vec::new());
        let mut record = Record::intent("v1", false, Policy::default());
        assert!(holds_on(&record, &key, None));
        assert!(holds_on(&record, &key, Some(&enforced(vec![of("y")]))));
        assert!(!holds_on(&record, &key, Some(&enforced(vec![of("y"), of("x")]))));
        assert!(
            !holds_on(&record, &key, Some(&let_go)),
            "it writes nothing any more"
        );
        record.state = State::PendingRemoval;
        assert!(!holds_on(&record, &key, None));
    }

    #[test]
    fn a_mark_of_no_known_unit_does_not_keep_us_from_the_object() {
        for mark in ["00000000-0000-0000-0000-000000000000", "", "u3"] {
            let stray = Some(mark.to_owned());
            assert_eq!(
                contact(Some(&marked(mark)), FluxState::Absent),
                Contact::Adopt { stray }
            );
        }
    }

    #[test]
    fn a_mark_says_who_owns_an_object_only_where_the_ledger_says_so_too() {
        let owner = |mark| owner(mark, "u1", |unit| unit == "u2");
        assert_eq!(owner(None), Owner::Nobody);
        assert_eq!(owner(Some("u1")), Owner::Us);
        assert_eq!(owner(Some("u2")), Owner::Unit("u2"));
        assert_eq!(owner(Some("u3")), Owner::Stray("u3"));
    }

    #[test]
    fn another_units_mark_is_a_conflict() {
        let found = contact(Some(&marked("u2")), FluxState::Absent);
        assert_eq!(found, Contact::Conflict { owner: "u2".into() });
    }

    #[test]
    fn an_object_that_flux_still_reconciles_is_left_alone() {
        let owner = FluxOwner {
            kind: "Kustomization",
            namespace: "flux-system".into(),
            name: "apps".into(),
        };
        assert_eq!(flux_owner(&flux_labelled()), Some(owner.clone()));
        let mut ours = flux_labelled();
        ours["labels"][UNIT_LABEL] = json!("u1");
        for live in [flux_labelled(), ours.clone()] {
            assert_eq!(
                contact(Some(&live), FluxState::Live),
                Contact::StillManagedByFlux(owner.clone())
            );
        }
        for state in [FluxState::Suspended, FluxState::Absent] {
            assert_eq!(
                contact(Some(&flux_labelled()), state),
                Contact::Adopt { stray: None }
            );
            assert_eq!(contact(Some(&ours), state), Contact::Owned);
        }
    }

    #[test]
    fn a_release_owns_by_helm_labels() {
        let live = json!({"labels": {
            "helm.toolkit.fluxcd.io/name": "redis", "helm.toolkit.fluxcd.io/namespace": "infra",
        }});
        assert_eq!(flux_owner(&live).map(|owner| owner.kind), Some("HelmRelease"));
        assert_eq!(
            flux_owner(&json!({"labels": {"helm.toolkit.fluxcd.io/name": "redis"}})),
            None
        );
    }

    #[test]
    fn an_object_being_deleted_names_what_holds_it() {
        let live = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/hold"]});
        let found = contact(Some(&live), FluxState::Absent);
        assert_eq!(
            found,
            Contact::BeingDeleted {
                finalizers: vec!["example.com/hold".into()]
            }
        );
    }
}
