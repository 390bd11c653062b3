//! Judges a call by its path, its headers and its connection's certificate, before any of its body is read: a stranger
//! has nothing kept in memory. What a certificate may do is judged by its service.

use std::{
    mem,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::warn;

use super::{connection::Caller, limit::Attempts, token};
use crate::{grpc::status::from_store, store::Store};

/// Who calls `flotilla.fleet.v1`. There is one kind of principal yet: the administrator.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Name, for the audit.
    pub name: String,
    /// Hash of the credential that was shown: what stays open is judged by it again when credentials change.
    pub credential: Arc<[u8]>,
}

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A bearer token of a person.
    Bearer,
    /// A client certificate.
    Certificate,
    /// An attempt: whoever has a join token has no certificate yet, and who recovers has none any more.
    Attempt,
    /// Nothing.
    Nothing,
}

fn need(path: &str) -> Need {
    match path.trim_start_matches('/').split_once('/') {
        Some(("flotilla.enroll.v1.EnrollService", "Enroll" | "Challenge" | "Recover")) => Need::Attempt,
        Some(("flotilla.agent.v1.AgentService" | "flotilla.enroll.v1.EnrollService", _)) => Need::Certificate,
        Some(("grpc.health.v1.Health", _)) => Need::Nothing,
        // Reflection, and whatever is added and forgotten here.
        _ => Need::Bearer,
    }
}

fn not_valid() -> Status {
    Status::unauthenticated("the bearer token is not valid; `flotilla-hub admin reset` makes a new one")
}

/// Judges a credential by what the store records now.
pub async fn still_valid(store: &Store, principal: &Principal) -> Result<(), Status> {
    match store.admin_token_valid(&principal.credential).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_valid()),
        Err(error) => Err(from_store(error)),
    }
}

/// Stands before all services.
#[derive(Clone)]
pub struct Gate {
    /// Knows the bearer tokens.
    pub store: Store,
    /// Attempts to enrol.
    pub attempts: Arc<Attempts>,
}

impl Gate {
    async fn judge(&self, request: &mut Request<Body>) -> Result<(), Status> {
        match need(request.uri().path()) {
            Need::Bearer => {
                let principal = self.principal(request.headers()).await?;
                request.extensions_mut().insert(principal);
                Ok(())
            }
            Need::Certificate if has_certificate(request) => Ok(()),
            Need::Certificate => Err(Status::unauthenticated("not admitted")),
            Need::Attempt => self.attempt(request),
            Need::Nothing => Ok(()),
        }
    }

    async fn principal(&self, headers: &HeaderMap) -> Result<Principal, Status> {
        let header = headers.get("authorization").and_then(|value| value.to_str().ok());
        let bearer = header.and_then(|value| value.strip_prefix("Bearer "));
        let bearer = bearer.ok_or_else(|| Status::unauthenticated("a bearer token is needed"))?;
        if !token::is_admin_token(bearer) {
            return Err(not_valid());
        }
        let principal = Principal {
            name: "admin".to_owned(),
            credential: token::hash(bearer).into(),
        };
        still_valid(&self.store, &principal).await?;
        Ok(principal)
    }

    fn attempt(&self, request: &Request<Body>) -> Result<(), Status> {
        let now = Instant::now();
        // Without an address, which TCP always has, all share one.
        let from = peer_address(request.extensions()).unwrap_or(IpAddr::from([0, 0, 0, 0]));
        if self.attempts.take(from, now) {
            return Ok(());
        }
        if let Some(count) = self.attempts.refused(now) {
            warn!(count, "attempts to enrol were refused: too many");
        }
        Err(Status::resource_exhausted(
            "too many attempts to enrol; try again in a few seconds",
        ))
    }
}

fn caller(extensions: &http::Extensions) -> Option<&Caller> {
    extensions.get()
}

fn has_certificate(request: &Request<Body>) -> bool {
    caller(request.extensions()).is_some_and(|caller| caller.leaf.is_some())
}

/// Where a call comes from.
pub fn peer_address(extensions: &http::Extensions) -> Option<IpAddr> {
    caller(extensions)?.address
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            gate: self.clone(),
            inner,
        }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was found ready goes along.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            match gate.judge(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_needs_what_its_service_asks_and_an_unknown_one_the_most() {
        let needs = [
            ("/flotilla.fleet.v1.FleetService/Apply", Need::Bearer),
            ("/flotilla.agent.v1.AgentService/Connect", Need::Certificate),
            ("/flotilla.enroll.v1.EnrollService/Enroll", Need::Attempt),
            ("/flotilla.enroll.v1.EnrollService/Renew", Need::Certificate),
            ("/flotilla.enroll.v1.EnrollService/Challenge", Need::Attempt),
            ("/flotilla.enroll.v1.EnrollService/Recover", Need::Attempt),
            ("/grpc.health.v1.Health/Check", Need::Nothing),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                Need::Bearer,
            ),
            ("/", Need::Bearer),
            ("", Need::Bearer),
        ];
        for (path, expected) in needs {
            assert_eq!(need(path), expected, "{path}");
        }
    }
}
