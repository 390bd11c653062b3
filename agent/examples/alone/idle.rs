//! How often the agent's loop turns while nothing happens: twenty units, of which one is suspended, one contested and
//! one refused by the API server.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use anyhow::Context as _;
use flotilla_agent::{
    cluster::kube::{KubeCluster, client},
    ledger::secrets::Secrets,
    sim::{Contents, SimAgent},
};
use flotilla_bench_report::Figure;
use flotilla_core::{
    id::UnitId,
    unit::{Entry, UnitState},
};
use flotilla_proto::agent::v1::Readiness;
use flotilla_testkit::{AuditFilter, ControlPlane, ControlPlaneOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    first_apply::requests,
    units::{config_map, entry, settle, until},
};

pub(crate) const NAME: &str = "agent_wakes_idle_10min";
const UNITS: usize = 20;
const SUSPENDED: usize = 0;
const CONTESTED: usize = 1;
const FAILED: usize = 2;

pub(crate) async fn measure(seconds: usize) -> anyhow::Result<Figure> {
    let plane = ControlPlane::start(ControlPlaneOptions::api_only("idle")).await?;
    let (namespace, own) = (plane.namespace().await?, plane.namespace().await?);
    let kubeconfig = plane.kubeconfig_for_user("the-agent", Some("system:masters"))?;
    let client = client(Some(&kubeconfig)).await?;
    let cluster = Arc::new(KubeCluster::new(client.clone()));
    let agent = SimAgent::start(cluster, Arc::new(Secrets::new(client, &own))).await?;
    let mut contents = Contents::default();
    let units: Vec<UnitId> = (0..UNITS).map(|_| UnitId(Uuid::new_v4())).collect();
    let mut entries: Vec<Entry> = (0..UNITS)
        .map(|n| {
            let mut object = config_map(&format!("c{n}"), "1");
            if n == FAILED {
                object["data"]["refused: not a key"] = "1".into();
            }
            entry(units[n], contents.add(&[object]), &namespace)
        })
        .collect();
    agent.offer(&entries, &mut contents).await?;
    until(&agent, units[FAILED], |unit| unit.ready() == Readiness::False).await?;
    settle(&agent).await;
    entries[SUSPENDED].state = UnitState::Suspended;
    entries[SUSPENDED].version = 2;
    agent.offer(&entries, &mut contents).await?;
    contest(&plane, &namespace, &agent).await?;
    settle(&agent).await;

    let wakes = || agent.counters.wakes.load(Ordering::Relaxed);
    let (before, mark) = (wakes(), plane.audit().mark());
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let turns = wakes() - before;
    let asked = requests(&plane, &AuditFilter::all().after(mark).user("the-agent"))?;
    let note = format!(
        "turns of the agent's loop in {seconds} s, scaled to 600 s: {UNITS} units, of which one is suspended, one \
         contested and one refused every minute; requests meanwhile: {asked:?}; without the link to the hub"
    );
    let turns = turns as f64 * 600.0 / seconds as f64;
    Ok(Figure::new(NAME, turns, "turns", note).at_most(60.0))
}

/// Somebody changes a field again and again, until the agent has stopped to put it back.
async fn contest(plane: &ControlPlane, namespace: &str, agent: &SimAgent) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(plane.client().await?, namespace);
    let name = format!("c{CONTESTED}");
    for _ in 0..20 {
        let patch = Patch::Merge(json!({"data": {"value": "theirs"}}));
        api.patch(&name, &PatchParams::default(), &patch).await?;
        // What is not put back within seconds is contested.
        while agent.report(Duration::from_secs(3)).await.is_some() {}
        let data = api.get(&name).await?.data.context("data")?;
        if data["value"] == "theirs" {
            return Ok(());
        }
    }
    anyhow::bail!("never contested")
}
