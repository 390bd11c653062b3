//! An agent's certificate over its whole life, against a live hub.

use std::time::{Duration, Instant};

use e2e::{AgentProcess, HubProcess};
use flotilla_testkit::{ControlPlane, ControlPlaneOptions, wait_until};
use serde_json::Value;

/// The life of a certificate here.
const LIFE: Duration = Duration::from_secs(60);
/// Twice that.
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn an_agent_renews_its_certificate_in_time_and_stays() {
    flotilla_testkit::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let plane = ControlPlane::start(ControlPlaneOptions::named("renewal"))
        .await
        .unwrap();
    let life = format!("{}s", LIFE.as_secs());
    let options = ["--agent-certificate-lifetime", &life];
    let hub = HubProcess::start_with(&dir.path().join("hub"), &options)
        .await
        .unwrap();
    let join = hub.token("one").unwrap();
    let agent = AgentProcess::install(&plane, &join, &dir.path().join("agent"))
        .await
        .unwrap();
    let said = || format!("hub:\n{}\nagent:\n{}", hub.said(), agent.said());
    wait_until("the agent is connected", WITHIN, async || connected(&hub))
        .await
        .map_err(|e| format!("{e}\n{}", said()))
        .unwrap();
    let first = certificate(&plane).await;
    // It is older than this, so that it has expired when its life has passed from here.
    let seen = Instant::now();
    let mut streams = 0;
    wait_until("another certificate is kept", WITHIN, async || {
        let opened = hub.logged("agent connected")?;
        let is_another = certificate(&plane).await != first;
        if !is_another {
            streams = opened;
        }
        anyhow::Ok(is_another.then_some(()))
    })
    .await
    .map_err(|e| format!("{e}\n{}", said()))
    .unwrap();
    wait_until("the agent connects with it", WITHIN, async || {
        anyhow::Ok((hub.logged("agent connected")? > streams).then_some(()))
    })
    .await
    .map_err(|e| format!("{e}\n{}", said()))
    .unwrap();
    wait_until(
        "the agent is connected when the first has expired",
        WITHIN,
        async || {
            if seen.elapsed() < LIFE {
                return Ok(None);
            }
            connected(&hub)
        },
    )
    .await
    .map_err(|e| format!("{e}\n{}", said()))
    .unwrap();
}

/// As of a laptop over night, or of a hub that was away for a day.
#[tokio::test]
async fn r06_an_agent_whose_certificate_has_run_out_comes_back_by_itself() {
    flotilla_testkit::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let plane = ControlPlane::start(ControlPlaneOptions::named("expiry"))
        .await
        .unwrap();
    let life = format!("{}s", LIFE.as_secs());
    let options = ["--agent-certificate-lifetime", &life];
    let hub = HubProcess::start_with(&dir.path().join("hub"), &options)
        .await
        .unwrap();
    let join = hub.token("one").unwrap();
    let mut agent = AgentProcess::install(&plane, &join, &dir.path().join("agent"))
        .await
        .unwrap();
    wait_until("the agent is connected", WITHIN, async || connected(&hub))
        .await
        .map_err(|e| format!("{e}\n{}\n{}", hub.said(), agent.said()))
        .unwrap();
    let before = certificate(&plane).await;
    agent.kill().unwrap();
    // It lives no longer than its agent is away.
    let away = Instant::now();
    wait_until("the certificate has run out", WITHIN, async || {
        Ok::<_, anyhow::Error>((away.elapsed() > LIFE + Duration::from_secs(2)).then_some(()))
    })
    .await
    .unwrap();
    agent.resume().unwrap();
    let said = || format!("hub:\n{}\nagent:\n{}", hub.said(), agent.said());
    wait_until("another certificate is kept", WITHIN, async || {
        anyhow::Ok((certificate(&plane).await != before).then_some(()))
    })
    .await
    .map_err(|e| format!("{e}\n{}", said()))
    .unwrap();
    wait_until("the agent is connected again", WITHIN, async || connected(&hub))
        .await
        .map_err(|e| format!("{e}\n{}", said()))
        .unwrap();
    let told = hub.cli(&["events", "-A", "--cluster", "one"]).unwrap();
    assert!(told.contains("Recovered"), "{told}");
}

fn connected(hub: &HubProcess) -> anyhow::Result<Option<()>> {
    let clusters = hub.cli(&["get", "clusters", "--no-header"])?;
    Ok(clusters.lines().any(|line| line.contains("True")).then_some(()))
}

/// What the agent keeps as its identity, as its cluster's API server has it.
async fn certificate(plane: &ControlPlane) -> Option<Value> {
    let path = "/api/v1/namespaces/flotilla-system/secrets/flotilla-agent-identity";
    plane
        .get_json(path)
        .await
        .ok()
        .map(|secret| secret["data"].clone())
}
