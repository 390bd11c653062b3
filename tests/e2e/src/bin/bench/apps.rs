//! A thousand Kustomizations of four objects from one repository onto one cluster: the first apply, one change, rest.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::{AgentProcess, HubProcess};
use flotilla_bench_report::{Figure, Record};
use flotilla_testkit::{
    AuditFilter, ControlPlane, ControlPlaneOptions, GitAccess, GitRepo, GitServer, wait_until,
};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::{
    WITHIN, Wanted,
    app_objects::{IN_FLIGHT, bare, file, image, image_of},
    files, idle_time, sample, setting,
    spread::spread,
    usage,
};

const APPLY: [&str; 3] = [
    "kustomizations_1000_first_apply_s",
    "kustomizations_1000_first_apply_cpu_s",
    "kustomizations_1000_first_apply_mib",
];
const CHANGE: [&str; 2] = [
    "kustomizations_1000_one_change_p99_s",
    "kustomizations_1000_one_change_cpu_s",
];
const IDLE: [&str; 2] = [
    "hub_idle_1000_apps_percent_core",
    "hub_and_postgres_idle_1000_apps_percent_core",
];
pub(crate) const NAMES: [&str; 7] = [
    APPLY[0], APPLY[1], APPLY[2], CHANGE[0], CHANGE[1], IDLE[0], IDLE[1],
];

/// Between questions whether all is done: each takes of the processors, and times are told by the API server's own log.
const LOOKS: Duration = Duration::from_secs(2);
/// Between pushes.
const PUSHES: Duration = Duration::from_millis(1100);

const AGENT: &str = "system:serviceaccount:flotilla-system:flotilla-agent";

pub(crate) async fn measure(dir: &Path, wanted: &Wanted, record: &mut Record) -> anyhow::Result<()> {
    let apps = setting("FLOTILLA_BENCH_APPS").unwrap_or(1000);
    // Controllers would take the processors at times of their own.
    let plane = ControlPlane::start(ControlPlaneOptions::api_only("apps")).await?;
    let bare = bare(&plane, apps).await?;
    let fleet = Fleet::start(dir, plane, apps).await?;
    for figure in fleet.first_apply(bare).await? {
        if wanted.any(&APPLY) {
            record.add(figure)?;
        }
    }
    if wanted.any(&CHANGE) {
        for figure in fleet.one_change(sample(100)).await? {
            record.add(figure)?;
        }
    }
    if wanted.any(&IDLE) {
        for figure in fleet.idle(idle_time(120)).await? {
            record.add(figure)?;
        }
    }
    Ok(())
}

struct Fleet {
    plane: ControlPlane,
    namespace: String,
    apps: usize,
    hub: HubProcess,
    agent: AgentProcess,
    url: String,
    _git: GitServer,
    repo: GitRepo,
    client: reqwest::Client,
}

impl Fleet {
    async fn start(dir: &Path, plane: ControlPlane, apps: usize) -> anyhow::Result<Self> {
        let namespace = plane.namespace().await?;
        let git = GitServer::start(GitAccess::Public).await?;
        let repo = git.create("apps.git").await?;
        let kustomization = json!({"namespace": namespace, "resources": ["all.yaml"]}).to_string();
        let all: Vec<(String, String)> = (0..apps)
            .flat_map(|app| {
                [
                    file(app, "first"),
                    (format!("apps/{app}/kustomization.yaml"), kustomization.clone()),
                ]
            })
            .collect();
        repo.commit("main", &all, "first").await?;
        let hub = HubProcess::start(&dir.join("hub")).await?;
        let join = hub.token("c0")?;
        let agent = AgentProcess::install(&plane, &join, &dir.join("agent")).await?;
        wait_until("the agent is connected", WITHIN, async || {
            let clusters = hub.cli(&["get", "clusters", "--no-header"])?;
            anyhow::Ok(clusters.contains("True").then_some(()))
        })
        .await?;
        Ok(Self {
            plane,
            namespace,
            apps,
            hub,
            agent,
            url: git.http_url("apps.git"),
            _git: git,
            repo,
            client: e2e::hub::http_client()?,
        })
    }

    fn configuration(&self) -> String {
        let flux = "flux-system";
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook", "namespace": flux},
                "stringData": {"token": "shared"}}),
            json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                "metadata": {"name": "apps", "namespace": flux},
                "spec": {"url": self.url, "interval": "1h", "ref": {"branch": "main"}}}),
            json!({"apiVersion": "notification.toolkit.fluxcd.io/v1", "kind": "Receiver",
                "metadata": {"name": "push", "namespace": flux},
                "spec": {"type": "generic-hmac", "secretRef": {"name": "hook"},
                    "resources": [{"kind": "GitRepository", "name": "apps"}]}}),
        ];
        let names = || (0..self.apps).map(|app| format!("app-{app}"));
        let placed: Vec<Value> = names()
            .map(|name| json!({"kind": "Kustomization", "name": name}))
            .collect();
        objects.push(
            json!({"apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Placement",
            "metadata": {"name": "all"}, "spec": {"apps": placed, "clusters": {"names": ["c0"]}}}),
        );
        objects.extend(names().enumerate().map(|(app, name)| {
            json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                "metadata": {"name": name, "namespace": flux},
                "spec": {"interval": "1h", "prune": true, "path": format!("./apps/{app}"),
                    "sourceRef": {"kind": "GitRepository", "name": "apps"}}})
        }));
        files::documents(&objects)
    }

    fn agent(&self) -> anyhow::Result<u32> {
        self.agent.pid().context("the agent does not run")
    }

    /// Waits until all apps are ready, asking seldom: answers cost the hub.
    async fn ready(&self) -> anyhow::Result<()> {
        wait_until("all apps are ready", 5 * WITHIN, async || {
            tokio::time::sleep(LOOKS).await;
            let apps = self.hub.cli(&["get", "kustomizations", "--no-header"])?;
            let ready = apps.lines().filter(|line| line.contains("True")).count();
            if ready == self.apps {
                anyhow::Ok(Some(()))
            } else {
                Err(anyhow::anyhow!("{ready} are ready"))
            }
        })
        .await?;
        Ok(())
    }

    async fn first_apply(&self, bare: f64) -> anyhow::Result<[Figure; 3]> {
        let (audit, agent) = (self.plane.audit(), self.agent()?);
        let writes = AuditFilter::all()
            .after(audit.mark())
            .user(AGENT)
            .verb("patch")
            .namespace(&self.namespace);
        let (before, agent_before) = (usage::Hub::of(&self.hub)?, usage::cpu(agent)?);
        let began = e2e::hub::now();
        self.hub.apply(&self.configuration())?;
        let applied = began.elapsed()?.as_secs_f64();
        wait_until("all objects are written", 5 * WITHIN, async || {
            tokio::time::sleep(LOOKS).await;
            let count = audit.count(&writes)?;
            if count >= 4 * self.apps {
                anyhow::Ok(Some(()))
            } else {
                Err(anyhow::anyhow!("{count} are written"))
            }
        })
        .await?;
        self.ready().await?;
        let requests = audit.requests(&writes)?;
        ensure!(requests.len() == 4 * self.apps, "{} writes", requests.len());
        let last = requests
            .iter()
            .map(|write| write.received)
            .max()
            .context("no write")?;
        let wall = (last - time::OffsetDateTime::from(began)).as_seconds_f64();
        let (used, agent_used) = (
            usage::Hub::of(&self.hub)?.since(before),
            usage::cpu(agent)? - agent_before,
        );
        let hub = self.hub.pid().context("the hub does not run")?;
        let peaks = [usage::memory(hub, "VmHWM")?, usage::memory(agent, "VmHWM")?];
        let note = format!(
            "from the start of `flotilla apply`, which took {applied:.2} s, until the last of {} objects of {} Kustomizations reached the API server; the peer is a bare loop of server-side applies of the same objects with {IN_FLIGHT} in flight",
            4 * self.apps,
            self.apps
        );
        let cpu = format!(
            "until all are told to be ready: hub with its git children {:.1}, agent {agent_used:.1}, Postgres {:.1}",
            used.hub, used.postgres
        );
        let memory = format!(
            "peaks of resident memory: hub {:.1}, agent {:.1}",
            peaks[0], peaks[1]
        );
        Ok([
            Figure::new(APPLY[0], wall, "s", note)
                .peer(bare)
                .at_most(1.6 * bare),
            Figure::new(APPLY[1], used.hub + used.postgres + agent_used, "s", cpu).at_most(25.0),
            Figure::new(APPLY[2], peaks[0] + peaks[1], "MiB", memory).at_most(150.0),
        ])
    }

    async fn one_change(&self, samples: usize) -> anyhow::Result<[Figure; 2]> {
        let deployments: Api<Deployment> = Api::namespaced(self.plane.client().await?, &self.namespace);
        let mut watch = deployments.watch(&WatchParams::default(), "0").await?.boxed();
        let (before, agent_before) = (usage::Hub::of(&self.hub)?, usage::cpu(self.agent()?)?);
        let mut times = Vec::new();
        for number in 0..samples {
            let (app, value) = ((number * 7) % self.apps, format!("v{number}"));
            self.repo.commit("main", &[file(app, &value)], &value).await?;
            self.hub.push(&self.client).await?;
            let accepted = Instant::now();
            let wanted = image(&value);
            let seen = async {
                while let Some(event) = watch.try_next().await? {
                    if let WatchEvent::Modified(object) | WatchEvent::Added(object) = event
                        && image_of(&object) == Some(&wanted)
                    {
                        return Ok(accepted.elapsed());
                    }
                }
                anyhow::bail!("the watch ended")
            };
            times.push(
                tokio::time::timeout(WITHIN, seen)
                    .await
                    .context("the change was not seen")??,
            );
            // A remote is asked once a second, but for a few times in a row.
            tokio::time::sleep(PUSHES.saturating_sub(accepted.elapsed())).await;
        }
        // The reports of the last belong to it.
        self.ready().await?;
        let (used, agent_used) = (
            usage::Hub::of(&self.hub)?.since(before),
            usage::cpu(self.agent()?)? - agent_before,
        );
        let (each, figure) = (samples as f64, spread(&times));
        let note = format!(
            "webhook accepted until the object is changed in the API server, of {} apps; {samples} commits, one in {PUSHES:?}, p50 {:.3} s, max {:.3} s; seen by a watch",
            self.apps, figure.p50, figure.max
        );
        let cpu = format!(
            "each; hub with its git children {:.3}, agent {:.3}; Postgres {:.3} beside",
            used.hub / each,
            agent_used / each,
            used.postgres / each
        );
        Ok([
            Figure::new(CHANGE[0], figure.p99, "s", note).at_most(0.5),
            Figure::new(CHANGE[1], (used.hub + agent_used) / each, "s", cpu).at_most(0.3),
        ])
    }

    async fn idle(&self, time: Duration) -> anyhow::Result<[Figure; 2]> {
        // What follows the last change is over.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = usage::Hub::of(&self.hub)?;
        tokio::time::sleep(time).await;
        let used = usage::Hub::of(&self.hub)?.since(before);
        let (alone, both) = (
            usage::percent(used.hub, time),
            usage::percent(used.hub + used.postgres, time),
        );
        let note = format!(
            "processor time over {} s of rest, {} apps, one agent",
            time.as_secs(),
            self.apps
        );
        Ok([
            Figure::new(IDLE[0], alone, "%", note.clone()).at_most(0.2),
            Figure::new(IDLE[1], both, "%", note).at_most(0.5),
        ])
    }
}
