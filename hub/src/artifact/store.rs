//! Keeps artifacts by the digest of their bytes, in a directory of this machine. An artifact appears whole or not
//! at all, and is verified when it is read; one that does not verify is removed. The interface speaks of
//! digests and streams only, so that an object store can stand behind it.

use std::{
    fs, io,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{OFlags, openat};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{ArtifactDigest, ReadError, ReadLimits, Tree, cache::TreeCache, read_tree};

const SUFFIX: &str = ".tar.gz";
/// Bytes of the trees that are held in memory: a commit is compared with the one before it, and read by all its apps.
const TREES: u64 = 48 << 20;

/// An artifact that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Digest of its bytes.
    pub digest: ArtifactDigest,
    /// Size in bytes.
    pub size: u64,
}

/// Why an artifact cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not here; the source must be fetched again.
    #[error("artifact {0} is not in the store")]
    Missing(ArtifactDigest),
    /// Its bytes changed on disk; it is removed, and the source must be fetched again.
    #[error("artifact {0} does not match its digest")]
    Corrupt(ArtifactDigest),
    /// It matches its digest and is refused all the same.
    #[error("artifact {digest} cannot be used")]
    Refused {
        /// The artifact.
        digest: ArtifactDigest,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The disk failed; retry.
    #[error("the artifact store at {path} failed")]
    Io {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Artifacts below one directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    root: Arc<Path>,
    trees: Arc<TreeCache>,
}

/// An artifact being written. Dropping it leaves nothing behind.
pub struct ArtifactWriter {
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
    root: Arc<Path>,
}

impl ArtifactStore {
    /// Opens the store in `root`, making the directory; removes what writers left in a crash.
    pub fn open(root: PathBuf) -> Result<Self, StoreError> {
        let store = Self {
            root: Arc::from(root),
            trees: Arc::new(TreeCache::new(TREES)),
        };
        let incoming = store.incoming();
        let prepare = || -> io::Result<()> {
            match fs::remove_dir_all(&incoming) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(&incoming)
        };
        prepare().map_err(|source| store.failed(source))?;
        Ok(store)
    }

    /// Begins an artifact. Blocking, like the writer itself.
    pub fn writer(&self) -> Result<ArtifactWriter, StoreError> {
        let file = NamedTempFile::new_in(self.incoming()).map_err(|source| self.failed(source))?;
        Ok(ArtifactWriter {
            file,
            hasher: Sha256::new(),
            size: 0,
            root: Arc::clone(&self.root),
        })
    }

    /// The files of an artifact, after its bytes have proven to be the right ones. What was read lately is in memory; one
    /// that was lost is missed all the same, so that it is fetched again before it is needed.
    pub async fn tree(&self, digest: ArtifactDigest, limits: ReadLimits) -> Result<Arc<Tree>, StoreError> {
        if !self.has(digest).await? {
            return Err(StoreError::Missing(digest));
        }
        let read = self.blocking(move |store| {
            let bytes = store.verified(digest)?;
            read_tree(&bytes[..], limits).map_err(|source| StoreError::Refused { digest, source })
        });
        self.trees.get(digest, read).await
    }

    /// Reads the bytes of an artifact, verified.
    pub async fn read(&self, digest: ArtifactDigest) -> Result<Vec<u8>, StoreError> {
        self.blocking(move |store| store.verified(digest)).await
    }

    /// Tells whether an artifact is here, without reading it.
    pub async fn has(&self, digest: ArtifactDigest) -> Result<bool, StoreError> {
        self.blocking(move |store| Ok(store.path(digest).is_file())).await
    }

    /// Removes an artifact; one that is gone already is no error.
    pub async fn delete(&self, digest: ArtifactDigest) -> Result<(), StoreError> {
        self.blocking(move |store| store.remove(digest)).await
    }

    /// Lists what is kept, in no order.
    pub async fn list(&self) -> Result<Vec<Stored>, StoreError> {
        self.blocking(|store| store.listed().map_err(|source| store.failed(source)))
            .await
    }

    /// Lists what has been there for so long at least, in no order.
    pub async fn settled(&self, age: Duration) -> Result<Vec<ArtifactDigest>, StoreError> {
        let listed = self.list().await?;
        self.blocking(move |store| {
            let is_settled = |digest: &ArtifactDigest| {
                let modified = fs::metadata(store.path(*digest)).and_then(|file| file.modified());
                modified.is_ok_and(|at| at.elapsed().is_ok_and(|passed| passed >= age))
            };
            let digests = listed.into_iter().map(|stored| stored.digest);
            Ok(digests.filter(is_settled).collect())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.map_err(|error| self.failed(io::Error::other(error)))?
    }

    fn verified(&self, digest: ArtifactDigest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = fs::File::open(self.path(digest)).and_then(|mut file| file.read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(digest)),
            Err(error) => return Err(self.failed(error)),
            Ok(_) => {}
        }
        if ArtifactDigest::of(&bytes) != digest {
            self.remove(digest)?;
            return Err(StoreError::Corrupt(digest));
        }
        Ok(bytes)
    }

    fn remove(&self, digest: ArtifactDigest) -> Result<(), StoreError> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn listed(&self) -> io::Result<Vec<Stored>> {
        let mut listed = Vec::new();
        for shard in fs::read_dir(&*self.root)? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() || shard.path() == self.incoming() {
                continue;
            }
            for entry in fs::read_dir(shard.path())? {
                listed.extend(stored(&entry?));
            }
        }
        Ok(listed)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    fn path(&self, digest: ArtifactDigest) -> PathBuf {
        path_below(&self.root, digest)
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io {
            path: self.root.display().to_string(),
            source,
        }
    }
}

fn path_below(root: &Path, digest: ArtifactDigest) -> PathBuf {
    let hex = digest.hex();
    root.join(&hex[..2]).join(format!("{hex}{SUFFIX}"))
}

fn stored(entry: &fs::DirEntry) -> Option<Stored> {
    let name = entry.file_name();
    let hex = name.to_str()?.strip_suffix(SUFFIX)?;
    let digest = ArtifactDigest::parse(&format!("sha256:{hex}")).ok()?;
    Some(Stored {
        digest,
        size: entry.metadata().ok()?.len(),
    })
}

impl Write for ArtifactWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl ArtifactWriter {
    /// Puts the artifact in its place, durably. One of the same digest that is there already is replaced by its
    /// equal, which heals it if the disk had spoilt it.
    pub fn commit(self) -> Result<Stored, StoreError> {
        let stored = Stored {
            digest: ArtifactDigest::finish(self.hasher),
            size: self.size,
        };
        let path = path_below(&self.root, stored.digest);
        let failed = |source| StoreError::Io {
            path: self.root.display().to_string(),
            source,
        };
        let shard = path.parent().unwrap_or(&self.root);
        let place = || -> io::Result<()> {
            self.file.as_file().sync_all()?;
            fs::create_dir_all(shard)?;
            self.file.persist(&path).map_err(|error| error.error)?;
            sync_directory(shard)?;
            sync_directory(&self.root)
        };
        place().map_err(failed)?;
        Ok(stored)
    }
}

/// Makes a rename survive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = openat(
        rustix::fs::CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(rustix::fs::fsync(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ArchiveWriter;

    fn put(store: &ArtifactStore, text: &[u8]) -> Stored {
        let mut archive = ArchiveWriter::new(store.writer().expect("a writer"));
        archive.file("f", false, text).expect("written");
        archive.finish().expect("finished").commit().expect("kept")
    }

    fn store() -> (tempfile::TempDir, ArtifactStore) {
        let place = tempfile::tempdir().expect("a directory");
        let store = ArtifactStore::open(place.path().join("artifacts")).expect("opened");
        (place, store)
    }

    #[tokio::test]
    async fn what_is_kept_is_listed_read_and_deleted_by_its_digest() {
        let (_place, store) = store();
        let (one, two) = (put(&store, b"1"), put(&store, b"2"));
        assert_eq!(put(&store, b"1"), one);
        let mut listed: Vec<_> = store
            .list()
            .await
            .expect("listed")
            .iter()
            .map(|stored| stored.digest)
            .collect();
        listed.sort();
        let mut expected = vec![one.digest, two.digest];
        expected.sort();
        assert_eq!(listed, expected);
        let tree = store.tree(one.digest, ReadLimits::default()).await.expect("read");
        assert_eq!(tree.file("f").map(|file| &file.bytes[..]), Some(&b"1"[..]));
        store.delete(one.digest).await.expect("deleted");
        store.delete(one.digest).await.expect("gone already");
        assert!(!store.has(one.digest).await.expect("looked"));
        assert!(matches!(
            store.read(one.digest).await,
            Err(StoreError::Missing(_))
        ));
    }

    #[tokio::test]
    async fn an_artifact_spoilt_on_disk_is_never_used_and_is_healed_by_keeping_it_again() {
        let (_place, store) = store();
        let kept = put(&store, b"1");
        fs::write(store.path(kept.digest), b"spoilt").expect("written");
        assert!(matches!(
            store.tree(kept.digest, ReadLimits::default()).await,
            Err(StoreError::Corrupt(_))
        ));
        assert!(matches!(
            store.read(kept.digest).await,
            Err(StoreError::Missing(_))
        ));
        put(&store, b"1");
        assert!(store.read(kept.digest).await.is_ok());
    }

    #[tokio::test]
    async fn an_artifact_not_committed_leaves_nothing() {
        let (place, store) = store();
        let mut writer = store.writer().expect("a writer");
        writer.write_all(b"half").expect("written");
        drop(writer);
        assert_eq!(store.list().await.expect("listed"), []);
        // A crash leaves the file; the next start removes it.
        let left = place.path().join("artifacts/incoming/left");
        fs::write(&left, "x").expect("written");
        ArtifactStore::open(place.path().join("artifacts")).expect("opened");
        assert!(!left.exists());
    }
}
