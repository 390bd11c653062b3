//! What becomes of the objects that an app renders: most are sent to the cluster, those of Flux and of Flotilla are kept by
//! the hub, and Flux's own controllers are left out. Decided object by object, before any variable is put in.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kind::{FLEET, Kind};

/// The group of Flux's extension kinds.
const EXTENSIONS: &str = "source.extensions.fluxcd.io";
/// The group of flux-operator's kinds.
const OPERATOR: &str = "fluxcd.controlplane.io";
/// Flux's controllers, as their Deployments and Services are named.
const CONTROLLERS: [&str; 7] = [
    "source-controller",
    "kustomize-controller",
    "helm-controller",
    "notification-controller",
    "image-reflector-controller",
    "image-automation-controller",
    "source-watcher",
];
const SERVICES: [&str; 1] = ["webhook-receiver"];
const POLICIES: [&str; 3] = ["allow-egress", "allow-scraping", "allow-webhooks"];
const QUOTA: &str = "critical-pods";
/// Fields by which kept objects name ConfigMaps and Secrets of their namespace, with the kind where it is not said.
const NAMES: [(&[&str], Option<&str>); 6] = [
    (&["spec", "postBuild", "substituteFrom"], None),
    (&["spec", "valuesFrom"], None),
    (&["spec", "secretRef"], Some("Secret")),
    (&["spec", "certSecretRef"], Some("Secret")),
    (&["spec", "proxySecretRef"], Some("Secret")),
    (&["spec", "verify", "secretRef"], Some("Secret")),
];

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent.
    Send,
    /// It is kept by the hub, and sent to no cluster.
    Keep,
    /// It is sent, and kept as well: what is kept names it.
    Both,
    /// It belongs to Flux itself, which the hub and the agent stand for: it is neither.
    LeaveOut,
}

/// Decides of each of these objects, in their order.
pub fn fates<'a>(objects: impl Iterator<Item = &'a Value> + Clone) -> Vec<Fate> {
    let named: BTreeSet<(&str, &str, &str)> = objects
        .clone()
        .filter(|object| fate(object) == Fate::Keep)
        .flat_map(named)
        .collect();
    let decided = objects.map(|object| match fate(object) {
        Fate::Send if is_named(object, &named) => Fate::Both,
        fate => fate,
    });
    decided.collect()
}

fn is_named(object: &Value, named: &BTreeSet<(&str, &str, &str)>) -> bool {
    object["apiVersion"] == "v1"
        && named.contains(&(
            text(object, &["kind"]),
            text(object, &["metadata", "namespace"]),
            text(object, &["metadata", "name"]),
        ))
}

/// The ConfigMaps and Secrets that an object names: kind, namespace, name.
fn named(object: &Value) -> Vec<(&str, &str, &str)> {
    let namespace = text(object, &["metadata", "namespace"]);
    let mut found = Vec::new();
    for (path, kind) in NAMES {
        let value = path.iter().fold(object, |value, field| &value[*field]);
        let each = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for one in each {
            let kind = kind.unwrap_or_else(|| text(one, &["kind"]));
            let name = text(one, &["name"]);
            if !name.is_empty() && matches!(kind, "ConfigMap" | "Secret") {
                found.push((kind, namespace, name));
            }
        }
    }
    found
}

fn fate(object: &Value) -> Fate {
    let api_version = text(object, &["apiVersion"]);
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = text(object, &["kind"]);
    if group == OPERATOR && matches!(kind, "FluxInstance" | "FluxReport") || is_of_flux(group, kind, object) {
        return Fate::LeaveOut;
    }
    let is_kept = Kind::is_configuration_group(group) || [EXTENSIONS, OPERATOR, FLEET].contains(&group);
    match is_kept {
        true => Fate::Keep,
        false => Fate::Send,
    }
}

/// Whether an object is a definition of Flux's kinds, or a part of what runs and guards its controllers. Its Namespace, its
/// ServiceAccounts and their rights are not: what is applied may use them.
fn is_of_flux(group: &str, kind: &str, object: &Value) -> bool {
    if group == "apiextensions.k8s.io" && kind == "CustomResourceDefinition" {
        let defined = text(object, &["spec", "group"]);
        return defined.ends_with(".toolkit.fluxcd.io") || [EXTENSIONS, OPERATOR].contains(&defined);
    }
    let labels = ["metadata", "labels", "app.kubernetes.io/part-of"];
    if text(object, &labels) != "flux" {
        return false;
    }
    let name = text(object, &["metadata", "name"]);
    match (group, kind) {
        ("apps", "Deployment") => CONTROLLERS.contains(&name),
        ("", "Service") => CONTROLLERS.contains(&name) || SERVICES.contains(&name),
        ("networking.k8s.io", "NetworkPolicy") => POLICIES.contains(&name),
        ("", "ResourceQuota") => name.starts_with(QUOTA),
        _ => false,
    }
}

fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    let value = path.iter().fold(object, |value, field| &value[*field]);
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(api_version: &str, kind: &str, name: &str) -> Value {
        json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": "flux-system" } })
    }

    fn of_flux(api_version: &str, kind: &str, name: &str) -> Value {
        let mut object = object(api_version, kind, name);
        object["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "flux" });
        object
    }

    #[test]
    fn kinds_of_flux_and_of_the_fleet_are_kept_and_all_others_sent() {
        let kept = [
            object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "a"),
            object("source.toolkit.fluxcd.io/v1", "GitRepository", "a"),
            object("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a"),
            object("source.extensions.fluxcd.io/v1beta1", "ArtifactGenerator", "a"),
            object("fluxcd.controlplane.io/v1", "ResourceSet", "a"),
            object("fleet.flotilla.dev/v1alpha1", "Placement", "a"),
        ];
        assert!(fates(kept.iter()).iter().all(|fate| *fate == Fate::Keep));
        let sent = [
            object("v1", "ConfigMap", "a"),
            object("apps/v1", "Deployment", "source-controller"),
            object("flagger.app/v1beta1", "Canary", "a"),
            json!({ "kind": 1 }),
        ];
        assert!(fates(sent.iter()).iter().all(|fate| *fate == Fate::Send));
    }

    #[test]
    fn the_controllers_of_gotk_components_are_left_out_object_by_object_and_their_accounts_are_not() {
        let mut definition = object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "buckets.source.toolkit.fluxcd.io",
        );
        definition["spec"] = json!({ "group": "source.toolkit.fluxcd.io" });
        let left = [
            definition,
            of_flux("apps/v1", "Deployment", "source-controller"),
            of_flux("v1", "Service", "webhook-receiver"),
            of_flux("networking.k8s.io/v1", "NetworkPolicy", "allow-egress"),
            of_flux("v1", "ResourceQuota", "critical-pods-flux-system"),
            object("fluxcd.controlplane.io/v1", "FluxInstance", "flux"),
        ];
        assert!(fates(left.iter()).iter().all(|fate| *fate == Fate::LeaveOut));
        let applied = [
            of_flux("v1", "Namespace", "flux-system"),
            of_flux("v1", "ServiceAccount", "source-controller"),
            of_flux(
                "rbac.authorization.k8s.io/v1",
                "ClusterRole",
                "crd-controller-flux-system",
            ),
            of_flux("apps/v1", "Deployment", "podinfo"),
        ];
        assert!(fates(applied.iter()).iter().all(|fate| *fate == Fate::Send));
    }

    #[test]
    fn what_a_kept_object_names_is_sent_and_kept_as_well_and_of_its_own_namespace_alone() {
        let mut app = object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "apps");
        app["spec"] = json!({ "postBuild": { "substituteFrom": [
            { "kind": "ConfigMap", "name": "vars" }, { "kind": "Secret", "name": "keys" },
        ] } });
        let mut source = object("source.toolkit.fluxcd.io/v1", "GitRepository", "repo");
        source["spec"] = json!({ "secretRef": { "name": "login" } });
        let mut elsewhere = object("v1", "ConfigMap", "vars");
        elsewhere["metadata"]["namespace"] = json!("other");
        let objects = [
            object("v1", "ConfigMap", "vars"),
            app,
            object("v1", "Secret", "keys"),
            source,
            object("v1", "Secret", "login"),
            object("v1", "ConfigMap", "login"),
            elsewhere,
        ];
        use Fate::{Both, Keep, Send};
        assert_eq!(fates(objects.iter()), [Both, Keep, Both, Keep, Both, Send, Send]);
    }
}
