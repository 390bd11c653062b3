//! A cluster in memory: objects, server-side apply with managed fields, watches by label. Good enough for what
//! the reconciler relies on, which `tests/cluster_contract.rs` states and holds against real API servers too.
//!
//! Simplified: lists are owned whole unless all their items are maps with a `name`, and no controller runs: kinds
//! come by `serve` or by a CustomResourceDefinition that is written, statuses by `set_status`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use flotilla_core::{apply::MANAGER, object::ObjectKey};
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::{Cluster, ClusterError, Discovery, Page, Resource, Selector, WatchEvent};

/// Refuses or changes calls: `(verb, object key)` to an error.
pub type Fault = Box<dyn Fn(&str, &ObjectKey) -> Option<ClusterError> + Send>;

struct Inner {
    resources: Vec<Resource>,
    objects: BTreeMap<ObjectKey, Value>,
    version: u64,
    requests: BTreeMap<String, u64>,
    fault: Option<Fault>,
    establish: bool,
    uid: String,
}

#[derive(Debug, Clone)]
enum Change {
    Written { before: Option<Value>, after: Value },
    Deleted(Value),
}

/// A cluster in memory; clones are the same cluster.
#[derive(Clone)]
pub struct Fake {
    inner: Arc<Mutex<Inner>>,
    changes: broadcast::Sender<Arc<Change>>,
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
                requests: BTreeMap::new(),
                fault: None,
                establish: true,
                uid: uuid::Uuid::new_v4().to_string(),
            })),
            changes: broadcast::channel(4096).0,
        };
        for (api_version, kind, plural, namespaced) in [
            ("v1", "Namespace", "namespaces", false),
            ("v1", "ConfigMap", "configmaps", true),
            ("v1", "Secret", "secrets", true),
            ("v1", "Service", "services", true),
            ("v1", "ServiceAccount", "serviceaccounts", true),
            ("apps/v1", "Deployment", "deployments", true),
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

    /// Serves a kind.
    pub fn serve(&self, api_version: &str, kind: &str, plural: &str, namespaced: bool) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.lock().resources.push(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced,
        });
    }

    /// Whether CustomResourceDefinitions become served when they are written.
    pub fn establish(&self, establish: bool) {
        self.lock().establish = establish;
    }

    /// Sets what makes calls fail.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Returns how often each verb was asked for since the last call.
    pub fn take_requests(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().requests)
    }

    /// Returns an object.
    pub fn object(&self, key: &ObjectKey) -> Option<Value> {
        self.lock().objects.get(key).cloned()
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
        let mut after = object;
        let mut changed = changed_fields(before.as_ref().unwrap_or(&Value::Null), &after);
        let entries = before.as_ref().map(managed).unwrap_or_default();
        let mut entries: Vec<Value> = entries
            .into_iter()
            .map(|mut entry| {
                entry["fieldsV1"] = minus(&entry["fieldsV1"], &changed);
                entry
            })
            .collect();
        if let Some(mine) = entries
            .iter()
            .position(|e| e["manager"] == manager && e["operation"] == "Update")
        {
            changed = flotilla_core::apply::fields::union(&entries.remove(mine)["fieldsV1"], &changed);
        }
        entries.push(entry(manager, "Update", changed, inner.version));
        entries.retain(|entry| {
            entry["fieldsV1"]
                .as_object()
                .is_some_and(|fields| !fields.is_empty())
        });
        after["metadata"]["managedFields"] = Value::Array(entries);
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

    /// Sets an object's status, as a controller does.
    pub fn set_status(&self, key: &ObjectKey, status: Value) {
        let mut inner = self.lock();
        if let Some(mut object) = inner.objects.get(key).cloned() {
            object["status"] = status;
            self.store(&mut inner, key.clone(), object);
        }
    }

    /// Deletes an object, as somebody in the cluster does.
    pub fn delete(&self, key: &ObjectKey) {
        let mut inner = self.lock();
        inner.version += 1;
        if let Some(object) = inner.objects.remove(key) {
            drop(inner);
            let _ = self.changes.send(Arc::new(Change::Deleted(object)));
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
            establish(inner, &mut after);
        }
        inner.objects.insert(key, after.clone());
        let _ = self.changes.send(Arc::new(Change::Written {
            before,
            after: after.clone(),
        }));
        after
    }

    fn ask(&self, verb: &str, key: &ObjectKey) -> Result<MutexGuard<'_, Inner>, ClusterError> {
        let mut inner = self.lock();
        *inner.requests.entry(verb.to_owned()).or_default() += 1;
        match inner.fault.as_ref().and_then(|fault| fault(verb, key)) {
            Some(error) => Err(error),
            None => Ok(inner),
        }
    }
}

fn establish(inner: &mut Inner, crd: &mut Value) {
    crd["status"] = json!({"conditions": [
        {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"},
    ]});
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for version in crd["spec"]["versions"].as_array().cloned().unwrap_or_default() {
        let resource = Resource {
            group: text(&crd["spec"]["group"]),
            version: text(&version["name"]),
            kind: text(&crd["spec"]["names"]["kind"]),
            plural: text(&crd["spec"]["names"]["plural"]),
            namespaced: crd["spec"]["scope"] == "Namespaced",
        };
        if !inner.resources.contains(&resource) {
            inner.resources.push(resource);
        }
    }
}

fn key_of(resource: &Resource, namespace: &str, name: &str) -> ObjectKey {
    let namespace = if resource.namespaced { namespace } else { "" };
    ObjectKey::new(&resource.group, &resource.kind, namespace, name)
}

fn managed(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn entry(manager: &str, operation: &str, fields: Value, version: u64) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields, "time": format!("2026-01-01T{:02}:{:02}:{:02}Z", version / 3600 % 24, version / 60 % 60, version % 60),
    })
}

fn by_name(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|item| item["name"].is_string())
}

fn item_key(item: &Value) -> String {
    format!("k:{{\"name\":{}}}", item["name"])
}

/// The fields that an applied object claims.
fn claimed(object: &Value) -> Value {
    let mut fields = claimed_map(object, true);
    if let Some(metadata) = object.get("metadata") {
        let kept: Map<String, Value> = ["labels", "annotations"]
            .iter()
            .filter_map(|field| Some((format!("f:{field}"), claimed_node(metadata.get(field)?))))
            .collect();
        if !kept.is_empty() {
            fields.insert("f:metadata".to_owned(), Value::Object(kept));
        }
    }
    Value::Object(fields)
}

fn claimed_map(object: &Value, root: bool) -> Map<String, Value> {
    let skipped = |field: &str| root && ["apiVersion", "kind", "metadata", "status"].contains(&field);
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(field, _)| !skipped(field))
        .map(|(field, value)| (format!("f:{field}"), claimed_node(value)))
        .collect()
}

fn claimed_node(value: &Value) -> Value {
    match value {
        Value::Object(map) if !map.is_empty() => Value::Object(claimed_map(value, false)),
        Value::Array(list) if by_name(list) => Value::Object(
            list.iter()
                .map(|item| {
                    let mut fields = claimed_map(item, false);
                    fields.insert(".".to_owned(), json!({}));
                    (item_key(item), Value::Object(fields))
                })
                .collect(),
        ),
        _ => json!({}),
    }
}

/// The fields in which two objects differ.
fn changed_fields(before: &Value, after: &Value) -> Value {
    let (old, new) = (claimed(before), claimed(after));
    let mut changed = Map::new();
    differing(&old, &new, before, after, &mut changed);
    Value::Object(changed)
}

fn differing(old: &Value, new: &Value, before: &Value, after: &Value, out: &mut Map<String, Value>) {
    let empty = Map::new();
    let (old_map, new_map) = (
        old.as_object().unwrap_or(&empty),
        new.as_object().unwrap_or(&empty),
    );
    for (name, child) in new_map {
        if name == "." {
            continue;
        }
        let (from, to) = (place(before, name), place(after, name));
        if from == to {
            continue;
        }
        let mut nested = Map::new();
        if child.as_object().is_some_and(|child| !child.is_empty()) {
            differing(
                old_map.get(name).unwrap_or(&Value::Null),
                child,
                from,
                to,
                &mut nested,
            );
        }
        out.insert(name.clone(), Value::Object(nested));
    }
}

fn place<'a>(value: &'a Value, name: &str) -> &'a Value {
    match name.split_once(':') {
        Some(("f", field)) => &value[field],
        _ => value
            .as_array()
            .and_then(|list| list.iter().find(|item| item_key(item) == name))
            .unwrap_or(&Value::Null),
    }
}

/// The set without the leaves of `other`.
fn minus(set: &Value, other: &Value) -> Value {
    let Some(other) = other.as_object() else {
        return set.clone();
    };
    let mut kept = Map::new();
    for (name, child) in set.as_object().into_iter().flatten() {
        match other.get(name) {
            None => {
                kept.insert(name.clone(), child.clone());
            }
            Some(gone) if gone.as_object().is_some_and(|gone| !gone.is_empty()) => {
                let rest = minus(child, gone);
                if rest.as_object().is_some_and(|rest| !rest.is_empty()) {
                    kept.insert(name.clone(), rest);
                }
            }
            Some(_) => {}
        }
    }
    Value::Object(kept)
}

/// Puts what is applied over what is live.
fn merge(live: &mut Value, applied: &Value) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            for (field, value) in applied {
                merge(live.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(applied)) if by_name(live) && by_name(applied) => {
            for item in applied {
                match live.iter_mut().find(|held| held["name"] == item["name"]) {
                    Some(held) => merge(held, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, applied) => *live = applied.clone(),
    }
}

/// Removes from an object the leaves of a set that nobody owns any more.
fn remove(object: &mut Value, set: &Value) {
    for (name, child) in set.as_object().into_iter().flatten() {
        let leaf = child
            .as_object()
            .is_none_or(|child| child.keys().all(|key| key == "."));
        match name.split_once(':') {
            Some(("f", field)) => {
                if leaf {
                    if let Some(map) = object.as_object_mut() {
                        map.remove(field);
                    }
                } else if object.get(field).is_some() {
                    remove(&mut object[field], child);
                }
            }
            Some(("k", _)) => {
                let Some(list) = object.as_array_mut() else {
                    continue;
                };
                if child.get(".").is_some() {
                    list.retain(|item| item_key(item) != *name);
                } else if let Some(item) = list.iter_mut().find(|item| item_key(item) == *name) {
                    remove(item, child);
                }
            }
            _ => {}
        }
    }
}

fn applied(live: Option<&Value>, object: &Value, version: u64) -> Value {
    let claims = claimed(object);
    let mut after = live.cloned().unwrap_or_else(|| json!({}));
    let entries = live.map(managed).unwrap_or_default();
    let is_ours = |entry: &Value| entry["manager"] == MANAGER && entry["operation"] == "Apply";
    if let Some(ours) = entries.iter().find(|entry| is_ours(entry)) {
        let mut left = minus(&ours["fieldsV1"], &claims);
        for other in entries.iter().filter(|entry| !is_ours(entry)) {
            left = minus(&left, &other["fieldsV1"]);
        }
        remove(&mut after, &left);
    }
    // Forced: what others hold with another value is ours now.
    let taken = changed_fields(&after, &{
        let mut merged = after.clone();
        merge(&mut merged, object);
        merged
    });
    merge(&mut after, object);
    let mut others: Vec<Value> = entries
        .iter()
        .filter(|entry| !is_ours(entry))
        .cloned()
        .map(|mut entry| {
            entry["fieldsV1"] = minus(&entry["fieldsV1"], &taken);
            entry
        })
        .filter(|entry| {
            entry["fieldsV1"]
                .as_object()
                .is_some_and(|fields| !fields.is_empty())
        })
        .collect();
    let unchanged = entries
        .iter()
        .find(|entry| is_ours(entry) && entry["fieldsV1"] == claims);
    others.push(
        unchanged
            .cloned()
            .unwrap_or_else(|| entry(MANAGER, "Apply", claims, version)),
    );
    after["metadata"]["managedFields"] = Value::Array(others);
    after
}

fn selected(selector: &Selector, object: &Value) -> bool {
    let metadata = &object["metadata"];
    (selector.namespace.is_empty() || metadata["namespace"] == selector.namespace.as_str())
        && (selector.labels.is_empty() || metadata["labels"].get(&selector.labels).is_some())
}

#[async_trait]
impl Cluster for Fake {
    async fn uid(&self) -> Result<String, ClusterError> {
        let inner = self.ask("uid", &ObjectKey::new("", "Namespace", "", "kube-system"))?;
        Ok(inner.uid.clone())
    }

    async fn version(&self) -> Result<String, ClusterError> {
        Ok("v1.36.3".to_owned())
    }

    async fn discover(&self) -> Result<Discovery, ClusterError> {
        let inner = self.ask("discover", &ObjectKey::new("", "", "", ""))?;
        Ok(Discovery::new(inner.resources.clone(), Vec::new()))
    }

    async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError> {
        let key = key_of(resource, namespace, name);
        let inner = self.ask("get", &key)?;
        Ok(inner.objects.get(&key).cloned())
    }

    async fn list(&self, resource: &Resource, namespace: &str, token: &str) -> Result<Page, ClusterError> {
        /// Small, so that tests turn pages.
        const PAGE: usize = 10;
        let inner = self.ask("list", &key_of(resource, namespace, ""))?;
        let of_kind = |key: &ObjectKey| {
            (&key.group, &key.kind) == (&resource.group, &resource.kind)
                && (namespace.is_empty() || key.namespace == namespace)
                && key.name.as_str() > token
        };
        let mut found = inner.objects.iter().filter(|(key, _)| of_kind(key));
        let page: Vec<(&ObjectKey, &Value)> = found.by_ref().take(PAGE).collect();
        let remaining = found.count();
        let last = page.last().filter(|_| remaining > 0);
        Ok(Page {
            next: last.map(|(key, _)| key.name.clone()).unwrap_or_default(),
            items: page
                .iter()
                .map(|(_, object)| json!({"metadata": object["metadata"]}))
                .collect(),
            remaining,
            version: inner.version.to_string(),
        })
    }

    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = key_of(resource, text("namespace"), text("name"));
        let mut inner = self.ask(if dry_run { "dry-run" } else { "apply" }, &key)?;
        if !inner.resources.contains(resource) {
            return Err(ClusterError::NotServed {
                kind: resource.kind.clone(),
                api_version: resource.api_version(),
            });
        }
        let namespace = ObjectKey::new("", "Namespace", "", &key.namespace);
        if resource.namespaced && !inner.objects.contains_key(&namespace) {
            return Err(ClusterError::Rejected {
                code: 404,
                reason: "NotFound".to_owned(),
                message: format!("namespaces \"{}\" not found", key.namespace),
            });
        }
        let mut after = applied(inner.objects.get(&key), object, inner.version);
        if dry_run {
            return Ok(after);
        }
        if after["metadata"]["namespace"].is_null() && resource.namespaced {
            after["metadata"]["namespace"] = key.namespace.clone().into();
        }
        Ok(self.store(&mut inner, key, after))
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ClusterError> {
        let key = key_of(resource, namespace, name);
        let mut inner = self.ask("patch", &key)?;
        let Some(mut object) = inner.objects.get(&key).cloned() else {
            return Err(ClusterError::Rejected {
                code: 404,
                reason: "NotFound".to_owned(),
                message: format!("{key} not found"),
            });
        };
        let held = object["metadata"]["resourceVersion"].clone();
        for operation in patch.as_array().into_iter().flatten() {
            let pointer = operation["path"].as_str().unwrap_or_default();
            let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
            let field = field.replace("~1", "/").replace("~0", "~");
            let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) else {
                continue;
            };
            match operation["op"].as_str() {
                Some("remove") => {
                    parent.remove(&field);
                }
                _ => {
                    parent.insert(field, operation["value"].clone());
                }
            }
        }
        if object["metadata"]["resourceVersion"] != held {
            return Err(ClusterError::Rejected {
                code: 409,
                reason: "Conflict".to_owned(),
                message: "the object has been modified".to_owned(),
            });
        }
        Ok(self.store(&mut inner, key, object))
    }

    fn watch(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
        let (resource, selector) = (resource.clone(), selector.clone());
        let mut inner = self.lock();
        *inner.requests.entry("watch".to_owned()).or_default() += 1;
        let of_kind = move |object: &Value, resource: &Resource| {
            ObjectKey::of(object).is_some_and(|key| key.group == resource.group && key.kind == resource.kind)
        };
        let changes = BroadcastStream::new(self.changes.subscribe());
        let mut first = vec![Ok(WatchEvent::Listing)];
        let listed = inner
            .objects
            .values()
            .filter(|o| of_kind(o, &resource) && selected(&selector, o));
        first.extend(listed.cloned().map(|object| Ok(WatchEvent::Present(object))));
        first.push(Ok(WatchEvent::Listed));
        let later = changes.filter_map(move |change| {
            let event = match change {
                Err(BroadcastStreamRecvError::Lagged(_)) => {
                    Some(Err(ClusterError::Unavailable("watch fell behind".to_owned())))
                }
                Ok(change) => match change.as_ref() {
                    Change::Written { after, .. }
                        if of_kind(after, &resource) && selected(&selector, after) =>
                    {
                        Some(Ok(WatchEvent::Present(after.clone())))
                    }
                    Change::Written {
                        before: Some(before),
                        after,
                    } if of_kind(after, &resource) && selected(&selector, before) => {
                        Some(Ok(WatchEvent::Gone(after.clone())))
                    }
                    Change::Deleted(object) if of_kind(object, &resource) && selected(&selector, object) => {
                        Some(Ok(WatchEvent::Gone(object.clone())))
                    }
                    _ => None,
                },
            };
            std::future::ready(event)
        });
        futures::stream::iter(first).chain(later).boxed()
    }
}
