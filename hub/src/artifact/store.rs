//! Keeps artifacts by the digest of their bytes, in a [place](super::place) that other hubs may share. An artifact
//! appears whole or not at all, and is verified when it is read; one that does not verify is removed.

use std::{
    fs,
    io::{self, Seek as _, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, path::Path as Key};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    ArtifactDigest, ReadError, ReadLimits, Shared, Tree,
    bounds::{Bounds, Progress},
    cache::TreeCache,
    failure::{Operation, Sentence, Unanswered, local},
    lately::Lately,
    place::{Marker, directory, marker},
    read_tree,
    transfer::{download, upload},
};

const SUFFIX: &str = ".tar.gz";
/// Bytes of the trees that are held in memory: a commit is compared with the one before it, and read by all its apps.
const TREES: u64 = 48 << 20;
/// What is asked of the place is given up when nothing has come of it for so long.
const SILENT: Duration = Duration::from_secs(30);

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
    /// The place where artifacts are kept does not answer, refuses or is full; retry.
    #[error("the artifact store at {place} failed: {why}")]
    Unavailable {
        /// Where.
        place: Arc<str>,
        /// One sentence, with a code where the place gives one.
        why: String,
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
    pub(super) store: Arc<dyn ObjectStore>,
    place: Arc<str>,
    /// Where what is being written stands meanwhile, on this machine.
    incoming: Arc<Path>,
    id: Uuid,
    trees: Arc<TreeCache>,
    /// What was found there lately; `None`: it is near, and is asked each time.
    lately: Option<Arc<Lately>>,
    pub(super) bounds: Bounds,
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
        let open = move || {
            fs::create_dir_all(&root).map_err(local)?;
            directory(&root)
        };
        Self::over(open, place, incoming, "", |_| true).await
    }

    /// Opens a store that hubs share. `hub` tells hubs with the same database from others.
    pub async fn share(shared: &Shared, incoming: PathBuf, hub: &str) -> Result<Self, StoreError> {
        let place: Arc<str> = shared.to_string().into();
        let lately = matches!(shared, Shared::Bucket { .. }).then(Arc::default);
        let shared = shared.clone();
        let store = Self::over(move || shared.open(), place, incoming, hub, |found| found == hub).await?;
        Ok(Self { lately, ..store })
    }

    async fn over(
        open: impl FnOnce() -> object_store::Result<Arc<dyn ObjectStore>> + Send + 'static,
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
            // Nobody else's to look at, whatever the process' mask.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&incoming)
        };
        let here = incoming.display().to_string().into();
        prepare().map_err(|error| failed(&here, Operation::Open, &error.into()))?;
        let (bounds, named) = (Bounds::new(SILENT), hub.to_owned());
        let opened = bounds.within(|_| async move {
            let store = tokio::task::spawn_blocking(open).await??;
            let marker = marker(&*store, &named).await?;
            Ok::<(Arc<dyn ObjectStore>, Marker), Error>((store, marker))
        });
        let (store, marker) = opened
            .await
            .map_err(|error| failed(&place, Operation::Open, &error))?;
        if !is_ours(&marker.hub) {
            return Err(StoreError::Foreign { place });
        }
        Ok(Self {
            store,
            place,
            incoming: incoming.into(),
            id: marker.id,
            trees: Arc::new(TreeCache::new(TREES)),
            lately: None,
            bounds,
        })
    }

    /// Tells this store from every other: hubs that have the same share it.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Begins an artifact. Blocking, like the writer itself.
    pub fn writer(&self) -> Result<ArtifactWriter, StoreError> {
        let file = NamedTempFile::new_in(&self.incoming);
        let file = file.map_err(|error| self.failed(Operation::Write, &error.into()))?;
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
        file.rewind()
            .map_err(|error| self.failed(Operation::Write, &error.into()))?;
        let (store, key) = (self.store.clone(), key(stored.digest));
        let copied = self
            .bounds
            .slow()
            .within(|progress| async move { upload(&*store, &key, file, stored.size, &progress).await })
            .await;
        copied.map_err(|error| self.failed(Operation::Write, &error))?;
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
        let bytes = match self.bytes(digest).await? {
            Some(bytes) => bytes,
            None if self.bring_back(digest).await? => {
                let again = self.bytes(digest).await?;
                again.ok_or(StoreError::Missing(digest))?
            }
            None => {
                self.note(digest, false);
                return Err(StoreError::Missing(digest));
            }
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
        let is_there = self.found_in_place(digest).await?.is_some() || self.bring_back(digest).await?;
        self.note(digest, is_there);
        Ok(is_there)
    }

    /// As [`Self::has`], and where asking costs, of what was found lately and not missed since nobody is asked.
    pub async fn has_lately(&self, digest: ArtifactDigest) -> Result<bool, StoreError> {
        match &self.lately {
            Some(lately) if lately.knows(digest, Instant::now()) => Ok(true),
            _ => self.has(digest).await,
        }
    }

    fn note(&self, digest: ArtifactDigest, is_there: bool) {
        if let Some(lately) = &self.lately {
            lately.note(digest, is_there, Instant::now());
        }
    }

    async fn bytes(&self, digest: ArtifactDigest) -> Result<Option<bytes::Bytes>, StoreError> {
        let (store, key) = (self.store.clone(), key(digest));
        let read = self
            .bounds
            .within(|progress| async move { download(&*store, &key, &progress).await });
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Unanswered::Said(Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(self.failed(Operation::Read, &error)),
        }
    }

    pub(super) async fn found_in_place(
        &self,
        digest: ArtifactDigest,
    ) -> Result<Option<ObjectMeta>, StoreError> {
        let (store, key) = (self.store.clone(), key(digest));
        let found = self.bounds.within(|_| async move { store.head(&key).await });
        match found.await {
            Ok(found) => Ok(Some(found)),
            Err(Unanswered::Said(Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(self.failed(Operation::Read, &error)),
        }
    }

    /// Removes an artifact; one that is gone already is no error.
    pub async fn delete(&self, digest: ArtifactDigest) -> Result<(), StoreError> {
        self.note(digest, false);
        self.removed(key(digest)).await.map(drop)
    }

    /// Removes an object. `false`: it has gone.
    pub(super) async fn removed(&self, key: Key) -> Result<bool, StoreError> {
        let store = self.store.clone();
        let deleted = self.bounds.within(|_| async move { store.delete(&key).await });
        match deleted.await {
            Ok(()) => Ok(true),
            Err(Unanswered::Said(Error::NotFound { .. })) => Ok(false),
            Err(error) => Err(self.failed(Operation::Remove, &error)),
        }
    }

    /// Lists what is kept, in no order.
    pub async fn list(&self) -> Result<Vec<Stored>, StoreError> {
        self.listed(None, |found| stored(&found)).await
    }

    /// Lists what has been there for so long at least, in no order.
    pub async fn settled(&self, age: Duration) -> Result<Vec<ArtifactDigest>, StoreError> {
        self.listed(None, move |found| {
            let is_settled = is_settled(&found, age);
            stored(&found).filter(|_| is_settled).map(|stored| stored.digest)
        })
        .await
    }

    /// Lists what is below a key, or all.
    pub(super) async fn listed<T: Send + 'static>(
        &self,
        below: Option<&Key>,
        kept: impl Fn(ObjectMeta) -> Option<T> + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = self.store.list(below);
        let all = self.bounds.within(|progress: Progress| async move {
            let mut all = Vec::new();
            while let Some(one) = found.try_next().await? {
                progress.made();
                all.extend(kept(one));
            }
            Ok(all)
        });
        all.await.map_err(|error| self.failed(Operation::List, &error))
    }

    /// Works on a thread that has no streams to serve.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| self.failed(Operation::Read, &Unanswered::Said(error.into())))
    }

    pub(super) fn failed(&self, operation: Operation, error: &Unanswered) -> StoreError {
        failed(&self.place, operation, error)
    }
}

fn failed(place: &Arc<str>, operation: Operation, error: &Unanswered) -> StoreError {
    StoreError::Unavailable {
        place: place.clone(),
        why: Sentence(operation, error).to_string(),
    }
}

pub(super) fn is_settled(found: &ObjectMeta, age: Duration) -> bool {
    let before = OffsetDateTime::now_utc() - age;
    found.last_modified.timestamp() <= before.unix_timestamp()
}

pub(super) fn key(digest: ArtifactDigest) -> Key {
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
    use object_store::{
        memory::InMemory,
        throttle::{ThrottleConfig, ThrottledStore},
    };

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

    /// Bytes of several parts that do not pack.
    fn noise() -> Vec<u8> {
        (0..400_000_u64)
            .flat_map(|n| *blake3::hash(&n.to_be_bytes()).as_bytes())
            .collect()
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
    async fn what_was_found_far_away_is_asked_for_again_once_it_is_missed() {
        let (_place, near) = store().await;
        let far = ArtifactStore {
            lately: Some(Arc::default()),
            ..near.clone()
        };
        let digest = put(&near, b"1").await.digest;
        assert!(far.has_lately(digest).await.expect("asked"));
        near.delete(digest).await.expect("deleted");
        assert!(!near.has_lately(digest).await.expect("asked"));
        assert!(far.has_lately(digest).await.expect("known"));
        assert!(matches!(far.read(digest).await, Err(StoreError::Missing(_))));
        assert!(!far.has_lately(digest).await.expect("asked"));
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
        let kept = put(&store, &noise()).await;
        assert!(kept.size > 11 << 20, "{}", kept.size);
        assert_eq!(
            store.read(kept.digest).await.expect("read").len() as u64,
            kept.size
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upload_is_kept_as_long_as_its_parts_arrive_and_given_up_when_none_does() {
        let (_place, mut store) = store().await;
        let of_a_part = |wait: u64| {
            let config = ThrottleConfig {
                wait_put_per_call: Duration::from_millis(wait),
                ..ThrottleConfig::default()
            };
            Arc::new(ThrottledStore::new(InMemory::new(), config))
        };
        store.bounds.silent = Duration::from_millis(100);
        store.store = of_a_part(200);
        let kept = put(&store, &noise()).await;
        assert_eq!(
            store.read(kept.digest).await.expect("read").len() as u64,
            kept.size
        );
        store.store = of_a_part(60_000);
        let mut archive = ArchiveWriter::new(store.writer().expect("a writer"));
        archive.file("f", false, b"1").expect("written");
        let never = store.keep(archive.finish().expect("finished")).await;
        let error = never.expect_err("no answer").to_string();
        assert!(error.contains("has said nothing for 300ms"), "{error}");
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
    async fn a_directory_that_hangs_is_given_up_and_others_files_are_read() {
        let (place, mut store) = store().await;
        store.bounds.silent = Duration::from_millis(200);
        let (hangs, other) = (put(&store, b"1").await, put(&store, b"2").await);
        let path = place.path().join("artifacts").join(key(hangs.digest).as_ref());
        fs::remove_file(&path).expect("removed");
        // Whoever opens it waits until it is opened for writing.
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("made");
        let error = store.read(hangs.digest).await.expect_err("no answer");
        assert!(
            error.to_string().contains("has said nothing for 200ms"),
            "{error}"
        );
        assert!(store.read(other.digest).await.is_ok());
        drop(fs::File::options().read(true).write(true).open(&path));
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
