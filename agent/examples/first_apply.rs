//! Measures the first apply of a thousand ConfigMaps by the agent against a bare loop of server-side applies with
//! eight in flight, in turns on one control plane of its own, and the time from an accepted one-object change to
//! its patch. Prints times, the ratio, and the requests behind them by verb and resource.
//!
//! `cargo run --release -p flotilla-agent --features testing --example first_apply [ROUNDS]`

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flotilla_agent::{
    cluster::kube::{KubeCluster, client},
    ledger::secrets::Secrets,
    sim::{Contents, SimAgent},
};
use flotilla_core::{
    digest::Digest,
    id::{ResourceUid, UnitId},
    unit::{AppRef, Entry, Settings, Substitution, UnitState, target_digest},
};
use flotilla_proto::agent::v1::Readiness;
use flotilla_testkit::{AuditFilter, AuditMark, ControlPlane, ControlPlaneOptions};
use futures::{TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use uuid::Uuid;

const OBJECTS: usize = 1000;
const CHANGES: usize = 20;
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    flotilla_testkit::install_tls_provider();
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(3), |text| text.parse::<u32>())?;
    let plane = ControlPlane::start(ControlPlaneOptions::named("first-apply")).await?;
    // The first round warms the server up and is not counted.
    bare(&plane).await?;
    let (mut alone, mut agent) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=rounds {
        let one = bare(&plane).await?;
        let other = applied(&plane, round == rounds).await?;
        println!("round {round}: bare {one:.2?}, agent {other:.2?}");
        alone += one;
        agent += other;
    }
    println!(
        "rate of the bare loop reached: {:.2}",
        alone.as_secs_f64() / agent.as_secs_f64()
    );
    Ok(())
}

async fn bare(plane: &ControlPlane) -> anyhow::Result<Duration> {
    let namespace = plane.namespace().await?;
    let api: Api<ConfigMap> = Api::namespaced(client(Some(&plane.kubeconfig())).await?, &namespace);
    let began = Instant::now();
    stream::iter((0..OBJECTS).map(anyhow::Ok))
        .try_for_each_concurrent(8, |number| {
            let api = api.clone();
            async move {
                let object = config_map(number, "1");
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let params = PatchParams::apply("bare").force();
                api.patch(name, &params, &Patch::Apply(&object)).await?;
                Ok(())
            }
        })
        .await?;
    Ok(began.elapsed())
}

async fn applied(plane: &ControlPlane, tell: bool) -> anyhow::Result<Duration> {
    let namespace = plane.namespace().await?;
    let own = plane.namespace().await?;
    let client = client(Some(&plane.kubeconfig())).await?;
    let cluster = Arc::new(KubeCluster::new(client.clone()));
    let agent = SimAgent::start(cluster, Arc::new(Secrets::new(client, &own))).await?;
    let (id, mut contents) = (UnitId(Uuid::new_v4()), Contents::default());
    let mut objects: Vec<Value> = (0..OBJECTS).map(|number| config_map(number, "1")).collect();
    let first = entry(id, contents.add(&objects), &namespace);
    let mark = plane.audit().mark();
    let began = Instant::now();
    agent.offer(std::slice::from_ref(&first), &mut contents).await?;
    until_applied(&agent, &first).await?;
    let took = began.elapsed();
    if tell {
        report(plane, mark)?;
        let mut changes = Vec::new();
        for number in 0..CHANGES {
            objects[number * 7] = config_map(number * 7, "2");
            let changed = entry(id, contents.add(&objects), &namespace);
            let began = Instant::now();
            agent.offer(std::slice::from_ref(&changed), &mut contents).await?;
            let accepted = began.elapsed();
            until_applied(&agent, &changed).await?;
            changes.push((began.elapsed(), accepted));
        }
        changes.sort();
        let (whole, accepted) = changes[CHANGES / 2];
        println!(
            "a change of one: offered until reported {whole:.1?} (median), of it accepting {accepted:.1?}"
        );
    }
    Ok(took)
}

fn report(plane: &ControlPlane, mark: AuditMark) -> anyhow::Result<()> {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for request in plane
        .audit()
        .requests(&AuditFilter::all().after(mark).user("kubernetes-admin"))?
    {
        let resource = request
            .object_ref
            .map(|object| object.resource)
            .unwrap_or_default();
        *seen.entry((request.verb, resource)).or_default() += 1;
    }
    println!("requests: {seen:?}");
    Ok(())
}

async fn until_applied(agent: &SimAgent, entry: &Entry) -> anyhow::Result<()> {
    loop {
        let report = agent.report(WITHIN).await.context("no report")?;
        let done = report.units.iter().any(|unit| {
            unit.ready() == Readiness::True
                && unit
                    .applied
                    .as_ref()
                    .is_some_and(|applied| applied.is(entry.version, entry.target.as_bytes()))
        });
        if done {
            return Ok(());
        }
    }
}

fn config_map(number: usize, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{number}")},
        "data": {"n": number.to_string(), "value": value}})
}

fn entry(unit: UnitId, content: Digest, namespace: &str) -> Entry {
    let settings = Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(5),
        timeout: Duration::from_secs(60),
        wait: false,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::Off,
        default_namespace: namespace.to_owned(),
    };
    Entry {
        unit,
        version: 1,
        app: AppRef {
            uid: ResourceUid(Uuid::from_u128(2)),
            kind: "Kustomization".into(),
            namespace: "flux-system".into(),
            name: "apps".into(),
        },
        content: Some(content),
        target: target_digest(Some(content), &settings, &[]),
        revision: "main@sha1:abc".into(),
        state: UnitState::Active,
        prune_cleared: None,
        settings,
        variables: Vec::new(),
        depends_on: Vec::new(),
        withheld: Vec::new(),
        requested: String::new(),
    }
}
