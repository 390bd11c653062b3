//! GitRepository sources over HTTP(S) and SSH: [`probe`] asks the remote which commit a reference names, [`fetch`] brings
//! that commit into a bare repository, [`tree`] reads it without ever making a worktree.
//!
//! Everything is keyed by [`Remote`]: URL, credential and way of connecting together. Two sources share a probe or a repository
//! only if all three are equal, so that bad credentials never read what good ones fetched.

mod access;
mod ancestry;
pub mod discovery;
pub mod error;
pub mod fetch;
pub mod listing;
mod newest;
pub mod package;
pub mod pktline;
pub mod probe;
pub mod program;
pub mod reference;
pub mod remote;
mod repository;
pub mod share;
pub mod signature;
mod source;
pub mod ssh;
mod ssh_probe;
pub mod submodule;
pub mod tree;

pub use error::{GitError, Remedy};
pub use fetch::{FetchLimits, Fetched, Fetcher};
pub use package::{Included, Layout, Packed, package, package_as};
pub use probe::{Prober, Resolved};
pub use program::{GitProgram, ProgramError};
pub use reference::{CommitId, Fields, RefName, Reference};
pub use remote::{Credential, Remote, RemoteKey};
pub use share::ProbeShare;
pub use source::{GitSource, Include, REFUSE_REWRITES, Uses};
pub use ssh::SshIdentity;
pub use tree::{CommitTree, TreeError, TreeLimits};
