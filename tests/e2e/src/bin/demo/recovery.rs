//! An agent that was away for longer than its certificate lives: it comes back by itself, by its recovery key.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{AgentProcess, HubProcess};
use flotilla_testkit::{ControlPlane, wait_until};

use super::{Demo, WITHIN, versions};

/// How long certificates of the demo live: the least that a hub gives.
pub(super) const LIFE: Duration = Duration::from_secs(60);

impl Demo {
    pub(super) async fn certificate_runs_out(
        &self,
        hub: &HubProcess,
        (agent, cluster): (&mut AgentProcess, &str),
        planes: &[ControlPlane],
    ) -> anyhow::Result<()> {
        let before = versions(planes).await?;
        agent.kill()?;
        let away = Instant::now();
        self.say(&format!(
            "► the agent of {cluster} is away for longer than its certificate lives, which is a minute here"
        ));
        // It was issued before that, and nobody renews it.
        wait_until("the certificate has run out", 2 * WITHIN, async || {
            anyhow::Ok((away.elapsed() > LIFE + Duration::from_secs(2)).then_some(()))
        })
        .await?;
        agent.resume()?;
        let told = wait_until("the hub tells of it", WITHIN, async || {
            let events = hub.cli(&["events", "-A", "--cluster", cluster])?;
            anyhow::Ok(events.contains("Recovered").then_some(()))
        });
        told.await
            .with_context(|| format!("hub:\n{}\nagent:\n{}", hub.said(), agent.said()))?;
        self.connected(hub).await?;
        let after = versions(planes).await?;
        ensure!(
            before == after,
            "something was applied again: {before:?} became {after:?}"
        );
        self.say("✔ it is back by itself, by its recovery key, and nothing was applied again");
        Ok(())
    }
}
