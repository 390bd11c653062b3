//! HelmRepository: an index of charts, or a registry that holds them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::oci_repository::CloudProvider;
use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{GoDuration, HelmUrl, ShortDuration};

/// What a HelmRepository asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelmRepositorySpec {
    /// Where the repository is: http, https or oci.
    pub url: HelmUrl,
    /// Whether it is an index or a registry; an index when absent.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_name: Option<HelmRepositoryType>,
    /// How often to fetch the index; 1m when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// The longest a fetch may take; 60s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ShortDuration>,
    /// Secret with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Secret with a certificate authority and client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalRef>,
    /// Whether credentials go to other hosts that the index names.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pass_credentials: bool,
    /// Whether to speak plain HTTP with a registry.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// How to authenticate with a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<CloudProvider>,
    /// Declared by Flux and without effect, there as here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_from: Option<Value>,
    /// Whether to leave the source alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// What a HelmRepository is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HelmRepositoryType {
    /// An index over HTTP.
    #[default]
    Default,
    /// A container registry.
    Oci,
}

impl Spec for HelmRepositorySpec {
    const KIND: Kind = Kind::HelmRepository;

    fn check(&self, at: &mut Check<'_>) {
        let by_type = self.type_name == Some(HelmRepositoryType::Oci);
        let by_url = self.url.as_str().starts_with("oci://");
        if by_url && !by_type {
            at.at("type").problem("must be \"oci\" for an oci:// URL");
        }
        if by_type && !by_url {
            at.at("url").problem("must be an oci:// URL for type \"oci\"");
        }
    }
}
