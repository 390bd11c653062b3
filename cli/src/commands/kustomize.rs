//! `flotilla kustomize`: builds a directory without a hub, with the engine the hub uses.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use flotilla_render::kustomize::{
    Budget, Entry, GenerateOptions, KUSTOMIZATION_FILES, Overlay, RenderInput, Restriction, Tree, build_each,
    generate,
};

use crate::Host;
use crate::error::CommandError;

/// Build a directory into manifests, as `kustomize build` does
///
/// A directory without kustomization.yaml gets one that lists its manifests, as in Flux. Nothing is fetched and no
/// program is run.
#[derive(Debug, clap::Args)]
pub(crate) struct KustomizeArgs {
    /// The directory
    directory: PathBuf,
    /// Which files a kustomization may name
    #[arg(long, value_enum, default_value_t = LoadRestrictor::LoadRestrictionsRootOnly)]
    load_restrictor: LoadRestrictor,
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

pub(crate) fn cmd_kustomize(args: &KustomizeArgs, host: &mut Host) -> Result<(), CommandError> {
    let shown = args.directory.display().to_string();
    let unreadable = |error| CommandError::failed(format!("cannot read {shown}: {error}"));
    let directory = fs::canonicalize(&args.directory).map_err(unreadable)?;
    if !directory.is_dir() {
        return Err(CommandError::failed(format!("{shown} is not a directory")));
    }
    let directory = directory
        .to_str()
        .ok_or_else(|| CommandError::failed(format!("{shown} has a path that is not UTF-8")))?;
    // People named the directory: what is in it is shown as they would write it.
    let failed = |error: String| {
        let error = as_written(&error, directory, shown.trim_end_matches('/'));
        CommandError::failed(format!("kustomize build failed: {error}"))
    };
    let text = render(directory.trim_start_matches('/'), args.load_restrictor).map_err(failed)?;
    host.ui.text(&text);
    Ok(())
}

/// Prints each object as soon as it is done, so that text and objects never stand side by side.
fn render(directory: &str, restrictor: LoadRestrictor) -> Result<String, String> {
    let (tree, budget) = (Disk, Budget::default());
    let restriction = match restrictor {
        LoadRestrictor::LoadRestrictionsRootOnly => Restriction::Directory,
        LoadRestrictor::LoadRestrictionsNone => Restriction::Tree,
    };
    let run = |tree: &dyn Tree| {
        let input = RenderInput {
            restriction,
            root: "/",
            ..RenderInput::new(tree, directory, &budget)
        };
        let mut text = String::new();
        build_each(&input, &mut |object| object.append_to(&mut text))
            .map(|_| text)
            .map_err(|error| error.to_string())
    };
    let has_own = |name: &str| tree.entry(&format!("{directory}/{name}")) == Some(Entry::File);
    if KUSTOMIZATION_FILES.iter().any(|name| has_own(name)) {
        return run(&tree);
    }
    let generated = generate(&tree, directory, &GenerateOptions::default(), &budget, &|_| false)
        .map_err(|error| error.to_string())?;
    run(&Overlay {
        tree: &tree,
        path: &generated.path,
        bytes: generated.text.as_bytes(),
    })
}

/// Shows paths in or below a directory, which stand at the start of the text or behind a quote, as people wrote it.
fn as_written(error: &str, directory: &str, shown: &str) -> String {
    let mut out = String::with_capacity(error.len());
    let mut rest = error;
    while let Some(at) = rest.find(directory) {
        let (before, found) = rest.split_at(at);
        let after = &found[directory.len()..];
        out.push_str(before);
        let begins = out.is_empty() || out.ends_with(['\'', '"']);
        let ends = after.is_empty() || after.starts_with(['/', '\'', '"', ':']);
        out.push_str(if begins && ends { shown } else { directory });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The file system, from its root: overlays name bases anywhere on it.
struct Disk;

impl Disk {
    fn path(path: &str) -> PathBuf {
        Path::new("/").join(path)
    }
}

impl Tree for Disk {
    fn entry(&self, path: &str) -> Option<Entry> {
        let kind = fs::symlink_metadata(Self::path(path)).ok()?.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(Self::path(path)).ok()?;
            return Some(Entry::Link(target.to_str()?.to_owned()));
        }
        if kind.is_dir() {
            return Some(Entry::Directory);
        }
        kind.is_file().then_some(Entry::File)
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        fs::read(Self::path(path)).ok().map(Cow::Owned)
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(Self::path(path)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::as_written;

    #[test]
    fn only_paths_are_shown_as_people_wrote_them() {
        let shown = |error: &str| as_written(error, "/a", "./x");
        assert_eq!(
            shown("/a/k.yaml: 'b' of apps/a: '/a/b'"),
            "./x/k.yaml: 'b' of apps/a: './x/b'"
        );
        assert_eq!(shown("/ab/k.yaml: x/a/b: '/a'"), "/ab/k.yaml: x/a/b: './x'");
    }
}
