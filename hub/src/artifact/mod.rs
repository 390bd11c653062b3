//! Artifacts: a source's revision as one immutable file. [`archive`] writes them byte for byte the same wherever
//! and whenever it runs, [`read`] takes nothing from them but regular files and directories, [`store`] keeps them
//! by the digest of their bytes, in a [`place`] that hubs may share.

pub mod archive;
mod aside;
mod bounds;
mod cache;
pub mod digest;
mod failure;
mod lately;
pub mod path;
pub mod place;
pub mod read;
pub mod store;
mod transfer;
pub mod tree;

pub use archive::{ArchiveError, ArchiveWriter};
pub use digest::{ArtifactDigest, InvalidArtifactDigest};
pub use place::{InvalidShared, Shared};
pub use read::{ReadError, ReadLimits, read_tree};
pub use store::{ArtifactStore, ArtifactWriter, StoreError, Stored};
pub use tree::{File, Tree};
