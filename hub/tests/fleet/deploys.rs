//! What is deployed when sources, specs and renderings change or fail: a running hub over a Git server.

use flotilla_core::{content::Content, rollout::waiting::Waiting, unit::Settings};
use flotilla_proto::fleet::v1::{ApplyRequest, Document, ListResourcesRequest, Resource};
use flotilla_testkit::{GitAccess, GitRepo, GitServer, wait_until};
use sqlx::{Row as _, types::Json};

use crate::hub::{Hub, PATIENCE, Setting};

/// A hub, a Git server, and one cluster `c1` on which everything named `app` is placed.
pub(crate) struct Fleet {
    pub(crate) hub: Hub,
    pub(crate) git: GitServer,
}

/// The one unit of `app`, as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    version: i64,
    target: Vec<u8>,
    objects: Vec<String>,
    settings: Settings,
    waiting: Vec<Waiting>,
    state: String,
}

pub(crate) const PLACEMENT: &str = "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: everywhere}
spec:
  apps: [{kind: Kustomization, name: app, namespace: apps}]
  clusters: {names: [c1]}
";

pub(crate) fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: \"{name}\", namespace: apps}}\ndata: {{k: \"{value}\"}}\n"
    )
}

/// A Kustomization `app` with these further fields of its spec.
pub(crate) fn app(source: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: app, namespace: apps}}\n\
         spec:\n  interval: 10m\n  path: {path}\n  prune: true\n  sourceRef: {{kind: GitRepository, name: {source}}}\n{more}"
    )
}

impl Fleet {
    async fn start() -> Self {
        let this = Self::empty().await;
        this.hub.world.cluster("c1").await;
        this
    }

    /// Without a cluster.
    pub(crate) async fn empty() -> Self {
        Self::empty_as(&Setting::default()).await
    }

    /// Without a cluster, and a hub that is started like this.
    pub(crate) async fn empty_as(setting: &Setting) -> Self {
        let hub = Hub::start_as(setting).await;
        let git = GitServer::start(GitAccess::Public).await.expect("a Git server");
        Self { hub, git }
    }

    /// A repository with these files.
    pub(crate) async fn repository(&self, name: &str, files: &[(&str, &str)]) -> GitRepo {
        let repository = self.git.create(&format!("{name}.git")).await.expect("made");
        repository
            .commit("main", files, "first")
            .await
            .expect("committed");
        repository
    }

    pub(crate) fn source(&self, name: &str) -> String {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: apps}}\n\
             spec: {{interval: 10m, url: \"{}\", ref: {{branch: main}}}}\n",
            self.git.http_url(&format!("{name}.git"))
        )
    }

    pub(crate) async fn apply(&self, documents: &[&str]) {
        let request = ApplyRequest {
            documents: vec![Document {
                file: "fleet.yaml".into(),
                text: documents.join("---\n"),
            }],
            ..ApplyRequest::default()
        };
        let answer = self.hub.fleet().await.apply(self.hub.authorized(request)).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!(answer.applied.len(), documents.len(), "{:?}", answer.problems);
    }

    async fn unit(&self) -> Option<Unit> {
        let row = sqlx::query(
            "SELECT u.version, u.target, t.content, t.settings, u.waiting, u.state
             FROM unit u JOIN target t ON t.digest = u.target JOIN resource r ON r.uid = u.app_uid WHERE r.name = 'app'",
        )
        .fetch_optional(&self.hub.world.pool)
        .await
        .expect("read")?;
        let digest: Vec<u8> = row.get("content");
        let stored = self.hub.world.store.contents(&[&digest]).await.expect("read");
        let stored = stored.into_values().next();
        let stored = stored.expect("there").into_plain().expect("plain");
        let content = Content::from_bytes(&stored).expect("a content");
        Some(Unit {
            version: row.get("version"),
            target: row.get("target"),
            objects: content.objects().iter().map(|one| one.key.to_string()).collect(),
            settings: serde_json::from_value(row.get("settings")).expect("settings"),
            waiting: row.get::<Json<_>, _>("waiting").0,
            state: row.get("state"),
        })
    }

    /// Waits until the unit of `app` holds exactly this object.
    pub(crate) async fn deployed(&self, object: &str) -> Unit {
        let look = async || {
            let unit = self.unit().await;
            match unit {
                Some(unit) if unit.objects == [object.to_owned()] => Ok(Some(unit)),
                other => Err(format!("{other:?}; the app says {:?}", self.ready().await)),
            }
        };
        wait_until(object, PATIENCE, look).await.expect("deployed")
    }

    /// Waits until the unit of `app` waits for exactly this: an app says that its rendering failed before its units are
    /// planned anew.
    async fn waits(&self, reason: Waiting) -> Unit {
        let look = async || {
            let unit = self.unit().await;
            match unit {
                Some(unit) if unit.waiting == [reason.clone()] => Ok(Some(unit)),
                other => Err(format!("{other:?}")),
            }
        };
        wait_until("the unit waits", PATIENCE, look).await.expect("waits")
    }

    pub(crate) async fn resource(&self, kind: &str) -> Option<Resource> {
        self.resources(kind).await.into_iter().next()
    }

    pub(crate) async fn resources(&self, kind: &str) -> Vec<Resource> {
        let request = ListResourcesRequest {
            kinds: vec![kind.into()],
            ..ListResourcesRequest::default()
        };
        let listed = self
            .hub
            .fleet()
            .await
            .list_resources(self.hub.authorized(request))
            .await;
        listed.expect("listed").into_inner().resources
    }

    /// Reason and message of the app's Ready condition.
    async fn ready(&self) -> (String, String) {
        let app = self.resource("Kustomization").await.expect("an app");
        let ready = app.conditions.into_iter().next().expect("a condition");
        (ready.reason, ready.message)
    }

    /// Waits until the app says this reason; returns its message.
    async fn says(&self, reason: &str) -> String {
        let look = async || {
            let said = self.ready().await;
            if said.0 == reason {
                Ok(Some(said.1))
            } else {
                Err(format!("{said:?}"))
            }
        };
        wait_until(reason, PATIENCE, look).await.expect("said")
    }
}

#[tokio::test]
async fn a_changed_source_ref_deploys_the_new_source_and_back() {
    let fleet = Fleet::start().await;
    let (a, b) = (config_map("from-a", "1"), config_map("from-b", "1"));
    let _repositories = (
        fleet.repository("a", &[("app/x.yaml", &a)]).await,
        fleet.repository("b", &[("app/x.yaml", &b)]).await,
    );
    // The revision of `b` is recorded first, so that of `a` has the higher number.
    fleet
        .apply(&[&fleet.source("b"), &app("b", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/from-b").await;
    fleet.apply(&[&fleet.source("a"), &app("a", "./app", "")]).await;
    fleet.deployed("ConfigMap/apps/from-a").await;
    fleet.apply(&[&app("b", "./app", "")]).await;
    fleet.deployed("ConfigMap/apps/from-b").await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_source_ref_to_what_is_not_there_holds_the_unit_and_says_so() {
    let fleet = Fleet::start().await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("from-a", "1"))])
        .await;
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    let before = fleet.deployed("ConfigMap/apps/from-a").await;
    fleet.apply(&[&app("missing", "./app", "  wait: true\n")]).await;
    let message = fleet.says("ArtifactFailed").await;
    assert!(message.contains("missing"), "{message}");
    let missing = Waiting::SourceNotFound {
        kind: "GitRepository".into(),
        namespace: "apps".into(),
        name: "missing".into(),
    };
    let held = fleet.waits(missing).await;
    assert_eq!(
        (held.target, held.version, held.settings),
        (before.target, before.version, before.settings)
    );
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_failed_build_holds_content_settings_and_variables_together() {
    let fleet = Fleet::start().await;
    let files = [
        ("app/x.yaml", config_map("x", "${SIZE}")),
        ("broken/kustomization.yaml", "resources: [none.yaml]\n".to_owned()),
        ("good/y.yaml", config_map("y", "1")),
    ];
    let _repository = fleet
        .repository("a", &files.each_ref().map(|(path, text)| (*path, text.as_str())))
        .await;
    let substitute = "  postBuild: {substitute: {SIZE: \"1\"}}\n";
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", substitute), PLACEMENT])
        .await;
    let before = fleet.deployed("ConfigMap/apps/x").await;
    // Substitution is taken away and the new path does not build: the old templates must not go out unsubstituted.
    fleet.apply(&[&app("a", "./broken", "")]).await;
    let message = fleet.says("BuildFailed").await;
    let held = fleet.waits(Waiting::BuildFailed { message }).await;
    assert_eq!((&held.target, held.version), (&before.target, before.version));
    assert_eq!(held.settings, before.settings);
    // A renderer that this hub does not have holds in the same way.
    let elsewhere = app("a", "./good", "").replace(
        "namespace: apps}",
        "namespace: apps, annotations: {fleet.flotilla.dev/renderer: other}}",
    );
    fleet.apply(&[&elsewhere]).await;
    fleet.says("NotSupported").await;
    assert_eq!(fleet.unit().await.expect("a unit").target, before.target);
    fleet.apply(&[&app("a", "./good", "")]).await;
    let after = fleet.deployed("ConfigMap/apps/y").await;
    assert_eq!(after.waiting, []);
    fleet.hub.world.is_quiet().await;
}

/// Postgres takes no NUL: a failure that cannot be recorded would be rendered for ever.
#[tokio::test]
async fn a_failure_that_quotes_what_no_terminal_should_show_is_recorded_at_once_and_shown_as_escapes() {
    let fleet = Fleet::start().await;
    let hostile = r#"\0\e[2J\u202e"#;
    let object = |kind: &str, name: &str| {
        format!("apiVersion: v1\nkind: \"{kind}\"\nmetadata: {{name: \"{name}\", namespace: apps}}\n")
    };
    // Two of one identity, which the failure names.
    let listed = "resources: [x.yaml, y.yaml]\n";
    let kind = object(&format!("K{hostile}"), "a");
    let name = object("ConfigMap", &format!("a{hostile}"));
    let files = [
        (
            "path/kustomization.yaml",
            format!("resources: [\"none{hostile}.yaml\"]\n"),
        ),
        (
            "long/kustomization.yaml",
            format!("resources: [{}]\n", "n".repeat(100_000)),
        ),
        ("kind/kustomization.yaml", listed.to_owned()),
        ("kind/x.yaml", kind.clone()),
        ("kind/y.yaml", kind),
        ("name/kustomization.yaml", listed.to_owned()),
        ("name/x.yaml", name.clone()),
        ("name/y.yaml", name),
    ];
    let _repository = fleet
        .repository("a", &files.each_ref().map(|(path, text)| (*path, text.as_str())))
        .await;
    fleet.apply(&[&fleet.source("a"), PLACEMENT]).await;
    for path in ["path", "long", "kind", "name"] {
        fleet.apply(&[&app("a", &format!("./{path}"), "")]).await;
        let failed = wait_until("the failure is recorded", PATIENCE, async || {
            let row = sqlx::query(
                "SELECT r.message, r.attempts FROM rendering r JOIN input_at t ON t.rendering = r.digest
                 JOIN app_input a ON a.input_key = t.input_key WHERE r.state = 'Failed' AND r.message LIKE '%' || $1 || '%'",
            );
            let row = row
                .bind(format!("{path}/"))
                .fetch_optional(&fleet.hub.world.pool)
                .await?;
            Ok::<Option<(String, i32)>, sqlx::Error>(row.map(|row| (row.get(0), row.get(1))))
        });
        let (message, attempts) = failed.await.expect("recorded");
        assert_eq!(attempts, 1, "{message:?}");
        assert!(message.len() <= 4096, "{} bytes", message.len());
        let hidden = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!message.contains(hidden), "{message:?}");
        assert_eq!(path == "long", !message.contains("\\u{1b}"), "{message}");
    }
}

#[tokio::test]
async fn a_rendering_that_this_machine_cannot_do_now_is_tried_again_with_backoff() {
    let fleet = Fleet::start().await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("x", "1"))])
        .await;
    // The reference renderer's scratch directory is a file: an error of the machine, not of the source.
    let scratch = fleet.hub.world.dir.path().join("scratch");
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::write(&scratch, "").expect("a file");
    let reference = app("a", "./app", "").replace(
        "namespace: apps}",
        "namespace: apps, annotations: {fleet.flotilla.dev/renderer: reference}}",
    );
    fleet.apply(&[&fleet.source("a"), &reference, PLACEMENT]).await;
    let seconds = wait_until("a fourth attempt", PATIENCE, async || {
        let row = sqlx::query(
            "SELECT extract(epoch FROM now() - created_at)::float8 FROM rendering WHERE attempts >= 4",
        );
        let row = row.fetch_optional(&fleet.hub.world.pool).await?;
        Ok::<Option<f64>, sqlx::Error>(row.map(|row| row.get(0)))
    });
    // 0.75 s, then twice as long each time.
    let seconds = seconds.await.expect("tried again");
    assert!(seconds > 5.0, "{seconds}");
    let message = fleet.says("BuildFailed").await;
    assert!(message.contains("renderer cannot run"), "{message}");
    std::fs::remove_file(&scratch).expect("removed");
    std::fs::create_dir(&scratch).expect("made");
    fleet.deployed("ConfigMap/apps/x").await;
}

#[tokio::test]
async fn a_lost_artifact_is_fetched_again_by_itself() {
    let fleet = Fleet::start().await;
    let files = [
        ("app/x.yaml", config_map("x", "1")),
        ("other/y.yaml", config_map("y", "1")),
    ];
    let _repository = fleet
        .repository("a", &files.each_ref().map(|(path, text)| (*path, text.as_str())))
        .await;
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/x").await;
    let artifacts = fleet.hub.world.dir.path().join("artifacts");
    for entry in std::fs::read_dir(&artifacts).expect("read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("removed");
        }
    }
    // The same commit, another path: that has to be rendered from the artifact.
    fleet.apply(&[&app("a", "./other", "")]).await;
    fleet.deployed("ConfigMap/apps/y").await;
    assert_eq!(fleet.hub.world.count("SELECT count(*) FROM revision").await, 1);
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_tree_that_packs_far_below_its_size_is_rendered() {
    let fleet = Fleet::start().await;
    let zeros = "0".repeat(8 << 20);
    let repository = fleet.git.create("a.git").await.expect("made");
    let change = repository
        .change("main")
        .write("zeros", zeros)
        .write("app/x.yaml", config_map("x", "1"));
    change.commit("zeros").await.expect("committed");
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/x").await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn an_unreadable_secret_placement_or_cluster_stops_nothing_else() {
    let fleet = Fleet::start().await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("x", "1"))])
        .await;
    let receiver = "apiVersion: notification.toolkit.fluxcd.io/v1\nkind: Receiver\nmetadata: {name: r, namespace: apps}\n\
                    spec: {type: generic-hmac, secretRef: {name: token}, resources: [{kind: GitRepository, name: a}]}\n";
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: token, namespace: apps}\nstringData: {token: abc}\n";
    fleet.apply(&[secret]).await;
    fleet
        .hub
        .world
        .execute("UPDATE resource SET sealed_payload = '\\x00' WHERE kind = 'Secret'")
        .await;
    fleet.hub.world.cluster("c2").await;
    fleet
        .hub
        .world
        .execute("UPDATE resource SET labels = '{\"a\": 1}' WHERE kind = 'Cluster' AND name = 'c2'")
        .await;
    fleet
        .hub
        .world
        .execute(
            "INSERT INTO resource (uid, api_group, kind, namespace, name, api_version, spec, origin)
             VALUES (gen_random_uuid(), 'fleet.flotilla.dev', 'Placement', '', 'bad', 'v1alpha1',
                     '{\"apps\": [{\"kind\": \"Kustomization\", \"name\": \"other\"}], \"clusters\": 5}', 'test')",
        )
        .await;
    fleet.apply(&[receiver]).await;
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/x").await;
    let shown = fleet.resource("Receiver").await.expect("a receiver");
    assert_eq!(
        shown.conditions[0].reason, "TokenUnreadable",
        "{:?}",
        shown.conditions
    );
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn of_hubs_of_two_releases_the_newer_decides_until_it_ends_and_artifacts_are_on_both() {
    let fleet = Fleet::start().await;
    let files = [
        ("app/x.yaml", config_map("x", "1")),
        ("other/y.yaml", config_map("y", "1")),
    ];
    let _repository = fleet
        .repository("a", &files.each_ref().map(|(path, text)| (*path, text.as_str())))
        .await;
    let newer = fleet.hub.another(i64::MAX).await;
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    let first = fleet.deployed("ConfigMap/apps/x").await;
    assert!(newer.log().contains("planned"), "{}", newer.log());
    assert!(!fleet.hub.log().contains("planned"), "{}", fleet.hub.log());
    assert_eq!(
        (
            first.version,
            fleet.hub.world.count("SELECT count(*) FROM revision").await
        ),
        (1, 1)
    );
    newer.stop().await;
    // What only the newer hub may have fetched, the older one fetches again for itself.
    fleet.apply(&[&app("a", "./other", "")]).await;
    fleet.deployed("ConfigMap/apps/y").await;
    assert!(fleet.hub.log().contains("planned"), "{}", fleet.hub.log());
    assert_eq!(fleet.hub.world.count("SELECT count(*) FROM revision").await, 1);
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn an_app_without_units_is_never_ready() {
    let fleet = Fleet::start().await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("x", "1"))])
        .await;
    fleet
        .apply(&[
            &fleet.source("a"),
            &app("a", "./app", "  suspend: true\n"),
            PLACEMENT,
        ])
        .await;
    wait_until("a plan", PATIENCE, async || {
        let plans = fleet
            .hub
            .world
            .count("SELECT count(*) FROM app_plan WHERE waiting = '[]'")
            .await;
        Ok::<_, String>((plans == 1).then_some(()))
    })
    .await
    .expect("planned");
    let shown = fleet.resource("Kustomization").await.expect("an app");
    assert_eq!(shown.conditions[0].status, "Unknown", "{:?}", shown.conditions);
    fleet.hub.world.is_quiet().await;
}
