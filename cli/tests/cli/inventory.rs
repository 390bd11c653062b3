//! What an app has in its clusters, as a table and as a tree.

use flotilla_proto::fleet::v1::{Resource, ResourceRef, UnitObject};
use insta::assert_snapshot;

use crate::fleet::unit;
use crate::hub::{Answers, Hub};

fn object(kind: &str, namespace: &str, name: &str, state: &str) -> UnitObject {
    UnitObject {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        api_version: "v1".to_owned(),
        state: state.to_owned(),
        health: "Current".to_owned(),
        ..UnitObject::default()
    }
}

fn answers(clusters: usize) -> Answers {
    let units = (0..clusters).map(|number| unit(&format!("c{number}"), "True"));
    Answers {
        units: units.collect(),
        objects: vec![
            object("Namespace", "", "web", "Applied"),
            object("ConfigMap", "web", "old", "PendingRemoval"),
        ],
        ..Answers::default()
    }
}

#[tokio::test]
async fn objects_of_an_app_are_listed_cluster_by_cluster() {
    let hub = Hub::start(answers(2)).await;
    assert_snapshot!(hub.run(&["inventory", "Kustomization/flux-system/apps"]).await, @"
    exit 0
    -- out
    CLUSTER	OBJECT           	STATE         	HEALTH 	MESSAGE
    c0     	Namespace/web    	Applied       	Current
    c0     	ConfigMap/web/old	PendingRemoval	Current
    c1     	Namespace/web    	Applied       	Current
    c1     	ConfigMap/web/old	PendingRemoval	Current
    -- err
    ");
    assert_snapshot!(hub.run(&["inventory", "ks/apps", "--cluster", "c1", "-o", "name"]).await, @"
    exit 0
    -- out
    Namespace/web
    ConfigMap/web/old
    -- err
    ");
    assert_snapshot!(hub.run(&["tree", "ks/apps"]).await, @"
    exit 0
    -- out
    Kustomization/flux-system/apps
    ├── c0 (main@sha1:696f056d, ready True)
    │   ├── Namespace/web
    │   └── ConfigMap/web/old (PendingRemoval)
    └── c1 (main@sha1:696f056d, ready True)
        ├── Namespace/web
        └── ConfigMap/web/old (PendingRemoval)
    -- err
    ");
}

#[tokio::test]
async fn what_the_hub_keeps_for_an_app_stands_in_its_tree_and_its_owner_in_the_wide_list() {
    let kept = |name: &str, owner: &str| Resource {
        r#ref: Some(ResourceRef {
            scope: "c0".to_owned(),
            kind: "Kustomization".to_owned(),
            namespace: "flux-system".to_owned(),
            name: name.to_owned(),
            ..ResourceRef::default()
        }),
        json: format!(
            r#"{{"metadata": {{"ownerReferences": [{{"kind": "Kustomization", "namespace": "flux-system", "name": "{owner}"}}]}}}}"#
        ),
        ..Resource::default()
    };
    let hub = Hub::start(Answers {
        resources: vec![kept("child", "apps"), kept("other", "elsewhere")],
        ..answers(1)
    })
    .await;
    assert_snapshot!(hub.run(&["tree", "ks/apps"]).await, @"
    exit 0
    -- out
    Kustomization/flux-system/apps
    └── c0 (main@sha1:696f056d, ready True)
        ├── Namespace/web
        ├── ConfigMap/web/old (PendingRemoval)
        └── Kustomization/flux-system/child (kept by the hub, ready Unknown)
    -- err
    ");
    let wide = hub
        .run(&["get", "ks", "--cluster", "c0", "-o", "wide"])
        .await
        .to_string();
    assert!(
        wide.contains("OWNER")
            && wide.contains("Kustomization/apps")
            && wide.contains("Kustomization/elsewhere"),
        "{wide}"
    );
}

#[tokio::test]
async fn of_an_app_that_is_everywhere_a_cluster_is_to_be_named() {
    let hub = Hub::start(answers(21)).await;
    assert_snapshot!(hub.run(&["inventory", "ks/apps"]).await, @"
    exit 2
    -- out
    -- err
    ✗ Kustomization/flux-system/apps is on 21 clusters: name one with --cluster
    ");
    let hub = Hub::start(answers(0)).await;
    assert_snapshot!(hub.run(&["tree", "ks/apps", "--cluster", "c1"]).await, @"
    exit 1
    -- out
    -- err
    ✗ Kustomization/flux-system/apps is not on cluster c1
      hint: `flotilla get units -A` shows which apps are where
    ");
}
