//! What one agent that loops, or is hostile, may put into the hub's database.

use flotilla_hub::store::report::{FullPart, Report};

use crate::{
    reports::{object, open, report},
    store::one_unit,
    world::{World, applied},
};

#[tokio::test]
async fn objects_beyond_what_a_cluster_may_have_are_left_out_and_told_until_all_is_reported() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let of = |names: &[&str]| Report {
        objects: names.iter().map(|name| object(unit, name)).collect(),
        ..report(cluster, epoch, vec![applied(unit, 1, target)])
    };
    let ingest = async |report: Report| drop(world.store.ingest(&[report]).await.expect("ingested"));
    let names = async || -> Vec<String> {
        let named = "SELECT name FROM unit_object ORDER BY name";
        sqlx::query_scalar(named)
            .fetch_all(&world.pool)
            .await
            .expect("read")
    };
    let counted = async || world.count("SELECT objects FROM session").await;
    ingest(of(&["a", "b"])).await;
    assert_eq!(counted().await, 2);
    let mut gone = of(&["b"]);
    gone.objects[0].state = None;
    ingest(gone).await;
    assert_eq!((counted().await, names().await), (1, vec!["a".to_owned()]));
    // As after two hundred thousand of them.
    world.execute("UPDATE session SET objects = 200000").await;
    let mut more = of(&["a", "c"]);
    more.objects[0].health = "Failed".into();
    ingest(more).await;
    assert_eq!(names().await, ["a"], "what is there is written, and nothing more");
    let failed = "SELECT count(*) FROM unit_object WHERE health = 'Failed'";
    assert_eq!(world.count(failed).await, 1);
    let told = "SELECT count(*) FROM cluster_condition WHERE kind = 'Reports' AND NOT ok";
    let left_out = "SELECT count(*) FROM session WHERE rows_left_out";
    assert_eq!((world.count(told).await, world.count(left_out).await), (1, 1));
    let whole = Report {
        full: Some(FullPart::default()),
        ..of(&["a"])
    };
    ingest(whole).await;
    assert_eq!(counted().await, 1, "it is counted anew");
    ingest(of(&["a", "c"])).await;
    assert_eq!(names().await, ["a", "c"]);
}

#[tokio::test]
async fn the_oldest_of_too_many_events_are_deleted_in_parts() {
    let world = World::new().await;
    world
        .execute(
            "INSERT INTO event (reason, message) SELECT 'Flood', n::text FROM generate_series(1, 12000) n;
             SELECT setval('event_id', 512000);
             INSERT INTO event (reason, message) VALUES ('Last', '')",
        )
        .await;
    let trimmed = world.store.event_trim(time::OffsetDateTime::now_utc()).await;
    assert_eq!(trimmed.expect("trimmed"), 12_000);
    assert_eq!(
        world
            .count("SELECT count(*) FROM event WHERE reason = 'Last'")
            .await,
        1
    );
}
