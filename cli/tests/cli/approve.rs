//! What guards stop is shown before it is allowed.

use flotilla_proto::fleet::v1::{AllowedRemoval, BlockedRemoval, BlockedUnit, UnitObject};
use insta::assert_snapshot;

use crate::fleet::resources;
use crate::hub::{Answers, Hub, NOW_MS};

fn unit(cluster: &str, version: u64) -> BlockedUnit {
    BlockedUnit {
        unit_id: format!("unit of {cluster}"),
        cluster: cluster.to_owned(),
        target: vec![1; 32].into(),
        version,
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> UnitObject {
    UnitObject {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..UnitObject::default()
    }
}

fn blocked(units: Vec<BlockedUnit>) -> Answers {
    Answers {
        resources: resources(),
        blocked: vec![BlockedRemoval {
            units,
            objects: vec![
                object("Namespace", "", "web"),
                object("ConfigMap", "web", "settings"),
            ],
            objects_total: 1200,
            message: "not deleted".to_owned(),
        }],
        ..Answers::default()
    }
}

#[tokio::test]
async fn what_would_go_is_shown_and_nothing_is_allowed_without_yes() {
    let hub = Hub::start(blocked(vec![unit("one", 1), unit("two", 1)])).await;
    assert_snapshot!(hub.run(&["approve", "Kustomization/flux-system/apps"]).await, @"
    exit 1
    -- out
    1200 objects would be deleted on 2 clusters: one, two
      why: not deleted
      Namespace/web
      ConfigMap/web/settings
      and 1198 more
    -- err
    ✗ nothing was allowed: Kustomization/flux-system/apps would lose what is shown, on 2 clusters
      hint: run it again with --yes --shown 874be62d2fe3 to allow just this; to keep the objects, put them back into Git
    ");
    assert_eq!(hub.seen().len(), 1, "{:?}", hub.seen());
}

#[tokio::test]
async fn what_was_shown_is_allowed_and_what_changed_meanwhile_is_not() {
    let hub = Hub::start(blocked(vec![unit("one", 1)])).await;
    assert_snapshot!(hub.run(&["approve", "ks/apps", "--yes", "--cluster", "one"]).await, @"
    exit 0
    -- out
    1200 objects would be deleted on 1 cluster: one
      why: not deleted
      Namespace/web
      ConfigMap/web/settings
      and 1198 more
    -- err
    ✔ allowed on 1 cluster
    ");
    assert!(hub.seen()[0].contains("cluster: \"one\""), "{:?}", hub.seen());
    let hub = Hub::start(blocked(vec![unit("one", 1), unit("two", 0)])).await;
    assert_snapshot!(hub.run(&["approve", "ks/apps", "--yes"]).await, @"
    exit 1
    -- out
    1200 objects would be deleted on 2 clusters: one, two
      why: not deleted
      Namespace/web
      ConfigMap/web/settings
      and 1198 more
    -- err
    ✔ allowed on 1 cluster
    ✗ 1 cluster changed meanwhile, and nothing was allowed there
      hint: run it again to see what would go now
    ");
}

#[tokio::test]
async fn what_is_not_what_was_shown_is_not_allowed() {
    let hub = Hub::start(blocked(vec![unit("one", 1)])).await;
    let shown = hub.run(&["approve", "ks/apps"]).await.err;
    let code = shown
        .split("--shown ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let code = code.expect("a code");
    assert_eq!(
        hub.run(&["approve", "ks/apps", "--yes", "--shown", code])
            .await
            .code,
        0
    );
    let other = Hub::start(blocked(vec![unit("one", 2)])).await;
    assert_snapshot!(other.run(&["approve", "ks/apps", "--yes", "--shown", code]).await, @"
    exit 1
    -- out
    1200 objects would be deleted on 1 cluster: one
      why: not deleted
      Namespace/web
      ConfigMap/web/settings
      and 1198 more
    -- err
    ✗ nothing was allowed: it is not what was shown any more
      hint: what would go now is above; allow it with --yes --shown 72fde235bb55
    ");
    assert_eq!(other.seen().len(), 1, "{:?}", other.seen());
}

#[tokio::test]
async fn what_would_go_is_shown_as_json_with_the_reason_of_the_guard() {
    let hub = Hub::start(blocked(vec![unit("one", 1)])).await;
    let shown = hub.run(&["approve", "ks/apps", "-o", "json"]).await;
    let read: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    let set = &read["items"][0];
    assert_eq!(
        (shown.code, &set["message"], &set["total"]),
        (1, &"not deleted".into(), &1200.into())
    );
    assert_eq!(
        (&set["units"][0]["cluster"], &set["objects"][1]["name"]),
        (&"one".into(), &"settings".into())
    );
    assert!(shown.err.contains("--shown "), "{shown}");
}

#[tokio::test]
async fn what_is_allowed_already_is_listed_with_who_allowed_it_and_whether_its_agent_is_there() {
    let allowed = |cluster: &str, connected| AllowedRemoval {
        cluster: cluster.to_owned(),
        principal: "ann".to_owned(),
        at_ms: NOW_MS - 300_000,
        connected,
        objects_total: 40,
    };
    let both = vec![allowed("four", true), allowed("three", false)];
    let hub = Hub::start(Answers {
        allowed: both.clone(),
        ..blocked(vec![unit("one", 1), unit("two", 1)])
    })
    .await;
    assert_snapshot!(hub.run(&["approve", "ks/apps"]).await, @"
    exit 1
    -- out
    allowed already on 2 clusters, and still to be done by the agent:
      four: 40 objects, by ann 5m ago
      three: 40 objects, by ann 5m ago, not connected
    1200 objects would be deleted on 2 clusters: one, two
      why: not deleted
      Namespace/web
      ConfigMap/web/settings
      and 1198 more
    -- err
    ✗ nothing was allowed: Kustomization/flux-system/apps would lose what is shown, on 2 clusters
      hint: run it again with --yes --shown 874be62d2fe3 to allow just this; to keep the objects, put them back into Git
    ");
    let shown = hub.run(&["approve", "ks/apps", "-o", "json"]).await;
    let read: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    let away = serde_json::json!({
        "cluster": "three", "by": "ann", "atMs": NOW_MS - 300_000, "connected": false, "objects": 40,
    });
    assert_eq!(
        (&read["allowed"][1], &read["items"][0]["total"]),
        (&away, &1200.into())
    );
    let hub = Hub::start(Answers {
        resources: resources(),
        allowed: both,
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["approve", "ks/apps"]).await, @"
    exit 0
    -- out
    allowed already on 2 clusters, and still to be done by the agent:
      four: 40 objects, by ann 5m ago
      three: 40 objects, by ann 5m ago, not connected
    -- err
    ✔ no guard keeps anything else of Kustomization/flux-system/apps from being deleted
    ");
}

#[tokio::test]
async fn where_nothing_is_stopped_there_is_nothing_to_allow() {
    let hub = Hub::start(Answers {
        resources: resources(),
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["approve", "ks/apps", "--yes"]).await, @"
    exit 0
    -- out
    -- err
    ✔ no guard keeps anything of Kustomization/flux-system/apps from being deleted
    ");
    assert_snapshot!(hub.run(&["approve", "apps"]).await, @"
    exit 2
    -- out
    -- err
    error: invalid value 'apps' for '<APP>': it is not of the form KIND/NAME or KIND/NAMESPACE/NAME

    For more information, try '--help'.
    ");
}
