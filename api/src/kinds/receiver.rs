//! Receiver: a webhook that wakes sources. It carries no data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{GoDuration, Label};

/// What a Receiver asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverSpec {
    /// Who calls, and so how a call is verified.
    #[serde(rename = "type")]
    pub type_name: ReceiverType,
    /// How often to verify the Receiver itself; 10m when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// The events that count; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// What to wake.
    pub resources: Vec<ReceiverResource>,
    /// CEL expression that chooses among the resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_filter: Option<String>,
    /// Secret with the shared token under `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Issuers of tokens for type `generic-oidc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub oidc_providers: Vec<OidcProvider>,
    /// Whether calls are refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// Who calls a Receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiverType {
    /// Anyone who knows the path.
    Generic,
    /// Anyone who signs the body with the token.
    #[serde(rename = "generic-hmac")]
    GenericHmac,
    /// Anyone with a token of a known issuer.
    #[serde(rename = "generic-oidc")]
    GenericOidc,
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Bitbucket.
    Bitbucket,
    /// Harbor.
    Harbor,
    /// Docker Hub.
    Dockerhub,
    /// Quay.
    Quay,
    /// Google Container Registry.
    Gcr,
    /// Nexus.
    Nexus,
    /// Azure Container Registry.
    Acr,
    /// CDEvents.
    Cdevents,
}

/// What a call wakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverResource {
    /// The `apiVersion`; the kind's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The kind.
    pub kind: String,
    /// The name, or `*` for all that `matchLabels` chooses.
    pub name: String,
    /// The namespace; the Receiver's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// Labels that must be there, with name `*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// CEL expression that chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcProvider {
    /// The issuer's URL.
    #[serde(rename = "issuerURL")]
    pub issuer_url: String,
    /// The audience a token must have; `notification-controller` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// CEL expressions by name, for the validations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<OidcVariable>,
    /// CEL expressions that must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validations: Vec<OidcValidation>,
}

/// A named CEL expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OidcVariable {
    /// Its name.
    pub name: String,
    /// The expression.
    pub expression: String,
}

/// A CEL expression that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OidcValidation {
    /// The expression.
    pub expression: String,
    /// What to say when it does not hold.
    pub message: String,
}

impl Spec for ReceiverSpec {
    const KIND: Kind = Kind::Receiver;

    fn check(&self, at: &mut Check<'_>) {
        let by_oidc = self.type_name == ReceiverType::GenericOidc;
        if by_oidc && self.oidc_providers.is_empty() {
            at.at("oidcProviders")
                .problem("is required for type \"generic-oidc\"");
        }
        if !by_oidc && self.secret_ref.is_none() {
            at.at("secretRef").problem("is required");
        }
        if self.resources.is_empty() {
            at.at("resources").problem("needs at least one resource");
        }
        at.each("resources", &self.resources, |resource, at| {
            if Kind::from_word(&resource.kind).is_none_or(|kind| kind.name() != resource.kind) {
                at.at("kind")
                    .problem(format!("{:?} is not a kind Flotilla keeps", resource.kind));
            }
            if resource.name != "*" && !resource.match_labels.is_empty() {
                at.at("matchLabels").problem("is only taken with name \"*\"");
            }
        });
    }
}
