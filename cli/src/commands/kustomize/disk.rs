//! The file system as a tree of sources.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flotilla_render::kustomize::{Entry, Tree};

/// The file system, from its root: overlays name bases anywhere on it.
pub(super) struct Disk {
    /// How many bytes of a file are read: with one more the build is over its bound.
    limit: usize,
    /// The first thing that stands there and could not be read: a build without it would be another one.
    fault: RefCell<Option<Unread>>,
}

/// Something on the disk that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {reason}", .path.display())]
pub(super) struct Unread {
    path: PathBuf,
    reason: io::Error,
}

impl Disk {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            fault: RefCell::default(),
        }
    }

    /// Returns the first thing that could not be read.
    pub(super) fn fault(&self) -> Option<Unread> {
        self.fault.take()
    }

    fn path(path: &str) -> PathBuf {
        Path::new("/").join(path)
    }

    /// Notes a failure, but for that nothing stands there.
    fn noted<T>(&self, path: &Path, result: io::Result<T>) -> Option<T> {
        let reason = match result {
            Ok(found) => return Some(found),
            Err(reason) => reason,
        };
        let is_nothing = matches!(
            reason.kind(),
            ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::InvalidFilename
                | ErrorKind::InvalidInput
        );
        if !is_nothing {
            let path = path.to_owned();
            self.fault.borrow_mut().get_or_insert(Unread { path, reason });
        }
        None
    }

    fn look(&self, path: &Path) -> io::Result<Option<Entry>> {
        let kind = fs::symlink_metadata(path)?.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target
                .to_str()
                .ok_or_else(|| io::Error::other("it is a link to a path that is not UTF-8"))?;
            return Ok(Some(Entry::Link(relative(path, target))));
        }
        if kind.is_dir() {
            return Ok(Some(Entry::Directory));
        }
        if !kind.is_file() && is_manifest(path) {
            return Err(io::Error::other("it is neither a file nor a folder"));
        }
        Ok(kind.is_file().then_some(Entry::File))
    }

    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let bound = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        fs::File::open(path)?.take(bound).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(name) if matters(&entry) => {
                    let fault = Err(io::Error::other("its name is not UTF-8"));
                    self.noted::<()>(&path.join(name), fault);
                }
                Err(_) => {}
            }
        }
        Ok(names)
    }
}

impl Tree for Disk {
    fn entry(&self, path: &str) -> Option<Entry> {
        let path = Self::path(path);
        self.noted(&path, self.look(&path)).flatten()
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        let path = Self::path(path);
        self.noted(&path, self.bytes(&path)).map(Cow::Owned)
    }

    fn list(&self, path: &str) -> Vec<String> {
        let path = Self::path(path);
        self.noted(&path, self.names(&path)).unwrap_or_default()
    }
}

/// Whether a folder's build would hold what this entry leads to: folders do, and manifests.
fn matters(entry: &fs::DirEntry) -> bool {
    is_manifest(&entry.path()) || entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Returns a link's target from the folder that the link stands in: trees know no other.
fn relative(link: &Path, target: &str) -> String {
    match target.strip_prefix('/') {
        Some(target) => {
            // The root and the link itself are no folders to leave.
            let above = link.components().count().saturating_sub(2);
            format!("{}{target}", "../".repeat(above))
        }
        None => target.to_owned(),
    }
}
