//! Why something does not move yet, as data: stored, and shown by CLI, API and page.

use std::fmt;

/// A reason to wait.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiting {
    /// The source has no artifact yet.
    Source(String),
    /// Rendering has not finished, or failed.
    Rendering(String),
    /// This release does not reconcile a field or kind that is used.
    NotSupported(String),
    /// Two owners want the same.
    Conflict(String),
    /// The hub could not work it out: something stored cannot be read, or an error of its own. It is tried again.
    Failed(String),
    /// No cluster matches the placements.
    NoClusterMatches,
    /// Neither a placement nor a kubeConfig says where to.
    NoTarget,
    /// Named by an older or newer version; kept as text.
    Other(String),
}

impl Waiting {
    /// Condition reason: one word.
    pub fn reason(&self) -> &str {
        match self {
            Self::Source(_) => "ArtifactFailed",
            Self::Rendering(_) => "BuildFailed",
            Self::NotSupported(_) => "NotSupported",
            Self::Conflict(_) => "Conflict",
            Self::Failed(_) => "ReconciliationFailed",
            Self::NoClusterMatches => "NoClusterMatches",
            Self::NoTarget => "NoTarget",
            Self::Other(text) => text.split(':').next().unwrap_or("Waiting"),
        }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Self {
        let (reason, rest) = text.split_once(": ").unwrap_or((text, ""));
        let rest = rest.to_owned();
        match reason {
            "ArtifactFailed" => Self::Source(rest),
            "BuildFailed" => Self::Rendering(rest),
            "NotSupported" => Self::NotSupported(rest),
            "Conflict" => Self::Conflict(rest),
            "ReconciliationFailed" => Self::Failed(rest),
            "NoClusterMatches" => Self::NoClusterMatches,
            "NoTarget" => Self::NoTarget,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(text)
            | Self::Rendering(text)
            | Self::NotSupported(text)
            | Self::Conflict(text)
            | Self::Failed(text) => write!(f, "{}: {text}", self.reason()),
            Self::NoClusterMatches => f.write_str("NoClusterMatches: no cluster matches the placements"),
            Self::NoTarget => {
                f.write_str("NoTarget: no Placement names this app; add one that chooses its clusters")
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_back_from_the_store() {
        let reasons = [
            Waiting::Source("no artifact".into()),
            Waiting::Rendering("kustomize: x: y".into()),
            Waiting::NotSupported("spec.force".into()),
            Waiting::Conflict("ConfigMap/a/b belongs to c".into()),
            Waiting::Failed("Placement/a/b cannot be read".into()),
            Waiting::NoClusterMatches,
            Waiting::NoTarget,
            Waiting::Other("canary soaks".into()),
        ];
        for reason in reasons {
            assert_eq!(Waiting::parse(&reason.to_string()), reason);
        }
    }
}
