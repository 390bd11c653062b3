//! `Chart.yaml`, and the dependencies that `requirements.yaml` held before it: reading and validation.
//!
//! Names and versions are checked here because later code builds paths from them.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::text::runes::{is_print, is_space};
use flotilla_core::version::Version;

use crate::helm::typed;
use crate::yaml::Value;

/// What a chart says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Chart.yaml")]
pub struct Metadata {
    pub name: String,
    pub home: String,
    pub sources: Vec<String>,
    pub version: String,
    pub description: String,
    pub keywords: Vec<String>,
    pub maintainers: Vec<Maintainer>,
    pub icon: String,
    pub api_version: String,
    pub condition: String,
    pub tags: String,
    pub app_version: String,
    pub deprecated: bool,
    pub annotations: BTreeMap<String, String>,
    /// Whether `Chart.yaml` gives annotations, be it none.
    pub has_annotations: bool,
    pub kube_version: String,
    /// `None` when the chart names no dependencies at all, which is not the same as an empty list.
    pub dependencies: Option<Vec<Dependency>>,
    pub kind: String,
}

/// Who keeps a chart.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Chart.yaml")]
pub struct Maintainer {
    pub name: String,
    pub email: String,
    pub url: String,
}

/// A chart that another one needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dependency {
    /// The name in the dependency's own `Chart.yaml`; its alias once dependencies are resolved.
    pub name: String,
    /// The range of versions that will do.
    pub version: String,
    /// Where it is fetched from.
    pub repository: String,
    /// Paths into the values, joined by commas; the first that is a boolean decides.
    pub condition: String,
    /// Names below `tags` in the values.
    pub tags: Vec<String>,
    /// Whether it takes part; computed, and visible to templates.
    pub enabled: bool,
    /// Which of its values its parent takes over.
    pub import_values: Vec<Value>,
    /// The name that it has in its parent; empty when that is its own.
    pub alias: String,
}

impl Metadata {
    /// Takes over the fields that a document has.
    pub(in crate::helm) fn read(&mut self, document: &Value, file: &str) -> Result<(), String> {
        for (name, field) in typed::fields(document, file)? {
            match name.as_str() {
                "name" => self.name = typed::text(field, "name")?,
                "home" => self.home = typed::text(field, "home")?,
                "sources" => self.sources = typed::texts(field, "sources")?,
                "version" => self.version = typed::text(field, "version")?,
                "description" => self.description = typed::text(field, "description")?,
                "keywords" => self.keywords = typed::texts(field, "keywords")?,
                "maintainers" => self.maintainers = maintainers(field)?,
                "icon" => self.icon = typed::text(field, "icon")?,
                "apiversion" => self.api_version = typed::text(field, "apiVersion")?,
                "condition" => self.condition = typed::text(field, "condition")?,
                "tags" => self.tags = typed::text(field, "tags")?,
                "appversion" => self.app_version = typed::text(field, "appVersion")?,
                "deprecated" => self.deprecated = typed::flag(field, "deprecated")?,
                "annotations" => {
                    self.annotations = typed::text_map(field, "annotations")?;
                    self.has_annotations = !field.is_null();
                }
                "kubeversion" => self.kube_version = typed::text(field, "kubeVersion")?,
                "dependencies" => self.dependencies = dependencies(field)?,
                "type" => self.kind = typed::text(field, "type")?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns whether the chart only lends its named templates.
    pub fn is_library(&self) -> bool {
        self.kind.eq_ignore_ascii_case("library")
    }

    /// Cleans the texts and checks what later steps rely on.
    pub(in crate::helm) fn validate(&mut self) -> Result<(), String> {
        for text in [
            &mut self.name,
            &mut self.description,
            &mut self.home,
            &mut self.icon,
            &mut self.condition,
            &mut self.tags,
            &mut self.app_version,
            &mut self.kube_version,
        ] {
            sanitize(text);
        }
        self.sources
            .iter_mut()
            .chain(&mut self.keywords)
            .for_each(sanitize);
        for maintainer in &mut self.maintainers {
            [&mut maintainer.name, &mut maintainer.email, &mut maintainer.url]
                .into_iter()
                .for_each(sanitize);
        }
        self.validate_identity()?;
        if !matches!(self.kind.as_str(), "" | "application" | "library") {
            return Err("chart.metadata.type must be application or library".to_owned());
        }
        self.validate_dependencies()
    }

    fn validate_identity(&self) -> Result<(), String> {
        let required = [
            ("apiVersion", &self.api_version),
            ("name", &self.name),
            ("version", &self.version),
        ];
        if let Some((field, _)) = required.iter().find(|(_, text)| text.is_empty()) {
            return Err(format!("chart.metadata.{field} is required"));
        }
        if matches!(self.name.as_str(), "." | "..") || self.name.contains('/') {
            return Err(format!("chart.metadata.name {:?} is invalid", self.name));
        }
        if Version::parse(&self.version).is_err() {
            return Err(format!("chart.metadata.version {:?} is invalid", self.version));
        }
        Ok(())
    }

    fn validate_dependencies(&mut self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for dependency in self.dependencies.iter_mut().flatten() {
            dependency.validate()?;
            let name = dependency.name_in_parent();
            if !names.insert(name.to_owned()) {
                return Err(format!("more than one dependency with name or alias {name:?}"));
            }
        }
        Ok(())
    }
}

impl Dependency {
    /// Returns the name that the dependency has in its parent.
    pub fn name_in_parent(&self) -> &str {
        if self.alias.is_empty() {
            &self.name
        } else {
            &self.alias
        }
    }

    fn read(document: &Value) -> Result<Self, String> {
        if document.is_null() {
            return Err("dependencies must not contain empty or null nodes".to_owned());
        }
        let mut dependency = Self::default();
        for (name, field) in typed::fields(document, "dependency")? {
            match name.as_str() {
                "name" => dependency.name = typed::text(field, "dependency.name")?,
                "version" => dependency.version = typed::text(field, "dependency.version")?,
                "repository" => dependency.repository = typed::text(field, "dependency.repository")?,
                "condition" => dependency.condition = typed::text(field, "dependency.condition")?,
                "tags" => dependency.tags = typed::texts(field, "dependency.tags")?,
                "enabled" => dependency.enabled = typed::flag(field, "dependency.enabled")?,
                "import-values" => {
                    dependency.import_values = typed::list(field, "dependency.import-values")?.to_vec();
                }
                "alias" => dependency.alias = typed::text(field, "dependency.alias")?,
                _ => {}
            }
        }
        Ok(dependency)
    }

    fn validate(&mut self) -> Result<(), String> {
        [
            &mut self.name,
            &mut self.version,
            &mut self.repository,
            &mut self.condition,
        ]
        .into_iter()
        .chain(&mut self.tags)
        .for_each(sanitize);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if self.alias.chars().all(legal) {
            Ok(())
        } else {
            Err(format!(
                "dependency {:?} has disallowed characters in the alias",
                self.name
            ))
        }
    }
}

fn maintainers(value: &Value) -> Result<Vec<Maintainer>, String> {
    typed::list(value, "maintainers")?
        .iter()
        .map(maintainer)
        .collect()
}

fn maintainer(value: &Value) -> Result<Maintainer, String> {
    if value.is_null() {
        return Err("maintainers must not contain empty or null nodes".to_owned());
    }
    let mut maintainer = Maintainer::default();
    for (name, field) in typed::fields(value, "maintainer")? {
        match name.as_str() {
            "name" => maintainer.name = typed::text(field, "maintainer.name")?,
            "email" => maintainer.email = typed::text(field, "maintainer.email")?,
            "url" => maintainer.url = typed::text(field, "maintainer.url")?,
            _ => {}
        }
    }
    Ok(maintainer)
}

fn dependencies(value: &Value) -> Result<Option<Vec<Dependency>>, String> {
    if value.is_null() {
        return Ok(None);
    }
    typed::list(value, "dependencies")?
        .iter()
        .map(Dependency::read)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Turns every kind of space into a plain one and drops what cannot be printed.
fn sanitize(text: &mut String) {
    let clean = |c: char| match c {
        c if is_space(c) => Some(' '),
        c if is_print(c) => Some(c),
        _ => None,
    };
    *text = text.chars().filter_map(clean).collect();
}
