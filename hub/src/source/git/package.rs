//! Packages a commit's tree as an artifact: what the ignore rules keep, in the order of a walk, one file at a time.

use std::io::Write;

use flotilla_core::source::ignore::{IGNORE_FILE, IgnoreError, Rules, Steps};

use crate::artifact::{ArchiveError, ArchiveWriter};

use super::tree::{CommitTree, Entry, Kind, TreeError, too_many_bytes};

/// Bytes of all ignore files of a tree together.
const MAX_RULES: usize = 1 << 20;

/// A packaged tree.
#[derive(Debug)]
pub struct Packed<W> {
    /// What the archive was written to.
    pub out: W,
    /// Files in it.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
}

/// Writes the files of `tree` to `out`; `spec_ignore` is the source's `spec.ignore`.
pub fn package<W: Write>(
    tree: &CommitTree,
    spec_ignore: Option<&str>,
    out: W,
) -> Result<Packed<W>, TreeError> {
    let entries = tree.entries()?;
    let rules = rules(tree, &entries, spec_ignore)?;
    let mut steps = Steps::default();
    let mut kept: Vec<&Entry> = Vec::new();
    for entry in &entries {
        let is_folder = entry.kind == Kind::Directory;
        let excluded = rules.excludes(entry.path.as_bytes(), is_folder, &mut steps);
        if !excluded.map_err(refused)? {
            kept.push(entry);
        }
    }
    if kept.len() > tree.limits().entries {
        return Err(TreeError::TooLarge {
            what: "the number of files",
            limit: tree.limits().entries.to_string(),
        });
    }
    let mut archive = ArchiveWriter::new(out);
    let (mut files, mut bytes) = (0, 0);
    for entry in kept {
        match entry.kind {
            Kind::Directory => archive.directory(&entry.path).map_err(unwritten)?,
            Kind::File { id, executable } => {
                bytes += tree.size(id)?;
                if bytes > tree.limits().bytes {
                    return Err(too_many_bytes(&tree.limits()));
                }
                archive
                    .file(&entry.path, executable, &tree.read(id)?)
                    .map_err(unwritten)?;
                files += 1;
            }
        }
    }
    Ok(Packed {
        out: archive.finish().map_err(unwritten)?,
        files,
        bytes,
    })
}

/// Reads the ignore files of every directory.
fn rules(tree: &CommitTree, entries: &[Entry], spec_ignore: Option<&str>) -> Result<Rules, TreeError> {
    let mut files = Vec::new();
    let mut total = 0;
    for entry in entries {
        let (directory, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        let Kind::File { id, .. } = entry.kind else {
            continue;
        };
        if name != IGNORE_FILE {
            continue;
        }
        let bytes = tree.read(id)?;
        total += bytes.len();
        if total > MAX_RULES {
            return Err(TreeError::TooLarge {
                what: "the size of all ignore rules",
                limit: "1 MiB".into(),
            });
        }
        files.push((directory, bytes));
    }
    let files = files
        .iter()
        .map(|(directory, text)| (directory.as_bytes(), text.as_slice()));
    Rules::new(files, spec_ignore.map(str::as_bytes)).map_err(refused)
}

fn refused(error: IgnoreError) -> TreeError {
    let limit = match error {
        IgnoreError::TooMany { limit } => limit.to_string(),
        IgnoreError::TooLong { limit } => format!("{limit} bytes"),
        IgnoreError::TooMuchWork { limit } => {
            return TreeError::TooLarge {
                what: "comparing the paths with the ignore rules",
                limit: format!("{limit} steps"),
            };
        }
    };
    TreeError::TooLarge {
        what: "the ignore rules",
        limit,
    }
}

fn unwritten(error: ArchiveError) -> TreeError {
    match error {
        ArchiveError::Path(path) => TreeError::Name(path),
        ArchiveError::Order(_) => TreeError::Corrupt(error.to_string()),
        ArchiveError::Io(error) => TreeError::Local(format!("cannot write the artifact: {error}")),
    }
}
