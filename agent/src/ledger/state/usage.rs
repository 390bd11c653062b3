//! Which kinds the inventories have, where, and in which versions: counted as records come, so that what is to be
//! watched is known without a walk over all objects.

use std::collections::BTreeMap;

use flotilla_core::{apply::inventory::Record as ObjectRecord, object::ObjectKey};

/// A kind in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// API group, empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace, empty for objects of the whole cluster.
    pub namespace: String,
}

impl Place {
    fn of(key: &ObjectKey) -> Self {
        Self {
            group: key.group.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
        }
    }
}

/// How many objects of each place were last written in each version.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    counts: BTreeMap<Place, BTreeMap<String, u32>>,
    revision: u64,
    /// Of each kind, in how many places it was last written in each version.
    kinds: BTreeMap<(String, String), BTreeMap<String, u32>>,
    kinds_revision: u64,
}

impl Usage {
    /// Changes whenever a place, or a version in one, comes or goes.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Changes whenever a kind, or a version of one, comes or goes, in whatever places: where each kind is watched as a whole
    /// nothing else is news.
    pub fn kinds_revision(&self) -> u64 {
        self.kinds_revision
    }

    fn count_kind(&mut self, place: &Place, version: &str, comes: bool) {
        let kind = (place.group.clone(), place.kind.clone());
        let versions = self.kinds.entry(kind.clone()).or_default();
        let places = versions.entry(version.to_owned()).or_default();
        if comes {
            *places += 1;
        } else {
            *places = places.saturating_sub(1);
        }
        match (comes, *places) {
            (true, 1) => self.kinds_revision += 1,
            (false, 0) => {
                self.kinds_revision += 1;
                versions.remove(version);
                if versions.is_empty() {
                    self.kinds.remove(&kind);
                }
            }
            _ => {}
        }
    }

    /// Returns each place with the count of objects in each version.
    pub fn places(&self) -> impl Iterator<Item = (&Place, &BTreeMap<String, u32>)> {
        self.counts.iter()
    }

    /// An object's record takes the place of another.
    pub(super) fn replace(
        &mut self,
        key: &ObjectKey,
        before: Option<&ObjectRecord>,
        after: Option<&ObjectRecord>,
    ) {
        let [before, after] = [before, after].map(|record| record.map(|record| &*record.api_version));
        if before == after {
            return;
        }
        let place = Place::of(key);
        let versions = self.counts.entry(place.clone()).or_default();
        let (mut comes, mut goes) = (None, None);
        if let Some(version) = after {
            match versions.get_mut(version) {
                Some(count) => *count += 1,
                None => {
                    versions.insert(version.to_owned(), 1);
                    comes = Some(version);
                }
            }
        }
        if let Some(version) = before
            && let Some(count) = versions.get_mut(version)
        {
            *count -= 1;
            if *count == 0 {
                versions.remove(version);
                goes = Some(version);
            }
        }
        if versions.is_empty() {
            self.counts.remove(&place);
        }
        for (version, does_come) in comes
            .map(|one| (one, true))
            .into_iter()
            .chain(goes.map(|one| (one, false)))
        {
            self.revision += 1;
            self.count_kind(&place, version, does_come);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: &str) -> ObjectRecord {
        ObjectRecord {
            api_version: version.into(),
            ..ObjectRecord::default()
        }
    }

    fn places(usage: &Usage) -> Vec<String> {
        let one = |(place, versions): (&Place, &BTreeMap<String, u32>)| {
            format!("{} {} {versions:?}", place.kind, place.namespace)
        };
        usage.places().map(one).collect()
    }

    #[test]
    fn only_a_place_or_version_that_comes_or_goes_is_a_change() {
        let (one, two) = (record("v1"), record("v2"));
        let [a, b] = ["a", "b"].map(|name| ObjectKey::new("g", "K", "n", name));
        let mut usage = Usage::default();
        let steps: [(&ObjectKey, Option<&ObjectRecord>, Option<&ObjectRecord>, u64); 7] = [
            (&a, None, Some(&one), 1),
            (&b, None, Some(&one), 1),
            (&a, Some(&one), Some(&one), 1),
            (&a, Some(&one), Some(&two), 2),
            (&b, Some(&one), Some(&two), 3),
            (&b, Some(&two), None, 3),
            (&a, Some(&two), None, 4),
        ];
        for (n, (key, before, after, revision)) in steps.into_iter().enumerate() {
            usage.replace(key, before, after);
            assert_eq!(usage.revision(), revision, "step {n}: {:?}", places(&usage));
            if n == 3 {
                assert_eq!(places(&usage), [r#"K n {"v1": 1, "v2": 1}"#]);
            }
        }
        assert_eq!(places(&usage), Vec::<String>::new());
    }

    #[test]
    fn a_kind_in_one_more_place_is_no_change_of_kinds() {
        let (one, two) = (record("v1"), record("v2"));
        let [a, b] = ["n", "m"].map(|namespace| ObjectKey::new("g", "K", namespace, "a"));
        let mut usage = Usage::default();
        let steps: [(&ObjectKey, Option<&ObjectRecord>, Option<&ObjectRecord>, u64); 6] = [
            (&a, None, Some(&one), 1),
            (&b, None, Some(&one), 1),
            (&a, Some(&one), Some(&two), 2),
            (&b, Some(&one), Some(&two), 3),
            (&b, Some(&two), None, 3),
            (&a, Some(&two), None, 4),
        ];
        for (n, (key, before, after, revision)) in steps.into_iter().enumerate() {
            usage.replace(key, before, after);
            assert_eq!(usage.kinds_revision(), revision, "step {n}");
        }
        assert!(usage.kinds.is_empty());
    }
}
