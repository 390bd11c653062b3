//! Somebody who does not give in: a field that is changed back, an object that is deleted again, a Job whose time
//! to live is over.

use std::time::Duration;

use flotilla_core::{object::ObjectKey, unit::Settings};
use serde_json::{Value, json};

use crate::{
    scenes::{version, x},
    world::{World, config_map, entry, entry_with, settings, settle},
};

fn job(image: &str, ttl: Option<u64>) -> Value {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "migrate", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"name": "migrate", "image": image}]}}}});
    if let Some(ttl) = ttl {
        job["spec"]["ttlSecondsAfterFinished"] = ttl.into();
    }
    job
}

fn job_key() -> ObjectKey {
    ObjectKey::new("batch", "Job", "default", "migrate")
}

#[tokio::test(start_paused = true)]
async fn job_that_its_time_to_live_removes_runs_once_and_the_unit_stays_ready() {
    for (ttl, wait) in [(1, false), (1, true), (30, false), (30, true), (300, true)] {
        let mut world = World::new().await;
        world.cluster.run_jobs();
        let settings = Settings { wait, ..settings() };
        let content = world
            .contents
            .add(&[job("migrate:1", Some(ttl)), config_map("x", "1")]);
        let wanted = entry_with(1, content, settings.clone(), Vec::new());
        world.offer(std::slice::from_ref(&wanted)).await;
        world.until_ready(&wanted).await;
        tokio::time::sleep(Duration::from_secs(ttl + 60)).await;
        assert!(world.cluster.object(&job_key()).is_none(), "its time is over");
        assert_eq!(
            world.cluster.take_requests()["apply"],
            2,
            "each object is applied once"
        );
        world.rests().await;
        assert!(world.is_ready(&wanted), "{:?}", world.unit(1));
        // The agent remembers that it ran.
        world.restart().await;
        settle().await;
        assert_eq!(world.cluster.take_requests().get("apply"), None);
        world.rests().await;
        // Another image is another migration.
        let content = world
            .contents
            .add(&[job("migrate:2", Some(ttl)), config_map("x", "1")]);
        let next = version(2, entry_with(1, content, settings, Vec::new()));
        world.offer(std::slice::from_ref(&next)).await;
        world.until_ready(&next).await;
        tokio::time::sleep(Duration::from_secs(ttl + 60)).await;
        assert_eq!(world.cluster.take_requests()["apply"], 1);
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn object_deleted_again_and_again_is_contested_and_told_once() {
    let mut world = World::new().await;
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    for _ in 0..20 {
        world.cluster.delete(&x());
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let writes = world.cluster.take_requests()["apply"];
    assert!((3..=4).contains(&writes), "{writes} writes in three minutes");
    world
        .until("it is told", |world| !world.events("DriftContested").is_empty())
        .await;
    // It is created once more when the interval is over.
    let once = world.ten_minutes().await;
    assert_eq!(once.requests["apply"], 1, "{once:?}");
    assert!(
        once.wakes <= 6 && once.ledger_writes <= 2 && once.events <= 2,
        "{once:?}"
    );
    assert_eq!(world.events("DriftContested").len(), 1);
    assert!(world.value("x").is_some());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn contested_field_shields_neither_another_field_nor_the_object() {
    let mut world = World::new().await;
    let mut object = config_map("x", "1");
    object["data"]["b"] = "1".into();
    world.ready(1, &[object]).await;
    world.contest("x").await;
    let field = |world: &World, field: &str| Some(world.cluster.object(&x())?["data"][field].clone());
    world
        .cluster
        .edit("kubectl-edit", &x(), |live| live["data"]["b"] = "hacked".into());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        field(&world, "b"),
        Some("1".into()),
        "another field is corrected at once"
    );
    world.set_value("stubborn", "x", "theirs");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(field(&world, "a"), Some("theirs".into()), "the contest goes on");
    world.cluster.delete(&x());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        field(&world, "a"),
        Some("1".into()),
        "the object is created again at once"
    );
    world.ten_minutes().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn commit_is_applied_to_a_contested_object_at_once() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    world.contest("x").await;
    let second = version(2, entry(1, world.contents.add(&[config_map("x", "2")])));
    world.offer(std::slice::from_ref(&second)).await;
    world.until_ready(&second).await;
    assert_eq!(world.value("x").as_deref(), Some("2"));
    world.ten_minutes().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn field_that_is_not_ours_and_is_added_again_and_again_is_contested_as_well() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    let added = |world: &World| world.cluster.object(&x()).unwrap()["data"].get("c").cloned();
    let mut stayed = Vec::new();
    for _ in 0..6 {
        world
            .cluster
            .edit("kubectl-edit", &x(), |live| live["data"]["c"] = "theirs".into());
        tokio::time::sleep(Duration::from_secs(5)).await;
        stayed.push(added(&world).is_some());
    }
    assert_eq!(stayed, [false, false, false, true, true, true]);
    world.ten_minutes().await;
    world.rests().await;
}
