//! What units claim: sets of keys that are stored once, asked for by pairs of sets, and let go with the unit's target.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::{claim::Keyset, digest::Digest, id::ClusterId, object::ObjectKey, unit::Withheld};
use flotilla_hub::store::{StoreError, claim::Claim, session::Told};
use flotilla_testkit::wait_until;
use uuid::Uuid;

use crate::{
    reports::{object, open, report, took},
    store::config,
    world::{INCARNATION, Rendered, World, applied},
};

fn key(name: &str) -> ObjectKey {
    config(name, "").key
}

fn set(names: &[&str]) -> Digest {
    Keyset::of(names.iter().map(|name| key(name)).collect()).digest
}

async fn render(world: &World, app: Uuid, revision: &str, names: &[&str]) -> Rendered {
    let objects: Vec<_> = names.iter().map(|name| config(name, revision)).collect();
    world.render(app, revision, &objects).await
}

/// What the units of an app leave to others, in the order of clusters.
async fn withheld(world: &World, app: Uuid) -> Vec<Vec<Withheld>> {
    let plan = world.store.app_plan(app).await.expect("read");
    plan.units.into_iter().map(|unit| unit.withheld).collect()
}

/// The apps that are to be planned; none is afterwards.
async fn due(world: &World) -> Vec<Uuid> {
    sqlx::query_scalar("DELETE FROM due WHERE topic = 'app' RETURNING key")
        .fetch_all(&world.pool)
        .await
        .expect("read")
}

/// Whoever marks many apps takes their marks in order, and holds one while it waits for the next.
#[tokio::test]
async fn marks_of_a_plan_and_of_those_that_it_wakes_are_taken_in_the_order_in_which_others_take_them() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (before, app) = (world.app("before").await, world.app("a").await);
    assert!(before < app, "they are numbered as they come");
    let waits = render(&world, before, "r1", &["x"]).await;
    world.roll_out(before, &[cluster], &waits).await;
    let first = render(&world, app, "r1", &["y"]).await;
    world.roll_out(app, &[cluster], &first).await;
    let next = render(&world, app, "r2", &["y", "z"]).await;
    // It leaves something to another: it is planned again with whatever is claimed anew there.
    world
        .execute(&format!(
            "UPDATE unit SET withheld = '[{{}}]' WHERE app_uid = '{before}'; DELETE FROM due;
             INSERT INTO due (topic, key) VALUES ('app', '{app}')"
        ))
        .await;
    let gathered = world.gather(app, &[cluster], &next).await;
    let mut many = world.pool.begin().await.expect("begun");
    let mark = async |many: &mut sqlx::PgConnection, app: Uuid| {
        sqlx::query("INSERT INTO due (topic, key) VALUES ('app', $1) ON CONFLICT (topic, key) DO UPDATE SET at = now()")
            .bind(app)
            .execute(many)
            .await
            .expect("marked");
    };
    mark(&mut *many, before).await;
    let waiting = "SELECT count(*) = 1 FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let marked = async {
        wait_until("the plan waits", Duration::from_secs(30), async || {
            let waits: bool = sqlx::query_scalar(waiting).fetch_one(&world.pool).await?;
            Ok::<_, sqlx::Error>(waits.then_some(()))
        })
        .await
        .expect("it waits");
        mark(&mut *many, app).await;
        many.commit().await.expect("committed");
    };
    let (committed, ()) = tokio::join!(world.commit(&gathered), marked);
    committed.expect("neither is taken back");
    assert_eq!(due(&world).await, [before]);
}

#[tokio::test]
async fn what_a_unit_lets_go_of_another_gets_once_it_is_planned_again() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (a, b, c) = (world.app("a").await, world.app("b").await, world.app("c").await);
    let of_c = render(&world, c, "r1", &["z"]).await;
    world.roll_out(c, &[cluster], &of_c).await;
    let both = render(&world, a, "r1", &["x", "y"]).await;
    world.roll_out(a, &[cluster], &both).await;
    let wanted = render(&world, b, "r1", &["y", "own"]).await;
    world.roll_out(b, &[cluster], &wanted).await;
    let left = Withheld {
        key: key("y"),
        owner: "HelmRelease/apps/a".into(),
    };
    assert_eq!(withheld(&world, b).await, [vec![left]]);
    // Another content of the same keys lets go of nothing.
    let next = render(&world, a, "r2", &["x", "y"]).await;
    due(&world).await;
    world.roll_out(a, &[cluster], &next).await;
    assert_eq!(due(&world).await, Vec::<Uuid>::new());
    let fewer = render(&world, a, "r3", &["x"]).await;
    due(&world).await;
    world.roll_out(a, &[cluster], &fewer).await;
    // Whoever leaves nothing to others waits for nothing.
    assert_eq!(due(&world).await, [b]);
    world.roll_out(b, &[cluster], &wanted).await;
    assert_eq!(withheld(&world, b).await, [vec![]]);
    // Now it is the other's, and the first one comes too late.
    world.roll_out(a, &[cluster], &next).await;
    assert_eq!(withheld(&world, a).await[0][0].owner, "HelmRelease/apps/b");
    assert_eq!(due(&world).await, Vec::<Uuid>::new());
}

/// It writes nothing any more: others need not wait for what it never wrote.
#[tokio::test]
async fn a_unit_that_is_not_placed_any_more_claims_what_its_agent_has_and_nothing_else() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let both = render(&world, a, "r1", &["x", "y"]).await;
    world.roll_out(a, &[cluster], &both).await;
    let wanted = render(&world, b, "r1", &["x", "y"]).await;
    world.roll_out(b, &[cluster], &wanted).await;
    assert_eq!(withheld(&world, b).await[0].len(), 2);
    let unit = world.store.app_plan(a).await.expect("read").units[0].clone();
    let epoch = open(&world, cluster).await;
    let has = |names: &[&str], gone: &[&str]| {
        let rows = names.iter().map(|name| object(unit.id.0, name));
        let gone = gone.iter().map(|name| {
            let mut row = object(unit.id.0, name);
            row.state = None;
            row
        });
        let mut told = report(cluster, epoch, vec![applied(unit.id.0, 1, unit.target)]);
        told.objects = rows.chain(gone).collect();
        told
    };
    world.store.ingest(&[has(&["x"], &[])]).await.expect("ingested");
    due(&world).await;
    world.roll_out(a, &[], &both).await;
    assert_eq!(due(&world).await, [b], "what it never wrote is free");
    world.roll_out(b, &[cluster], &wanted).await;
    let left = Withheld {
        key: key("x"),
        owner: "HelmRelease/apps/a".into(),
    };
    assert_eq!(withheld(&world, b).await, [vec![left]]);
    world.store.ingest(&[has(&[], &["x"])]).await.expect("ingested");
    assert_eq!(due(&world).await, [b], "and so is what is gone");
    world.roll_out(b, &[cluster], &wanted).await;
    assert_eq!(withheld(&world, b).await, [vec![]]);
}

#[tokio::test]
async fn a_plan_that_does_not_know_what_was_let_go_meanwhile_is_made_again() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let both = render(&world, a, "r1", &["x", "y"]).await;
    world.roll_out(a, &[cluster], &both).await;
    let wanted = render(&world, b, "r1", &["y"]).await;
    let gathered = world.gather(b, &[cluster], &wanted).await;
    let fewer = render(&world, a, "r2", &["x"]).await;
    world.roll_out(a, &[cluster], &fewer).await;
    let refused = world
        .commit(&gathered)
        .await
        .expect_err("made from what is no more");
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
    world.roll_out(b, &[cluster], &wanted).await;
    assert_eq!(withheld(&world, b).await, [vec![]]);
}

#[tokio::test]
async fn what_is_planned_is_known_apart_from_what_an_agent_holds() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let first = render(&world, app, "r1", &["x", "y"]).await;
    world.roll_out(app, &[cluster], &first).await;
    let planned = async || world.store.app_plan(app).await.expect("read").units[0].clone();
    let unit = planned().await.id.0;
    let epoch = open(&world, cluster).await;
    let tell = async |version, target| {
        let told = Told {
            refusal: None,
            cluster,
            epoch,
            accepted: Some((INCARNATION, version)),
            units: BTreeMap::from([(unit, took(version, target))]),
            message: String::new(),
        };
        world.store.told(&[told]).await.expect("told");
    };
    let claim = |names: &[&str], target, accepted| Claim {
        unit,
        keyset: set(names),
        target,
        accepted,
    };
    let claims = async || world.store.claims(cluster).await.expect("read");
    assert_eq!(claims().await, [claim(&["x", "y"], true, false)], "not taken yet");
    tell(1, planned().await.target).await;
    assert_eq!(claims().await, [claim(&["x", "y"], true, true)]);
    let second = render(&world, app, "r2", &["x", "z"]).await;
    world.roll_out(app, &[cluster], &second).await;
    assert_eq!(
        claims().await,
        [claim(&["x", "y"], false, true), claim(&["x", "z"], true, false)]
    );
    tell(2, planned().await.target).await;
    assert_eq!(claims().await, [claim(&["x", "z"], true, true)]);
}

#[tokio::test]
async fn a_set_that_nothing_names_goes_and_one_that_is_used_stays() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    for (revision, names) in [("r1", &["x", "y"][..]), ("r2", &["x"])] {
        let content = render(&world, app, revision, names).await;
        world.roll_out(app, &[cluster], &content).await;
    }
    let sets = || world.count("SELECT count(*) FROM keyset");
    world
        .execute("DELETE FROM history WHERE version = 1; UPDATE target SET referenced_at = now() - interval '2 days'")
        .await;
    world.remove_unused().await;
    assert_eq!(sets().await, 2, "it was in use a moment ago");
    world
        .execute("UPDATE keyset SET referenced_at = now() - interval '2 days'")
        .await;
    world.remove_unused().await;
    assert_eq!(sets().await, 1);
    assert_eq!(world.count("SELECT count(*) FROM keyset_key").await, 1);
}

#[tokio::test]
async fn a_content_without_objects_claims_nothing_and_is_planned() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let content = render(&world, app, "r1", &[]).await;
    assert_eq!(world.roll_out(app, &[cluster], &content).await, [Some(1)]);
    assert_eq!(world.store.claims(cluster).await.expect("read").len(), 1);
}

/// What is kept for each cluster is an app in each, all with one target.
#[tokio::test]
async fn who_has_a_set_in_one_cluster_alone_is_found_there_of_few_clusters_and_of_many() {
    let world = World::new().await;
    let mut clusters = Vec::new();
    for n in 0..70 {
        clusters.push(world.cluster(&format!("c{n:02}")).await);
    }
    let (one, other, asks) = (world.app("a").await, world.app("b").await, world.app("c").await);
    let content = render(&world, one, "r1", &["x"]).await;
    world.roll_out(one, &clusters[..1], &content).await;
    let content = render(&world, other, "r1", &["x"]).await;
    world.roll_out(other, &clusters[1..2], &content).await;
    let alone = "SELECT count(*) FROM target_app WHERE cluster_id IS NOT NULL";
    assert_eq!(world.count(alone).await, 2);
    let x = key("x");
    let owners = async |clusters: &[Uuid]| {
        let asked: Vec<ClusterId> = clusters.iter().map(|cluster| ClusterId(*cluster)).collect();
        let found = world.planning.other_claims(asks, &asked, &[&x]).await;
        let found = found.expect("read").into_iter();
        let mut found: Vec<_> = found.map(|other| (other.owner, other.cluster.0)).collect();
        found.sort();
        found
    };
    let of = |name: &str, number: usize| (format!("HelmRelease/apps/{name}"), clusters[number]);
    assert_eq!(owners(&clusters[..1]).await, [of("a", 0)]);
    assert!(owners(&clusters[2..5]).await.is_empty());
    assert_eq!(owners(&clusters).await, [of("a", 0), of("b", 1)]);
    assert_eq!(owners(&clusters[1..]).await, [of("b", 1)]);
    // One that comes to have it in a second cluster is found in both.
    world.roll_out(other, &clusters[1..3], &content).await;
    assert_eq!(world.count(alone).await, 1);
    assert_eq!(owners(&clusters[2..3]).await, [of("b", 2)]);
    let mut all = vec![of("a", 0), of("b", 1), of("b", 2)];
    all.sort();
    assert_eq!(owners(&clusters).await, all);
}
