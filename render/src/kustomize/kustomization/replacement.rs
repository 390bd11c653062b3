//! What a kustomization says of values that are copied from field to field.

use serde_json::Value;

use super::Selector;
use crate::kustomize::config::gvk_pattern;
use crate::kustomize::decode::Fields;
use crate::kustomize::error::{Result, invalid};

/// One entry of `replacements`: in place, or in a file.
#[derive(Debug, Clone)]
pub(crate) enum ReplacementField {
    Inline(Box<Replacement>),
    Path(String),
}

/// Copies one value to many fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replacement {
    pub(crate) source: Option<Source>,
    pub(crate) source_value: Option<String>,
    pub(crate) targets: Option<Vec<Target>>,
}

/// Where a replacement takes its value from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) selector: Selector,
    pub(crate) field_path: String,
    pub(crate) options: Option<FieldOptions>,
}

impl Source {
    /// Returns the path of the field, which is that of the name where none is given.
    pub(crate) fn path(&self) -> &str {
        match self.field_path.as_str() {
            "" => "metadata.name",
            path => path,
        }
    }
}

/// Where a replacement writes its value to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<FieldOptions>,
}

/// Which part of a value a replacement means.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldOptions {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

impl ReplacementField {
    pub(crate) fn decode(value: &Value, at: &str) -> Result<ReplacementField> {
        let mut f = Fields::new(value, at)?;
        let path = f.text("path")?;
        let replacement = Replacement::read(&mut f)?;
        f.finish()?;
        if path.is_empty() {
            return Ok(ReplacementField::Inline(Box::new(replacement)));
        }
        if replacement.source.is_some() || replacement.targets.is_some_and(|t| !t.is_empty()) {
            return Err(invalid(format!(
                "{at}: cannot specify both path and inline replacement"
            )));
        }
        Ok(ReplacementField::Path(path))
    }
}

impl ReplacementField {
    /// Reads an entry of a kustomization's own list, where an empty list of targets is none.
    pub(crate) fn listed(value: &Value, at: &str) -> Result<ReplacementField> {
        let mut field = ReplacementField::decode(value, at)?;
        if let ReplacementField::Inline(replacement) = &mut field {
            replacement.targets = replacement.targets.take().filter(|targets| !targets.is_empty());
        }
        Ok(field)
    }
}

impl Replacement {
    /// Reads the fields of one replacement.
    pub(crate) fn read(f: &mut Fields<'_>) -> Result<Replacement> {
        let source_value = f.take("sourceValue");
        let source_value = match source_value {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(invalid("sourceValue: a string was expected")),
        };
        let source = f.object("source", |f| {
            let selector = Selector {
                gvk: gvk_pattern(f)?,
                name: f.text("name")?,
                namespace: f.text("namespace")?,
                ..Selector::default()
            };
            Ok(Source {
                selector,
                field_path: f.text("fieldPath")?,
                options: f.object("options", FieldOptions::decode)?,
            })
        })?;
        let has_targets = f.take("targets").is_some();
        let targets = f.list("targets", |value, at| {
            let mut f = Fields::new(value, at)?;
            let target = Target {
                select: f.object("select", Selector::decode)?,
                reject: f.list("reject", |value, at| {
                    let mut f = Fields::new(value, at)?;
                    let selector = Selector::decode(&mut f)?;
                    f.finish()?;
                    Ok(selector)
                })?,
                field_paths: f.strings("fieldPaths")?,
                options: f.object("options", FieldOptions::decode)?,
            };
            f.finish()?;
            Ok(target)
        })?;
        Ok(Replacement {
            source,
            source_value,
            targets: has_targets.then_some(targets),
        })
    }
}

impl FieldOptions {
    fn decode(f: &mut Fields<'_>) -> Result<FieldOptions> {
        let options = FieldOptions {
            delimiter: f.text("delimiter")?,
            index: f.integer("index")?.unwrap_or(0),
            create: f.flag("create")?,
        };
        f.text("encoding")?;
        Ok(options)
    }
}
