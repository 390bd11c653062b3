//! Agents whose certificate has run out while they were apart from the hub, or the hub from them: their recovery key tells
//! who they are.

use flotilla_core::{
    doubt::Sign,
    enrol::{APART_DAYS, Apart, Recover, recover, recovery_message},
};
use flotilla_proto::enroll::v1::{RecoverRequest, RenewResponse};
use time::OffsetDateTime;
use tonic::Status;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Enrolments, MAX_FIELD, from_store};
use crate::{auth::challenge::has_signed, auth::random_serial, store::enrol::RecoveryRow};

/// Renews an identity for whoever has its recovery key.
pub(super) async fn renewed(service: &Enrolments, request: RecoverRequest) -> Result<RenewResponse, Status> {
    let challenges = &service.challenges;
    let is_small = [&request.csr, &request.challenge, &request.signature]
        .iter()
        .all(|field| field.len() <= MAX_FIELD);
    if !is_small || !challenges.is_good(&request.challenge, challenges.now()) {
        return Err(Status::unauthenticated(
            "the challenge is not this hub's, or is too old",
        ));
    }
    let not_admitted = || Status::unauthenticated("not admitted");
    let cluster: Uuid = request.cluster_id.parse().map_err(|_| not_admitted())?;
    let row = service
        .store
        .recovery(cluster, APART_DAYS)
        .await
        .map_err(from_store)?;
    let apart = row.as_ref().map(|row| apart(row, &request));
    let refused = |why: String| {
        warn!(cluster.id = %cluster, why, "recovery refused");
        why
    };
    match recover(apart.as_ref()) {
        Recover::Renew => {}
        Recover::NotAdmitted => {
            warn!(cluster.id = %cluster, ?apart, "recovery refused");
            return Err(not_admitted());
        }
        Recover::AnotherCluster => {
            let why = "the identity was given to another cluster (the UID of its namespace kube-system differs): a copy, \
                       or the cluster was built anew";
            return Err(told(service, cluster, refused(why.to_owned())).await);
        }
        Recover::TooLong => {
            let why = format!("its agent was away for more than {APART_DAYS} days");
            return Err(told(service, cluster, refused(why)).await);
        }
    }
    let checked = service.check(&request.csr)?;
    let (generation, serial) = (request.identity_generation, random_serial());
    let renewed = service.store.renew(
        cluster,
        generation,
        &serial,
        &checked.public_key,
        service.lifetime.whole_seconds(),
    );
    let Some(serial) = renewed.await.map_err(from_store)? else {
        let why = "the identity was renewed by another holder: a copy of it, or this one was put back from a backup";
        let seen = "an agent in this cluster, whose certificate has run out, shows an identity that was renewed since: its state is \
                    a copy, or was put back";
        let doubted = service
            .store
            .doubt(cluster, Sign::Replaced, seen, OffsetDateTime::now_utc());
        doubted.await.map_err(from_store)?;
        return Err(told(service, cluster, refused(why.to_owned())).await);
    };
    let leaf = service.issue(checked, cluster, &serial)?;
    service.store.recovered(cluster).await.map_err(from_store)?;
    info!(cluster.id = %cluster, generation = generation + 1, "identity recovered");
    Ok(RenewResponse {
        certificate_chain: vec![leaf.into()],
        trust_bundle: vec![service.authority.root().to_vec().into()],
        identity_generation: generation + 1,
    })
}

fn apart(row: &RecoveryRow, request: &RecoverRequest) -> Apart {
    let message = recovery_message(
        &request.cluster_id,
        &request.csr,
        request.identity_generation,
        &request.cluster_uid,
        &request.challenge,
    );
    Apart {
        is_signed: has_signed(&row.recovery_public_key, &message, &request.signature),
        is_active: row.is_active,
        is_same_cluster: row.cluster_uid.as_deref() == Some(&request.cluster_uid),
        is_seen_lately: row.is_seen_lately,
    }
}

/// What is answered to the agent of a cluster, and told to people at the hub.
async fn told(service: &Enrolments, cluster: Uuid, why: String) -> Status {
    let message = format!(
        "the certificate of the cluster's agent has run out, and it is not recovered: {why}; if it is meant to come back, \
         run `flotilla cluster token NAME --replace`, and give the agent that token"
    );
    match service
        .store
        .tell_cluster(cluster, "RecoveryRefused", &message)
        .await
    {
        Ok(()) => Status::failed_precondition(why),
        Err(error) => from_store(error),
    }
}
