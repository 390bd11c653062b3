//! Why a call to a cluster fails, by what the caller does next.

use std::time::Duration;

/// Why a call to the cluster failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The kind is not served under this version (any more).
    #[error("no matches for kind {kind:?} in version {api_version:?}")]
    NotServed {
        /// The kind.
        kind: String,
        /// The version.
        api_version: String,
    },
    /// The server has too much to do; try again after the time it gave.
    #[error("the API server is overloaded")]
    Overloaded {
        /// As `Retry-After` says.
        retry_after: Option<Duration>,
    },
    /// No answer, or none of the server itself: whether it happened is not known. Read before judging, then try
    /// again.
    #[error("the API server does not answer: {0}")]
    Unavailable(String),
    /// The answer is larger than the agent reads. Trying again gives the same.
    #[error("the answer of the API server is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The server refuses, or says that it could not (500). [`is_transient`](Self::is_transient) and
    /// [`is_race`](Self::is_race) tell whether the same request may succeed later.
    #[error("{message}")]
    Rejected {
        /// HTTP status.
        code: u16,
        /// The reason of the Status object, e.g. `Invalid`.
        reason: String,
        /// The server's words. May quote values: mask before showing when a Secret is concerned.
        message: String,
    },
}

/// Refusals by admission that end when another object of the same moment is there, or has been seen by the
/// admission plugin's cache: status code and a part of the message, which a test holds against a real API server.
const RACES: [(u16, &str); 5] = [
    // A Pod before its ServiceAccount.
    (403, "error looking up service account"),
    // A Pod before the LimitRange whose defaults the quota asks for.
    (403, "failed quota:"),
    // A quota whose use has not been counted yet.
    (403, "status unknown for quota"),
    // An object before its namespace.
    (404, "namespaces \""),
    // A field that the schema does not have, be it that a definition which was just written brings it.
    (500, UNTYPED),
];

/// Why the server's words are not repeated.
const WITHHELD: &str = "its words are withheld, they may quote values; they are in its own log";

/// What the server says of an object that does not fit the schema of its kind.
const UNTYPED: &str = "failed to create typed patch object";

impl ClusterError {
    /// Tells whether the request may succeed after a backoff without anybody changing what is asked for: the
    /// server was busy, silent or restarting, or another writer was faster.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unavailable(_) => true,
            Self::NotServed { .. } | Self::TooLarge { .. } => false,
            // 401: credentials that rotate are read again. 409: a race that the next try sees the end of. 500: a
            // webhook or a store behind the server, which may come back; but for what is wrong in the object itself.
            Self::Rejected {
                code: 500, message, ..
            } => !message.contains(UNTYPED),
            Self::Rejected { code, .. } => matches!(code, 401 | 409),
        }
    }

    /// Tells whether asking for the same again soon is in vain: rights that are missing are not given by asking for them,
    /// nor do objects shrink, nor can a kind without lists be listed.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::Rejected {
                    code: 401 | 403 | 405,
                    ..
                }
        )
    }

    /// Tells whether the refusal is one that writes of the same moment cause to each other, such as a Pod that
    /// reaches the server before its ServiceAccount. It passes within seconds or, when what is missing is not
    /// coming, not at all: try again once or twice at once, then as for any refusal.
    pub fn is_race(&self) -> bool {
        let Self::Rejected { code, message, .. } = self else {
            return false;
        };
        RACES
            .iter()
            .any(|(status, part)| code == status && message.contains(part))
    }

    /// What may be shown of an error about many objects, of which nobody knows what they hold: a webhook that converts them,
    /// and fails, may quote any of them. What RBAC refuses names users, verbs and kinds alone.
    pub fn of_many(&self) -> String {
        match self {
            Self::Rejected {
                code: 401 | 403 | 405,
                ..
            } => self.to_string(),
            Self::Rejected {
                code,
                reason,
                message,
            } => match message.split_once(" failed") {
                // Which webhook it is is no secret.
                Some((webhook, _)) if webhook.starts_with("conversion webhook for ") => {
                    format!("it answers {code}: {webhook} failed ({WITHHELD})")
                }
                _ => format!("it answers {code} {reason} ({WITHHELD})"),
            },
            Self::Unavailable(words) => match words.split_once(' ') {
                Some((code, _)) if code.len() == 3 && code.parse::<u16>().is_ok() => {
                    format!("it answers {code}")
                }
                _ => self.to_string(),
            },
            _ => self.to_string(),
        }
    }

    /// Tells whether the refusal ends when a namespace that is being deleted is gone.
    pub fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Rejected { code: 403, message, .. } if message.contains("because it is being terminated"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(code: u16, message: &str) -> ClusterError {
        ClusterError::Rejected {
            code,
            reason: String::new(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn of_many_objects_no_words_are_shown_that_may_quote_one() {
        let quoted = "conversion webhook for example.com/v1, Kind=Db failed: spec.password: Invalid value: \"hunter2\"";
        let converted = ClusterError::Rejected {
            code: 500,
            reason: "InternalError".to_owned(),
            message: quoted.to_owned(),
        };
        let words = converted.of_many();
        assert!(
            words.contains("example.com/v1, Kind=Db failed (") && !words.contains("hunter2"),
            "{words}"
        );
        let away = ClusterError::Unavailable(format!("503 {quoted}"));
        assert_eq!(away.of_many(), "it answers 503");
        let refused = rejected(403, "secrets is forbidden: User \"agent\" cannot list");
        assert!(refused.of_many().contains("cannot list"));
        let reset = ClusterError::Unavailable("connection reset".to_owned());
        assert!(reset.of_many().contains("connection reset"));
    }

    #[test]
    fn refusals_are_classed_by_whether_and_when_the_same_may_succeed() {
        let cases = [
            // (what, error, transient, race)
            (
                "pod before service account",
                rejected(
                    403,
                    r#"pods "web" is forbidden: error looking up service account a/web: serviceaccount "web" not found"#,
                ),
                false,
                true,
            ),
            (
                "pod before limit range",
                rejected(
                    403,
                    r#"pods "web" is forbidden: failed quota: q: must specify limits.cpu for: web"#,
                ),
                false,
                true,
            ),
            (
                "quota exceeded",
                rejected(
                    403,
                    r#"pods "web" is forbidden: exceeded quota: q, requested: pods=1"#,
                ),
                false,
                false,
            ),
            (
                "namespace missing",
                rejected(404, r#"namespaces "a" not found"#),
                false,
                true,
            ),
            (
                "right missing",
                rejected(403, r#"User "x" cannot patch resource "pods" in API group """#),
                false,
                false,
            ),
            ("invalid", rejected(422, "field is immutable"), false, false),
            (
                "conflict",
                rejected(409, "the object has been modified"),
                true,
                false,
            ),
            (
                "webhook away",
                rejected(500, "failed calling webhook: connection refused"),
                true,
                false,
            ),
            (
                "field that the schema does not have",
                rejected(
                    500,
                    "failed to create typed patch object (a/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema",
                ),
                false,
                true,
            ),
            ("token expired", rejected(401, "Unauthorized"), true, false),
            ("too large", ClusterError::TooLarge { max: 1 }, false, false),
            (
                "no answer",
                ClusterError::Unavailable("reset".into()),
                true,
                false,
            ),
        ];
        for (what, error, transient, race) in cases {
            assert_eq!(
                (error.is_transient(), error.is_race()),
                (transient, race),
                "{what}"
            );
        }
    }

    #[test]
    fn a_namespace_that_is_being_terminated_is_told_from_a_missing_right() {
        let terminating = r#"configmaps "x" is forbidden: unable to create new content in namespace a because it is being terminated"#;
        assert!(rejected(403, terminating).is_namespace_terminating());
        assert!(!rejected(403, "forbidden").is_namespace_terminating());
    }
}
