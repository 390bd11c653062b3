//! Units that wait for others, races, storage that takes nothing, and the figures that tell of all that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use flotilla_agent::{
    agent::LEDGER,
    cluster::{ClusterError, fake::Fake},
    sim::SimAgent,
};
use flotilla_core::unit::{Dependency, Entry};
use flotilla_proto::agent::v1::Readiness;

use crate::world::{World, config_map, deployment, entry, entry_with, key, settings, settle};

/// Unit 1 waits for the health of a Deployment; unit 2 has a ConfigMap and waits for unit 1.
fn chain(world: &mut World) -> [Entry; 2] {
    let mut waits = settings();
    waits.wait = true;
    let first = entry_with(1, world.contents.add(&[deployment("web")]), waits, Vec::new());
    let mut second = entry(2, world.contents.add(&[config_map("x", "1")]));
    second.depends_on = vec![Dependency::on("flux-system/app1", first.unit)];
    [first, second]
}

fn says(world: &World, n: u128, reason: &str, part: &str) -> bool {
    world
        .unit(n)
        .is_some_and(|unit| unit.reason == reason && unit.message.contains(part))
}

#[tokio::test(start_paused = true)]
async fn unit_waits_by_name_for_one_that_it_needs_and_keeps_what_it_has_when_that_fails() {
    let mut world = World::new().await;
    let [first, mut second] = chain(&mut world);
    let web = key("Deployment", "web");
    world.offer(&[second.clone(), first.clone()]).await;
    world
        .until("it waits by name", |world| {
            says(
                world,
                2,
                "DependencyNotReady",
                "dependency 'flux-system/app1' is not ready",
            )
        })
        .await;
    settle().await;
    assert_eq!(world.value("x"), None);
    world.cluster.set_ready(&web, true);
    world.until_ready(&second).await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.rests().await;
    // What it needs fails: it has applied what it was to apply, and stays ready; a newer entry waits, and what is there
    // is kept as it is.
    world.cluster.set_ready(&web, false);
    world
        .until("the other fails", |world| {
            says(world, 1, "HealthCheckFailed", "web")
        })
        .await;
    settle().await;
    assert!(world.is_ready(&second));
    second.version = 2;
    second.content = Some(world.contents.add(&[config_map("x", "2")]));
    second.target = flotilla_core::unit::target_digest(second.content, &second.settings, &[]);
    world.offer(&[first.clone(), second.clone()]).await;
    world
        .until("it waits again", |world| {
            says(world, 2, "DependencyNotReady", "is not ready")
        })
        .await;
    for restart in [false, true] {
        if restart {
            world.restart().await;
        }
        settle().await;
        world.cluster.delete(&key("ConfigMap", "x"));
        world
            .until("it is put back", |world| world.value("x").is_some())
            .await;
        assert_eq!(world.value("x").as_deref(), Some("1"), "restart {restart}");
    }
    world.rests().await;
    world.cluster.set_ready(&web, true);
    world.until_ready(&second).await;
    assert_eq!(world.value("x").as_deref(), Some("2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn both_are_news_and_the_dependent_does_not_go_by_what_the_other_was_before() {
    let mut world = World::new().await;
    let [mut first, mut second] = chain(&mut world);
    let web = key("Deployment", "web");
    world.cluster.run_deployments();
    world.offer(&[first.clone(), second.clone()]).await;
    world.until_ready(&second).await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.name == "web").then(|| ClusterError::Unavailable("no answer".to_owned()))
    })));
    let mut changed = deployment("web");
    changed["spec"]["replicas"] = 2.into();
    for (entry, objects) in [
        (&mut first, vec![changed]),
        (&mut second, vec![config_map("x", "2")]),
    ] {
        entry.version = 2;
        entry.content = Some(world.contents.add(&objects));
        entry.target = flotilla_core::unit::target_digest(entry.content, &entry.settings, &[]);
    }
    world.offer(&[first.clone(), second.clone()]).await;
    settle().await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.cluster.set_fault(None);
    world.until_ready(&second).await;
    assert_eq!(world.value("x").as_deref(), Some("2"));
    assert_eq!(world.cluster.object(&web).unwrap()["spec"]["replicas"], 2);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn r43_kcm_2370_cycle_is_named_with_its_members_and_ends_with_the_entry_that_breaks_it() {
    let mut world = World::new().await;
    let [mut first, second] = chain(&mut world);
    world.cluster.run_deployments();
    first.depends_on = vec![Dependency::on("flux-system/app2", second.unit)];
    world.offer(&[first.clone(), second.clone()]).await;
    for (n, other) in [(1, 2), (2, 1)] {
        let cycle =
            format!("dependency cycle: flux-system/app{n} -> flux-system/app{other} -> flux-system/app{n}");
        world
            .until("the cycle is named", |world| {
                says(world, n, "DependencyNotReady", &cycle)
            })
            .await;
    }
    world.rests().await;
    first.version = 2;
    first.depends_on.clear();
    world.offer(&[first, second.clone()]).await;
    world.until_ready(&second).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn race_is_tried_again_at_once_and_what_turns_out_none_at_the_interval() {
    let mut world = World::new().await;
    let (left, tries) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    let (fails, tried) = (left.clone(), tries.clone());
    world.cluster.set_fault(Some(Box::new(move |verb, key| {
        if verb != "apply" || !key.name.starts_with('x') {
            return None;
        }
        tried.fetch_add(1, Ordering::Relaxed);
        let fails = fails
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok();
        fails.then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".to_owned(),
            message: "error looking up service account default/web: serviceaccount \"web\" not found"
                .to_owned(),
        })
    })));
    let begun = tokio::time::Instant::now();
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    world.rests().await;
    left.store(u32::MAX, Ordering::Relaxed);
    tries.store(0, Ordering::Relaxed);
    let mut next = entry(1, world.contents.add(&[config_map("x", "2")]));
    next.version = 2;
    world.offer(std::slice::from_ref(&next)).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let tried = tries.load(Ordering::Relaxed);
    assert!((10..=12).contains(&tried), "{tried} tries in ten minutes");
    left.store(0, Ordering::Relaxed);
    world.until_ready(&next).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn storage_that_is_damaged_keeps_nothing_known_from_being_corrected() {
    let mut world = World::new().await;
    let objects = [config_map("x", "1"), config_map("y", "1")];
    let wanted = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    world.rests().await;
    let sound = world.cells.bytes(LEDGER).unwrap();
    world.cells.set(LEDGER, Some(b"damaged".to_vec()));
    for round in 0..3 {
        world.cluster.delete(&key("ConfigMap", "x"));
        let edited = key("ConfigMap", "y");
        world.cluster.edit("kubectl", &edited, |live| {
            live["data"]["a"] = format!("{round}").into()
        });
        settle().await;
        assert_eq!(world.value("x").as_deref(), Some("1"), "round {round}");
        assert_eq!(world.value("y").as_deref(), Some("1"), "round {round}");
        tokio::time::sleep(Duration::from_secs(900)).await;
    }
    world.cells.set(LEDGER, Some(sound));
    settle().await;
    world.until_ready(&wanted).await;
    // The list of the hour falls into these minutes.
    world.rests_but_for(&[("list", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn storage_that_is_full_keeps_new_objects_back_and_no_others() {
    let mut world = World::new().await;
    world.ready(1, &[config_map("x", "1")]).await;
    world.rests().await;
    let objects = [config_map("x", "2"), config_map("y", "2")];
    let mut next = entry(1, world.contents.add(&objects));
    next.version = 2;
    // Acceptance is one write; the intent is the next.
    world.cells.fail_after(1);
    world.offer(std::slice::from_ref(&next)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("storage is away"))
        })
        .await;
    assert_eq!((world.value("x").as_deref(), world.value("y")), (Some("2"), None));
    for _ in 0..3 {
        world.cluster.delete(&key("ConfigMap", "x"));
        settle().await;
        assert_eq!((world.value("x").as_deref(), world.value("y")), (Some("2"), None));
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    world.cells.heal();
    world.until_ready(&next).await;
    assert_eq!(world.value("y").as_deref(), Some("2"));
    world.rests().await;
}

fn assert_figures(world: &World, lines: &[&str]) {
    let text = world.agent().metrics.text();
    for line in lines {
        let line = format!("flotilla_agent_{line}");
        assert!(text.lines().any(|found| found == line), "no {line}:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn figures_follow_a_unit() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.name == "y").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".to_owned(),
            message: "no".to_owned(),
        })
    })));
    let objects = [config_map("x", "1"), config_map("y", "1")];
    let wanted = entry(1, world.contents.add(&objects));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    settle().await;
    assert_figures(
        &world,
        &[
            "units{state=\"failed\"} 1",
            "units{state=\"ready\"} 0",
            "objects{state=\"applied\"} 1",
            "objects{state=\"failed\"} 1",
            "apply_duration_seconds_count 0",
        ],
    );
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    settle().await;
    assert_figures(
        &world,
        &[
            "units{state=\"failed\"} 0",
            "units{state=\"ready\"} 1",
            "objects{state=\"applied\"} 2",
            "objects{state=\"failed\"} 0",
            "apply_duration_seconds_count 1",
            "drift_corrections_total 0",
        ],
    );
    for _ in 0..20 {
        world.cluster.edit("stubborn", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "theirs".into();
        });
        settle().await;
    }
    let text = world.agent().metrics.text();
    let told = u64::try_from(world.events("DriftContested").len()).unwrap();
    assert!(text.contains("flotilla_agent_drift_contested_total"), "{text}");
    let count = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("flotilla_agent_{name} ")));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap()
    };
    assert!(count("drift_corrections_total") >= 2, "{text}");
    assert!(count("drift_contested_total") >= told.max(1), "{text}");
    let mut gone = wanted.clone();
    gone.state = flotilla_core::unit::UnitState::Suspended;
    world.offer(&[gone]).await;
    settle().await;
    assert_figures(
        &world,
        &["units{state=\"suspended\"} 1", "units{state=\"ready\"} 0"],
    );
    world.rests().await;
}

/// AG-B32.
#[tokio::test(start_paused = true)]
async fn agent_that_was_replaced_corrects_nothing_any_more() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    world.rests().await;
    let (elsewhere, cells) = (Arc::new(Fake::new()), Arc::new(world.cells.clone()));
    let other = SimAgent::start(elsewhere, cells).await.unwrap();
    let again = entry(2, world.contents.add(&[config_map("y", "1")]));
    other.offer(&[wanted, again], &mut world.contents).await.unwrap();
    world.cluster.edit("kubectl", &key("ConfigMap", "x"), |live| {
        live["data"]["a"] = "theirs".into();
    });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.value("x").as_deref(), Some("theirs"));
    world.rests().await;
}
