//! Values in memory, with crashes on demand: for tests and simulated agents. The values outlive the ledger that
//! writes them, as Secrets outlive a pod.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::key_value::{KeyValue, KeyValueError, Limits, Version, Versioned};

/// Values shared by all clones.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

/// All values at a time, with their versions.
#[derive(Debug, Clone)]
pub struct Snapshot {
    key_value: BTreeMap<String, (Vec<u8>, u64)>,
    version: u64,
}

#[derive(Debug)]
struct Inner {
    key_value: BTreeMap<String, (Vec<u8>, u64)>,
    /// The version of the last write.
    version: u64,
    writes: u64,
    /// Bytes of all writes that succeeded.
    written: usize,
    /// Writes that still succeed before all fail.
    left: Option<u64>,
    /// Writes to come that are stored, and answered as if they might not be.
    unanswered: u64,
    /// Calls to come that are lost and not answered.
    lost: u64,
    limits: Limits,
    exclusive: bool,
    yields: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            key_value: BTreeMap::new(),
            version: 0,
            writes: 0,
            written: 0,
            left: None,
            unanswered: 0,
            lost: 0,
            limits: Limits {
                segment: 64 << 10,
                total: 64 << 20,
            },
            exclusive: false,
            yields: false,
        }
    }
}

impl Memory {
    /// Lets `writes` more writes succeed, then fails all: the storage went away in the middle.
    pub fn fail_after(&self, writes: u64) {
        self.lock().left = Some(writes);
    }

    /// Stores the next write and lets its answer be lost, and then `calls` more calls with their answers.
    pub fn leave_unanswered(&self, calls: u64) {
        let mut inner = self.lock();
        (inner.unanswered, inner.lost) = (1, calls);
    }

    /// Loses the next `calls` calls, which do nothing and are not answered.
    pub fn lose(&self, calls: u64) {
        self.lock().lost = calls;
    }

    /// Returns how many calls are still to be lost.
    pub fn to_lose(&self) -> u64 {
        self.lock().lost
    }

    /// Takes other sizes.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        self.lock().limits = limits;
        self
    }

    /// Lets nobody else write, as a lock does.
    #[must_use]
    pub fn exclusive(self) -> Self {
        self.lock().exclusive = true;
        self
    }

    /// Lets other tasks run before each write, as storage elsewhere does.
    #[must_use]
    pub fn yielding(self) -> Self {
        self.lock().yields = true;
        self
    }

    /// Writes a value as somebody does who asks for no version; `None`: deletes it.
    pub fn set(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut inner = self.lock();
        inner.writes += 1;
        inner.version += 1;
        let version = inner.version;
        match bytes {
            Some(bytes) => inner.key_value.insert(name.to_owned(), (bytes, version)),
            None => inner.key_value.remove(name),
        };
    }

    /// Copies all that is stored.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            key_value: inner.key_value.clone(),
            version: inner.version,
        }
    }

    /// Puts storage back to what it was, versions too, as the restore of a backup does.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut inner = self.lock();
        inner.key_value.clone_from(&snapshot.key_value);
        inner.version = snapshot.version;
    }

    /// Returns the bytes of a value.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().key_value.get(name).map(|(bytes, _)| bytes.clone())
    }

    /// Returns the names of all values.
    pub fn names(&self) -> Vec<String> {
        self.lock().key_value.keys().cloned().collect()
    }

    /// Ends a failure.
    pub fn heal(&self) {
        let mut inner = self.lock();
        (inner.left, inner.unanswered, inner.lost) = (None, 0, 0);
    }

    /// Returns how many writes have succeeded.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Returns how many bytes all these writes had.
    pub fn written(&self) -> usize {
        self.lock().written
    }

    /// Returns how many bytes are held.
    pub fn size(&self) -> usize {
        self.lock().key_value.values().map(|(bytes, _)| bytes.len()).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyValue for Memory {
    async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
        let mut inner = self.lock();
        if inner.unanswered == 0 && inner.lost > 0 {
            inner.lost -= 1;
            return Err(unanswered(name));
        }
        Ok(inner.key_value.get(name).map(|(bytes, version)| Versioned {
            bytes: bytes.clone(),
            version: Version(version.to_string()),
        }))
    }

    async fn put(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        if self.lock().yields {
            tokio::task::yield_now().await;
        }
        let mut inner = self.lock();
        if inner.unanswered == 0 && inner.lost > 0 {
            inner.lost -= 1;
            return Err(unanswered(name));
        }
        match inner.left {
            Some(0) => {
                return Err(KeyValueError::Refused {
                    name: name.to_owned(),
                    why: "storage is away".to_owned(),
                });
            }
            Some(left) => inner.left = Some(left - 1),
            None => {}
        }
        let stored = inner
            .key_value
            .get(name)
            .map(|(_, version)| Version(version.to_string()));
        if stored.as_ref() != expected {
            return Err(KeyValueError::Conflict {
                name: name.to_owned(),
            });
        }
        inner.writes += 1;
        inner.version += 1;
        let version = inner.version;
        inner.written += bytes.len();
        inner.key_value.insert(name.to_owned(), (bytes.to_vec(), version));
        if inner.unanswered > 0 {
            inner.unanswered -= 1;
            return Err(unanswered(name));
        }
        Ok(Version(version.to_string()))
    }

    fn limits(&self) -> Limits {
        self.lock().limits
    }

    fn is_exclusive(&self) -> bool {
        self.lock().exclusive
    }
}

fn unanswered(name: &str) -> KeyValueError {
    KeyValueError::Unavailable {
        name: name.to_owned(),
        why: "no answer".to_owned(),
    }
}
