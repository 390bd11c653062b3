//! Where the join token is. It is read when it is needed, since its Secret may come after the agent, or change.

use std::{fmt, fs, io, path::PathBuf};

use zeroize::Zeroizing;

/// Where the join token is.
#[derive(Clone, Default)]
pub enum JoinToken {
    /// None is given: for an agent that has an identity.
    #[default]
    None,
    /// The token itself.
    Value(String),
    /// A file, which may be missing until somebody gives a token.
    File(PathBuf),
}

/// Why there is no join token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No place is given.
    #[error("no join token: give the agent --token-file")]
    None,
    /// The file is missing or empty.
    #[error(
        "no join token in {0}: put one there (`flotilla cluster token NAME` makes it; in a cluster the file is the key \
         `token` of the join Secret, and comes a minute or two after it)"
    )]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("join token file {0} is not readable: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
}

impl JoinToken {
    /// Reads the token as it is now.
    pub fn read(&self) -> Result<Zeroizing<String>, TokenError> {
        match self {
            Self::None => Err(TokenError::None),
            Self::Value(token) => Ok(Zeroizing::new(token.clone())),
            Self::File(path) => match fs::read_to_string(path).map(Zeroizing::new) {
                Ok(text) if text.trim().is_empty() => Err(TokenError::Missing(path.clone())),
                Ok(text) => Ok(Zeroizing::new(text.trim().to_owned())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Err(TokenError::Missing(path.clone())),
                Err(e) => Err(TokenError::Unreadable(path.clone(), e)),
            },
        }
    }
}

/// The place, never the token.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("a file that --token-file names"),
            Self::Value(_) => f.write_str("--token"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({self})")
    }
}
