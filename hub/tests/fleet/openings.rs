//! Streams that are opened at the same moment are opened together, and each is opened as if it came alone.

use std::{collections::BTreeMap, time::Duration};

use flotilla_hub::store::{
    Store, StoreError,
    report::StatusRow,
    session::{Opening, Told},
    together::Together,
};
use uuid::Uuid;

use crate::{
    reports::{object, open_as, opening, report, took},
    store::{config, one_unit},
    world::{INCARNATION, World, applied},
};

fn by(cluster: Uuid, instance: &str) -> Opening {
    Opening {
        boot_id: instance.into(),
        cluster_name: "c1".into(),
        ..opening(cluster, &[])
    }
}

async fn message(world: &World, cluster: &str) -> String {
    let shown = world.store.list_clusters(cluster, "", 1).await.expect("listed");
    shown[0].message.clone()
}

#[tokio::test]
async fn a_cluster_twice_in_a_batch_has_an_epoch_for_each_and_the_last_has_the_stream() {
    let world = World::new().await;
    let (one, two) = (world.cluster("c1").await, world.cluster("c2").await);
    let first = Opening {
        epoch_seen: 7,
        observed_root: vec![7; 32],
        ..by(one, "a")
    };
    let batch = [first, by(two, "x"), by(one, "b"), by(two, "x"), by(one, "c")];
    let opened = world.store.open_sessions(&batch).await.expect("opened");
    let epochs: Vec<u64> = opened.iter().map(|opened| opened.epoch).collect();
    assert!(
        7 < epochs[0]
            && epochs[0] < epochs[2]
            && epochs[2] < epochs[4]
            && 0 < epochs[1]
            && epochs[1] < epochs[3],
        "{epochs:?}"
    );
    // Nothing was reported yet: the first has something to say, and those after it what the first did not.
    let everything: Vec<bool> = opened.iter().map(|opened| opened.report_everything).collect();
    assert_eq!(everything, [true, false, true, true, true]);
    for (cluster, epoch, instance) in [(one, epochs[4], "c"), (two, epochs[3], "x")] {
        let holder = world.store.holder(cluster).await.expect("read").expect("opened");
        assert_eq!((holder.epoch, holder.boot_id.as_str()), (epoch, instance));
    }
    let seen: Vec<(Uuid, u64)> = batch
        .iter()
        .map(|one| one.cluster_id)
        .zip(epochs.clone())
        .collect();
    world.execute("UPDATE cluster SET state = 'Active'").await;
    let mut held = world.store.held(&seen).await.expect("read");
    held.sort_unstable();
    let mut last = [(one, epochs[4]), (two, epochs[3])];
    last.sort_unstable();
    assert_eq!(held, last);
    // Each is told of once, and what comes after it is above all of them.
    let told = "SELECT count(*) FROM event WHERE reason = 'ClusterConnected'";
    assert_eq!(world.count(told).await, 2);
    assert!(open_as(&world, by(one, "c")).await.epoch > epochs[4]);
}

#[tokio::test]
async fn agents_that_take_a_stream_from_each_other_within_one_batch_are_seen_as_two() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    world.execute("UPDATE cluster SET state = 'Active'").await;
    let came = ["a", "b", "a", "b", "a"].map(|instance| by(cluster, instance));
    world.store.open_sessions(&came).await.expect("opened");
    let said = message(&world, "c1").await;
    assert!(
        said.contains("4 times within an hour: instance a has it now, instance b had it before"),
        "{said}"
    );
}

#[tokio::test]
async fn what_one_of_several_has_lost_is_told_though_another_has_the_stream() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let holding = |generation| Opening {
        incarnation: INCARNATION,
        generation,
        ..by(cluster, "a")
    };
    let epoch = open_as(&world, holding(7)).await.epoch;
    let mut left = object(unit, "x");
    left.state = Some("PendingRemoval");
    let mut first = report(cluster, epoch, vec![applied(unit, 1, target)]);
    first.objects = vec![left];
    world.store.ingest(&[first]).await.expect("ingested");
    let batch = [holding(0), holding(7)];
    world.store.open_sessions(&batch).await.expect("opened");
    let said = message(&world, "c1").await;
    assert!(said.contains("the agent has lost its ledger"), "{said}");
    let events = "SELECT count(*) FROM event WHERE reason = 'RemovalUnproven'";
    assert_eq!(world.count(events).await, 1, "once");
}

/// Its cluster's store was put back, and its ledger with it.
#[tokio::test]
async fn of_an_agent_that_was_put_back_nothing_counts_that_it_said_before() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let holding = |generation| Opening {
        incarnation: INCARNATION,
        generation,
        ..by(cluster, "a")
    };
    let epoch = open_as(&world, holding(6)).await.epoch;
    let told = Told {
        refusal: None,
        cluster,
        epoch,
        accepted: Some((INCARNATION, 7)),
        units: BTreeMap::from([(unit, took(1, target))]),
        message: String::new(),
    };
    world.store.told(&[told]).await.expect("told");
    let status = StatusRow {
        objects_pending_removal: 1,
        ..applied(unit, 1, target)
    };
    world
        .store
        .ingest(&[report(cluster, epoch, vec![status])])
        .await
        .expect("ingested");
    world
        .execute("UPDATE leaving SET state = 'Cleared'; DELETE FROM unpublished")
        .await;
    let known =
        || world.count("SELECT (SELECT count(*) FROM unit_accepted) + (SELECT count(*) FROM unit_status)");
    for generation in [7, 8] {
        assert!(
            !open_as(&world, holding(generation)).await.was_put_back,
            "{generation}"
        );
        assert_eq!(known().await, 2);
    }
    // Whoever has lost all has nothing that was let go of.
    assert!(!open_as(&world, holding(0)).await.was_put_back);
    let opened = open_as(&world, holding(5)).await;
    assert!(opened.was_put_back && opened.report_everything);
    assert_eq!(known().await, 0);
    let decided = "SELECT (SELECT count(*) FROM leaving) * 10 + (SELECT count(*) FROM unpublished)";
    assert_eq!(world.count(decided).await, 1, "what was cleared is not any more");
    // It is still behind when it comes again before it has taken anything.
    assert!(open_as(&world, holding(5)).await.was_put_back);
    assert!(!open_as(&world, holding(8)).await.was_put_back);
}

#[tokio::test]
async fn a_stream_that_another_hub_had_is_a_takeover_and_so_is_no_other_of_the_batch() {
    let world = World::new().await;
    let (one, two) = (world.cluster("c1").await, world.cluster("c2").await);
    let on = |cluster, replica: &str| Opening {
        replica: replica.into(),
        ..by(cluster, "a")
    };
    let before = [on(one, "other"), on(two, "this")];
    world.store.open_sessions(&before).await.expect("opened");
    let taken = [on(one, "this"), on(two, "this")];
    world.store.open_sessions(&taken).await.expect("opened");
    let told =
        format!("SELECT count(*) FROM outbox WHERE topic = 'takeover' AND keys = ARRAY['{one}'::uuid]");
    assert_eq!(world.count(&told).await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM outbox WHERE topic = 'takeover'")
            .await,
        1
    );
    // The hub that comes back closes what it had, and nothing that was taken.
    world.store.close_sessions_of("other").await.expect("closed");
    let connected = "SELECT count(*) FROM session WHERE connected";
    assert_eq!(world.count(connected).await, 2);
    world.store.close_sessions_of("this").await.expect("closed");
    assert_eq!(world.count(connected).await, 0);
}

#[tokio::test]
async fn one_cluster_that_is_gone_keeps_no_other_of_the_batch_out() {
    let world = World::new().await;
    let (one, two) = (world.cluster("c1").await, world.cluster("c2").await);
    let gone = Uuid::from_u128(7);
    let store: Store = world.store.for_writing();
    let together = Together::start(move |openings: Vec<Opening>| {
        let store = store.clone();
        async move { store.open_sessions(&openings).await }
    });
    let (first, refused, last) = tokio::join!(
        together.ask(by(one, "a")),
        together.ask(by(gone, "b")),
        together.ask(by(two, "c"))
    );
    assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
    assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?}");
}

#[tokio::test]
async fn what_was_judged_wrong_while_a_batch_waited_for_its_locks_is_written_as_good_again() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    open_as(&world, by(cluster, "a")).await;
    let mut other = world.pool.begin().await.expect("begun");
    sqlx::query("SELECT FROM session FOR UPDATE")
        .execute(&mut *other)
        .await
        .expect("locked");
    let store = world.store.clone();
    let waiting = tokio::spawn(async move { store.open_sessions(&[by(cluster, "a")]).await });
    flotilla_testkit::wait_until("it waits", Duration::from_secs(10), async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        Ok::<_, std::convert::Infallible>((world.count(waits).await > 0).then_some(()))
    })
    .await
    .expect("it waits");
    sqlx::query(
        "INSERT INTO cluster_condition (cluster_id, kind, ok, message, since)
         SELECT cluster_id, 'Identity', false, 'two agents', now() FROM session",
    )
    .execute(&mut *other)
    .await
    .expect("written");
    other.commit().await.expect("committed");
    waiting.await.expect("ended").expect("opened");
    assert_eq!(message(&world, "c1").await, "");
}

#[tokio::test]
async fn a_published_state_is_found_with_the_stream_and_a_later_one_stays() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, ..) = one_unit(&world, "c1", app).await;
    let index = flotilla_hub::index::Index::new(world.store.for_fetching());
    let watched = index.watch(cluster);
    let opened = open_as(&world, by(cluster, "a")).await;
    let early = opened.head.expect("published");
    // What is published after it was read comes first.
    let content = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[cluster], &content).await;
    index.refresh(&[cluster]).await.expect("read");
    let held = || watched.borrow().as_ref().expect("a state").head;
    let late = held();
    assert!(late.generation > early.generation);
    index.found(cluster, early);
    assert_eq!(held(), late);
}
