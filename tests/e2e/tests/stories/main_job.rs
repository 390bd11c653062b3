//! The main job as one story on one real cluster: what an operator and an application team live through in a day.
//! What is claimed about the cluster is read from its API server.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use e2e::{
    AgentProcess, HubProcess, Objects, agent,
    hub::{http_client, now},
};
use flotilla_core::trace::Trace;
use flotilla_testkit::{
    AuditEntry, AuditFilter, AuditMark, ControlPlane, ControlPlaneOptions, GitAccess, GitRepo, GitServer,
    RigError, TraceCollector, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
/// A Secret's value; it must appear nowhere but in the cluster.
const CANARY: &str = "canary-5f0c2b7e";

struct World {
    plane: ControlPlane,
    repo: GitRepo,
    url: String,
    _git: GitServer,
    traces: TraceCollector,
    hub: HubProcess,
    agent: AgentProcess,
    objects: Objects,
    began: AuditMark,
}

impl World {
    async fn new(dir: &Path) -> Self {
        let plane = ControlPlane::start(ControlPlaneOptions::named("one"))
            .await
            .unwrap();
        let git = GitServer::start(GitAccess::Public).await.unwrap();
        let repo = git.create("apps.git").await.unwrap();
        repo.commit("main", &files("one"), "first").await.unwrap();
        let traces = TraceCollector::start().unwrap();
        let hub = HubProcess::start_with(&dir.join("hub"), &["--otlp-endpoint", traces.endpoint()])
            .await
            .unwrap();
        let began = plane.audit().mark();
        let join = hub.token("one").unwrap();
        let agent = AgentProcess::install(&plane, &join, &dir.join("agent"))
            .await
            .unwrap();
        let objects = Objects::of(&plane, "app").await.unwrap();
        let url = git.http_url("apps.git");
        Self {
            plane,
            repo,
            url,
            _git: git,
            traces,
            hub,
            agent,
            objects,
            began,
        }
    }

    async fn holds(&self, key: &str, value: &str) {
        let said = || format!("hub:\n{}\nagent:\n{}", self.hub.said(), self.agent.said());
        self.objects
            .until("settings", key, value, WITHIN)
            .await
            .map_err(|e| format!("{e}\n{}", said()))
            .unwrap();
    }

    async fn commit(&self, path: &str, text: &str, message: &str) {
        self.repo.commit("main", &[(path, text)], message).await.unwrap();
    }

    /// Calls the webhook, signed; the hub has stored that when this returns.
    async fn push(&self) {
        self.hub.push(&http_client().unwrap()).await.unwrap();
    }

    fn fetch(&self) {
        self.hub.cli(&["reconcile", "source", "git", "apps"]).unwrap();
    }

    /// The app's Ready condition: status and message.
    fn app(&self) -> (String, String) {
        let cli = self.hub.command_line();
        let listed = cli.list(&["get", "kustomizations", "app"]).unwrap();
        let conditions = listed[0]["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|one| one["type"] == "Ready").unwrap();
        (
            ready["status"].as_str().unwrap().to_owned(),
            ready["message"].as_str().unwrap().to_owned(),
        )
    }

    async fn until_app(&self, status: &str, part: &str) {
        let state = format!("the app is {status} with {part}");
        wait_until(&state, WITHIN, async || {
            let (is, message) = self.app();
            if is == status && message.contains(part) {
                Ok(Some(()))
            } else {
                Err(format!("{is}: {message}"))
            }
        })
        .await
        .map_err(|e| format!("{e}\nhub:\n{}", self.hub.said()))
        .unwrap();
    }
}

fn settings(color: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata:\n  color: {color}\n  region: ${{region}}\n"
    )
}

fn files(color: &str) -> Vec<(&'static str, String)> {
    let kustomization =
        "namespace: app\nresources: [namespace.yaml, settings.yaml, extra.yaml, secret.yaml]\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: app}\n";
    let extra = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {a: b}\n";
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: \"${password}\"}\n";
    vec![
        ("app/kustomization.yaml", kustomization.to_owned()),
        ("app/namespace.yaml", namespace.to_owned()),
        ("app/settings.yaml", settings(color)),
        ("app/extra.yaml", extra.to_owned()),
        ("app/secret.yaml", secret.to_owned()),
    ]
}

fn configuration(url: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: app-secrets, namespace: flux-system}}
stringData: {{password: {CANARY}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: hook, namespace: flux-system}}
stringData: {{token: shared}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: apps, namespace: flux-system}}
spec: {{url: {url}, interval: 1h, ref: {{branch: main}}}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: app, namespace: flux-system}}
spec:
  interval: 1h
  prune: true
  path: ./app
  sourceRef: {{kind: GitRepository, name: apps}}
  postBuild: {{substituteFrom: [{{kind: Secret, name: app-secrets}}]}}
---
apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {{name: push, namespace: flux-system}}
spec:
  type: generic-hmac
  secretRef: {{name: hook}}
  resources: [{{kind: GitRepository, name: apps}}]
---
apiVersion: fleet.flotilla.dev/v1alpha1
kind: Cluster
metadata: {{name: one, labels: {{env: test}}}}
spec: {{variables: {{region: here}}}}
---
apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {{name: app}}
spec:
  apps: [{{kind: Kustomization, name: app, namespace: flux-system}}]
  clusters: {{selector: {{matchLabels: {{env: test}}}}}}
"
    )
}

#[tokio::test]
async fn a_commit_reaches_the_cluster_and_stays_true_through_a_day_of_trouble() {
    flotilla_testkit::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let mut world = World::new(dir.path()).await;
    world.hub.apply(&configuration(&world.url)).unwrap();
    world.holds("color", "one").await;
    world.holds("region", "here").await;
    world.until_app("True", "Applied revision: main@sha1:").await;

    let pushed = a_signed_webhook_brings_the_commit_and_an_unsigned_one_does_nothing(&world).await;
    its_whole_way_is_one_trace(&world, pushed).await;
    a_bad_commit_is_named_and_changes_nothing(&world).await;
    a_commit_that_changes_no_object_writes_nothing_to_the_cluster(&world).await;
    a_suspended_app_is_left_alone_and_taken_up_again(&world).await;
    what_leaves_git_leaves_the_cluster(&world).await;
    without_the_hub_the_cluster_is_kept_even_by_a_restarted_agent(&mut world).await;
    the_hub_returns_after_a_crash_and_goes_on(&mut world).await;
    nothing_else_was_deleted_and_no_secret_was_told(&world, dir.path()).await;
}

/// Returns when the signed one was called.
async fn a_signed_webhook_brings_the_commit_and_an_unsigned_one_does_nothing(world: &World) -> SystemTime {
    let listed = world.hub.cli(&["events"]).unwrap();
    assert!(listed.contains("NewArtifact"), "{listed}");
    let client = http_client().unwrap();
    let url = world.hub.hook_url("shared", "push", "flux-system");
    world.commit("app/settings.yaml", &settings("two"), "two").await;
    let bad = client
        .post(&url)
        .header("X-Signature", "sha256=00")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(bad.status().as_u16(), 400);
    let pushed = now();
    world.push().await;
    world.holds("color", "two").await;
    pushed
}

/// `pushed` is when the webhook was called that the hub heeds.
async fn its_whole_way_is_one_trace(world: &World, pushed: SystemTime) {
    let units = world.hub.cli(&["get", "units", "-o", "json"]).unwrap();
    let head = world.repo.resolve("main").await.unwrap().unwrap();
    let revision = format!("main@sha1:{head}");
    assert!(units.contains(&revision), "{units}");
    let trace = Trace::of_revision(&revision).unwrap().to_string();
    wait_until("all steps are exported", WITHIN, async || {
        let spans = world.traces.spans();
        let of_it: Vec<_> = spans.iter().filter(|span| span.trace == trace).collect();
        let step = |name: &str| of_it.iter().find(|span| span.name == name);
        let steps = ["fetch", "render", "plan", "publish", "apply", "rollout"];
        let Some(steps) = steps.iter().map(|name| step(name)).collect::<Option<Vec<_>>>() else {
            anyhow::bail!("{of_it:?}");
        };
        let [fetch, render, plan, publish, apply, rollout] = steps[..] else {
            anyhow::bail!("six steps");
        };
        // On one machine hub and agent have one clock: each step ends before the next does.
        let ends = [fetch, render, plan, publish, apply, rollout].map(|span| span.time.1);
        anyhow::ensure!(ends.is_sorted(), "{ends:?}");
        let began = SystemTime::UNIX_EPOCH + Duration::from_nanos(fetch.time.0);
        assert!(
            began >= pushed,
            "the unsigned call fetched it: {began:?}, {pushed:?}"
        );
        anyhow::ensure!(publish.attribute("cluster") == "one" && apply.attribute("cluster") == "one");
        anyhow::ensure!(
            apply.attribute("app") == "Kustomization/flux-system/app",
            "{apply:?}"
        );
        anyhow::Ok(Some(()))
    })
    .await
    .unwrap();
}

async fn a_bad_commit_is_named_and_changes_nothing(world: &World) {
    world.commit("app/extra.yaml", "a: [1\n", "broken").await;
    world.fetch();
    world.until_app("False", "kustomize build failed").await;
    assert_eq!(
        world.objects.value("settings", "color").await.unwrap().as_deref(),
        Some("two")
    );
    assert_eq!(
        world.objects.value("extra", "a").await.unwrap().as_deref(),
        Some("b")
    );
    let extra = &files("two")[3];
    world.commit(extra.0, &extra.1, "mended").await;
    world.fetch();
    world.until_app("True", "Applied revision").await;
}

async fn a_commit_that_changes_no_object_writes_nothing_to_the_cluster(world: &World) {
    let before = world.objects.config_map("settings").await.unwrap().unwrap();
    let rendered = || world.hub.logged("rendered").unwrap();
    let times = rendered();
    assert!(times > 0, "a rendering is logged");
    let sha = world
        .repo
        .commit("main", &[("README.md", "words\n")], "words")
        .await
        .unwrap();
    world.fetch();
    // The revision is the new one all the same: it renders to what is applied.
    world.until_app("True", &sha).await;
    // It was not even rendered: the app reads no README.
    assert_eq!(rendered(), times, "{}", world.hub.said());
    let after = world.objects.config_map("settings").await.unwrap().unwrap();
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
}

async fn a_suspended_app_is_left_alone_and_taken_up_again(world: &World) {
    world.hub.cli(&["suspend", "kustomization", "app"]).unwrap();
    wait_until("the unit is suspended", WITHIN, async || {
        let units = world.hub.cli(&["get", "units", "-o", "json"])?;
        anyhow::Ok(units.contains("Suspended").then_some(()))
    })
    .await
    .unwrap();
    // The agent has it when an edit of its own objects stays.
    wait_until("an edit is left alone", WITHIN, async || {
        world.objects.edit("settings", "color", "by hand").await?;
        let quiet = wait_until("a correction", Duration::from_secs(3), async || {
            let value = world.objects.value("settings", "color").await?;
            anyhow::Ok((value.as_deref() != Some("by hand")).then_some(()))
        });
        anyhow::Ok(quiet.await.is_err().then_some(()))
    })
    .await
    .unwrap();
    world
        .commit("app/settings.yaml", &settings("three"), "three")
        .await;
    world.fetch();
    assert_eq!(
        world.objects.value("settings", "color").await.unwrap().as_deref(),
        Some("by hand")
    );
    world.hub.cli(&["resume", "kustomization", "app"]).unwrap();
    world.holds("color", "three").await;
}

async fn what_leaves_git_leaves_the_cluster(world: &World) {
    let kustomization = "namespace: app\nresources: [namespace.yaml, settings.yaml, secret.yaml]\n";
    world
        .commit("app/kustomization.yaml", kustomization, "less")
        .await;
    world.fetch();
    wait_until("the object is gone", WITHIN, async || {
        let found = world.objects.config_map("extra").await?;
        match found {
            None => Ok(Some(())),
            Some(_) => anyhow::bail!(world.hub.cli(&["get", "units"])?),
        }
    })
    .await
    .map_err(|e| format!("{e}\nagent:\n{}", world.agent.said()))
    .unwrap();
}

async fn without_the_hub_the_cluster_is_kept_even_by_a_restarted_agent(world: &mut World) {
    world.hub.kill().unwrap();
    world.objects.edit("settings", "color", "drifted").await.unwrap();
    world.holds("color", "three").await;
    world.agent.kill().unwrap();
    world
        .objects
        .edit("settings", "color", "while nobody watched")
        .await
        .unwrap();
    world.agent.resume().unwrap();
    world.holds("color", "three").await;
}

async fn the_hub_returns_after_a_crash_and_goes_on(world: &mut World) {
    world.hub.resume().await.unwrap();
    world.commit("app/settings.yaml", &settings("four"), "four").await;
    world.fetch();
    world.holds("color", "four").await;
    world.until_app("True", "Applied revision").await;
}

async fn nothing_else_was_deleted_and_no_secret_was_told(world: &World, dir: &Path) {
    let of_agent = AuditFilter::all().after(world.began).user(agent::USER);
    let audit = world.plane.audit();
    // What was asked before this request is in the log when this is.
    let mark = "the-last-request";
    assert!(world.objects.config_map(mark).await.unwrap().is_none());
    wait_until("the last request is in the audit log", WITHIN, async || {
        let got = audit.requests(&AuditFilter::all().after(world.began).verb("get"))?;
        let is_mark = |entry: &AuditEntry| {
            entry
                .object_ref
                .as_ref()
                .is_some_and(|object| object.name == mark)
        };
        Ok::<_, RigError>(got.iter().any(is_mark).then_some(()))
    })
    .await
    .unwrap();
    let summary = audit.summary(&of_agent).unwrap();
    assert!(
        audit.count(&of_agent.clone().verb("patch")).unwrap() > 0,
        "the agent's writes are counted: {summary:?}"
    );
    let deletes = of_agent.verb("delete").verb("deletecollection");
    let deleted = audit.requests(&deletes).unwrap();
    let named: Vec<&str> = deleted
        .iter()
        .filter_map(|entry| Some(&*entry.object_ref.as_ref()?.name))
        .collect();
    assert_eq!(named, ["extra"], "{summary:?}");
    for log in ["hub/hub.log", "agent/agent.log"] {
        let text = std::fs::read_to_string(dir.join(log)).unwrap();
        assert!(!text.contains(CANARY), "{log} holds a Secret's value");
    }
    for args in [
        &["get", "units", "-A", "-o", "json"][..],
        &["get", "kustomizations", "-A", "-o", "json"],
        &["events"],
    ] {
        assert!(!world.hub.cli(args).unwrap().contains(CANARY), "{args:?}");
    }
}
