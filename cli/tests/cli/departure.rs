//! What follows if a cluster is drained, retired or deleted is shown before it is done.

use flotilla_proto::fleet::v1::{DepartClusterResponse, DepartingUnit};
use insta::assert_snapshot;
use serde_json::json;

use crate::hub::{Answers, Hub};

fn cluster(connected: bool) -> Answers {
    let unit = |app: &str, deletes| DepartingUnit {
        app: app.to_owned(),
        deletes,
        objects: 3,
    };
    Answers {
        departure: DepartClusterResponse {
            changed: true,
            connected,
            joined: true,
            units: vec![
                unit("Kustomization/apps/a", true),
                unit("Kustomization/apps/b", false),
            ],
        },
        ..Answers::default()
    }
}

#[tokio::test]
async fn what_a_drain_deletes_and_keeps_is_shown_and_done_with_yes() {
    let hub = Hub::start(cluster(true)).await;
    assert_snapshot!(hub.run(&["cluster", "drain", "c1"]).await, @"
    exit 1
    -- out
    what these have is deleted there: 3 objects of 1 app (Kustomization/apps/a)
    what these have stays there, and is not enforced any more: 3 objects of 1 app (Kustomization/apps/b)
    -- err
    ✗ nothing was done to cluster c1
      hint: run it again with --yes to do what is shown
    ");
    assert!(hub.seen()[0].contains("confirmed: false"), "{:?}", hub.seen());
    let hub = Hub::start(cluster(false)).await;
    assert_snapshot!(hub.run(&["cluster", "drain", "c1", "--yes"]).await, @"
    exit 0
    -- out
    what these have is deleted there: 3 objects of 1 app (Kustomization/apps/a)
    what these have stays there, and is not enforced any more: 3 objects of 1 app (Kustomization/apps/b)
    -- err
    ⚠️ the agent of cluster c1 is not connected: it is done once that is back, and `flotilla cluster delete c1` forgets a cluster that is lost
    ✔ cluster c1 is being drained; `flotilla cluster show` shows how far that is
    ");
    assert!(hub.seen()[0].contains("confirmed: true"), "{:?}", hub.seen());
}

#[tokio::test]
async fn a_cluster_is_deleted_by_either_command_and_an_agent_that_is_there_is_warned_of() {
    for command in [&["cluster", "delete", "c1"][..], &["delete", "cluster", "c1"]] {
        let hub = Hub::start(cluster(true)).await;
        let shown = hub.run(command).await;
        assert_eq!(shown.code, 1);
        assert!(shown.err.contains("goes on enforcing"), "{shown}");
        assert!(shown.err.contains("`flotilla cluster retire c1`"), "{shown}");
        let done = hub.run(&[command, &["--yes"]].concat()).await;
        assert_eq!((done.code, hub.seen().len()), (0, 2), "{done}");
        assert!(done.err.contains("cluster c1 deleted"), "{done}");
    }
}

#[tokio::test]
async fn a_cluster_that_was_to_go_stays_without_more_words() {
    let hub = Hub::start(cluster(true)).await;
    assert_snapshot!(hub.run(&["cluster", "resume", "c1"]).await, @"
    exit 0
    -- out
    -- err
    ✔ cluster c1 stays in the fleet
    ");
    let mut other = cluster(true);
    other.departure.changed = false;
    let hub = Hub::start(other).await;
    assert_snapshot!(hub.run(&["cluster", "resume", "c1"]).await, @"
    exit 0
    -- out
    -- err
    ✔ cluster c1 was not on its way out
    ");
}

#[tokio::test]
async fn what_follows_if_a_cluster_departs_is_json_or_yaml_and_done_with_yes_alone() {
    for (command, word) in [
        (&["cluster", "drain", "c1"][..], "drain"),
        (&["cluster", "retire", "c1"], "retire"),
        (&["cluster", "delete", "c1"], "delete"),
        (&["delete", "cluster", "c1"], "delete"),
    ] {
        for (yes, code) in [(&[] as &[&str], 1), (&["--yes"], 0)] {
            let hub = Hub::start(cluster(true)).await;
            let ran = hub.run(&[command, &["-o", "json"], yes].concat()).await;
            let read: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
            let units = json!([
                { "app": "Kustomization/apps/a", "deletes": true, "objects": 3 },
                { "app": "Kustomization/apps/b", "deletes": false, "objects": 3 },
            ]);
            let expected = json!({
                "cluster": "c1", "departure": word, "changed": code == 0, "connected": true, "joined": true,
                "units": units,
            });
            assert_eq!((ran.code, read), (code, expected), "{}", ran.err);
            let confirmed = format!("confirmed: {}", code == 0);
            assert!(hub.seen()[0].contains(&confirmed), "{:?}", hub.seen());
        }
    }
    let hub = Hub::start(cluster(false)).await;
    assert_snapshot!(hub.run(&["cluster", "drain", "c1", "-o", "yaml"]).await, @"
    exit 1
    -- out
    changed: false
    cluster: c1
    connected: false
    departure: drain
    joined: true
    units:
    - app: Kustomization/apps/a
      deletes: true
      objects: 3
    - app: Kustomization/apps/b
      deletes: false
      objects: 3
    -- err
    ⚠️ the agent of cluster c1 is not connected: it is done once that is back, and `flotilla cluster delete c1` forgets a cluster that is lost
    ✗ nothing was done to cluster c1
      hint: run it again with --yes to do what is shown
    ");
}
