//! Which fields each transformer touches: kustomize's defaults, with the `configurations` of a kustomization added.

mod merger;

use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::Value;

use super::decode::Fields;
use super::error::Result;
use super::fieldspec::FieldSpec;
use super::id::GvkPattern;
use super::steps::Steps;
use super::tables::{self, Spec};
use merger::LISTS;
pub(crate) use merger::{Merger, merge_all};

/// The fields of every transformer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<NameReference>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

/// A type others refer to by name, and the fields that do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NameReference {
    pub(crate) gvk: GvkPattern,
    pub(crate) referrers: Vec<FieldSpec>,
}

fn specs(table: &[Spec]) -> Vec<FieldSpec> {
    table.iter().map(FieldSpec::from).collect()
}

impl Config {
    /// Returns kustomize's defaults, in the order in which it keeps fields.
    pub(crate) fn defaults() -> Config {
        let references = tables::NAME_REFERENCE.iter().map(|r| NameReference {
            gvk: GvkPattern {
                group: r.group.into(),
                version: r.version.into(),
                kind: r.kind.into(),
            },
            referrers: specs(r.referrers),
        });
        let mut config = Config {
            name_prefix: specs(tables::NAME_PREFIX),
            name_suffix: specs(tables::NAME_SUFFIX),
            namespace: specs(tables::NAMESPACE),
            common_labels: specs(tables::COMMON_LABELS),
            labels: specs(tables::LABELS),
            template_labels: specs(tables::TEMPLATE_LABELS),
            common_annotations: specs(tables::COMMON_ANNOTATIONS),
            name_reference: references.collect(),
            var_reference: specs(tables::VAR_REFERENCE),
            images: specs(tables::IMAGES),
            replicas: specs(tables::REPLICAS),
        };
        config.sort();
        config
    }

    /// Reads a file of `configurations`.
    pub(crate) fn decode(value: &Value) -> Result<Config> {
        let mut fields = Fields::new(value, "")?;
        let config = Config {
            name_prefix: field_specs(&mut fields, "namePrefix")?,
            name_suffix: field_specs(&mut fields, "nameSuffix")?,
            namespace: field_specs(&mut fields, "namespace")?,
            common_labels: field_specs(&mut fields, "commonLabels")?,
            labels: field_specs(&mut fields, "labels")?,
            template_labels: field_specs(&mut fields, "templateLabels")?,
            common_annotations: field_specs(&mut fields, "commonAnnotations")?,
            name_reference: fields.list("nameReference", |value, at| {
                let mut fields = Fields::new(value, at)?;
                let reference = NameReference {
                    gvk: gvk_pattern(&mut fields)?,
                    referrers: field_specs(&mut fields, "fieldSpecs")?,
                };
                fields.finish()?;
                Ok(reference)
            })?,
            var_reference: field_specs(&mut fields, "varReference")?,
            images: field_specs(&mut fields, "images")?,
            replicas: field_specs(&mut fields, "replicas")?,
        };
        fields.finish()?;
        let mut config = config;
        config.sort();
        Ok(config)
    }

    /// Adds the fields of another configuration.
    pub(crate) fn merge(self, other: &Config, steps: &Steps<'_>) -> Result<Config> {
        let mut merger = Merger::new(self);
        merger.add(other, steps)?;
        Ok(merger.finish())
    }

    /// Returns the lists of fields, in the order in which they are merged.
    fn lists(&self) -> [&[FieldSpec]; LISTS] {
        [
            &self.name_prefix,
            &self.name_suffix,
            &self.namespace,
            &self.common_annotations,
            &self.common_labels,
            &self.labels,
            &self.template_labels,
            &self.var_reference,
            &self.images,
            &self.replicas,
        ]
    }

    /// Lends the lists of fields, in the order of [`Config::lists`].
    fn lists_mut(&mut self) -> [&mut Vec<FieldSpec>; LISTS] {
        [
            &mut self.name_prefix,
            &mut self.name_suffix,
            &mut self.namespace,
            &mut self.common_annotations,
            &mut self.common_labels,
            &mut self.labels,
            &mut self.template_labels,
            &mut self.var_reference,
            &mut self.images,
            &mut self.replicas,
        ]
    }

    fn sort(&mut self) {
        for list in self.lists_mut() {
            list.sort_by(|a, b| compare(&a.gvk, &b.gvk));
        }
        self.name_reference.sort_by(|a, b| compare(&a.gvk, &b.gvk));
    }
}

/// The configurations that most builds share.
pub(crate) struct Shared {
    /// What a kustomization begins with.
    nothing: Rc<Config>,
    defaults: Rc<Config>,
    /// The defaults merged into nothing, which stay as they are however often they are merged.
    merged: Rc<Config>,
}

impl Shared {
    pub(crate) fn new() -> Shared {
        let defaults = Config::defaults();
        let steps = Steps::new(u64::MAX, usize::MAX, None);
        // The defaults do not contradict each other.
        let merged = Config::default().merge(&defaults, &steps).unwrap_or_default();
        Shared {
            nothing: Rc::default(),
            defaults: Rc::new(defaults),
            merged: Rc::new(merged),
        }
    }

    pub(crate) fn nothing(&self) -> Rc<Config> {
        self.nothing.clone()
    }

    /// Returns the defaults with the files of a kustomization, in their order, merged into them.
    pub(crate) fn with_files(&self, files: &[Config], steps: &Steps<'_>) -> Result<Rc<Config>> {
        if files.is_empty() {
            return Ok(self.defaults.clone());
        }
        let mut all = Merger::new(Config::default());
        files.iter().try_for_each(|file| all.add(file, steps))?;
        let defaults = (*self.defaults).clone();
        Ok(Rc::new(defaults.merge(&all.finish(), steps)?))
    }

    /// Merges one configuration into what was gathered before: of fields that cover each other, those that come
    /// first in the gathered list stay, and what was merged is sorted, so that a narrower field covers a default.
    pub(crate) fn merge(
        &self,
        gathered: Rc<Config>,
        other: &Rc<Config>,
        steps: &Steps<'_>,
    ) -> Result<Rc<Config>> {
        let plain = |config: &Rc<Config>| Rc::ptr_eq(config, &self.merged);
        let known = plain(other) || Rc::ptr_eq(other, &self.defaults);
        if known && (plain(&gathered) || Rc::ptr_eq(&gathered, &self.nothing)) {
            return Ok(self.merged.clone());
        }
        Ok(Rc::new(Rc::unwrap_or_clone(gathered).merge(other, steps)?))
    }
}

/// Reads a list of fields.
pub(crate) fn field_specs(fields: &mut Fields<'_>, name: &'static str) -> Result<Vec<FieldSpec>> {
    let strict = fields.is_strict();
    fields.list(name, |value, at| {
        let mut fields = Fields::new(value, at)?.strict_if(strict);
        let gvk = gvk_pattern(&mut fields)?;
        let spec = FieldSpec::read(gvk, fields.text("path")?, fields.flag("create")?)?;
        fields.finish()?;
        Ok(spec)
    })
}

pub(crate) fn gvk_pattern(fields: &mut Fields<'_>) -> Result<GvkPattern> {
    Ok(GvkPattern {
        group: fields.text("group")?,
        version: fields.text("version")?,
        kind: fields.text("kind")?,
    })
}

fn compare(a: &GvkPattern, b: &GvkPattern) -> Ordering {
    let rank = |p: &GvkPattern| kind_rank(&p.kind);
    rank(a)
        .cmp(&rank(b))
        .then_with(|| a.as_gvk().sort_bytes().cmp(b.as_gvk().sort_bytes()))
}

/// Where a kind stands in kustomize's order: some first, some last, all others between.
pub(crate) fn kind_rank(kind: &str) -> i32 {
    let at = |list: &[&str]| {
        list.iter()
            .position(|k| *k == kind)
            .and_then(|i| i32::try_from(i).ok())
    };
    match (at(tables::ORDER_FIRST), at(tables::ORDER_LAST)) {
        (Some(index), _) => index - 1000,
        (_, Some(index)) => index + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Shared, Steps};

    #[test]
    fn defaults_merged_again_are_the_same() {
        let shared = Shared::new();
        let steps = Steps::new(u64::MAX, usize::MAX, None);
        let again = Config::default()
            .merge(&shared.merged, &steps)
            .expect("they agree");
        assert_eq!(again, *shared.merged);
        let with_defaults = (*shared.merged)
            .clone()
            .merge(&shared.defaults, &steps)
            .expect("they agree");
        assert_eq!(with_defaults, *shared.merged);
    }
}
