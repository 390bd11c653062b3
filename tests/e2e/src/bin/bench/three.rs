//! Three real clusters: what a commit, a drift and an idle agent cost there.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use e2e::{AgentProcess, HubProcess, Objects, cluster::holds};
use flotilla_bench_report::{Figure, Record};
use flotilla_core::trace::Trace;
use flotilla_testkit::{
    AuditFilter, ControlPlane, GitAccess, GitRepo, GitServer, TraceCollector, wait_until,
};
use futures::future::try_join_all;

use crate::{
    WITHIN, Wanted,
    files::{app_and_placement, configuration, first_files, marker},
    idle_time, sample,
    spread::spread,
    usage,
};

pub(crate) const CLUSTERS: usize = 3;
const AGENT: &str = "system:serviceaccount:flotilla-system:flotilla-agent";

const IDLE: &str = "agent_pss_idle_mib";
const COMMITS: &str = "commit_to_applied_3_real_p99_s";
const DRIFTS: &str = "drift_to_corrected_p99_s";
const ONE_CHANGE: &str = "bytes_hub_to_agent_one_of_131";
/// Taken together: the second needs what the first leaves.
const THOUSAND: [&str; 2] = ["agent_pss_1000_mib", "idle_requests_1000_objects_10min"];
pub(crate) const NAMES: [&str; 6] = [IDLE, COMMITS, DRIFTS, ONE_CHANGE, THOUSAND[0], THOUSAND[1]];

pub(crate) async fn measure(dir: &Path, wanted: &Wanted, record: &mut Record) -> anyhow::Result<()> {
    let fleet = Fleet::start(dir).await?;
    if wanted.has(IDLE) {
        let idle = fleet.pss(IDLE, "an enrolled agent with nothing to do").await?;
        record.add(idle.at_most(6.0))?;
    }
    // It brings the namespace that all others need.
    fleet.place("small").await?;
    if wanted.has(COMMITS) {
        record.add(fleet.commits(sample(200)).await?.at_most(0.25))?;
    }
    if wanted.has(DRIFTS) {
        record.add(fleet.drifts(sample(200)).await?)?;
    }
    if wanted.has(ONE_CHANGE) {
        record.add(fleet.bytes_of_one_change().await?.at_most(1500.0))?;
    }
    if wanted.any(&THOUSAND) {
        fleet.thousand().await?;
        let what = "the same agent with 1,000 ConfigMaps and Deployments applied";
        record.add(fleet.pss(THOUSAND[0], what).await?.at_most(12.0))?;
        record.add(fleet.idle_requests(idle_time(600)).await?)?;
    }
    Ok(())
}

struct Fleet {
    planes: Vec<ControlPlane>,
    objects: Vec<Objects>,
    hub: HubProcess,
    agents: Vec<AgentProcess>,
    _git: GitServer,
    traces: TraceCollector,
    repo: GitRepo,
    client: reqwest::Client,
}

impl Fleet {
    async fn start(dir: &Path) -> anyhow::Result<Self> {
        let planes = ControlPlane::start_many(CLUSTERS).await?;
        let git = GitServer::start(GitAccess::Public).await?;
        let repo = git.create("apps.git").await?;
        repo.commit("main", &first_files(), "first").await?;
        let traces = TraceCollector::start()?;
        let hub = HubProcess::start_with(&dir.join("hub"), &["--otlp-endpoint", traces.endpoint()]).await?;
        let mut agents = Vec::new();
        let mut objects = Vec::new();
        for (index, plane) in planes.iter().enumerate() {
            let join = hub.token(&format!("c{index}"))?;
            agents.push(AgentProcess::install(plane, &join, &dir.join(format!("agent-{index}"))).await?);
            objects.push(Objects::of(plane, "bench").await?);
        }
        wait_until("the agents are connected", WITHIN, async || {
            let clusters = hub.cli(&["get", "clusters", "--no-header"])?;
            let connected = clusters.lines().filter(|line| line.contains("True")).count();
            anyhow::Ok((connected == CLUSTERS).then_some(()))
        })
        .await?;
        hub.apply(&configuration(&git.http_url("apps.git")))?;
        let client = e2e::hub::http_client()?;
        Ok(Self {
            planes,
            objects,
            hub,
            agents,
            _git: git,
            traces,
            repo,
            client,
        })
    }

    /// Places an app, and waits until its marker object is in every cluster.
    async fn place(&self, app: &str) -> anyhow::Result<()> {
        self.hub.apply(&app_and_placement(app, "bench"))?;
        for cluster in &self.objects {
            cluster
                .until(&format!("{app}-marker"), "value", "first", WITHIN)
                .await?;
        }
        Ok(())
    }

    async fn commits(&self, samples: usize) -> anyhow::Result<Figure> {
        let mut watches = Vec::new();
        for cluster in &self.objects {
            watches.push(cluster.watch("small-marker").await?);
        }
        let mut times = Vec::new();
        let mut commits = Vec::new();
        for number in 0..samples {
            let value = format!("v{number}");
            let id = self
                .repo
                .commit("main", &[("small/marker.yaml", marker("small", &value))], &value)
                .await?;
            self.hub.push(&self.client).await?;
            let accepted = Instant::now();
            commits.push((format!("main@sha1:{id}"), e2e::hub::now()));
            let seen = watches
                .iter_mut()
                .map(|watch| watch.until(WITHIN, |object| holds(object, "value", &value)));
            let last = try_join_all(seen).await?.into_iter().max();
            times.push(last.map_or_else(|| accepted.elapsed(), |last| last - accepted));
        }
        let figure = spread(&times);
        let parts = self.parts(&commits).await?;
        Ok(Figure::new(
            COMMITS,
            figure.p99,
            "s",
            format!(
                "webhook accepted until the object is changed in all three API servers; {samples} commits, p50 {:.3} s, max {:.3} s; seen by a watch of each; medians until the end of each step, from the hub's traces: {parts}",
                figure.p50, figure.max
            ),
        ))
    }

    /// Medians from the webhook's answer to the end of each step, in milliseconds; of several clusters the last.
    async fn parts(&self, commits: &[(String, SystemTime)]) -> anyhow::Result<String> {
        const STEPS: [&str; 5] = ["fetch", "render", "plan", "publish", "apply"];
        let ends = wait_until("the traces are whole", WITHIN, async || {
            let spans = self.traces.spans();
            let mut ends: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
            for (revision, accepted) in commits {
                let trace = Trace::of_revision(revision).context("a revision")?.to_string();
                let since = u64::try_from(accepted.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
                for step in STEPS {
                    let of_it = spans
                        .iter()
                        .filter(|span| span.trace == trace && span.name == step);
                    let end = of_it.map(|span| span.time.1).max().context(step)?;
                    ends.entry(step)
                        .or_default()
                        .push(end.saturating_sub(since) / 1_000_000);
                }
            }
            anyhow::Ok(Some(ends))
        })
        .await?;
        let median = |step: &&str| {
            let mut times = ends.get(step).cloned().unwrap_or_default();
            times.sort_unstable();
            format!(
                "{step} {} ms",
                times.get(times.len() / 2).copied().unwrap_or_default()
            )
        };
        Ok(STEPS.iter().map(median).collect::<Vec<_>>().join(", "))
    }

    async fn drifts(&self, samples: usize) -> anyhow::Result<Figure> {
        self.place("drift").await?;
        let cluster = &self.objects[0];
        let mut times = Vec::new();
        for number in 0..samples {
            // A key of its own each time: one field reverted again and again would be contested.
            let name = format!("drift-{}", number % 50);
            let key = format!("k{}", number / 50);
            let mut watch = cluster.watch(&name).await?;
            watch.until(WITHIN, |object| holds(object, &key, "x")).await?;
            cluster.edit(&name, &key, "by hand").await?;
            let edited = Instant::now();
            let back = watch.until(WITHIN, |object| holds(object, &key, "x")).await?;
            times.push(back.saturating_duration_since(edited));
        }
        let figure = spread(&times);
        Ok(Figure::new(
            DRIFTS,
            figure.p99,
            "s",
            format!(
                "edit answered until the field is back, read from the API server; {samples} edits, p50 {:.3} s, max {:.3} s",
                figure.p50, figure.max
            ),
        ))
    }

    /// Bytes the agent receives from the hub for one changed object of 131: counted on its sockets by the kernel.
    async fn bytes_of_one_change(&self) -> anyhow::Result<Figure> {
        self.place("wide").await?;
        let cluster = &self.objects[0];
        let mut counts = Vec::new();
        for number in 0..5 {
            let value = format!("w{number}");
            let before = self.received(0)?;
            self.repo
                .commit("main", &[("wide/marker.yaml", marker("wide", &value))], &value)
                .await?;
            self.hub.push(&self.client).await?;
            cluster.until("wide-marker", "value", &value, WITHIN).await?;
            // The report's acknowledgement belongs to the change.
            wait_until("the hub shows it", WITHIN, async || {
                let apps = self.hub.cli(&["get", "kustomizations", "wide", "--no-header"])?;
                anyhow::Ok(apps.contains("True").then_some(()))
            })
            .await?;
            counts.push(self.received(0)? - before);
        }
        counts.sort_unstable();
        let middle = counts.get(counts.len() / 2).copied().unwrap_or_default();
        Ok(Figure::new(
            ONE_CHANGE,
            middle as f64,
            "bytes",
            format!("TCP payload from hub to one agent, TLS included, median of {counts:?}"),
        ))
    }

    /// Payload bytes that the agent's connections to the hub have received, from the kernel's counters.
    fn received(&self, agent: usize) -> anyhow::Result<u64> {
        let pid = self.agents[agent].pid().context("the agent does not run")?;
        let port = self
            .hub
            .grpc_address()
            .rsplit(':')
            .next()
            .context("an address without port")?
            .to_owned();
        let output = std::process::Command::new("ss")
            .args(["-tnpiOH", "dport", "=", &port])
            .output();
        let output = output.context("`ss` (package iproute2) counts the bytes")?;
        let text = String::from_utf8(output.stdout)?;
        let own = text.lines().filter(|line| line.contains(&format!("pid={pid},")));
        let counted = own.filter_map(|line| {
            let field = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("bytes_received:"))?;
            field.parse::<u64>().ok()
        });
        Ok(counted.sum())
    }

    /// Lets the first cluster's agent apply 1,000 objects, and come to rest.
    async fn thousand(&self) -> anyhow::Result<()> {
        self.hub.apply(&app_and_placement("thousand", "bench-0"))?;
        wait_until("they are applied", WITHIN, async || {
            let apps = self
                .hub
                .cli(&["get", "kustomizations", "thousand", "--no-header"])?;
            anyhow::Ok(apps.contains("True").then_some(()))
        })
        .await?;
        self.rest().await
    }

    /// Waits until the first cluster's agent asks for next to nothing.
    async fn rest(&self) -> anyhow::Result<()> {
        let audit = self.planes[0].audit();
        wait_until("the agent has come to rest", WITHIN, async || {
            let mark = audit.mark();
            tokio::time::sleep(Duration::from_secs(5)).await;
            let count = audit.count(&AuditFilter::all().after(mark).user(AGENT))?;
            anyhow::Ok((count <= 2).then_some(()))
        })
        .await?;
        Ok(())
    }

    async fn idle_requests(&self, time: Duration) -> anyhow::Result<Figure> {
        self.rest().await?;
        let audit = self.planes[0].audit();
        let mark = audit.mark();
        tokio::time::sleep(time).await;
        let seen = audit.requests(&AuditFilter::all().after(mark).user(AGENT))?;
        let mut verbs: BTreeMap<String, usize> = BTreeMap::new();
        for request in &seen {
            *verbs.entry(request.verb.clone()).or_default() += 1;
        }
        let scale = 600.0 / time.as_secs_f64();
        Ok(Figure::new(
            THOUSAND[1],
            seen.len() as f64 * scale,
            "requests",
            format!(
                "audit log of one cluster over {} s, scaled to 600 s: {verbs:?}",
                time.as_secs()
            ),
        ))
    }

    async fn pss(&self, name: &'static str, what: &str) -> anyhow::Result<Figure> {
        let pid = self.agents[0].pid().context("the agent does not run")?;
        let pss = usage::pss(pid)?;
        let note = format!("PSS from /proc, {what}; state in Secrets, HTTP/1.1 to the API server");
        Ok(Figure::new(name, pss, "MiB", note))
    }
}
