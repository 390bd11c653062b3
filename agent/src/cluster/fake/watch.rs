//! A watch of the cluster in memory: a list, then its changes; lists again when it breaks or falls behind.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use flotilla_core::object::ObjectKey;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Change, Fake};
use crate::cluster::{ClusterError, Resource, Selector, WatchEvent};

struct Watch {
    fake: Fake,
    resource: Resource,
    selector: Selector,
    ready: VecDeque<Result<WatchEvent, ClusterError>>,
    changes: Option<Receiver<Arc<Change>>>,
    failures: u32,
    /// The newest version that was seen.
    newest: u64,
    /// A list was announced.
    is_listing: bool,
    ended: bool,
}

pub(super) fn stream(
    fake: Fake,
    resource: Resource,
    selector: Selector,
) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
    let watch = Watch {
        fake,
        resource,
        selector,
        ready: VecDeque::new(),
        changes: None,
        failures: 0,
        newest: 0,
        is_listing: false,
        ended: false,
    };
    stream::unfold(watch, |mut watch| async move {
        loop {
            if let Some(event) = watch.ready.pop_front() {
                return Some((event, watch));
            }
            if watch.ended {
                return None;
            }
            watch.step().await;
        }
    })
    .boxed()
}

impl Watch {
    async fn step(&mut self) {
        let Some(changes) = &mut self.changes else {
            return match std::mem::take(&mut self.is_listing) {
                true => self.open().await,
                false => self.announce().await,
            };
        };
        match changes.recv().await {
            Ok(change) => self.changed(&change),
            Err(RecvError::Lagged(_) | RecvError::Closed) => self.changes = None,
        }
    }

    async fn announce(&mut self) {
        if self.failures > 0 {
            tokio::time::sleep(Duration::from_secs(1 << self.failures.min(5))).await;
        }
        self.is_listing = true;
        let version = self.fake.lock().version;
        if version < std::mem::replace(&mut self.newest, version) {
            self.ready.push_back(Ok(WatchEvent::WentBack));
        }
        self.ready.push_back(Ok(WatchEvent::Listing));
    }

    async fn open(&mut self) {
        let key = ObjectKey::new(
            &self.resource.group,
            &self.resource.kind,
            &self.selector.namespace,
            "",
        );
        if let Err(error) = self.fake.ask("watch", &key).await {
            self.failures += 1;
            self.ready.push_back(Err(error));
            return;
        }
        let Some((listed, version, delay)) = self.snapshot() else {
            return self.end();
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let present = listed.into_iter().map(|object| Ok(WatchEvent::Present(object)));
        self.ready.extend(present);
        self.ready.push_back(Ok(WatchEvent::Listed(Some(version))));
    }

    /// What is there now, its version, and how long it is on its way. What changes from now on is heard after it.
    fn snapshot(&mut self) -> Option<(Vec<Value>, u64, Duration)> {
        let inner = self.fake.lock();
        if !inner.resources.contains(&self.resource) {
            return None;
        }
        self.failures = 0;
        self.newest = inner.version;
        self.changes = Some(self.fake.changes.subscribe());
        let objects = inner
            .objects
            .values()
            .filter(|object| is_selected(&self.resource, &self.selector, object));
        let listed = objects.map(|object| shown(&self.resource, &self.selector, object));
        Some((listed.collect(), inner.version, inner.list_delay))
    }

    fn end(&mut self) {
        self.ended = true;
        self.ready.push_back(Err(ClusterError::NotServed {
            kind: self.resource.kind.clone(),
            api_version: self.resource.api_version(),
        }));
    }

    fn changed(&mut self, change: &Change) {
        if let Change::Written { after: object, .. } | Change::Deleted(object) = change {
            let version = object["metadata"]["resourceVersion"].as_str();
            let version = version
                .and_then(|version| version.parse().ok())
                .unwrap_or(u64::MAX);
            // The store was put back to an earlier state.
            if version <= self.newest {
                return;
            }
            self.newest = version;
        }
        let event = match change {
            Change::Written { after, .. } if is_selected(&self.resource, &self.selector, after) => {
                WatchEvent::Present(shown(&self.resource, &self.selector, after))
            }
            Change::Written {
                before: Some(before),
                after,
            } if is_selected(&self.resource, &self.selector, before) => {
                WatchEvent::Gone(shown(&self.resource, &self.selector, after))
            }
            Change::Deleted(object) if is_selected(&self.resource, &self.selector, object) => {
                WatchEvent::Gone(shown(&self.resource, &self.selector, object))
            }
            Change::Unserved(group, kind) if (group, kind) == (&self.resource.group, &self.resource.kind) => {
                return self.end();
            }
            Change::Dropped(resource) if *resource == self.resource => return self.end(),
            Change::Broken => {
                self.changes = None;
                return;
            }
            _ => return,
        };
        self.ready.push_back(Ok(event));
    }
}

/// Tells whether an object is of a kind and selected.
pub(super) fn is_selected(resource: &Resource, selector: &Selector, object: &Value) -> bool {
    let metadata = &object["metadata"];
    ObjectKey::of(object).is_some_and(|key| (&key.group, &key.kind) == (&resource.group, &resource.kind))
        && (selector.namespace.is_empty() || metadata["namespace"] == selector.namespace.as_str())
        && (selector.name.is_empty() || metadata["name"] == selector.name.as_str())
        && selector
            .labels
            .split(',')
            .filter(|term| !term.is_empty())
            .all(|term| match term.split_once('=') {
                Some((label, value)) => metadata["labels"][label] == value,
                None => metadata["labels"].get(term).is_some(),
            })
}

/// An object as a selector asks for it.
pub(super) fn shown(resource: &Resource, selector: &Selector, object: &Value) -> Value {
    let object = converted(resource, object);
    if selector.metadata_only {
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"]})
    } else {
        object
    }
}

/// An object in the version that is asked for. Other versions have other fields: here, the whole specification has
/// another place in a version that it was not written in.
pub(super) fn converted(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    let version = resource.api_version();
    if object["apiVersion"] != version.as_str() {
        object["apiVersion"] = version.into();
        let spec = object["spec"].take();
        object["spec"] = json!({"converted": spec});
    }
    object
}
