//! Enrolment by token and renewal over the live certificate.

use std::time::Duration;

use flotilla_core::{digest::Digest, enrol::recovery_message};
use flotilla_proto::enroll::v1::{
    ChallengeRequest, EnrollRequest, RecoverRequest, RenewRequest, enroll_service_client::EnrollServiceClient,
};
use tonic::{Request, transport::Channel};

use super::identity::{Certified, IdentityCell, IdentityError, InvalidIdentity, PrivateKey};

const CALL: Duration = Duration::from_secs(30);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The hub said no. Whether to try again is in the code.
    #[error("the hub refuses: {}", .0.message())]
    Refused(tonic::Status),
    /// The hub did not answer; try again with the same key.
    #[error("the hub did not answer: {}", .0.message())]
    Unavailable(tonic::Status),
    /// What it gave cannot be used.
    #[error(transparent)]
    Invalid(#[from] InvalidIdentity),
    /// The identity cannot be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<tonic::Status> for EnrolError {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code::{
            Aborted, Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown,
        };
        match status.code() {
            Aborted | Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown => {
                Self::Unavailable(status)
            }
            _ => Self::Refused(status),
        }
    }
}

/// Digests a join token, to know it again. A token cannot be guessed, so that its digest tells nothing.
pub fn token_digest(token: &str) -> Digest {
    Digest::of("join-token", token.as_bytes())
}

/// Trades a token for a certificate. Repeated after a lost reply it presents the same key and gets the same
/// identity. Where there is a certificate already, it is replaced once the hub has given another.
pub async fn enrol(
    channel: Channel,
    identity: &mut IdentityCell,
    token: &str,
    cluster_uid: &str,
) -> Result<(), EnrolError> {
    let used = token_digest(token);
    let (key, recovery) = if identity.get().certified.is_none() {
        identity.pending().await?
    } else {
        identity.rejoining(used).await?
    };
    let mut request = Request::new(EnrollRequest {
        token: token.to_owned(),
        csr: key.request().map_err(IdentityError::from)?.into(),
        recovery_public_key: recovery.public_key().map_err(IdentityError::from)?.into(),
        cluster_uid: cluster_uid.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    request.set_timeout(CALL);
    let reply = EnrollServiceClient::new(channel)
        .enroll(request)
        .await?
        .into_inner();
    let certified = Certified::new(
        (&reply.cluster_id, &reply.cluster_name, &reply.trust_domain),
        reply.identity_generation,
        key,
        &reply.certificate_chain,
        &reply.trust_bundle,
    )?;
    Ok(identity.joined(certified, recovery, used).await?)
}

/// Gets the next certificate over the connection that the present one opened.
pub async fn renew(channel: Channel, identity: &mut IdentityCell) -> Result<(), EnrolError> {
    let Some(present) = identity.get().certified.clone() else {
        return Err(InvalidIdentity::NoCertificate.into());
    };
    let (key, _) = identity.pending().await?;
    let mut request = Request::new(RenewRequest {
        cluster_id: present.cluster_id.clone(),
        csr: key.request().map_err(IdentityError::from)?.into(),
        identity_generation: present.generation,
    });
    request.set_timeout(CALL);
    let reply = EnrollServiceClient::new(channel)
        .renew(request)
        .await?
        .into_inner();
    let (chain, roots) = (&reply.certificate_chain, &reply.trust_bundle);
    follow(identity, &present, key, reply.identity_generation, chain, roots).await
}

/// Gets the next certificate by the recovery key: the present one has run out. The connection was opened without it.
pub async fn recover(
    channel: Channel,
    identity: &mut IdentityCell,
    cluster_uid: &str,
) -> Result<(), EnrolError> {
    let Some(present) = identity.get().certified.clone() else {
        return Err(InvalidIdentity::NoCertificate.into());
    };
    let (key, recovery) = identity.pending().await?;
    let mut client = EnrollServiceClient::new(channel);
    let mut request = Request::new(ChallengeRequest {});
    request.set_timeout(CALL);
    let challenge = client.challenge(request).await?.into_inner().challenge;
    let csr = key.request().map_err(IdentityError::from)?;
    let message = recovery_message(
        &present.cluster_id,
        &csr,
        present.generation,
        cluster_uid,
        &challenge,
    );
    let mut request = Request::new(RecoverRequest {
        cluster_id: present.cluster_id.clone(),
        csr: csr.into(),
        identity_generation: present.generation,
        cluster_uid: cluster_uid.to_owned(),
        challenge,
        signature: recovery.sign(&message).map_err(IdentityError::from)?.into(),
    });
    request.set_timeout(CALL);
    let reply = client.recover(request).await?.into_inner();
    let (chain, roots) = (&reply.certificate_chain, &reply.trust_bundle);
    follow(identity, &present, key, reply.identity_generation, chain, roots).await
}

/// Goes on with what the hub gave for `key`, as the same cluster.
async fn follow(
    identity: &mut IdentityCell,
    present: &Certified,
    key: PrivateKey,
    generation: u64,
    chain: &[bytes::Bytes],
    roots: &[bytes::Bytes],
) -> Result<(), EnrolError> {
    let cluster = (
        &*present.cluster_id,
        &*present.cluster_name,
        &*present.trust_domain,
    );
    let certified = Certified::new(cluster, generation, key, chain, roots)?;
    Ok(identity.certify(certified).await?)
}
