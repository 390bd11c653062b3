//! What leaves Git leaves the cluster: an object, a move between apps, a path that was mistyped, an app that keeps what it
//! has. What is claimed about the cluster is read from its API server.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, time::Duration};

use e2e::{
    AgentProcess, HubProcess, Objects, agent,
    quiet::{Asking, nothing_turns},
};
use flotilla_testkit::{
    AuditFilter, AuditMark, ControlPlane, ControlPlaneOptions, GitAccess, GitRepo, GitServer, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

struct World {
    plane: ControlPlane,
    repo: GitRepo,
    _git: GitServer,
    hub: HubProcess,
    agent: AgentProcess,
    objects: Objects,
    began: AuditMark,
}

impl World {
    async fn new(dir: &Path) -> Self {
        let plane = ControlPlane::start(ControlPlaneOptions::named("removal"))
            .await
            .unwrap();
        let git = GitServer::start(GitAccess::Public).await.unwrap();
        let repo = git.create("apps.git").await.unwrap();
        let many: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let first = [
            files("a", &["x", "y", "moves"]),
            files("b", &["z"]),
            files("many", &many),
            files("typo", &["t"]),
        ];
        repo.commit("main", &first.concat(), "first").await.unwrap();
        let hub = HubProcess::start(&dir.join("hub")).await.unwrap();
        let began = plane.audit().mark();
        let agent = AgentProcess::install(&plane, &hub.token("one").unwrap(), &dir.join("agent"))
            .await
            .unwrap();
        let objects = Objects::of(&plane, "default").await.unwrap();
        hub.apply(&configuration(&git.http_url("apps.git"))).unwrap();
        Self {
            plane,
            repo,
            _git: git,
            hub,
            agent,
            objects,
            began,
        }
    }

    async fn commit(&self, files: &[(String, String)], message: &str) {
        self.repo.commit("main", files, message).await.unwrap();
        self.fetch();
    }

    fn fetch(&self) {
        self.hub.cli(&["reconcile", "source", "git", "apps"]).unwrap();
    }

    async fn uid(&self, name: &str) -> Option<String> {
        self.objects
            .config_map(name)
            .await
            .unwrap()
            .and_then(|found| found.metadata.uid)
    }

    async fn until(&self, state: &str, is_so: impl AsyncFn() -> Result<bool, String>) {
        wait_until(state, WITHIN, async || match is_so().await {
            Ok(true) => Ok(Some(())),
            Ok(false) => Err(String::new()),
            Err(why) => Err(why),
        })
        .await
        .map_err(|e| format!("{e}\nhub:\n{}\nagent:\n{}", self.hub.said(), self.agent.said()))
        .unwrap();
    }

    async fn until_there(&self, names: &[&str]) {
        for name in names {
            self.until(&format!("{name} is there"), async || {
                Ok(self.uid(name).await.is_some())
            })
            .await;
        }
    }

    async fn until_gone(&self, name: &str) {
        self.until(&format!("{name} is gone"), async || match self.uid(name).await {
            None => Ok(true),
            Some(_) => Err(self.hub.cli(&["get", "units"]).unwrap_or_default()),
        })
        .await;
    }

    /// Waits until the units of an app say this.
    async fn until_said(&self, app: &str, part: &str) {
        self.until(&format!("{app} says {part}"), async || {
            let units = self.hub.command_line().list(&["get", "units"]);
            let units = units.map_err(|e| format!("{e:#}"))?;
            let unit = units.iter().find(|unit| unit["app"]["name"] == app);
            let said = unit.map(ToString::to_string).unwrap_or_default();
            match said.contains(part) {
                true => Ok(true),
                false => Err(said),
            }
        })
        .await;
    }

    /// Waits until the list of clusters says this.
    async fn until_clusters(&self, part: &str) {
        self.until(&format!("clusters say {part}"), async || {
            let listed = self.hub.cli(&["cluster", "list"]).map_err(|e| format!("{e:#}"))?;
            match listed.contains(part) {
                true => Ok(true),
                false => Err(listed),
            }
        })
        .await;
    }

    /// Waits until the hub has no such app any more.
    async fn until_no(&self, app: &str) {
        self.until(&format!("there is no app {app}"), async || {
            let apps = self
                .hub
                .cli(&["get", "kustomizations"])
                .map_err(|e| format!("{e:#}"))?;
            let units = self.hub.cli(&["get", "units"]).map_err(|e| format!("{e:#}"))?;
            match apps
                .lines()
                .any(|line| line.split_whitespace().next() == Some(app))
            {
                false => Ok(true),
                true => Err(format!("{apps}\n{units}")),
            }
        })
        .await;
    }

    /// The agent keeps its watches, and asks for nothing; the hub publishes nothing.
    async fn rests(&self) {
        let cli = self.hub.command_line();
        nothing_turns(&cli, &Asking::installed(&self.plane))
            .await
            .map_err(|e| format!("{e:#}\nhub:\n{}\nagent:\n{}", self.hub.said(), self.agent.said()))
            .unwrap();
    }

    /// Names of what the agent asked to be deleted, each once.
    fn deleted(&self) -> Vec<String> {
        let filter = AuditFilter::all()
            .after(self.began)
            .user(agent::USER)
            .verb("delete")
            .verb("deletecollection");
        let requests = self.plane.audit().requests(&filter).unwrap();
        let mut names: Vec<String> = requests
            .iter()
            .filter_map(|one| Some(one.object_ref.as_ref()?.name.clone()))
            .collect();
        names.sort_unstable();
        names
    }
}

/// An app's folder with ConfigMaps of these names.
fn files(app: &str, names: &[&str]) -> Vec<(String, String)> {
    let object = |name: &&str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{of: one}}\n"
        )
    };
    let objects: Vec<String> = names.iter().map(object).collect();
    vec![(format!("{app}/objects.yaml"), objects.join("---\n"))]
}

fn app(name: &str, path: &str, prune: bool) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}, namespace: flux-system}}
spec: {{interval: 1h, prune: {prune}, path: ./{path}, sourceRef: {{kind: GitRepository, name: apps}}}}
---
"
    )
}

fn configuration(url: &str) -> String {
    let placement = placement(&["a", "b", "many"]);
    let apps: String = ["a", "b", "many"]
        .iter()
        .map(|name| app(name, name, true))
        .collect();
    format!(
        "{apps}apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: apps, namespace: flux-system}}
spec: {{url: {url}, interval: 1h, ref: {{branch: main}}}}
---
{placement}"
    )
}

fn placement(apps: &[&str]) -> String {
    let apps = apps
        .iter()
        .map(|name| format!("  - {{kind: Kustomization, name: {name}, namespace: flux-system}}\n"));
    let apps: String = apps.collect();
    format!(
        "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {{name: all}}
spec:
  apps:
{apps}  clusters: {{names: [one]}}
"
    )
}

#[tokio::test]
async fn what_leaves_git_leaves_the_cluster_and_nothing_else_does() {
    flotilla_testkit::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let world = World::new(dir.path()).await;
    world.until_there(&["x", "y", "moves", "z", "m0", "m11"]).await;
    an_object_that_left_is_deleted(&world).await;
    an_object_that_moves_to_another_app_keeps_its_uid(&world).await;
    a_path_that_was_mistyped_deletes_nothing_until_a_person_allows_it(&world).await;
    an_app_that_does_not_prune_keeps_what_left_it(&world).await;
    an_app_that_is_renamed_hands_its_objects_over(&world).await;
    an_app_that_is_deleted_takes_its_objects_along(&world).await;
    assert!(world.uid("z").await.is_some() && world.uid("moves").await.is_some());
    a_cluster_that_is_drained_is_emptied_and_gets_all_back(&world).await;
    world.rests().await;
    a_cluster_that_retires_keeps_what_it_has(&world).await;
}

async fn an_object_that_left_is_deleted(world: &World) {
    world.commit(&files("a", &["x", "moves"]), "without y").await;
    world.until_gone("y").await;
    assert_eq!(world.deleted(), ["y"]);
    world
        .until("an event tells it", async || {
            let told = world.hub.cli(&["events"]).map_err(|e| format!("{e:#}"))?;
            Ok(told.contains("Pruned") && told.contains("ConfigMap/default/y"))
        })
        .await;
    world.until_said("a", "\"pendingRemoval\":0").await;
}

async fn an_object_that_moves_to_another_app_keeps_its_uid(world: &World) {
    let uid = world.uid("moves").await;
    assert!(uid.is_some());
    let both = [files("a", &["x"]), files("b", &["z", "moves"])].concat();
    world.commit(&both, "it moves").await;
    world.until_said("a", "\"pendingRemoval\":0").await;
    world.until_said("b", "\"total\":2").await;
    world.until_said("a", "\"total\":1").await;
    assert_eq!(world.uid("moves").await, uid);
    assert_eq!(world.deleted(), ["y"]);
}

/// R-numbers of the reference: an empty or smaller set is no order to delete.
async fn a_path_that_was_mistyped_deletes_nothing_until_a_person_allows_it(world: &World) {
    world.hub.apply(&app("many", "typo", true)).unwrap();
    world.until_there(&["t"]).await;
    world.until_said("many", "PruneBlocked").await;
    world
        .until_said("many", "flotilla approve Kustomization/flux-system/many")
        .await;
    let shown = world
        .hub
        .cli(&["approve", "Kustomization/flux-system/many"])
        .unwrap_err()
        .to_string();
    assert!(shown.contains("nothing was allowed"), "{shown}");
    assert!(world.uid("m0").await.is_some() && world.uid("m11").await.is_some());
    assert_eq!(world.deleted(), ["y"]);
    let allowed = world.hub.cli(&["approve", "ks/many", "--yes"]).unwrap();
    assert!(
        allowed.contains("12 objects would be deleted on 1 cluster: one"),
        "{allowed}"
    );
    for name in ["m0", "m11"] {
        world.until_gone(name).await;
    }
    world.until_said("many", "\"pendingRemoval\":0").await;
    assert!(world.uid("t").await.is_some());
    assert_eq!(world.deleted().len(), 13);
}

async fn an_app_that_does_not_prune_keeps_what_left_it(world: &World) {
    world.hub.apply(&app("b", "b", false)).unwrap();
    world.commit(&files("b", &["z"]), "without what moved").await;
    world.until_said("b", "\"pendingRemoval\":1").await;
    world.until_said("b", "\"ready\":\"True\"").await;
    assert!(world.uid("moves").await.is_some());
    assert_eq!(world.deleted().len(), 13);
}

/// Under another name it is another app: the objects pass from the one to the other, and none is deleted or made anew.
async fn an_app_that_is_renamed_hands_its_objects_over(world: &World) {
    let uid = world.uid("x").await;
    let placed = placement(&["a", "b", "many", "renamed"]);
    world
        .hub
        .apply(&format!("{}{placed}", app("renamed", "a", true)))
        .unwrap();
    world.until_said("renamed", "belongs to").await;
    let shown = world.hub.cli(&["delete", "ks", "a"]).unwrap_err().to_string();
    assert!(shown.contains("nothing was deleted"), "{shown}");
    world.hub.cli(&["delete", "ks", "a", "--yes"]).unwrap();
    world.until_no("a").await;
    world.until_said("renamed", "\"ready\":\"True\"").await;
    world.until_said("renamed", "\"total\":1").await;
    assert!(uid.is_some());
    assert_eq!(world.uid("x").await, uid);
    assert_eq!(world.deleted().len(), 13);
}

async fn an_app_that_is_deleted_takes_its_objects_along(world: &World) {
    world.hub.cli(&["delete", "ks", "renamed", "--yes"]).unwrap();
    world.until_gone("x").await;
    world.until_no("renamed").await;
    assert_eq!(world.deleted().len(), 14);
    // One that does not prune leaves what it has.
    world.hub.cli(&["delete", "ks", "b", "--yes"]).unwrap();
    world.until_no("b").await;
    assert_eq!(world.deleted().len(), 14);
}

async fn a_cluster_that_is_drained_is_emptied_and_gets_all_back(world: &World) {
    let shown = world
        .hub
        .cli(&["cluster", "drain", "one"])
        .unwrap_err()
        .to_string();
    assert!(shown.contains("nothing was done"), "{shown}");
    world.hub.cli(&["cluster", "drain", "one", "--yes"]).unwrap();
    world.until_gone("t").await;
    world.until_clusters("Drained").await;
    assert_eq!(world.deleted().len(), 15);
    world.hub.cli(&["cluster", "resume", "one"]).unwrap();
    world.until_there(&["t"]).await;
    world.until_said("many", "\"ready\":\"True\"").await;
}

async fn a_cluster_that_retires_keeps_what_it_has(world: &World) {
    let uid = world.uid("t").await;
    world.hub.cli(&["cluster", "retire", "one", "--yes"]).unwrap();
    world
        .until("the cluster has left", async || {
            let listed = world
                .hub
                .cli(&["cluster", "list"])
                .map_err(|e| format!("{e:#}"))?;
            match listed.contains("one") {
                false => Ok(true),
                true => Err(listed),
            }
        })
        .await;
    assert!(uid.is_some());
    assert_eq!(world.uid("t").await, uid);
    assert_eq!(world.deleted().len(), 15);
}
