//! Whose an object is: marks that lie, the agent's own objects, kinds of which nothing can be known, claims that
//! move from unit to unit.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use flotilla_agent::cluster::ClusterError;
use flotilla_core::{
    apply::inventory::State as RecordState,
    object::ObjectKey,
    unit::{Entry, Withheld},
};
use flotilla_proto::agent::v1::{ObjectState, Readiness};
use serde_json::json;

use crate::{
    scenes::{in_default, version, x},
    world::{World, config_map, deployment, entry, key, settle},
};

const MARK: &str = "fleet.flotilla.dev/unit";

#[tokio::test(start_paused = true)]
async fn mark_of_a_unit_that_does_not_hold_the_object_takes_nothing_out_of_enforcement() {
    let mut world = World::new().await;
    let (one, two) = (
        entry(1, world.contents.add(&[config_map("x", "1")])),
        entry(2, world.contents.add(&[config_map("y", "1")])),
    );
    world.offer(&[one.clone(), two.clone()]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&one) && world.is_ready(&two)
        })
        .await;
    for (manager, mark) in [
        ("kubectl-label", "00000000-0000-0000-0000-000000000000".to_owned()),
        ("operator", "00000000-0000-0000-0000-000000000000".to_owned()),
        ("kubectl-label", two.unit.to_string()),
        ("operator", two.unit.to_string()),
        ("operator", "no unit at all".to_owned()),
    ] {
        world.quiet().await;
        world.cluster.edit(manager, &x(), |live| {
            live["metadata"]["labels"][MARK] = mark.clone().into();
            live["data"]["a"] = "hacked".into();
        });
        world
            .until("it is corrected", |world| {
                world.value("x").as_deref() == Some("1")
            })
            .await;
        let live = world.cluster.object(&x()).unwrap();
        assert_eq!(live["metadata"]["labels"][MARK], one.unit.to_string());
        // Five marks in a row are five corrections of one field.
        tokio::time::sleep(Duration::from_secs(700)).await;
    }
    world.rests().await;
    assert!(world.is_ready(&one) && world.is_ready(&two));
}

#[tokio::test(start_paused = true)]
async fn the_agents_own_objects_are_withheld_and_only_they() {
    let mut world = World::new().await;
    world.cluster.write(
        "setup",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flotilla-system"}}),
    );
    let ledger = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "flotilla-agent-ledger", "namespace": "flotilla-system"}, "data": {"a": "b3Vycw=="}});
    world.cluster.write("flotilla-agent", ledger.clone());
    let mut secret = ledger;
    secret["data"]["a"] = "aGFja2Vk".into();
    let mut agent = deployment("flotilla-agent");
    agent["metadata"]["namespace"] = "flotilla-system".into();
    let wanted = entry(1, world.contents.add(&[secret, agent, config_map("x", "1")]));
    world.offer(&[wanted]).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    assert_eq!(world.unit(1).unwrap().reason, "Conflict");
    world
        .until("the rest is applied", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    let secret = ObjectKey::new("", "Secret", "flotilla-system", "flotilla-agent-ledger");
    let agent = ObjectKey::new("apps", "Deployment", "flotilla-system", "flotilla-agent");
    assert_eq!(world.cluster.object(&secret).unwrap()["data"]["a"], "b3Vycw==");
    assert!(world.cluster.object(&agent).is_none());
    settle().await;
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    for name in ["flotilla-agent-ledger", "flotilla-agent"] {
        assert_eq!(world.objects[name].state(), ObjectState::Conflict, "{name}");
    }
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn kind_whose_discovery_fails_is_neither_removed_nor_renamed() {
    for restarts in [false, true] {
        let mut world = World::new().await;
        world.cluster.serve("example.com/v1", "Widget", "widgets", true);
        // Its key depends on the scope of its kind.
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"},
            "spec": {"size": 1}});
        let first = in_default(world.contents.add(&[widget.clone(), config_map("x", "1")]));
        world.ready_as(first).await;
        world.cluster.fail_discovery("example.com", true);
        if restarts {
            world.restart().await;
            settle().await;
        } else {
            tokio::time::sleep(Duration::from_secs(700)).await;
        }
        let second = version(2, in_default(world.contents.add(&[widget, config_map("x", "2")])));
        world.offer(std::slice::from_ref(&second)).await;
        world
            .until("the rest is applied", |world| {
                world.value("x").as_deref() == Some("2")
            })
            .await;
        settle().await;
        while world.take_report(Duration::from_secs(1)).await.is_some() {}
        assert_eq!(world.unit(1).unwrap().objects_pending_removal, 0);
        assert_ne!(world.objects["w"].state(), ObjectState::PendingRemoval);
        let keys: Vec<ObjectKey> = world.agent().ledger.read(|state| {
            state.units[&second.unit]
                .items
                .keys()
                .filter(|key| key.kind == "Widget")
                .map(|key| key.as_ref().clone())
                .collect()
        });
        assert_eq!(keys, [ObjectKey::new("example.com", "Widget", "default", "w")]);
        world.cluster.fail_discovery("example.com", false);
        world.until_ready(&second).await;
        // Watched again, it is enforced.
        tokio::time::sleep(Duration::from_secs(600)).await;
        world
            .cluster
            .edit("kubectl-edit", &keys[0], |live| live["spec"]["size"] = 2.into());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            world.cluster.object(&keys[0]).unwrap()["spec"]["size"],
            1,
            "restarts: {restarts}"
        );
        world.rests().await;
    }
}

/// The entry without the right to write an object that it has.
fn withheld(entry: &Entry, from: u64, key: ObjectKey, owner: &str) -> Entry {
    let withheld = vec![Withheld {
        key,
        owner: owner.to_owned(),
    }];
    Entry {
        version: from,
        withheld,
        ..entry.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn object_that_the_hub_withholds_is_neither_written_nor_to_be_removed() {
    let mut world = World::new().await;
    let wanted = world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    let without = withheld(&wanted, 2, x(), "Kustomization/flux-system/app2");
    world.offer(&[without]).await;
    world
        .until("it is told", |world| world.unit(1).unwrap().reason == "Conflict")
        .await;
    assert_eq!(world.unit(1).unwrap().objects_pending_removal, 0);
    assert_eq!(world.objects["x"].state(), ObjectState::Conflict);
    world.rests().await;
    world.set_value("app2", "x", "theirs");
    world.cluster.delete(&key("ConfigMap", "y"));
    world
        .until("the others are enforced", |world| world.value("y").is_some())
        .await;
    settle().await;
    assert_eq!(world.value("x").as_deref(), Some("theirs"));
    // Granted again, it is put back.
    let again = version(3, wanted);
    world.offer(std::slice::from_ref(&again)).await;
    world.until_ready(&again).await;
    world
        .until("it is put back", |world| world.value("x").as_deref() == Some("1"))
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_moves_to_another_unit_is_handed_over_whichever_entry_comes_first() {
    for giver_first in [true, false] {
        let mut world = World::new().await;
        let one = world
            .ready(1, &[config_map("x", "1"), config_map("y", "1")])
            .await;
        let two = entry(2, world.contents.add(&[config_map("x", "2")]));
        let without = version(2, entry(1, world.contents.add(&[config_map("y", "1")])));
        let before = match giver_first {
            true => vec![without.clone()],
            false => vec![one, two.clone()],
        };
        world.offer(&before).await;
        settle().await;
        assert_eq!(world.value("x").as_deref(), Some("1"), "it stays meanwhile");
        world.offer(&[without.clone(), two.clone()]).await;
        world
            .until("both are ready", |world| {
                world.is_ready(&without) && world.is_ready(&two)
            })
            .await;
        assert_eq!(world.value("x").as_deref(), Some("2"));
        let live = world.cluster.object(&x()).unwrap();
        assert_eq!(live["metadata"]["labels"][MARK], two.unit.to_string());
        world.rests().await;
        // It is the new unit's to enforce.
        world.set_value("kubectl-edit", "x", "hacked");
        world
            .until("it is corrected", |world| {
                world.value("x").as_deref() == Some("2")
            })
            .await;
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn namespace_of_another_unit_withholds_nothing_but_itself() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let mut world = World::new().await;
    let one = entry(1, world.contents.add(std::slice::from_ref(&namespace)));
    world.ready_as(one.clone()).await;
    let two = entry(2, world.contents.add(&[namespace, config_map("x", "1")]));
    world.offer(&[one, two]).await;
    settle().await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    assert_eq!(world.unit(2).unwrap().reason, "Conflict");
    assert_eq!(world.objects["x"].state(), ObjectState::Applied);
    // Whether it is another's still is looked at once per retry interval.
    world.rests_but_for(&[("discover", 1), ("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_while_it_is_not_known_where_a_kind_lives() {
    let widget = |namespace: &str| {
        let mut widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"},
            "spec": {"size": 1}});
        if !namespace.is_empty() {
            widget["metadata"]["namespace"] = namespace.into();
        }
        widget
    };
    let mut world = World::new().await;
    world.cluster.serve("example.com/v1", "Widget", "widgets", true);
    let objects = [widget("kube-system"), widget(""), config_map("x", "1")];
    let first = in_default(world.contents.add(&objects));
    world.ready_as(first).await;
    let keys = |world: &World| -> Vec<(ObjectKey, RecordState)> {
        world.agent().ledger.read(|state| {
            let items = state.units.values().flat_map(|unit| &unit.items);
            let widgets = items.filter(|(key, _)| key.kind == "Widget");
            widgets
                .map(|(key, record)| (key.as_ref().clone(), record.state))
                .collect()
        })
    };
    let before = keys(&world);
    assert_eq!(before.len(), 2);
    world.cluster.fail_discovery("example.com", true);
    world.restart().await;
    settle().await;
    let [first, second, x] = objects;
    let second_version = version(
        2,
        in_default(world.contents.add(&[first, second, x, config_map("y", "1")])),
    );
    world.offer(&[second_version]).await;
    settle().await;
    assert_eq!(world.value("y").as_deref(), Some("1"));
    assert_eq!(keys(&world), before);
    // Whether the kind is served is asked ever more rarely.
    world.rests_but_for(&[("discover", 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn intent_of_what_was_never_written_goes_with_its_object() {
    let mut world = World::new().await;
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_secs(20),
        _ => Duration::ZERO,
    })));
    let many: Vec<_> = (0..40).map(|n| config_map(&format!("m{n}"), "1")).collect();
    let first = entry(1, world.contents.add(&many));
    world.offer(&[first]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = version(2, entry(1, world.contents.add(&many[39..])));
    world.offer(std::slice::from_ref(&second)).await;
    world.until_ready(&second).await;
    settle().await;
    let (intents, items) = world.agent().ledger.read(|state| {
        let items = &state.units[&second.unit].items;
        let never = items.values().filter(|record| record.sent.is_none()).count();
        (never, items.len())
    });
    let written = world.cluster.keys("ConfigMap").len();
    assert!(written < 40, "{written}");
    assert_eq!((intents, items), (0, written));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_job_wrote_before_it_panicked_is_known_without_a_restart() {
    let mut world = World::new().await;
    let panics = AtomicBool::new(true);
    world.cluster.set_fault(Some(Box::new(move |verb, key| {
        let is_met = verb == "apply" && key.name == "y" && panics.swap(false, Ordering::Relaxed);
        assert!(!is_met, "met by chance");
        None
    })));
    let objects = [config_map("x", "1"), config_map("y", "1")];
    let first = entry(1, world.contents.add(&objects));
    world.offer(&[first]).await;
    settle().await;
    assert!(world.value("x").is_some() && world.value("y").is_none());
    let second = version(2, entry(1, world.contents.add(&[config_map("z", "1")])));
    world.offer(std::slice::from_ref(&second)).await;
    world.until_ready(&second).await;
    settle().await;
    let items: Vec<(String, RecordState)> = world.agent().ledger.read(|state| {
        let items = state.units[&second.unit].items.iter();
        items
            .map(|(key, record)| (key.name.clone(), record.state))
            .collect()
    });
    // It is there and stays, marked; what was never created is forgotten.
    let expected = [
        ("x".to_owned(), RecordState::PendingRemoval),
        ("z".to_owned(), RecordState::Applied),
    ];
    assert_eq!(items, expected);
    world.rests().await;
}

/// The mark of a unit that this agent does not have is that of another installation, or nobody's.
#[tokio::test(start_paused = true)]
async fn object_with_a_mark_of_another_installation_is_adopted_with_one_warning() {
    for fails in [Fails::Never, Fails::Unstored, Fails::Stored] {
        adopts_with_one_warning(fails).await;
    }
}

/// How the first write of the object fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Never,
    Unstored,
    /// It is there all the same.
    Stored,
}

async fn adopts_with_one_warning(fails: Fails) {
    let mut world = World::new().await;
    let stray = "11111111-2222-3333-4444-555555555555";
    let mut theirs = config_map("x", "theirs");
    theirs["metadata"]["labels"] = json!({ MARK: stray });
    world.cluster.write("flotilla", theirs);
    world.cluster.write("somebody", config_map("y", "theirs"));
    let objects = [config_map("x", "1"), config_map("y", "1")];
    let wanted = entry(1, world.contents.add(&objects));
    if fails != Fails::Never {
        world.cluster.set_fault(Some(Box::new(|verb, key| {
            let error = ClusterError::Unavailable("no answer".into());
            (verb == "apply" && key.name == "x").then_some(error)
        })));
        world.offer(std::slice::from_ref(&wanted)).await;
        world
            .until("it is told", |world| {
                world.unit(1).is_some_and(|unit| unit.reason == "Unanswered")
            })
            .await;
        if fails == Fails::Stored {
            let mark = wanted.unit.to_string();
            world.cluster.edit("flotilla-agent", &x(), |live| {
                live["metadata"]["labels"] = json!({ MARK: mark });
            });
        }
        world.cluster.set_fault(None);
    }
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    let told: Vec<(bool, &str)> = world
        .events("Adopted")
        .into_iter()
        .map(|event| (event.warning, event.message.as_str()))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let [(is_warning, message)] = told
        .iter()
        .filter(|(_, message)| message.contains(stray))
        .collect::<Vec<_>>()[..]
    else {
        panic!("once, {fails:?}: {told:?}");
    };
    assert!(
        *is_warning && message.contains("another installation"),
        "{message}"
    );
    assert_eq!(told.iter().filter(|(warning, _)| *warning).count(), 1);
    world.rests().await;
}
