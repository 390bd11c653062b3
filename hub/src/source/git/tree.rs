//! Reads a commit's tree straight from the object database: nothing is checked out, no filter or hook runs, no
//! link is followed. Only directories and regular files exist here; links are passed over as Flux does when it packages,
//! and where submodules belong is told apart. Names that could leave a directory or pose as Git's own are refused.

use std::path::Path;

use git2::{ObjectType, Oid};

use super::{CommitId, GitError, Remote, signature::Unverified};
use flotilla_core::printable::printable;

/// Bounds of a tree.
#[derive(Debug, Clone, Copy)]
pub struct TreeLimits {
    /// Entries walked, those that are ignored included.
    pub walked: usize,
    /// Entries kept.
    pub entries: usize,
    /// Bytes of the files kept.
    pub bytes: u64,
    /// Bytes of a path.
    pub path: usize,
    /// Bytes of all paths that are walked: directories that are the same are few bytes in a repository.
    pub paths: usize,
    /// Directories below one another.
    pub depth: usize,
    /// Bytes of the commit itself: its message, and who signed it.
    pub commit: usize,
    /// Bytes of the list of one directory.
    pub directory: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self {
            walked: 1_000_000,
            entries: 100_000,
            bytes: 100 << 20,
            path: 4096,
            paths: 64 << 20,
            depth: 64,
            commit: 1 << 20,
            directory: 64 << 20,
        }
    }
}

/// Why a tree is not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TreeError {
    /// Objects are missing or broken; fetching anew helps.
    #[error("{0}")]
    Corrupt(String),
    /// The tree is over a limit; only a smaller one helps.
    #[error("{what} exceeds the limit of {limit}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit, with its unit.
        limit: String,
    },
    /// A name that no honest tree has.
    #[error("the name '{0}' is refused")]
    Name(String),
    /// What the source asks for is not there, or not so.
    #[error("{0}")]
    Refused(String),
    /// A signature that is needed is none, or not of a key that counts.
    #[error("{}", .0.message)]
    Unverified(Unverified),
    /// What was read cannot be kept on this machine.
    #[error("{0}")]
    Local(String),
}

impl TreeError {
    /// Says which remote it was.
    pub(super) fn of(self, remote: &Remote) -> GitError {
        let url = remote.shown();
        match self {
            Self::Corrupt(detail) => GitError::Corrupt { url, detail },
            Self::TooLarge { what, limit } => GitError::TooLarge { url, what, limit },
            Self::Name(_) | Self::Refused(_) => GitError::Refused {
                url,
                detail: self.to_string(),
            },
            Self::Unverified(unverified) => GitError::Unverified(unverified),
            Self::Local(detail) => GitError::Local { url, detail },
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// The blob.
        id: Oid,
        /// Marked executable.
        executable: bool,
    },
}

/// A directory or file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root, `/` between names.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// A place in a tree where a commit of another repository belongs: a submodule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gitlink {
    /// Path from the root.
    pub path: String,
    /// The commit.
    pub commit: CommitId,
}

/// The tree of one commit.
pub struct CommitTree {
    repository: git2::Repository,
    id: CommitId,
    root: Oid,
    subject: String,
    limits: TreeLimits,
}

impl CommitTree {
    /// Opens the tree of `commit` in the bare repository at `directory`.
    pub fn open(directory: &Path, commit: &CommitId, limits: TreeLimits) -> Result<Self, TreeError> {
        let repository = git2::Repository::open_bare(directory).map_err(corrupt)?;
        let id = Oid::from_str(commit.as_str()).map_err(corrupt)?;
        fits(
            &repository,
            id,
            ObjectType::Commit,
            limits.commit,
            "the size of the commit's message",
        )?;
        let (root, subject) = {
            let commit = repository.find_commit(id).map_err(corrupt)?;
            let subject = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
            (
                commit.tree_id(),
                printable(&subject.chars().take(200).collect::<String>()),
            )
        };
        Ok(Self {
            repository,
            id: commit.clone(),
            root,
            subject,
            limits,
        })
    }

    /// Opens the tree of another commit in the same repository.
    pub fn beside(&self, commit: &CommitId) -> Result<Self, TreeError> {
        Self::open(self.repository.path(), commit, self.limits)
    }

    /// The commit.
    pub fn id(&self) -> &CommitId {
        &self.id
    }

    /// The bytes of the commit, as they are stored.
    pub fn commit_bytes(&self) -> Result<Vec<u8>, TreeError> {
        let id = Oid::from_str(self.id.as_str()).map_err(corrupt)?;
        self.raw(id, ObjectType::Commit, "the size of the commit's message")
    }

    /// The annotated tag that one of our refs points at, as it is stored; `None` where it points at something else.
    pub(super) fn tag_bytes(&self, own_ref: &str) -> Result<Option<(CommitId, Vec<u8>)>, TreeError> {
        let reference = self.repository.find_reference(own_ref).map_err(corrupt)?;
        let Some(id) = reference.target() else {
            return Ok(None);
        };
        let odb = self.repository.odb().map_err(corrupt)?;
        let (_, kind) = odb.read_header(id).map_err(corrupt)?;
        if kind != ObjectType::Tag {
            return Ok(None);
        }
        let bytes = self.raw(id, kind, "the size of the tag's message")?;
        let id = CommitId::parse(&id.to_string()).map_err(|error| TreeError::Corrupt(error.to_string()))?;
        Ok(Some((id, bytes)))
    }

    fn raw(&self, id: Oid, kind: ObjectType, what: &'static str) -> Result<Vec<u8>, TreeError> {
        fits(&self.repository, id, kind, self.limits.commit, what)?;
        let odb = self.repository.odb().map_err(corrupt)?;
        let object = odb.read(id).map_err(corrupt)?;
        Ok(object.data().to_vec())
    }

    /// The first line of the commit's message, bounded.
    pub fn subject(&self) -> String {
        self.subject.clone()
    }

    /// The bounds under which this tree is read.
    pub fn limits(&self) -> TreeLimits {
        self.limits
    }

    /// Lists directories and files, each directory before what it holds, names in the order of their bytes: the
    /// order of a lexical walk.
    pub fn entries(&self) -> Result<Vec<Entry>, TreeError> {
        self.listing().map(|(entries, _)| entries)
    }

    /// As [`Self::entries`], and the places of submodules.
    pub fn listing(&self) -> Result<(Vec<Entry>, Vec<Gitlink>), TreeError> {
        let mut walk = Walk {
            tree: self,
            walked: 0,
            paths: 0,
            entries: Vec::new(),
            links: Vec::new(),
        };
        walk.directory(self.root, "", 0)?;
        Ok((walk.entries, walk.links))
    }

    /// The size of a file.
    pub fn size(&self, id: Oid) -> Result<u64, TreeError> {
        let (size, kind) = self
            .repository
            .odb()
            .and_then(|odb| odb.read_header(id))
            .map_err(corrupt)?;
        if kind == ObjectType::Blob {
            Ok(size as u64)
        } else {
            Err(TreeError::Corrupt(format!("{id} is no file")))
        }
    }

    /// The bytes of a file that is not larger than the limits allow a whole tree to be.
    pub fn read(&self, id: Oid) -> Result<Vec<u8>, TreeError> {
        if self.size(id)? > self.limits.bytes {
            return Err(too_many_bytes(&self.limits));
        }
        let blob = self.repository.find_blob(id).map_err(corrupt)?;
        Ok(blob.content().to_vec())
    }
}

/// Refuses an object by its header, before it is read whole.
fn fits(
    repository: &git2::Repository,
    id: Oid,
    kind: ObjectType,
    limit: usize,
    what: &'static str,
) -> Result<(), TreeError> {
    let (size, found) = repository
        .odb()
        .and_then(|odb| odb.read_header(id))
        .map_err(corrupt)?;
    if found != kind {
        return Err(TreeError::Corrupt(format!("{id} is no {kind}")));
    }
    if size > limit {
        return Err(TreeError::TooLarge {
            what,
            limit: format!("{} MiB", limit >> 20),
        });
    }
    Ok(())
}

struct Walk<'a> {
    tree: &'a CommitTree,
    walked: usize,
    paths: usize,
    entries: Vec<Entry>,
    links: Vec<Gitlink>,
}

impl Walk<'_> {
    fn directory(&mut self, id: Oid, path: &str, depth: usize) -> Result<(), TreeError> {
        let limits = &self.tree.limits;
        if depth > limits.depth {
            return Err(TreeError::TooLarge {
                what: "the depth of directories",
                limit: limits.depth.to_string(),
            });
        }
        let repository = &self.tree.repository;
        fits(
            repository,
            id,
            ObjectType::Tree,
            limits.directory,
            "the size of a directory's list",
        )?;
        let tree = repository.find_tree(id).map_err(corrupt)?;
        let mut children = Vec::with_capacity(tree.len());
        for child in &tree {
            self.count()?;
            if child.filemode_raw() & 0o170_000 == 0o160_000 {
                let name = name_of(&child)?;
                let path = if path.is_empty() {
                    name
                } else {
                    format!("{path}/{name}")
                };
                let commit = CommitId::parse(&child.id().to_string());
                let commit = commit.map_err(|error| TreeError::Corrupt(error.to_string()))?;
                self.links.push(Gitlink { path, commit });
            } else if let Some(kind) = kind_of(&child) {
                children.push((name_of(&child)?, kind, child.id()));
            }
        }
        // Git sorts a directory as if a slash followed its name; a walk of a disk does not.
        children.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        for (name, kind, id) in children {
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            if path.len() > limits.path {
                return Err(TreeError::TooLarge {
                    what: "the length of a path",
                    limit: format!("{} bytes", limits.path),
                });
            }
            self.paths += path.len();
            if self.paths > limits.paths {
                return Err(TreeError::TooLarge {
                    what: "the length of all paths together",
                    limit: format!("{} MiB", limits.paths >> 20),
                });
            }
            self.entries.push(Entry {
                path: path.clone(),
                kind,
            });
            if kind == Kind::Directory {
                self.directory(id, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Trees may share subtrees, so that a small repository holds endless paths: they are counted as walked.
    fn count(&mut self) -> Result<(), TreeError> {
        self.walked += 1;
        if self.walked > self.tree.limits.walked {
            return Err(TreeError::TooLarge {
                what: "the number of files",
                limit: self.tree.limits.walked.to_string(),
            });
        }
        Ok(())
    }
}

/// Directories and regular files; links and submodules are none.
fn kind_of(entry: &git2::TreeEntry<'_>) -> Option<Kind> {
    match entry.filemode_raw() & 0o170_000 {
        0o040_000 => Some(Kind::Directory),
        0o100_000 => Some(Kind::File {
            id: entry.id(),
            executable: entry.filemode_raw() & 0o100 != 0,
        }),
        _ => None,
    }
}

fn name_of(entry: &git2::TreeEntry<'_>) -> Result<String, TreeError> {
    let bytes = entry.name_bytes();
    match std::str::from_utf8(bytes) {
        Ok(name) if is_honest(name) => Ok(name.to_owned()),
        _ => Err(TreeError::Name(
            String::from_utf8_lossy(bytes).chars().take(80).collect(),
        )),
    }
}

/// A name that stays in its directory and is not Git's own on any file system.
fn is_honest(name: &str) -> bool {
    // Zero-width characters vanish on some file systems, so that these names become `.git` there.
    let plain: String = name.chars().filter(|c| !is_ignorable(*c)).collect();
    let plain = plain.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    !plain.is_empty()
        && !name.contains(['/', '\0'])
        && plain != ".git"
        && plain != "git~1"
        && !plain.starts_with(".git:")
        && !name.starts_with(".git\\")
}

fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

fn corrupt(error: git2::Error) -> TreeError {
    TreeError::Corrupt(error.message().to_owned())
}

/// The kept files are larger than a tree may be.
pub(super) fn too_many_bytes(limits: &TreeLimits) -> TreeError {
    TreeError::TooLarge {
        what: "the size of all files",
        limit: format!("{} MiB", limits.bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a tree of (mode, name, id) without git's own checks and returns its commit.
    fn commit_of(repository: &git2::Repository, entries: &[(i32, &str, Oid)]) -> CommitId {
        let tree = raw_tree(repository, entries);
        let tree = repository.find_tree(tree).expect("a tree");
        let signature = git2::Signature::new("a", "a@b", &git2::Time::new(0, 0)).expect("a signature");
        let id = repository
            .commit(None, &signature, &signature, "first line\n\nmore", &tree, &[])
            .expect("written");
        CommitId::parse(&id.to_string()).expect("an id")
    }

    fn raw_tree(repository: &git2::Repository, entries: &[(i32, &str, Oid)]) -> Oid {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(format!("{mode:o} {name}\0").as_bytes());
            bytes.extend_from_slice(id.as_bytes());
        }
        repository
            .odb()
            .expect("a database")
            .write(ObjectType::Tree, &bytes)
            .expect("written")
    }

    fn bare() -> (tempfile::TempDir, git2::Repository) {
        let place = tempfile::tempdir().expect("a directory");
        let repository = git2::Repository::init_bare(place.path()).expect("made");
        (place, repository)
    }

    fn listed(
        place: &tempfile::TempDir,
        commit: &CommitId,
        limits: TreeLimits,
    ) -> Result<Vec<String>, TreeError> {
        let tree = CommitTree::open(place.path(), commit, limits)?;
        Ok(tree.entries()?.into_iter().map(|entry| entry.path).collect())
    }

    #[test]
    fn few_bytes_of_a_repository_with_long_paths_without_end_are_refused_while_they_are_walked() {
        let (place, repository) = bare();
        let blob = repository.blob(b"x").expect("written");
        let names: Vec<String> = (0..200).map(|n| format!("{n:0100}")).collect();
        let mut same = raw_tree(&repository, &[(0o100_644, "f", blob)]);
        for _ in 0..2 {
            let entries: Vec<(i32, &str, Oid)> = names
                .iter()
                .map(|name| (0o040_000, name.as_str(), same))
                .collect();
            same = raw_tree(&repository, &entries);
        }
        let commit = commit_of(&repository, &[(0o040_000, "d", same)]);
        let limits = TreeLimits {
            paths: 1 << 20,
            ..TreeLimits::default()
        };
        let error = listed(&place, &commit, limits).expect_err("too long");
        let text = "the length of all paths together exceeds the limit of 1 MiB";
        assert_eq!(error.to_string(), text);
        assert!(TreeLimits::default().paths <= 64 << 20);
    }

    #[test]
    fn entries_come_in_the_order_of_a_lexical_walk_without_links_and_submodules() {
        let (place, repository) = bare();
        let blob = repository.blob(b"x").expect("written");
        let inner = raw_tree(&repository, &[(0o100_644, "z", blob), (0o120_000, "link", blob)]);
        let commit = commit_of(
            &repository,
            &[
                (0o100_755, "a.txt", blob),
                (0o040_000, "a", inner),
                (0o160_000, "module", blob),
                (0o120_000, "l", blob),
            ],
        );
        assert_eq!(
            listed(&place, &commit, TreeLimits::default()).expect("listed"),
            ["a", "a/z", "a.txt"]
        );
        let tree = CommitTree::open(place.path(), &commit, TreeLimits::default()).expect("opened");
        assert_eq!(tree.subject(), "first line");
        assert_eq!(
            tree.entries().expect("listed")[2].kind,
            Kind::File {
                id: blob,
                executable: true
            }
        );
        assert_eq!(tree.read(blob).expect("read"), b"x");
    }

    #[test]
    fn names_that_leave_the_tree_or_pose_as_gits_own_are_refused() {
        for name in [
            "..",
            ".",
            ".git",
            ".GIT",
            "git~1",
            ".git ",
            ".git.",
            ".g\u{200c}it",
            ".git::$INDEX",
            "a/b",
        ] {
            let (place, repository) = bare();
            let blob = repository.blob(b"x").expect("written");
            let commit = commit_of(&repository, &[(0o100_644, name, blob)]);
            let result = listed(&place, &commit, TreeLimits::default());
            // Some are refused by libgit2 itself, as a broken tree.
            assert!(
                matches!(result, Err(TreeError::Name(_) | TreeError::Corrupt(_))),
                "{name:?}: {result:?}"
            );
        }
        assert!(is_honest(".gitignore") && is_honest(".github") && is_honest("..a") && is_honest("a b"));
    }

    #[test]
    fn a_tree_that_folds_into_endless_paths_ends_at_the_limit() {
        let (place, repository) = bare();
        let blob = repository.blob(b"x").expect("written");
        let names: Vec<String> = (0..10).map(|name| format!("d{name}")).collect();
        let mut level = raw_tree(&repository, &[(0o100_644, "f", blob)]);
        for _ in 0..10 {
            let children: Vec<_> = names
                .iter()
                .map(|name| (0o040_000, name.as_str(), level))
                .collect();
            level = raw_tree(&repository, &children);
        }
        let commit = commit_of(&repository, &[(0o040_000, "bomb", level)]);
        let limits = TreeLimits {
            walked: 10_000,
            ..TreeLimits::default()
        };
        let result = listed(&place, &commit, limits);
        assert!(
            matches!(
                result,
                Err(TreeError::TooLarge {
                    what: "the number of files",
                    ..
                })
            ),
            "{result:?}"
        );
    }

    #[test]
    fn depth_and_missing_objects_are_told_apart() {
        let (place, repository) = bare();
        let blob = repository.blob(b"x").expect("written");
        let mut level = raw_tree(&repository, &[(0o100_644, "f", blob)]);
        for _ in 0..70 {
            level = raw_tree(&repository, &[(0o040_000, "d", level)]);
        }
        let deep = commit_of(&repository, &[(0o040_000, "d", level)]);
        assert!(matches!(
            listed(&place, &deep, TreeLimits::default()),
            Err(TreeError::TooLarge { .. })
        ));
        let absent = Oid::from_bytes(&[7; 20]).expect("an id");
        let holed = commit_of(&repository, &[(0o040_000, "gone", absent)]);
        assert!(matches!(
            listed(&place, &holed, TreeLimits::default()),
            Err(TreeError::Corrupt(_))
        ));
    }
}
