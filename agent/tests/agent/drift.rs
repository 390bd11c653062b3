//! Drift: what is corrected, at what cost, and what is none.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use crate::world::{World, config_map, key, settle};

#[tokio::test(start_paused = true)]
async fn drift_is_corrected_and_says_who_it_was() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    settle().await;
    let begun = tokio::time::Instant::now();
    world
        .cluster
        .edit("kubectl-edit", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "hacked".into()
        });
    world
        .until("drift is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    world
        .until("it is told", |world| !world.events("DriftCorrected").is_empty())
        .await;
    let told = &world.events("DriftCorrected")[0].message;
    assert!(
        told.contains("kubectl-edit") && told.contains("/data/a"),
        "{told}"
    );
    world.rests().await;
}

/// Between what was seen and the write, somebody else may have said something about the object.
#[tokio::test(start_paused = true)]
async fn what_changed_after_it_was_seen_is_read_before_it_is_written() {
    for (pause, is_large) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::new().await;
        let mut wanted = config_map("x", "1");
        // What a watch shows of so large an object is not kept.
        if is_large {
            wanted["data"]["b"] = "x".repeat(70 << 10).into();
        }
        world.ready(1, &[wanted]).await;
        settle().await;
        let x = key("ConfigMap", "x");
        let edit = |world: &World, value: &str| {
            world
                .cluster
                .edit("operator", &x, |live| live["data"]["a"] = value.into());
        };
        world.cluster.take_requests();
        world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
            "apply" => Duration::from_secs(5),
            _ => Duration::ZERO,
        })));
        edit(&world, "hacked");
        tokio::time::sleep(Duration::from_secs(2)).await;
        match pause {
            true => {
                let reconcile = "kustomize.toolkit.fluxcd.io/reconcile";
                world
                    .cluster
                    .annotate("kubectl-annotate", &x, reconcile, "disabled");
            }
            false => edit(&world, "hacked again"),
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let value = world.value("x");
        let requests = world.cluster.take_requests();
        match pause {
            true => assert_eq!(value.as_deref(), Some("hacked"), "it is left alone"),
            false => assert_eq!(value.as_deref(), Some("1")),
        }
        let (writes, reads) = (if pause { 1 } else { 2 }, if is_large { 2 } else { 1 });
        let requests: Vec<_> = requests.iter().map(|(verb, n)| (verb.as_str(), *n)).collect();
        assert_eq!(requests, [("apply", writes), ("get", reads)]);
        world.cluster.set_latency(None);
        world.quiet().await;
        world.rests().await;
    }
}

/// The client repeats a write whose answer it does not get: the version is another by then, and it is its own.
#[tokio::test(start_paused = true)]
async fn a_correction_whose_answer_was_lost_is_told_though_its_repetition_finds_it_done() {
    for is_ours in [true, false] {
        let mut world = World::new().await;
        world.ready(1, &[config_map("x", "1")]).await;
        settle().await;
        world.cluster.take_requests();
        let x = key("ConfigMap", "x");
        let edit = |world: &World, value: &str| {
            world
                .cluster
                .edit("operator", &x, |live| live["data"]["a"] = value.into());
        };
        if is_ours {
            world.cluster.lose_answers(1);
        } else {
            // They put it back themselves, before the write comes.
            world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
                "apply" => Duration::from_secs(2),
                _ => Duration::ZERO,
            })));
        }
        edit(&world, "hacked");
        if !is_ours {
            tokio::time::sleep(Duration::from_secs(1)).await;
            edit(&world, "1");
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.value("x").as_deref(), Some("1"));
        world.cluster.set_latency(None);
        let requests = world.cluster.take_requests();
        while world.take_report(Duration::from_secs(1)).await.is_some() {}
        let told = world.events("DriftCorrected");
        match is_ours {
            true => {
                assert_eq!((requests["apply"], told.len()), (2, 1), "{told:?}");
                assert!(
                    told[0].message.contains("changed by operator at /data/a"),
                    "{told:?}"
                );
            }
            false => assert!(told.is_empty(), "{told:?}"),
        }
        world.rests().await;
    }
}

/// Whoever writes an object all the time cannot keep it from being corrected.
#[tokio::test(start_paused = true)]
async fn an_object_that_somebody_writes_all_the_time_is_corrected_after_one_refusal() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    settle().await;
    world.cluster.take_requests();
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_millis(500),
        _ => Duration::ZERO,
    })));
    world.set_value("operator", "x", "hacked");
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world
            .cluster
            .set_status(&key("ConfigMap", "x"), json!({"observed": n}));
    }
    assert_eq!(world.value("x").as_deref(), Some("1"));
    assert_eq!(
        world.cluster.take_requests(),
        [("apply".to_owned(), 2), ("get".to_owned(), 1)].into()
    );
    world.cluster.set_latency(None);
    world.quiet().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_is_created_again() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    settle().await;
    world.cluster.delete(&key("ConfigMap", "x"));
    world
        .until("it is back", |world| world.value("x").is_some())
        .await;
    world
        .until("it is told", |world| !world.events("DriftCorrected").is_empty())
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn fields_that_others_own_are_no_drift() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    world.cluster.edit("operator", &key("ConfigMap", "x"), |live| {
        live["data"]["theirs"] = "2".into()
    });
    settle().await;
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    assert_eq!(
        world.cluster.object(&key("ConfigMap", "x")).unwrap()["data"]["theirs"],
        "2"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_fought_over_is_contested_and_not_a_hot_loop() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    for _ in 0..20 {
        world.cluster.edit("stubborn", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "theirs".into()
        });
        settle().await;
    }
    let writes = world.cluster.take_requests()["apply"];
    assert!((3..=5).contains(&writes), "{writes} writes in ten minutes");
    world
        .until("it is told", |world| !world.events("DriftContested").is_empty())
        .await;
    assert_eq!(world.events("DriftContested").len(), 1);
    // What the other manager wrote last is put back once more when the interval is over.
    let once = world.ten_minutes().await;
    assert_eq!(once.requests["apply"], 1, "{once:?}");
    assert!(
        once.wakes <= 6 && once.ledger_writes <= 2 && once.events <= 2,
        "{once:?}"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_watch_showed_is_found_within_the_hour_or_when_asked() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    world.agent().ask(wanted.unit);
    settle().await;
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("list".to_owned(), 1)])
    );
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("list".to_owned(), 1)])
    );
    world.rests().await;
}
