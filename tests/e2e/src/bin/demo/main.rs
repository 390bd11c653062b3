//! `make demo`: the main job on three clusters, shown step by step. Every claim about a cluster is read from its
//! API server; the first step that is not observed ends it with a failure.
//!
//! `KEEP=1` leaves everything running and prints what to try.

mod recovery;
mod removal;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::{AgentProcess, HubProcess, Objects};
use flotilla_testkit::{ControlPlane, GitAccess, GitRepo, GitServer, wait_until};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::ListParams};

const WITHIN: Duration = Duration::from_secs(60);
const CLUSTERS: [(&str, &str, &str); 3] = [
    ("paris", "production", "eu-west"),
    ("austin", "production", "us-south"),
    ("lab", "staging", "office"),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    flotilla_testkit::install_tls_provider();
    let demo = Demo {
        began: Instant::now(),
    };
    let dir = tempfile::Builder::new().prefix("flotilla-demo-").tempdir()?;
    open_to_postgres(dir.path())?;
    demo.run(dir.path()).await
}

/// A private Postgres of a hub that runs as root is another user, who must be able to pass through.
fn open_to_postgres(dir: &Path) -> anyhow::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    Ok(std::fs::set_permissions(dir, mode)?)
}

struct Demo {
    began: Instant,
}

impl Demo {
    fn say(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.began.elapsed().as_secs_f64());
    }

    async fn run(&self, dir: &Path) -> anyhow::Result<()> {
        self.say("► starting three Kubernetes control planes, a Git server and a hub with its own Postgres");
        let hub_dir = dir.join("hub");
        let life = format!("{}s", recovery::LIFE.as_secs());
        let certificates = ["--agent-certificate-lifetime", life.as_str()];
        let (planes, git, hub) = tokio::try_join!(
            async { anyhow::Ok(ControlPlane::start_many(CLUSTERS.len()).await?) },
            async { anyhow::Ok(GitServer::start(GitAccess::Public).await?) },
            HubProcess::start_with(&hub_dir, &certificates),
        )?;
        let mut hub = hub;
        let repo = git.create("fleet.git").await?;
        first_commit(&repo).await?;
        self.say("✔ they run");

        hub.apply(&configuration(&git.http_url("fleet.git")))?;
        self.say("✔ configuration applied: 3 Clusters, 1 GitRepository, 2 Kustomizations, 2 Placements");
        let mut agents = Vec::new();
        for ((name, _, _), plane) in CLUSTERS.iter().zip(&planes) {
            let join = hub.token(name)?;
            agents.push(AgentProcess::install(plane, &join, &dir.join(name)).await?);
        }
        self.say("► three agents installed, each joining with its own single-use token");

        let mut clusters = Vec::new();
        for plane in &planes {
            clusters.push(Objects::of(plane, "shop").await?);
        }
        self.everywhere(&clusters, &hub, &agents).await?;
        self.commit_reaches(&repo, &hub, &clusters).await?;
        self.drift_is_corrected(&clusters[0], "an object edited by hand")
            .await?;
        let lab = Objects::of(&planes[planes.len() - 1], "default").await?;
        self.what_leaves_git(&repo, &hub, &lab).await?;
        let before = versions(&planes).await?;
        hub.stop()?;
        self.say("► the hub is stopped, its Postgres with it");
        self.drift_is_corrected(&clusters[1], "with the hub away, an object edited by hand")
            .await?;
        let away = versions(&planes).await?;
        hub.resume().await?;
        self.say("► the hub is back");
        self.connected(&hub).await?;
        let after = versions(&planes).await?;
        ensure!(
            away == after,
            "something was applied again after the hub returned: {away:?} became {after:?}"
        );
        ensure!(
            before.len() == after.len(),
            "objects appeared or vanished: {before:?} became {after:?}"
        );
        self.say("✔ all agents connected again, and nothing was applied again: every object kept its resourceVersion");
        if let (Some(agent), Some((name, ..))) = (agents.last_mut(), CLUSTERS.last()) {
            self.certificate_runs_out(&hub, (agent, *name), &planes).await?;
        }
        println!("\n{}", hub.cli(&["get", "units", "-A"])?);
        self.say("✔ the demo is complete");
        self.keep(&hub, &planes, &repo).await
    }

    async fn everywhere(
        &self,
        clusters: &[Objects],
        hub: &HubProcess,
        agents: &[AgentProcess],
    ) -> anyhow::Result<()> {
        for ((cluster, (name, env, region)), agent) in clusters.iter().zip(CLUSTERS).zip(agents) {
            let explain = || format!("hub:\n{}\nagent of {name}:\n{}", hub.said(), agent.said());
            cluster
                .until("settings", "region", region, WITHIN)
                .await
                .with_context(explain)?;
            cluster
                .until("settings", "environment", env, WITHIN)
                .await
                .with_context(explain)?;
        }
        wait_until("every app is Ready", WITHIN, async || {
            let apps = hub.cli(&["get", "kustomizations", "-A", "--no-header"])?;
            let ready = apps.lines().count() == 2 && apps.lines().all(|line| line.contains("True"));
            anyhow::Ok(ready.then_some(()))
        })
        .await?;
        self.say("✔ the fleet is Ready: each cluster has its overlay and its own variable, read from its API server");
        Ok(())
    }

    async fn commit_reaches(
        &self,
        repo: &GitRepo,
        hub: &HubProcess,
        clusters: &[Objects],
    ) -> anyhow::Result<()> {
        let settings = settings("dark");
        repo.commit(
            "main",
            &[("base/settings.yaml", settings.as_str())],
            "a dark theme",
        )
        .await?;
        let pushed = Instant::now();
        hub.cli(&["reconcile", "source", "git", "fleet"])?;
        let reached = clusters.iter().map(|cluster| async move {
            cluster.until("settings", "theme", "dark", WITHIN).await?;
            anyhow::Ok((cluster.cluster().to_owned(), pushed.elapsed()))
        });
        let mut times = Vec::new();
        for one in reached {
            times.push(one.await?);
        }
        self.say("✔ a commit reached every cluster");
        for ((_, took), (name, _, _)) in times.iter().zip(CLUSTERS) {
            println!("             {name:8} {:5} ms after the push", took.as_millis());
        }
        Ok(())
    }

    async fn drift_is_corrected(&self, cluster: &Objects, what: &str) -> anyhow::Result<()> {
        cluster.edit("settings", "theme", "pink").await?;
        let edited = Instant::now();
        cluster.until("settings", "theme", "dark", WITHIN).await?;
        self.say(&format!(
            "✔ {what}: corrected after {} ms",
            edited.elapsed().as_millis()
        ));
        Ok(())
    }

    async fn connected(&self, hub: &HubProcess) -> anyhow::Result<()> {
        wait_until("every agent is connected again", WITHIN, async || {
            let clusters = hub.cli(&["get", "clusters", "--no-header"])?;
            let connected = clusters.lines().filter(|line| line.contains("True")).count();
            anyhow::Ok((connected == CLUSTERS.len()).then_some(()))
        })
        .await?;
        wait_until("every unit is Ready again", WITHIN, async || {
            let units = hub.cli(&["get", "units", "-A", "--no-header"])?;
            let ready =
                units.lines().count() == CLUSTERS.len() && units.lines().all(|line| line.contains("True"));
            anyhow::Ok(ready.then_some(()))
        })
        .await?;
        Ok(())
    }

    async fn keep(&self, hub: &HubProcess, planes: &[ControlPlane], repo: &GitRepo) -> anyhow::Result<()> {
        if std::env::var_os("KEEP").is_none_or(|value| value.is_empty()) {
            return Ok(());
        }
        println!("\nEverything goes on until you interrupt this. Try, in another terminal:\n");
        // The programs of this very build stand beside this one.
        if let Some(programs) = std::env::current_exe()?.parent() {
            println!("  export PATH={}:$PATH", programs.display());
        }
        println!("  export FLOTILLA_CONFIG={}", hub.config().display());
        println!("  flotilla get units -A; flotilla events");
        println!(
            "  git clone {}   # commit and push, then: flotilla reconcile source git fleet",
            repo.path().display()
        );
        for ((name, _, _), plane) in CLUSTERS.iter().zip(planes) {
            println!(
                "  kubectl --kubeconfig {} -n shop get all   # {name}",
                plane.kubeconfig().display()
            );
        }
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}

/// resourceVersions of what the fleet applied, in every cluster. Deployments count by generation: their status
/// moves by itself.
async fn versions(planes: &[ControlPlane]) -> anyhow::Result<Vec<(String, String)>> {
    let mut versions = Vec::new();
    for plane in planes {
        let cluster = Objects::of(plane, "shop").await?;
        let settings = cluster
            .config_map("settings")
            .await?
            .context("settings is gone")?;
        versions.push((
            format!("{} settings", plane.name()),
            settings.metadata.resource_version.unwrap_or_default(),
        ));
        let deployments: Api<Deployment> = Api::namespaced(plane.client().await?, "shop");
        for deployment in deployments.list(&ListParams::default()).await? {
            let name = deployment.metadata.name.unwrap_or_default();
            let generation = deployment.metadata.generation.unwrap_or_default();
            versions.push((format!("{} {name}", plane.name()), generation.to_string()));
        }
    }
    Ok(versions)
}

fn settings(theme: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  theme: {theme}\n  region: ${{region}}\n"
    )
}

async fn first_commit(repo: &GitRepo) -> anyhow::Result<()> {
    let base = "resources:\n  - namespace.yaml\n  - settings.yaml\n  - web.yaml\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n";
    let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {app: web}\n  template:\n    metadata:\n      labels: {app: web}\n    spec:\n      containers:\n        - name: web\n          image: registry.example/web:1.0\n";
    let overlay = |env: &str, replicas: u32| {
        format!(
            "namespace: shop\nresources:\n  - ../../base\nreplicas:\n  - name: web\n    count: {replicas}\npatches:\n  - patch: |\n      apiVersion: v1\n      kind: ConfigMap\n      metadata:\n        name: settings\n      data:\n        environment: {env}\n"
        )
    };
    repo.commit(
        "main",
        &[
            ("base/kustomization.yaml", base.to_owned()),
            ("base/namespace.yaml", namespace.to_owned()),
            ("base/settings.yaml", settings("light")),
            ("base/web.yaml", web.to_owned()),
            ("overlays/production/kustomization.yaml", overlay("production", 2)),
            ("overlays/staging/kustomization.yaml", overlay("staging", 1)),
        ],
        "a shop",
    )
    .await?;
    Ok(())
}

fn configuration(url: &str) -> String {
    let mut text = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: fleet, namespace: flux-system}}\nspec:\n  url: {url}\n  interval: 10m\n  ref: {{branch: main}}\n"
    );
    for (name, env, region) in CLUSTERS {
        text.push_str(&format!(
            "---\napiVersion: fleet.flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}, labels: {{env: {env}}}}}\nspec:\n  variables: {{region: {region}}}\n"
        ));
    }
    for env in ["production", "staging"] {
        text.push_str(&format!(
            "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: shop-{env}, namespace: flux-system}}\nspec:\n  interval: 10m\n  prune: true\n  wait: true\n  timeout: 2m\n  path: ./overlays/{env}\n  sourceRef: {{kind: GitRepository, name: fleet}}\n  postBuild:\n    substitute: {{region: unknown}}\n---\napiVersion: fleet.flotilla.dev/v1alpha1\nkind: Placement\nmetadata: {{name: shop-{env}}}\nspec:\n  apps: [{{kind: Kustomization, name: shop-{env}, namespace: flux-system}}]\n  clusters: {{selector: {{matchLabels: {{env: {env}}}}}}}\n"
        ));
    }
    text
}
