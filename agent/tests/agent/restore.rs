//! A cluster whose store was put back to an earlier state, by the restore of a backup, versions and the ledger's
//! Secrets with it: what has changed since is put right again, and nothing turns.

use std::time::Duration;

use flotilla_core::unit::Entry;
use serde_json::json;

use crate::{
    scenes::{widget, widget_definition, widget_key},
    world::{World, config_map, deployment, entry, key, settle},
};

/// A unit of which much has changed since the backup that this puts back: `x` is another object, `y` was corrected,
/// `z` is new, and the Deployment has become ready.
async fn put_back() -> (World, Entry) {
    let mut world = World::new().await;
    let before = [config_map("x", "1"), config_map("y", "1"), deployment("d")];
    let content = world.contents.add(&before);
    world.offer(&[entry(1, content)]).await;
    settle().await;
    let (cluster, ledger) = (world.cluster.snapshot(), world.cells.snapshot());
    let uid = uid(&world, "x");
    world.cluster.delete(&key("ConfigMap", "x"));
    settle().await;
    assert_ne!(self::uid(&world, "x"), uid, "it was created again");
    world.set_value("somebody", "y", "2");
    become_ready(&world);
    settle().await;
    let after = [
        config_map("x", "1"),
        config_map("y", "1"),
        config_map("z", "1"),
        deployment("d"),
    ];
    let content = world.contents.add(&after);
    let wanted = world.ready_as(entry(1, content)).await;
    world.cluster.restore(&cluster);
    world.cells.restore(&ledger);
    assert_eq!(self::uid(&world, "x"), uid);
    (world, wanted)
}

fn uid(world: &World, name: &str) -> String {
    let object = world.cluster.object(&key("ConfigMap", name)).unwrap();
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn become_ready(world: &World) {
    let status = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
        "availableReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    world.cluster.set_status(&key("Deployment", "d"), status);
}

/// That the ledger was written anew is told for a minute.
async fn rests(world: &mut World) {
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.quiet().await;
    world.rests().await;
}

/// What was known of the objects is newer than what is there: it is not read again and again to know better.
#[tokio::test(start_paused = true)]
async fn objects_that_are_older_than_what_was_known_are_read_a_few_times_and_put_right() {
    let (mut world, wanted) = put_back().await;
    world.agent().ask(wanted.unit);
    world
        .until("all is there again", |world| world.value("z").is_some())
        .await;
    settle().await;
    for name in ["x", "y", "z"] {
        assert_eq!(world.value(name).as_deref(), Some("1"), "{name}");
    }
    let requests = world.cluster.take_requests();
    let of = |verb: &str| requests.get(verb).copied().unwrap_or_default();
    assert!(of("get") <= 8 && of("apply") <= 8, "{requests:?}");
    rests(&mut world).await;
}

/// An API server that begins with the store of before has soon reached the version of a watch, which goes on and shows nothing.
#[tokio::test(start_paused = true)]
async fn what_no_watch_shows_of_a_restore_is_seen_once_the_ledger_has_found_it() {
    let (mut world, wanted) = put_back().await;
    let content = world.contents.add(&[config_map("other", "1")]);
    world.offer(&[wanted, entry(2, content)]).await;
    world
        .until("all is there again", |world| world.value("z").is_some())
        .await;
    settle().await;
    for name in ["x", "y", "z", "other"] {
        assert_eq!(world.value(name).as_deref(), Some("1"), "{name}");
    }
    rests(&mut world).await;
}

/// As an API server that was restarted after the restore does.
#[tokio::test(start_paused = true)]
async fn drift_and_health_are_seen_after_the_store_went_back() {
    let (mut world, wanted) = put_back().await;
    world.cluster.break_watches();
    settle().await;
    for name in ["x", "y", "z"] {
        assert_eq!(world.value(name).as_deref(), Some("1"), "{name}");
    }
    let begun = tokio::time::Instant::now();
    world.set_value("somebody", "x", "hacked");
    world
        .until("drift is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    world
        .until("it is told that the Deployment is not ready any more", |world| {
            world.objects["d"].health == "InProgress"
        })
        .await;
    become_ready(&world);
    world.until_ready(&wanted).await;
    let requests = world.cluster.take_requests();
    let of = |verb: &str| requests.get(verb).copied().unwrap_or_default();
    assert!(of("get") <= 8 && of("apply") <= 8, "{requests:?}");
    rests(&mut world).await;
    let accepted = world.agent().ledger.read(|state| state.accepted);
    world.restart().await;
    let ledger = &world.agent().ledger;
    assert_eq!(*ledger.opened(), flotilla_agent::ledger::Opened::Read);
    assert_eq!(ledger.read(|state| state.accepted), accepted);
    settle().await;
    world.rests().await;
}

fn size(world: &World) -> Option<u64> {
    let object = world.cluster.object(&widget_key())?;
    object["spec"]["size"].as_u64()
}

fn set_size(world: &World, size: u64) {
    world.cluster.edit("somebody", &widget_key(), |live| {
        live["spec"]["size"] = size.into()
    });
}

/// A backup from before a kind was defined: its objects come back with lower versions than they had.
#[tokio::test(start_paused = true)]
async fn objects_of_a_kind_that_the_backup_did_not_serve_are_created_again_and_seen() {
    let mut world = World::new().await;
    let cluster = world.cluster.snapshot();
    let wanted = world.ready(1, &[widget_definition(), widget()]).await;
    for _ in 0..5 {
        world
            .cluster
            .set_status(&widget_key(), json!({"seen": size(&world)}));
        world.cluster.set_status(&widget_key(), json!({}));
    }
    settle().await;
    world.cluster.restore(&cluster);
    world.cluster.break_watches();
    let begun = tokio::time::Instant::now();
    world
        .until("it is there again", |world| size(world) == Some(1))
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(180),
        "{:?}",
        begun.elapsed()
    );
    world.until_ready(&wanted).await;
    settle().await;
    let begun = tokio::time::Instant::now();
    set_size(&world, 2);
    world
        .until("drift is corrected", |world| size(world) == Some(1))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    world.quiet().await;
    world.rests().await;
}

/// As by an API server that was just started and does not know all definitions yet.
#[tokio::test(start_paused = true)]
async fn objects_of_a_kind_that_is_served_a_while_after_the_restore_are_seen() {
    let mut world = World::new().await;
    world.ready(1, &[widget_definition(), widget()]).await;
    let cluster = world.cluster.snapshot();
    for n in 0..10 {
        world.cluster.set_status(&widget_key(), json!({"seen": n}));
    }
    settle().await;
    world.cluster.restore(&cluster);
    world.cluster.unserve("example.com", "Widget");
    world.cluster.break_watches();
    settle().await;
    world.cluster.serve("example.com/v1", "Widget", "widgets", true);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let begun = tokio::time::Instant::now();
    set_size(&world, 2);
    world
        .until("drift is corrected", |world| size(world) == Some(1))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    world.quiet().await;
    world.rests().await;
}

/// What had left its unit, and was deleted by hand since the backup, is there again.
#[tokio::test(start_paused = true)]
async fn objects_that_had_left_their_units_and_come_back_with_the_store_are_counted_as_to_be_removed() {
    let mut world = World::new().await;
    world
        .ready(
            1,
            &[config_map("x", "1"), config_map("y", "1"), config_map("z", "1")],
        )
        .await;
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    settle().await;
    let (cluster, ledger) = (world.cluster.snapshot(), world.cells.snapshot());
    world.cluster.delete(&key("ConfigMap", "y"));
    world.cluster.delete(&key("ConfigMap", "z"));
    world
        .until("they are gone", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.objects_pending_removal == 0)
        })
        .await;
    world.ready(1, &[config_map("x", "2")]).await;
    settle().await;
    world.cluster.restore(&cluster);
    world.cells.restore(&ledger);
    // This one is not in the backup of the cluster.
    world.cluster.delete(&key("ConfigMap", "z"));
    world.agent().ask(wanted.unit);
    world
        .until("what is back is counted", |world| {
            world.value("x").as_deref() == Some("2")
                && world
                    .unit(1)
                    .is_some_and(|unit| unit.objects_pending_removal == 1)
        })
        .await;
    settle().await;
    let unit = world.unit(1).expect("told");
    assert!(
        unit.notes
            .contains("no longer desired and not removed: ConfigMap/default/y"),
        "{unit:?}"
    );
    assert_eq!(world.value("y").as_deref(), Some("1"), "nothing is deleted");
    rests(&mut world).await;
    // Who deletes it by hand is seen.
    world.cluster.delete(&key("ConfigMap", "y"));
    world
        .until("it is gone", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.objects_pending_removal == 0)
        })
        .await;
    rests(&mut world).await;
}
