//! What an agent does when a real API server does not do as asked, in the words and with the timing that only a
//! real one has.

use std::time::Duration;

use flotilla_proto::agent::v1::{ObjectState, Readiness};
use flotilla_testkit::{AuditFilter, Component, ControlPlane, ControlPlaneOptions};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::{World, config_map};

/// A control plane that only this test breaks. It ends with the process.
async fn own_plane(name: &str) -> World {
    flotilla_testkit::install_tls_provider();
    let plane = ControlPlane::start(ControlPlaneOptions::named(name))
        .await
        .unwrap();
    World::over(Box::leak(Box::new(plane))).await
}

fn objects(count: usize, value: &str) -> Vec<Value> {
    (0..count).map(|n| config_map(&format!("c{n}"), value)).collect()
}

pub(crate) fn told(world: &World, text: &str) -> bool {
    world.units.values().any(|unit| unit.message.contains(text))
}

pub(crate) async fn apply(world: &World, object: &Value) {
    let types = (
        object["apiVersion"].as_str().unwrap(),
        object["kind"].as_str().unwrap(),
    );
    let (group, version) = types.0.split_once('/').unwrap_or(("", types.0));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, types.1));
    let api: Api<DynamicObject> = Api::all_with(world.client.clone(), &resource);
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("test").force();
    api.patch(name, &params, &Patch::Apply(object)).await.unwrap();
}

/// A webhook that nobody serves, for some kinds of two namespaces.
pub(crate) fn dead_webhook(world: &World, resources: &[&str]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("dead-{}", world.own)},
        "webhooks": [{
            "name": "dead.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 1,
            "clientConfig": {"url": "https://127.0.0.1:9/"},
            "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name",
                "operator": "In", "values": [world.namespace, world.own]}]},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": resources}],
        }],
    })
}

pub(crate) async fn remove_webhook(world: &World) {
    let kind = GroupVersionKind::gvk(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
    );
    let api: Api<DynamicObject> = Api::all_with(world.client.clone(), &ApiResource::from_gvk(&kind));
    let name = format!("dead-{}", world.own);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn r14_an_api_server_that_goes_away_is_waited_for_and_watches_go_on_where_they_were() {
    let mut world = own_plane("restart").await;
    let first = world.offer(&objects(20, "1"), false).await;
    world.until_ready(&first).await;
    world.plane.process(Component::ApiServer).unwrap().kill();
    world.agent.ask(world.id);
    world
        .until("the silence is told and is no failure yet", |world| {
            world
                .units
                .values()
                .any(|unit| unit.ready() == Readiness::Unknown)
        })
        .await;
    world.plane.restart(Component::ApiServer).await.unwrap();
    let mark = world.plane.audit().mark();
    world.edit("c7", "hacked").await;
    world.until_value("c7", "1").await;
    let patches = AuditFilter::all()
        .after(mark)
        .user(&world.user)
        .verb("patch")
        .namespace(&world.namespace);
    world.written_up_to_now(mark).await;
    let patches = world.plane.audit().requests(&patches).unwrap();
    assert!(!patches.is_empty(), "the correction is among what is counted");
    for request in patches {
        let name = request.object_ref.map(|object| object.name);
        assert_eq!(name.as_deref(), Some("c7"), "nothing else is applied again");
    }
}

#[tokio::test]
async fn r15_a_store_that_is_full_is_told_in_its_words_and_recovered_from() {
    let mut world = own_plane("full").await;
    let first = world.offer(&objects(3, "1"), false).await;
    world.until_ready(&first).await;
    world.plane.set_etcd_full(true).await.unwrap();
    // Acceptance itself cannot be stored: the hub is told no, and what is held stays in force.
    let second = world.prepare(&objects(3, "2"), false);
    let refused = world.try_offer(&second).await.unwrap_err();
    assert!(refused.contains("database space exceeded"), "{refused}");
    world.plane.set_etcd_full(false).await.unwrap();
    world.try_offer(&second).await.unwrap();
    world.until_ready(&second).await;
    world.until_value("c1", "2").await;
}

/// Waits until a webhook is in force for a kind, or is no more: the API server takes its configuration up later.
pub(crate) async fn until_in_force(world: &World, namespace: &str, kind: &str, wanted: bool) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &resource);
    let probe = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "probe"}});
    let params = PatchParams::apply("test").force().dry_run();
    flotilla_testkit::wait_until("the webhook is taken up", Duration::from_secs(30), async || {
        let answer = api.patch("probe", &params, &Patch::Apply(&probe)).await;
        Ok::<_, String>((answer.is_err() == wanted).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn r18_a_webhook_that_fails_closed_is_named_and_recovered_from() {
    let mut world = World::new().await;
    let first = world.offer(&objects(3, "1"), false).await;
    world.until_ready(&first).await;
    apply(&world, &dead_webhook(&world, &["configmaps"])).await;
    until_in_force(&world, &world.namespace, "ConfigMap", true).await;
    let second = world.offer(&objects(3, "2"), false).await;
    world
        .until("the webhook is named", |world| told(world, "dead.example.com"))
        .await;
    remove_webhook(&world).await;
    world.until_ready(&second).await;
}

#[tokio::test]
async fn r18_a_webhook_that_fails_closed_for_the_agents_own_state_refuses_news_and_is_recovered_from() {
    let mut world = World::new().await;
    let first = world.offer(&objects(3, "1"), false).await;
    world.until_ready(&first).await;
    apply(&world, &dead_webhook(&world, &["secrets"])).await;
    until_in_force(&world, &world.own, "Secret", true).await;
    let second = world.prepare(&objects(3, "2"), false);
    let refused = world.try_offer(&second).await.unwrap_err();
    assert!(refused.contains("dead.example.com"), "{refused}");
    assert_eq!(world.value("c1").await.as_deref(), Some("1"));
    remove_webhook(&world).await;
    until_in_force(&world, &world.own, "Secret", false).await;
    world.try_offer(&second).await.unwrap();
    world.until_ready(&second).await;
}

#[tokio::test]
async fn a_conversion_webhook_that_is_down_fails_its_kind_alone() {
    let mut world = World::new().await;
    let group = format!("{}.example.com", world.namespace);
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"},
            "versions": [version("v1", true), version("v2", false)],
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://127.0.0.1:9/"}}}},
    });
    let widget = json!({"apiVersion": format!("{group}/v2"), "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"size": 1}});
    world.offer(&[crd, widget, config_map("x", "1")], false).await;
    world
        .until("it is named", |world| told(world, "conversion webhook"))
        .await;
    world.until_value("x", "1").await;
    assert_eq!(world.objects["w"].state(), ObjectState::Failed);
}

#[tokio::test]
async fn r20_nothing_is_created_in_a_namespace_that_is_being_deleted_and_what_holds_it_is_told() {
    let mut world = World::new().await;
    let first = world.offer(&objects(3, "1"), false).await;
    world.until_ready(&first).await;
    let hold = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "hold", "finalizers": ["example.com/hold"]}});
    let params = PatchParams::apply("test").force();
    world
        .config_maps()
        .patch("hold", &params, &Patch::Apply(&hold))
        .await
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .unwrap();
    world
        .until("what holds it is told", |world| told(world, "example.com/hold"))
        .await;
    assert!(told(&world, "is being deleted"), "{:?}", world.units);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world
        .config_maps()
        .patch("hold", &PatchParams::default(), &patch)
        .await
        .unwrap();
    flotilla_testkit::wait_until("the namespace is gone", Duration::from_secs(60), async || {
        let found = namespaces.get_opt(&world.namespace).await;
        Ok::<_, String>(matches!(found, Ok(None)).then_some(()))
    })
    .await
    .unwrap();
}
