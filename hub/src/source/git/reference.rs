//! What a GitRepository points at, and the revision strings made of it. Values are checked once, here; whatever
//! holds a [`RefName`] or [`CommitId`] may be given to the git program.

use std::fmt;

/// Why text is no reference or commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not a name that git allows for a branch or tag.
    #[error("'{0}' is not a valid branch or tag name")]
    Name(String),
    /// Not 40 or 64 hexadecimal digits.
    #[error("'{0}' is not a full commit id")]
    Commit(String),
}

/// The short name of a branch or tag, as `git check-ref-format` allows it and not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(String);

/// The id of an object: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

/// What a source points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The head of a branch.
    Branch(RefName),
    /// A tag, peeled to its commit.
    Tag(RefName),
    /// One commit; `branch` names it in the revision and is tried first when the server gives no single commits.
    Commit {
        /// The commit.
        id: CommitId,
        /// The branch that holds it.
        branch: Option<RefName>,
    },
}

impl RefName {
    /// Checks a short name against git's rules.
    pub fn parse(name: &str) -> Result<Self, InvalidReference> {
        if is_ref_name(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidReference::Name(shorten(name)))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `git check-ref-format`, and no leading `-`, which git itself forbids for branches.
fn is_ref_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !name.is_empty()
        && name.len() <= 512
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name != "@"
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(forbidden)
        && name.split('/').all(component)
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

impl CommitId {
    /// Reads a full commit id.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let full = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if full {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidReference::Commit(shorten(text)))
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha1` or `sha256`, as git's `object-format` names it.
    pub fn algorithm(&self) -> &'static str {
        if self.0.len() == 64 { "sha256" } else { "sha1" }
    }
}

impl Reference {
    /// Reads the fields of `spec.ref` with Flux's precedence: commit over tag over branch, `master` without any.
    pub fn of(
        branch: Option<&str>,
        tag: Option<&str>,
        commit: Option<&str>,
    ) -> Result<Self, InvalidReference> {
        let set = |field: Option<&str>| field.filter(|text| !text.is_empty()).map(str::to_owned);
        match (set(commit), set(tag), set(branch)) {
            (Some(id), _, branch) => Ok(Self::Commit {
                id: CommitId::parse(&id)?,
                branch: branch.as_deref().map(RefName::parse).transpose()?,
            }),
            (None, Some(tag), _) => RefName::parse(&tag).map(Self::Tag),
            (None, None, branch) => RefName::parse(branch.as_deref().unwrap_or("master")).map(Self::Branch),
        }
    }

    /// The full name of the ref that the remote is asked for; `None` for a commit alone.
    pub fn full_name(&self) -> Option<String> {
        match self {
            Self::Branch(name) => Some(format!("refs/heads/{name}")),
            Self::Tag(name) => Some(format!("refs/tags/{name}")),
            Self::Commit { branch, .. } => branch.as_ref().map(|name| format!("refs/heads/{name}")),
        }
    }

    /// The revision of `commit` under this reference: `main@sha1:…`, `v1@sha1:…`, `sha1:…` for a commit alone.
    pub fn revision(&self, commit: &CommitId) -> String {
        let digest = format!("{}:{commit}", commit.algorithm());
        match self {
            Self::Branch(name) | Self::Tag(name) => format!("{name}@{digest}"),
            Self::Commit {
                branch: Some(name), ..
            } => format!("{name}@{digest}"),
            Self::Commit { branch: None, .. } => digest,
        }
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As messages name it: the full ref, or the commit.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { id, .. } => write!(f, "{id}"),
            Self::Branch(name) => write!(f, "refs/heads/{name}"),
            Self::Tag(name) => write!(f, "refs/tags/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_commit_wins_over_a_tag_and_a_tag_over_a_branch() {
        let of = |branch, tag, commit| Reference::of(branch, tag, commit).map(|r| r.to_string());
        assert_eq!(of(None, None, None).as_deref(), Ok("refs/heads/master"));
        assert_eq!(of(Some("main"), None, None).as_deref(), Ok("refs/heads/main"));
        assert_eq!(of(Some("main"), Some("v1"), None).as_deref(), Ok("refs/tags/v1"));
        assert_eq!(of(Some("main"), Some("v1"), Some(COMMIT)).as_deref(), Ok(COMMIT));
        assert_eq!(
            of(Some(""), Some(""), Some("")).as_deref(),
            Ok("refs/heads/master")
        );
    }

    #[test]
    fn revisions_are_written_as_flux_writes_them() {
        let commit = CommitId::parse(COMMIT).expect("a commit");
        let revision = |branch, tag, id| Reference::of(branch, tag, id).expect("valid").revision(&commit);
        assert_eq!(revision(Some("main"), None, None), format!("main@sha1:{COMMIT}"));
        assert_eq!(revision(Some("a/b"), None, None), format!("a/b@sha1:{COMMIT}"));
        assert_eq!(
            revision(None, Some("v1.2.3"), None),
            format!("v1.2.3@sha1:{COMMIT}")
        );
        assert_eq!(revision(None, None, Some(COMMIT)), format!("sha1:{COMMIT}"));
        assert_eq!(
            revision(Some("main"), None, Some(COMMIT)),
            format!("main@sha1:{COMMIT}")
        );
    }

    #[test]
    fn nothing_that_git_could_read_as_an_option_or_another_ref_is_a_name() {
        let long = "x".repeat(513);
        let refused = [
            "",
            "-upload-pack=x",
            "--",
            "a..b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?b",
            "a*",
            "a[",
            "a\\b",
            "a\nb",
            "a\0b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "a@{1}",
            &long,
        ];
        for name in refused {
            assert!(RefName::parse(name).is_err(), "{name:?} was taken");
        }
        for name in ["main", "release-1.0", "feature/x", "v1.2.3+meta", "@a", "ünï"] {
            assert!(RefName::parse(name).is_ok(), "{name:?} was refused");
        }
        for id in [
            "",
            "HEAD",
            "0123",
            &COMMIT[1..],
            "--upload-pack=0123456789abcdef0123456789abcd",
        ] {
            assert!(CommitId::parse(id).is_err(), "{id:?} was taken");
        }
    }
}
