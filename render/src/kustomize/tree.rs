//! The files an engine reads: a tree brought by the caller, walked without ever leaving it, and a record of what was
//! seen. Links are followed within the tree only; nothing here touches a disk.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::Budget;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target as written, not followed.
    Link(String),
}

/// A tree of files, such as a Git tree, an artifact or a map in memory.
///
/// Paths are relative to the root of the tree, with `/` between names, without `.` or `..`; the root is `""`.
pub trait Tree {
    /// Returns what stands at a path without following a link there, or `None`.
    fn entry(&self, path: &str) -> Option<Entry>;
    /// Returns the bytes of a regular file, or `None` when there is none or it cannot be read.
    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>>;
    /// Returns the names in a directory, in any order; none when it is no directory.
    fn list(&self, path: &str) -> Vec<String>;
}

/// A tree of files held in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    files: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Link(String),
}

impl MemoryTree {
    /// Returns a tree without files.
    pub fn new() -> MemoryTree {
        MemoryTree::default()
    }

    /// Adds a file, or replaces it.
    pub fn insert(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files
            .insert(path.trim_matches('/').to_string(), Node::File(bytes.into()));
    }

    /// Adds a symbolic link, or replaces it.
    pub fn insert_link(&mut self, path: &str, target: &str) {
        self.files
            .insert(path.trim_matches('/').to_string(), Node::Link(target.to_string()));
    }

    fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let from = prefix.clone();
        self.files
            .range::<str, _>((
                std::ops::Bound::Included(from.as_str()),
                std::ops::Bound::Unbounded,
            ))
            .map_while(move |(name, _)| name.strip_prefix(prefix.as_str()))
    }
}

impl<P: AsRef<str>, B: Into<Vec<u8>>> FromIterator<(P, B)> for MemoryTree {
    fn from_iter<I: IntoIterator<Item = (P, B)>>(files: I) -> MemoryTree {
        let mut tree = MemoryTree::new();
        for (path, bytes) in files {
            tree.insert(path.as_ref(), bytes);
        }
        tree
    }
}

impl Tree for MemoryTree {
    fn entry(&self, path: &str) -> Option<Entry> {
        match self.files.get(path) {
            Some(Node::File(_)) => Some(Entry::File),
            Some(Node::Link(target)) => Some(Entry::Link(target.clone())),
            None => (path.is_empty() || self.below(path).next().is_some()).then_some(Entry::Directory),
        }
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        match self.files.get(path)? {
            Node::File(bytes) => Some(Cow::Borrowed(bytes)),
            Node::Link(_) => None,
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for rest in self.below(path) {
            let name = rest.split('/').next().unwrap_or(rest);
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_string());
            }
        }
        names
    }
}

/// A tree in which one file is replaced or added, such as a generated `kustomization.yaml`.
pub struct Overlay<'a> {
    /// The tree below.
    pub tree: &'a dyn Tree,
    /// The path of the file.
    pub path: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Tree for Overlay<'_> {
    fn entry(&self, path: &str) -> Option<Entry> {
        if path == self.path {
            Some(Entry::File)
        } else {
            self.tree.entry(path)
        }
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        if path == self.path {
            Some(Cow::Borrowed(self.bytes))
        } else {
            self.tree.read(path)
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        let mut names = self.tree.list(path);
        let (directory, name) = self.path.rsplit_once('/').unwrap_or(("", self.path));
        if directory == path && !names.iter().any(|n| n == name) {
            names.push(name.to_string());
        }
        names
    }
}

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing stood there.
    Missing,
    /// A directory stood there.
    Directory,
    /// A link with this target stood there.
    Link(String),
    /// A file stood there; its bytes were not read.
    File,
    /// A file with this blake3 digest was read.
    Read([u8; 32]),
    /// A directory was listed; this is the blake3 digest of its names.
    Listed([u8; 32]),
}

/// Everything a build saw of its tree: as long as it still holds, so does the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// What was seen, by path; a directory's listing is kept under its path with a `/` at the end.
    pub seen: BTreeMap<String, Seen>,
}

impl ReadSet {
    /// Tells whether everything that was seen would be seen again in a tree.
    pub fn holds(&self, tree: &dyn Tree) -> bool {
        self.seen.iter().all(|(path, seen)| match seen {
            Seen::Missing => tree.entry(path).is_none(),
            Seen::Directory => tree.entry(path) == Some(Entry::Directory),
            Seen::Link(target) => tree.entry(path) == Some(Entry::Link(target.clone())),
            Seen::File => tree.entry(path) == Some(Entry::File),
            Seen::Read(digest) => tree
                .read(path)
                .is_some_and(|bytes| blake3::hash(&bytes) == *digest),
            Seen::Listed(digest) => listing_digest(&sorted(tree.list(path.trim_end_matches('/')))) == *digest,
        })
    }

    /// Adds what another build saw.
    pub fn merge(&mut self, other: ReadSet) {
        for (path, seen) in other.seen {
            self.note(path, seen);
        }
    }

    fn note(&mut self, path: String, seen: Seen) {
        match self.seen.get(&path) {
            Some(Seen::Read(_)) => {}
            _ => {
                self.seen.insert(path, seen);
            }
        }
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

fn listing_digest(names: &[String]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(b"\0");
    }
    *hasher.finalize().as_bytes()
}

/// Why a path is not read.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// Nothing stands there; fix the reference or add the file.
    #[error("'{0}' does not exist")]
    Missing(String),
    /// The path leaves the tree; it is never followed.
    #[error("'{0}' leads out of the source")]
    Escapes(String),
    /// Links lead in a circle.
    #[error("links at '{0}' lead in a circle")]
    LinkLoop(String),
    /// A directory is needed and a file stands there, or the other way round.
    #[error("'{path}' is not a {wanted}")]
    WrongKind {
        /// The path.
        path: String,
        /// What was needed.
        wanted: &'static str,
    },
    /// A budget is spent; only a smaller source helps.
    #[error("the source exceeds {limit} {what}")]
    Budget {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

/// A tree that records what is read and counts it against a budget.
pub(crate) struct Files<'a> {
    tree: &'a dyn Tree,
    budget: &'a Budget,
    reads: RefCell<ReadSet>,
    files: Cell<usize>,
    bytes: Cell<usize>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(tree: &'a dyn Tree, budget: &'a Budget) -> Files<'a> {
        Files {
            tree,
            budget,
            reads: RefCell::default(),
            files: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    pub(crate) fn into_reads(self) -> ReadSet {
        self.reads.into_inner()
    }

    /// Joins a path a file speaks of to the directory it stands in; `None` when it leaves the tree.
    pub(crate) fn join(directory: &str, path: &str) -> Option<String> {
        let mut parts: Vec<&str> = Vec::new();
        let joined = if path.starts_with('/') {
            path.to_string()
        } else {
            format!("{directory}/{path}")
        };
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop()?;
                }
                name => parts.push(name),
            }
        }
        Some(parts.join("/"))
    }

    fn look(&self, path: &str) -> Option<Entry> {
        let entry = self.tree.entry(path);
        let seen = match &entry {
            None => Seen::Missing,
            Some(Entry::File) => Seen::File,
            Some(Entry::Directory) => Seen::Directory,
            Some(Entry::Link(target)) => Seen::Link(target.clone()),
        };
        self.reads.borrow_mut().note(path.to_string(), seen);
        entry
    }

    /// Follows links until a path names a file or a directory.
    pub(crate) fn resolve(&self, path: &str) -> Result<(String, Entry), PathError> {
        let mut done = String::new();
        let mut todo: Vec<String> = path
            .split('/')
            .rev()
            .filter(|p| !p.is_empty())
            .map(str::to_string)
            .collect();
        let mut links = 0;
        let mut entry = Entry::Directory;
        while let Some(part) = todo.pop() {
            if part == ".." {
                let parent = done.rfind('/').map_or(0, |at| at);
                if done.is_empty() {
                    return Err(PathError::Escapes(path.to_string()));
                }
                done.truncate(parent);
                entry = Entry::Directory;
                continue;
            }
            if entry != Entry::Directory {
                return Err(PathError::Missing(path.to_string()));
            }
            let next = if done.is_empty() {
                part
            } else {
                format!("{done}/{part}")
            };
            match self.look(&next) {
                None => return Err(PathError::Missing(path.to_string())),
                Some(Entry::Link(target)) => {
                    links += 1;
                    if links > 40 {
                        return Err(PathError::LinkLoop(path.to_string()));
                    }
                    if target.starts_with('/') {
                        return Err(PathError::Escapes(path.to_string()));
                    }
                    let parts = target.split('/').rev().filter(|p| !matches!(*p, "" | "."));
                    todo.extend(parts.map(str::to_string));
                }
                Some(found) => {
                    entry = found;
                    done = next;
                }
            }
        }
        Ok((done, entry))
    }

    /// Reads a file by its resolved path.
    pub(crate) fn read(&self, path: &str) -> Result<Cow<'a, [u8]>, PathError> {
        let bytes = self
            .tree
            .read(path)
            .ok_or_else(|| PathError::Missing(path.to_string()))?;
        self.files.set(self.files.get() + 1);
        self.bytes.set(self.bytes.get().saturating_add(bytes.len()));
        if self.files.get() > self.budget.files {
            return Err(PathError::Budget {
                what: "files",
                limit: self.budget.files,
            });
        }
        if self.bytes.get() > self.budget.bytes {
            return Err(PathError::Budget {
                what: "bytes",
                limit: self.budget.bytes,
            });
        }
        let digest = *blake3::hash(&bytes).as_bytes();
        self.reads.borrow_mut().note(path.to_string(), Seen::Read(digest));
        Ok(bytes)
    }

    /// Lists a directory by its resolved path, in the order of names.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let names = sorted(self.tree.list(path));
        self.reads
            .borrow_mut()
            .note(format!("{path}/"), Seen::Listed(listing_digest(&names)));
        names
    }
}
