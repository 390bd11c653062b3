//! Deletion: of objects, of namespaces with what is in them, of definitions with their kinds.

use super::*;

pub(crate) async fn deleting_needs_the_object_that_was_looked_at_and_waits_for_finalizers(world: World) {
    let resource = world.config_maps().await;
    let old = world
        .apply(&resource, &world.object("x", json!({"a": "1"})))
        .await;
    let mut live = world
        .apply(&resource, &world.object("x", json!({"a": "2"})))
        .await;
    let stale = world.delete(&resource, &old).await;
    assert!(
        matches!(stale, Err(ClusterError::Rejected { code: 409, .. })),
        "{stale:?}"
    );
    let mut another = live.clone();
    another["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000".into();
    let another = world.delete(&resource, &another).await;
    assert!(
        matches!(another, Err(ClusterError::Rejected { code: 409, .. })),
        "{another:?}"
    );
    assert_eq!(world.delete(&resource, &live).await, Ok(Deleted::Gone));
    assert_eq!(world.get(&resource, "x").await, None);
    assert_eq!(
        world.delete(&resource, &live).await,
        Ok(Deleted::Gone),
        "what is not there is gone"
    );

    let mut held = world.object("x", json!({"a": "1"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    live = world.apply(&resource, &held).await;
    let Ok(Deleted::Waits(waiting)) = world.delete(&resource, &live).await else {
        panic!("it has a finalizer")
    };
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    release(&world, &resource, &world.namespace, "x").await;
    assert_eq!(world.get(&resource, "x").await, None);
}

/// Removes an object's finalizers.
pub(crate) async fn release(world: &World, resource: &Resource, namespace: &str, name: &str) {
    let patch = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    world
        .cluster
        .patch_metadata(resource, namespace, name, &patch)
        .await
        .unwrap();
}

pub(crate) async fn a_namespace_that_terminates_refuses_new_objects_and_goes_with_its_last(world: World) {
    let (config_maps, namespaces) = (world.config_maps().await, world.resource("v1", "Namespace").await);
    let name = format!("{}-ends", world.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let namespace = world.apply(&namespaces, &namespace).await;
    let object = |name_of: &str| {
        let mut object = world.object(name_of, json!({"a": "1"}));
        object["metadata"]["namespace"] = name.clone().into();
        object
    };
    let mut held = object("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    // Its first objects may be refused while the server's caches learn of the namespace.
    eventually("the namespace takes objects", || async {
        world.cluster.apply(&config_maps, &held, false).await.ok()
    })
    .await;
    world.apply(&config_maps, &object("free")).await;

    let live = world
        .cluster
        .get(&namespaces, "", &name)
        .await
        .unwrap()
        .unwrap_or(namespace);
    let deleted = world.delete(&namespaces, &live).await;
    let Ok(Deleted::Waits(waiting)) = deleted else {
        panic!("it has contents: {deleted:?}")
    };
    assert_eq!(waiting["status"]["phase"], "Terminating");
    let refused = world.cluster.apply(&config_maps, &object("new"), false).await;
    assert!(
        matches!(&refused, Err(e) if e.is_namespace_terminating() && !e.is_transient()),
        "{refused:?}"
    );
    let look = |name_of: &'static str| {
        let (cluster, resource, namespace) = (world.cluster.clone(), config_maps.clone(), name.clone());
        async move { cluster.get(&resource, &namespace, name_of).await.unwrap() }
    };
    eventually("what is free goes", || async {
        look("free").await.is_none().then_some(())
    })
    .await;
    eventually("what is held is told to go", || async {
        look("held")
            .await
            .filter(|held| held["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    release(&world, &config_maps, &name, "held").await;
    eventually("the namespace goes", || async {
        let namespace = world.cluster.get(&namespaces, "", &name).await.unwrap();
        namespace.is_none().then_some(())
    })
    .await;
}

pub(crate) async fn a_deleted_definition_takes_its_objects_along_and_ends_their_watch_until_it_is_back(
    world: World,
) {
    let definitions = world
        .resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        .await;
    let group = format!("{}.example.com", world.namespace);
    let api_version = format!("{group}/v1");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    world.apply(&definitions, &definition).await;
    let things = world.resource(&api_version, "Thing").await;
    assert!(things.namespaced);
    let thing = json!({"apiVersion": api_version, "kind": "Thing", "spec": {"a": 1},
        "metadata": {"name": "x", "namespace": world.namespace, "labels": {"contract": "yes"}}});
    world.apply(&things, &thing).await;
    let selector = Selector {
        labels: "contract".to_owned(),
        ..Selector::default()
    };
    let mut events = world.cluster.watch(&things, &selector);
    for expected in ["listing", "present", "listed"] {
        let event = next(&mut events).await;
        let what = match event {
            WatchEvent::Listing => "listing",
            WatchEvent::Present(_) => "present",
            WatchEvent::Gone(_) => "gone",
            WatchEvent::Listed(_) => "listed",
            WatchEvent::WentBack => "went back",
        };
        assert_eq!(what, expected);
    }
    let live = world
        .cluster
        .get(&definitions, "", &format!("things.{group}"))
        .await
        .unwrap()
        .unwrap();
    world.delete(&definitions, &live).await.unwrap();
    let rest: Vec<Result<WatchEvent, ClusterError>> =
        tokio::time::timeout(Duration::from_secs(90), events.collect())
            .await
            .unwrap();
    assert!(
        rest.iter()
            .any(|event| matches!(event, Ok(WatchEvent::Gone(object)) if object["metadata"]["name"] == "x")),
        "{rest:?}"
    );
    assert!(
        matches!(rest.last(), Some(Err(ClusterError::NotServed { kind, .. })) if kind == "Thing"),
        "{rest:?}"
    );
    let refused = world.cluster.get(&things, &world.namespace, "x").await;
    assert!(
        matches!(refused, Err(ClusterError::NotServed { .. })),
        "{refused:?}"
    );
    eventually("discovery forgets the kind", || async {
        let discovery = world.cluster.discover().await.unwrap();
        (discovery.find(&api_version, "Thing") == Served::No).then_some(())
    })
    .await;

    eventually("the definition is back", || async {
        world.cluster.apply(&definitions, &definition, false).await.ok()
    })
    .await;
    let things = world.resource(&api_version, "Thing").await;
    eventually("objects are back", || async {
        world.cluster.apply(&things, &thing, false).await.ok()
    })
    .await;
}
