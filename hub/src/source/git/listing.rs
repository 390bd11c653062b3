//! What is kept of a server's list of refs while it is read: the one of a name, or the tags of the newest version in a
//! range. The rest is counted and forgotten, however long the list is.

use std::cmp::Ordering;

use flotilla_core::version::{Version, VersionRange};

use super::{CommitId, GitError, RefName, Reference, Remote};

/// Where tags are.
pub const TAGS: &str = "refs/tags/";
/// Tags of one version, such as `1.0.0` and `1.0.0+b2`, that are kept.
const MAX_TIES: usize = 16;

/// A ref as a server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRef {
    /// The full name.
    pub name: String,
    /// What it points at.
    pub id: String,
    /// For an annotated tag, the commit behind it.
    pub peeled: Option<String>,
}

/// What a list is read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Whether there is anything.
    Any,
    /// The ref of this full name.
    Name(String),
    /// The tags of the newest version in a range.
    Newest(VersionRange),
}

/// A list of refs, read.
#[derive(Debug)]
pub struct Listing {
    wanted: Wanted,
    newest: Option<Version>,
    /// What was wanted.
    pub refs: Vec<ListedRef>,
    /// Refs listed.
    pub total: usize,
}

/// What was found behind a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The reference, of which a range has become a tag.
    pub reference: Reference,
    /// The commit, tags peeled.
    pub commit: CommitId,
    /// What the ref itself points at: for an annotated tag, the tag.
    pub object: CommitId,
}

impl Wanted {
    /// What is asked for to resolve a reference.
    pub fn of(reference: &Reference) -> Self {
        match reference {
            Reference::Commit { .. } => Self::Any,
            Reference::Semver(range) => Self::Newest(range.range()),
            Reference::Branch(_) | Reference::Tag(_) | Reference::Name(_) => {
                Self::Name(reference.full_name().unwrap_or_default())
            }
        }
    }

    /// The names that a server of protocol 2 is to list.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Name(name) => name,
            Self::Newest(_) => TAGS,
        }
    }
}

impl Listing {
    /// Begins to read a list.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            newest: None,
            refs: Vec::new(),
            total: 0,
        }
    }

    /// Takes in a ref, in the order of the list.
    pub fn take(&mut self, name: &str, id: &str, peeled: Option<&str>) {
        self.total += 1;
        if self.wants(name) {
            self.refs.push(ListedRef {
                name: name.to_owned(),
                id: id.to_owned(),
                peeled: peeled.map(str::to_owned),
            });
        }
    }

    /// Takes in what is behind the annotated tag that was listed before.
    pub fn peel(&mut self, name: &str, id: &str) {
        if let Some(listed) = self.refs.last_mut().filter(|listed| listed.name == name) {
            listed.peeled = Some(id.to_owned());
        }
    }

    /// Whether enough is known, and the rest of the list need not be read.
    pub fn is_enough(&self) -> bool {
        self.wanted == Wanted::Any && self.total > 0
    }

    fn wants(&mut self, name: &str) -> bool {
        let range = match &self.wanted {
            Wanted::Any => return false,
            Wanted::Name(wanted) => return name == wanted,
            Wanted::Newest(range) => range,
        };
        // A name that could not be asked for is passed over here: it may not keep others from being found.
        let tag = name.strip_prefix(TAGS).filter(|tag| RefName::parse(tag).is_ok());
        let version = tag.and_then(|tag| Version::parse_strict(tag).ok());
        let Some(version) = version.filter(|version| range.contains(version)) else {
            return false;
        };
        match self.newest.as_ref().map(|newest| version.precedence(newest)) {
            Some(Ordering::Less) => false,
            Some(Ordering::Equal) => self.refs.len() < MAX_TIES,
            None | Some(Ordering::Greater) => {
                self.refs.clear();
                self.newest = Some(version);
                true
            }
        }
    }

    /// What `reference` names: several only for tags of one version.
    pub fn targets(&self, remote: &Remote, reference: &Reference) -> Result<Vec<Target>, GitError> {
        self.refs
            .iter()
            .map(|listed| target(remote, reference, listed))
            .collect()
    }
}

fn target(remote: &Remote, reference: &Reference, listed: &ListedRef) -> Result<Target, GitError> {
    let corrupt = || GitError::Corrupt {
        url: remote.shown(),
        detail: format!("{} points at no object id", listed.name),
    };
    let id = |text: &str| CommitId::parse(text).map_err(|_| corrupt());
    let object = id(&listed.id)?;
    let commit = listed.peeled.as_deref().map(id).transpose()?;
    let reference = match (reference, listed.name.strip_prefix(TAGS)) {
        (Reference::Semver(_), Some(tag)) => {
            RefName::parse(tag).map(Reference::Tag).map_err(|_| corrupt())?
        }
        _ => reference.clone(),
    };
    Ok(Target {
        reference,
        commit: commit.unwrap_or_else(|| object.clone()),
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::reference::Fields;

    fn newest(range: &str) -> Listing {
        Listing::new(Wanted::Newest(VersionRange::parse(range).expect("a range")))
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.refs.iter().map(|listed| listed.name.as_str()).collect()
    }

    #[test]
    fn a_listing_keeps_only_the_ref_of_that_very_name() {
        let mut listing = Listing::new(Wanted::Name("refs/heads/main".into()));
        for (id, name) in [
            ("a", "refs/heads/main"),
            ("b", "refs/heads/main-2"),
            ("c", "refs/heads/main/x"),
        ] {
            listing.take(name, &id.repeat(40), None);
        }
        assert_eq!((names(&listing), listing.total), (vec!["refs/heads/main"], 3));
    }

    #[test]
    fn a_tag_is_peeled_and_its_own_id_is_kept() {
        let remote = Remote::new("http://h/r", None, None).expect("a remote");
        let reference = Reference::of(None, Some("v1"), None).expect("a tag");
        let (tag, commit) = ("a".repeat(40), "b".repeat(40));
        let mut listing = Listing::new(Wanted::of(&reference));
        listing.take("refs/tags/v1", &tag, None);
        listing.peel("refs/tags/v1", &commit);
        let targets = listing.targets(&remote, &reference).expect("well-formed");
        let found: Vec<_> = targets
            .iter()
            .map(|one| (one.commit.as_str(), one.object.as_str()))
            .collect();
        assert_eq!(found, [(commit.as_str(), tag.as_str())]);
    }

    #[test]
    fn of_all_tags_the_newest_version_in_the_range_is_kept_with_those_that_are_the_same_version() {
        let mut listing = newest(">=1.0.0 <2.0.0");
        let tags = [
            "v1.2.0",
            "1.10.0+b1",
            "v1.10.0+b2",
            "v1.9.9",
            "v2.0.0",
            "v1.11",
            "v1.12.0-rc.1",
            "latest",
            "v01.20.0",
        ];
        for tag in tags {
            listing.take(&format!("{TAGS}{tag}"), &"a".repeat(40), None);
        }
        listing.take("refs/heads/v1.20.0", &"a".repeat(40), None);
        assert_eq!(names(&listing), ["refs/tags/1.10.0+b1", "refs/tags/v1.10.0+b2"]);
        assert_eq!(listing.total, 10);
    }

    #[test]
    fn a_range_becomes_the_tag_that_it_found() {
        let remote = Remote::new("http://h/r", None, None).expect("a remote");
        let reference = Reference::read(&Fields {
            semver: Some("1.x"),
            ..Fields::default()
        });
        let reference = reference.expect("a range");
        let mut listing = Listing::new(Wanted::of(&reference));
        listing.take("refs/tags/v1.2.3", &"a".repeat(40), None);
        let targets = listing.targets(&remote, &reference).expect("well-formed");
        let found: Vec<_> = targets
            .iter()
            .map(|one| one.reference.revision(&one.commit))
            .collect();
        assert_eq!(found, [format!("v1.2.3@sha1:{}", "a".repeat(40))]);
    }

    #[test]
    fn as_many_tags_of_one_version_as_a_server_likes_are_not_kept() {
        let mut listing = newest("*");
        for build in 0..1000 {
            listing.take(&format!("{TAGS}1.0.0+{build}"), &"a".repeat(40), None);
        }
        assert_eq!(listing.refs.len(), MAX_TIES);
    }
}
