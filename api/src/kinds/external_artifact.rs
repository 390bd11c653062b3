//! ExternalArtifact: an artifact that another program publishes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::kind::Kind;
use crate::meta::ObjectRef;

/// What an ExternalArtifact says about its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalArtifactSpec {
    /// The object that publishes the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<ObjectRef>,
}

impl Spec for ExternalArtifactSpec {
    const KIND: Kind = Kind::ExternalArtifact;
}
