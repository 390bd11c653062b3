//! What an agent does with a desired state, and what it costs.

use std::collections::BTreeMap;

use flotilla_proto::agent::v1::ObjectState;
use flotilla_testkit::{AuditFilter, AuditMark};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    rights::install,
    world::{World, config_map, start},
};

#[tokio::test]
async fn a_commit_is_applied_drift_corrected_and_a_restart_applies_nothing_again() {
    let mut world = World::new().await;
    let entry = world
        .offer(&[config_map("x", "1"), config_map("y", "1")], false)
        .await;
    world.until_ready(&entry).await;
    world.until_value("x", "1").await;

    world.edit("x", "hacked").await;
    world.until_value("x", "1").await;
    world
        .config_maps()
        .delete("y", &DeleteParams::default())
        .await
        .unwrap();
    world.until_value("y", "1").await;
    world
        .until("both are told, and by whom", |world| {
            let told = |text: &str| world.events.iter().any(|(_, message)| message.contains(text));
            told("changed by kubectl-edit at /data/a") && told("was deleted; created again")
        })
        .await;

    // A crash before the outcome is durable would let the object be looked at once more.
    world.agent.ledger.flush().await.unwrap();
    let mark = world.plane.audit().mark();
    world.agent = start(&world.agents, &world.own).await;
    world.units.clear();
    world.until_ready(&entry).await;
    // While it was away.
    world.edit("x", "hacked again").await;
    world.until_value("x", "1").await;
    let writes = AuditFilter::all()
        .after(mark)
        .resource("configmaps")
        .namespace(&world.namespace);
    let writes = world.plane.audit().requests(&writes).unwrap();
    let applied: Vec<_> = writes.iter().filter(|entry| entry.verb == "patch").collect();
    // The edit; then kubectl's fields folded into ours, and one correction.
    assert_eq!(applied.len(), 3, "{applied:?}");
    let deletes = writes.iter().filter(|entry| entry.verb == "delete").count();
    assert_eq!(deletes, 0);
}

#[tokio::test]
async fn wait_follows_a_deployment_until_it_is_ready() {
    let mut world = World::new().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]},
        }},
    });
    let entry = world.offer(std::slice::from_ref(&deployment), true).await;
    world.until_ready(&entry).await;
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let ready = api.get("web").await.unwrap().status.unwrap().ready_replicas;
    assert_eq!(ready, Some(2));
    world
        .until("its health is reported", |world| {
            world.objects["web"].health == "Current"
        })
        .await;
    // A status written by its controller, and defaults, are no drift.
    assert!(
        world.events.iter().all(|(reason, _)| reason != "DriftCorrected"),
        "{:?}",
        world.events
    );
}

#[tokio::test]
async fn definitions_and_their_objects_come_in_one_commit() {
    let mut world = World::new().await;
    let group = format!("{}.example.com", world.namespace);
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let widget = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"size": 1}});
    let entry = world.offer(&[widget, crd, config_map("x", "1")], false).await;
    world.until_ready(&entry).await;
    let path = format!("/apis/{group}/v1/namespaces/{}/widgets/w", world.namespace);
    assert_eq!(world.plane.get_json(&path).await.unwrap()["spec"]["size"], 1);
    assert!(
        world
            .events
            .iter()
            .all(|(reason, _)| reason == "ReconciliationSucceeded"),
        "{:?}",
        world.events
    );
}

#[tokio::test]
async fn what_kubectl_applied_is_taken_over_with_its_fields() {
    let mut world = World::new().await;
    let mut theirs = config_map("x", "old");
    theirs["data"]["stale"] = "1".into();
    theirs["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let params = PatchParams::apply("kubectl").force();
    world
        .config_maps()
        .patch("x", &params, &Patch::Apply(&theirs))
        .await
        .unwrap();
    let entry = world.offer(&[config_map("x", "1")], false).await;
    world.until_ready(&entry).await;
    let live = world.config_maps().get("x").await.unwrap();
    assert_eq!(
        live.data.unwrap(),
        BTreeMap::from([("a".to_owned(), "1".to_owned())])
    );
    let managers: Vec<String> = live
        .metadata
        .managed_fields
        .unwrap()
        .into_iter()
        .filter_map(|entry| entry.manager)
        .collect();
    assert_eq!(managers, ["flotilla"]);
    world
        .until("it is recorded", |world| world.objects["x"].adopted)
        .await;
}

#[tokio::test]
async fn what_leaves_the_commit_stays_in_the_cluster_and_is_shown() {
    let mut world = World::new().await;
    let first = world
        .offer(&[config_map("x", "1"), config_map("y", "1")], false)
        .await;
    world.until_ready(&first).await;
    let mark = world.plane.audit().mark();
    let second = world.offer(&[config_map("x", "1")], false).await;
    world.until_ready(&second).await;
    world
        .until("it is shown", |world| {
            world.objects["y"].state() == ObjectState::PendingRemoval
        })
        .await;
    assert!(world.value("y").await.is_some());
    world.written_up_to_now(mark).await;
    let of_agent = AuditFilter::all().after(mark).user(&world.user);
    let audit = world.plane.audit();
    assert!(
        audit.count(&of_agent).unwrap() > 0,
        "the agent is counted under this name"
    );
    let deletes = of_agent.verb("delete").verb("deletecollection");
    assert_eq!(audit.count(&deletes.namespace(&world.namespace)).unwrap(), 0);
}

#[tokio::test]
async fn a_refused_object_says_so_in_the_servers_words_and_the_rest_is_applied() {
    let mut world = World::new().await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"},
        "spec": {"ports": [{"port": 99999}]}});
    world.offer(&[service, config_map("x", "1")], false).await;
    world
        .until("it is told", |world| {
            world.units.values().any(|unit| {
                unit.reason == "ReconciliationFailed" && unit.message.contains("must be between 1 and 65535")
            })
        })
        .await;
    world.until_value("x", "1").await;
}

#[tokio::test]
async fn a_thousand_objects_cost_a_request_each_and_nothing_once_applied() {
    let mut world = World::new().await;
    let objects: Vec<Value> = (0..1000).map(|n| config_map(&format!("c{n}"), "1")).collect();
    let mark = world.plane.audit().mark();
    let entry = world.offer(&objects, false).await;
    world.until_ready(&entry).await;
    world
        .until("all are reported", |world| world.objects.len() == 1000)
        .await;
    let asked = world.asked(mark);
    let all: usize = asked.values().sum();
    assert!(all <= 1100, "{all} requests: {asked:?}");

    let mark = world.plane.audit().mark();
    world.edit("c500", "hacked").await;
    world
        .until("the edit is corrected", |world| {
            world.events.iter().any(|(reason, _)| reason == "DriftCorrected")
        })
        .await;
    // The watch is in order: whatever its thousand events had asked for would have come before this one's answer.
    let asked = |verb: &str, resource: &str, count| ((verb.to_owned(), resource.to_owned()), count);
    let expected = [
        asked("get", "configmaps", 1),
        // The editor's fields folded into ours, the correction.
        asked("patch", "configmaps", 2),
    ];
    let mut made = world.asked(mark);
    // The object is as it was, of which the ledger has nothing to keep. What the pass found last may become durable just
    // then, and begin another Secret with what it reads of smaller ones.
    let mut kept = |verb: &str| {
        made.remove(&(verb.to_owned(), "secrets".to_owned()))
            .unwrap_or_default()
    };
    let (updated, created, read) = (kept("update"), kept("create"), kept("get"));
    assert!(
        updated <= 2 && created <= 1 && read <= 8,
        "{updated}, {created} and {read}"
    );
    assert_eq!(made, BTreeMap::from(expected));
}

#[tokio::test]
async fn an_agent_of_one_namespace_watches_it_and_is_refused_nothing() {
    let mut world = World::new().await;
    let namespaces = vec![world.namespace.clone()];
    let tenant = format!(
        "{{profile: tenant, tenant: {{namespaces: [{}]}}}}",
        world.namespace
    );
    install(&mut world, &tenant, namespaces).await;

    let objects: Vec<Value> = (0..20).map(|n| config_map(&format!("c{n}"), "1")).collect();
    let entry = world.offer(&objects, false).await;
    world.until_ready(&entry).await;
    world.edit("c7", "hacked").await;
    world.until_value("c7", "1").await;
    world.written_up_to_now(AuditMark::default()).await;
    let filter = AuditFilter::all().user(&world.user);
    let requests = world.plane.audit().requests(&filter).unwrap();
    let patches = requests.iter().filter(|request| request.verb == "patch").count();
    assert!(
        patches > objects.len(),
        "each object and the correction: {patches}"
    );
    for request in requests {
        let code = request.response_status.as_ref().map(|status| status.code);
        assert_ne!(code, Some(403), "{request:?}");
    }
}
