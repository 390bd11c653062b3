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
            return self.open().await;
        };
        match changes.recv().await {
            Ok(change) => self.changed(&change),
            Err(RecvError::Lagged(_) | RecvError::Closed) => self.changes = None,
        }
    }

    async fn open(&mut self) {
        if self.failures > 0 {
            tokio::time::sleep(Duration::from_secs(1 << self.failures.min(5))).await;
        }
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
        let inner = self.fake.lock();
        if !inner.resources.contains(&self.resource) {
            drop(inner);
            return self.end();
        }
        self.failures = 0;
        self.changes = Some(self.fake.changes.subscribe());
        let objects = inner
            .objects
            .values()
            .filter(|object| is_selected(&self.resource, &self.selector, object));
        let listed: Vec<Value> = objects.map(|object| shown(&self.selector, object)).collect();
        drop(inner);
        self.ready.push_back(Ok(WatchEvent::Listing));
        let present = listed.into_iter().map(|object| Ok(WatchEvent::Present(object)));
        self.ready.extend(present);
        self.ready.push_back(Ok(WatchEvent::Listed));
    }

    fn end(&mut self) {
        self.ended = true;
        self.ready.push_back(Err(ClusterError::NotServed {
            kind: self.resource.kind.clone(),
            api_version: self.resource.api_version(),
        }));
    }

    fn changed(&mut self, change: &Change) {
        let event = match change {
            Change::Written { after, .. } if is_selected(&self.resource, &self.selector, after) => {
                WatchEvent::Present(shown(&self.selector, after))
            }
            Change::Written {
                before: Some(before),
                after,
            } if is_selected(&self.resource, &self.selector, before) => {
                WatchEvent::Gone(shown(&self.selector, after))
            }
            Change::Deleted(object) if is_selected(&self.resource, &self.selector, object) => {
                WatchEvent::Gone(shown(&self.selector, object))
            }
            Change::Unserved(group, kind) if (group, kind) == (&self.resource.group, &self.resource.kind) => {
                return self.end();
            }
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
pub(super) fn shown(selector: &Selector, object: &Value) -> Value {
    if selector.metadata_only {
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"]})
    } else {
        object.clone()
    }
}
