//! What leaves a cluster's desired state: an entry that is let go of is told until the agent holds a state without it; and states
//! of a former history are published again.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::{
    digest::Digest,
    unit::{UnitState, root},
};
use flotilla_hub::{
    index::Index,
    store::{
        publish::{DesiredRow, EntryRow},
        session::{Answer, Told},
    },
};
use flotilla_testkit::wait_until;
use uuid::Uuid;

use crate::{
    agent_stream::{Stream, accept, hello, holding},
    hub::Hub,
    reports::{attained, open},
    store::{config, one_unit},
    world::{INCARNATION, Rendered, World},
};

async fn desired(world: &World, cluster: Uuid) -> DesiredRow {
    let read = world.store.desired(cluster).await.expect("read");
    read.expect("published")
}

/// The agent says that it holds this state, and this entry of it durably.
pub(crate) async fn hold(
    world: &World,
    cluster: Uuid,
    epoch: u64,
    generation: u64,
    entry: Option<&EntryRow>,
) {
    let told = Told {
        refusal: None,
        cluster,
        epoch,
        accepted: Some((INCARNATION, generation)),
        units: entry
            .map(|entry| {
                let held = Answer::Accepted {
                    entry: Some(entry.digest),
                    held: attained(1, Digest::of("target", b"x")),
                };
                (entry.unit, held)
            })
            .into_iter()
            .collect(),
        message: String::new(),
    };
    world.store.told(&[told]).await.expect("told");
}

/// Plans the unit of an app away, and publishes that it is detached.
async fn detach(world: &World, app: Uuid, cluster: Uuid, content: &Rendered) {
    let gathered = world.gather(app, &[], content).await;
    assert_eq!(gathered.planned.units[0].state, UnitState::Detached);
    world.commit(&gathered).await.expect("committed");
    world.publish(cluster).await.expect("published");
}

#[tokio::test]
async fn an_entry_leaves_once_its_agent_holds_it_detached_and_is_told_until_that_is_accepted() {
    let world = World::new().await;
    let (app, other) = (world.app("a").await, world.app("b").await);
    let (cluster, unit, _) = one_unit(&world, "c1", app).await;
    let of_other = world.render(other, "r", &[config("y", "a: 1")]).await;
    world.roll_out(other, &[cluster], &of_other).await;
    let epoch = open(&world, cluster).await;
    let content = world.render(app, "c1", &[config("x", "a: 1")]).await;
    let release = async || world.store.release(&[unit]).await.expect("asked") == 1;
    let of_unit = |desired: &DesiredRow| desired.entries.iter().find(|entry| entry.unit == unit).cloned();
    let active = of_unit(&desired(&world, cluster).await).expect("there");
    hold(&world, cluster, epoch, 2, Some(&active)).await;
    assert!(!release().await, "it is enforced");
    detach(&world, app, cluster, &content).await;
    assert!(!release().await, "the agent enforces it still");
    let detached = desired(&world, cluster).await;
    hold(&world, cluster, epoch, 3, of_unit(&detached).as_ref()).await;
    assert!(release().await);
    assert!(!release().await, "it is let go of already");
    assert_eq!(world.publish(cluster).await.map(|one| one.generation), Some(4));
    assert_eq!(world.publish(cluster).await, None);
    let left = desired(&world, cluster).await;
    let gone = of_unit(&left).expect("told");
    assert!(gone.released && gone.bytes.is_empty() && gone.since == 4);
    let rest = left.entries.iter().filter(|entry| !entry.released);
    let rest = root(rest.map(|entry| (flotilla_core::id::UnitId(entry.unit), entry.digest)));
    assert_eq!(left.head.root, rest);
    // It is told for as long as the agent may not know.
    let forget = async || world.store.forget_released().await.expect("asked");
    assert_eq!(forget().await, 0);
    assert_eq!(desired(&world, cluster).await.entries.len(), 2);
    hold(&world, cluster, epoch, 4, None).await;
    assert_eq!(forget().await, 1);
    assert_eq!(desired(&world, cluster).await.entries.len(), 1);
    assert!(
        !world
            .store
            .accepted(cluster)
            .await
            .expect("read")
            .contains_key(&unit)
    );
    assert_eq!(world.publish(cluster).await, None, "nothing is left to do");
    // Placed again it is the same unit.
    world.roll_out(app, &[cluster], &content).await;
    let back = of_unit(&desired(&world, cluster).await).expect("there");
    assert!(!back.released && !back.bytes.is_empty());
}

/// The next stream says which generation it holds, and no more.
#[tokio::test]
async fn what_an_agent_has_taken_is_let_go_of_though_its_word_of_the_entry_was_lost() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, _) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let content = world.render(app, "c1", &[config("x", "a: 1")]).await;
    let before = desired(&world, cluster).await.head.generation;
    detach(&world, app, cluster, &content).await;
    let detached = desired(&world, cluster).await.head.generation;
    assert_eq!(detached, before + 1);
    let release = async || world.store.release(&[unit]).await.expect("asked");
    hold(&world, cluster, epoch, before, None).await;
    assert_eq!(release().await, 0, "it may enforce it still");
    hold(&world, cluster, epoch, detached, None).await;
    assert_eq!(release().await, 1);
}

#[tokio::test]
async fn an_agent_is_told_what_is_let_go_of_whether_it_gets_a_change_or_the_whole_state() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let (a, b) = (hub.world.app("a").await, hub.world.app("b").await);
    let of_a = hub.world.render(a, "r1", &[config("x", "a: 1")]).await;
    let of_b = hub.world.render(b, "r1", &[config("y", "a: 1")]).await;
    hub.world.roll_out(a, &[agent.cluster], &of_a).await;
    hub.world.roll_out(b, &[agent.cluster], &of_b).await;
    let gathered = hub.world.gather(a, &[], &of_a).await;
    hub.world.commit(&gathered).await.expect("committed");
    hub.world.publish(agent.cluster).await;
    let unit = gathered.planned.units[0].id.expect("there").0;
    let mut stream = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let mut held = BTreeMap::new();
    let whole = stream.desired().await;
    accept(&mut held, &whole);
    assert_eq!(held.len(), 2);
    // As if the agent had said that it holds it.
    hub.world
        .execute(
            "INSERT INTO unit_accepted (cluster_id, unit_id, version, target, entry)
             SELECT cluster_id, unit_id, 1, '', digest FROM desired_entry",
        )
        .await;
    assert!(hub.world.store.release(&[unit]).await.expect("asked") == 1);
    let change = stream.desired().await;
    assert_eq!(
        (change.base_generation, change.units.len()),
        (Some(whole.generation), 1)
    );
    assert!(change.units[0].released);
    accept(&mut held, &change);
    assert_eq!(held.len(), 1);
    drop(stream);
    // Who comes with what it held before is told all the same; so is who gets everything.
    let mut again = Stream::open(&hub, &agent, holding(&agent, &whole))
        .await
        .expect("open");
    assert_eq!(again.desired().await.units, change.units);
    drop(again);
    let mut anew = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let released = anew
        .desired()
        .await
        .units
        .iter()
        .filter(|unit| unit.released)
        .count();
    assert_eq!(released, 1);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn states_of_a_former_incarnation_are_published_again_and_followed_whatever_their_number() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, ..) = one_unit(&world, "c1", app).await;
    let index = Index::new(world.store.clone());
    let watched = index.watch(cluster);
    index.refresh(&[cluster]).await.expect("read");
    let head = || watched.borrow().as_ref().expect("published").head;
    let before = head();
    let unpublished = async |incarnation: u64| world.stale(incarnation, Duration::ZERO).await.unpublished;
    assert_eq!(unpublished(INCARNATION).await, Vec::<Uuid>::new());
    assert_eq!(unpublished(INCARNATION + 1).await, [cluster]);
    let published = world
        .store
        .publish(&[cluster], INCARNATION + 1)
        .await
        .expect("published");
    assert_eq!((published.len(), published[0].entries.len()), (1, 0));
    index.refresh(&[cluster]).await.expect("read");
    assert_eq!((head().incarnation, head().root), (INCARNATION + 1, before.root));
    assert!(head().generation > before.generation);
    assert_eq!(unpublished(INCARNATION + 1).await, Vec::<Uuid>::new());
    let again = world.store.publish(&[cluster], INCARNATION + 1).await;
    assert_eq!(again.expect("published"), []);
    // A hub of the former history has no say any more.
    world
        .execute("INSERT INTO unpublished SELECT cluster_id, id FROM unit")
        .await;
    assert_eq!(
        unpublished(INCARNATION).await,
        Vec::<Uuid>::new(),
        "it does not look in vain"
    );
    assert_eq!(unpublished(INCARNATION + 1).await, [cluster]);
    world
        .store
        .publish(&[cluster], INCARNATION)
        .await
        .expect("nothing");
    index.refresh(&[cluster]).await.expect("read");
    assert_eq!(head().incarnation, INCARNATION + 1);
    // A restored store counts from an older number.
    world
        .execute("UPDATE desired SET incarnation = incarnation + 1, generation = 1")
        .await;
    index.refresh(&[cluster]).await.expect("read");
    assert_eq!((head().incarnation, head().generation), (INCARNATION + 2, 1));
}

#[tokio::test]
async fn what_this_hub_has_published_is_not_read_again_unless_another_one_may_have_published() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, ..) = one_unit(&world, "c1", app).await;
    let index = Index::new(world.store.clone());
    let watched = index.watch(cluster);
    let publish = async |requested: &str| {
        world
            .execute(&format!(
                "UPDATE unit SET requested = '{requested}'; INSERT INTO unpublished SELECT cluster_id, id FROM unit"
            ))
            .await;
        index.publishes(&[cluster]);
        let mut published = world
            .store
            .publish(&[cluster], INCARNATION)
            .await
            .expect("published");
        published.pop().expect("it differs")
    };
    let published = publish("first").await;
    let (head, entries) = (published.head, published.entries.clone());
    let before = head.generation - 1;
    let read = world
        .store
        .desired_since(&[(cluster, before)])
        .await
        .expect("read");
    assert_eq!(
        (read[0].1.head, &read[0].1.entries),
        (head, &entries),
        "as it is stored"
    );
    index.published(published);
    let state = watched.borrow().clone().expect("a state");
    assert_eq!((state.head, &state.changes), (head, &Some((before, entries))));
    // What is sent is let go of, and nobody is told of that.
    let mut watched = watched;
    watched.borrow_and_update();
    index.sent(cluster, head);
    assert!(!watched.has_changed().expect("open"));
    let state = watched.borrow().clone().expect("a state");
    assert_eq!((state.head, &state.changes), (head, &None));
    // One notification for one publication.
    assert_eq!(index.unread(vec![cluster], true), Vec::<Uuid>::new());
    assert_eq!(index.unread(vec![cluster], true), [cluster]);
    index.published(publish("second").await);
    assert_eq!(index.unread(vec![cluster], false), [cluster]);
    // One that is not known to have been published is read.
    index.published(publish("third").await);
    publish("fourth").await;
    assert_eq!(index.unread(vec![cluster], true), [cluster]);
    // Nobody watches it here any more.
    drop(watched);
    index.published(publish("fifth").await);
    assert_eq!(index.unread(vec![cluster], true), [cluster]);
}

/// At rest the table is empty, and statements are planned for it as that.
#[tokio::test]
async fn what_is_unpublished_is_looked_up_though_the_server_knows_its_table_as_empty() {
    let world = World::new().await;
    let app = world.app("a").await;
    one_unit(&world, "c1", app).await;
    world
        .execute(
            "INSERT INTO cluster (id, name, state)
               SELECT gen_random_uuid(), 'z' || n, 'Active' FROM generate_series(1, 1500) n;
             INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause)
               SELECT gen_random_uuid(), u.app_uid, c.id, u.target, u.revision_id, u.rollout_id, u.state, u.cause
               FROM unit u, cluster c WHERE c.name LIKE 'z%'",
        )
        .await;
    for statement in [
        "INSERT INTO unpublished SELECT cluster_id, id FROM unit",
        "DELETE FROM unpublished",
        "VACUUM ANALYZE unpublished",
        "INSERT INTO unpublished SELECT cluster_id, id FROM unit",
    ] {
        world.execute(statement).await;
    }
    let clusters: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM cluster WHERE name LIKE 'z%' ORDER BY id LIMIT 500")
            .fetch_all(&world.pool)
            .await
            .expect("read");
    let read = async || {
        let counter =
            "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'unpublished'";
        world.count(counter).await
    };
    let before = read().await;
    let published = world.store.for_writing().publish(&clusters, INCARNATION).await;
    assert_eq!(published.expect("published").len(), 500);
    assert_eq!(world.count("SELECT count(*) FROM unpublished").await, 1001);
    // The server counts a moment later.
    wait_until("the look-ups are counted", Duration::from_secs(30), async || {
        Ok::<_, sqlx::Error>((read().await > before).then_some(()))
    })
    .await
    .expect("counted");
    let read = read().await - before;
    assert!(read <= 10_000, "{read} were gone through");
}
