//! Apps that wait for others, and for the health of what is not theirs.

use std::time::Duration;

use flotilla_core::{
    id::UnitId,
    object::ObjectKey,
    unit::{
        Dependency, Entry, ReadyExpr, UnitState,
        health::{HealthCheck, HealthChecks, HealthExpr},
    },
};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    scenes::version,
    world::{World, config_map, deployment, entry, key, settle},
};

fn unit(n: u128) -> UnitId {
    UnitId(Uuid::from_u128(n))
}

/// `dependent` needs the unit of this number, at this version.
fn needs(dependent: &mut Entry, n: u128, version: u64) {
    let mut dependency = Dependency::on(&format!("flux-system/app{n}"), unit(n));
    dependency.units[0].version = version;
    dependent.depends_on.push(dependency);
}

fn said(world: &World, n: u128) -> (Readiness, String, String) {
    let status = world.unit(n).expect("told");
    (status.ready(), status.reason.clone(), status.message.clone())
}

async fn until_said(world: &mut World, n: u128, message: &str) {
    world
        .until(message, |world| {
            world.unit(n).is_some_and(|unit| unit.message == message)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn chain_is_applied_in_order_whatever_came_first_and_rests() {
    let mut world = World::new().await;
    let mut third = entry(3, world.contents.add(&[config_map("c", "1")]));
    needs(&mut third, 2, 0);
    let mut second = entry(2, world.contents.add(&[deployment("b")]));
    second.settings.wait = true;
    second.target = flotilla_core::unit::target_digest(second.content, &second.settings, &[]);
    needs(&mut second, 1, 0);
    world.offer(&[third.clone(), second.clone()]).await;
    until_said(
        &mut world,
        2,
        "dependency 'flux-system/app1' not found: this cluster has no such app",
    )
    .await;
    until_said(&mut world, 3, "dependency 'flux-system/app2' is not ready").await;
    assert_eq!(said(&world, 3).1, "DependencyNotReady");
    let first = entry(1, world.contents.add(&[config_map("a", "1")]));
    world.offer(&[first.clone(), second.clone(), third.clone()]).await;
    world.until_ready(&first).await;
    settle().await;
    assert_eq!(world.value("c"), None, "the second is not healthy yet");
    world.cluster.set_ready(&key("Deployment", "b"), true);
    for one in [&second, &third] {
        world.until_ready(one).await;
    }
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn version_that_is_asked_for_has_to_be_applied_and_what_is_applied_stays_enforced() {
    let mut world = World::new().await;
    let first = entry(1, world.contents.add(&[config_map("a", "1")]));
    let mut second = entry(2, world.contents.add(&[config_map("b", "1")]));
    needs(&mut second, 1, 1);
    world.offer(&[first.clone(), second.clone()]).await;
    world.until_ready(&second).await;
    let mut newer = version(2, entry(2, world.contents.add(&[config_map("b", "2")])));
    needs(&mut newer, 1, 2);
    world.offer(&[first.clone(), newer.clone()]).await;
    until_said(
        &mut world,
        2,
        "dependency 'flux-system/app1' revision is not up to date",
    )
    .await;
    world.set_value("somebody", "b", "theirs");
    world
        .until("the former state is put back", |world| {
            world.value("b").as_deref() == Some("1")
        })
        .await;
    // A later version than was asked for has what was asked for.
    let later = version(3, entry(1, world.contents.add(&[config_map("a", "3")])));
    world.offer(&[later.clone(), newer.clone()]).await;
    world.until_ready(&newer).await;
    assert_eq!(world.value("b").as_deref(), Some("2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn cycle_is_named_and_ends_with_whoever_leaves_it() {
    let mut world = World::new().await;
    let mut one = entry(1, world.contents.add(&[config_map("a", "1")]));
    let mut two = entry(2, world.contents.add(&[config_map("b", "1")]));
    needs(&mut one, 2, 0);
    needs(&mut two, 1, 0);
    world.offer(&[one.clone(), two.clone()]).await;
    until_said(
        &mut world,
        1,
        "dependency cycle: flux-system/app1 -> flux-system/app2 -> flux-system/app1",
    )
    .await;
    world.rests().await;
    two.depends_on.clear();
    world.offer(&[one.clone(), two.clone()]).await;
    for unit in [&one, &two] {
        world.until_ready(unit).await;
    }
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn dependency_that_is_suspended_stays_what_it_was_and_one_that_is_let_go_of_is_missing() {
    let mut world = World::new().await;
    let mut first = entry(1, world.contents.add(&[config_map("a", "1")]));
    world.offer(std::slice::from_ref(&first)).await;
    world.until_ready(&first).await;
    first.state = UnitState::Suspended;
    let mut second = entry(2, world.contents.add(&[config_map("b", "1")]));
    needs(&mut second, 1, 1);
    world.offer(&[first.clone(), second.clone()]).await;
    world.until_ready(&second).await;
    first.state = UnitState::Detached;
    let mut newer = version(2, entry(2, world.contents.add(&[config_map("b", "2")])));
    needs(&mut newer, 1, 1);
    world.offer(&[first.clone(), newer.clone()]).await;
    until_said(
        &mut world,
        2,
        "dependency 'flux-system/app1' not found: this cluster has no such app",
    )
    .await;
    assert_eq!(world.value("b").as_deref(), Some("1"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn ready_expr_looks_at_both_apps_in_the_shape_of_flux() {
    let mut world = World::new().await;
    let first = entry(1, world.contents.add(&[config_map("a", "1")]));
    let app = |release: &str| -> Value {
        json!({ "metadata": { "generation": 1, "labels": { "release": release } } })
    };
    let waiting = |release: &str, mut dependent: Entry| {
        needs(&mut dependent, 1, 0);
        dependent.depends_on[0].units[0].app = Some(Box::new(app("v2")));
        dependent.depends_on[0].ready = Some(Box::new(ReadyExpr {
            expr: "dep.metadata.labels.release == self.metadata.labels.release && \
                   dep.status.lastAppliedRevision == 'main@sha1:abc' && \
                   dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')"
                .into(),
            app: app(release),
        }));
        dependent
    };
    let dependent = entry(2, world.contents.add(&[config_map("b", "1")]));
    let other = waiting("v1", dependent.clone());
    world.offer(&[first.clone(), other]).await;
    world.until_ready(&first).await;
    until_said(
        &mut world,
        2,
        "dependency 'flux-system/app1' is not ready according to readyExpr eval",
    )
    .await;
    world.rests().await;
    let same = waiting("v2", dependent);
    world.offer(&[first, same.clone()]).await;
    world.until_ready(&same).await;
    world.rests().await;
}

fn with_health(mut entry: Entry, wait: bool, health: HealthChecks) -> Entry {
    (entry.settings.wait, entry.settings.health) = (wait, health);
    entry.target = flotilla_core::unit::target_digest(entry.content, &entry.settings, &entry.variables);
    entry
}

#[tokio::test(start_paused = true)]
async fn object_of_somebody_else_is_waited_for_and_looked_at_once_an_interval_from_then_on() {
    let mut world = World::new().await;
    let gateway = ObjectKey::new("", "ConfigMap", "default", "gateway");
    let health = HealthChecks {
        objects: vec![HealthCheck {
            api_version: "v1".into(),
            key: gateway.clone(),
        }],
        exprs: Vec::new(),
    };
    let waiting = with_health(
        entry(1, world.contents.add(&[config_map("a", "1")])),
        false,
        health,
    );
    world.offer(std::slice::from_ref(&waiting)).await;
    until_said(
        &mut world,
        1,
        "health check failed after 2m0s: timeout waiting for: [ConfigMap/default/gateway status: 'NotFound']",
    )
    .await;
    assert_eq!(
        world.value("a").as_deref(),
        Some("1"),
        "it is applied all the same"
    );
    world.cluster.write("somebody", config_map("gateway", "theirs"));
    world.until_ready(&waiting).await;
    // The interval is ten minutes.
    world.rests_but_for(&[("get", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn kind_is_judged_by_expressions_and_failing_ends_the_wait_early() {
    let mut world = World::new().await;
    let health = HealthChecks {
        objects: Vec::new(),
        exprs: vec![HealthExpr {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            in_progress: "data.a == 'going up'".into(),
            failed: "data.a == 'broken'".into(),
            current: "data.a == 'up'".into(),
        }],
    };
    let of = |world: &mut World, number, value: &str| {
        let content = world.contents.add(&[config_map("a", value)]);
        with_health(version(number, entry(1, content)), true, health.clone())
    };
    let begun = of(&mut world, 1, "going up");
    world.offer(std::slice::from_ref(&begun)).await;
    world
        .until("it is waited for", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("waiting for ConfigMap/default/a"))
        })
        .await;
    let broken = of(&mut world, 2, "broken");
    let at = tokio::time::Instant::now();
    world.offer(std::slice::from_ref(&broken)).await;
    world
        .until("it has failed", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.reason == "HealthCheckFailed")
        })
        .await;
    assert!(at.elapsed() < Duration::from_secs(60), "{:?}", at.elapsed());
    let up = of(&mut world, 3, "up");
    world.offer(std::slice::from_ref(&up)).await;
    world.until_ready(&up).await;
    world.rests().await;
    // Judged by others, it is not looked at by itself: what is there is.
    let mut health = health.clone();
    health.exprs[0].current = "data.a == 'higher'".into();
    let content = world.contents.add(&[config_map("a", "up")]);
    let higher = with_health(version(4, entry(1, content)), true, health);
    world.offer(std::slice::from_ref(&higher)).await;
    world
        .until("it is judged anew", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("waiting for ConfigMap/default/a"))
        })
        .await;
}
