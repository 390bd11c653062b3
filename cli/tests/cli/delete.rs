//! What follows from a deletion is shown before it is done.

use flotilla_proto::fleet::v1::{DeleteResponse, DeletedKind, DeletedUnit};
use insta::assert_snapshot;
use serde_json::json;
use tonic::Code;

use crate::hub::{Answers, Hub};

fn unit(cluster: &str, deletes: bool, connected: bool) -> DeletedUnit {
    DeletedUnit {
        cluster: cluster.to_owned(),
        deletes,
        connected,
        objects: 3,
    }
}

fn app() -> Answers {
    Answers {
        deletion: DeleteResponse {
            policy: "MirrorPrune".to_owned(),
            units: vec![
                unit("one", true, true),
                unit("two", true, false),
                unit("three", false, true),
            ],
            kinds: vec![DeletedKind {
                kind: "ConfigMap".to_owned(),
                objects: 9,
            }],
            ..DeleteResponse::default()
        },
        ..Answers::default()
    }
}

#[tokio::test]
async fn what_follows_is_shown_and_nothing_is_deleted_without_yes() {
    let hub = Hub::start(app()).await;
    assert_snapshot!(hub.run(&["delete", "kustomization", "apps"]).await, @"
    exit 1
    -- out
    what it has is deleted (MirrorPrune): 6 objects on 2 clusters (one, two); 1 not connected, done once back
    what it has stays (MirrorPrune): 3 objects on 1 cluster (three)
      9 ConfigMap
    -- err
    ✗ nothing was deleted of Kustomization/flux-system/apps
      hint: run it again with --yes to do what is shown
    ");
    assert!(hub.seen()[0].contains("confirmed: false"), "{:?}", hub.seen());
    let hub = Hub::start(Answers {
        deletion: DeleteResponse {
            used_by: vec!["Placement/all".to_owned()],
            places: vec!["Kustomization/flux-system/apps".to_owned()],
            ..DeleteResponse::default()
        },
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["delete", "clustergroup", "edge"]).await, @"
    exit 1
    -- out
    used by Placement/all
    lets go of Kustomization/flux-system/apps where nothing else places it: what it has applied stays, and is not enforced any more
    -- err
    ✗ nothing was deleted of ClusterGroup/edge
      hint: run it again with --yes to do what is shown
    ");
}

#[tokio::test]
async fn what_is_confirmed_is_done_and_may_leave_what_was_applied() {
    let hub = Hub::start(app()).await;
    assert_snapshot!(hub.run(&["delete", "ks", "apps", "--yes", "--orphan"]).await, @"
    exit 0
    -- out
    what it has is deleted (MirrorPrune): 6 objects on 2 clusters (one, two); 1 not connected, done once back
    what it has stays (MirrorPrune): 3 objects on 1 cluster (three)
      9 ConfigMap
    -- err
    ✔ deletion of Kustomization/flux-system/apps has begun; `flotilla get` shows it until it has ended
    ");
    assert!(
        hub.seen()[0].contains("policy: \"Orphan\", confirmed: true"),
        "{:?}",
        hub.seen()
    );
}

#[tokio::test]
async fn what_follows_from_a_deletion_is_json_and_nothing_is_deleted_without_yes() {
    let command = ["delete", "ks", "apps", "-o", "json"];
    for (yes, code) in [(&[] as &[&str], 1), (&["--yes"], 0)] {
        let hub = Hub::start(app()).await;
        let ran = hub.run(&[&command[..], yes].concat()).await;
        let read: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        let unit = |cluster: &str, deletes: bool, connected: bool| {
            let mut unit = json!({ "cluster": cluster, "deletes": deletes, "objects": 3 });
            unit["connected"] = connected.into();
            unit
        };
        let expected = json!({
            "object": "Kustomization/flux-system/apps", "deleted": code == 0, "policy": "MirrorPrune",
            "usedBy": [], "places": [], "kinds": [{ "kind": "ConfigMap", "objects": 9 }],
            "units": [unit("one", true, true), unit("two", true, false), unit("three", false, true)],
        });
        assert_eq!((ran.code, read), (code, expected), "{}", ran.err);
        let confirmed = format!("confirmed: {}", code == 0);
        assert!(hub.seen()[0].contains(&confirmed), "{:?}", hub.seen());
    }
}

#[tokio::test]
async fn what_cannot_be_deleted_is_named() {
    let hub = Hub::start(Answers {
        failure: Some((
            Code::FailedPrecondition,
            "GitRepository/a/b is the source of Kustomization/a/c",
        )),
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["delete", "gitrepo", "b"]).await, @"
    exit 1
    -- out
    -- err
    ✗ GitRepository/a/b is the source of Kustomization/a/c
    ");
    let unknown = hub.run(&["delete", "pod", "b"]).await;
    assert_eq!(unknown.code, 2, "{unknown}");
    assert!(
        unknown.err.contains("pod is not a kind that the hub stores"),
        "{unknown}"
    );
}

#[tokio::test]
async fn what_is_to_be_deleted_is_named_in_any_of_three_forms() {
    for (words, namespace) in [
        (&["kustomization", "apps"][..], "flux-system"),
        (&["ks/apps"], "flux-system"),
        (&["Kustomization/team/apps"], "team"),
        (&["-n", "team", "ks/apps"], "team"),
    ] {
        let hub = Hub::start(app()).await;
        let command = [&["delete", "--yes"], words].concat();
        let ran = hub.run(&command).await;
        assert_eq!(ran.code, 0, "{ran}");
        let seen = &hub.seen()[0];
        let named = format!("namespace: \"{namespace}\", name: \"apps\"");
        assert!(
            seen.contains("kind: \"Kustomization\"") && seen.contains(&named),
            "{seen}"
        );
    }
    for wrong in [
        &["kustomization"][..],
        &["a/b/c/d"],
        &["ks//apps"],
        &["ks/"],
        &["socks", "apps"],
    ] {
        let hub = Hub::start(app()).await;
        let ran = hub.run(&[&["delete", "--yes"], wrong].concat()).await;
        assert_eq!((ran.code, hub.seen().len()), (2, 0), "{ran}");
    }
}
