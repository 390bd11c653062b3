//! A hub with simulated agents in this process, and apps of one repository on all of them.

use std::path::Path;

use e2e::{HubProcess, sim::Sim};
use flotilla_agent::cluster::fake::Fake;
use flotilla_api::access::Access;
use flotilla_testkit::{GitAccess, GitRepo, GitServer, wait_until};
use serde_json::{Value, json};

use crate::{WITHIN, files, usage};

pub(crate) struct Fleet {
    pub(crate) hub: HubProcess,
    pub(crate) access: Access,
    pub(crate) repo: GitRepo,
    pub(crate) client: reqwest::Client,
    sims: Vec<Sim>,
    git: GitServer,
}

impl Fleet {
    /// Starts the hub, with a repository of these files.
    pub(crate) async fn start(dir: &Path, files: &[(String, String)]) -> anyhow::Result<Self> {
        let git = GitServer::start(GitAccess::Public).await?;
        let repo = git.create("apps.git").await?;
        repo.commit("main", files, "first").await?;
        let hub = HubProcess::start_with(&dir.join("hub"), &["--enrolment-attempts", "20000"]).await?;
        let access = Access::read(&std::fs::read_to_string(hub.config())?)?;
        Ok(Self {
            hub,
            access,
            repo,
            client: e2e::hub::http_client()?,
            sims: Vec::new(),
            git,
        })
    }

    /// Resident memory of the hub, in MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        usage::memory(self.hub_pid()?, "VmRSS")
    }

    fn hub_pid(&self) -> anyhow::Result<u32> {
        self.hub
            .pid()
            .ok_or_else(|| anyhow::anyhow!("the hub does not run"))
    }

    pub(crate) fn count(&self) -> usize {
        self.clusters().count()
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Fake> {
        self.sims.iter().flat_map(Sim::clusters)
    }

    /// Lets further agents join, and waits until they are connected.
    pub(crate) async fn join(&mut self, prefix: &str, count: u32) -> anyhow::Result<()> {
        let sim = Sim::start(self.access.context(None)?, prefix, count).await?;
        self.sims.push(sim);
        self.connected().await
    }

    pub(crate) async fn connected(&self) -> anyhow::Result<()> {
        let url = format!("http://{}/metrics", self.hub.health_address());
        let wanted = self.count();
        wait_until("all agents are connected", 5 * WITHIN, async || {
            let text = self.client.get(&url).send().await?.text().await?;
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix("flotilla_hub_agents_connected "));
            match count.and_then(|count| count.parse::<usize>().ok()) {
                Some(count) if count == wanted => anyhow::Ok(Some(())),
                count => Err(anyhow::anyhow!("{count:?} of {wanted}")),
            }
        })
        .await?;
        Ok(())
    }

    /// Places apps, each a folder of the repository of its name, on all clusters.
    pub(crate) fn place(&self, apps: &[String]) -> anyhow::Result<()> {
        let flux = "flux-system";
        let mut objects: Vec<Value> = vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook", "namespace": flux},
                "stringData": {"token": "shared"}}),
            json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                "metadata": {"name": "apps", "namespace": flux},
                "spec": {"url": self.git.http_url("apps.git"), "interval": "1h", "ref": {"branch": "main"}}}),
            json!({"apiVersion": "notification.toolkit.fluxcd.io/v1", "kind": "Receiver",
                "metadata": {"name": "push", "namespace": flux},
                "spec": {"type": "generic-hmac", "secretRef": {"name": "hook"},
                    "resources": [{"kind": "GitRepository", "name": "apps"}]}}),
        ];
        objects.extend(apps.iter().map(|app| {
            json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                "metadata": {"name": app, "namespace": flux},
                "spec": {"interval": "1h", "prune": true, "path": format!("./{app}"),
                    "sourceRef": {"kind": "GitRepository", "name": "apps"}}})
        }));
        let placed: Vec<Value> = apps
            .iter()
            .map(|app| json!({"kind": "Kustomization", "name": app}))
            .collect();
        objects.push(
            json!({"apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Placement", "metadata": {"name": "all"},
                "spec": {"apps": placed, "clusters": {"selector": {"matchLabels": {"simulated": "true"}}}}}),
        );
        self.hub.apply(&files::documents(&objects))?;
        Ok(())
    }

    /// Calls the webhook, as a forge does after a push.
    pub(crate) async fn webhook(&self) -> anyhow::Result<()> {
        self.hub.push(&self.client).await
    }
}
