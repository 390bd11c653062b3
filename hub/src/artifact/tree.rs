//! A tree of files in memory, as read from an artifact: what renderers read, and what the reference renderer lays
//! out in its private directory.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use bytes::Bytes;
use flotilla_render::kustomize;

use super::path::{is_safe, parents};

/// What a file takes in memory beside its path, its name and its bytes: its places in two maps, and its own.
const FILE: u64 = 192;
/// The same for a directory, which has a set of names.
const DIRECTORY: u64 = 512;

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Marked executable.
    pub executable: bool,
    /// Content.
    pub bytes: Bytes,
}

/// Files and directories by path; paths are relative, with `/` between names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, File>,
    /// Names in each directory; the root is `""`.
    directories: BTreeMap<String, BTreeSet<String>>,
    /// What all of it takes in memory, about.
    bytes: u64,
}

/// An entry that cannot stand in a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The path leads out, or is over a limit.
    #[error("the path '{0}' is refused")]
    Path(String),
    /// The path is there already, or is a directory and a file at once.
    #[error("the path '{0}' stands there twice")]
    Twice(String),
}

impl Tree {
    /// Adds a directory, and those above it. One that is there already may be named again.
    pub fn insert_directory(&mut self, path: &str) -> Result<(), EntryError> {
        self.check(path)?;
        self.link(path);
        self.names_in(path);
        Ok(())
    }

    /// Adds a file, and the directories above it.
    pub fn insert_file(&mut self, path: &str, file: File) -> Result<(), EntryError> {
        self.check(path)?;
        if self.directories.contains_key(path) {
            return Err(EntryError::Twice(path.to_owned()));
        }
        self.link(path);
        self.bytes += FILE + held(path) + file.bytes.len() as u64;
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn check(&self, path: &str) -> Result<(), EntryError> {
        if !is_safe(path) {
            return Err(EntryError::Path(path.to_owned()));
        }
        let taken = |path: &str| self.files.contains_key(path);
        if taken(path) || parents(path).any(taken) {
            return Err(EntryError::Twice(path.to_owned()));
        }
        Ok(())
    }

    /// Names a path in its directory, and that one in its own.
    fn link(&mut self, path: &str) {
        let mut path = path;
        loop {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            self.names_in(parent).insert(name.to_owned());
            if parent.is_empty() {
                return;
            }
            path = parent;
        }
    }

    /// The names in a directory, which is there from now on.
    fn names_in(&mut self, directory: &str) -> &mut BTreeSet<String> {
        let bytes = &mut self.bytes;
        self.directories.entry(directory.to_owned()).or_insert_with(|| {
            *bytes += DIRECTORY + held(directory);
            BTreeSet::new()
        })
    }

    /// Returns a file.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Lists the files in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Size in memory, bytes, about: of files and directories with their paths and their places.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Everything that a rendering could see differently in `other`, named as renderings name what they look at: paths
    /// that come, go or hold other bytes, and directories whose names changed, these with a `/` at the end.
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (this, that) in [(self, other), (other, self)] {
            let files = this
                .files
                .iter()
                .filter(|(path, file)| that.files.get(*path).is_none_or(|same| same.bytes != file.bytes));
            found.extend(files.map(|(path, _)| path.clone()));
            for (path, names) in &this.directories {
                match that.directories.get(path) {
                    Some(same) if same == names => {}
                    Some(_) => drop(found.insert(format!("{path}/"))),
                    None => found.extend([path.clone(), format!("{path}/")]),
                }
            }
        }
        found
    }

    /// Tells whether a directory stands at a path; the root is `""`.
    pub fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.directories.contains_key(path)
    }

    /// Lays the tree out below `directory`, which must be new and private: nothing there is followed or replaced.
    pub fn unpack(&self, directory: &Path) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        for path in self.directories.keys().filter(|path| !path.is_empty()) {
            builder.create(directory.join(path))?;
        }
        for (path, file) in &self.files {
            let mode = if file.executable { 0o700 } else { 0o600 };
            let mut out = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(directory.join(path))?;
            out.write_all(&file.bytes)?;
        }
        Ok(())
    }
}

/// What the path of a file or directory takes: it is held whole, and its last part in the directory that lists it.
fn held(path: &str) -> u64 {
    2 * path.len() as u64
}

impl kustomize::Tree for Tree {
    fn entry(&self, path: &str) -> Option<kustomize::Entry> {
        if self.files.contains_key(path) {
            return Some(kustomize::Entry::File);
        }
        self.is_directory(path).then_some(kustomize::Entry::Directory)
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        self.files.get(path).map(|file| Cow::Borrowed(&file.bytes[..]))
    }

    fn list(&self, path: &str) -> Vec<String> {
        self.directories
            .get(path)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &'static str) -> File {
        File {
            executable: false,
            bytes: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn a_path_is_either_a_file_or_a_directory() {
        let mut tree = Tree::default();
        tree.insert_file("a/b", file("x")).expect("new");
        for (path, as_file) in [
            ("a/b", true),
            ("a", true),
            ("a/b/c", true),
            ("a/b", false),
            ("a/b/c", false),
        ] {
            let result = if as_file {
                tree.insert_file(path, file("y"))
            } else {
                tree.insert_directory(path)
            };
            assert_eq!(result, Err(EntryError::Twice(path.into())), "{path}");
        }
        tree.insert_directory("a").expect("it is one already");
        assert_eq!(
            tree.insert_file("../x", file("")),
            Err(EntryError::Path("../x".into()))
        );
    }

    #[test]
    fn directories_list_what_stands_in_them() {
        use flotilla_render::kustomize::Tree as _;
        let mut tree = Tree::default();
        tree.insert_file("a/b/c", file("x")).expect("new");
        tree.insert_file("a-b", file("x")).expect("new");
        tree.insert_directory("empty/inner").expect("new");
        assert_eq!(tree.list(""), ["a", "a-b", "empty"]);
        assert_eq!(tree.list("a"), ["b"]);
        assert_eq!(tree.list("empty/inner"), Vec::<String>::new());
        assert_eq!(tree.entry("empty"), Some(kustomize::Entry::Directory));
        assert_eq!(tree.entry("nothing"), None);
    }

    #[test]
    fn directories_and_paths_are_counted_as_bytes() {
        let mut tree = Tree::default();
        for at in 0..1000 {
            tree.insert_directory(&format!("{at}/empty")).expect("new");
        }
        let directories = tree.bytes();
        assert!(directories >= 2000 * DIRECTORY, "{directories}");
        tree.insert_directory("7/empty").expect("it is one already");
        assert_eq!(tree.bytes(), directories);
        tree.insert_file("7/f", file("text")).expect("new");
        assert_eq!(tree.bytes(), directories + FILE + 2 * 3 + 4);
    }

    #[test]
    fn differences_are_what_a_rendering_could_see() {
        let of = |files: &[(&str, &'static str)]| {
            let mut tree = Tree::default();
            for (path, text) in files {
                tree.insert_file(path, file(text)).expect("new");
            }
            tree
        };
        let old = of(&[("a/b", "1"), ("a/c", "1"), ("d/e/f", "1")]);
        assert!(old.differences(&old.clone()).is_empty());
        for (files, expected) in [
            (&[("a/b", "2"), ("a/c", "1"), ("d/e/f", "1")][..], &["a/b"][..]),
            (&[("a/b", "1"), ("d/e/f", "1")], &["a/", "a/c"]),
            (
                &[("a/b", "1"), ("a/c", "1"), ("d/e", "1")],
                &["d/e", "d/e/", "d/e/f"],
            ),
            (
                &[("a/b", "1"), ("a/c", "1"), ("d/e/f", "1"), ("x/y", "1")],
                &["/", "x", "x/", "x/y"],
            ),
        ] {
            let new = of(files);
            let found: Vec<String> = old.differences(&new).into_iter().collect();
            assert_eq!(found, expected);
            assert_eq!(new.differences(&old), old.differences(&new));
        }
    }

    #[test]
    fn unpacking_never_writes_through_what_is_there_already() {
        let place = tempfile::tempdir().expect("a directory");
        let outside = place.path().join("outside");
        let inside = place.path().join("inside");
        std::fs::create_dir(&inside).expect("made");
        std::os::unix::fs::symlink(&outside, inside.join("f")).expect("linked");
        let mut tree = Tree::default();
        tree.insert_file("f", file("x")).expect("new");
        assert!(tree.unpack(&inside).is_err());
        assert!(!outside.exists());
    }
}
