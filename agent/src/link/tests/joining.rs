//! Joining, and joining again after the certificate was revoked.

use std::sync::Mutex;

use flotilla_core::{digest::Digest, id::UnitId, unit::Entry};
use flotilla_proto::enroll::v1::{
    ChallengeRequest, ChallengeResponse, EnrollRequest, EnrollResponse, RecoverRequest, RenewRequest,
    RenewResponse,
    enroll_service_server::{EnrollService, EnrollServiceServer},
};

use serde_json::json;

use super::*;
use crate::ledger::record::{Accepted, Record};

/// What agents asked of a hub, and what it takes.
#[derive(Default)]
struct Desk {
    /// The token that is good now.
    good: String,
    /// Tokens and recovery keys of all attempts.
    asked: Vec<(String, Vec<u8>)>,
    /// Whether streams are admitted; so are they once somebody has enrolled.
    admits: bool,
    /// The cluster that a token is for.
    cluster: &'static str,
}

#[derive(Clone)]
struct Gate(Arc<Mutex<Desk>>);

#[tonic::async_trait]
impl EnrollService for Gate {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let request = request.into_inner();
        let mut desk = self.0.lock().expect("a desk");
        desk.asked
            .push((request.token.clone(), request.recovery_public_key.to_vec()));
        if request.token != desk.good {
            return Err(Status::permission_denied("the join token was refused"));
        }
        desk.admits = true;
        let mut root = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let root = rcgen::CertifiedIssuer::self_signed(root, key).expect("a root");
        let csr = request.csr.to_vec().into();
        let mut csr = rcgen::CertificateSigningRequestParams::from_der(&csr).expect("a request");
        csr.params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        csr.params.not_after = rcgen::date_time_ymd(2900, 1, 1);
        let leaf = csr.signed_by(&root).expect("a leaf");
        Ok(Response::new(EnrollResponse {
            cluster_id: desk.cluster.to_owned(),
            cluster_name: "again".to_owned(),
            trust_domain: "fleet.test".to_owned(),
            identity_generation: 2,
            certificate_chain: vec![leaf.der().to_vec().into()],
            ..EnrollResponse::default()
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("nothing to renew"))
    }

    async fn challenge(&self, _: Request<ChallengeRequest>) -> Result<Response<ChallengeResponse>, Status> {
        Err(Status::unimplemented("nothing to recover"))
    }

    async fn recover(&self, _: Request<RecoverRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("nothing to recover"))
    }
}

/// A hub that admits as its desk says.
async fn hub_with(desk: &Arc<Mutex<Desk>>) -> HubAddress {
    let listening = listen((2020, 2900)).await;
    let Timestamp(clock_ms) = system_clock().now();
    let hub = Hub {
        clock_ms,
        hellos: mpsc::channel(1).0,
    };
    let gate = Gate(desk.clone());
    let admitting = desk.clone();
    let agents = AgentServiceServer::with_interceptor(hub, move |request| {
        if admitting.lock().expect("a desk").admits {
            Ok(request)
        } else {
            Err(Status::unauthenticated("not admitted"))
        }
    });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(EnrollServiceServer::new(gate))
            .add_service(agents)
            .serve_with_incoming(listening.connections),
    );
    listening.address
}

/// A link that is run until the state is as wanted.
async fn until(link: &mut Link, wanted: impl FnMut(&LinkState) -> bool) -> LinkState {
    let mut states = link.state.subscribe();
    let stop = CancellationToken::new();
    let state = tokio::select! {
        ended = link.run(&stop) => panic!("{ended:?}"),
        state = tokio::time::timeout(PATIENCE, states.wait_for(wanted)) => {
            state.expect("in time").expect("a state").clone()
        }
    };
    state
}

fn broken(state: &LinkState) -> bool {
    matches!(state, LinkState::Broken(_))
}

fn connected(state: &LinkState) -> bool {
    matches!(state, LinkState::Connected { .. })
}

/// A link without an identity, to a hub that takes one token.
async fn unjoined() -> (Arc<Mutex<Desk>>, Link) {
    let desk = Arc::new(Mutex::new(Desk {
        good: "first".to_owned(),
        ..Desk::default()
    }));
    let mut link = link(hub_with(&desk).await).await;
    link.identity = IdentityCell::open(Arc::new(Memory::default()), "identity")
        .await
        .expect("opens");
    (desk, link)
}

#[tokio::test]
async fn a_join_token_that_comes_after_the_agent_is_taken() {
    let logs = Logs::collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let (desk, mut link) = unjoined().await;
    link.token = JoinToken::File(file.clone());
    let name = file.display().to_string();
    let stop = CancellationToken::new();
    let logged = async {
        while logs.with(&name).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = link.run(&stop) => panic!("{ended:?}"),
        logged = tokio::time::timeout(PATIENCE, logged) => logged.expect("the missing file is named"),
    }
    assert!(desk.lock().expect("a desk").asked.is_empty());
    // One that the hub refuses is named too.
    std::fs::write(&file, "mistyped\n").expect("written");
    let LinkState::Broken(why) = until(&mut link, broken).await else {
        panic!("not broken");
    };
    assert!(why.contains(&name) && why.contains("refused"), "{why}");
    std::fs::write(&file, "first\n").expect("written");
    until(&mut link, connected).await;
    assert_eq!(link.identity.get().token, Some(enrol::token_digest("first")));
}

#[tokio::test]
async fn a_revoked_cluster_joins_again_with_a_new_token_and_new_keys_and_never_with_the_used_one() {
    let (desk, mut link) = unjoined().await;
    link.token = JoinToken::Value("first".to_owned());
    until(&mut link, connected).await;
    let old = link.identity.get().clone();
    {
        let mut desk = desk.lock().expect("a desk");
        (desk.admits, desk.good) = (false, "second".to_owned());
    }
    link.state.send_replace(LinkState::Away);
    let LinkState::Broken(why) = until(&mut link, broken).await else {
        panic!("not broken");
    };
    assert!(
        why.contains("flotilla cluster token NAME --replace") && why.contains("--token"),
        "{why}"
    );
    assert_eq!(desk.lock().expect("a desk").asked.len(), 1, "shown once");
    // A token that the hub refuses costs nothing of what is here.
    link.token = JoinToken::Value("mistyped".to_owned());
    link.state.send_replace(LinkState::Away);
    until(&mut link, broken).await;
    let kept = link
        .identity
        .get()
        .certified
        .as_ref()
        .expect("kept")
        .key
        .pem()
        .to_owned();
    assert_eq!(kept, old.certified.as_ref().expect("an identity").key.pem());
    link.token = JoinToken::Value("second".to_owned());
    link.state.send_replace(LinkState::Away);
    until(&mut link, connected).await;
    let now = link.identity.get();
    assert_eq!(now.token, Some(enrol::token_digest("second")));
    assert_ne!(now.certified.as_ref().expect("an identity").key.pem(), kept);
    let asked = desk.lock().expect("a desk").asked.clone();
    let tokens: Vec<&str> = asked.iter().map(|(token, _)| token.as_str()).collect();
    assert_eq!(tokens, ["first", "mistyped", "second"]);
    assert_ne!(asked[0].1, asked[2].1, "whoever has the old recovery key is out");
}

#[tokio::test]
async fn who_joins_as_another_cluster_lets_go_of_what_it_was_given_and_who_joins_as_the_same_keeps_it() {
    let unit = UnitId(uuid::Uuid::from_u128(7));
    let entry = json!({
        "unit": unit, "version": 1, "content": Digest::of("content", b""), "target": Digest::of("target", b""),
        "state": {"type": "active"}, "app": {"uid": unit, "kind": "Kustomization", "namespace": "apps", "name": "app"},
        "settings": {"interval": 60000, "retryInterval": 60000, "timeout": 60000},
    });
    let entry: Entry = serde_json::from_value(entry).expect("an entry");
    for (second, is_kept) in [("one", true), ("two", false)] {
        let (desk, mut link) = unjoined().await;
        desk.lock().expect("a desk").cluster = "one";
        link.token = JoinToken::Value("first".to_owned());
        until(&mut link, connected).await;
        let ledger = link.session.ledger.clone();
        let before = ledger.read(|state| state.accepted);
        assert!(before.cluster.is_some());
        let offered = Record::Offered {
            unit,
            entry: entry.to_bytes().into(),
            at: Timestamp(1),
        };
        let accepted = Record::Accepted(Accepted {
            incarnation: 3,
            generation: 9,
            ..before
        });
        ledger.append(vec![offered, accepted]).await.expect("stored");
        {
            let mut desk = desk.lock().expect("a desk");
            (desk.admits, desk.good, desk.cluster) = (false, "second".to_owned(), second);
        }
        link.token = JoinToken::Value("second".to_owned());
        link.state.send_replace(LinkState::Away);
        until(&mut link, connected).await;
        let (accepted, units) = ledger.read(|state| (state.accepted, state.units.len()));
        assert_eq!(
            (accepted.generation, units),
            if is_kept { (9, 1) } else { (0, 0) },
            "{second}"
        );
        assert_eq!(accepted.cluster == before.cluster, is_kept);
        assert!(accepted.epoch >= before.epoch);
    }
}
