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
        let objects = inner.objects.values().filter(|object| self.is_selected(object));
        let listed: Vec<Value> = objects.map(|object| self.shown(object)).collect();
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
            Change::Written { after, .. } if self.is_selected(after) => {
                WatchEvent::Present(self.shown(after))
            }
            Change::Written {
                before: Some(before),
                after,
            } if self.is_selected(before) => WatchEvent::Gone(self.shown(after)),
            Change::Deleted(object) if self.is_selected(object) => WatchEvent::Gone(self.shown(object)),
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

    fn is_selected(&self, object: &Value) -> bool {
        let (metadata, selector) = (&object["metadata"], &self.selector);
        ObjectKey::of(object)
            .is_some_and(|key| (&key.group, &key.kind) == (&self.resource.group, &self.resource.kind))
            && (selector.namespace.is_empty() || metadata["namespace"] == selector.namespace.as_str())
            && (selector.labels.is_empty() || metadata["labels"].get(&selector.labels).is_some())
    }

    fn shown(&self, object: &Value) -> Value {
        if self.selector.metadata_only {
            json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"]})
        } else {
            object.clone()
        }
    }
}
