//! Who is connected, and what is told of those who come and go.

use std::time::Duration;

use crate::{
    reports::open,
    world::{INCARNATION, World},
};

async fn told(world: &World) -> Vec<String> {
    sqlx::query_scalar("SELECT reason FROM event WHERE cluster_id IS NOT NULL ORDER BY id")
        .fetch_all(&world.pool)
        .await
        .expect("read")
}

/// How many clusters the pass finds gone.
async fn gone(world: &World) -> usize {
    world.stale(INCARNATION, Duration::ZERO).await.gone.len()
}

const SILENCE: &str = "UPDATE session SET last_seen = now() - interval '91 seconds'";

#[tokio::test]
async fn a_cluster_that_comes_goes_and_returns_is_told_of_once_each() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let first = open(&world, cluster).await;
    assert_eq!(told(&world).await, ["ClusterConnected"]);
    // A stream that is opened anew is no news, and one that has just ended none yet.
    world
        .store
        .close_sessions(&[(cluster, first)])
        .await
        .expect("closed");
    assert_eq!(gone(&world).await, 0);
    let second = open(&world, cluster).await;
    world
        .store
        .close_sessions(&[(cluster, second)])
        .await
        .expect("closed");
    world.execute(SILENCE).await;
    assert_eq!(gone(&world).await, 1);
    assert_eq!(gone(&world).await, 0, "once");
    open(&world, cluster).await;
    assert_eq!(
        told(&world).await,
        ["ClusterConnected", "ClusterDisconnected", "ClusterConnected"]
    );
    let audited = "SELECT count(*) FROM audit WHERE verb IN ('connect', 'disconnect')";
    assert_eq!(world.count(audited).await, 3);
}

#[tokio::test]
async fn clusters_of_a_hub_that_crashed_are_not_connected_and_told_of() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    world.store.beat("replica", "").await.expect("alive");
    open(&world, cluster).await;
    world.execute(SILENCE).await;
    let connected = async || world.store.list_clusters("c1", "", 1).await.expect("read")[0].connected;
    // Its stream says nothing, but the hub that holds it lives.
    assert!(connected().await);
    assert_eq!(gone(&world).await, 0);
    world
        .execute("UPDATE replica SET heartbeat = now() - interval '91 seconds'")
        .await;
    assert!(!connected().await);
    assert_eq!(gone(&world).await, 1);
    assert_eq!(told(&world).await, ["ClusterConnected", "ClusterDisconnected"]);
}

#[tokio::test]
async fn events_are_trimmed_by_age() {
    let world = World::new().await;
    world
        .execute("INSERT INTO event (at, reason, message) VALUES (now() - interval '8 days', 'Old', ''), (now(), 'New', '')")
        .await;
    assert_eq!(
        world
            .store
            .event_trim(time::OffsetDateTime::now_utc())
            .await
            .expect("trimmed"),
        1
    );
    assert_eq!(
        world
            .count("SELECT count(*) FROM event WHERE reason = 'New'")
            .await,
        1
    );
}
