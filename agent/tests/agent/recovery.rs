//! What was deleted or broke, and came back: a namespace, a definition, a commit, a Deployment. The unit is ready
//! again without anybody's help, and nothing goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flotilla_agent::{agent::LEDGER, cluster::ClusterError};
use flotilla_core::{
    object::ObjectKey,
    unit::{Entry, Settings},
};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{version, widget, widget_definition, widget_key},
    world::{World, config_map, deployment, entry, entry_with, key, settings, settle},
};

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
}

fn namespace_key() -> ObjectKey {
    ObjectKey::new("", "Namespace", "", "team")
}

/// That they were the unit's own stood in the ledger alone.
#[tokio::test(start_paused = true)]
async fn objects_that_had_left_their_app_stay_when_the_head_of_the_ledger_is_lost_and_all_settles() {
    for head in [None, Some(b"?".to_vec())] {
        let mut world = World::new().await;
        let both = world.contents.add(&[config_map("x", "1"), config_map("y", "1")]);
        let one = world.contents.add(&[config_map("x", "1")]);
        world.offer(&[entry(1, both)]).await;
        world.until_ready(&entry(1, both)).await;
        world.offer(&[entry(1, one)]).await;
        world
            .until("it is counted", |world| {
                world.unit(1).unwrap().objects_pending_removal == 1
            })
            .await;
        let before = world.cluster.object(&key("ConfigMap", "y"));
        world.agent = None;
        tokio::task::yield_now().await;
        world.cells.set(LEDGER, head);
        world.cluster.take_requests();
        world.restart().await;
        assert!(world.agent().ledger.read(|state| state.units.is_empty()));
        world.offer(&[entry(1, one)]).await;
        world
            .until("it is counted no more", |world| {
                world.is_ready(&entry(1, one)) && world.unit(1).unwrap().objects_pending_removal == 0
            })
            .await;
        world.rests().await;
        assert_eq!(world.cluster.object(&key("ConfigMap", "y")), before);
        assert!(!world.cluster.take_requests().contains_key("delete"));
    }
}

fn in_team(name: &str) -> Value {
    let mut object = config_map(name, "1");
    object["metadata"]["namespace"] = "team".into();
    object
}

fn team_key(name: &str) -> ObjectKey {
    ObjectKey::new("", "ConfigMap", "team", name)
}

#[tokio::test(start_paused = true)]
async fn unit_whose_namespace_was_deleted_is_ready_again_when_it_is_back() {
    for held in [false, true] {
        let mut world = World::new().await;
        let wanted = world.ready(1, &[namespace(), in_team("a"), in_team("b")]).await;
        world.cluster.write("somebody", in_team("theirs"));
        if held {
            world
                .cluster
                .set_finalizers(&team_key("theirs"), &["example.com/hold"]);
        }
        world.cluster.delete(&namespace_key());
        if held {
            world
                .until("it waits for the namespace", |world| {
                    world.unit(1).unwrap().ready() != Readiness::True
                })
                .await;
            tokio::time::sleep(Duration::from_secs(200)).await;
            world.cluster.set_finalizers(&team_key("theirs"), &[]);
        }
        world
            .until("all is back", |world| {
                let there = |key: &ObjectKey| world.cluster.object(key).is_some();
                there(&team_key("a")) && there(&team_key("b")) && there(&namespace_key())
            })
            .await;
        world.until_ready(&wanted).await;
        assert_eq!(world.unit(1).unwrap().objects_failed, 0);
        world.rests().await;
    }
}

/// Whether it waits for its end or is gone: what is wrong is the same for each of its objects.
#[tokio::test(start_paused = true)]
async fn objects_of_a_namespace_that_was_deleted_are_one_line() {
    for held in [false, true] {
        let mut world = World::new().await;
        world.cluster.write("somebody", namespace());
        let names: Vec<String> = (0..30).map(|n| format!("x{n}")).collect();
        let objects: Vec<_> = names.iter().map(|name| in_team(name)).collect();
        let wanted = world.ready(1, &objects).await;
        if held {
            world.cluster.write("somebody", in_team("theirs"));
            world
                .cluster
                .set_finalizers(&team_key("theirs"), &["example.com/hold"]);
        }
        world.cluster.delete(&namespace_key());
        tokio::time::sleep(Duration::from_secs(1200)).await;
        while world.take_report(Duration::from_secs(1)).await.is_some() {}
        let said = &world.unit(1).unwrap().message;
        let expected = match held {
            true => "namespace team is being deleted",
            false => "namespaces \"team\" not found: none of its objects can be written",
        };
        assert!(
            said.starts_with(expected) && !said.contains("ConfigMap/team/x") && !said.contains("more"),
            "{said}"
        );
        world.cluster.set_finalizers(&team_key("theirs"), &[]);
        settle().await;
        world.cluster.write("somebody", namespace());
        world.until_ready(&wanted).await;
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn unit_in_a_namespace_of_somebody_else_is_ready_again_when_they_restore_it() {
    let mut world = World::new().await;
    world.cluster.write("somebody", namespace());
    let wanted = world.ready(1, &[in_team("a"), in_team("b")]).await;
    world.cluster.delete(&namespace_key());
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().ready() == Readiness::False
        })
        .await;
    let quiet = world.ten_minutes().await;
    assert!(
        quiet.requests.values().sum::<u64>() <= 50 && quiet.wakes <= 60,
        "{quiet:?}"
    );
    world.cluster.write("somebody", namespace());
    let begun = tokio::time::Instant::now();
    world.until_ready(&wanted).await;
    assert!(begun.elapsed() < Duration::from_secs(70));
    world.rests().await;
}

/// A refused object of another commit leaves the unit half way between two.
async fn half_way() -> (World, Entry) {
    let mut world = World::new().await;
    let a = world.ready(1, &[config_map("x", "1")]).await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.name == "bad").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: "refused".into(),
        })
    })));
    let b = version(
        2,
        entry(
            1,
            world
                .contents
                .add(&[config_map("x", "2"), config_map("bad", "2")]),
        ),
    );
    world.offer(&[b]).await;
    world
        .until("it is told", |world| {
            let unit = world.unit(1).unwrap();
            unit.held_version == 2 && unit.ready() == Readiness::False
        })
        .await;
    world.quiet().await;
    assert_eq!(world.value("x").as_deref(), Some("2"));
    (world, version(3, a))
}

#[tokio::test(start_paused = true)]
async fn rollback_is_reported_as_applied_only_when_it_is() {
    let (mut world, rollback) = half_way().await;
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_secs(10),
        _ => Duration::ZERO,
    })));
    world.offer(std::slice::from_ref(&rollback)).await;
    let applied = |world: &World| {
        let rows = world.history.iter();
        rows.filter_map(|row| row.applied.as_ref())
            .any(|applied| applied.version == 3)
    };
    while world.value("x").as_deref() != Some("1") {
        world.take_report(Duration::from_secs(1)).await;
        assert!(
            !applied(&world) || world.value("x").as_deref() == Some("1"),
            "{:?}",
            world.history
        );
    }
    let first = &world.history[0];
    assert_eq!(first.held_version, 3);
    assert_ne!(first.ready(), Readiness::True);
    assert_eq!(first.applied.as_ref().unwrap().version, 1, "{first:?}");
    assert_eq!(first.healthy.as_ref().unwrap().version, 1, "{first:?}");
    world.until_ready(&rollback).await;
    world.rests().await;
}

fn waiting() -> Settings {
    Settings {
        wait: true,
        ..settings()
    }
}

#[tokio::test(start_paused = true)]
async fn deployment_that_degrades_for_longer_than_the_timeout_is_told_once_each_way() {
    let mut world = World::new().await;
    world.cluster.run_deployments();
    let wanted = entry_with(1, world.contents.add(&[deployment("web")]), waiting(), Vec::new());
    world.ready_as(wanted).await;
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    world.quiet().await;
    let web = key("Deployment", "web");
    world.cluster.set_ready(&web, false);
    // Its status goes on changing without becoming better.
    for n in 0..60 {
        world
            .cluster
            .annotate("somebody", &web, "example.com/beat", &n.to_string());
        world.take_report(Duration::from_secs(5)).await;
    }
    assert_eq!(world.unit(1).unwrap().reason, "HealthCheckFailed");
    assert_eq!(world.events.len(), 1, "{:?}", world.events);
    let rows = world.history.len();
    assert!(rows <= 3, "{rows} rows: {:?}", world.history);
    world.rests().await;
    world.cluster.set_ready(&web, true);
    world
        .until("it has recovered", |world| {
            world.unit(1).unwrap().ready() == Readiness::True
        })
        .await;
    world.rests().await;
    assert_eq!(world.events.len(), 2, "{:?}", world.events);
}

#[tokio::test(start_paused = true)]
async fn deployment_that_degrades_for_a_moment_is_no_failure() {
    let mut world = World::new().await;
    world.cluster.run_deployments();
    let wanted = entry_with(1, world.contents.add(&[deployment("web")]), waiting(), Vec::new());
    world.ready_as(wanted).await;
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    world.quiet().await;
    for _ in 0..3 {
        world.cluster.set_ready(&key("Deployment", "web"), false);
        settle().await;
        world.cluster.set_ready(&key("Deployment", "web"), true);
        settle().await;
    }
    world
        .until("it has recovered", |world| {
            world.unit(1).unwrap().ready() == Readiness::True
        })
        .await;
    assert!(
        world.history.iter().all(|row| row.ready() != Readiness::False),
        "{:?}",
        world.history
    );
    world.rests().await;
    assert_eq!(world.events("HealthCheckFailed").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_definition_that_was_deleted_come_back_with_it_and_are_watched_again() {
    for restores in ["somebody", "the unit", "another unit"] {
        let mut world = World::new().await;
        let definition = widget_definition();
        let (with, without) = (
            world.contents.add(&[definition.clone(), widget()]),
            world.contents.add(&[widget()]),
        );
        let definitions = world.contents.add(std::slice::from_ref(&definition));
        let units = match restores {
            "the unit" => vec![entry(1, with)],
            "another unit" => vec![entry(1, without), entry(2, definitions)],
            _ => {
                world.cluster.write("somebody", definition.clone());
                vec![entry(1, without)]
            }
        };
        world.offer(&units).await;
        world
            .until("all are ready", |world| {
                units.iter().all(|unit| world.is_ready(unit))
            })
            .await;
        world.quiet().await;
        world.cluster.delete(&ObjectKey::of(&definition).unwrap());
        if restores == "somebody" {
            assert!(world.cluster.object(&widget_key()).is_none());
            tokio::time::sleep(Duration::from_secs(300)).await;
            world.cluster.write("somebody", definition);
        }
        let begun = tokio::time::Instant::now();
        world
            .until("its object is back", |world| {
                world.cluster.object(&widget_key()).is_some()
            })
            .await;
        assert!(
            begun.elapsed() < Duration::from_secs(70),
            "{restores}: {:?}",
            begun.elapsed()
        );
        world
            .until("all are ready", |world| {
                units.iter().all(|unit| world.is_ready(unit))
            })
            .await;
        world.rests().await;
        let begun = tokio::time::Instant::now();
        world.cluster.edit("kubectl-edit", &widget_key(), |live| {
            live["spec"]["size"] = 2.into()
        });
        world
            .until("its drift is corrected", |world| {
                world.cluster.object(&widget_key()).unwrap()["spec"]["size"] == 1
            })
            .await;
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{restores}: {:?}",
            begun.elapsed()
        );
        world.rests().await;
    }
}

/// The remedy that a refused change of an immutable field names.
#[tokio::test(start_paused = true)]
async fn object_whose_change_is_refused_is_created_as_desired_once_it_is_deleted() {
    for kind in ["Deployment", "Job"] {
        let mut world = World::new().await;
        world.cluster.serve("batch/v1", "Job", "jobs", true);
        let (group, api_version) = match kind {
            "Job" => ("batch", "batch/v1"),
            _ => ("apps", "apps/v1"),
        };
        let key = ObjectKey::new(group, kind, "default", "web");
        let object = |selector: &str| {
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "namespace": "default"},
                "spec": {"selector": selector}})
        };
        let content = world.contents.add(&[object("a")]);
        let first = entry(1, content);
        world.offer(std::slice::from_ref(&first)).await;
        world.until_ready(&first).await;
        if kind == "Job" {
            let done = json!({"conditions": [{"type": "Complete", "status": "True"}]});
            world.cluster.set_status(&key, done);
            settle().await;
        }
        let is_there = Arc::new(AtomicBool::new(true));
        let (refuses, immutable) = (is_there.clone(), key.clone());
        world.cluster.set_fault(Some(Box::new(move |verb, of| {
            let is_change = matches!(verb, "apply" | "dry-run") && *of == immutable;
            (is_change && refuses.load(Ordering::Relaxed)).then(|| ClusterError::Rejected {
                code: 422,
                reason: "Invalid".into(),
                message: "spec.selector: field is immutable".into(),
            })
        })));
        let content = world.contents.add(&[object("b")]);
        let second = entry(1, content);
        world.offer(std::slice::from_ref(&second)).await;
        world
            .until("it is refused", |world| {
                world
                    .unit(1)
                    .is_some_and(|unit| unit.message.contains("immutable"))
            })
            .await;
        let begun = tokio::time::Instant::now();
        is_there.store(false, Ordering::Relaxed);
        world.cluster.delete(&key);
        world.until_ready(&second).await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{kind}: {:?}",
            begun.elapsed()
        );
        let live = world.cluster.object(&key).unwrap();
        assert_eq!(live["spec"]["selector"], "b");
        world.cluster.set_fault(None);
        world.rests().await;
    }
}
