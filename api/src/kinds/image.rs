//! ImageRepository, ImagePolicy and ImageUpdateAutomation. Their fields are known by name; what stands below
//! them is kept as it is until these kinds are reconciled.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{GoDuration, Name, Pattern};

/// Free content of a field.
pub type Fields = BTreeMap<String, Value>;

/// What an ImageRepository asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRepositorySpec {
    /// The image, without scheme and tag.
    pub image: String,
    /// How often to list the tags.
    pub interval: GoDuration,
    /// The longest a listing may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// How to authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Secret with registry credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Secret with a certificate authority and client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalRef>,
    /// Secret with a proxy's address and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalRef>,
    /// ServiceAccount whose pull secrets or cloud identity authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
    /// Namespaces whose policies may use the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_from: Option<Fields>,
    /// Tags to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusion_list: Vec<Pattern>,
    /// Whether to speak plain HTTP.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Whether to leave the repository alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

impl Spec for ImageRepositorySpec {
    const KIND: Kind = Kind::ImageRepository;

    fn check(&self, at: &mut Check<'_>) {
        if self.image.contains("://") {
            at.at("image").problem("must be an image without scheme");
        }
        if self.exclusion_list.len() > 25 {
            at.at("exclusionList").problem("has more than 25 patterns");
        }
    }
}

/// What an ImagePolicy asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicySpec {
    /// The ImageRepository whose tags are chosen from.
    pub image_repository_ref: Fields,
    /// How to choose: `semver`, `alphabetical` or `numerical`.
    pub policy: Fields,
    /// Which tags to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_tags: Option<Fields>,
    /// Whether to note the tag's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_reflection_policy: Option<String>,
    /// How often to look the digest up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Whether to leave the policy alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

impl Spec for ImagePolicySpec {
    const KIND: Kind = Kind::ImagePolicy;

    fn check(&self, at: &mut Check<'_>) {
        let set = |name| (name, self.policy.contains_key(name));
        at.at("policy")
            .exactly_one(&[set("semver"), set("alphabetical"), set("numerical")]);
        if self.digest_reflection_policy.as_deref() == Some("Always") && self.interval.is_none() {
            at.at("interval")
                .problem("is required for digestReflectionPolicy \"Always\"");
        }
    }
}

/// What an ImageUpdateAutomation asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageUpdateAutomationSpec {
    /// The GitRepository to commit to.
    pub source_ref: Fields,
    /// How often to run.
    pub interval: GoDuration,
    /// What to check out, and how to commit and push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Fields>,
    /// The policies that count; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_selector: Option<Fields>,
    /// How and where to update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Fields>,
    /// Whether to leave the repository alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

impl Spec for ImageUpdateAutomationSpec {
    const KIND: Kind = Kind::ImageUpdateAutomation;
}
