//! Packages a commit's tree as an artifact: what the source asks for of it, submodules and what other repositories give,
//! less what the ignore rules exclude, in the order of a walk, one file at a time.

use std::{collections::BTreeMap, io::Write, sync::Arc};

use flotilla_core::source::ignore::{IGNORE_FILE, IgnoreError, Rules, Steps};

use crate::artifact::{
    ArchiveError, ArchiveWriter, Tree,
    path::{is_safe, parents},
};

use super::{
    CommitId,
    tree::{CommitTree, Kind, TreeError, too_many_bytes},
};

/// Bytes of all ignore files of a tree together.
const MAX_RULES: usize = 1 << 20;

/// What an artifact is made of besides the commit.
#[derive(Clone, Default)]
pub struct Layout {
    /// The source's `spec.ignore`.
    pub ignore: Option<String>,
    /// Directories that are kept; all, where none is named.
    pub sparse: Vec<String>,
    /// Submodules by their place, each with its commit, which is in the same repository.
    pub submodules: Vec<(String, CommitId)>,
    /// Artifacts of other repositories.
    pub included: Vec<Included>,
}

/// A part of another artifact, and its place.
#[derive(Clone)]
pub struct Included {
    /// The repository's name.
    pub repository: String,
    /// What is taken; all, where it is empty.
    pub from: String,
    /// Where it is put.
    pub to: String,
    /// The artifact.
    pub tree: Arc<Tree>,
}

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

/// What stands at a path.
enum Item<'a> {
    Directory,
    Blob {
        tree: &'a CommitTree,
        id: git2::Oid,
        executable: bool,
    },
    Included {
        executable: bool,
        bytes: &'a [u8],
    },
}

/// Paths in the order of a walk, name by name: what parts the names is less than all that they may hold.
type Items<'a> = BTreeMap<String, Item<'a>>;

/// Writes the files of `tree` to `out`; `spec_ignore` is the source's `spec.ignore`.
pub fn package<W: Write>(
    tree: &CommitTree,
    spec_ignore: Option<&str>,
    out: W,
) -> Result<Packed<W>, TreeError> {
    let layout = Layout {
        ignore: spec_ignore.map(str::to_owned),
        ..Layout::default()
    };
    package_as(tree, &layout, out)
}

/// Writes what `layout` makes of `tree` to `out`.
pub fn package_as<W: Write>(tree: &CommitTree, layout: &Layout, out: W) -> Result<Packed<W>, TreeError> {
    let opened: Result<Vec<_>, _> = layout
        .submodules
        .iter()
        .map(|(path, commit)| Ok((path.as_str(), tree.beside(commit)?)))
        .collect();
    let opened = opened?;
    let directories: Vec<String> = layout.sparse.iter().map(|path| plain(path)).collect();
    let mut items = sparse(tree, &directories)?;
    for (path, submodule) in &opened {
        if is_kept(path, &directories) {
            add_submodule(&mut items, path, submodule)?;
        }
    }
    for included in &layout.included {
        include(&mut items, included)?;
    }
    if items.len() > tree.limits().walked {
        return Err(too_many_files(tree.limits().walked));
    }
    write(tree, &items, layout.ignore.as_deref(), out)
}

fn write<W: Write>(
    tree: &CommitTree,
    items: &Items<'_>,
    spec_ignore: Option<&str>,
    out: W,
) -> Result<Packed<W>, TreeError> {
    let limits = tree.limits();
    let rules = rules(items, spec_ignore)?;
    let mut steps = Steps::default();
    let mut kept: Vec<(String, &Item<'_>)> = Vec::new();
    for (path, item) in items {
        let path = path_of(path);
        let excluded = rules.excludes(path.as_bytes(), matches!(item, Item::Directory), &mut steps);
        if !excluded.map_err(refused)? {
            kept.push((path, item));
        }
    }
    if kept.len() > limits.entries {
        return Err(too_many_files(limits.entries));
    }
    let mut archive = ArchiveWriter::new(out);
    let (mut files, mut bytes) = (0, 0);
    for (path, item) in kept {
        if matches!(item, Item::Directory) {
            archive.directory(&path).map_err(unwritten)?;
            continue;
        }
        bytes += item.size()?;
        if bytes > limits.bytes {
            return Err(too_many_bytes(&limits));
        }
        archive
            .file(&path, item.is_executable(), &item.read()?)
            .map_err(unwritten)?;
        files += 1;
    }
    Ok(Packed {
        out: archive.finish().map_err(unwritten)?,
        files,
        bytes,
    })
}

impl Item<'_> {
    fn is_executable(&self) -> bool {
        match self {
            Self::Directory => false,
            Self::Blob { executable, .. } | Self::Included { executable, .. } => *executable,
        }
    }

    fn size(&self) -> Result<u64, TreeError> {
        match self {
            Self::Directory => Ok(0),
            Self::Blob { tree, id, .. } => tree.size(*id),
            Self::Included { bytes, .. } => Ok(bytes.len() as u64),
        }
    }

    fn read(&self) -> Result<std::borrow::Cow<'_, [u8]>, TreeError> {
        match self {
            Self::Directory => Ok((&[]).into()),
            Self::Blob { tree, id, .. } => Ok(tree.read(*id)?.into()),
            Self::Included { bytes, .. } => Ok((*bytes).into()),
        }
    }
}

fn key(path: &str) -> String {
    path.replace('/', "\0")
}

fn path_of(key: &str) -> String {
    key.replace('\0', "/")
}

/// A path as a person may write it: `./a/` is `a`, and `.` is the root, which is empty.
pub(super) fn plain(path: &str) -> String {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.collect::<Vec<_>>().join("/")
}

fn is_within(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path is within one of the directories that are kept, or above one.
fn is_kept(path: &str, sparse: &[String]) -> bool {
    sparse.is_empty()
        || sparse
            .iter()
            .any(|one| is_within(path, one) || is_within(one, path))
}

/// The entries of a tree that are kept.
fn sparse<'a>(tree: &'a CommitTree, sparse: &[String]) -> Result<Items<'a>, TreeError> {
    let (entries, links) = tree.listing()?;
    for directory in sparse.iter().filter(|path| !path.is_empty()) {
        let is_there = entries.iter().any(|entry| entry.path == *directory)
            || links.iter().any(|link| is_within(directory, &link.path));
        if !is_there {
            return Err(TreeError::Refused(format!(
                "failed to sparse checkout directories: sparse checkout dir '{directory}' does not exist in repository"
            )));
        }
    }
    let mut items = Items::new();
    for entry in entries {
        let is_directory = entry.kind == Kind::Directory;
        let is_wanted = sparse.is_empty()
            || sparse
                .iter()
                .any(|one| is_within(&entry.path, one) || (is_directory && is_within(one, &entry.path)));
        if is_wanted {
            items.insert(key(&entry.path), item(tree, entry.kind));
        }
    }
    Ok(items)
}

fn item(tree: &CommitTree, kind: Kind) -> Item<'_> {
    match kind {
        Kind::Directory => Item::Directory,
        Kind::File { id, executable } => Item::Blob { tree, id, executable },
    }
}

fn add_submodule<'a>(items: &mut Items<'a>, path: &str, submodule: &'a CommitTree) -> Result<(), TreeError> {
    items.insert(key(path), Item::Directory);
    for entry in submodule.entries()? {
        let path = format!("{path}/{}", entry.path);
        if !is_safe(&path) {
            return Err(TreeError::Name(path));
        }
        items.insert(key(&path), item(submodule, entry.kind));
    }
    Ok(())
}

/// Puts a part of another artifact in its place, where nothing may stand yet.
fn include<'a>(items: &mut Items<'a>, included: &'a Included) -> Result<(), TreeError> {
    let (from, to) = (plain(&included.from), plain(&included.to));
    let refused = |why: String| {
        let name = &included.repository;
        TreeError::Refused(format!("cannot include '{name}': {why}"))
    };
    if to.is_empty() || !is_safe(&to) {
        return Err(refused(format!("'{to}' is no place for it")));
    }
    if items.contains_key(&key(&to)) {
        return Err(refused(format!("'{to}' is in the repository already")));
    }
    if parents(&to).any(|parent| {
        matches!(
            items.get(&key(parent)),
            Some(Item::Blob { .. } | Item::Included { .. })
        )
    }) {
        return Err(refused(format!("'{to}' is below a file")));
    }
    let mut is_there = included.tree.is_directory(&from);
    let mut taken = Vec::new();
    for (path, file) in included.tree.files().filter(|(path, _)| is_within(path, &from)) {
        let rest = path[from.len()..].trim_start_matches('/');
        let path = if rest.is_empty() {
            to.clone()
        } else {
            format!("{to}/{rest}")
        };
        if !is_safe(&path) {
            return Err(TreeError::Name(path));
        }
        is_there = true;
        taken.push((path, file));
    }
    if !is_there {
        return Err(refused(format!("its artifact has no '{from}'")));
    }
    if taken.is_empty() {
        items.insert(key(&to), Item::Directory);
    }
    for (path, file) in taken {
        for parent in parents(&path) {
            items.entry(key(parent)).or_insert(Item::Directory);
        }
        let item = Item::Included {
            executable: file.executable,
            bytes: &file.bytes,
        };
        items.insert(key(&path), item);
    }
    for parent in parents(&to) {
        items.entry(key(parent)).or_insert(Item::Directory);
    }
    Ok(())
}

/// Reads the ignore files of every directory.
fn rules(items: &Items<'_>, spec_ignore: Option<&str>) -> Result<Rules, TreeError> {
    let mut files = Vec::new();
    let mut total = 0;
    for (path, item) in items {
        let (directory, name) = path.rsplit_once('\0').unwrap_or(("", path));
        if matches!(item, Item::Directory) || name != IGNORE_FILE {
            continue;
        }
        let bytes = item.read()?;
        total += bytes.len();
        if total > MAX_RULES {
            return Err(TreeError::TooLarge {
                what: "the size of all ignore rules",
                limit: "1 MiB".into(),
            });
        }
        files.push((path_of(directory), bytes));
    }
    let files = files
        .iter()
        .map(|(directory, text)| (directory.as_bytes(), text.as_ref()));
    Rules::new(files, spec_ignore.map(str::as_bytes)).map_err(refused)
}

fn too_many_files(limit: usize) -> TreeError {
    TreeError::TooLarge {
        what: "the number of files",
        limit: limit.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use crate::artifact::File;

    use super::*;

    /// A repository with these files, and the tree of its commit.
    fn tree_of(place: &tempfile::TempDir, files: &[&str]) -> CommitTree {
        let repository = git2::Repository::init_bare(place.path()).expect("made");
        let mut index = git2::Index::new().expect("an index");
        for path in files {
            let blob = repository.blob(path.as_bytes()).expect("written");
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: 0o100_644,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: blob,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).expect("added");
        }
        let tree = index.write_tree_to(&repository).expect("written");
        let tree = repository.find_tree(tree).expect("a tree");
        let author = git2::Signature::new("a", "a@b", &git2::Time::new(0, 0)).expect("a signature");
        let commit = repository
            .commit(None, &author, &author, "m", &tree, &[])
            .expect("committed");
        let commit = CommitId::parse(&commit.to_string()).expect("an id");
        CommitTree::open(place.path(), &commit, super::super::TreeLimits::default()).expect("opened")
    }

    fn packed(tree: &CommitTree, layout: &Layout) -> Result<Vec<String>, TreeError> {
        let bytes = package_as(tree, layout, Vec::new())?.out;
        let read = crate::artifact::read_tree(bytes.as_slice(), crate::artifact::ReadLimits::default());
        let read = read.expect("the artifact reads back");
        Ok(read.files().map(|(path, _)| path.to_owned()).collect())
    }

    fn other(files: &[&str]) -> Arc<Tree> {
        let mut tree = Tree::default();
        for path in files {
            let file = File {
                executable: false,
                bytes: bytes::Bytes::copy_from_slice(path.as_bytes()),
            };
            tree.insert_file(path, file).expect("inserted");
        }
        Arc::new(tree)
    }

    #[test]
    fn sparse_checkout_keeps_whole_directories_and_refuses_one_that_is_not_there() {
        let place = tempfile::tempdir().expect("a directory");
        let tree = tree_of(
            &place,
            &["README.md", "apps-old/x", "apps/a", "apps/b/c", "infra/x"],
        );
        let sparse = |directories: &[&str]| {
            let layout = Layout {
                sparse: directories.iter().map(|one| (*one).to_owned()).collect(),
                ..Layout::default()
            };
            packed(&tree, &layout)
        };
        assert_eq!(sparse(&["./apps/"]).expect("packed"), ["apps/a", "apps/b/c"]);
        assert_eq!(
            sparse(&["apps/b", "infra"]).expect("packed"),
            ["apps/b/c", "infra/x"]
        );
        assert_eq!(sparse(&["."]).expect("packed").len(), 5);
        let error = sparse(&["apps", "gone"]).expect_err("refused").to_string();
        assert!(
            error.ends_with("sparse checkout dir 'gone' does not exist in repository"),
            "{error}"
        );
    }

    #[test]
    fn include_puts_a_part_of_another_artifact_where_nothing_stands() {
        let place = tempfile::tempdir().expect("a directory");
        let tree = tree_of(&place, &["a/x", "z"]);
        let include = |from: &str, to: &str| {
            let included = Included {
                repository: "lib".into(),
                from: from.into(),
                to: to.into(),
                tree: other(&["base/one", "base/two/three", "top"]),
            };
            let layout = Layout {
                included: vec![included],
                ..Layout::default()
            };
            packed(&tree, &layout).map_err(|error| error.to_string())
        };
        let all = include("", "lib").expect("packed");
        assert_eq!(all, ["a/x", "lib/base/one", "lib/base/two/three", "lib/top", "z"]);
        let part = include("./base/two", "a/lib").expect("packed");
        assert_eq!(part, ["a/lib/three", "a/x", "z"]);
        let file = include("top", "b/top").expect("packed");
        assert_eq!(file, ["a/x", "b/top", "z"]);
        for (from, to, why) in [
            ("", "a", "'a' is in the repository already"),
            ("", "z/y", "'z/y' is below a file"),
            ("gone", "b", "its artifact has no 'gone'"),
            ("bas", "b", "its artifact has no 'bas'"),
            ("", "../b", "is no place for it"),
        ] {
            let error = include(from, to).expect_err("refused");
            assert!(
                error.starts_with("cannot include 'lib'") && error.contains(why),
                "{error}"
            );
        }
    }
}
