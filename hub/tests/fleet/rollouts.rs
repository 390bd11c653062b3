//! Rollouts: a row of each cluster that they move, and an end when none of these is waited for.

use flotilla_core::rollout::admission::End;
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
        let missed = self.world.store.end_missed_rollouts().await.expect("looked");
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
    // That it is let go of ends the rollout.
    choose(&[one, two]).await;
    assert_eq!(rolling.shown().await, [row("Complete", 3, 2)]);
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
    let missed = rolling.world.store.end_missed_rollouts().await.expect("looked");
    let ends: Vec<End> = missed.iter().map(|one| one.end).collect();
    assert_eq!(ends, [End::Complete]);
    assert_eq!(missed[0].revision, "r1");
    assert_eq!(rolling.shown().await, [row("Complete", 2, 2)]);
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
    let statements = Statements::listen();
    assert_eq!(rolling.world.ended(first).await, []);
    // The turn, the counts.
    assert_eq!(statements.take().len(), 2);
    assert_eq!(rolling.world.ended(last).await, [End::Complete]);
    assert_eq!(statements.take().len(), 3);
    // What turns nothing counts nothing.
    assert_eq!(rolling.world.ended(last).await, []);
    assert_eq!(statements.take().len(), 1);
}
