//! What a build saw of its tree, and whether a tree still holds it: the key under which a result is reusable.
//!
//! What was looked for and not found counts like what was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tree::{Entry, Tree};

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSet {
    /// What was seen, by path; a directory's listing is kept under its path with a `/` at the end.
    pub seen: BTreeMap<String, Dependency>,
}

impl ReadSet {
    /// Tells whether everything that was seen would be seen again in a tree.
    pub fn is_current(&self, tree: &dyn Tree) -> bool {
        self.seen.iter().all(|(path, seen)| match seen {
            Dependency::Missing => tree.entry(path).is_none(),
            Dependency::Directory => tree.entry(path) == Some(Entry::Directory),
            Dependency::Link(target) => tree.entry(path) == Some(Entry::Link(target.clone())),
            Dependency::File => tree.entry(path) == Some(Entry::File),
            Dependency::Read(digest) => tree
                .read(path)
                .is_some_and(|bytes| blake3::hash(&bytes) == *digest),
            Dependency::Listed(digest) => {
                listing_digest(&sorted(tree.list(path.trim_end_matches('/')))) == *digest
            }
        })
    }

    /// Returns the blake3 digest of everything that was seen: equal for equal read sets, and part of a key for what
    /// was made from them.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"flotilla/reads/v1\0");
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (path, seen) in &self.seen {
            let (kind, detail): (u8, &[u8]) = match seen {
                Dependency::Missing => (0, b""),
                Dependency::Directory => (1, b""),
                Dependency::Link(target) => (2, target.as_bytes()),
                Dependency::File => (3, b""),
                Dependency::Read(digest) => (4, digest),
                Dependency::Listed(digest) => (5, digest),
            };
            part(path.as_bytes());
            part(&[kind]);
            part(detail);
        }
        *hasher.finalize().as_bytes()
    }

    /// Adds what another build saw.
    pub fn merge(&mut self, other: ReadSet) {
        for (path, seen) in other.seen {
            self.note(path, seen);
        }
    }

    pub(super) fn note(&mut self, path: String, seen: Dependency) {
        match self.seen.get(&path) {
            Some(Dependency::Read(_)) => {}
            _ => {
                self.seen.insert(path, seen);
            }
        }
    }
}

pub(super) fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

pub(super) fn listing_digest(names: &[String]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(b"\0");
    }
    *hasher.finalize().as_bytes()
}
