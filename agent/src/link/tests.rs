//! The link as a whole, against a hub that the test plays over TLS.

use flotilla_core::clock::Timestamp;
use flotilla_proto::agent::v1::{
    AgentMessage, Chunk, FetchRequest, Hello, HubMessage, Welcome, agent_message,
    agent_service_server::{AgentService, AgentServiceServer},
    hub_message,
};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{accept::Acceptance, channel::tests::hub_tls, identity::PrivateKey, watchdog::KubeVersion, *};
use crate::{
    ledger::{Ledger, key_value::KeyValue, memory::Memory},
    ledger_watch::LedgerWatch,
    logs::Logs,
    reconcile::Nudge,
    report::Reports,
};

mod joining;

const PATIENCE: Duration = Duration::from_secs(20);

/// A hub that welcomes, tells what its clock reads, and has nothing more to say.
struct Hub {
    clock_ms: i64,
    hellos: mpsc::Sender<Hello>,
}

#[tonic::async_trait]
impl AgentService for Hub {
    type ConnectStream = ReceiverStream<Result<HubMessage, Status>>;
    type FetchStream = ReceiverStream<Result<Chunk, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut inbound = request.into_inner();
        let (tx, rx) = mpsc::channel(1);
        let (hellos, clock_ms) = (self.hellos.clone(), self.clock_ms);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let Some(agent_message::Kind::Hello(hello)) = message.kind else {
                    continue;
                };
                let welcome = Welcome {
                    epoch: 1,
                    clock_ms,
                    ..Welcome::default()
                };
                let kind = Some(hub_message::Kind::Welcome(welcome));
                let _ = tx.send(Ok(HubMessage { kind })).await;
                let _ = hellos.send(hello).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn fetch(&self, _: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("nothing to fetch"))
    }
}

type Connection = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// Where agents reach a hub.
struct Listening {
    address: HubAddress,
    connections: BoxStream<'static, std::io::Result<Connection>>,
}

/// Listens as a hub whose certificate is valid in these years.
async fn listen(years: (i32, i32)) -> Listening {
    let (tls, pin) = hub_tls(years.0, years.1, "fleet.test");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("https://{}", listener.local_addr().expect("an address"));
    let connections = TcpListenerStream::new(listener).filter_map(move |stream| {
        let tls = tls.clone();
        // A handshake that the agent breaks off is no connection.
        async move { Some(Ok::<_, std::io::Error>(tls.accept(stream.ok()?).await.ok()?)) }
    });
    Listening {
        address: HubAddress {
            endpoints: vec![endpoint],
            pins: vec![pin],
            trust_domain: "fleet.test".to_owned(),
        },
        connections: connections.boxed(),
    }
}

/// A hub whose certificate is valid in these years. Returns where it is, and the hellos that it gets.
async fn hub(years: (i32, i32), clock_ms: i64) -> (HubAddress, mpsc::Receiver<Hello>) {
    let listening = listen(years).await;
    let (hellos, received) = mpsc::channel(8);
    let service = AgentServiceServer::new(Hub { clock_ms, hellos });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(listening.connections),
    );
    (listening.address, received)
}

/// An identity that is good for some years.
async fn identity(cells: Arc<dyn KeyValue>) -> IdentityCell {
    let key = PrivateKey::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2900, 1, 1);
    let pair = rcgen::KeyPair::from_pem(key.pem()).expect("a key");
    let leaf = params.self_signed(&pair).expect("a certificate");
    let chain = [leaf.der().to_vec().into()];
    let certified = Certified::new(("id", "name", "fleet.test"), 1, key, &chain, &[]).expect("an identity");
    let mut identity = IdentityCell::open(cells, "identity").await.expect("opens");
    identity.certify(certified).await.expect("stored");
    identity
}

async fn link(hub: HubAddress) -> Link {
    let cells: Arc<dyn KeyValue> = Arc::new(Memory::default());
    let ledger = Ledger::open(cells.clone(), "ledger").await.expect("opens");
    let reports = Arc::new(Reports::default());
    let session = Session {
        ledger: Arc::new(ledger),
        ledger_watch: Arc::new(LedgerWatch::new(reports.clone(), system_clock())),
        reports,
        nudge: Arc::new(Nudge::default()),
        clock: system_clock(),
        cluster_uid: "uid".to_owned(),
        kube_version: KubeVersion::default(),
        boot_id: "boot".to_owned(),
        acceptance: Acceptance::default(),
    };
    Link {
        hub,
        token: JoinToken::None,
        identity: identity(cells).await,
        session,
        state: link_state().0,
    }
}

#[tokio::test]
async fn r12_a_clock_too_far_off_for_the_hubs_certificate_is_told_to_the_hub_and_logged_once_a_minute() {
    let logs = Logs::collect();
    let day = 24 * 3600 * 1000;
    let Timestamp(now) = system_clock().now();
    // To this hub it is three days later, and its certificate has only begun.
    let (address, mut hellos) = hub((2900, 2901), now + 3 * day + day / 2).await;
    let mut link = link(address).await;
    let state = link.state.subscribe();
    let stop = CancellationToken::new();
    let told = stop.clone();
    let running = tokio::spawn(async move { link.run(&told).await });
    let hello = tokio::time::timeout(PATIENCE, hellos.recv()).await;
    let hello = hello.expect("it is told").expect("a hello");
    assert!((hello.clock_ms - now).abs() < day, "what this clock reads");
    let logged = async {
        while logs.with("clock is").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, logged)
        .await
        .expect("it is logged");
    let lines = logs.with("clock is");
    assert!(
        lines.len() == 1 && lines[0].starts_with("ERROR") && lines[0].contains("3 days behind the hub's"),
        "{lines:?}"
    );
    // Nothing is taken from such a hub, and the next try is a minute away.
    assert!(hellos.try_recv().is_err());
    assert_ne!(
        *state.borrow(),
        LinkState::Connected {
            cluster: String::new()
        }
    );
    stop.cancel();
    running.await.expect("no panic").expect("it stops");
}

#[tokio::test]
async fn r12_a_clock_that_is_off_though_the_certificate_is_valid_is_logged() {
    let logs = Logs::collect();
    let Timestamp(now) = system_clock().now();
    let (address, mut hellos) = hub((2020, 2900), now - 3 * 3600 * 1000).await;
    let mut link = link(address).await;
    let mut state = link.state.subscribe();
    let stop = CancellationToken::new();
    let told = stop.clone();
    let running = tokio::spawn(async move { link.run(&told).await });
    tokio::time::timeout(PATIENCE, hellos.recv())
        .await
        .expect("in time")
        .expect("a hello");
    let connected = state.wait_for(|state| matches!(state, LinkState::Connected { .. }));
    tokio::time::timeout(PATIENCE, connected)
        .await
        .expect("in time")
        .expect("connected");
    let lines = logs.with("clock is");
    assert!(
        lines.len() == 1 && lines[0].starts_with("WARN") && lines[0].contains("hours ahead of the hub's"),
        "{lines:?}"
    );
    stop.cancel();
    running.await.expect("no panic").expect("it stops");
}

#[test]
fn clusters_begin_at_different_endpoints_and_keep_to_one_that_serves() {
    let uid = |n: u128| uuid::Uuid::from_u128(n).to_string();
    for endpoints in [2, 3, 5] {
        let mut counts = vec![0; endpoints];
        for n in 0..1000 {
            counts[Tries::of(&uid(n)).turn % endpoints] += 1;
        }
        let fair = 1000 / endpoints;
        assert!(
            counts
                .iter()
                .all(|count| (fair * 8 / 10..=fair * 12 / 10).contains(count)),
            "{counts:?}"
        );
    }
    let mut tries = Tries::of(&uid(1));
    let first = tries.turn;
    assert_eq!(Tries::of(&uid(1)).turn, first, "the same after a restart");
    tries.ended(Duration::from_secs(3600), true);
    assert_eq!(
        (tries.turn, tries.failures),
        (first, 0),
        "the hub ends each stream after an hour"
    );
}

#[test]
fn an_endpoint_that_fails_is_left_until_a_stream_at_another_has_ended_by_age() {
    let mut tries = Tries::of("a cluster");
    let (first, second, hour) = (tries.turn, Duration::from_secs(1), Duration::from_secs(3600));
    tries.ended(second, false);
    tries.ended(second, true);
    assert_eq!((tries.turn, tries.failures), (first.wrapping_add(2), 2));
    tries.ended(hour, false);
    assert_eq!(
        (tries.turn, tries.failures),
        (first.wrapping_add(3), 0),
        "a call that hangs is long, too"
    );
    tries.ended(hour, true);
    assert_eq!((tries.turn, tries.failures), (first, 0));
}

#[test]
fn agents_whose_hub_restarts_come_back_within_seconds_and_few_of_them_in_vain() {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let (least, most) = (0, u64::MAX);
    let whole = |wait: Duration| (wait + Duration::from_millis(1)).as_secs();
    let waits = |tries: &Tries| (whole(tries.wait(least)), whole(tries.wait(most)));
    let mut tries = Tries::of("a cluster");
    tries.ended(hour, false);
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(waits(&tries));
        tries.ended(second, false);
    }
    let doubling = [(0, 16), (0, 32), (0, 60)];
    assert_eq!(seen[..5], [(0, 3), (2, 4), (4, 8), (4, 8), (4, 8)]);
    assert_eq!(seen[5..], doubling);
    // One hub that ends a stream by its age, and a cluster that has just begun, meet nobody else.
    tries.ended(hour, true);
    assert_eq!(waits(&tries), (0, 1));
    tries.ended(second, false);
    assert_eq!(waits(&tries), (0, 1));
    assert_eq!(waits(&Tries::of("another")), (0, 1));
    // A certificate that was renewed begins afresh, too.
    tries.ended(hour, false);
    tries.succeeded();
    assert_eq!(waits(&tries), (0, 1));
}

#[test]
fn an_agent_that_is_displaced_in_a_row_leaves_the_stream_alone_for_longer_each_time() {
    let mut displaced = Displaced::default();
    let mut seconds = |kept: u64| displaced.wait(Duration::from_secs(kept)).as_secs();
    let waits: Vec<u64> = (0..6).map(|_| seconds(90)).collect();
    assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
    assert_eq!(seconds(3600), 60, "that was another time");
}
