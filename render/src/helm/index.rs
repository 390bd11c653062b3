//! The index of a Helm repository: which charts in which versions it offers, and where they are.
//!
//! Reads and chooses as Helm does. It fetches nothing, and does not decide who may be sent credentials.

use std::collections::BTreeMap;

use flotilla_core::version::{RangeError, Version, VersionRange};

mod decode;
mod location;

pub use location::{LocationError, absolute};

use super::chart::Metadata;

/// The most bytes that an index may have; Flux's limit.
pub const MAX_INDEX_BYTES: usize = 50 << 20;

/// What a repository offers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    /// The versions of each chart, the highest first.
    pub entries: BTreeMap<String, Vec<ChartVersion>>,
    /// Versions that were left out because what they say of themselves is not allowed: chart and reason.
    pub skipped: Vec<(String, String)>,
}

/// One version of a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChartVersion {
    /// What it says of itself.
    pub metadata: Metadata,
    /// Where it is, absolute or below the repository's address; the first is taken.
    pub urls: Vec<String>,
    /// The SHA-256 of the packed chart, in hexadecimal; empty when the index does not say.
    pub digest: String,
}

/// Why a text is no index. Nothing helps but another text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The text is empty.
    #[error("empty index.yaml file")]
    Empty,
    /// The text is longer than [`MAX_INDEX_BYTES`].
    #[error("index is over the limit of {MAX_INDEX_BYTES} bytes")]
    TooLarge,
    /// The text is neither YAML nor JSON of an index.
    #[error("index cannot be read: {0}")]
    Malformed(String),
    /// The index does not say of which version it is.
    #[error("no API version specified")]
    NoApiVersion,
}

/// Why an index has no answer to what was asked. Another index may have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no chart of this name.
    #[error("no chart name found")]
    NoName,
    /// The chart has no version.
    #[error("no chart version found")]
    NoVersion,
    /// The range cannot be read: nothing helps but another one.
    #[error("range of versions {range:?}")]
    Range {
        /// The range.
        range: String,
        /// What is wrong with it.
        #[source]
        source: RangeError,
    },
    /// No version is in the range.
    #[error("no chart version found for {name}-{range}")]
    NoMatch {
        /// The chart.
        name: String,
        /// The range.
        range: String,
    },
}

impl Index {
    /// Reads an index, YAML or JSON. A version that is not allowed is left out; one whose fields have wrong
    /// types, and in YAML a field that nobody knows, makes the whole index unreadable, as for Helm.
    ///
    /// # Errors
    ///
    /// See [`IndexError`].
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        match text.len() {
            0 => return Err(IndexError::Empty),
            1..=MAX_INDEX_BYTES => {}
            _ => return Err(IndexError::TooLarge),
        }
        let mut index = decode::index(text)?;
        index.entries.values_mut().for_each(sort);
        Ok(index)
    }

    /// Returns the version of a chart that a range means: the one of exactly this text if there is one, else
    /// the highest in the range. An empty range means the highest that is no pre-release; pre-releases count
    /// only where the range names one, as `>0.0.0-0` does.
    ///
    /// # Errors
    ///
    /// See [`ResolveError`].
    pub fn resolve(&self, name: &str, range: &str) -> Result<&ChartVersion, ResolveError> {
        let versions = self.entries.get(name).ok_or(ResolveError::NoName)?;
        if versions.is_empty() {
            return Err(ResolveError::NoVersion);
        }
        let wanted = if range.is_empty() { "*" } else { range };
        let parsed = VersionRange::parse(wanted).map_err(|source| ResolveError::Range {
            range: range.to_owned(),
            source,
        })?;
        let exactly = versions.iter().find(|found| found.metadata.version == range);
        let within = || {
            versions.iter().find(|found| {
                Version::parse(&found.metadata.version).is_ok_and(|version| parsed.contains(&version))
            })
        };
        exactly.or_else(within).ok_or_else(|| ResolveError::NoMatch {
            name: name.to_owned(),
            range: range.to_owned(),
        })
    }
}

/// Sorts by version, the highest first; equal ones stay in the order of the index.
fn sort(versions: &mut Vec<ChartVersion>) {
    let mut keyed: Vec<(Option<Version>, ChartVersion)> = versions
        .drain(..)
        .map(|found| (Version::parse(&found.metadata.version).ok(), found))
        .collect();
    keyed.sort_by(|(left, _), (right, _)| match (left, right) {
        (Some(left), Some(right)) => right.precedence(left),
        (left, right) => right.is_some().cmp(&left.is_some()),
    });
    versions.extend(keyed.into_iter().map(|(_, found)| found));
}
