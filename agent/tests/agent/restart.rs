//! A restart is no event: what was reported stands, and nothing is applied or told again.

use std::time::Duration;

use flotilla_agent::cluster::ClusterError;
use flotilla_core::unit::{Entry, Settings, UnitState};
use flotilla_proto::agent::v1::{Readiness, UnitStatus};
use serde_json::Value;

use crate::world::{Quiet, World, config_map, deployment, entry, entry_with, key, settings, settle};

/// A row without the time at which it was made.
fn row(unit: &UnitStatus) -> UnitStatus {
    UnitStatus {
        observed_at_ms: 0,
        ..unit.clone()
    }
}

/// Restarts the agent, and takes in what it tells as it comes.
async fn restarts(world: &mut World) {
    world.quiet().await;
    world.restart().await;
    for _ in 0..30 {
        world.take_report(Duration::from_secs(1)).await;
    }
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
}

/// Restarts the agent, and asserts that all it tells of a unit is what it told before.
async fn restarts_as_before(world: &mut World) {
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    let before = row(world.unit(1).unwrap());
    restarts(world).await;
    assert!(!world.history.is_empty(), "the first report names the unit");
    for told in &world.history {
        assert_eq!(row(told), before);
    }
    assert_eq!(world.events.len(), 0, "{:?}", world.events);
}

#[tokio::test(start_paused = true)]
async fn restart_keeps_the_status_of_a_ready_unit_and_applies_nothing() {
    let mut world = World::new().await;
    world.cluster.run_deployments();
    let mut objects: Vec<Value> = (0..30).map(|n| config_map(&format!("c{n}"), "1")).collect();
    objects.push(deployment("web"));
    let settings = Settings {
        wait: true,
        ..settings()
    };
    let wanted = entry_with(1, world.contents.add(&objects), settings, Vec::new());
    world.ready_as(wanted.clone()).await;
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    for answers_after in [0, 0, 7] {
        // What is told before the server has answered is what was told last.
        world
            .cluster
            .set_latency(Some(Box::new(move |_, _| Duration::from_secs(answers_after))));
        restarts_as_before(&mut world).await;
        let requests = world.cluster.take_requests();
        for verb in ["apply", "dry-run", "patch", "get"] {
            assert_eq!(requests.get(verb), None, "{requests:?}");
        }
    }
    assert!(world.is_ready(&wanted));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn restart_keeps_the_status_of_a_unit_that_waited_too_long() {
    let mut world = World::new().await;
    let settings = Settings {
        wait: true,
        ..settings()
    };
    let wanted = entry_with(1, world.contents.add(&[deployment("web")]), settings, Vec::new());
    world.offer(&[wanted]).await;
    world
        .until("it is applied", |world| {
            world.cluster.object(&key("Deployment", "web")).is_some()
        })
        .await;
    world.cluster.set_ready(&key("Deployment", "web"), false);
    world
        .until("the time is over", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.reason == "HealthCheckFailed")
        })
        .await;
    world.rests().await;
    restarts_as_before(&mut world).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn restart_keeps_the_status_of_a_unit_with_a_refused_object() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.name == "bad").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: "refused".into(),
        })
    })));
    let content = world
        .contents
        .add(&[config_map("x", "1"), config_map("bad", "1")]);
    world.offer(&[entry(1, content)]).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    restarts_as_before(&mut world).await;
    world.rests_but_for(&[("apply", 10), ("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn restart_keeps_the_status_of_a_suspended_and_of_a_contested_unit() {
    let mut world = World::new().await;
    let one = entry(1, world.contents.add(&[config_map("x", "1")]));
    let two = entry(2, world.contents.add(&[config_map("y", "1")]));
    world.offer(&[one.clone(), two.clone()]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&one) && world.is_ready(&two)
        })
        .await;
    let suspended = Entry {
        state: UnitState::Suspended,
        ..two
    };
    world.offer(&[one, suspended]).await;
    world.contest("x").await;
    settle().await;
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    let before = [1, 2].map(|n| row(world.unit(n).unwrap()));
    restarts(&mut world).await;
    for told in &world.history {
        assert!(before.contains(&row(told)), "{told:?}");
    }
    assert_eq!(world.events.len(), 0, "{:?}", world.events);
    assert_eq!(world.value("x").as_deref(), Some("theirs"), "the contest goes on");
    // Once it is over, the field is put back.
    world.ten_minutes().await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.rests().await;
}

/// What is given up because the agent stops has not failed.
#[tokio::test(start_paused = true)]
async fn unit_of_an_agent_that_stopped_during_its_pass_or_check_says_nothing_of_that() {
    let silent = |verb: &'static str| -> flotilla_agent::cluster::fake::faults::Latency {
        Box::new(move |asked, _| Duration::from_secs(if asked == verb { 3600 } else { 0 }))
    };
    for during_check in [false, true] {
        let mut world = World::new().await;
        let objects = ["x", "y", "z"].map(|name| config_map(name, "1"));
        let mut wanted = entry(1, world.contents.add(&objects));
        if during_check {
            world.ready_as(wanted.clone()).await;
            world.cluster.set_latency(Some(silent("get")));
            world.set_value("somebody", "x", "theirs");
        } else {
            world.cluster.set_latency(Some(silent("get")));
            world.offer(std::slice::from_ref(&wanted)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.stop_and_start().await;
        // As it stands until all is seen again.
        for _ in 0..30 {
            world.take_report(Duration::from_secs(1)).await;
        }
        let said = world
            .history
            .iter()
            .map(|unit| (unit.reason.as_str(), unit.message.as_str()));
        let failures: Vec<_> = said
            .filter(|(reason, _)| !["Progressing", "ReconciliationSucceeded"].contains(reason))
            .collect();
        assert_eq!(failures, [], "during a check: {during_check}");
        world.cluster.set_latency(None);
        wanted.version = 2;
        world.offer(std::slice::from_ref(&wanted)).await;
        world.until_ready(&wanted).await;
        world.quiet().await;
        assert_eq!(world.value("x").as_deref(), Some("1"));
        world.rests().await;
    }
}

/// A large cluster may take minutes to list a kind.
#[tokio::test(start_paused = true)]
async fn rows_wait_for_the_first_list_of_their_kind_and_say_nothing_that_is_not_known() {
    for wait in [false, true] {
        let mut world = World::new().await;
        let settings = Settings { wait, ..settings() };
        let objects = ["x", "y", "z"].map(|name| config_map(name, "1"));
        let wanted = entry_with(1, world.contents.add(&objects), settings, Vec::new());
        let other = entry(2, world.contents.add(&[deployment("web")]));
        world.cluster.run_deployments();
        world.offer(&[wanted.clone(), other.clone()]).await;
        world.until_ready(&wanted).await;
        world.until_ready(&other).await;
        world.quiet().await;
        world
            .cluster
            .set_latency(Some(Box::new(|verb, key| match (verb, key.kind.as_str()) {
                ("watch", "ConfigMap") => Duration::from_secs(300),
                _ => Duration::ZERO,
            })));
        world.restart().await;
        let begun = tokio::time::Instant::now();
        world
            .until("the other kind is told", |world| {
                world.told.iter().any(|row| row.health == "Current")
            })
            .await;
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        while begun.elapsed() < Duration::from_secs(290) {
            world.take_report(Duration::from_secs(1)).await;
        }
        let names = |world: &World| -> std::collections::BTreeSet<String> {
            let keys = world.told.iter().filter_map(|row| row.key.as_ref());
            keys.map(|key| key.name.clone()).collect()
        };
        assert_eq!(
            names(&world),
            ["web".to_owned()].into(),
            "the others are not known"
        );
        for unit in &world.history {
            let is_as_before = unit.ready() == Readiness::True && unit.health == "Current";
            let is_unanswered = unit.reason == "Unanswered" && unit.message.contains("has not shown");
            assert!(
                is_as_before || wait && is_unanswered && unit.health == "Current",
                "{unit:?}"
            );
        }
        let last = world.unit(1).unwrap();
        assert_eq!(last.reason == "Unanswered", wait, "{last:?}");
        world.until_ready(&wanted).await;
        world.quiet().await;
        assert!(
            world.objects.values().all(|row| row.health == "Current"),
            "{:?}",
            world.objects
        );
        assert_eq!(
            world.events("ReconciliationSucceeded").len(),
            0,
            "nothing has happened"
        );
        world.cluster.set_latency(None);
        world.rests().await;
    }
}

/// A list that is refused is an answer: what it would have shown is not known.
#[tokio::test(start_paused = true)]
async fn rows_of_a_kind_whose_list_is_refused_are_told_as_not_known() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &[config_map("x", "1"), deployment("web")]).await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "watch" && key.kind == "ConfigMap").then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".into(),
            message: "no".into(),
        })
    })));
    world.restart().await;
    world
        .until("it is told", |world| {
            let told = |name: &str, health: &str| {
                let named = |row: &&flotilla_proto::agent::v1::ObjectStatus| {
                    row.key.as_ref().is_some_and(|key| key.name == name)
                };
                world.told.iter().filter(named).any(|row| row.health == health)
            };
            told("x", "Unknown") && (told("web", "Current") || told("web", "InProgress"))
        })
        .await;
    assert!(world.is_ready(&wanted), "{:?}", world.units);
    // The watch is tried every 30 s and a moment: somebody may have granted the right. And that of all namespaces after
    // a minute, three, and seven.
    let mut quiet = world.ten_minutes().await;
    let watches = quiet.requests.remove("watch").unwrap_or_default();
    assert!((15..=24).contains(&watches), "{watches}");
    quiet.wakes = 0;
    assert_eq!(quiet, Quiet::default());
}
