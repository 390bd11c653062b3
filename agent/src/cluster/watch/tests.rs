//! The watch against a server whose answers are written down: what only a real one's age would bring about.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::json;

use super::*;

/// Answers in order, and the queries they were given for. After the last answer the server is silent.
struct Server {
    cluster: KubeCluster,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answers: Vec<(u16, String)>) -> Self {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let queries = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            queries.lock().expect("no panic").push(query);
            let answer = answers.lock().expect("no panic").pop_front();
            async move {
                let Some((status, body)) = answer else {
                    return std::future::pending().await;
                };
                Response::builder()
                    .status(status)
                    .body(Body::from(body.into_bytes()))
            }
        });
        Self {
            cluster: KubeCluster::new(Client::new(service, "default")),
            asked,
        }
    }

    /// Watches until `count` events have come, and returns them in a word each.
    async fn watch(&self, count: usize) -> Vec<String> {
        let resource = Resource {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
            namespaced: true,
        };
        let events = stream(self.cluster.clone(), resource, Selector::default());
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        events
            .take(count)
            .map(|event| match event {
                Ok(WatchEvent::Listing) => "listing".to_owned(),
                Ok(WatchEvent::Listed) => "listed".to_owned(),
                Ok(WatchEvent::Present(object)) => name(&object),
                Ok(WatchEvent::Gone(object)) => format!("-{}", name(&object)),
                Err(e) => e.to_string(),
            })
            .collect()
            .await
    }

    fn asked(&self, position: usize) -> String {
        self.asked.lock().expect("no panic")[position].clone()
    }
}

fn object(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": version}})
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// A list of one object as a stream, complete.
fn streamed(name: &str, version: &str) -> String {
    let mut end = object("", version);
    end["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    event("ADDED", &object(name, version)) + &event("BOOKMARK", &end)
}

fn gone() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
        "message": "too old resource version: 5 (9)", "code": 410})
}

#[tokio::test(start_paused = true)]
async fn a_version_that_expires_while_watching_lists_again_and_nothing_is_told() {
    let server = Server::new(vec![
        (
            200,
            streamed("a", "5") + &event("MODIFIED", &object("a", "6")) + &event("ERROR", &gone()),
        ),
        (200, streamed("b", "9")),
    ]);
    let seen = server.watch(7).await;
    assert_eq!(seen, ["listing", "a", "listed", "a", "listing", "b", "listed"]);
    assert!(server.asked(1).contains("sendInitialEvents=true"));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_has_expired_when_the_watch_is_renewed_lists_again() {
    let server = Server::new(vec![
        // The server ends the stream when its time is over.
        (200, streamed("a", "5") + &event("DELETED", &object("a", "7"))),
        (410, gone().to_string()),
        (200, streamed("b", "9")),
    ]);
    let seen = server.watch(7).await;
    assert_eq!(seen, ["listing", "a", "listed", "-a", "listing", "b", "listed"]);
    assert!(
        server.asked(1).contains("resourceVersion=7"),
        "{}",
        server.asked(1)
    );
    assert!(!server.asked(1).contains("sendInitialEvents"));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_has_expired_begins_the_list_anew_before_anything_counts_as_gone() {
    let invalid = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "Invalid", "message": "sendInitialEvents is forbidden", "code": 422});
    let page = |name: &str, token: &str| {
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1",
            "metadata": {"resourceVersion": "5", "continue": token}, "items": [object(name, "5")]});
        (200, list.to_string())
    };
    let server = Server::new(vec![
        (422, invalid.to_string()),
        page("a", "next"),
        (410, gone().to_string()),
        page("a", ""),
    ]);
    let seen = server.watch(5).await;
    assert_eq!(seen, ["listing", "a", "listing", "a", "listed"]);
    assert!(server.asked(2).contains("continue=next"));
    assert!(!server.asked(3).contains("continue"));
}
