//! Who is killed, held still or cut off in the middle of a commit, and comes back.

use std::time::Duration;

use e2e::hub::http_client;
use flotilla_testkit::Component;
use rustix::process::{Signal, kill_process};

use super::World;
use super::repository::Random;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillHub,
    KillAgent,
    KillPostgres,
    KillApiServer,
    FreezeHub,
    FreezeAgent,
    FreezeApiServer,
    /// The connection of the agent is cut, and nothing is let through for a while.
    Cut,
    /// Nothing passes, and nobody is told.
    Stall,
    /// All that passes is late.
    Delay,
    /// The agent comes anew, and all that it sends reaches the hub twice.
    Duplicate,
    /// The hub is back on a disk without room, and later on its own again, where what was stored meanwhile is not.
    FullDisk,
}

impl Fault {
    /// Those of each run.
    pub(crate) const KILLS: [Self; 4] = [
        Self::KillHub,
        Self::KillAgent,
        Self::KillPostgres,
        Self::KillApiServer,
    ];
    /// All.
    pub(crate) const ALL: [Self; 12] = [
        Self::KillHub,
        Self::KillAgent,
        Self::KillPostgres,
        Self::KillApiServer,
        Self::FreezeHub,
        Self::FreezeAgent,
        Self::FreezeApiServer,
        Self::Cut,
        Self::Stall,
        Self::Delay,
        Self::Duplicate,
        Self::FullDisk,
    ];

    /// Has it happen, and end.
    pub(crate) async fn happen(self, world: &mut World, random: &mut Random) {
        let lasts = Duration::from_millis(random.below(1500));
        match self {
            Self::KillHub => {
                world.hub.kill().unwrap();
                tokio::time::sleep(lasts).await;
                world.hub.resume().await.unwrap();
            }
            Self::Duplicate => {
                world.proxy.duplicate(true);
                world.proxy.cut();
                tokio::time::sleep(lasts).await;
                world.proxy.duplicate(false);
            }
            Self::FullDisk => {
                world.hub.kill().unwrap();
                world.hub.resume_with_room("16k").await.unwrap();
                tokio::time::sleep(lasts).await;
                world.hub.kill().unwrap();
                world.hub.resume_on_its_own_disk().await.unwrap();
                world.hub.push(&http_client().unwrap()).await.unwrap();
            }
            Self::KillAgent => {
                world.agent.kill().unwrap();
                tokio::time::sleep(lasts).await;
                world.agent.resume().unwrap();
            }
            // The hub starts it again.
            Self::KillPostgres => {
                if let Some(pid) = world.hub.postgres() {
                    kill_process(pid, Signal::KILL).unwrap();
                }
            }
            Self::KillApiServer => {
                world.plane.process(Component::ApiServer).unwrap().kill();
                tokio::time::sleep(lasts).await;
                world.plane.restart(Component::ApiServer).await.unwrap();
            }
            Self::FreezeHub => freeze(world.hub.pid(), lasts).await,
            Self::FreezeAgent => freeze(world.agent.pid(), lasts).await,
            Self::FreezeApiServer => {
                let server = world.plane.process(Component::ApiServer).unwrap();
                server.freeze().unwrap();
                tokio::time::sleep(lasts).await;
                server.resume().unwrap();
            }
            Self::Cut => {
                world.proxy.refuse(true);
                world.proxy.cut();
                tokio::time::sleep(lasts).await;
                world.proxy.refuse(false);
            }
            Self::Stall => {
                world.proxy.stall();
                tokio::time::sleep(lasts).await;
                world.proxy.resume();
            }
            Self::Delay => {
                world.proxy.set_latency(Duration::from_millis(200));
                tokio::time::sleep(lasts).await;
                world.proxy.set_latency(Duration::ZERO);
            }
        }
    }
}

async fn freeze(pid: Option<u32>, lasts: Duration) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    tokio::time::sleep(lasts).await;
    kill_process(pid, Signal::CONT).unwrap();
}
