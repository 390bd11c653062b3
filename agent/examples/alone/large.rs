//! What 20,000 objects of 40 kinds cost: memory of an agent that is a process of its own, requests, the time to
//! correct one drift and a thousand. The agent finds the unit in its ledger, as after a restart, and applies it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flotilla_agent::{
    agent::LEDGER,
    cluster::kube::client,
    ledger::{Ledger, secrets::Secrets},
    sim::{Contents, offer_to},
};
use flotilla_bench_report::{Figure, Record};
use flotilla_core::clock::Timestamp;
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
use serde_json::{Value, json};

use crate::{
    agent,
    first_apply::{IN_FLIGHT, requests},
    objects::{CUSTOM, NAMESPACES, ROUND, SCOPES, entry, object},
    process::Process,
};

pub(crate) const NAMES: [&str; 4] = [
    "idle_requests_20000_objects",
    "agent_pss_20000_mib",
    "drift_to_corrected_20000_p99_s",
    "mass_drift_1000_s",
];

/// Corrections one after another, and at once.
const DRIFTS: usize = 200;
const MASS: usize = 1000;
const AGENT: &str = "the-agent";

pub(crate) async fn measure(objects: usize, cycle: usize, record: &mut Record) -> anyhow::Result<()> {
    // Controllers would take the processors at times of their own.
    let plane = ControlPlane::start(ControlPlaneOptions::api_only("large")).await?;
    let admin = plane.client().await?;
    prepare(&admin).await?;
    let own = plane.namespace().await?;
    let kubeconfig = plane.kubeconfig_for_user(AGENT, Some("system:masters"))?;
    fill(&client(Some(&kubeconfig)).await?, &own, objects).await?;
    let path = kubeconfig.to_str().context("a path")?;
    let mut agent = Process::start(&[agent::WORD, path, &own, &cycle.to_string()])?;
    agent.until(agent::STARTED).await?;
    let began = Instant::now();
    println!("before the first object: {:.1} MiB", agent.pss()?);
    agent.until(agent::APPLIED).await?;
    println!(
        "{objects} objects applied in {:.1?}: {:.1} MiB",
        began.elapsed(),
        agent.pss()?
    );

    rest(&plane).await?;
    println!("at rest: {:.1} MiB", agent.pss()?);
    // The first cycle begins a period after the start.
    let period = Duration::from_secs(cycle as u64);
    tokio::time::sleep(period.saturating_sub(began.elapsed())).await;
    let mark = plane.audit().mark();
    tokio::time::sleep(period).await;
    let mut asked = requests(&plane, &AuditFilter::all().after(mark).user(AGENT))?;
    let renewals: usize = asked
        .extract_if(.., |what, _| what.starts_with("watch "))
        .map(|(_, count)| count)
        .sum();
    let count: usize = asked.values().sum();
    let note = format!(
        "all requests, {count}, of an agent of {objects} objects in {SCOPES} kinds and namespaces in one cycle of \
         verification of {cycle} s, from the audit log, but for {renewals} renewals of watches: {:?}",
        by_verb(&asked)
    );
    let per_scope = count as f64 / SCOPES as f64;
    record.add(Figure::new(NAMES[0], per_scope, "per kind and namespace", note).at_most(1.0))?;

    let note = format!(
        "PSS from /proc after that cycle, {objects} objects of 40 kinds, a quarter of them ConfigMaps, all of them \
         templates; a process of the agent alone, without the link to the hub"
    );
    record.add(Figure::new(NAMES[1], agent.pss()?, "MiB", note).at_most(40.0))?;

    let mut times = Vec::new();
    for number in 0..DRIFTS {
        times.push(drift(&admin, config_map(number, objects)).await?);
    }
    times.sort_unstable();
    let p99 = times[DRIFTS * 99 / 100].as_secs_f64();
    let note = format!(
        "edit answered until the field is back, of {objects} objects; {DRIFTS} edits, p50 {:.3} s",
        times[DRIFTS / 2].as_secs_f64()
    );
    record.add(Figure::new(NAMES[2], p99, "s", note).at_most(0.25))?;

    let bare = bare(&admin).await?;
    let mass = mass_drift(&admin, objects).await?;
    let note = format!(
        "{MASS} of {objects} objects, ConfigMaps, edited at once, from the last edit until all are back, {:.2} s, over \
         a bare loop of as many server-side applies with {IN_FLIGHT} in flight, {:.2} s; {:.1} MiB after it",
        mass.as_secs_f64(),
        bare.as_secs_f64(),
        agent.pss()?
    );
    let ratio = mass.as_secs_f64() / bare.as_secs_f64();
    let figure = Figure::new(NAMES[3], ratio, "ratio", note);
    record.add(figure.peer(bare.as_secs_f64()).at_most(1.5))?;
    Ok(())
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

/// The ledger of an agent that was offered the unit and has not begun with it.
async fn fill(client: &Client, own: &str, objects: usize) -> anyhow::Result<()> {
    let mut contents = Contents::default();
    let texts: Vec<_> = (0..objects)
        .map(object)
        .map(|(key, value)| (key, value.to_string()))
        .collect();
    let templates: Vec<_> = texts
        .iter()
        .map(|(key, text)| (key.clone(), text.as_str()))
        .collect();
    let entry = entry(contents.add_yaml(&templates));
    let ledger = Ledger::open(Arc::new(Secrets::new(client.clone(), own)), LEDGER).await?;
    offer_to(&ledger, 1, &[entry], &mut contents, Timestamp::default()).await?;
    ledger.flush().await?;
    println!("the ledger has {} bytes", ledger.read(|state| state.live_size()));
    Ok(())
}

/// Waits until the agent has asked for nothing but watches, and the lists of a verification, for ten seconds.
async fn rest(plane: &ControlPlane) -> anyhow::Result<()> {
    loop {
        let mark = plane.audit().mark();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let asked = requests(plane, &AuditFilter::all().after(mark).user(AGENT))?;
        let mut verbs = asked.keys().filter_map(|what| what.split(' ').next());
        if verbs.all(|verb| matches!(verb, "watch" | "list")) {
            return Ok(());
        }
    }
}

fn by_verb(requests: &BTreeMap<String, usize>) -> BTreeMap<&str, usize> {
    let mut verbs = BTreeMap::new();
    for (what, count) in requests {
        *verbs
            .entry(what.split(' ').next().unwrap_or_default())
            .or_default() += count;
    }
    verbs
}

/// The number of a ConfigMap, another one each time: what is changed again and again is contested.
fn config_map(number: usize, objects: usize) -> usize {
    let rounds = (objects / ROUND).max(1);
    number % rounds * ROUND + number / rounds % 20
}

/// Changes a ConfigMap by hand, and gives the time until that is undone.
async fn drift(admin: &Client, number: usize) -> anyhow::Result<Duration> {
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
            return Ok(edited.elapsed());
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

/// Edits a thousand ConfigMaps at once. Gives the time from the last edit until all are back, which a watch of each
/// namespace tells.
async fn mass_drift(admin: &Client, objects: usize) -> anyhow::Result<Duration> {
    let keys: Vec<_> = (0..objects)
        .filter(|n| n % ROUND < 20)
        .map(|n| object(n).0)
        .rev()
        .take(MASS)
        .collect();
    let api: Api<ConfigMap> = Api::all(admin.clone());
    let version = api
        .list_metadata(&kube::api::ListParams::default().limit(1))
        .await?;
    let version = version.metadata.resource_version.context("a version")?;
    let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
    let edits = stream::iter(&keys)
        .map(anyhow::Ok)
        .try_for_each_concurrent(IN_FLIGHT, |key| async move {
            let api = Api::namespaced(admin.clone(), &key.namespace);
            edit(&api, &key.name).await.map(drop)
        });
    let edited = async { edits.await.map(|()| Instant::now()) };
    let back = async {
        let mut left = keys.len();
        while left > 0 {
            let event = events.try_next().await?.context("the watch ended")?;
            // Each is back once: it is edited once.
            if let WatchEvent::Modified(map) = event
                && is_back(&map)
            {
                left -= 1;
            }
        }
        anyhow::Ok(Instant::now())
    };
    let (edited, back) = tokio::try_join!(edited, back)?;
    Ok(back.saturating_duration_since(edited))
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
