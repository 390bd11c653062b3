//! Keys and values with compare-and-set: all that the ledger and the identity ask of durable storage. A
//! Secret of the agent's namespace is a value, and so is a file of its state directory.
//!
//! There is no deletion: a value that is no longer referred to is written again. So the agent needs no right to
//! delete a Secret, and garbage is bounded.

use async_trait::async_trait;

/// Version of a value as it was read or written; a later write names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// A value as read.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its version.
    pub version: Version,
}

/// Why a value was not read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyValueError {
    /// Somebody else has written it. Whoever gets this is not the only agent here any more.
    #[error("{name} was written by somebody else")]
    Conflict {
        /// Its key.
        name: String,
    },
    /// The outcome is unknown or the storage does not answer; ask again.
    #[error("storage of {name} does not answer: {why}")]
    Unavailable {
        /// Its key.
        name: String,
        /// What was seen, without contents.
        why: String,
    },
    /// Repeating will not help: missing rights, no space, too large.
    #[error("storage refuses {name}: {why}")]
    Refused {
        /// Its key.
        name: String,
        /// What was seen, without contents.
        why: String,
    },
}

/// Sizes a form of storage takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one segment.
    pub segment: usize,
    /// Bytes of all segments that are in use.
    pub total: usize,
}

/// Durable storage of values by key.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// Reads a value; `None` when it was never written.
    async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError>;

    /// Writes a value, if it still has the version `expected` (`None`: if it does not exist yet). Durable when
    /// it returns.
    async fn put(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError>;

    /// The same for a value that nothing names yet: it need not be durable before the next [`put`](Self::put) returns, which
    /// stores what names it.
    async fn put_unnamed(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        self.put(name, bytes, expected).await
    }

    /// What this storage takes.
    fn limits(&self) -> Limits;

    /// Tells whether no other process can write here as long as this value lives: what is found damaged is then
    /// certainly nobody's.
    fn is_exclusive(&self) -> bool {
        false
    }
}
