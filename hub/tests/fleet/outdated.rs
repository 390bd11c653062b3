//! A plan that takes its time, while what it is made from changes: a newer commit, a suspended app, another hub that has
//! planned in its place.

use flotilla_hub::store::{StoreError, plan::Unchanged, rendering::Changes};
use uuid::Uuid;

use crate::{
    store::config,
    world::{Gathered, Rendered, World},
};

/// An app on one cluster, and a plan of its second revision that is not committed.
struct Slow {
    world: World,
    app: Uuid,
    cluster: Uuid,
    plan: Gathered,
}

impl Slow {
    async fn new() -> Self {
        let world = World::new().await;
        let (app, cluster) = (world.app("a").await, world.cluster("c1").await);
        let first = world.render(app, "r1", &[config("x", "a: 1")]).await;
        world.roll_out(app, &[cluster], &first).await;
        let second = world.render(app, "r2", &[config("x", "a: 2")]).await;
        let mut slow = Self {
            plan: world.gather(app, &[cluster], &second).await,
            world,
            app,
            cluster,
        };
        slow.changes().await;
        slow.plan = slow.gathered(&second).await;
        slow
    }

    /// As the hub's planner gathers: with the mark as it is.
    async fn gathered(&self, content: &Rendered) -> Gathered {
        let mut plan = self.world.gather(self.app, &[self.cluster], content).await;
        plan.unchanged = Some(Unchanged {
            mark: Some(plan.recorded.due),
            content: Some(content.admitted.content),
        });
        plan
    }

    /// Something changes of what the app is planned from.
    async fn changes(&self) {
        let app = self.app;
        self.world
            .execute(&format!(
                "INSERT INTO due (topic, key) VALUES ('app', '{app}')
                 ON CONFLICT (topic, key) DO UPDATE SET change = excluded.change"
            ))
            .await;
    }

    async fn is_outdated(&self) -> bool {
        match self.world.commit(&self.plan).await {
            Err(StoreError::Conflict(_)) => true,
            ended => {
                ended.expect("committed");
                false
            }
        }
    }
}

#[tokio::test]
async fn a_plan_is_committed_while_nothing_has_changed() {
    let slow = Slow::new().await;
    assert!(!slow.is_outdated().await);
    assert_eq!(
        slow.world
            .count("SELECT count(*) FROM due WHERE topic = 'app'")
            .await,
        0
    );
}

#[tokio::test]
async fn a_plan_is_not_committed_over_a_change_of_anything_that_it_was_made_from() {
    let mut slow = Slow::new().await;
    slow.changes().await;
    assert!(slow.is_outdated().await);
    // As one that is tried for the last time it is.
    let unchanged = slow.plan.unchanged.as_mut().expect("looked at");
    unchanged.mark = None;
    assert!(!slow.is_outdated().await);
}

#[tokio::test]
async fn a_plan_is_not_committed_over_a_newer_commit_whatever_was_planned_meanwhile() {
    let mut slow = Slow::new().await;
    // A revert: what is deployed already.
    slow.world.render(slow.app, "r3", &[config("x", "a: 1")]).await;
    slow.plan.unchanged.as_mut().expect("looked at").mark = None;
    assert!(slow.is_outdated().await);
}

#[tokio::test]
async fn a_plan_is_not_committed_over_suspend() {
    let mut slow = Slow::new().await;
    let suspended = slow.world.store.set_suspended(slow.app, true, "anna").await;
    assert!(suspended.expect("suspended"));
    slow.plan.unchanged.as_mut().expect("looked at").mark = None;
    assert!(slow.is_outdated().await);
}

#[tokio::test]
async fn a_plan_is_not_committed_where_another_hub_has_found_nothing_to_change() {
    let slow = Slow::new().await;
    let change = slow.plan.recorded.due.expect("marked");
    // Which writes no plan.
    slow.world
        .store
        .planned(slow.app, change, "")
        .await
        .expect("decided");
    assert!(slow.is_outdated().await);
}

/// A hub that stood still for longer than its lease, while another one has planned the app, which changed once more.
#[tokio::test]
async fn a_mark_that_was_taken_away_and_written_anew_is_another_one() {
    let slow = Slow::new().await;
    let (store, app) = (&slow.world.store, slow.app);
    let change = slow.plan.recorded.due.expect("marked");
    store.planned(app, change, "").await.expect("decided");
    slow.changes().await;
    assert!(slow.is_outdated().await);
    store.planned(app, change, "").await.expect("decided");
    let marks = format!("SELECT count(*) FROM due WHERE key = '{app}'");
    assert_eq!(slow.world.count(&marks).await, 1);
}

#[tokio::test]
async fn a_look_at_a_source_records_nothing_once_that_was_suspended_or_its_spec_has_changed() {
    let slow = Slow::new().await;
    let world = &slow.world;
    let source = world.uid("OCIRepository", "source").await;
    let revisions = "SELECT count(*) FROM revision";
    assert_eq!(world.count(revisions).await, 2);
    let suspended = world.store.set_suspended(source, true, "anna").await;
    assert!(suspended.expect("suspended"));
    let recorded = world.try_revision("r3", Changes::Anything).await;
    assert!(matches!(recorded, Err(StoreError::Conflict(_))), "{recorded:?}");
    assert_eq!(world.count(revisions).await, 2);
}
