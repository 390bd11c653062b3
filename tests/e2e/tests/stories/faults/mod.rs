//! Commits with removals and moves while hub, agent, Postgres and API server are killed in the middle of them: after each the
//! cluster holds what the last commit says, object by object, and the hub says so. The same story runs longer, with more that
//! goes wrong, as `make soak`: FLOTILLA_FAULT_SEEDS seeds of FLOTILLA_FAULT_COMMITS commits.

#![expect(clippy::unwrap_used, reason = "tests")]

mod repository;
mod victim;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{
    AgentProcess, HubProcess, agent,
    hub::http_client,
    quiet::{Asking, nothing_turns},
};
use flotilla_testkit::{
    AuditFilter, AuditMark, ControlPlane, ControlPlaneOptions, FaultProxy, GitAccess, GitRepo, GitServer,
    wait_until,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, api::ListParams};

use self::{
    repository::{CANARY, Random, Repository},
    victim::Fault,
};

const WITHIN: Duration = Duration::from_secs(120);
/// Programs of a debug build take so much more for the first commits at most.
const MORE_KIB: u64 = 64 << 10;
const OWNER: &str = "kustomize.toolkit.fluxcd.io/name";

/// An object of the cluster: whose it is, what it holds, and its UID.
type Found = BTreeMap<String, (String, String, String)>;

/// Tables of what there is, whatever has happened to it: as many rows after the last commit as after the first.
const STANDING: [&str; 9] = [
    "cluster",
    "identity",
    "session",
    "resource",
    "source_state",
    "unit",
    "unit_status",
    "desired",
    "desired_entry",
];

/// Rows of the hub's tables.
struct Tables {
    standing: [(&'static str, u64); 9],
    objects: u64,
    /// What is to be decided or published still.
    to_do: u64,
}

struct World {
    plane: ControlPlane,
    client: Client,
    namespace: String,
    repo: GitRepo,
    _git: GitServer,
    hub: HubProcess,
    agent: AgentProcess,
    /// Between agent and hub.
    proxy: FaultProxy,
    began: AuditMark,
    dir: PathBuf,
}

impl World {
    async fn new(dir: &Path, repository: &Repository) -> Self {
        let plane = ControlPlane::start(ControlPlaneOptions::api_only("faults"))
            .await
            .unwrap();
        let namespace = plane.namespace().await.unwrap();
        let git = GitServer::start(GitAccess::Public).await.unwrap();
        let repo = git.create("apps.git").await.unwrap();
        repo.commit("main", &repository.files(&namespace), "first")
            .await
            .unwrap();
        let hub = HubProcess::start(&dir.join("hub")).await.unwrap();
        let proxy = FaultProxy::start(hub.grpc_address().parse().unwrap()).unwrap();
        let mut join = hub.token("one").unwrap();
        join.endpoint = format!("https://{}", proxy.address());
        let began = plane.audit().mark();
        let agent = AgentProcess::install(&plane, &join, &dir.join("agent"))
            .await
            .unwrap();
        hub.apply(&configuration(&git.http_url("apps.git"))).unwrap();
        Self {
            client: plane.client().await.unwrap(),
            plane,
            namespace,
            repo,
            _git: git,
            hub,
            agent,
            proxy,
            began,
            dir: dir.to_owned(),
        }
    }

    /// What the cluster holds, as its API server says.
    async fn found(&self) -> kube::Result<Found> {
        let all: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = all.list(&ListParams::default().labels(OWNER)).await?;
        let found = listed.into_iter().map(|mut object| {
            let owner = object.metadata.labels.take().and_then(|mut of| of.remove(OWNER));
            let value = object.data.take().and_then(|mut of| of.remove("value"));
            (
                object.metadata.name.unwrap_or_default(),
                (
                    owner.unwrap_or_default(),
                    value.unwrap_or_default(),
                    object.metadata.uid.unwrap_or_default(),
                ),
            )
        });
        Ok(found.collect())
    }

    /// Waits until the cluster holds what the last commit says, and the hub says so. Returns what it holds.
    async fn until_equal(&self, repository: &Repository, story: &str) -> Found {
        let wanted = repository.wanted();
        let found = wait_until("the cluster holds the last commit", WITHIN, async || {
            let found = self.found().await.map_err(|e| e.to_string())?;
            let held: BTreeMap<String, (String, String)> = found
                .iter()
                .map(|(name, (owner, value, _))| (name.clone(), (owner.clone(), value.clone())))
                .collect();
            match held == wanted {
                true => Ok(Some(found)),
                false => Err(difference(&wanted, &held)),
            }
        })
        .await;
        let found = found.map_err(|e| format!("{e}\n{}", self.said(story))).unwrap();
        wait_until("the hub says so", WITHIN, async || self.told(repository))
            .await
            .map_err(|e| format!("{e}\n{}", self.said(story)))
            .unwrap();
        found
    }

    /// Waits until nothing turns any more: whatever was broken is mended, and nobody goes on about it.
    async fn until_quiet(&self, story: &str) {
        let cli = self.hub.command_line();
        nothing_turns(&cli, &Asking::installed(&self.plane))
            .await
            .map_err(|e| format!("{e:#}\n{}", self.said(story)))
            .unwrap();
    }

    /// What went before, and what hub and agent said of it.
    fn said(&self, story: &str) -> String {
        format!(
            "{story}\nhub:\n{}\nagent:\n{}",
            self.hub.said(),
            self.agent.said()
        )
    }

    /// What the hub says of the units, against what was counted.
    fn told(&self, repository: &Repository) -> Result<Option<()>, String> {
        let units = self.hub.command_line().list(&["get", "units"]);
        let units = units.map_err(|e| format!("{e:#}"))?;
        for app in Repository::names() {
            let unit = units.iter().find(|unit| unit["app"]["name"] == *app);
            let unit = unit.ok_or_else(|| format!("no unit of {app}: {units:?}"))?;
            let is_so = unit["ready"] == "True"
                && unit["objects"]["total"] == repository.count(&app)
                && unit["objects"]["pendingRemoval"] == 0
                && unit["targetRevision"] == unit["appliedRevision"];
            if !is_so {
                return Err(format!("{} objects are wanted: {unit}", repository.count(&app)));
            }
        }
        Ok(Some(()))
    }

    /// Names of what the agent has deleted.
    fn deleted(&self) -> Vec<String> {
        let filter = AuditFilter::all()
            .after(self.began)
            .user(agent::USER)
            .verb("delete");
        let requests = self.plane.audit().requests(&filter).unwrap();
        let of = requests.iter().filter_map(|one| one.object_ref.as_ref());
        let here = of.filter(|of| of.namespace == self.namespace);
        here.map(|of| of.name.clone()).collect()
    }

    /// Descriptors and memory (KiB) of hub and agent.
    fn footprint(&self) -> [(usize, u64); 2] {
        [self.hub.pid(), self.agent.pid()].map(|pid| {
            let dir = PathBuf::from(format!("/proc/{}", pid.unwrap()));
            let status = std::fs::read_to_string(dir.join("status")).unwrap();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = resident.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok());
            (std::fs::read_dir(dir.join("fd")).unwrap().count(), kib.unwrap())
        })
    }

    /// What stands in the hub's tables.
    fn tables(&self) -> Tables {
        let rows = e2e::tables::rows(&self.hub.data()).unwrap();
        let of = |table: &str| rows.get(table).copied().unwrap();
        Tables {
            standing: STANDING.map(|table| (table, of(table))),
            objects: of("unit_object"),
            to_do: of("due") + of("unpublished"),
        }
    }

    /// Logs of the programs.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let logs = ["hub/hub.log", "agent/agent.log"].map(|file| self.dir.join(file));
        for log in logs {
            let text = std::fs::read(&log).unwrap();
            files.push((log, text));
        }
        files
    }
}

/// What of two accounts differs, in few words.
fn difference(
    wanted: &BTreeMap<String, (String, String)>,
    held: &BTreeMap<String, (String, String)>,
) -> String {
    let names = wanted.keys().chain(held.keys());
    let mut differ: Vec<String> = names
        .filter(|name| wanted.get(*name) != held.get(*name))
        .map(|name| {
            format!(
                "{name}: wanted {:?}, there is {:?}",
                wanted.get(name),
                held.get(name)
            )
        })
        .collect();
    differ.sort_unstable();
    differ.dedup();
    differ.join("\n")
}

fn configuration(url: &str) -> String {
    let app = |name: String| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}, namespace: flux-system}}
spec: {{interval: 1h, retryInterval: 5s, prune: true, path: ./{name}, sourceRef: {{kind: GitRepository, name: apps}}}}
---
"
        )
    };
    let apps: String = Repository::names().map(app).collect();
    let placed: String = Repository::names()
        .map(|name| format!("  - {{kind: Kustomization, name: {name}, namespace: flux-system}}\n"))
        .collect();
    format!(
        "{apps}apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: apps, namespace: flux-system}}
spec: {{url: {url}, interval: 1h, ref: {{branch: main}}}}
---
apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {{name: push, namespace: flux-system}}
spec:
  type: generic-hmac
  secretRef: {{name: push}}
  resources: [{{kind: GitRepository, name: apps}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: push, namespace: flux-system}}
stringData: {{token: shared}}
---
apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {{name: all}}
spec:
  apps:
{placed}  clusters: {{names: [one]}}
"
    )
}

/// One seed: so many commits, with a fault in the middle of each.
async fn story(seed: u64, commits: u64, faults: &[Fault]) {
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let (mut random, mut repository) = (Random::new(seed), Repository::new());
    let mut world = World::new(dir.path(), &repository).await;
    let mut told = vec![format!("FLOTILLA_FAULT_SEED={seed}")];
    let mut before = world.until_equal(&repository, &told.join("\n")).await;
    let began = world.footprint();
    let tables = world.tables();
    for number in 0..commits {
        repository.step(&mut random);
        let at = Duration::from_millis(random.below(900));
        // Each in turn, so that a short run has all of the first.
        let fault = match number < faults.len() as u64 {
            true => faults[usize::try_from(number).unwrap()],
            false => faults[usize::try_from(random.below(faults.len() as u64)).unwrap()],
        };
        told.push(format!("commit {number}: {fault:?} after {at:?}"));
        world
            .repo
            .commit("main", &repository.files(&world.namespace), &format!("{number}"))
            .await
            .unwrap();
        world.hub.push(&http_client().unwrap()).await.unwrap();
        tokio::time::sleep(at).await;
        fault.happen(&mut world, &mut random).await;
        let now = world.until_equal(&repository, &told.join("\n")).await;
        for (name, (.., uid)) in &now {
            let kept = before.get(name).is_none_or(|(.., was)| was == uid);
            assert!(kept, "{name} was deleted and made anew\n{}", told.join("\n"));
        }
        before = now;
    }
    world.until_quiet(&told.join("\n")).await;
    let now = world.tables();
    assert_eq!(now.standing, tables.standing, "{}", told.join("\n"));
    let objects: usize = Repository::names().map(|app| repository.count(&app)).sum();
    assert_eq!(now.objects, objects as u64, "{}", told.join("\n"));
    assert_eq!(now.to_do, 0, "{}", told.join("\n"));
    let deleted = world.deleted();
    let wrong: Vec<&String> = deleted
        .iter()
        .filter(|name| !repository.removed.contains(*name))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?} were deleted\n{}", told.join("\n"));
    assert!(!repository.removed.is_empty(), "nothing was to leave: {told:?}");
    for ((descriptors, kib), (first, least)) in world.footprint().into_iter().zip(began) {
        assert!(
            descriptors <= first + 32,
            "{descriptors} descriptors, {first} at first"
        );
        assert!(kib <= least + MORE_KIB, "{kib} KiB, {least} KiB at first");
    }
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let held = secrets.get("login-a0").await.unwrap().data.unwrap_or_default();
    let password = held
        .get("password")
        .map(|value| value.0.clone())
        .unwrap_or_default();
    assert!(
        String::from_utf8_lossy(&password).starts_with(CANARY),
        "the canary is in the cluster"
    );
    for (file, text) in world.files() {
        let said = String::from_utf8_lossy(&text);
        assert!(!said.contains(CANARY), "{} has a Secret's value", file.display());
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test]
async fn whoever_is_killed_in_the_middle_of_a_commit_the_cluster_comes_to_hold_it() {
    flotilla_testkit::install_tls_provider();
    let (first, seeds) = (
        number("FLOTILLA_FAULT_SEED", 1),
        number("FLOTILLA_FAULT_SEEDS", 0),
    );
    if seeds == 0 {
        return story(first, number("FLOTILLA_FAULT_COMMITS", 6), &Fault::KILLS).await;
    }
    for seed in first..first + seeds {
        story(seed, number("FLOTILLA_FAULT_COMMITS", 20), &Fault::ALL).await;
    }
}
