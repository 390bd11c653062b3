//! The files an engine reads: a tree brought by the caller. Nothing here touches a disk.

use std::borrow::Cow;
use std::collections::BTreeMap;

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
