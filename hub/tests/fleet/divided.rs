//! What two hubs on one database do not do twice: look at a source, plan an app, judge a cluster, remove what is unused.

use std::time::{Duration, Instant};

use flotilla_hub::{
    store::{Topic, work::Lease},
    task::queue::Queue,
};
use flotilla_testkit::{GitAccess, GitCommand, GitRepo, GitServer, wait_until};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    budgets::{app, manifests, placement, reconcilers},
    statements::{OWN, Statements},
    store::config,
    world::{INCARNATION, World, resource},
};

const APPS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than the server lets a statement wait for a lock, which is then begun anew.
const SOON: Duration = Duration::from_secs(20);

/// Apps of one repository on three clusters each, and the hubs that are at work.
struct Fleet {
    world: World,
    git: GitServer,
    repository: GitRepo,
    source: Uuid,
    queues: Vec<Queue>,
    stop: CancellationToken,
    statements: Statements,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn name(number: usize) -> String {
    format!("app{number}")
}

impl Fleet {
    /// With one hub.
    async fn start() -> Self {
        let world = World::new().await;
        let git = GitServer::start(GitAccess::Public).await.expect("a Git server");
        let repository = git.create("repo.git").await.expect("made");
        let mut resources: Vec<_> = (0..3)
            .map(|n| resource("Cluster", &format!("c{n:04}"), json!({})))
            .collect();
        resources.extend((0..APPS).map(|n| app(&name(n))));
        resources.extend((0..APPS).map(|n| placement(&name(n), 0..3)));
        let spec = json!({ "interval": "24h", "url": git.http_url("repo.git"), "ref": { "branch": "main" } });
        resources.push(resource("GitRepository", "repo", spec));
        let files = files("first");
        repository
            .commit("main", &files, "first")
            .await
            .expect("committed");
        let statements = Statements::listen();
        world.apply(&resources).await;
        let mut this = Self {
            source: world.uid("GitRepository", "repo").await,
            world,
            git,
            repository,
            queues: Vec::new(),
            stop: CancellationToken::new(),
            statements,
        };
        this.join("one").await;
        this.settled(&format!("SELECT count(*) = {} FROM unit", 3 * APPS))
            .await;
        this
    }

    /// Another hub begins.
    async fn join(&mut self, replica: &str) {
        let (queues, _, stop) = reconcilers(&self.world, replica).await;
        self.queues.extend(queues);
        let all = self.stop.clone();
        tokio::spawn(async move {
            all.cancelled().await;
            stop.cancel();
        });
    }

    /// Waits until this holds, nothing is to be done, and no hub waits for another.
    async fn settled(&self, query: &str) {
        let query = format!(
            "{OWN} SELECT ({query}) AND (SELECT count(*) FROM due) + (SELECT count(*) FROM unpublished) = 0"
        );
        wait_until(&query, PATIENCE, async || {
            let holds: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query.as_str()))
                .fetch_one(&self.world.pool)
                .await?;
            let idle = self.queues.iter().all(|queue| queue.depth() == 0);
            Ok::<_, sqlx::Error>((holds && idle).then_some(()))
        })
        .await
        .expect("settled");
    }

    /// A commit that changes all apps: the statements of all hubs, and the requests to the Git server.
    async fn commit(&self, version: &str) -> (usize, usize) {
        let commit = self.repository.commit("main", &files(version), version).await;
        let commit = commit.expect("committed");
        self.statements.take();
        self.git.clear_log();
        self.world
            .execute(&format!("{OWN} UPDATE source_state SET next_probe = now()"))
            .await;
        self.world
            .store
            .wake(Topic::Resource, &[self.source])
            .await
            .expect("woken");
        let query = format!(
            "SELECT count(DISTINCT u.id) = {} FROM unit u JOIN revision r ON r.id = u.revision_id WHERE r.commit_id = '{commit}'",
            3 * APPS
        );
        self.settled(&query).await;
        self.is_quiet().await;
        let asked = self.statements.take();
        let asked = asked.iter().filter(|one| !one.is_of_the_clock());
        (asked.count(), self.git.count(GitCommand::Fetch))
    }

    /// Whoever left something to another hub has looked again; then nobody asks anything.
    async fn is_quiet(&self) {
        self.world.is_quiet().await;
    }
}

fn files(version: &str) -> Vec<(String, String)> {
    (0..APPS)
        .map(|n| (format!("{}/all.yaml", name(n)), manifests(&name(n), version)))
        .collect()
}

#[tokio::test]
async fn a_commit_costs_two_hubs_little_more_than_one() {
    let mut fleet = Fleet::start().await;
    let (alone, fetches) = fleet.commit("second").await;
    fleet.join("two").await;
    fleet.is_quiet().await;
    let (together, fetched) = fleet.commit("third").await;
    assert_eq!((fetches, fetched), (1, 1), "one hub fetches");
    // Each asks together what it plans itself: statements follow the hubs, and not the apps.
    assert!(
        together <= alone * 2,
        "{together} statements of two hubs, {alone} of one"
    );
}

#[tokio::test]
async fn what_a_hub_held_when_it_was_killed_is_done_by_another_within_seconds() {
    let fleet = Fleet::start().await;
    let app = fleet.world.uid("Kustomization", &name(0)).await;
    let held = "held_by = 'dead', held_until = now() + interval '5 seconds'";
    let began = Instant::now();
    fleet
        .world
        .execute(&format!(
            "{OWN} INSERT INTO due (topic, key, held_by, held_until)
               VALUES ('app', '{app}', 'dead', now() + interval '5 seconds');
             UPDATE source_state SET next_probe = now(), {held}"
        ))
        .await;
    fleet.git.clear_log();
    fleet.queues[0].push(fleet.source);
    fleet.queues[1].push(app);
    fleet
        .settled("SELECT bool_and(held_by = 'one') FROM source_state")
        .await;
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(4),
        "it was left to the other for its time: {took:?}"
    );
    assert!(took < Duration::from_secs(15), "and no longer: {took:?}");
    fleet.is_quiet().await;
}

#[tokio::test]
async fn what_one_hub_does_for_all_is_done_once_in_its_time() {
    let world = World::new().await;
    let hour = Duration::from_secs(3600);
    let (one, two) = tokio::join!(
        world.store.take_look("retention", hour),
        world.store.take_look("retention", hour)
    );
    assert!(one.expect("asked") != two.expect("asked"), "one of them");
    assert!(world.store.take_look("other", hour).await.expect("asked"));
    world
        .execute("UPDATE look SET at = now() - interval '61 minutes'")
        .await;
    assert!(world.store.take_look("retention", hour).await.expect("asked"));
    assert!(!world.store.take_look("retention", hour).await.expect("asked"));
    // What was not done is nobody's work done.
    world.store.give_back_look("retention").await.expect("given back");
    assert!(world.store.take_look("retention", hour).await.expect("asked"));
}

#[tokio::test]
async fn clusters_are_judged_by_one_hub_and_by_another_when_that_one_has_gone() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let take = async |replica: &str| {
        let (taken, others) = world.store.take_clusters(replica).await.expect("asked");
        (taken.iter().map(|(key, _)| *key).collect::<Vec<_>>(), others)
    };
    assert_eq!(take("one").await, (vec![cluster], false));
    assert_eq!(take("two").await, (vec![], true));
    assert_eq!(take("one").await, (vec![cluster], false), "it is its own");
    world
        .execute("UPDATE due SET held_until = now() WHERE topic = 'cluster'")
        .await;
    let (taken, others) = world.store.take_clusters("two").await.expect("asked");
    assert_eq!((taken.len(), others), (1, false));
    world.store.judged_clusters(&taken, &[]).await.expect("judged");
    assert_eq!(take("one").await, (vec![], false), "nothing is left");
}

#[tokio::test]
async fn clusters_that_another_hub_is_just_taking_are_not_forgotten() {
    let world = World::new().await;
    world.cluster("c1").await;
    // It has locked the mark, and its transaction is open.
    let mut other = world.pool.begin().await.expect("begun");
    sqlx::raw_sql("UPDATE due SET held_by = 'two', held_until = now() + interval '5 seconds'")
        .execute(&mut *other)
        .await
        .expect("taken");
    let (taken, others) = world.store.take_clusters("one").await.expect("asked");
    assert_eq!((taken.len(), others), (0, true));
    // That hub ends there.
    other.rollback().await.expect("gone");
    let (taken, others) = world.store.take_clusters("one").await.expect("asked");
    assert_eq!((taken.len(), others), (1, false));
    // To a hub of a former release nothing is to be done, and it does not ask for it again and again.
    world.store.beat("one", "").await.expect("it lives");
    world.execute("UPDATE due SET held_by = ''").await;
    let former = world.store.clone().with_writer(0);
    assert_eq!(former.take_clusters("old").await.expect("asked"), (vec![], false));
}

#[tokio::test]
async fn the_mark_of_a_plan_is_kept_while_it_is_made() {
    let fleet = Fleet::start().await;
    let app = fleet.world.uid("Kustomization", &name(0)).await;
    // What it reads is held, so that its plan takes its time.
    let mut held = fleet.world.pool.begin().await.expect("begun");
    let lock = format!("{OWN} LOCK TABLE reference IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock))
        .execute(&mut *held)
        .await
        .expect("locked");
    fleet
        .world
        .execute(&format!(
            "{OWN} INSERT INTO due (topic, key) VALUES ('app', '{app}')"
        ))
        .await;
    fleet.queues[1].push(app);
    let until = async |what: &str, holds: &str| {
        let query = format!("{OWN} SELECT {holds} FROM due WHERE held_by = 'one'");
        wait_until(what, SOON, async || {
            let holds: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(query.as_str()))
                .fetch_optional(&fleet.world.pool)
                .await?;
            Ok::<_, sqlx::Error>((holds == Some(true)).then_some(()))
        })
        .await
        .expect("it holds");
    };
    until("taken", "true").await;
    let taken = format!("{OWN} SELECT held_until::text FROM due WHERE held_by = 'one'");
    let taken: String = sqlx::query_scalar(sqlx::AssertSqlSafe(taken))
        .fetch_one(&fleet.world.pool)
        .await
        .expect("taken");
    // Before it ran out: whoever begins anew takes it later.
    until(
        "kept",
        &format!("held_until > '{taken}' AND now() < '{taken}'::timestamptz"),
    )
    .await;
    let mark = fleet.world.store.take_plan(app, "two").await.expect("asked");
    assert!(matches!(mark, Lease::Others), "{mark:?}");
    held.rollback().await.expect("let go");
    fleet.settled("SELECT true").await;
    fleet.is_quiet().await;
}

#[tokio::test]
async fn a_lease_is_lost_to_another_hub_alone_and_its_time_never_goes_back() {
    let world = World::new().await;
    let app = world.app("a").await;
    world.revision("r1").await;
    let source = world.uid("OCIRepository", "source").await;
    world
        .execute(&format!(
            "INSERT INTO due (topic, key) VALUES ('app', '{app}') ON CONFLICT DO NOTHING"
        ))
        .await;
    let store = &world.store;
    let keep = async |replica: &str| {
        let source = store.keep_source(source, replica).await.expect("asked");
        (source, store.keep_plan(app, replica).await.expect("asked"))
    };
    assert_eq!(keep("one").await, (true, true), "no other has taken them");
    assert!(store.take_source(source, "one").await.expect("asked"));
    let mark = store.take_plan(app, "one").await.expect("asked");
    assert!(matches!(mark, Lease::Held(_)), "{mark:?}");
    let until = async |time: &str| {
        world
            .execute(&format!(
                "UPDATE source_state SET held_until = {time}; UPDATE due SET held_until = {time} WHERE topic = 'app'"
            ))
            .await;
    };
    // A renewal that waited for a lock, behind a later one.
    until("now() + interval '1 hour'").await;
    assert_eq!(keep("one").await, (true, true));
    let later = "SELECT count(*) FROM (SELECT held_until FROM source_state UNION ALL
                   SELECT held_until FROM due WHERE topic = 'app') AS l
                 WHERE held_until > now() + interval '30 minutes'";
    assert_eq!(world.count(later).await, 2);
    assert_eq!(keep("two").await, (false, false));
    // It is over, and nobody else came.
    until("now()").await;
    assert_eq!(keep("one").await, (true, true));
    until("now()").await;
    assert!(store.take_source(source, "two").await.expect("asked"));
    let mark = store.take_plan(app, "two").await.expect("asked");
    assert!(matches!(mark, Lease::Held(_)), "{mark:?}");
    assert_eq!(keep("one").await, (false, false));
}

#[tokio::test]
async fn what_has_just_changed_is_left_to_who_is_woken_by_it() {
    let world = World::new().await;
    let (app, cluster) = (world.app("a").await, world.cluster("c1").await);
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    let gathered = world.gather(app, &[cluster], &content).await;
    world.commit(&gathered).await.expect("committed");
    world
        .execute(&format!(
            "INSERT INTO due (topic, key) VALUES ('app', '{app}') ON CONFLICT DO NOTHING"
        ))
        .await;
    let stale = async |lost: u64| {
        let stale = world.stale(INCARNATION, Duration::from_secs(lost)).await;
        (stale.apps, stale.unpublished, stale.clusters)
    };
    assert_eq!(stale(10).await, (vec![], vec![], false));
    let lost = (vec![app], vec![cluster], true);
    assert_eq!(stale(0).await, lost);
    world
        .execute(
            "UPDATE due SET at = now() - interval '10 seconds';
             UPDATE unpublished SET at = now() - interval '10 seconds'",
        )
        .await;
    assert_eq!(stale(10).await, lost);
    // Another change is on its way again.
    world.store.judged_clusters(&[], &[app]).await.expect("changed");
    assert_eq!(stale(10).await.0, Vec::<Uuid>::new());
}
