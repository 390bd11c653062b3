//! The built-in transformers and generators that a kustomization configures by objects of their own.

use serde_json::Value;

use super::config::field_specs;
use super::decode::Fields;
use super::error::{At, Result, invalid, unsupported};
use super::fieldspec::FieldSpec;
use super::kustomization::{GeneratorArgs, Image, Patch, ReplacementField, Replica, Selector};
use super::steps::Steps;
use super::transform::{Affix, Images, MetadataMap, Namespace, Replicas, Subjects, Transformer, ValueTarget};

/// A transformer as its object configures it; patches and replacements may still name files.
pub(crate) enum Plugin {
    Ready(Vec<Transformer>),
    Patch(Patch),
    MergePatches {
        paths: Vec<String>,
        text: String,
    },
    JsonPatch(Patch),
    Replacements(Vec<ReplacementField>),
    ValueAdd {
        value: String,
        targets: Vec<ValueTarget>,
        file: String,
    },
}

/// What to do instead of having kustomize render a chart.
pub(crate) const CHARTS: &str =
    "kustomize renders no charts here: declare the chart as a HelmRelease, which Flotilla renders itself";

/// Requires that an object configures something built in.
pub(crate) fn require_builtin(value: &Value) -> Result<&str> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = text("kind");
    if text("apiVersion") != "builtin" {
        return Err(unsupported(format!(
            "plugin {kind} of {} runs code of its own, which is not offered here; only built-in plugins are",
            text("apiVersion")
        )));
    }
    Ok(value.get("kind").and_then(Value::as_str).unwrap_or_default())
}

/// What the object of a generator configures.
pub(crate) enum Generator {
    Data {
        args: GeneratorArgs,
        /// Whether it makes a Secret, and not a ConfigMap.
        secret: bool,
    },
    /// The text of an object.
    Object(String),
}

/// Reads the object of a generator.
pub(crate) fn generator(value: &Value) -> Result<Generator> {
    let secret = match require_builtin(value)? {
        "ConfigMapGenerator" => false,
        "SecretGenerator" => true,
        "IAMPolicyGenerator" => return iam_policy(value).map(Generator::Object),
        "HelmChartInflationGenerator" => {
            return Err(unsupported(CHARTS)).in_object(|| "HelmChartInflationGenerator".to_string());
        }
        kind => {
            return Err(unsupported(format!(
                "generator {kind} is not offered here; ConfigMapGenerator, SecretGenerator and IAMPolicyGenerator are"
            )));
        }
    };
    let mut fields = Fields::new(value, "")?.not_strict();
    let mut args = GeneratorArgs::read(&mut fields, secret)?;
    fields.object("metadata", |metadata| {
        let (name, namespace) = (metadata.text("name")?, metadata.text("namespace")?);
        if args.name.is_empty() {
            args.name = name;
        }
        if args.namespace.is_empty() {
            args.namespace = namespace;
        }
        Ok(())
    })?;
    Ok(Generator::Data { args, secret })
}

/// Writes the account that an IAMPolicyGenerator makes. kustomize puts the names into a text that it reads afterwards.
fn iam_policy(value: &Value) -> Result<String> {
    let text = |path: &str| match value.pointer(path) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => {
            let field = path.trim_start_matches('/').replace('/', ".");
            Err(invalid(format!("{field}: a string was expected")))
        }
    };
    let cloud = text("/cloud")?;
    if cloud != "gke" {
        return Err(invalid(format!("cloud provider {cloud} not supported yet")));
    }
    let (name, namespace) = (
        text("/kubernetesService/name")?,
        text("/kubernetesService/namespace")?,
    );
    let (account, project) = (text("/serviceAccount/name")?, text("/serviceAccount/projectId")?);
    let mut text = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  annotations:\n    iam.gke.io/gcp-service-account: {account}@{project}.iam.gserviceaccount.com\n  name: {name}\n"
    );
    if !namespace.is_empty() {
        text.push_str(&format!("  namespace: {namespace}\n"));
    }
    Ok(text)
}

/// Reads the object of a transformer.
pub(crate) fn transformer(value: &Value, steps: &Steps<'_>) -> Result<Plugin> {
    let kind = require_builtin(value)?;
    let mut f = Fields::new(value, "")?.not_strict();
    let specs = field_specs(&mut f, "fieldSpecs")?;
    let ready = match kind {
        "PrefixSuffixTransformer" => {
            let prefix = Transformer::Prefix(affix(f.text("prefix")?, specs.clone())?);
            let suffix = Transformer::Suffix(affix(f.text("suffix")?, specs)?);
            return Ok(Plugin::Ready(vec![prefix, suffix]));
        }
        "LabelTransformer" => Transformer::Labels(MetadataMap {
            texts: f.texts("labels")?.unwrap_or_default(),
            fields: specs,
        }),
        "AnnotationsTransformer" => Transformer::Annotations(MetadataMap {
            texts: f.texts("annotations")?.unwrap_or_default(),
            fields: specs,
        }),
        "NamespaceTransformer" => Transformer::Namespace(namespace(&mut f, specs)?),
        "PrefixTransformer" => Transformer::Prefix(affix(f.text("prefix")?, specs)?),
        "SuffixTransformer" => Transformer::Suffix(affix(f.text("suffix")?, specs)?),
        "ImageTagTransformer" => {
            let image = f.take("imageTag").unwrap_or(&Value::Null);
            let image = Image::decode(image, "imageTag")?;
            Transformer::Images(Images::new(vec![image], specs.into(), steps)?)
        }
        "ReplicaCountTransformer" => {
            let read = |f: &mut Fields<'_>| {
                Ok(Replica {
                    name: f.text("name")?,
                    count: f.integer("count")?.unwrap_or(0),
                })
            };
            let replica = f.object("replica", read)?.unwrap_or_default();
            Transformer::Replicas(Replicas::new(vec![replica], specs.into()))
        }
        "HashTransformer" => Transformer::Hash,
        "ValueAddTransformer" => return value_add(&mut f),
        "PatchTransformer" | "PatchJson6902Transformer" => return patch(&mut f, kind),
        "PatchStrategicMergeTransformer" => {
            return Ok(Plugin::MergePatches {
                paths: f.strings("paths")?,
                text: f.text("patches")?,
            });
        }
        "ReplacementTransformer" => {
            return f
                .list("replacements", ReplacementField::decode)
                .map(Plugin::Replacements);
        }
        "SortOrderTransformer" => {
            return Err(unsupported(
                "transformer SortOrderTransformer cannot be loaded; sortOptions of the kustomization sorts",
            ));
        }
        "HelmChartInflationGenerator" => return Err(unsupported(CHARTS)),
        _ => {
            return Err(unsupported(format!(
                "{kind} is not offered here; built-in transformers are, which are those of the fields of a kustomization and ValueAddTransformer"
            )));
        }
    };
    Ok(Plugin::Ready(vec![ready]))
}

fn affix(text: String, fields: Vec<FieldSpec>) -> Result<Affix> {
    if fields.is_empty() {
        return Err(invalid("fieldSpecs is not expected to be nil"));
    }
    Ok(Affix { text, fields })
}

fn namespace(f: &mut Fields<'_>, fields: Vec<FieldSpec>) -> Result<Namespace> {
    let namespace = f
        .object("metadata", |metadata| metadata.text("namespace"))?
        .unwrap_or_default();
    let subjects = match f.text("setRoleBindingSubjects")?.as_str() {
        "" | "defaultOnly" => Subjects::Default,
        "allServiceAccounts" => Subjects::ServiceAccounts,
        "none" => Subjects::None,
        other => {
            return Err(invalid(format!(
                "invalid value \"{other}\" for setRoleBindingSubjects"
            )));
        }
    };
    Ok(Namespace {
        namespace,
        fields,
        unset_only: f.flag("unsetOnly")?,
        subjects,
    })
}

fn patch(f: &mut Fields<'_>, kind: &str) -> Result<Plugin> {
    let json = kind == "PatchJson6902Transformer";
    let mut patch = Patch {
        path: f.text("path")?,
        patch: f.text(if json { "jsonOp" } else { "patch" })?,
        target: f.object("target", Selector::decode)?,
        ..Patch::default()
    };
    f.object("options", |f| {
        patch.allow_name_change = f.flag("allowNameChange")?;
        patch.allow_kind_change = f.flag("allowKindChange")?;
        Ok(())
    })?;
    Ok(if json {
        Plugin::JsonPatch(patch)
    } else {
        Plugin::Patch(patch)
    })
}

fn value_add(f: &mut Fields<'_>) -> Result<Plugin> {
    Ok(Plugin::ValueAdd {
        value: f.text("value")?.trim().to_owned(),
        targets: value_targets_of(f)?,
        file: f.text("targetFilePath")?,
    })
}

/// Reads the targets of a file that a ValueAddTransformer names.
pub(crate) fn value_targets(value: &Value) -> Result<Vec<ValueTarget>> {
    value_targets_of(&mut Fields::new(value, "")?.not_strict())
}

fn value_targets_of(f: &mut Fields<'_>) -> Result<Vec<ValueTarget>> {
    f.list("targets", |value, at| {
        let mut f = Fields::new(value, at)?.not_strict();
        Ok(ValueTarget {
            selector: f.object("selector", Selector::decode)?,
            path: f.text("fieldPath")?,
            position: f.integer("filePathPosition")?.unwrap_or(0),
        })
    })
}
