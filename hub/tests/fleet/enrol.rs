//! Enrolment over TLS: a token gives one key one identity, names are the hub's alone, and only the certificates in
//! force open the agent's port.

use flotilla_hub::{
    auth::{ca::Authority, token},
    store::enrol::{Enrolled, Enrolment, NewToken},
};
use flotilla_proto::{
    agent::v1::{FetchRequest, agent_service_client::AgentServiceClient},
    enroll::v1::{EnrollRequest, enroll_service_client::EnrollServiceClient},
    fleet::v1::{ClusterDecision, CreateTokenRequest, DecideClusterRequest},
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Identity};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{
    agent_stream::{Stream, hello},
    hub::{Agent, Hub, PATIENCE, TRUST_DOMAIN, csr, identity, pin, public_key},
    statements::Statements,
    world::World,
};

/// Opens the agent's port as `identity`; admitted when a call is answered, if only by what the agent is to do first.
pub(crate) async fn admitted(hub: &Hub, identity: Option<Identity>) -> Result<(), Status> {
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

async fn decide(hub: &Hub, cluster: &str, decision: ClusterDecision) -> Result<bool, Status> {
    let request = DecideClusterRequest {
        cluster: cluster.into(),
        decision: decision.into(),
    };
    let decided = hub.fleet().await.decide_cluster(hub.authorized(request)).await?;
    Ok(decided.into_inner().changed)
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
    assert_eq!(shown[0].state, "Suspended");
    // The agent that joined gets nothing until a person has said that it is the right one.
    let chain = vec![first.certificate_chain[0].to_vec()];
    let agent = || Some(identity(&chain, &key_one.serialize_pem()));
    let refused = admitted(&hub, agent()).await.expect_err("suspended");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(decide(&hub, "c1", ClusterDecision::Admit).await.expect("decided"));
    assert!(!decide(&hub, "c1", ClusterDecision::Admit).await.expect("decided"));
    admitted(&hub, agent()).await.expect("admitted");
    let shown = hub.world.store.list_clusters("c1", "", 1).await.expect("read");
    assert_eq!(
        (shown[0].state.as_str(), shown[0].message.as_str()),
        ("Active", "")
    );
    assert_eq!(
        hub.world
            .count("SELECT count(*) FROM audit WHERE verb = 'enrol.refused.UsedByAnotherKey'")
            .await,
        2
    );
}

#[tokio::test]
async fn an_enrolment_whose_reply_was_lost_is_repeated_after_the_tokens_time() {
    let hub = Hub::start().await;
    let token = hub.join_token("c1").await;
    let key_one = key();
    let enrol = async |key: &KeyPair| hub.enrol_with(&token, csr(key), "uid").await;
    let first = enrol(&key_one).await.expect("enrolled");
    hub.world
        .execute("UPDATE join_token SET expires_at = now() - interval '1 second'")
        .await;
    let again = enrol(&key_one).await.expect("enrolled again");
    assert_eq!(
        (again.cluster_id, again.identity_generation),
        (first.cluster_id, first.identity_generation)
    );
    // An old token that another shows does no harm, and what is said is what helps.
    let other = enrol(&key()).await.expect_err("expired");
    assert!(other.message().contains("flotilla cluster revoke"), "{other}");
    let chain = vec![again.certificate_chain[0].to_vec()];
    admitted(&hub, Some(identity(&chain, &key_one.serialize_pem())))
        .await
        .expect("admitted");
    // The end of the certificate that was given ends it.
    hub.world
        .execute("UPDATE identity SET expires_at = now() - interval '1 second'")
        .await;
    let late = enrol(&key_one).await.expect_err("too late");
    assert!(late.message().contains("flotilla cluster revoke"), "{late}");
}

#[tokio::test]
async fn refusals_look_alike_to_who_has_no_token_and_bind_nothing() {
    let hub = Hub::start().await;
    let expired = token::make_join_token().expect("a token");
    let new = NewToken {
        id: &expired.id,
        secret_hash: &expired.secret_hash,
        cluster: "late",
        principal: "admin",
        ttl_seconds: -1,
        labelled: None,
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
    // Who has a token's secret is told what is the matter with it.
    for ((_, message), said) in
        messages
            .drain(..3)
            .zip(["its time has passed", "an identity already", "under another name"])
    {
        assert!(message.contains(said), "{message}");
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
                time::Duration::hours(24),
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

#[tokio::test]
async fn renewals_of_one_key_that_cross_give_one_certificate_whichever_is_stored_last() {
    let hub = Hub::start().await;
    let first = hub.enrol("c1").await;
    let key = key();
    let again = || KeyPair::from_pem(&key.serialize_pem()).expect("the key");
    let renewals = (0..4).map(|_| first.renew_with(&hub, again()));
    let renewed = futures::future::join_all(renewals).await;
    let serials: std::collections::BTreeSet<Vec<u8>> = renewed
        .into_iter()
        .map(|one| {
            let one = one.expect("renewed");
            let (_, leaf) = X509Certificate::from_der(&one.chain[0]).expect("a certificate");
            leaf.raw_serial().to_vec()
        })
        .collect();
    assert_eq!(serials.len(), 1, "{serials:?}");
    let last = first.renew_with(&hub, again()).await.expect("renewed");
    admitted(&hub, Some(last.identity())).await.expect("admitted");
}

#[tokio::test]
async fn a_used_token_gives_its_identity_again_only_while_nothing_has_changed_since() {
    let hub = Hub::start().await;
    let token = hub.join_token("c1").await;
    let own = key();
    let first = hub.enrol_with(&token, csr(&own), "uid").await.expect("enrolled");
    let elsewhere = hub.enrol_with(&token, csr(&own), "other").await;
    assert_eq!(
        elsewhere.expect_err("another cluster").code(),
        Code::PermissionDenied
    );
    hub.enrol_with(&token, csr(&own), "uid")
        .await
        .expect("a lost reply");
    let state = |state: &str| format!("UPDATE cluster SET state = '{state}' WHERE name = 'c1'");
    hub.world.execute(&state("Suspended")).await;
    let suspended = hub.enrol_with(&token, csr(&own), "uid").await;
    assert_eq!(suspended.expect_err("suspended").code(), Code::PermissionDenied);
    hub.world.execute(&state("Active")).await;
    let agent = Agent {
        recovery: std::sync::Arc::new(key()),
        cluster: first.cluster_id.parse().expect("a UUID"),
        uid: "uid".into(),
        chain: first.certificate_chain.iter().map(|der| der.to_vec()).collect(),
        generation: first.identity_generation,
        key: KeyPair::from_pem(&own.serialize_pem()).expect("the key"),
    };
    let renewed = agent.renew(&hub).await.expect("renewed");
    let late = hub.enrol_with(&token, csr(&own), "uid").await;
    assert_eq!(late.expect_err("renewed since").code(), Code::PermissionDenied);
    admitted(&hub, Some(renewed.identity()))
        .await
        .expect("it keeps working");
}

#[tokio::test]
async fn a_recovery_key_that_is_none_is_refused_before_anything_is_bound() {
    let hub = Hub::start().await;
    let token = hub.join_token("c1").await;
    let good = public_key(&key());
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let trailing = [&good[..], b"x"].concat();
    for bad in [
        vec![],
        vec![1],
        good[..good.len() - 1].to_vec(),
        trailing,
        public_key(&ed25519),
    ] {
        let request = EnrollRequest {
            token: token.clone(),
            csr: csr(&key()).into(),
            recovery_public_key: bad.into(),
            cluster_uid: "uid".into(),
            agent_version: "0".into(),
        };
        let refused = EnrollServiceClient::new(hub.channel().await)
            .enroll(request)
            .await;
        assert_eq!(refused.expect_err("no key").code(), Code::InvalidArgument);
    }
    assert_eq!(hub.world.count("SELECT count(*) FROM identity").await, 0);
    hub.enrol_with(&token, csr(&key()), "uid")
        .await
        .expect("the token is good");
}

#[tokio::test]
async fn labels_of_a_join_token_are_stored_with_the_cluster_or_nothing_is() {
    let hub = Hub::start().await;
    let create = async |value: &str| {
        let request = CreateTokenRequest {
            cluster: "c1".into(),
            labels: [("tier".to_owned(), value.to_owned())].into(),
            ..CreateTokenRequest::default()
        };
        hub.fleet().await.create_token(hub.authorized(request)).await
    };
    let refused = create("not a label").await.expect_err("no label");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("tier"), "{}", refused.message());
    let stored = "SELECT (SELECT count(*) FROM cluster) + (SELECT count(*) FROM join_token)";
    assert_eq!(
        hub.world.count(stored).await,
        0,
        "the next try makes it, with its labels"
    );
    // The labels fail to be stored: so does the cluster.
    hub.world
        .execute("ALTER TABLE resource ADD CONSTRAINT closed CHECK (kind <> 'Cluster') NOT VALID")
        .await;
    create("gold").await.expect_err("the database refuses it");
    assert_eq!(hub.world.count(stored).await, 0);
    hub.world
        .execute("ALTER TABLE resource DROP CONSTRAINT closed")
        .await;
    create("gold").await.expect("made");
    let shown = hub.world.store.list_clusters("c1", "", 1).await.expect("read");
    assert_eq!(shown[0].labels, serde_json::json!({ "tier": "gold" }));
}

#[tokio::test]
async fn a_token_and_an_enrolment_are_five_statements_each() {
    let world = World::new().await;
    let token = token::make_join_token().expect("a token");
    let new = NewToken {
        id: &token.id,
        secret_hash: &token.secret_hash,
        cluster: "c1",
        principal: "admin",
        ttl_seconds: 60,
        labelled: None,
    };
    let statements = Statements::listen();
    world.store.create_token(&new).await.expect("recorded");
    let asked = statements.take();
    // The cluster, that it is to be judged, the token with its audit, commit; and telling others, since this store does not
    // know that there are none.
    assert_eq!(asked.len(), 5, "{asked:#?}");
    let enrolment = Enrolment {
        token_id: &token.id,
        secret_hash: &token.secret_hash,
        key_hash: b"key",
        public_key: b"key",
        recovery_public_key: b"recovery",
        cluster_uid: "uid",
        serial: b"serial",
        lifetime_seconds: 60,
    };
    let enrolled = world.store.enrol(&enrolment).await.expect("answered");
    assert!(matches!(enrolled, Enrolled::Accepted { .. }), "{enrolled:?}");
    let asked = statements.take();
    // The token with its cluster, whether the UID is taken, all that is written, commit; and telling others.
    assert_eq!(asked.len(), 5, "{asked:#?}");
    let audited =
        "SELECT count(*) FROM audit WHERE object = 'cluster/c1' AND verb IN ('enrol', 'token.create')";
    assert_eq!(world.count(audited).await, 2);
    let told = "SELECT count(*) FROM outbox o JOIN cluster c ON c.id = ANY (o.keys) WHERE c.state = 'Active'";
    assert_eq!(world.count(told).await, 2, "it is there, and it is somebody");
}

#[tokio::test]
async fn a_cluster_that_is_revoked_gets_nothing_and_joins_again_with_a_new_token() {
    let hub = Hub::start().await;
    let thief = hub.enrol("c1").await;
    let spare = hub.join_token("c1").await;
    let mut stream = Stream::open(&hub, &thief, hello(&thief)).await.expect("open");
    assert!(
        decide(&hub, "c1", ClusterDecision::Revoke)
            .await
            .expect("decided")
    );
    assert!(
        !decide(&hub, "c1", ClusterDecision::Revoke)
            .await
            .expect("decided")
    );
    let ended = timeout(PATIENCE, stream.next()).await.expect("soon");
    assert_eq!(ended.expect_err("ended").code(), Code::Aborted);
    let refused = admitted(&hub, Some(thief.identity())).await.expect_err("revoked");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let burnt = hub.enrol_with(&spare, csr(&key()), "uid").await;
    assert_eq!(burnt.expect_err("an older token").code(), Code::PermissionDenied);
    // The rightful one has the same cluster, and the other's certificate stays what it is.
    let rightful = hub.enrol("c1").await;
    assert_eq!(rightful.cluster, thief.cluster);
    admitted(&hub, Some(rightful.identity())).await.expect("admitted");
    admitted(&hub, Some(thief.identity())).await.expect_err("revoked");
    let unknown = decide(&hub, "c9", ClusterDecision::Admit).await;
    assert_eq!(unknown.expect_err("no cluster").code(), Code::NotFound);
    let audited = "SELECT count(*) FROM audit WHERE verb = 'cluster.revoke' AND object = 'cluster/c1'";
    assert_eq!(hub.world.count(audited).await, 1);
}
