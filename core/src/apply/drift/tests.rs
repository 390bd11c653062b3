use serde_json::json;

use super::*;
use crate::apply::policy::Write;

const KEY: &[u8; 32] = &[5; 32];

pub(super) fn live() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "uid": "u-1", "resourceVersion": "1", "labels": {"app": "web"},
            "managedFields": [
                {"manager": MANAGER, "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:replicas": {}},
                }},
                {"manager": "controller", "operation": "Update", "subresource": "status",
                 "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:status": {"f:replicas": {}}}},
            ],
        },
        "spec": {"replicas": 2, "paused": false},
        "status": {"replicas": 2},
    })
}

fn record() -> Record {
    let written = observe(&live(), KEY);
    Record {
        api_version: "apps/v1".into(),
        state: State::Applied,
        uid: written.uid,
        sent: Some(Digest::of("test", b"1")),
        projection: written.projection,
        ..Record::default()
    }
}

pub(super) fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = live();
    change(&mut object);
    object
}

pub(super) fn edited_by(manager: &str, time: &str) -> Value {
    json!({"manager": manager, "operation": "Update", "time": time, "fieldsV1": {"f:spec": {"f:replicas": {}}}})
}

fn judged(object: &Value) -> Judgement {
    judge(&record(), Some(&observe(object, KEY)))
}

#[test]
fn what_others_write_is_no_suspicion() {
    assert_eq!(judged(&live()), Judgement::InSync);
    for object in [
        changed(|o| o["status"]["replicas"] = json!(0)),
        changed(|o| o["spec"]["paused"] = json!(true)),
        changed(|o| o["metadata"]["resourceVersion"] = json!("99")),
        changed(|o| o["metadata"]["annotations"] = json!({"theirs": "1"})),
    ] {
        assert_eq!(judged(&object), Judgement::InSync);
    }
}

#[test]
fn each_kind_of_drift_is_suspected() {
    assert_eq!(judge(&record(), None), Judgement::Suspicious(Suspicion::Gone));
    let cases = [
        (
            changed(|o| o["metadata"]["uid"] = json!("u-2")),
            Suspicion::Replaced {
                expected: "u-1".into(),
                found: "u-2".into(),
            },
        ),
        (changed(|o| o["spec"]["replicas"] = json!(5)), Suspicion::Fields),
        (
            changed(|o| o["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = json!({"f:paused": {}})),
            Suspicion::Fields,
        ),
        (
            changed(|o| o["metadata"]["managedFields"] = json!([])),
            Suspicion::Disowned,
        ),
        (
            changed(|o| {
                o["metadata"]["managedFields"][1] = edited_by("kubectl-edit", "2026-01-01T00:00:10Z")
            }),
            Suspicion::Applied("kubectl-edit".into()),
        ),
    ];
    for (object, expected) in cases {
        assert_eq!(judged(&object), Judgement::Suspicious(expected));
    }
}

#[test]
fn an_accepted_observation_is_not_suspected_again_until_it_changes() {
    let object = changed(|o| o["spec"]["replicas"] = json!(5));
    let mut record = record();
    record.accept(&observe(&object, KEY));
    assert_eq!(judge(&record, Some(&observe(&object, KEY))), Judgement::InSync);
    let other = changed(|o| o["spec"]["replicas"] = json!(6));
    assert_eq!(
        judge(&record, Some(&observe(&other, KEY))),
        Judgement::Suspicious(Suspicion::Fields)
    );
}

#[test]
fn what_is_not_applied_is_not_judged() {
    for state in [State::Intent, State::PendingRemoval] {
        assert_eq!(judge(&Record { state, ..record() }, None), Judgement::NotJudged);
    }
}

#[test]
fn an_object_being_deleted_is_not_judged_until_it_is_gone() {
    let object = changed(|o| {
        o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        o["spec"]["replicas"] = json!(5);
    });
    assert_eq!(judged(&object), Judgement::NotJudged);
}

#[test]
fn a_finished_job_that_vanished_is_done() {
    let finished = Record {
        finished: true,
        ..record()
    };
    assert_eq!(judge(&finished, None), Judgement::InSync);
    // While it is there it is judged like any other.
    let edited = observe(&changed(|o| o["spec"]["replicas"] = json!(5)), KEY);
    assert_eq!(
        judge(&finished, Some(&edited)),
        Judgement::Suspicious(Suspicion::Fields)
    );
}

#[test]
fn an_observation_says_what_ownership_and_switches_are_judged_by() {
    let object = changed(|o| {
        o["metadata"]["labels"][UNIT_LABEL] = json!("u1");
        o["metadata"]["annotations"] = json!({"kustomize.toolkit.fluxcd.io/reconcile": "disabled"});
        o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let seen = observe(&object, KEY);
    assert_eq!(
        (seen.mark, seen.deleting, seen.policy.paused, seen.finished),
        (Some("u1".into()), true, true, false)
    );
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]}});
    assert!(observe(&job, KEY).finished);
}

#[test]
fn the_resource_version_makes_no_other_observation() {
    let seen = observe(&live(), KEY);
    let later = observe(&changed(|o| o["metadata"]["resourceVersion"] = json!("99")), KEY);
    assert_eq!(seen, later);
    let moved = observe(
        &changed(|o| o["metadata"]["labels"][UNIT_LABEL] = json!("u2")),
        KEY,
    );
    assert_ne!(seen.digest(), moved.digest());
}

/// Every combination of what an object's switches and its live state can be.
fn combinations() -> impl Iterator<Item = (Record, Option<Observation>)> {
    let writes = [Write::Override, Write::Merge, Write::IfNotPresent, Write::Ignore];
    let policies: Vec<Policy> = writes
        .into_iter()
        .flat_map(|write| {
            [false, true].map(|paused| Policy {
                write,
                paused,
                ..Policy::default()
            })
        })
        .collect();
    let objects = [
        Some(live()),
        Some(changed(|o| o["spec"]["replicas"] = json!(5))),
        Some(changed(|o| o["metadata"]["uid"] = json!("u-2"))),
        Some(changed(|o| o["metadata"]["managedFields"] = json!([]))),
        Some(changed(|o| {
            o["metadata"]["managedFields"][1] = edited_by("kubectl-edit", "2026-01-01T00:00:10Z");
        })),
        Some(changed(|o| {
            o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        })),
        None,
    ];
    let recorded = policies.clone();
    recorded.into_iter().flat_map(move |desired| {
        let (policies, objects) = (policies.clone(), objects.clone());
        policies.into_iter().flat_map(move |found| {
            let record = Record {
                policy: desired,
                ..record()
            };
            objects.clone().map(move |object| {
                let seen = object.map(|object| Observation {
                    policy: found,
                    ..observe(&object, KEY)
                });
                (record.clone(), seen)
            })
        })
    })
}

#[test]
fn what_a_check_would_leave_alone_is_never_suspicious() {
    let mut suspicious = 0;
    for (record, live) in combinations() {
        let decision = record.policy.decide(live.as_ref().map(|live| live.policy));
        let judgement = judge(&record, live.as_ref());
        match decision {
            Decision::Skip(_) => assert_eq!(judgement, Judgement::InSync, "{record:?} {live:?}"),
            Decision::Apply { fold } => {
                let folds = matches!(judgement, Judgement::Suspicious(Suspicion::Applied(_)));
                assert!(fold || !folds, "{record:?} {live:?}");
                suspicious += usize::from(matches!(judgement, Judgement::Suspicious(_)));
            }
        }
        // Once it is accepted, nothing is suspected until something else is seen.
        if let Some(live) = &live {
            let accepted = Record {
                accepted: Some(Box::new(live.digest())),
                ..record.clone()
            };
            assert!(!matches!(judge(&accepted, Some(live)), Judgement::Suspicious(_)));
        }
    }
    assert!(suspicious > 0);
}

#[test]
fn an_object_is_written_without_a_look_only_as_we_left_it() {
    let marked = |change: &dyn Fn(&mut Value)| {
        observe(
            &changed(|o| {
                o["metadata"]["labels"][UNIT_LABEL] = json!("u1");
                change(o);
            }),
            KEY,
        )
    };
    let untouched = |live: &Observation| is_untouched(&record(), live, Policy::default(), "u1");
    assert!(untouched(&marked(&|_| {})));
    let pause = json!({"kustomize.toolkit.fluxcd.io/reconcile": "disabled"});
    let ignore = json!({"kustomize.toolkit.fluxcd.io/ssa": "Ignore"});
    let changes: [&dyn Fn(&mut Value); 7] = [
        &|o| o["metadata"]["annotations"] = pause.clone(),
        &|o| o["metadata"]["annotations"] = ignore.clone(),
        &|o| o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        &|o| o["metadata"]["labels"][UNIT_LABEL] = json!("u2"),
        &|o| o["metadata"]["uid"] = json!("u-2"),
        &|o| o["spec"]["replicas"] = json!(5),
        &|o| o["metadata"]["managedFields"][1] = edited_by("kubectl-edit", "2026-01-01T00:00:10Z"),
    ];
    for change in changes {
        let live = marked(change);
        assert!(!untouched(&live), "{live:?}");
    }
    assert!(!untouched(&observe(&live(), KEY)), "it has lost its mark");
    let created_once = Policy {
        write: Write::IfNotPresent,
        ..Policy::default()
    };
    assert!(!is_untouched(&record(), &marked(&|_| {}), created_once, "u1"));
}

#[test]
fn what_is_untouched_is_never_suspicious() {
    let mut untouched = 0;
    for (record, live) in combinations() {
        let Some(mut live) = live else { continue };
        live.mark = Some("u1".into());
        if is_untouched(&record, &live, record.policy, "u1") {
            untouched += 1;
            assert_eq!(
                judge(&record, Some(&live)),
                Judgement::InSync,
                "{record:?} {live:?}"
            );
        }
    }
    assert!(untouched > 0);
}

#[test]
fn a_kubectl_entry_is_no_suspicion_where_the_object_is_merged() {
    let object = changed(|o| {
        o["metadata"]["managedFields"][1] = edited_by("kubectl-edit", "2026-01-01T00:00:10Z");
    });
    let merged = Record {
        policy: Policy {
            write: Write::Merge,
            ..Policy::default()
        },
        ..record()
    };
    assert_eq!(judge(&merged, Some(&observe(&object, KEY))), Judgement::InSync);
}
