//! What the reconciler asks of a cluster, and nothing more: discovery, reads, server-side apply, watches by our
//! mark, deletion of an object that is proven to be the one that was looked at.

mod account;
mod discovery;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod kube;
pub mod limit;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

pub use self::{
    account::Account,
    discovery::{Discovery, Resource, Served},
    error::ClusterError,
};

/// One event of a watch. Objects are to be dropped when judged; with [`Selector::metadata_only`] they have nothing
/// but their type and metadata.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// A complete list is about to begin: what is not in it by `Listed` is gone. It is asked for once the next event is
    /// awaited. One that is tried again begins again.
    Listing,
    /// The object exists so.
    Present(Value),
    /// The object is gone, or no longer bears our mark.
    Gone(Value),
    /// The server's store was put back to an earlier state: what was seen so far may be newer than what comes. A list
    /// follows.
    WentBack,
    /// The list is complete. Its version, when that is known: what was written later is not in it.
    Listed(Option<u64>),
}

/// Which objects to watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// Only objects of this namespace; empty for all.
    pub namespace: String,
    /// Only the object of this name; empty for all.
    pub name: String,
    /// Label selector, empty for all.
    pub labels: String,
    /// Only types and metadata of the objects come: enough to know that a definition changed, which is a reason
    /// to discover again.
    pub metadata_only: bool,
    /// Of a list of metadata, managed fields are passed over while it is read: they are most of it.
    pub without_managed_fields: bool,
}

impl Selector {
    /// What a request says of fields.
    fn fields(&self) -> Option<(&'static str, String)> {
        (!self.name.is_empty()).then(|| ("fieldSelector", format!("metadata.name={}", self.name)))
    }
}

/// One page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Objects with their types; where metadata was asked for, only that is sure to be there.
    pub items: Vec<Value>,
    /// Where the next page begins; empty: this is the last.
    pub next: String,
    /// How many objects come after this page, as far as the server says.
    pub remaining: usize,
    /// Version of the list, where a watch goes on.
    pub version: String,
}

/// What proves that the object to be deleted is the one that the decision was made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preconditions {
    /// Its UID: an object made anew under the same name is another one.
    pub uid: String,
    /// Its version: what changed since was not looked at.
    pub resource_version: String,
}

/// What happens to the objects that a deleted object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl Propagation {
    /// Returns the name that the API has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// How far a deletion has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Deleted {
    /// The object is not there any more.
    Gone,
    /// It waits for finalizers, or to shut down; the object as it is now.
    Waits(Box<Value>),
}

/// A cluster, and the identity that it is asked with.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Returns the same cluster for requests made as `account`, all of them: reads, writes, watches, discovery.
    fn acting_as(&self, account: &Account) -> Arc<dyn Cluster>;

    /// UID of the kube-system namespace: what the cluster is. Never empty.
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

    /// Reads one page of a kind's objects, from `token` on or from the beginning when that is empty.
    async fn list_selected(
        &self,
        resource: &Resource,
        selector: &Selector,
        token: &str,
    ) -> Result<Page, ClusterError>;

    /// Reads one page of the metadata of all objects of a kind in a namespace.
    async fn list(&self, resource: &Resource, namespace: &str, token: &str) -> Result<Page, ClusterError> {
        let selector = Selector {
            namespace: namespace.to_owned(),
            metadata_only: true,
            ..Selector::default()
        };
        self.list_selected(resource, &selector, token).await
    }

    /// Creates an object, as Helm does with hooks. One that exists is a conflict (409 `AlreadyExists`).
    async fn create(&self, resource: &Resource, object: &Value) -> Result<Value, ClusterError>;

    /// Deletes an object that is still the one that was looked at; else it is a conflict (409). What is not there
    /// is gone.
    async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        propagation: Propagation,
    ) -> Result<Deleted, ClusterError>;

    /// Applies an object server-side as our manager, with force, and returns it as stored. A dry run stores
    /// nothing.
    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError>;

    /// Changes an object's metadata by a JSON patch: managed fields and annotations of tools that managed it
    /// before us. The patch replaces the resourceVersion by the one that the decision was made on, so that a
    /// decision on an object that has changed since is a conflict (409).
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
