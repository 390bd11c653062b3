//! A build's way to its tree: paths resolved without ever leaving it, everything recorded and counted.
//!
//! Links are followed within the tree only.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::error::shortened;
use super::paths::Paths;
use super::reads::{Dependency, ReadSet, listing_digest, sorted};
use super::tree::{Entry, Tree};
use super::{Budget, RenderInput};

/// Why a path is not read.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// Nothing stands there; fix the reference or add the file.
    #[error("'{}' does not exist", shortened(.0))]
    Missing(String),
    /// A link on the way leads to where nothing stands; fix the link or add the file.
    #[error(
        "'{}' does not exist: a link on the way leads to '{}', where nothing stands",
        shortened(path),
        shortened(target)
    )]
    Dangling {
        /// The path.
        path: String,
        /// Where the links lead.
        target: String,
    },
    /// The path is absolute; write it as one from the file that names it.
    #[error("'{}' is an absolute path; a path from the directory of the kustomization is needed", shortened(.0))]
    Absolute(String),
    /// The path leaves the tree; it is never followed.
    #[error("'{}' leads out of the source", shortened(.0))]
    Escapes(String),
    /// Links lead in a circle.
    #[error("links at '{}' lead in a circle", shortened(.0))]
    LinkLoop(String),
    /// A directory is needed and a file stands there, or the other way round.
    #[error("'{}' is not a {wanted}", shortened(path))]
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
    /// The caller asked to stop.
    #[error("the build was cancelled")]
    Stopped,
}

/// What of a path is still to be followed.
struct Rest {
    path: String,
    /// How many bytes of it are done.
    at: usize,
}

impl Rest {
    fn of(path: &str) -> Rest {
        Rest {
            path: path.to_owned(),
            at: 0,
        }
    }

    /// Returns the next name; none at the end.
    fn next(&mut self) -> Option<&str> {
        loop {
            let rest = self.path.get(self.at..).filter(|rest| !rest.is_empty())?;
            let (start, length) = (self.at, rest.find('/').unwrap_or(rest.len()));
            self.at = start + length + 1;
            let name = &self.path[start..start + length];
            if !name.is_empty() {
                return Some(&self.path[start..start + length]);
            }
        }
    }
}

/// A tree that records what is read and counts it against a budget.
pub(crate) struct Files<'a> {
    tree: &'a dyn Tree,
    budget: &'a Budget,
    paths: Paths<'a>,
    reads: RefCell<ReadSet>,
    files: Cell<usize>,
    bytes: Cell<usize>,
    /// What stands where the build looked already: overlays ask for the same folders again and again.
    entries: RefCell<HashMap<String, Option<Entry>>>,
    /// Asked for each path and each file: what brings them may be slow.
    stop: Option<&'a dyn Fn() -> bool>,
    /// Whether the caller wanted to stop, whatever was made of a path that was not resolved for that.
    stopped: Cell<bool>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(input: &RenderInput<'a>) -> Files<'a> {
        Files {
            tree: input.tree,
            budget: input.budget,
            paths: input.paths,
            reads: RefCell::default(),
            files: Cell::new(0),
            bytes: Cell::new(0),
            entries: RefCell::default(),
            stop: input.stop,
            stopped: Cell::new(false),
        }
    }

    /// Tells whether the caller wanted to stop while paths were resolved and files read.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    fn go_on(&self) -> Result<(), PathError> {
        if self.stop.is_some_and(|stop| self.stopped.get() || stop()) {
            self.stopped.set(true);
            return Err(PathError::Stopped);
        }
        Ok(())
    }

    pub(crate) fn into_reads(self) -> ReadSet {
        self.reads.into_inner()
    }

    /// Returns a path as errors show it.
    pub(crate) fn shown(&self, path: &str) -> String {
        self.paths.shown(path)
    }

    /// Joins a path a file speaks of to the directory it stands in; `None` when it leaves the tree.
    pub(crate) fn join(directory: &str, path: &str) -> Option<String> {
        let base = if path.starts_with('/') { "" } else { directory };
        let mut joined = String::with_capacity(base.len() + path.len() + 1);
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." if joined.is_empty() => return None,
                ".." => joined.truncate(joined.rfind('/').unwrap_or(0)),
                name => {
                    if !joined.is_empty() {
                        joined.push('/');
                    }
                    joined.push_str(name);
                }
            }
        }
        Some(joined)
    }

    fn look(&self, path: &str) -> Option<Entry> {
        if let Some(known) = self.entries.borrow().get(path) {
            return known.clone();
        }
        let entry = self.tree.entry(path);
        let seen = match &entry {
            None => Dependency::Missing,
            Some(Entry::File) => Dependency::File,
            Some(Entry::Directory) => Dependency::Directory,
            Some(Entry::Link(target)) => Dependency::Link(target.clone()),
        };
        self.reads.borrow_mut().note(path.to_string(), seen);
        self.entries.borrow_mut().insert(path.to_string(), entry.clone());
        entry
    }

    /// Tells whether a link stands at a path.
    pub(crate) fn is_link(&self, path: &str) -> bool {
        matches!(self.look(path), Some(Entry::Link(_)))
    }

    /// Follows links until a path names a file or a directory.
    pub(crate) fn resolve(&self, path: &str) -> Result<(String, Entry), PathError> {
        self.go_on()?;
        let mut done = String::new();
        // The rest of the path, and those of the links on the way, innermost last.
        let mut todo = vec![Rest::of(path)];
        let mut links = 0;
        let mut entry = Entry::Directory;
        loop {
            let in_link = todo.len() > 1;
            let Some(rest) = todo.last_mut() else { break };
            let Some(part) = rest.next() else {
                todo.pop();
                continue;
            };
            if in_link && part == "." {
                continue;
            }
            if part == ".." {
                let parent = done.rfind('/').map_or(0, |at| at);
                if done.is_empty() {
                    return Err(PathError::Escapes(self.shown(path)));
                }
                done.truncate(parent);
                entry = Entry::Directory;
                continue;
            }
            if entry != Entry::Directory {
                return Err(PathError::Missing(self.shown(path)));
            }
            let next = if done.is_empty() {
                part.to_owned()
            } else {
                format!("{done}/{part}")
            };
            match self.look(&next) {
                None if links > 0 => {
                    return Err(PathError::Dangling {
                        path: self.shown(path),
                        target: self.shown(&next),
                    });
                }
                None => return Err(PathError::Missing(self.shown(path))),
                Some(Entry::Link(target)) => {
                    links += 1;
                    if links > 40 {
                        return Err(PathError::LinkLoop(self.shown(path)));
                    }
                    if target.starts_with('/') {
                        return Err(PathError::Escapes(self.shown(path)));
                    }
                    todo.push(Rest::of(&target));
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
        self.go_on()?;
        let bytes = self
            .tree
            .read(path)
            .ok_or_else(|| PathError::Missing(self.shown(path)))?;
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
        self.reads
            .borrow_mut()
            .note(path.to_string(), Dependency::Read(digest));
        Ok(bytes)
    }

    /// Lists a directory by its resolved path, in the order of names.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let names = sorted(self.tree.list(path));
        self.reads
            .borrow_mut()
            .note(format!("{path}/"), Dependency::Listed(listing_digest(&names)));
        names
    }
}
