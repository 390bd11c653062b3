//! What the hub asks of its database: with ten thousand agents each statement counts.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use flotilla_core::{
    digest::Digest,
    fleet::departure::{Departure, Request},
    status::Readiness,
};
use flotilla_hub::{
    grpc::{fetch::Fetcher, fleet::counts::Counts},
    index::Index,
    store::{
        apply::Action,
        report::{ConditionRow, FullPart, ObjectRow, Report, RowKey, StatusRow},
        session::{Opened, Opening, Told},
    },
};
use flotilla_proto::agent::v1::{Chunk, ContentKind, Encoding, FetchRequest, Want};
use flotilla_testkit::wait_until;
use serde_json::json;
use time::OffsetDateTime;
use tracing::{
    Dispatch, Event, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};
use uuid::Uuid;

use crate::{
    reports::{object, open, open_judged, opening, report, took},
    store::{config, one_unit},
    world::{INCARNATION, Object, World, applied, resource},
};

/// A statement, as sqlx logs it: its first words, its text where that is longer, and the rows that it wrote or gave. `BEGIN` does not count, nor
/// `ROLLBACK`: they ask nothing of tables.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    pub(crate) words: String,
    pub(crate) text: String,
    rows: u64,
}

impl Statement {
    /// Asked by the clock whatever is done meanwhile: that the hub lives, that it is still at what it does, and the look for
    /// what is due.
    pub(crate) fn is_of_the_clock(&self) -> bool {
        let asked = ["INSERT INTO replica", "WITH passed AS (DELETE", "WITH kept AS"];
        asked.iter().any(|words| self.words.starts_with(words))
    }

    /// Reads what the hub is woken for.
    pub(crate) fn reads_wakeups(&self) -> bool {
        self.words.starts_with("SELECT o.seq")
    }

    fn is_of_the_hub(&self) -> bool {
        !self.words.starts_with("SELECT set_config")
            && !self.words.starts_with(OWN)
            && !self.words.starts_with("BEGIN")
            && self.words != "ROLLBACK"
    }
}

impl Visit for Statement {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "rows_affected" {
            self.rows = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.words),
            "db.statement" => value.trim().clone_into(&mut self.text),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// How the count of units begins.
const COUNT: &str = "WITH shown AS MATERIALIZED";
/// The longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a test's own questions begin: they are not counted.
pub(crate) const OWN: &str = "/* the test */";

/// The statements of this thread, from here on.
pub(crate) struct Statements {
    told: Arc<Mutex<Vec<Statement>>>,
    _listens: DefaultGuard,
}

struct Listener(Arc<Mutex<Vec<Statement>>>);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let mut statement = Statement::default();
            event.record(&mut statement);
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(statement);
        }
    }
}

fn subscriber(told: Arc<Mutex<Vec<Statement>>>) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(Listener(told))
}

impl Statements {
    pub(crate) fn listen() -> Self {
        // While there is one subscriber, tracing asks the thread that first logs at a place whether anybody listens
        // there, and remembers that thread's answer for all. With more it asks all of them.
        static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
        OTHERS.get_or_init(|| std::array::from_fn(|_| Dispatch::new(subscriber(Arc::default()))));
        let told = Arc::<Mutex<Vec<Statement>>>::default();
        let _listens = tracing::subscriber::set_default(subscriber(told.clone()));
        Self { told, _listens }
    }

    /// Takes what was asked since the last time, but for what a new connection of the pool asks of its own.
    pub(crate) fn take(&self) -> Vec<Statement> {
        let mut told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        told.retain(Statement::is_of_the_hub);
        told
    }
}

/// Proves that statements are heard.
async fn hears(world: &World, statements: &Statements) {
    world.store.ping().await.expect("it answers");
    assert!(!statements.take().is_empty(), "what is asked is heard");
}

fn good(kind: &'static str) -> ConditionRow {
    ConditionRow {
        kind,
        ok: true,
        message: String::new(),
        since: OffsetDateTime::now_utc(),
    }
}

#[tokio::test]
async fn an_idle_minute_of_fifty_agents_is_six_statements_and_no_row_of_theirs() {
    let world = World::new().await;
    let mut seen: Vec<(Uuid, u64, OffsetDateTime)> = Vec::new();
    for n in 0..50 {
        let cluster = world.cluster(&format!("c{n}")).await;
        seen.push((cluster, open(&world, cluster).await, OffsetDateTime::now_utc()));
    }
    world.execute("UPDATE cluster SET state = 'Active'").await;
    // Each was heard of once more: that is written.
    let later = |by: u64| {
        let seen = seen.iter();
        seen.map(|(id, epoch, at)| (*id, *epoch, *at + Duration::from_secs(by)))
            .collect::<Vec<_>>()
    };
    let lost = world.store.flush_last_seen(&later(3600)).await;
    assert!(lost.expect("written").is_empty());
    let written = async || {
        world
            .count("SELECT count(*) FROM session WHERE last_seen > now()")
            .await
    };
    assert_eq!(written().await, 50);
    let versions = async || -> Vec<String> {
        sqlx::query_scalar("SELECT xmin::text FROM session ORDER BY cluster_id")
            .fetch_all(&world.pool)
            .await
            .expect("rows")
    };
    let before = versions().await;
    let index = Index::new(world.store.clone());
    let mut watched = Vec::new();
    for (cluster, ..) in &seen {
        watched.push(index.watch(*cluster));
    }
    let mut listener = world.store.listen("replica").await.expect("it listens");
    let reader = world.store.outbox_end().await.expect("a reader");
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let stale = world
        .store
        .stale(&mut listener, &reader, INCARNATION, Duration::ZERO)
        .await
        .expect("asked");
    assert!(stale.apps.is_empty() && stale.gone.is_empty(), "{stale:?}");
    index.poll().await.expect("read");
    for _ in 0..2 {
        world.store.beat("replica", "").await.expect("it lives");
        let lost = world.store.flush_last_seen(&later(3600)).await.expect("answered");
        assert!(lost.is_empty(), "all are held: {lost:?}");
    }
    let asked = statements.take();
    assert_eq!(asked.len(), 6, "{asked:#?}");
    assert_eq!(versions().await, before, "no row is written");
    // What was replaced, is told.
    open(&world, seen[0].0).await;
    let lost = world.store.flush_last_seen(&later(3600)).await.expect("answered");
    assert_eq!(lost, [(seen[0].0, seen[0].1)]);
    // And so is what may have no agent any more.
    let suspended = seen[1].0;
    world
        .execute(&format!(
            "UPDATE cluster SET state = 'Suspended' WHERE id = '{suspended}'"
        ))
        .await;
    let lost = world.store.flush_last_seen(&later(3600)).await.expect("answered");
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost.contains(&(suspended, seen[1].1)));
}

#[tokio::test]
async fn a_connected_cluster_that_says_nothing_was_heard_of_with_its_hub() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let epoch = open(&world, cluster).await;
    world
        .execute("UPDATE session SET last_seen = now() - interval '1 hour'")
        .await;
    world.store.beat("replica", "").await.expect("it lives");
    let age = async || {
        let shown = world.store.list_clusters("c1", "", 1).await.expect("listed");
        OffsetDateTime::now_utc() - shown[0].last_seen.expect("heard of")
    };
    assert!(age().await < Duration::from_secs(60), "{}", age().await);
    world
        .execute("UPDATE session SET connected = false, last_seen = now() - interval '1 hour'")
        .await;
    assert!(age().await > Duration::from_secs(60), "{}", age().await);
    assert_eq!(epoch, 1);
}

#[tokio::test]
async fn a_report_of_one_unit_and_object_is_six_statements() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let one = Report {
        objects: vec![object(unit, "x")],
        ..report(cluster, epoch, vec![applied(unit, 1, target)])
    };
    world
        .store
        .ingest(std::slice::from_ref(&one))
        .await
        .expect("ingested");
    let asked = statements.take();
    // The lock, unit, object, session, wake-up, commit; and telling others, of whom nothing is known here.
    assert_eq!(asked.len(), 7, "{asked:#?}");
    assert!(
        asked.iter().all(|one| !one.words.starts_with("DELETE")),
        "{asked:#?}"
    );
    assert!(asked.iter().any(|one| one.rows == 1), "{asked:#?}");
}

#[tokio::test]
async fn what_an_agent_tells_after_a_restart_with_nothing_changed_is_five_statements_that_drop_no_row() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let before = Report {
        objects: (0..100).map(|n| object(unit, &format!("x{n}"))).collect(),
        ..report(
            cluster,
            open(&world, cluster).await,
            vec![applied(unit, 1, target)],
        )
    };
    world.store.ingest(&[before]).await.expect("ingested");
    let alone = Report {
        full: Some(FullPart {
            after: None,
            until: Some(RowKey::Unit(Uuid::nil())),
        }),
        ..report(cluster, open(&world, cluster).await, vec![])
    };
    let statements = Statements::listen();
    hears(&world, &statements).await;
    world.store.ingest(&[alone]).await.expect("ingested");
    let asked = statements.take();
    // The lock, units that it names, conditions that it names, session, commit.
    assert_eq!(asked.len(), 5, "{asked:#?}");
    let dropped = asked.iter().filter(|one| one.words.starts_with("DELETE"));
    assert_eq!(dropped.map(|one| one.rows).sum::<u64>(), 0, "{asked:#?}");
    assert_eq!(world.count("SELECT count(*) FROM unit_object").await, 100);
}

#[tokio::test]
async fn reports_of_fifty_agents_are_as_many_statements_as_one_and_so_are_acknowledgements() {
    let world = World::new().await;
    let app = world.app("a").await;
    let clusters: Vec<Uuid> = {
        let mut made = Vec::new();
        for n in 0..50 {
            made.push(world.cluster(&format!("c{n}")).await);
        }
        made
    };
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world
        .commit(&world.gather(app, &clusters, &content).await)
        .await
        .expect("committed");
    let mut reports = Vec::new();
    let mut acks = Vec::new();
    for unit in world.store.app_plan(app).await.expect("read").units {
        let cluster = unit.cluster.0;
        let epoch = open(&world, cluster).await;
        reports.push(Report {
            objects: vec![object(unit.id.0, "x")],
            conditions: vec![ConditionRow {
                ok: false,
                ..good("Ledger")
            }],
            ..report(cluster, epoch, vec![applied(unit.id.0, 1, unit.target)])
        });
        acks.push(Told {
            cluster,
            epoch,
            accepted: Some((1, 1)),
            units: BTreeMap::from([(unit.id.0, took(1, unit.target))]),
            refusal: None,
            message: String::new(),
        });
    }
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let ingested = world.store.ingest(&reports).await.expect("ingested");
    assert_eq!(ingested.applied.len(), 50);
    let asked = statements.take();
    // The lock, units, objects, conditions, sessions, wake-up, commit; and telling others.
    assert_eq!(asked.len(), 8, "{asked:#?}");
    world.store.told(&acks).await.expect("accepted");
    let asked = statements.take();
    // Sessions, what was taken, wake-up, commit; and telling others.
    assert_eq!(asked.len(), 5, "{asked:#?}");
    let accepted = async |generation: u64| {
        let query =
            format!("SELECT count(*) FROM session WHERE accepted_generation = {generation} AND message = ''");
        world.count(&query).await
    };
    assert_eq!(accepted(1).await, 50);
    // Both together lock and write each session once.
    let reports: Vec<Report> = reports.into_iter().map(again).collect();
    let acks: Vec<Told> = acks.into_iter().map(next).collect();
    statements.take();
    let ingested = world.store.ingest_told(&acks, &reports).await.expect("ingested");
    assert_eq!(ingested.counted, vec![true; 50]);
    let asked = statements.take();
    // The lock, what was told, units, objects, conditions, sessions, wake-up, commit.
    assert_eq!(asked.len(), 9, "{asked:#?}");
    assert_eq!(accepted(2).await, 50);
    let roots = "SELECT count(*) FROM session WHERE substr(observed_root, 2) = '\\x02'";
    assert_eq!(world.count(roots).await, 50);
    // What is told of a stream that was replaced counts for nothing, beside a report of the one that has it.
    let epoch = open(&world, acks[0].cluster).await;
    let report = Report {
        epoch,
        ..again(reports[0].clone())
    };
    let stale = Told {
        message: "stale".into(),
        ..next(acks[0].clone())
    };
    let ingested = world
        .store
        .ingest_told(&[stale], &[report])
        .await
        .expect("ingested");
    assert_eq!(ingested.counted, [true]);
    assert_eq!(accepted(3).await, 0);
    let stale = "SELECT count(*) FROM session WHERE message = 'stale'";
    assert_eq!(world.count(stale).await, 0);
}

/// The next report, of which all differs.
fn again(mut report: Report) -> Report {
    report.observed_root = vec![2];
    for row in &mut report.units {
        row.message.push('2');
    }
    for row in &mut report.objects {
        row.message.push('2');
    }
    for row in &mut report.conditions {
        row.message.push('2');
    }
    report
}

/// What is told of the next state.
fn next(told: Told) -> Told {
    let accepted = told
        .accepted
        .map(|(incarnation, generation)| (incarnation, generation + 1));
    Told { accepted, ..told }
}

#[tokio::test]
async fn what_left_a_hundred_clusters_is_decided_in_as_many_statements_as_of_one() {
    let world = World::new().await;
    let app = world.app("a").await;
    let mut clusters = Vec::new();
    for n in 0..100 {
        clusters.push(world.cluster(&format!("c{n}")).await);
    }
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &clusters, &content).await;
    let plan = world.store.app_plan(app).await.expect("read");
    let mut reports = Vec::new();
    for unit in &plan.units {
        let epoch = open(&world, unit.cluster.0).await;
        let status = StatusRow {
            objects_pending_removal: 1,
            ..applied(unit.id.0, 1, unit.target)
        };
        let left = ObjectRow {
            state: Some("PendingRemoval"),
            ..object(unit.id.0, "y")
        };
        reports.push(Report {
            objects: vec![left],
            ..report(unit.cluster.0, epoch, vec![status])
        });
    }
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut counted = Vec::new();
    for reports in [&reports[..1], &reports[1..]] {
        world.store.ingest(reports).await.expect("ingested");
        statements.take();
        let open = world.store.leaving_apps(&[app]).await.expect("read");
        world.store.sources_of_apps(&open).await.expect("read");
        let units = world.store.leaving(app, Uuid::nil(), false).await.expect("read");
        assert_eq!(units.len(), reports.len());
        assert_eq!(
            world
                .store
                .clear(
                    app,
                    &units,
                    &flotilla_hub::store::leaving::TakenOver::new(),
                    None,
                    None
                )
                .await
                .expect("decided"),
            reports.len()
        );
        counted.push(statements.take().len());
    }
    // What is open, sources, units with their keys; the locks of the keys, whether what is beside it moves, others' claims,
    // what is cleared and unpublished, wake-up, commit, and telling others.
    assert_eq!(counted, [10, 10]);
    // What is decided is looked at no more.
    assert!(world.store.leaving_apps(&[app]).await.expect("read").is_empty());
    assert!(world.stale(INCARNATION, Duration::ZERO).await.leaving.is_empty());
}

#[tokio::test]
async fn a_cluster_with_thirty_apps_leaves_in_as_many_statements_as_one_with_one() {
    let world = World::new().await;
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut counted = Vec::new();
    for (name, apps) in [("few", 1), ("many", 30)] {
        let cluster = world.cluster(name).await;
        for n in 0..apps {
            let app = world.app(&format!("{name}{n}")).await;
            let object = config(&format!("{name}{n}"), "a: 1");
            let content = world.render(app, &format!("{name}{n}"), &[object]).await;
            world.roll_out(app, &[cluster], &content).await;
        }
        let request = async |departure| {
            statements.take();
            let asked = world.store.request_departure(name, Some(departure), "admin");
            assert_eq!(asked.await.expect("asked"), Some(Request::Taken));
            statements.take().len()
        };
        let drained = request(Departure::Drain).await;
        let removing = "UPDATE unit SET state = 'Removing', removal = '{\"policy\": \"Delete\"}'";
        world
            .execute(&format!("{removing} WHERE cluster_id = '{cluster}'"))
            .await;
        // The drain is stopped by it.
        let retired = request(Departure::Retire).await;
        let departing = async || {
            let departing = world.store.departing(cluster).await.expect("read");
            departing.expect("it departs")
        };
        world.publish(cluster).await.expect("published");
        statements.take();
        let leaving = departing().await.leaving;
        assert_eq!(world.store.release(&leaving).await.expect("asked"), apps);
        let released = statements.take().len();
        world.publish(cluster).await.expect("published");
        statements.take();
        let gone = departing().await.released;
        world.store.forget_released().await.expect("asked");
        assert_eq!(world.store.forget_units(&gone).await.expect("asked"), apps);
        let forgotten = statements.take().len();
        assert!(world.store.end_retirement(cluster).await.expect("asked"));
        counted.push([drained, retired, released, forgotten, statements.take().len()]);
    }
    // Is asked to be drained, and to retire instead; lets go of what it has; is rid of that; and is gone.
    assert_eq!(counted[0], counted[1]);
    let left =
        "SELECT (SELECT count(*) FROM unit) + (SELECT count(*) FROM rollout WHERE state = 'Progressing')";
    assert_eq!(world.count(left).await, 0);
}

#[tokio::test]
async fn publishing_a_unit_on_a_hundred_clusters_is_as_many_statements_as_on_one() {
    let world = World::new().await;
    let (one, many) = (world.app("a").await, world.app("b").await);
    let mut clusters = Vec::new();
    for n in 0..100 {
        clusters.push(world.cluster(&format!("c{n}")).await);
    }
    let of_one = world.render(one, "r1", &[config("x", "a: 1")]).await;
    let of_many = world.render(many, "r1", &[config("y", "a: 1")]).await;
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut counted = Vec::new();
    for (app, clusters, content) in [(one, &clusters[..1], of_one), (many, &clusters[..], of_many)] {
        let gathered = world.gather(app, clusters, &content).await;
        statements.take();
        world.commit(&gathered).await.expect("committed");
        let planned = statements.take().len();
        let published = world
            .store
            .publish(clusters, INCARNATION)
            .await
            .expect("published");
        assert_eq!(published.len(), clusters.len());
        counted.push((planned, statements.take().len()));
    }
    // The locks of the claims, plan, rollout, keys, units, proof of the claims, clearings of what is claimed, wake-ups, commit; those that lack a state, the lock and what is unpublished,
    // units, what they are to be, entries twice, heads, wake-up, commit. And telling others, of both.
    assert_eq!(counted, [(10, 10), (10, 10)]);
    assert!(
        world
            .store
            .publish(&clusters, INCARNATION)
            .await
            .expect("published")
            .is_empty()
    );
    assert_eq!(
        statements.take().len(),
        3,
        "where nothing changed, nothing is read"
    );
}

#[tokio::test]
async fn a_connect_is_four_statements_that_write_no_good_news_and_decide_no_rollout() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let told = async |topic: &str| {
        world
            .count(&format!(
                "SELECT coalesce(sum(cardinality(keys)), 0)::bigint FROM outbox WHERE topic = '{topic}'"
            ))
            .await
    };
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let conditions = || world.count("SELECT count(*) FROM cluster_condition");
    let good = [good("Clock"), good("Reports")];
    open_judged(&world, cluster, &good).await;
    let asked = statements.take();
    // That it is there is told once.
    assert_eq!(asked.len(), 6, "{asked:#?}");
    open_judged(&world, cluster, &good).await;
    let asked = statements.take();
    // The lock, session, wake-up, commit; and telling others, of whom nothing is known here.
    assert_eq!(asked.len(), 5, "{asked:#?}");
    assert_eq!(conditions().await, 0);
    let wrong = ConditionRow {
        ok: false,
        message: "behind".into(),
        ..good[0].clone()
    };
    open_judged(&world, cluster, &[wrong, good[1].clone()]).await;
    assert_eq!(conditions().await, 1);
    let message = async || {
        world.store.list_clusters("c1", "", 1).await.expect("listed")[0]
            .message
            .clone()
    };
    assert_eq!(message().await, "behind");
    let epoch = open_judged(&world, cluster, &good).await;
    assert_eq!(message().await, "", "what was wrong and is good is written");
    world
        .store
        .close_sessions(&[(cluster, epoch)])
        .await
        .expect("closed");
    assert_eq!((told("report").await, told("session").await), (0, 5));
    // That it turned is an event, each way.
    let events = "SELECT count(*) FROM event WHERE reason = 'Clock' AND cluster_id IS NOT NULL";
    assert_eq!(world.count(events).await, 2);
}

#[tokio::test]
async fn a_hundred_streams_are_opened_and_closed_in_as_many_statements_as_one() {
    let world = World::new().await;
    let mut clusters = Vec::new();
    for n in 0..100 {
        clusters.push(world.cluster(&format!("c{n}")).await);
    }
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &clusters[..1], &content).await;
    let openings: Vec<Opening> = clusters.iter().map(|id| opening(*id, &[good("Clock")])).collect();
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut counted = Vec::new();
    let mut streams = Vec::new();
    // The first time each is told of, the second time none is news.
    for range in [0..1, 0..1, 1..100, 1..100] {
        let opened = world
            .store
            .open_sessions(&openings[range.clone()])
            .await
            .expect("opened");
        counted.push(statements.take().len());
        assert_eq!(opened.len(), range.len());
        streams.retain(|(id, _)| !clusters[range.clone()].contains(id));
        streams.extend(
            clusters[range]
                .iter()
                .copied()
                .zip(opened.iter().map(|one| one.epoch)),
        );
    }
    // The lock, session, that it is there, wake-up, commit; and telling others.
    assert_eq!(counted, [6, 5, 6, 5]);
    assert!(streams.iter().all(|(_, epoch)| *epoch == 2), "{streams:?}");
    let connected = "SELECT count(*) FROM session WHERE connected";
    assert_eq!(world.count(connected).await, 100);
    assert_eq!(
        world
            .count("SELECT count(*) FROM event WHERE reason = 'ClusterConnected'")
            .await,
        100
    );
    // What is published is told with it.
    let again = world.store.open_sessions(&openings).await.expect("opened");
    let published = |one: &Opened| one.head.map(|head| head.generation);
    assert_eq!((published(&again[0]), published(&again[1])), (Some(1), None));
    // A stream that was replaced closes nothing, and takes nobody else's place.
    statements.take();
    world.store.close_sessions(&streams).await.expect("closed");
    assert_eq!(world.count(connected).await, 100);
    let streams: Vec<(Uuid, u64)> = clusters
        .iter()
        .copied()
        .zip(again.iter().map(|one| one.epoch))
        .collect();
    statements.take();
    world.store.close_sessions(&streams).await.expect("closed");
    // The sessions, wake-up, commit; and telling others.
    assert_eq!(statements.take().len(), 4);
    assert_eq!(world.count(connected).await, 0);
}

fn want(kind: ContentKind, digest: Digest, base: Option<Digest>) -> Want {
    let bytes = |digest: Digest| digest.as_bytes().to_vec().into();
    Want {
        kind: kind.into(),
        digest: bytes(digest),
        base: base.map(bytes).unwrap_or_default(),
    }
}

async fn fetched(fetcher: &Fetcher, cluster: Uuid, want: Vec<Want>) -> Vec<Chunk> {
    let (chunks, mut received) = tokio::sync::mpsc::channel(64);
    let request = FetchRequest { want, epoch: 1 };
    fetcher.serve(cluster, request, &chunks).await.expect("served");
    drop(chunks);
    let mut all = Vec::new();
    while let Some(chunk) = received.recv().await {
        all.push(chunk.expect("a chunk"));
    }
    all
}

/// Ten thousand agents that go from one revision to the next: a frame may be a megabyte, and their patch some hundred
/// bytes.
#[tokio::test]
async fn a_patch_that_was_made_once_costs_no_further_agent_a_read_of_any_item() {
    let world = World::new().await;
    let app = world.app("a").await;
    let mut clusters = Vec::new();
    for n in 0..4 {
        clusters.push(world.cluster(&format!("c{n}")).await);
    }
    let lines = |first: &str| {
        (0..2000).fold(format!("a: {first}"), |text, n| {
            format!("{text}\nb{n}: {}", n * 7919)
        })
    };
    let (old, new) = (config("x", &lines("old")), config("x", &lines("new")));
    let secret = Object::new("Secret", "s", "stringData: {password: hunter2}");
    let before = world.render(app, "r1", &[old.clone(), secret.clone()]).await;
    world.roll_out(app, &clusters, &before).await;
    let after = world.render(app, "r2", &[new.clone(), secret.clone()]).await;
    world.roll_out(app, &clusters, &after).await;
    let fetcher = Fetcher::new(world.store.clone(), world.seal.clone());
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut costs = Vec::new();
    for cluster in &clusters {
        let patched = want(ContentKind::Object, new.digest(), Some(old.digest()));
        let chunks = fetched(&fetcher, *cluster, vec![patched]).await;
        let bytes: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
        assert!(
            chunks[0].encoding() == Encoding::ZstdDelta && bytes < 200,
            "{bytes}"
        );
        assert_eq!(chunks[0].decoded_size, new.bytes.len() as u64);
        costs.push(statements.take().len());
    }
    // What the cluster may have, and once both items in one.
    assert_eq!(costs, [2, 1, 1, 1]);
    // Of what there is no patch of, the item is read.
    let mut costs = Vec::new();
    for cluster in &clusters {
        let whole = want(ContentKind::Object, secret.digest(), Some(old.digest()));
        let chunks = fetched(&fetcher, *cluster, vec![whole]).await;
        assert_eq!(chunks[0].data, secret.bytes);
        costs.push(statements.take().len());
    }
    assert_eq!(costs, [3, 2, 2, 2]);
    // A patch of what a cluster may not have tells it nothing, whoever it was made for.
    let stranger = world.cluster("stranger").await;
    statements.take();
    let patched = want(ContentKind::Object, new.digest(), Some(old.digest()));
    let chunks = fetched(&fetcher, stranger, vec![patched]).await;
    assert!(chunks[0].missing && chunks[0].data.is_empty());
    assert_eq!(statements.take().len(), 1);
}

#[tokio::test]
async fn a_fetch_is_two_statements_however_many_units_there_are() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let mut last = None;
    for n in 0..12 {
        let app = world.app(&format!("a{n}")).await;
        let objects = ["x", "y", "z"].map(|name| config(&format!("{name}{n}"), &format!("a: {name}")));
        let content = world.render(app, &format!("r{n}"), &objects).await;
        world.roll_out(app, &[cluster], &content).await;
        last = Some((content.admitted.content, objects));
    }
    let (content, objects) = last.expect("an app");
    let fetcher = Fetcher::new(world.store.clone(), world.seal.clone());
    let fetch = async |kind: ContentKind, digests: &[Digest]| {
        let want = digests.iter().map(|digest| want(kind, *digest, None));
        let chunks = fetched(&fetcher, cluster, want.collect()).await;
        chunks.iter().filter(|chunk| !chunk.missing).count()
    };
    let statements = Statements::listen();
    hears(&world, &statements).await;
    // What the cluster may have, and the items.
    assert_eq!(fetch(ContentKind::Content, &[content]).await, 1);
    assert_eq!(statements.take().len(), 2);
    let digests = objects.map(|object| object.digest());
    assert_eq!(fetch(ContentKind::Object, &digests).await, 3);
    assert_eq!(statements.take().len(), 2);
    // What no entry leads to is not read.
    let unknown = Digest::of("object", b"of nobody");
    assert_eq!(fetch(ContentKind::Object, &[unknown]).await, 0);
    assert_eq!(statements.take().len(), 1);
}

/// An app on these clusters, of which the last has failed; all others are ready.
async fn app_on(world: &World, clusters: usize) -> Uuid {
    let app = world.app("a").await;
    one_unit(world, "c1", app).await;
    let (others, last) = (clusters - 1, format!("z{:04}", clusters - 1));
    world
        .execute(&format!(
            "INSERT INTO cluster (id, name, state)
               SELECT gen_random_uuid(), 'z' || lpad(n::text, 4, '0'), 'Active' FROM generate_series(1, {others}) n;
             INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause)
               SELECT gen_random_uuid(), u.app_uid, c.id, u.target, u.revision_id, u.rollout_id, u.state,
                      u.cause FROM unit u, cluster c WHERE c.name LIKE 'z%';
             INSERT INTO session (cluster_id, epoch, replica, connected, last_seen)
               SELECT id, 1, 'replica', true, now() FROM cluster;
             INSERT INTO unit_status (unit_id, version, applied_version, applied, ready, observed_at)
               SELECT id, version, version, target, 'True', now() FROM unit;
             UPDATE unit_status SET ready = 'False', reason = 'HealthCheckFailed', message = 'image not found'
               WHERE unit_id = (SELECT u.id FROM unit u JOIN cluster c ON c.id = u.cluster_id WHERE c.name = '{last}');",
        ))
        .await;
    world.store.beat("replica", "").await.expect("it lives");
    app
}

#[tokio::test]
async fn what_many_ask_of_many_units_is_counted_once_and_a_new_plan_is_shown_at_once() {
    let world = World::new().await;
    let app = app_on(&world, 1200).await;
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let hour = Duration::from_secs(3600);
    let counts = Counts::lasting(world.store.clone(), hour, hour);
    let ready = async |counts: &Counts| {
        let facts = counts.facts(&[app]).await.expect("read");
        let ready = facts[&app]
            .units
            .iter()
            .filter(|alike| alike.first.ready == Readiness::True);
        (facts[&app].total(), ready.map(|alike| alike.units).sum::<u64>())
    };
    assert!(!counts.may_be_late());
    for _ in 0..20 {
        assert_eq!(ready(&counts).await, (1200, 1199));
    }
    assert!(counts.may_be_late());
    let counted = statements.take();
    let counted = counted.iter().filter(|one| one.words.starts_with(COUNT));
    assert_eq!(counted.count(), 1);
    // Who waits for the end of something counts, for all who look after it.
    world
        .execute("UPDATE unit_status SET ready = 'True', reason = ''")
        .await;
    assert_eq!(ready(&counts).await, (1200, 1199));
    counts.facts_now(&[app]).await.expect("counted");
    assert_eq!(ready(&counts).await, (1200, 1200));
    // A plan is never shown with what was counted before it.
    world
        .execute(
            "INSERT INTO app_plan AS p (app_uid, version) SELECT DISTINCT app_uid, 1 FROM unit
               ON CONFLICT (app_uid) DO UPDATE SET version = p.version + 1;
             UPDATE unit SET version = version + 1",
        )
        .await;
    assert_eq!(ready(&counts).await, (1200, 0));
    // Counts that are no longer fresh are shown once more, and made anew beside.
    let counts = Counts::lasting(world.store.clone(), Duration::ZERO, hour);
    assert_eq!(ready(&counts).await, (1200, 0));
    world
        .execute("UPDATE unit_status SET version = version + 1, applied_version = version + 1")
        .await;
    wait_until("all are ready", PATIENCE, async || {
        let seen = ready(&counts).await;
        if seen == (1200, 1200) {
            Ok(Some(()))
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
    .expect("counted anew");
}

#[tokio::test]
async fn few_units_are_counted_for_each_who_asks() {
    let world = World::new().await;
    let app = app_on(&world, 3).await;
    let counts = Counts::new(world.store.clone());
    let ready = async || {
        let facts = counts.facts(&[app]).await.expect("read");
        facts[&app]
            .units
            .iter()
            .map(|alike| (alike.first.ready, alike.units))
            .collect::<Vec<_>>()
    };
    assert_eq!(ready().await, [(Readiness::True, 2), (Readiness::False, 1)]);
    world
        .execute("UPDATE unit_status SET ready = 'True', reason = '', message = ''")
        .await;
    assert_eq!(ready().await, [(Readiness::True, 3)]);
}

#[tokio::test]
async fn what_is_said_of_200_sources_is_one_statement() {
    let world = World::new().await;
    let revision = world.revision("r1").await;
    let fetched = world.uid("OCIRepository", "source").await;
    let others: Vec<String> = (0..199).map(|n| format!("s{n}")).collect();
    let resources: Vec<_> = others
        .iter()
        .map(|name| resource("OCIRepository", name, json!({})))
        .collect();
    world.apply(&resources).await;
    let mut sources = vec![fetched];
    for name in &others {
        sources.push(world.uid("OCIRepository", name).await);
    }
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let shown = world.store.sources_shown(&sources).await.expect("read");
    let asked = statements.take();
    assert_eq!(asked.len(), 1, "{asked:#?}");
    assert_eq!(shown.len(), 200);
    assert_eq!(shown[&fetched].revision, Some((revision, "r1".to_owned())));
    let nothing = shown
        .values()
        .filter(|one| one.revision.is_none() && one.said.is_none());
    assert_eq!(nothing.count(), 199);
}

#[tokio::test]
async fn what_is_said_of_an_app_on_1200_clusters_is_two_statements_over_all_of_them() {
    let world = World::new().await;
    let app = app_on(&world, 1200).await;
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut facts = world.store.app_facts(&[app]).await.expect("read");
    let asked = statements.take();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    let mut facts = facts.remove(&app).expect("known");
    assert_eq!((facts.total(), facts.units.len()), (1200, 2));
    assert_eq!(facts.revision().map(|one| one.name.as_str()), Some("c1"));
    facts.observed = true;
    let turned = flotilla_core::status::turned(&facts).expect("it turned");
    let age = OffsetDateTime::now_utc().unix_timestamp() * 1000 - turned.0;
    assert!((-1000..60_000).contains(&age), "{age} ms ago");
    let said = flotilla_core::status::app(&facts);
    assert_eq!(
        (said.status.as_str(), said.message.as_str()),
        ("False", "1199/1200 ready; z1199: image not found")
    );
    let behind = world.store.units_behind(app, 20).await.expect("read");
    assert_eq!(behind.len(), 1);
    // Of thousands that are ready, the one of which its agent has something to say is not lost.
    world
        .execute(
            "UPDATE unit_status SET ready = 'True', reason = 'ReconciliationSucceeded',
                    notes = 'no longer desired and not removed: ConfigMap/a/b'
               WHERE unit_id = (SELECT u.id FROM unit u JOIN cluster c ON c.id = u.cluster_id WHERE c.name = 'z1199');",
        )
        .await;
    let mut facts = world
        .store
        .app_facts(&[app])
        .await
        .expect("read")
        .remove(&app)
        .expect("known");
    facts.observed = true;
    let said = flotilla_core::status::app(&facts);
    assert_eq!(
        (said.status.as_str(), said.message.as_str()),
        (
            "True",
            "Applied revision: c1 on 1200 clusters; on z1199; no longer desired and not removed: ConfigMap/a/b"
        )
    );
}

#[tokio::test]
async fn seven_hundred_objects_are_applied_in_as_many_statements_as_one() {
    let world = World::new().await;
    let statements = Statements::listen();
    hears(&world, &statements).await;
    let mut asked = Vec::new();
    for (prefix, count) in [("one", 1), ("many", 700)] {
        let mut applied: Vec<_> = (0..count)
            .map(|n| crate::budgets::app(&format!("{prefix}{n}")))
            .collect();
        applied.push(resource("Cluster", &format!("{prefix}-cluster"), json!({})));
        let actions = world.apply(&applied).await;
        assert!(actions.iter().all(|action| *action == Action::Created));
        let created = statements.take();
        let actions = world.apply(&applied).await;
        assert!(actions.iter().all(|action| *action == Action::Unchanged));
        asked.push((created, statements.take()));
    }
    let [(created, unchanged), (more, still)] = &asked[..] else {
        panic!("two")
    };
    assert_eq!(created.len(), more.len(), "{more:#?}");
    assert_eq!(unchanged.len(), still.len(), "{still:#?}");
    // The clusters, which there are, those, and the commit.
    assert!(unchanged.len() <= 6, "{unchanged:#?}");
}
