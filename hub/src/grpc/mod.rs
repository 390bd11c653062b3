//! The gRPC services: they translate and authenticate, and hold no rules. Decisions are in `core`, state in
//! the store.

pub mod agent;
pub mod enroll;
pub mod fetch;
pub mod fleet;
pub mod status;
pub mod streams;

use rustls::pki_types::CertificateDer;
use tonic::Request;

use crate::auth::connection::Caller;

/// The leaf certificate that TLS verified on this call's connection.
pub(crate) fn leaf<T>(request: &Request<T>) -> Option<CertificateDer<'static>> {
    let caller = request.extensions().get::<Caller>()?;
    Some(CertificateDer::clone(caller.leaf.as_ref()?))
}
