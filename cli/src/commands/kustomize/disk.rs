//! The file system as a tree of sources.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flotilla_render::kustomize::{Entry, Tree};

/// The file system, from its root: overlays name bases anywhere on it.
pub(super) struct Disk {
    /// How many bytes of a file are read: with one more the build is over its bound.
    pub(super) limit: usize,
}

impl Disk {
    fn path(path: &str) -> PathBuf {
        Path::new("/").join(path)
    }
}

impl Tree for Disk {
    fn entry(&self, path: &str) -> Option<Entry> {
        let kind = fs::symlink_metadata(Self::path(path)).ok()?.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(Self::path(path)).ok()?;
            return Some(Entry::Link(target.to_str()?.to_owned()));
        }
        if kind.is_dir() {
            return Some(Entry::Directory);
        }
        kind.is_file().then_some(Entry::File)
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(Self::path(path)).ok()?;
        let bound = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(bound).read_to_end(&mut bytes).ok()?;
        Some(Cow::Owned(bytes))
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(Self::path(path)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}
