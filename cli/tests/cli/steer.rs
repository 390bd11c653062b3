//! Commands that change something and wait for the result.

use flotilla_proto::fleet::v1::{
    ClusterBehind, CreateTokenResponse, ReconcileProgress, ResourceRef,
    reconcile_progress::{Outcome, Phase},
};
use flotilla_render::yaml;
use insta::assert_snapshot;

use crate::fleet::{cluster, resources, unit};
use crate::hub::{Answers, Hub, NOW_MS};

const APPLIED: &str = "main@sha1:696f056df216eea4f9401adbee0ff744d4df390f";

fn progress(kind: &str, phase: Phase, outcome: Outcome) -> ReconcileProgress {
    ReconcileProgress {
        phase: phase.into(),
        outcome: outcome.into(),
        resource: Some(ResourceRef {
            kind: kind.to_owned(),
            ..ResourceRef::default()
        }),
        revision: APPLIED.to_owned(),
        message: "Reconciliation in progress".to_owned(),
        ..ReconcileProgress::default()
    }
}

fn clusters(ready: u32, all: u32, outcome: Outcome) -> ReconcileProgress {
    ReconcileProgress {
        clusters: all,
        clusters_ready: ready,
        ..progress("Kustomization", Phase::Clusters, outcome)
    }
}

fn behind(cluster: &str, last_seen: Option<i64>) -> ClusterBehind {
    ClusterBehind {
        cluster: cluster.to_owned(),
        connected: false,
        last_seen: last_seen.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        ..ClusterBehind::default()
    }
}

fn answers(progress: Vec<ReconcileProgress>) -> Answers {
    Answers {
        resources: resources(),
        progress,
        ..Answers::default()
    }
}

#[tokio::test]
async fn reconcile_goes_from_source_to_rendering_to_clusters_and_tells_the_revision() {
    let hub = Hub::start(answers(vec![
        progress("GitRepository", Phase::Source, Outcome::Unspecified),
        progress("Kustomization", Phase::Rendering, Outcome::Unspecified),
        clusters(0, 40, Outcome::Unspecified),
        clusters(12, 40, Outcome::Unspecified),
        // What else changes meanwhile is not said again.
        clusters(12, 40, Outcome::Unspecified),
        clusters(40, 40, Outcome::Succeeded),
    ]))
    .await;
    assert_snapshot!(hub.run(&["reconcile", "kustomization", "apps", "--with-source"]).await, @"
    exit 0
    -- out
    -- err
    ► reconciling Kustomization apps in flux-system namespace
    ◎ waiting for GitRepository reconciliation
    ◎ waiting for Kustomization reconciliation
    ◎ 0/40 clusters
    ◎ 12/40 clusters
    ✔ applied revision main@sha1:696f056df216eea4f9401adbee0ff744d4df390f
    ");
    let asked = hub.seen();
    assert!(
        asked.len() == 1 && asked[0].contains("with_source: true"),
        "one call, and no poll: {asked:?}"
    );
}

#[tokio::test]
async fn a_source_is_fetched() {
    let hub = Hub::start(answers(vec![progress(
        "GitRepository",
        Phase::Source,
        Outcome::Succeeded,
    )]))
    .await;
    assert_snapshot!(hub.run(&["reconcile", "source", "git", "fleet"]).await, @"
    exit 0
    -- out
    -- err
    ► reconciling GitRepository fleet in flux-system namespace
    ✔ fetched revision main@sha1:696f056df216eea4f9401adbee0ff744d4df390f
    ");
}

#[tokio::test]
async fn reconcile_fails_as_the_object_does_and_names_the_clusters() {
    let mut failed = clusters(1, 3, Outcome::Failed);
    failed.message = "1/3 applied; c2: image not found".to_owned();
    failed.behind = vec![
        ClusterBehind {
            connected: true,
            message: "image not found".to_owned(),
            ..behind("c2", None)
        },
        behind("c3", None),
    ];
    let hub = Hub::start(answers(vec![failed])).await;
    assert_snapshot!(hub.run(&["reconcile", "ks", "apps"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization apps in flux-system namespace
    ✗ Kustomization reconciliation failed: '1/3 applied; c2: image not found'
    ✗ cluster c2: image not found
    ");
}

#[tokio::test]
async fn offline_clusters_are_named_and_no_success() {
    let mut offline = clusters(1, 4, Outcome::ClustersOffline);
    offline.behind = vec![behind("c3", Some(NOW_MS / 1000 - 300)), behind("c4", None)];
    let hub = Hub::start(answers(vec![offline])).await;
    assert_snapshot!(hub.run(&["reconcile", "ks", "apps"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization apps in flux-system namespace
    ✗ 1/4 clusters; cluster c3 is offline for 5m, cluster c4 was never connected and 1 more
      hint: clusters that are offline follow when they return
    ");
}

#[tokio::test]
async fn nothing_applied_and_what_is_not_supported_are_no_success() {
    let mut nothing = progress("Kustomization", Phase::Rendering, Outcome::NothingToApply);
    nothing.message = "no cluster matches the placements".to_owned();
    let hub = Hub::start(answers(vec![nothing])).await;
    assert_snapshot!(hub.run(&["reconcile", "ks", "apps"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization apps in flux-system namespace
    ✗ Kustomization is applied nowhere: 'no cluster matches the placements'
    ");
    let mut unsupported = progress("Kustomization", Phase::Rendering, Outcome::NotSupported);
    unsupported.message = "not supported by this release: spec.decryption".to_owned();
    let hub = Hub::start(answers(vec![unsupported])).await;
    assert_snapshot!(hub.run(&["reconcile", "ks", "apps"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization apps in flux-system namespace
    ✗ Kustomization reconciliation failed: 'not supported by this release: spec.decryption'
    ");
}

#[tokio::test]
async fn reconcile_gives_up_after_its_time() {
    let hub = Hub::start(answers(vec![clusters(0, 1, Outcome::Unspecified)])).await;
    assert_snapshot!(hub.run(&["reconcile", "ks", "apps", "--timeout", "1s"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization apps in flux-system namespace
    ◎ 0/1 clusters
    ✗ Kustomization is not ready after 1s: 'Reconciliation in progress'
      hint: give it longer with --timeout; what was asked for goes on
    ");
}

#[tokio::test]
async fn what_is_suspended_or_missing_is_not_reconciled() {
    let hub = Hub::start(answers(vec![progress(
        "Kustomization",
        Phase::Rendering,
        Outcome::Suspended,
    )]))
    .await;
    assert_snapshot!(hub.run(&["reconcile", "ks", "paused"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization paused in flux-system namespace
    ✗ resource is suspended: Kustomization /
      hint: resume Kustomization / with flotilla resume
    ");
    assert_snapshot!(hub.run(&["reconcile", "ks", "none"]).await, @"
    exit 1
    -- out
    -- err
    ► reconciling Kustomization none in flux-system namespace
    ✗ no such resource
    ");
    assert_snapshot!(hub.run(&["reconcile", "source", "git", "fleet", "--with-source"]).await, @"
    exit 2
    -- out
    -- err
    ✗ --with-source is only taken for apps
    ");
}

#[tokio::test]
async fn suspend_and_resume_say_what_changed() {
    let hub = Hub::start(answers(vec![clusters(1, 1, Outcome::Succeeded)])).await;
    assert_snapshot!(hub.run(&["suspend", "ks", "apps"]).await, @"
    exit 0
    -- out
    -- err
    ► suspending Kustomization apps in flux-system namespace
    ✔ Kustomization suspended
    ");
    assert_snapshot!(hub.run(&["suspend", "ks", "apps"]).await, @"
    exit 0
    -- out
    -- err
    ► suspending Kustomization apps in flux-system namespace
    ✔ Kustomization was suspended before
    ");
    assert_snapshot!(hub.run(&["resume", "ks", "apps"]).await, @"
    exit 0
    -- out
    -- err
    ► resuming Kustomization apps in flux-system namespace
    ✔ Kustomization resumed
    ✔ Kustomization apps reconciliation completed
    ✔ applied revision main@sha1:696f056df216eea4f9401adbee0ff744d4df390f
    ");
}

#[tokio::test]
async fn a_doubted_cluster_is_admitted_or_revoked_and_the_answer_says_what_changed() {
    let hub = Hub::start(answers(vec![])).await;
    assert_snapshot!(hub.run(&["cluster", "admit", "doubted"]).await, @"
    exit 0
    -- out
    -- err
    ✔ cluster doubted admitted
    ");
    assert_snapshot!(hub.run(&["cluster", "admit", "well"]).await, @"
    exit 0
    -- out
    -- err
    ✔ cluster well is not suspended
    ");
    assert_snapshot!(hub.run(&["cluster", "revoke", "doubted"]).await, @"
    exit 0
    -- out
    -- err
    ✔ cluster doubted revoked: it joins again with a new token
    ");
    let unknown = hub.run(&["cluster", "revoke", "nobody"]).await;
    assert!(
        unknown.err.contains("cluster is not registered"),
        "{}",
        unknown.err
    );
}

#[tokio::test]
async fn a_token_is_the_only_line_of_output() {
    let token = CreateTokenResponse {
        token: "flt_join_abc".to_owned(),
        // A moment has passed since the hub counted.
        expires_at_ms: NOW_MS + 899_000,
        pins: vec!["sha256:aa".to_owned(), "sha256:bb".to_owned()],
        endpoint: "https://hub.example:8443".to_owned(),
        trust_domain: "fleet.example".to_owned(),
        cluster_created: true,
    };
    let hub = Hub::start(Answers {
        token,
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["cluster", "token", "c1", "--label", "env=prod", "--ttl", "1h"]).await, @"
    exit 0
    -- out
    flt_join_abc
    -- err
    ✔ cluster c1 created
    ✔ token for cluster c1 made, to be used once within 60m
    ");
    let asked = hub.seen().pop().expect("it asked");
    assert!(
        asked.contains("ttl_seconds: 3600") && asked.contains("\"env\": \"prod\""),
        "{asked}"
    );
    assert_snapshot!(hub.run(&["cluster", "join", "c1"]).await, @"
    exit 0
    -- out
    helm upgrade --install flotilla-agent deploy/agent --namespace flotilla-system --create-namespace --set-string 'hub.endpoints[0]=https://hub.example:8443' --set-string 'hub.trustDomain=fleet.example' --set-string 'hub.pins[0]=sha256:aa' --set-string 'hub.pins[1]=sha256:bb' --set-string 'rbac.profile=platform' --set-string 'join.token=flt_join_abc'
    -- err
    ✔ cluster c1 created
    ✔ token for cluster c1 made, to be used once within 15m
    ⚠️ profile platform: the agent, and so anyone who controls the hub, may apply and delete CustomResourceDefinitions, RBAC, webhooks and workloads in the whole cluster, which to an attacker is all of the cluster; choose another with --profile
    ");
    assert_snapshot!(hub.run(&["cluster", "token", "c1", "-o", "json"]).await, @r#"
    exit 0
    -- out
    {
      "endpoint": "https://hub.example:8443",
      "expiresAtMs": 1800000899000,
      "pins": [
        "sha256:aa",
        "sha256:bb"
      ],
      "token": "flt_join_abc",
      "trustDomain": "fleet.example"
    }
    -- err
    ✔ cluster c1 created
    ✔ token for cluster c1 made, to be used once within 15m
    "#);
}

#[tokio::test]
async fn a_token_that_replaces_an_agent_ends_the_identity_of_the_one_there_is() {
    let hub = Hub::start(Answers {
        token: CreateTokenResponse {
            token: "flt_join_abc".to_owned(),
            ..CreateTokenResponse::default()
        },
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["cluster", "token", "doubted", "--replace"]).await, @"
    exit 0
    -- out
    flt_join_abc
    -- err
    ✔ the identity of cluster doubted's agent is ended
    ✔ token for cluster doubted made, to be used once within 15m
    ");
    let asked = hub.seen();
    assert!(
        asked[0].contains("Revoke") && asked[1].contains("ttl_seconds"),
        "{asked:?}"
    );
    assert_snapshot!(hub.run(&["cluster", "token", "unheard", "--replace"]).await, @"
    exit 1
    -- out
    -- err
    ✗ cluster is not registered; see `flotilla cluster list`
    ");
    assert_eq!(hub.seen().len(), 3, "no token is made for it");
}

#[tokio::test]
async fn the_join_command_is_safe_to_paste() {
    let token = CreateTokenResponse {
        token: "a'b;$(rm)".to_owned(),
        endpoint: "https://h,x".to_owned(),
        expires_at_ms: NOW_MS + 900_000,
        ..Default::default()
    };
    let hub = Hub::start(Answers {
        token,
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["cluster", "join", "c1", "--chart", "my chart"]).await.out, @r"helm upgrade --install flotilla-agent 'my chart' --namespace flotilla-system --create-namespace --reset-then-reuse-values --set-string 'hub.endpoints[0]=https://h\,x' --set-string 'hub.trustDomain=' --set-string 'join.token=a'\''b;$(rm)' --set-string 'join.existingSecret='");
}

#[tokio::test]
async fn what_the_chart_or_the_hub_would_refuse_is_refused_before_a_token_is_made() {
    let hub = Hub::start(Answers::default()).await;
    for (arguments, said) in [
        (
            &["join", "c1", "--tenant-namespace", "kube-system"][..],
            "kube-system",
        ),
        (
            &["join", "c1", "--tenant-namespace", "a", "--agent-namespace", "a"],
            "where the agent keeps its identity",
        ),
        (
            &["join", "c1", "--agent-namespace", "Bad_NS"],
            "--agent-namespace",
        ),
        (&["token", "c1", "--ttl", "0s"], "1s at least"),
        (
            &["token", "c1", "--label", "a=1", "--label", "a=2"],
            "--label a is given twice",
        ),
    ] {
        let arguments: Vec<&str> = [&["cluster"], arguments].concat();
        let ran = hub.run(&arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(said), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(hub.seen(), [] as [String; 0]);
}

#[tokio::test]
async fn labels_that_a_known_cluster_does_not_take_are_told() {
    let token = CreateTokenResponse {
        token: "t".to_owned(),
        ..Default::default()
    };
    let hub = Hub::start(Answers {
        token,
        ..Answers::default()
    })
    .await;
    let ran = hub.run(&["cluster", "token", "c1", "--label", "env=prod"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("its labels stay as they are"), "{}", ran.err);
}

#[tokio::test]
async fn cluster_join_profile_is_in_its_line() {
    let token = CreateTokenResponse {
        token: "t".to_owned(),
        endpoint: "https://hub.example:7443".to_owned(),
        trust_domain: "fleet.example".to_owned(),
        expires_at_ms: NOW_MS + 900_000,
        ..Default::default()
    };
    let hub = Hub::start(Answers {
        token,
        ..Answers::default()
    })
    .await;
    let join = ["cluster", "join", "c1"];
    for (options, expected) in [
        (
            &["--profile", "admin"][..],
            "--set-string 'rbac.profile=admin' --set-string 'join.token=t'",
        ),
        (
            &["--profile", "platform"],
            "--set-string 'rbac.profile=platform' --set-string 'join.token=t'",
        ),
        (
            &[
                "--profile",
                "tenant",
                "--tenant-namespace",
                "shop",
                "--tenant-namespace",
                "web",
            ],
            "--set-string 'rbac.profile=tenant' --set-string 'rbac.tenant.namespaces[0]=shop' \
             --set-string 'rbac.tenant.namespaces[1]=web' --set-string 'join.token=t'",
        ),
        (
            &["--tenant-namespace", "shop"],
            "--set-string 'rbac.profile=tenant' --set-string 'rbac.tenant.namespaces[0]=shop'",
        ),
    ] {
        let ran = hub.run(&[&join, options].concat()).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains(expected), "{}", ran.out);
        assert!(
            !ran.err.contains("anyone who controls the hub"),
            "what was chosen is not explained: {}",
            ran.err
        );
    }
}

#[tokio::test]
async fn cluster_join_of_a_known_cluster_keeps_the_profile_that_it_has() {
    let token = CreateTokenResponse {
        token: "t".to_owned(),
        endpoint: "https://hub.example:7443".to_owned(),
        expires_at_ms: NOW_MS + 900_000,
        ..Default::default()
    };
    let hub = Hub::start(Answers {
        token,
        ..Answers::default()
    })
    .await;
    let ran = hub.run(&["cluster", "join", "c1"]).await;
    assert!(ran.out.contains(" --reset-then-reuse-values "), "{}", ran.out);
    assert!(!ran.out.contains("rbac."), "{}", ran.out);
    assert!(
        ran.err
            .contains("the profile of the agent that is installed there stays"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn cluster_join_profile_that_does_not_fit_its_namespaces_makes_no_token() {
    let hub = Hub::start(Answers::default()).await;
    let join = ["cluster", "join", "c1"];
    for (options, expected) in [
        (&["--profile", "tenant"][..], "name them with --tenant-namespace"),
        (
            &["--profile", "admin", "--tenant-namespace", "shop"],
            "goes with the profile tenant",
        ),
        (
            &["--profile", "tenant", "--tenant-namespace", "Shop"],
            "lower-case",
        ),
        (&["--profile", "root"], "possible values: tenant, platform, admin"),
    ] {
        let ran = hub.run(&[&join, options].concat()).await;
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
    assert_eq!(hub.seen(), [""; 0]);
}

#[tokio::test]
async fn cluster_join_warns_of_an_endpoint_that_only_the_hub_itself_reaches() {
    for (endpoint, warns) in [
        ("https://127.0.0.1:7443", true),
        ("https://[::1]:7443", true),
        ("https://localhost:7443", true),
        ("https://hub.example:7443", false),
        ("https://10.0.0.1:7443", false),
    ] {
        let token = CreateTokenResponse {
            endpoint: endpoint.to_owned(),
            ..Default::default()
        };
        let hub = Hub::start(Answers {
            token,
            ..Answers::default()
        })
        .await;
        let ran = hub.run(&["cluster", "join", "c1"]).await;
        assert_eq!(
            ran.err.contains("start it with --endpoint"),
            warns,
            "{endpoint}: {}",
            ran.err
        );
    }
}

#[tokio::test]
async fn the_join_command_sets_values_the_chart_has() {
    let token = CreateTokenResponse {
        pins: vec!["sha256:aa".to_owned()],
        ..Default::default()
    };
    let hub = Hub::start(Answers {
        token,
        ..Answers::default()
    })
    .await;
    let line = hub
        .run(&["cluster", "join", "c1", "--tenant-namespace", "shop"])
        .await
        .out;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/agent/values.yaml");
    let values = std::fs::read_to_string(chart).expect("the agent's chart");
    let values = yaml::read(&values, &yaml::Limits::default()).expect("YAML");
    let set: Vec<_> = line.split("--set-string ").skip(1).collect();
    assert_eq!(set.len(), 7, "{line}");
    for assignment in set {
        let (path, _) = assignment
            .trim_start_matches('\'')
            .split_once('=')
            .expect("path=value");
        let path = path.split('[').next().unwrap_or(path);
        let found = path.split('.').try_fold(&values, |value, field| value.get(field));
        assert!(found.is_some(), "the chart has no value {path}");
    }
}

#[tokio::test]
async fn clusters_are_listed_and_shown() {
    let hub = Hub::start(Answers {
        clusters: vec![cluster("c1", true), cluster("c3", false)],
        units: vec![unit("c1", "True"), unit("c3", "Unknown")],
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["cluster", "list"]).await, @"
    exit 0
    -- out
    NAME	STATE 	CONNECTED	UNITS	LAST SEEN	MESSAGE
    c1  	Active	True     	2/2  	2s
    c3  	Active	False    	1/2  	5m
    -- err
    ");
    assert_snapshot!(hub.run(&["cluster", "show", "c3"]).await, @"
    exit 0
    -- out
    Name:        c3
    State:       Active
    Connected:   no, last seen 5m ago
    Kubernetes:  v1.33.1
    Agent:       v0.1.0
    Generation:  5 of 7 accepted
    Labels:      env=prod, region=eu
    Variables:   replicas=3

    NAMESPACE  	APP               	REVISION          	READY  	MESSAGE
    flux-system	kustomization/apps	main@sha1:696f056d	Unknown	Applied revision: main@sha1:696f056d
    -- err
    ");
    assert_snapshot!(hub.run(&["cluster", "show", "c9"]).await, @r#"
    exit 1
    -- out
    -- err
    ✗ cluster "c9" not found
      hint: list them with flotilla cluster list
    "#);
}

#[tokio::test]
async fn versions_of_both_sides_are_shown() {
    let hub = Hub::start(Answers::default()).await;
    assert_snapshot!(hub.run(&["version"]).await, @"
    exit 0
    -- out
    flotilla: v0.1.0
    hub: v0.1.0
    engine: kustomize v5.8.1
    postgres: 17.2
    -- err
    ");
    assert_snapshot!(hub.run(&["version", "-o", "yaml"]).await, @r#"
    exit 0
    -- out
    engine: kustomize v5.8.1
    flotilla: v0.1.0
    hub: v0.1.0
    postgres: "17.2"
    -- err
    "#);
}
