//! The objects of a thousand apps, and the time that a bare loop needs to apply them.

use std::time::Instant;

use flotilla_core::apply::UNIT_LABEL;
use flotilla_testkit::ControlPlane;
use futures::{TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::files;

/// As many as the agent may have to one API server.
pub(crate) const IN_FLIGHT: usize = 32;
/// Kinds of each app's objects, in the order in which they are applied.
const KINDS: [(&str, &str, &str); 4] = [
    ("", "v1", "ServiceAccount"),
    ("", "v1", "Service"),
    ("apps", "v1", "Deployment"),
    ("networking.k8s.io", "v1", "Ingress"),
];

/// The objects of one app.
fn objects(app: usize, image: &str) -> [Value; 4] {
    let name = format!("app-{app}");
    let labels = json!({"app": name});
    let meta = json!({"name": name, "labels": labels});
    let backend = json!({"service": {"name": name, "port": {"number": 80}}});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"serviceAccountName": name, "containers": [{"name": "web", "image": image,
                "ports": [{"containerPort": 8080}], "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}]}}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": {"rules": [{
            "host": format!("{name}.example.org"),
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}),
    ]
}

pub(crate) fn image(value: &str) -> String {
    format!("registry.example.com/team/web:{value}")
}

pub(crate) fn file(app: usize, value: &str) -> (String, String) {
    let documents = files::documents(&objects(app, &image(value)));
    (format!("apps/{app}/all.yaml"), documents)
}

/// Seconds from the first write to the last of a bare loop of server-side applies of the same objects, with labels as
/// who prunes writes them.
pub(crate) async fn bare(plane: &ControlPlane, apps: usize) -> anyhow::Result<f64> {
    let (client, namespace) = (plane.client().await?, plane.namespace().await?);
    let apis = KINDS.map(|(group, version, kind)| {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &kind)
    });
    let began = Instant::now();
    stream::iter((0..apps).flat_map(|app| {
        let objects = objects(app, &image("first"));
        objects.into_iter().zip(&apis).map(anyhow::Ok)
    }))
    .try_for_each_concurrent(IN_FLIGHT, |(mut object, api)| async move {
        for label in [
            "kustomize.toolkit.fluxcd.io/name",
            "kustomize.toolkit.fluxcd.io/namespace",
            UNIT_LABEL,
        ] {
            object["metadata"]["labels"][label] = json!("app");
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("bare").force();
        api.patch(name, &params, &Patch::Apply(&object)).await?;
        Ok(())
    })
    .await?;
    let took = began.elapsed().as_secs_f64();
    for api in &apis {
        api.delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
    }
    Ok(took)
}

/// The image of a Deployment's container.
pub(crate) fn image_of(object: &Deployment) -> Option<&String> {
    let spec = object.spec.as_ref()?.template.spec.as_ref()?;
    spec.containers.first()?.image.as_ref()
}
