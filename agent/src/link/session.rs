//! One stream: hello, welcome, then desired state in and reports out, until it breaks or the certificate is to be
//! renewed. Nothing that happens here deletes or stops anything in the cluster.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use flotilla_core::{clock::Clock, digest::Digest, id::UnitId};
use flotilla_proto::agent::v1::{
    AgentMessage, Desired, Hello, HubMessage, Refused, Reply, Request, UnitEntry, Welcome, agent_message,
    agent_service_client::AgentServiceClient, hub_message, request,
};
use flotilla_proto::limits::DESIRED_BYTES;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};

use super::{
    accept::{self, AcceptError, Source},
    fetch::{self, Bases, FetchError, Fetched, Item},
};
use crate::{
    ledger::{
        Ledger, LedgerError,
        accept::{Offer, OfferedEntry},
        record::{Held, Record},
    },
    reconcile::Nudge,
    report::Reports,
};

/// Longest wait for the hub's first message.
const WELCOME: Duration = Duration::from_secs(20);
/// Rows that change within this go in one report.
const COALESCE: Duration = Duration::from_millis(20);
/// An acknowledgement that does not come within this means a dead stream.
const REPORT_ACK: Duration = Duration::from_secs(60);
/// First and longest wait before lacking content is asked for again.
const LACKING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The hub or the connection ended it.
    #[error("stream ended: {0}")]
    Ended(String),
    /// The hub does not take this agent: revoked, or another cluster holds this identity.
    #[error("the hub refuses this agent: {0}")]
    Refused(String),
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

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        let text = format!("{}: {}", status.code(), status.message());
        match status.code() {
            tonic::Code::PermissionDenied => Self::Refused(text),
            _ => Self::Ended(text),
        }
    }
}

/// How a session ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Told to stop.
    Stopped,
    /// The certificate is to be renewed.
    Renew,
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
    pub kube_version: String,
    /// New with each start of the agent.
    pub boot_id: String,
}

struct HubSource {
    client: AgentServiceClient<Channel>,
    epoch: u64,
}

#[async_trait]
impl Source for HubSource {
    async fn fetch(&mut self, items: &[Item], bases: &Bases<'_>) -> Result<Vec<Fetched>, FetchError> {
        fetch::fetch(&mut self.client, self.epoch, items, bases).await
    }
}

struct Open<'a> {
    session: &'a Session,
    tx: mpsc::Sender<AgentMessage>,
    source: HubSource,
    epoch: u64,
    /// When the report in flight was sent.
    sent_at: Option<Instant>,
    lacking_at: Option<Instant>,
    lacking_wait: Duration,
}

impl Session {
    /// Runs one stream on `channel`. `connected` is told when the hub has welcomed us.
    pub async fn run(
        &self,
        channel: Channel,
        renew_at: Option<Instant>,
        stop: &CancellationToken,
        connected: impl FnOnce(&Welcome),
    ) -> Result<Ended, SessionError> {
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(DESIRED_BYTES);
        let (tx, rx) = mpsc::channel(4);
        send(&tx, agent_message::Kind::Hello(self.hello())).await?;
        let opened = tokio::time::timeout(WELCOME, async {
            let mut inbound = client.connect(ReceiverStream::new(rx)).await?.into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((inbound, first))
        });
        let (mut inbound, first) = opened
            .await
            .map_err(|_| SessionError::Ended("the hub does not answer".to_owned()))??;
        let Some(HubMessage {
            kind: Some(hub_message::Kind::Welcome(welcome)),
        }) = first
        else {
            return Err(SessionError::Ended(
                "the hub did not begin with a welcome".to_owned(),
            ));
        };
        self.note_epoch(welcome.epoch).await?;
        connected(&welcome);
        self.reports.begin(welcome.report_everything);
        let open = Open {
            session: self,
            tx,
            source: HubSource {
                client,
                epoch: welcome.epoch,
            },
            epoch: welcome.epoch,
            sent_at: None,
            lacking_at: accept::is_lacking(&self.ledger).then(Instant::now),
            lacking_wait: LACKING.0,
        };
        open.serve(&mut inbound, renew_at, stop).await
    }

    fn hello(&self) -> Hello {
        let held = self.ledger.read(|state| state.held);
        let bytes = |digest: Option<Digest>| {
            digest
                .map(|digest| bytes::Bytes::copy_from_slice(digest.as_bytes()))
                .unwrap_or_default()
        };
        Hello {
            cluster_uid: self.cluster_uid.clone(),
            boot_id: self.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: held.incarnation,
            generation: held.generation,
            root: bytes(held.root),
            observed_root: bytes(self.reports.acked_root()),
            kube_version: self.kube_version.clone(),
            epoch_seen: held.epoch,
            clock_ms: self.clock.now().0,
        }
    }

    async fn note_epoch(&self, epoch: u64) -> Result<(), SessionError> {
        let held = self.ledger.read(|state| state.held);
        if epoch < held.epoch {
            return Err(SessionError::StaleHub {
                offered: epoch,
                seen: held.epoch,
            });
        }
        if epoch > held.epoch {
            self.ledger
                .append(vec![Record::Held(Held { epoch, ..held })])
                .await?;
        }
        Ok(())
    }
}

impl Open<'_> {
    async fn serve(
        mut self,
        inbound: &mut Streaming<HubMessage>,
        renew_at: Option<Instant>,
        stop: &CancellationToken,
    ) -> Result<Ended, SessionError> {
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            self.send_report().await?;
            let ack_late = self.sent_at.map_or(far, |at| at + REPORT_ACK);
            // Cancel-safe: `message` keeps a half-read frame in the stream, notifications stay set, timers are
            // computed anew.
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep_until(renew_at.unwrap_or(far)) => return Ok(Ended::Renew),
                () = tokio::time::sleep_until(ack_late) => {
                    return Err(SessionError::Ended("a report was not acknowledged".to_owned()));
                }
                () = tokio::time::sleep_until(self.lacking_at.unwrap_or(far)) => self.complete().await?,
                () = self.session.reports.changed() => tokio::time::sleep(COALESCE).await,
                message = inbound.message() => match message? {
                    Some(message) => self.receive(message).await?,
                    None => return Err(SessionError::Ended("the hub closed it".to_owned())),
                },
            }
        }
    }

    async fn send_report(&mut self) -> Result<(), SessionError> {
        let Some(mut report) = self.session.reports.next(self.epoch) else {
            return Ok(());
        };
        report.sent_at_ms = self.session.clock.now().0;
        self.sent_at = Some(Instant::now());
        send(&self.tx, agent_message::Kind::Report(report)).await
    }

    async fn receive(&mut self, message: HubMessage) -> Result<(), SessionError> {
        match message.kind {
            Some(hub_message::Kind::Desired(desired)) => self.desired(desired).await,
            Some(hub_message::Kind::ReportAck(ack)) => {
                if !ack.left_out.is_empty() {
                    tracing::error!(
                        report = ack.seq,
                        "the hub left out what was reported: {}",
                        ack.left_out
                    );
                }
                self.session.reports.ack(ack.seq);
                self.sent_at = None;
                Ok(())
            }
            Some(hub_message::Kind::Request(request)) => self.request(request).await,
            // A second welcome, or what a newer hub says: nothing to do.
            Some(hub_message::Kind::Welcome(_)) | None => Ok(()),
        }
    }

    async fn desired(&mut self, desired: Desired) -> Result<(), SessionError> {
        if desired.epoch < self.epoch {
            return Ok(());
        }
        let (incarnation, generation) = (desired.incarnation, desired.generation);
        let offer = match offer(desired) {
            Ok(offer) => offer,
            Err(why) => return Err(SessionError::Ended(why.to_owned())),
        };
        let now = self.session.clock.now();
        match accept::accept(&self.session.ledger, offer, &mut self.source, now).await {
            Ok(ack) => {
                tracing::info!(
                    incarnation,
                    generation,
                    units = ack.units.len(),
                    "accepted desired state"
                );
                self.session.nudge.accepted();
                self.note_lacking();
                send(&self.tx, agent_message::Kind::Ack(ack)).await
            }
            Err(AcceptError::Refused(refusal)) => {
                tracing::warn!(incarnation, generation, "refused desired state: {refusal}");
                let refused = Refused {
                    incarnation,
                    generation,
                    reason: accept::refused_reason(&refusal) as i32,
                    message: refusal.to_string(),
                };
                send(&self.tx, agent_message::Kind::Refused(refused)).await
            }
            Err(AcceptError::Ledger(e)) => Err(e.into()),
            Err(AcceptError::Fetch(e)) => Err(SessionError::Ended(e.to_string())),
        }
    }

    fn note_lacking(&mut self) {
        self.lacking_wait = LACKING.0;
        self.lacking_at =
            accept::is_lacking(&self.session.ledger).then(|| Instant::now() + self.lacking_wait);
    }

    async fn complete(&mut self) -> Result<(), SessionError> {
        match accept::complete(&self.session.ledger, &mut self.source).await {
            Ok(ack) => {
                if let Some(ack) = ack {
                    self.session.nudge.accepted();
                    send(&self.tx, agent_message::Kind::Ack(ack)).await?;
                }
                self.lacking_wait = (self.lacking_wait * 2).min(LACKING.1);
                self.lacking_at =
                    accept::is_lacking(&self.session.ledger).then(|| Instant::now() + self.lacking_wait);
                Ok(())
            }
            Err(AcceptError::Ledger(e)) => Err(e.into()),
            Err(e) => Err(SessionError::Ended(e.to_string())),
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
        send(&self.tx, agent_message::Kind::Reply(reply)).await
    }
}

async fn send(tx: &mpsc::Sender<AgentMessage>, kind: agent_message::Kind) -> Result<(), SessionError> {
    tx.send(AgentMessage { kind: Some(kind) })
        .await
        .map_err(|_| SessionError::Ended("the connection is gone".to_owned()))
}

/// Reads an offer from the wire.
pub fn offer(desired: Desired) -> Result<Offer, &'static str> {
    Ok(Offer {
        incarnation: desired.incarnation,
        generation: desired.generation,
        root: Digest::try_from_slice(&desired.root).map_err(|_| "desired state without a root")?,
        base: desired.base_generation,
        entries: desired.units.into_iter().map(offered).collect::<Result<_, _>>()?,
    })
}

fn offered(entry: UnitEntry) -> Result<OfferedEntry, &'static str> {
    Ok(OfferedEntry {
        unit: UnitId::try_from_slice(&entry.unit_id).ok_or("an entry without a unit id")?,
        bytes: entry.canonical.to_vec(),
        released: entry.released,
    })
}
