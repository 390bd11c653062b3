use serde_json::json;

use super::*;
use crate::{apply::inventory::Left, digest::Digest};

fn key(text: &str) -> ObjectKey {
    let parts: Vec<&str> = text.split('/').collect();
    ObjectKey::new(parts[0], parts[1], parts[2], parts[3])
}

fn x() -> ObjectKey {
    key("/ConfigMap/a/x")
}

fn pending(had: Option<u32>) -> Record {
    let mut record = Record {
        api_version: "v1".into(),
        uid: Some("u-1".into()),
        sent: Some(Digest::of("test", b"1")),
        state: State::Applied,
        ..Record::default()
    };
    record.leave(Left {
        version: 7,
        content: None,
        had,
    });
    record
}

fn live() -> Live {
    Live::of(&json!({"uid": "u-1", "resourceVersion": "5", "labels": {UNIT_LABEL: "unit-1"}}))
}

fn cleared(version: u64) -> Clearing {
    Clearing {
        version,
        except: Vec::new(),
    }
}

fn terms(cleared: &Clearing) -> Terms<'_> {
    Terms {
        active: true,
        applied: true,
        complete: true,
        prune: true,
        cleared: Some(cleared),
        others_known: true,
        removing: false,
        parting: false,
    }
}

fn looked(record: &Record, live: Option<&Live>) -> Verdict {
    at_look(
        &x(),
        record,
        "unit-1",
        &Protected::new("fleet", "flotilla-agent"),
        live,
    )
}

#[test]
fn each_thing_that_is_lacking_keeps_an_object_and_has_a_name() {
    let clearing = cleared(7);
    let all = terms(&clearing);
    let foreseen = |terms: Terms<'_>| foresee(&x(), &pending(None), None, &terms);
    assert_eq!(foreseen(all), None, "with all of them it may go");
    let lacking = [
        (Terms { active: false, ..all }, Wait::NotEnforced),
        (
            Terms {
                applied: false,
                ..all
            },
            Wait::NotApplied,
        ),
        (
            Terms {
                complete: false,
                ..all
            },
            Wait::Incomplete,
        ),
        (
            Terms {
                others_known: false,
                ..all
            },
            Wait::OthersUnknown,
        ),
        (Terms { prune: false, ..all }, Wait::Off),
        (Terms { cleared: None, ..all }, Wait::NotCleared),
    ];
    for (terms, wait) in lacking {
        assert_eq!(foreseen(terms), Some(Verdict::Wait(wait)));
    }
    let early = cleared(6);
    assert_eq!(foreseen(terms(&early)), Some(Verdict::Wait(Wait::NotCleared)));
    let except = Clearing {
        version: 9,
        except: vec![x()],
    };
    assert_eq!(foreseen(terms(&except)), Some(Verdict::Wait(Wait::Excepted)));
}

#[test]
fn what_another_unit_wants_waits_and_what_it_has_is_handed_over_without_a_permission() {
    let by: Arc<str> = "Kustomization/apps/other".into();
    let none = Clearing {
        version: 0,
        except: Vec::new(),
    };
    let claim = |has| Claim {
        by: by.clone(),
        has,
        idle: false,
    };
    for prune in [true, false] {
        let terms = Terms {
            prune,
            ..terms(&none)
        };
        let judged = |has| foresee(&x(), &pending(None), Some(&claim(has)), &terms);
        assert_eq!(judged(false), Some(Verdict::Wait(Wait::Claimed(by.clone()))));
        assert_eq!(
            judged(true),
            Some(Verdict::Release(Release::HandedOver(by.clone())))
        );
    }
}

/// A drain, or a deletion, would wait for ever for who takes nothing over.
#[test]
fn a_unit_that_is_to_be_gone_leaves_to_a_suspended_one_what_that_wants_and_a_parting_one_to_any() {
    let by: Arc<str> = "Kustomization/apps/other".into();
    let clearing = cleared(7);
    let judged = |idle, removing, parting| {
        let claim = Claim {
            by: by.clone(),
            has: false,
            idle,
        };
        let terms = Terms {
            removing,
            parting,
            ..terms(&clearing)
        };
        foresee(&x(), &pending(None), Some(&claim), &terms)
    };
    let waits = Some(Verdict::Wait(Wait::Claimed(by.clone())));
    let left = Some(Verdict::Release(Release::LeftTo(by.clone())));
    assert_eq!(judged(true, false, false), waits);
    assert_eq!(judged(false, true, false), waits, "it takes it over by itself");
    assert_eq!(judged(true, true, false), left);
    assert_eq!(judged(false, true, true), left);
    // What nobody wants is looked at, without any permission: nothing of it is deleted.
    let parting = Terms {
        prune: false,
        cleared: None,
        removing: true,
        parting: true,
        ..terms(&clearing)
    };
    assert_eq!(foresee(&x(), &pending(None), None, &parting), None);
}

#[test]
fn switches_of_manifest_and_live_object_keep_it() {
    let clearing = cleared(7);
    for policy in [
        Policy {
            keep: true,
            ..Policy::default()
        },
        Policy {
            paused: true,
            ..Policy::default()
        },
        Policy {
            write: Write::Ignore,
            ..Policy::default()
        },
    ] {
        let mut record = pending(None);
        record.policy = policy;
        let kept = Verdict::Release(Release::Kept);
        assert_eq!(
            foresee(&x(), &record, None, &terms(&clearing)),
            Some(kept.clone())
        );
        let live = Live { policy, ..live() };
        assert_eq!(looked(&pending(None), Some(&live)), kept);
    }
    let once = Policy {
        write: Write::IfNotPresent,
        force: true,
        ..Policy::default()
    };
    let live = Live {
        policy: once,
        ..live()
    };
    assert!(matches!(
        looked(&pending(None), Some(&live)),
        Verdict::Delete { .. }
    ));
}

#[test]
fn only_the_very_object_with_our_mark_is_deleted() {
    let record = pending(None);
    let delete = Verdict::Delete {
        uid: "u-1".into(),
        resource_version: "5".into(),
    };
    assert_eq!(looked(&record, Some(&live())), delete);
    assert_eq!(looked(&record, None), Verdict::Gone);
    let with = |change: &dyn Fn(&mut Live)| {
        let mut live = live();
        change(&mut live);
        looked(&record, Some(&live))
    };
    assert_eq!(
        with(&|live| live.uid = "u-2".into()),
        Verdict::Release(Release::Replaced)
    );
    assert_eq!(
        with(&|live| live.mark = None),
        Verdict::Release(Release::Unmarked)
    );
    assert_eq!(
        with(&|live| live.mark = Some("unit-2".into())),
        Verdict::Release(Release::Marked("unit-2".into()))
    );
    assert_eq!(
        with(&|live| live.resource_version.clear()),
        Verdict::Wait(Wait::Unproven)
    );
    let held = with(&|live| {
        live.deleting = true;
        live.finalizers = vec!["example.com/hold".into()];
    });
    assert_eq!(held, Verdict::Deleting(Blocker(vec!["example.com/hold".into()])));
    let unknown = Record {
        uid: None,
        ..record.clone()
    };
    assert_eq!(looked(&unknown, Some(&live())), Verdict::Wait(Wait::Unproven));
    // Somebody else's: what this unit meant to write never came to be, and it lets go of that.
    let others = Live { mark: None, ..live() };
    assert_eq!(
        looked(&unknown, Some(&others)),
        Verdict::Release(Release::Unmarked)
    );
    let desired = Record {
        state: State::Applied,
        ..record.clone()
    };
    assert_eq!(looked(&desired, Some(&live())), Verdict::Wait(Wait::Unproven));
    let protected = Protected::new("fleet", "flotilla-agent");
    for own in [
        "/ConfigMap/kube-system/x",
        "/Secret/fleet/flotilla-agent-ledger",
        "/Namespace//default",
    ] {
        let verdict = at_look(&key(own), &record, "unit-1", &protected, Some(&live()));
        assert_eq!(verdict, Verdict::Wait(Wait::Protected), "{own}");
    }
}

fn judged(objects: &[(ObjectKey, Record)], left_over: usize) -> Option<Guard> {
    guard(objects.iter().map(|(key, record)| (key, record)), left_over)
}

fn many(count: usize, had: Option<u32>) -> Vec<(ObjectKey, Record)> {
    let one = |n| (key(&format!("/ConfigMap/a/{n}")), pending(had));
    (0..count).map(one).collect()
}

#[test]
fn ten_objects_or_three_of_ten_may_go_at_once_and_no_more() {
    for (count, had, most) in [
        (10, Some(12), None),
        (11, Some(12), Some(10)),
        (10, None, None),
        (11, None, Some(10)),
        (30, Some(100), None),
        (31, Some(100), Some(30)),
        (35, Some(119), None),
        (36, Some(119), Some(35)),
    ] {
        let guard = judged(&many(count, had), 500);
        assert_eq!(
            guard,
            most.map(|most| Guard::TooMany { most }),
            "{count} of {had:?}"
        );
    }
    // What came since makes no room: of several sets the smallest counts.
    let mut both = many(15, Some(1000));
    both.extend(many(5, Some(20)));
    assert_eq!(judged(&both, 2000), Some(Guard::TooMany { most: 10 }));
}

#[test]
fn an_empty_set_and_kinds_that_hold_more_than_they_name_are_asked_about() {
    assert_eq!(judged(&many(1, Some(100)), 0), Some(Guard::Empty));
    assert_eq!(judged(&[], 0), None);
    for kind in [
        "/Namespace//a",
        "/PersistentVolumeClaim/a/data",
        "apiextensions.k8s.io/CustomResourceDefinition//widgets.example.com",
        "cluster.x-k8s.io/Cluster/a/c",
        "infrastructure.cluster.x-k8s.io/DockerMachine/a/m",
        "fleet.flotilla.dev/Cluster//c",
        "fleet.flotilla.dev/Placement/a/p",
        "fleet.flotilla.dev/Tenant//t",
    ] {
        let mut objects = many(1, Some(100));
        objects.push((key(kind), pending(Some(100))));
        assert_eq!(judged(&objects, 99), Some(Guard::Kind(key(kind))));
    }
    for kind in [
        "apps/Deployment/a/web",
        "example.com/Cluster/a/c",
        "example.com/Namespace//a",
    ] {
        assert_eq!(judged(&[(key(kind), pending(Some(100)))], 99), None, "{kind}");
    }
}

#[test]
fn a_guard_names_the_first_and_counts_all() {
    let objects = many(11, Some(12));
    let message =
        Guard::TooMany { most: 10 }.message(objects.iter().map(|(key, _)| key), &"Kustomization/apps/web");
    assert_eq!(
        message,
        "not deleted: 11 objects would go (ConfigMap/a/0, ConfigMap/a/1, ConfigMap/a/2, ConfigMap/a/3, ConfigMap/a/4, \
         and 6 more), and no more than 10 may go at once; `flotilla approve Kustomization/apps/web` allows it"
    );
}

#[test]
fn what_is_in_a_namespace_or_of_a_definitions_group_is_held_by_it() {
    let namespace = key("/Namespace//a");
    let definition = key("apiextensions.k8s.io/CustomResourceDefinition//widgets.example.com");
    assert!(holds(&namespace, &x()) && !holds(&namespace, &key("/ConfigMap/b/x")));
    assert!(!holds(&namespace, &namespace), "not in itself");
    assert!(holds(&definition, &key("example.com/Widget/a/w")));
    assert!(!holds(&definition, &key("other.example.com/Widget/a/w")));
    assert!(!holds(&definition, &definition));
    assert!(is_container(&namespace) && is_container(&definition) && !is_container(&x()));
}
