//! Rollouts: a row of each cluster that they move, and an end when none of these is waited for.

use std::time::Duration;

use flotilla_core::rollout::admission::End;
use flotilla_testkit::wait_until;
use uuid::Uuid;

use crate::{
    reports::{open, report},
    statements::Statements,
    store::config,
    world::{Rendered, World, applied},
};

/// An app of one content on some clusters, not yet applied anywhere.
struct Rolling {
    world: World,
    app: Uuid,
    clusters: Vec<Uuid>,
    content: Rendered,
}

impl Rolling {
    async fn out(clusters: usize) -> Self {
        let world = World::new().await;
        let app = world.app("a").await;
        let mut made = Vec::new();
        for n in 0..clusters {
            made.push(world.cluster(&format!("c{n}")).await);
        }
        let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
        world.roll_out(app, &made, &content).await;
        Self {
            world,
            app,
            clusters: made,
            content,
        }
    }

    /// Rolls another content out to all clusters.
    async fn next(&self, revision: &str, text: &str) -> Rendered {
        let content = self.world.render(self.app, revision, &[config("x", text)]).await;
        self.world.roll_out(self.app, &self.clusters, &content).await;
        content
    }

    /// Its agent reports that the unit on a cluster has applied its target; returns the unit.
    async fn reports(&self, cluster: Uuid) -> Uuid {
        let units = self.world.store.app_plan(self.app).await.expect("read").units;
        let unit = units
            .iter()
            .find(|unit| unit.cluster.0 == cluster)
            .expect("there");
        let version: i64 = sqlx::query_scalar("SELECT version FROM unit WHERE id = $1")
            .bind(unit.id.0)
            .fetch_one(&self.world.pool)
            .await
            .expect("a unit");
        let epoch = open(&self.world, cluster).await;
        let row = applied(unit.id.0, version.unsigned_abs(), unit.target);
        let ingested = self
            .world
            .store
            .ingest(&[report(cluster, epoch, vec![row])])
            .await;
        assert_eq!(ingested.expect("ingested").counted, [true]);
        unit.id.0
    }

    async fn applies(&self, cluster: Uuid) -> Vec<End> {
        let unit = self.reports(cluster).await;
        self.world.ended(unit).await
    }

    /// Rollouts, the newest first: state, clusters, applied.
    async fn shown(&self) -> Vec<(String, i64, i64)> {
        let rollouts = self
            .world
            .store
            .list_rollouts("", "", "", 10)
            .await
            .expect("read");
        let shown = rollouts.into_iter();
        shown
            .map(|one| (one.state, one.clusters, one.clusters_applied))
            .collect()
    }

    async fn admissions(&self, state: &str) -> i64 {
        let query = format!("SELECT count(*) FROM admission WHERE state = '{state}'");
        self.world.count(&query).await
    }

    /// Nothing that looks for what has ended finds or writes anything.
    async fn is_quiet(&self) {
        let statements = Statements::listen();
        let missed = self.world.end_missed().await;
        assert!(missed.is_empty(), "{missed:?}");
        let asked = statements.take();
        assert_eq!(asked.len(), 1, "one look: {asked:#?}");
    }
}

fn row(state: &str, clusters: i64, applied: i64) -> (String, i64, i64) {
    (state.to_owned(), clusters, applied)
}

#[tokio::test]
async fn a_rollout_is_complete_with_the_last_cluster_that_applies_it() {
    let rolling = Rolling::out(3).await;
    assert_eq!(rolling.admissions("Admitted").await, 3);
    let [one, two, three] = rolling.clusters[..] else {
        panic!("three clusters")
    };
    assert_eq!(rolling.applies(one).await, []);
    assert_eq!(rolling.applies(two).await, []);
    assert_eq!(rolling.shown().await, [row("Progressing", 3, 2)]);
    // Told again it counts once.
    assert_eq!(rolling.applies(two).await, []);
    assert_eq!(rolling.applies(three).await, [End::Complete]);
    assert_eq!(rolling.shown().await, [row("Complete", 3, 3)]);
    assert_eq!(rolling.applies(three).await, []);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn a_cluster_that_joins_later_neither_ends_nor_stops_the_rollout_under_way() {
    let mut rolling = Rolling::out(2).await;
    assert_eq!(rolling.applies(rolling.clusters[0]).await, []);
    let joined = rolling.world.cluster("c9").await;
    rolling.clusters.push(joined);
    rolling
        .world
        .roll_out(rolling.app, &rolling.clusters, &rolling.content)
        .await;
    assert_eq!(
        rolling.shown().await,
        [row("Progressing", 1, 0), row("Progressing", 2, 1)]
    );
    assert_eq!(rolling.applies(joined).await, [End::Complete]);
    assert_eq!(
        rolling.shown().await,
        [row("Complete", 1, 1), row("Progressing", 2, 1)]
    );
    assert_eq!(rolling.applies(rolling.clusters[1]).await, [End::Complete]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn a_newer_change_supersedes_what_was_not_applied_and_counts_what_was() {
    let rolling = Rolling::out(3).await;
    assert_eq!(rolling.applies(rolling.clusters[0]).await, []);
    rolling.next("r2", "a: 2").await;
    assert_eq!(
        rolling.shown().await,
        [row("Progressing", 3, 0), row("Superseded", 3, 1)]
    );
    assert_eq!(
        (
            rolling.admissions("Superseded").await,
            rolling.admissions("Applied").await
        ),
        (2, 1)
    );
    for (place, cluster) in rolling.clusters.iter().enumerate() {
        let ended = rolling.applies(*cluster).await;
        assert_eq!(ended.len(), usize::from(place == 2), "{ended:?}");
    }
    assert_eq!(
        rolling.shown().await,
        [row("Complete", 3, 3), row("Superseded", 3, 1)]
    );
    rolling.is_quiet().await;
}

#[tokio::test]
async fn a_cluster_that_is_let_go_of_is_not_waited_for_until_it_is_chosen_again() {
    let rolling = Rolling::out(3).await;
    let [one, two, three] = rolling.clusters[..] else {
        panic!("three clusters")
    };
    assert_eq!(rolling.applies(one).await, []);
    let choose = async |clusters: &[Uuid]| {
        rolling
            .world
            .roll_out(rolling.app, clusters, &rolling.content)
            .await
    };
    choose(&[one, two]).await;
    assert_eq!(rolling.admissions("Withdrawn").await, 1);
    choose(&[one, two, three]).await;
    assert_eq!(
        (
            rolling.admissions("Withdrawn").await,
            rolling.admissions("Admitted").await
        ),
        (0, 2)
    );
    assert_eq!(rolling.applies(two).await, [], "the third is waited for again");
    // That it is let go of ends the rollout, and not as if it had applied it.
    choose(&[one, two]).await;
    assert_eq!(rolling.shown().await, [row("Withdrawn", 3, 2)]);
    rolling.is_quiet().await;
    // Chosen again, it is followed to its end.
    choose(&[one, two, three]).await;
    assert_eq!(rolling.shown().await, [row("Progressing", 3, 2)]);
    assert_eq!(rolling.applies(three).await, [End::Complete]);
    assert_eq!(rolling.shown().await, [row("Complete", 3, 3)]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn a_withdrawn_rollout_that_every_cluster_has_applied_all_the_same_is_complete() {
    let rolling = Rolling::out(3).await;
    let [one, two, three] = rolling.clusters[..] else {
        panic!("three clusters")
    };
    assert_eq!(rolling.applies(one).await, []);
    rolling
        .world
        .roll_out(rolling.app, &[one], &rolling.content)
        .await;
    assert_eq!(rolling.shown().await, [row("Withdrawn", 3, 1)]);
    // Their agents had applied it just before, and tell it now.
    assert_eq!(rolling.applies(two).await, [], "not yet every one");
    assert_eq!(rolling.shown().await, [row("Withdrawn", 3, 1)]);
    assert_eq!(rolling.applies(three).await, [End::Complete]);
    assert_eq!(rolling.shown().await, [row("Complete", 3, 3)]);
    assert_eq!(rolling.applies(three).await, []);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn a_rollout_that_is_suspended_in_the_middle_stands_still_and_goes_on_when_it_is_resumed() {
    let rolling = Rolling::out(3).await;
    let [one, two, three] = rolling.clusters[..] else {
        panic!("three clusters")
    };
    assert_eq!(rolling.applies(one).await, []);
    let (world, app) = (&rolling.world, rolling.app);
    world.suspend(app, &rolling.clusters, &rolling.content).await;
    assert_eq!(
        world
            .count("SELECT count(*) FROM unit WHERE state = 'Suspended'")
            .await,
        3
    );
    assert_eq!(rolling.shown().await, [row("Progressing", 3, 1)]);
    assert!(world.end_missed().await.is_empty(), "it has not ended");
    world.roll_out(app, &rolling.clusters, &rolling.content).await;
    assert_eq!(rolling.applies(two).await, []);
    assert_eq!(rolling.applies(three).await, [End::Complete]);
    assert_eq!(rolling.shown().await, [row("Complete", 3, 3)]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn an_end_that_meets_a_plan_which_chooses_a_cluster_again_leaves_nobody_unfollowed() {
    let rolling = Rolling::out(2).await;
    let [one, two] = rolling.clusters[..] else {
        panic!("two clusters")
    };
    assert_eq!(rolling.applies(one).await, []);
    // Let go of, and whoever did that has not looked yet what that ends.
    let gathered = rolling.world.gather(rolling.app, &[one], &rolling.content).await;
    let turned = rolling.world.commit_only(&gathered, 1).await.expect("committed");
    // Another hub's plan chooses it again: it has turned, and is not committed.
    let mut plan = rolling.world.pool.begin().await.expect("begun");
    sqlx::raw_sql(
        "UPDATE rollout SET readmissions = readmissions + 1; UPDATE admission SET state = 'Admitted' WHERE state = 'Withdrawn'",
    )
    .execute(&mut *plan)
    .await
    .expect("turned");
    let ended = rolling.world.store.end_rollouts(&turned);
    let committed = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let pool = &rolling.world.pool;
        wait_until("the end waits", Duration::from_secs(20), async || {
            let waiting: i64 = sqlx::query_scalar(waits).fetch_one(pool).await?;
            Ok::<_, sqlx::Error>((waiting > 0).then_some(()))
        })
        .await
        .expect("it waits");
        plan.commit().await.expect("committed");
    };
    let (ended, ()) = tokio::join!(ended, committed);
    assert!(ended.expect("answered").is_empty());
    assert_eq!(rolling.shown().await, [row("Progressing", 2, 1)]);
    rolling
        .world
        .roll_out(rolling.app, &[one, two], &rolling.content)
        .await;
    assert_eq!(rolling.applies(two).await, [End::Complete]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn what_was_missed_of_thousands_of_clusters_is_looked_at_a_page_at_a_time() {
    let rolling = Rolling::out(1).await;
    let world = &rolling.world;
    // Its clusters have all applied it, and no hub has looked.
    world
        .execute(
            "INSERT INTO cluster (id, name, state)
               SELECT gen_random_uuid(), 'z' || n, 'Active' FROM generate_series(1, 2500) n;
             INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause)
               SELECT gen_random_uuid(), u.app_uid, c.id, u.target, u.revision_id, u.rollout_id, u.state, u.cause
               FROM unit u, cluster c WHERE c.name LIKE 'z%';
             INSERT INTO admission (rollout_id, cluster_id, state)
               SELECT r.id, c.id, 'Admitted' FROM rollout r, cluster c WHERE c.name LIKE 'z%';
             UPDATE rollout SET clusters = 2501;
             INSERT INTO unit_status (unit_id, version, applied_version, applied, ready, observed_at)
               SELECT id, version, version, target, 'True', now() FROM unit;",
        )
        .await;
    let statements = Statements::listen();
    let missed = world.end_missed().await;
    let asked = statements.take();
    let ends: Vec<End> = missed.iter().map(|one| one.end).collect();
    assert_eq!(ends, [End::Complete]);
    // The rollouts, three pages, the counts, the end; and that there are no more.
    assert_eq!(asked.len(), 7, "{asked:#?}");
    assert_eq!(rolling.shown().await, [row("Complete", 2501, 2501)]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn what_a_hub_missed_when_it_ended_is_made_up_for_at_the_next_look() {
    let rolling = Rolling::out(2).await;
    // Both reports are committed, and the hub ends before it acts on them.
    for cluster in &rolling.clusters {
        rolling.reports(*cluster).await;
    }
    assert_eq!(rolling.shown().await, [row("Progressing", 2, 0)]);
    let missed = rolling.world.end_missed().await;
    let ends: Vec<End> = missed.iter().map(|one| one.end).collect();
    assert_eq!(ends, [End::Complete]);
    assert_eq!(missed[0].revision, "r1");
    assert_eq!(rolling.shown().await, [row("Complete", 2, 2)]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn a_withdrawn_rollout_whose_last_report_or_end_was_missed_is_complete_at_the_next_look() {
    let rolling = Rolling::out(3).await;
    let [one, two, three] = rolling.clusters[..] else {
        panic!("three clusters")
    };
    assert_eq!(rolling.applies(one).await, []);
    let world = &rolling.world;
    world.roll_out(rolling.app, &[one], &rolling.content).await;
    rolling.is_quiet().await;
    // A report is committed, and the hub ends before it acts on it: another cluster has not applied it.
    rolling.reports(two).await;
    assert!(world.end_missed().await.is_empty());
    assert_eq!(rolling.shown().await, [row("Withdrawn", 3, 1)]);
    assert_eq!(rolling.admissions("Applied").await, 2);
    rolling.is_quiet().await;
    let unit = rolling.reports(three).await;
    let ends = async || -> Vec<End> { world.end_missed().await.into_iter().map(|one| one.end).collect() };
    assert_eq!(ends().await, [End::Complete]);
    assert_eq!(rolling.shown().await, [row("Complete", 3, 3)]);
    rolling.is_quiet().await;
    // As if the hub had ended between its turn and its end.
    world
        .execute("UPDATE rollout SET state = 'Withdrawn', clusters_applied = 2")
        .await;
    let reached = world.reached(&[unit]).await;
    assert_eq!(world.store.turn_applied(&reached).await.expect("turned"), []);
    assert_eq!(ends().await, [End::Complete]);
    assert_eq!(rolling.shown().await, [row("Complete", 3, 3)]);
    rolling.is_quiet().await;
}

#[tokio::test]
async fn of_two_hubs_that_take_the_last_two_reports_at_once_one_ends_the_rollout() {
    let rolling = Rolling::out(2).await;
    for round in 0..10 {
        let units = [
            rolling.reports(rolling.clusters[0]).await,
            rolling.reports(rolling.clusters[1]).await,
        ];
        let (one, two) = tokio::join!(rolling.world.ended(units[0]), rolling.world.ended(units[1]));
        let ends = [one, two].concat();
        assert_eq!(ends, [End::Complete], "round {round}");
        rolling.next(&format!("n{round}"), &format!("n: {round}")).await;
    }
}

#[tokio::test]
async fn a_report_of_what_is_applied_is_two_statements_more_and_the_last_one_three() {
    let rolling = Rolling::out(2).await;
    let first = rolling.reports(rolling.clusters[0]).await;
    let last = rolling.reports(rolling.clusters[1]).await;
    // What they have applied is known from their reports.
    let (first, last) = (
        rolling.world.reached(&[first]).await,
        rolling.world.reached(&[last]).await,
    );
    let statements = Statements::listen();
    assert_eq!(rolling.world.ended_of(&first).await, []);
    // The turn, the counts.
    assert_eq!(statements.take().len(), 2);
    assert_eq!(rolling.world.ended_of(&last).await, [End::Complete]);
    assert_eq!(statements.take().len(), 3);
    // What turns nothing counts nothing.
    assert_eq!(rolling.world.ended_of(&last).await, []);
    assert_eq!(statements.take().len(), 1);
}

#[tokio::test]
async fn what_ended_long_ago_is_removed_a_part_at_a_time() {
    let rolling = Rolling::out(1).await;
    let world = &rolling.world;
    world
        .execute(&format!(
            "WITH ended AS (
               INSERT INTO rollout (app_uid, state, cause, clusters, finished_at)
               SELECT '{}', 'Complete', 'content', 2, now() - interval '2 days' FROM generate_series(1, 45)
               RETURNING id)
             INSERT INTO admission (rollout_id, cluster_id, state)
               SELECT id, gen_random_uuid(), 'Applied' FROM ended, generate_series(1, 2);
             INSERT INTO target (digest, settings, variables, referenced_at)
               SELECT sha256(n::text::bytea), '{{}}', '[]', now() - interval '2 days' FROM generate_series(1, 12000) n;
             UPDATE target SET referenced_at = now() - interval '2 days'",
            rolling.app
        ))
        .await;
    let statements = Statements::listen();
    let removed = world.remove_unused().await;
    let asked = statements.take();
    let parts = |words: &str| asked.iter().filter(|one| one.words.starts_with(words)).count();
    assert_eq!((removed.rollouts, removed.targets), (25, 12_000));
    // Of nine other tables there is one part each.
    assert_eq!(
        (parts("WITH ended AS"), parts("WITH page AS")),
        (3, 3 + 9),
        "{asked:#?}"
    );
    // What is under way, and what units are to be, stays.
    assert_eq!(rolling.admissions("Applied").await, 0);
    assert_eq!(rolling.admissions("Admitted").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM target").await, 1);
}

/// In a fleet at rest no admission is unfinished, as far as the server's statistics say.
#[tokio::test]
async fn a_report_of_few_clusters_looks_at_no_others_of_their_rollout() {
    let rolling = Rolling::out(1).await;
    let world = &rolling.world;
    world
        .execute(
            "INSERT INTO cluster (id, name, state)
               SELECT gen_random_uuid(), 'z' || n, 'Active' FROM generate_series(1, 2500) n;
             INSERT INTO unit (id, app_uid, cluster_id, target, revision_id, rollout_id, state, cause)
               SELECT gen_random_uuid(), u.app_uid, c.id, u.target, u.revision_id, u.rollout_id, u.state, u.cause
               FROM unit u, cluster c WHERE c.name LIKE 'z%';
             INSERT INTO admission (rollout_id, cluster_id, state)
               SELECT r.id, c.id, 'Applied' FROM rollout r, cluster c WHERE c.name LIKE 'z%';
             INSERT INTO unit_status (unit_id, version, applied_version, applied, ready, observed_at)
               SELECT id, version, version, target, 'True', now() FROM unit;
             UPDATE admission SET state = 'Applied';
             ANALYZE unit; ANALYZE admission; ANALYZE unit_status;
             UPDATE admission SET state = 'Admitted'",
        )
        .await;
    let units: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM unit ORDER BY id LIMIT 50")
        .fetch_all(&world.pool)
        .await
        .expect("read");
    let read = async |index: &str| {
        let counter = if index == "admission_pkey" {
            "idx_scan"
        } else {
            "idx_tup_read"
        };
        let query = format!("SELECT {counter} FROM pg_stat_user_indexes WHERE indexrelname = '{index}'");
        world.count(&query).await
    };
    let (looked_up, gone_through) = (read("admission_pkey").await, read("admission_unfinished").await);
    for few in units.chunks(10) {
        let reached = world.reached(few).await;
        assert_eq!(reached.len(), few.len());
        world.store.turn_applied(&reached).await.expect("turned");
    }
    // The server counts a moment later.
    wait_until("the look-ups are counted", Duration::from_secs(30), async || {
        Ok::<_, sqlx::Error>((read("admission_pkey").await >= looked_up + 50).then_some(()))
    })
    .await
    .expect("counted");
    let gone_through = read("admission_unfinished").await - gone_through;
    assert!(gone_through <= 50, "{gone_through} admissions were gone through");
    // What was reported for a version that the unit does not have any more turns nothing.
    let first = units[..1].iter().map(|id| (*id, 7)).collect::<Vec<_>>();
    world
        .execute("UPDATE admission SET state = 'Admitted' WHERE state = 'Applied'")
        .await;
    assert_eq!(world.store.turn_applied(&first).await.expect("turned"), []);
    let reached = world.reached(&units).await;
    world.store.turn_applied(&reached).await.expect("turned");
    let turned = "SELECT count(*) FROM admission WHERE state = 'Applied'";
    assert_eq!(world.count(turned).await, 50);
}

/// Whether a rollout has ended is asked after each batch of reports, by statements that were planned while nothing was
/// unfinished.
#[tokio::test]
async fn whether_a_rollout_has_ended_is_a_look_up_while_most_of_it_is_unfinished() {
    let rolling = Rolling::out(1).await;
    let world = &rolling.world;
    world
        .execute(
            "INSERT INTO cluster (id, name, state)
               SELECT gen_random_uuid(), 'z' || n, 'Active' FROM generate_series(1, 2500) n;
             INSERT INTO admission (rollout_id, cluster_id, state)
               SELECT r.id, c.id, 'Applied' FROM rollout r, cluster c WHERE c.name LIKE 'z%';
             UPDATE admission SET state = 'Applied'",
        )
        .await;
    for statement in [
        "VACUUM ANALYZE admission",
        "VACUUM ANALYZE rollout",
        "UPDATE admission SET state = 'Admitted'",
    ] {
        world.execute(statement).await;
    }
    let [cluster] = rolling.clusters[..] else {
        panic!("one cluster")
    };
    let unit = rolling.reports(cluster).await;
    let read = async || {
        let counter =
            "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'admission'";
        world.count(counter).await
    };
    let before = read().await;
    for _ in 0..20 {
        assert_eq!(world.ended(unit).await, []);
    }
    // The server counts a moment later.
    wait_until("the look-ups are counted", Duration::from_secs(30), async || {
        Ok::<_, sqlx::Error>((read().await > before).then_some(()))
    })
    .await
    .expect("counted");
    let read = read().await - before;
    assert!(read <= 1000, "{read} admissions were gone through");
}
