//! What a GitRepository points at, and the revision strings made of it. Values are checked once, here; whatever
//! holds a [`RefName`] or [`CommitId`] may be given to the git program.

use std::fmt;

use flotilla_core::version::{RangeError, VersionRange};

/// Why text is no reference or commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not a name that git allows for a branch or tag.
    #[error("'{0}' is not a valid branch or tag name")]
    Name(String),
    /// Not 40 or 64 hexadecimal digits.
    #[error("'{0}' is not a full commit id")]
    Commit(String),
    /// Not a name below `refs/`.
    #[error("'{0}' is not a full reference name, such as refs/heads/main")]
    FullName(String),
    /// Not a range of versions.
    #[error("semver parse error: {0}")]
    Range(#[from] RangeError),
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
    /// The tag of the newest version in a range.
    Semver(TagRange),
    /// A ref of any kind by its full name, such as `refs/pull/420/head`.
    Name(RefName),
    /// One commit; `branch` names it in the revision and is tried first when the server gives no single commits.
    Commit {
        /// The commit.
        id: CommitId,
        /// The branch that holds it.
        branch: Option<RefName>,
    },
}

/// A range of versions, among which a tag is chosen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagRange(String);

/// The fields of `spec.ref`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    /// A branch.
    pub branch: Option<&'a str>,
    /// A tag.
    pub tag: Option<&'a str>,
    /// A range of versions.
    pub semver: Option<&'a str>,
    /// A full name.
    pub name: Option<&'a str>,
    /// A commit.
    pub commit: Option<&'a str>,
}

impl TagRange {
    /// Reads a range as Masterminds' `semver` does.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        VersionRange::parse(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The range.
    pub fn range(&self) -> VersionRange {
        VersionRange::parse(&self.0).expect("it was read when this was made")
    }
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

    /// No commit's.
    pub(super) fn none() -> Self {
        Self("0".repeat(40))
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
    /// Reads the fields of `spec.ref` with Flux's precedence: commit over name over semver over tag over branch, `master`
    /// without any.
    pub fn read(fields: &Fields<'_>) -> Result<Self, InvalidReference> {
        let set = |field: Option<&str>| field.filter(|text| !text.is_empty()).map(str::to_owned);
        let branch = set(fields.branch);
        if let Some(id) = set(fields.commit) {
            return Ok(Self::Commit {
                id: CommitId::parse(&id)?,
                branch: branch.as_deref().map(RefName::parse).transpose()?,
            });
        }
        if let Some(name) = set(fields.name) {
            return match RefName::parse(&name) {
                Ok(name) if name.as_str().starts_with("refs/") => Ok(Self::Name(name)),
                _ => Err(InvalidReference::FullName(shorten(&name))),
            };
        }
        if let Some(range) = set(fields.semver) {
            return TagRange::parse(&range).map(Self::Semver);
        }
        match set(fields.tag) {
            Some(tag) => RefName::parse(&tag).map(Self::Tag),
            None => RefName::parse(branch.as_deref().unwrap_or("master")).map(Self::Branch),
        }
    }

    /// As [`Self::read`], of those three fields.
    pub fn of(
        branch: Option<&str>,
        tag: Option<&str>,
        commit: Option<&str>,
    ) -> Result<Self, InvalidReference> {
        Self::read(&Fields {
            branch,
            tag,
            commit,
            ..Fields::default()
        })
    }

    /// The full name of the ref that the remote is asked for; `None` for a commit alone and a range.
    pub fn full_name(&self) -> Option<String> {
        match self {
            Self::Branch(name) => Some(format!("refs/heads/{name}")),
            Self::Tag(name) => Some(format!("refs/tags/{name}")),
            Self::Name(name) => Some(name.to_string()),
            Self::Semver(_) => None,
            Self::Commit { branch, .. } => branch.as_ref().map(|name| format!("refs/heads/{name}")),
        }
    }

    /// Whether each state of it is to follow the one before.
    pub fn has_history(&self) -> bool {
        match self {
            Self::Branch(_) => true,
            Self::Name(name) => name.as_str().starts_with("refs/heads/"),
            // A tag is moved, and a commit is chosen: neither has a history of its own.
            Self::Tag(_) | Self::Semver(_) | Self::Commit { .. } => false,
        }
    }

    /// The revision of `commit` under this reference: `main@sha1:…`, `v1@sha1:…`, `refs/heads/main@sha1:…` for a full name,
    /// `sha1:…` for a commit alone.
    pub fn revision(&self, commit: &CommitId) -> String {
        let digest = format!("{}:{commit}", commit.algorithm());
        match self {
            Self::Branch(name)
            | Self::Tag(name)
            | Self::Name(name)
            | Self::Commit {
                branch: Some(name), ..
            } => format!("{name}@{digest}"),
            // A range is none before it has become a tag.
            Self::Semver(_) | Self::Commit { branch: None, .. } => digest,
        }
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TagRange {
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
            Self::Name(name) => write!(f, "{name}"),
            Self::Semver(range) => write!(f, "semver: {range}"),
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
    fn a_name_wins_over_a_range_and_a_range_over_a_tag() {
        let all = Fields {
            branch: Some("main"),
            tag: Some("v1"),
            semver: Some(">=1.0.0"),
            name: Some("refs/pull/420/head"),
            commit: Some(COMMIT),
        };
        let read = |fields: Fields<'_>| Reference::read(&fields).map(|reference| reference.to_string());
        assert_eq!(read(all).as_deref(), Ok(COMMIT));
        let named = Fields { commit: None, ..all };
        assert_eq!(read(named).as_deref(), Ok("refs/pull/420/head"));
        let ranged = Fields { name: None, ..named };
        assert_eq!(read(ranged).as_deref(), Ok("semver: >=1.0.0"));
        assert_eq!(
            read(Fields {
                semver: None,
                ..ranged
            })
            .as_deref(),
            Ok("refs/tags/v1")
        );
        let bad = Fields {
            semver: Some("one"),
            ..ranged
        };
        assert!(read(bad).is_err_and(|error| error.to_string().starts_with("semver parse error: ")));
        assert!(
            read(Fields {
                name: Some("heads/main"),
                ..all
            })
            .is_ok_and(|commit| commit == COMMIT)
        );
        assert!(
            read(Fields {
                name: Some("heads/main"),
                ..named
            })
            .is_err()
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
        let named = Fields {
            name: Some("refs/heads/main"),
            ..Fields::default()
        };
        let named = Reference::read(&named).expect("valid");
        assert_eq!(named.revision(&commit), format!("refs/heads/main@sha1:{COMMIT}"));
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
