//! What an agent does when the cluster or its storage does not: no answer, a refusal, a namespace that goes, a
//! manager that does not give in. What is told, how often it is tried, and that it recovers.

use std::time::Duration;

use flotilla_agent::cluster::ClusterError;
use flotilla_core::object::ObjectKey;
use flotilla_proto::agent::v1::{ObjectState, Readiness};
use serde_json::{Value, json};

use crate::world::{World, config_map, entry, entry_with, key, settings, settle};

fn silence() -> ClusterError {
    ClusterError::Unavailable("no answer in 40 s".to_owned())
}

fn rejected(code: u16, reason: &str, message: &str) -> ClusterError {
    ClusterError::Rejected {
        code,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn hundred(value: &str) -> Vec<Value> {
    (0..100).map(|n| config_map(&format!("c{n:03}"), value)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_unknown_and_then_a_failure_and_is_not_stormed() {
    let mut world = World::new().await;
    world.ready(1, &hundred("1")).await;
    world.cluster.set_fault(Some(Box::new(|_, _| Some(silence()))));
    let second = entry(1, world.contents.add(&hundred("2")));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| unit.reason == "Unanswered")
        })
        .await;
    let unit = world.unit(1).unwrap();
    assert_eq!(unit.ready(), Readiness::Unknown);
    assert!(unit.message.contains("does not answer"), "{}", unit.message);
    world
        .until("it has outlasted the timeout", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    assert_eq!(world.unit(1).unwrap().reason, "ReconciliationFailed");
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked: u64 = world.cluster.take_requests().values().sum();
    // Each pass meets the silence once, with as many calls as were under way, and not for each of the hundred.
    assert!(asked < 1000, "{asked} requests in ten minutes");
    world.cluster.set_fault(None);
    world.until_ready(&second).await;
    assert_eq!(world.value("c099").as_deref(), Some("2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn one_object_without_an_answer_holds_no_other_up() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.name == "c007").then(silence)
    })));
    let wanted = entry(1, world.contents.add(&hundred("1")));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("the others are applied", |world| {
            let applied = world
                .objects
                .values()
                .filter(|o| o.state() == ObjectState::Applied);
            applied.count() == 99
        })
        .await;
    assert_eq!(world.objects["c007"].state(), ObjectState::Waiting);
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn storage_that_is_full_is_told_with_its_cause_and_nothing_is_created_meanwhile() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    // Acceptance is one write; the intent is the next.
    world.cells.fail_after(1);
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("storage is away"))
        })
        .await;
    assert_eq!(world.value("x"), None);
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked: u64 = world.cluster.take_requests().values().sum();
    assert!(asked <= 25, "{asked} requests in ten minutes");
    world.cells.heal();
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_whose_conversion_is_down_is_named_and_the_others_go_on() {
    let mut world = World::new().await;
    world.cluster.serve("example.com/v2", "Widget", "widgets", true);
    let dead = "conversion webhook for example.com/v1, Kind=Widget failed: connection refused";
    world.cluster.set_fault(Some(Box::new(move |verb, key| {
        (key.kind == "Widget" && verb != "watch").then(|| rejected(500, "InternalError", dead))
    })));
    let widget = json!({"apiVersion": "example.com/v2", "kind": "Widget",
        "metadata": {"name": "w", "namespace": "default"}, "spec": {"size": 1}});
    let wanted = entry(1, world.contents.add(&[widget, config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("Widget/default/w: conversion webhook"))
        })
        .await;
    assert!(world.value("x").is_some());
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_a_webhook_denies_is_tried_at_the_interval_and_the_others_are_left_alone() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        let denied = "admission webhook \"policy.example\" denied the request: no team label";
        (verb == "apply" && key.name == "c007").then(|| rejected(403, "Forbidden", denied))
    })));
    let objects: Vec<Value> = hundred("1").into_iter().take(20).collect();
    let wanted = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("no team label"))
        })
        .await;
    assert_eq!(world.unit(1).unwrap().ready(), Readiness::False);
    settle().await;
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let requests = world.cluster.take_requests();
    // One look and one try a minute, of the one object alone.
    assert!((8..=11).contains(&requests["apply"]), "{requests:?}");
    assert!(requests.values().sum::<u64>() <= 22, "{requests:?}");
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn r20_nothing_is_created_in_a_namespace_that_is_being_deleted_and_what_holds_it_is_told() {
    let mut world = World::new().await;
    let namespace = ObjectKey::new("", "Namespace", "", "default");
    world.cluster.set_status(
        &namespace,
        json!({"phase": "Terminating", "conditions": [
            {"type": "NamespaceFinalizersRemaining", "status": "True",
                "message": "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"},
            {"type": "NamespaceDeletionContentFailure", "status": "False", "message": "All content successfully deleted"},
        ]}),
    );
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        let refused = format!(
            "{} is forbidden: unable to create new content in namespace default because it is being terminated",
            key.name
        );
        (verb == "apply").then(|| rejected(403, "Forbidden", &refused))
    })));
    let wanted = entry(1, world.contents.add(&hundred("1")));
    world.cluster.take_requests();
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| {
                unit.message.contains("example.com/hold") && !unit.message.contains("successfully deleted")
            })
        })
        .await;
    settle().await;
    let tried = world.cluster.take_requests()["apply"];
    assert!(tried <= 32, "{tried} objects were tried to be created");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let tried = world.cluster.take_requests()["apply"];
    assert!(tried <= 11 * 32, "{tried} tries in ten minutes");
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_contested_field_stays_no_hot_loop_when_the_agent_begins_again() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    for _ in 0..2 {
        settle().await;
        world.cluster.take_requests();
        for _ in 0..20 {
            world.cluster.edit("stubborn", &key("ConfigMap", "x"), |live| {
                live["data"]["a"] = "theirs".into();
            });
            settle().await;
        }
        let requests = world.cluster.take_requests();
        let writes = requests["apply"];
        assert!((1..=5).contains(&writes), "{writes} writes in ten minutes");
        world.restart().await;
    }
    // What the other manager wrote last is put back once more when the interval is over.
    let once = world.ten_minutes().await;
    assert!(once.wakes <= 8 && once.ledger_writes <= 2, "{once:?}");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn messages_write_durations_as_flux_does() {
    let mut world = World::new().await;
    let mut settings = settings();
    settings.wait = true;
    settings.timeout = Duration::from_secs(90);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "generation": 1}, "spec": {"replicas": 1}});
    let content = world.contents.add(&[deployment]);
    let wanted = entry_with(1, content, settings, Vec::new());
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it waits", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("with a timeout of 1m30s"))
        })
        .await;
    // The wait fails once.
    let once = world.ten_minutes().await;
    assert_eq!(
        (once.requests.len(), once.events, once.rows),
        (0, 1, 1),
        "{once:?}"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn webhook_that_nobody_serves_is_tried_a_few_times_a_minute_and_recovered_from() {
    let mut world = World::new().await;
    world.ready(1, &hundred("1")).await;
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" | "dry-run" => Duration::from_secs(10),
        _ => Duration::ZERO,
    })));
    let dead =
        "failed calling webhook \"policy.example\": Post \"https://policy.test\": context deadline exceeded";
    world.cluster.set_fault(Some(Box::new(move |verb, _| {
        matches!(verb, "apply" | "dry-run").then(|| rejected(500, "InternalError", dead))
    })));
    let second = entry(1, world.contents.add(&hundred("2")));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("failed calling webhook"))
        })
        .await;
    world
        .cluster
        .delete(&ObjectKey::new("", "ConfigMap", "default", "c007"));
    let broken = world.ten_minutes().await;
    assert!(broken.requests.values().sum::<u64>() <= 1100, "{broken:?}");
    assert!(broken.events <= 2, "{broken:?}");
    world.cluster.set_latency(None);
    world.cluster.set_fault(None);
    world.until_ready(&second).await;
    assert_eq!(world.value("c007").as_deref(), Some("2"));
    world.rests().await;
}
