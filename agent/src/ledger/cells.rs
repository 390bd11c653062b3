//! Named cells of bytes with compare-and-set: all that the ledger and the identity ask of durable storage. A
//! Secret of the agent's namespace is a cell, and so is a file of its state directory.
//!
//! There is no deletion: a cell that is no longer referred to is written again. So the agent needs no right to
//! delete a Secret, and garbage is bounded.

use async_trait::async_trait;

/// What a cell held when it was read or written; a later write names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// A cell as read.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its version.
    pub version: Version,
}

/// Why a cell was not read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CellError {
    /// Somebody else has written it. Whoever gets this is not the only agent here any more.
    #[error("cell {name} was written by somebody else")]
    Conflict {
        /// The cell.
        name: String,
    },
    /// The outcome is unknown or the storage does not answer; ask again.
    #[error("storage of cell {name} does not answer: {why}")]
    Unavailable {
        /// The cell.
        name: String,
        /// What was seen, without contents.
        why: String,
    },
    /// Repeating will not help: missing rights, no space, too large.
    #[error("storage refuses cell {name}: {why}")]
    Refused {
        /// The cell.
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

/// Durable storage in named cells.
#[async_trait]
pub trait Cells: Send + Sync {
    /// Reads a cell; `None` when it was never written.
    async fn get(&self, name: &str) -> Result<Option<Cell>, CellError>;

    /// Writes a cell, if it still has the version `expected` (`None`: if it does not exist yet). Durable when
    /// it returns.
    async fn put(&self, name: &str, bytes: &[u8], expected: Option<&Version>) -> Result<Version, CellError>;

    /// What this storage takes.
    fn limits(&self) -> Limits;

    /// Tells whether no other process can write here as long as this value lives: what is found damaged is then
    /// certainly nobody's.
    fn is_exclusive(&self) -> bool {
        false
    }
}
