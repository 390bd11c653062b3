//! The watch against a server whose answers are written down: what only a real one's age would bring about.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use serde_json::json;

use super::*;
use crate::cluster::Cluster as _;

/// Answers in order, and the queries they were given for. After the last answer the server is silent.
struct Server {
    cluster: KubeCluster,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answers: Vec<(u16, String)>) -> Self {
        Self::answering(answers, |_, body| whole(body))
    }

    /// A server whose watches stay open. They bring a line, pause for so long, and bring the next one.
    fn open(answers: Vec<(u16, String)>, pause: Duration) -> Self {
        Self::answering(answers, move |status, body| {
            // A page or a refusal is no watch.
            if status != 200 || body.starts_with(r#"{"apiVersion""#) {
                return whole(body);
            }
            let lines: Vec<String> = body.lines().map(|line| format!("{line}\n")).collect();
            let lines = stream::iter(lines).then(move |line| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, std::io::Error>(Frame::data(Bytes::from(line)))
            });
            StreamBody::new(lines.chain(stream::pending())).boxed_unsync()
        })
    }

    fn answering(
        answers: Vec<(u16, String)>,
        body_of: impl Fn(u16, String) -> Answer + Clone + Send + 'static,
    ) -> Self {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let queries = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            queries.lock().expect("no panic").push(query);
            let answer = answers.lock().expect("no panic").pop_front();
            let body_of = body_of.clone();
            async move {
                let Some((status, body)) = answer else {
                    return std::future::pending().await;
                };
                Response::builder().status(status).body(body_of(status, body))
            }
        });
        Self {
            cluster: KubeCluster::new(Client::new(service, "default")),
            asked,
        }
    }

    fn stream(&self, selector: Selector) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
        stream(self.cluster.clone(), config_maps(), selector)
    }

    /// Watches until `count` events have come, and returns them in a word each.
    async fn watch(&self, count: usize) -> Vec<String> {
        let events = self.stream(Selector::default());
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        events
            .take(count)
            .map(|event| match event {
                Ok(WatchEvent::Listing) => "listing".to_owned(),
                Ok(WatchEvent::Listed(_)) => "listed".to_owned(),
                Ok(WatchEvent::WentBack) => "went back".to_owned(),
                Ok(WatchEvent::Present(object)) => name(&object),
                Ok(WatchEvent::Gone(object)) => format!("-{}", name(&object)),
                Err(e) => e.to_string(),
            })
            .collect()
            .await
    }

    fn count(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }

    fn asked(&self, position: usize) -> String {
        self.asked.lock().expect("no panic")[position].clone()
    }
}

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body that ends.
fn whole(body: String) -> Answer {
    Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn config_maps() -> Resource {
    Resource {
        group: String::new(),
        version: "v1".into(),
        kind: "ConfigMap".into(),
        plural: "configmaps".into(),
        namespaced: true,
        watchable: true,
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

/// A page, the last one of its list.
fn page(name: &str, version: &str) -> (u16, String) {
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": version},
        "items": [object(name, version)]});
    (200, list.to_string())
}

/// A server that does not say that its streamed list is complete is asked for a page, then for changes alone.
async fn is_listed_in_pages_and_rests(server: &Server, within: Duration) {
    let (begun, mut events) = (Instant::now(), server.stream(Selector::default()));
    let mut last_list = Vec::new();
    loop {
        match events.next().await.expect("it goes on").expect("nothing is told") {
            WatchEvent::Listing => last_list.clear(),
            WatchEvent::Present(object) => last_list.push(object["metadata"]["name"].clone()),
            other @ (WatchEvent::Gone(_) | WatchEvent::WentBack) => panic!("{other:?}"),
            WatchEvent::Listed(version) => {
                assert_eq!(version, Some(9));
                break;
            }
        }
    }
    assert_eq!(last_list, ["b"], "what is gone since is not among what is listed");
    assert!(begun.elapsed() <= within, "{:?}", begun.elapsed());
    let ten_minutes = tokio::time::timeout(Duration::from_secs(600), events.next());
    assert!(ten_minutes.await.is_err(), "nothing is told");
    assert_eq!(server.count(), 3);
    assert!(server.asked(1).starts_with("limit="), "{}", server.asked(1));
    assert!(
        server.asked(2).contains("resourceVersion=9"),
        "{}",
        server.asked(2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_that_is_silent_and_not_complete_is_made_in_pages_within_seconds() {
    let answers = vec![
        (200, event("ADDED", &object("a", "5"))),
        page("b", "9"),
        (200, String::new()),
    ];
    let server = Server::open(answers, Duration::ZERO);
    is_listed_in_pages_and_rests(&server, Duration::from_secs(11)).await;
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_whose_first_bookmark_says_nothing_of_its_end_is_made_in_pages_at_once() {
    let marked = event("ADDED", &object("a", "5")) + &event("BOOKMARK", &object("", "5"));
    let server = Server::open(
        vec![(200, marked), page("b", "9"), (200, String::new())],
        Duration::ZERO,
    );
    is_listed_in_pages_and_rests(&server, Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_that_goes_on_and_on_is_made_in_pages_after_ten_minutes() {
    let changes: String = (0..1000)
        .map(|n| event("MODIFIED", &object("a", &n.to_string())))
        .collect();
    let server = Server::open(
        vec![(200, changes), page("b", "9"), (200, String::new())],
        Duration::from_secs(5),
    );
    is_listed_in_pages_and_rests(&server, Duration::from_secs(601)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_streamed_lists_before_they_are_complete_is_listed_in_pages() {
    let cut = || (200, event("ADDED", &object("a", "5")));
    let server = Server::new(vec![cut(), cut(), page("b", "9")]);
    let seen = server.watch(7).await;
    assert_eq!(seen, ["listing", "a", "listing", "a", "listing", "b", "listed"]);
    assert!(
        server.asked(1).contains("sendInitialEvents"),
        "one may be a server that stops"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_while_it_streamed_a_list_streams_the_next_one() {
    let server = Server::open(
        vec![
            (200, event("ADDED", &object("a", "5"))),
            unavailable(),
            (200, streamed("b", "9")),
        ],
        Duration::ZERO,
    );
    let seen = server.watch(6).await;
    assert_eq!(seen, ["listing", "a", "listing", "listing", "b", "listed"]);
    assert!(server.asked(1).starts_with("limit="));
    assert!(server.asked(2).contains("sendInitialEvents"));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_watched_is_asked_for_as_seldom_as_one_that_may_not_be() {
    let refused =
        json!({"kind": "Status", "code": 405, "reason": "MethodNotAllowed", "message": "not allowed"});
    let server = Server::new(std::iter::repeat_n((405, refused.to_string()), 10_000).collect());
    let mut events = server.stream(Selector::default());
    let watched = tokio::time::timeout(Duration::from_secs(3600), async {
        while events.next().await.is_some() {}
    });
    assert!(watched.await.is_err(), "it goes on");
    // Half of five minutes on average, after the first few.
    assert!(server.count() < 60, "{}", server.count());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_for_seconds_is_told_nobody_and_one_that_goes_on_failing_is() {
    let failed = || {
        (
            500,
            json!({"kind": "Status", "code": 500, "message": "webhook away"}).to_string(),
        )
    };
    let mut answers: Vec<_> = (0..4).map(|_| failed()).collect();
    answers.push((200, streamed("a", "5")));
    let seen = Server::new(answers).watch(7).await;
    assert_eq!(seen[4..], ["listing", "a", "listed"], "{seen:?}");
    let server = Server::new(std::iter::repeat_n(failed(), 10).collect());
    let seen = server.watch(6).await;
    assert_eq!(seen[5], "webhook away", "{seen:?}");
    assert_eq!(server.count(), 5);
}

fn unavailable() -> (u16, String) {
    (503, String::new())
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_watch_at_once_is_asked_with_growing_pauses() {
    let ends_at_once = (200, String::new());
    let mut answers = vec![(200, streamed("a", "5"))];
    answers.extend(std::iter::repeat_n(ends_at_once, 10_000));
    let server = Server::new(answers);
    let mut events = server.stream(Selector::default());
    let watched = tokio::time::timeout(Duration::from_secs(600), async {
        while events.next().await.is_some() {}
    });
    assert!(watched.await.is_err(), "it goes on");
    // Half of the bound on average: 30 s at most, 15 s, for ten minutes; the first few are shorter.
    assert!(server.count() < 120, "{}", server.count());
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_versions_expire_at_once_is_listed_with_growing_pauses() {
    let expires = (200, streamed("a", "5") + &event("ERROR", &gone()));
    let server = Server::new(std::iter::repeat_n(expires, 10_000).collect());
    let mut events = server.stream(Selector::default());
    let watched = tokio::time::timeout(Duration::from_secs(60), async {
        while events.next().await.is_some() {}
    });
    assert!(watched.await.is_err(), "it goes on");
    assert!(server.count() < 150, "{}", server.count());
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_when_a_list_in_pages_is_complete() {
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": []});
    let server = Server::new(vec![
        (400, String::new()),
        unavailable(),
        (200, list.to_string()),
        unavailable(),
        (200, list.to_string()),
        (200, event("ADDED", &object("a", "6"))),
    ]);
    // A second failure in a row would be told.
    assert_eq!(server.watch(4).await, ["listing", "listing", "listed", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_objects_that_is_too_large_is_asked_for_in_halves() {
    let large = |count: usize| {
        let items: Vec<Value> = (0..count)
            .map(|number| {
                let mut large = object(&format!("o{number}"), "5");
                large["data"] = json!({"x": "x".repeat(200 << 10)});
                large
            })
            .collect();
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": items});
        (200, list.to_string())
    };
    let server = Server::new(vec![(400, String::new()), large(9), large(9), large(1)]);
    assert_eq!(server.watch(3).await, ["listing", "o0", "listed"]);
    for (position, limit) in [(1, "limit=100"), (2, "limit=50"), (3, "limit=25")] {
        assert!(
            server.asked(position).starts_with(limit),
            "{}",
            server.asked(position)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn later_pages_and_lists_are_as_small_as_the_first_had_to_be() {
    let page = |count: usize, bytes: usize, token: &str| {
        let items: Vec<Value> = (0..count)
            .map(|number| {
                let mut object = object(&format!("o{number}"), "5");
                object["metadata"]["annotations"] = json!({"x": "x".repeat(bytes)});
                object
            })
            .collect();
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1",
            "metadata": {"resourceVersion": "5", "continue": token}, "items": items});
        (200, list.to_string())
    };
    let server = Server::new(vec![
        page(500, 5 << 10, ""),
        page(250, 5 << 10, "next"),
        page(100, 5 << 10, ""),
        page(250, 5 << 10, ""),
    ]);
    let selector = Selector {
        metadata_only: true,
        without_managed_fields: true,
        ..Selector::default()
    };
    for token in ["", "next", ""] {
        let page = server
            .cluster
            .list_selected(&config_maps(), &selector, token)
            .await;
        assert!(page.is_ok(), "{page:?}");
    }
    let limits: Vec<String> = (0..4)
        .map(|n| server.asked(n).split('&').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(limits, ["limit=500", "limit=250", "limit=250", "limit=250"]);
}

#[tokio::test(start_paused = true)]
async fn metadata_alone_bears_the_type_of_its_object() {
    let metadata = |name: &str| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "resourceVersion": "6"}})
    };
    let server = Server::new(vec![(
        200,
        streamed("a", "5") + &event("MODIFIED", &metadata("a")),
    )]);
    let selector = Selector {
        metadata_only: true,
        ..Selector::default()
    };
    let events: Vec<_> = server.stream(selector).take(4).collect().await;
    let Some(Ok(WatchEvent::Present(object))) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (&object["apiVersion"], &object["kind"]),
        (&json!("v1"), &json!("ConfigMap"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_is_left_alone_for_as_long_as_it_asks() {
    let busy =
        json!({"kind": "Status", "code": 429, "message": "busy", "details": {"retryAfterSeconds": 50}});
    let server = Server::new(vec![(429, busy.to_string()), (200, streamed("a", "5"))]);
    let begun = Instant::now();
    let seen = server.watch(5).await;
    assert_eq!(seen[0], "listing");
    assert_eq!(seen[2..], ["listing", "a", "listed"]);
    assert!(
        begun.elapsed() >= Duration::from_secs(50),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_is_announced_before_it_is_asked_for_each_time() {
    let server = Server::new(vec![
        (200, streamed("a", "5") + &event("ERROR", &gone())),
        (200, streamed("b", "9")),
    ]);
    let mut events = server.stream(Selector::default());
    for asked in 0..2 {
        let first = events.next().await;
        assert!(matches!(first, Some(Ok(WatchEvent::Listing))), "{first:?}");
        assert_eq!(server.count(), asked, "nothing is asked yet");
        for _ in 0..2 {
            events.next().await.expect("an event").expect("no failure");
        }
    }
}

/// What a second failure in a row is told as.
const AWAY: &str = "the API server does not answer: 503 ";

fn listed(version: &str) -> (u16, String) {
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": version},
        "items": []});
    (200, list.to_string())
}

/// A watch from a version that the store has not reached is silent: neither a change nor a failure would ever tell.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_and_whose_store_went_back_is_listed_again_and_told() {
    let server = Server::new(vec![
        (200, streamed("a", "5") + &event("MODIFIED", &object("a", "9"))),
        unavailable(),
        listed("7"),
        (200, streamed("b", "7") + &event("MODIFIED", &object("b", "8"))),
    ]);
    let mut seen = server.watch(10).await;
    assert_eq!(seen.remove(4), AWAY);
    assert_eq!(
        seen,
        [
            "listing",
            "a",
            "listed",
            "a",
            "went back",
            "listing",
            "b",
            "listed",
            "b"
        ]
    );
    assert!(server.asked(2).starts_with("limit=1"), "{}", server.asked(2));
    assert!(server.asked(3).contains("sendInitialEvents=true"));
}

/// The server is back before its store, or something in front of it answers in its place.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_or_is_overloaded_has_not_told_that_its_store_is_as_before() {
    let failed = || {
        (
            500,
            json!({"kind": "Status", "code": 500, "message": "etcdserver: request timed out"}).to_string(),
        )
    };
    let overloaded = || (429, String::new());
    // With how many of the failures are told.
    let outages = [
        (vec![failed()], 0),
        (vec![unavailable(), failed(), failed()], 1),
        (vec![overloaded()], 1),
    ];
    for (outage, told) in outages {
        let mut answers = vec![(200, streamed("a", "9"))];
        answers.extend(outage);
        answers.extend([listed("7"), (200, streamed("b", "7"))]);
        let mut seen = Server::new(answers).watch(7 + told).await;
        seen.drain(3..3 + told);
        assert_eq!(
            seen,
            ["listing", "a", "listed", "went back", "listing", "b", "listed"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_and_is_as_before_is_watched_on_after_one_small_list() {
    for (status, body) in [
        listed("9"),
        listed("12"),
        listed("no number"),
        (403, String::new()),
    ] {
        let server = Server::new(vec![
            (200, streamed("a", "5") + &event("MODIFIED", &object("a", "9"))),
            unavailable(),
            (status, body),
            (200, event("MODIFIED", &object("a", "13"))),
            (200, event("MODIFIED", &object("a", "14"))),
        ]);
        let mut seen = server.watch(7).await;
        assert_eq!(seen.remove(4), AWAY);
        assert_eq!(seen, ["listing", "a", "listed", "a", "a", "a"]);
        assert!(
            server.asked(3).contains("resourceVersion=9"),
            "{}",
            server.asked(3)
        );
        assert!(
            server.asked(4).contains("resourceVersion=13"),
            "asked once: {}",
            server.asked(4)
        );
    }
}

/// The store would be read until an object matches.
#[tokio::test(start_paused = true)]
async fn a_store_is_asked_for_its_version_without_a_selector() {
    let server = Server::new(vec![(200, streamed("a", "9")), unavailable(), listed("7")]);
    let selector = Selector {
        labels: "a=b".to_owned(),
        ..Selector::default()
    };
    let mut events = server.stream(selector);
    while !matches!(events.next().await, Some(Ok(WatchEvent::WentBack))) {}
    assert_eq!(server.asked(2), "limit=1");
}

/// Its objects were taken for older than what was known.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_older_than_what_was_seen_is_told_and_made_again() {
    let server = Server::new(vec![
        (200, streamed("a", "9") + &event("ERROR", &gone())),
        (200, streamed("a", "7")),
        (200, streamed("a", "7")),
    ]);
    let seen = server.watch(9).await;
    assert_eq!(
        seen,
        [
            "listing",
            "a",
            "listed",
            "listing",
            "a",
            "went back",
            "listing",
            "a",
            "listed"
        ]
    );
    let pages = Server::new(vec![
        (400, String::new()),
        listed("9"),
        (410, gone().to_string()),
        listed("7"),
        listed("7"),
    ]);
    assert_eq!(
        pages.watch(6).await,
        ["listing", "listed", "listing", "went back", "listing", "listed"]
    );
}

/// The pause between two tries has grown to half a minute by then.
#[tokio::test(start_paused = true)]
async fn watches_open_within_a_second_of_the_first_answer_of_a_server_that_was_away() {
    let is_away = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (away, tries) = (is_away.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let tried = tries.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        tried.fetch_add(usize::from(is_watch), std::sync::atomic::Ordering::SeqCst);
        let answer = match (away.load(std::sync::atomic::Ordering::SeqCst), is_watch) {
            (true, _) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
            (false, true) => Ok(streamed("a", "5")),
            (false, false) => Ok(json!({"gitVersion": "v1.36.3"}).to_string()),
        };
        std::future::ready(answer.map(|body| Response::new(Body::from(body.into_bytes()))))
    });
    let cluster = KubeCluster::new(Client::new(service, "default"));
    let (listed_tx, mut listed_rx) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..40 {
        let mut events = stream(cluster.clone(), config_maps(), Selector::default());
        let listed_tx = listed_tx.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if matches!(event, Ok(WatchEvent::Listed(_))) {
                    return listed_tx.send(Instant::now()).expect("somebody waits");
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let before = tries.load(std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.version().await.expect_err("it is away");
    let in_a_minute = tries.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(in_a_minute < 40 * 10, "{in_a_minute} tries");
    is_away.store(false, std::sync::atomic::Ordering::SeqCst);
    let back = Instant::now();
    cluster.version().await.expect("it is back");
    for _ in 0..40 {
        let listed = listed_rx.recv().await.expect("all are listed");
        let after = listed.duration_since(back);
        assert!(after <= Duration::from_millis(1100), "{after:?}");
    }
}

/// A watch that goes on from where it was says nothing by itself.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_refusal_that_was_told_is_a_list() {
    let forbidden = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden",
        "message": "configmaps is forbidden", "code": 403});
    // The watch ends at once, so that the refusal is a second failure.
    let server = Server::new(vec![
        (200, streamed("a", "5")),
        (403, forbidden.to_string()),
        (200, streamed("a", "5")),
    ]);
    let seen = server.watch(7).await;
    let refusal = "configmaps is forbidden";
    assert_eq!(
        seen,
        ["listing", "a", "listed", refusal, "listing", "a", "listed"]
    );
    assert!(
        server.asked(1).contains("resourceVersion=5"),
        "{}",
        server.asked(1)
    );
    assert!(server.asked(2).contains("sendInitialEvents=true"));
}

/// Else each list would tell the end of a refusal that goes on, and the next would be made at once.
#[tokio::test(start_paused = true)]
async fn a_kind_that_may_be_listed_in_pages_and_not_watched_is_listed_once_and_again_when_it_may_be() {
    let refused = |code: u16| {
        let status = json!({"kind": "Status", "status": "Failure", "message": "no watch", "code": code});
        (code, status.to_string())
    };
    for (code, told_from) in [(403, 2), (405, 2), (500, 5)] {
        let tries = 20;
        let mut answers = vec![(400, String::new()), page("a", "5")];
        for _ in 0..tries {
            // A server that failed is asked for its version first.
            answers.extend((code == 500 && answers.len() > 2).then(|| page("a", "5")));
            answers.push(refused(code));
        }
        answers.extend((code == 500).then(|| page("a", "5")));
        answers.extend([(200, String::new()), page("b", "6")]);
        let (server, begun, count) = (
            Server::new(answers.clone()),
            Instant::now(),
            tries + 1 - told_from,
        );
        let seen = server.watch(3 + count + 3).await;
        assert_eq!(seen[..3], ["listing", "a", "listed"]);
        assert!(
            seen[3..3 + count].iter().all(|told| told == "no watch"),
            "{seen:?}"
        );
        assert_eq!(seen[3 + count..], ["listing", "b", "listed"], "{code}");
        assert_eq!(server.count(), answers.len());
        assert!(begun.elapsed() > Duration::from_secs(60), "the pauses grow");
    }
}
