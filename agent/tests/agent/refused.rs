//! What the API server refuses again and again: a few tries a minute, however many objects it is, and all of them once
//! what was in the way is over.

use std::time::Duration;

use flotilla_agent::cluster::ClusterError;
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{version, widget_definition},
    world::{World, config_map, entry, settle},
};

fn thousand(value: &str) -> Vec<Value> {
    (0..1000)
        .map(|n| config_map(&format!("c{n:04}"), value))
        .collect()
}

/// A webhook denies 300 of a thousand, and counts its denials.
fn denied(world: &World) {
    let count = std::sync::atomic::AtomicU32::new(0);
    world.cluster.set_fault(Some(Box::new(move |verb, key| {
        let is_denied = matches!(verb, "apply" | "dry-run") && *key.name < *"c0300";
        is_denied.then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".into(),
            message: format!(
                "admission webhook \"policy.example\" denied the request: {} has no team label (denial {})",
                key.name,
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            ),
        })
    })));
}

#[tokio::test(start_paused = true)]
async fn objects_that_a_webhook_denies_cost_a_few_tries_a_minute_and_are_all_applied_when_it_allows_them() {
    let mut world = World::new().await;
    denied(&world);
    let wanted = entry(1, world.contents.add(&thousand("1")));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            let unit = world.unit(1);
            unit.is_some_and(|unit| unit.ready() == Readiness::False && unit.objects_failed == 300)
        })
        .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let requests = world.cluster.take_requests();
    // Of sixty retries the sample, and each by its own time, later each time.
    let tries = requests["apply"];
    assert!((60 * 8..60 * 8 + 300 * 4).contains(&tries), "{requests:?}");
    world.cluster.set_fault(None);
    let begun = tokio::time::Instant::now();
    world.until_ready(&wanted).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(65), "{took:?}");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn objects_that_their_definition_does_not_allow_are_all_tried_when_it_changes() {
    let mut world = World::new().await;
    world.cluster.write("somebody", widget_definition());
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.kind == "Widget").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: format!(
                "Widget.example.com \"{}\" is invalid: spec.size: Unsupported value",
                key.name
            ),
        })
    })));
    let widgets: Vec<Value> = (0..50)
        .map(|n| {
            json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": format!("w{n}"), "namespace": "default"}, "spec": {"size": 1}})
        })
        .collect();
    let wanted = version(1, entry(1, world.contents.add(&widgets)));
    world.offer(std::slice::from_ref(&wanted)).await;
    settle().await;
    tokio::time::sleep(Duration::from_secs(1230)).await;
    world.cluster.take_requests();
    world.cluster.edit(
        "somebody",
        &flotilla_core::object::ObjectKey::of(&widget_definition()).unwrap(),
        |live| {
            live["spec"]["versions"][0]["schema"] = "wider".into();
            live["metadata"]["generation"] = 2.into();
        },
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = world.cluster.take_requests();
    assert_eq!(requests["apply"], 50, "{requests:?}");
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}
