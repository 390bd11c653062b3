//! Kubeconfig files: who a client is, and which control plane it trusts and talks to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certs::KeyCert;

/// How a client proves who it is.
#[derive(Debug)]
pub(crate) enum Credential<'a> {
    /// By a client certificate.
    Certificate(&'a KeyCert),
    /// By a bearer token.
    Token(&'a str),
}

/// Writes a kubeconfig with one cluster, one user and one context, all of them named `name`.
///
/// It is JSON, which every reader of YAML reads.
pub(crate) fn render(name: &str, server: &str, ca_pem: &str, credential: &Credential<'_>) -> String {
    let user = match credential {
        Credential::Certificate(pair) => json!({
            "client-certificate-data": STANDARD.encode(&pair.cert_pem),
            "client-key-data": STANDARD.encode(&pair.key_pem),
        }),
        Credential::Token(token) => json!({ "token": token }),
    };
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": name,
            "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(ca_pem) },
        }],
        "users": [{ "name": name, "user": user }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name, "namespace": "default" } }],
        "current-context": name,
    });
    format!("{config:#}\n")
}
