//! What the reconciler relies on of a cluster, stated once and held against the cluster in memory and a real API
//! server: the first is only worth something as long as it behaves as the second.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{sync::Arc, time::Duration};

use flotilla_agent::cluster::{
    Account, Cluster, ClusterError, Deleted, Discovery, Preconditions, Propagation, Resource, Selector,
    Served, WatchEvent, fake::Fake, kube::KubeCluster,
};
use flotilla_core::{
    apply::{drift::observe, managers},
    object::ObjectKey,
};
use flotilla_testkit::{FaultProxy, shared_clusters, wait_until};
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
    // As in a new cluster: a ServiceAccount may see what is served, and nothing else.
    fake.set_rights(Some(Box::new(|account, verb, _| {
        *account == Account::Agent || matches!(verb, "discover" | "version")
    })));
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
        cluster: Arc::new(KubeCluster::connect(Some(&plane.kubeconfig())).await.unwrap()),
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
        self.resource("v1", "ConfigMap").await
    }

    /// The kind, once it is served.
    async fn resource(&self, api_version: &str, kind: &str) -> Resource {
        let served = || async {
            let discovery = self.cluster.discover().await.unwrap();
            match discovery.find(api_version, kind) {
                Served::Yes(resource) => Some(resource.clone()),
                _ => None,
            }
        };
        eventually("the kind is served", served).await
    }

    async fn apply(&self, resource: &Resource, object: &Value) -> Value {
        self.cluster.apply(resource, object, false).await.unwrap()
    }

    async fn delete(&self, resource: &Resource, live: &Value) -> Result<Deleted, ClusterError> {
        let text = |field: &str| live["metadata"][field].as_str().unwrap_or_default().to_owned();
        let preconditions = Preconditions {
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        };
        self.cluster
            .delete(
                resource,
                &text("namespace"),
                &text("name"),
                &preconditions,
                Propagation::Background,
            )
            .await
    }

    fn object(&self, name: &str, data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"contract": "yes"}}})
    }

    async fn get(&self, resource: &Resource, name: &str) -> Option<Value> {
        self.cluster.get(resource, &self.namespace, name).await.unwrap()
    }
}

/// Waits until something is there.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    wait_until(what, Duration::from_secs(90), async || {
        Ok::<_, String>(look().await)
    })
    .await
    .unwrap()
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
    a_watch_of_metadata_has_types_and_no_bodies,
    a_list_by_label_has_bodies_and_one_of_metadata_has_none,
    creating_what_exists_is_a_conflict,
    deleting_needs_the_object_that_was_looked_at_and_waits_for_finalizers,
    a_namespace_that_terminates_refuses_new_objects_and_goes_with_its_last,
    a_deleted_definition_takes_its_objects_along_and_ends_their_watch_until_it_is_back,
    an_account_without_rights_is_refused_and_never_served_as_the_agent,
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

async fn a_watch_of_metadata_has_types_and_no_bodies(world: World) {
    let resource = world.config_maps().await;
    world
        .apply(&resource, &world.object("x", json!({"a": "1"})))
        .await;
    let selector = Selector {
        namespace: world.namespace.clone(),
        labels: "contract".to_owned(),
        metadata_only: true,
    };
    let mut events = world.cluster.watch(&resource, &selector);
    assert!(matches!(next(&mut events).await, WatchEvent::Listing));
    let WatchEvent::Present(listed) = next(&mut events).await else {
        panic!("it is there")
    };
    assert!(matches!(next(&mut events).await, WatchEvent::Listed));
    (world.edit)("editor", "x", "2").await;
    let WatchEvent::Present(changed) = next(&mut events).await else {
        panic!("it has changed")
    };
    for object in [listed, changed] {
        assert_eq!(
            (&object["apiVersion"], &object["kind"]),
            (&json!("v1"), &json!("ConfigMap"))
        );
        assert_eq!(object["metadata"]["name"], "x");
        assert_eq!(object.get("data"), None);
    }
}

async fn a_list_by_label_has_bodies_and_one_of_metadata_has_none(world: World) {
    let resource = world.config_maps().await;
    for number in 0..12 {
        let mut object = world.object(&format!("x{number:02}"), json!({"a": "1"}));
        object["metadata"]["labels"]["number"] = (number % 2).to_string().into();
        world.apply(&resource, &object).await;
    }
    let selector = Selector {
        namespace: world.namespace.clone(),
        labels: "contract=yes,number=1".to_owned(),
        ..Selector::default()
    };
    let page = world
        .cluster
        .list_selected(&resource, &selector, "")
        .await
        .unwrap();
    let names: Vec<&str> = page
        .items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["x01", "x03", "x05", "x07", "x09", "x11"]);
    assert_eq!(
        (
            page.items[0]["kind"].as_str(),
            page.items[0]["data"]["a"].as_str()
        ),
        (Some("ConfigMap"), Some("1"))
    );
    let (mut token, mut listed) = (String::new(), Vec::new());
    loop {
        let page = world
            .cluster
            .list(&resource, &world.namespace, &token)
            .await
            .unwrap();
        listed.extend(page.items);
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    listed.retain(|item| item["metadata"]["labels"]["contract"] == "yes");
    assert_eq!(listed.len(), 12);
    assert!(
        listed
            .iter()
            .all(|item| item.get("data").is_none() && item["kind"] == "ConfigMap")
    );
}

async fn creating_what_exists_is_a_conflict(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1"}));
    let created = world.cluster.create(&resource, &object).await.unwrap();
    assert!(created["metadata"]["uid"].is_string());
    let again = world.cluster.create(&resource, &object).await;
    assert!(
        matches!(&again, Err(ClusterError::Rejected { code: 409, reason, .. }) if reason == "AlreadyExists"),
        "{again:?}"
    );
}

async fn deleting_needs_the_object_that_was_looked_at_and_waits_for_finalizers(world: World) {
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
async fn release(world: &World, resource: &Resource, namespace: &str, name: &str) {
    let patch = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    world
        .cluster
        .patch_metadata(resource, namespace, name, &patch)
        .await
        .unwrap();
}

async fn a_namespace_that_terminates_refuses_new_objects_and_goes_with_its_last(world: World) {
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

async fn a_deleted_definition_takes_its_objects_along_and_ends_their_watch_until_it_is_back(world: World) {
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
            WatchEvent::Listed => "listed",
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

async fn an_account_without_rights_is_refused_and_never_served_as_the_agent(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1"}));
    world.apply(&resource, &object).await;
    let account = Account::ServiceAccount {
        namespace: world.namespace.clone(),
        name: "nobody".to_owned(),
    };
    let cluster = world.cluster.acting_as(&account);
    assert!(
        !cluster.discover().await.unwrap().is_empty(),
        "everybody may see what is served"
    );
    let selector = Selector {
        namespace: world.namespace.clone(),
        ..Selector::default()
    };
    let preconditions = Preconditions {
        uid: "x".to_owned(),
        resource_version: "1".to_owned(),
    };
    let namespace = &world.namespace;
    let refusals = [
        cluster.get(&resource, namespace, "x").await.err(),
        cluster.list(&resource, namespace, "").await.err(),
        cluster.list_selected(&resource, &selector, "").await.err(),
        cluster.apply(&resource, &object, false).await.err(),
        cluster.apply(&resource, &object, true).await.err(),
        cluster.create(&resource, &object).await.err(),
        cluster
            .patch_metadata(&resource, namespace, "x", &json!([]))
            .await
            .err(),
        cluster
            .delete(&resource, namespace, "x", &preconditions, Propagation::Background)
            .await
            .err(),
        cluster.uid().await.err(),
        tokio::time::timeout(
            Duration::from_secs(30),
            cluster.watch(&resource, &selector).next(),
        )
        .await
        .unwrap()
        .unwrap()
        .err(),
    ];
    for (position, refusal) in refusals.into_iter().enumerate() {
        assert!(
            matches!(refusal, Some(ClusterError::Rejected { code: 403, .. })),
            "{position}: {refusal:?}"
        );
    }
    assert!(
        world.get(&resource, "x").await.is_some(),
        "the agent itself still may"
    );
}

mod real_server_alone {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Passes connections on, and counts them.
    async fn counting(target: String) -> (String, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let target = target.clone();
                tokio::spawn(async move {
                    let mut to = tokio::net::TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        (address, count)
    }

    #[tokio::test]
    async fn forty_watches_share_a_connection_apart_from_calls_and_again_after_it_broke() {
        flotilla_testkit::install_tls_provider();
        let plane = shared_clusters(1).await.unwrap()[0];
        let namespace = plane.namespace().await.unwrap();
        let server = plane.server();
        let target = server.strip_prefix("https://").unwrap();
        let proxy = FaultProxy::start(target.parse().unwrap()).unwrap();
        let (address, count) = counting(proxy.address().to_string()).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let kubeconfig = std::fs::read_to_string(plane.kubeconfig()).unwrap();
        assert!(kubeconfig.contains(target));
        std::fs::write(&path, kubeconfig.replace(target, &address)).unwrap();

        let cluster = KubeCluster::connect(Some(&path)).await.unwrap();
        let discovery = cluster.discover().await.unwrap();
        let resource = discovery.preferred("", "ConfigMap").unwrap();
        let selector = Selector {
            namespace,
            ..Selector::default()
        };
        let mut watches: Vec<_> = (0..40).map(|_| cluster.watch(resource, &selector)).collect();
        let listing = watches
            .iter_mut()
            .map(|watch| async move { while !matches!(watch.next().await, Some(Ok(WatchEvent::Listed))) {} });
        tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(listing))
            .await
            .unwrap();
        let calls = (0..20).map(|_| cluster.version());
        for version in futures::future::join_all(calls).await {
            version.unwrap();
        }
        assert_eq!(
            count.load(Ordering::Relaxed),
            2,
            "one for calls and one for watches"
        );
    }

    /// The words of admission plugins, which nothing but its text tells apart.
    #[tokio::test]
    async fn admission_refuses_what_comes_too_early_in_words_that_say_race() {
        let world = real().await;
        let resource = async |api_version: &str, kind: &str| world.resource(api_version, kind).await;
        let (pods, accounts) = (
            resource("v1", "Pod").await,
            resource("v1", "ServiceAccount").await,
        );
        let object = |kind: &str, name: &str, spec: Value| {
            json!({"apiVersion": "v1", "kind": kind, "spec": spec,
                "metadata": {"name": name, "namespace": world.namespace}})
        };
        let pod = |name: &str| {
            let containers = json!([{"name": "c", "image": "example.com/c"}]);
            object(
                "Pod",
                name,
                json!({"serviceAccountName": "own", "containers": containers}),
            )
        };
        let refused = world.cluster.apply(&pods, &pod("a"), false).await;
        let named = matches!(&refused, Err(e) if e.is_race() && e.to_string().contains("service account"));
        assert!(named, "{refused:?}");

        let mut account = object("ServiceAccount", "own", Value::Null);
        account.as_object_mut().unwrap().remove("spec");
        world.apply(&accounts, &account).await;
        let quotas = resource("v1", "ResourceQuota").await;
        let quota = object("ResourceQuota", "q", json!({"hard": {"limits.cpu": "1"}}));
        world.apply(&quotas, &quota).await;
        // Until the plugin knows of the quota, it lets pods pass.
        let count = AtomicUsize::new(0);
        let refused = eventually("the quota asks for limits", || async {
            let name = format!("p{}", count.fetch_add(1, Ordering::Relaxed));
            let refused = world.cluster.apply(&pods, &pod(&name), false).await.err()?;
            refused.to_string().contains("quota").then_some(refused)
        })
        .await;
        assert!(refused.is_race(), "{refused:?}");
    }

    /// Asks as a client that knows no aggregated discovery.
    #[tokio::test]
    async fn discovery_one_by_one_finds_what_aggregated_discovery_finds() {
        flotilla_testkit::install_tls_provider();
        let plane = shared_clusters(1).await.unwrap()[0];
        let client = plane.client().await.unwrap();
        let aggregated = KubeCluster::new(client.clone()).discover().await.unwrap();
        let plain = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
            let json = http::HeaderValue::from_static("application/json");
            request.headers_mut().insert(http::header::ACCEPT, json);
            let client = client.clone();
            async move { client.send(request).await }
        });
        let plain = KubeCluster::new(kube::Client::new(plain, "default"))
            .discover()
            .await
            .unwrap();
        // Other tests define kinds meanwhile.
        let own = |discovery: &Discovery| {
            let mut kinds: Vec<Resource> = discovery.iter().cloned().collect();
            kinds.retain(|kind| !kind.group.ends_with(".example.com"));
            kinds
        };
        assert!(own(&aggregated).len() > 50, "{}", own(&aggregated).len());
        assert_eq!(own(&plain), own(&aggregated));
    }
}
