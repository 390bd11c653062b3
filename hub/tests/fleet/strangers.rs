//! What somebody without a credential can take of the hub's port: nothing that others need.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use axum::body::Bytes;
use futures::stream;
use tokio::{io::AsyncReadExt as _, net::TcpSocket, time::timeout};
use tonic::{Code, body::Body};
use tower::{Service as _, ServiceExt as _};

use crate::hub::{Hub, csr};

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
    assert!(codes.ends_with(&[Code::ResourceExhausted]), "{codes:?}");
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
    let hub = Hub::start().await;
    let address = hub.address();
    let mut silent = Vec::new();
    // More than the kernel keeps waiting: they are taken as they come.
    for _ in 0..800 {
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
