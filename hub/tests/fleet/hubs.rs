//! Several hubs on one database: of two that look at the same, the older answer never wins, and of two releases one
//! decides.

use flotilla_hub::store::{
    Store, StoreError,
    rendering::Changes,
    source::{NewRevision, SourceOutcome},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    store::{config, one_unit, units},
    world::{INCARNATION, World, resource},
};

async fn record(store: &Store, source: Uuid, version: i64, revision: &str) -> Result<(), StoreError> {
    store
        .record_source(&SourceOutcome {
            uid: source,
            version,
            spec: 1,
            generation: 1,
            handled: "",
            former: None,
            follows: None,
            revision: Some((
                NewRevision {
                    revision,
                    commit_id: revision,
                    subject: "",
                    config_digest: b"config",
                    artifact_digest: "sha256:0",
                    artifact_size: 1,
                    verified: "",
                },
                Changes::Anything,
            )),
            is_seen: true,
            restored: false,
            conditions: &[],
            next_seconds: 3600.0,
            failures: 0,
            event: None,
        })
        .await
}

#[tokio::test]
async fn of_two_hubs_that_fetch_the_slower_does_not_replace_the_newer_commit() {
    let world = World::new().await;
    world.apply(&[resource("GitRepository", "a", json!({}))]).await;
    let source = world.uid("GitRepository", "a").await;
    // Both read the state before either records; the slow one saw the older commit.
    for newer in ["r2", "r3"] {
        let state = world.store.source_state(source).await.expect("read");
        let version = state.map_or(0, |state| state.version);
        record(&world.store, source, version, newer)
            .await
            .expect("recorded");
        let late = record(&world.store, source, version, "r1").await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
        let current = world
            .store
            .current_revision(source)
            .await
            .expect("read")
            .expect("there");
        assert_eq!(current.revision, newer);
    }
    assert_eq!(world.count("SELECT count(*) FROM revision").await, 2);
}

#[tokio::test]
async fn a_commit_that_comes_back_keeps_its_row() {
    let world = World::new().await;
    world.apply(&[resource("GitRepository", "a", json!({}))]).await;
    let source = world.uid("GitRepository", "a").await;
    let mut ids = Vec::new();
    for (version, revision) in (0..).zip(["r1", "r2", "r1"]) {
        record(&world.store, source, version, revision)
            .await
            .expect("recorded");
        let current = world
            .store
            .current_revision(source)
            .await
            .expect("read")
            .expect("there");
        ids.push(current.id);
    }
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_plan_of_an_older_spec_does_not_replace_one_of_a_newer() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    let newer = world.gather(app, &[cluster], &content).await;
    world.commit_of(&newer, 2).await.expect("committed");
    // It read the spec before the newer one was applied, and the plan after that was committed.
    let older = world.gather(app, &[cluster], &content).await;
    let late = world.commit_of(&older, 1).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    world.commit_of(&older, 2).await.expect("committed");
}

#[tokio::test]
async fn beside_a_newer_hub_an_older_one_neither_plans_nor_publishes() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    let gathered = world.gather(app, &[cluster], &content).await;
    let newer = world.store.clone().with_writer(i64::MAX);
    newer.beat("newer", "").await.expect("it lives");
    for refused in [
        world.store.app_plan(app).await.map(drop),
        world.commit(&gathered).await,
        world.store.publish(&[cluster], INCARNATION).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
    }
    assert!(newer.app_plan(app).await.is_ok());
    // What it serves to agents it still reads.
    assert!(world.store.desired(cluster).await.is_ok());
    // A newer hub that ended, in order or not, leaves the older one to decide.
    newer.leave("newer").await.expect("it ends");
    world.commit(&gathered).await.expect("committed");
    newer.beat("newer", "").await.expect("it lives");
    world
        .execute("UPDATE replica SET heartbeat = now() - interval '2 minutes'")
        .await;
    assert!(world.publish(cluster).await.is_some());
}

#[tokio::test]
async fn clusters_of_a_hub_that_crashed_are_not_shown_as_connected() {
    let world = World::new().await;
    let app = world.app("a").await;
    one_unit(&world, "c1", app).await;
    world
        .execute(
            "INSERT INTO session (cluster_id, epoch, replica, connected, last_seen)
             SELECT id, 1, 'one', true, now() FROM cluster",
        )
        .await;
    let connected = async || {
        let clusters = world.store.list_clusters("c1", "", 1).await.expect("listed");
        (clusters[0].connected, units(&world, "c1").await[0].connected)
    };
    assert_eq!(connected().await, (false, false), "nobody has heard of the hub");
    world.store.beat("one", "").await.expect("it lives");
    assert_eq!(connected().await, (true, true));
    world
        .execute("UPDATE replica SET heartbeat = now() - interval '2 minutes'")
        .await;
    assert_eq!(connected().await, (false, false));
}
