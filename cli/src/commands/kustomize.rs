//! `flotilla kustomize`: builds a directory as an app would, without a hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_render::kustomize::{Budget, GenerateOptions, MemoryTree, generate};

use crate::Host;
use crate::error::CommandError;

/// Build a directory into manifests, as a Kustomization would
///
/// A directory without kustomization.yaml gets one that lists its manifests, as in Flux. Needs the kustomize
/// program.
#[derive(Debug, clap::Args)]
pub(crate) struct KustomizeArgs {
    /// The directory
    directory: PathBuf,
    /// The kustomize program [default: FLOTILLA_KUSTOMIZE, or kustomize on the PATH]
    #[arg(long, value_name = "FILE")]
    kustomize: Option<PathBuf>,
}

pub(crate) fn cmd_kustomize(args: &KustomizeArgs, host: &mut Host) -> Result<(), CommandError> {
    let program = args
        .kustomize
        .clone()
        .or_else(|| host.variable("FLOTILLA_KUSTOMIZE").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("kustomize"));
    let output = match has_kustomization(&args.directory)? {
        true => build(&program, &args.directory, false)?,
        false => build_generated(&program, &args.directory)?,
    };
    host.ui.text(&output);
    Ok(())
}

fn has_kustomization(directory: &Path) -> Result<bool, CommandError> {
    if !directory.is_dir() {
        return Err(CommandError::failed(format!(
            "{} is not a directory",
            directory.display()
        )));
    }
    Ok(flotilla_render::kustomize::KUSTOMIZATION_FILES
        .iter()
        .any(|name| directory.join(name).is_file()))
}

/// Builds a copy with the kustomization that Flux would write; the user's directory stays as it is.
fn build_generated(program: &Path, directory: &Path) -> Result<String, CommandError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| CommandError::failed(format!("{what}: {error}"));
    let mut files = Files {
        budget: Budget::default(),
        found: Vec::new(),
        bytes: 0,
    };
    files.collect(directory, "", 0)?;
    let mut tree = MemoryTree::new();
    let copy = tempfile::tempdir().map_err(|error| failed("cannot make a temporary directory", &error))?;
    for (path, bytes) in files.found {
        let target = copy.path().join(&path);
        let folder = target.parent().unwrap_or(copy.path());
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&target, &bytes))
            .map_err(|error| failed("cannot write a temporary file", &error))?;
        tree.insert(&path, bytes);
    }
    let generated = generate(
        &tree,
        "",
        &GenerateOptions::default(),
        &Budget::default(),
        &|_| false,
    )
    .map_err(|error| failed(&directory.display().to_string(), &error))?;
    fs::write(copy.path().join(&generated.path), &generated.text)
        .map_err(|error| failed("cannot write a temporary file", &error))?;
    build(program, copy.path(), true)
}

struct Files {
    budget: Budget,
    found: Vec<(String, Vec<u8>)>,
    bytes: usize,
}

impl Files {
    /// Reads the files below a folder. Links are left out: a build does not leave its directory.
    fn collect(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), CommandError> {
        let unreadable = |path: &Path, error: &std::io::Error| {
            CommandError::failed(format!("cannot read {}: {error}", path.display()))
        };
        if depth > self.budget.depth {
            return Err(CommandError::failed(format!(
                "{} is nested too deep",
                folder.display()
            )));
        }
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
            let entry = entry.map_err(|error| unreadable(folder, &error))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let inner = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}/{name}")
            };
            let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
            if kind.is_dir() && name != ".git" {
                self.collect(&path, &inner, depth + 1)?;
            } else if kind.is_file() {
                let bytes = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
                self.bytes += bytes.len();
                self.found.push((inner, bytes));
            }
            if self.bytes > self.budget.bytes || self.found.len() > self.budget.files {
                let limit = format!("{} files or {} bytes", self.budget.files, self.budget.bytes);
                return Err(CommandError::failed(format!(
                    "the directory has more than {limit}"
                )));
            }
        }
        Ok(())
    }
}

fn build(program: &Path, directory: &Path, copied: bool) -> Result<String, CommandError> {
    let output = Command::new(program)
        .args(["build", "--load-restrictor", "LoadRestrictionsNone"])
        .arg(directory)
        .output()
        .map_err(|error| {
            let error = CommandError::failed(format!("cannot run {}: {error}", program.display()));
            error.hint("install kustomize, or name it with --kustomize or FLOTILLA_KUSTOMIZE")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // The copy's name means nothing to the user and changes every time.
        let shown = if copied {
            said.replace(&directory.display().to_string(), ".")
        } else {
            said.into_owned()
        };
        return Err(CommandError::failed(format!(
            "kustomize build failed: {}",
            shown.trim()
        )));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| CommandError::failed("kustomize printed what is not UTF-8 text"))
}
