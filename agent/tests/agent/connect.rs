//! What a connect costs when nothing has changed: bytes and rows to the hub, requests to the cluster.

use std::{collections::HashMap, sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::memory::Memory,
    report::HubRows,
    sim::{Contents, Options, SimAgent, SimClock},
};
use flotilla_core::{digest::Digest, unit::Entry};
use flotilla_proto::agent::v1::Report;
use prost::Message as _;
use serde_json::Value;

use crate::world::{Quiet, config_map, entry, key, settle, ten_minutes_of};

const OBJECTS: usize = 2000;

/// Takes in reports until nothing is left to say.
async fn reports(agent: &SimAgent) -> Vec<Report> {
    let mut reports = Vec::new();
    while let Some(report) = agent.report(Duration::from_secs(120)).await {
        reports.push(report);
    }
    reports
}

/// How often each row is named.
fn rows(reports: &[Report]) -> HashMap<Vec<u8>, usize> {
    let mut rows = HashMap::new();
    for report in reports {
        let units = report.units.iter().map(|unit| unit.unit_id.to_vec());
        let keys = report.objects.iter().filter_map(|object| object.key.as_ref());
        for row in units.chain(keys.map(prost::Message::encode_to_vec)) {
            *rows.entry(row).or_default() += 1;
        }
    }
    rows
}

/// A cluster with these many objects that an agent has applied and reported, and that agent's storage.
struct Applied {
    cluster: Arc<Fake>,
    cells: Arc<Memory>,
    clock: Arc<SimClock>,
    /// Root of what the hub has.
    root: Digest,
}

impl Applied {
    async fn new() -> Self {
        let (cluster, cells, clock) = (
            Arc::new(Fake::new()),
            Arc::new(Memory::default()),
            Arc::new(SimClock::default()),
        );
        let mut contents = Contents::default();
        let wanted: Vec<Entry> = (0..20)
            .map(|n| {
                let objects: Vec<Value> = (0..OBJECTS / 20)
                    .map(|m| config_map(&format!("c{n}-{m}"), "1"))
                    .collect();
                entry(n + 1, contents.add(&objects))
            })
            .collect();
        let options = Options {
            clock: Some(clock.clone()),
            ..Options::default()
        };
        let agent = SimAgent::start_as(cluster.clone(), cells.clone(), options)
            .await
            .unwrap();
        agent.offer(&wanted, &mut contents).await.unwrap();
        settle().await;
        let before = rows(&reports(&agent).await);
        assert_eq!(before.len(), OBJECTS + 20);
        let root = agent.reports.acked_root().expect("reported");
        drop(agent);
        cluster.take_requests();
        Self {
            cluster,
            cells,
            clock,
            root,
        }
    }

    /// Starts another agent, whose hub says that it has these rows; returns what it reports.
    async fn restart(&self, hub: HubRows) -> (SimAgent, Vec<Report>) {
        let options = Options {
            clock: Some(self.clock.clone()),
            ..Options::default()
        };
        let agent = SimAgent::start_as(self.cluster.clone(), self.cells.clone(), options)
            .await
            .unwrap();
        agent.reports.begin(hub, None);
        let told = reports(&agent).await;
        let requests = self.cluster.take_requests();
        assert!(
            !requests.contains_key("apply") && !requests.contains_key("get"),
            "{requests:?}"
        );
        (agent, told)
    }
}

#[tokio::test(start_paused = true)]
async fn restart_reports_each_row_twice_at_most_and_reads_no_object_alone() {
    let applied = Applied::new().await;
    let (agent, told) = applied.restart(HubRows::Unknown).await;
    let bytes: usize = told.iter().map(Report::encoded_len).sum();
    let after = rows(&told);
    assert_eq!(after.len(), OBJECTS + 20);
    // As the ledger has it, and as the first list shows it.
    let most = after.values().copied().max();
    assert!(most <= Some(2), "{most:?} times in {} reports", told.len());
    assert!(bytes < OBJECTS * 300, "{bytes} bytes in {} reports", told.len());
    assert_eq!(ten_minutes_of(&agent, &applied.cluster).await, Quiet::default());
}

#[tokio::test(start_paused = true)]
async fn restart_reports_no_row_where_the_hub_has_the_same_root() {
    let applied = Applied::new().await;
    let (agent, told) = applied.restart(HubRows::Root(applied.root)).await;
    let bytes: usize = told.iter().map(Report::encoded_len).sum();
    assert!(
        rows(&told).is_empty() && told.len() == 1 && bytes < 200,
        "{} reports with {bytes} bytes and {} rows",
        told.len(),
        rows(&told).len()
    );
    assert_eq!(agent.reports.acked_root(), Some(applied.root));
    assert_eq!(ten_minutes_of(&agent, &applied.cluster).await, Quiet::default());
}

#[tokio::test(start_paused = true)]
async fn restart_reports_everything_where_an_object_has_gone_meanwhile() {
    let applied = Applied::new().await;
    applied.cluster.delete(&key("ConfigMap", "c3-7"));
    let options = Options {
        clock: Some(applied.clock.clone()),
        ..Options::default()
    };
    let agent = SimAgent::start_as(applied.cluster.clone(), applied.cells.clone(), options)
        .await
        .unwrap();
    agent.reports.begin(HubRows::Root(applied.root), None);
    let told = reports(&agent).await;
    assert_eq!(rows(&told).len(), OBJECTS + 20);
    assert_eq!(ten_minutes_of(&agent, &applied.cluster).await, Quiet::default());
}
