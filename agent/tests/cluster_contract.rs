//! What the reconciler relies on of a cluster, stated once and held against the cluster in memory and a real API
//! server: the first is only worth something as long as it behaves as the second.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{sync::Arc, time::Duration};

use flotilla_agent::cluster::{
    Cluster, ClusterError, Resource, Selector, Served, WatchEvent, fake::Fake, kube::KubeCluster,
};
use flotilla_core::{
    apply::{drift::observe, managers},
    object::ObjectKey,
};
use flotilla_testkit::shared_clusters;
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

const KEY: &[u8; 32] = &[7; 32];

/// A cluster, and somebody else who works in it.
struct World {
    cluster: Arc<dyn Cluster>,
    namespace: String,
    /// Sets `data.a` of a ConfigMap as another manager.
    edit: Box<dyn Fn(&'static str, &'static str, &'static str) -> BoxFuture<'static, ()>>,
    /// Deletes a ConfigMap.
    delete: Box<dyn Fn(&'static str) -> BoxFuture<'static, ()>>,
}

fn fake() -> World {
    let fake = Fake::new();
    let (editor, deleter) = (fake.clone(), fake.clone());
    let key = |name: &str| ObjectKey::new("", "ConfigMap", "default", name);
    World {
        cluster: Arc::new(fake),
        namespace: "default".to_owned(),
        edit: Box::new(move |manager, name, value| {
            editor.edit(manager, &key(name), |live| live["data"]["a"] = value.into());
            Box::pin(std::future::ready(()))
        }),
        delete: Box::new(move |name| {
            deleter.delete(&key(name));
            Box::pin(std::future::ready(()))
        }),
    }
}

async fn real() -> World {
    flotilla_testkit::install_tls_provider();
    let plane = shared_clusters(1).await.unwrap()[0];
    let (client, namespace) = (plane.client().await.unwrap(), plane.namespace().await.unwrap());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let (editor, deleter) = (api.clone(), api);
    World {
        cluster: Arc::new(KubeCluster::new(client)),
        namespace,
        edit: Box::new(move |manager, name, value| {
            let api = editor.clone();
            Box::pin(async move {
                let params = PatchParams {
                    field_manager: Some(manager.to_owned()),
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(json!({"data": {"a": value}}));
                api.patch(name, &params, &patch).await.unwrap();
            })
        }),
        delete: Box::new(move |name| {
            let api = deleter.clone();
            Box::pin(async move {
                api.delete(name, &DeleteParams::default()).await.unwrap();
            })
        }),
    }
}

impl World {
    async fn config_maps(&self) -> Resource {
        let discovery = self.cluster.discover().await.unwrap();
        let Served::Yes(resource) = discovery.find("v1", "ConfigMap") else {
            panic!("ConfigMaps are served")
        };
        resource.clone()
    }

    fn object(&self, name: &str, data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"contract": "yes"}}})
    }

    async fn get(&self, resource: &Resource, name: &str) -> Option<Value> {
        self.cluster.get(resource, &self.namespace, name).await.unwrap()
    }
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test] async fn $name() { super::$name(super::fake()).await; })*
        }
        mod real_server {
            $(#[tokio::test] async fn $name() { super::$name(super::real().await).await; })*
        }
    };
}

contract! {
    an_applied_object_is_found_with_uid_version_and_our_fields,
    a_missing_object_is_none_and_a_missing_kind_an_error,
    a_dry_run_answers_and_stores_nothing,
    applying_the_same_again_changes_nothing,
    a_field_no_longer_applied_is_removed,
    anothers_change_of_our_field_takes_it_and_applying_takes_it_back,
    folded_fields_are_ours_and_a_stale_fold_is_a_conflict,
    a_namespace_that_is_not_there_is_refused_and_not_unserved,
    a_watch_lists_then_follows_and_leaves_out_what_is_not_selected,
}

async fn an_applied_object_is_found_with_uid_version_and_our_fields(world: World) {
    let resource = world.config_maps().await;
    let applied = world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1"})), false)
        .await
        .unwrap();
    let found = world.get(&resource, "x").await.unwrap();
    assert_eq!(found["metadata"]["uid"], applied["metadata"]["uid"]);
    assert!(found["metadata"]["uid"].is_string() && found["metadata"]["resourceVersion"].is_string());
    let (first, second) = (observe(&applied, KEY), observe(&found, KEY));
    assert!(first.projection.is_some());
    assert_eq!(
        first, second,
        "the answer to a write and a later look are judged alike"
    );
}

async fn a_missing_object_is_none_and_a_missing_kind_an_error(world: World) {
    let resource = world.config_maps().await;
    assert_eq!(world.get(&resource, "nowhere").await, None);
    let unserved = Resource {
        group: "nowhere.example.com".into(),
        version: "v1".into(),
        kind: "Nothing".into(),
        plural: "nothings".into(),
        namespaced: true,
    };
    let nothing = json!({"apiVersion": "nowhere.example.com/v1", "kind": "Nothing",
        "metadata": {"name": "x", "namespace": world.namespace}});
    let refused = world.cluster.apply(&unserved, &nothing, false).await;
    assert!(
        matches!(refused, Err(ClusterError::NotServed { .. })),
        "{refused:?}"
    );
    let discovery = world.cluster.discover().await.unwrap();
    assert_eq!(discovery.find("nowhere.example.com/v1", "Nothing"), Served::No);
}

async fn a_dry_run_answers_and_stores_nothing(world: World) {
    let resource = world.config_maps().await;
    let answer = world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1"})), true)
        .await
        .unwrap();
    assert_eq!(answer["data"]["a"], "1");
    assert_eq!(world.get(&resource, "x").await, None);
}

async fn applying_the_same_again_changes_nothing(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1"}));
    let first = world.cluster.apply(&resource, &object, false).await.unwrap();
    let second = world.cluster.apply(&resource, &object, false).await.unwrap();
    assert_eq!(
        first["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
}

async fn a_field_no_longer_applied_is_removed(world: World) {
    let resource = world.config_maps().await;
    world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1", "b": "1"})), false)
        .await
        .unwrap();
    let after = world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1"})), false)
        .await
        .unwrap();
    assert_eq!(after["data"], json!({"a": "1"}));
}

async fn anothers_change_of_our_field_takes_it_and_applying_takes_it_back(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1", "b": "1"}));
    let ours = world.cluster.apply(&resource, &object, false).await.unwrap();
    (world.edit)("editor", "x", "2").await;
    let theirs = world.get(&resource, "x").await.unwrap();
    assert_eq!(theirs["data"]["a"], "2");
    assert_ne!(observe(&theirs, KEY).projection, observe(&ours, KEY).projection);
    let back = world.cluster.apply(&resource, &object, false).await.unwrap();
    assert_eq!(back["data"]["a"], "1");
    assert_eq!(observe(&back, KEY), observe(&ours, KEY));
}

async fn folded_fields_are_ours_and_a_stale_fold_is_a_conflict(world: World) {
    let resource = world.config_maps().await;
    world
        .cluster
        .apply(&resource, &world.object("x", json!({"b": "1"})), false)
        .await
        .unwrap();
    (world.edit)("kubectl-edit", "x", "2").await;
    let live = world.get(&resource, "x").await.unwrap();
    let fold = Value::Array(managers::fold(&live["metadata"]));
    let patch = |fold: Value| {
        let (cluster, resource, namespace) =
            (world.cluster.clone(), resource.clone(), world.namespace.clone());
        async move { cluster.patch_metadata(&resource, &namespace, "x", &fold).await }
    };
    patch(fold.clone()).await.unwrap();
    let after = world
        .cluster
        .apply(&resource, &world.object("x", json!({"b": "1"})), false)
        .await
        .unwrap();
    assert_eq!(
        after["data"],
        json!({"b": "1"}),
        "what was theirs is ours, and no longer wanted"
    );
    let stale = patch(fold).await;
    assert!(
        matches!(stale, Err(ClusterError::Rejected { code: 409, .. })),
        "{stale:?}"
    );
}

async fn a_namespace_that_is_not_there_is_refused_and_not_unserved(world: World) {
    let resource = world.config_maps().await;
    let mut object = world.object("x", json!({"a": "1"}));
    object["metadata"]["namespace"] = "nowhere-to-be-found".into();
    let refused = world.cluster.apply(&resource, &object, false).await;
    let Err(ClusterError::Rejected {
        code: 404, message, ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert!(message.contains("nowhere-to-be-found"), "{message}");
}

async fn next(events: &mut BoxStream<'static, Result<WatchEvent, ClusterError>>) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

/// The next event about an object of this namespace: clusters are shared.
async fn next_of(
    world: &World,
    events: &mut BoxStream<'static, Result<WatchEvent, ClusterError>>,
) -> (&'static str, String) {
    loop {
        let (what, object) = match next(events).await {
            WatchEvent::Listing => return ("listing", String::new()),
            WatchEvent::Listed => return ("listed", String::new()),
            WatchEvent::Present(object) => ("present", object),
            WatchEvent::Gone(object) => ("gone", object),
        };
        assert_eq!(object["kind"], "ConfigMap");
        if object["metadata"]["namespace"] == world.namespace.as_str() {
            return (what, object["metadata"]["name"].as_str().unwrap().to_owned());
        }
    }
}

async fn a_watch_lists_then_follows_and_leaves_out_what_is_not_selected(world: World) {
    let resource = world.config_maps().await;
    let mut unmarked = world.object("unmarked", json!({"a": "1"}));
    unmarked["metadata"].as_object_mut().unwrap().remove("labels");
    world.cluster.apply(&resource, &unmarked, false).await.unwrap();
    world
        .cluster
        .apply(&resource, &world.object("before", json!({"a": "1"})), false)
        .await
        .unwrap();
    let selector = Selector {
        namespace: String::new(),
        labels: "contract".to_owned(),
        ..Selector::default()
    };
    let mut events = world.cluster.watch(&resource, &selector);
    let expected = |what: &'static str, name: &str| (what, name.to_owned());
    assert_eq!(next_of(&world, &mut events).await, expected("listing", ""));
    assert_eq!(next_of(&world, &mut events).await, expected("present", "before"));
    assert_eq!(next_of(&world, &mut events).await, expected("listed", ""));
    world
        .cluster
        .apply(&resource, &world.object("after", json!({"a": "1"})), false)
        .await
        .unwrap();
    assert_eq!(next_of(&world, &mut events).await, expected("present", "after"));
    (world.edit)("editor", "before", "2").await;
    assert_eq!(next_of(&world, &mut events).await, expected("present", "before"));
    (world.delete)("before").await;
    assert_eq!(next_of(&world, &mut events).await, expected("gone", "before"));
}
