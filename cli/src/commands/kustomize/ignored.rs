//! What a hub would not see of a directory: `.sourceignore` and the default lists leave it out of a listing.

use std::borrow::Cow;
use std::cell::RefCell;

use flotilla_core::source::ignore::{IGNORE_FILE, IgnoreError, Rules, Steps};
use flotilla_render::kustomize::{Entry, RenderInput, Tree};

/// The most bytes of all ignore files, as of those of a source.
const MAX_RULES: usize = 1 << 20;

/// A tree of which the listing of one directory shows what a source's artifact has.
pub(super) struct Visible<'t> {
    tree: &'t dyn Tree,
    /// The root of the repository, or the directory where it is in none.
    root: String,
    rules: Rules,
    steps: RefCell<Steps>,
    fault: RefCell<Option<IgnoreError>>,
}

impl<'t> Visible<'t> {
    /// Reads the rules that concern the directory of a build: those of the folders above it, up to the root of its
    /// repository, and of those below it.
    ///
    /// # Errors
    ///
    /// Rules beyond the bounds of a source.
    pub(super) fn new(input: &RenderInput<'t>) -> Result<Self, String> {
        let (tree, directory) = (input.tree, input.directory);
        let root = repository(tree, directory).unwrap_or(directory);
        let above = above(directory).take_while(|folder| folder.len() >= root.len());
        let mut files: Vec<(String, Cow<'_, [u8]>)> = Vec::new();
        let mut total = 0;
        let mut add = |folder: &str| {
            let path = joined(folder, IGNORE_FILE);
            if tree.entry(&path) == Some(Entry::File)
                && let Some(text) = tree.read(&path)
            {
                total += text.len();
                files.push((below(root, folder).unwrap_or_default().to_owned(), text));
            }
            match total {
                0..=MAX_RULES => Ok(()),
                _ => Err("the ignore rules exceed 1 MiB".to_owned()),
            }
        };
        above.skip(1).try_for_each(&mut add)?;
        let mut folders = vec![directory.to_owned()];
        while let Some(folder) = folders.pop() {
            add(&folder)?;
            for name in tree.list(&folder) {
                // What reads the listing is told the same, and ends.
                if input.stop.is_some_and(|stop| stop()) {
                    break;
                }
                let path = joined(&folder, &name);
                if name != ".git" && tree.entry(&path) == Some(Entry::Directory) {
                    folders.push(path);
                }
            }
        }
        let files = files.iter().map(|(folder, text)| (folder.as_bytes(), &**text));
        Ok(Self {
            tree,
            root: root.to_owned(),
            rules: Rules::new(files, None).map_err(|error| error.to_string())?,
            steps: RefCell::default(),
            fault: RefCell::default(),
        })
    }

    /// Returns why what was listed may be too much.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.take().map(|fault| fault.to_string())
    }

    fn is_left_out(&self, path: &str) -> bool {
        let Some(path) = below(&self.root, path) else {
            return false;
        };
        let excluded = self
            .rules
            .excludes(path.as_bytes(), false, &mut self.steps.borrow_mut());
        excluded.unwrap_or_else(|fault| {
            self.fault.borrow_mut().get_or_insert(fault);
            false
        })
    }
}

impl Tree for Visible<'_> {
    fn entry(&self, path: &str) -> Option<Entry> {
        self.tree.entry(path)
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        self.tree.read(path)
    }

    fn list(&self, path: &str) -> Vec<String> {
        let mut names = self.tree.list(path);
        names.retain(|name| {
            let path = joined(path, name);
            // Of a folder that is left out, something in it may not be.
            !self.is_left_out(&path) || self.tree.entry(&path) == Some(Entry::Directory)
        });
        names
    }
}

/// Returns the closest folder at or above a directory that is the root of a repository.
fn repository<'d>(tree: &dyn Tree, directory: &'d str) -> Option<&'d str> {
    above(directory).find(|folder| tree.entry(&joined(folder, ".git")).is_some())
}

/// Lists a directory and the folders above it.
fn above(directory: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(directory), |folder| match folder.rsplit_once('/') {
        Some((above, _)) => Some(above),
        None => (!folder.is_empty()).then_some(""),
    })
}

fn joined(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// Returns a path from a folder that it is below.
fn below<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    match folder {
        "" => Some(path),
        folder => path.strip_prefix(folder)?.strip_prefix('/'),
    }
}
