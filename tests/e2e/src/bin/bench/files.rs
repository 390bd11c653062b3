//! The repository and the resources of the three clusters.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::three::CLUSTERS;

pub(crate) fn marker(app: &str, value: &str) -> String {
    config_map(&format!("{app}-marker"), app, &[("value", value)])
}

fn config_map(name: &str, set: &str, data: &[(&str, &str)]) -> String {
    let data: BTreeMap<&str, &str> = data.iter().copied().collect();
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "set": set } }, "data": data
    });
    object.to_string()
}

fn deployment(name: &str) -> String {
    let labels = json!({ "app": name });
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "web", "image": "registry.example.com/team/web:1" }] } } }
    });
    object.to_string()
}

/// Four apps in one repository: one object; 50 for drift; 131; 1,000, every other a Deployment.
pub(crate) fn first_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n";
    let filler = "x".repeat(1200);
    for (app, count) in [("small", 1), ("drift", 51), ("wide", 131), ("thousand", 1000)] {
        let mut resources = vec!["marker.yaml".to_owned(), "rest.yaml".to_owned()];
        files.push((format!("{app}/marker.yaml"), marker(app, "first")));
        let mut rest: Vec<String> = (0..count - 1)
            .map(|number| {
                let name = format!("{app}-{number}");
                match app {
                    "drift" => config_map(&name, app, &[("k0", "x"), ("k1", "x"), ("k2", "x"), ("k3", "x")]),
                    "wide" => config_map(&name, app, &[("value", &filler)]),
                    "thousand" if number % 2 == 0 => deployment(&name),
                    _ => config_map(&name, app, &[("value", "x")]),
                }
            })
            .collect();
        if app == "small" {
            rest.push(namespace.to_owned());
        }
        if rest.is_empty() {
            resources.pop();
        } else {
            files.push((format!("{app}/rest.yaml"), rest.join("\n---\n")));
        }
        let kustomization = json!({ "namespace": "bench", "resources": resources });
        files.push((format!("{app}/kustomization.yaml"), kustomization.to_string()));
    }
    files
}

pub(crate) fn configuration(url: &str) -> String {
    let mut objects: Vec<Value> = vec![
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hook", "namespace": "flux-system" }, "stringData": { "token": "shared" } }),
        json!({ "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": { "name": "apps", "namespace": "flux-system" },
            "spec": { "url": url, "interval": "1h", "ref": { "branch": "main" } } }),
        json!({ "apiVersion": "notification.toolkit.fluxcd.io/v1", "kind": "Receiver", "metadata": { "name": "push", "namespace": "flux-system" },
            "spec": { "type": "generic-hmac", "secretRef": { "name": "hook" }, "resources": [{ "kind": "GitRepository", "name": "apps" }] } }),
    ];
    objects.extend((0..CLUSTERS).map(|index| {
        json!({ "apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Cluster", "metadata": { "name": format!("c{index}"), "labels": { "env": "bench", "one": format!("bench-{index}") } }, "spec": {} })
    }));
    documents(&objects)
}

/// `env` chooses the clusters: `bench` all, `bench-0` the first.
pub(crate) fn app_and_placement(app: &str, env: &str) -> String {
    let label = if env == "bench" { "env" } else { "one" };
    documents(&[
        json!({ "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": { "name": app, "namespace": "flux-system" },
            "spec": { "interval": "1h", "prune": true, "path": format!("./{app}"), "sourceRef": { "kind": "GitRepository", "name": "apps" } } }),
        json!({ "apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Placement", "metadata": { "name": app },
            "spec": { "apps": [{ "kind": "Kustomization", "name": app, "namespace": "flux-system" }],
                "clusters": { "selector": { "matchLabels": { label: env } } } } }),
    ])
}

pub(crate) fn documents(objects: &[Value]) -> String {
    objects
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join("\n---\n")
}
