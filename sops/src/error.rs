//! Why something cannot be decrypted. None of it quotes a value.

use crate::{format::Format, keys::Unasked};

/// Why a document or an object cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no document of its format, or its stanza is broken. Nothing helps but another document.
    #[error("failed to load encrypted {format} data: {why}")]
    Unreadable {
        /// As what it was read.
        format: Format,
        /// What is wrong with it.
        why: String,
    },
    /// No key opens it. Another key may.
    #[error("cannot get sops data key: {0}")]
    NoKey(String),
    /// Keys that open it are with services, which are to be [asked](crate::Keys::ask) first.
    #[error("cannot get sops data key: {0}")]
    Unasked(Unasked),
    /// A value does not fit its place, the data key or its own form.
    #[error("error decrypting sops tree: value at {path}: {problem}")]
    Value {
        /// Names of the fields that lead to it.
        path: String,
        /// What is wrong with it.
        problem: ValueProblem,
    },
    /// Values were added, left out or moved since the document was encrypted.
    #[error("failed to verify sops data integrity: the document's MAC is not that of its values")]
    Mac,
    /// What is decrypted has no form in the format that is asked for.
    #[error("failed to emit decrypted data as {format}: {why}")]
    Inexpressible {
        /// The format.
        format: Format,
        /// Why not.
        why: String,
    },
    /// It is more than is taken.
    #[error("it has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much is taken.
        limit: usize,
    },
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// It should be encrypted by the document's rules, and is not.
    #[error("it is not encrypted, although the rules of the document say so")]
    NotEncrypted,
    /// It looks encrypted, and cannot be read.
    #[error("it is not in the form of an encrypted value")]
    Malformed,
    /// It was encrypted with another data key, or for another place, or changed since.
    #[error("it was changed, moved, or encrypted with another data key")]
    Unauthentic,
    /// What it holds is not of the type that it says.
    #[error("it is not of its type")]
    Mistyped,
}

pub(crate) const PATH_SHOWN: usize = 256;

/// A path as people read it, cut where it is long.
pub(crate) fn shown_path(aad: &str) -> String {
    let path = aad.trim_end_matches(':').replace(':', ".");
    let shown: String = path
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(PATH_SHOWN)
        .collect();
    match path.chars().count() > PATH_SHOWN {
        true => format!("{shown}…"),
        false => shown,
    }
}
