//! What goes: an object that a finalizer holds, a unit that the hub lets go of, a watch that breaks.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::unit::{Entry, UnitState};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{version, widget_key, x},
    world::{World, config_map, entry, settle},
};

fn hundred(value: &str) -> Vec<Value> {
    (0..100).map(|n| config_map(&format!("c{n:03}"), value)).collect()
}

#[tokio::test(start_paused = true)]
async fn object_that_a_finalizer_holds_is_created_again_once_it_is_gone_and_the_unit_is_ready() {
    let mut world = World::new().await;
    let first = world.ready(1, &[config_map("x", "1")]).await;
    world.cluster.set_finalizers(&x(), &["example.com/hold"]);
    world.cluster.delete(&x());
    world.rests().await;
    assert!(world.is_ready(&first), "nothing of ours changed");
    // A commit that cannot be written says what holds it.
    let second = version(2, entry(1, world.contents.add(&[config_map("x", "2")])));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is told", |world| {
            let unit = world.unit(1).unwrap();
            unit.ready() == Readiness::False && unit.message.contains("example.com/hold")
        })
        .await;
    let held = world.ten_minutes().await;
    assert!(
        held.requests.values().sum::<u64>() <= 25 && held.wakes <= 45,
        "{held:?}"
    );
    assert_eq!((held.events, held.reports), (0, 0), "{held:?}");
    world.cluster.set_finalizers(&x(), &[]);
    let begun = tokio::time::Instant::now();
    world.until_ready(&second).await;
    assert!(
        begun.elapsed() <= Duration::from_secs(61),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(world.value("x").as_deref(), Some("2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn unit_that_is_let_go_in_the_middle_of_a_pass_leaves_no_ghost() {
    let mut world = World::new().await;
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_secs(20),
        _ => Duration::ZERO,
    })));
    let wanted = entry(1, world.contents.add(&hundred("1")));
    world.offer(std::slice::from_ref(&wanted)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let detached = Entry {
        state: UnitState::Detached,
        ..wanted.clone()
    };
    world.offer(&[detached]).await;
    world.offer(&[]).await;
    world.cluster.set_latency(None);
    settle().await;
    settle().await;
    let known = world
        .agent()
        .ledger
        .read(|state| state.units.contains_key(&wanted.unit));
    assert!(!known, "it is nobody's");
    world.rests().await;
    world.restart().await;
    world.rests().await;
    // It comes again, and what it had written is there already.
    world.ready_as(version(2, wanted)).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn watch_that_breaks_costs_a_list_and_shows_what_happened_meanwhile() {
    let mut world = World::new().await;
    world.ready(1, &hundred("1")).await;
    for _ in 0..5 {
        world.cluster.break_watches();
        settle().await;
    }
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("watch".to_owned(), 5)])
    );
    world.cluster.break_watches();
    world.set_value("operator", "c007", "hacked");
    settle().await;
    assert_eq!(world.value("c007").as_deref(), Some("1"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn kind_that_moves_to_another_version_is_watched_in_that_one() {
    let mut world = World::new().await;
    let widget = |api_version: &str| {
        json!({"apiVersion": api_version, "kind": "Widget",
            "metadata": {"name": "w", "namespace": "default"}, "spec": {"size": 1}})
    };
    world
        .cluster
        .serve("example.com/v1beta1", "Widget", "widgets", true);
    world.cluster.serve("example.com/v1", "Widget", "widgets", true);
    world.ready(1, &[widget("example.com/v1beta1")]).await;
    let second = version(2, entry(1, world.contents.add(&[widget("example.com/v1")])));
    world.ready_as(second).await;
    world.rests().await;
    // A status that its controller writes is no reason to ask.
    for n in 0..10 {
        world.cluster.set_status(&widget_key(), json!({"seen": n}));
        settle().await;
    }
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    world.cluster.edit("kubectl-edit", &widget_key(), |live| {
        live["spec"]["size"] = 2.into()
    });
    settle().await;
    assert_eq!(world.cluster.object(&widget_key()).unwrap()["spec"]["size"], 1);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_was_about_to_go_is_created_soon_after_it_went() {
    let mut world = World::new().await;
    world.cluster.write("kubectl-create", config_map("x", "theirs"));
    world.cluster.set_finalizers(&x(), &["example.com/hold"]);
    world.cluster.delete(&x());
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(&[wanted]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.cluster.set_finalizers(&x(), &[]);
    assert_eq!(world.value("x"), None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.quiet().await;
    world.rests().await;
}
