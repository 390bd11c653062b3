//! What the agent does beyond its bounds: it goes on with what is within them, and says what is not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::{
        ClusterError,
        fake::{Fake, faults::Fault},
    },
    ledger::memory::Memory,
    sim::{Contents, Options, SimAgent},
};
use flotilla_core::unit::{Entry, UnitState};
use flotilla_proto::agent::v1::{ClusterCondition, ClusterConditionKind, Readiness, UnitStatus};
use serde_json::{Value, json};

use crate::world::{Quiet, config_map, entry, settle, ten_minutes_of};

fn in_namespaces(numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers
        .map(|n| {
            let mut object = config_map("x", "1");
            object["metadata"]["namespace"] = format!("team{n}").into();
            object
        })
        .collect()
}

/// Creates namespaces as somebody else would.
fn exist<'a>(cluster: &Fake, namespaces: impl IntoIterator<Item = &'a str>) {
    for namespace in namespaces {
        cluster.write(
            "somebody",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
    }
}

/// Takes in reports until nothing is left to say, and returns what was said last of the watches.
async fn watches_condition(agent: &SimAgent) -> Option<ClusterCondition> {
    all_said(agent).await.1
}

/// The same, and what was said last of each unit.
async fn all_said(agent: &SimAgent) -> (BTreeMap<Vec<u8>, UnitStatus>, Option<ClusterCondition>) {
    settle().await;
    let (mut units, mut last) = (BTreeMap::new(), None);
    while let Some(report) = agent.report(Duration::from_secs(1)).await {
        let rows = report.units.into_iter();
        units.extend(rows.map(|unit| (unit.unit_id.to_vec(), unit)));
        let mut conditions = report.conditions.into_iter();
        last = conditions
            .rfind(|condition| condition.kind() == ClusterConditionKind::Watches)
            .or(last);
    }
    (units, last)
}

#[tokio::test(start_paused = true)]
async fn more_kinds_and_namespaces_than_can_be_watched_are_a_condition_of_the_cluster_until_there_are_fewer()
{
    let namespaces: Vec<String> = (0..2100).map(|n| format!("team{n}")).collect();
    let mut contents = Contents::default();
    let [few, more] = [0..2048, 2048..2100].map(|numbers| contents.add(&in_namespaces(numbers)));
    let (few, more) = (entry(1, few), entry(2, more));
    let options = Options {
        namespaces: namespaces.clone(),
        ..Options::default()
    };
    let (cluster, cells) = (Arc::new(Fake::new()), Arc::new(Memory::default()));
    exist(&cluster, namespaces.iter().map(String::as_str));
    let agent = SimAgent::start_as(cluster.clone(), cells, options).await.unwrap();

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
    assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
}

fn in_namespace(namespace: &str) -> Value {
    let mut object = config_map("x", "1");
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// Takes in reports until nothing is left to say, and returns what was said last of the unit.
async fn unit_said(agent: &SimAgent) -> Option<UnitStatus> {
    settle().await;
    let mut last = None;
    while let Some(report) = agent.report(Duration::from_secs(1)).await {
        last = report.units.into_iter().next_back().or(last);
    }
    last
}

#[tokio::test(start_paused = true)]
async fn an_object_outside_of_the_agents_namespaces_is_not_written_and_its_unit_says_so_until_they_have_it() {
    let mut contents = Contents::default();
    let one = entry(1, contents.add(&[in_namespace("a"), in_namespace("b")]));
    let (cluster, cells) = (Arc::new(Fake::new()), Arc::new(Memory::default()));
    exist(&cluster, ["a", "b"]);
    let within = |namespaces: &[&str]| Options {
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
        ..Options::default()
    };
    let there = |namespace: &str| {
        let keys = cluster.keys("ConfigMap");
        keys.iter().any(|key| key.namespace == namespace)
    };
    for (namespaces, is_ready) in [(&["a"][..], false), (&["a", "b"], true)] {
        let agent = SimAgent::start_as(cluster.clone(), cells.clone(), within(namespaces))
            .await
            .unwrap();
        agent
            .offer(std::slice::from_ref(&one), &mut contents)
            .await
            .unwrap();
        let unit = unit_said(&agent).await.expect("it is told");
        assert_eq!(unit.ready() == Readiness::True, is_ready, "{}", unit.message);
        assert_eq!((there("a"), there("b")), (true, is_ready), "{}", unit.message);
        if !is_ready {
            assert_eq!(unit.reason, "NamespaceNotWatched");
            assert!(unit.message.contains("FLOTILLA_NAMESPACES"), "{}", unit.message);
        }
        assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
        agent.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_watched_is_a_condition_of_the_cluster_until_it_may() {
    let mut contents = Contents::default();
    let one = entry(1, contents.add(&[config_map("x", "1")]));
    let cluster = Arc::new(Fake::new());
    let refuse: Fault = Box::new(|verb, key| {
        (key.kind == "ConfigMap" && matches!(verb, "list" | "watch")).then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".to_owned(),
            message: "configmaps is forbidden".to_owned(),
        })
    });
    cluster.set_fault(Some(refuse));
    let agent = SimAgent::start_as(cluster.clone(), Arc::new(Memory::default()), Options::default())
        .await
        .unwrap();
    agent
        .offer(std::slice::from_ref(&one), &mut contents)
        .await
        .unwrap();
    let (mut units, condition) = all_said(&agent).await;
    let condition = condition.expect("it is told");
    assert!(!condition.ok);
    for part in [
        "drift of ConfigMap in namespace ",
        "configmaps is forbidden",
        "rbac.extraRules",
    ] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    // Also one that has such an object later says so.
    let two = entry(2, contents.add(&[config_map("y", "1")]));
    let offered = agent.offer(&[one, two], &mut contents).await;
    offered.unwrap();
    units.extend(all_said(&agent).await.0);
    assert_eq!(units.len(), 2);
    for unit in units.values() {
        assert_eq!(unit.ready(), Readiness::True, "{}", unit.message);
        assert_eq!(
            unit.notes,
            "drift of ConfigMap in namespace default is not seen, since the API server does not list and watch it"
        );
    }
    cluster.set_fault(None);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (units, condition) = all_said(&agent).await;
    let condition = condition.expect("it is told");
    assert!(condition.ok, "{}", condition.message);
    let notes: Vec<&str> = units.values().map(|unit| &*unit.notes).collect();
    assert_eq!(notes, ["", ""]);
    assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_can_be_read_by_name_alone_is_applied_and_never_asked_for_in_lists() {
    let cluster = Arc::new(Fake::new());
    cluster.serve_by_name("aggregated.test/v1", "Thing", "things", true);
    cluster.set_fault(Some(Box::new(|verb, key| {
        (key.kind == "Thing" && matches!(verb, "list" | "watch")).then(|| ClusterError::Rejected {
            code: 405,
            reason: "MethodNotAllowed".to_owned(),
            message: "the server does not allow this method on the requested resource".to_owned(),
        })
    })));
    let mut contents = Contents::default();
    let thing = json!({"apiVersion": "aggregated.test/v1", "kind": "Thing",
        "metadata": {"name": "x", "namespace": "default"}});
    let one = entry(1, contents.add(&[thing, config_map("y", "1")]));
    let agent = SimAgent::start_as(cluster.clone(), Arc::new(Memory::default()), Options::default())
        .await
        .unwrap();
    agent
        .offer(std::slice::from_ref(&one), &mut contents)
        .await
        .unwrap();
    let (units, condition) = all_said(&agent).await;
    for unit in units.values() {
        assert_eq!(unit.ready(), Readiness::True, "{}", unit.message);
        let said = "drift of Thing in namespace default is not seen";
        assert!(unit.notes.contains(said), "{}", unit.notes);
    }
    let condition = condition.expect("it is told");
    let said = "drift of Thing is not seen, since the API server cannot list and watch it";
    assert!(
        !condition.ok && condition.message.contains(said),
        "{}",
        condition.message
    );
    assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
    cluster.take_calls();
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    let of_things: u64 = cluster
        .take_calls()
        .iter()
        .filter(|(call, _)| call.kind == "Thing")
        .map(|(_, count)| count)
        .sum();
    assert!(of_things <= 4, "once an hour it is verified: {of_things}");
    agent.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_listed_for_other_reasons_than_rights_is_told_without_advice_on_rights() {
    for (code, said) in [
        (
            500,
            Some("the API server cannot list it now: it answers 500 Other"),
        ),
        (401, None),
    ] {
        let cluster = Arc::new(Fake::new());
        cluster.set_fault(Some(Box::new(move |verb, key| {
            (key.kind == "ConfigMap" && verb == "watch").then(|| ClusterError::Rejected {
                code,
                reason: "Other".to_owned(),
                message: "webhook away".to_owned(),
            })
        })));
        let mut contents = Contents::default();
        let one = entry(1, contents.add(&[config_map("x", "1")]));
        let agent = SimAgent::start_as(cluster.clone(), Arc::new(Memory::default()), Options::default())
            .await
            .unwrap();
        agent
            .offer(std::slice::from_ref(&one), &mut contents)
            .await
            .unwrap();
        let condition = all_said(&agent).await.1;
        let message = condition.filter(|told| !told.ok).map(|told| told.message);
        assert_eq!(message.is_some(), said.is_some(), "{message:?}");
        if let (Some(message), Some(said)) = (message, said) {
            assert!(message.contains(said) && !message.contains("rbac"), "{message}");
        }
        cluster.set_fault(None);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let condition = all_said(&agent).await.1;
        assert!(condition.is_none_or(|told| told.ok));
        assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
        agent.stop().await.unwrap();
    }
}

/// They were written when the agent worked there: they stay, and nobody watches them.
#[tokio::test(start_paused = true)]
async fn objects_in_a_namespace_that_the_agent_no_longer_has_are_a_note_of_their_unit() {
    let mut contents = Contents::default();
    let one = entry(1, contents.add(&[in_namespace("a"), in_namespace("b")]));
    let (cluster, cells) = (Arc::new(Fake::new()), Arc::new(Memory::default()));
    exist(&cluster, ["a", "b"]);
    for (namespaces, note) in [
        (&["a", "b"][..], ""),
        (
            &["a"],
            "kept as it is and not enforced where the agent does not work (FLOTILLA_NAMESPACES): namespace b",
        ),
        (&["a", "b"], ""),
    ] {
        let options = Options {
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
            ..Options::default()
        };
        let agent = SimAgent::start_as(cluster.clone(), cells.clone(), options)
            .await
            .unwrap();
        let offered = agent.offer(std::slice::from_ref(&one), &mut contents).await;
        offered.unwrap();
        let unit = unit_said(&agent).await.expect("it is told");
        assert_eq!(
            (unit.ready(), &*unit.notes),
            (Readiness::True, note),
            "{}",
            unit.message
        );
        assert_eq!(ten_minutes_of(&agent, &cluster).await, Quiet::default());
        agent.stop().await.unwrap();
    }
}
