//! From a chart, values and options to hooks and manifests: what `helm template` does, without any IO.

use std::borrow::Cow;
use std::collections::BTreeMap;

use flotilla_core::version::VersionRange;

use super::capabilities::Capabilities;
use super::chart::Chart;
use super::context::{Context, Reads};
use super::crd::Crd;
use super::dependencies::Resolved;
use super::hooks::Hook;
use super::manifest::{self, Manifest, ManifestError};
use super::pathmatch;
use super::render::{self, TemplateError};
use super::render_values::{self, Release, Shared};
use super::schema::{self, SchemaError};
use super::values::coalesce::{CoalesceError, Nulls, coalesce};
use super::values::copies::Copies;
use super::warning::{Warn, Warning};
use crate::yaml::Map;

/// What the name of a file of notes ends with.
const NOTES: &str = "NOTES.txt";
/// The longest name that a release may have.
const MAX_RELEASE_NAME: usize = 53;

/// The most bytes of definitions below `crds/` that are printed: more than the files of a chart may have together.
const MAX_CRDS: usize = 64 << 20;

/// Everything that a rendering depends on.
#[derive(Debug)]
pub struct RenderInput<'a> {
    /// The chart.
    pub chart: &'a Chart,
    /// What the user gives, merged.
    pub values: Map,
    /// The release.
    pub release: Release,
    /// What is known of the cluster.
    pub capabilities: Capabilities,
    /// Whether values are taken without asking the charts' schemas.
    pub skip_schema_validation: bool,
    /// Whether the notes of the subcharts are added to those of the chart.
    pub subchart_notes: bool,
    /// Bounds, the cluster, the time and the seed.
    pub context: Context,
}

/// What a chart renders to.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// The definitions below `crds/`, as they are in the chart, by the path that output names.
    pub crds: Vec<Crd>,
    /// The manifests in install order.
    pub manifests: Vec<Manifest>,
    /// The hooks in install order.
    pub hooks: Vec<Hook>,
    /// The notes.
    pub notes: String,
    /// What was looked at that chart and values do not decide.
    pub reads: Reads,
}

/// Which parts of what was rendered are printed.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Whether definitions below `crds/` are.
    pub include_crds: bool,
    /// Whether no hooks are.
    pub no_hooks: bool,
    /// Whether hooks that are tests are not.
    pub skip_tests: bool,
    /// Patterns for paths below the chart; only what comes from these is, when there are any.
    pub show_only: Vec<String>,
}

/// Why a chart does not render. Nothing helps but another chart, other values or other options.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The release has no name.
    #[error("release name \"\": no name provided")]
    NoReleaseName,
    /// The release cannot have this name.
    #[error(
        "release name {0:?}: invalid release name, must match regex ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ and the length must not be longer than {MAX_RELEASE_NAME}"
    )]
    ReleaseName(String),
    /// The chart is a library.
    #[error("{kind} charts are not installable: {chart} is one")]
    NotInstallable {
        /// The chart's name.
        chart: String,
        /// Its type.
        kind: String,
    },
    /// Subcharts that the chart needs are missing.
    #[error("found in Chart.yaml, but missing in charts/ directory: {}", .0.join(", "))]
    MissingDependencies(Vec<String>),
    /// The chart is for other clusters.
    #[error("chart requires kubeVersion: {range} which is incompatible with Kubernetes {version}")]
    KubeVersion {
        /// The range of versions that the chart is for.
        range: String,
        /// The cluster's version.
        version: String,
    },
    /// The values cannot be brought together with the defaults.
    #[error(transparent)]
    Values(#[from] CoalesceError),
    /// A chart does not accept the values.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A template cannot be parsed or fails.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What a template renders to cannot be understood.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Why what was rendered is not printed. Nothing helps but other options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrintError {
    /// Nothing that was rendered comes from a template that was asked for.
    #[error("could not find template {0} in chart")]
    NoTemplate(String),
    /// The definitions below `crds/` of all charts, one that has several aliases counted for each, are too long.
    #[error(
        "more than {MAX_CRDS} bytes below crds/, those of a chart that has several aliases counted for each"
    )]
    TooLarge,
}

/// Renders a chart.
pub fn template(input: &RenderInput<'_>) -> Result<Rendered, RenderError> {
    template_warned(input, &mut |_| {})
}

/// Renders a chart, and tells of what means nothing in it and in the values, also where the chart then does not render.
pub fn template_warned(
    input: &RenderInput<'_>,
    warn: &mut dyn FnMut(Warning),
) -> Result<Rendered, RenderError> {
    let TextOfTemplates {
        chart,
        copies,
        mut files,
        mut reads,
        mut steps_left,
    } = texts(input, warn)?;
    let notes = take_notes(&mut files, chart.name(), input.subchart_notes);
    let mut charge = |steps: u64| -> Result<(), String> {
        steps_left = steps_left
            .checked_sub(steps)
            .ok_or_else(|| input.context.no_more_steps())?;
        input.context.go_on()
    };
    let (hooks, manifests) = manifest::sort(files, &mut charge, warn)?;
    reads.capabilities |= !input.chart.metadata.kube_version.is_empty();
    Ok(Rendered {
        crds: chart.crds(&copies)?,
        manifests,
        hooks,
        notes,
        reads,
    })
}

/// Returns what each template renders to, to the byte and unread, by its name from the root chart's on.
///
/// # Errors
///
/// As [`template`], but for what the rendered texts say.
pub fn files(input: &RenderInput<'_>) -> Result<BTreeMap<String, Vec<u8>>, RenderError> {
    Ok(texts(input, &mut |_| {})?.files)
}

/// Returns what the templates render to, as it is: for people who look for what is no YAML in it.
pub fn unread(input: &RenderInput<'_>) -> Result<String, RenderError> {
    let mut files = files(input)?;
    take_notes(&mut files, &input.chart.metadata.name, input.subchart_notes);
    let mut text = String::new();
    for (source, content) in &files {
        let content = String::from_utf8_lossy(content);
        if !content.trim().is_empty() {
            append(&mut text, source, content);
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    Ok(text)
}

/// A chart, and what its templates render to.
struct TextOfTemplates<'a> {
    chart: Resolved<'a>,
    copies: Copies<'a>,
    files: BTreeMap<String, Vec<u8>>,
    reads: Reads,
    steps_left: u64,
}

fn texts<'a>(input: &'a RenderInput<'a>, warn: Warn<'_>) -> Result<TextOfTemplates<'a>, RenderError> {
    check_installable(input.chart)?;
    check_release_name(&input.release.name)?;
    let copies = Copies::new(&input.context);
    let given = copies.table(&input.values)?;
    let mut chart = Resolved::new(input.chart, &given, &copies, warn)?;
    let values = coalesce(&chart, &given, Nulls::Remove, &copies, warn)?;
    if !input.skip_schema_validation {
        schema::check(&chart, &values, &copies)??;
    }
    chart.forget_values();
    check_kube_version(input)?;
    let shared = Shared::new(&input.release, &input.capabilities);
    let rendered = render::render_beside(
        render_values::renderables(&chart, &values, &shared, &copies)?,
        &input.context,
        copies.taken(),
    )?;
    Ok(TextOfTemplates {
        chart,
        copies,
        files: rendered.files,
        reads: rendered.reads,
        steps_left: rendered.steps_left,
    })
}

fn check_installable(chart: &Chart) -> Result<(), RenderError> {
    if !matches!(chart.metadata.kind.as_str(), "" | "application") {
        return Err(RenderError::NotInstallable {
            chart: chart.metadata.name.clone(),
            kind: chart.metadata.kind.clone(),
        });
    }
    let missing: Vec<String> = chart
        .missing_dependencies()
        .into_iter()
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(RenderError::MissingDependencies(missing))
    }
}

fn check_release_name(name: &str) -> Result<(), RenderError> {
    if name.is_empty() {
        return Err(RenderError::NoReleaseName);
    }
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes
            .first()
            .zip(bytes.last())
            .is_some_and(|(first, last)| letter(*first) && letter(*last));
        ends && bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
    };
    if name.len() <= MAX_RELEASE_NAME && name.split('.').all(part) {
        Ok(())
    } else {
        Err(RenderError::ReleaseName(name.to_owned()))
    }
}

fn check_kube_version(input: &RenderInput<'_>) -> Result<(), RenderError> {
    let range = &input.chart.metadata.kube_version;
    let version = &input.capabilities.kube_version;
    if range.is_empty() || VersionRange::matches(range, &version.normalized) {
        return Ok(());
    }
    Err(RenderError::KubeVersion {
        range: range.clone(),
        version: version.version.clone(),
    })
}

/// Takes the notes out of the rendered files; those of subcharts are dropped unless they are wanted.
fn take_notes(files: &mut BTreeMap<String, Vec<u8>>, chart: &str, with_subcharts: bool) -> String {
    let own = format!("{chart}/templates/{NOTES}");
    let mut notes = Vec::new();
    files.retain(|name, text| {
        let is_notes = name.ends_with(NOTES);
        if is_notes && (with_subcharts || *name == own) {
            notes.push(String::from_utf8_lossy(text).into_owned());
        }
        !is_notes
    });
    notes.join("\n")
}

impl Rendered {
    /// Returns the definitions below `crds/` that are printed: none unless they are wanted.
    pub fn printed_crds(&self, output: &Output) -> Result<&[Crd], PrintError> {
        if !output.include_crds {
            return Ok(&[]);
        }
        let lengths = self.crds.iter().map(|one| one.data.len());
        match lengths.fold(0, usize::saturating_add) > MAX_CRDS {
            true => Err(PrintError::TooLarge),
            false => Ok(&self.crds[..]),
        }
    }

    /// Returns the text that `helm template` prints. Each manifest is gone once it is in it, so that not all stand twice.
    pub fn text(self, output: &Output) -> Result<String, PrintError> {
        let mut text = String::new();
        for one in self.printed_crds(output)? {
            append(&mut text, &one.path, one.text());
        }
        for manifest in self.manifests {
            append(&mut text, &manifest.source, manifest.content);
        }
        text.truncate(text.trim_end().len());
        text.drain(..text.len() - text.trim_start().len());
        text.push('\n');
        if !output.no_hooks {
            let hooks = self
                .hooks
                .into_iter()
                .filter(|hook| !(output.skip_tests && hook.is_test()));
            hooks.for_each(|hook| append(&mut text, &hook.source, hook.content));
        }
        if output.show_only.is_empty() {
            Ok(text)
        } else {
            only(&text, &output.show_only)
        }
    }
}

/// From so many bytes on, no text takes twice the room that it needs.
const LARGE: usize = 16 << 20;

/// Adds a document to a text: the shorter of both is copied to the longer.
fn append<'c>(text: &mut String, source: &str, content: impl Into<Cow<'c, str>>) {
    let content = content.into();
    text.push_str("---\n# Source: ");
    text.push_str(source);
    text.push('\n');
    match content {
        Cow::Owned(mut content) if content.len() > LARGE.max(text.len()) => {
            content.reserve_exact(text.len() + 1);
            content.insert_str(0, text);
            *text = content;
        }
        content => {
            if text.len() > LARGE {
                text.reserve_exact((content.len() + 1).max(text.len() / 8));
            }
            text.push_str(&content);
        }
    }
    text.push('\n');
}

/// Returns the documents that come from templates of these paths, in the order of the patterns.
fn only(text: &str, patterns: &[String]) -> Result<String, PrintError> {
    let documents: Vec<&str> = manifest::split(text).collect();
    let mut found = String::new();
    for pattern in patterns {
        let before = found.len();
        for document in &documents {
            let matches = source_below_chart(document)
                .is_some_and(|path| pathmatch::matches(pattern, path).unwrap_or(false));
            if matches {
                found.push_str("---\n");
                found.push_str(document);
                found.push('\n');
            }
        }
        if found.len() == before {
            return Err(PrintError::NoTemplate(pattern.clone()));
        }
    }
    Ok(found)
}

/// Returns the path behind the chart's name that a document's first source comment names.
fn source_below_chart(document: &str) -> Option<&str> {
    document.lines().find_map(|line| {
        let (_, source) = line.split_once("# Source: ")?;
        let (chart, path) = source.split_once('/')?;
        (!chart.is_empty() && !path.is_empty()).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn definitions_are_printed_where_they_are_wanted_and_not_too_long() {
        let data: Arc<[u8]> = vec![b'a'; MAX_CRDS / 4].into();
        let printed = |count: usize, include_crds: bool| {
            let one = Crd {
                path: "c/crds/a.yaml".into(),
                data: data.clone(),
            };
            let rendered = Rendered {
                crds: vec![one; count],
                ..Rendered::default()
            };
            let output = Output {
                include_crds,
                ..Output::default()
            };
            rendered.printed_crds(&output).map(<[Crd]>::len)
        };
        assert_eq!(printed(4, true), Ok(4));
        assert_eq!(printed(5, true), Err(PrintError::TooLarge));
        assert_eq!(printed(5, false), Ok(0));
    }
}
