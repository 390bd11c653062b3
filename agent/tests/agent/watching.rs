//! What is watched and verified: kinds in several versions, lists that are refused, definitions that come in masses.

use std::{collections::BTreeMap, time::Duration};

use flotilla_agent::cluster::ClusterError;
use flotilla_core::{
    object::ObjectKey,
    unit::{Entry, Settings, Substitution, UnitState, VariableLayer},
};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{version, widget_definition},
    world::{World, config_map, entry, entry_with, key, settings, settle},
};

fn widget(api_version: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": "Widget", "metadata": {"name": name, "namespace": "default"},
        "spec": {"size": 1}})
}

fn widget_key(name: &str) -> ObjectKey {
    ObjectKey::new("example.com", "Widget", "default", name)
}

/// Two units with a kind, each in another of its versions.
async fn two_versions(world: &mut World) -> [Entry; 2] {
    for version in ["example.com/v1", "example.com/v1beta1"] {
        world.cluster.serve(version, "Widget", "widgets", true);
    }
    let new = entry(1, world.contents.add(&[widget("example.com/v1", "new")]));
    let old = entry(2, world.contents.add(&[widget("example.com/v1beta1", "old")]));
    let units = [new, old];
    world.offer(&units).await;
    for unit in &units {
        world.until_ready(unit).await;
    }
    world.quiet().await;
    units
}

#[tokio::test(start_paused = true)]
async fn objects_are_compared_in_the_version_that_they_were_written_in() {
    let mut world = World::new().await;
    two_versions(&mut world).await;
    for n in 0..10 {
        for name in ["new", "old"] {
            world.cluster.set_status(&widget_key(name), json!({"seen": n}));
        }
        settle().await;
    }
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    for name in ["new", "old"] {
        world.cluster.edit("kubectl-edit", &widget_key(name), |live| {
            live["spec"]["size"] = 2.into();
        });
    }
    settle().await;
    for name in ["new", "old"] {
        let live = world.cluster.object(&widget_key(name)).unwrap();
        assert_eq!(live["spec"]["size"], 1, "{name}");
    }
    world.quiet().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn version_that_is_not_served_any_more_does_not_hide_one_that_is() {
    let mut world = World::new().await;
    let [new, mut old] = two_versions(&mut world).await;
    old.state = UnitState::Suspended;
    world.offer(&[new.clone(), version(2, old)]).await;
    settle().await;
    world.cluster.drop_version("example.com/v1beta1", "Widget");
    settle().await;
    let drifts = |world: &World| {
        world.cluster.edit("kubectl-edit", &widget_key("new"), |live| {
            live["spec"]["size"] = 2.into();
        });
    };
    drifts(&world);
    settle().await;
    let live = world.cluster.object(&widget_key("new")).unwrap();
    assert_eq!(live["spec"]["size"], 1);
    // Nor after a restart, nor to a list.
    world.restart().await;
    settle().await;
    drifts(&world);
    settle().await;
    let live = world.cluster.object(&widget_key("new")).unwrap();
    assert_eq!(live["spec"]["size"], 1);
    world.cluster.take_requests();
    world.agent().ask(new.unit);
    settle().await;
    assert_eq!(world.cluster.take_requests().get("list"), Some(&1));
    // Whether the version is served again is asked ever more rarely.
    world.rests_but_for(&[("discover", 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn verification_lists_each_kind_once_a_cycle_whatever_namespaces_and_foreign_objects_there_are() {
    let mut world = World::new().await;
    let mut objects = Vec::new();
    for n in 0..8 {
        let namespace = format!("team{n}");
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        let mut one = config_map("x", "1");
        one["metadata"]["namespace"] = namespace.into();
        objects.push(one);
    }
    let wanted = world.ready(1, &objects).await;
    for n in 0..200 {
        world
            .cluster
            .write("somebody", config_map(&format!("foreign{n}"), "1"));
    }
    settle().await;
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(2 * 3600 - 120)).await;
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("list".to_owned(), 2)])
    );
    world.agent().ask(wanted.unit);
    settle().await;
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("list".to_owned(), 2)])
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn refused_list_is_not_repeated_before_the_next_cycle() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    world.cluster.set_fault(Some(Box::new(|verb, _| {
        (verb == "list").then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".into(),
            message: "refused".into(),
        })
    })));
    world.agent().ask(wanted.unit);
    settle().await;
    assert_eq!(world.cluster.take_requests().get("list"), Some(&1));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn list_of_what_nobody_has_any_more_is_not_repeated() {
    let mut world = World::new().await;
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    world.cluster.set_fault(Some(Box::new(|verb, _| {
        (verb == "list").then(|| ClusterError::Unavailable("down".into()))
    })));
    world.agent().ask(wanted.unit);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(world.cluster.take_requests()["list"] >= 2);
    let detached = Entry {
        state: UnitState::Detached,
        ..wanted
    };
    world.offer(&[version(2, detached)]).await;
    world.offer(&[]).await;
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.cluster.take_requests().get("list"), None);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_no_definition_can_bring_is_a_failure_at_once() {
    let mut world = World::new().await;
    let mut misspelt = config_map("x", "1");
    misspelt["kind"] = "ConfigMapp".into();
    let content = world.contents.add(&[misspelt, config_map("y", "1")]);
    world.offer(&[entry(1, content)]).await;
    world
        .until("it fails", |world| {
            world.unit(1).is_some_and(|unit| {
                unit.ready() == Readiness::False
                    && unit
                        .message
                        .contains("no matches for kind \"ConfigMapp\" in version \"v1\"")
            })
        })
        .await;
    assert_eq!(world.value("y").as_deref(), Some("1"));
    assert_eq!(world.events("ReconciliationFailed").len(), 1);
    // The unit is tried once a minute, and a server that serves the kind meanwhile is looked for by then.
    world.rests_but_for(&[("discover", 10)]).await;
}

/// A definition of a kind that no unit has.
fn foreign_definition(n: u32) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.g{n}.test")},
        "spec": {"group": format!("g{n}.test"), "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"}, "versions": [{"name": "v1"}]}})
}

#[tokio::test(start_paused = true)]
async fn definitions_that_come_in_masses_evaluate_only_who_waits_for_their_group() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[widget("example.com/v1", "w")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it waits for the kind", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("waiting for its definition"))
        })
        .await;
    settle().await;
    let jobs = |world: &World| {
        let counters = &world.agent().counters;
        counters.jobs.load(std::sync::atomic::Ordering::Relaxed)
    };
    world.cluster.take_requests();
    let before = jobs(&world);
    for n in 0..120 {
        world.cluster.write("somebody", foreign_definition(n));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // It tries by itself each minute, which is an evaluation or less, and a pass.
    assert!(jobs(&world) - before <= 8, "{} jobs", jobs(&world) - before);
    let requests = world.cluster.take_requests();
    assert!(requests["discover"] <= 20, "{requests:?}");
    // That of its own group is heard at once.
    let begun = tokio::time::Instant::now();
    world.cluster.write("somebody", widget_definition());
    world.until_ready(&wanted).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    world.quiet().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn status_of_a_units_own_definition_is_no_reason_to_look_again() {
    let mut world = World::new().await;
    world
        .ready(1, &[widget_definition(), widget("example.com/v1", "w")])
        .await;
    let definition = ObjectKey::of(&widget_definition()).unwrap();
    world.rests().await;
    let wakes = |world: &World| {
        let counters = &world.agent().counters;
        counters.wakes.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = wakes(&world);
    for n in 0..10 {
        let mut status = world.cluster.object(&definition).unwrap()["status"].clone();
        status["storedVersions"] = json!([format!("v{n}")]);
        world.cluster.set_status(&definition, status);
        settle().await;
    }
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    assert_eq!(wakes(&world) - before, 10, "the event itself, and no more");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_is_written_while_its_kind_is_first_listed_is_not_taken_as_gone() {
    let mut requests = Vec::new();
    for delay in [0, 2] {
        let mut world = World::new().await;
        world.cluster.set_latency(Some(Box::new(|verb, _| {
            Duration::from_millis(if verb == "apply" { 500 } else { 0 })
        })));
        // The list is made before the write, and its answer is heard after it.
        let delay = Duration::from_secs(delay);
        world.cluster.delay_lists_of_watches(delay);
        let wanted = entry(
            1,
            world.contents.add(&[config_map("x", "1"), config_map("y", "1")]),
        );
        world.offer(std::slice::from_ref(&wanted)).await;
        world.until_ready(&wanted).await;
        settle().await;
        requests.push(world.cluster.take_requests());
        assert!(world.cluster.object(&key("ConfigMap", "y")).is_some());
        world.rests().await;
    }
    assert_eq!(requests[0], requests[1]);
}

#[tokio::test(start_paused = true)]
async fn nudge_evaluates_no_unit_again_that_cannot_be_built() {
    let mut world = World::new().await;
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: default\ndata:\n  a: ${missing}\n";
    let content = world.contents.add_yaml(&[(key("ConfigMap", "x"), template)]);
    let settings = Settings {
        substitution: Substitution::WithVariables,
        ..settings()
    };
    let variables = vec![VariableLayer::Literal {
        values: BTreeMap::from([("other".to_owned(), "2".to_owned())]),
    }];
    let broken = entry_with(1, content, settings, variables);
    world.offer(std::slice::from_ref(&broken)).await;
    world
        .until("it has failed", |world| {
            world.unit(1).is_some_and(|unit| unit.reason == "BuildFailed")
        })
        .await;
    settle().await;
    let good = entry(2, world.contents.add(&[config_map("z", "1")]));
    world.offer(&[broken.clone(), good.clone()]).await;
    world.until_ready(&good).await;
    world.quiet().await;
    let jobs = |world: &World| {
        let counters = &world.agent().counters;
        counters.jobs.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = jobs(&world);
    world
        .offer(&[
            broken.clone(),
            Entry {
                requested: "now".into(),
                ..good.clone()
            },
        ])
        .await;
    settle().await;
    assert!(jobs(&world) - before <= 1, "{}", jobs(&world) - before);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_fail_again_and_again_as_before_wake_nobody() {
    let mut world = World::new().await;
    world
        .ready(1, &[config_map("x", "1"), crate::world::deployment("d")])
        .await;
    world.quiet().await;
    world.cluster.set_fault(Some(Box::new(|verb, _| {
        (verb == "watch").then(|| ClusterError::Unavailable("away".to_owned()))
    })));
    world.cluster.break_watches();
    settle().await;
    world.cluster.take_requests();
    let quiet = world.ten_minutes().await;
    assert!(quiet.requests["watch"] > 20, "{quiet:?}");
    assert_eq!((quiet.wakes, quiet.reports), (0, 0), "{quiet:?}");
    world.cluster.set_fault(None);
    world.cluster.delete(&key("ConfigMap", "x"));
    settle().await;
    settle().await;
    assert_eq!(
        world.value("x").as_deref(),
        Some("1"),
        "what was missed is listed"
    );
    world.rests().await;
}
