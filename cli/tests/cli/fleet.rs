//! A small fleet for tests.

use flotilla_proto::fleet::v1::{Cluster, Condition, Resource, ResourceRef, Unit};
use serde_json::json;

use crate::hub::NOW_MS;

pub(crate) const REVISION: &str = "main@sha1:696f056df216eea4f9401adbee0ff744d4df390f";

pub(crate) fn reference(kind: &str, namespace: &str, name: &str) -> ResourceRef {
    let group = if kind == "GitRepository" {
        "source.toolkit.fluxcd.io"
    } else {
        "kustomize.toolkit.fluxcd.io"
    };
    ResourceRef {
        scope: String::new(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn condition(status: &str, message: &str) -> Condition {
    Condition {
        r#type: "Ready".to_owned(),
        status: status.to_owned(),
        reason: "ReconciliationSucceeded".to_owned(),
        message: message.to_owned(),
        since_ms: NOW_MS,
    }
}

pub(crate) fn resource(kind: &str, namespace: &str, name: &str, status: &str, message: &str) -> Resource {
    let object =
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}});
    Resource {
        r#ref: Some(reference(kind, namespace, name)),
        json: object.to_string(),
        revision: REVISION.to_owned(),
        conditions: vec![condition(status, message)],
        created_at_ms: NOW_MS - 3 * 86_400_000,
        ..Default::default()
    }
}

pub(crate) fn resources() -> Vec<Resource> {
    let mut paused = resource(
        "Kustomization",
        "flux-system",
        "paused",
        "True",
        "Applied revision: main@sha1:696f056d",
    );
    paused.suspended = true;
    let fresh = Resource {
        conditions: Vec::new(),
        revision: String::new(),
        ..resource("Kustomization", "team-a", "fresh", "", "")
    };
    vec![
        resource(
            "GitRepository",
            "flux-system",
            "fleet",
            "True",
            "stored artifact for revision 'main@sha1:696f056d'",
        ),
        resource(
            "Kustomization",
            "flux-system",
            "apps",
            "False",
            "2/3 applied; c3: Deployment/web: image not found",
        ),
        paused,
        fresh,
    ]
}

pub(crate) fn cluster(name: &str, connected: bool) -> Cluster {
    Cluster {
        name: name.to_owned(),
        id: format!("id-of-{name}"),
        state: "Active".to_owned(),
        labels: [
            ("env".to_owned(), "prod".to_owned()),
            ("region".to_owned(), "eu".to_owned()),
        ]
        .into(),
        variables: [("replicas".to_owned(), "3".to_owned())].into(),
        connected,
        last_seen_ms: NOW_MS - if connected { 2_000 } else { 300_000 },
        agent_version: "v0.1.0".to_owned(),
        kube_version: "v1.33.1".to_owned(),
        desired_generation: 7,
        accepted_generation: if connected { 7 } else { 5 },
        units: 2,
        units_ready: if connected { 2 } else { 1 },
        message: String::new(),
    }
}

pub(crate) fn unit(cluster: &str, ready: &str) -> Unit {
    Unit {
        id: format!("unit-on-{cluster}"),
        app: Some(reference("Kustomization", "flux-system", "apps")),
        cluster: cluster.to_owned(),
        state: "Active".to_owned(),
        target_revision: REVISION.to_owned(),
        applied_revision: REVISION.to_owned(),
        ready: ready.to_owned(),
        message: "Applied revision: main@sha1:696f056d".to_owned(),
        cause: "commit".to_owned(),
        observed_at_ms: NOW_MS - 4_000,
        objects: 12,
        health: "Healthy".to_owned(),
        ..Default::default()
    }
}
