use flotilla_core::object::ObjectKey;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    gate::{FIRST, MOST},
    *,
};
use crate::cluster::fake::Fake;

fn resource(kind: &str) -> Resource {
    Resource {
        group: String::new(),
        version: "v1".into(),
        kind: kind.into(),
        plural: format!("{}s", kind.to_lowercase()),
        namespaced: true,
        watchable: true,
    }
}

/// A cluster whose webhook takes `takes` for writes of these kinds.
fn behind_a_webhook(kinds: &'static [&str], takes: Duration) -> Limited {
    let fake = Fake::new();
    fake.set_latency(Some(Box::new(move |verb, key: &ObjectKey| {
        let is_slow = verb == "apply" && kinds.contains(&key.kind.as_str());
        if is_slow { takes } else { Duration::from_millis(5) }
    })));
    Limited::new(Arc::new(fake))
}

fn write(cluster: &Limited, kind: &str, name: usize, calls: &mut JoinSet<()>) {
    let object = json!({"apiVersion": "v1", "kind": kind,
        "metadata": {"name": format!("x{name}"), "namespace": "default"}});
    let (cluster, resource) = (cluster.clone(), resource(kind));
    calls.spawn(async move {
        let _ = cluster.apply(&resource, &object, false).await;
    });
}

async fn get(cluster: &Limited, kind: &str) -> Duration {
    let begun = Instant::now();
    cluster
        .get(&resource(kind), "default", "other")
        .await
        .expect("an answer");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_slow_webhook_holds_back_the_writes_of_its_kind_and_nothing_else() {
    let cluster = behind_a_webhook(&["ConfigMap"], Duration::from_secs(30));
    let mut slow = JoinSet::new();
    for name in 0..500 {
        write(&cluster, "ConfigMap", name, &mut slow);
    }
    // At once, when nothing is known of it yet, and after some minutes.
    for minute in 0..10 {
        tokio::time::sleep(Duration::from_secs(minute * 60 + 1)).await;
        for kind in ["Secret", "ConfigMap"] {
            let took = get(&cluster, kind).await;
            assert!(took < Duration::from_secs(1), "a {kind} is read in {took:?}");
        }
    }
    assert!(!slow.is_empty());
    let limit = cluster.gate().limit;
    assert!(limit >= FIRST, "{limit}");
    let lane = cluster.lane(Calls::writes(&resource("ConfigMap")));
    assert!(lane.is_slow(Instant::now(), LATELY));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_slow_about_many_kinds_is_asked_less() {
    const KINDS: [&str; 4] = ["ConfigMap", "Secret", "Service", "ServiceAccount"];
    let cluster = behind_a_webhook(&KINDS, Duration::from_secs(4));
    for (is_many, kinds) in [(false, &KINDS[..3]), (true, &KINDS[..])] {
        for kind in kinds {
            let mut calls = JoinSet::new();
            write(&cluster, kind, 0, &mut calls);
            calls.join_all().await;
        }
        assert_eq!(cluster.gate().limit < FIRST, is_many, "{kinds:?}");
    }
}

#[test]
fn a_kind_that_is_slow_keeps_two_places_and_gets_the_others_back() {
    let (lane, begun) = (Lane::default(), Instant::now());
    for n in 0..10 {
        lane.slow(begun + Duration::from_secs(n * 2));
    }
    let places = || {
        let mut places = Vec::new();
        while let Some(place) = futures::FutureExt::now_or_never(lane.enter(|| MOST)) {
            places.push(place);
        }
        places.len()
    };
    assert_eq!(places(), 2);
    for _ in 0..1000 {
        lane.fast();
    }
    assert_eq!(places(), 32);
    assert!(!lane.is_slow(begun, LATELY));
}
