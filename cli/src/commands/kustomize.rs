//! `flotilla kustomize`: builds a directory without a hub, with the engine the hub uses.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::text::address::shown_address;
use flotilla_render::kustomize::{
    Budget, BuildError, Deprecation, GenerateOptions, KUSTOMIZATION_FILES, Object, Overlay, Paths,
    RenderInput, Restriction, build_each, file_names, generate,
};

use super::below::Below;
use crate::Host;
use crate::commands::deadline::Deadline;
use crate::commands::template::flags::duration;
use crate::error::{CommandError, chain};

mod disk;
mod flags;
mod ignored;

use disk::Disk;
use ignored::Visible;

/// Build a directory into manifests, as `kustomize build` does
///
/// A directory without kustomization.yaml gets one that lists its manifests, as in Flux, but for those that a source
/// leaves out: what .sourceignore names, or .github and its like where there is none. Nothing is fetched and no program is
/// run.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "What differs from kustomize build is told in docs/reference/kustomize-differences.md."
)]
pub(crate) struct KustomizeArgs {
    /// The directory
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// What stands behind the directory; kustomize itself has commands, and the directory behind them
    #[arg(hide = true)]
    behind: Vec<String>,
    /// Which files a kustomization may name
    #[arg(long, value_enum, default_value_t = LoadRestrictor::LoadRestrictionsRootOnly)]
    load_restrictor: LoadRestrictor,
    /// Write to this file, or a file for each object to this directory
    #[arg(short, long, value_name = "PATH")]
    output: Option<OsString>,
    /// The order of objects where no kustomization has sortOptions
    #[arg(long, value_enum, default_value_t = Reorder::Legacy)]
    reorder: Reorder,
    /// Longest time that the build may take; 0 for any
    #[arg(long, value_name = "DURATION", default_value = "5m", allow_hyphen_values = true, value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    passed_over: flags::PassedOver,
    #[command(flatten)]
    refused: flags::Refused,
}

impl KustomizeArgs {
    /// Refuses a command of kustomize in the place of the directory.
    fn require_one(&self, shown: &str) -> Result<(), CommandError> {
        let is_command = !self.behind.is_empty() || !self.directory.exists();
        let words = match (shown, self.behind.as_slice()) {
            ("build", behind) if is_command => format!(
                "leave out 'build': flotilla kustomize {}",
                behind.first().map_or("DIRECTORY", String::as_str)
            ),
            ("alpha" | "cfg" | "create" | "edit" | "fn" | "localize", _) if is_command => {
                format!("'kustomize {shown}' is not offered here; it needs kustomize itself")
            }
            ("version", _) if is_command => "flotilla version tells the version".to_owned(),
            (_, []) => return Ok(()),
            (_, [behind, ..]) => format!("unexpected argument '{behind}' behind the directory"),
        };
        Err(CommandError::usage(words))
    }

    /// Where it is written, if not to standard output; an empty name is none, as for kustomize.
    fn output(&self) -> Option<&Path> {
        self.output
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(Path::new)
    }
}

/// As kustomize spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LoadRestrictor {
    /// Those in or below its directory
    #[value(name = "LoadRestrictionsRootOnly")]
    LoadRestrictionsRootOnly,
    /// Any
    #[value(name = "LoadRestrictionsNone")]
    LoadRestrictionsNone,
}

/// How objects are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Reorder {
    /// Namespaces and definitions first, webhooks last
    Legacy,
    /// As they came
    None,
}

pub(crate) fn cmd_kustomize(args: &KustomizeArgs, host: &mut Host) -> Result<(), CommandError> {
    args.refused
        .check()
        .map_err(|refused| CommandError::usage(refused.to_string()))?;
    let shown = args.directory.display().to_string();
    args.require_one(&shown)?;
    let unreadable = |error| CommandError::failed(format!("cannot read {shown}: {error}"));
    let directory = fs::canonicalize(&args.directory).map_err(|error| match is_remote(&shown) {
        true => not_fetched(&shown),
        false => unreadable(error),
    })?;
    if !directory.is_dir() {
        return Err(CommandError::failed(format!("{shown} is not a directory")));
    }
    let directory = directory
        .to_str()
        .ok_or_else(|| CommandError::failed(format!("{shown} has a path that is not UTF-8")))?;
    let shown = match shown.trim_end_matches('/') {
        "" => "/",
        shown => shown,
    };
    let directory = directory.trim_start_matches('/');
    let budget = Budget::default();
    let tree = Disk::new(budget.bytes);
    let input = RenderInput {
        restriction: match args.load_restrictor {
            LoadRestrictor::LoadRestrictionsRootOnly => Restriction::Directory,
            LoadRestrictor::LoadRestrictionsNone => Restriction::Tree,
        },
        unsorted: args.reorder == Reorder::None,
        // People named the directory: what is in it is shown as they would write it.
        paths: Paths {
            root: "/",
            written: Some((directory, shown)),
        },
        ..RenderInput::new(&tree, directory, &budget)
    };
    // A base that many overlays share is read for each of them, and told of once.
    let deprecations = RefCell::new((Vec::new(), HashSet::new()));
    let note = |deprecation: Deprecation| {
        let (noted, known) = &mut *deprecations.borrow_mut();
        if known.insert(deprecation.clone()) {
            noted.push(deprecation);
        }
    };
    let deadline = Deadline::after(args.timeout);
    let stop = deadline.stop(64);
    let input = RenderInput {
        warn: Some(&note),
        stop: Some(&stop),
        ..input
    };
    let written = render_to(args.output(), &input, &tree, host)
        .map_err(|error| deadline.told(&format!("the build of {shown}"), error));
    for deprecation in deprecations.take().0 {
        host.ui.warning(&deprecation.to_string());
    }
    written
}

/// Renders into a file, into files of a folder, or to standard output.
fn render_to(
    output: Option<&Path>,
    input: &RenderInput<'_>,
    disk: &Disk,
    host: &mut Host,
) -> Result<(), CommandError> {
    match output {
        Some(folder) if folder.is_dir() => {
            let mut objects = Vec::new();
            render(input, disk, host, &mut |object| objects.push(object))?;
            write_each(&objects, folder)
        }
        output => {
            // Each object becomes text as soon as it is done, so that text and objects never stand side by side.
            let mut text = String::new();
            render(input, disk, host, &mut |object| object.append_to(&mut text))?;
            match output {
                Some(file) => write(file, &text),
                None => {
                    host.ui.text(&text);
                    Ok(())
                }
            }
        }
    }
}

fn render(
    input: &RenderInput<'_>,
    disk: &Disk,
    host: &mut Host,
    each: &mut dyn FnMut(Object),
) -> Result<(), CommandError> {
    let built = build(input, host, each);
    // What cannot be read comes before what follows from its absence.
    let built = match disk.fault() {
        Some(fault) => Err(fault.to_string()),
        None => built,
    };
    built.map_err(|error| CommandError::failed(format!("kustomize build failed: {error}")))
}

fn build(input: &RenderInput<'_>, host: &mut Host, each: &mut dyn FnMut(Object)) -> Result<(), String> {
    // Also one that cannot be read, or a link that leads nowhere: what stands there says what is to be built.
    let has_own = |name: &str| input.tree.entry(&format!("{}/{name}", input.directory)).is_some();
    if KUSTOMIZATION_FILES.iter().any(|name| has_own(name)) {
        return build_own(input, each);
    }
    let mut is_empty = true;
    let built = build_generated(input, &mut |object| {
        is_empty = false;
        each(object);
    });
    let (_, shown) = input.paths.written.unwrap_or_default();
    if built.is_ok() && is_empty {
        return Err(format!(
            "{shown} has no kustomization.yaml and no manifests below it"
        ));
    }
    host.ui.warning(&format!(
        "{shown} has no kustomization.yaml: all manifests below it are built"
    ));
    built
}

/// Builds by the kustomization that stands in the directory.
fn build_own(input: &RenderInput<'_>, each: &mut dyn FnMut(Object)) -> Result<(), String> {
    build_each(input, each).map(|_| ()).map_err(|error| match error {
        // No app declares sources here.
        BuildError::Remote { place, line, url } => {
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!(
                "{place}{line}'{url}' is not fetched; download it first, as with git clone, and refer to it by path"
            )
        }
        error => error.to_string(),
    })
}

/// Builds by a kustomization that lists the manifests below the directory.
fn build_generated(input: &RenderInput<'_>, each: &mut dyn FnMut(Object)) -> Result<(), String> {
    // As the artifact of its source: also what is read later is not there where it is left out.
    let visible = Visible::new(input);
    let listed = RenderInput {
        tree: &visible,
        ..*input
    };
    let generated = generate(&listed, &GenerateOptions::default()).map_err(|error| chain(&error));
    let built = generated.and_then(|generated| {
        let tree = Overlay {
            tree: &visible,
            path: &generated.path,
            bytes: generated.text.as_bytes(),
        };
        build_own(
            &RenderInput {
                tree: &tree,
                ..*input
            },
            each,
        )
    });
    match visible.fault() {
        Some(fault) => Err(fault),
        None => built,
    }
}

/// Tells whether an argument that is no directory names something that kustomize would fetch.
fn is_remote(argument: &str) -> bool {
    argument.contains("://") || argument.starts_with("git@") || argument.starts_with("github.com")
}

fn not_fetched(argument: &str) -> CommandError {
    CommandError::failed(format!("{} is not fetched", shown_address(argument)))
        .hint("download it first, as with git clone, and name the directory")
}

/// Writes each object to a file of its own, or none where a name is no name of a file.
fn write_each(objects: &[Object], folder: &Path) -> Result<(), CommandError> {
    let names = file_names(objects);
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\0'])) {
        return Err(CommandError::failed(format!(
            "cannot write {name:?} to {}: the name of an object has a '/', and no file can have it",
            folder.display()
        )));
    }
    let below = Below::open(folder).map_err(|error| unwritten(folder, &error))?;
    objects.iter().zip(&names).try_for_each(|(object, name)| {
        let written = below
            .file(Path::new(name), false)
            .and_then(|mut file| file.write_all(object.to_yaml().as_bytes()));
        written.map_err(|error| unwritten(&folder.join(name), &error))
    })
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    fs::write(file, text).map_err(|error| unwritten(file, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format!("cannot write {}: {error}", path.display()))
}
