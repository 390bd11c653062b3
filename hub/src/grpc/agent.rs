//! `flotilla.agent.v1`: one task per stream. It translates: the index's state out, reports in. It holds one
//! pending state at most; whatever changes while an agent is slow, the agent gets the latest.

mod session;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use flotilla_core::{
    clock::{self, Timestamp},
    desired::Held,
    doubt::Sign,
};
use flotilla_proto::agent::v1::{
    AgentMessage, ClusterCondition, FetchRequest, Hello, HubMessage, Welcome, WrongConditions, agent_message,
    agent_service_server::AgentService, hub_message,
};
use flotilla_proto::limits::WORD_BYTES;
use futures::StreamExt as _;
use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, info, info_span};
use uuid::Uuid;

use self::session::{Session, age, held};
use super::{fetch::Fetcher, fleet::views::ms, leaf, status::from_store, streams::Streams};
use crate::{
    auth::peer::{self, NotAdmitted},
    index::Index,
    store::{
        Store,
        enrol::IdentityRow,
        report::ConditionRow,
        session::{Opened, Opening},
        together::Together,
    },
    task::ingest::{Ingest, condition_kind, text},
};

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// What serves agents. All streams have one.
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
    /// Asks for the identities of who calls.
    pub identities: Together<Uuid, Option<IdentityRow>>,
    /// Opens streams.
    pub openings: Together<Opening, Opened>,
    /// Marks streams of these epochs closed.
    pub closings: Together<(Uuid, u64), ()>,
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
    /// Epoch of the stream that holds the cluster.
    epoch: Option<u64>,
    /// Another certificate has come after the one that is shown: whoever shows it gets nothing, and people hear of it.
    is_replaced: bool,
}

fn not_admitted() -> Status {
    Status::unauthenticated("not admitted")
}

impl Agents {
    /// Checks who calls, above TLS, by what the store records now.
    async fn admit<T>(&self, request: &Request<T>) -> Result<Admitted, Status> {
        let known = self.known(request).await?;
        match known.is_replaced {
            true => Err(not_admitted()),
            false => Ok(known),
        }
    }

    /// The same, with those whose certificate was replaced.
    async fn known<T>(&self, request: &Request<T>) -> Result<Admitted, Status> {
        let refused = |why: NotAdmitted| {
            info!(%why, "agent not admitted");
            not_admitted()
        };
        let peer = peer::read(leaf(request).as_ref(), &self.trust_domain).map_err(refused)?;
        let identity = self.identities.ask(peer.cluster).await.map_err(from_store)?;
        let is_replaced = match peer::judge(&peer, identity.as_ref()) {
            Ok(standing) => {
                self.store.admitted(&peer, standing).await.map_err(from_store)?;
                false
            }
            Err(why @ NotAdmitted::Replaced) => {
                info!(cluster.id = %peer.cluster, %why, "agent not admitted");
                true
            }
            Err(why) => return Err(refused(why)),
        };
        let identity = identity.ok_or_else(|| refused(NotAdmitted::NotActive))?;
        Ok(Admitted {
            cluster: peer.cluster,
            name: identity.name,
            cluster_uid: identity.cluster_uid,
            epoch: identity.epoch,
            is_replaced,
        })
    }

    /// Records who else shows a cluster's identity.
    async fn doubt(
        &self,
        admitted: &Admitted,
        sign: Sign,
        seen: &str,
        now: OffsetDateTime,
    ) -> Result<(), Status> {
        let doubted = self.store.doubt(admitted.cluster, sign, seen, now).await;
        doubted.map(drop).map_err(from_store)
    }
}

/// The service.
#[derive(Clone)]
pub struct Served(Arc<Agents>);

impl Served {
    /// By these.
    pub fn by(agents: Agents) -> Self {
        Self(Arc::new(agents))
    }
}

#[tonic::async_trait]
impl AgentService for Served {
    type ConnectStream = Unboxed;
    type FetchStream = ReceiverStream<Result<flotilla_proto::agent::v1::Chunk, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let admitted = self.0.known(&request).await?;
        let mut inbound = request.into_inner();
        // One message of room: the agent's own pace decides when the next state is made.
        let (outbound_tx, outbound_rx) = mpsc::channel(1);
        let service = self.0.clone();
        let span = info_span!("agent stream", cluster.name = %admitted.name, cluster.id = %admitted.cluster);
        tokio::spawn(
            async move {
                if let Err(status) = service.run(&admitted, &mut inbound, &outbound_tx).await {
                    let _ = timeout(HELLO_TIMEOUT, outbound_tx.send(Err(status))).await;
                }
            }
            .instrument(span),
        );
        Ok(Response::new(
            ReceiverStream::new(outbound_rx).map(unboxed as fn(_) -> _),
        ))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let admitted = self.0.admit(&request).await?;
        let (cluster, epoch) = (admitted.cluster, request.get_ref().epoch);
        // Whoever copied the identity has no stream: the cluster's UID was checked when that was opened.
        if admitted.epoch != Some(epoch) {
            return Err(Status::failed_precondition(
                "content goes to the agent whose stream holds the cluster: open one first",
            ));
        }
        let Some(turn) = self.0.streams.fetch(cluster) else {
            return Err(Status::resource_exhausted(
                "too many fetches of one cluster at once",
            ));
        };
        let (chunks_tx, chunks_rx) = mpsc::channel(4);
        let fetcher = self.0.fetcher.clone();
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(status) = fetcher.serve(cluster, request.into_inner(), &chunks_tx).await {
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
        outbound: &Outbound,
    ) -> Result<(), Status> {
        // What opens a stream is much larger than what serves it for an hour, and is let go of here.
        let session = Box::pin(self.open(admitted, inbound, outbound)).await?;
        let epoch = session.epoch;
        let result = session.run(inbound, outbound).await;
        self.streams.closed(admitted.cluster, epoch);
        tokio::spawn(session::close(self.closings.clone(), admitted.cluster, epoch));
        info!(epoch, "agent disconnected");
        result
    }

    async fn open<'a>(
        &'a self,
        admitted: &'a Admitted,
        inbound: &mut Streaming<AgentMessage>,
        outbound: &Outbound,
    ) -> Result<Box<Session<'a>>, Status> {
        let hello = bounded(expect_hello(inbound).await?);
        let now = OffsetDateTime::now_utc();
        if admitted
            .cluster_uid
            .as_deref()
            .is_some_and(|uid| uid != hello.cluster_uid)
        {
            let seen = format!(
                "an agent in another cluster shows this cluster's identity, which was copied: one whose namespace kube-system \
                 has the UID {:?}",
                hello.cluster_uid
            );
            self.doubt(admitted, Sign::AnotherCluster, &seen, now).await?;
            return Err(Status::permission_denied("not admitted"));
        }
        if admitted.is_replaced {
            let seen = "an agent in this cluster shows a certificate that another has come after: its state is a copy, or was \
                        put back";
            self.doubt(admitted, Sign::Replaced, seen, now).await?;
            return Err(not_admitted());
        }
        let watched = self.index.watch(admitted.cluster);
        let opening = opening(admitted, &hello, &self.replica, now);
        let opened = self.openings.ask(opening).await.map_err(from_store)?;
        if opened.is_quarantined {
            tokio::spawn(session::close(
                self.closings.clone(),
                admitted.cluster,
                opened.epoch,
            ));
            return Err(not_admitted());
        }
        if let Some(head) = opened.head {
            self.index.found(admitted.cluster, head);
        }
        let close = self.streams.open(admitted.cluster, opened.epoch, now);
        info!(epoch = opened.epoch, agent.version = %hello.agent_version, agent.instance = %hello.boot_id, "agent connected");
        let welcome = Welcome {
            epoch: opened.epoch,
            incarnation: self.incarnation,
            report_everything: opened.report_everything,
            hub_version: env!("CARGO_PKG_VERSION").into(),
            cluster_name: admitted.name.clone(),
            clock_ms: ms(now),
            observed_root: opened.observed_root.into(),
            conditions: Some(wrong(opened.wrong)),
        };
        let _ = outbound
            .send(Ok(message(hub_message::Kind::Welcome(welcome))))
            .await;
        Ok(Box::new(Session {
            service: self,
            cluster: admitted.cluster,
            cluster_name: &admitted.name,
            at_hello: held(&hello),
            // What was forgotten since is in no change of what it holds.
            sent: if opened.was_put_back {
                Held::NOTHING
            } else {
                held(&hello)
            },
            last_told: (hello.incarnation, hello.generation, String::new()),
            // Of what it has said nothing else is kept: its other texts share a buffer.
            boot_id: hello.boot_id,
            epoch: opened.epoch,
            sent_whole: false,
            was_put_back: opened.was_put_back,
            problems: BTreeMap::new(),
            refusal: None,
            ahead: false,
            ends_at: Instant::now() + age(admitted.cluster, opened.epoch),
            watched,
            close,
        }))
    }
}

/// What the hub judges of an agent that has come: its clock.
fn judged(hello: &Hello, now: OffsetDateTime) -> Vec<ConditionRow> {
    let message = clock_message(hello.clock_ms, ms(now)).unwrap_or_default();
    vec![ConditionRow::new("Clock", message, now)]
}

/// What is stored as wrong, as an agent has told it.
fn wrong(conditions: Vec<(String, String)>) -> WrongConditions {
    let condition = |(kind, message): (String, String)| {
        Some(ClusterCondition {
            kind: condition_kind(&kind)?.into(),
            ok: false,
            message,
            since_ms: 0,
        })
    };
    WrongConditions {
        conditions: conditions.into_iter().filter_map(condition).collect(),
    }
}

/// Says how far an agent's clock is off; nothing while it is near, or not told.
fn clock_message(clock_ms: i64, now_ms: i64) -> Option<String> {
    (clock_ms != 0)
        .then(|| clock::apart(Timestamp(clock_ms), Timestamp(now_ms)))
        .flatten()
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
        root: match hello.root.len() {
            32 => hello.root,
            _ => Bytes::new(),
        },
        observed_root: match hello.observed_root.len() {
            32 => hello.observed_root,
            // No digest: whatever it stands for, all is to be reported.
            _ => Bytes::new(),
        },
        ..hello
    }
}

fn opening(admitted: &Admitted, hello: &Hello, replica: &str, now: OffsetDateTime) -> Opening {
    Opening {
        cluster_id: admitted.cluster,
        cluster_name: admitted.name.clone(),
        boot_id: hello.boot_id.clone(),
        replica: replica.to_owned(),
        agent_version: hello.agent_version.clone(),
        kube_version: hello.kube_version.clone(),
        incarnation: hello.incarnation,
        generation: hello.generation,
        root: hello.root.to_vec(),
        observed_root: hello.observed_root.to_vec(),
        epoch_seen: hello.epoch_seen,
        judged: judged(hello, now),
        now,
    }
}

/// What is sent to an agent. Boxed: a channel holds room for 32 messages, whatever its bound.
type Outbound = mpsc::Sender<Result<Box<HubMessage>, Status>>;

/// The same, on its way.
type Unboxed = futures::stream::Map<
    ReceiverStream<Result<Box<HubMessage>, Status>>,
    fn(Result<Box<HubMessage>, Status>) -> Result<HubMessage, Status>,
>;

fn unboxed(message: Result<Box<HubMessage>, Status>) -> Result<HubMessage, Status> {
    message.map(|message| *message)
}

fn message(kind: hub_message::Kind) -> Box<HubMessage> {
    Box::new(HubMessage { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ten thousand streams each holds it for an hour.
    #[test]
    fn what_serves_a_stream_is_small_and_what_opens_it_is_let_go_of() {
        fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        type Run<F> = fn(
            &'static Agents,
            &'static Admitted,
            &'static mut Streaming<AgentMessage>,
            &'static Outbound,
        ) -> F;
        let run = size(Agents::run as Run<_>);
        assert!(run <= 3 << 10, "{run}");
    }

    #[test]
    fn an_agent_that_does_not_tell_its_clock_is_not_said_to_be_off() {
        let now = 1_800_000_000_000;
        assert_eq!(clock_message(0, now), None);
        assert_eq!(clock_message(now, now), None);
        assert!(clock_message(1, now).is_some_and(|text| text.contains("days behind")));
    }
}
