//! What a hub would not see of a directory: `.sourceignore` and the default list leave it out of the source's artifact.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use flotilla_core::source::ignore::{IGNORE_FILE, IgnoreError, Rules, Steps};
use flotilla_render::kustomize::{Entry, RenderInput, Tree};

/// The most bytes of the ignore files that concern a folder, as of those of a source.
const MAX_RULES: usize = 1 << 20;

/// A tree without what a source leaves out. Rules are read as folders are come to: what is left out is not looked into.
pub(super) struct Visible<'t> {
    tree: &'t dyn Tree,
    /// The root of the repository, or the directory where it is in none.
    root: String,
    folders: RefCell<HashMap<String, Rc<Folder>>>,
    steps: RefCell<Steps>,
    fault: RefCell<Option<String>>,
}

/// The ignore files of a folder and of those above it, each with its folder, and what they come to.
struct Folder {
    files: Vec<(String, Vec<u8>)>,
    rules: Rules,
    /// A file in a folder that is left out may be in again.
    has_includes: bool,
}

impl<'t> Visible<'t> {
    pub(super) fn new(input: &RenderInput<'t>) -> Self {
        let (tree, directory) = (input.tree, input.directory);
        Self {
            tree,
            root: repository(tree, directory).unwrap_or(directory).to_owned(),
            folders: RefCell::default(),
            steps: RefCell::default(),
            fault: RefCell::default(),
        }
    }

    /// Returns why what was seen may be too much.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.take()
    }

    fn note<T>(&self, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(found) => Some(found),
            Err(fault) => {
                self.fault.borrow_mut().get_or_insert(fault);
                None
            }
        }
    }

    /// The rules that concern what is in a folder, which is the root or below it.
    fn folder(&self, folder: &str) -> Result<Rc<Folder>, String> {
        if let Some(known) = self.folders.borrow().get(folder) {
            return Ok(known.clone());
        }
        let above = match folder == self.root {
            true => None,
            false => Some(self.folder(parent(folder))?),
        };
        let path = joined(folder, IGNORE_FILE);
        let own = (self.tree.entry(&path) == Some(Entry::File))
            .then(|| self.tree.read(&path))
            .flatten();
        let found = match (above, own) {
            (Some(above), None) => above,
            (above, own) => {
                let mut files = above.map(|above| above.files.clone()).unwrap_or_default();
                if let Some(text) = own {
                    files.push((
                        below(&self.root, folder).unwrap_or_default().to_owned(),
                        text.into_owned(),
                    ));
                }
                Rc::new(Folder::new(files)?)
            }
        };
        self.folders.borrow_mut().insert(folder.to_owned(), found.clone());
        Ok(found)
    }

    fn is_left_out(&self, path: &str, entry: &Entry) -> bool {
        let Some(relative) = below(&self.root, path).filter(|relative| !relative.is_empty()) else {
            return false;
        };
        let Some(folder) = self.note(self.folder(parent(path))) else {
            return false;
        };
        let is_folder = *entry == Entry::Directory;
        if is_folder && folder.has_includes {
            return false;
        }
        let excluded = folder
            .rules
            .excludes(relative.as_bytes(), is_folder, &mut self.steps.borrow_mut());
        self.note(excluded.map_err(|error| error.to_string()))
            .unwrap_or_default()
    }
}

impl Folder {
    fn new(files: Vec<(String, Vec<u8>)>) -> Result<Self, String> {
        if files.iter().map(|(_, text)| text.len()).sum::<usize>() > MAX_RULES {
            return Err("the ignore rules exceed 1 MiB".to_owned());
        }
        let texts = files.iter().map(|(folder, text)| (folder.as_bytes(), &text[..]));
        let rules = Rules::new(texts, None).map_err(|error: IgnoreError| error.to_string())?;
        let includes = |text: &[u8]| {
            text.split(|byte| *byte == b'\n')
                .any(|line| line.starts_with(b"!"))
        };
        Ok(Self {
            has_includes: files.iter().any(|(_, text)| includes(text)),
            files,
            rules,
        })
    }
}

impl Tree for Visible<'_> {
    fn entry(&self, path: &str) -> Option<Entry> {
        let entry = self.tree.entry(path)?;
        (!self.is_left_out(path, &entry)).then_some(entry)
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        (!self.is_left_out(path, &Entry::File))
            .then(|| self.tree.read(path))
            .flatten()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let mut names = self.tree.list(path);
        names.retain(|name| self.entry(&joined(path, name)).is_some());
        names
    }
}

/// Returns the closest folder at or above a directory that is the root of a repository.
fn repository<'d>(tree: &dyn Tree, directory: &'d str) -> Option<&'d str> {
    let above = std::iter::successors(Some(directory), |folder| {
        (!folder.is_empty()).then(|| parent(folder))
    });
    above
        .into_iter()
        .find(|folder| tree.entry(&joined(folder, ".git")).is_some())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn joined(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// Returns a path from a folder that it is below, or is.
fn below<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    match folder {
        "" => Some(path),
        _ if path == folder => Some(""),
        folder => path.strip_prefix(folder)?.strip_prefix('/'),
    }
}
