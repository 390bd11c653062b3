//! What 20,000 objects of 40 kinds cost the agent, on a control plane of its own: memory, requests, the time to
//! correct one drift and a thousand. The agent is the whole of it but for its link to the hub. Records the figures as
//! the other benchmarks do; `make bench` runs it.
//!
//! `cargo run --release -p flotilla-agent --example large [OBJECTS [IDLE_SECONDS]]`

#[path = "../../tests/memory/objects.rs"]
mod objects;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use flotilla_agent::{
    cluster::kube::{KubeCluster, client},
    ledger::secrets::Secrets,
    sim::{Contents, Options, SimAgent},
};
use flotilla_bench_report::{Figure, Record};
use flotilla_proto::agent::v1::Readiness;
use flotilla_testkit::{AuditFilter, ControlPlane, ControlPlaneOptions};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use objects::{CUSTOM, NAMESPACES, ROUND, SCOPES, entry, object};
use serde_json::{Value, json};

/// Corrections one after another, and at once.
const DRIFTS: usize = 200;
const MASS: usize = 1000;
const WITHIN: Duration = Duration::from_secs(1800);
const IN_FLIGHT: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    flotilla_testkit::install_tls_provider();
    let number = |nth: usize, default: usize| {
        let text = std::env::args().nth(nth);
        text.map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (objects, idle) = (number(1, 20_000)?, number(2, 900)?);
    let cycle = Duration::from_secs(idle as u64);
    let mut record = Record::open(".")?;
    let plane = ControlPlane::start(ControlPlaneOptions::named("large")).await?;
    let admin = client(Some(&plane.kubeconfig())).await?;
    prepare(&admin).await?;

    let own = plane.namespace().await?;
    let cluster = Arc::new(KubeCluster::new(admin.clone()));
    let options = Options {
        verify_every: Some(cycle),
        ..Options::default()
    };
    let cells = Arc::new(Secrets::new(admin.clone(), &own));
    let agent = SimAgent::start_as(cluster, cells, options).await?;
    println!("idle: {:.1} MiB", pss()?);
    let took = apply(&agent, objects).await?;
    println!("{objects} objects applied in {took:.1?}");

    let mark = plane.audit().mark();
    settle(&agent).await;
    tokio::time::sleep(cycle).await;
    let asked = plane
        .audit()
        .requests(&AuditFilter::all().after(mark).user("kubernetes-admin"))?;
    let lists = asked.iter().filter(|request| request.verb == "list").count();
    let note = format!(
        "lists of {SCOPES} kinds and namespaces in one cycle of verification of {idle} s, from the audit log"
    );
    let per_scope = lists as f64 / SCOPES as f64;
    record.add(
        Figure::new(
            "idle_requests_20000_objects",
            per_scope,
            "per kind and namespace",
            note,
        )
        .at_most(1.0),
    )?;

    let note = format!(
        "PSS from /proc, {objects} objects of 40 kinds at rest, a quarter of them ConfigMaps, all of them templates; without the link to the hub"
    );
    record.add(Figure::new("agent_pss_20000_mib", pss()?, "MiB", note).at_most(40.0))?;

    let mut times = Vec::new();
    for number in 0..DRIFTS {
        times.push(drift(&admin, &agent, config_map(number, objects)).await?);
    }
    times.sort_unstable();
    let p99 = times[DRIFTS * 99 / 100].as_secs_f64();
    let note = format!(
        "edit answered until the field is back, of {objects} objects; {DRIFTS} edits, p50 {:.3} s",
        times[DRIFTS / 2].as_secs_f64()
    );
    record.add(Figure::new("drift_to_corrected_20000_p99_s", p99, "s", note).at_most(0.25))?;

    let bare = bare(&admin).await?;
    let mass = mass_drift(&admin, &agent, objects).await?;
    let note = format!(
        "{MASS} ConfigMaps edited at once until all are back, {:.2} s, over a bare loop of as many server-side applies with {IN_FLIGHT} in flight, {:.2} s",
        mass.as_secs_f64(),
        bare.as_secs_f64()
    );
    let ratio = mass.as_secs_f64() / bare.as_secs_f64();
    record.add(
        Figure::new("mass_drift_1000_s", ratio, "ratio", note)
            .peer(bare.as_secs_f64())
            .at_most(1.5),
    )?;
    Ok(record.close()?)
}

/// Namespaces and definitions are there before.
async fn prepare(admin: &Client) -> anyhow::Result<()> {
    let params = PatchParams::apply("setup").force();
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    for n in 0..NAMESPACES {
        let name = format!("team-{n}");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        namespaces
            .patch(&name, &params, &Patch::Apply(&namespace))
            .await?;
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    for (name, definition) in CUSTOM.map(definition) {
        definitions
            .patch(&name, &params, &Patch::Apply(&definition))
            .await?;
    }
    // The API server publishes them within a second or two.
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(())
}

/// A definition that takes everything.
fn definition(kind: usize) -> (String, Value) {
    let (kind, plural) = (format!("Custom{kind}"), format!("custom{kind}s"));
    let name = format!("{plural}.example.com");
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]},
    });
    (name, definition)
}

async fn apply(agent: &SimAgent, objects: usize) -> anyhow::Result<Duration> {
    let mut contents = Contents::default();
    let began = Instant::now();
    let entry = {
        let texts: Vec<_> = (0..objects)
            .map(object)
            .map(|(key, value)| (key, value.to_string()))
            .collect();
        let templates: Vec<_> = texts
            .iter()
            .map(|(key, text)| (key.clone(), text.as_str()))
            .collect();
        entry(contents.add_yaml(&templates))
    };
    agent.offer(std::slice::from_ref(&entry), &mut contents).await?;
    drop(contents);
    loop {
        let report = agent.report(WITHIN).await.context("no report")?;
        let is_applied = report.units.iter().any(|unit| {
            let applied = unit.applied.as_ref();
            unit.ready() == Readiness::True
                && applied.is_some_and(|applied| applied.is(entry.version, entry.target.as_bytes()))
        });
        if is_applied {
            return Ok(began.elapsed());
        }
    }
}

/// Takes in reports until there are none for a while.
async fn settle(agent: &SimAgent) {
    while agent.report(Duration::from_secs(10)).await.is_some() {}
}

/// The number of a ConfigMap, another one each time: what is changed again and again is contested.
fn config_map(number: usize, objects: usize) -> usize {
    let rounds = (objects / ROUND).max(1);
    number % rounds * ROUND + number / rounds % 20
}

/// Changes a ConfigMap by hand, and gives the time until that is undone.
async fn drift(admin: &Client, agent: &SimAgent, number: usize) -> anyhow::Result<Duration> {
    let key = object(number).0;
    let api: Api<ConfigMap> = Api::namespaced(admin.clone(), &key.namespace);
    let version = edit(&api, &key.name).await?;
    let edited = Instant::now();
    let params = WatchParams::default().fields(&format!("metadata.name={}", key.name));
    let mut events = api.watch(&params, &version).await?.boxed();
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Modified(map) = event
            && is_back(&map)
        {
            let took = edited.elapsed();
            while agent.report(Duration::from_millis(1)).await.is_some() {}
            return Ok(took);
        }
    }
    anyhow::bail!("the watch of {key} ended")
}

async fn edit(api: &Api<ConfigMap>, name: &str) -> anyhow::Result<String> {
    let patch = Patch::Merge(json!({"data": {"level": "by hand"}}));
    let edited = api.patch(name, &PatchParams::default(), &patch).await?;
    edited.metadata.resource_version.context("a version")
}

fn is_back(map: &ConfigMap) -> bool {
    map.data
        .as_ref()
        .and_then(|data| data.get("level"))
        .is_some_and(|level| level == "info")
}

/// Edits a thousand ConfigMaps at once. Gives the time from the last edit until all are back.
async fn mass_drift(admin: &Client, agent: &SimAgent, objects: usize) -> anyhow::Result<Duration> {
    let keys: Vec<_> = (0..objects)
        .filter(|n| n % ROUND < 20)
        .map(|n| object(n).0)
        .rev()
        .take(MASS)
        .collect();
    let began = Instant::now();
    stream::iter(&keys)
        .map(anyhow::Ok)
        .try_for_each_concurrent(IN_FLIGHT * 4, |key| async move {
            let api = Api::namespaced(admin.clone(), &key.namespace);
            edit(&api, &key.name).await.map(drop)
        })
        .await?;
    let edited = began.elapsed();
    loop {
        while agent.report(Duration::from_millis(100)).await.is_some() {}
        let mut left = 0;
        for n in 0..NAMESPACES {
            let api: Api<ConfigMap> = Api::namespaced(admin.clone(), &format!("team-{n}"));
            let maps = api.list(&Default::default()).await?;
            left += maps
                .items
                .iter()
                .filter(|map| {
                    map.data.as_ref().is_some_and(|data| data.contains_key("level")) && !is_back(map)
                })
                .count();
        }
        if left == 0 {
            return Ok(began.elapsed().saturating_sub(edited));
        }
    }
}

/// The bare loop.
async fn bare(admin: &Client) -> anyhow::Result<Duration> {
    let api: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
    let began = Instant::now();
    stream::iter((0..MASS).map(anyhow::Ok))
        .try_for_each_concurrent(IN_FLIGHT, |number| {
            let api = api.clone();
            async move {
                let name = format!("bare-{number}");
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"level": "info"}});
                api.patch(&name, &PatchParams::apply("bare").force(), &Patch::Apply(&map)).await?;
                Ok(())
            }
        })
        .await?;
    Ok(began.elapsed())
}

/// This process's share of memory, in MiB.
fn pss() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("the kernel told no PSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}
