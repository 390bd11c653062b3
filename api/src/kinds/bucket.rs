//! Bucket: the files of an object store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::git_repository::check_interval;
use super::oci_repository::CloudProvider;
use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{GoDuration, Name, ShortDuration};

/// What a Bucket asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketSpec {
    /// Whose object store it is; any that speaks S3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<CloudProvider>,
    /// The bucket's name.
    pub bucket_name: String,
    /// The store's host, perhaps with a port.
    pub endpoint: String,
    /// The store's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The beginning of the names to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether to speak plain HTTP.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// How to get credentials from a token service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts: Option<BucketSts>,
    /// Secret with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// ServiceAccount whose cloud identity authenticates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
    /// Secret with a certificate authority and client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalRef>,
    /// Secret with a proxy's address and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalRef>,
    /// Exclusions in gitignore form, replacing the built-in list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<String>,
    /// How often to look for changes.
    pub interval: GoDuration,
    /// The longest a fetch may take; 60s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ShortDuration>,
    /// Whether to leave the source alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// A service that gives credentials for a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketSts {
    /// The service's form.
    pub provider: StsProvider,
    /// The service's URL.
    pub endpoint: String,
    /// Secret with the credentials for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Secret with a certificate authority and client certificate for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalRef>,
}

/// A form of token service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StsProvider {
    /// That of AWS.
    Aws,
    /// One that asks an LDAP directory.
    Ldap,
}

impl Spec for BucketSpec {
    const KIND: Kind = Kind::Bucket;

    fn check(&self, at: &mut Check<'_>) {
        check_interval(&self.interval, at);
        for (field, value) in [("bucketName", &self.bucket_name), ("endpoint", &self.endpoint)] {
            if value.is_empty() {
                at.at(field).problem("is empty");
            }
        }
        if self.endpoint.contains("://") || self.endpoint.contains('@') {
            at.at("endpoint").advise(
                "must be a host without scheme and credentials",
                "such as \"minio.example.com:9000\"",
            );
        }
        if let Some(sts) = &self.sts {
            let fits = match sts.provider {
                StsProvider::Aws => self.provider == Some(CloudProvider::Aws),
                StsProvider::Ldap => self.provider.unwrap_or_default() == CloudProvider::Generic,
            };
            if !fits {
                at.at("sts")
                    .at("provider")
                    .problem("\"aws\" needs provider \"aws\", \"ldap\" provider \"generic\"");
            }
        }
    }
}
