//! The agent as a process of its own, so that its memory is its own: ledger in Secrets, a real API server, and a hub
//! that takes every report. Only the network to that hub is left out.

use std::{path::Path, sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::kube::{KubeCluster, client},
    ledger::secrets::Secrets,
    sim::{Options, SimAgent},
};

use crate::units::is_applied;

/// The first argument for this.
pub(crate) const WORD: &str = "agent";

/// Runs for ever, and says in a line each what it has come to.
pub(crate) async fn run(kubeconfig: &str, namespace: &str, verify_seconds: u64) -> anyhow::Result<()> {
    let kubeconfig = Path::new(kubeconfig);
    let cells = Arc::new(Secrets::new(client(Some(kubeconfig)).await?, namespace));
    let cluster = Arc::new(KubeCluster::connect(Some(kubeconfig)).await?);
    let options = Options {
        verify_every: Some(Duration::from_secs(verify_seconds)),
        ..Options::default()
    };
    let agent = SimAgent::start_as(cluster, cells, options).await?;
    println!("{STARTED}");
    let mut applied = false;
    loop {
        let Some(report) = agent.report(Duration::from_secs(3600)).await else {
            continue;
        };
        if !applied && report.units.iter().any(is_applied) {
            applied = true;
            println!("{APPLIED}");
        }
    }
}

/// It runs.
pub(crate) const STARTED: &str = "started";
/// Its unit is applied.
pub(crate) const APPLIED: &str = "applied";
