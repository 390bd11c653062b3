//! What somebody without a credential can take of the hub's port: nothing that others need.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use flotilla_proto::tls::HubVerifier;
use futures::stream;
use tokio::io::AsyncWriteExt as _;
use tokio::{io::AsyncReadExt as _, net::TcpSocket, time::timeout};
use tonic::{Code, body::Body};
use tower::{Service as _, ServiceExt as _};

use crate::{
    enrol::admitted,
    hub::{Hub, TRUST_DOMAIN, csr},
};

const SOON: Duration = Duration::from_secs(10);

/// A body of which a little comes, and then nothing.
fn unfinished() -> Body {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1024]))]);
    let body = futures::StreamExt::chain(first, stream::pending());
    Body::new(axum::body::Body::from_stream(body))
}

#[tokio::test]
async fn a_call_without_credential_is_answered_before_its_body_is_read() {
    let hub = Hub::start().await;
    let mut channel = hub.channel().await;
    for path in [
        "/flotilla.fleet.v1.FleetService/Apply",
        "/flotilla.agent.v1.AgentService/Fetch",
        "/flotilla.enroll.v1.EnrollService/Renew",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .body(unfinished())
            .expect("a request");
        let called = async { channel.ready().await?.call(request).await };
        let answer = timeout(SOON, called).await.expect(path).expect("answered");
        let code = answer
            .headers()
            .get("grpc-status")
            .map(|code| code.to_str().expect("text").to_owned());
        assert_eq!(code, Some((Code::Unauthenticated as i32).to_string()), "{path}");
    }
}

#[tokio::test]
async fn a_flood_of_unknown_join_tokens_is_refused_and_leaves_no_rows() {
    let hub = Hub::start().await;
    let good = hub.join_token("c1").await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = csr(&key);
    let before = hub.world.count("SELECT count(*) FROM audit").await;
    let mut codes = Vec::new();
    for number in 0..40 {
        let token = format!("flt1.{number:020x}.{number:064x}");
        let refused = hub
            .enrol_with(&token, request.clone(), "uid")
            .await
            .expect_err("unknown");
        codes.push(refused.code());
    }
    assert!(codes.starts_with(&[Code::PermissionDenied; 20]), "{codes:?}");
    // Not the last for certain: on a slow machine attempts come back meanwhile.
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
    assert_eq!(hub.world.count("SELECT count(*) FROM audit").await, before);
    let log = std::fs::read_to_string(hub.world.dir.path().join("log")).expect("a log");
    assert!(log.matches("refused").count() < 5, "{log}");
    // Who has a token gets in as soon as the flood ends.
    let enrolled = flotilla_testkit::wait_until("a place", SOON, async || {
        match hub.enrol_with(&good, request.clone(), "uid").await {
            Ok(enrolled) => Ok(Some(enrolled)),
            Err(status) => Err(status),
        }
    });
    assert_eq!(enrolled.await.expect("enrolled").cluster_name, "c1");
}

#[tokio::test]
async fn what_a_stranger_writes_into_a_token_reaches_no_log() {
    let hub = Hub::start().await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let token = format!("flt1.\n9 ERROR hub: DOWN\u{1b}[.{}", "0".repeat(64));
    let refused = hub
        .enrol_with(&token, csr(&key), "uid")
        .await
        .expect_err("no token");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let good = hub.join_token("c1").await;
    let refused = hub
        .enrol_with(&good, csr(&key), "uid\n9 ERROR")
        .await
        .expect_err("no UID");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let log = std::fs::read_to_string(hub.world.dir.path().join("log")).expect("a log");
    assert!(!log.contains("DOWN") && !log.contains("9 ERROR"), "{log}");
}

#[tokio::test]
async fn silent_connections_of_one_address_keep_nobody_else_out_and_are_closed() {
    flotilla_hub::process::raise_descriptors();
    let hub = Hub::start().await;
    let address = hub.address();
    let mut silent = Vec::new();
    // More than one address may have.
    for _ in 0..1200 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())
            .expect("bound");
        let connected = timeout(SOON, socket.connect(address)).await.expect("taken");
        silent.push(connected.expect("connected"));
    }
    timeout(SOON, hub.dial_from(IpAddr::from(Ipv4Addr::LOCALHOST)))
        .await
        .expect("in time")
        .expect("another address is let in");
    // Whoever says nothing is gone soon: the same address is let in as well.
    for mut stream in silent {
        let mut byte = [0; 1];
        let ended = timeout(SOON, stream.read(&mut byte))
            .await
            .expect("closed in time");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    timeout(SOON, hub.dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2))))
        .await
        .expect("in time")
        .expect("let in");
}

#[tokio::test]
async fn handshakes_of_one_address_that_do_not_go_on_keep_nobody_else_out() {
    flotilla_hub::process::raise_descriptors();
    let hub = Hub::start().await;
    let mut held = Vec::new();
    // More than one address may have under way: the others wait in line behind them.
    for _ in 0..600 {
        let mut one = idle(hub.address(), Ipv4Addr::new(127, 0, 0, 2), 1).await;
        // The first byte of a handshake, of which no more comes.
        one[0].write_all(&[22]).await.expect("sent");
        held.append(&mut one);
    }
    timeout(
        Duration::from_secs(5),
        hub.dial_from(IpAddr::from(Ipv4Addr::LOCALHOST)),
    )
    .await
    .expect("before the others are given up")
    .expect("another address is let in");
    for mut stream in held {
        let ended = timeout(2 * SOON, stream.read(&mut [0; 64])).await;
        assert!(ended.is_ok(), "given up in time");
    }
    timeout(SOON, hub.dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2))))
        .await
        .expect("in time")
        .expect("let in");
}

#[tokio::test]
async fn addresses_that_fill_the_door_together_keep_no_agent_and_nobody_else_out() {
    flotilla_hub::process::raise_descriptors();
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    admitted(&hub, Some(agent.identity())).await.expect("admitted");
    let mut held = Vec::new();
    for of in 2..=6 {
        // All handshakes that may be under way, of which no more comes than the first byte.
        let mut begun = idle(hub.address(), Ipv4Addr::new(127, 0, 0, of), 250).await;
        for one in &mut begun {
            one.write_all(&[22]).await.expect("sent");
        }
        held.append(&mut begun);
    }
    for of in 2..=6 {
        held.append(&mut idle(hub.address(), Ipv4Addr::new(127, 0, 0, of), 900).await);
    }
    // From where an agent came before: at once.
    timeout(Duration::from_secs(5), admitted(&hub, Some(agent.identity())))
        .await
        .expect("before the others are given up")
        .expect("admitted");
    // From elsewhere: with the next handshake that is given up.
    timeout(2 * SOON, hub.dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, 9))))
        .await
        .expect("in time")
        .expect("let in");
}

/// Connections from one address of ours that say nothing more.
async fn idle(address: SocketAddr, from: Ipv4Addr, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("bound");
        if let Ok(Ok(stream)) = timeout(SOON, socket.connect(address)).await {
            held.push(stream);
        }
    }
    held
}

#[tokio::test]
async fn frames_without_content_are_cut_off_and_others_are_answered() {
    let hub = Hub::start().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HubVerifier::new(vec![hub.pin], TRUST_DOMAIN)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(hub.address())
        .await
        .expect("connected");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.expect("TLS");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("sent");
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .expect("settings");
    // The smallest window update of the connection, which stays within its bound for long.
    let update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let many = update.repeat(1000);
    let flood = async {
        for _ in 0..1000 {
            if stream.write_all(&many).await.is_err() {
                return true;
            }
        }
        false
    };
    let cut_off = timeout(Duration::from_secs(120), flood).await.expect("in time");
    assert!(cut_off, "a million frames were taken");
    assert!(
        hub.fleet()
            .await
            .get_version(hub.authorized(flotilla_proto::fleet::v1::GetVersionRequest {}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_full_port_for_webhooks_leaves_probes_and_other_addresses_answered() {
    let hub = Hub::start().await;
    let hooks = hub.hooks();
    let _held = idle(hooks, Ipv4Addr::new(127, 0, 0, 2), 400).await;
    assert_eq!(hub.health("/healthz").await.0, 200);
    let client = reqwest::Client::builder()
        .timeout(SOON)
        .build()
        .expect("a client");
    let answer = client.post(format!("http://{hooks}/hook/none")).send().await;
    assert_eq!(answer.expect("answered").status(), 404);
    // What is told of the hub is not told where anybody may call.
    let answer = client.get(format!("http://{hooks}/metrics")).send().await;
    assert_eq!(answer.expect("answered").status(), 404);
}

#[tokio::test]
async fn descriptors_are_left_when_one_address_takes_all_it_can() {
    let hub = Hub::start_with(Some(600)).await;
    let mut channels = Vec::new();
    for _ in 0..60 {
        channels.push(hub.dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2))).await);
    }
    let _silent = idle(hub.address(), Ipv4Addr::new(127, 0, 0, 2), 700).await;
    assert_eq!(hub.health("/readyz").await, (200, "ok\n".to_owned()));
    timeout(SOON, hub.dial_from(IpAddr::from(Ipv4Addr::LOCALHOST)))
        .await
        .expect("in time")
        .expect("another address is let in");
    assert!(!hub.log().contains("Too many open files"), "{}", hub.log());
}
