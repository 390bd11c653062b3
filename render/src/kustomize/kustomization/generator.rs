//! What a kustomization says of the config maps and secrets that it generates.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kustomize::decode::Fields;
use crate::kustomize::error::Result;
use crate::kustomize::resource::Behavior;

/// One entry of `configMapGenerator` or `secretGenerator`.
#[derive(Debug, Clone, Default)]
pub(crate) struct GeneratorArgs {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) behavior: Behavior,
    pub(crate) literals: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) envs: Vec<String>,
    pub(crate) options: Option<GeneratorOptions>,
    /// The type of a Secret.
    pub(crate) secret_type: String,
}

/// Options of generators.
#[derive(Debug, Clone, Default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) disable_hash: bool,
    pub(crate) immutable: bool,
}

impl GeneratorArgs {
    pub(crate) fn decode(value: &Value, at: &str, secret: bool) -> Result<GeneratorArgs> {
        let mut f = Fields::new(value, at)?;
        let args = GeneratorArgs::read(&mut f, secret)?;
        f.finish()?;
        Ok(args)
    }

    /// Reads the fields a generator has wherever it is declared.
    pub(crate) fn read(f: &mut Fields<'_>, secret: bool) -> Result<GeneratorArgs> {
        let mut args = GeneratorArgs {
            name: f.text("name")?,
            namespace: f.text("namespace")?,
            behavior: match f.text("behavior")?.as_str() {
                "replace" => Behavior::Replace,
                "merge" => Behavior::Merge,
                _ => Behavior::Create,
            },
            literals: f.strings("literals")?,
            files: f.strings("files")?,
            envs: f.strings("envs")?,
            options: f.object("options", GeneratorOptions::decode)?,
            secret_type: if secret { f.text("type")? } else { String::new() },
        };
        let env = f.text("env")?;
        if !env.is_empty() {
            args.envs.push(env);
        }
        Ok(args)
    }

    /// Counts the literals and files that the data comes from.
    pub(crate) fn sources(&self) -> usize {
        self.literals.len() + self.files.len() + self.envs.len()
    }

    /// Counts the bytes of what tells where the data comes from.
    pub(crate) fn text_bytes(&self) -> usize {
        let sources = self.literals.iter().chain(&self.files).chain(&self.envs);
        sources.map(String::len).sum()
    }

    /// Adds the options of the whole kustomization to those of this generator.
    pub(crate) fn with_options(mut self, global: &GeneratorOptions) -> GeneratorArgs {
        let options = self.options.get_or_insert_default();
        for (key, value) in &global.labels {
            options.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in &global.annotations {
            options
                .annotations
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        options.disable_hash |= global.disable_hash;
        options.immutable |= global.immutable;
        self
    }
}

impl GeneratorOptions {
    /// Counts the bytes of labels and annotations, which each object gets.
    pub(crate) fn text_bytes(&self) -> usize {
        let entries = self.labels.iter().chain(&self.annotations);
        entries.map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Counts the labels and annotations.
    pub(crate) fn entries(&self) -> usize {
        self.labels.len() + self.annotations.len()
    }

    pub(super) fn decode(f: &mut Fields<'_>) -> Result<GeneratorOptions> {
        Ok(GeneratorOptions {
            labels: f.texts("labels")?.unwrap_or_default(),
            annotations: f.texts("annotations")?.unwrap_or_default(),
            disable_hash: f.flag("disableNameSuffixHash")?,
            immutable: f.flag("immutable")?,
        })
    }
}
