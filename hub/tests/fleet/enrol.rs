//! Enrolment over TLS: a token gives one key one identity, names are the hub's alone, and only the certificates in
//! force open the agent's port.

use flotilla_hub::{
    auth::{ca::Authority, token},
    store::enrol::NewToken,
};
use flotilla_proto::agent::v1::{FetchRequest, agent_service_client::AgentServiceClient};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use tonic::{Code, Status, transport::Identity};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::hub::{Agent, Hub, TRUST_DOMAIN, csr, identity, pin};

/// Opens the agent's port as `identity`; admitted when a call is answered, if only by what the agent is to do first.
async fn admitted(hub: &Hub, identity: Option<Identity>) -> Result<(), Status> {
    let channel = hub
        .dial(identity, hub.pin)
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    let answer = AgentServiceClient::new(channel)
        .fetch(FetchRequest::default())
        .await;
    match answer {
        Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
        answer => answer.map(drop),
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

#[tokio::test]
async fn a_token_gives_one_key_one_identity_and_another_key_burns_it() {
    let hub = Hub::start().await;
    let token = hub.join_token("c1").await;
    let key_one = key();
    let first = hub
        .enrol_with(&token, csr(&key_one), "uid")
        .await
        .expect("enrolled");
    // The reply was lost: the same key gets the same identity.
    let again = hub
        .enrol_with(&token, csr(&key_one), "uid")
        .await
        .expect("enrolled again");
    assert_eq!(again.cluster_id, first.cluster_id);
    let serial = |der: &[u8]| {
        X509Certificate::from_der(der)
            .expect("a certificate")
            .1
            .raw_serial()
            .to_vec()
    };
    assert_eq!(
        serial(&first.certificate_chain[0]),
        serial(&again.certificate_chain[0])
    );
    let other = hub
        .enrol_with(&token, csr(&key()), "uid")
        .await
        .expect_err("used");
    assert_eq!(other.code(), Code::PermissionDenied);
    let burnt = hub
        .enrol_with(&token, csr(&key_one), "uid")
        .await
        .expect_err("burnt");
    assert_eq!(burnt.message(), other.message());
    // That is told where people look, once.
    let told = hub
        .world
        .count("SELECT count(*) FROM event WHERE reason = 'JoinToken' AND warning")
        .await;
    assert_eq!(told, 1);
    let shown = hub.world.store.list_clusters("c1", "", 1).await.expect("read");
    assert!(
        shown[0].message.contains("used by two keys"),
        "{}",
        shown[0].message
    );
    // The identity that stands keeps working.
    let chain = vec![first.certificate_chain[0].to_vec()];
    admitted(&hub, Some(identity(&chain, &key_one.serialize_pem())))
        .await
        .expect("admitted");
    assert_eq!(
        hub.world
            .count("SELECT count(*) FROM audit WHERE verb = 'enrol.refused.UsedByAnotherKey'")
            .await,
        2
    );
}

#[tokio::test]
async fn refusals_look_alike_and_bind_nothing() {
    let hub = Hub::start().await;
    let expired = token::make_join_token().expect("a token");
    let new = NewToken {
        id: &expired.id,
        secret_hash: &expired.secret_hash,
        cluster: "late",
        principal: "admin",
        ttl_seconds: -1,
    };
    hub.world.store.create_token(&new).await.expect("recorded");
    let bound = hub.enrol("c1").await;
    // A second token for a cluster that has an identity, and one for a cluster whose UID another has.
    let (rebind, twin) = (hub.join_token("c1").await, hub.join_token("c2").await);
    let good = hub.join_token("c3").await;
    let last = if good.ends_with('0') { "1" } else { "0" };
    let wrong_secret = format!("{}{last}", &good[..good.len() - 1]);
    let unknown = token::make_join_token().expect("a token").text;
    let mut messages = Vec::new();
    for (token, uid) in [
        (expired.text.as_str(), "uid-a"),
        (&rebind, "uid-b"),
        (&twin, &bound.uid),
        (&wrong_secret, "uid-c"),
        (&unknown, "uid-d"),
        ("flt1.x.y", "uid-e"),
    ] {
        let refused = hub.enrol_with(token, csr(&key()), uid).await.expect_err(token);
        messages.push((refused.code(), refused.message().to_owned()));
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(hub.world.count("SELECT count(*) FROM identity").await, 1);
    assert_eq!(
        hub.world
            .count("SELECT count(*) FROM cluster WHERE state = 'Active'")
            .await,
        1
    );
    admitted(&hub, Some(bound.identity()))
        .await
        .expect("the first stays");
    for (verb, audited) in [
        ("Expired", true),
        ("AlreadyBound", true),
        ("ClusterUidTaken", true),
        // Anybody can send any number of them.
        ("UnknownToken", false),
    ] {
        let count = format!("SELECT count(*) FROM audit WHERE verb = 'enrol.refused.{verb}'");
        assert_eq!(hub.world.count(&count).await > 0, audited, "{verb}");
    }
}

#[tokio::test]
async fn a_client_with_another_pin_does_not_speak_to_the_hub() {
    let hub = Hub::start().await;
    assert!(hub.dial(None, hub.pin).await.is_ok());
    assert!(hub.dial(None, pin(&"a".repeat(64))).await.is_err());
}

#[tokio::test]
async fn a_certificate_names_what_the_hub_decides_whatever_is_asked_for() {
    let hub = Hub::start().await;
    let mut asked = CertificateParams::new(vec!["hub.example.org".to_owned()]).expect("names");
    asked.subject_alt_names.push(SanType::URI(
        format!("spiffe://{TRUST_DOMAIN}/hub").try_into().expect("a URI"),
    ));
    asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    asked.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::CodeSigning,
    ];
    let own = key();
    let request = asked.serialize_request(&own).expect("a request").der().to_vec();
    let given = hub
        .enrol_with(&hub.join_token("c1").await, request, "uid")
        .await
        .expect("enrolled");
    let (_, leaf) = X509Certificate::from_der(&given.certificate_chain[0]).expect("a certificate");
    let names = &leaf
        .subject_alternative_name()
        .expect("names")
        .expect("names")
        .value
        .general_names;
    let uri = format!("spiffe://{TRUST_DOMAIN}/cluster/{}", given.cluster_id);
    assert_eq!(names, &[GeneralName::URI(&uri)]);
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().expect("usage").expect("usage").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.code_signing && !usage.any);
    for (name, algorithm) in [("ed25519", &PKCS_ED25519), ("P-384", &PKCS_ECDSA_P384_SHA384)] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let token = hub.join_token(&format!("of-{}", name.to_lowercase())).await;
        let refused = hub.enrol_with(&token, csr(&key), name).await.expect_err(name);
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
    let mut broken = csr(&own);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let refused = hub
        .enrol_with(&hub.join_token("c2").await, broken, "uid-2")
        .await
        .expect_err("a broken signature");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_agents_port_opens_to_agents_certificates_alone() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    admitted(&hub, Some(agent.identity())).await.expect("an agent");
    let none = admitted(&hub, None).await.expect_err("no certificate");
    assert_eq!(none.code(), Code::Unauthenticated);
    let mut named = CertificateParams::default();
    let uri = format!("spiffe://{TRUST_DOMAIN}/cluster/{}", agent.cluster);
    named.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
    let own = key();
    let foreign = named.self_signed(&own).expect("signed").der().to_vec();
    admitted(&hub, Some(identity(&[foreign], &own.serialize_pem())))
        .await
        .expect_err("not our authority's");
    let row = hub
        .world
        .store
        .authority(&hub.world.seal, || Err("there is one"))
        .await
        .expect("the authority");
    let authority = Authority::open(TRUST_DOMAIN, row.certificate, &row.key).expect("opened");
    let server = authority
        .issue_server(&["localhost".to_owned()], OffsetDateTime::now_utc())
        .expect("issued");
    let PrivateKeyDer::Pkcs8(server_key) = &server.key else {
        panic!("PKCS#8")
    };
    let server_key = KeyPair::try_from(server_key.secret_pkcs8_der()).expect("a key");
    let server = identity(&[server.chain[0].to_vec()], &server_key.serialize_pem());
    admitted(&hub, Some(server))
        .await
        .expect_err("a server's certificate");
    // One of our authority for a cluster it never enrolled, and with a serial it never recorded.
    for cluster in [uuid::Uuid::from_u128(5), agent.cluster] {
        let checked = authority.check(&csr(&own)).expect("checked");
        let leaf = authority
            .issue_agent(
                checked,
                cluster,
                &[0x41, 2],
                OffsetDateTime::now_utc(),
                flotilla_hub::auth::ca::AGENT_LIFETIME,
            )
            .expect("issued");
        let refused = admitted(&hub, Some(identity(&[leaf], &own.serialize_pem())))
            .await
            .expect_err("not recorded");
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(refused.message(), none.message());
    }
}

#[tokio::test]
async fn a_renewed_certificate_replaces_the_old_one_at_its_first_use() {
    let hub = Hub::start().await;
    let first = hub.enrol("c1").await;
    let second = first.renew(&hub).await.expect("renewed");
    assert_eq!(second.generation, 2);
    // Until the new one is used both work: a crash in between locks nobody out.
    admitted(&hub, Some(first.identity())).await.expect("the old one");
    admitted(&hub, Some(second.identity()))
        .await
        .expect("the new one");
    let refused = admitted(&hub, Some(first.identity()))
        .await
        .expect_err("replaced");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let clone = Agent {
        generation: 1,
        ..second.renew(&hub).await.expect("renewed")
    };
    let refused = clone.renew(&hub).await.err().expect("an older generation");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_renewal_whose_reply_was_lost_locks_nobody_out() {
    let hub = Hub::start().await;
    let first = hub.enrol("c1").await;
    first.renew(&hub).await.expect("a reply that is lost");
    let second = first.renew(&hub).await.expect("renewed again");
    // The first use of the new certificate is a renewal, and its reply is lost too.
    second.renew(&hub).await.expect("a reply that is lost");
    admitted(&hub, Some(second.identity()))
        .await
        .expect("what the agent holds stays valid");
    second.renew(&hub).await.expect("renewed again");
}
