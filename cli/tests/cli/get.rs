//! Lists: Flux's columns, and the same facts as JSON, YAML and names.

use flotilla_proto::fleet::v1::{FleetEvent, Resource};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fleet::{cluster, reference, resource, resources, unit};
use crate::hub::{Answers, Hub, NOW_MS};

async fn hub() -> Hub {
    let mut stale = unit("c3", "Unknown");
    stale.stale = true;
    stale.observed_at_ms = NOW_MS - 300_000;
    stale.applied_revision = "main@sha1:1111111111111111111111111111111111111111".to_owned();
    stale.message = String::new();
    let mut waiting = unit("c2", "False");
    waiting.waiting = vec!["dependency infra/redis not ready".to_owned(), "second".to_owned()];
    waiting.message = "dependency infra/redis not ready; second".to_owned();
    let mut offline = cluster("c3", false);
    offline.message = "not connected".to_owned();
    Hub::start(Answers {
        resources: resources(),
        clusters: vec![cluster("c1", true), offline],
        units: vec![unit("c1", "True"), waiting, stale],
        events: vec![
            FleetEvent {
                id: 1,
                at_ms: NOW_MS - 60_000,
                reason: "NewArtifact".to_owned(),
                message: "stored artifact for commit 'more replicas'".to_owned(),
                resource: Some(reference("GitRepository", "flux-system", "fleet")),
                ..Default::default()
            },
            FleetEvent {
                id: 2,
                at_ms: NOW_MS - 5_000,
                warning: true,
                reason: "DriftCorrected".to_owned(),
                message: "spec.replicas was changed by kubectl-edit".to_owned(),
                resource: Some(reference("Kustomization", "flux-system", "apps")),
                cluster: "c1".to_owned(),
                object: "Deployment/web/web".to_owned(),
                ..Default::default()
            },
        ],
        ..Answers::default()
    })
    .await
}

#[tokio::test]
async fn tables_have_fluxs_columns() {
    let hub = hub().await;
    assert_snapshot!(hub.run(&["get", "sources", "git"]).await, @"
    exit 0
    -- out
    NAME 	REVISION          	SUSPENDED	READY	MESSAGE
    fleet	main@sha1:696f056d	False    	True 	stored artifact for revision 'main@sha1:696f056d'
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "kustomizations"]).await, @"
    exit 0
    -- out
    NAME  	REVISION          	SUSPENDED	READY	MESSAGE
    apps  	main@sha1:696f056d	False    	False	2/3 applied; c3: Deployment/web: image not found
    paused	main@sha1:696f056d	True     	True 	Applied revision: main@sha1:696f056d
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "ks", "-A", "-o", "wide"]).await, @"
    exit 0
    -- out
    NAMESPACE  	NAME  	REVISION                                          	SUSPENDED	READY  	MESSAGE                                         	AGE
    flux-system	apps  	main@sha1:696f056df216eea4f9401adbee0ff744d4df390f	False    	False  	2/3 applied; c3: Deployment/web: image not found	3d
    flux-system	paused	main@sha1:696f056df216eea4f9401adbee0ff744d4df390f	True     	True   	Applied revision: main@sha1:696f056d            	3d
    team-a     	fresh 	                                                  	False    	Unknown	waiting to be reconciled                        	3d
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "ks", "-n", "team-a", "--no-header"]).await, @"
    exit 0
    -- out
    fresh		False	Unknown	waiting to be reconciled
    -- err
    ");
}

#[tokio::test]
async fn clusters_and_units_say_how_old_their_facts_are() {
    let hub = hub().await;
    assert_snapshot!(hub.run(&["get", "clusters"]).await, @"
    exit 0
    -- out
    NAME	STATE 	CONNECTED	UNITS	LAST SEEN	MESSAGE
    c1  	Active	True     	2/2  	2s
    c3  	Active	False    	1/2  	5m       	not connected
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "clusters", "-o", "wide"]).await, @"
    exit 0
    -- out
    NAME	STATE 	CONNECTED	UNITS	LAST SEEN	MESSAGE      	KUBERNETES	AGENT 	GENERATION	LABELS
    c1  	Active	True     	2/2  	2s       	             	v1.33.1   	v0.1.0	7/7       	env=prod,region=eu
    c3  	Active	False    	1/2  	5m       	not connected	v1.33.1   	v0.1.0	5/7       	env=prod,region=eu
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "units"]).await, @"
    exit 0
    -- out
    NAMESPACE  	APP               	CLUSTER	REVISION          	READY  	MESSAGE
    flux-system	kustomization/apps	c1     	main@sha1:696f056d	True   	Applied revision: main@sha1:696f056d
    flux-system	kustomization/apps	c2     	main@sha1:696f056d	False  	dependency infra/redis not ready; second
    flux-system	kustomization/apps	c3     	main@sha1:11111111	Unknown	stale, reported 5m ago
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "units", "apps", "--cluster", "c3", "-o", "wide"]).await, @"
    exit 0
    -- out
    NAMESPACE  	APP               	CLUSTER	REVISION          	READY  	MESSAGE               	STATE 	TARGET            	OBJECTS	HEALTH 	CAUSE 	OBSERVED
    flux-system	kustomization/apps	c3     	main@sha1:11111111	Unknown	stale, reported 5m ago	Active	main@sha1:696f056d	12/12  	Healthy	commit	5m
    -- err
    ");
}

/// A configured object with this spec.
fn configured(kind: &str, namespace: &str, name: &str, spec: Value) -> Resource {
    let object = json!({ "kind": kind, "metadata": { "name": name }, "spec": spec });
    Resource {
        json: object.to_string(),
        revision: String::new(),
        ..resource(kind, namespace, name, "True", "stored")
    }
}

#[tokio::test]
async fn placements_and_groups_say_which_apps_and_clusters_they_mean_and_config_maps_and_secrets_their_keys()
{
    let many: Vec<String> = (1..=7).map(|n| format!("c{n}")).collect();
    let hub = Hub::start(Answers {
        resources: vec![
            configured(
                "Placement",
                "",
                "everywhere",
                json!({
                    "apps": [{ "kind": "Kustomization", "name": "apps" },
                             { "kind": "HelmRelease", "name": "web", "namespace": "team" }],
                    "clusters": { "selector": {}, "exclude": ["c9"] },
                }),
            ),
            configured(
                "Placement",
                "",
                "some",
                json!({
                    "apps": [{ "kind": "Kustomization", "name": "apps" }],
                    "clusters": {
                        "selector": { "matchLabels": { "env": "prod" },
                                      "matchExpressions": [{ "key": "tier", "operator": "Exists" }] },
                        "groups": ["edge"], "names": many,
                    },
                }),
            ),
            configured("ClusterGroup", "", "edge", json!({ "names": ["c1", "c2"] })),
            configured(
                "ConfigMap",
                "flux-system",
                "settings",
                json!({ "keys": ["a", "b"] }),
            ),
            configured(
                "Secret",
                "flux-system",
                "git",
                json!({ "keys": ["password", "username"] }),
            ),
            configured("Secret", "team", "other", json!({ "keys": [] })),
        ],
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["get", "placements"]).await, @"
    exit 0
    -- out
    NAME      	APPS                                    	CLUSTERS                                                 	READY	MESSAGE
    everywhere	kustomization/apps, helmrelease/team/web	all; not c9                                              	True 	stored
    some      	kustomization/apps                      	env=prod,tier; groups edge; c1, c2, c3, c4, c5 and 2 more	True 	stored
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "clustergroup", "edge"]).await, @"
    exit 0
    -- out
    NAME	CLUSTERS	READY	MESSAGE
    edge	c1, c2  	True 	stored
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "cm", "-o", "wide"]).await, @"
    exit 0
    -- out
    NAME    	KEYS	AGE
    settings	a, b	3d
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "secrets", "-A"]).await, @"
    exit 0
    -- out
    NAMESPACE  	NAME 	KEYS
    flux-system	git  	password, username
    team       	other
    -- err
    ");
    let json = hub.run(&["get", "secret", "git", "-o", "json"]).await;
    let read: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        read["spec"],
        json!({ "keys": ["password", "username"] }),
        "{json}"
    );
    let json = hub.run(&["get", "placements", "-o", "json"]).await;
    let read: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(read["items"][1]["spec"]["clusters"]["names"][6], "c7", "{json}");
    assert_snapshot!(hub.run(&["get", "placement", "none"]).await, @r#"
    exit 1
    -- out
    -- err
    ✗ Placement "none" not found
    "#);
}

#[tokio::test]
async fn a_status_selector_keeps_what_holds() {
    let hub = hub().await;
    assert_snapshot!(hub.run(&["get", "ks", "--status-selector", "ready=false", "-o", "name"]).await, @"
    exit 0
    -- out
    kustomization/apps
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "units", "--status-selector", "Ready=True", "-o", "name"]).await, @"
    exit 0
    -- out
    kustomization/apps/c1
    -- err
    ");
}

#[tokio::test]
async fn objects_come_as_json_and_yaml() {
    let hub = hub().await;
    assert_snapshot!(hub.run(&["get", "sources", "git", "fleet", "-o", "yaml"]).await, @"
    exit 0
    -- out
    apiVersion: v1
    kind: GitRepository
    metadata:
      name: fleet
      namespace: flux-system
    -- err
    ");
    assert_snapshot!(hub.run(&["get", "ks", "-o", "json"]).await, @r#"
    exit 0
    -- out
    {
      "apiVersion": "v1",
      "items": [
        {
          "apiVersion": "v1",
          "kind": "Kustomization",
          "metadata": {
            "name": "apps",
            "namespace": "flux-system"
          }
        },
        {
          "apiVersion": "v1",
          "kind": "Kustomization",
          "metadata": {
            "name": "paused",
            "namespace": "flux-system"
          }
        }
      ],
      "kind": "List"
    }
    -- err
    "#);
    assert_snapshot!(hub.run(&["get", "clusters", "c1", "-o", "yaml"]).await, @r#"
    exit 0
    -- out
    apiVersion: fleet.flotilla.dev/v1alpha1
    kind: Cluster
    metadata:
      labels:
        env: prod
        region: eu
      name: c1
      uid: id-of-c1
    spec:
      variables:
        replicas: "3"
    status:
      acceptedGeneration: 7
      agentVersion: v0.1.0
      connected: true
      desiredGeneration: 7
      kubernetesVersion: v1.33.1
      lastSeenMs: 1799999998000
      message: ""
      state: Active
      units: 2
      unitsReady: 2
    -- err
    "#);
    let units = hub.run(&["get", "units", "--cluster", "c1", "-o", "json"]).await;
    let units: serde_json::Value = serde_json::from_str(&units.out).expect("it is JSON");
    assert_eq!(units["items"][0]["cluster"], "c1");
}

#[tokio::test]
async fn nothing_found_is_a_failure_that_says_where_it_looked() {
    let hub = hub().await;
    assert_snapshot!(hub.run(&["get", "ks", "-n", "nowhere"]).await, @r#"
    exit 1
    -- out
    -- err
    ✗ no Kustomization objects found in "nowhere" namespace
      hint: look everywhere with --all-namespaces
    "#);
    assert_snapshot!(hub.run(&["get", "sources", "git", "none"]).await, @r#"
    exit 1
    -- out
    -- err
    ✗ GitRepository "none" not found in "flux-system" namespace
      hint: look everywhere with --all-namespaces
    "#);
    assert_snapshot!(hub.run(&["get", "clusters", "none"]).await, @r#"
    exit 1
    -- out
    -- err
    ✗ cluster "none" not found
    "#);
}

#[tokio::test]
async fn watching_shows_changed_lines_only() {
    let before = vec![
        resource("Kustomization", "flux-system", "a", "True", "Applied"),
        resource(
            "Kustomization",
            "flux-system",
            "b",
            "Unknown",
            "Reconciliation in progress",
        ),
    ];
    let mut after = before.clone();
    after[1] = resource("Kustomization", "flux-system", "b", "True", "Applied");
    // The list is fetched in two pages, so the change is put in behind the second.
    let hub = Hub::start(Answers {
        resources: before.clone(),
        next: vec![before, after],
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["get", "ks", "--watch"]).await, @"
    exit 3
    -- out
    NAME	REVISION          	SUSPENDED	READY  	MESSAGE
    a   	main@sha1:696f056d	False    	True   	Applied
    b   	main@sha1:696f056d	False    	Unknown	Reconciliation in progress
    b   	main@sha1:696f056d	False    	True 	Applied
    -- err
    ✗ the hub ended the watch
    ");
}

#[tokio::test]
async fn watching_takes_no_form_but_a_table() {
    let ran = hub().await.run(&["get", "ks", "-w", "-o", "json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (2, "✗ --watch shows tables only\n"));
}

#[tokio::test]
async fn events_are_told_oldest_first() {
    let hub = hub().await;
    assert_snapshot!(hub.run(&["events"]).await, @"
    exit 0
    -- out
    LAST SEEN	TYPE   	REASON        	OBJECT                         	MESSAGE
    60s      	Normal 	NewArtifact   	GitRepository/flux-system/fleet	stored artifact for commit 'more replicas'
    5s       	Warning	DriftCorrected	Deployment/web/web on c1       	spec.replicas was changed by kubectl-edit
    -- err
    ");
    assert_snapshot!(hub.run(&["events", "--types", "Warning", "--no-header"]).await, @"
    exit 0
    -- out
    5s	Warning	DriftCorrected	Deployment/web/web on c1	spec.replicas was changed by kubectl-edit
    -- err
    ");
    assert_snapshot!(hub.run(&["events", "--types", "Normal", "-o", "yaml"]).await, @r#"
    exit 0
    -- out
    apiVersion: v1
    items:
    - atMs: 1799999940000
      cluster: ""
      id: 1
      message: stored artifact for commit 'more replicas'
      object: ""
      reason: NewArtifact
      resource:
        kind: GitRepository
        name: fleet
        namespace: flux-system
      revision: ""
      type: Normal
    kind: List
    -- err
    "#);
    assert_snapshot!(hub.run(&["events", "--for", "apps"]).await, @"
    exit 2
    -- out
    -- err
    ✗ --for takes KIND/NAME, such as Kustomization/apps
    ");
    hub.run(&["events", "--for", "ks/apps", "--cluster", "c1"]).await;
    let asked = hub.seen().pop().expect("it asked");
    assert!(
        asked.contains("kind: \"Kustomization\"") && asked.contains("name: \"apps\""),
        "{asked}"
    );
}
