//! Sources: where desired state comes from. Each kind is a [`Source`]: a cheap probe ("what is the newest revision?")
//! and a fetch into an artifact. None of this knows the store or the tasks that call it; what follows from an answer is
//! decided in [`flotilla_core::source`].

pub mod egress;
pub mod git;
pub mod secret;
pub mod token;
pub mod transport;

use std::future::Future;

use flotilla_core::{
    digest::Digest,
    source::{Failure, Found, Look},
};

use crate::artifact::ArtifactStore;

/// One configured source.
pub trait Source: Sync {
    /// What a probe found: what a fetch begins with.
    type Probed: Clone + Send;

    /// Digest of the settings that shape an artifact besides the revision.
    fn config(&self) -> Digest;

    /// Asks the remote for its newest revision, named as Flux names it.
    fn probe(&self) -> impl Future<Output = Result<(String, Self::Probed), Failure>> + Send;

    /// Fetches what was probed, or what is newer by then, and stores its artifact; else what the look ended with. `former` is
    /// the commit of the present revision, if there is one.
    fn fetch(
        &self,
        probed: Self::Probed,
        former: Option<&str>,
        artifacts: &ArtifactStore,
    ) -> impl Future<Output = Result<Fetched, Look>> + Send;

    /// Tells whether a commit that was fetched follows `former`, one that was fetched before it, or the history was rewritten.
    /// `None`: that cannot be known, or it has no history. The error says why it is not known now.
    fn follows(
        &self,
        probed: Self::Probed,
        former: &str,
        commit: &str,
    ) -> impl Future<Output = Result<Option<bool>, String>> + Send;
}

/// A revision that was fetched and stored.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What it is.
    pub found: Found,
    /// Id of the commit, or digest of what was fetched.
    pub commit: String,
    /// Bytes of the artifact.
    pub size: u64,
}
