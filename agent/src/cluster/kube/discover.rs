//! Asking an API server what it serves: two aggregated documents, or one document a group version from servers
//! that do not aggregate (before Kubernetes 1.27, and some that are no kube-apiserver).
//!
//! A document of a cluster with thousands of definitions has some megabytes. It is parsed into the few fields
//! that are needed, and a server that says that nothing changed (`ETag`) sends none.

use std::{borrow::Cow, sync::PoisonError};

use bytes::Buf as _;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use super::{KubeCluster, get};
use crate::cluster::{ClusterError, Discovery, Resource};

/// Bytes of one discovery document; the largest known have five million.
const DOCUMENT_MAX: usize = 32 << 20;
/// Group versions asked for at once, where they must be asked for one by one.
const AT_ONCE: usize = 8;
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                          application/json";
const ROOTS: [&str; 2] = ["/api", "/apis"];

/// What the server served when last asked, with the tags of the documents that said so.
#[derive(Clone, Default)]
pub(super) struct Known {
    tags: [Option<HeaderValue>; 2],
    discovery: Discovery,
}

/// `/api` or `/apis`, in any of their forms.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Option<Vec<Group>>,
    /// Of an `APIGroupList`.
    #[serde(default)]
    groups: Option<Vec<GroupVersions>>,
    /// Of the `APIVersions` of the core group.
    #[serde(default)]
    versions: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Option<Vec<Version>>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Option<Vec<AggregatedResource>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedResource {
    resource: String,
    #[serde(default)]
    response_kind: Option<Kind>,
    #[serde(default)]
    scope: String,
    #[serde(default, deserialize_with = "verbs")]
    verbs: Verbs,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersions {
    name: String,
    #[serde(default)]
    versions: Option<Vec<GroupVersion>>,
    #[serde(default)]
    preferred_version: Option<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

/// An `APIResourceList`.
#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Option<Vec<ListedResource>>,
}

#[derive(Deserialize)]
struct ListedResource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default, deserialize_with = "verbs")]
    verbs: Verbs,
}

/// What can be asked of a kind, as far as it matters. Reviews cannot be read back, and are no objects to keep.
#[derive(Debug, Clone, Copy, Default)]
struct Verbs {
    get: bool,
    list: bool,
    watch: bool,
}

/// Reads a list of verbs without keeping it.
fn verbs<'de, D: Deserializer<'de>>(verbs: D) -> Result<Verbs, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Verbs;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a list of verbs")
        }

        fn visit_unit<E>(self) -> Result<Verbs, E> {
            Ok(Verbs::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Verbs, A::Error> {
            let mut verbs = Verbs::default();
            while let Some(name) = names.next_element::<Cow<'de, str>>()? {
                match &*name {
                    "get" => verbs.get = true,
                    "list" => verbs.list = true,
                    "watch" => verbs.watch = true,
                    _ => {}
                }
            }
            Ok(verbs)
        }
    }
    verbs.deserialize_any(Names)
}

/// What one answer, or several, said.
#[derive(Default)]
struct Found {
    resources: Vec<Resource>,
    failed: Vec<String>,
}

impl Found {
    fn aggregated(&mut self, groups: Vec<Group>) {
        for group in groups {
            for version in group.versions.into_iter().flatten() {
                // The aggregator has what it knew before, if anything.
                if version.freshness == "Stale" {
                    self.failed.push(group.metadata.name.clone());
                }
                let resources = version.resources.into_iter().flatten();
                let readable = resources.filter(|resource| resource.verbs.get);
                self.resources.extend(readable.filter_map(|resource| {
                    let kind = resource.response_kind.map(|response| response.kind)?;
                    (!kind.is_empty()).then(|| Resource {
                        group: group.metadata.name.clone(),
                        version: version.version.clone(),
                        kind,
                        plural: resource.resource,
                        namespaced: resource.scope == "Namespaced",
                        watchable: resource.verbs.list && resource.verbs.watch,
                    })
                }));
            }
        }
    }

    fn listed(&mut self, group: &str, version: &str, list: ResourceList) {
        let resources = list.resources.into_iter().flatten();
        let whole = resources.filter(|resource| resource.verbs.get && !resource.name.contains('/'));
        self.resources.extend(whole.map(|resource| Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: resource.kind,
            plural: resource.name,
            namespaced: resource.namespaced,
            watchable: resource.verbs.list && resource.verbs.watch,
        }));
    }
}

/// Versions of a group, the preferred one first.
fn in_order(group: GroupVersions) -> impl Iterator<Item = (String, String)> {
    let preferred = group.preferred_version.map(|preferred| preferred.version);
    let mut versions: Vec<String> = group
        .versions
        .into_iter()
        .flatten()
        .map(|listed| listed.version)
        .collect();
    versions.sort_by_key(|version| Some(version) != preferred.as_ref());
    versions
        .into_iter()
        .map(move |version| (group.name.clone(), version))
}

impl KubeCluster {
    /// Asks what is served.
    pub(super) async fn discovered(&self) -> Result<Discovery, ClusterError> {
        // Not held while asking: whoever asks at the same time gets an answer of their own.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tags = [None, None];
        let mut documents = [None, None];
        for (position, root) in ROOTS.iter().enumerate() {
            let (tag, document) = self.parsed(root, known.tags[position].as_ref()).await?;
            (tags[position], documents[position]) = (tag, document);
        }
        if documents.iter().all(Option::is_none) {
            return Ok(known.discovery);
        }
        let mut found = Found::default();
        for (position, root) in ROOTS.iter().enumerate() {
            let document = match documents[position].take() {
                Some(document) => document,
                // The other one changed; what this one said is not kept by itself.
                None => {
                    let (tag, document) = self.parsed(root, None).await?;
                    tags[position] = tag;
                    document.ok_or_else(|| unreadable(root))?
                }
            };
            self.read(root, document, &mut found).await?;
        }
        let discovery = Discovery::new(found.resources, found.failed);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known {
            tags,
            discovery: discovery.clone(),
        };
        Ok(discovery)
    }

    async fn read(&self, root: &str, document: Document, found: &mut Found) -> Result<(), ClusterError> {
        match (document.kind.as_str(), document.items) {
            ("APIGroupDiscoveryList", groups) => {
                found.aggregated(groups.unwrap_or_default());
                Ok(())
            }
            ("APIGroupList", _) => {
                let groups = document.groups.unwrap_or_default().into_iter();
                self.one_by_one(root, groups.flat_map(in_order), found).await
            }
            ("APIVersions", _) => {
                let versions = document.versions.unwrap_or_default().into_iter();
                let versions = versions.map(|version| (String::new(), version));
                self.one_by_one(root, versions, found).await
            }
            _ => Err(unreadable(root)),
        }
    }

    /// Asks for each group version. One that fails is a failed group; if all fail, so does the discovery.
    async fn one_by_one(
        &self,
        root: &str,
        versions: impl Iterator<Item = (String, String)> + Send,
        found: &mut Found,
    ) -> Result<(), ClusterError> {
        let versions: Vec<(String, String)> = versions.collect();
        let asked = versions.len();
        let mut answers = stream::iter(versions)
            .map(|(group, version)| async move {
                let path = match group.is_empty() {
                    true => format!("{root}/{version}"),
                    false => format!("{root}/{group}/{version}"),
                };
                let list = self.parsed::<ResourceList>(&path, None).await;
                (group, version, list)
            })
            .buffered(AT_ONCE);
        let mut failures = 0;
        while let Some((group, version, list)) = answers.next().await {
            match list {
                Ok((_, Some(list))) => found.listed(&group, &version, list),
                Ok((_, None)) => return Err(unreadable(root)),
                Err(error) => {
                    failures += 1;
                    if failures == asked {
                        return Err(error);
                    }
                    found.failed.push(group);
                }
            }
        }
        Ok(())
    }

    /// Reads a document; `None` when it is still the one with this tag.
    async fn parsed<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        tag: Option<&HeaderValue>,
    ) -> Result<(Option<HeaderValue>, Option<T>), ClusterError> {
        let mut request = get(path, Some(AGGREGATED))?;
        if let Some(tag) = tag {
            request.headers_mut().insert(header::IF_NONE_MATCH, tag.clone());
        }
        let answer = self.exchange(request, None, DOCUMENT_MAX).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok((tag.cloned(), None));
        }
        let tag = answer.headers.get(header::ETAG).cloned();
        // Read from its pieces: a copy in one piece would double what the largest document takes.
        let document =
            serde_json::from_reader(answer.body.aggregate().reader()).map_err(|_| unreadable(path))?;
        Ok((tag, Some(document)))
    }
}

fn unreadable(path: &str) -> ClusterError {
    ClusterError::Unavailable(format!("answer to {path} is no discovery document"))
}

#[cfg(test)]
mod tests;
