//! OCIRepository: a tag or digest of an artifact in a container registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::git_repository::check_interval;
use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{GoDuration, Name, OciUrl, Pattern, ShortDuration};

/// What an OCIRepository asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciRepositorySpec {
    /// Where the repository is, without tag.
    pub url: OciUrl,
    /// How often to look for a new revision.
    pub interval: GoDuration,
    /// The longest a pull may take; 60s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ShortDuration>,
    /// What to follow; the tag `latest` when absent.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<OciReference>,
    /// Which layer to take; the first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_selector: Option<LayerSelector>,
    /// How to authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<CloudProvider>,
    /// Secret with registry credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// ServiceAccount whose pull secrets or cloud identity authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
    /// Secret with a certificate authority and client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalRef>,
    /// Secret with a proxy's address and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalRef>,
    /// Which signatures a revision must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<OciVerification>,
    /// Exclusions in gitignore form, replacing the built-in list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<String>,
    /// Whether to speak plain HTTP.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Whether to leave the source alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// What to follow. Of several fields the last of tag, semver, digest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciReference {
    /// A digest, `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The newest tag in a range of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// Which tags `semver` looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semver_filter: Option<Pattern>,
    /// A tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// Which layer of an artifact to take, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerSelector {
    /// The layer's media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Whether to unpack it; `extract` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<LayerOperation>,
}

/// What to do with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LayerOperation {
    /// Unpack it.
    Extract,
    /// Keep it as it is.
    Copy,
}

/// How to authenticate with a registry or bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CloudProvider {
    /// By what the Secret holds.
    #[default]
    Generic,
    /// As a workload of AWS.
    Aws,
    /// As a workload of Azure.
    Azure,
    /// As a workload of Google Cloud.
    Gcp,
}

/// Which signatures an artifact must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciVerification {
    /// The signatures' form.
    pub provider: SignatureProvider,
    /// Secret with public keys; keyless when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Who may have signed without a key; any of them.
    #[serde(rename = "matchOIDCIdentity", default, skip_serializing_if = "Vec::is_empty")]
    pub match_oidc_identity: Vec<OidcIdentity>,
    /// Secret with the trusted root of an own Sigstore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_root_secret_ref: Option<LocalRef>,
}

/// A form of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureProvider {
    /// Cosign.
    Cosign,
    /// Notation.
    Notation,
}

/// Who may have signed without a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OidcIdentity {
    /// The issuer of the identity.
    pub issuer: Pattern,
    /// The identity.
    pub subject: Pattern,
}

impl Spec for OciRepositorySpec {
    const KIND: Kind = Kind::OciRepository;

    fn check(&self, at: &mut Check<'_>) {
        check_interval(&self.interval, at);
        if let Some(digest) = self.reference.as_ref().and_then(|to| to.digest.as_ref())
            && !is_digest(digest)
        {
            at.at("ref").at("digest").problem(format!(
                "{digest:?} is not a digest of the form \"sha256:<64 hex digits>\""
            ));
        }
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    text.strip_prefix("sha256:")
        .is_some_and(|digest| digest.len() == 64 && hex(digest))
}
