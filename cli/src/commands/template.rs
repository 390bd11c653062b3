//! `flotilla template`: renders a chart from disk with the flags of `helm template`, without a cluster.
//!
//! It reads files, the time and randomness, and prints; what a chart renders to is decided in the render crate.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgAction;
use flotilla_core::text::address::shown_address;
use flotilla_render::helm::action::{self, Output, RenderError, RenderInput};
use flotilla_render::helm::archive::{Budget, Limits};
use flotilla_render::helm::capabilities::{Capabilities, KubeVersion};
use flotilla_render::helm::chart::{Chart, ChartError};
use flotilla_render::helm::context::{Context, Stop};
use flotilla_render::helm::manifest::ManifestError;
use flotilla_render::helm::render_values::Release;
use flotilla_render::helm::values::Sources;
use ring::rand::{SecureRandom, SystemRandom};

use crate::Host;
use crate::commands::deadline::Deadline;
use crate::error::{CommandError, chain};

mod error;
pub(super) mod flags;
mod folder;
mod kubeconfig;
mod naming;
mod read;
mod written;

use error::TemplateError;
use naming::{Naming, name, too_many};
use read::{MAX_FILE_BYTES, read_bounded, read_file, unreadable};

/// Render a chart from disk, as helm template does
///
/// Takes its flags and prints what it prints, byte for byte. Nothing is looked up in a cluster.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    override_usage = "flotilla template [OPTIONS] [NAME] <CHART>",
    after_help = "What differs from helm template is told in docs/reference/helm-differences.md."
)]
pub(crate) struct TemplateArgs {
    /// The release's name, then the chart: a folder or a .tgz file; the name may be left out
    #[arg(required = true, num_args = 1.., value_names = ["NAME", "CHART"])]
    name_and_chart: Vec<String>,
    /// Namespace of the release [default: HELM_NAMESPACE, that of the kubeconfig's context, default]
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    namespace: String,
    /// File that says the namespace where no other is given [default: KUBECONFIG, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Context of the kubeconfig whose namespace is taken
    #[arg(long, value_name = "NAME")]
    kube_context: Option<String>,
    /// Print what is rendered also when it is no YAML
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    debug: bool,
    /// Refused where dependencies are missing
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL", hide = true)]
    dependency_update: bool,
    /// A file of values, or - for standard input; later files win
    #[arg(short = 'f', long = "values", value_name = "FILE", value_delimiter = ',')]
    values: Vec<String>,
    /// Values: key1=val1,key2=val2
    #[arg(long, value_name = "VALUES", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Values that are always text
    #[arg(long, value_name = "VALUES", allow_hyphen_values = true)]
    set_string: Vec<String>,
    /// Values in JSON: key1=json1,key2=json2, or one map
    #[arg(long, value_name = "VALUES", allow_hyphen_values = true)]
    set_json: Vec<String>,
    /// Values that are the contents of files: key1=path1,key2=path2
    #[arg(long, value_name = "VALUES", allow_hyphen_values = true)]
    set_file: Vec<String>,
    /// A value taken as it is written
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    set_literal: Vec<String>,
    /// The Kubernetes version that the chart is told
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    #[command(flatten)]
    naming: Naming,
    /// Write the manifests to files below this folder
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<String>,
    /// API versions that the chart is told besides those it always is
    #[arg(short, long, value_name = "VERSIONS", value_delimiter = ',')]
    api_versions: Vec<String>,
    /// Print the definitions of the chart's crds folders too
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    include_crds: bool,
    /// Tell the chart that the release is upgraded and not installed
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    is_upgrade: bool,
    /// Print no hooks
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    no_hooks: bool,
    /// Print only what comes from these templates
    #[arg(short, long, value_name = "TEMPLATE")]
    show_only: Vec<String>,
    /// Print no tests
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    skip_tests: bool,
    /// Take values that the charts' schemas refuse
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    skip_schema_validation: bool,
    /// Longest time that the rendering may take; 0 for any
    #[arg(long, value_name = "DURATION", default_value = "5m", allow_hyphen_values = true, value_parser = flags::duration)]
    timeout: Duration,
    #[command(flatten)]
    passed_over: flags::PassedOver,
    #[command(flatten)]
    refused: flags::Refused,
}

pub(crate) fn cmd_template(args: &TemplateArgs, host: &mut Host) -> Result<(), CommandError> {
    if let [_, _, more @ ..] = args.name_and_chart.as_slice()
        && !more.is_empty()
    {
        return Err(too_many(more));
    }
    let deadline = Deadline::after(args.timeout);
    let text = printed(args, deadline, host).map_err(|error| {
        let failed = match error.is_usage() {
            true => CommandError::usage(chain(&error)),
            false => CommandError::failed(chain(&error)),
        };
        let failed = match error.hint(debug(args, host)) {
            Some(hint) => failed.hint(hint),
            None => failed,
        };
        deadline.told("the rendering", failed)
    })?;
    host.ui.text(&text);
    Ok(())
}

/// The flag, or else the variable, as Helm reads it.
fn debug(args: &TemplateArgs, host: &Host) -> bool {
    let variable = || {
        host.variable("HELM_DEBUG")
            .is_some_and(|text| flags::go_bool(&text) == Ok(true))
    };
    args.debug || variable()
}

/// Returns the namespace of the release: the flag's, the environment's, or that of the kubeconfig's context.
fn namespace(args: &TemplateArgs, stop: &Stop, host: &Host) -> String {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let given = some(args.namespace.clone()).or_else(|| some(host.variable("HELM_NAMESPACE")?));
    let of_context = || {
        let files: Vec<Vec<u8>> = kubeconfigs(args, host)
            .iter()
            .filter_map(|path| read_bounded(std::fs::File::open(path).ok()?, path, MAX_FILE_BYTES, stop).ok())
            .collect();
        let context = args
            .kube_context
            .clone()
            .or_else(|| host.variable("HELM_KUBECONTEXT"));
        kubeconfig::namespace(&files, context.and_then(some).as_deref())
    };
    given.or_else(of_context).unwrap_or_else(|| "default".to_owned())
}

/// Where the kubeconfig is looked for. A file that is missing says nothing.
fn kubeconfigs(args: &TemplateArgs, host: &Host) -> Vec<String> {
    if let Some(path) = args.kubeconfig.clone().filter(|path| !path.is_empty()) {
        return vec![path];
    }
    match host.variable("KUBECONFIG").filter(|paths| !paths.is_empty()) {
        Some(paths) => paths
            .split(':')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
        None => host
            .variable("HOME")
            .map(|home| format!("{home}/.kube/config"))
            .into_iter()
            .collect(),
    }
}

fn printed(args: &TemplateArgs, deadline: Deadline, host: &mut Host) -> Result<String, TemplateError> {
    args.refused.check(args.passed_over.dry_run)?;
    let output_dir = args.output_dir.as_deref().filter(|folder| !folder.is_empty());
    if output_dir.is_some() && !args.show_only.is_empty() {
        return Err(TemplateError::ShowOnlyFiles);
    }
    let (name, path) = name(args, deadline, host)?;
    let capabilities = capabilities(args)?;
    let stop = Stop::new(deadline.stop(1));
    let values = values(args, &stop, host)?;
    let chart = load(&path, &stop)?;
    if chart.metadata.deprecated {
        host.ui.warning("this chart is deprecated");
    }
    let input = RenderInput {
        chart: &chart,
        values,
        release: Release {
            name: name.clone(),
            namespace: namespace(args, &stop, host),
            revision: 1,
            is_upgrade: args.is_upgrade,
        },
        capabilities,
        skip_schema_validation: args.skip_schema_validation,
        subchart_notes: false,
        context: context(deadline, host)?,
    };
    let output = Output {
        include_crds: args.include_crds,
        no_hooks: args.no_hooks,
        skip_tests: args.skip_tests,
        show_only: args.show_only.clone(),
    };
    let mut warnings = Vec::new();
    // A chart may be warned of as often as its values have entries.
    let mut known = HashSet::new();
    let rendered = action::template_warned(&input, &mut |warning| {
        if known.insert(warning.clone()) {
            warnings.push(warning);
        }
    });
    for warning in warnings {
        host.ui.warning(&warning.to_string());
    }
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(error @ RenderError::MissingDependencies(_)) if args.dependency_update => {
            return Err(TemplateError::DependencyUpdate(error));
        }
        Err(error @ RenderError::Manifest(ManifestError::Yaml { .. })) if debug(args, host) => {
            // The same input renders to the same text.
            host.ui.text(&action::unread(&input)?);
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    match output_dir {
        None => Ok(rendered.text(&output)?),
        Some(folder) => {
            let release = args.naming.release_name.then_some(name.as_str());
            written::write(&rendered, &output, folder, release)
        }
    }
}

fn capabilities(args: &TemplateArgs) -> Result<Capabilities, TemplateError> {
    let mut capabilities = Capabilities::default();
    if let Some(version) = args.kube_version.as_deref().filter(|version| !version.is_empty()) {
        capabilities.kube_version = KubeVersion::parse(version)?;
    }
    capabilities
        .api_versions
        .extend(args.api_versions.iter().filter(|name| !name.is_empty()).cloned());
    Ok(capabilities)
}

fn values(
    args: &TemplateArgs,
    stop: &Stop,
    host: &mut Host,
) -> Result<flotilla_render::yaml::Map, TemplateError> {
    let mut files = Vec::new();
    for name in args.values.iter().filter(|name| !name.is_empty()) {
        files.push((name.clone(), read_file(name, stop, host)?));
    }
    let sources = Sources {
        files,
        json: args.set_json.clone(),
        set: args.set.clone(),
        string: args.set_string.clone(),
        file: args.set_file.clone(),
        literal: args.set_literal.clone(),
    };
    let mut read = |name: &str| read_file(name, stop, host).map_err(|error| chain(&error));
    Ok(sources.merge_until(stop, &mut read)?)
}

fn load(path: &str, stop: &Stop) -> Result<Chart, TemplateError> {
    let limits = Limits::default();
    let budget = Budget::from(limits).until(stop);
    let place = PathBuf::from(path);
    let kind = std::fs::metadata(&place).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound if !looks_local(&place) => TemplateError::NotLocal(shown(path)),
        _ => unreadable(path, source),
    })?;
    let chart = if kind.is_dir() {
        // Of a folder that is no chart nothing is read: it may be any.
        if !has_metadata(&place) {
            return Err(TemplateError::Chart {
                chart: path.to_owned(),
                source: ChartError::NoMetadata,
            });
        }
        Chart::from_directory(folder::read(&place, &limits, stop)?, budget)
    } else {
        let file = std::fs::File::open(&place).map_err(|source| unreadable(path, source))?;
        Chart::from_archive(&read_bounded(file, path, limits.archive_bytes, stop)?, budget)
    };
    chart.map_err(|source| TemplateError::Chart {
        chart: path.to_owned(),
        source,
    })
}

/// Returns a chart as messages show it: an address without what may be secret.
fn shown(path: &str) -> String {
    match path.contains("://") {
        true => shown_address(path),
        false => path.to_owned(),
    }
}

/// Tells whether a folder has a Chart.yaml, be it one that cannot be read.
fn has_metadata(folder: &Path) -> bool {
    match std::fs::symlink_metadata(folder.join("Chart.yaml")) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn looks_local(path: &Path) -> bool {
    path.is_absolute() || path.starts_with(".") || path.starts_with("..")
}

/// What templates ask of the machine, until the time is over.
fn context(deadline: Deadline, host: &mut Host) -> Result<Context, TemplateError> {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| TemplateError::Random)?;
    Ok(Context {
        now: (host.now_ms)().saturating_mul(1_000_000),
        seed,
        stop: Some(Stop::new(deadline.stop(1))),
        ..Context::default()
    })
}
