//! What answers and failures of an API server mean.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use http_body_util::LengthLimitError;
use kube::core::Status;
use rustls::CertificateError as Certificate;

use crate::{
    causes::{connection, with_causes},
    cluster::{ClusterError, Resource},
};

/// The text of a client error, without bodies, which may be Secrets, and without the words of the client library.
pub fn transport_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        kube::Error::SerdeError(_) => "answer is not readable".to_owned(),
        // Names the file or the program that gives no credentials.
        kube::Error::Auth(_) => with_causes(error),
        other => connection(other, about_tls),
    }
}

/// Says what keeps TLS from the API server, and where to look.
fn about_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "its certificate is not of the authority in the agent's kubeconfig or ServiceAccount".to_owned()
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "its certificate is for another name than the address that the agent uses".to_owned(),
        rustls::Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => "its certificate is not valid by this machine's clock".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("it ended the TLS handshake: {alert:?}"),
        other => format!("no TLS with it: {other}"),
    }
}

/// Reads a failure to send a request.
pub(super) fn unsent(error: &kube::Error) -> ClusterError {
    ClusterError::Unavailable(transport_text(error))
}

/// Why a body ended before it was read.
pub(super) fn cut(error: &(dyn std::error::Error + 'static), max: usize) -> ClusterError {
    if error.is::<LengthLimitError>() {
        ClusterError::TooLarge { max }
    } else {
        ClusterError::Unavailable(format!(
            "its answer was cut off: {}",
            connection(error, about_tls)
        ))
    }
}

/// Why an answer cannot be read: where, and nothing of what stands there.
pub(super) fn no_json(error: &serde_json::Error) -> ClusterError {
    ClusterError::Unavailable(format!(
        "answer is no JSON at {}:{}",
        error.line(),
        error.column()
    ))
}

/// Reads an answer that is no success, to a request about `resource`.
pub(super) fn refusal(
    code: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    resource: Option<&Resource>,
) -> ClusterError {
    let mut status = serde_json::from_slice::<Status>(body).unwrap_or_default();
    status.code = code.as_u16();
    match from_status(&status, resource) {
        ClusterError::Overloaded { retry_after } => ClusterError::Overloaded {
            retry_after: wait(headers).or(retry_after),
        },
        // A server that says when to come back has taken nothing.
        other if code == StatusCode::SERVICE_UNAVAILABLE => match wait(headers) {
            Some(wait) => ClusterError::Overloaded {
                retry_after: Some(wait),
            },
            None => other,
        },
        other => other,
    }
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Reads a Status object that answers a request about `resource`.
pub(in crate::cluster) fn from_status(status: &Status, resource: Option<&Resource>) -> ClusterError {
    let details = status.details.as_ref();
    let is_named = details.is_some_and(|details| !details.name.is_empty());
    match (status.code, resource) {
        (429, _) => ClusterError::Overloaded {
            retry_after: details
                .map(|details| u64::from(details.retry_after_seconds))
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        },
        // An object that is not there is named in the details; a path that is not served is not.
        (404, Some(resource)) if !is_named => ClusterError::NotServed {
            kind: resource.kind.clone(),
            api_version: resource.api_version(),
        },
        // The server has answered, about this one object: a webhook that it cannot reach, a store that is full.
        (500, _) if !status.message.is_empty() => ClusterError::Rejected {
            code: 500,
            reason: status.reason.clone(),
            message: status.message.clone(),
        },
        (500.., _) => ClusterError::Unavailable(format!("{} {}", status.code, status.message)),
        (0, _) => ClusterError::Unavailable(status.message.clone()),
        (code, _) => ClusterError::Rejected {
            code,
            reason: status.reason.clone(),
            message: status.message.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn things() -> Resource {
        Resource {
            group: "g.io".into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            namespaced: true,
            watchable: true,
        }
    }

    fn read(code: StatusCode, body: &[u8]) -> ClusterError {
        refusal(code, &HeaderMap::new(), body, Some(&things()))
    }

    #[test]
    fn a_missing_object_differs_from_a_kind_that_is_not_served() {
        let missing = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "x",
            "details": {"name": "x", "kind": "things"}});
        let unserved =
            json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "x", "details": {}});
        let not_found = |body: &Value| read(StatusCode::NOT_FOUND, body.to_string().as_bytes());
        assert!(matches!(
            not_found(&missing),
            ClusterError::Rejected { code: 404, .. }
        ));
        assert!(matches!(not_found(&unserved), ClusterError::NotServed { .. }));
        assert!(matches!(
            read(StatusCode::NOT_FOUND, b"404 page not found"),
            ClusterError::NotServed { kind, api_version } if kind == "Thing" && api_version == "g.io/v1"
        ));
    }

    #[test]
    fn an_overloaded_server_says_how_long() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, 3.into());
        assert_eq!(
            refusal(StatusCode::TOO_MANY_REQUESTS, &headers, b"", None),
            ClusterError::Overloaded {
                retry_after: Some(Duration::from_secs(3))
            }
        );
        assert_eq!(
            refusal(StatusCode::SERVICE_UNAVAILABLE, &headers, b"", None),
            ClusterError::Overloaded {
                retry_after: Some(Duration::from_secs(3))
            }
        );
        assert!(matches!(
            read(StatusCode::SERVICE_UNAVAILABLE, b""),
            ClusterError::Unavailable(_)
        ));
        assert!(read(StatusCode::BAD_GATEWAY, b"<html>").is_transient());
    }
}
