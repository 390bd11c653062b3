//! The transformers of a kustomization, each ready to be applied to the objects.

mod candidates;
mod each;
mod image_names;
mod images;
mod names;
mod namespace;
mod patches;
mod paths;
mod references;
mod replacements;
mod sort;
mod values;
mod variables;

pub(crate) use each::{apply_each, is_each};
pub(crate) use images::Images;
pub(crate) use names::{Affix, add_hashes};
pub(crate) use namespace::{Namespace, Subjects};
pub(crate) use patches::{JsonPatch, MergePatches, PatchEntry};
pub(crate) use references::resolve_references;
pub(crate) use replacements::{Failure, Overwritten, replace_all, to_json};
pub(crate) use sort::sort;
pub(crate) use values::{MetadataMap, Replicas, ValueAdd, ValueTarget};
pub(crate) use variables::Variables;

use super::error::{At, Result};
use super::kustomization::Replacement;
use super::listed::Listed;
use super::resmap::ResMap;
use super::schema::Schemas;
use super::steps::Steps;

/// One transformer with its configuration.
#[derive(Debug)]
pub(crate) enum Transformer {
    MergePatches(MergePatches),
    Patch(PatchEntry),
    JsonPatch(JsonPatch),
    Namespace(Namespace),
    Prefix(Affix),
    Suffix(Affix),
    Labels(MetadataMap),
    Annotations(MetadataMap),
    Replicas(Replicas),
    Images(Images),
    Replacements(Vec<(Listed, Replacement)>),
    ValueAdd(ValueAdd),
    Hash,
}

/// What transformers share.
pub(crate) struct Context<'a> {
    pub(crate) schemas: &'a Schemas,
    pub(crate) steps: &'a Steps<'a>,
    /// The kustomization, as errors show its path.
    pub(crate) file: &'a str,
}

impl Transformer {
    /// Tells whether it looks at the objects that it changes only, and leaves none of them empty or dirty.
    pub(crate) fn is_patch(&self) -> bool {
        matches!(
            self,
            Transformer::MergePatches(_) | Transformer::Patch(_) | Transformer::JsonPatch(_)
        )
    }

    /// Changes the objects.
    pub(crate) fn apply(&self, map: &mut ResMap, context: &Context<'_>) -> Result<()> {
        if !is_each(self) && !self.is_patch() {
            context.steps.spend(map.list().len())?;
        }
        match self {
            Transformer::MergePatches(patches) => patches.apply(map, context),
            Transformer::Patch(patch) => patch.apply(map, context),
            Transformer::JsonPatch(patch) => patch.apply(map, context),
            Transformer::Namespace(namespace) => namespace.apply(map, context.steps).in_field("namespace"),
            Transformer::Replacements(list) => replace_all(map, list, context),
            Transformer::ValueAdd(value) => value.apply(map, context.steps).in_field("transformers"),
            Transformer::Hash => add_hashes(map, context.steps),
            Transformer::Prefix(_)
            | Transformer::Suffix(_)
            | Transformer::Labels(_)
            | Transformer::Annotations(_)
            | Transformer::Replicas(_)
            | Transformer::Images(_) => apply_each(std::iter::once(self), map, context),
        }
    }
}
