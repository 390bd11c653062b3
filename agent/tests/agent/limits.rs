//! What the agent does beyond its bounds: it goes on with what is within them, and says what is not.

use std::{sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::memory::Memory,
    sim::{Contents, Options, SimAgent},
};
use flotilla_core::unit::{Entry, UnitState};
use flotilla_proto::agent::v1::{ClusterCondition, ClusterConditionKind};
use serde_json::Value;

use crate::world::{config_map, entry, settle};

fn in_namespaces(numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers
        .map(|n| {
            let mut object = config_map("x", "1");
            object["metadata"]["namespace"] = format!("team{n}").into();
            object
        })
        .collect()
}

/// Takes in reports until nothing is left to say, and returns what was said last of the watches.
async fn watches_condition(agent: &SimAgent) -> Option<ClusterCondition> {
    settle().await;
    let mut last = None;
    while let Some(report) = agent.report(Duration::from_secs(1)).await {
        let mut conditions = report.conditions.into_iter();
        last = conditions
            .rfind(|condition| condition.kind() == ClusterConditionKind::Watches)
            .or(last);
    }
    last
}

#[tokio::test(start_paused = true)]
async fn more_kinds_and_namespaces_than_can_be_watched_are_a_condition_of_the_cluster_until_there_are_fewer()
{
    let namespaces: Vec<String> = (0..2100).map(|n| format!("team{n}")).collect();
    let mut contents = Contents::default();
    let [few, more] = [0..2048, 2048..2100].map(|numbers| contents.add(&in_namespaces(numbers)));
    let (few, more) = (entry(1, few), entry(2, more));
    let options = Options {
        namespaces,
        ..Options::default()
    };
    let (cluster, cells) = (Arc::new(Fake::new()), Arc::new(Memory::default()));
    let agent = SimAgent::start_as(cluster, cells, options).await.unwrap();

    agent
        .offer(std::slice::from_ref(&few), &mut contents)
        .await
        .unwrap();
    assert_eq!(watches_condition(&agent).await, None, "all are watched");

    agent
        .offer(&[few.clone(), more.clone()], &mut contents)
        .await
        .unwrap();
    let condition = watches_condition(&agent).await.expect("it is told");
    assert!(!condition.ok);
    for part in [
        "52 pairs of kind and namespace beyond the first 2048 are not watched, ConfigMap in namespace team",
        "hourly verification",
        "fewer namespaces",
    ] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }

    let let_go = Entry {
        version: 2,
        state: UnitState::Detached,
        ..more
    };
    for wanted in [&[few.clone(), let_go][..], std::slice::from_ref(&few)] {
        agent.offer(wanted, &mut contents).await.unwrap();
    }
    let condition = watches_condition(&agent).await.expect("it is told");
    assert!(condition.ok, "{}", condition.message);
}
