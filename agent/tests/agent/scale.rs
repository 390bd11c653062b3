//! Many units, many objects, little room: what each costs is counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use flotilla_agent::{cluster::ClusterError, ledger::key_value::Limits};
use flotilla_core::unit::{Entry, Settings, UnitState};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::version,
    world::{World, config_map, entry, entry_with, key, settings, settle},
};

#[tokio::test(start_paused = true)]
async fn fifty_units_of_which_some_are_not_well_wake_for_those_alone() {
    let mut world = World::new().await;
    let mut units: Vec<Entry> = (1..=50)
        .map(|n| entry(n, world.contents.add(&[config_map(&format!("c{n}"), "1")])))
        .collect();
    world.offer(&units).await;
    world
        .until("all are ready", |world| {
            units.iter().all(|unit| world.is_ready(unit))
        })
        .await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.name == "c3").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: "refused".into(),
        })
    })));
    units[0].state = UnitState::Suspended;
    units[2] = version(2, entry(3, world.contents.add(&[config_map("c3", "2")])));
    world.offer(&units).await;
    world
        .until("one has failed", |world| {
            world.unit(3).unwrap().ready() == Readiness::False
        })
        .await;
    world.contest("c2").await;
    let quiet = world.ten_minutes().await;
    assert!(quiet.wakes <= 60, "{quiet:?}");
    assert!(quiet.requests.values().sum::<u64>() <= 30, "{quiet:?}");
    assert!(quiet.reports <= 2 && quiet.ledger_writes <= 4, "{quiet:?}");
    world.rests_but_for(&[("apply", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_objects_that_drift_at_once_cost_a_write_each() {
    let mut world = World::new().await;
    let objects: Vec<Value> = (0..1000).map(|n| config_map(&format!("c{n:04}"), "1")).collect();
    let wanted = world.ready(1, &objects).await;
    let writes = world.cells.writes();
    for n in 0..1000 {
        world.set_value("somebody", &format!("c{n:04}"), "hacked");
    }
    world
        .until("all are corrected", |world| {
            (0..1000).all(|n| world.value(&format!("c{n:04}")).as_deref() == Some("1"))
        })
        .await;
    settle().await;
    let requests = world.cluster.take_requests();
    assert_eq!(requests.get("apply"), Some(&1000), "{requests:?}");
    assert_eq!(requests.len(), 1, "{requests:?}");
    let writes = world.cells.writes() - writes;
    assert!(writes <= 60, "{writes} writes of the ledger");
    assert!(world.is_ready(&wanted));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn pod_that_cannot_be_scheduled_becomes_failed_by_time_alone() {
    let mut world = World::new().await;
    world.cluster.serve("v1", "Pod", "pods", true);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "app"}]}});
    let settings = Settings {
        wait: true,
        ..settings()
    };
    let wanted = entry_with(1, world.contents.add(&[pod]), settings.clone(), Vec::new());
    world.offer(&[wanted]).await;
    let p = key("Pod", "p");
    world
        .until("it is applied", |world| world.cluster.object(&p).is_some())
        .await;
    // The clock of the world begins with the year.
    world.cluster.edit("kube-apiserver", &p, |live| {
        live["metadata"]["creationTimestamp"] = "2026-01-01T00:00:40Z".into();
    });
    world.cluster.set_status(
        &p,
        json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
        ]}),
    );
    world
        .until("it waits", |world| {
            world.unit(1).is_some_and(|unit| unit.health == "InProgress")
        })
        .await;
    world
        .until("it has failed", |world| world.unit(1).unwrap().health == "Failed")
        .await;
    assert_eq!(world.unit(1).unwrap().reason, "HealthCheckFailed");
    // The unit's own timeout, too, is over then.
    tokio::time::sleep(settings.timeout).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn full_ledger_refuses_what_does_not_fit_and_keeps_the_rest_enforced() {
    let mut world = World::new().await;
    let one = world.ready(1, &[config_map("x", "1")]).await;
    let limits = |total| Limits {
        segment: 4 << 10,
        total,
    };
    drop(world.cells.clone().with_limits(limits(8 << 10)));
    world.restart().await;
    // Values that do not compress.
    let value = |n: u64| {
        let words =
            (0..64).map(|word| flotilla_core::digest::Digest::of("noise", &(n * 64 + word).to_be_bytes()));
        words.map(|word| word.to_string()).collect::<String>()
    };
    let objects: Vec<Value> = (0..50)
        .map(|n| config_map(&format!("big{n}"), &value(n)))
        .collect();
    let two = entry(2, world.contents.add(&objects));
    let ack = world.offer(&[one.clone(), two.clone()]).await;
    let refused: BTreeMap<_, _> = ack
        .units
        .iter()
        .filter(|unit| !unit.accepted)
        .map(|unit| (unit.unit_id.to_vec(), unit.reason.as_str()))
        .collect();
    assert_eq!(refused, BTreeMap::from([(two.unit.to_vec(), "LedgerFull")]));
    world.cluster.delete(&key("ConfigMap", "x"));
    world
        .until("what it has is enforced", |world| world.value("x").is_some())
        .await;
    world.ten_minutes().await;
    world.rests().await;
    drop(world.cells.clone().with_limits(limits(1 << 20)));
    world.restart().await;
    world.offer(&[one, two.clone()]).await;
    world.until_ready(&two).await;
    world.rests().await;
}

/// The rows of its objects are counted when a unit is taken.
#[tokio::test(start_paused = true)]
async fn what_a_nearly_full_ledger_takes_is_applied_whole_and_corrected() {
    let mut world = World::new().await;
    let limits = Limits {
        segment: 16 << 10,
        total: 128 << 10,
    };
    drop(world.cells.clone().with_limits(limits));
    world.restart().await;
    let units: Vec<Entry> = (0..20)
        .map(|n| {
            let objects: Vec<Value> = (0..60)
                .map(|of| config_map(&format!("u{n:02}-{of:02}"), "1"))
                .collect();
            entry(1 + n, world.contents.add(&objects))
        })
        .collect();
    let ack = world.offer(&units).await;
    let refused = ack.units.iter().filter(|unit| !unit.accepted);
    let refused: BTreeSet<Vec<u8>> = refused.map(|unit| unit.unit_id.to_vec()).collect();
    let (left, taken): (Vec<&Entry>, Vec<&Entry>) = units
        .iter()
        .partition(|unit| refused.contains(&unit.unit.to_vec()));
    assert!(
        left.len() >= 5 && taken.len() >= 3,
        "{} taken, {} left",
        taken.len(),
        left.len()
    );
    for unit in taken {
        world.until_ready(unit).await;
    }
    let drifts: Vec<_> = world.cluster.keys("ConfigMap");
    for key in &drifts {
        world.cluster.delete(key);
    }
    world
        .until("all is there again", |world| {
            drifts.iter().all(|key| world.cluster.object(key).is_some())
        })
        .await;
    world.ten_minutes().await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn panic_over_one_object_leaves_all_other_units_at_rest() {
    let mut world = World::new().await;
    let good = entry(2, world.contents.add(&[config_map("x", "1")]));
    let bad = entry(1, world.contents.add(&[config_map("poison", "1")]));
    world.offer(&[bad.clone(), good.clone()]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&good) && world.is_ready(&bad)
        })
        .await;
    world.quiet().await;
    world.cluster.set_fault(Some(Box::new(|_, key| {
        assert!(key.name != "poison", "poisoned");
        None
    })));
    // A check panics, and again after a while.
    world.set_value("somebody", "poison", "hacked");
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().ready() == Readiness::False
        })
        .await;
    let quiet = world.ten_minutes().await;
    assert!(
        quiet.requests.values().sum::<u64>() <= 12 && quiet.wakes <= 25,
        "{quiet:?}"
    );
    assert_eq!((quiet.events, quiet.reports), (0, 0), "{quiet:?}");
    assert!(world.is_ready(&good));
    world.cluster.set_fault(None);
    world.until_ready(&bad).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.rests().await;
}
