//! Provider: where notifications go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::{Check, Problem};
use crate::text::{GoDuration, Name, ShortDuration};
use flotilla_core::text::edit::closest;

/// The services Flux knows.
const TYPES: &[&str] = &[
    "generic",
    "generic-hmac",
    "slack",
    "discord",
    "msteams",
    "rocket",
    "googlechat",
    "googlepubsub",
    "webex",
    "telegram",
    "lark",
    "matrix",
    "sentry",
    "azureeventhub",
    "opsgenie",
    "pagerduty",
    "datadog",
    "alertmanager",
    "grafana",
    "githubdispatch",
    "nats",
    "zulip",
    "otel",
    "zoom",
    "incident.io",
    "github",
    "gitlab",
    "gitea",
    "bitbucket",
    "bitbucketserver",
    "azuredevops",
    "githubpullrequestcomment",
    "gitlabmergerequestcomment",
    "giteapullrequestcomment",
];

/// What a Provider asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// The service.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Without effect, as in Flux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Where in the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Under which name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The service's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The longest a delivery may take; 15s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ShortDuration>,
    /// Address of an HTTP proxy. Deprecated: `proxySecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Secret with a proxy's address and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalRef>,
    /// Secret with address, token or credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Secret with a certificate authority and client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalRef>,
    /// ServiceAccount whose cloud identity authenticates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
    /// CEL expression that makes the id of a commit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_status_expr: Option<String>,
    /// Whether nothing is sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

impl Spec for ProviderSpec {
    const KIND: Kind = Kind::Provider;

    fn check(&self, at: &mut Check<'_>) {
        if !TYPES.contains(&self.type_name.as_str()) {
            let mut at = at.at("type");
            let message = format!("{:?} is not a service Flux knows", self.type_name);
            at.push(
                Problem::new(at.path(), message).suggest(closest(&self.type_name, TYPES.iter().copied())),
            );
        }
        // An address often carries a token of its own; one with a password certainly does.
        for (field, address) in [("address", &self.address), ("proxy", &self.proxy)] {
            let authority = address
                .as_deref()
                .and_then(|address| address.split_once("://"))
                .map(|(_, rest)| rest);
            if authority.is_some_and(|rest| rest.split(['/', '?', '#']).next().unwrap_or(rest).contains('@'))
            {
                at.at(field).advise(
                    "the address holds credentials",
                    "put the address in the Secret of secretRef",
                );
            }
        }
    }
}
