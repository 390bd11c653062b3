//! Requests and their paths. Names come of manifests: none may leave its place in a path.

use http::{Method, Request, header};
use serde_json::Value;

use crate::cluster::{ClusterError, Resource};

pub(in crate::cluster) fn path(resource: &Resource, namespace: &str, name: Option<&str>) -> String {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scope = if resource.namespaced && !namespace.is_empty() {
        format!("/namespaces/{}", segment(namespace))
    } else {
        String::new()
    };
    match name {
        Some(name) => format!("{root}{scope}/{}/{}", resource.plural, segment(name)),
        None => format!("{root}{scope}/{}", resource.plural),
    }
}

/// Escapes a path segment: RBAC names hold colons, and nothing from a manifest may leave its segment.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    // Dots alone would walk up the path.
    if !out.is_empty() && out.bytes().all(|byte| byte == b'.') {
        out.replace('.', "%2E")
    } else {
        out
    }
}

pub(in crate::cluster) fn encode(query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(key, value)| format!("{key}={}", segment(value)))
        .collect();
    pairs.join("&")
}

pub(super) fn get(path: &str, accept: Option<&str>) -> Result<Request<Vec<u8>>, ClusterError> {
    let mut request = Request::get(path);
    if let Some(accept) = accept {
        request = request.header(header::ACCEPT, accept);
    }
    request.body(Vec::new()).map_err(|e| bad_request(&e))
}

pub(super) fn bad_request(error: &http::Error) -> ClusterError {
    ClusterError::Rejected {
        code: 400,
        reason: "BadRequest".to_owned(),
        message: format!("request cannot be made: {error}"),
    }
}

pub(super) fn with_body(
    method: Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Result<Request<Vec<u8>>, ClusterError> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, "application/json")
        .body(body)
        .map_err(|e| bad_request(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, namespaced: bool) -> Resource {
        Resource {
            group: group.into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            namespaced,
            watchable: true,
        }
    }

    #[test]
    fn paths_follow_group_and_scope_and_cannot_be_left() {
        let cases = [
            (
                resource("", true),
                "a",
                Some("x"),
                "/api/v1/namespaces/a/things/x",
            ),
            (
                resource("g.io", false),
                "",
                Some("system:x"),
                "/apis/g.io/v1/things/system:x",
            ),
            (resource("g.io", true), "", None, "/apis/g.io/v1/things"),
            (
                resource("", true),
                "a",
                Some("../x?y"),
                "/api/v1/namespaces/a/things/..%2Fx%3Fy",
            ),
            (
                resource("", true),
                "..",
                Some(".."),
                "/api/v1/namespaces/%2E%2E/things/%2E%2E",
            ),
        ];
        for (resource, namespace, name, expected) in cases {
            assert_eq!(path(&resource, namespace, name), expected);
        }
    }
}
