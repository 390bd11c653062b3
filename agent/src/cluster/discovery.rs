//! What a cluster serves, as last asked. Data without a clock: whoever keeps it keeps its age.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::object::group_of;

/// A kind as the cluster serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Served version, e.g. `v1`.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Name in paths, e.g. `deployments`.
    pub plural: String,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Objects can be listed and watched. Some kinds of aggregated API servers can be read by name alone.
    pub watchable: bool,
}

impl Resource {
    /// Returns `group/version`, or the version of the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn name(&self) -> (&str, &str) {
        (&self.group, &self.kind)
    }
}

/// What a cluster serves. Clones share the kinds: a cluster may have thousands.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Ordered by group and kind; within a kind the group's preferred version comes first.
    served: Arc<Vec<Resource>>,
    failed: BTreeSet<String>,
    /// Scopes of kinds that were served earlier and are not now.
    earlier: BTreeMap<(String, String), bool>,
}

/// Whether a kind is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served<'a> {
    /// It is.
    Yes(&'a Resource),
    /// Its group and kind are, under other versions than the one asked for.
    OtherVersions,
    /// It is not.
    No,
    /// The discovery of its group failed, as when an aggregated API server is down. This is never a reason to
    /// treat an object as missing or removed.
    Unknown,
}

impl Discovery {
    /// Makes a discovery of these kinds, each group's preferred version first. What is known of a failed group
    /// may be among them.
    pub fn new(mut resources: Vec<Resource>, failed_groups: impl IntoIterator<Item = String>) -> Self {
        // Stable: versions of a kind keep their order.
        resources.sort_by(|one, other| one.name().cmp(&other.name()));
        resources.dedup();
        resources.shrink_to_fit();
        Self {
            served: Arc::new(resources),
            failed: failed_groups.into_iter().collect(),
            earlier: BTreeMap::new(),
        }
    }

    /// Takes over what this discovery does not know and the one before it did: the kinds of failed groups, and
    /// the scope of kinds that are no longer served. Object keys depend on the scope, and must not change while
    /// an API server is down or a definition is deleted.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.earlier.clone_from(&before.earlier);
        for resource in before.served.iter() {
            if !self.versions(&resource.group, &resource.kind).is_empty() {
                continue;
            }
            let name = (resource.group.clone(), resource.kind.clone());
            self.earlier.insert(name, resource.namespaced);
        }
        let kept = before.served.iter().filter(|resource| {
            self.failed(&resource.group) && self.versions(&resource.group, &resource.kind).is_empty()
        });
        let kept: Vec<Resource> = kept.cloned().collect();
        if !kept.is_empty() {
            let served = Arc::make_mut(&mut self.served);
            served.extend(kept);
            served.sort_by(|one, other| one.name().cmp(&other.name()));
        }
        self
    }

    fn versions(&self, group: &str, kind: &str) -> &[Resource] {
        let from = self.served.partition_point(|one| one.name() < (group, kind));
        let to = self.served.partition_point(|one| one.name() <= (group, kind));
        &self.served[from..to]
    }

    /// Looks an object's kind up.
    pub fn find(&self, api_version: &str, kind: &str) -> Served<'_> {
        let group = group_of(api_version);
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let versions = self.versions(group, kind);
        match versions.iter().find(|resource| resource.version == version) {
            Some(resource) => Served::Yes(resource),
            None if self.failed(group) => Served::Unknown,
            None if versions.is_empty() => Served::No,
            None => Served::OtherVersions,
        }
    }

    /// Returns the preferred version of a kind. `None` says that it is not served only if its group did not
    /// [fail](Self::failed).
    pub fn preferred(&self, group: &str, kind: &str) -> Option<&Resource> {
        self.versions(group, kind).first()
    }

    /// Tells whether objects of a kind live in namespaces, as last known; `None` when it was never served.
    pub fn namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        match self.preferred(group, kind) {
            Some(resource) => Some(resource.namespaced),
            None => self.earlier.get(&(group.to_owned(), kind.to_owned())).copied(),
        }
    }

    /// Returns all kinds that are served, each under each of its versions.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.served.iter()
    }

    /// Tells whether the discovery of a group failed: what it serves now is not known.
    pub fn failed(&self, group: &str) -> bool {
        self.failed.contains(group)
    }

    /// Tells how much memory this takes, to the next allocation.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let texts = |resource: &Resource| {
            [
                &resource.group,
                &resource.version,
                &resource.kind,
                &resource.plural,
            ]
            .iter()
            .map(|text| text.capacity().next_multiple_of(16))
            .sum::<usize>()
        };
        self.served.capacity() * size_of::<Resource>() + self.served.iter().map(texts).sum::<usize>()
    }

    /// Tells whether nothing is served: discovery has not run.
    pub fn is_empty(&self) -> bool {
        self.served.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(api_version: &str, kind: &str, namespaced: bool) -> Resource {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Resource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
            namespaced,
            watchable: true,
        }
    }

    fn metrics() -> Resource {
        resource("metrics.k8s.io/v1beta1", "NodeMetrics", false)
    }

    #[test]
    fn a_kind_is_found_by_version_and_preferred_in_the_order_of_its_group() {
        let discovery = Discovery::new(
            vec![
                resource("apps/v1", "Deployment", true),
                resource("autoscaling/v2", "HorizontalPodAutoscaler", true),
                resource("autoscaling/v1", "HorizontalPodAutoscaler", true),
                resource("v1", "Namespace", false),
            ],
            [],
        );
        let scaler = |version: &str| discovery.find(version, "HorizontalPodAutoscaler");
        assert!(matches!(scaler("autoscaling/v1"), Served::Yes(found) if found.version == "v1"));
        assert_eq!(scaler("autoscaling/v3"), Served::OtherVersions);
        assert_eq!(scaler("other/v1"), Served::No);
        let preferred = discovery.preferred("autoscaling", "HorizontalPodAutoscaler");
        assert_eq!(preferred.map(|found| found.version.as_str()), Some("v2"));
        assert_eq!(discovery.namespaced("", "Namespace"), Some(false));
        assert_eq!(discovery.namespaced("", "Nothing"), None);
    }

    #[test]
    fn a_kind_of_a_failed_group_is_unknown_and_never_not_served() {
        let failed = ["metrics.k8s.io".to_owned()];
        let discovery = Discovery::new(vec![resource("v1", "Pod", true)], failed);
        assert_eq!(
            discovery.find("metrics.k8s.io/v1beta1", "NodeMetrics"),
            Served::Unknown
        );
        assert!(discovery.failed("metrics.k8s.io") && !discovery.failed(""));
        assert_eq!(discovery.find("v1", "Nothing"), Served::No);
    }

    #[test]
    fn a_failed_group_keeps_the_kinds_that_it_served_before() {
        let before = Discovery::new(vec![resource("v1", "Pod", true), metrics()], []);
        let failed = ["metrics.k8s.io".to_owned()];
        let now = Discovery::new(vec![resource("v1", "Pod", true)], failed).after(&before);
        assert!(matches!(
            now.find("metrics.k8s.io/v1beta1", "NodeMetrics"),
            Served::Yes(_)
        ));
        assert!(now.failed("metrics.k8s.io"), "it is still not known to be so now");
    }

    #[test]
    fn the_scope_of_a_kind_is_known_after_its_definition_is_gone() {
        let with = Discovery::new(
            vec![resource("g.io/v1", "Thing", true), resource("v1", "Pod", true)],
            [],
        );
        let without = || Discovery::new(vec![resource("v1", "Pod", true)], []);
        let now = without().after(&without().after(&with));
        assert_eq!(now.find("g.io/v1", "Thing"), Served::No);
        assert_eq!(now.namespaced("g.io", "Thing"), Some(true));
        let cluster_wide = Discovery::new(vec![resource("g.io/v1", "Thing", false)], []).after(&now);
        assert_eq!(cluster_wide.namespaced("g.io", "Thing"), Some(false));
    }
}
