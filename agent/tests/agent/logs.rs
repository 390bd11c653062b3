//! What an operator reads in the agent's log.

use flotilla_agent::{cluster::ClusterError, logs::Logs};
use serde_json::json;

use crate::world::{World, config_map, deployment, entry, settle};

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_is_one_line_however_many_kinds_are_watched() {
    let logs = Logs::collect();
    let mut world = World::new().await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}});
    world
        .ready(1, &[config_map("x", "1"), deployment("d"), secret])
        .await;
    world.quiet().await;
    for outage in 1..=2 {
        world.cluster.set_fault(Some(Box::new(|_, key| {
            Some(ClusterError::Unavailable(format!("{} is away", key.kind)))
        })));
        world.cluster.break_watches();
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        let lines = logs.with("is away");
        let of_watches: Vec<&String> = lines.iter().filter(|line| line.contains("watch")).collect();
        assert_eq!(of_watches.len(), outage, "{lines:?}");
        world.cluster.set_fault(None);
        settle().await;
    }
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_logged_as_warnings_and_recoveries_as_news_that_name_the_app() {
    let logs = Logs::collect();
    let mut world = World::new().await;
    let refused = flotilla_agent::cluster::ClusterError::Rejected {
        code: 422,
        reason: "Invalid".to_owned(),
        message: "data: Invalid value".to_owned(),
    };
    world.cluster.set_fault(Some(Box::new(move |verb, _| {
        (verb == "apply").then(|| refused.clone())
    })));
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    settle().await;
    let failures = logs.with("Invalid value");
    assert!(!failures.is_empty());
    for line in failures {
        assert!(
            line.starts_with("WARN") && line.contains("Kustomization/flux-system/app1"),
            "{line}"
        );
    }
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    settle().await;
    let recovered = logs.with("ReconciliationSucceeded");
    assert!(!recovered.is_empty());
    for line in recovered {
        assert!(
            line.starts_with("INFO") && line.contains("Kustomization/flux-system/app1"),
            "{line}"
        );
    }
    assert_eq!(logs.with(&wanted.unit.to_string()), Vec::<String>::new());
    world.rests().await;
}
