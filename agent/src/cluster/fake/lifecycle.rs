//! How objects end: finalizers, namespaces with what is in them, definitions with their kinds.

use flotilla_core::object::ObjectKey;
use serde_json::{Value, json};

use super::{Change, Fake, Inner};
use crate::cluster::Resource;

/// When deletions happen here; the time itself says nothing.
const DELETED_AT: &str = "2026-01-01T00:00:00Z";

impl Fake {
    /// Deletes an object, as somebody in the cluster does. What has finalizers stays until they are removed; a
    /// namespace ends with the last of its objects, and takes no new ones meanwhile; with a definition its kind
    /// and all objects of it go.
    pub fn delete(&self, key: &ObjectKey) {
        self.terminate(&mut self.lock(), key);
    }

    /// Sets what must be done before an object can go: what is deleted already goes when nothing is left.
    pub fn set_finalizers(&self, key: &ObjectKey, finalizers: &[&str]) {
        let mut inner = self.lock();
        if let Some(mut object) = inner.objects.get(key).cloned() {
            object["metadata"]["finalizers"] = json!(finalizers);
            self.store(&mut inner, key.clone(), object);
        }
    }

    /// Serves a group's kind no more, as when its aggregated API server is uninstalled. Its objects are gone.
    pub fn unserve(&self, group: &str, kind: &str) {
        let mut inner = self.lock();
        let gone: Vec<ObjectKey> = of_kind(&inner, group, kind);
        for key in gone {
            self.remove(&mut inner, &key);
        }
        inner
            .resources
            .retain(|resource| (resource.group.as_str(), resource.kind.as_str()) != (group, kind));
        self.tell(Change::Unserved(group.to_owned(), kind.to_owned()));
    }

    /// Serves a kind no more in this version, but in others. Its objects stay.
    pub fn drop_version(&self, api_version: &str, kind: &str) {
        let mut inner = self.lock();
        let is_it = |resource: &Resource| resource.api_version() == api_version && resource.kind == kind;
        for resource in inner.resources.extract_if(.., |resource| is_it(resource)) {
            self.tell(Change::Dropped(resource));
        }
    }

    /// Whether CustomResourceDefinitions become served when they are written.
    pub fn establish(&self, establish: bool) {
        self.lock().establish = establish;
    }

    /// Begins a deletion, and ends it where nothing holds it up.
    pub(super) fn terminate(&self, inner: &mut Inner, key: &ObjectKey) {
        let Some(mut object) = inner.objects.get(key).cloned() else {
            return;
        };
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = DELETED_AT.into();
            if is_namespace(key) {
                object["status"] = json!({"phase": "Terminating"});
            }
            // What nothing holds up goes without having been seen as going.
            if has_finalizers(&object) || is_namespace(key) {
                inner.version += 1;
                object["metadata"]["resourceVersion"] = inner.version.to_string().into();
                let before = inner.objects.insert(key.clone(), object.clone());
                self.tell(Change::Written {
                    before,
                    after: object.clone(),
                });
            }
        }
        if is_namespace(key) {
            let contents: Vec<ObjectKey> = in_namespace(inner, &key.name);
            for content in contents {
                self.terminate(inner, &content);
            }
            // Its last object has taken it along, or an object with finalizers holds it up.
            if inner.objects.contains_key(key) && in_namespace(inner, &key.name).is_empty() {
                self.remove(inner, key);
            }
        } else if !has_finalizers(&object) {
            self.remove(inner, key);
        }
    }

    /// Ends an object, with what ends with it.
    pub(super) fn remove(&self, inner: &mut Inner, key: &ObjectKey) {
        if is_namespace(key) && !in_namespace(inner, &key.name).is_empty() {
            return;
        }
        let Some(mut object) = inner.objects.remove(key) else {
            return;
        };
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        let (group, kind) = defines(&object);
        self.tell(Change::Deleted(object));
        if key.kind == "CustomResourceDefinition" {
            for instance in of_kind(inner, &group, &kind) {
                self.remove(inner, &instance);
            }
            inner
                .resources
                .retain(|resource| (&resource.group, &resource.kind) != (&group, &kind));
            self.tell(Change::Unserved(group, kind));
        }
        let namespace = namespace_of(key);
        let ends = inner
            .objects
            .get(&namespace)
            .is_some_and(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null());
        if ends && in_namespace(inner, &key.namespace).is_empty() {
            self.remove(inner, &namespace);
        }
    }
}

/// The object's deletion has begun and nothing holds it up.
pub(super) fn is_over(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(object)
}

/// The key of the namespace that an object is in.
pub(super) fn namespace_of(key: &ObjectKey) -> ObjectKey {
    ObjectKey::new("", "Namespace", "", &key.namespace)
}

/// Makes a definition's kinds served.
pub(super) fn establish(inner: &mut Inner, definition: &mut Value) {
    definition["status"] = json!({"conditions": [
        {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"},
    ]});
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = defines(definition);
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        let resource = Resource {
            group: group.clone(),
            version: text(&version["name"]),
            kind: kind.clone(),
            plural: text(&definition["spec"]["names"]["plural"]),
            namespaced: definition["spec"]["scope"] == "Namespaced",
            watchable: true,
        };
        if !inner.resources.contains(&resource) {
            inner.resources.push(resource);
        }
    }
}

fn defines(definition: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &definition["spec"];
    (text(&spec["group"]), text(&spec["names"]["kind"]))
}

fn is_namespace(key: &ObjectKey) -> bool {
    key.group.is_empty() && key.kind == "Namespace"
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty())
}

fn in_namespace(inner: &Inner, namespace: &str) -> Vec<ObjectKey> {
    let keys = inner.objects.keys();
    keys.filter(|key| !namespace.is_empty() && key.namespace == namespace)
        .cloned()
        .collect()
}

fn of_kind(inner: &Inner, group: &str, kind: &str) -> Vec<ObjectKey> {
    let keys = inner.objects.keys();
    keys.filter(|key| (key.group.as_str(), key.kind.as_str()) == (group, kind))
        .cloned()
        .collect()
}
