//! A cluster in memory: objects, server-side apply with managed fields, watches by label. Good enough for what
//! the reconciler relies on, which `tests/cluster_contract` states and holds against real API servers too.
//!
//! Simplified: see [`fields`] for ownership. Deletion, namespaces and definitions behave as the server's own
//! controllers have them ([`lifecycle`]); Jobs and Deployments go on only where a test asks for it
//! ([`controllers`]). [`faults`] has what may go wrong.

mod calls;
mod controllers;
pub mod faults;
mod fields;
mod lifecycle;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_core::object::ObjectKey;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use self::{
    faults::{Fault, Latency, Rights},
    fields::owned,
};
use super::{Account, Resource};

/// A kind of request that was made: who asked what of which kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The identity that it was made with.
    pub account: Account,
    /// `get`, `list`, `apply`, `dry-run`, `patch`, `create`, `delete`, `watch`, `discover`, `uid` or `version`.
    pub verb: &'static str,
    /// The kind of the object, empty where there is none.
    pub kind: String,
}

struct Inner {
    resources: Vec<Resource>,
    objects: BTreeMap<ObjectKey, Value>,
    version: u64,
    calls: BTreeMap<Call, u64>,
    fault: Option<Fault>,
    latency: Option<Latency>,
    list_delay: Duration,
    /// Applies to come that are stored and whose answers are lost.
    unanswered: u32,
    rights: Option<Rights>,
    /// Fields that cannot be changed: kind and JSON pointer.
    frozen: Vec<(String, String)>,
    /// Groups whose discovery fails.
    undiscovered: BTreeSet<String>,
    establish: bool,
    jobs: bool,
    deployments: bool,
    uid: String,
}

/// All objects at a time, with their versions, and what is served.
pub struct Snapshot {
    resources: Vec<Resource>,
    objects: BTreeMap<ObjectKey, Value>,
    version: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Written {
        before: Option<Value>,
        after: Value,
    },
    Deleted(Value),
    /// A group's kind is no longer served.
    Unserved(String, String),
    /// A version of a kind is no longer served.
    Dropped(Resource),
    /// All watches break and list again.
    Broken,
}

/// A cluster in memory; clones are the same cluster.
#[derive(Clone)]
pub struct Fake {
    inner: Arc<Mutex<Inner>>,
    changes: broadcast::Sender<Arc<Change>>,
    account: Account,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// Makes an empty cluster that serves the kinds tests use most, with the namespaces `default` and
    /// `kube-system`.
    pub fn new() -> Self {
        let fake = Self {
            inner: Arc::new(Mutex::new(Inner {
                resources: vec![],
                objects: BTreeMap::new(),
                version: 0,
                calls: BTreeMap::new(),
                fault: None,
                latency: None,
                list_delay: Duration::ZERO,
                unanswered: 0,
                rights: None,
                frozen: Vec::new(),
                undiscovered: BTreeSet::new(),
                establish: true,
                jobs: false,
                deployments: false,
                uid: uuid::Uuid::new_v4().to_string(),
            })),
            changes: broadcast::channel(4096).0,
            account: Account::Agent,
        };
        for (api_version, kind, plural, namespaced) in [
            ("v1", "Namespace", "namespaces", false),
            ("v1", "ConfigMap", "configmaps", true),
            ("v1", "Secret", "secrets", true),
            ("v1", "Service", "services", true),
            ("v1", "ServiceAccount", "serviceaccounts", true),
            ("apps/v1", "Deployment", "deployments", true),
            ("batch/v1", "Job", "jobs", true),
            (
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                false,
            ),
        ] {
            fake.serve(api_version, kind, plural, namespaced);
        }
        for namespace in ["default", "kube-system"] {
            fake.write(
                "setup",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            );
        }
        fake
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a kind; the first version of a kind is the preferred one.
    pub fn serve(&self, api_version: &str, kind: &str, plural: &str, namespaced: bool) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced,
            watchable: true,
        };
        let mut inner = self.lock();
        if !inner.resources.contains(&resource) {
            inner.resources.push(resource);
        }
    }

    /// Serves a kind that can be read by name, and neither listed nor watched.
    pub fn serve_by_name(&self, api_version: &str, kind: &str, plural: &str, namespaced: bool) {
        self.serve(api_version, kind, plural, namespaced);
        for resource in &mut self.lock().resources {
            if resource.kind == kind {
                resource.watchable = false;
            }
        }
    }

    /// Returns how often each verb was asked for since requests were last taken.
    pub fn take_requests(&self) -> BTreeMap<String, u64> {
        let mut verbs = BTreeMap::new();
        for (call, count) in self.take_calls() {
            *verbs.entry(call.verb.to_owned()).or_default() += count;
        }
        verbs
    }

    /// Returns how often each kind of request was made since requests were last taken.
    pub fn take_calls(&self) -> BTreeMap<Call, u64> {
        std::mem::take(&mut self.lock().calls)
    }

    /// Returns an object.
    pub fn object(&self, key: &ObjectKey) -> Option<Value> {
        self.lock().objects.get(key).cloned()
    }

    /// Looks at an object where it lies: a copy of each of thousands is more work than what is measured.
    pub fn has(&self, key: &ObjectKey, is_so: impl FnOnce(&Value) -> bool) -> bool {
        self.lock().objects.get(key).is_some_and(is_so)
    }

    /// Returns the keys of all objects of a kind.
    pub fn keys(&self, kind: &str) -> Vec<ObjectKey> {
        self.lock()
            .objects
            .keys()
            .filter(|key| key.kind == kind)
            .cloned()
            .collect()
    }

    /// Writes an object as another manager's update: what a person with an editor does. It owns what it
    /// changed; nobody else does any more.
    pub fn write(&self, manager: &str, object: Value) {
        let Some(key) = ObjectKey::of(&object) else { return };
        let mut inner = self.lock();
        let before = inner.objects.get(&key).cloned();
        let after = owned(before.as_ref(), manager, object, inner.version);
        self.store(&mut inner, key, after);
    }

    /// Changes an object in place as another manager.
    pub fn edit(&self, manager: &str, key: &ObjectKey, edit: impl FnOnce(&mut Value)) {
        let Some(mut object) = self.object(key) else {
            return;
        };
        edit(&mut object);
        self.write(manager, object);
    }

    /// Sets an annotation as another manager, as `kubectl annotate` does.
    pub fn annotate(&self, manager: &str, key: &ObjectKey, annotation: &str, value: &str) {
        self.edit(manager, key, |live| {
            live["metadata"]["annotations"][annotation] = value.into();
        });
    }

    /// Sets an object's status, as a controller does.
    pub fn set_status(&self, key: &ObjectKey, status: Value) {
        let mut inner = self.lock();
        if let Some(mut object) = inner.objects.get(key).cloned() {
            object["status"] = status;
            self.store(&mut inner, key.clone(), object);
        }
    }

    fn store(&self, inner: &mut Inner, key: ObjectKey, mut after: Value) -> Value {
        let before = inner.objects.get(&key).cloned();
        let metadata = &mut after["metadata"];
        metadata["uid"] = match &before {
            Some(before) => before["metadata"]["uid"].clone(),
            None => uuid::Uuid::new_v4().to_string().into(),
        };
        if let Some(before) = &before {
            after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if *before == after {
                return after;
            }
        }
        inner.version += 1;
        after["metadata"]["resourceVersion"] = inner.version.to_string().into();
        let generation = before.as_ref().map_or(1, |before| {
            let old = before["metadata"]["generation"].as_u64().unwrap_or(1);
            old + u64::from(before["spec"] != after["spec"])
        });
        after["metadata"]["generation"] = generation.into();
        if key.kind == "CustomResourceDefinition" && inner.establish {
            lifecycle::establish(inner, &mut after);
        }
        inner.objects.insert(key.clone(), after.clone());
        self.tell(Change::Written {
            before: before.clone(),
            after: after.clone(),
        });
        self.control(inner, &key, before.as_ref(), &after);
        if lifecycle::is_over(&after) {
            self.remove(inner, &key);
        }
        after
    }

    /// Tells the watches. Called under the lock, so that a list and the changes after it are whole.
    fn tell(&self, change: Change) {
        let _ = self.changes.send(Arc::new(change));
    }
}

#[cfg(test)]
mod tests;
