//! Agents that come back after their certificate has run out: their recovery key, and nothing else, gives them another.

use flotilla_core::enrol::recovery_message;
use flotilla_proto::enroll::v1::{
    ChallengeRequest, RecoverRequest, RenewResponse, enroll_service_client::EnrollServiceClient,
};
use rcgen::{KeyPair, SigningKey as _};
use tonic::{Code, Status};

use crate::{
    enrol::admitted,
    hub::{Agent, Hub, csr, identity},
};

/// What an agent shows, before anything of it is changed.
async fn shown(hub: &Hub, agent: &Agent, key: &KeyPair) -> RecoverRequest {
    let mut client = EnrollServiceClient::new(hub.channel().await);
    let challenge = client.challenge(ChallengeRequest {}).await.expect("a challenge");
    signed(
        RecoverRequest {
            cluster_id: agent.cluster.to_string(),
            csr: csr(key).into(),
            identity_generation: agent.generation,
            cluster_uid: agent.uid.clone(),
            challenge: challenge.into_inner().challenge,
            ..RecoverRequest::default()
        },
        &agent.recovery,
    )
}

fn signed(request: RecoverRequest, key: &KeyPair) -> RecoverRequest {
    let message = recovery_message(
        &request.cluster_id,
        &request.csr,
        request.identity_generation,
        &request.cluster_uid,
        &request.challenge,
    );
    RecoverRequest {
        signature: key.sign(&message).expect("signed").into(),
        ..request
    }
}

async fn recover(hub: &Hub, request: RecoverRequest) -> Result<RenewResponse, Status> {
    let mut client = EnrollServiceClient::new(hub.channel().await);
    client.recover(request).await.map(tonic::Response::into_inner)
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

#[tokio::test]
async fn a_recovery_key_gives_the_next_certificate_and_a_lost_reply_locks_nobody_out() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let key = key();
    recover(&hub, shown(&hub, &agent, &key).await)
        .await
        .expect("a reply that is lost");
    let given = recover(&hub, shown(&hub, &agent, &key).await)
        .await
        .expect("recovered");
    assert_eq!(given.identity_generation, 2);
    let chain: Vec<Vec<u8>> = given.certificate_chain.iter().map(|der| der.to_vec()).collect();
    let new = identity(&chain, &key.serialize_pem());
    admitted(&hub, Some(new)).await.expect("admitted");
    let refused = admitted(&hub, Some(agent.identity()))
        .await
        .expect_err("replaced");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let told = "SELECT count(*) FROM event WHERE reason = 'Recovered'";
    assert_eq!(hub.world.count(told).await, 1);
    // Whoever has a copy from before is told, and so are people.
    let refused = recover(&hub, shown(&hub, &agent, &key).await)
        .await
        .expect_err("a copy");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("another holder"), "{refused}");
    let told = "SELECT count(*) FROM event WHERE reason = 'RecoveryRefused' AND message LIKE '%cluster token NAME --replace%'";
    assert_eq!(hub.world.count(told).await, 1);
}

#[tokio::test]
async fn nobody_recovers_an_identity_without_its_key_or_with_what_was_signed_for_something_else() {
    let hub = Hub::start().await;
    let (agent, other) = (hub.enrol("c1").await, hub.enrol("c2").await);
    let key = key();
    let good = shown(&hub, &agent, &key).await;
    let stranger = signed(good.clone(), &other.recovery);
    let another_key = RecoverRequest {
        csr: csr(&self::key()).into(),
        ..good.clone()
    };
    let another_cluster = RecoverRequest {
        cluster_id: other.cluster.to_string(),
        ..good.clone()
    };
    let unsigned = RecoverRequest {
        signature: Default::default(),
        ..good.clone()
    };
    let unknown = RecoverRequest {
        cluster_id: uuid::Uuid::from_u128(1).to_string(),
        ..good.clone()
    };
    for request in [stranger, another_key, another_cluster, unsigned, unknown] {
        let refused = recover(&hub, request).await.expect_err("refused");
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, "not admitted")
        );
    }
    let mut forged = good.challenge.to_vec();
    forged[7] ^= 1;
    let forged = signed(
        RecoverRequest {
            challenge: forged.into(),
            ..good.clone()
        },
        &agent.recovery,
    );
    let refused = recover(&hub, forged).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    recover(&hub, good).await.expect("recovered");
}

#[tokio::test]
async fn an_identity_comes_back_in_its_own_cluster_while_it_is_served_and_not_after_a_month() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let key = key();
    let moved = RecoverRequest {
        cluster_uid: "uid-of-another".to_owned(),
        ..shown(&hub, &agent, &key).await
    };
    let refused = recover(&hub, signed(moved, &agent.recovery))
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("kube-system"), "{refused}");
    let set = async |set: &str| hub.world.execute(set).await;
    set("UPDATE cluster SET state = 'Suspended'").await;
    let refused = recover(&hub, shown(&hub, &agent, &key).await)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    set("UPDATE cluster SET state = 'Active'; UPDATE identity SET issued_at = now() - interval '31 days'")
        .await;
    let refused = recover(&hub, shown(&hub, &agent, &key).await)
        .await
        .expect_err("refused");
    assert!(refused.message().contains("30 days"), "{refused}");
    set("UPDATE identity SET issued_at = now() - interval '29 days'").await;
    recover(&hub, shown(&hub, &agent, &key).await)
        .await
        .expect("recovered");
}
