//! The agent's side of the wire: gets and renews an identity, keeps one stream to the hub, and comes back after
//! every break. Whatever happens here, the cluster stays as the ledger says.

pub mod accept;
mod along;
pub mod channel;
pub mod enrol;
pub mod fetch;
pub mod identity;
mod opening;
pub mod renew;
mod said;
pub mod session;
pub mod token;
pub mod watchdog;

use std::{sync::Arc, time::Duration};

use channel::{HubAddress, Ways};
use enrol::EnrolError;
use identity::{Certified, IdentityCell, IdentityError};
use renew::Renewals;
use said::Said;
use session::{Session, SessionError};
use token::JoinToken;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use flotilla_core::backoff::Backoff;

use crate::{
    ledger::{LedgerError, key_value::KeyValueError},
    random::random,
};

/// Waits between attempts: a hub that comes back is found by all its agents, and not by all at once.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};
/// Waits after a stream that had lasted, from and to: its hub restarts as a rule, with all its agents, and is back within
/// seconds. Whoever comes earlier comes in vain, and keeps the hub and its machine from starting.
const RETURN: [(Duration, Duration); 5] = [
    (Duration::ZERO, Duration::from_secs(3)),
    (Duration::from_secs(2), Duration::from_secs(4)),
    (Duration::from_secs(4), Duration::from_secs(8)),
    (Duration::from_secs(4), Duration::from_secs(8)),
    (Duration::from_secs(4), Duration::from_secs(8)),
];
/// Least wait while the clock keeps the agent from the hub, or its identity does: only people help.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// A hub that refuses us is asked again no sooner.
const REFUSED: Duration = Duration::from_secs(600);
/// Longest wait of an agent that another with its identity displaces again and again.
const DISPLACED: Duration = Duration::from_secs(600);
/// After a try that lasted this long the waits begin afresh.
const STEADY: Duration = Duration::from_secs(30);

/// How the link stands, for readiness and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// No identity yet.
    Unenrolled,
    /// Not connected; the ledger is enforced.
    Away,
    /// The hub refuses this agent, or the identity cannot be used, and why; the ledger is enforced.
    Broken(String),
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
    /// Where the join token is: traded for an identity, and a new one for another after a revocation.
    pub token: JoinToken,
    /// Who we are.
    pub identity: IdentityCell,
    /// What a stream needs.
    pub session: Session,
    /// How the link stands.
    pub state: watch::Sender<LinkState>,
}

/// Why the link gave up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Another agent writes the ledger: the agent must exit.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The identity was written by another agent, or is not readable: it is to be read again. What is held stays
    /// enforced meanwhile.
    #[error(transparent)]
    Identity(IdentityError),
}

enum Step {
    /// Go on at once.
    Again,
    Wait(Duration),
    /// The hub has ended the stream without an error: go on soon.
    Closed,
    /// Only people help, with what the text says.
    Broken(String, Duration),
}

/// The link while it runs.
struct Running<'a> {
    link: &'a mut Link,
    renewals: Renewals,
    ways: Ways,
    displaced: Displaced,
    /// When it was tried last to come back after the certificate had run out.
    recovered: Option<Instant>,
    said: Said,
}

/// How tries to reach the hub have fared, and where the next one goes. Clusters begin at different endpoints, so that
/// these share the fleet. Whoever meets an error goes to the next one, and is back where it began once a stream there
/// has ended by its age: else all would stay with the hub that a rolling restart took first.
#[derive(Debug)]
struct Tries {
    /// In a row.
    failures: u32,
    /// They are since a stream that had lasted broke.
    is_returning: bool,
    /// Number of the endpoint, counted round and round.
    turn: usize,
    /// The one to begin with.
    first: usize,
}

impl Tries {
    fn of(cluster_uid: &str) -> Self {
        let [a, b, c, d, ..] = *blake3::hash(cluster_uid.as_bytes()).as_bytes();
        let first = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default();
        Self {
            failures: 0,
            is_returning: false,
            turn: first,
            first,
        }
    }

    /// A try has ended after so long. A long one is no good stream by that: what hangs is long, too.
    fn ended(&mut self, lasted: Duration, is_clean: bool) {
        let is_long = lasted > STEADY;
        // A hub that ends a stream by its age is there, and expects the next one.
        self.is_returning = if is_long { !is_clean } else { self.is_returning };
        self.failures = if is_long {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.turn = if is_long && is_clean {
            self.first
        } else {
            self.turn.wrapping_add(1)
        };
    }

    /// One has led to what it was for: whatever comes next begins afresh.
    fn succeeded(&mut self) {
        (self.failures, self.is_returning) = (0, false);
    }

    /// How long to wait before the next one.
    fn wait(&self, random: u64) -> Duration {
        let returning = usize::try_from(self.failures).ok().and_then(|n| RETURN.get(n));
        match returning.filter(|_| self.is_returning) {
            Some((from, to)) => {
                let (base, cap) = (*to - *from, *to - *from);
                *from + Backoff { base, cap }.delay(1, random)
            }
            None => BACKOFF.delay(self.failures.max(1), random),
        }
    }
}

/// How often in a row another agent took the stream.
#[derive(Debug, Default)]
struct Displaced(u32);

impl Displaced {
    /// How long the stream is left to the one that took it: two that take it from each other do so more and more seldom.
    /// `kept`: a stream that was kept for long was not taken in a row with those before.
    fn wait(&mut self, kept: Duration) -> Duration {
        if kept > DISPLACED {
            self.0 = 0;
        }
        let wait = MINUTE * 2_u32.saturating_pow(self.0.min(8));
        self.0 += 1;
        wait.min(DISPLACED)
    }
}

impl Link {
    /// Returns a join token that is not the one which the certificate was got with. Of an identity that does not know its
    /// token none is: the hub suspends a cluster whose used token comes with another key.
    fn new_token(&self) -> Option<zeroize::Zeroizing<String>> {
        let used = self.identity.get().token?;
        let token = self.token.read().ok()?;
        (enrol::token_digest(&token) != used).then_some(token)
    }

    /// Keeps the link until told to stop: whatever it is waiting for then is given up at once.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), LinkError> {
        let mut running = Running {
            link: self,
            renewals: Renewals::default(),
            ways: Ways::default(),
            displaced: Displaced::default(),
            recovered: None,
            said: Said::default(),
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = running.keep() => ended,
        }
    }
}

impl Running<'_> {
    async fn keep(&mut self) -> Result<(), LinkError> {
        let mut tries = Tries::of(&self.link.session.cluster_uid);
        loop {
            let begun = Instant::now();
            let step = self.step(tries.turn).await?;
            let without = match self.link.identity.get().certified {
                Some(_) => LinkState::Away,
                None => LinkState::Unenrolled,
            };
            let is_clean = matches!(step, Step::Closed);
            let (state, at_least) = match step {
                Step::Again => (without, None),
                Step::Closed => (without, Some(Duration::ZERO)),
                Step::Wait(at_least) => (without, Some(at_least)),
                Step::Broken(why, at_least) => (LinkState::Broken(why), Some(at_least)),
            };
            self.link.state.send_replace(state);
            let Some(at_least) = at_least else {
                tries.succeeded();
                continue;
            };
            tries.ended(begun.elapsed(), is_clean);
            tokio::time::sleep(at_least + tries.wait(random())).await;
        }
    }

    async fn step(&mut self, turn: usize) -> Result<Step, LinkError> {
        let link = &mut *self.link;
        let certified = link.identity.get().certified.clone();
        let channel = match self.ways.connect(&link.hub, certified.as_ref(), turn).await {
            Ok(channel) => channel,
            Err(e) if e.is_about_time() => {
                let why = tell_clock(link, certified.as_ref(), turn).await;
                tracing::error!("{e}: {why}; workloads are kept as they are");
                return Ok(Step::Wait(MINUTE));
            }
            Err(e) if e.is_of_run_out_certificate() => return self.recover(turn).await,
            Err(e) => {
                self.said.tell(&e);
                return Ok(Step::Wait(Duration::ZERO));
            }
        };
        if certified.is_none() {
            return match link.token.read() {
                Ok(token) => self.enrol(channel, &token).await,
                Err(e) => {
                    tracing::error!("no identity, and {e}; nothing can be received from the hub");
                    Ok(Step::Wait(BACKOFF.cap))
                }
            };
        }
        if let Some(certified) = &certified
            && let Err(e) = link.session.become_cluster(&certified.cluster_id).await
        {
            if matches!(e, LedgerError::Lost) {
                return Err(LinkError::Ledger(e));
            }
            tracing::error!("which cluster the ledger is of cannot be stored: {e}; trying again in a minute");
            return Ok(Step::Wait(MINUTE));
        }
        let state = link.state.clone();
        let (clock, reports) = (link.session.clock.clone(), link.session.reports.clone());
        let wall = clock.clone();
        let (begun, instance) = (Instant::now(), link.session.boot_id.clone());
        let renewed = self
            .renewals
            .run(channel.clone(), &mut link.identity, clock.as_ref(), &reports);
        let said = &mut self.said;
        // The future of a stream is large, and not to be part of all futures above.
        let ended = Box::pin(link.session.run(channel, renewed, |welcome| {
            tracing::info!(
                cluster = welcome.cluster_name,
                epoch = welcome.epoch,
                hub = welcome.hub_version,
                instance,
                "connected"
            );
            if let Some(apart) = session::clock_apart(wall.now(), welcome) {
                tracing::warn!("{apart}");
            }
            said.clear();
            state.send_replace(LinkState::Connected {
                cluster: welcome.cluster_name.clone(),
            });
        }))
        .await;
        match ended {
            Ok(Ok(())) => {
                tracing::info!("certificate renewed");
                Ok(Step::Again)
            }
            Ok(Err(e)) => Err(LinkError::Identity(e)),
            Err(SessionError::Ledger(e @ LedgerError::Lost)) => Err(LinkError::Ledger(e)),
            Err(e @ SessionError::Displaced { .. }) => {
                let wait = self.displaced.wait(begun.elapsed());
                let seconds = wait.as_secs();
                tracing::error!("{e}; workloads are kept as they are, back in {seconds} s");
                Ok(Step::Wait(wait))
            }
            Err(e @ SessionError::Refused(_)) => {
                tracing::error!("{e}; workloads are kept as they are");
                Ok(Step::Broken(e.to_string(), REFUSED))
            }
            Err(e @ SessionError::NotAdmitted(_)) => {
                // The former pod of an update holds what its successor has renewed.
                if let Err(e @ IdentityError::Storage(KeyValueError::Conflict { .. })) =
                    link.identity.is_latest().await
                {
                    return Err(LinkError::Identity(e));
                }
                let token = link.new_token();
                let to_do = match &token {
                    Some(_) => format!("there is a new join token in {}: joining again", link.token),
                    None if link.identity.get().token.is_none() => {
                        "if `flotilla cluster show NAME` says it is suspended, `flotilla cluster admit NAME` lets it go \
                         on; this agent joined with an older version and takes another token only once its identity \
                         `flotilla-agent-identity` is removed and it is started again"
                            .to_owned()
                    }
                    None => format!(
                        "if `flotilla cluster show NAME` says it is suspended, `flotilla cluster admit NAME` lets it go on; \
                         to let it join again run `flotilla cluster token NAME --replace`, and give the agent that new token, \
                         where it looks for it: {}",
                        link.token
                    ),
                };
                let why = format!("{e}; {to_do}");
                tracing::error!("{why}; workloads are kept as they are");
                match token {
                    Some(token) => self.rejoin(&token, turn).await,
                    None => Ok(Step::Broken(why, MINUTE)),
                }
            }
            Err(SessionError::RunOut) => self.recover(turn).await,
            Err(e @ SessionError::Closed) => {
                self.said.tell(&e);
                Ok(Step::Closed)
            }
            Err(e) => {
                self.said.tell(&e);
                Ok(Step::Wait(Duration::ZERO))
            }
        }
    }

    /// Comes back after the certificate has run out: with a new join token where there is one, else by the recovery key. What
    /// keeps it from that may last, and the hub is asked no more than once a minute.
    async fn recover(&mut self, turn: usize) -> Result<Step, LinkError> {
        let rest = self
            .recovered
            .map_or(Duration::ZERO, |at| MINUTE.saturating_sub(at.elapsed()));
        if !rest.is_zero() {
            return Ok(Step::Wait(rest));
        }
        self.recovered = Some(Instant::now());
        let link = &mut *self.link;
        let Some(certified) = link.identity.get().certified.clone() else {
            return Ok(Step::Wait(MINUTE));
        };
        if let Some(token) = link.new_token() {
            tracing::warn!(
                "this agent's certificate has run out; there is a new join token in {}: joining again",
                link.token
            );
            return self.rejoin(&token, turn).await;
        }
        let channel = match channel::connect_without(&link.hub, &certified, turn).await {
            Ok(channel) => channel,
            Err(e) => {
                self.said.tell(&e);
                return Ok(Step::Wait(MINUTE));
            }
        };
        match enrol::recover(channel, &mut link.identity, &link.session.cluster_uid).await {
            Ok(()) => {
                tracing::warn!(
                    "this agent's certificate had run out: the hub has given another for its recovery key"
                );
                self.renewals.obtained(Instant::now());
                Ok(Step::Again)
            }
            Err(EnrolError::Identity(
                e @ (IdentityError::Storage(KeyValueError::Conflict { .. }) | IdentityError::Unreadable),
            )) => Err(LinkError::Identity(e)),
            Err(EnrolError::Refused(status)) => {
                let why = format!(
                    "this agent's certificate has run out, and the hub does not renew it by its recovery key: {}; to let it \
                     join again run `flotilla cluster revoke {name}` and `flotilla cluster token {name}`, and give the \
                     agent that token, where it looks for it: {}",
                    status.message(),
                    link.token,
                    name = certified.cluster_name,
                );
                tracing::error!("{why}; workloads are kept as they are");
                Ok(Step::Broken(why, MINUTE))
            }
            Err(e) => {
                self.said.tell(&e);
                Ok(Step::Wait(MINUTE))
            }
        }
    }

    /// Joins again with a token that this agent has not used, as a stranger: its certificate is not admitted any more.
    async fn rejoin(&mut self, token: &str, turn: usize) -> Result<Step, LinkError> {
        match channel::connect(&self.link.hub, None, turn).await {
            // The next try begins with the old certificate, and is told again.
            Ok(channel) => match self.enrol(channel, token).await? {
                Step::Wait(_) => Ok(Step::Wait(MINUTE)),
                step => Ok(step),
            },
            Err(e) => {
                self.said.tell(&e);
                Ok(Step::Wait(MINUTE))
            }
        }
    }

    async fn enrol(&mut self, channel: tonic::transport::Channel, token: &str) -> Result<Step, LinkError> {
        let link = &mut *self.link;
        let uid = &link.session.cluster_uid;
        match enrol::enrol(channel, &mut link.identity, token, uid).await {
            Ok(()) => {
                tracing::info!("enrolled");
                self.renewals.obtained(Instant::now());
                Ok(Step::Again)
            }
            Err(EnrolError::Identity(
                e @ (IdentityError::Storage(KeyValueError::Conflict { .. }) | IdentityError::Unreadable),
            )) => Err(LinkError::Identity(e)),
            Err(e @ EnrolError::Refused(_)) => {
                let why = format!("{e} (the token of {})", link.token);
                tracing::error!("{why}");
                Ok(Step::Broken(why, BACKOFF.cap))
            }
            Err(e) => {
                self.said.tell(&e);
                Ok(Step::Wait(Duration::ZERO))
            }
        }
    }
}

/// Lets the hub know that this cluster's clock, or its own, keeps the two apart, and returns what is known of it. Nothing
/// is taken from such a hub, and nothing but a hello told to it.
async fn tell_clock(link: &Link, certified: Option<&Certified>, turn: usize) -> String {
    let unknown = "this cluster's clock is wrong, or the hub's";
    let Some(certified) = certified else {
        return unknown.to_owned();
    };
    let told = async {
        let channel = channel::connect_at_any_time(&link.hub, certified, turn)
            .await
            .ok()?;
        link.session.tell_clock(channel).await.ok()?
    };
    told.await.unwrap_or_else(|| unknown.to_owned())
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

#[cfg(test)]
mod tests;
