//! Keeps artifacts by the digest of their bytes, in a [place](super::place) that other hubs may share. An artifact
//! appears whole or not at all, and is verified when it is read; one that does not verify is removed.

use std::{
    fs,
    io::{self, Seek as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, buffered::BufWriter, path::Path as Key};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::{
    ArtifactDigest, ReadError, ReadLimits, Shared, Tree,
    cache::TreeCache,
    place::{directory, marker},
    read_tree,
};

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
    /// Its bytes changed where they are kept; it is removed, and the source must be fetched again.
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
    /// The place where artifacts are kept does not answer or is full; retry.
    #[error("the artifact store at {place} failed")]
    Unavailable {
        /// Where.
        place: Arc<str>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It keeps the artifacts of a hub with another database, which would remove those of this one; name another place.
    #[error(
        "the artifact store at {place} belongs to a hub with another database: name another directory or prefix with \
         --artifact-store"
    )]
    Foreign {
        /// Where.
        place: Arc<str>,
    },
}

/// Artifacts in one place. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    store: Arc<dyn ObjectStore>,
    place: Arc<str>,
    /// Where what is being written stands meanwhile, on this machine.
    incoming: Arc<Path>,
    id: Uuid,
    trees: Arc<TreeCache>,
}

/// An artifact being written. Dropping it leaves nothing behind.
pub struct ArtifactWriter {
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

impl ArtifactStore {
    /// Opens the store of this hub alone, in directories of its own; makes them, and removes what writers left in a crash.
    pub async fn open(root: PathBuf, incoming: PathBuf) -> Result<Self, StoreError> {
        let place: Arc<str> = root.display().to_string().into();
        fs::create_dir_all(&root).map_err(|source| failed(&place, source))?;
        let store = directory(&root).map_err(|source| failed(&place, source))?;
        Self::over(store, place, incoming, "", |_| true).await
    }

    /// Opens a store that hubs share. `hub` tells hubs with the same database from others.
    pub async fn share(shared: &Shared, incoming: PathBuf, hub: &str) -> Result<Self, StoreError> {
        let place: Arc<str> = shared.to_string().into();
        let store = shared.open().map_err(|source| failed(&place, source))?;
        Self::over(store, place, incoming, hub, |found| found == hub).await
    }

    async fn over(
        store: Arc<dyn ObjectStore>,
        place: Arc<str>,
        incoming: PathBuf,
        hub: &str,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Self, StoreError> {
        let prepare = || -> io::Result<()> {
            match fs::remove_dir_all(&incoming) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(&incoming)
        };
        prepare().map_err(|source| failed(&place, source))?;
        let marker = marker(&*store, hub)
            .await
            .map_err(|source| failed(&place, source))?;
        if !is_ours(&marker.hub) {
            return Err(StoreError::Foreign { place });
        }
        Ok(Self {
            store,
            place,
            incoming: incoming.into(),
            id: marker.id,
            trees: Arc::new(TreeCache::new(TREES)),
        })
    }

    /// Tells this store from every other: hubs that have the same share it.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Begins an artifact. Blocking, like the writer itself.
    pub fn writer(&self) -> Result<ArtifactWriter, StoreError> {
        let file = NamedTempFile::new_in(&self.incoming).map_err(|source| self.failed(source))?;
        Ok(ArtifactWriter {
            file,
            hasher: Sha256::new(),
            size: 0,
        })
    }

    /// Keeps what was written, durably. One of the same digest that is there already is replaced by its equal, which
    /// heals it if its place had spoilt it.
    pub async fn keep(&self, written: ArtifactWriter) -> Result<Stored, StoreError> {
        let stored = Stored {
            digest: ArtifactDigest::finish(written.hasher),
            size: written.size,
        };
        let mut file = written.file.into_file();
        file.rewind().map_err(|source| self.failed(source))?;
        let mut file = tokio::fs::File::from_std(file);
        let mut kept = BufWriter::new(self.store.clone(), key(stored.digest));
        let copied = async {
            tokio::io::copy(&mut file, &mut kept).await?;
            kept.shutdown().await
        };
        if let Err(error) = copied.await {
            // What was uploaded of a large one would be stored for ever.
            if let Err(error) = kept.abort().await {
                tracing::debug!(%error, "what was written of an artifact is left behind");
            }
            return Err(self.failed(error));
        }
        Ok(stored)
    }

    /// The files of an artifact, after its bytes have proven to be the right ones. What was read lately is in memory; one
    /// that was lost is missed all the same, so that it is fetched again before it is needed.
    pub async fn tree(&self, digest: ArtifactDigest, limits: ReadLimits) -> Result<Arc<Tree>, StoreError> {
        if !self.has(digest).await? {
            return Err(StoreError::Missing(digest));
        }
        let read = async {
            let bytes = self.read(digest).await?;
            let read = move || {
                read_tree(&bytes[..], limits).map_err(|source| StoreError::Refused { digest, source })
            };
            self.beside(read).await?
        };
        self.trees.get(digest, read).await
    }

    /// Reads the bytes of an artifact, verified.
    pub async fn read(&self, digest: ArtifactDigest) -> Result<bytes::Bytes, StoreError> {
        let read = async { self.store.get(&key(digest)).await?.bytes().await };
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(StoreError::Missing(digest)),
            Err(error) => return Err(self.failed(error)),
        };
        let verified = self
            .beside(move || (ArtifactDigest::of(&bytes) == digest).then_some(bytes))
            .await?;
        match verified {
            Some(bytes) => Ok(bytes),
            None => {
                self.delete(digest).await?;
                Err(StoreError::Corrupt(digest))
            }
        }
    }

    /// Tells whether an artifact is here, without reading it.
    pub async fn has(&self, digest: ArtifactDigest) -> Result<bool, StoreError> {
        match self.store.head(&key(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes an artifact; one that is gone already is no error.
    pub async fn delete(&self, digest: ArtifactDigest) -> Result<(), StoreError> {
        match self.store.delete(&key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Lists what is kept, in no order.
    pub async fn list(&self) -> Result<Vec<Stored>, StoreError> {
        self.listed(|found| stored(&found)).await
    }

    /// Lists what has been there for so long at least, in no order.
    pub async fn settled(&self, age: Duration) -> Result<Vec<ArtifactDigest>, StoreError> {
        let before = OffsetDateTime::now_utc() - age;
        self.listed(|found| {
            let is_settled = found.last_modified.timestamp() <= before.unix_timestamp();
            stored(&found).filter(|_| is_settled).map(|stored| stored.digest)
        })
        .await
    }

    async fn listed<T>(&self, kept: impl Fn(ObjectMeta) -> Option<T>) -> Result<Vec<T>, StoreError> {
        let found = self.store.list(None);
        let kept = found.try_filter_map(|found| std::future::ready(Ok(kept(found))));
        kept.try_collect().await.map_err(|error| self.failed(error))
    }

    /// Works on a thread that has no streams to serve.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        failed(&self.place, source)
    }
}

fn failed(place: &Arc<str>, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        place: place.clone(),
        source: source.into(),
    }
}

fn key(digest: ArtifactDigest) -> Key {
    let hex = digest.hex();
    Key::from(format!("{}/{hex}{SUFFIX}", &hex[..2]))
}

fn stored(found: &ObjectMeta) -> Option<Stored> {
    let hex = found.location.filename()?.strip_suffix(SUFFIX)?;
    let digest = ArtifactDigest::parse(&format!("sha256:{hex}")).ok()?;
    (key(digest) == found.location).then_some(Stored {
        digest,
        size: found.size,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ArchiveWriter;

    async fn put(store: &ArtifactStore, text: &[u8]) -> Stored {
        let mut archive = ArchiveWriter::new(store.writer().expect("a writer"));
        archive.file("f", false, text).expect("written");
        store
            .keep(archive.finish().expect("finished"))
            .await
            .expect("kept")
    }

    async fn open(place: &tempfile::TempDir) -> ArtifactStore {
        let opened = ArtifactStore::open(place.path().join("artifacts"), place.path().join("incoming"));
        opened.await.expect("opened")
    }

    async fn store() -> (tempfile::TempDir, ArtifactStore) {
        let place = tempfile::tempdir().expect("a directory");
        let store = open(&place).await;
        (place, store)
    }

    #[tokio::test]
    async fn what_is_kept_is_listed_read_and_deleted_by_its_digest() {
        let (_place, store) = store().await;
        let (one, two) = (put(&store, b"1").await, put(&store, b"2").await);
        assert_eq!(put(&store, b"1").await, one);
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
    async fn an_artifact_larger_than_one_upload_is_kept_whole() {
        let (_place, store) = store().await;
        let noise: Vec<u8> = (0..400_000_u64)
            .flat_map(|n| *blake3::hash(&n.to_be_bytes()).as_bytes())
            .collect();
        let kept = put(&store, &noise).await;
        assert!(kept.size > 11 << 20, "{}", kept.size);
        assert_eq!(
            store.read(kept.digest).await.expect("read").len() as u64,
            kept.size
        );
    }

    #[tokio::test]
    async fn only_what_has_been_there_for_a_while_is_settled() {
        let (place, store) = store().await;
        let (old, _new) = (put(&store, b"old").await, put(&store, b"new").await);
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(store.settled(day).await.expect("listed"), []);
        let path = place.path().join("artifacts").join(key(old.digest).as_ref());
        let file = fs::File::options().write(true).open(path).expect("there");
        let written = file
            .metadata()
            .and_then(|file| file.modified())
            .expect("it has a time");
        file.set_modified(written - 2 * day).expect("set");
        assert_eq!(store.settled(day).await.expect("listed"), [old.digest]);
    }

    #[tokio::test]
    async fn an_artifact_spoilt_on_disk_is_never_used_and_is_healed_by_keeping_it_again() {
        let (place, store) = store().await;
        let kept = put(&store, b"1").await;
        let path = place.path().join("artifacts").join(key(kept.digest).as_ref());
        fs::write(path, b"spoilt").expect("written");
        assert!(matches!(
            store.tree(kept.digest, ReadLimits::default()).await,
            Err(StoreError::Corrupt(_))
        ));
        assert!(matches!(
            store.read(kept.digest).await,
            Err(StoreError::Missing(_))
        ));
        put(&store, b"1").await;
        assert!(store.read(kept.digest).await.is_ok());
    }

    #[tokio::test]
    async fn an_artifact_not_kept_leaves_nothing() {
        let (place, store) = store().await;
        let mut writer = store.writer().expect("a writer");
        writer.write_all(b"half").expect("written");
        drop(writer);
        assert_eq!(store.list().await.expect("listed"), []);
        // A crash leaves the file; the next start removes it.
        let left = place.path().join("incoming/left");
        fs::write(&left, "x").expect("written");
        open(&place).await;
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn hubs_of_one_database_share_a_store_and_one_of_another_is_refused() {
        let (place, shared) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let named: Shared = shared.path().to_str().expect("text").parse().expect("a path");
        let open =
            async |own: &str, hub: &str| ArtifactStore::share(&named, place.path().join(own), hub).await;
        let (one, two) = (
            open("one", "hub").await.expect("opened"),
            open("two", "hub").await.expect("opened"),
        );
        assert_eq!(one.id(), two.id());
        let kept = put(&one, b"1").await;
        assert!(two.read(kept.digest).await.is_ok());
        two.delete(kept.digest).await.expect("deleted");
        assert!(!one.has(kept.digest).await.expect("looked"));
        let refused = open("three", "another").await.expect_err("refused");
        assert!(refused.to_string().contains("--artifact-store"), "{refused}");
        let gone = "/nonexistent/of/flotilla".parse::<Shared>().expect("a path");
        let gone = ArtifactStore::share(&gone, place.path().join("four"), "hub").await;
        assert!(matches!(gone, Err(StoreError::Unavailable { .. })), "{gone:?}");
    }
}
