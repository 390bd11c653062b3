//! What monitoring is told: under Flux's names where the meaning is equal.

use flotilla_testkit::wait_until;

use crate::{
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::PATIENCE,
    puppet::Puppet,
};

#[tokio::test]
async fn an_operator_can_alert_on_apps_clusters_sources_queues_and_statements() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    fleet.hub.enrol("c2").await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("x", "0"))])
        .await;
    let broken = app("missing", "./app", "").replace("name: app,", "name: broken,");
    fleet
        .apply(&[
            &fleet.source("a"),
            &fleet.source("missing"),
            &app("a", "./app", ""),
            &broken,
            PLACEMENT,
        ])
        .await;
    let wanted = [
        r#"flotilla_clusters{state="Active",connected="true"} 1"#,
        r#"flotilla_clusters{state="Active",connected="false"} 1"#,
        r#"flotilla_units{ready="True"} 1"#,
        r#"customresource_kind="Kustomization",exported_namespace="apps",name="app",ready="True",suspended="false",revision="main@sha1:"#,
        r#"gotk_reconcile_condition{kind="Kustomization",exported_namespace="apps",name="broken",type="Ready",status="False"} 1"#,
        r#"flotilla_source_failures{kind="GitRepository",exported_namespace="apps",name="a"} 0"#,
        r#"gotk_suspend_status{kind="Kustomization",exported_namespace="apps",name="app"} 0"#,
        r#"workqueue_depth{name="app"}"#,
        r#"controller_runtime_reconcile_total{controller="app",result="success"}"#,
        "gotk_reconcile_duration_seconds_bucket{",
        "flotilla_hub_statement_duration_seconds_count",
        "flotilla_hub_agents_connected 1",
        "flotilla_rollouts_progressing 0",
        "process_resident_memory_bytes",
    ];
    let look = async || {
        let (status, text) = fleet.hub.health("/metrics").await;
        assert_eq!(status, 200);
        let missing: Vec<&str> = wanted.into_iter().filter(|line| !text.contains(line)).collect();
        // Figures of the fleet are counted every 15 s at most.
        match missing.as_slice() {
            [] => Ok(Some(text)),
            _ => Err(format!("{missing:?} not in {text}")),
        }
    };
    let text = wait_until("the figures", PATIENCE, look).await.expect("told");
    let failures = text
        .lines()
        .find(|line| line.contains("flotilla_source_failures") && line.contains("missing"))
        .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(failures.is_some_and(|count| count >= 1.0), "{failures:?}");
}
