//! `flotilla.enroll.v1`: identity of a cluster. Refusals have one shape for the caller; the audit and the log
//! tell them apart.

mod recover;

use std::{sync::Arc, time::Instant};

use flotilla_core::{doubt::Sign, enrol::Refusal};
use flotilla_proto::enroll::v1::{
    ChallengeRequest, ChallengeResponse, EnrollRequest, EnrollResponse, RecoverRequest, RenewRequest,
    RenewResponse, enroll_service_server::EnrollService,
};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::{leaf, status::from_store};
use crate::{
    auth::{
        ca::{Authority, CheckedRequest},
        challenge::Challenges,
        gate,
        limit::Attempts,
        peer, random_serial, token,
    },
    store::{
        Store,
        enrol::{Enrolled, Enrolment},
    },
};

/// The service.
#[derive(Clone)]
pub struct Enrolments {
    /// Store.
    pub store: Store,
    /// Issues certificates.
    pub authority: Arc<Authority>,
    /// Lifetime of the agents' certificates.
    pub lifetime: Duration,
    /// What those sign who recover an identity.
    pub challenges: Arc<Challenges>,
    /// Attempts to enrol.
    pub attempts: Arc<Attempts>,
}

const MAX_FIELD: usize = 16 * 1024;

#[tonic::async_trait]
impl EnrollService for Enrolments {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let from = gate::peer_address(request.extensions());
        let request = request.into_inner();
        if request.csr.len() > MAX_FIELD || request.recovery_public_key.len() > MAX_FIELD {
            return Err(Status::invalid_argument(
                "csr or recovery_public_key is over 16 KiB",
            ));
        }
        if !is_uid(&request.cluster_uid) {
            return Err(Status::invalid_argument(
                "cluster_uid is the UID of the kube-system namespace",
            ));
        }
        if !is_public_key(&request.recovery_public_key) {
            return Err(Status::invalid_argument(
                "recovery_public_key is no SubjectPublicKeyInfo of an ECDSA P-256 key",
            ));
        }
        let Some((token_id, secret_hash)) = token::parse_join_token(&request.token) else {
            return Err(self.unknown());
        };
        let checked = self.check(&request.csr)?;
        let enrolled = self
            .store
            .enrol(&Enrolment {
                token_id: &token_id,
                secret_hash: &secret_hash,
                key_hash: &Sha256::digest(&checked.public_key),
                public_key: &checked.public_key,
                recovery_public_key: &request.recovery_public_key,
                cluster_uid: &request.cluster_uid,
                serial: &random_serial(),
                lifetime_seconds: self.lifetime.whole_seconds(),
            })
            .await
            .map_err(from_store)?;
        match enrolled {
            Enrolled::Accepted {
                cluster_id,
                name,
                generation,
                serial,
            } => {
                let leaf = self.issue(checked, cluster_id, &serial)?;
                if let Some(from) = from {
                    self.attempts.succeeded(from);
                }
                info!(cluster.name = %name, cluster.id = %cluster_id, "cluster enrolled");
                Ok(Response::new(EnrollResponse {
                    certificate_chain: vec![leaf.into()],
                    trust_bundle: vec![self.authority.root().to_vec().into()],
                    cluster_id: cluster_id.to_string(),
                    cluster_name: name,
                    trust_domain: self.authority.trust_domain().to_owned(),
                    identity_generation: generation,
                }))
            }
            Enrolled::Refused(Refusal::UnknownToken) => Err(self.unknown()),
            Enrolled::Refused(why) => {
                warn!(token.id = %token_id, why = why.as_str(), "enrolment refused");
                Err(Status::permission_denied(reason(why)))
            }
        }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let peer = peer::read(leaf(&request).as_ref(), self.authority.trust_domain())
            .map_err(|_| Status::unauthenticated("not admitted"))?;
        let request = request.into_inner();
        let identity = self.store.identity(peer.cluster).await.map_err(from_store)?;
        let judged = peer::judge(&peer, identity.as_ref());
        let named = request.cluster_id == peer.cluster.to_string();
        let standing = match judged {
            Ok(standing) if named && request.csr.len() <= MAX_FIELD => standing,
            _ => {
                warn!(cluster.id = %peer.cluster, why = ?judged.err(), "renewal refused");
                return Err(Status::unauthenticated("not admitted"));
            }
        };
        let checked = self.check(&request.csr)?;
        // Else the serial in use would be neither the current nor the next one if this reply is lost.
        self.store.admitted(&peer, standing).await.map_err(from_store)?;
        let renewed = self
            .store
            .renew(
                peer.cluster,
                request.identity_generation,
                &random_serial(),
                &checked.public_key,
                self.lifetime.whole_seconds(),
            )
            .await
            .map_err(from_store)?;
        let Some(serial) = renewed else {
            warn!(
                cluster.id = %peer.cluster,
                generation = request.identity_generation,
                "renewal refused: the identity was renewed by another holder"
            );
            let seen = "an agent renews this cluster's identity by a generation that another has come after: its state is a copy, \
                        or was put back";
            let doubted = self
                .store
                .doubt(peer.cluster, Sign::Replaced, seen, OffsetDateTime::now_utc());
            doubted.await.map_err(from_store)?;
            return Err(Status::failed_precondition("the identity was renewed meanwhile"));
        };
        let leaf = self.issue(checked, peer.cluster, &serial)?;
        Ok(Response::new(RenewResponse {
            certificate_chain: vec![leaf.into()],
            trust_bundle: vec![self.authority.root().to_vec().into()],
            identity_generation: request.identity_generation + 1,
        }))
    }

    async fn challenge(&self, _: Request<ChallengeRequest>) -> Result<Response<ChallengeResponse>, Status> {
        let challenge = self.challenges.make(self.challenges.now());
        let challenge = challenge.map_err(|_| Status::internal("no random numbers"))?;
        Ok(Response::new(ChallengeResponse {
            challenge: challenge.into(),
        }))
    }

    async fn recover(&self, request: Request<RecoverRequest>) -> Result<Response<RenewResponse>, Status> {
        let from = gate::peer_address(request.extensions());
        let renewed = recover::renewed(self, request.into_inner()).await?;
        if let Some(from) = from {
            // With its challenge.
            self.attempts.succeeded(from);
            self.attempts.succeeded(from);
        }
        Ok(Response::new(renewed))
    }
}

/// A public key of the kind that certificates are issued for, and nothing behind it: it is kept to be checked against
/// years later.
fn is_public_key(der: &[u8]) -> bool {
    use x509_parser::prelude::FromDer as _;
    let Ok((rest, key)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der) else {
        return false;
    };
    let is_p256 = key.algorithm.algorithm == x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY
        && key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|named| named.as_oid().ok())
            .is_some_and(|curve| curve == x509_parser::oid_registry::OID_EC_P256);
    rest.is_empty() && is_p256 && key.subject_public_key.data.len() == 65
}

/// A UID as Kubernetes writes one, and nothing that a log or a terminal could take for something else.
fn is_uid(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

impl Enrolments {
    /// A token that nobody was given. Anybody can send any number of them: they are counted and told together.
    fn unknown(&self) -> Status {
        if let Some(count) = self.attempts.refused(Instant::now()) {
            warn!(count, "enrolments refused: unknown join tokens");
        }
        refused()
    }

    fn check(&self, csr: &[u8]) -> Result<CheckedRequest, Status> {
        self.authority
            .check(csr)
            .map_err(|error| Status::invalid_argument(format!("csr: {error}")))
    }

    fn issue(&self, checked: CheckedRequest, cluster: uuid::Uuid, serial: &[u8]) -> Result<Vec<u8>, Status> {
        self.authority
            .issue_agent(checked, cluster, serial, OffsetDateTime::now_utc(), self.lifetime)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

fn refused() -> Status {
    Status::permission_denied(reason(Refusal::UnknownToken))
}

/// What is told of a refusal. Those but the first are told to who has the token's secret.
fn reason(why: Refusal) -> &'static str {
    match why {
        Refusal::UnknownToken => {
            "the join token was refused: it is unknown, used, or expired; make a new one with `flotilla cluster token`"
        }
        Refusal::Expired => {
            "the join token was refused: its time has passed; make a new one with `flotilla cluster token`"
        }
        Refusal::UsedByAnotherKey => {
            "the join token was refused: another key has used it; look at `flotilla cluster show` for what the hub made of \
             that, and if this agent is the right one, end the identity of the other with `flotilla cluster revoke` and \
             make a new token"
        }
        Refusal::AlreadyBound => {
            "the join token was refused: its cluster has an agent with an identity already, which another token does not \
             change; if that agent is gone, end its identity with `flotilla cluster revoke` and make a new token"
        }
        Refusal::ClusterUidTaken => {
            "the join token was refused: this very cluster (the UID of its namespace kube-system) has joined under \
             another name already; use that name, or end that identity with `flotilla cluster revoke` first"
        }
    }
}
