//! Events, audit and history by time: no partition is missing when its time comes, whole ones are dropped, and a question reads
//! what it asks for.

use std::time::Duration;

use flotilla_hub::store::{
    Store,
    departure::Deleted,
    event::EventFilter,
    report::{Report, StatusRow},
};
use flotilla_testkit::wait_until;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use time::{Date, Month, OffsetDateTime, Time};
use uuid::Uuid;

use crate::{
    reports::{open, report},
    store::one_unit,
    world::{World, applied, resource},
};

async fn make(world: &World, now: OffsetDateTime) -> i64 {
    world.store.make_partitions(now).await.expect("made")
}

/// How many rows of a table no partition is for.
async fn rest(world: &World, table: &str) -> i64 {
    world.count(&format!("SELECT count(*) FROM {table}_rest")).await
}

async fn partitions(world: &World, table: &str) -> i64 {
    world
        .count(&format!(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass"
        ))
        .await
}

/// An event, an audit row and a turn of history at a time.
async fn write(world: &World, at: OffsetDateTime) {
    let at = format!("to_timestamp({})", at.unix_timestamp());
    world
        .execute(&format!(
            "INSERT INTO event (at, reason, message) VALUES ({at}, 'Told', '');
             INSERT INTO audit (at, principal, verb, object) VALUES ({at}, 'a', 'b', 'c');
             INSERT INTO history (at, cluster_id, unit_id, version, target, ready)
               VALUES ({at}, gen_random_uuid(), gen_random_uuid(), 1, '', 'True')"
        ))
        .await;
}

#[tokio::test]
async fn no_partition_is_missing_at_midnight_and_what_came_before_one_was_made_moves_into_it() {
    let world = World::new().await;
    // The last second of a day, month and year.
    let eve = Date::from_calendar_date(2031, Month::December, 31).expect("a day");
    let eve = eve
        .with_time(Time::from_hms(23, 59, 59).expect("a time"))
        .assume_utc();
    for second in 0..3 {
        write(&world, eve + Duration::from_secs(second)).await;
    }
    for table in ["event", "audit", "history"] {
        assert_eq!(
            rest(&world, table).await,
            3,
            "{table}: kept, although no hub has made any"
        );
    }
    assert!(make(&world, eve).await > 0);
    assert_eq!(make(&world, eve).await, 0, "what is there is not made again");
    for second in 0..3 {
        write(&world, eve + Duration::from_secs(second)).await;
    }
    write(&world, eve + Duration::from_secs(3 * 24 * 3600)).await;
    for table in ["event", "audit", "history"] {
        assert_eq!(rest(&world, table).await, 0, "{table}");
        assert_eq!(
            world.count(&format!("SELECT count(*) FROM {table}")).await,
            7,
            "{table}"
        );
    }
    // The next day there is one more to make; each day of a year finds what it needs.
    assert_eq!(
        make(&world, eve + Duration::from_secs(24 * 3600)).await,
        3,
        "a day and two months"
    );
    assert_eq!(make(&world, eve + Duration::from_secs(48 * 3600)).await, 1);
}

#[tokio::test]
async fn two_hubs_that_make_partitions_at_once_make_each_once() {
    let world = World::new().await;
    let other = Store::open(world.options(), 2).await.expect("opened");
    let now = OffsetDateTime::now_utc();
    let (one, two) = tokio::join!(world.store.make_partitions(now), other.make_partitions(now));
    assert_eq!(one.expect("made") + two.expect("made"), 4 + 3 + 3);
    other.close().await;
}

/// A row that is on its way to the rest when the partition of its time is made goes there, and is not refused.
#[tokio::test]
async fn what_is_written_while_the_partition_of_its_time_is_made_goes_into_it() {
    let world = World::new().await;
    let row = "INSERT INTO audit (principal, verb, object) VALUES ('a', 'b', 'c')";
    let connect = async || {
        PgConnection::connect_with(&world.options())
            .await
            .expect("connected")
    };
    let (mut first, mut second) = (connect().await, connect().await);
    let mut open = first.begin().await.expect("begun");
    sqlx::query(row).execute(&mut *open).await.expect("written");
    let waiting = async |count: i64| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        wait_until("they wait for a lock", Duration::from_secs(20), async || {
            Ok::<_, std::convert::Infallible>((world.count(sql).await >= count).then_some(()))
        })
        .await
        .expect("they wait");
    };
    let making = async {
        // It gives up soon, and is asked again.
        while world
            .store
            .make_partitions(OffsetDateTime::now_utc())
            .await
            .is_err()
        {}
    };
    let writing = async {
        waiting(1).await;
        sqlx::query(row).execute(&mut second).await
    };
    let ending = async {
        waiting(2).await;
        open.commit().await.expect("committed");
    };
    let ((), written, ()) = tokio::join!(making, writing, ending);
    written.expect("a row is written whatever is made meanwhile");
    assert_eq!(rest(&world, "audit").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM audit").await, 2);
}

#[tokio::test]
async fn whole_days_are_dropped_and_what_has_no_partition_goes_row_by_row() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    let day = Duration::from_secs(24 * 3600);
    make(&world, now - 12 * day).await;
    make(&world, now).await;
    let before = partitions(&world, "event").await;
    for age in [12, 10, 1] {
        write(&world, now - age * day).await;
    }
    write(&world, now - 40 * day).await;
    assert_eq!(world.store.event_trim(now).await.expect("trimmed"), 1);
    assert_eq!(world.count("SELECT count(*) FROM event").await, 1);
    assert_eq!(partitions(&world, "event").await, before - 4, "four whole days");
    assert_eq!(world.store.event_trim(now).await.expect("trimmed"), 0);
    assert_eq!(world.count("SELECT count(*) FROM event").await, 1);
}

#[tokio::test]
async fn whole_months_of_history_are_dropped_but_for_what_reaches_into_the_time_kept() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let told = |ready| -> Report {
        let row = StatusRow {
            ready,
            ..applied(unit, 1, first)
        };
        report(cluster, epoch, vec![row])
    };
    for ready in ["True", "False"] {
        world.store.ingest(&[told(ready)]).await.expect("ingested");
    }
    let now = OffsetDateTime::now_utc();
    let day = Duration::from_secs(24 * 3600);
    make(&world, now - 130 * day).await;
    make(&world, now).await;
    world
        .execute("UPDATE history SET at = at - interval '130 days'")
        .await;
    assert_eq!(rest(&world, "history").await, 0);
    let before = partitions(&world, "history").await;
    let trim = async |keep| world.store.history_trim(now, keep).await.expect("trimmed");
    assert_eq!(trim(200 * day).await, 0);
    assert_eq!(partitions(&world, "history").await, before, "nothing is so old");
    assert_eq!(trim(90 * day).await, 0);
    assert!(partitions(&world, "history").await < before);
    let kept = "SELECT count(*) FROM history WHERE ready = 'False'";
    assert_eq!(world.count(kept).await, 1, "it is so still");
    assert_eq!(world.count("SELECT count(*) FROM history").await, 1);
    // A unit that is ready again is so with its next turn alone.
    world.store.ingest(&[told("True")]).await.expect("ingested");
    assert_eq!(world.count("SELECT count(*) FROM history").await, 2);
}

/// Rows of tables with such names that were read so far, by connections that have ended: before that it is not known to
/// others.
pub(crate) async fn read(world: &World, tables: &str) -> i64 {
    let mut own = PgConnection::connect_with(&world.options())
        .await
        .expect("connected");
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let own = &mut own;
    for _ in 0..2000 {
        let ended: i64 = sqlx::query_scalar(others)
            .fetch_one(&mut *own)
            .await
            .expect("asked");
        if ended == 0 {
            // What the store has kept of them is noticed when it is asked.
            while world.store.ping().await.is_err() {}
            let rows = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
                        FROM pg_stat_user_tables WHERE relname LIKE $1";
            let rows = sqlx::query_scalar(rows).bind(tables);
            return rows.fetch_one(own).await.expect("asked");
        }
        tokio::task::yield_now().await;
    }
    panic!("connections do not end");
}

#[tokio::test]
async fn a_question_for_events_reads_those_that_it_asks_for_and_no_others() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    make(&world, now).await;
    world.apply(&[resource("Placement", "asked", json!({}))]).await;
    let asked = world.uid("Placement", "asked").await;
    let (cluster, other) = (world.cluster("c1").await, world.cluster("c2").await);
    let insert = |count: u32, resource: &str, cluster: Uuid, warning: bool| {
        format!(
            "INSERT INTO event (reason, message, resource_uid, cluster_id, warning)
             SELECT 'Told', n::text, {resource}, '{cluster}', {warning} FROM generate_series(1, {count}) n"
        )
    };
    // What is asked for is older than all else.
    world
        .execute(&insert(10, &format!("'{asked}'"), cluster, true))
        .await;
    world.execute(&insert(20_000, "NULL", other, false)).await;
    world.execute("ANALYZE").await;
    let filters = [
        EventFilter {
            name: "asked".into(),
            ..EventFilter::default()
        },
        EventFilter {
            cluster: "c1".into(),
            ..EventFilter::default()
        },
        EventFilter {
            warnings_only: true,
            ..EventFilter::default()
        },
    ];
    for filter in filters {
        let filter = EventFilter { limit: 20, ..filter };
        let before = read(&world, "event%").await;
        let found = world.store.list_events(&filter).await.expect("listed");
        let told = found.iter().filter(|event| event.reason == "Told").count();
        assert_eq!(told, 10, "{filter:?}");
        assert!(found.is_sorted_by_key(|event| event.id));
        let rows = read(&world, "event%").await - before;
        assert!((10..200).contains(&rows), "{rows} rows for {filter:?}");
    }
}

#[tokio::test]
async fn events_of_a_cluster_are_found_by_its_name_and_belong_to_each_namespace() {
    let world = World::new().await;
    make(&world, OffsetDateTime::now_utc()).await;
    let app = json!({"sourceRef": {"kind": "GitRepository", "name": "a"}});
    world.apply(&[resource("Kustomization", "a", app)]).await;
    let (app, cluster) = (world.uid("Kustomization", "a").await, world.cluster("c1").await);
    let other = world.cluster("c2").await;
    let tell = async |message: &str, resource: &str, cluster: Uuid| {
        let row = format!(
            "INSERT INTO event (reason, message, resource_uid, cluster_id)
             VALUES ('Told', '{message}', {resource}, '{cluster}')"
        );
        world.execute(&row).await;
    };
    tell("of c1", "NULL", cluster).await;
    tell("of a on c1", &format!("'{app}'"), cluster).await;
    tell("of c2", "NULL", other).await;
    let told = async |kind: &str, namespace: &str, name: &str, cluster: &str| {
        let filter = EventFilter {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            cluster: cluster.into(),
            limit: 10,
            ..EventFilter::default()
        };
        let found = world.store.list_events(&filter).await.expect("listed");
        let told = found.into_iter().filter(|event| event.reason == "Told");
        told.map(|event| event.message).collect::<Vec<_>>()
    };
    assert_eq!(told("Cluster", "", "c1", "").await, ["of c1"]);
    assert_eq!(told("Cluster", "apps", "c1", "").await, ["of c1"]);
    assert_eq!(told("Cluster", "", "", "").await, ["of c1", "of c2"]);
    assert_eq!(told("", "apps", "", "").await, ["of c1", "of a on c1", "of c2"]);
    assert_eq!(told("", "elsewhere", "", "").await, ["of c1", "of c2"]);
    assert_eq!(told("", "apps", "", "c1").await, ["of c1", "of a on c1"]);
    assert_eq!(told("Kustomization", "apps", "a", "").await, ["of a on c1"]);
}

#[tokio::test]
async fn events_of_a_cluster_that_is_gone_are_found_by_its_name_beside_those_of_its_successor() {
    let world = World::new().await;
    make(&world, OffsetDateTime::now_utc()).await;
    world.cluster("c1").await;
    let other = world.cluster("c2").await;
    let gone = world.store.delete_cluster("c1", "ann").await;
    assert_eq!(gone.expect("deleted"), Deleted::Done);
    let found = async |name: &str| {
        let filter = EventFilter {
            kind: "Cluster".into(),
            name: name.into(),
            limit: 10,
            ..EventFilter::default()
        };
        let found = world.store.list_events(&filter).await.expect("listed");
        found
            .into_iter()
            .map(|event| (event.reason, event.object))
            .collect::<Vec<_>>()
    };
    let deleted = ("ClusterDeleted".to_owned(), "Cluster/c1".to_owned());
    assert!(found("c1").await.contains(&deleted));
    assert!(!found("c2").await.contains(&deleted));
    let again = world.cluster("c1").await;
    for cluster in [again, other] {
        let row = format!("INSERT INTO event (reason, message, cluster_id) VALUES ('Told', '', '{cluster}')");
        world.execute(&row).await;
    }
    let both = found("c1").await;
    assert_eq!(both.last(), Some(&("Told".to_owned(), String::new())));
    assert!(both.contains(&deleted), "{both:?}");
}
