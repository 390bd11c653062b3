//! Thousands of simulated agents in this process, against a hub of its own: joining, rest, a commit, a restart. Their
//! processor time is of this machine too, and bounds what can be seen here; the hub's is counted apart.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use flotilla_agent::cluster::fake::Fake;
use flotilla_bench_report::{Figure, Record};
use flotilla_core::object::ObjectKey;
use flotilla_testkit::wait_until;
use serde_json::json;

use crate::{WITHIN, Wanted, fleet::Fleet, idle_time, sample, setting, spread::spread, usage};

const ENROL: &str = "enrolments_per_s";
const FEW: [&str; 1] = ["commit_to_applied_2000_sim_p99_s"];
const MANY: [&str; 5] = [
    "hub_rss_per_idle_agent_kib",
    "hub_cpu_idle_10000_percent_core",
    "commit_to_applied_10000_sim_p99_s",
    "commit_to_applied_10000_sim_cpu_s",
    "hub_restart_10000_agents_s",
];
pub(crate) const NAMES: [&str; 7] = [ENROL, FEW[0], MANY[0], MANY[1], MANY[2], MANY[3], MANY[4]];

const FIRST: u32 = 2000;
const ALL: u32 = 10_000;

pub(crate) async fn measure(dir: &Path, wanted: &Wanted, record: &mut Record) -> anyhow::Result<()> {
    let first = setting("FLOTILLA_BENCH_AGENTS_FIRST").unwrap_or(FIRST);
    let all = setting("FLOTILLA_BENCH_AGENTS").unwrap_or(ALL);
    let kustomization = json!({"resources": ["marker.yaml"]}).to_string();
    let files = [
        file("first"),
        ("app/kustomization.yaml".to_owned(), kustomization),
    ];
    let mut fleet = Measured {
        fleet: Fleet::start(dir, &files).await?,
        newest: "first".to_owned(),
    };
    let empty = fleet.fleet.memory()?;
    let began = Instant::now();
    fleet.fleet.join("first", first).await?;
    if wanted.has(ENROL) {
        let rate = f64::from(first) / began.elapsed().as_secs_f64();
        let note = format!(
            "{first} simulated agents, from the first token until all are connected: a token, an enrolment and a stream of each; limit of attempts raised"
        );
        record.add(Figure::new(ENROL, rate, "1/s", note).at_least(200.0))?;
    }
    fleet.fleet.place(&["app".to_owned()])?;
    fleet.until("first").await?;
    if wanted.any(&FEW) {
        let (figure, _) = fleet.commits(FEW[0], sample(20)).await?;
        record.add(figure.at_most(1.0))?;
    }
    if !wanted.any(&MANY) {
        return Ok(());
    }
    fleet.fleet.join("rest", all - first).await?;
    // What was committed last, or before the first commit.
    let newest = fleet.newest.clone();
    fleet.until(&newest).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (before, time) = (usage::Hub::of(&fleet.fleet.hub)?, idle_time(60));
    tokio::time::sleep(time).await;
    let used = usage::Hub::of(&fleet.fleet.hub)?.since(before);
    let each = (fleet.fleet.memory()? - empty) * 1024.0 / f64::from(all);
    let note = format!(
        "resident memory of the hub with {all} agents connected, each with one app of one object, less that of the hub without any, over their number"
    );
    record.add(Figure::new(MANY[0], each, "KiB", note).at_most(64.0))?;
    let note = format!(
        "processor time of the hub over {} s of rest with {all} agents; Postgres {:.2} % beside",
        time.as_secs(),
        usage::percent(used.postgres, time)
    );
    record.add(Figure::new(MANY[1], usage::percent(used.hub, time), "%", note).at_most(2.0))?;
    let (figure, cpu) = fleet.commits(MANY[2], sample(5)).await?;
    record.add(figure.at_most(5.0))?;
    record.add(cpu.at_most(4.0))?;
    record.add(fleet.restart().await?.at_most(20.0))?;
    Ok(())
}

fn marker() -> ObjectKey {
    ObjectKey::new("", "ConfigMap", "default", "marker")
}

fn holds(fake: &Fake, wanted: &str) -> bool {
    fake.has(&marker(), |object| object["data"]["value"] == wanted)
}

fn file(value: &str) -> (String, String) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "marker", "namespace": "default"},
        "data": {"value": value}});
    ("app/marker.yaml".to_owned(), object.to_string())
}

/// The measurements of a fleet with one app of one object.
struct Measured {
    fleet: Fleet,
    /// The value that was committed last.
    newest: String,
}

impl Measured {
    /// Waits until all clusters hold the value.
    async fn until(&self, value: &str) -> anyhow::Result<()> {
        self.times(value, Instant::now()).await.map(drop)
    }

    /// Times since `began` at which each cluster held the value. They are looked at in turns, so that a time is up to
    /// a turn late.
    async fn times(&self, value: &str, began: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut left: Vec<&Fake> = self.fleet.clusters().collect();
        let mut times = Vec::new();
        while !left.is_empty() {
            let now = began.elapsed();
            let before = left.len();
            left.retain(|fake| !holds(fake, value));
            times.resize(times.len() + before - left.len(), now);
            ensure!(
                now < 5 * WITHIN,
                "{} clusters lack {value} after {now:?}",
                left.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(times)
    }

    /// From an accepted webhook until the object is changed, over all clusters and commits; and the processor time of
    /// a commit.
    async fn commits(&mut self, name: &str, samples: usize) -> anyhow::Result<(Figure, Figure)> {
        let (mut times, mut lasts, mut cpus) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..samples {
            let value = format!("{name}-{number}");
            let before = usage::Hub::of(&self.fleet.hub)?;
            self.fleet.repo.commit("main", &[file(&value)], &value).await?;
            self.fleet.webhook().await?;
            self.newest.clone_from(&value);
            let seen = self.times(&value, Instant::now()).await?;
            lasts.extend(seen.last().copied());
            times.extend(seen);
            self.told(&value).await?;
            cpus.push(usage::Hub::of(&self.fleet.hub)?.since(before));
        }
        let (figure, last) = (spread(&times), spread(&lasts));
        let count = self.fleet.count();
        let note = format!(
            "webhook accepted until the object is changed, over {count} simulated clusters and {samples} commits: p50 {:.2} s; the last cluster of a commit p50 {:.2} s, max {:.2} s; the agents share the processors",
            figure.p50, last.p50, last.max
        );
        cpus.sort_by(|one, other| (one.hub + one.postgres).total_cmp(&(other.hub + other.postgres)));
        let median = cpus[cpus.len() / 2];
        let cpu = format!(
            "one commit on {count} clusters until all are told to have it, the median of {samples}: hub {:.2}, Postgres {:.2}",
            median.hub, median.postgres
        );
        let cpu = Figure::new(
            name.replace("_p99_s", "_cpu_s"),
            median.hub + median.postgres,
            "s",
            cpu,
        );
        Ok((Figure::new(name, figure.p99, "s", note), cpu))
    }

    /// Waits until the hub tells that all clusters have the newest commit.
    async fn told(&self, value: &str) -> anyhow::Result<()> {
        let subject = value.to_owned();
        wait_until("all clusters are told to have it", 5 * WITHIN, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let app = self
                .fleet
                .hub
                .cli(&["get", "kustomizations", "app", "--no-header"])?;
            anyhow::ensure!(app.contains("True"), "{subject}: {app}");
            anyhow::Ok(Some(()))
        })
        .await?;
        Ok(())
    }

    /// Kills the hub, and starts it again.
    async fn restart(&mut self) -> anyhow::Result<Figure> {
        for fake in self.fleet.clusters() {
            fake.take_requests();
        }
        let before = usage::Hub::of(&self.fleet.hub)?;
        self.fleet.hub.kill()?;
        let began = Instant::now();
        self.fleet.hub.resume().await?;
        let serves = began.elapsed().as_secs_f64();
        self.fleet.connected().await?;
        let took = began.elapsed().as_secs_f64();
        let applied: u64 = self
            .fleet
            .clusters()
            .map(|fake| fake.take_requests().remove("apply").unwrap_or_default())
            .sum();
        ensure!(applied == 0, "{applied} objects were applied again");
        let after = usage::Hub::of(&self.fleet.hub)?;
        let note = format!(
            "killed until {} agents are connected again, of which {serves:.2} s until it serves; nothing applied again; processor time of the new hub {:.1} s, of Postgres {:.1} s",
            self.fleet.count(),
            after.hub,
            after.postgres - before.postgres
        );
        Ok(Figure::new(MANY[4], took, "s", note))
    }
}
