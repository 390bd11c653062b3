//! The first apply of a thousand objects by the agent against a bare loop of server-side applies of the same objects
//! with the same labels in the same order with as many in flight, in turns. Compared are the times from the first
//! write to the last; the agent's have in them what a bare loop does without, to look, to remember and to report.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use flotilla_agent::{
    cluster::kube::{KubeCluster, client},
    ledger::secrets::Secrets,
    sim::{Contents, SimAgent},
};
use flotilla_bench_report::Figure;
use flotilla_core::{apply::UNIT_LABEL, id::UnitId};
use flotilla_testkit::{AuditFilter, ControlPlane, ControlPlaneOptions};
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
    for _ in 0..pairs {
        let alone = bare(&plane, &admin).await?;
        mark = plane.audit().mark();
        times.push((alone, applied(&plane, &admin).await?));
    }
    let requests = requests(&plane, &AuditFilter::all().after(mark).user(AGENT))?;
    let ratio = |(alone, (writing, _)): (f64, (f64, f64))| alone / writing;
    times.sort_by(|one, other| ratio(*one).total_cmp(&ratio(*other)));
    let (alone, (writing, whole)) = times[pairs / 2];
    let ratios: Vec<String> = times.iter().map(|pair| format!("{:.2}", ratio(*pair))).collect();
    let note = format!(
        "rate of {OBJECTS} ConfigMaps and Deployments, from the first write to the last, over that of a bare loop of \
         server-side applies of the same, with the labels that the agent writes, and {IN_FLIGHT} in flight: the \
         median of {pairs} pairs in turns, {writing:.2} s and {alone:.2} s, of {}; {whole:.2} s from the offer until reported applied; requests of the \
         agent: {requests:?}; without the link to the hub",
        ratios.join(", "),
    );
    let figure = Figure::new(NAME, alone / writing, "ratio", note);
    Ok(figure.peer(alone).at_least(0.9))
}

/// Seconds from the first write to the last.
fn writing(plane: &ControlPlane, filter: AuditFilter) -> anyhow::Result<f64> {
    let writes = plane.audit().requests(&filter.verb("patch"))?;
    let times = || writes.iter().map(|write| write.received);
    let (first, last) = times().min().zip(times().max()).context("no write")?;
    ensure!(writes.len() == OBJECTS, "{} writes", writes.len());
    Ok((last - first).as_seconds_f64())
}

async fn bare(plane: &ControlPlane, admin: &Client) -> anyhow::Result<f64> {
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
    let mark = plane.audit().mark();
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
    let took = writing(plane, AuditFilter::all().after(mark).namespace(&namespace))?;
    clear(admin, &namespace).await?;
    Ok(took)
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

/// Seconds of writing, and from the offer until the unit is reported applied.
async fn applied(plane: &ControlPlane, admin: &Client) -> anyhow::Result<(f64, f64)> {
    let (namespace, own) = (plane.namespace().await?, plane.namespace().await?);
    let kubeconfig = plane.kubeconfig_for_user(AGENT, Some("system:masters"))?;
    let client = client(Some(&kubeconfig)).await?;
    let cluster = Arc::new(KubeCluster::new(client.clone()));
    let agent = SimAgent::start(cluster, Arc::new(Secrets::new(client, &own))).await?;
    let (unit, mut contents) = (UnitId(Uuid::new_v4()), Contents::default());
    let wanted = entry(unit, contents.add(&objects()), &namespace);
    let mark = plane.audit().mark();
    let began = Instant::now();
    agent.offer(&[wanted], &mut contents).await?;
    until(&agent, unit, is_applied).await?;
    let whole = began.elapsed().as_secs_f64();
    drop(agent);
    let writing = writing(plane, AuditFilter::all().after(mark).namespace(&namespace))?;
    clear(admin, &namespace).await?;
    Ok((writing, whole))
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
