//! How requests get to services: over what, and what time it is, is the caller's.

use std::{future::Future, pin::Pin, time::SystemTime};

use http::StatusCode;
use serde_json::Value;
use zeroize::Zeroizing;

/// A request. What it holds is secret.
pub type Request = http::Request<Zeroizing<Vec<u8>>>;
/// An answer. What it holds is secret.
pub type Response = http::Response<Zeroizing<Vec<u8>>>;
/// An answer on its way; the error says why there is none, without anything of the request but its host.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response, String>> + Send + 'a>>;

/// Letters of a word that a server says of an error.
const WORD: usize = 48;

/// Sends requests to services.
pub trait Transport: Send + Sync {
    /// Sends a request and reads its answer, whatever its status. Follows no redirect, which could take credentials
    /// elsewhere, and bounds time and bytes.
    fn send(&self, request: Request) -> Answering<'_>;

    /// The present time, which signatures state.
    fn now(&self) -> SystemTime;
}

/// Why a service does not open a data key. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct AskError {
    /// Why.
    pub why: String,
    /// It does not answer now, or not as it should: time may help. Else a person has to do something.
    pub passes: bool,
}

impl AskError {
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            passes: false,
        }
    }

    fn passing(why: String) -> Self {
        Self { why, passes: true }
    }
}

/// An answer that is none of a failing server.
pub(super) struct Answer {
    host: String,
    status: StatusCode,
    body: Value,
}

impl Answer {
    /// Sends a request. A server that fails, is busy or sends elsewhere is an error that passes.
    pub(super) async fn of(transport: &dyn Transport, request: Request) -> Result<Self, AskError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = transport.send(request).await;
        let response =
            response.map_err(|why| AskError::passing(format!("'{host}' cannot be asked: {why}")))?;
        let status = response.status();
        if status.is_server_error() || status.is_redirection() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(AskError::passing(format!("'{host}' answered {status}")));
        }
        Ok(Self {
            host,
            status,
            body: serde_json::from_slice(response.body()).unwrap_or_default(),
        })
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// A text of the answer that is not empty.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        let found = path.iter().try_fold(&self.body, |value, name| value.get(name));
        found?.as_str().filter(|text| !text.is_empty())
    }

    pub(super) fn number(&self, path: &[&str]) -> Option<f64> {
        path.iter()
            .try_fold(&self.body, |value, name| value.get(name))?
            .as_f64()
    }

    /// A text of the answer that is a word and no sentence: sentences may quote what was sent.
    pub(super) fn word(&self, path: &[&str]) -> &str {
        let text = self.text(path).unwrap_or_default();
        let word = text.rsplit_once('#').map_or(text, |(_, word)| word);
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match word.len() <= WORD && word.bytes().all(is_word) {
            true => word,
            false => "",
        }
    }

    /// It refuses, in a word of its own; what helps.
    pub(super) fn refused(&self, word: &str, remedy: &str) -> AskError {
        let between = if word.is_empty() { "" } else { " " };
        let (host, status) = (&self.host, self.status.as_u16());
        AskError::refused(format!("'{host}' answered {status}{between}{word}: {remedy}"))
    }

    /// It refuses only for now.
    pub(super) fn busy(&self, word: &str) -> AskError {
        AskError::passing(format!(
            "'{}' answered {} {word}",
            self.host,
            self.status.as_u16()
        ))
    }

    /// It lacks what it should have.
    pub(super) fn incomplete(&self, what: &str) -> AskError {
        AskError::passing(format!("'{}' answered without {what}", self.host))
    }
}
