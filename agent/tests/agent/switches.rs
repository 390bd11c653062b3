//! The switches of an object, set in Git or on the live object: whether an edit of our fields stays, and that
//! nothing goes on afterwards.

use std::time::Duration;

use flotilla_core::unit::{Entry, UnitState};
use flotilla_proto::agent::v1::ObjectState;
use serde_json::json;

use crate::{
    scenes::{switch, version, with_switch, x},
    world::{World, config_map, deployment, entry, key, settle},
};

#[tokio::test(start_paused = true)]
async fn switch_set_in_git_decides_whether_an_edit_stays_and_nothing_follows() {
    for (name, value, stays) in [
        ("reconcile", "disabled", true),
        ("ssa", "Ignore", true),
        ("ssa", "IfNotPresent", true),
        ("ssa", "Merge", false),
        ("ssa", "Override", false),
        ("force", "enabled", false),
        ("prune", "disabled", false),
    ] {
        for manager in ["kubectl-edit", "operator"] {
            let mut world = World::new().await;
            world.ready(1, &[config_map("x", "1")]).await;
            let switched = with_switch(config_map("x", "1"), name, value);
            let second = version(2, entry(1, world.contents.add(&[switched])));
            world.ready_as(second).await;
            world.set_value(manager, "x", "theirs");
            settle().await;
            let expected = if stays { "theirs" } else { "1" };
            let found = world.value("x");
            assert_eq!(found.as_deref(), Some(expected), "{name}: {value}, {manager}");
            world.rests().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn switch_set_on_the_live_object_decides_whether_an_edit_stays_and_nothing_follows() {
    for (name, value, stays) in [
        ("reconcile", "disabled", true),
        ("ssa", "Ignore", true),
        ("ssa", "IfNotPresent", false),
        ("ssa", "Merge", false),
        ("ssa", "Override", false),
        ("force", "enabled", false),
        ("prune", "disabled", false),
    ] {
        for (annotates, edits) in [("kubectl-annotate", "kubectl-edit"), ("headlamp", "operator")] {
            let mut world = World::new().await;
            world.ready(1, &[config_map("x", "1")]).await;
            world.cluster.annotate(annotates, &x(), &switch(name), value);
            world.rests().await;
            world.set_value(edits, "x", "theirs");
            settle().await;
            let expected = if stays { "theirs" } else { "1" };
            let found = world.value("x");
            assert_eq!(found.as_deref(), Some(expected), "{name}: {value}, {edits}");
            world.rests().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn switch_taken_off_the_live_object_has_what_drifted_meanwhile_corrected() {
    for (name, value) in [("reconcile", "disabled"), ("ssa", "Ignore")] {
        let mut world = World::new().await;
        world.ready(1, &[config_map("x", "1")]).await;
        world
            .cluster
            .annotate("kubectl-annotate", &x(), &switch(name), value);
        world.set_value("kubectl-edit", "x", "theirs");
        world.rests().await;
        world.cluster.edit("kubectl-annotate", &x(), |live| {
            live["metadata"]["annotations"] = json!({});
        });
        world
            .until("it is corrected", |world| {
                world.value("x").as_deref() == Some("1")
            })
            .await;
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn paused_object_takes_no_commit_until_the_pause_ends() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    world
        .cluster
        .annotate("headlamp", &x(), &switch("reconcile"), "disabled");
    let second = version(2, entry(1, world.contents.add(&[config_map("x", "2")])));
    world.ready_as(second).await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.rests().await;
    world.cluster.edit("headlamp", &x(), |live| {
        live["metadata"]["annotations"] = json!({});
    });
    world
        .until("the commit is applied", |world| {
            world.value("x").as_deref() == Some("2")
        })
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_deleted_under_a_switch_comes_back_only_where_the_switch_lets_it() {
    for (name, value, returns) in [
        ("reconcile", "disabled", false),
        ("ssa", "Ignore", false),
        ("ssa", "IfNotPresent", true),
        ("ssa", "Merge", true),
        ("prune", "disabled", true),
    ] {
        let mut world = World::new().await;
        world.ready(1, &[config_map("x", "1")]).await;
        let switched = with_switch(config_map("x", "1"), name, value);
        let second = version(2, entry(1, world.contents.add(&[switched])));
        world.ready_as(second).await;
        world.cluster.delete(&x());
        settle().await;
        assert_eq!(world.value("x").is_some(), returns, "{name}: {value}");
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn merge_leaves_fields_of_kubectl_alone_and_puts_ours_back() {
    let mut world = World::new().await;
    let mut theirs = config_map("x", "old");
    theirs["data"]["theirs"] = "1".into();
    world.cluster.write("kubectl-client-side-apply", theirs);
    world
        .ready(1, &[with_switch(config_map("x", "1"), "ssa", "Merge")])
        .await;
    world.rests().await;
    world
        .cluster
        .edit("kubectl-edit", &x(), |live| live["data"]["theirs"] = "2".into());
    world.rests().await;
    world.set_value("kubectl-edit", "x", "hacked");
    world
        .until("ours is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    world.rests().await;
    let live = world.cluster.object(&x()).unwrap();
    assert_eq!(live["data"], json!({"a": "1", "theirs": "2"}));
}

#[tokio::test(start_paused = true)]
async fn unit_that_is_not_enforced_asks_and_tells_nothing_whatever_happens_to_its_objects() {
    for state in [UnitState::Suspended, UnitState::Detached] {
        let mut world = World::new().await;
        let wanted = world
            .ready(1, &[config_map("x", "1"), config_map("y", "1")])
            .await;
        let kept = Entry {
            state: state.clone(),
            ..wanted
        };
        world.offer(&[kept]).await;
        world.rests().await;
        world.set_value("kubectl-edit", "x", "theirs");
        world.cluster.delete(&key("ConfigMap", "y"));
        settle().await;
        assert_eq!(world.cluster.take_requests().len(), 0, "{state:?}");
        assert_eq!(
            (world.value("x").as_deref(), world.value("y")),
            (Some("theirs"), None)
        );
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn unit_suspended_in_the_middle_of_a_pass_stops_and_rests() {
    let mut world = World::new().await;
    let objects: Vec<_> = (0..100).map(|n| config_map(&format!("c{n:03}"), "1")).collect();
    let wanted = entry(1, world.contents.add(&objects));
    world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
        "apply" => Duration::from_secs(2),
        _ => Duration::ZERO,
    })));
    world.offer(std::slice::from_ref(&wanted)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world
        .offer(&[Entry {
            state: UnitState::Suspended,
            ..wanted.clone()
        }])
        .await;
    world.cluster.set_latency(None);
    settle().await;
    let written = world.cluster.keys("ConfigMap").len();
    assert!(written > 0 && written < 100, "{written}");
    world.rests().await;
    world.ready_as(wanted).await;
    assert_eq!(world.cluster.keys("ConfigMap").len(), 100);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn restart_of_a_rollout_by_kubectl_stands() {
    let mut world = World::new().await;
    world.ready(1, &[deployment("web")]).await;
    let web = key("Deployment", "web");
    let restarted = "2026-01-01T00:01:00Z";
    world.cluster.edit("kubectl-rollout", &web, |live| {
        live["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": restarted});
    });
    world.rests().await;
    let live = world.cluster.object(&web).unwrap();
    let annotations = &live["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["kubectl.kubernetes.io/restartedAt"], restarted);
}

#[tokio::test(start_paused = true)]
async fn object_that_is_there_and_is_to_be_left_alone_holds_up_nothing() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    for theirs in [false, true] {
        let mut world = World::new().await;
        let mut live = namespace.clone();
        let mut ours = namespace.clone();
        match theirs {
            true => live = with_switch(live, "reconcile", "disabled"),
            false => ours = with_switch(ours, "ssa", "IfNotPresent"),
        }
        world.cluster.write("kubectl-create", live);
        world.cluster.write("kubectl-create", config_map("y", "theirs"));
        let left = with_switch(config_map("y", "1"), "ssa", "IfNotPresent");
        world.ready(1, &[ours, config_map("x", "1"), left]).await;
        let unit = world.unit(1).unwrap();
        assert_eq!(unit.healthy, unit.applied);
        assert_eq!(world.value("y").as_deref(), Some("theirs"));
        for name in ["team", "x", "y"] {
            assert_eq!(world.objects[name].state(), ObjectState::Applied, "{name}");
        }
        world.rests().await;
    }
}

/// A watch by our label tells such an object as deleted.
#[tokio::test(start_paused = true)]
async fn paused_object_that_has_lost_our_label_is_read_before_it_is_put_back() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    world.cluster.edit("headlamp", &x(), |live| {
        live["metadata"]["labels"] = json!({});
        live["metadata"]["annotations"] = json!({ switch("reconcile"): "disabled" });
        live["data"]["a"] = json!("theirs");
    });
    world.ten_minutes().await;
    assert_eq!(world.value("x").as_deref(), Some("theirs"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_its_manifest_keeps_from_being_written_has_a_row_that_says_so() {
    for (name, value) in [("reconcile", "disabled"), ("ssa", "Ignore")] {
        for is_there in [false, true] {
            let mut world = World::new().await;
            if is_there {
                world.cluster.write("somebody", config_map("x", "theirs"));
            }
            let objects = [
                with_switch(config_map("x", "1"), name, value),
                config_map("y", "1"),
            ];
            let wanted = entry(1, world.contents.add(&objects));
            world.offer(std::slice::from_ref(&wanted)).await;
            world
                .until("both are told", |world| {
                    world.is_ready(&wanted) && world.objects.len() == 2
                })
                .await;
            let row = world.objects["x"].clone();
            assert_eq!(row.state(), ObjectState::Applied, "{row:?}");
            assert!(row.message.contains("its manifest"), "{row:?}");
            assert_eq!(world.value("x").as_deref(), is_there.then_some("theirs"));
            // What goes with the manifest is told as well, and nothing is done to the object.
            let without = version(2, entry(1, world.contents.add(&objects[1..])));
            world.offer(std::slice::from_ref(&without)).await;
            world
                .until("it is told as gone", |world| {
                    world.objects["x"].state() == ObjectState::Gone
                })
                .await;
            assert_eq!(world.value("x").as_deref(), is_there.then_some("theirs"));
            world.rests().await;
        }
    }
}
