//! Guards over all that a unit would delete at once. One that objects blocks the whole set, until a person allows it for
//! just this target.

use std::fmt;

use crate::{apply::inventory::Record, object::ObjectKey};

/// So many objects may always go at once.
pub const LEAST: usize = 10;
/// And of a larger unit this share of what it had, in percent.
const SHARE: usize = 30;
/// Objects that a message names.
const NAMED: usize = 5;

/// An object that would go.
pub type Going<'a> = (&'a ObjectKey, &'a Record);

/// What a guard objects to, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Nothing would be left of the unit.
    Empty,
    /// A kind of which none goes without being asked about: with one, much more goes than is named.
    Kind(ObjectKey),
    /// More than may go at once.
    TooMany {
        /// How many may.
        most: usize,
    },
}

/// Judges a set. `left_over`: how many objects the unit desires without it.
pub fn guard<'a>(going: impl Iterator<Item = Going<'a>>, left_over: usize) -> Option<Guard> {
    let (mut count, mut had, mut kind) = (0, u32::MAX, None);
    for (key, record) in going {
        count += 1;
        // What is not known counts as nothing, and of several sets the smallest.
        let of = record.left.as_deref().and_then(|left| left.had).unwrap_or(0);
        had = had.min(of);
        if kind.is_none() && is_never_unasked(key) {
            kind = Some(key);
        }
    }
    if count == 0 {
        return None;
    }
    if left_over == 0 {
        return Some(Guard::Empty);
    }
    if let Some(key) = kind {
        return Some(Guard::Kind(key.clone()));
    }
    let most = most(usize::try_from(had).unwrap_or(usize::MAX));
    (count > most).then_some(Guard::TooMany { most })
}

/// How many objects may go at once of so many.
pub fn most(had: usize) -> usize {
    LEAST.max(had.saturating_mul(SHARE) / 100)
}

/// Kinds with limit 0: what they hold, and what they stand for, goes with them.
pub fn is_never_unasked(key: &ObjectKey) -> bool {
    match (key.group.as_str(), key.kind.as_str()) {
        ("", "Namespace" | "PersistentVolumeClaim") => true,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => true,
        ("fleet.flotilla.dev", "Cluster" | "Placement" | "Tenant") => true,
        (group, _) => group == "cluster.x-k8s.io" || group.ends_with(".cluster.x-k8s.io"),
    }
}

impl Guard {
    /// What is told of a set that it blocks: what would go, why it does not, and how it is allowed.
    pub fn message<'a>(
        &self,
        going: impl ExactSizeIterator<Item = &'a ObjectKey>,
        app: &dyn fmt::Display,
    ) -> String {
        let count = going.len();
        let mut names: Vec<String> = going.take(NAMED).map(ToString::to_string).collect();
        if count > names.len() {
            names.push(format!("and {} more", count - names.len()));
        }
        let objects = if count == 1 { "object" } else { "objects" };
        let why = match self {
            Self::Empty => "nothing would be left of the app".to_owned(),
            Self::Kind(key) => format!("{key} is among them, and none of its kind goes unasked"),
            Self::TooMany { most } => format!("no more than {most} may go at once"),
        };
        format!(
            "not deleted: {count} {objects} would go ({}), and {why}; `flotilla approve {app}` allows it",
            names.join(", ")
        )
    }
}
