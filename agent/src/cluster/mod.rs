//! What the reconciler asks of a cluster, and nothing more: discovery, reads of single objects, server-side
//! apply, watches by our mark. There is no call that deletes.

#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod kube;
pub mod limit;
mod watch;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use flotilla_core::object::group_of;
use futures::stream::BoxStream;
use serde_json::Value;

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
}

/// What a cluster serves.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    served: HashMap<(String, String), Vec<Resource>>,
    /// Groups whose discovery failed: whether they serve a kind is not known.
    pub failed_groups: Vec<String>,
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
}

impl Discovery {
    /// Makes a discovery of these kinds, each group's preferred version first.
    pub fn new(resources: Vec<Resource>, failed_groups: Vec<String>) -> Self {
        let mut served: HashMap<_, Vec<Resource>> = HashMap::new();
        for resource in resources {
            let key = (resource.group.clone(), resource.kind.clone());
            served.entry(key).or_default().push(resource);
        }
        Self {
            served,
            failed_groups,
        }
    }

    /// Looks an object's kind up.
    pub fn find(&self, api_version: &str, kind: &str) -> Served<'_> {
        let group = group_of(api_version);
        let version = api_version.rsplit('/').next().unwrap_or_default();
        match self.served.get(&(group.to_owned(), kind.to_owned())) {
            None => Served::No,
            Some(versions) => match versions.iter().find(|resource| resource.version == version) {
                Some(resource) => Served::Yes(resource),
                None => Served::OtherVersions,
            },
        }
    }

    /// Returns the preferred version of a kind.
    pub fn preferred(&self, group: &str, kind: &str) -> Option<&Resource> {
        self.served.get(&(group.to_owned(), kind.to_owned()))?.first()
    }

    /// Tells how many kinds are served.
    pub fn len(&self) -> usize {
        self.served.len()
    }

    /// Tells whether nothing is served: discovery has not run.
    pub fn is_empty(&self) -> bool {
        self.served.is_empty()
    }
}

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
    /// The server says no, or that it could not (500). Trying the same again at once will not help.
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

impl ClusterError {
    /// Tells whether trying again soon may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unavailable(_) => true,
            Self::NotServed { .. } => false,
            // A conflict on write is a race that the next try sees the end of, and what an internal error is about
            // may be mended.
            Self::Rejected { code, .. } => matches!(code, 409 | 500),
        }
    }
}

/// One event of a watch. Objects come whole and are to be dropped when judged.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// A complete list begins: what is not in it by `Listed` is gone.
    Listing,
    /// The object exists so.
    Present(Value),
    /// The object is gone, or no longer bears our mark.
    Gone(Value),
    /// The list is complete.
    Listed,
}

/// Which objects to watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// Only objects of this namespace; empty for all.
    pub namespace: String,
    /// Label selector, empty for all.
    pub labels: String,
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Objects; only their metadata is sure to be there.
    pub items: Vec<Value>,
    /// Where the next page begins; empty: this is the last.
    pub next: String,
    /// How many objects come after this page, as far as the server says.
    pub remaining: usize,
    /// Version of the list, where a watch goes on.
    pub version: String,
}

/// A cluster.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// UID of the kube-system namespace: what the cluster is.
    async fn uid(&self) -> Result<String, ClusterError>;

    /// Version of the API server, e.g. `v1.36.3`.
    async fn version(&self) -> Result<String, ClusterError>;

    /// Asks what is served.
    async fn discover(&self) -> Result<Discovery, ClusterError>;

    /// Reads an object; `None` when it does not exist.
    async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError>;

    /// Reads one page of the metadata of a kind's objects in a namespace, from `token` on or from the beginning
    /// when that is empty.
    async fn list(&self, resource: &Resource, namespace: &str, token: &str) -> Result<Page, ClusterError>;

    /// Applies an object server-side as our manager, with force, and returns it as stored. A dry run stores
    /// nothing.
    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError>;

    /// Changes an object's metadata by a JSON patch: managed fields and annotations of tools that managed it
    /// before us. Its first operation tests the resourceVersion that the decision was made on.
    async fn patch_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ClusterError>;

    /// Watches objects of a kind: begins with a complete list, goes on by itself through expiry and broken
    /// connections, and lists again when it must. An error item says what went wrong meanwhile; only
    /// `NotServed` ends the stream.
    fn watch(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> BoxStream<'static, Result<WatchEvent, ClusterError>>;
}
