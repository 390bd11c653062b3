//! `flotilla.agent.v1`: one task per stream. It translates: the index's state out, reports in. It holds one
//! pending state at most; whatever changes while an agent is slow, the agent gets the latest.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flotilla_proto::agent::v1::{
    Ack, AgentMessage, Desired, FetchRequest, Hello, HubMessage, Refused, RefusedReason, Report, ReportAck,
    UnitEntry, Welcome, agent_message, agent_service_server::AgentService, hub_message,
};
use flotilla_proto::limits::{MESSAGE_BYTES, WORD_BYTES};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::{
    fetch::Fetcher,
    leaf,
    status::from_store,
    streams::Streams,
    told::{self, Told},
};
use crate::{
    auth::peer::{self, NotAdmitted},
    index::{Index, Watched},
    store::{Store, publish::DesiredRow, report::ConditionRow, session::Opening},
    task::ingest::{Ingest, Outcome, rows, text},
};

/// A stream ends after this: what its agent may and where it goes is judged anew.
const MAX_AGE: Duration = Duration::from_secs(3600);
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Reports of one stream that may wait for their commit.
const REPORTS_IN_FLIGHT: usize = 4;

/// The service.
#[derive(Clone)]
pub struct Agents {
    /// Store.
    pub store: Store,
    /// Desired states.
    pub index: Arc<Index>,
    /// Open streams.
    pub streams: Arc<Streams>,
    /// Takes reports.
    pub ingest: Ingest,
    /// Serves content.
    pub fetcher: Fetcher,
    /// Trust domain of agents' certificates.
    pub trust_domain: String,
    /// Name of this replica.
    pub replica: String,
    /// Number of the hub's history.
    pub incarnation: u64,
}

struct Admitted {
    cluster: Uuid,
    name: String,
    cluster_uid: Option<String>,
}

impl Agents {
    /// Checks who calls, above TLS, by what the store records now.
    async fn admit<T>(&self, request: &Request<T>) -> Result<Admitted, Status> {
        let refused = |why: NotAdmitted| {
            info!(%why, "agent not admitted");
            Status::unauthenticated("not admitted")
        };
        let peer = peer::read(leaf(request).as_ref(), &self.trust_domain).map_err(refused)?;
        let identity = self.store.identity(peer.cluster).await.map_err(from_store)?;
        let promote = peer::judge(&peer, identity.as_ref()).map_err(refused)?;
        if promote {
            self.store
                .promote_serial(peer.cluster, &peer.serial)
                .await
                .map_err(from_store)?;
        }
        let identity = identity.ok_or_else(|| refused(NotAdmitted::NotActive))?;
        Ok(Admitted {
            cluster: peer.cluster,
            name: identity.name,
            cluster_uid: identity.cluster_uid,
        })
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    type ConnectStream = ReceiverStream<Result<HubMessage, Status>>;
    type FetchStream = ReceiverStream<Result<flotilla_proto::agent::v1::Chunk, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let admitted = self.admit(&request).await?;
        let mut inbound = request.into_inner();
        // One message of room: the agent's own pace decides when the next state is made.
        let (outbound_tx, outbound_rx) = mpsc::channel(1);
        let service = self.clone();
        let span = info_span!("agent stream", cluster.name = %admitted.name, cluster.id = %admitted.cluster);
        tokio::spawn(
            async move {
                if let Err(status) = service.run(&admitted, &mut inbound, &outbound_tx).await {
                    let _ = timeout(HELLO_TIMEOUT, outbound_tx.send(Err(status))).await;
                }
            }
            .instrument(span),
        );
        Ok(Response::new(ReceiverStream::new(outbound_rx)))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let admitted = self.admit(&request).await?;
        let (cluster, epoch) = (admitted.cluster, request.get_ref().epoch);
        // Whoever copied the identity has no stream: the cluster's UID was checked when that was opened.
        if !self.store.is_session(cluster, epoch).await.map_err(from_store)? {
            return Err(Status::failed_precondition(
                "content goes to the agent whose stream holds the cluster: open one first",
            ));
        }
        let Some(turn) = self.streams.fetch(cluster) else {
            return Err(Status::resource_exhausted(
                "too many fetches of one cluster at once",
            ));
        };
        let desired = self.store.desired(cluster).await.map_err(from_store)?;
        let (chunks_tx, chunks_rx) = mpsc::channel(4);
        let fetcher = self.fetcher.clone();
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(status) = fetcher.serve(desired, request.into_inner(), &chunks_tx).await {
                let _ = chunks_tx.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks_rx)))
    }
}

impl Agents {
    async fn run(
        &self,
        admitted: &Admitted,
        inbound: &mut Streaming<AgentMessage>,
        outbound: &mpsc::Sender<Result<HubMessage, Status>>,
    ) -> Result<(), Status> {
        let hello = bounded(expect_hello(inbound).await?);
        if admitted
            .cluster_uid
            .as_deref()
            .is_some_and(|uid| uid != hello.cluster_uid)
        {
            warn!("an agent in another cluster shows this cluster's identity");
            return Err(Status::permission_denied("not admitted"));
        }
        let judged = judged(&hello, OffsetDateTime::now_utc());
        let opened = self
            .store
            .open_session(&opening(admitted, &hello, &self.replica, &judged))
            .await
            .map_err(from_store)?;
        let now = OffsetDateTime::now_utc();
        let close = self.streams.open(admitted.cluster, opened.epoch, now);
        info!(epoch = opened.epoch, agent.version = %hello.agent_version, "agent connected");
        let welcome = Welcome {
            epoch: opened.epoch,
            incarnation: self.incarnation,
            report_everything: opened.report_everything,
            hub_version: env!("CARGO_PKG_VERSION").into(),
            cluster_name: admitted.name.clone(),
        };
        let result = match self.index.subscribe(admitted.cluster).await {
            Ok(watched) => {
                let _ = outbound
                    .send(Ok(message(hub_message::Kind::Welcome(welcome))))
                    .await;
                let (told_tx, told_rx) = watch::channel(None);
                let session = Session {
                    service: self,
                    told: told_tx,
                    cluster: admitted.cluster,
                    epoch: opened.epoch,
                    sent: Held::of(&hello),
                    sent_whole: false,
                    ahead: false,
                    ends_at: Instant::now() + age(opened.epoch),
                    watched,
                    close,
                };
                let kept = told::keep(&self.store, admitted.cluster, opened.epoch, told_rx);
                tokio::select! {
                    ended = session.run(inbound, outbound) => ended,
                    () = kept => Err(replaced()),
                }
            }
            Err(error) => Err(from_store(error)),
        };
        self.streams.closed(admitted.cluster, opened.epoch);
        tokio::spawn(told::close(self.store.clone(), admitted.cluster, opened.epoch));
        info!(epoch = opened.epoch, "agent disconnected");
        result
    }
}

/// What the hub judges of an agent that has come: its clock, and that nothing is left out by now.
fn judged(hello: &Hello, now: OffsetDateTime) -> [ConditionRow; 2] {
    let condition = |kind, message: String| ConditionRow {
        kind,
        ok: message.is_empty(),
        message,
        since: now,
    };
    [
        condition("Clock", clock_message(hello.clock_ms, now)),
        condition("Reports", String::new()),
    ]
}

/// Says how far an agent's clock is off; nothing while it is near.
fn clock_message(clock_ms: i64, now: OffsetDateTime) -> String {
    let off = match clock_ms {
        0 => time::Duration::ZERO,
        ms => time::Duration::milliseconds(ms) - (now - OffsetDateTime::UNIX_EPOCH),
    };
    let (seconds, way) = (
        off.whole_seconds().unsigned_abs(),
        if off.is_positive() { "ahead of" } else { "behind" },
    );
    let about = match seconds {
        0..=60 => return String::new(),
        61..=7200 => format!("{} minutes", seconds / 60),
        7201..=172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    format!("the cluster's clock is {about} {way} the hub's: certificates are renewed by it; set it")
}

/// How long a stream may last, some longer than others: streams spread over replicas again as they come back.
fn age(epoch: u64) -> Duration {
    MAX_AGE + Duration::from_secs(epoch % 8 * 60)
}

/// What the agent holds, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    incarnation: u64,
    generation: u64,
}

impl Held {
    const NOTHING: Self = Self {
        incarnation: 0,
        generation: 0,
    };

    fn of(hello: &Hello) -> Self {
        Self {
            incarnation: hello.incarnation,
            generation: hello.generation,
        }
    }
}

struct Session<'a> {
    service: &'a Agents,
    /// What the agent says of what it is offered.
    told: watch::Sender<Option<Told>>,
    cluster: Uuid,
    epoch: u64,
    /// What was last sent, or held at Hello: the base of the next change.
    sent: Held,
    /// That was all of it, and not changes.
    sent_whole: bool,
    /// The agent was found ahead of the store.
    ahead: bool,
    ends_at: Instant,
    watched: watch::Receiver<Watched>,
    close: CancellationToken,
}

impl Session<'_> {
    async fn run(
        mut self,
        inbound: &mut Streaming<AgentMessage>,
        outbound: &mpsc::Sender<Result<HubMessage, Status>>,
    ) -> Result<(), Status> {
        let mut committing: FuturesUnordered<BoxFuture<'static, Option<ReportAck>>> = FuturesUnordered::new();
        self.watched.mark_changed();
        let mut pending = false;
        loop {
            // Every arm is cancel-safe: `changed`, `reserve`, `next` and `message` lose nothing when dropped.
            tokio::select! {
                () = self.close.cancelled() => {
                    return Err(replaced());
                }
                () = tokio::time::sleep_until(self.ends_at) => return Ok(()),
                changed = self.watched.changed() => match changed {
                    Ok(()) => pending = true,
                    Err(_) => return Err(Status::unavailable("the hub is shutting down")),
                },
                permit = outbound.reserve(), if pending => {
                    let Ok(permit) = permit else { return Ok(()) };
                    pending = false;
                    let state = self.watched.borrow_and_update().clone();
                    if self.is_ahead(state.as_deref()) {
                        self.ahead(state.as_deref());
                    } else if let Some(desired) = state.and_then(|state| self.desired(&state)) {
                        permit.send(Ok(message(hub_message::Kind::Desired(desired))));
                    }
                }
                Some(committed) = committing.next(), if !committing.is_empty() => {
                    // A report that did not count is not acknowledged: the agent keeps its rows.
                    if let Some(ack) = committed {
                        let ack = message(hub_message::Kind::ReportAck(ack));
                        if outbound.send(Ok(ack)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                inbound = inbound.message(), if committing.len() < REPORTS_IN_FLIGHT => {
                    let Some(inbound) = inbound? else { return Ok(()) };
                    self.service.streams.seen(self.cluster, self.epoch, OffsetDateTime::now_utc());
                    match inbound.kind {
                        Some(agent_message::Kind::Ack(ack)) => self.accepted(&ack),
                        Some(agent_message::Kind::Refused(refused)) => pending |= self.refused(refused),
                        Some(agent_message::Kind::Report(report)) => {
                            committing.push(self.commit(report));
                        }
                        Some(agent_message::Kind::Hello(_)) => {
                            return Err(Status::failed_precondition("a second hello on one stream"));
                        }
                        // Replies to requests, and what newer agents may say.
                        Some(agent_message::Kind::Reply(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Tells whether the agent holds a later state of this history than the store: the store was restored from a
    /// backup. It stays so while the stream lasts, also when new generations overtake the agent's: theirs are
    /// others than the ones it has seen.
    fn is_ahead(&mut self, state: Option<&DesiredRow>) -> bool {
        let (incarnation, generation) = state.map_or((self.service.incarnation, 0), |state| {
            (state.incarnation, state.generation)
        });
        self.ahead |= self.sent.incarnation == incarnation && self.sent.generation > generation;
        self.ahead
    }

    /// Nothing is sent, and it is said where people look. Only an operator resolves it.
    fn ahead(&self, state: Option<&DesiredRow>) {
        let (agent, hub) = (self.sent.generation, state.map_or(0, |state| state.generation));
        warn!(
            agent.generation = agent,
            hub.generation = hub,
            "the agent is ahead of this hub's store; nothing is sent"
        );
        let text = format!(
            "the agent holds generation {agent}, this hub's store {hub}: the store is older than the agent's state, \
             nothing is sent"
        );
        self.told.send_replace(Some(Told::Refused(text)));
    }

    /// The next message: changes since what the agent holds, or the whole state.
    fn desired(&mut self, state: &DesiredRow) -> Option<Desired> {
        let same_history = self.sent.incarnation == state.incarnation;
        if same_history && self.sent.generation == state.generation {
            return None;
        }
        let base = (same_history && self.sent.generation > 0).then_some(self.sent.generation);
        let units = state
            .entries
            .iter()
            .filter(|entry| base.is_none_or(|base| entry.since > base));
        let units = units
            .map(|entry| UnitEntry {
                unit_id: entry.unit.as_bytes().to_vec().into(),
                digest: entry.digest.as_bytes().to_vec().into(),
                canonical: entry.bytes.clone().into(),
                released: false,
            })
            .collect();
        self.sent = Held {
            incarnation: state.incarnation,
            generation: state.generation,
        };
        self.sent_whole = base.is_none();
        Some(Desired {
            incarnation: state.incarnation,
            generation: state.generation,
            epoch: self.epoch,
            root: state.root.as_bytes().to_vec().into(),
            base_generation: base,
            units,
        })
    }

    fn accepted(&self, ack: &Ack) {
        let problems: Vec<String> = ack
            .units
            .iter()
            .filter(|unit| !unit.accepted)
            .map(|unit| format!("{}: {}", text(unit.reason.clone(), WORD_BYTES), unit.message))
            .take(5)
            .map(|problem| text(problem, MESSAGE_BYTES / 5))
            .collect();
        self.told.send_replace(Some(Told::Accepted {
            incarnation: ack.incarnation,
            generation: ack.generation,
            problems: problems.join("; "),
        }));
    }

    /// Records why; tells whether the whole state is to be sent.
    fn refused(&mut self, refused: Refused) -> bool {
        let reason = refused.reason();
        let said = text(refused.message, MESSAGE_BYTES);
        warn!(
            reason = reason.as_str_name(),
            message = said,
            "the agent refused a generation"
        );
        // Once: what was sent whole and refused would be refused again.
        let again = matches!(reason, RefusedReason::BaseUnknown | RefusedReason::RootMismatch)
            && self.sent != Held::NOTHING
            && !(self.sent_whole && self.sent.generation == refused.generation);
        if again {
            self.sent = Held::NOTHING;
            return true;
        }
        let text = format!("refused generation {}: {said}", refused.generation);
        self.told.send_replace(Some(Told::Refused(text)));
        false
    }

    fn commit(&self, report: Report) -> BoxFuture<'static, Option<ReportAck>> {
        let seq = report.seq;
        let read = rows(self.cluster, self.epoch, report, OffsetDateTime::now_utc());
        let left_out = read.left_out;
        if !left_out.is_empty() {
            warn!(report = seq, left_out, "some of an agent's report is left out");
        }
        let committed = self.service.ingest.submit(read.report);
        let (store, cluster) = (self.service.store.clone(), self.cluster);
        async move {
            let left_out = match committed.await {
                Outcome::Committed => left_out,
                Outcome::Refused(why) => why,
                Outcome::Replaced | Outcome::Unavailable => return None,
            };
            if !left_out.is_empty() {
                let condition = ConditionRow {
                    kind: "Reports",
                    ok: false,
                    message: format!("the hub left out some of what the agent reported: {left_out}"),
                    since: OffsetDateTime::now_utc(),
                };
                if let Err(error) = store.judge_cluster(cluster, &[condition]).await {
                    warn!(%error, "that some of a report is left out is not recorded");
                }
            }
            Some(ReportAck { seq, left_out })
        }
        .boxed()
    }
}

async fn expect_hello(inbound: &mut Streaming<AgentMessage>) -> Result<Hello, Status> {
    let first = timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello within 10 s"))??;
    match first.and_then(|message| message.kind) {
        Some(agent_message::Kind::Hello(hello)) => Ok(hello),
        _ => Err(Status::failed_precondition("the first message is a hello")),
    }
}

/// What an agent says of itself, as it may enter log and store.
fn bounded(hello: Hello) -> Hello {
    let word = |word: String| text(word, WORD_BYTES);
    Hello {
        cluster_uid: word(hello.cluster_uid),
        boot_id: word(hello.boot_id),
        agent_version: word(hello.agent_version),
        kube_version: word(hello.kube_version),
        // An epoch rises by one a stream; a number near the end of its type would leave no room for the next.
        epoch_seen: hello.epoch_seen.min(1 << 53),
        observed_root: match hello.observed_root.len() {
            32 => hello.observed_root,
            // No digest: whatever it stands for, all is to be reported.
            _ => Bytes::new(),
        },
        ..hello
    }
}

fn opening<'a>(
    admitted: &Admitted,
    hello: &'a Hello,
    replica: &'a str,
    judged: &'a [ConditionRow],
) -> Opening<'a> {
    Opening {
        cluster_id: admitted.cluster,
        boot_id: &hello.boot_id,
        replica,
        agent_version: &hello.agent_version,
        kube_version: &hello.kube_version,
        incarnation: hello.incarnation,
        generation: hello.generation,
        observed_root: &hello.observed_root,
        epoch_seen: hello.epoch_seen,
        judged,
    }
}

/// The stream does not hold its cluster any more.
fn replaced() -> Status {
    Status::aborted("another stream of this cluster was opened, or its right has ended")
}

fn message(kind: hub_message::Kind) -> HubMessage {
    HubMessage { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_in_round_numbers() {
        let now = time::macros::datetime!(2026-06-01 12:00 UTC);
        let ms = i64::try_from((now - OffsetDateTime::UNIX_EPOCH).whole_milliseconds()).expect("in range");
        assert_eq!(clock_message(ms + 5000, now), "");
        assert_eq!(clock_message(0, now), "", "an agent that does not tell");
        assert!(
            clock_message(ms + 3 * 86_400_000, now)
                .starts_with("the cluster's clock is 3 days ahead of the hub's")
        );
        assert!(
            clock_message(ms - 600_000, now)
                .starts_with("the cluster's clock is 10 minutes behind the hub's")
        );
        assert!(
            clock_message(i64::MIN, now).contains("behind") && clock_message(i64::MAX, now).contains("ahead")
        );
    }
}
