//! What left Git and is deleted: when, what keeps it, and that nothing goes on afterwards.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flotilla_agent::cluster::ClusterError;
use flotilla_core::{
    content::{Content, Form, ObjectEntry, Objects, object_bytes, object_digest},
    digest::Digest,
    object::ObjectKey,
    unit::{Entry, UnitState},
};
use flotilla_proto::agent::v1::{ObjectState, Readiness};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    scenes::{
        cleared, cleared_at, items, switch, uid, until_gone, version, widget, widget_definition, widget_key,
        with_switch, without_y, y,
    },
    world::{World, config_map, entry, entry_with, key, settings, settle},
};

fn approved(entry: &Entry, target: Digest) -> Entry {
    Entry {
        prune_approved: Some(target),
        ..entry.clone()
    }
}

fn maps(count: usize) -> Vec<Value> {
    (0..count).map(|n| config_map(&format!("c{n:02}"), "1")).collect()
}

#[tokio::test(start_paused = true)]
async fn object_that_left_is_deleted_once_that_is_cleared_and_not_before() {
    let mut world = World::new().await;
    let second = without_y(&mut world).await;
    world.rests().await;
    assert!(world.value("y").is_some());
    assert_eq!(world.unit(1).unwrap().objects_pending_removal, 1);
    world.offer(&[cleared_at(1, &second)]).await;
    settle().await;
    assert!(world.value("y").is_some(), "it left at version 2");
    world.quiet().await;
    world.offer(&[cleared(&second)]).await;
    until_gone(&mut world, "y").await;
    settle().await;
    let asked = BTreeMap::from([("delete".to_owned(), 1), ("get".to_owned(), 1)]);
    assert_eq!(world.cluster.take_requests(), asked);
    assert_eq!(world.unit(1).unwrap().objects_pending_removal, 0);
    assert!(
        world.history.iter().all(|unit| unit.ready() == Readiness::True),
        "it stays ready"
    );
    let told = world.events("Pruned");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].message, "deleted ConfigMap/default/y");
    assert_eq!(items(&world, &second), ["x"]);
    world.rests().await;
    world.restart().await;
    world.rests().await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn object_with_a_switch_in_git_or_in_place_stays_and_is_let_go_of() {
    for (name, value) in [
        ("prune", "disabled"),
        ("reconcile", "disabled"),
        ("ssa", "Ignore"),
    ] {
        for in_place in [false, true] {
            let mut world = World::new().await;
            world
                .ready(1, &[config_map("x", "1"), config_map("y", "1")])
                .await;
            let mut n = 2;
            if in_place {
                world.cluster.annotate("headlamp", &y(), &switch(name), value);
                settle().await;
            } else {
                let switched = with_switch(config_map("y", "1"), name, value);
                let second = version(n, entry(1, world.contents.add(&[config_map("x", "1"), switched])));
                world.ready_as(second).await;
                n += 1;
            }
            let last = version(n, entry(1, world.contents.add(&[config_map("x", "1")])));
            world.ready_as(cleared(&last)).await;
            settle().await;
            assert!(world.value("y").is_some(), "{name}, in place: {in_place}");
            assert_eq!(items(&world, &last), ["x"], "{name}, in place: {in_place}");
            assert_eq!(world.unit(1).unwrap().objects_pending_removal, 0);
            world.rests().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_where_prune_is_off() {
    let mut world = World::new().await;
    let mut off = settings();
    off.prune = false;
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    let content = world.contents.add(&[config_map("x", "1")]);
    let second = cleared(&version(2, entry_with(1, content, off, Vec::new())));
    world.ready_as(second.clone()).await;
    world.rests().await;
    assert!(world.value("y").is_some());
    assert_eq!(world.unit(1).unwrap().objects_pending_removal, 1);
    let on = cleared(&version(3, entry(1, content)));
    world.ready_as(on).await;
    assert!(world.value("y").is_none());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn eleven_of_twelve_are_listed_and_stay_until_a_person_allows_that_target() {
    let mut world = World::new().await;
    let all = maps(12);
    world.ready(1, &all).await;
    let second = cleared(&version(2, entry(1, world.contents.add(&all[..1]))));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is blocked", |world| {
            world.unit(1).unwrap().reason == "PruneBlocked"
        })
        .await;
    let unit = world.unit(1).unwrap().clone();
    assert_eq!(unit.ready(), Readiness::False);
    for part in [
        "11 objects",
        "ConfigMap/default/c01",
        "and 6 more",
        "flotilla approve Kustomization/flux-system/app1",
    ] {
        assert!(unit.message.contains(part), "{part}: {}", unit.message);
    }
    world.rests().await;
    assert_eq!(world.cluster.keys("ConfigMap").len(), 12);
    assert_eq!(world.events("PruneBlocked").len(), 1);
    // A restart says the same, and nothing else meanwhile.
    world.quiet().await;
    world.restart().await;
    world.rests().await;
    assert!(
        world.history.iter().all(|unit| unit.reason == "PruneBlocked"),
        "{:?}",
        world.history
    );
    world
        .offer(&[approved(&second, Digest::of("target", b"another"))])
        .await;
    settle().await;
    assert_eq!(
        world.cluster.keys("ConfigMap").len(),
        12,
        "that was for another target"
    );
    world.rests().await;
    world.offer(&[approved(&second, second.target)]).await;
    world.until_ready(&second).await;
    settle().await;
    assert_eq!(world.cluster.keys("ConfigMap"), [key("ConfigMap", "c00")]);
    world.rests().await;
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    let pruned = world.events("Pruned");
    assert_eq!(pruned.len(), 1);
    assert!(pruned[0].message.ends_with("and 1 more"), "{}", pruned[0].message);
}

#[tokio::test(start_paused = true)]
async fn a_path_typo_deletes_nothing_whatever_it_leads_to() {
    // Nothing, or much else.
    for others in [0, 200] {
        let mut world = World::new().await;
        world.ready(1, &maps(12)).await;
        let others: Vec<_> = (0..others)
            .map(|n| config_map(&format!("other{n}"), "1"))
            .collect();
        let second = cleared(&version(2, entry(1, world.contents.add(&others))));
        world.offer(std::slice::from_ref(&second)).await;
        world
            .until("it is blocked", |world| {
                world.unit(1).unwrap().reason == "PruneBlocked"
            })
            .await;
        settle().await;
        assert_eq!(world.cluster.keys("ConfigMap").len(), 12 + others.len());
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn object_that_is_not_the_one_of_the_record_is_let_go_of_untouched() {
    for case in ["another UID", "no mark", "another mark"] {
        let mut world = World::new().await;
        let second = without_y(&mut world).await;
        match case {
            "another UID" => {
                world.agent = None;
                let mut theirs = config_map("y", "theirs");
                let labels = world.cluster.object(&y()).unwrap()["metadata"]["labels"].clone();
                theirs["metadata"]["labels"] = labels;
                world.cluster.delete(&y());
                world.cluster.write("somebody", theirs);
                world.restart().await;
            }
            "no mark" => world.cluster.edit("somebody", &y(), |live| {
                live["metadata"]["labels"] = json!({});
            }),
            _ => world.cluster.edit("somebody", &y(), |live| {
                live["metadata"]["labels"]["fleet.flotilla.dev/unit"] =
                    "11111111-2222-3333-4444-555555555555".into();
            }),
        }
        settle().await;
        let before = world.cluster.object(&y()).unwrap();
        world.offer(&[cleared(&second)]).await;
        world
            .until("it is let go of", |world| items(world, &second) == ["x"])
            .await;
        settle().await;
        assert_eq!(world.cluster.object(&y()).unwrap(), before, "{case}");
        world.rests().await;
    }
}

fn refuses_to_delete(code: u16) -> flotilla_agent::cluster::fake::faults::Fault {
    Box::new(move |verb, key| {
        (verb == "delete").then(|| ClusterError::Rejected {
            code,
            reason: "Forbidden".to_owned(),
            message: format!("admission webhook \"keep.test\" denied the request: {key} is needed"),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn refused_deletion_is_told_and_tried_again_at_pace_until_it_is_taken() {
    for code in [403, 500] {
        let mut world = World::new().await;
        let second = without_y(&mut world).await;
        world.cluster.set_fault(Some(refuses_to_delete(code)));
        world.offer(&[cleared(&second)]).await;
        world
            .until("it is told", |world| {
                world.unit(1).unwrap().reason == "PruneFailed"
            })
            .await;
        settle().await;
        while world.take_report(Duration::from_secs(1)).await.is_some() {}
        let row = &world.objects["y"];
        assert_eq!(row.state(), ObjectState::PendingRemoval);
        assert!(row.message.contains("keep.test"), "{row:?}");
        assert_eq!(world.unit(1).unwrap().objects_pending_removal, 1);
        // Two failures in a row may still be young.
        tokio::time::sleep(Duration::from_secs(300)).await;
        let held = world.ten_minutes().await;
        let asked = held.requests.get("delete").copied().unwrap_or_default();
        assert!((8..=20).contains(&asked), "{code}: {held:?}");
        assert_eq!((held.events, held.reports), (0, 0), "{code}: {held:?}");
        world.cluster.set_fault(None);
        until_gone(&mut world, "y").await;
        world.until_ready(&second).await;
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn object_that_a_finalizer_holds_is_named_and_asked_about_no_more_until_it_goes() {
    for restarts in [false, true] {
        let mut world = World::new().await;
        let second = without_y(&mut world).await;
        world.cluster.set_finalizers(&y(), &["example.com/hold"]);
        world.quiet().await;
        world.offer(&[cleared(&second)]).await;
        world
            .until("it is named", |world| {
                world.objects["y"]
                    .message
                    .contains("held by finalizers example.com/hold")
            })
            .await;
        assert_eq!(world.objects["y"].state(), ObjectState::PendingRemoval);
        assert!(world.is_ready(&second));
        world
            .until("it takes too long", |world| {
                !world.events("PruneStalled").is_empty()
            })
            .await;
        let told = &world.events("PruneStalled")[0].message;
        assert!(
            told.contains("ConfigMap/default/y") && told.contains("example.com/hold"),
            "{told}"
        );
        world.rests().await;
        assert!(
            world.unit(1).unwrap().notes.contains("example.com/hold"),
            "{:?}",
            world.unit(1)
        );
        if restarts {
            world.restart().await;
            world.rests().await;
            assert_eq!(world.events("PruneStalled").len(), 1, "told once");
            assert!(
                world.objects["y"].message.contains("example.com/hold"),
                "{:?}",
                world.objects["y"]
            );
        }
        world.cluster.set_finalizers(&y(), &[]);
        until_gone(&mut world, "y").await;
        assert_eq!(world.unit(1).unwrap().objects_pending_removal, 0);
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_cleared_once_does_not_cover_what_leaves_later() {
    let mut world = World::new().await;
    let both = world.contents.add(&[config_map("x", "1"), config_map("y", "1")]);
    let one = world.contents.add(&[config_map("x", "1")]);
    world.ready_as(entry(1, both)).await;
    world.ready_as(version(2, entry(1, one))).await;
    world.ready_as(cleared_at(2, &version(3, entry(1, both)))).await;
    let again = version(4, entry(1, one));
    world.ready_as(cleared_at(2, &again)).await;
    world.rests().await;
    assert!(world.value("y").is_some());
    world.offer(&[cleared(&again)]).await;
    until_gone(&mut world, "y").await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_moves_keeps_its_uid_whichever_entry_comes_first_and_however_slow_the_other_is() {
    for order in ["giver first", "taker first", "at once"] {
        let mut world = World::new().await;
        let one = world
            .ready(1, &[config_map("x", "1"), config_map("y", "1")])
            .await;
        let before = uid(&world, &y());
        let two = entry(2, world.contents.add(&[config_map("y", "2")]));
        let without = version(2, entry(1, world.contents.add(&[config_map("x", "1")])));
        world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
            "apply" => Duration::from_secs(60),
            _ => Duration::ZERO,
        })));
        match order {
            // The hub clears nothing that is handed over.
            "giver first" => drop(world.offer(std::slice::from_ref(&without)).await),
            "taker first" => drop(world.offer(&[one, two.clone()]).await),
            _ => {}
        }
        settle().await;
        let without = cleared(&without);
        world.offer(&[without.clone(), two.clone()]).await;
        settle().await;
        assert_eq!(uid(&world, &y()), before, "{order}");
        world.cluster.set_latency(None);
        world
            .until("both are ready", |world| {
                world.is_ready(&without) && world.is_ready(&two)
            })
            .await;
        settle().await;
        assert_eq!(
            (uid(&world, &y()), world.value("y").as_deref()),
            (before.clone(), Some("2")),
            "{order}"
        );
        assert_eq!(
            (items(&world, &without), items(&world, &two)),
            (vec!["x".to_owned()], vec!["y".to_owned()])
        );
        let requests = world.cluster.take_requests();
        assert_eq!(requests.get("delete"), None, "{order}: {requests:?}");
        world.rests().await;
        world.restart().await;
        world.rests().await;
        assert_eq!(uid(&world, &y()), before, "{order}");
    }
}

/// It is not tried again by time alone, which may be an hour.
#[tokio::test(start_paused = true)]
async fn object_that_another_unit_lets_go_of_is_taken_over_at_once() {
    let mut world = World::new().await;
    let one = world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    let before = uid(&world, &y());
    let two = entry(2, world.contents.add(&[config_map("y", "2")]));
    world.offer(&[one.clone(), two.clone()]).await;
    settle().await;
    assert!(!world.is_ready(&two), "it is the other's");
    let without = cleared(&version(2, entry(1, world.contents.add(&[config_map("x", "1")]))));
    let began = tokio::time::Instant::now();
    world.offer(&[without.clone(), two.clone()]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&without) && world.is_ready(&two)
        })
        .await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(
        (uid(&world, &y()), world.value("y").as_deref()),
        (before, Some("2"))
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_a_unit_names_which_cannot_be_evaluated_or_is_suspended_stays() {
    for case in ["fails", "suspended", "waits"] {
        let mut world = World::new().await;
        let second = without_y(&mut world).await;
        let content = match case {
            "fails" => world.contents.add_yaml(&[(
                y(),
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n  namespace: default\ndata:\n  a: ${missing}\n",
            )]),
            _ => world.contents.add(&[config_map("y", "2")]),
        };
        let mut two = entry(2, content);
        match case {
            "fails" => {
                let mut strict = settings();
                strict.substitution = flotilla_core::unit::Substitution::Always;
                two = entry_with(2, content, strict, Vec::new());
            }
            "suspended" => two.state = UnitState::Suspended,
            _ => {
                two.depends_on = vec![flotilla_core::unit::Dependency::on(
                    "flux-system/missing",
                    flotilla_core::id::UnitId(uuid::Uuid::from_u128(77)),
                )]
            }
        }
        world.offer(&[cleared(&second), two.clone()]).await;
        settle().await;
        assert!(world.value("y").is_some(), "{case}");
        while world.take_report(Duration::from_secs(1)).await.is_some() {}
        assert!(
            world.objects["y"].message.contains("app2"),
            "{case}: {:?}",
            world.objects["y"]
        );
        world.rests().await;
        world.restart().await;
        // What was told of a unit that fails stands for a minute.
        settle().await;
        settle().await;
        world.rests().await;
        assert!(world.value("y").is_some(), "{case}");
        // It names it no more.
        let three = version(2, entry(2, world.contents.add(&[config_map("z", "1")])));
        world.offer(&[cleared(&second), three]).await;
        until_gone(&mut world, "y").await;
        world.rests().await;
    }
}

/// A unit whose content cannot be had keeps the entry before: what it is to desire is not known.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_an_entry_of_another_unit_could_not_be_taken_in() {
    let mut world = World::new().await;
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    let second = version(2, entry(1, world.contents.add(&[config_map("x", "1")])));
    let two = entry(2, world.contents.add(&[config_map("z", "1")]));
    world.offer(&[second.clone(), two.clone()]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&second) && world.is_ready(&two)
        })
        .await;
    let content = world.contents.add(&[config_map("y", "2")]);
    let lost = world.contents.lose(&content).unwrap();
    let before = uid(&world, &y());
    let moved = version(2, entry(2, content));
    world.offer(&[cleared(&second), moved.clone()]).await;
    settle().await;
    assert_eq!(uid(&world, &y()), before);
    assert!(world.is_ready(&second), "{:?}", world.unit(1));
    world.rests().await;
    world.restart().await;
    world.rests().await;
    assert_eq!(uid(&world, &y()), before);
    world.contents.restore(content, lost);
    let agent = world.agent.take().unwrap();
    agent.complete(&mut world.contents).await.unwrap();
    world.agent = Some(agent);
    world.until_ready(&moved).await;
    settle().await;
    assert_eq!(
        (uid(&world, &y()), world.value("y").as_deref()),
        (before, Some("2"))
    );
    world.quiet().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn crash_between_a_deletion_and_its_record_is_found_out_by_reading() {
    let mut world = World::new().await;
    let second = without_y(&mut world).await;
    world.offer(&[cleared(&second)]).await;
    while world.value("y").is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.restart().await;
    assert_eq!(
        items(&world, &second),
        ["x", "y"],
        "the record was not dropped yet"
    );
    world
        .until("it is forgotten", |world| items(world, &second) == ["x"])
        .await;
    settle().await;
    assert!(world.value("y").is_none());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_unit_that_is_not_enforced_is_deleted() {
    for state in [UnitState::Suspended, UnitState::Detached] {
        let mut world = World::new().await;
        let second = without_y(&mut world).await;
        let kept = Entry {
            state: state.clone(),
            ..cleared(&second)
        };
        world.offer(&[kept]).await;
        world.rests().await;
        assert!(world.value("y").is_some(), "{state:?}");
        world.offer(&[cleared(&second)]).await;
        until_gone(&mut world, "y").await;
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_for_a_content_that_does_not_say_that_it_is_complete() {
    let mut world = World::new().await;
    let second = without_y(&mut world).await;
    let x = config_map("x", "1");
    world.contents.add(std::slice::from_ref(&x));
    let bytes = object_bytes(&x);
    let partly = Content::Objects(Objects {
        count: 1,
        entries: vec![ObjectEntry {
            key: key("ConfigMap", "x"),
            form: Form::Json,
            digest: object_digest(Form::Json, &bytes, None),
        }],
        complete: false,
    });
    world.contents.put_raw(partly.digest(), &partly.to_bytes());
    let third = version(3, entry(1, partly.digest()));
    world.offer(&[cleared(&third)]).await;
    settle().await;
    assert!(world.value("y").is_some());
    world.rests().await;
    world.offer(&[cleared(&version(4, second))]).await;
    until_gone(&mut world, "y").await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_definition_are_gone_before_it_goes_and_all_of_a_namespace_before_that() {
    let mut world = World::new().await;
    let team = |name: &str| {
        let mut object = config_map(name, "1");
        object["metadata"]["namespace"] = "team".into();
        object
    };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let objects = [
        widget_definition(),
        widget(),
        namespace,
        team("a"),
        config_map("x", "1"),
    ];
    world.ready(1, &objects).await;
    world.cluster.set_finalizers(&widget_key(), &["example.com/hold"]);
    let a = ObjectKey::new("", "ConfigMap", "team", "a");
    world.cluster.set_finalizers(&a, &["example.com/hold"]);
    let second = cleared(&version(2, entry(1, world.contents.add(&objects[4..]))));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is blocked", |world| {
            world.unit(1).unwrap().reason == "PruneBlocked"
        })
        .await;
    world.rests().await;
    world.offer(&[approved(&second, second.target)]).await;
    settle().await;
    let (definition, namespace) = (
        ObjectKey::new(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "",
            "widgets.example.com",
        ),
        ObjectKey::new("", "Namespace", "", "team"),
    );
    let stands = |world: &World, key: &ObjectKey| {
        let object = world.cluster.object(key);
        object.is_some_and(|object| object["metadata"]["deletionTimestamp"].is_null())
    };
    assert!(!stands(&world, &widget_key()) && !stands(&world, &a));
    assert!(stands(&world, &definition) && stands(&world, &namespace));
    world
        .until("it takes too long", |world| {
            !world.events("PruneStalled").is_empty()
        })
        .await;
    world.rests().await;
    world.cluster.set_finalizers(&widget_key(), &[]);
    settle().await;
    assert!(!stands(&world, &definition) && stands(&world, &namespace));
    world.cluster.set_finalizers(&a, &[]);
    world
        .until("all is gone", |world| items(world, &second) == ["x"])
        .await;
    assert!(world.cluster.object(&namespace).is_none());
    world.quiet().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn namespace_in_which_another_unit_has_something_stays_whatever_was_allowed() {
    let mut world = World::new().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let mut theirs = config_map("theirs", "1");
    theirs["metadata"]["namespace"] = "team".into();
    let one = entry(1, world.contents.add(&[namespace, config_map("x", "1")]));
    world.ready_as(one.clone()).await;
    let two = entry(2, world.contents.add(&[theirs]));
    world.offer(&[one, two.clone()]).await;
    world.until_ready(&two).await;
    let second = cleared(&version(2, entry(1, world.contents.add(&[config_map("x", "1")]))));
    let second = approved(&second, second.target);
    world.offer(&[second.clone(), two]).await;
    world.until_ready(&second).await;
    settle().await;
    assert!(
        world
            .cluster
            .object(&ObjectKey::new("", "Namespace", "", "team"))
            .is_some()
    );
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    assert!(
        world.objects["team"].message.contains("ConfigMap/team/theirs"),
        "{:?}",
        world.objects["team"]
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn newer_entry_that_desires_the_rest_again_stops_a_removal() {
    let mut world = World::new().await;
    let all = maps(10);
    world.ready(1, &all).await;
    world
        .cluster
        .set_latency(Some(Box::new(|verb, key| match (verb, key.name.as_str()) {
            // One by one: each waits until the one before has ended.
            ("get", name) => Duration::from_secs(name.trim_start_matches('c').parse().unwrap_or(0)),
            _ => Duration::ZERO,
        })));
    let second = cleared(&version(2, entry(1, world.contents.add(&all[..1]))));
    world.offer(std::slice::from_ref(&second)).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let third = version(3, entry(1, world.contents.add(&all)));
    world.offer(std::slice::from_ref(&third)).await;
    let left = world.cluster.keys("ConfigMap").len();
    assert!((2..10).contains(&left), "{left}");
    world.cluster.take_requests();
    world.until_ready(&third).await;
    assert_eq!(world.cluster.keys("ConfigMap").len(), 10);
    assert_eq!(world.cluster.take_requests().get("delete"), None);
    world.cluster.set_latency(None);
    world.quiet().await;
    world.rests().await;
}

/// Between the look and the deletion somebody writes it: that is no refusal, and a new look says what becomes of it.
#[tokio::test(start_paused = true)]
async fn object_that_is_written_after_the_look_is_read_again() {
    for (annotation, is_kept) in [("example.com/note", false), (&*switch("prune"), true)] {
        let mut world = World::new().await;
        let second = without_y(&mut world).await;
        let deletes = Arc::new(Notify::new());
        let told = deletes.clone();
        world
            .cluster
            .set_latency(Some(Box::new(move |verb, _| match verb {
                "delete" => {
                    told.notify_one();
                    Duration::from_secs(5)
                }
                _ => Duration::ZERO,
            })));
        world.offer(&[cleared(&second)]).await;
        deletes.notified().await;
        world
            .cluster
            .annotate("kubectl-annotate", &y(), annotation, "disabled");
        world
            .until("it is deleted or let go of", |world| {
                items(world, &second) == ["x"]
            })
            .await;
        assert_eq!(world.value("y").is_some(), is_kept, "{annotation}");
        let asked = world.cluster.take_requests();
        let deletions = if is_kept { 1 } else { 2 };
        assert_eq!((asked["get"], asked["delete"]), (2, deletions), "{annotation}");
        while world.take_report(Duration::from_secs(1)).await.is_some() {}
        let failed = world.history.iter().find(|unit| unit.reason == "PruneFailed");
        assert_eq!(failed, None, "{annotation}");
        let refused = world.told.iter().find(|row| row.message.contains("not deleted"));
        assert_eq!(refused, None, "{annotation}");
        world.quiet().await;
        world.rests().await;
    }
}
