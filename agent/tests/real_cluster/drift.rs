//! What drift is judged by, on objects as a real API server keeps them: managed fields of subresources, of
//! kubectl, and of whoever else writes.

use std::time::Duration;

use flotilla_agent::cluster::{Cluster as _, ClusterError, Resource, Served, kube::KubeCluster};
use flotilla_core::apply::{
    UNIT_LABEL,
    drift::{Judgement, Observation, Suspicion, confirm, judge, observe},
    failure::{Refusal, explain},
    inventory::{Record, Written},
    managers::fold,
    policy::Policy,
};
use flotilla_core::digest::Digest;
use flotilla_testkit::{shared_clusters, wait_until};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

const KEY: &[u8; 32] = &[7; 32];
const UNIT: &str = "00000000-0000-0000-0000-000000000001";

/// A Deployment that was applied.
struct Applied {
    cluster: KubeCluster,
    api: Api<Deployment>,
    resource: Resource,
    desired: Value,
    record: Record,
}

async fn applied() -> Applied {
    flotilla_testkit::install_tls_provider();
    let plane = shared_clusters(1).await.unwrap()[0];
    let (client, namespace) = (plane.client().await.unwrap(), plane.namespace().await.unwrap());
    let cluster = KubeCluster::new(client.clone());
    let discovery = cluster.discover().await.unwrap();
    let Served::Yes(resource) = discovery.find("apps/v1", "Deployment") else {
        panic!("Deployments are served")
    };
    let (resource, labels) = (resource.clone(), json!({"app": "web"}));
    let desired = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace, "labels": {UNIT_LABEL: UNIT}},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]},
            },
        },
    });
    let live = cluster.apply(&resource, &desired, false).await.unwrap();
    let written = Written {
        api_version: "apps/v1".into(),
        sent: Digest::of("test", b"1"),
        policy: Policy::default(),
        response: observe(&live, KEY),
    };
    Applied {
        cluster,
        api: Api::namespaced(client, &namespace),
        resource,
        desired,
        record: Record::written(None, written),
    }
}

fn manager(name: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(name.to_owned()),
        ..PatchParams::default()
    }
}

impl Applied {
    async fn patch(&self, by: &str, patch: Value) {
        let patch = Patch::Strategic(patch);
        self.api.patch("web", &manager(by), &patch).await.unwrap();
    }

    async fn live(&self) -> Value {
        let namespace = self.desired["metadata"]["namespace"].as_str().unwrap();
        let live = self.cluster.get(&self.resource, namespace, "web").await.unwrap();
        live.unwrap()
    }

    async fn dry_run(&self) -> Value {
        self.cluster
            .apply(&self.resource, &self.desired, true)
            .await
            .unwrap()
    }

    async fn observed(&self) -> Observation {
        observe(&self.live().await, KEY)
    }

    fn judge(&self, live: &Observation) -> Judgement {
        judge(&self.record, Some(live))
    }
}

fn restart(more: Value) -> Value {
    let mut patch = json!({"spec": {"template": {"metadata": {"annotations": {
        "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
    }}}}});
    patch["spec"]
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    patch
}

#[tokio::test]
async fn a_rollout_restart_is_no_drift_and_survives_what_else_kubectl_did() {
    let world = applied().await;
    world.patch("kubectl-rollout", restart(json!({}))).await;
    assert_eq!(world.judge(&world.observed().await), Judgement::InSync);

    world
        .patch("kubectl-rollout", restart(json!({"paused": true})))
        .await;
    let live = world.live().await;
    assert_eq!(
        world.judge(&observe(&live, KEY)),
        Judgement::Suspicious(Suspicion::Applied("kubectl-rollout".into()))
    );
    // The Deployment's controller writes as well: a fold of what has changed since is a conflict.
    wait_until("the managers are folded", Duration::from_secs(30), async || {
        let live = world.live().await;
        let namespace = live["metadata"]["namespace"].as_str().unwrap();
        let folding = Value::Array(fold(&live["metadata"]));
        let patch = world
            .cluster
            .patch_metadata(&world.resource, namespace, "web", &folding);
        match patch.await {
            Ok(_) => Ok(Some(())),
            Err(ClusterError::Rejected { code: 409, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
    .unwrap();
    let after = world
        .cluster
        .apply(&world.resource, &world.desired, false)
        .await
        .unwrap();
    assert!(after["spec"].get("paused").is_none(), "{after}");
    let annotations = &after["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(
        annotations["kubectl.kubernetes.io/restartedAt"],
        "2026-01-01T00:00:00Z"
    );
    assert!(observe(&after, KEY).folded.is_empty());
}

#[tokio::test]
async fn who_scales_through_the_subresource_is_named() {
    let world = applied().await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    world
        .api
        .patch_scale("web", &manager("horizontal-pod-autoscaler"), &scale)
        .await
        .unwrap();
    let live = world.live().await;
    assert_eq!(
        world.judge(&observe(&live, KEY)),
        Judgement::Suspicious(Suspicion::Fields)
    );
    let drift = confirm(&live, &world.dry_run().await).expect("drift");
    assert_eq!(drift.paths, ["/spec/replicas"]);
    assert_eq!(drift.manager.as_deref(), Some("horizontal-pod-autoscaler"));
}

#[tokio::test]
async fn what_others_change_between_look_and_dry_run_is_no_drift() {
    let world = applied().await;
    let looked = world.live().await;
    let injected = json!({
        "metadata": {"annotations": {"example.com/theirs": "1"}, "labels": {"theirs": "1"}},
        "spec": {"minReadySeconds": 7, "template": {"spec": {"containers": [
            {"name": "injected", "image": "example.com/proxy:1"},
        ]}}},
    });
    world.patch("injector", injected).await;
    assert_eq!(confirm(&looked, &world.dry_run().await), None);
    assert_eq!(world.judge(&world.observed().await), Judgement::InSync);
    // A field of ours is found among theirs.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "x:2"}]}}}});
    world.patch("injector", image).await;
    let live = world.live().await;
    let containers = live["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let app = containers.iter().position(|c| c["name"] == "app").unwrap();
    let drift = confirm(&live, &world.dry_run().await).expect("drift");
    assert_eq!(
        drift.paths,
        [format!("/spec/template/spec/containers/{app}/image")]
    );
    assert_eq!(drift.manager.as_deref(), Some("injector"));
}

#[tokio::test]
async fn a_mark_of_nobody_is_drift_like_any_other_label() {
    let world = applied().await;
    let stray = "00000000-0000-0000-0000-000000000000";
    world
        .patch("lens", json!({"metadata": {"labels": {UNIT_LABEL: stray}}}))
        .await;
    let live = world.live().await;
    let seen = observe(&live, KEY);
    assert!(seen.mark.as_ref().is_some_and(|mark| mark.is(stray)));
    assert_eq!(world.judge(&seen), Judgement::Suspicious(Suspicion::Fields));
    let drift = confirm(&live, &world.dry_run().await).expect("drift");
    assert_eq!(drift.paths, ["/metadata/labels/fleet.flotilla.dev~1unit"]);
}

#[tokio::test]
async fn a_switch_on_the_live_object_leaves_nothing_to_suspect() {
    let world = applied().await;
    let pause = json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}});
    world.patch("kubectl-annotate", pause).await;
    world
        .patch("kubectl-edit", json!({"spec": {"replicas": 9}}))
        .await;
    assert_eq!(world.judge(&world.observed().await), Judgement::InSync);
    let resume = json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": null}}});
    world.patch("kubectl-annotate", resume).await;
    assert!(matches!(
        world.judge(&world.observed().await),
        Judgement::Suspicious(_)
    ));
}

#[tokio::test]
async fn a_refused_change_of_a_job_says_its_cause_and_what_to_do() {
    let Applied { cluster, desired, .. } = applied().await;
    let discovery = cluster.discover().await.unwrap();
    let Served::Yes(resource) = discovery.find("batch/v1", "Job") else {
        panic!("Jobs are served")
    };
    let job = |image: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "migrate", "namespace": desired["metadata"]["namespace"]},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "app", "image": image}],
            }}},
        })
    };
    cluster
        .apply(resource, &job("example.com/app:1"), false)
        .await
        .unwrap();
    let refused = cluster.apply(resource, &job("example.com/app:2"), false).await;
    let Err(ClusterError::Rejected {
        code,
        reason,
        message,
    }) = refused
    else {
        panic!("{refused:?}")
    };
    let refusal = Refusal {
        code,
        reason: &reason,
        message: &message,
    };
    let text = explain(refusal, false, Policy::default());
    assert!(message.len() > 1000, "the server quotes the template: {message}");
    assert!(text.len() < 400, "{text}");
    assert!(
        text.contains("spec.template: Invalid value: …: field is immutable; a field cannot be changed"),
        "{text}"
    );
}
