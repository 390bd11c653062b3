//! The agent's side of the wire: gets and renews an identity, keeps one stream to the hub, and comes back after
//! every break. Whatever happens here, the cluster stays as the ledger says.

pub mod accept;
pub mod channel;
pub mod enrol;
pub mod fetch;
pub mod identity;
pub mod session;

use std::{sync::Arc, time::Duration};

use channel::HubAddress;
use enrol::EnrolError;
use identity::{IdentityCell, IdentityError};
use session::{Ended, Session, SessionError};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use flotilla_core::backoff::Backoff;

use crate::{
    ledger::LedgerError,
    random::{jittered, random},
};

/// Waits between attempts: a hub that comes back is found by all its agents, and not by all at once.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};
/// A hub that refuses us is asked again no sooner.
const REFUSED: Duration = Duration::from_secs(600);
/// A stream that lasted this long was a good one: the next attempt begins afresh.
const STEADY: Duration = Duration::from_secs(30);

/// How the link stands, for readiness and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// No identity yet.
    Unenrolled,
    /// Not connected; the ledger is enforced.
    Away,
    /// Connected.
    Connected {
        /// The hub's name of this cluster.
        cluster: String,
    },
}

/// The link to the hub.
pub struct Link {
    /// Where the hub is.
    pub hub: HubAddress,
    /// Traded once for an identity.
    pub token: Option<String>,
    /// Who we are.
    pub identity: IdentityCell,
    /// What a stream needs.
    pub session: Session,
    /// How the link stands.
    pub state: watch::Sender<LinkState>,
}

/// Why the link gave up: the agent must exit.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Another agent writes the ledger.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The identity was written by another agent, or is not readable.
    #[error(transparent)]
    Identity(IdentityError),
}

enum Step {
    Stopped,
    /// Go on at once.
    Again,
    Wait(Duration),
}

impl Link {
    /// Keeps the link until told to stop.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LinkError> {
        let mut failures = 0_u32;
        let mut turn = 0;
        loop {
            let begun = Instant::now();
            let step = self.step(turn, &stop).await?;
            self.state.send_replace(match self.identity.get().certified {
                Some(_) => LinkState::Away,
                None => LinkState::Unenrolled,
            });
            let wait = match step {
                Step::Stopped => return Ok(()),
                Step::Again => {
                    failures = 0;
                    continue;
                }
                Step::Wait(at_least) => {
                    failures = if begun.elapsed() > STEADY {
                        0
                    } else {
                        failures.saturating_add(1)
                    };
                    turn += 1;
                    at_least + BACKOFF.delay(failures.max(1), random())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn step(&mut self, turn: usize, stop: &CancellationToken) -> Result<Step, LinkError> {
        let certified = self.identity.get().certified.clone();
        let channel = tokio::select! {
            () = stop.cancelled() => return Ok(Step::Stopped),
            channel = channel::connect(&self.hub, certified.as_ref(), turn) => match channel {
                Ok(channel) => channel,
                Err(e) => {
                    tracing::warn!("{e}");
                    return Ok(Step::Wait(Duration::ZERO));
                }
            },
        };
        let Some(certified) = certified else {
            return self.enrol(channel).await;
        };
        let spread = jittered(Duration::from_secs(1)).as_secs_f64();
        let renew_at = certified.renew_at(spread).ok().map(|at| {
            let left = at.saturating_sub(self.session.clock.now().0 / 1000);
            Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0))
        });
        let state = self.state.clone();
        let ended = self
            .session
            .run(channel.clone(), renew_at, stop, |welcome| {
                tracing::info!(
                    cluster = welcome.cluster_name,
                    epoch = welcome.epoch,
                    hub = welcome.hub_version,
                    "connected"
                );
                state.send_replace(LinkState::Connected {
                    cluster: welcome.cluster_name.clone(),
                });
            })
            .await;
        match ended {
            Ok(Ended::Stopped) => Ok(Step::Stopped),
            Ok(Ended::Renew) => {
                let result = enrol::renew(channel, &mut self.identity).await;
                self.renewed(result)
            }
            Err(SessionError::Ledger(e @ LedgerError::Lost)) => Err(LinkError::Ledger(e)),
            Err(e @ SessionError::Refused(_)) => {
                tracing::error!("{e}; workloads are kept as they are");
                Ok(Step::Wait(REFUSED))
            }
            Err(e) => {
                tracing::warn!("{e}");
                Ok(Step::Wait(Duration::ZERO))
            }
        }
    }

    async fn enrol(&mut self, channel: tonic::transport::Channel) -> Result<Step, LinkError> {
        let Some(token) = self.token.clone() else {
            tracing::error!("no identity and no join token: nothing can be received from the hub");
            return Ok(Step::Wait(BACKOFF.cap));
        };
        let uid = self.session.cluster_uid.clone();
        let result = enrol::enrol(channel, &mut self.identity, &token, &uid).await;
        if result.is_ok() {
            tracing::info!("enrolled");
        }
        self.renewed(result)
    }

    fn renewed(&self, result: Result<(), EnrolError>) -> Result<Step, LinkError> {
        use crate::ledger::cells::CellError;
        match result {
            Ok(()) => Ok(Step::Again),
            Err(EnrolError::Identity(
                e @ (IdentityError::Storage(CellError::Conflict { .. }) | IdentityError::Unreadable),
            )) => Err(LinkError::Identity(e)),
            Err(e @ EnrolError::Refused(_)) => {
                tracing::error!("{e}");
                Ok(Step::Wait(BACKOFF.cap))
            }
            Err(e) => {
                tracing::warn!("{e}");
                Ok(Step::Wait(Duration::ZERO))
            }
        }
    }
}

/// A boot id, new with each start.
pub fn boot_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Shares a link's state.
pub fn link_state() -> (watch::Sender<LinkState>, watch::Receiver<LinkState>) {
    watch::channel(LinkState::Unenrolled)
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl flotilla_core::clock::Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the agent reads the wall clock"
    )]
    fn now(&self) -> flotilla_core::clock::Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        flotilla_core::clock::Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The system's clock, shared.
pub fn system_clock() -> Arc<dyn flotilla_core::clock::Clock> {
    Arc::new(SystemClock)
}
