//! Watches of all namespaces that a server refuses: for moments, for ever, or until rights are given.

use std::{sync::atomic::Ordering, time::Duration};

use flotilla_agent::cluster::{ClusterError, fake::faults::Fault};
use flotilla_core::object::ObjectKey;
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::world::{Quiet, World, config_map, entry, settle};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];

fn in_namespace(namespace: &str) -> Value {
    let mut object = config_map("x", "1");
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// Refuses watches of a kind in all namespaces at once.
fn refuses_all_namespaces() -> Fault {
    Box::new(|verb, key| {
        let is_wide = verb == "watch" && key.kind == "ConfigMap" && key.namespace.is_empty();
        is_wide.then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".into(),
            message: "configmaps is forbidden at the cluster scope".into(),
        })
    })
}

/// Makes the namespaces.
fn exist(world: &World) {
    for namespace in NAMESPACES {
        world.cluster.write(
            "somebody",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
    }
}

/// A unit with an object in each namespace; nothing else is watched.
async fn enforced(world: &mut World) {
    exist(world);
    world.ready(1, &NAMESPACES.map(in_namespace)).await;
    world.rests().await;
}

/// How many watches there are: each lists once where all break.
async fn watches(world: &World) -> u64 {
    world.cluster.take_requests();
    world.cluster.break_watches();
    settle().await;
    world
        .cluster
        .take_requests()
        .get("watch")
        .copied()
        .unwrap_or_default()
}

/// Drift in each namespace is seen and corrected.
async fn corrects(world: &World) {
    let keys = NAMESPACES.map(|namespace| ObjectKey::new("", "ConfigMap", namespace, "x"));
    for key in &keys {
        world
            .cluster
            .edit("kubectl-edit", key, |live| live["data"]["a"] = "2".into());
    }
    settle().await;
    for key in &keys {
        let live = world.cluster.object(key).unwrap();
        assert_eq!(live["data"]["a"], "1", "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_some_seconds_makes_no_watch_narrower_that_was_open() {
    let mut world = World::new().await;
    enforced(&mut world).await;
    world.cluster.set_fault(Some(refuses_all_namespaces()));
    world.cluster.break_watches();
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.cluster.set_fault(None);
    settle().await;
    settle().await;
    assert_eq!(watches(&world).await, 1);
    corrects(&world).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_server_refuses_as_it_starts_is_watched_in_all_namespaces_minutes_later() {
    let mut world = World::new().await;
    enforced(&mut world).await;
    world.cluster.set_fault(Some(refuses_all_namespaces()));
    world.restart().await;
    settle().await;
    world.cluster.set_fault(None);
    assert_eq!(watches(&world).await, 3, "each namespace, in place of all");
    corrects(&world).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(watches(&world).await, 1);
    corrects(&world).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stays_refused_is_narrower_after_a_minute_and_its_rights_are_looked_for_once_an_hour() {
    let mut world = World::new().await;
    enforced(&mut world).await;
    world.cluster.set_fault(Some(refuses_all_namespaces()));
    world.cluster.break_watches();
    tokio::time::sleep(Duration::from_secs(90)).await;
    corrects(&world).await;
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    assert_eq!(world.cluster.take_requests()["watch"], 4);
    // A try may fall into these ten minutes.
    let quiet = world.ten_minutes().await;
    let asked = quiet.requests.get("watch").copied().unwrap_or_default();
    assert!(asked <= 1 && !quiet.requests.contains_key("apply"), "{quiet:?}");
    assert_eq!((quiet.reports, quiet.ledger_writes), (0, 0), "{quiet:?}");
    world.cluster.set_fault(None);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(watches(&world).await, 1, "rights were given");
    world.rests().await;
}

/// One right that is missing is found out about once, and asks nothing of units that it does not concern.
#[tokio::test(start_paused = true)]
async fn refused_watches_are_a_note_of_the_units_that_they_concern_and_of_no_others() {
    let mut world = World::new().await;
    exist(&world);
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        let is_refused = verb == "watch" && key.kind == "ConfigMap" && key.namespace != "c";
        is_refused.then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".into(),
            message: "configmaps is forbidden".into(),
        })
    })));
    let concerned = entry(1, world.contents.add(&[in_namespace("a"), in_namespace("b")]));
    let mut entries = vec![concerned.clone()];
    for n in 0..50_u128 {
        let mut object = in_namespace("c");
        object["metadata"]["name"] = format!("x{n}").into();
        entries.push(entry(2 + n, world.contents.add(&[object])));
    }
    world.offer(&entries).await;
    for entry in &entries {
        world.until_ready(entry).await;
    }
    let noted = world.unit(1).unwrap().notes.clone();
    assert_eq!(
        noted,
        "drift of ConfigMap in namespace a, ConfigMap in namespace b is not seen, since the API server does not list \
         and watch it"
    );
    settle().await;
    let notes = |world: &World| world.agent().counters.notes.load(Ordering::Relaxed);
    let before = notes(&world);
    world.cluster.set_fault(None);
    tokio::time::sleep(Duration::from_secs(1200)).await;
    world
        .until("the note is gone", |world| {
            world.unit(1).is_some_and(|unit| unit.notes.is_empty())
        })
        .await;
    assert_eq!(world.unit(1).unwrap().ready(), Readiness::True);
    // Two namespaces, each of which is allowed by itself, or all at once.
    assert!(
        (1..=3).contains(&(notes(&world) - before)),
        "{}",
        notes(&world) - before
    );
    assert_eq!(world.ten_minutes().await, Quiet::default());
}

/// What narrow watches were refused ends with them: nothing else happens that would tell the units.
#[tokio::test(start_paused = true)]
async fn a_note_of_narrow_watches_that_are_refused_goes_once_all_namespaces_are_watched() {
    let mut world = World::new().await;
    enforced(&mut world).await;
    let refuses = |is_narrow_alone: bool| -> Fault {
        Box::new(move |verb, key| {
            let is_asked = verb == "watch" && key.kind == "ConfigMap";
            let is_refused = is_asked && !(is_narrow_alone && key.namespace.is_empty());
            is_refused.then(|| ClusterError::Rejected {
                code: 403,
                reason: "Forbidden".into(),
                message: "configmaps is forbidden".into(),
            })
        })
    };
    world.cluster.set_fault(Some(refuses(false)));
    world.cluster.break_watches();
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| !unit.notes.is_empty())
        })
        .await;
    // Each namespace is asked for in place of all by then.
    tokio::time::sleep(Duration::from_secs(90)).await;
    // Now one right for all of them is given.
    world.cluster.set_fault(Some(refuses(true)));
    let given = tokio::time::Instant::now();
    world
        .until("the note is gone", |world| {
            world.unit(1).is_some_and(|unit| unit.notes.is_empty())
        })
        .await;
    let after = given.elapsed();
    assert!(after < Duration::from_secs(180), "{after:?}");
    world.quiet().await;
    world.rests().await;
}
