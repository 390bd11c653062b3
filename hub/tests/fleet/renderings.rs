//! What the store promises of renderings: attempts are counted before they begin, wait for their time, and wake nobody.

use std::{collections::BTreeSet, time::Duration};

use flotilla_core::digest::Digest;
use flotilla_hub::store::rendering::{Changes, MAX_LOST, Outcome, RenderingRow};
use uuid::Uuid;

use crate::{
    store::config,
    world::{World, ended},
};

const LEASE: Duration = Duration::from_secs(600);

struct Rendering {
    world: World,
    app: Uuid,
    digest: Digest,
}

impl Rendering {
    /// A rendering that was never attempted.
    async fn new() -> Self {
        let world = World::new().await;
        let app = world.app("a").await;
        let revision = world.revision("r1").await;
        let input = world.input(app, revision).await;
        world.store.take_input(&input).await.expect("taken");
        let digest = input.rendering;
        Self { world, app, digest }
    }

    async fn begin(&self, replica: &str) -> Option<i32> {
        let begun = self
            .world
            .store
            .begin_rendering(&self.digest, replica, LEASE)
            .await;
        begun.expect("answered")
    }

    async fn row(&self) -> RenderingRow {
        let row = self.world.store.rendering(&self.digest).await;
        row.expect("read").expect("there")
    }
}

#[tokio::test]
async fn a_rendering_that_its_replica_is_still_at_is_kept_and_another_takes_over_once_nothing_is_heard() {
    let rendering = Rendering::new().await;
    let store = &rendering.world.store;
    for replica in ["one", "two"] {
        store.beat(replica, "").await.expect("it lives");
    }
    let ended = "UPDATE rendering SET not_before = now() WHERE state = 'Pending'";
    assert_eq!(rendering.begin("one").await, Some(1));
    rendering.world.execute(ended).await;
    store
        .keep_rendering(&rendering.digest, "one", 1, LEASE)
        .await
        .expect("kept");
    assert_eq!(rendering.begin("two").await, None);
    rendering.world.execute(ended).await;
    assert_eq!(rendering.begin("two").await, Some(2));
    // The first wakes up: it is another's now.
    rendering.world.execute(ended).await;
    store
        .keep_rendering(&rendering.digest, "one", 1, LEASE)
        .await
        .expect("answered");
    assert_eq!(rendering.row().await.wait(), None);
}

#[tokio::test]
async fn a_rendering_belongs_to_one_replica_until_it_ends_or_its_lease_does() {
    let rendering = Rendering::new().await;
    for replica in ["one", "two"] {
        rendering.world.store.beat(replica, "").await.expect("it lives");
    }
    assert_eq!(rendering.begin("one").await, Some(1));
    assert_eq!(rendering.begin("two").await, None);
    assert!(rendering.row().await.wait().is_some_and(|wait| wait > LEASE / 2));
    // Its own attempt that ended in an error of the store it may begin again.
    assert_eq!(rendering.begin("one").await, Some(2));
    rendering
        .world
        .execute("UPDATE rendering SET not_before = now() WHERE state = 'Pending'")
        .await;
    assert_eq!(rendering.begin("two").await, Some(3));
    rendering
        .world
        .store
        .give_back_all("two")
        .await
        .expect("given back");
    assert_eq!(rendering.row().await.wait(), None);
    assert_eq!(
        (rendering.begin("one").await, rendering.row().await.lost),
        (Some(4), 1)
    );
}

#[tokio::test]
async fn a_rendering_that_is_given_back_has_cost_no_attempt_and_is_due() {
    let rendering = Rendering::new().await;
    assert_eq!(rendering.begin("one").await, Some(1));
    let store = &rendering.world.store;
    // Nobody gives back what is another's.
    store
        .give_back_rendering(&rendering.digest, "two")
        .await
        .expect("answered");
    assert_eq!(rendering.row().await.attempts, 1);
    store
        .give_back_rendering(&rendering.digest, "one")
        .await
        .expect("given back");
    let row = rendering.row().await;
    assert_eq!((row.attempts, row.lost, row.wait()), (0, 0, None));
    assert_eq!(rendering.begin("two").await, Some(1));
    assert_eq!(rendering.row().await.lost, 0);
}

#[tokio::test]
async fn a_rendering_that_could_not_be_done_waits_and_wakes_nobody() {
    let rendering = Rendering::new().await;
    rendering.begin("one").await.expect("due");
    let outbox = rendering.world.count("SELECT count(*) FROM outbox").await;
    let again = Outcome::Again {
        reason: "BuildFailed".into(),
        message: "disk full".into(),
        after: Duration::from_secs(300),
    };
    let again = [ended(rendering.app, rendering.digest, again)];
    let recorded = rendering
        .world
        .store
        .record_rendered(&again, &rendering.world.seal);
    recorded.await.expect("recorded");
    assert_eq!(rendering.world.count("SELECT count(*) FROM outbox").await, outbox);
    assert_eq!(rendering.begin("one").await, None, "not before its time");
    let row = rendering.row().await;
    assert_eq!(
        (row.state.as_str(), row.message.as_str(), row.attempts),
        ("Pending", "disk full", 1)
    );
    assert!(row.wait().is_some_and(|wait| wait > Duration::from_secs(200)));
}

/// Its plan may fail, or its hub end before that: somebody has to look again.
#[tokio::test]
async fn an_app_that_had_no_mark_when_its_rendering_ended_has_one_and_another_keeps_its_own() {
    let rendering = Rendering::new().await;
    let world = &rendering.world;
    let marks = format!("FROM due WHERE topic = 'app' AND key = '{}'", rendering.app);
    world.execute(&format!("DELETE {marks}")).await;
    for change in [1, 7] {
        rendering.begin("one").await.expect("due");
        let failed = Outcome::Failed {
            reason: "BuildFailed".into(),
            message: "no such file".into(),
        };
        let failed = [ended(rendering.app, rendering.digest, failed)];
        let recorded = world.store.record_rendered(&failed, &world.seal);
        recorded.await.expect("recorded");
        assert_eq!(world.count(&format!("SELECT count(*) {marks}")).await, 1);
        let changes = format!("SELECT change {marks}");
        if change == 7 {
            assert_eq!(
                world.count(&changes).await,
                7,
                "it is at it and needs no other mark"
            );
        }
        world
            .execute(&format!(
                "UPDATE due SET change = 7 WHERE key = '{}'",
                rendering.app
            ))
            .await;
        world
            .execute("UPDATE rendering SET state = 'Pending', not_before = now(), attempts = 0")
            .await;
    }
}

#[tokio::test]
async fn a_rendering_that_ends_the_hub_three_times_has_failed() {
    let rendering = Rendering::new().await;
    for lost in 1..=MAX_LOST {
        rendering.begin("one").await.expect("due");
        // Another replica's start counts nothing of this one.
        assert_eq!(
            rendering
                .world
                .store
                .count_lost_renderings("two")
                .await
                .expect("counted"),
            0
        );
        assert_eq!(
            rendering
                .world
                .store
                .count_lost_renderings("one")
                .await
                .expect("counted"),
            1
        );
        assert_eq!(rendering.row().await.lost, lost);
    }
    let row = rendering.row().await;
    assert_eq!(
        (row.state.as_str(), row.reason.as_str()),
        ("Failed", "BuildFailed")
    );
    assert!(row.message.contains("3 times"), "{}", row.message);
    assert_eq!(rendering.begin("one").await, None);
    assert_eq!(
        rendering
            .world
            .store
            .count_lost_renderings("one")
            .await
            .expect("counted"),
        0
    );
}

#[tokio::test]
async fn a_replica_that_stood_still_and_goes_on_is_not_counted_as_lost() {
    let rendering = Rendering::new().await;
    let store = &rendering.world.store;
    let goes_on = async |replica: &str, attempt: i32| {
        let kept = store.keep_rendering(&rendering.digest, replica, attempt, LEASE);
        kept.await.expect("answered")
    };
    for (attempt, replica) in (1..).zip(["one", "two", "three"]) {
        assert_eq!(rendering.begin(replica).await, Some(attempt));
        assert!(goes_on(replica, attempt).await);
    }
    assert_eq!(rendering.row().await.lost, 2);
    assert!(!goes_on("one", 1).await, "it is another's");
    assert_eq!(rendering.row().await.lost, 1);
    assert!(goes_on("three", 3).await, "and stays that one's");
    // Also where it was one too many.
    assert_eq!(rendering.begin("four").await, Some(4));
    assert_eq!(rendering.begin("five").await, None);
    assert_eq!(rendering.row().await.state, "Failed");
    assert!(!goes_on("two", 2).await);
    let row = rendering.row().await;
    assert_eq!(
        (row.state.as_str(), row.message.as_str(), row.lost),
        ("Pending", "", 2)
    );
    assert_eq!(rendering.begin("five").await, Some(6));
}

#[tokio::test]
async fn a_rendering_that_was_given_back_is_not_counted_as_lost() {
    let rendering = Rendering::new().await;
    let store = &rendering.world.store;
    for attempt in 1..=2 * MAX_LOST {
        let replica = format!("replica-{attempt}");
        assert_eq!(rendering.begin(&replica).await, Some(attempt));
        let late = store.release_rendering(&rendering.digest, &replica, attempt - 1);
        late.await.expect("answered");
        let given_back = store.release_rendering(&rendering.digest, &replica, attempt);
        given_back.await.expect("given back");
    }
    assert_eq!(rendering.row().await.lost, 0);
}

#[tokio::test]
async fn a_rendering_of_a_replica_that_is_gone_is_taken_over_and_counted_as_lost() {
    let rendering = Rendering::new().await;
    // Each has a name of its own, as where the data directory goes with its hub. None has been heard of since.
    for (attempt, replica) in (1..).zip(["one", "two", "three"]) {
        assert_eq!(rendering.begin(replica).await, Some(attempt));
        assert_eq!(rendering.row().await.lost, attempt - 1);
    }
    assert_eq!(rendering.begin("four").await, None);
    let row = rendering.row().await;
    assert_eq!((row.state.as_str(), row.lost), ("Failed", MAX_LOST));
    assert!(row.message.contains("3 times"), "{}", row.message);
}

/// Each path that was looked at is looked up: each with each would be hundreds of millions for one app, and a commit of
/// thousands of files would never be recorded.
#[tokio::test]
async fn a_commit_of_thousands_of_files_is_compared_with_hundreds_of_apps_in_moments() {
    let world = World::new().await;
    let app = world.app("a").await;
    let revision = world.revision("r1").await;
    let looked_at = |n: usize| BTreeSet::from([format!("kept/{n}.yaml")]);
    world
        .render_from(app, revision, &[config("x", "a: 1")], Some(looked_at(0)))
        .await;
    // Of 400 more inputs 10,000 paths each, of which none changes; of the last one also one that does.
    world
        .execute(
            "INSERT INTO rendering (digest, state, content, paths)
               SELECT decode(md5(n::text), 'hex'), 'Done', r.content,
                      ARRAY(SELECT hashtextextended(n || '/' || p, 0) FROM generate_series(1, 10000) p)
                        || CASE WHEN n = 400 THEN r.paths END
               FROM rendering r, generate_series(1, 400) n;
             INSERT INTO input_at (input_key, revision_id, source_uid, fields, rendering, newest)
               SELECT decode(md5(n::text), 'hex'), t.revision_id, t.source_uid, sha256(n::text::bytea),
                      decode(md5(n::text), 'hex'), true
               FROM input_at t, generate_series(1, 400) n;",
        )
        .await;
    let changed = (0..20_000).flat_map(looked_at).collect();
    // Within what the server lets a statement take.
    world.revision_with("r2", Changes::Paths(changed)).await;
    assert_eq!(
        world
            .count("SELECT count(*) FROM input_at WHERE until_id IS NOT NULL")
            .await,
        2,
        "the app's, and the last one's"
    );
    // Of more than are compared anything may be concerned.
    let changed = (0..60_000).flat_map(looked_at).collect();
    world.revision_with("r3", Changes::Paths(changed)).await;
    let newest = "SELECT count(*) FROM input_at t JOIN revision r ON r.id = t.revision_id WHERE t.newest AND r.revision = 'r3'";
    assert_eq!(world.count(newest).await, 1);
    assert_eq!(world.count("SELECT count(*) FROM input_at WHERE newest").await, 1);
}

#[tokio::test]
async fn an_app_of_30_000_files_is_rendered_by_the_commits_that_touch_them_and_by_no_other() {
    let world = World::new().await;
    let app = world.app("a").await;
    let first = world.revision("r1").await;
    let mut looked_at: BTreeSet<String> = (0..30_000).map(|n| format!("apps/big/{n}.yaml")).collect();
    looked_at.insert("base/kustomization.yaml".to_owned());
    world
        .render_from(app, first, &[config("x", "a: 1")], Some(looked_at))
        .await;
    let kept = "SELECT cardinality(paths) FROM rendering";
    let kept: i32 = sqlx::query_scalar(kept)
        .fetch_one(&world.pool)
        .await
        .expect("a row");
    assert_eq!(kept, 2, "a directory stands for its files");
    let rendering = async |revision: i64| {
        let input = world.input(app, revision).await;
        let row = world.store.input(&input).await.expect("read").expect("known");
        row.rendering == world.input(app, first).await.rendering
    };
    for (path, same) in [
        ("README.md", true),
        ("apps/other/1.yaml", true),
        ("base/other.yaml", true),
        ("apps/big/29999.yaml", false),
    ] {
        let changes = Changes::Paths(BTreeSet::from([path.to_owned()]));
        let revision = world.revision_with(path, changes).await;
        assert_eq!(rendering(revision).await, same, "{path}");
    }
}
