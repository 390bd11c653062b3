//! What is wrong with a place where artifacts are kept: one sentence with a code and what helps. What a server says at
//! length about a failure is shown to nobody: it may hold anything.

use std::{error::Error as _, fmt, io, time::Duration};

use flotilla_core::printable::printable;
use object_store::Error;

/// Longest part of a sentence that others have written, in characters.
const LONGEST: usize = 200;

/// Why an operation gave nothing.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing has come of it for so long.
    Silent(Duration),
    /// The place says so.
    Said(Error),
}

impl From<io::Error> for Unanswered {
    fn from(error: io::Error) -> Self {
        Self::Said(local(error))
    }
}

/// A failure of this machine's own.
pub(super) fn local(error: io::Error) -> Error {
    Error::Generic {
        store: "LocalFileSystem",
        source: error.into(),
    }
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The store was opened.
    Open,
    /// An artifact, or whether it is there.
    Read,
    /// To keep one.
    Write,
    /// To remove one.
    Remove,
    /// What there is.
    List,
}

impl Operation {
    /// What S3 calls the rights that it takes. One who may not list is told of what is not there that he may not read it.
    fn rights(self) -> &'static str {
        match self {
            Self::Open => "s3:ListBucket, s3:GetObject and s3:PutObject",
            Self::Read => "s3:GetObject and s3:ListBucket",
            Self::Write => "s3:PutObject and s3:AbortMultipartUpload",
            Self::Remove => "s3:DeleteObject",
            Self::List => "s3:ListBucket",
        }
    }
}

/// The sentence, without the place.
pub(super) struct Sentence<'a>(pub(super) Operation, pub(super) &'a Unanswered);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self.1 {
            Unanswered::Silent(after) => return write!(f, "it has said nothing for {after:?}"),
            Unanswered::Said(error) => error,
        };
        let Some(answer) = Answer::of(error) else {
            return f.write_str(&innermost(error));
        };
        match answer.status {
            401 | 403 => write!(
                f,
                "access is denied ({answer}): check the credentials in AWS_…, which need {} for the bucket and prefix",
                self.0.rights()
            ),
            404 => write!(
                f,
                "there is no such bucket ({answer}): check its name, AWS_REGION and AWS_ENDPOINT"
            ),
            301 | 307 | 400 => write!(
                f,
                "it refuses the request ({answer}): check AWS_REGION and AWS_ENDPOINT"
            ),
            429 | 503 => write!(f, "it is overloaded ({answer}); it is tried again"),
            500.. => write!(f, "it fails itself ({answer}); it is tried again"),
            _ => write!(f, "it refuses the request ({answer})"),
        }
    }
}

/// What a server answered: its status and S3's word for it.
struct Answer {
    status: u16,
    code: Option<String>,
}

impl Answer {
    /// The library tells both in its texts only.
    fn of(error: &Error) -> Option<Self> {
        let text = chain(error);
        let after = |word: &str| text.split_once(word).map(|(_, rest)| rest);
        let status = after("status code: ").and_then(|rest| rest.get(..3)?.parse().ok());
        let code = after("<Code>").and_then(|rest| rest.split_once("</Code>"));
        let is_word = |code: &&str| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let code = code.map(|(code, _)| code).filter(is_word).map(str::to_owned);
        let known = match error {
            Error::Unauthenticated { .. } => Some(401),
            Error::PermissionDenied { .. } => Some(403),
            Error::NotFound { .. } => Some(404),
            _ => None,
        };
        // A directory says the same without a status.
        let answered = status.or(code.is_some().then_some(known).flatten());
        answered.map(|status| Self { status, code })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match &self.code {
            Some(code) => write!(f, " {code}"),
            None => Ok(()),
        }
    }
}

fn chain(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What began it: those around it repeat addresses.
fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text: String = cause.to_string().chars().take(LONGEST).collect();
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(operation: Operation, error: Error) -> String {
        Sentence(operation, &Unanswered::Said(error)).to_string()
    }

    fn answer(status: &str, code: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let body = format!(
            "<?xml?><Error><Code>{code}</Code><Message>canary {}</Message></Error>",
            "x".repeat(9000)
        );
        format!("Error performing GET http://s3/b/k?X-Amz-Signature=canary in 1ms - Server returned non-2xx status code: {status}: {body}")
            .into()
    }

    #[test]
    fn what_a_server_says_is_a_code_and_what_helps_and_nothing_of_its_body() {
        let path = String::new();
        let denied = |operation| {
            let source = answer("403 Forbidden", "AccessDenied");
            said(
                operation,
                Error::PermissionDenied {
                    path: path.clone(),
                    source,
                },
            )
        };
        let rights = [
            (Operation::Read, "s3:ListBucket"),
            (Operation::Write, "s3:PutObject"),
            (Operation::Remove, "s3:DeleteObject"),
            (Operation::List, "s3:ListBucket"),
        ];
        for (operation, right) in rights {
            let said = denied(operation);
            assert!(
                said.contains("(403 AccessDenied)") && said.contains(right),
                "{said}"
            );
        }
        let gone = Error::NotFound {
            path: path.clone(),
            source: answer("404 Not Found", "NoSuchBucket"),
        };
        let slow = Error::Generic {
            store: "S3",
            source: answer("503 Slow Down", "SlowDown"),
        };
        let odd = Error::Generic {
            store: "S3",
            source: answer("418 Odd", "<script>"),
        };
        let all = [
            (said(Operation::Write, gone), "no such bucket (404 NoSuchBucket)"),
            (said(Operation::Write, slow), "overloaded (503 SlowDown)"),
            (said(Operation::Write, odd), "refuses the request (418)"),
            (denied(Operation::Open), "403"),
        ];
        for (said, part) in all {
            assert!(said.contains(part), "{said}");
            assert!(said.len() < 300 && !said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn what_a_directory_says_is_what_the_system_says() {
        let denied = local(io::Error::from_raw_os_error(28));
        assert!(said(Operation::Write, denied).contains("No space left"));
        let silent = Unanswered::Silent(Duration::from_secs(30));
        assert_eq!(
            Sentence(Operation::Read, &silent).to_string(),
            "it has said nothing for 30s"
        );
    }
}
