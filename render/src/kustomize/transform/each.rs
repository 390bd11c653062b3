//! Transformers that change every object by itself: those that follow one another share a pass over the objects.
//!
//! The trees of a large source are larger than a processor's caches, so that every pass fetches them anew.

use super::{Affix, Context, Images, MetadataMap, Replicas, Transformer};
use crate::kustomize::error::{At, Result};
use crate::kustomize::fieldspec::Fitting;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;

/// One such transformer, with what it remembers from object to object.
enum Each<'t> {
    MetadataMap(&'t MetadataMap, Fitting<'t>),
    Affix(&'t Affix, Fitting<'t>, bool),
    Images(&'t Images, Fitting<'t>),
    /// Whether an object of each name was found.
    Replicas(&'t Replicas, Vec<bool>),
}

struct Step<'t> {
    each: Each<'t>,
    /// The field of the kustomization, for errors.
    field: &'static str,
}

impl<'t> Step<'t> {
    fn of(transformer: &'t Transformer) -> Option<Step<'t>> {
        let texts = |texts: &'t MetadataMap| Each::MetadataMap(texts, Fitting::new(&texts.fields));
        let affix = |affix: &'t Affix, first| Each::Affix(affix, Fitting::new(&affix.fields), first);
        let (each, field) = match transformer {
            Transformer::Labels(labels) => (texts(labels), "labels"),
            Transformer::Annotations(annotations) => (texts(annotations), "commonAnnotations"),
            Transformer::Prefix(prefix) => (affix(prefix, true), "namePrefix"),
            Transformer::Suffix(suffix) => (affix(suffix, false), "nameSuffix"),
            Transformer::Images(images) => (Each::Images(images, Fitting::new(images.fields())), "images"),
            Transformer::Replicas(replicas) => {
                let found = vec![false; replicas.len()];
                (Each::Replicas(replicas, found), "replicas")
            }
            _ => return None,
        };
        Some(Step { each, field })
    }

    fn change(&mut self, resource: &mut Resource, steps: &Steps<'_>) -> Result<()> {
        match &mut self.each {
            Each::MetadataMap(texts, fitting) => texts.change(resource, fitting, steps),
            Each::Affix(affix, fitting, first) => affix.change(resource, fitting, *first, steps),
            Each::Images(images, fitting) => images.change(resource, fitting, steps),
            Each::Replicas(replicas, found) => replicas.change(resource, found, steps),
        }
    }

    fn finish(&self) -> Result<()> {
        match &self.each {
            Each::Replicas(replicas, found) => match found.iter().position(|found| !found) {
                Some(missing) => Err(replicas.not_found(missing)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Returns whether the transformer changes every object by itself.
pub(crate) fn is_each(transformer: &Transformer) -> bool {
    matches!(
        transformer,
        Transformer::Labels(_)
            | Transformer::Annotations(_)
            | Transformer::Prefix(_)
            | Transformer::Suffix(_)
            | Transformer::Images(_)
            | Transformer::Replicas(_)
    )
}

/// Applies transformers of which [`is_each`] holds, one after another to each object.
pub(crate) fn apply_each<'t>(
    run: impl Iterator<Item = &'t Transformer>,
    map: &mut ResMap,
    context: &Context<'_>,
) -> Result<()> {
    let mut steps: Vec<Step<'t>> = run.filter_map(Step::of).collect();
    context
        .steps
        .spend(map.list().len().saturating_mul(steps.len()))?;
    let renames = |step: &Step<'_>| matches!(step.each, Each::Affix(..));
    if steps.iter().any(renames) {
        map.reindex();
    }
    for resource in map.contents_mut() {
        for (index, step) in steps.iter_mut().enumerate() {
            // What a transformer empties is gone for the next.
            if index > 0 && resource.node.is_empty() {
                break;
            }
            let changed = step.change(resource, context.steps).in_field(step.field);
            changed.in_object(|| resource.id().to_string())?;
            resource.sync(context.steps)?;
        }
    }
    map.drop_empty();
    steps
        .iter()
        .try_for_each(|step| step.finish().in_field(step.field))
}
