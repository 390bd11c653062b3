//! Simulated agents are agents to the hub: they join, stay, and come back.

use std::time::Duration;

use e2e::{HubProcess, hub::http_client, sim::Sim};
use flotilla_api::access::Access;
use flotilla_testkit::{install_tls_provider, wait_until};

const COUNT: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(120);

async fn connected(hub: &HubProcess) {
    let line = format!("flotilla_hub_agents_connected {COUNT}\n");
    let url = format!("http://{}/metrics", hub.health_address());
    let client = http_client().expect("a client");
    wait_until("all agents to be connected", PATIENCE, async || {
        let text = client.get(&url).send().await?.text().await?;
        Ok::<_, reqwest::Error>(text.contains(&line).then_some(()))
    })
    .await
    .expect("connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_agents_join_and_come_back_to_a_hub_that_was_killed() {
    install_tls_provider();
    let dir = tempfile::tempdir().expect("a directory");
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .expect("passable");
    let mut hub = HubProcess::start(dir.path()).await.expect("a hub");
    let text = std::fs::read_to_string(hub.config()).expect("written");
    let access = Access::read(&text).expect("readable");
    let mut sim = Sim::start(access.context(None).expect("one"), "sim", COUNT)
        .await
        .expect("started");
    connected(&hub).await;
    let logged = |text| hub.logged(text).expect("a log");
    let opened = || logged("agent connected");
    assert_eq!(opened(), COUNT as usize);
    // The database goes and comes: streams stay as they are.
    let postgres = hub.postgres().expect("it runs");
    rustix::process::kill_process(postgres, rustix::process::Signal::KILL).expect("killed");
    wait_until("the database to be back", PATIENCE, async || {
        let answer = http_client()
            .expect("a client")
            .get(format!("http://{}/readyz", hub.health_address()));
        let is_back = answer.send().await?.status().is_success() && logged("runs again") == 1;
        Ok::<_, reqwest::Error>(is_back.then_some(()))
    })
    .await
    .expect("back");
    connected(&hub).await;
    assert_eq!(opened(), COUNT as usize, "no stream was opened anew");
    hub.kill().expect("killed");
    hub.resume().await.expect("it is back");
    connected(&hub).await;
    assert_eq!(sim.running(), COUNT as usize);
}
