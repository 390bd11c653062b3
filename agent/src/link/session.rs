//! One stream: hello, welcome, then desired state in and reports out, until it breaks or the certificate is to be
//! renewed. Nothing that happens here deletes or stops anything in the cluster.

mod desired;
#[cfg(test)]
mod tests;
pub(super) mod wire;

use std::{
    collections::{BTreeSet, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    clock::{self, Clock, Timestamp},
    digest::Digest,
    id::UnitId,
};
use flotilla_proto::agent::v1::{
    Hello, HubMessage, Reply, Request, Welcome, agent_message, agent_service_client::AgentServiceClient,
    hub_message, request,
};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;
use tonic::transport::Channel;

use self::{
    desired::{Batch, RETRY, Refusal},
    wire::{Wire, due},
};
use super::{
    accept::{Acceptance, Lane},
    along::Along,
    channel::{about_tls, has_run_out},
    opening::Opening,
    watchdog::KubeVersion,
};
use crate::{
    causes::{connection, with_causes},
    ledger::{
        Ledger, LedgerError,
        record::{Accepted, Record},
    },
    ledger_watch::LedgerWatch,
    reconcile::Nudge,
    report::{HubRows, Reports},
};

/// An acknowledgement that does not come within this means a dead stream.
const REPORT_ACK: Duration = Duration::from_secs(60);
/// Within this time a hub offers what its agent lacks.
const QUIET: Duration = Duration::from_secs(30);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The hub or the connection ended it.
    #[error("stream ended: {0}")]
    Ended(String),
    /// The hub ended it without an error, as it does with each stream after a while.
    #[error("stream ended: the hub closed it")]
    Closed,
    /// The hub does not take this agent in this cluster: another cluster holds this identity.
    #[error(
        "the hub refuses this agent ({0}): its identity belongs to another cluster, from where it was copied; remove \
         the identity here and let this cluster join under a name of its own"
    )]
    Refused(String),
    /// The hub does not take this agent's certificate.
    #[error(
        "the hub refuses this agent's certificate ({0}): it was revoked, or replaced by one that another agent with \
         this identity holds"
    )]
    NotAdmitted(String),
    /// By the hub's clock this agent's certificate has run out.
    #[error("by the hub's clock this agent's certificate has run out")]
    RunOut,
    /// Another agent took the stream.
    #[error(
        "{said}; this agent is instance {instance}: if that is not the old or new pod of an update, two agents have one \
         identity: uninstall one, or remove its identity and let it join under a name of its own"
    )]
    Displaced {
        /// The hub's words, which name the other.
        said: String,
        /// This one.
        instance: String,
    },
    /// A hub with a lower epoch than one seen before: not the one that holds us now.
    #[error("hub is at epoch {offered}, epoch {seen} was seen already")]
    StaleHub {
        /// Its epoch.
        offered: u64,
        /// The highest seen.
        seen: u64,
    },
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl SessionError {
    /// Names this agent where two are told apart.
    fn of_instance(self, this: &str) -> Self {
        match self {
            Self::Displaced { said, .. } => Self::Displaced {
                said,
                instance: this.to_owned(),
            },
            other => other,
        }
    }
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        if let Some(broken) = std::error::Error::source(&status) {
            if has_run_out(broken) {
                return Self::RunOut;
            }
            return Self::Ended(format!(
                "the connection to the hub: {}",
                connection(broken, about_tls)
            ));
        }
        let said = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        match status.code() {
            tonic::Code::PermissionDenied => Self::Refused(said.to_owned()),
            tonic::Code::AlreadyExists => Self::Displaced {
                said: said.to_owned(),
                instance: String::new(),
            },
            tonic::Code::Unauthenticated => Self::NotAdmitted(said.to_owned()),
            _ => Self::Ended(said.to_owned()),
        }
    }
}

/// What a session needs.
pub struct Session {
    /// Durable memory.
    pub ledger: Arc<Ledger>,
    /// Rows for the hub.
    pub reports: Arc<Reports>,
    /// The reconciler.
    pub nudge: Arc<Nudge>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// UID of the kube-system namespace.
    pub cluster_uid: String,
    /// Version of the API server.
    pub kube_version: KubeVersion,
    /// New with each start of the agent.
    pub boot_id: String,
    /// What is being taken in.
    pub acceptance: Acceptance,
    /// Tells the hub what of it the ledger does not take.
    pub ledger_watch: Arc<LedgerWatch>,
}

struct Open<'a> {
    session: &'a mut Session,
    wire: Wire,
    client: AgentServiceClient<Channel>,
    /// What came along with the last offer, for as long as something of it is lacking.
    along: Along,
    /// One batch a lane.
    fetching: FuturesUnordered<BoxFuture<'static, Batch>>,
    busy: BTreeSet<Lane>,
    /// When what did not come, or was not taken, is tried again.
    retry_at: Option<Instant>,
    retry_wait: Duration,
    /// The last offer, which the ledger did not take.
    refusal: Option<Refusal>,
    /// An offer of this stream was judged.
    is_judged: bool,
    /// Until when one is waited for, before what it would say counts as said.
    quiet_until: Instant,
    /// Incarnation and generation of what is accepted, as it was logged.
    held: (u64, u64),
}

impl Session {
    /// Runs one stream on `channel` until it breaks or `renewed` returns. `connected` is told when the hub has
    /// welcomed us.
    pub async fn run<R>(
        &mut self,
        channel: Channel,
        renewed: impl Future<Output = R>,
        connected: impl FnOnce(&Welcome),
    ) -> Result<R, SessionError> {
        let instance = self.boot_id.clone();
        let ended = self.stream(channel, renewed, connected).await;
        ended.map_err(|error| error.of_instance(&instance))
    }

    async fn stream<R>(
        &mut self,
        channel: Channel,
        renewed: impl Future<Output = R>,
        connected: impl FnOnce(&Welcome),
    ) -> Result<R, SessionError> {
        let Opening {
            tx,
            client,
            inbound,
            welcome,
        } = Opening::of(channel, self.hello()).await?;
        if self.ledger.is_elsewhere() {
            // The hub has given this identity to this very cluster, and the hello has named it: what is in the ledger is of
            // the one that it was copied or restored from.
            self.ledger.begin_anew(&self.cluster_uid).await?;
            self.acceptance = Acceptance::resume(&self.ledger);
            return Err(SessionError::Ended(
                "the state of another cluster is let go of, since this one has joined".to_owned(),
            ));
        }
        let epoch = self.newer(welcome.epoch)?;
        connected(&welcome);
        let wrong = welcome.conditions.as_ref();
        let wrong = wrong.map(|wrong| &wrong.conditions[..]);
        self.reports.begin(hub_rows(&welcome), wrong);
        self.acceptance.broke_off();
        let accepted = self.ledger.read(|state| state.accepted);
        let mut open = Open {
            wire: Wire {
                tx,
                inbound,
                early: VecDeque::new(),
                broken: None,
                epoch: welcome.epoch,
                reports: self.reports.clone(),
                clock: self.clock.clone(),
                sent_at: None,
                acks: VecDeque::new(),
                acks_at: None,
                passing_until: None,
                spaced_until: None,
                gathering_until: None,
            },
            client,
            along: Along::default(),
            fetching: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            retry_at: Some(Instant::now()),
            retry_wait: RETRY.0,
            refusal: None,
            is_judged: false,
            quiet_until: Instant::now() + QUIET,
            held: (accepted.incarnation, accepted.generation),
            session: self,
        };
        // Before anything that the hub says is heeded.
        if let Some(epoch) = epoch {
            open.store_epoch(epoch).await?;
        }
        open.units_condition();
        open.serve(renewed).await
    }

    /// Makes the ledger that of the cluster with this identifier. Where it is of another one this agent has joined anew, as a cluster
    /// that the hub knows nothing of: the former one was deleted there, or the hub is another. What was accepted as the former one
    /// is let go of then. Its objects stay as they are, and whoever desires them again adopts them; nothing is deleted.
    pub(super) async fn become_cluster(&mut self, cluster_id: &str) -> Result<(), LedgerError> {
        let cluster = Some(Digest::of("cluster", cluster_id.as_bytes()));
        let (accepted, units) = self.ledger.read(|state| {
            let units: Vec<UnitId> = state.units.keys().copied().collect();
            (state.accepted, units)
        });
        if accepted.cluster == cluster {
            return Ok(());
        }
        if accepted.cluster.is_none() {
            return self
                .ledger
                .append(vec![Record::Accepted(Accepted { cluster, ..accepted })])
                .await;
        }
        let count = units.len();
        let mut records: Vec<Record> = units.into_iter().map(|unit| Record::Released { unit }).collect();
        // Epochs are compared with those of whoever holds the stream, and this agent has seen this one.
        records.push(Record::Accepted(Accepted {
            epoch: accepted.epoch,
            cluster,
            ..Accepted::default()
        }));
        self.ledger.append(records).await?;
        tracing::warn!(
            apps = count,
            "this agent has joined as another cluster than before: what it was given as the former one is let go of, stays in the \
             cluster as it is, and is adopted by whatever desires it again"
        );
        self.acceptance = Acceptance::resume(&self.ledger);
        self.nudge.accepted();
        Ok(())
    }

    /// Says hello and hangs up, so that the hub hears what this cluster's clock reads. Returns how far it is from the
    /// hub's, as the hub has it.
    pub async fn tell_clock(&self, channel: Channel) -> Result<Option<String>, SessionError> {
        let opening = Opening::of(channel, self.hello()).await?;
        Ok(clock_apart(self.clock.now(), &opening.welcome))
    }

    fn hello(&self) -> Hello {
        let accepted = self.ledger.read(|state| state.accepted);
        let bytes = |digest: Option<Digest>| {
            digest
                .map(|digest| bytes::Bytes::copy_from_slice(digest.as_bytes()))
                .unwrap_or_default()
        };
        Hello {
            cluster_uid: self.cluster_uid.clone(),
            boot_id: self.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: accepted.incarnation,
            generation: accepted.generation,
            root: bytes(accepted.root),
            observed_root: bytes(self.reports.acked_root()),
            kube_version: self.kube_version.get(),
            epoch_seen: accepted.epoch,
            clock_ms: self.clock.now().0,
        }
    }

    /// The epoch to store from now on; `None`: it is stored.
    fn newer(&self, epoch: u64) -> Result<Option<Accepted>, SessionError> {
        let accepted = self.ledger.read(|state| state.accepted);
        if epoch < accepted.epoch {
            return Err(SessionError::StaleHub {
                offered: epoch,
                seen: accepted.epoch,
            });
        }
        Ok((epoch > accepted.epoch).then_some(Accepted { epoch, ..accepted }))
    }
}

impl Open<'_> {
    async fn store_epoch(&mut self, accepted: Accepted) -> Result<(), SessionError> {
        let write = self.session.ledger.append(vec![Record::Accepted(accepted)]);
        match self.wire.beside(write).await {
            Err(LedgerError::Lost) => Err(LedgerError::Lost.into()),
            // The hub is to hear of it, which it cannot without a stream.
            Err(e) => {
                tracing::error!("the hub's epoch cannot be stored: {}", with_causes(&e));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn serve<R>(&mut self, renewed: impl Future<Output = R>) -> Result<R, SessionError> {
        let mut renewed = pin!(renewed);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            self.wire.report().await?;
            let ask_again = self.ask_again_at().unwrap_or(far);
            let due_at = self.wire.due_at();
            let ack_late = self.wire.sent_at.map_or(far, |at| at + REPORT_ACK);
            // Cancel-safe: `message` keeps what it has read, notifications stay set, timers are computed anew. What came is
            // read before anything is concluded from its absence.
            tokio::select! {
                biased;
                message = self.wire.message() => self.receive(message?).await?,
                Some(batch) = self.fetching.next(), if !self.fetching.is_empty() => self.fetched(batch).await?,
                () = due(&self.session.reports, due_at) => {}
                renewed = &mut renewed => {
                    // Where the stream is gone the next one tells it.
                    let _ = self.wire.send_acks().await;
                    return Ok(renewed);
                }
                () = tokio::time::sleep_until(self.retry_at.unwrap_or(far)) => self.retry().await?,
                // What is being fetched is of an earlier offer, and comes first.
                () = tokio::time::sleep_until(ask_again), if self.busy.is_empty() => {
                    return Err(SessionError::Ended(
                        "the ledger did not take the desired state; asking for it again".to_owned(),
                    ));
                }
                () = tokio::time::sleep_until(ack_late) => {
                    return Err(SessionError::Ended("a report was not acknowledged".to_owned()));
                }
            }
        }
    }

    async fn receive(&mut self, message: HubMessage) -> Result<(), SessionError> {
        match message.kind {
            Some(hub_message::Kind::Desired(desired)) => self.desired(desired).await,
            Some(hub_message::Kind::ReportAck(ack)) => {
                self.wire.acknowledged(&ack);
                Ok(())
            }
            Some(hub_message::Kind::Request(request)) => self.request(request).await,
            // A second welcome, or what a newer hub says: nothing to do.
            Some(hub_message::Kind::Welcome(_)) | None => Ok(()),
        }
    }

    async fn request(&mut self, request: Request) -> Result<(), SessionError> {
        let mut reply = Reply {
            id: request.id,
            ok: true,
            message: String::new(),
        };
        match request.kind {
            Some(request::Kind::Reconcile(reconcile)) => {
                let unit = UnitId::try_from_slice(&reconcile.unit_id)
                    .filter(|unit| self.session.ledger.read(|state| state.units.contains_key(unit)));
                match unit {
                    Some(unit) => self.session.nudge.ask(unit),
                    None => {
                        reply.ok = false;
                        reply.message = "no such unit in this cluster".to_owned();
                    }
                }
            }
            None => {
                reply.ok = false;
                reply.message = "this agent does not know the request".to_owned();
            }
        }
        self.wire.send(agent_message::Kind::Reply(reply)).await
    }
}

/// What the hub says that it has of the rows; one of an older release only whether all are to be reported.
fn hub_rows(welcome: &Welcome) -> HubRows {
    match Digest::try_from_slice(&welcome.observed_root) {
        Ok(root) => HubRows::Root(root),
        Err(_) if welcome.report_everything => HubRows::Unknown,
        Err(_) => HubRows::Acknowledged,
    }
}

/// How far this cluster's clock is from the hub's, for people; nothing while it is near or the hub does not tell.
pub(super) fn clock_apart(now: Timestamp, welcome: &Welcome) -> Option<String> {
    (welcome.clock_ms != 0)
        .then(|| clock::apart(now, Timestamp(welcome.clock_ms)))
        .flatten()
}
