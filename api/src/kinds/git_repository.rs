//! GitRepository: a branch, tag or commit of a Git repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{GitCommit, GitFullRef, GitRef, GitUrl, GoDuration, InnerPath, Name, ShortDuration};

/// The branch that is followed when a GitRepository names no reference, as in Flux.
pub const DEFAULT_BRANCH: &str = "master";

/// What a GitRepository asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitRepositorySpec {
    /// Where the repository is: http, https or ssh.
    pub url: GitUrl,
    /// How often to look for a new revision.
    pub interval: GoDuration,
    /// The longest a fetch with verification may take; 60s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ShortDuration>,
    /// Secret with credentials, keys or a certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// How to authenticate.
    #[serde(default, skip_serializing_if = "GitProvider::is_generic")]
    pub provider: GitProvider,
    /// ServiceAccount whose cloud identity authenticates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
    /// What to follow; the branch `master` when absent.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitReference>,
    /// Which signatures a revision must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<GitVerification>,
    /// Secret with a proxy's address and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalRef>,
    /// Exclusions in gitignore form, replacing the built-in list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<String>,
    /// Whether to leave the source alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// Whether to fetch submodules.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recurse_submodules: bool,
    /// Other repositories to copy in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<GitInclude>,
    /// Directories to fetch; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse_checkout: Vec<InnerPath>,
}

/// How a GitRepository authenticates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GitProvider {
    /// By what the Secret holds.
    #[default]
    Generic,
    /// As a workload of AWS.
    Aws,
    /// As a workload of Azure.
    Azure,
    /// As a GitHub App.
    Github,
}

impl GitProvider {
    fn is_generic(&self) -> bool {
        *self == GitProvider::Generic
    }
}

/// What to follow. Of several fields the last of branch, tag, semver, name, commit wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GitReference {
    /// A branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<GitRef>,
    /// A tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<GitRef>,
    /// The newest tag in a range of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// A full name, such as `refs/pull/420/head`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<GitFullRef>,
    /// A commit; with a branch, one that the branch holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<GitCommit>,
}

/// Which signatures a revision must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitVerification {
    /// What must be signed.
    #[serde(default)]
    pub mode: GitVerificationMode,
    /// Secret with the public keys.
    pub secret_ref: LocalRef,
}

/// What must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GitVerificationMode {
    /// The commit.
    #[default]
    #[serde(rename = "HEAD")]
    Head,
    /// The tag.
    Tag,
    /// Both.
    #[serde(rename = "TagAndHEAD")]
    TagAndHead,
}

/// A repository copied into this one's artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitInclude {
    /// The GitRepository, in the same namespace.
    pub repository: LocalRef,
    /// What to copy; everything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_path: Option<InnerPath>,
    /// Where to put it; a directory named like the repository when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_path: Option<InnerPath>,
}

/// Artifacts that one is made of: all are unpacked together.
const MAX_INCLUDES: usize = 32;

impl Spec for GitRepositorySpec {
    const KIND: Kind = Kind::GitRepository;

    fn check(&self, at: &mut Check<'_>) {
        check_interval(&self.interval, at);
        if self.provider == GitProvider::Github && self.secret_ref.is_none() {
            at.at("secretRef").problem("is required for provider \"github\"");
        }
        let cloud = matches!(self.provider, GitProvider::Aws | GitProvider::Azure);
        if self.service_account_name.is_some() && !cloud {
            at.at("serviceAccountName")
                .problem("is only taken for provider \"aws\" or \"azure\"");
        }
        if self.include.len() > MAX_INCLUDES {
            let problem = format!(
                "names {} repositories; at most {MAX_INCLUDES} are taken",
                self.include.len()
            );
            at.at("include").problem(&problem);
        }
        let tag_signed = matches!(&self.verify, Some(verify) if verify.mode != GitVerificationMode::Head);
        let by_tag = self
            .reference
            .as_ref()
            .is_some_and(|to| to.tag.is_some() || to.semver.is_some());
        if tag_signed && !by_tag {
            at.at("verify")
                .at("mode")
                .problem("a signed tag is asked for, but ref names neither tag nor semver");
        }
    }
}

/// An interval of nothing would never end.
pub(crate) fn check_interval(interval: &GoDuration, at: &mut Check<'_>) {
    if interval.get().is_zero() {
        at.at("interval").problem("must be longer than nothing");
    }
}
