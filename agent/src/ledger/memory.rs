//! Cells in memory, with crashes on demand: for tests and simulated agents. The cells outlive the ledger that
//! writes them, as Secrets outlive a pod.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::cells::{Cell, CellError, Cells, Limits, Version};

/// Cells shared by all clones.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    cells: BTreeMap<String, (Vec<u8>, u64)>,
    writes: u64,
    /// Writes that still succeed before all fail.
    left: Option<u64>,
}

impl Memory {
    /// Lets `writes` more writes succeed, then fails all: the storage went away in the middle.
    pub fn fail_after(&self, writes: u64) {
        self.lock().left = Some(writes);
    }

    /// Ends a failure.
    pub fn heal(&self) {
        self.lock().left = None;
    }

    /// Returns how many writes have succeeded.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Returns how many bytes are held.
    pub fn size(&self) -> usize {
        self.lock().cells.values().map(|(bytes, _)| bytes.len()).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cells for Memory {
    async fn get(&self, name: &str) -> Result<Option<Cell>, CellError> {
        Ok(self.lock().cells.get(name).map(|(bytes, version)| Cell {
            bytes: bytes.clone(),
            version: Version(version.to_string()),
        }))
    }

    async fn put(&self, name: &str, bytes: &[u8], expected: Option<&Version>) -> Result<Version, CellError> {
        let mut inner = self.lock();
        match inner.left {
            Some(0) => {
                return Err(CellError::Refused {
                    name: name.to_owned(),
                    why: "storage is away".to_owned(),
                });
            }
            Some(left) => inner.left = Some(left - 1),
            None => {}
        }
        let held = inner
            .cells
            .get(name)
            .map(|(_, version)| Version(version.to_string()));
        if held.as_ref() != expected {
            return Err(CellError::Conflict {
                name: name.to_owned(),
            });
        }
        inner.writes += 1;
        let version = inner.writes;
        inner.cells.insert(name.to_owned(), (bytes.to_vec(), version));
        Ok(Version(version.to_string()))
    }

    fn limits(&self) -> Limits {
        Limits {
            segment: 64 << 10,
            total: 64 << 20,
        }
    }
}
