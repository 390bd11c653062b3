//! The fields of a kustomization file.

mod generator;
mod replacement;

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::{field_specs, gvk_pattern};
use super::decode::Fields;
use super::error::{At, Result, invalid, unsupported};
use super::fieldspec::FieldSpec;
use super::id::{GvkPattern, group_version};
use super::plugins::CHARTS;
pub(crate) use generator::{GeneratorArgs, GeneratorOptions};
pub(crate) use replacement::{FieldOptions, Replacement, ReplacementField, Source, Target};

/// A kustomization or component, decoded and with its legacy fields moved to where they belong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    pub(crate) is_component: bool,
    pub(crate) openapi_version: String,
    pub(crate) openapi_path: String,
    pub(crate) name_prefix: String,
    pub(crate) name_suffix: String,
    pub(crate) namespace: String,
    pub(crate) common_labels: BTreeMap<String, String>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: BTreeMap<String, String>,
    pub(crate) patches_strategic_merge: Vec<String>,
    pub(crate) patches_json6902: Vec<Patch>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) images: Vec<Image>,
    pub(crate) replacements: Vec<ReplacementField>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) vars: Vec<Var>,
    pub(crate) sort: Option<SortOptions>,
    pub(crate) resources: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) crds: Vec<String>,
    pub(crate) config_maps: Vec<GeneratorArgs>,
    pub(crate) secrets: Vec<GeneratorArgs>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) configurations: Vec<String>,
    pub(crate) generators: Vec<String>,
    pub(crate) transformers: Vec<String>,
    pub(crate) validators: Vec<String>,
    pub(crate) build_metadata: Vec<String>,
}

/// One entry of `labels`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    pub(crate) pairs: BTreeMap<String, String>,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    pub(crate) fields: Vec<FieldSpec>,
}

/// One entry of `patches` or `patchesJson6902`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patch {
    pub(crate) path: String,
    pub(crate) patch: String,
    pub(crate) target: Option<Selector>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
}

/// Which objects something applies to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    pub(crate) gvk: GvkPattern,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) annotations: String,
    pub(crate) labels: String,
}

/// One entry of `images`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) new_name: String,
    pub(crate) tag_suffix: String,
    pub(crate) new_tag: String,
    pub(crate) digest: String,
}

/// One entry of `replicas`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) count: i64,
}

/// One entry of `vars`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) gvk: GvkPattern,
    pub(crate) object: String,
    pub(crate) namespace: String,
    pub(crate) field_path: String,
}

/// `sortOptions`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    pub(crate) legacy: Option<(Vec<String>, Vec<String>)>,
}

const VERSION: &str = "kustomize.config.k8s.io/v1beta1";
const COMPONENT_VERSION: &str = "kustomize.config.k8s.io/v1alpha1";

impl Kustomization {
    /// Decodes a kustomization file's JSON.
    pub(crate) fn decode(value: &Value) -> Result<Kustomization> {
        let mut f = Fields::new(value, "")?;
        let kind = f.text("kind")?;
        let api_version = f.text("apiVersion")?;
        let mut k = Kustomization {
            is_component: kind == "Component",
            ..Kustomization::default()
        };
        let mut f = {
            let mut rest = Fields::new(value, "")?;
            rest.take("kind");
            rest.take("apiVersion");
            rest
        };
        f.object("metadata", |m| {
            for name in ["name", "namespace"] {
                m.text(name)?;
            }
            m.texts("labels")?;
            m.texts("annotations")?;
            Ok(())
        })?;
        if let Some(mut openapi) = f.texts("openapi")? {
            k.openapi_version = openapi.remove("version").unwrap_or_default();
            k.openapi_path = openapi.remove("path").unwrap_or_default();
        }
        k.names_and_labels(&mut f)?;
        k.patching(&mut f)?;
        k.sources(&mut f)?;
        k.extensions(&mut f)?;
        let empty = !f.says_something();
        f.finish()?;
        if empty {
            return Err(invalid("kustomization.yaml is empty"));
        }
        if !matches!(kind.as_str(), "" | "Kustomization" | "Component") {
            return Err(invalid("kind should be Kustomization or Component"));
        }
        let required = if k.is_component {
            COMPONENT_VERSION
        } else {
            VERSION
        };
        if !api_version.is_empty() && api_version != required {
            return Err(invalid(format!("apiVersion should be {required}")));
        }
        Ok(k)
    }

    fn names_and_labels(&mut self, f: &mut Fields<'_>) -> Result<()> {
        self.name_prefix = f.text("namePrefix")?;
        self.name_suffix = f.text("nameSuffix")?;
        self.namespace = f.text("namespace")?;
        self.common_labels = f.texts("commonLabels")?.unwrap_or_default();
        self.common_annotations = f.texts("commonAnnotations")?.unwrap_or_default();
        self.labels = f.list("labels", |value, at| {
            let mut f = Fields::new(value, at)?;
            let label = Label {
                pairs: f.texts("pairs")?.unwrap_or_default(),
                include_selectors: f.flag("includeSelectors")?,
                include_templates: f.flag("includeTemplates")?,
                fields: field_specs(&mut f, "fields")?,
            };
            f.finish()?;
            Ok(label)
        })?;
        Ok(())
    }

    fn patching(&mut self, f: &mut Fields<'_>) -> Result<()> {
        self.patches_strategic_merge = f.strings("patchesStrategicMerge")?;
        self.patches_json6902 = f.list("patchesJson6902", Patch::decode)?;
        self.patches = f.list("patches", Patch::decode)?;
        self.images = f.list("images", Image::decode)?;
        self.images
            .extend(f.added(|f| f.list("imageTags", Image::decode))?);
        self.replicas = f.list("replicas", |value, at| {
            let mut f = Fields::new(value, at)?;
            let replica = Replica {
                name: f.text("name")?,
                count: f.integer("count")?.unwrap_or(0),
            };
            f.finish()?;
            Ok(replica)
        })?;
        self.replacements = f.list("replacements", ReplacementField::listed)?;
        self.vars = f.list("vars", Var::decode)?;
        self.sort = f.object("sortOptions", |f| {
            Ok(SortOptions {
                order: f.text("order")?,
                legacy: f.object("legacySortOptions", |f| {
                    Ok((f.strings("orderFirst")?, f.strings("orderLast")?))
                })?,
            })
        })?;
        Ok(())
    }

    fn sources(&mut self, f: &mut Fields<'_>) -> Result<()> {
        self.resources = f.strings("resources")?;
        self.resources.extend(f.added(|f| f.strings("bases"))?);
        self.components = f.strings("components")?;
        self.crds = f.strings("crds")?;
        self.config_maps = f.list("configMapGenerator", |v, at| GeneratorArgs::decode(v, at, false))?;
        self.secrets = f.list("secretGenerator", |v, at| GeneratorArgs::decode(v, at, true))?;
        self.generator_options = f.object("generatorOptions", GeneratorOptions::decode)?;
        for name in ["helmCharts", "helmChartInflationGenerator"] {
            if f.take(name)
                .is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()))
            {
                return Err(unsupported(CHARTS)).in_field(name);
            }
        }
        f.object("helmGlobals", |f| {
            f.text("chartHome")?;
            f.text("configHome")?;
            Ok(())
        })?;
        Ok(())
    }

    fn extensions(&mut self, f: &mut Fields<'_>) -> Result<()> {
        self.configurations = f.strings("configurations")?;
        self.generators = f.strings("generators")?;
        self.transformers = f.strings("transformers")?;
        self.validators = f.strings("validators")?;
        self.build_metadata = f.strings("buildMetadata")?;
        Ok(())
    }
}

impl Patch {
    fn decode(value: &Value, at: &str) -> Result<Patch> {
        let mut f = Fields::new(value, at)?;
        let mut patch = Patch {
            path: f.text("path")?,
            patch: f.text("patch")?,
            target: f.object("target", Selector::decode)?,
            ..Patch::default()
        };
        f.object("options", |f| {
            patch.allow_name_change = f.flag("allowNameChange")?;
            patch.allow_kind_change = f.flag("allowKindChange")?;
            Ok(())
        })?;
        f.finish()?;
        Ok(patch)
    }
}

impl Selector {
    pub(crate) fn decode(f: &mut Fields<'_>) -> Result<Selector> {
        Ok(Selector {
            gvk: gvk_pattern(f)?,
            name: f.text("name")?,
            namespace: f.text("namespace")?,
            annotations: f.text("annotationSelector")?,
            labels: f.text("labelSelector")?,
        })
    }
}

impl Image {
    pub(crate) fn decode(value: &Value, at: &str) -> Result<Image> {
        let mut f = Fields::new(value, at)?;
        let image = Image {
            name: f.text("name")?,
            new_name: f.text("newName")?,
            tag_suffix: f.text("tagSuffix")?,
            new_tag: f.text("newTag")?,
            digest: f.text("digest")?,
        };
        f.finish()?;
        Ok(image)
    }
}

impl Var {
    fn decode(value: &Value, at: &str) -> Result<Var> {
        let mut f = Fields::new(value, at)?;
        let mut var = Var {
            name: f.text("name")?,
            ..Var::default()
        };
        f.object("objref", |f| {
            let api_version = f.text("apiVersion")?;
            var.gvk = gvk_pattern(f)?;
            if !api_version.is_empty() {
                let (group, version) = group_version(&api_version);
                if !group.is_empty() {
                    var.gvk.group = group.to_string();
                }
                var.gvk.version = version.to_string();
            }
            var.object = f.text("name")?;
            var.namespace = f.text("namespace")?;
            Ok(())
        })?;
        f.object("fieldref", |f| {
            var.field_path = f.text("fieldPath")?;
            Ok(())
        })?;
        if var.field_path.is_empty() {
            var.field_path = "metadata.name".into();
        }
        f.finish()?;
        Ok(var)
    }
}
