//! What it costs to list what an app had on many clusters, page by page, and what is said where that takes too long.

use flotilla_hub::store::history::{Asked, HeldRow, Place};
use flotilla_proto::fleet::v1::{ListHistoryRequest, ResourceRef};
use flotilla_testkit::wait_until;
use time::OffsetDateTime;
use tonic::Code;
use uuid::Uuid;

use crate::{
    history::held,
    hub::{Hub, PATIENCE},
    partitions::read,
    statements::OWN,
    store::one_unit,
    world::World,
};

/// An app with so many units, each with a history of its own: `versions` says how many of number `i`, two turns each.
async fn with_history(world: &World, units: usize, versions: &str) -> Uuid {
    let app = world.app("a").await;
    one_unit(world, "c1", app).await;
    let others = units - 1;
    world
        .store
        .make_partitions(OffsetDateTime::now_utc())
        .await
        .expect("made");
    world
        .execute(&format!(
            "INSERT INTO cluster (id, name, state)
               SELECT gen_random_uuid(), 'z' || n, 'Active' FROM generate_series(1, {others}) n;
             INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause)
               SELECT gen_random_uuid(), u.app_uid, c.id, u.target, u.revision_id, u.rollout_id, u.state, u.cause
               FROM unit u, cluster c WHERE c.name LIKE 'z%';
             DELETE FROM history;
             INSERT INTO history (cluster_id, unit_id, version, at, target, ready)
               SELECT u.cluster_id, u.id, v, now() - interval '20 days'
                        + make_interval(mins => (v * (1 + i % 11) * 2)::int, secs => (i % 5 + 10 * t)::int), u.target,
                      CASE t WHEN 0 THEN 'Unknown' ELSE 'True' END
               FROM (SELECT *, row_number() OVER (ORDER BY id) AS i FROM unit) u,
                    generate_series(1, {versions}) v, generate_series(0, 1) t;
             ANALYZE"
        ))
        .await;
    app
}

fn of(app: Uuid) -> Asked {
    Asked {
        app: Some(app),
        unit: None,
    }
}

#[tokio::test]
async fn pages_of_units_with_histories_of_any_length_miss_and_repeat_nothing() {
    let world = World::new().await;
    let app = with_history(&world, 40, "1 + i * 7 % 23").await;
    let all = world
        .count("SELECT count(DISTINCT (unit_id, version)) FROM history")
        .await;
    let place = |row: &HeldRow| (row.from, row.unit, row.version);
    let whole: Vec<_> = held(&world, of(app), 10_000).await.iter().map(place).collect();
    assert_eq!(whole.len(), usize::try_from(all).expect("few"));
    assert!(whole.is_sorted_by(|one, next| one > next), "the newest first");
    for page in [1, 7, 39, 100] {
        let rows = held(&world, of(app), page).await;
        assert_eq!(rows.iter().map(place).collect::<Vec<_>>(), whole, "{page}");
    }
}

#[tokio::test]
async fn a_page_of_an_app_on_many_clusters_reads_no_page_of_each() {
    let world = World::new().await;
    let (units, page) = (300, 10);
    let app = with_history(&world, units, "200").await;
    let before = read(&world, "history%").await;
    let rows = world.store.held_targets(&of(app), &Place::newest(), page).await;
    assert_eq!(rows.expect("read").len(), 10);
    let rows = read(&world, "history%").await - before;
    // Of each unit its newest of each day, of 400, and what is older of those few that are on the page.
    assert!((300..6000).contains(&rows), "{rows} rows");
}

#[tokio::test]
async fn who_asks_for_more_than_the_database_may_do_is_told_to_ask_for_less() {
    let hub = Hub::start().await;
    let world = &hub.world;
    let app = world.app("a").await;
    one_unit(world, "c1", app).await;
    // As if it took long.
    let mut open = world.pool.begin().await.expect("begun");
    sqlx::raw_sql("LOCK TABLE history IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *open)
        .await
        .expect("locked");
    let request = ListHistoryRequest {
        app: Some(ResourceRef {
            kind: "HelmRelease".into(),
            namespace: "apps".into(),
            name: "a".into(),
            ..ResourceRef::default()
        }),
        ..ListHistoryRequest::default()
    };
    let mut client = hub.fleet().await;
    let asked = client.list_history(hub.authorized(request));
    let cancel = async {
        let waits = format!(
            "{OWN} SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%newest AS MATERIALIZED%'
               AND query NOT LIKE '{OWN}%'"
        );
        let cancelled = async || {
            let ended = world.count(&waits).await;
            Ok::<_, String>((ended > 0).then_some(()))
        };
        wait_until("it is asked", PATIENCE, cancelled)
            .await
            .expect("asked");
    };
    let (answer, ()) = tokio::join!(asked, cancel);
    let status = answer.expect_err("it was given up");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("--cluster"), "{status:?}");
    open.rollback().await.expect("ended");
}
