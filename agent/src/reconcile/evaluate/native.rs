//! What Kubernetes' own types make of a manifest before they apply it, where server-side apply makes something else of
//! the text: for apply, a field that is `null` is one that we own, and two entries of a list that differ in a defaulted
//! key are two. Flux reads objects of these kinds through their types, so that neither reaches the API server.

use serde_json::{Map, Value};

/// Groups whose kinds have types in every Kubernetes client. Definitions are none of them: a schema may say `null`.
const GROUPS: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Maps of texts: an entry without a value is an empty text there, and no entry that is missing.
const TEXTS: &[&str] = &[
    "annotations",
    "data",
    "labels",
    "matchLabels",
    "nodeSelector",
    "stringData",
];

/// Brings an object of a native kind into the form that its type has. Others stay as they are.
pub(super) fn normalise(value: &mut Value) {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind").to_owned());
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    // Its data are another object, of whatever kind.
    if !GROUPS.contains(&group) || kind == "ControllerRevision" {
        return;
    }
    let group = group.to_owned();
    drop_nulls(value);
    match (group.as_str(), kind.as_str()) {
        ("", "Service") => at(value, &["spec"]).into_iter().for_each(default_protocols),
        ("", "Pod") => default_container_protocols(at(value, &["spec"])),
        ("", "PodTemplate") => default_container_protocols(at(value, &["template", "spec"])),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => default_container_protocols(at(value, &["spec", "template", "spec"])),
        ("batch", "CronJob") => {
            default_container_protocols(at(value, &["spec", "jobTemplate", "spec", "template", "spec"]));
        }
        _ => {}
    }
}

/// A field without a value is not ours: whoever sets it, an autoscaler or a webhook, keeps it.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            for (name, field) in fields {
                match field.as_object_mut().filter(|_| TEXTS.contains(&name.as_str())) {
                    Some(texts) => empty_nulls(texts),
                    None => drop_nulls(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn empty_nulls(texts: &mut Map<String, Value>) {
    for text in texts.values_mut().filter(|text| text.is_null()) {
        *text = "".into();
    }
}

/// The value at a path; nothing is inserted on the way.
pub(super) fn at<'a>(mut value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    for field in path {
        value = value.get_mut(*field)?;
    }
    Some(value)
}

/// Ports are listed by number and protocol: one without is another than the one that the server makes of it.
fn default_protocols(holder: &mut Value) {
    let ports = holder.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        let protocol = port.entry("protocol").or_insert(Value::Null);
        if protocol.is_null() || *protocol == "" {
            *protocol = "TCP".into();
        }
    }
}

fn default_container_protocols(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    for field in ["containers", "initContainers"] {
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(default_protocols);
    }
}
