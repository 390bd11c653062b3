//! Looks before first writes: units share what a list has shown, and what somebody makes after it is not overwritten.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::memory::Memory,
    sim::{Contents, Options, SimAgent},
};
use flotilla_core::{object::ObjectKey, unit::Entry};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::world::{World, config_map, entry, key, settle};

fn in_namespace(namespace: &str, name: &str) -> Value {
    let mut object = config_map(name, "1");
    object["metadata"]["namespace"] = namespace.into();
    object
}

fn named(count: usize) -> Vec<Value> {
    (0..count).map(|n| config_map(&format!("c{n:03}"), "1")).collect()
}

/// Offers units, and returns what their first apply asked of the cluster.
async fn first_apply(world: &mut World, units: &[Entry]) -> BTreeMap<String, u64> {
    world.cluster.take_requests();
    world.offer(units).await;
    for unit in units {
        world.until_ready(unit).await;
    }
    settle().await;
    world.cluster.take_requests()
}

/// Offers units whose writes take two seconds, and returns once their lists have come: how many writes have begun by then.
async fn offer_and_list(world: &mut World, units: &[Entry]) -> u64 {
    world.cluster.set_latency(Some(Box::new(|verb, _| {
        Duration::from_secs(if verb == "apply" { 2 } else { 0 })
    })));
    world.offer(units).await;
    let (mut lists, mut writes) = (0, 0);
    while lists < units.len() as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let requests = world.cluster.take_requests();
        lists += requests.get("list").copied().unwrap_or_default();
        writes += requests.get("apply").copied().unwrap_or_default();
    }
    writes
}

#[tokio::test(start_paused = true)]
async fn first_applies_of_many_small_units_share_the_lists_of_their_kinds() {
    for is_spread in [false, true] {
        let mut world = World::new().await;
        let mut units = Vec::new();
        for unit in 0..100 {
            let namespace = match is_spread {
                true => format!("team{unit:02}"),
                false => "default".to_owned(),
            };
            world.cluster.write(
                "setup",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            );
            let objects: Vec<Value> = (0..4)
                .map(|n| in_namespace(&namespace, &format!("u{unit:02}-{n}")))
                .collect();
            units.push(entry(unit + 1, world.contents.add(&objects)));
        }
        let requests = first_apply(&mut world, &units).await;
        let looks = ["get", "list"].map(|verb| requests.get(verb).copied().unwrap_or_default());
        // Twelve units look at once before the first of them has found out that a list is worth it.
        assert!(looks[0] <= 48 && looks[1] <= 12, "{requests:?}");
        assert_eq!(requests["apply"], 400);
        assert!(world.events("Adopted").is_empty());
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn units_that_come_one_after_another_share_what_lists_have_shown() {
    let mut world = World::new().await;
    let (mut offered, mut looks) = (Vec::new(), 0);
    for unit in 0..30 {
        let objects: Vec<Value> = (0..4)
            .map(|n| in_namespace("default", &format!("u{unit:02}-{n}")))
            .collect();
        offered.push(entry(unit + 1, world.contents.add(&objects)));
        // Each is done seconds before the next is offered: no job goes on meanwhile.
        world.cluster.take_requests();
        world.offer(&offered).await;
        world.until_ready(&offered[offered.len() - 1]).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let requests = world.cluster.take_requests();
        looks += requests.get("get").copied().unwrap_or_default();
        looks += requests.get("list").copied().unwrap_or_default();
        assert_eq!(requests["apply"], 4);
    }
    // The first two read one by one, the third lists; another list comes with the age of the first.
    assert!(looks <= 16, "{looks}");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn objects_of_others_are_adopted_by_small_units_that_share_a_list() {
    let mut world = World::new().await;
    let mut units = Vec::new();
    for unit in 0..40 {
        let objects: Vec<Value> = (0..4)
            .map(|n| config_map(&format!("u{unit:02}-{n}"), "1"))
            .collect();
        units.push(entry(unit + 1, world.contents.add(&objects)));
    }
    world.cluster.write("kubectl", config_map("u39-2", "theirs"));
    first_apply(&mut world, &units).await;
    assert_eq!(world.value("u39-2").as_deref(), Some("1"));
    let told = world.events("Adopted");
    assert_eq!(told.len(), 1, "{told:?}");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_made_after_the_list_is_looked_at_and_adopted() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&named(10)));
    let begun = offer_and_list(&mut world, std::slice::from_ref(&wanted)).await;
    let mut theirs = config_map("c003", "theirs");
    theirs["data"]["stale"] = "1".into();
    world.cluster.write("kubectl-client-side-apply", theirs);
    world.until_ready(&wanted).await;
    settle().await;
    let requests = world.cluster.take_requests();
    // One of ten was refused, looked at, and written again.
    assert_eq!(
        (begun + requests["apply"], requests["get"]),
        (11, 1),
        "{requests:?}"
    );
    let live = world.cluster.object(&key("ConfigMap", "c003")).unwrap();
    assert_eq!(live["data"], json!({"a": "1"}));
    assert_eq!(world.events("Adopted").len(), 1);
    assert!(world.objects["c003"].adopted && !world.objects["c004"].adopted);
    world.cluster.set_latency(None);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn object_that_flux_makes_after_the_list_is_withheld() {
    let mut world = World::new().await;
    let (api_version, kind) = ("kustomize.toolkit.fluxcd.io/v1", "Kustomization");
    world.cluster.serve(api_version, kind, "kustomizations", true);
    world.cluster.write(
        "flux",
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "apps", "namespace": "default"}}),
    );
    let wanted = entry(1, world.contents.add(&named(10)));
    offer_and_list(&mut world, std::slice::from_ref(&wanted)).await;
    // As this unit wants it, which no server calls a conflict of fields.
    let mut theirs = config_map("c003", "1");
    theirs["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": "default"});
    world.cluster.write("kustomize-controller", theirs);
    let before = world.cluster.object(&key("ConfigMap", "c003"));
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.reason == "StillManagedByFlux")
        })
        .await;
    assert_eq!(world.cluster.object(&key("ConfigMap", "c003")), before);
    assert_eq!(world.value("c009").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn object_that_two_units_want_goes_to_one_of_them_where_both_listed_before() {
    let mut world = World::new().await;
    let shared = config_map("shared", "1");
    let units = [(1, "a"), (2, "b")].map(|(n, name)| {
        let own = (0..10).map(|n| config_map(&format!("{name}{n}"), "1"));
        let objects: Vec<Value> = own.chain([shared.clone()]).collect();
        entry(n, world.contents.add(&objects))
    });
    offer_and_list(&mut world, &units).await;
    let is_refused = |world: &World, n| world.unit(n).is_some_and(|unit| unit.reason == "Conflict");
    world
        .until("one of them is told", |world| {
            (is_refused(world, 1) || is_refused(world, 2))
                && [1, 2]
                    .iter()
                    .any(|n| world.unit(*n).is_some_and(|unit| unit.ready() == Readiness::True))
        })
        .await;
    let (first, second) = (is_refused(&world, 1), is_refused(&world, 2));
    assert!(first != second);
    for name in ["a9", "b9", "shared"] {
        assert_eq!(world.value(name).as_deref(), Some("1"), "{name}");
    }
}

/// An agent of some namespaces has no list that shows all of a kind.
#[tokio::test(start_paused = true)]
async fn an_agent_of_some_namespaces_looks_at_few_objects_of_a_kind_before_it_creates_the_others() {
    let namespaces: Vec<String> = (0..60).map(|n| format!("team{n:02}")).collect();
    let (cluster, cells) = (Arc::new(Fake::new()), Arc::new(Memory::default()));
    for name in &namespaces {
        cluster.write(
            "setup",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        );
    }
    // One that somebody has made: it is adopted, by a write that is refused first.
    let mut theirs = config_map("c3", "theirs");
    theirs["metadata"]["namespace"] = "team59".into();
    cluster.write("kubectl", theirs);
    let options = Options {
        namespaces: namespaces.clone(),
        ..Options::default()
    };
    let agent = SimAgent::start_as(cluster.clone(), cells, options)
        .await
        .expect("starts");
    let mut contents = Contents::default();
    let mut offered = Vec::new();
    cluster.take_requests();
    for (number, namespace) in (1..).zip(&namespaces) {
        let objects: Vec<Value> = (0..4)
            .map(|n| in_namespace(namespace, &format!("c{n}")))
            .collect();
        offered.push(entry(number, contents.add(&objects)));
    }
    agent.offer(&offered, &mut contents).await.expect("taken");
    settle().await;
    let written = |cluster: &Fake| cluster.keys("ConfigMap").len();
    assert_eq!(written(&cluster), 240);
    let requests = cluster.take_requests();
    let count = |verb: &str| requests.get(verb).copied().unwrap_or_default();
    // Twelve units look at once before the first of them has found nothing.
    assert!(count("get") <= 60 && count("list") == 0, "{requests:?}");
    assert!(count("apply") <= 241, "{requests:?}");
    let adopted = ObjectKey::new("", "ConfigMap", "team59", "c3");
    assert!(cluster.has(&adopted, |object| object["data"]["a"] == "1"));
}
