//! An entry in its own bytes, and what they say: read once, however many ask on its way from the wire into the state.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use flotilla_core::{digest::Digest, unit::Entry};

/// An entry as it came. Copies share the bytes and what was read of them.
#[derive(Clone)]
pub struct EntryBytes {
    bytes: Arc<[u8]>,
    read: Arc<OnceLock<Read>>,
}

struct Read {
    digest: Digest,
    entry: Option<Arc<Entry>>,
}

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry of {} bytes", self.bytes.len())
    }
}

impl EntryBytes {
    /// Takes what is known of the bytes already.
    pub fn of(bytes: Arc<[u8]>, digest: Digest, entry: Option<Arc<Entry>>) -> Self {
        Self {
            bytes,
            read: Arc::new(OnceLock::from(Read { digest, entry })),
        }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.read().digest
    }

    /// Returns the entry; `None` when this version cannot read it.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        self.read().entry.as_ref()
    }

    fn read(&self) -> &Read {
        self.read.get_or_init(|| Read {
            digest: Entry::digest_of(&self.bytes),
            entry: Entry::from_bytes(&self.bytes).ok().map(Arc::new),
        })
    }
}

impl From<Vec<u8>> for EntryBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            read: Arc::default(),
        }
    }
}
