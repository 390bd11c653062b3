//! What an operator reads in the agent's log.

use flotilla_agent::logs::Logs;

use crate::world::{World, config_map, entry, settle};

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
