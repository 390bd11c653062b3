//! Stages and what waits: definitions and their kinds, failed objects, health.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use flotilla_agent::cluster::ClusterError;
use flotilla_core::{object::ObjectKey, unit::Settings};
use flotilla_proto::agent::v1::ObjectState;
use serde_json::json;

use crate::{
    scenes::in_default,
    world::{World, config_map, deployment, entry, entry_with, key, settings},
};

#[tokio::test(start_paused = true)]
async fn definitions_come_first_and_their_objects_wait_until_they_are_served() {
    let mut world = World::new().await;
    world.cluster.establish(false);
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1"}]}});
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let wanted = in_default(world.contents.add(&[widget, crd.clone(), config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    let widget = ObjectKey::new("example.com", "Widget", "default", "w");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.cluster.object(&ObjectKey::of(&crd).unwrap()).is_some());
    assert!(world.cluster.object(&widget).is_none());
    world.cluster.establish(true);
    let mut live = world.cluster.object(&ObjectKey::of(&crd).unwrap()).unwrap();
    live["metadata"]["labels"]["touched"] = "1".into();
    world.cluster.write("apiextensions", live);
    world.until_ready(&wanted).await;
    assert!(
        world.cluster.object(&widget).is_some(),
        "and it is namespaced, as its definition says"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_served_waits_and_wakes_on_its_definition() {
    let mut world = World::new().await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w", "namespace": "default"}});
    let wanted = entry(1, world.contents.add(&[widget, config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it waits", |world| {
            world
                .objects
                .get("w")
                .is_some_and(|o| o.state() == ObjectState::Waiting)
        })
        .await;
    assert!(world.value("x").is_some(), "the rest of the stage is applied");
    let begun = tokio::time::Instant::now();
    world.cluster.write(
        "somebody",
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1"}]}}),
    );
    world.until_ready(&wanted).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_object_leaves_its_stage_alone_and_closes_the_next() {
    let mut world = World::new().await;
    let refused: Arc<AtomicU32> = Arc::default();
    let count = refused.clone();
    world.cluster.set_fault(Some(Box::new(move |verb, key| {
        (verb == "apply" && key.name == "bad").then(|| {
            count.fetch_add(1, Ordering::Relaxed);
            ClusterError::Rejected {
                code: 422,
                reason: "Invalid".into(),
                message: "data: Invalid value".into(),
            }
        })
    })));
    world.cluster.serve(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    );
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "hook"}});
    let content = world
        .contents
        .add(&[webhook.clone(), config_map("bad", "1"), config_map("good", "1")]);
    let wanted = entry(1, content);
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|u| u.reason == "ReconciliationFailed")
        })
        .await;
    assert!(
        world
            .unit(1)
            .unwrap()
            .message
            .contains("ConfigMap/default/bad: data: Invalid value")
    );
    assert!(world.value("good").is_some());
    assert!(world.cluster.object(&ObjectKey::of(&webhook).unwrap()).is_none());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let tries = refused.load(Ordering::Relaxed);
    assert!(
        (3..=7).contains(&tries),
        "{tries} tries in five minutes at an interval of one"
    );
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    assert!(world.cluster.object(&ObjectKey::of(&webhook).unwrap()).is_some());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn wait_is_ready_only_when_objects_are_and_fails_at_its_timeout() {
    let mut world = World::new().await;
    let content = world.contents.add(&[deployment("web")]);
    let wanted = entry_with(
        1,
        content,
        Settings {
            wait: true,
            ..settings()
        },
        Vec::new(),
    );
    let web = key("Deployment", "web");
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is applied", |world| world.cluster.object(&web).is_some())
        .await;
    world.cluster.set_status(&web, json!({"observedGeneration": 0}));
    world
        .until("it waits", |world| {
            world
                .unit(1)
                .is_some_and(|u| u.reason == "Progressing" && u.health == "InProgress")
        })
        .await;
    world
        .until("the time is over", |world| {
            world.unit(1).unwrap().reason == "HealthCheckFailed"
        })
        .await;
    let message = &world.unit(1).unwrap().message;
    assert!(
        message.contains("timeout waiting for: [Deployment/default/web status: 'InProgress']"),
        "{message}"
    );
    world.cluster.set_status(
        &web,
        json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
            "availableReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}),
    );
    world.until_ready(&wanted).await;
    world
        .until("health is told", |world| {
            let healthy = world.unit(1).unwrap().healthy.as_ref();
            healthy.is_some_and(|healthy| healthy.is(wanted.version, wanted.target.as_bytes()))
        })
        .await;
    world.rests().await;
}
