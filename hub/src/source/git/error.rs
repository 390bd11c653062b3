//! What may go wrong with a Git remote, by what the caller does next. No message holds a credential, userinfo or
//! a query string: URLs come in as [`Remote::shown`](super::Remote::shown), program output is redacted first.

use std::time::Duration;

use super::signature::Unverified;

/// What helps against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Time: retry with backoff.
    Retry,
    /// The user: nothing changes until the source, its secret or the repository does. Still looked at once an
    /// interval, since the change may be on the remote.
    Ask,
}

/// A failed probe or fetch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GitError {
    /// The remote refused the credentials, or asks for some.
    #[error("unable to list remote for '{url}': {detail}")]
    Auth {
        /// The remote.
        url: String,
        /// `authentication required` or `authorization failed`.
        detail: &'static str,
    },
    /// There is no repository, or it is hidden from these credentials.
    #[error("unable to list remote for '{url}': repository not found")]
    RepositoryNotFound {
        /// The remote.
        url: String,
    },
    /// The repository has no commit at all.
    #[error("git repository is empty: '{url}'")]
    Empty {
        /// The remote.
        url: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("unable to clone '{url}': couldn't find remote ref \"{reference}\"")]
    NotFound {
        /// The remote.
        url: String,
        /// The full ref or commit.
        reference: String,
    },
    /// No tag is a version in the range.
    #[error("unable to clone '{url}': no match found for semver: {range}")]
    NoVersion {
        /// The remote.
        url: String,
        /// The range.
        range: String,
    },
    /// The remote answers with a redirect to another origin, where credentials must not go.
    #[error("unable to list remote for '{url}': redirected to another origin, '{to}': set this as the url")]
    Redirected {
        /// The remote.
        url: String,
        /// Where it points, without userinfo and query.
        to: String,
    },
    /// The hub's configuration keeps sources from that server.
    #[error("unable to reach '{url}': {refusal}")]
    Forbidden {
        /// The remote.
        url: String,
        /// What is refused, and what helps.
        refusal: String,
    },
    /// The server shows another key than those of `known_hosts`, or one of a kind that is not there.
    #[error(
        "unable to list remote for '{url}': the server's host key is not in 'known_hosts' of the secret, or is another: compare it with what its owner says, and add the line that ssh-keyscan prints for the host"
    )]
    HostKey {
        /// The remote.
        url: String,
    },
    /// The private key cannot be read.
    #[error("unable to list remote for '{url}': the ssh identity of the secret cannot be used: {detail}")]
    Identity {
        /// The remote.
        url: String,
        /// Why.
        detail: &'static str,
    },
    /// The network or the server failed.
    #[error("unable to reach '{url}': {detail}")]
    Unreachable {
        /// The remote.
        url: String,
        /// What happened, redacted.
        detail: String,
    },
    /// The remote sent what is not Git, or objects that do not check out.
    #[error("unable to clone '{url}': corrupt data: {detail}")]
    Corrupt {
        /// The remote.
        url: String,
        /// What is wrong, redacted.
        detail: String,
    },
    /// Something is over a limit.
    #[error("'{url}' is too large: {what} exceeds the limit of {limit}")]
    TooLarge {
        /// The remote.
        url: String,
        /// What is counted.
        what: &'static str,
        /// The limit, with its unit.
        limit: String,
    },
    /// The tree holds what no honest tree does.
    #[error("unable to read '{url}': {detail}")]
    Refused {
        /// The remote.
        url: String,
        /// What is refused.
        detail: String,
    },
    /// A signature that is needed is none, or not of a key that counts.
    #[error("{}", .0.message)]
    Unverified(Unverified),
    /// The source's timeout passed.
    #[error("no answer from '{url}': timed out after {}s", after.as_secs_f32())]
    Timeout {
        /// The remote.
        url: String,
        /// The timeout.
        after: Duration,
    },
    /// This machine failed: disk, git program, CA file.
    #[error("unable to clone '{url}': {detail}")]
    Local {
        /// The remote.
        url: String,
        /// What failed, redacted.
        detail: String,
    },
}

impl GitError {
    /// What helps.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Auth { .. }
            | Self::RepositoryNotFound { .. }
            | Self::Empty { .. }
            | Self::NotFound { .. }
            | Self::NoVersion { .. }
            | Self::Redirected { .. }
            | Self::Forbidden { .. }
            | Self::HostKey { .. }
            | Self::Identity { .. }
            | Self::TooLarge { .. }
            | Self::Unverified(_)
            | Self::Refused { .. } => Remedy::Ask,
            Self::Unreachable { .. } | Self::Corrupt { .. } | Self::Timeout { .. } | Self::Local { .. } => {
                Remedy::Retry
            }
        }
    }

    /// The reason of Flux's `FetchFailed` condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unverified(unverified) => unverified.reason,
            Self::Auth { .. } | Self::HostKey { .. } | Self::Identity { .. } => "AuthenticationFailed",
            _ => "GitOperationFailed",
        }
    }

    /// The message of Flux's `FetchFailed` condition.
    pub fn message(&self) -> String {
        match self {
            Self::Unverified(unverified) => unverified.message.clone(),
            _ => format!("failed to checkout and determine revision: {self}"),
        }
    }
}
