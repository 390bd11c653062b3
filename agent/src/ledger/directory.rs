//! Values as files of a directory: for agents outside a cluster, and for ledgers too large for Secrets. A write
//! is a new file, synced, renamed over the old one, and the directory synced: of many values that are written for one that
//! names them, the directory is synced once, before that one. A lock keeps a second agent out. A disk may
//! take seconds for that, or hang: threads of their own wait for it, and not the one that the whole agent runs on.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::key_value::{KeyValue, KeyValueError, Limits, Version, Versioned};
use crate::blocking;

/// As long as a call to an API server may take that keeps the same.
const PATIENCE: Duration = Duration::from_secs(15);

/// A directory of values, locked as long as this value lives, and a write or read of it goes on.
#[derive(Debug)]
pub struct Directory(Arc<Files>);

#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Held while one reads or writes: a write whose caller has given up goes on to its end.
    names: Mutex<Names>,
    /// How long an answer is waited for: what waits for the ledger would wait for a volume that hangs.
    patience: Duration,
    /// Reads and writes that were given up and have not ended.
    hanging: AtomicUsize,
    _lock: File,
}

/// How the names in a directory stand.
#[derive(Debug, Default)]
struct Names {
    /// Files were renamed that may be under their old names after a crash.
    are_unsynced: bool,
    /// How often the directory was synced.
    #[cfg(test)]
    syncs: usize,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another agent has it.
    #[error("state directory {0} is in use by another agent")]
    Locked(PathBuf),
    /// It cannot be made or opened.
    #[error("state directory {path} cannot be used")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Directory {
    /// Opens a directory, making it (0700) when it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::open_existing(path)
    }

    /// Opens a directory that is there, and locks it.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(Arc::new(Files {
                path: path.to_owned(),
                names: Mutex::default(),
                patience: PATIENCE,
                hanging: AtomicUsize::new(0),
                _lock: lock,
            }))),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(io(e)),
        }
    }

    /// Does this with the files on another thread.
    async fn with<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Files, &mut Names, &str) -> Result<T, KeyValueError> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let silent = |why: String| KeyValueError::Unavailable {
            name: name.to_owned(),
            why,
        };
        // Each that hangs holds a thread.
        if self.0.hanging.load(Ordering::Relaxed) > 0 {
            return Err(silent(
                "what was asked of its volume before has not ended yet".to_owned(),
            ));
        }
        let (files, owned) = (self.0.clone(), name.to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let given_up = is_over.clone();
        let done = blocking::run(move || {
            let done = {
                let mut names = files.names.lock().unwrap_or_else(PoisonError::into_inner);
                work(&files, &mut names, &owned)
            };
            if given_up.swap(true, Ordering::AcqRel) {
                files.hanging.fetch_sub(1, Ordering::Relaxed);
            }
            done
        });
        match tokio::time::timeout(self.0.patience, done).await {
            Ok(done) => done,
            Err(_) => {
                if !is_over.swap(true, Ordering::AcqRel) {
                    self.0.hanging.fetch_add(1, Ordering::Relaxed);
                }
                let seconds = self.0.patience.as_secs();
                Err(silent(format!("its volume has not answered for {seconds} s")))
            }
        }
    }

    async fn store(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
        is_named: bool,
    ) -> Result<Version, KeyValueError> {
        let (bytes, expected) = (bytes.to_vec(), expected.cloned());
        self.with(name, move |files, names, name| {
            let stored = files.read(name)?.map(|value| value.version);
            if stored != expected {
                return Err(KeyValueError::Conflict {
                    name: name.to_owned(),
                });
            }
            files
                .write(names, name, &bytes, is_named)
                .map_err(|e| refused(name, &e))?;
            Ok(version(&bytes))
        })
        .await
    }
}

impl Files {
    fn read(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(Versioned {
                version: version(&bytes),
                bytes,
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(refused(name, &e)),
        }
    }

    fn write(&self, names: &mut Names, name: &str, bytes: &[u8], is_named: bool) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if is_named {
            // What this value names must be there before it.
            self.sync(names)?;
        }
        names.are_unsynced = true;
        fs::rename(&new, self.path.join(name))?;
        if is_named { self.sync(names) } else { Ok(()) }
    }

    fn sync(&self, names: &mut Names) -> io::Result<()> {
        if names.are_unsynced {
            File::open(&self.path)?.sync_all()?;
            names.are_unsynced = false;
            #[cfg(test)]
            {
                names.syncs += 1;
            }
        }
        Ok(())
    }
}

/// The lock makes us the only writer, so the contents are version enough.
fn version(bytes: &[u8]) -> Version {
    Version(blake3::hash(bytes).to_hex().to_string())
}

fn refused(name: &str, error: &io::Error) -> KeyValueError {
    KeyValueError::Refused {
        name: name.to_owned(),
        why: error.to_string(),
    }
}

#[async_trait]
impl KeyValue for Directory {
    async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
        self.with(name, |files, _, name| files.read(name)).await
    }

    async fn put(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        self.store(name, bytes, expected, true).await
    }

    async fn put_unnamed(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        self.store(name, bytes, expected, false).await
    }

    fn limits(&self) -> Limits {
        Limits {
            segment: 512 << 10,
            total: 512 << 20,
        }
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::{clock::Timestamp, id::UnitId};
    use uuid::Uuid;

    use super::*;
    use crate::ledger::{Ledger, record::Record};

    /// What reads a pipe waits until somebody has written into it, as on a volume that hangs.
    #[tokio::test]
    async fn a_volume_that_hangs_is_told_in_time_and_asked_again_once_it_answers() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut directory = Directory::open(dir.path()).expect("opens");
        let files = Arc::get_mut(&mut directory.0).expect("nobody else's");
        files.patience = Duration::from_millis(50);
        let pipe = dir.path().join("head");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo is there").success());
        let silent = |answer: Result<Option<Versioned>, KeyValueError>| match answer {
            Err(KeyValueError::Unavailable { why, .. }) => why,
            answer => panic!("{answer:?}"),
        };
        assert!(silent(directory.get("head").await).contains("has not answered"));
        // Nothing else waits for it behind what hangs.
        assert!(silent(directory.get("other").await).contains("has not ended"));
        fs::write(&pipe, b"1").expect("written");
        while directory.0.hanging.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(directory.get("other").await.expect("reads").is_none());
    }

    #[tokio::test]
    async fn a_cell_is_written_only_over_the_version_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_value = Directory::open(&dir.path().join("state")).expect("opens");
        assert!(key_value.get("head").await.expect("reads").is_none());
        let first = key_value.put("head", b"1", None).await.expect("writes");
        assert!(matches!(
            key_value.put("head", b"2", None).await,
            Err(KeyValueError::Conflict { .. })
        ));
        let second = key_value.put("head", b"2", Some(&first)).await.expect("writes");
        assert!(matches!(
            key_value.put("head", b"3", Some(&first)).await,
            Err(KeyValueError::Conflict { .. })
        ));
        let read = key_value.get("head").await.expect("reads").expect("exists");
        assert_eq!((read.bytes.as_slice(), read.version), (&b"2"[..], second));
    }

    #[tokio::test]
    async fn a_rewrite_of_many_segments_syncs_the_directory_before_its_head_and_after() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_value = Arc::new(Directory::open(dir.path()).expect("opens"));
        let ledger = Ledger::open(key_value.clone(), "ledger").await.expect("opens");
        let syncs = || key_value.0.names.lock().expect("no panic").syncs;
        let append = async |n: u128, bytes: usize| {
            let before = syncs();
            // Nothing that could be compressed.
            let mut entry = vec![0; bytes];
            blake3::Hasher::new().finalize_xof().fill(&mut entry);
            let record = Record::Offered {
                unit: UnitId(Uuid::from_u128(n)),
                entry: entry.into(),
                at: Timestamp(1),
            };
            ledger.append(vec![record]).await.expect("appends");
            syncs() - before
        };
        // The first one stores an empty head before its segments.
        append(1, 10).await;
        assert_eq!(
            append(2, 4 << 20).await,
            2,
            "eight segments and the head that names them"
        );
        assert_eq!(append(3, 10).await, 1, "a head alone");
        assert_eq!(append(3, 10).await, 1);
    }

    const LARGE: usize = 32 << 20;

    #[tokio::test]
    async fn a_slow_disk_does_not_hold_the_thread_of_the_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_value = Directory::open(dir.path()).expect("opens");
        // So much that no thread is done with it before this one looks.
        let large = vec![b'1'; LARGE];
        let mut written = key_value.put("head", &large, None);
        assert!(futures::poll!(&mut written).is_pending(), "another thread writes");
        let first = written.await.expect("writes");
        let mut read = key_value.get("head");
        assert!(futures::poll!(&mut read).is_pending(), "another thread reads");
        assert_eq!(read.await.expect("reads").expect("exists").version, first);
    }

    #[tokio::test]
    async fn a_write_whose_caller_gives_up_is_not_mixed_with_the_next_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_value = Directory::open(dir.path()).expect("opens");
        let large = vec![b'1'; LARGE];
        {
            let mut given_up = key_value.put("head", &large, None);
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        // Whichever comes first: what is stored is one of the two, whole.
        let next = key_value.put("head", b"2", None).await;
        let stored = key_value.get("head").await.expect("reads").expect("exists").bytes;
        match next {
            Ok(_) => assert_eq!(stored, b"2"),
            Err(KeyValueError::Conflict { .. }) => assert!(stored == large),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn a_second_agent_is_kept_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Directory::open(dir.path()).expect("opens");
        assert!(matches!(Directory::open(dir.path()), Err(OpenError::Locked(_))));
        drop(first);
        assert!(Directory::open(dir.path()).is_ok());
    }
}
