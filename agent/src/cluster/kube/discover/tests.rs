use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::*;
use crate::cluster::Served;

/// A server that answers each path with one document, and what it was asked.
fn server(
    answer: impl Fn(&str, Option<&str>) -> (u16, Value) + Send + Sync + 'static,
) -> (KubeCluster, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let paths = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let tag = request.headers().get(header::IF_NONE_MATCH);
        let (status, document) = answer(&path, tag.and_then(|tag| tag.to_str().ok()));
        paths.lock().expect("no panic").push(path);
        let response = Response::builder()
            .status(status)
            .header(header::ETAG, "\"one\"")
            .body(Body::from(document.to_string().into_bytes()));
        std::future::ready(response)
    });
    (KubeCluster::new(Client::new(service, "default")), asked)
}

fn aggregated(groups: Value) -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups})
}

fn core() -> Value {
    aggregated(
        json!([{"metadata": {}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
            {"resource": "pods", "responseKind": {"group": "", "version": "", "kind": "Pod"}, "scope": "Namespaced",
                "verbs": ["create", "get", "list", "watch"], "subresources": [{"subresource": "log", "verbs": ["get"]}]},
            {"resource": "componentstatuses", "responseKind": {"kind": "ComponentStatus"}, "scope": "Cluster",
                "verbs": ["get", "list"]},
            {"resource": "bindings", "responseKind": {"kind": "Binding"}, "scope": "Namespaced", "verbs": ["create"]},
            {"resource": "odd", "responseKind": null, "scope": "Cluster", "verbs": null},
        ]}]}]),
    )
}

#[tokio::test]
async fn aggregated_discovery_keeps_what_can_be_read_back_and_names_stale_groups() {
    let (cluster, asked) = server(|path, _| match path {
        "/api" => (200, core()),
        _ => (
            200,
            aggregated(json!([
                {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
                {"metadata": {"name": "empty.io"}, "versions": null},
            ])),
        ),
    });
    let discovery = cluster.discovered().await.expect("it is answered");
    assert!(matches!(discovery.find("v1", "Pod"), Served::Yes(pod) if pod.namespaced && pod.watchable));
    assert!(matches!(discovery.find("v1", "ComponentStatus"), Served::Yes(listed) if !listed.watchable));
    assert_eq!(discovery.find("v1", "Binding"), Served::No);
    assert_eq!(discovery.find("v2", "Pod"), Served::OtherVersions);
    assert!(discovery.failed("metrics.k8s.io"));
    assert_eq!(asked.lock().expect("no panic").len(), 2);
}

#[tokio::test]
async fn documents_that_did_not_change_are_not_read_again() {
    let changed = Arc::new(Mutex::new(false));
    let after = changed.clone();
    let (cluster, asked) = server(move |path, tag| match (path, tag) {
        ("/apis", Some("\"one\"")) if *after.lock().expect("no panic") => (
            200,
            aggregated(
                json!([{"metadata": {"name": "g.io"}, "versions": [{"version": "v1", "resources": [
                {"resource": "things", "responseKind": {"kind": "Thing"}, "scope": "Cluster", "verbs": ["get"]}]}]}]),
            ),
        ),
        (_, Some("\"one\"")) => (304, Value::Null),
        ("/api", _) => (200, core()),
        _ => (200, aggregated(json!([]))),
    });
    for _ in 0..2 {
        let discovery = cluster.discovered().await.expect("it is answered");
        assert!(matches!(discovery.find("v1", "Pod"), Served::Yes(_)));
    }
    assert_eq!(asked.lock().expect("no panic").len(), 4);
    *changed.lock().expect("no panic") = true;
    let discovery = cluster.discovered().await.expect("it is answered");
    assert!(matches!(discovery.find("g.io/v1", "Thing"), Served::Yes(_)));
    assert!(matches!(discovery.find("v1", "Pod"), Served::Yes(_)));
}

#[tokio::test]
async fn a_server_without_aggregated_discovery_is_asked_for_each_group_version() {
    let (cluster, _) = server(|path, _| match path {
        "/api" => (200, json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/api/v1" => (
            200,
            json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
                {"name": "pods", "kind": "Pod", "namespaced": true, "verbs": ["get", "list"]},
                {"name": "pods/status", "kind": "Pod", "namespaced": true, "verbs": ["get"]},
                {"name": "bindings", "kind": "Binding", "namespaced": true, "verbs": ["create"]}]}),
        ),
        "/apis" => (
            200,
            json!({"kind": "APIGroupList", "groups": [
                {"name": "autoscaling", "versions": [{"version": "v1"}, {"version": "v2"}], "preferredVersion": {"version": "v2"}},
                {"name": "metrics.k8s.io", "versions": [{"version": "v1beta1"}]}]}),
        ),
        "/apis/metrics.k8s.io/v1beta1" => (
            503,
            json!({"kind": "Status", "code": 503, "message": "no endpoints"}),
        ),
        _ => (
            200,
            json!({"kind": "APIResourceList", "resources": [
                {"name": "horizontalpodautoscalers", "kind": "HorizontalPodAutoscaler", "namespaced": true, "verbs": ["get"]}]}),
        ),
    });
    let discovery = cluster.discovered().await.expect("it is answered");
    assert!(matches!(discovery.find("v1", "Pod"), Served::Yes(pod) if pod.plural == "pods"));
    assert_eq!(discovery.find("v1", "Binding"), Served::No);
    let preferred = discovery.preferred("autoscaling", "HorizontalPodAutoscaler");
    assert_eq!(preferred.map(|preferred| preferred.version.as_str()), Some("v2"));
    assert!(matches!(
        discovery.find("autoscaling/v1", "HorizontalPodAutoscaler"),
        Served::Yes(_)
    ));
    assert_eq!(
        discovery.find("metrics.k8s.io/v1beta1", "NodeMetrics"),
        Served::Unknown
    );
}

#[tokio::test]
async fn an_answer_that_is_no_discovery_is_an_error_and_never_an_empty_discovery() {
    for document in [json!({}), json!({"kind": "Status"}), json!("x")] {
        let (cluster, _) = server(move |_, _| (200, document.clone()));
        let error = cluster.discovered().await.err();
        assert!(matches!(error, Some(ClusterError::Unavailable(_))), "{error:?}");
    }
    let (cluster, _) = server(|path, _| match path {
        "/api" => (200, json!({"kind": "APIVersions", "versions": ["v1"]})),
        _ => (503, Value::Null),
    });
    assert!(cluster.discovered().await.is_err(), "all of it failed");
}

/// A cluster with Crossplane providers: five megabytes, most of it subresources and names that are not kept.
#[tokio::test]
async fn a_document_of_five_megabytes_leaves_less_than_one() {
    let padding = "x".repeat(1400);
    let resource = |number: usize| {
        format!(
            r#"{{"resource": "thing{number}s", "responseKind": {{"group": "", "version": "", "kind": "Thing{number}"}},
                "scope": "Cluster", "singularResource": "thing{number}", "shortNames": ["t", "th"],
                "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
                "categories": ["crossplane", "managed", "aws"],
                "subresources": [{{"subresource": "status", "verbs": ["get", "patch", "update"],
                    "acceptedTypes": [{{"group": "g", "version": "v1", "kind": "{padding}"}}]}}]}}"#
        )
    };
    let resources = (0..24).map(resource).collect::<Vec<_>>().join(",");
    let group = |number: usize| {
        format!(
            r#"{{"metadata": {{"name": "group{number}.example.org"}},
                "versions": [{{"version": "v1beta1", "freshness": "Current", "resources": [{resources}]}}]}}"#
        )
    };
    let groups = (0..100).map(group).collect::<Vec<_>>().join(",");
    let document = Bytes::from(format!(
        r#"{{"kind": "APIGroupDiscoveryList", "items": [{groups}]}}"#
    ));
    drop((groups, resources));
    assert!(document.len() > 4 << 20, "{}", document.len());
    let service = tower::service_fn(move |request: Request<Body>| {
        let body = match request.uri().path() {
            "/api" => Body::from(core().to_string().into_bytes()),
            _ => Body::from(document.clone()),
        };
        std::future::ready(Response::builder().body(body))
    });
    let cluster = KubeCluster::new(Client::new(service, "default"));
    let discovery = cluster.discovered().await.expect("it is answered");
    let found = discovery.find("group99.example.org/v1beta1", "Thing23");
    assert!(matches!(found, Served::Yes(_)), "{found:?}");
    assert!(discovery.bytes() < 1 << 20, "{}", discovery.bytes());
}
