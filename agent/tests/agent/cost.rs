//! What things cost in requests, writes of the ledger and rows for the hub: what follows the change, and nothing else.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use flotilla_agent::sim::Contents;
use flotilla_core::{object::ObjectKey, unit::Entry};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{version, x},
    world::{World, config_map, deployment, entry, key, settle},
};

fn many(count: usize) -> Vec<Value> {
    (0..count).map(|n| config_map(&format!("c{n:03}"), "1")).collect()
}

fn requests(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(verb, n)| ((*verb).to_owned(), *n)).collect()
}

#[tokio::test(start_paused = true)]
async fn correction_costs_a_write_and_more_where_it_was_not_shown_or_a_contest_may_begin() {
    let mut world = World::new().await;
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    world.cluster.delete(&x());
    settle().await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    assert_eq!(
        world.cluster.take_requests(),
        requests(&[("apply", 1), ("get", 1)])
    );
    world.set_value("operator", "y", "theirs");
    settle().await;
    assert_eq!(world.value("y").as_deref(), Some("1"));
    assert_eq!(world.cluster.take_requests(), requests(&[("apply", 1)]));
    while world.take_report(Duration::from_secs(1)).await.is_some() {}
    let told = world.events("DriftCorrected");
    let text = told
        .iter()
        .map(|event| event.message.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        text.contains("ConfigMap/default/x was deleted") && text.contains("changed by operator at /data/a"),
        "{text}"
    );
    world.set_value("operator", "y", "theirs");
    settle().await;
    assert_eq!(world.value("y").as_deref(), Some("1"));
    assert_eq!(
        world.cluster.take_requests(),
        requests(&[("apply", 1), ("dry-run", 1), ("get", 1)])
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn restart_reports_each_object_once() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &many(100)).await;
    world.restart().await;
    let mut rows = 0;
    while let Some((some, _)) = world.take_report(Duration::from_secs(120)).await {
        rows += some;
    }
    assert_eq!(rows, 101, "a row for each object and one for the unit");
    assert!(world.is_ready(&wanted));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn restart_before_a_silent_server_reports_all_the_same() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &many(10)).await;
    world
        .cluster
        .set_latency(Some(Box::new(|_, _| Duration::from_secs(40))));
    world.restart().await;
    world.units.clear();
    let begun = tokio::time::Instant::now();
    world
        .until("it is reported as it was", |world| world.is_ready(&wanted))
        .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    world.cluster.set_latency(None);
    tokio::time::sleep(Duration::from_secs(300)).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn commit_of_one_object_among_many_costs_one_look_one_write_and_its_rows() {
    let mut world = World::new().await;
    let mut objects = many(300);
    world.ready(1, &objects).await;
    let writes = world.cells.writes();
    objects[7] = config_map("c007", "2");
    let second = version(2, entry(1, world.contents.add(&objects)));
    world.offer(std::slice::from_ref(&second)).await;
    let mut rows = 0;
    while let Some((some, _)) = world.take_report(Duration::from_secs(60)).await {
        rows += some;
    }
    assert!(world.is_ready(&second));
    // A watch has shown the object as it was left, so that nothing is looked at.
    assert_eq!(world.cluster.take_requests(), requests(&[("apply", 1)]));
    assert!(rows <= 5, "{rows} rows");
    let writes = world.cells.writes() - writes;
    assert!(writes <= 6, "{writes} writes of the ledger");
    world.rests().await;
}

/// One that waits for its definition keeps no other from being taken over.
#[tokio::test(start_paused = true)]
async fn commit_to_a_unit_with_a_kind_that_is_not_served_evaluates_what_it_changes() {
    let mut world = World::new().await;
    let mut objects = many(300);
    objects.push(json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w", "namespace": "default"}, "spec": {"size": 1}}));
    let first = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&first)).await;
    world
        .until("it waits for the kind", |world| {
            let waits = |unit: &flotilla_proto::agent::v1::UnitStatus| {
                unit.message.contains("waiting for its definition")
            };
            world.unit(1).is_some_and(waits) && world.value("c299").is_some()
        })
        .await;
    settle().await;
    let evaluated = |world: &World| world.agent().counters.evaluated.load(Ordering::Relaxed);
    let before = evaluated(&world);
    objects[7] = config_map("c007", "2");
    let second = version(2, entry(1, world.contents.add(&objects)));
    world.offer(std::slice::from_ref(&second)).await;
    settle().await;
    assert_eq!(world.value("c007").as_deref(), Some("2"));
    // The one that changed, the one that waits, and that again each minute.
    let now = evaluated(&world) - before;
    assert!((2..=6).contains(&now), "{now} evaluated");
    world
        .cluster
        .write("somebody", crate::scenes::widget_definition());
    world.until_ready(&second).await;
    world.rests().await;
}

/// What its evaluation has made is what is written. A Secret is not kept for that, nor is what is many.
#[tokio::test(start_paused = true)]
async fn what_a_small_commit_changes_is_made_once() {
    let mut world = World::new().await;
    let secret = |text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
            "data": {"a": text}})
    };
    let mut objects = many(40);
    objects.push(secret("Zm9v"));
    world.ready(1, &objects).await;
    let remade = |world: &World| world.agent().counters.remade.load(Ordering::Relaxed);
    let mut number = 1;
    let mut commit = async |world: &mut World, objects: &[Value]| {
        let before = remade(world);
        number += 1;
        let next = version(number, entry(1, world.contents.add(objects)));
        world.offer(std::slice::from_ref(&next)).await;
        world.until_ready(&next).await;
        settle().await;
        remade(world) - before
    };
    objects[7] = config_map("c007", "2");
    assert_eq!(commit(&mut world, &objects).await, 0);
    assert_eq!(world.value("c007").as_deref(), Some("2"));
    objects[40] = secret("YmFy");
    assert!(commit(&mut world, &objects).await >= 1, "a Secret");
    for (n, object) in objects.iter_mut().take(40).enumerate() {
        *object = config_map(&format!("c{n:03}"), "3");
    }
    assert!(commit(&mut world, &objects).await >= 1, "many");
    assert_eq!(world.value("c039").as_deref(), Some("3"));
    world.rests().await;
}

/// What a commit does not touch is evaluated again only where something else makes another object of it.
#[tokio::test(start_paused = true)]
async fn commit_of_one_object_among_a_thousand_evaluates_that_one() {
    let mut world = World::new().await;
    let mut objects = many(1000);
    world.ready(1, &objects).await;
    let mut number = 1;
    let mut commit = async |world: &mut World, objects: &[Value], change: &dyn Fn(&mut Entry)| {
        let evaluated = |world: &World| world.agent().counters.evaluated.load(Ordering::Relaxed);
        let before = evaluated(world);
        number += 1;
        let mut next = version(number, entry(1, world.contents.add(objects)));
        change(&mut next);
        world.offer(std::slice::from_ref(&next)).await;
        world.until_ready(&next).await;
        evaluated(world) - before
    };
    let same = |_: &mut Entry| {};
    objects[7] = config_map("c007", "2");
    assert_eq!(commit(&mut world, &objects, &same).await, 1);
    assert_eq!(world.value("c007").as_deref(), Some("2"));
    // Gone, come and back.
    let last = objects.pop().unwrap();
    assert_eq!(commit(&mut world, &objects, &same).await, 0);
    objects.extend([last, config_map("new", "1")]);
    assert_eq!(commit(&mut world, &objects, &same).await, 2);
    assert_eq!(world.unit(1).unwrap().objects_pending_removal, 0);
    assert_eq!(world.value("new").as_deref(), Some("1"));
    // A label for all makes another of each.
    let labelled = |next: &mut Entry| {
        let labels = &mut next.settings.common_labels;
        labels.insert("team".to_owned(), "a".to_owned());
    };
    assert_eq!(commit(&mut world, &objects, &labelled).await, 1001);
    let labels = |name: &str| {
        let live = world.cluster.object(&key("ConfigMap", name)).unwrap();
        live["metadata"]["labels"]["team"].clone()
    };
    assert_eq!([labels("c001"), labels("new")], ["a", "a"]);
    objects[8] = config_map("c008", "2");
    assert_eq!(commit(&mut world, &objects, &labelled).await, 1);
    world.rests().await;
    // What a restart does not know it evaluates once.
    world.stop_and_start().await;
    settle().await;
    objects[9] = config_map("c009", "2");
    assert_eq!(commit(&mut world, &objects, &labelled).await, 1);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn namespace_that_hangs_in_termination_costs_no_write_of_the_ledger_while_it_is_tried_again() {
    let mut world = World::new().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let in_team = |name: &str| {
        let mut object = config_map(name, "1");
        object["metadata"]["namespace"] = "team".into();
        object
    };
    world.cluster.write("somebody", namespace);
    let wanted = world.ready(1, &[in_team("a"), in_team("b")]).await;
    world.cluster.write("somebody", in_team("theirs"));
    let theirs = ObjectKey::new("", "ConfigMap", "team", "theirs");
    world.cluster.set_finalizers(&theirs, &["example.com/hold"]);
    world.cluster.delete(&ObjectKey::new("", "Namespace", "", "team"));
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().ready() == Readiness::False
        })
        .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let quiet = world.ten_minutes().await;
    assert!(quiet.requests["apply"] >= 5, "it is tried again: {quiet:?}");
    assert_eq!(
        (quiet.ledger_writes, quiet.rows, quiet.events),
        (0, 0, 0),
        "{quiet:?}"
    );
    world.cluster.set_finalizers(&theirs, &[]);
    world.cluster.write(
        "somebody",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
    );
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_apply_of_many_batches_looks_at_each_kind_once() {
    let mut world = World::new().await;
    let objects: Vec<Value> = (0..1200).map(|n| config_map(&format!("c{n:04}"), "1")).collect();
    let wanted = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    assert_eq!(
        world.cluster.take_requests(),
        requests(&[("apply", 1200), ("discover", 1), ("list", 1), ("watch", 1)])
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn few_objects_in_each_of_many_namespaces_are_looked_at_by_a_list_of_their_kind() {
    let mut world = World::new().await;
    let mut objects = Vec::new();
    for team in 0..40 {
        let namespace = format!("team{team:02}");
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        for name in ["a", "b"] {
            let mut object = config_map(name, "1");
            object["metadata"]["namespace"] = namespace.as_str().into();
            objects.push(object);
        }
    }
    let wanted = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    let looks = world.cluster.take_requests();
    assert_eq!(
        (looks.get("list"), looks.get("get")),
        (Some(&2), None),
        "{looks:?}"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn lists_of_many_kinds_before_a_first_apply_are_made_side_by_side() {
    let mut world = World::new().await;
    let mut objects = Vec::new();
    for kind in ["A", "B", "C", "D"] {
        world
            .cluster
            .serve("example.com/v1", kind, &format!("{}s", kind.to_lowercase()), true);
        objects.extend((0..10).map(|n| {
            json!({"apiVersion": "example.com/v1", "kind": kind,
                "metadata": {"name": format!("n{n}"), "namespace": "default"}})
        }));
    }
    world.cluster.set_latency(Some(Box::new(|verb, _| {
        Duration::from_secs(if verb == "list" { 2 } else { 0 })
    })));
    let wanted = entry(1, world.contents.add(&objects));
    let begun = tokio::time::Instant::now();
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    let took = begun.elapsed();
    assert_eq!(world.cluster.take_requests().get("list"), Some(&4));
    assert!(took < Duration::from_secs(5), "{took:?}");
    world.rests().await;
}

/// What scales it does so for as long as it runs.
#[tokio::test(start_paused = true)]
async fn a_ready_deployment_that_is_scaled_is_no_row_at_the_hub() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[deployment("d")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    settle().await;
    let status = |ready: u32| {
        json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": [{"type": "Available", "status": "True"}]})
    };
    let deployment = key("Deployment", "d");
    world.cluster.set_status(&deployment, status(1));
    world
        .until("it is ready", |world| {
            world.is_ready(&wanted) && world.objects["d"].health == "Current"
        })
        .await;
    tokio::time::sleep(Duration::from_secs(660)).await;
    world.quiet().await;
    let writes = world.cells.writes();
    for _ in 0..10 {
        world.cluster.set_status(&deployment, status(0));
        tokio::time::sleep(Duration::from_secs(40)).await;
        world.cluster.set_status(&deployment, status(1));
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    assert_eq!(world.take_report(Duration::from_secs(1)).await, None);
    assert_eq!(world.cells.writes(), writes);
    world.rests().await;
    // One that stays so is told.
    world.cluster.set_status(&deployment, status(0));
    world
        .until("it is told", |world| world.objects["d"].health == "InProgress")
        .await;
    world.quiet().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_content_is_not_here_is_evaluated_when_it_has_come_and_not_with_each_offer() {
    let mut world = World::new().await;
    let objects = [config_map("late", "1")];
    let late = entry(1, Contents::default().add(&objects));
    let other = entry(2, world.contents.add(&[config_map("x", "1")]));
    let both = [late.clone(), other.clone()];
    world.offer(&both).await;
    world.until_ready(&other).await;
    settle().await;
    let jobs = |world: &World| world.agent().counters.jobs.load(Ordering::Relaxed);
    let before = jobs(&world);
    for _ in 0..5 {
        world.offer(&both).await;
        settle().await;
    }
    assert_eq!(jobs(&world), before, "it is nudged, and has nothing new");
    world.contents.add(&objects);
    let agent = world.agent.take().unwrap();
    agent.complete(&mut world.contents).await.unwrap().unwrap();
    world.agent = Some(agent);
    world.until_ready(&late).await;
    world.quiet().await;
    world.rests().await;
}
