//! The one error of commands: what failed, what to do next, and the exit code.

use tonic::{Code, Status};

/// What kind of failure it is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command could not do what was asked.
    Failed,
    /// The command was called wrongly.
    Usage,
    /// The hub cannot be reached.
    Unreachable,
    /// The hub refused the credential.
    Denied,
}

impl Kind {
    /// Returns the process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Unreachable => 3,
            Kind::Denied => 4,
        }
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: Kind,
    /// What failed.
    pub message: String,
    /// What failed besides.
    pub others: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
}

impl CommandError {
    /// Makes an error for a command that could not do what was asked.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            message: message.into(),
            others: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Makes an error for a command that was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            message: message.into(),
            others: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Makes an error for a hub that cannot be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unreachable,
            message: message.into(),
            others: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Adds what failed besides.
    pub fn and(mut self, others: impl IntoIterator<Item = String>) -> Self {
        self.others.extend(others);
        self
    }

    /// Makes an error for a hub that has not answered within the command's time.
    pub(crate) fn late() -> Self {
        Self::unreachable("the hub did not answer in time").hint("give it longer with --timeout")
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unavailable => Self::unreachable(format!("the hub cannot be reached: {message}")),
            Code::DeadlineExceeded | Code::Cancelled => Self::late(),
            Code::Unauthenticated | Code::PermissionDenied => Self {
                kind: Kind::Denied,
                message,
                others: Vec::new(),
                hints: Vec::new(),
            },
            Code::Unimplemented => {
                Self::failed("the hub is too old for this command").hint("compare flotilla version")
            }
            // The transport's own words are about frames and streams.
            _ if std::error::Error::source(&status).is_some() => {
                Self::unreachable("the connection to the hub broke before the answer was whole")
                    .hint("try again once the hub runs: flotilla version says whether it does")
            }
            _ => Self::failed(message),
        }
    }
}

/// Returns an error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_told_without_the_transports_own_words() {
        let raw = "h2 protocol error: not a result of an error";
        let status = Status::from_error(Box::new(std::io::Error::other(raw)));
        assert!(status.message().contains(raw));
        let error = CommandError::from(status);
        assert_eq!(error.kind, Kind::Unreachable);
        assert!(!error.message.contains("h2"), "{error}");
        // What the hub itself says stays as it is.
        let said = CommandError::from(Status::internal("the store is full"));
        assert_eq!(
            (said.kind, said.message.as_str()),
            (Kind::Failed, "the store is full")
        );
    }
}
