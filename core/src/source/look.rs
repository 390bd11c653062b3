//! What a look at a source ends with.

use crate::digest::Digest;

/// What helps against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Time: tried again with backoff.
    Retry,
    /// The user: looked at once an interval, since the change may be on the remote.
    Ask,
    /// A change of the object's own spec.
    Respecify,
}

/// Why there is nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One word.
    pub reason: String,
    /// A sentence; never a secret.
    pub message: String,
    /// What helps.
    pub remedy: Remedy,
    /// It is about a signature: the revision was there, and is not trusted.
    pub is_of_signature: bool,
}

impl Failure {
    /// A failure.
    pub fn new(reason: &str, message: impl Into<String>, remedy: Remedy) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            remedy,
            is_of_signature: false,
        }
    }

    /// The same, as one of a signature.
    #[must_use]
    pub fn of_signature(mut self) -> Self {
        self.is_of_signature = true;
        self
    }
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As Flux names it.
    pub revision: String,
    /// What a person knows it by: the first line of a commit's message.
    pub subject: String,
    /// Digest of the settings that shaped the artifact.
    pub config: Digest,
    /// The artifact.
    pub artifact: String,
    /// Whose signatures were verified, in a sentence; empty where none are asked for.
    pub verified: String,
}

/// What a look ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The present revision is the remote's, and its artifact is at hand.
    Same,
    /// Something was fetched.
    Fetched(Found),
    /// Nothing was learnt.
    Failed(Failure),
    /// What the hub itself needs for it does not answer, which says nothing of the source: a sentence; never a secret.
    Waits(String),
}
