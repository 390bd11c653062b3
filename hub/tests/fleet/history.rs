//! What units were to be and whether they were ready, what agents hold of it, and for how long that is kept.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::digest::Digest;
use flotilla_hub::store::{
    history::{Asked, HeldRow, Interval, Place},
    report::{Report, StatusRow},
    session::Told,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    reports::{attained, open, report, took},
    store::{config, one_unit},
    world::{INCARNATION, World, applied},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn ingest(world: &World, report: Report) {
    world.store.ingest(&[report]).await.expect("ingested");
}

async fn all(world: &World, unit: Uuid) -> Vec<Interval> {
    let now = OffsetDateTime::now_utc() + Duration::from_secs(60);
    world
        .store
        .history(&[unit], OffsetDateTime::UNIX_EPOCH, now)
        .await
        .expect("read")
}

fn turns(intervals: &[Interval]) -> Vec<(u64, &str)> {
    intervals
        .iter()
        .map(|one| (one.version, one.ready.as_str()))
        .collect()
}

/// Plans another content for the unit of `app` on `cluster`, and returns its target.
async fn retarget(world: &World, app: Uuid, cluster: Uuid, text: &str) -> Digest {
    let content = world.render(app, text, &[config("x", text)]).await;
    world.roll_out(app, &[cluster], &content).await;
    world.store.app_plan(app).await.expect("read").units[0].target
}

#[tokio::test]
async fn history_has_an_interval_for_each_turn_of_target_and_readiness() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let ready = report(cluster, epoch, vec![applied(unit, 1, first)]);
    ingest(&world, ready.clone()).await;
    // What says the same again is no turn.
    ingest(&world, ready.clone()).await;
    let unwell = StatusRow {
        ready: "False",
        ..applied(unit, 1, first)
    };
    ingest(&world, report(cluster, epoch, vec![unwell])).await;
    let second = retarget(&world, app, cluster, "a: 2").await;
    // It was about the version before: it says nothing of this one.
    ingest(&world, ready).await;
    ingest(&world, report(cluster, epoch, vec![applied(unit, 2, second)])).await;
    let told = all(&world, unit).await;
    assert_eq!(
        turns(&told),
        [
            (1, "Unknown"),
            (1, "True"),
            (1, "False"),
            (2, "Unknown"),
            (2, "True")
        ]
    );
    assert!(told.iter().take(3).all(|one| one.target == first));
    assert!(told.iter().skip(3).all(|one| one.target == second));
    assert!(
        told.iter()
            .all(|one| one.cluster == cluster && one.content.is_some())
    );
    for pair in told.windows(2) {
        assert_eq!(pair[0].until, Some(pair[1].from), "one begins where another ends");
    }
    assert_eq!(told[4].until, None, "so it is");
    // Of a time, what touches it.
    let within = world.store.history(&[unit], told[2].from, told[2].from).await;
    assert_eq!(turns(&within.expect("read")), [(1, "False")]);
}

#[tokio::test]
async fn a_report_that_is_committed_after_the_next_plan_ends_no_interval_of_that() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    retarget(&world, app, cluster, "a: 2").await;
    world
        .execute(&format!(
            "INSERT INTO history (cluster_id, unit_id, version, target, ready)
             VALUES ('{cluster}', '{unit}', 1, '\\x{}', 'True')",
            first
                .as_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        ))
        .await;
    let told = all(&world, unit).await;
    let last = told.last().expect("there");
    assert_eq!((last.version, last.until), (2, None), "{told:?}");
    assert!(
        told.iter()
            .all(|one| one.until.is_none_or(|until| until > one.from)),
        "{told:?}"
    );
}

#[tokio::test]
async fn history_is_forgotten_after_its_time_but_for_what_reaches_into_it() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    ingest(&world, report(cluster, epoch, vec![applied(unit, 1, first)])).await;
    retarget(&world, app, cluster, "a: 2").await;
    let trimmed = async |keep: Duration| {
        world
            .store
            .history_trim(time::OffsetDateTime::now_utc(), keep)
            .await
            .expect("trimmed")
    };
    assert_eq!(trimmed(DAY).await, 0, "nothing is old");
    world
        .execute("UPDATE history SET at = at - interval '91 days' WHERE version = 1")
        .await;
    assert_eq!(trimmed(92 * DAY).await, 0);
    // That it was ready then is so until the new version came.
    assert_eq!(trimmed(90 * DAY).await, 1);
    assert_eq!(turns(&all(&world, unit).await), [(1, "True"), (2, "Unknown")]);
    world
        .execute("UPDATE history SET at = at - interval '91 days'")
        .await;
    assert_eq!(trimmed(90 * DAY).await, 1, "what it is now stays, however old");
    assert_eq!(turns(&all(&world, unit).await), [(2, "Unknown")]);
}

#[tokio::test]
async fn a_target_is_one_row_for_all_units_that_have_it_and_stays_while_anything_names_it() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (one, two) = (world.cluster("c1").await, world.cluster("c2").await);
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[one, two], &content).await;
    let targets = || world.count("SELECT count(*) FROM target");
    assert_eq!(targets().await, 1);
    let unit = world.store.app_plan(app).await.expect("read").units[0].clone();
    let epoch = open(&world, unit.cluster.0).await;
    let status = report(unit.cluster.0, epoch, vec![applied(unit.id.0, 1, unit.target)]);
    ingest(&world, status).await;
    let next = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[one, two], &next).await;
    assert_eq!(targets().await, 2);
    let removed = async || {
        world
            .execute("UPDATE target SET referenced_at = now() - interval '2 days'")
            .await;
        world.remove_unused().await.targets
    };
    assert_eq!(removed().await, 0, "the history names it");
    world.execute("DELETE FROM history WHERE version = 1").await;
    assert_eq!(removed().await, 0, "it is applied on one of them still");
    let told = Told {
        cluster: unit.cluster.0,
        epoch,
        accepted: Some((INCARNATION, 1)),
        units: BTreeMap::from([(unit.id.0, took(1, unit.target))]),
        refusal: None,
        message: String::new(),
    };
    world.store.told(&[told]).await.expect("told");
    world.execute("DELETE FROM unit_status").await;
    assert_eq!(removed().await, 0, "an agent holds it");
    world.execute("DELETE FROM unit_accepted").await;
    assert_eq!(removed().await, 1);
    assert_eq!(targets().await, 1, "the units have the other");
}

#[tokio::test]
async fn what_an_agent_holds_durably_is_known_apart_from_what_it_is_offered_and_has_applied() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let (other, ..) = one_unit(&world, "c2", world.app("b").await).await;
    let epoch = open(&world, cluster).await;
    let told = |cluster, epoch, version, target| Told {
        cluster,
        epoch,
        accepted: Some((INCARNATION, 1)),
        units: BTreeMap::from([(unit, took(version, target))]),
        refusal: None,
        message: String::new(),
    };
    let held = async || world.store.accepted(cluster).await.expect("read");
    assert!(held().await.is_empty(), "it is offered, and nothing was said");
    world
        .store
        .told(&[told(cluster, epoch, 1, first)])
        .await
        .expect("told");
    assert_eq!(held().await, BTreeMap::from([(unit, attained(1, first))]));
    // What is planned and offered since, and reported as applied, is not what it says that it holds.
    let second = retarget(&world, app, cluster, "a: 2").await;
    ingest(&world, report(cluster, epoch, vec![applied(unit, 2, second)])).await;
    assert_eq!(held().await[&unit], attained(1, first));
    // Nor is what a stream says that was replaced, or another cluster's agent.
    let elsewhere = open(&world, other).await;
    for told in [
        told(cluster, epoch + 1, 2, second),
        told(other, elsewhere, 2, second),
    ] {
        world.store.told(&[told]).await.expect("told");
    }
    assert_eq!(held().await[&unit], attained(1, first));
    assert!(world.store.accepted(other).await.expect("read").is_empty());
    let mut later = told(cluster, epoch, 2, second);
    later.units.clear();
    let later = later.after(told(cluster, epoch, 2, second));
    world.store.told(&[later]).await.expect("told");
    assert_eq!(
        held().await[&unit],
        attained(2, second),
        "told together, none is lost"
    );
}

/// What units of an app, or one unit, had: versions and whether each was ready, page by page.
pub(crate) async fn held(world: &World, asked: Asked, page: i64) -> Vec<HeldRow> {
    let (mut all, mut after) = (Vec::new(), Place::newest());
    loop {
        let rows = world
            .store
            .held_targets(&asked, &after, page)
            .await
            .expect("read");
        let Some(last) = rows.last() else { return all };
        after = Place {
            from: last.from,
            unit: last.unit,
            version: last.version,
        };
        all.extend(rows);
    }
}

#[tokio::test]
async fn held_targets_are_listed_once_each_the_newest_first_with_revision_and_cause() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let ready = |version, target| report(cluster, epoch, vec![applied(unit, version, target)]);
    // It turns often, and is one all the same.
    for status in ["True", "False", "True"] {
        let turned = StatusRow {
            ready: status,
            ..applied(unit, 1, first)
        };
        ingest(&world, report(cluster, epoch, vec![turned])).await;
    }
    retarget(&world, app, cluster, "a: 2").await;
    let third = retarget(&world, app, cluster, "a: 3").await;
    ingest(&world, ready(3, third)).await;
    one_unit(&world, "c2", app).await;
    let of_app = Asked {
        app: Some(app),
        unit: None,
    };
    let of_unit = Asked {
        app: None,
        unit: Some(unit),
    };
    let all = held(&world, of_app, 2).await;
    let named: Vec<(&str, u64, &str)> = all
        .iter()
        .map(|row| (row.cluster.as_str(), row.version, row.cause.as_str()))
        .collect();
    // With the second cluster the content changed on the first one, too: it is planned with all that there are.
    let on_first: Vec<_> = named.iter().filter(|one| one.0 == "c1").collect();
    assert_eq!(named.iter().filter(|one| one.0 == "c2").count(), 1, "{named:?}");
    assert_eq!(on_first.last(), Some(&&("c1", 1, "placed")), "{named:?}");
    assert!(on_first.contains(&&("c1", 2, "content")), "{named:?}");
    assert!(all.windows(2).all(|pair| pair[0].from >= pair[1].from), "{all:?}");
    let whole = held(&world, of_app, 100).await;
    let places = |rows: &[HeldRow]| rows.iter().map(|row| (row.unit, row.version)).collect::<Vec<_>>();
    assert_eq!(places(&all), places(&whole), "no page misses or repeats anything");
    let one = held(&world, of_unit, 100).await;
    assert_eq!(one.len(), on_first.len());
    let version = |version: u64| one.iter().find(|row| row.version == version).expect("there");
    assert!(version(1).ready.is_some() && version(2).ready.is_none() && version(3).ready.is_some());
    assert_eq!(
        (version(1).last.as_str(), version(2).last.as_str()),
        ("True", "Unknown")
    );
    assert_eq!(
        (version(1).until, version(2).until),
        (Some(version(2).from), Some(version(3).from))
    );
    assert_eq!(
        (version(1).revision.as_str(), version(2).revision.as_str()),
        ("c1", "a: 2")
    );
    // It outlives its unit, and is found by the unit's name.
    world
        .execute(&format!(
            "DELETE FROM desired_entry WHERE unit_id = '{unit}'; DELETE FROM unit WHERE id = '{unit}'"
        ))
        .await;
    assert!(one.iter().all(|row| !row.gone));
    let gone = held(&world, of_unit, 100).await;
    assert_eq!(gone.len(), one.len());
    assert!(gone.iter().all(|row| row.gone), "{gone:?}");
    assert_eq!(gone[0].until, None, "nothing came after it");
    assert!(
        held(&world, of_app, 100)
            .await
            .iter()
            .all(|row| row.cluster == "c2")
    );
}
