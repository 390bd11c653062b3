//! One stream: hello, welcome, then desired state in and reports out, until it breaks or the certificate is to be
//! renewed. Nothing that happens here deletes or stops anything in the cluster.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use flotilla_core::{clock::Clock, digest::Digest, id::UnitId};
use flotilla_proto::{
    agent::v1::{
        Ack, AgentMessage, Desired, Hello, HubMessage, Refused, RefusedReason, Reply, Request, UnitEntry,
        Welcome, agent_message, agent_service_client::AgentServiceClient, hub_message, request,
    },
    limits::DESIRED_BYTES,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{
    accept::{self, AcceptError, Acceptance, Lane},
    fetch::{self, FetchError, Fetched, Item},
};
use crate::{
    causes::with_causes,
    ledger::{
        Ledger, LedgerError,
        accept::{Offer, OfferedEntry},
        record::{Held, Record},
    },
    ledger_watch::LedgerWatch,
    reconcile::Nudge,
    report::Reports,
};

/// Longest wait for the hub's first message.
const WELCOME: Duration = Duration::from_secs(20);
/// Rows that change within this go in one report.
const COALESCE: Duration = Duration::from_millis(20);
/// An acknowledgement that does not come within this means a dead stream.
const REPORT_ACK: Duration = Duration::from_secs(60);
/// First and longest wait before what did not come, or was not taken, is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

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
    /// What is being taken in.
    pub acceptance: Acceptance,
    /// Tells the hub what of it the ledger does not take.
    pub ledger_watch: Arc<LedgerWatch>,
}

/// One batch that was asked for, and what came of it.
struct Batch {
    lane: Lane,
    items: Vec<Item>,
    fetched: Vec<Fetched>,
    outcome: Result<(), FetchError>,
}

struct Open<'a> {
    session: &'a mut Session,
    tx: mpsc::Sender<AgentMessage>,
    client: AgentServiceClient<Channel>,
    epoch: u64,
    /// When the report in flight was sent.
    sent_at: Option<Instant>,
    /// One batch a lane.
    fetching: FuturesUnordered<BoxFuture<'static, Batch>>,
    busy: BTreeSet<Lane>,
    /// When what did not come, or was not taken, is tried again.
    retry_at: Option<Instant>,
    retry_wait: Duration,
    /// The ledger did not take an offer itself: the hub is to make it again.
    offer_refused: bool,
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
        self.acceptance.broke_off();
        let mut open = Open {
            tx,
            client,
            epoch: welcome.epoch,
            sent_at: None,
            fetching: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            retry_at: Some(Instant::now()),
            retry_wait: RETRY.0,
            offer_refused: false,
            session: self,
        };
        open.serve(&mut inbound, renewed).await
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
            match self
                .ledger
                .append(vec![Record::Held(Held { epoch, ..held })])
                .await
            {
                Err(LedgerError::Lost) => return Err(LedgerError::Lost.into()),
                // The hub is to hear of it, which it cannot without a stream.
                Err(e) => tracing::error!("the hub's epoch cannot be held: {}", with_causes(&e)),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

impl Open<'_> {
    async fn serve<R>(
        &mut self,
        inbound: &mut Streaming<HubMessage>,
        renewed: impl Future<Output = R>,
    ) -> Result<R, SessionError> {
        let mut renewed = pin!(renewed);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            self.send_report().await?;
            let ack_late = self.sent_at.map_or(far, |at| at + REPORT_ACK);
            // Cancel-safe: `message` keeps a half-read frame in the stream, notifications stay set, timers are
            // computed anew. What came is read before anything is concluded from its absence.
            tokio::select! {
                biased;
                message = inbound.message() => match message? {
                    Some(message) => self.receive(message).await?,
                    None => return Err(SessionError::Ended("the hub closed it".to_owned())),
                },
                Some(batch) = self.fetching.next(), if !self.fetching.is_empty() => self.fetched(batch).await?,
                () = self.session.reports.changed() => tokio::time::sleep(COALESCE).await,
                renewed = &mut renewed => return Ok(renewed),
                () = tokio::time::sleep_until(self.retry_at.unwrap_or(far)) => self.retry().await?,
                () = tokio::time::sleep_until(ack_late) => {
                    return Err(SessionError::Ended("a report was not acknowledged".to_owned()));
                }
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
        let session = &mut *self.session;
        let offered = session
            .acceptance
            .offer(&session.ledger, offer, session.clock.now())
            .await;
        match offered {
            Ok(ack) => {
                tracing::info!(incarnation, generation, "took in desired state");
                self.retry_wait = RETRY.0;
                self.accepted(ack).await?;
                self.fetch_more();
                Ok(())
            }
            Err(AcceptError::Refused(refusal)) => {
                tracing::warn!(incarnation, generation, "refused desired state: {refusal}");
                let reason = accept::refused_reason(&refusal);
                self.refuse((incarnation, generation), reason, refusal.to_string())
                    .await
            }
            Err(AcceptError::Ledger(LedgerError::Lost)) => Err(LedgerError::Lost.into()),
            Err(AcceptError::Ledger(e)) => {
                let reason = match e {
                    LedgerError::Full { .. } => RefusedReason::LedgerFull,
                    _ => RefusedReason::LedgerUnwritable,
                };
                let why = with_causes(&e);
                tracing::error!(incarnation, generation, "desired state cannot be held: {why}");
                self.ledger_condition(Some(&why));
                self.offer_refused = true;
                self.retry_at = Some(Instant::now() + RETRY.1);
                self.refuse((incarnation, generation), reason, why).await
            }
            Err(AcceptError::Fetch(e)) => Err(SessionError::Ended(e.to_string())),
        }
    }

    async fn refuse(
        &mut self,
        (incarnation, generation): (u64, u64),
        reason: RefusedReason,
        message: String,
    ) -> Result<(), SessionError> {
        let refused = Refused {
            incarnation,
            generation,
            reason: reason as i32,
            message,
        };
        send(&self.tx, agent_message::Kind::Refused(refused)).await
    }

    /// Tells hub and reconciler what is held now.
    async fn accepted(&mut self, ack: Ack) -> Result<(), SessionError> {
        self.session.nudge.accepted();
        self.ledger_condition(None);
        send(&self.tx, agent_message::Kind::Ack(ack)).await
    }

    fn ledger_condition(&self, refused: Option<&str>) {
        let session = &*self.session;
        session
            .ledger_watch
            .refused(refused.or(session.acceptance.ledger_problem()));
    }

    /// Asks for what is lacking, in each lane that is free; with nothing to ask for and something lacking, later.
    fn fetch_more(&mut self) {
        let session = &mut *self.session;
        for lane in [Lane::Small, Lane::Large] {
            if self.busy.contains(&lane) {
                continue;
            }
            let items = session.acceptance.next(&session.ledger, lane);
            if items.is_empty() {
                continue;
            }
            self.busy.insert(lane);
            let (mut client, epoch, ledger) = (self.client.clone(), self.epoch, session.ledger.clone());
            self.fetching.push(
                async move {
                    let bases = |digest: &Digest| ledger.read(|state| state.blob(digest));
                    let mut fetched = Vec::new();
                    let outcome = fetch::fetch(&mut client, epoch, &items, &bases, &mut fetched).await;
                    Batch {
                        lane,
                        items,
                        fetched,
                        outcome,
                    }
                }
                .boxed(),
            );
        }
        if !session.acceptance.is_incomplete() {
            self.retry_wait = RETRY.0;
            self.retry_at = None;
        } else if self.busy.is_empty() {
            self.retry_at = Some(Instant::now() + self.retry_wait);
        }
    }

    async fn fetched(&mut self, batch: Batch) -> Result<(), SessionError> {
        self.busy.remove(&batch.lane);
        let session = &mut *self.session;
        let ack = session
            .acceptance
            .arrived(&session.ledger, &batch.items, batch.fetched)
            .await?;
        if let Some(ack) = ack {
            self.accepted(ack).await?;
        }
        self.ledger_condition(None);
        match batch.outcome {
            Ok(()) => self.fetch_more(),
            // What came is held, the rest is asked for again: the stream itself may be well.
            Err(e) => {
                tracing::warn!("{e}; asking again in {} s", self.retry_wait.as_secs());
                self.retry_later();
            }
        }
        Ok(())
    }

    fn retry_later(&mut self) {
        self.retry_at = Some(Instant::now() + self.retry_wait);
        self.retry_wait = (self.retry_wait * 2).min(RETRY.1);
    }

    async fn retry(&mut self) -> Result<(), SessionError> {
        if self.offer_refused {
            return Err(SessionError::Ended(
                "the ledger did not take the desired state; asking for it again".to_owned(),
            ));
        }
        self.retry_at = None;
        let session = &mut *self.session;
        if let Some(ack) = session.acceptance.retry(&session.ledger).await? {
            self.accepted(ack).await?;
        }
        self.ledger_condition(None);
        self.retry_wait = (self.retry_wait * 2).min(RETRY.1);
        self.fetch_more();
        Ok(())
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

#[cfg(test)]
mod tests;
