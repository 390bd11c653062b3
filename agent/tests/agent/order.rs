//! What goes first: a newer entry before a slow check, a person's request whatever is under way.

use std::time::Duration;

use flotilla_core::unit::Entry;
use flotilla_proto::agent::v1::{ObjectState, ObjectStatus};
use serde_json::{Value, json};

use crate::{
    scenes::{version, with_switch},
    world::{World, config_map, entry, key, settle},
};

fn hundred(value: &str) -> Vec<Value> {
    (0..100).map(|n| config_map(&format!("c{n:03}"), value)).collect()
}

#[tokio::test(start_paused = true)]
async fn newer_entry_goes_before_a_check_of_a_slow_server() {
    let mut world = World::new().await;
    world.ready(1, &hundred("1")).await;
    world
        .cluster
        .set_latency(Some(Box::new(|verb, key| match (verb, key.name.as_str()) {
            ("get", name) if name != "fix" => Duration::from_secs(30),
            _ => Duration::ZERO,
        })));
    for n in 0..100 {
        // An object of which a manager is to be folded is read first.
        world.set_value("kubectl-edit", &format!("c{n:03}"), "hacked");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.cluster.take_requests()["get"] > 0, "the check is under way");
    let mut objects = hundred("1");
    objects.push(config_map("fix", "1"));
    let second = version(2, entry(1, world.contents.add(&objects)));
    world.offer(std::slice::from_ref(&second)).await;
    let begun = tokio::time::Instant::now();
    world
        .until("the fix is applied", |world| world.value("fix").is_some())
        .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    world.cluster.set_latency(None);
    world
        .until("what drifted is corrected", |world| {
            (0..100).all(|n| world.value(&format!("c{n:03}")).as_deref() == Some("1"))
        })
        .await;
    world.until_ready(&second).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn newer_entry_goes_before_a_pass_of_a_slow_server() {
    let mut world = World::new().await;
    world
        .cluster
        .set_latency(Some(Box::new(|verb, key| match (verb, key.name.as_str()) {
            ("apply", name) if name != "fix" => Duration::from_secs(2),
            _ => Duration::ZERO,
        })));
    let first = entry(1, world.contents.add(&hundred("1")));
    world.offer(&[first]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let second = version(2, entry(1, world.contents.add(&[config_map("fix", "1")])));
    world.offer(std::slice::from_ref(&second)).await;
    let begun = tokio::time::Instant::now();
    world
        .until("the fix is applied", |world| world.value("fix").is_some())
        .await;
    // What was handed to the server is awaited: a few writes, all at once.
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(30), "{took:?}");
    world.until_ready(&second).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn request_during_a_job_lists_all_the_same() {
    let mut world = World::new().await;
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_secs(20),
        _ => Duration::ZERO,
    })));
    let second = version(
        2,
        entry(
            1,
            world.contents.add(&[config_map("x", "2"), config_map("y", "1")]),
        ),
    );
    world.offer(std::slice::from_ref(&second)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.value("x").as_deref(), Some("1"), "the job is under way");
    world.agent().ask(second.unit);
    world.until_ready(&second).await;
    settle().await;
    let requests = world.cluster.take_requests();
    assert_eq!(requests.get("list"), Some(&1), "{requests:?}");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn request_tries_at_once_what_waits_for_its_retry() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    world.contest("x").await;
    let unit = entry(1, world.contents.add(&[config_map("x", "1")])).unit;
    world.quiet().await;
    world.agent().ask(unit);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let requests = world.cluster.take_requests();
    assert!(
        requests.get("get").is_some_and(|looks| *looks >= 1),
        "{requests:?}"
    );
    world.ten_minutes().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_was_to_go_and_is_deleted_by_hand_during_a_job_is_gone() {
    let mut world = World::new().await;
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    let second = version(2, entry(1, world.contents.add(&[config_map("x", "1")])));
    world.ready_as(second).await;
    assert_eq!(world.objects["y"].state(), ObjectState::PendingRemoval);
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_secs(20),
        _ => Duration::ZERO,
    })));
    let third = version(3, entry(1, world.contents.add(&[config_map("x", "3")])));
    world.offer(std::slice::from_ref(&third)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.cluster.delete(&key("ConfigMap", "y"));
    world
        .until("it is gone", |world| {
            world.objects["y"].state() == ObjectState::Gone
        })
        .await;
    world.until_ready(&third).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn no_row_of_an_object_that_is_desired_says_gone() {
    let mut world = World::new().await;
    // Watches show objects before the job that writes them has ended.
    world
        .cluster
        .set_latency(Some(Box::new(|verb, key| match (verb, key.name.as_str()) {
            ("apply", "slow") => Duration::from_secs(20),
            _ => Duration::ZERO,
        })));
    let objects = [
        config_map("x", "1"),
        config_map("y", "1"),
        config_map("slow", "1"),
    ];
    let wanted = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&wanted)).await;
    let mut told = Vec::new();
    while !world.is_ready(&wanted) {
        world.take_report(Duration::from_secs(1)).await;
        told.extend(world.objects.values().map(ObjectStatus::state));
    }
    assert!(told.contains(&ObjectState::Applied));
    assert!(!told.contains(&ObjectState::Gone), "{told:?}");
    world.rests().await;
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
        "data": {"a": "Zm9v"}})
}

/// A hundred objects behind a webhook that takes 30 s, and a hundred others.
async fn behind_a_slow_webhook(world: &mut World) -> Entry {
    world.cluster.serve("v1", "Secret", "secrets", true);
    let mut objects = hundred("1");
    objects.extend((0..100).map(|n| secret(&format!("s{n:03}"))));
    world.cluster.set_latency(Some(Box::new(|verb, key| match verb {
        "apply" | "create" if key.kind == "ConfigMap" && key.name.starts_with('c') => Duration::from_secs(30),
        _ => Duration::ZERO,
    })));
    let begun = tokio::time::Instant::now();
    let unit = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&unit)).await;
    world
        .until("the other kind is written", |world| {
            (0..100).all(|n| {
                let key = key("Secret", &format!("s{n:03}"));
                world.cluster.object(&key).is_some()
            })
        })
        .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    unit
}

#[tokio::test(start_paused = true)]
async fn kind_behind_a_slow_webhook_delays_neither_others_nor_drift() {
    let mut world = World::new().await;
    let first = behind_a_slow_webhook(&mut world).await;
    let told = |world: &World| {
        let applied = world.objects.values();
        applied
            .filter(|object| object.state() == ObjectState::Applied)
            .count()
    };
    world
        .until("what is written is told", |world| told(world) >= 100)
        .await;
    let begun = tokio::time::Instant::now();
    world.cluster.delete(&key("Secret", "s007"));
    world
        .until("drift is corrected beside it", |world| {
            world.cluster.object(&key("Secret", "s007")).is_some()
        })
        .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(90), "{took:?}");
    assert!(told(&world) < 200, "the pass is under way");
    world.cluster.set_latency(None);
    world.until_ready(&first).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_a_slow_batch_is_cut_by_a_crash_is_known() {
    let mut world = World::new().await;
    let unit = behind_a_slow_webhook(&mut world).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.cluster.take_requests();
    world.restart().await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let requests = world.cluster.take_requests();
    let written = requests.get("apply").copied().unwrap_or_default();
    assert!((1..=10).contains(&written), "{requests:?}");
    world.cluster.set_latency(None);
    world.until_ready(&unit).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn checks_of_many_units_at_a_slow_server_delay_neither_a_commit_nor_a_correction_of_another() {
    let mut world = World::new().await;
    let mut units = Vec::new();
    for n in 0..40 {
        units.push(entry(
            n + 1,
            world.contents.add(&[config_map(&format!("slow{n:02}"), "1")]),
        ));
    }
    units.push(entry(100, world.contents.add(&[config_map("commit", "1")])));
    let fast = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "fast", "namespace": "default"}});
    world
        .cluster
        .serve("v1", "ServiceAccount", "serviceaccounts", true);
    units.push(entry(101, world.contents.add(&[fast])));
    world.offer(&units).await;
    for unit in &units {
        world.until_ready(unit).await;
    }
    world.quiet().await;
    world
        .cluster
        .set_latency(Some(Box::new(|verb, key| match (verb, key.name.as_str()) {
            ("get", name) if name.starts_with("slow") => Duration::from_secs(30),
            _ => Duration::ZERO,
        })));
    for n in 0..40 {
        world.set_value("kubectl-edit", &format!("slow{n:02}"), "theirs");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    units[40] = version(2, entry(100, world.contents.add(&[config_map("commit", "2")])));
    world.offer(&units).await;
    let account = key("ServiceAccount", "fast");
    world.cluster.delete(&account);
    world
        .until("it is applied", |world| {
            world.value("commit").as_deref() == Some("2")
        })
        .await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(5), "the commit: {took:?}");
    world
        .until("it is corrected", |world| {
            world.cluster.object(&account).is_some()
        })
        .await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(60), "the correction: {took:?}");
    world.cluster.set_latency(None);
    world
        .until("all are corrected", |world| {
            (0..40).all(|n| world.value(&format!("slow{n:02}")).as_deref() == Some("1"))
        })
        .await;
    for unit in &units {
        world.until_ready(unit).await;
    }
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn newer_entry_goes_before_the_check_of_its_unit_that_waits_for_a_slot() {
    let mut world = World::new().await;
    let mut units = Vec::new();
    for n in 0..40 {
        let content = world.contents.add(&[config_map(&format!("slow{n:02}"), "1")]);
        units.push(entry(n + 1, content));
    }
    world.offer(&units).await;
    for unit in &units {
        world.until_ready(unit).await;
    }
    world.quiet().await;
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "get" => Duration::from_secs(30),
        _ => Duration::ZERO,
    })));
    for n in 0..40 {
        world.set_value("kubectl-edit", &format!("slow{n:02}"), "theirs");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Nothing is to be read for this one.
    let switched = world
        .contents
        .add(&[with_switch(config_map("slow39", "1"), "reconcile", "disabled")]);
    units[39] = version(2, entry(40, switched));
    let begun = tokio::time::Instant::now();
    world.offer(&units).await;
    let wanted = units[39].clone();
    world
        .until("it is applied", |world| world.is_ready(&wanted))
        .await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(2), "{took:?}");
    world.cluster.set_latency(None);
    for unit in &units {
        world.until_ready(unit).await;
    }
    world.quiet().await;
    assert_eq!(world.value("slow38").as_deref(), Some("1"));
    assert_eq!(
        world.value("slow39").as_deref(),
        Some("theirs"),
        "it is left alone now"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn newer_entry_waits_neither_for_a_slow_list_nor_for_a_slow_discovery() {
    for slow in ["list", "discover"] {
        let mut world = World::new().await;
        let mut objects = hundred("1");
        if slow == "discover" {
            // A kind that is not served yet is looked for.
            objects = vec![json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "w", "namespace": "default"}})];
        }
        world.ready(2, &[config_map("other", "1")]).await;
        // What is served is asked anew once a while has passed.
        tokio::time::sleep(Duration::from_secs(60)).await;
        world
            .cluster
            .set_latency(Some(Box::new(move |verb, _| match verb == slow {
                true => Duration::from_secs(300),
                false => Duration::ZERO,
            })));
        let first = entry(1, world.contents.add(&objects));
        let other = entry(2, world.contents.add(&[config_map("other", "1")]));
        world.offer(&[first, other.clone()]).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let second = version(2, entry(1, world.contents.add(&[config_map("x", "2")])));
        let begun = tokio::time::Instant::now();
        world.offer(&[second.clone(), other]).await;
        world
            .until("it is applied", |world| world.value("x").as_deref() == Some("2"))
            .await;
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(2), "{slow}: {took:?}");
        world.cluster.set_latency(None);
        world.until_ready(&second).await;
        settle().await;
        world.quiet().await;
        world.rests().await;
    }
}
