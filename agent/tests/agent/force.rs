//! `force`: objects of which a field cannot be changed are deleted and made anew, whatever happens in between.

use std::time::Duration;

use flotilla_core::{
    object::ObjectKey,
    unit::{Entry, Settings},
};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{cleared, uid, version, with_switch},
    world::{World, config_map, entry_with, settings, settle},
};

fn forced() -> Settings {
    Settings {
        force: true,
        ..settings()
    }
}

fn service(address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": address}})
}

fn web() -> ObjectKey {
    ObjectKey::new("", "Service", "default", "web")
}

fn address(world: &World) -> Option<String> {
    let object = world.cluster.object(&web())?;
    Some(object["spec"]["clusterIP"].as_str()?.to_owned())
}

fn at_version(world: &mut World, number: u64, settings: Settings, object: Value) -> Entry {
    version(
        number,
        entry_with(1, world.contents.add(&[object]), settings, Vec::new()),
    )
}

/// A unit whose Service has an address that cannot be changed.
async fn with_service(settings: Settings) -> World {
    let mut world = World::new().await;
    world.cluster.freeze("Service", "/spec/clusterIP");
    let first = at_version(&mut world, 1, settings, service("10.0.0.1"));
    world.ready_as(first).await;
    world
}

async fn until_refused(world: &mut World) -> String {
    world
        .until("it is refused", |world| {
            let unit = world.unit(1);
            unit.is_some_and(|unit| unit.ready() == Readiness::False && unit.message.contains("immutable"))
        })
        .await;
    world.unit(1).unwrap().message.clone()
}

#[tokio::test(start_paused = true)]
async fn a_forced_object_of_which_a_field_cannot_be_changed_is_made_anew() {
    let mut world = with_service(forced()).await;
    let before = uid(&world, &web());
    let second = at_version(&mut world, 2, forced(), service("10.0.0.2"));
    world.offer(std::slice::from_ref(&second)).await;
    world.until_ready(&second).await;
    assert_eq!(address(&world).as_deref(), Some("10.0.0.2"));
    assert_ne!(uid(&world, &web()), before);
    settle().await;
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    assert_eq!(world.events("Recreated").len(), 1);
    world.rests().await;
    // It is known by its new UID: what leaves is deleted as ever.
    let content = world.contents.add(&[config_map("x", "1")]);
    let third = version(3, entry_with(1, content, forced(), Vec::new()));
    let mut third = cleared(&third);
    third.prune_approved = Some(third.target);
    world.offer(&[third]).await;
    world
        .until("it is deleted", |world| address(world).is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_nobody_forces_stays_and_says_what_would_help() {
    let mut world = with_service(settings()).await;
    let before = uid(&world, &web());
    let second = at_version(&mut world, 2, settings(), service("10.0.0.2"));
    world.offer(&[second]).await;
    let said = until_refused(&mut world).await;
    assert!(said.contains("with `force` that is done by itself"), "{said}");
    settle().await;
    assert_eq!(uid(&world, &web()), before);
    assert_eq!(address(&world).as_deref(), Some("10.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn the_annotation_forces_one_object_also_where_only_the_live_one_has_it() {
    let mut world = with_service(settings()).await;
    let before = uid(&world, &web());
    let second = with_switch(service("10.0.0.2"), "force", "enabled");
    let second = at_version(&mut world, 2, settings(), second);
    world.ready_as(second).await;
    let between = uid(&world, &web());
    assert_ne!(between, before);
    // It is in the manifest no more, and the live object has it still.
    let third = at_version(&mut world, 3, settings(), service("10.0.0.3"));
    world.ready_as(third).await;
    let between = uid(&world, &web());
    let fourth = at_version(&mut world, 4, settings(), service("10.0.0.4"));
    world.offer(&[fourth]).await;
    until_refused(&mut world).await;
    let annotation = crate::scenes::switch("force");
    world.cluster.annotate("somebody", &web(), &annotation, "enabled");
    world
        .until("it is made anew", |world| {
            address(world).as_deref() == Some("10.0.0.4")
        })
        .await;
    assert_ne!(uid(&world, &web()), between);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_between_deletion_and_creation_creates_it_when_it_is_back() {
    let mut world = with_service(forced()).await;
    let second = at_version(&mut world, 2, forced(), service("10.0.0.2"));
    world.cluster.set_latency(Some(Box::new(|verb, key| match verb {
        "apply" if key.kind == "Service" => Duration::from_secs(5),
        _ => Duration::ZERO,
    })));
    world.offer(std::slice::from_ref(&second)).await;
    while address(&world).is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.restart().await;
    assert_eq!(address(&world), None);
    world.cluster.set_latency(None);
    world.until_ready(&second).await;
    assert_eq!(address(&world).as_deref(), Some("10.0.0.2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_before_the_deletion_goes_on_with_it_when_it_is_back() {
    let mut world = with_service(forced()).await;
    let before = uid(&world, &web());
    let second = at_version(&mut world, 2, forced(), service("10.0.0.2"));
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "delete" => Duration::from_secs(3600),
        _ => Duration::ZERO,
    })));
    world.cluster.take_requests();
    world.offer(std::slice::from_ref(&second)).await;
    settle().await;
    assert_eq!(world.cluster.take_requests().get("delete"), Some(&1));
    world.restart().await;
    assert_eq!(uid(&world, &web()), before);
    world.cluster.set_latency(None);
    world.until_ready(&second).await;
    assert_eq!(address(&world).as_deref(), Some("10.0.0.2"));
    assert_ne!(uid(&world, &web()), before);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_takes_the_change_back_after_the_deletion_brings_the_object_back() {
    let mut world = with_service(forced()).await;
    let second = at_version(&mut world, 2, forced(), service("10.0.0.2"));
    world.cluster.set_latency(Some(Box::new(|verb, key| match verb {
        "apply" if key.kind == "Service" => Duration::from_secs(5),
        _ => Duration::ZERO,
    })));
    world.offer(&[second]).await;
    while address(&world).is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.restart().await;
    world.cluster.set_latency(None);
    let third = at_version(&mut world, 3, forced(), service("10.0.0.1"));
    world.offer(std::slice::from_ref(&third)).await;
    world.until_ready(&third).await;
    assert_eq!(address(&world).as_deref(), Some("10.0.0.1"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_a_finalizer_holds_is_made_anew_once_it_is_gone() {
    let mut world = with_service(forced()).await;
    let before = uid(&world, &web());
    world.cluster.edit("operator", &web(), |live| {
        live["metadata"]["finalizers"] = json!(["example.com/hold"]);
    });
    world.quiet().await;
    let second = at_version(&mut world, 2, forced(), service("10.0.0.2"));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is said", |world| {
            world
                .objects
                .get("web")
                .is_some_and(|row| row.message.contains("held by finalizers example.com/hold"))
        })
        .await;
    assert_eq!(uid(&world, &web()), before);
    world.cluster.edit("operator", &web(), |live| {
        live["metadata"]["finalizers"] = json!([]);
    });
    world.until_ready(&second).await;
    assert_eq!(address(&world).as_deref(), Some("10.0.0.2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_the_app_has_not_written_is_not_deleted() {
    let mut world = World::new().await;
    world.cluster.freeze("Service", "/spec/clusterIP");
    world.cluster.write("somebody", service("10.0.0.9"));
    let before = uid(&world, &web());
    let first = at_version(&mut world, 1, forced(), service("10.0.0.1"));
    world.offer(&[first]).await;
    let said = until_refused(&mut world).await;
    assert!(
        said.contains(
            "although `force` asks for it: it is not known to be the object that this app has written"
        ),
        "{said}"
    );
    settle().await;
    assert_eq!(uid(&world, &web()), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_in_itself_is_not_deleted_for_it() {
    let mut world = with_service(forced()).await;
    let before = uid(&world, &web());
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.kind == "Service").then(|| flotilla_agent::cluster::ClusterError::Rejected {
            code: 422,
            reason: "Invalid".to_owned(),
            message: "Service \"web\" is invalid: spec.ports: Required value".to_owned(),
        })
    })));
    let second = at_version(&mut world, 2, forced(), service("10.0.0.2"));
    world.offer(&[second]).await;
    world
        .until("it is refused", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    settle().await;
    assert_eq!(uid(&world, &web()), before);
}
