//! Fields that an app leaves to others: an autoscaler's replicas.

use flotilla_core::{
    apply::ignore::{IgnoreRule, IgnoreTarget},
    object::ObjectKey,
    unit::{Entry, Settings},
};
use serde_json::{Value, json};

use crate::{
    scenes::version,
    world::{World, config_map, deployment, entry_with, key, settings, settle},
};

fn web() -> ObjectKey {
    key("Deployment", "web")
}

fn leaving_replicas() -> Settings {
    Settings {
        ignore: vec![IgnoreRule {
            paths: vec!["/spec/replicas".to_owned()],
            target: Some(IgnoreTarget {
                kind: "Deployment".to_owned(),
                ..IgnoreTarget::default()
            }),
        }],
        ..settings()
    }
}

fn paused(is_paused: bool) -> Value {
    let mut object = deployment("web");
    object["spec"]["paused"] = is_paused.into();
    object
}

fn scaled(world: &mut World, object: Value) -> Entry {
    let content = world.contents.add(&[object, config_map("x", "1")]);
    entry_with(1, content, leaving_replicas(), Vec::new())
}

fn scale(world: &World, replicas: u64) {
    world.cluster.edit("kube-controller-manager", &web(), |live| {
        live["spec"]["replicas"] = replicas.into();
    });
}

fn replicas(world: &World) -> Value {
    world.cluster.object(&web()).unwrap()["spec"]["replicas"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_an_autoscaler_sets_stays_and_costs_nothing() {
    let mut world = World::new().await;
    let first = scaled(&mut world, paused(false));
    world.ready_as(first).await;
    assert_eq!(replicas(&world), json!(1), "it is created as the manifest says");
    for wanted in [7, 3, 9] {
        scale(&world, wanted);
        settle().await;
        assert_eq!(replicas(&world), json!(wanted));
        assert!(world.cluster.take_requests().is_empty(), "{wanted}");
    }
    assert!(world.events("DriftCorrected").is_empty());
    world.rests().await;
    world.stop_and_start().await;
    world.quiet().await;
    assert_eq!(replicas(&world), json!(9));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_changes_other_fields_leaves_the_replicas_as_they_are() {
    let mut world = World::new().await;
    let first = scaled(&mut world, paused(false));
    world.ready_as(first).await;
    scale(&world, 7);
    let second = version(2, scaled(&mut world, paused(true)));
    world.ready_as(second).await;
    assert_eq!(world.cluster.object(&web()).unwrap()["spec"]["paused"], true);
    assert_eq!(replicas(&world), json!(7));
    let mut third = paused(true);
    third["spec"]["replicas"] = json!(4);
    let third = version(3, scaled(&mut world, third));
    world.ready_as(third).await;
    assert_eq!(replicas(&world), json!(7), "also when Git says another number");
    scale(&world, 8);
    world.rests().await;
    assert_eq!(replicas(&world), json!(8));
}

#[tokio::test(start_paused = true)]
async fn drift_of_other_fields_is_corrected_and_the_replicas_stay() {
    let mut world = World::new().await;
    let first = scaled(&mut world, paused(false));
    world.ready_as(first).await;
    scale(&world, 7);
    world.cluster.edit("kubectl-edit", &web(), |live| {
        live["spec"]["paused"] = true.into();
    });
    world
        .until("it is corrected", |world| {
            world.cluster.object(&web()).unwrap()["spec"]["paused"] == false
        })
        .await;
    assert_eq!(replicas(&world), json!(7));
    world.quiet().await;
    scale(&world, 2);
    world.rests().await;
    assert_eq!(replicas(&world), json!(2));
}

#[tokio::test(start_paused = true)]
async fn objects_that_no_rule_is_for_are_enforced_whole() {
    let mut world = World::new().await;
    let first = scaled(&mut world, paused(false));
    world.ready_as(first).await;
    world.set_value("kubectl-edit", "x", "hacked");
    world
        .until("it is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    world.rests().await;
}

/// What was scaled while no rule was there, or is no longer left to others, is as Git says again.
#[tokio::test(start_paused = true)]
async fn a_rule_that_comes_or_goes_counts_from_then_on() {
    let mut world = World::new().await;
    let content = world.contents.add(&[paused(false), config_map("x", "1")]);
    let bare = entry_with(1, content, settings(), Vec::new());
    world.ready_as(bare).await;
    let with_rule = version(2, scaled(&mut world, paused(false)));
    world.ready_as(with_rule).await;
    scale(&world, 7);
    settle().await;
    assert_eq!(replicas(&world), json!(7));
    world.rests().await;
    let bare = version(3, entry_with(1, content, settings(), Vec::new()));
    world.offer(std::slice::from_ref(&bare)).await;
    world
        .until("it is as Git says", |world| replicas(world) == json!(1))
        .await;
    world.until_ready(&bare).await;
    world.rests().await;
}
