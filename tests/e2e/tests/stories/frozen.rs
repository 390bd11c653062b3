//! An API server that stands still: nothing fails, nothing answers, and the hub says so.

use std::time::Duration;

use e2e::{AgentProcess, HubProcess};
use flotilla_testkit::{Component, ControlPlane, ControlPlaneOptions, wait_until};

/// For what has no promise.
const WITHIN: Duration = Duration::from_secs(120);
/// Until a frozen API server shows at the hub, and until it shows no longer.
const TOLD: Duration = Duration::from_secs(60);

#[tokio::test]
async fn r14_a_frozen_api_server_shows_at_the_hub_within_a_minute_and_no_longer_when_it_is_back() {
    flotilla_testkit::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let plane = ControlPlane::start(ControlPlaneOptions::named("frozen"))
        .await
        .unwrap();
    let hub = HubProcess::start(&dir.path().join("hub")).await.unwrap();
    let join = hub.token("one").unwrap();
    let agent = AgentProcess::install(&plane, &join, &dir.path().join("agent"))
        .await
        .unwrap();
    let clusters = async |what: &str, within: Duration, reached: fn(&str) -> bool| {
        wait_until(what, within, async || {
            let clusters = hub.cli(&["get", "clusters", "--no-header"])?;
            anyhow::Ok(reached(&clusters).then_some(()))
        })
        .await
        .map_err(|e| format!("{e}\nhub:\n{}\nagent:\n{}", hub.said(), agent.said()))
        .unwrap();
    };
    clusters("the agent is connected", WITHIN, |all| all.contains("True")).await;
    let server = plane.process(Component::ApiServer).unwrap();
    server.freeze().unwrap();
    clusters("it is told", TOLD, |all| {
        all.contains("True") && all.contains("the API server does not answer")
    })
    .await;
    server.resume().unwrap();
    clusters("it is told no longer", TOLD, |all| {
        all.contains("True") && !all.contains("does not answer")
    })
    .await;
}
