//! The first apply of a thousand objects by the agent against a bare loop of server-side applies of the same objects
//! with the same labels in the same order with as many in flight, in turns. Compared are the times from the first
//! write to the last; the agent's have in them what a bare loop does without, to look, to remember and to report.
//! Processor time, which other work on the machine changes less, stands beside them.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use flotilla_agent::{
    cluster::kube::{KubeCluster, client},
    ledger::secrets::Secrets,
    sim::{Contents, SimAgent},
};
use flotilla_bench_report::Figure;
use flotilla_core::{apply::UNIT_LABEL, id::UnitId};
use flotilla_testkit::{AuditFilter, Component, ControlPlane, ControlPlaneOptions, processor_time};
use futures::{TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::units::{config_map, entry, is_applied, until};

pub(crate) const NAME: &str = "first_apply_vs_bare_loop";
const OBJECTS: usize = 1000;
const AGENT: &str = "the-agent";
/// As many as the agent may have to one API server.
pub(crate) const IN_FLIGHT: usize = 32;

pub(crate) async fn measure(pairs: usize) -> anyhow::Result<Figure> {
    // Controllers would take the processors at times of their own.
    let plane = ControlPlane::start(ControlPlaneOptions::api_only("first-apply")).await?;
    let admin = client(Some(&plane.kubeconfig())).await?;
    // The first of each warms the server up and is not counted.
    bare(&plane, &admin).await?;
    applied(&plane, &admin).await?;
    let mut times = Vec::new();
    let mut mark = plane.audit().mark();
    for pair in 0..pairs {
        // Neither always follows the other, whose objects are being removed from the store for a while.
        times.push(if pair % 2 == 0 {
            let alone = bare(&plane, &admin).await?;
            mark = plane.audit().mark();
            (alone, applied(&plane, &admin).await?)
        } else {
            mark = plane.audit().mark();
            let agent = applied(&plane, &admin).await?;
            (bare(&plane, &admin).await?, agent)
        });
    }
    let requests = requests(&plane, &AuditFilter::all().after(mark).user(AGENT))?;
    let ratio = |(alone, (agent, _)): &(Turn, (Turn, f64))| alone.writing / agent.writing;
    times.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    let (alone, (agent, whole)) = times[pairs / 2];
    let ratios: Vec<String> = times.iter().map(|pair| format!("{:.2}", ratio(pair))).collect();
    let note = format!(
        "rate of {OBJECTS} ConfigMaps and Deployments, from the first write to the last, over that of a bare loop of \
         server-side applies of the same, with the labels that the agent writes, and {IN_FLIGHT} in flight: the \
         median of {pairs} pairs in turns, {:.2} s and {:.2} s, of {}; {whole:.2} s from the offer until reported \
         applied; processor time of this program, {:.2} s and {:.2} s, and of the API server and its store, {:.2} s \
         and {:.2} s; requests of the agent: {requests:?}; without the link to the hub",
        agent.writing,
        alone.writing,
        ratios.join(", "),
        agent.own,
        alone.own,
        agent.server,
        alone.server,
    );
    let figure = Figure::new(NAME, alone.writing / agent.writing, "ratio", note);
    Ok(figure.peer(alone.writing).at_least(0.9))
}

/// What was used since, and from the first write to the last.
fn turn(plane: &ControlPlane, before: (f64, f64), filter: AuditFilter) -> anyhow::Result<Turn> {
    let (own, server) = used(plane)?;
    let writes = plane.audit().requests(&filter.verb("patch"))?;
    let times = || writes.iter().map(|write| write.received);
    let (first, last) = times().min().zip(times().max()).context("no write")?;
    ensure!(writes.len() == OBJECTS, "{} writes", writes.len());
    Ok(Turn {
        writing: (last - first).as_seconds_f64(),
        own: own - before.0,
        server: server - before.1,
    })
}

/// What a turn took, in seconds.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// From the first write to the last.
    writing: f64,
    /// Processor time of this program.
    own: f64,
    /// Processor time of the API server and its store.
    server: f64,
}

/// Processor time so far, in seconds: this program's, and that of the API server and its store.
fn used(plane: &ControlPlane) -> anyhow::Result<(f64, f64)> {
    let mut server = 0.0;
    for component in [Component::ApiServer, Component::Etcd] {
        let pid = plane.process(component)?.pid().context("it does not run")?;
        server += processor_time(pid)?.as_secs_f64();
    }
    Ok((processor_time(std::process::id())?.as_secs_f64(), server))
}

async fn bare(plane: &ControlPlane, admin: &Client) -> anyhow::Result<Turn> {
    let namespace = plane.namespace().await?;
    let [maps, deployments] = apis(admin, &namespace);
    let mut objects = objects();
    for object in &mut objects {
        // Whoever prunes marks what is its own: the API server has these to store, whoever writes them.
        object["metadata"]["labels"] = json!({
            "kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": "flotilla-system",
            UNIT_LABEL: namespace,
        });
    }
    let (mark, before) = (plane.audit().mark(), used(plane)?);
    stream::iter(objects.iter().map(anyhow::Ok))
        .try_for_each_concurrent(IN_FLIGHT, |object| {
            let api = match object["kind"] == "Deployment" {
                true => deployments.clone(),
                false => maps.clone(),
            };
            async move {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let params = PatchParams::apply("bare").force();
                api.patch(name, &params, &Patch::Apply(object)).await?;
                Ok(())
            }
        })
        .await?;
    let turn = turn(
        plane,
        before,
        AuditFilter::all().after(mark).namespace(&namespace),
    )?;
    clear(admin, &namespace).await?;
    Ok(turn)
}

fn apis(admin: &Client, namespace: &str) -> [Api<DynamicObject>; 2] {
    [("", "ConfigMap"), ("apps", "Deployment")].map(|(group, kind)| {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(admin.clone(), namespace, &kind)
    })
}

/// Deletes what a turn has made: the next agent would be told of it.
async fn clear(admin: &Client, namespace: &str) -> anyhow::Result<()> {
    for api in apis(admin, namespace) {
        api.delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
    }
    Ok(())
}

/// A turn, and the seconds from the offer until the unit is reported applied.
async fn applied(plane: &ControlPlane, admin: &Client) -> anyhow::Result<(Turn, f64)> {
    let (namespace, own) = (plane.namespace().await?, plane.namespace().await?);
    let kubeconfig = plane.kubeconfig_for_user(AGENT, Some("system:masters"))?;
    let client = client(Some(&kubeconfig)).await?;
    let cluster = Arc::new(KubeCluster::new(client.clone()));
    let agent = SimAgent::start(cluster, Arc::new(Secrets::new(client, &own))).await?;
    let (unit, mut contents) = (UnitId(Uuid::new_v4()), Contents::default());
    let wanted = entry(unit, contents.add(&objects()), &namespace);
    let (mark, before) = (plane.audit().mark(), used(plane)?);
    let began = Instant::now();
    agent.offer(&[wanted], &mut contents).await?;
    until(&agent, unit, is_applied).await?;
    let whole = began.elapsed().as_secs_f64();
    drop(agent);
    let turn = turn(
        plane,
        before,
        AuditFilter::all().after(mark).namespace(&namespace),
    )?;
    clear(admin, &namespace).await?;
    Ok((turn, whole))
}

/// ConfigMaps and Deployments 1:1, in the order in which they are applied.
fn objects() -> Vec<Value> {
    let half = OBJECTS / 2;
    let maps = (0..half).map(|n| config_map(&format!("c{n}"), "1"));
    let deployments = (0..half).map(|n| {
        let name = format!("d{n}");
        let labels = json!({"app": name});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
            "replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "web", "image": format!("registry.example.com/team/web:{n}"),
                "ports": [{"containerPort": 8080}], "env": [{"name": "LEVEL", "value": "info"}],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}]}}}})
    });
    maps.chain(deployments).collect()
}

/// Requests by verb and resource.
pub(crate) fn requests(
    plane: &ControlPlane,
    filter: &AuditFilter,
) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut seen = BTreeMap::new();
    for request in plane.audit().requests(filter)? {
        let resource = request.object_ref.map(|object| object.resource);
        let what = format!("{} {}", request.verb, resource.unwrap_or_default());
        *seen.entry(what).or_default() += 1;
    }
    Ok(seen)
}
