//! The fleet API: who may call, what is said of a document that is wrong, pages, and what is refused.

use flotilla_proto::fleet::v1::{
    ApplyRequest, ApplyResponse, Document, GetVersionRequest, ListClustersRequest, ListEventsRequest,
    ListResourcesRequest, ReconcileRequest, Resource, ResourceRef, SuspendRequest, WatchRequest,
    reconcile_progress::Outcome,
};
use flotilla_testkit::wait_until;
use serde_json::json;
use tonic::Code;

use crate::hub::{Hub, PATIENCE, with_bearer};

const APP: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: apps}
spec:
  interval: 10m
  path: ./app
  prune: true
  sourceRef: {kind: GitRepository, name: source}
";

async fn apply(hub: &Hub, text: &str) -> ApplyResponse {
    let documents = vec![Document {
        file: "fleet.yaml".into(),
        text: text.into(),
    }];
    let request = ApplyRequest {
        documents,
        ..ApplyRequest::default()
    };
    hub.fleet()
        .await
        .apply(hub.authorized(request))
        .await
        .expect("answered")
        .into_inner()
}

async fn resources(hub: &Hub, kinds: &[&str]) -> Vec<Resource> {
    listed(
        hub,
        ListResourcesRequest {
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            ..ListResourcesRequest::default()
        },
    )
    .await
}

/// The apps of a scope.
async fn resources_in(hub: &Hub, scope: &str) -> Vec<Resource> {
    listed(
        hub,
        ListResourcesRequest {
            kinds: vec!["Kustomization".into()],
            scope: scope.into(),
            ..ListResourcesRequest::default()
        },
    )
    .await
}

async fn listed(hub: &Hub, request: ListResourcesRequest) -> Vec<Resource> {
    hub.fleet()
        .await
        .list_resources(hub.authorized(request))
        .await
        .expect("listed")
        .into_inner()
        .resources
}

fn app_ref() -> ResourceRef {
    ResourceRef {
        group: "kustomize.toolkit.fluxcd.io".into(),
        kind: "Kustomization".into(),
        namespace: "apps".into(),
        name: "app".into(),
        ..ResourceRef::default()
    }
}

#[tokio::test]
async fn only_the_administrators_credential_gets_an_answer() {
    let hub = Hub::start().await;
    let mut fleet = hub.fleet().await;
    assert!(
        fleet
            .get_version(hub.authorized(GetVersionRequest {}))
            .await
            .is_ok()
    );
    let other = format!("{}x", &hub.token[..hub.token.len() - 1]);
    for token in ["", "fladm1.", other.as_str()] {
        let refused = fleet
            .get_version(with_bearer(GetVersionRequest {}, token))
            .await
            .expect_err(token);
        assert_eq!(refused.code(), Code::Unauthenticated);
        let refused = fleet
            .apply(with_bearer(ApplyRequest::default(), token))
            .await
            .expect_err(token);
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let refused = fleet
        .get_version(GetVersionRequest {})
        .await
        .expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_wrong_document_is_named_by_file_document_line_and_field_and_nothing_is_stored() {
    let hub = Hub::start().await;
    let second = APP
        .replace("name: app,", "name: other,")
        .replace("  prune: true", "  prune: sometimes");
    let answer = apply(&hub, &format!("{APP}---\n{second}")).await;
    assert!(answer.applied.is_empty());
    let problem = answer
        .problems
        .iter()
        .find(|problem| !problem.warning)
        .expect("a problem");
    assert_eq!(
        (problem.file.as_str(), problem.document, problem.field.as_str()),
        ("fleet.yaml", 2, "spec.prune")
    );
    assert_eq!(problem.line, 16, "{problem:?}");
    assert!(resources(&hub, &[]).await.is_empty());
    assert_eq!(apply(&hub, APP).await.applied.len(), 1);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn fleet_1674_what_is_in_the_scope_of_a_cluster_ends_with_it_and_not_with_its_name() {
    let hub = Hub::start().await;
    let mut fleet = hub.fleet().await;
    let request = |scope: &str| ApplyRequest {
        documents: vec![Document {
            file: "fleet.yaml".into(),
            text: APP.into(),
        }],
        scope: scope.into(),
        ..ApplyRequest::default()
    };
    let suspend = || SuspendRequest {
        resource: Some(ResourceRef {
            scope: "c1".into(),
            ..app_ref()
        }),
        suspend: true,
    };
    let refused = fleet
        .apply(hub.authorized(request("c1")))
        .await
        .expect_err("no cluster");
    assert_eq!(refused.code(), Code::NotFound);
    hub.join_token("c1").await;
    let mut actions = Vec::new();
    for _ in 0..2 {
        let answer = fleet.apply(hub.authorized(request("c1"))).await.expect("applied");
        let answer = answer.into_inner();
        assert_eq!(answer.applied[0].resource.as_ref().expect("named").scope, "c1");
        actions.push(answer.applied[0].action.clone());
    }
    assert_eq!(actions, ["created", "unchanged"]);
    let shown = resources_in(&hub, "c1").await;
    assert_eq!(shown[0].r#ref.as_ref().expect("named").scope, "c1");
    assert!(resources_in(&hub, "").await.is_empty());
    hub.world
        .execute("DELETE FROM due; DELETE FROM join_token; DELETE FROM cluster WHERE name = 'c1'")
        .await;
    hub.join_token("c1").await;
    assert!(resources_in(&hub, "c1").await.is_empty());
    let refused = fleet
        .suspend(hub.authorized(suspend()))
        .await
        .expect_err("not there");
    assert_eq!(refused.code(), Code::NotFound);
    let answer = fleet.apply(hub.authorized(request("c1"))).await.expect("applied");
    assert_eq!(answer.into_inner().applied[0].action, "created");
    assert!(fleet.suspend(hub.authorized(suspend())).await.is_ok());
    let suspended = |shown: Vec<Resource>| shown.into_iter().map(|one| one.suspended).collect::<Vec<_>>();
    assert_eq!(suspended(resources_in(&hub, "c1").await), [true]);
    let mut everywhere = suspended(resources_in(&hub, "*").await);
    everywhere.sort_unstable();
    assert_eq!(everywhere, [false, true]);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_list_goes_by_pages_that_miss_and_repeat_nothing() {
    let hub = Hub::start().await;
    let names: Vec<String> = (0..7).map(|n| format!("c{n}")).collect();
    for name in &names {
        hub.world.cluster(name).await;
    }
    let mut fleet = hub.fleet().await;
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListClustersRequest {
            page_size: 3,
            page_token: token,
            ..ListClustersRequest::default()
        };
        let page = fleet
            .list_clusters(hub.authorized(request))
            .await
            .expect("listed")
            .into_inner();
        assert!(page.clusters.len() <= 3);
        seen.extend(page.clusters.into_iter().map(|cluster| cluster.name));
        pages += 1;
        // What is added behind a page already read does not disturb those that follow.
        hub.world.cluster("a-late-one").await;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), (names, 3));
    let request = ListClustersRequest {
        page_token: "nonsense".into(),
        ..ListClustersRequest::default()
    };
    let refused = fleet
        .list_clusters(hub.authorized(request))
        .await
        .expect_err("not ours");
    assert_eq!(refused.code(), Code::InvalidArgument);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_suspended_object_is_not_reconciled_until_it_is_resumed() {
    let hub = Hub::start().await;
    apply(&hub, APP).await;
    let mut fleet = hub.fleet().await;
    for (suspend, outcome) in [(true, Outcome::Suspended), (false, Outcome::Failed)] {
        let request = SuspendRequest {
            resource: Some(app_ref()),
            suspend,
        };
        let changed = fleet
            .suspend(hub.authorized(request))
            .await
            .expect("answered")
            .into_inner()
            .changed;
        assert!(changed);
        let request = ReconcileRequest {
            resource: Some(app_ref()),
            with_source: true,
        };
        let mut told = fleet
            .reconcile(hub.authorized(request))
            .await
            .expect("answered")
            .into_inner();
        let first = told.message().await.expect("told").expect("a message");
        assert_eq!(first.outcome(), outcome, "{first:?}");
    }
    let events = fleet
        .list_events(hub.authorized(ListEventsRequest::default()))
        .await;
    let events = events.expect("listed").into_inner().events;
    let said: Vec<(&str, &str)> = events
        .iter()
        .map(|one| (one.reason.as_str(), one.message.as_str()))
        .collect();
    let expected = [
        ("Applied", "applied by admin"),
        ("Suspended", "suspended by admin"),
        ("Resumed", "resumed by admin"),
    ];
    assert_eq!(said, expected, "who did what is told");
    assert_eq!(
        hub.world
            .count("SELECT count(*) FROM audit WHERE verb = 'apply'")
            .await,
        1
    );
    let missing = ReconcileRequest {
        resource: Some(ResourceRef {
            name: "no".into(),
            ..app_ref()
        }),
        with_source: false,
    };
    let refused = fleet
        .reconcile(hub.authorized(missing))
        .await
        .expect_err("not there");
    assert_eq!(refused.code(), Code::NotFound);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn an_app_that_uses_what_is_not_supported_says_so_and_publishes_nothing() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let placement = "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: everywhere}
spec:
  apps: [{kind: Kustomization, name: app, namespace: apps}]
  clusters: {names: [c1]}
";
    let unsupported = format!("{APP}  decryption: {{provider: sops, serviceAccountName: sa}}\n");
    let answer = apply(&hub, &format!("{unsupported}---\n{placement}")).await;
    let errors: Vec<_> = answer
        .problems
        .iter()
        .filter(|problem| !problem.warning)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(
        answer
            .applied
            .iter()
            .any(|one| one.not_supported.iter().any(|what| what.contains("decryption")))
    );
    let said = wait_until("the condition", PATIENCE, async || {
        let apps = resources(&hub, &["Kustomization"]).await;
        let ready = apps[0].conditions[0].clone();
        Ok::<_, String>((ready.reason == "NotSupported").then_some(ready))
    });
    let ready = said.await.expect("said");
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("decryption"), "{}", ready.message);
    assert_eq!(hub.world.count("SELECT count(*) FROM unit").await, 0);
    assert!(
        hub.world
            .store
            .desired(agent.cluster)
            .await
            .expect("read")
            .is_none_or(|row| row.entries.is_empty())
    );
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn keys_of_config_maps_and_secrets_are_listed_and_no_values() {
    const CANARY: &str = "cAnArY-0f-keys";
    let hub = Hub::start().await;
    let bytes = "Y0FuQXJZLTBmLWtleXM=";
    let manifests = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, namespace: apps}}\ndata: {{b: {CANARY}, a: {CANARY}}}\n\
             binaryData: {{c: {bytes}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: apps}}\n\
             stringData: {{password: {CANARY}}}\n"
    );
    let answer = apply(&hub, &manifests).await;
    assert_eq!(answer.applied.len(), 2, "{:?}", answer.problems);
    for (kind, keys) in [
        ("ConfigMap", json!(["a", "b", "c"])),
        ("Secret", json!(["password"])),
    ] {
        let listed = resources(&hub, &[kind]).await;
        let object: serde_json::Value = serde_json::from_str(&listed[0].json).expect("JSON");
        assert_eq!(object["spec"], json!({ "keys": keys }));
        let said = format!("{listed:?}");
        assert!(!said.contains(CANARY) && !said.contains(bytes), "{said}");
    }
}

#[tokio::test]
async fn a_secret_that_was_read_from_a_cluster_leaves_its_values_nowhere() {
    const CANARY: &str = "cAnArY-b4se-of-all-evil";
    let hub = Hub::start().await;
    let last = format!(r#"{{"kind":"Secret","stringData":{{"password":"{CANARY}"}}}}"#);
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  namespace: apps\n  annotations:\n    \
         kubectl.kubernetes.io/last-applied-configuration: '{last}'\nstringData: {{password: {CANARY}}}\n"
    );
    let answer = apply(&hub, &text).await;
    assert!(!format!("{answer:?}").contains(CANARY));
    assert_eq!(answer.applied.len(), 1, "{:?}", answer.problems);
    let listed = resources(&hub, &["Secret"]).await;
    assert!(
        listed[0].json.contains("password") && !listed[0].json.contains(CANARY),
        "{}",
        listed[0].json
    );
    let rows: Vec<String> = sqlx::query_scalar("SELECT resource::text FROM resource")
        .fetch_all(&hub.world.pool)
        .await
        .expect("rows");
    assert!(
        rows.iter()
            .all(|row| !row.contains(CANARY) && !row.contains(&hex::encode(CANARY))),
        "{rows:?}"
    );
    let log = std::fs::read_to_string(hub.world.dir.path().join("log")).expect("a log");
    assert!(!log.contains(CANARY));
    let broken = text.replace("stringData: {", "stringData: {other: [1], ");
    let answer = apply(&hub, &broken).await;
    assert!(
        !answer.problems.is_empty() && !format!("{answer:?}").contains(CANARY),
        "{answer:?}"
    );
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_watch_ends_when_its_credential_is_replaced() {
    let hub = Hub::start().await;
    let mut fleet = hub.fleet().await;
    let mut watch = fleet
        .watch(hub.authorized(WatchRequest {}))
        .await
        .expect("open")
        .into_inner();
    hub.world
        .store
        .replace_admin_credential(b"of another", "test")
        .await
        .expect("replaced");
    let ended = async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!(ended.expect_err("refused").code(), Code::Unauthenticated);
    hub.world.is_quiet().await;
}

/// What stays above a hub that has just started: caches, and what the allocator keeps for the next burst.
const KEPT: u64 = 40 << 20;

#[tokio::test]
async fn memory_that_a_burst_took_is_given_back() {
    let hub = Hub::start().await;
    let rest = hub.resident();
    let line = "x".repeat(60);
    let lines: String = (0..10_000).map(|n| format!("  k{n}: \"{line}\"\n")).collect();
    let config = |n| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}, namespace: apps}}\ndata:\n{lines}---\n"
        )
    };
    // The last of them is wrong, so that all is read and nothing stored.
    let text: String = (0..12).map(config).chain(["kind: Wrong\n".into()]).collect();
    let mut highest = 0;
    let applies = futures::future::join_all((0..4).map(|_| apply(&hub, &text)));
    tokio::pin!(applies);
    let answers = loop {
        tokio::select! {
            answers = &mut applies => break answers,
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => highest = hub.resident().max(highest),
        }
    };
    assert!(
        answers.iter().all(|answer| answer.problems.len() == 1),
        "{:?}",
        answers[0].problems
    );
    assert!(highest > rest + 2 * KEPT, "{} MiB is no burst", highest >> 20);
    let given_back = wait_until("memory to be given back", PATIENCE, async || {
        let now = hub.resident();
        match now < rest + KEPT {
            true => Ok(Some(())),
            false => Err(format!(
                "{} MiB at rest, {} at most, {} now",
                rest >> 20,
                highest >> 20,
                now >> 20
            )),
        }
    });
    given_back.await.expect("given back");
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_receiver_whose_token_is_empty_lets_nobody_in() {
    let hub = Hub::start().await;
    let receiver = "apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {name: push, namespace: apps}
spec:
  type: generic-hmac
  secretRef: {name: token}
  resources: [{kind: GitRepository, name: source}]
";
    let secret = |token: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: token, namespace: apps}}\nstringData: {{token: \"{token}\"}}\n"
        )
    };
    let answer = apply(&hub, &format!("{receiver}---\n{}", secret(""))).await;
    assert_eq!(answer.applied.len(), 2, "{:?}", answer.problems);
    flotilla_testkit::install_tls_provider();
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(30))
        .build()
        .expect("a client");
    // Called as by somebody who knows the token.
    let post = async |token: &str, name: &str| {
        let path = flotilla_hub::http::hook_path(token.as_bytes(), name, "apps");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token.as_bytes());
        let signature = hex::encode(ring::hmac::sign(&key, b"{}"));
        let call = client
            .post(format!("http://{}{path}", hub.hooks()))
            .header("X-Signature", format!("sha256={signature}"))
            .body("{}");
        call.send().await.expect("answered").status().as_u16()
    };
    let opens = async |token: &str, name: &str| {
        let open = async || match post(token, name).await {
            200 => Ok(Some(())),
            other => Err(other.to_string()),
        };
        wait_until(name, PATIENCE, open).await.expect("open");
    };
    // One that has a token opens; then the empty one has been looked at too.
    let other = receiver
        .replace("name: push", "name: other")
        .replace("name: token", "name: full");
    let full = secret("full").replace("name: token", "name: full");
    let answer = apply(&hub, &format!("{other}---\n{full}")).await;
    assert_eq!(answer.applied.len(), 2, "{:?}", answer.problems);
    opens("full", "other").await;
    assert_eq!(post("", "push").await, 404);
    let answer = apply(&hub, &secret("set")).await;
    assert_eq!(answer.applied.len(), 1, "{:?}", answer.problems);
    opens("set", "push").await;
    assert_eq!(post("", "push").await, 404);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn beside_sealed_rows_no_second_key_is_made_and_another_is_refused_by_name() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    // Its data directory has no key, and the database is sealed with one.
    let said = hub.refused(dir.path(), &[]).await;
    let place = dir.path().join("kek");
    assert!(
        said.contains("sealed with a key-encryption key that is not at") && said.contains("--kek-file"),
        "{said}"
    );
    assert!(said.contains(place.to_str().expect("text")), "{said}");
    assert!(
        !place.exists(),
        "none is made that would be taken for the right one"
    );
    let other = dir.path().join("other");
    let digits = "5a".repeat(32);
    std::fs::write(&other, &digits).expect("written");
    let said = hub
        .refused(dir.path(), &["--kek-file", other.to_str().expect("text")])
        .await;
    assert!(said.contains("was sealed with the key-encryption key"), "{said}");
    assert!(!said.contains(&digits), "{said}");
    assert!(
        hub.fleet()
            .await
            .get_version(hub.authorized(GetVersionRequest {}))
            .await
            .is_ok()
    );
    hub.world.is_quiet().await;
}
