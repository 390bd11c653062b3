//! Which clusters a look at an app reads: those that it may be placed on, those that have it, and no others.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::fleet::placement::Search;
use uuid::Uuid;

use crate::{store::config, world::World};

async fn found(world: &World, app: Uuid, search: &Search) -> Vec<String> {
    let rows = world.store.clusters_for(&[app], search).await.expect("read");
    rows.into_iter().map(|row| row.name).collect()
}

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    owned.collect()
}

#[tokio::test]
async fn clusters_are_read_by_name_by_label_where_the_app_is_and_where_none_can_tell() {
    let world = World::new().await;
    for name in ["prod-1", "prod-2", "test-1", "test-2", "has-it"] {
        world.cluster(name).await;
    }
    let label =
        "UPDATE resource SET labels = jsonb_build_object('env', split_part(name, '-', 1), 'tier', 'a')
                 WHERE kind = 'Cluster'";
    world.execute(label).await;
    let app = world.app("a").await;
    let cluster = world.store.cluster_by_name("has-it").await.expect("read");
    let rendered = world.render(app, "r1", &[config("x", "1")]).await;
    world
        .roll_out(app, &[cluster.expect("there").id], &rendered)
        .await;
    let mut search = Search::default();
    assert_eq!(found(&world, app, &search).await, ["has-it"]);
    search.names = BTreeSet::from(["test-2".into(), "unknown".into()]);
    assert_eq!(found(&world, app, &search).await, ["has-it", "test-2"]);
    search.labels = BTreeSet::from([
        labels(&[("env", "prod"), ("tier", "a")]),
        labels(&[("env", "test"), ("tier", "b")]),
    ]);
    let some = ["has-it", "prod-1", "prod-2", "test-2"];
    assert_eq!(found(&world, app, &search).await, some);
    // Of a cluster that cannot be read it is not known where it belongs.
    world
        .execute("UPDATE resource SET labels = '{\"env\": 1}' WHERE kind = 'Cluster' AND name = 'test-1'")
        .await;
    let unreadable = ["has-it", "prod-1", "prod-2", "test-1", "test-2"];
    assert_eq!(found(&world, app, &search).await, unreadable);
    // Without a label that all of them have, each may be chosen.
    let any = Search {
        labels: BTreeSet::from([BTreeMap::new()]),
        ..Search::default()
    };
    assert_eq!(found(&world, app, &any).await, unreadable);
}
