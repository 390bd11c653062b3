//! What a connect costs when nothing has changed: bytes and rows to the hub, requests to the cluster.

use std::{collections::HashMap, sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::memory::Memory,
    sim::{Contents, Options, SimAgent, SimClock},
};
use flotilla_core::unit::Entry;
use flotilla_proto::agent::v1::Report;
use prost::Message as _;
use serde_json::Value;

use crate::world::{Quiet, config_map, entry, settle, ten_minutes_of};

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

#[tokio::test(start_paused = true)]
async fn restart_reports_each_row_twice_at_most_and_reads_no_object_alone() {
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
    let options = || Options {
        clock: Some(clock.clone()),
        ..Options::default()
    };
    let agent = SimAgent::start_as(cluster.clone(), cells.clone(), options())
        .await
        .unwrap();
    agent.offer(&wanted, &mut contents).await.unwrap();
    settle().await;
    let before = rows(&reports(&agent).await);
    assert_eq!(before.len(), OBJECTS + 20);
    drop(agent);
    cluster.take_requests();

    let agent = SimAgent::start_as(cluster.clone(), cells, options())
        .await
        .unwrap();
    // The hub does not know what this process has seen: it asks for all of it.
    agent.reports.begin(true);
    let told = reports(&agent).await;
    let bytes: usize = told.iter().map(Report::encoded_len).sum();
    let after = rows(&told);
    assert_eq!(after.len(), OBJECTS + 20);
    // As the ledger has it, and as the first list shows it.
    let most = after.values().copied().max();
    assert!(most <= Some(2), "{most:?} times in {} reports", told.len());
    assert!(bytes < OBJECTS * 300, "{bytes} bytes in {} reports", told.len());
    let requests = cluster.take_requests();
    assert!(
        !requests.contains_key("apply") && !requests.contains_key("get"),
        "{requests:?}"
    );
    assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
}
