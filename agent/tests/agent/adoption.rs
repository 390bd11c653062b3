//! What is there before the unit: looked at, adopted, or left to whom it belongs.

use serde_json::{Value, json};

use crate::world::{World, config_map, entry, key, settle};

#[tokio::test(start_paused = true)]
async fn many_objects_are_looked_at_by_a_list_and_few_by_a_read_each() {
    for (count, there, full, looks) in [
        // The lists of this cluster have ten objects a page.
        (7, 0, 0, ("get", 7)),
        (100, 0, 0, ("list", 1)),
        (100, 25, 0, ("list", 3)),
        // A full namespace is not listed for the sake of a few: one page says how many there are.
        (8, 3, 200, ("get", 8)),
    ] {
        let mut world = World::new().await;
        let name = |n: usize| format!("c{n:03}");
        for n in 0..there {
            world.cluster.write("kubectl", config_map(&name(n), "old"));
        }
        for n in 0..full {
            world
                .cluster
                .write("somebody", config_map(&format!("a{n:03}"), "1"));
        }
        world.cluster.take_requests();
        let objects: Vec<Value> = (0..count).map(|n| config_map(&name(n), "1")).collect();
        let wanted = entry(1, world.contents.add(&objects));
        world.offer(std::slice::from_ref(&wanted)).await;
        world.until_ready(&wanted).await;
        settle().await;
        let requests = world.cluster.take_requests();
        assert_eq!(requests["apply"], count as u64);
        assert_eq!(requests.get(looks.0), Some(&looks.1), "{requests:?}");
        assert_eq!(world.events("Adopted").len(), there);
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn objects_already_there_are_adopted_and_leftovers_folded() {
    let mut world = World::new().await;
    let mut theirs = config_map("x", "old");
    theirs["data"]["stale"] = "1".into();
    theirs["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    world.cluster.write("kubectl-client-side-apply", theirs);
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    let live = world.cluster.object(&key("ConfigMap", "x")).unwrap();
    assert_eq!(
        live["data"],
        json!({"a": "1"}),
        "a field that left Git leaves the cluster"
    );
    world
        .until("it is recorded", |world| {
            world.objects.get("x").is_some_and(|object| object.adopted)
        })
        .await;
    assert_eq!(world.events("Adopted").len(), 1);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn another_units_object_is_withheld_and_only_that() {
    let mut world = World::new().await;
    let one = world.contents.add(&[config_map("x", "1")]);
    let two = world.contents.add(&[config_map("x", "2"), config_map("y", "2")]);
    world.offer(&[entry(1, one)]).await;
    world.until_ready(&entry(1, one)).await;
    world.offer(&[entry(1, one), entry(2, two)]).await;
    world
        .until("it is told", |world| {
            world.unit(2).is_some_and(|unit| unit.reason == "Conflict")
        })
        .await;
    assert_eq!(
        (world.value("x").as_deref(), world.value("y").as_deref()),
        (Some("1"), Some("2"))
    );
    assert!(
        world
            .unit(2)
            .unwrap()
            .message
            .contains(&entry(1, one).unit.to_string())
    );
    // It is tried again once per retry interval.
    world.rests_but_for(&[("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_live_flux_reconciles_is_withheld_until_flux_is_suspended() {
    let mut world = World::new().await;
    world.cluster.serve(
        "kustomize.toolkit.fluxcd.io/v1",
        "Kustomization",
        "kustomizations",
        true,
    );
    let flux = |suspend: bool| {
        json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "apps", "namespace": "default"}, "spec": {"suspend": suspend}})
    };
    world.cluster.write("flux", flux(false));
    let mut theirs = config_map("x", "flux");
    theirs["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": "default"});
    world.cluster.write("kustomize-controller", theirs);
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.reason == "StillManagedByFlux")
        })
        .await;
    assert_eq!(world.value("x").as_deref(), Some("flux"));
    world.cluster.write("flux", flux(true));
    world.until_ready(&wanted).await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.rests().await;
}
