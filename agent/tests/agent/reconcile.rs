//! What an agent does with a desired state: apply, adopt, correct, wait, report, begin again.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use flotilla_agent::{
    cluster::ClusterError,
    sim::{Contents, SimAgent},
};
use flotilla_core::unit::{Entry, Settings, Substitution, UnitState, VariableLayer};
use flotilla_proto::agent::v1::{ObjectState, Readiness};
use serde_json::{Value, json};

use crate::world::{World, config_map, deployment, entry, entry_with, key, settings, settle};

#[tokio::test(start_paused = true)]
async fn a_desired_state_is_applied_with_labels_and_mark_and_reported() {
    let mut world = World::new().await;
    let content = world.contents.add(&[config_map("x", "1"), deployment("web")]);
    let wanted = entry(1, content);
    let ack = world.offer(std::slice::from_ref(&wanted)).await;
    assert!(ack.generation == 1 && ack.units.iter().all(|unit| unit.accepted));
    world.until_ready(&wanted).await;
    let live = world.cluster.object(&key("ConfigMap", "x")).unwrap();
    assert_eq!(
        live["metadata"]["labels"],
        json!({
            "kustomize.toolkit.fluxcd.io/name": "app1",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
            "fleet.flotilla.dev/unit": wanted.unit.to_string(),
        })
    );
    let unit = world.unit(1).unwrap();
    assert_eq!(unit.message, "Applied revision: main@sha1:abc");
    assert_eq!(
        (unit.reason.as_str(), unit.objects, unit.held_version),
        ("ReconciliationSucceeded", 2, 1)
    );
    assert_eq!(world.objects["x"].state(), ObjectState::Applied);
    assert_eq!(world.objects["x"].uid, live["metadata"]["uid"].as_str().unwrap());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn only_changed_objects_are_written() {
    let mut world = World::new().await;
    let objects = |last: &str| {
        let mut all: Vec<Value> = (0..50).map(|n| config_map(&format!("c{n}"), "1")).collect();
        all.push(config_map("last", last));
        all
    };
    let first = entry(1, world.contents.add(&objects("1")));
    world.offer(std::slice::from_ref(&first)).await;
    world.until_ready(&first).await;
    settle().await;
    world.cluster.take_requests();
    let second = entry(1, world.contents.add(&objects("2")));
    world.offer(std::slice::from_ref(&second)).await;
    world.until_ready(&second).await;
    settle().await;
    assert_eq!(world.value("last").as_deref(), Some("2"));
    let requests = world.cluster.take_requests();
    assert_eq!(requests, BTreeMap::from([("apply".to_owned(), 1)]));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_asks_nothing_of_the_cluster() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_enforces_without_the_hub_and_applies_nothing_again() {
    let mut world = World::new().await;
    let wanted = entry(
        1,
        world.contents.add(&[config_map("x", "1"), config_map("y", "1")]),
    );
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.agent = None;
    world.cluster.edit("somebody", &key("ConfigMap", "x"), |live| {
        live["data"]["a"] = "hacked".into()
    });
    world.cluster.delete(&key("ConfigMap", "y"));
    world.cluster.take_requests();
    world.restart().await;
    world
        .until("what drifted meanwhile is corrected", |world| {
            world.value("x").as_deref() == Some("1") && world.value("y").is_some()
        })
        .await;
    settle().await;
    assert_eq!(world.cluster.take_requests()["apply"], 2);
    world.restart().await;
    world.cluster.take_requests();
    settle().await;
    assert_eq!(
        world.cluster.take_requests().get("apply"),
        None,
        "nothing is applied again"
    );
    world.units.clear();
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_intent_is_durable_before_the_object_exists() {
    let mut world = World::new().await;
    let content = world.contents.add(&[config_map("x", "1")]);
    let wanted = entry(1, content);
    // Storage goes away at each write in turn: acceptance, the enforced entry, the intent, the result.
    for writes in 1..=4 {
        world.cells.fail_after(writes);
        let agent = world.agent.take().unwrap();
        let accepted = agent
            .offer(std::slice::from_ref(&wanted), &mut world.contents)
            .await
            .is_ok();
        settle().await;
        drop(agent);
        world.cells.heal();
        let exists = world.cluster.object(&key("ConfigMap", "x")).is_some();
        world.restart().await;
        let known = world.agent().ledger.read(|state| {
            state
                .units
                .get(&wanted.unit)
                .is_some_and(|unit| unit.items.contains_key(&key("ConfigMap", "x")))
        });
        assert!(
            !exists || known,
            "after {writes} writes the object exists and nobody knows whose it is"
        );
        assert!(accepted || !exists);
    }
    if !world.is_ready(&wanted) {
        let _ = world
            .agent()
            .offer(std::slice::from_ref(&wanted), &mut Contents::default())
            .await;
    }
    world.until_ready(&wanted).await;
    assert!(
        !world.objects["x"].adopted,
        "what this unit created is not adopted"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_content_cannot_be_had_keeps_what_it_has_and_holds_up_no_other() {
    let mut world = World::new().await;
    let (a1, b1) = (
        world.contents.add(&[config_map("a", "1")]),
        world.contents.add(&[config_map("b", "1")]),
    );
    world.offer(&[entry(1, a1), entry(2, b1)]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&entry(1, a1)) && world.is_ready(&entry(2, b1))
        })
        .await;
    let (a2, b2) = (
        world.contents.add(&[config_map("a", "2")]),
        world.contents.add(&[config_map("b", "2")]),
    );
    let lost = world.contents.lose(&a2).unwrap();
    let ack = world.offer(&[entry(1, a2), entry(2, b2)]).await;
    let refused: Vec<_> = ack.units.iter().filter(|unit| !unit.accepted).collect();
    assert_eq!((refused.len(), refused[0].reason.as_str()), (1, "ContentMissing"));
    world.until_ready(&entry(2, b2)).await;
    world
        .until("the status says so", |world| {
            world.unit(1).unwrap().reason == "ContentMissing"
        })
        .await;
    // What it has is still enforced.
    world.cluster.delete(&key("ConfigMap", "a"));
    world
        .until("the old content is enforced", |world| {
            world.value("a").as_deref() == Some("1")
        })
        .await;
    world.contents.restore(a2, lost);
    let agent = world.agent.take().unwrap();
    agent.complete(&mut world.contents).await.unwrap().unwrap();
    world.agent = Some(agent);
    world.until_ready(&entry(1, a2)).await;
    assert_eq!(world.value("a").as_deref(), Some("2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_leaves_the_content_stays_and_is_shown() {
    let mut world = World::new().await;
    let both = world.contents.add(&[config_map("x", "1"), config_map("y", "1")]);
    let one = world.contents.add(&[config_map("x", "1")]);
    world.offer(&[entry(1, both)]).await;
    world.until_ready(&entry(1, both)).await;
    world.offer(&[entry(1, one)]).await;
    world.until_ready(&entry(1, one)).await;
    world
        .until("it is shown", |world| {
            world.objects["y"].state() == ObjectState::PendingRemoval
        })
        .await;
    assert!(world.value("y").is_some());
    world
        .until("it is counted", |world| {
            world.unit(1).unwrap().objects_pending_removal == 1
        })
        .await;
    // Whoever deletes it by hand has it gone.
    world.cluster.delete(&key("ConfigMap", "y"));
    world
        .until("it is gone", |world| {
            world.objects["y"].state() == ObjectState::Gone
        })
        .await;
    assert!(world.value("y").is_none());
    // And one that comes back is the unit's again.
    world.offer(&[entry(1, both)]).await;
    world
        .until("it is back", |world| world.value("y").is_some())
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_evaluation_keeps_the_last_good_state_enforced() {
    let mut world = World::new().await;
    let good = world.contents.add(&[config_map("x", "1")]);
    world.offer(&[entry(1, good)]).await;
    world.until_ready(&entry(1, good)).await;
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: default\ndata:\n  a: ${missing}\n";
    let bad = world.contents.add_yaml(&[(key("ConfigMap", "x"), template)]);
    let literal = |name: &str| {
        vec![VariableLayer::Literal {
            values: BTreeMap::from([(name.to_owned(), "2".to_owned())]),
        }]
    };
    let with = |variables| {
        entry_with(
            1,
            bad,
            Settings {
                substitution: Substitution::WithVariables,
                ..settings()
            },
            variables,
        )
    };
    world.offer(&[with(literal("other"))]).await;
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().reason == "BuildFailed"
        })
        .await;
    let message = &world.unit(1).unwrap().message;
    assert!(
        message.contains("variable not set (strict mode): \"missing\""),
        "{message}"
    );
    world.cluster.delete(&key("ConfigMap", "x"));
    world
        .until("the last good state is enforced", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    let fixed = with(literal("missing"));
    world.offer(std::slice::from_ref(&fixed)).await;
    world.until_ready(&fixed).await;
    // `2` without quotes is a number once parsed: types come from parsing, as in Flux.
    assert_eq!(
        world.cluster.object(&key("ConfigMap", "x")).unwrap()["data"]["a"],
        2
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_secrets_values_are_never_in_a_message() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.kind == "Secret").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: "Invalid value: \"canary-7f3a\"".into(),
        })
    })));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "stringData": {"password": "canary-7f3a"}});
    let wanted = entry(1, world.contents.add(&[secret]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|u| u.reason == "ReconciliationFailed")
        })
        .await;
    settle().await;
    let told = format!("{:?} {:?} {:?}", world.units, world.objects, world.events);
    assert!(
        told.contains("Secret/default/s") && !told.contains("canary-7f3a"),
        "{told}"
    );
    // It is tried again once per retry interval.
    world.rests_but_for(&[("apply", 10), ("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_units_status() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|_, key| {
        assert!(key.name != "poison", "poisoned");
        None
    })));
    let (bad, good) = (
        world.contents.add(&[config_map("poison", "1")]),
        world.contents.add(&[config_map("x", "1")]),
    );
    world.offer(&[entry(1, bad), entry(2, good)]).await;
    world.until_ready(&entry(2, good)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|u| u.message.contains("poisoned"))
        })
        .await;
    assert_eq!(world.unit(1).unwrap().ready(), Readiness::False);
    // It is tried again once per retry interval.
    world.rests_but_for(&[("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_unit_is_kept_and_not_enforced() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    for state in [UnitState::Suspended, UnitState::Detached] {
        let kept = Entry {
            state: state.clone(),
            ..wanted.clone()
        };
        world.offer(&[kept]).await;
        world.cluster.edit("somebody", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "2".into()
        });
        settle().await;
        assert_eq!(world.value("x").as_deref(), Some("2"), "{state:?}");
    }
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("resumed, it is enforced", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn two_agents_over_one_ledger_are_one_too_many() {
    let mut world = World::new().await;
    let second = SimAgent::start(Arc::new(world.cluster.clone()), Arc::new(world.cells.clone()))
        .await
        .unwrap();
    let mut contents = world.contents.clone();
    let wanted = entry(1, contents.add(&[config_map("x", "1")]));
    assert!(
        second
            .offer(std::slice::from_ref(&wanted), &mut contents)
            .await
            .is_ok()
    );
    let lost = world
        .agent()
        .offer(std::slice::from_ref(&wanted), &mut contents)
        .await;
    assert!(lost.unwrap_err().to_string().contains("another agent"));
    // The one that holds the ledger rests as well as the one that has lost it.
    settle().await;
    let wakes = second.counters.wakes.load(Ordering::Relaxed);
    world.rests().await;
    assert_eq!(second.counters.wakes.load(Ordering::Relaxed), wakes);
}
