//! What people look at while a large fleet reports: sums over all units of each app, and the objects of one unit.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use e2e::sim;
use flotilla_agent::cluster::fake::Fake;
use flotilla_bench_report::{Figure, Record};
use flotilla_core::object::ObjectKey;
use flotilla_proto::fleet::v1::{
    ListResourcesRequest, ListUnitObjectsRequest, ListUnitsRequest, fleet_service_client::FleetServiceClient,
};
use flotilla_testkit::wait_until;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};
use tonic::transport::Channel;

use crate::{WITHIN, Wanted, files, fleet::Fleet, idle_time, setting, spread::spread};

pub(crate) const NAMES: [&str; 2] = ["status_summary_p99_ms", "unit_page_p99_ms"];

const APPS: usize = 20;
/// Of each app on each cluster: those that turn, and the others.
const TURNING: usize = 20;
const STILL: usize = 80;
const READERS: usize = 20;
const PER_READER: u32 = 5;

pub(crate) async fn measure(dir: &Path, wanted: &Wanted, record: &mut Record) -> anyhow::Result<()> {
    let objects = setting("FLOTILLA_BENCH_OBJECTS").unwrap_or(1_000_000);
    let clusters = objects / (APPS * (TURNING + STILL));
    let mut fleet = Fleet::start(dir, &repository()).await?;
    fleet.join("page", u32::try_from(clusters)?).await?;
    let apps: Vec<String> = (0..APPS).map(app).collect();
    fleet.place(&apps)?;
    wait_until("all apps are ready", 10 * WITHIN, async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let shown = fleet.hub.cli(&["get", "kustomizations", "--no-header"])?;
        let ready = shown.lines().filter(|line| line.contains("True")).count();
        if ready == APPS {
            anyhow::Ok(Some(()))
        } else {
            Err(anyhow::anyhow!("{shown}"))
        }
    })
    .await?;
    // What is read first is what turns next: all clusters know the status of theirs.
    let channel = sim::dial(fleet.access.context(None)?).await?;
    let mut readers = Readers {
        token: fleet.access.context(None)?.token.clone(),
        units: Vec::new(),
        channel,
    };
    readers.units = readers.units().await?;
    let time = idle_time(60);
    let (turned, times) = tokio::join!(turn(&fleet, time), readers.read(time));
    let (turned, [summary, page]) = (turned, times?);
    for (name, times, most, what) in [
        (
            NAMES[0],
            summary,
            10.0,
            "the list of all apps with their sums over all clusters",
        ),
        (NAMES[1], page, 25.0, "the objects of one unit"),
    ] {
        if !wanted.has(name) {
            continue;
        }
        let figure = spread(&times);
        let note = format!(
            "{what}, of {clusters} simulated clusters with {APPS} apps of {} objects, {} rows told by agents a second meanwhile; {READERS} readers of {PER_READER} requests a second, from the time at which each was due; {} answers, p50 {:.1} ms, max {:.1} ms",
            TURNING + STILL,
            turned / time.as_secs(),
            times.len(),
            figure.p50 * 1000.0,
            figure.max * 1000.0
        );
        record.add(Figure::new(name, figure.p99 * 1000.0, "ms", note).at_most(most))?;
    }
    Ok(())
}

fn app(number: usize) -> String {
    format!("app-{number}")
}

fn repository() -> Vec<(String, String)> {
    let kustomization = json!({"namespace": "default", "resources": ["all.yaml"]}).to_string();
    (0..APPS)
        .flat_map(|number| {
            let app = app(number);
            let turning = (0..TURNING).map(|n| {
                let (name, labels) = (format!("{app}-{n}"), json!({"app": app}));
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
                    "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "web", "image": "registry.example.com/team/web:1"}]}}}})
            });
            let still = (0..STILL).map(|n| {
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{app}-{n}")},
                    "data": {"value": "x"}})
            });
            let all: Vec<_> = turning.chain(still).collect();
            [
                (format!("{app}/all.yaml"), files::documents(&all)),
                (format!("{app}/kustomization.yaml"), kustomization.clone()),
            ]
        })
        .collect()
}

/// Lets Deployments turn ready and back, those of one unit at once: a thousand a second.
async fn turn(fleet: &Fleet, time: Duration) -> u64 {
    let clusters: Vec<&Fake> = fleet.clusters().collect();
    let mut every =
        tokio::time::interval(Duration::from_secs(1) * u32::try_from(TURNING).unwrap_or(1) / 1000);
    let (end, mut turned) = (Instant::now() + time, 0);
    for round in 0_usize.. {
        every.tick().await;
        if Instant::now() > end {
            break;
        }
        let cluster = clusters[round % clusters.len()];
        let (app, ready) = (
            app(round / clusters.len() % APPS),
            (round / clusters.len() / APPS).is_multiple_of(2),
        );
        let count = u32::from(ready);
        for number in 0..TURNING {
            let key = ObjectKey::new("apps", "Deployment", "default", &format!("{app}-{number}"));
            cluster.set_status(
                &key,
                json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": count,
                    "availableReplicas": count}),
            );
            turned += 1;
        }
    }
    turned
}

struct Readers {
    channel: Channel,
    token: String,
    units: Vec<String>,
}

impl Readers {
    fn request<T>(&self, message: T) -> anyhow::Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        let bearer = format!("Bearer {}", self.token).parse()?;
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }

    /// The units of one app.
    async fn units(&self) -> anyhow::Result<Vec<String>> {
        let request = self.request(ListUnitsRequest {
            app_kind: "Kustomization".to_owned(),
            app_namespace: "flux-system".to_owned(),
            app_name: app(0),
            page_size: 1000,
            ..ListUnitsRequest::default()
        })?;
        let answer = FleetServiceClient::new(self.channel.clone())
            .list_units(request)
            .await?;
        Ok(answer
            .into_inner()
            .units
            .into_iter()
            .map(|unit| unit.id)
            .collect())
    }

    /// Times of both kinds of request, each from when it was due.
    async fn read(&self, time: Duration) -> anyhow::Result<[Vec<Duration>; 2]> {
        let mut answers: [JoinSet<anyhow::Result<Duration>>; 2] = [JoinSet::new(), JoinSet::new()];
        let (begin, each) = (Instant::now(), Duration::from_secs(1) / PER_READER);
        let step = each / u32::try_from(READERS)?;
        let mut number = 0_usize;
        loop {
            let due = begin + step * u32::try_from(number)?;
            if due > begin + time {
                break;
            }
            tokio::time::sleep_until(due).await;
            let mut client = FleetServiceClient::new(self.channel.clone());
            if number.is_multiple_of(2) {
                let request = self.request(ListResourcesRequest {
                    kinds: vec!["Kustomization".to_owned()],
                    ..ListResourcesRequest::default()
                })?;
                answers[0].spawn(async move {
                    client.list_resources(request).await?;
                    Ok(due.elapsed())
                });
            } else {
                let unit = self.units.get(number % self.units.len()).context("no unit")?;
                let request = self.request(ListUnitObjectsRequest {
                    unit_id: unit.clone(),
                })?;
                answers[1].spawn(async move {
                    client.list_unit_objects(request).await?;
                    Ok(due.elapsed())
                });
            }
            number += 1;
        }
        let mut times = [Vec::new(), Vec::new()];
        for (times, mut answers) in times.iter_mut().zip(answers) {
            while let Some(answer) = answers.join_next().await {
                times.push(answer??);
            }
        }
        Ok(times)
    }
}
