//! What the cluster in memory answers.

use std::sync::Arc;

use async_trait::async_trait;
use flotilla_core::{apply::MANAGER, object::ObjectKey};
use futures::stream::BoxStream;
use serde_json::Value;

use super::{
    Call, Fake, Inner,
    fields::{applied, owned},
    lifecycle::namespace_of,
    watch,
};
use crate::cluster::{
    Account, Cluster, ClusterError, Deleted, Discovery, Page, Preconditions, Propagation, Resource, Selector,
    WatchEvent,
};

impl Fake {
    /// Counts a request, takes its time, and judges whether it is answered at all.
    pub(super) async fn ask(&self, verb: &'static str, key: &ObjectKey) -> Result<(), ClusterError> {
        let latency = {
            let mut inner = self.lock();
            let call = Call {
                account: self.account.clone(),
                verb,
                kind: key.kind.clone(),
            };
            *inner.calls.entry(call).or_default() += 1;
            inner.latency.as_ref().map(|latency| latency(verb, key))
        };
        if let Some(latency) = latency.filter(|latency| !latency.is_zero()) {
            tokio::time::sleep(latency).await;
        }
        let inner = self.lock();
        if let Some(error) = inner.fault.as_ref().and_then(|fault| fault(verb, key)) {
            return Err(error);
        }
        let Some(rights) = &inner.rights else {
            return Ok(());
        };
        if let Account::ServiceAccount { namespace, name } = &self.account {
            let account = ObjectKey::new("", "ServiceAccount", namespace, name);
            if !rights(&Account::Agent, "impersonate", &account) {
                return Err(inner.forbids(&Account::Agent, "impersonate", &account));
            }
        }
        match rights(&self.account, verb, key) {
            true => Ok(()),
            false => Err(inner.forbids(&self.account, verb, key)),
        }
    }
}

impl Inner {
    /// Refuses as RBAC does, in its words.
    fn forbids(&self, account: &Account, verb: &str, key: &ObjectKey) -> ClusterError {
        let verb = match verb {
            "apply" | "dry-run" => "patch",
            verb => verb,
        };
        let of_kind = |resource: &&Resource| (&resource.group, &resource.kind) == (&key.group, &key.kind);
        let plural = self
            .resources
            .iter()
            .find(of_kind)
            .map_or("", |found| &found.plural);
        let place = match key.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let user = account.user();
        let user = user
            .as_deref()
            .unwrap_or("system:serviceaccount:flotilla-system:flotilla-agent");
        let (group, name) = (&key.group, &key.name);
        let message = format!(
            "{plural} \"{name}\" is forbidden: User \"{user}\" cannot {verb} resource \"{plural}\" in API group \"{group}\" {place}"
        );
        rejected(403, "Forbidden", message)
    }

    /// A field that cannot be changed once its object exists.
    fn refuses_change(&self, key: &ObjectKey, after: &Value) -> Result<(), ClusterError> {
        let Some(live) = self.objects.get(key) else {
            return Ok(());
        };
        let mut frozen = self.frozen.iter().filter(|(kind, _)| *kind == key.kind);
        match frozen.find(|(_, pointer)| live.pointer(pointer) != after.pointer(pointer)) {
            None => Ok(()),
            Some((kind, pointer)) => {
                let field = pointer.trim_start_matches('/').replace('/', ".");
                let name = &key.name;
                Err(rejected(
                    422,
                    "Invalid",
                    format!("{kind} \"{name}\" is invalid: {field}: Invalid value: 1: field is immutable"),
                ))
            }
        }
    }
}

fn rejected(code: u16, reason: &str, message: String) -> ClusterError {
    ClusterError::Rejected {
        code,
        reason: reason.to_owned(),
        message,
    }
}

fn key_of(resource: &Resource, namespace: &str, name: &str) -> ObjectKey {
    let namespace = if resource.namespaced { namespace } else { "" };
    ObjectKey::new(&resource.group, &resource.kind, namespace, name)
}

impl Inner {
    fn serves(&self, resource: &Resource) -> Result<(), ClusterError> {
        if self.resources.contains(resource) {
            return Ok(());
        }
        Err(ClusterError::NotServed {
            kind: resource.kind.clone(),
            api_version: resource.api_version(),
        })
    }

    /// A namespace takes a new object if it is there and not about to go.
    fn admits(&self, resource: &Resource, key: &ObjectKey) -> Result<(), ClusterError> {
        if !resource.namespaced || self.objects.contains_key(key) {
            return Ok(());
        }
        let namespace = &key.namespace;
        match self.objects.get(&namespace_of(key)) {
            None => Err(rejected(
                404,
                "NotFound",
                format!("namespaces \"{namespace}\" not found"),
            )),
            Some(object) if !object["metadata"]["deletionTimestamp"].is_null() => Err(rejected(
                403,
                "Forbidden",
                format!(
                    "{} \"{}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
                    resource.plural, key.name
                ),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// A write may name the object and the version that it is for. Of what is not there it creates any version.
fn expected(live: Option<&Value>, object: &Value, key: &ObjectKey) -> Result<(), ClusterError> {
    let named = |field: &str| Some(&object["metadata"][field]).filter(|named| !named.is_null());
    let is_it = |field: &str| {
        named(field).is_none_or(|named| live.is_some_and(|live| live["metadata"][field] == *named))
    };
    match is_it("uid") && (live.is_none() || is_it("resourceVersion")) {
        true => Ok(()),
        false => Err(rejected(
            409,
            "Conflict",
            format!("{key}: the object has been modified"),
        )),
    }
}

#[async_trait]
impl Cluster for Fake {
    fn acting_as(&self, account: &Account) -> Arc<dyn Cluster> {
        Arc::new(Self {
            account: account.clone(),
            ..self.clone()
        })
    }

    async fn uid(&self) -> Result<String, ClusterError> {
        self.ask("uid", &ObjectKey::new("", "Namespace", "", "kube-system"))
            .await?;
        Ok(self.lock().uid.clone())
    }

    async fn version(&self) -> Result<String, ClusterError> {
        self.ask("version", &ObjectKey::new("", "", "", "")).await?;
        Ok("v1.36.3".to_owned())
    }

    async fn discover(&self) -> Result<Discovery, ClusterError> {
        self.ask("discover", &ObjectKey::new("", "", "", "")).await?;
        let inner = self.lock();
        let known = inner.resources.iter();
        let known = known.filter(|resource| !inner.undiscovered.contains(&resource.group));
        Ok(Discovery::new(
            known.cloned().collect(),
            inner.undiscovered.iter().cloned(),
        ))
    }

    async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError> {
        let key = key_of(resource, namespace, name);
        self.ask("get", &key).await?;
        let inner = self.lock();
        inner.serves(resource)?;
        let object = inner.objects.get(&key);
        Ok(object.map(|object| watch::converted(resource, object)))
    }

    async fn list_selected(
        &self,
        resource: &Resource,
        selector: &Selector,
        token: &str,
    ) -> Result<Page, ClusterError> {
        /// Small, so that tests turn pages; those of metadata that verify many objects are as large as real ones.
        const PAGE: usize = 10;
        const LEAN_PAGE: usize = 500;
        let most = match selector.without_managed_fields {
            true => LEAN_PAGE,
            false => PAGE,
        };
        self.ask("list", &key_of(resource, &selector.namespace, ""))
            .await?;
        let inner = self.lock();
        inner.serves(resource)?;
        // What a token names is the last object of the page before.
        let place = |key: &ObjectKey| format!("{}/{}", key.namespace, key.name);
        let objects = inner.objects.iter();
        let mut found = objects
            .filter(|(_, object)| watch::is_selected(resource, selector, object))
            .filter(|(key, _)| token.is_empty() || place(key).as_str() > token);
        let page: Vec<(&ObjectKey, &Value)> = found.by_ref().take(most).collect();
        let remaining = found.count();
        let last = page.last().filter(|_| remaining > 0);
        Ok(Page {
            next: last.map(|(key, _)| place(key)).unwrap_or_default(),
            items: page
                .iter()
                .map(|(_, object)| watch::shown(resource, selector, object))
                .collect(),
            remaining,
            version: inner.version.to_string(),
        })
    }

    async fn create(&self, resource: &Resource, object: &Value) -> Result<Value, ClusterError> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = key_of(resource, text("namespace"), text("name"));
        self.ask("create", &key).await?;
        let mut inner = self.lock();
        inner.serves(resource)?;
        inner.admits(resource, &key)?;
        if inner.objects.contains_key(&key) {
            let message = format!("{} \"{}\" already exists", resource.plural, key.name);
            return Err(rejected(409, "AlreadyExists", message));
        }
        Ok(self.store(&mut inner, key, owned(None, MANAGER, object.clone(), 0)))
    }

    async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        _propagation: Propagation,
    ) -> Result<Deleted, ClusterError> {
        let key = key_of(resource, namespace, name);
        self.ask("delete", &key).await?;
        let mut inner = self.lock();
        inner.serves(resource)?;
        let Some(object) = inner.objects.get(&key) else {
            return Ok(Deleted::Gone);
        };
        let metadata = &object["metadata"];
        if metadata["uid"] != preconditions.uid.as_str()
            || metadata["resourceVersion"] != preconditions.resource_version.as_str()
        {
            let message = format!("{key}: the precondition does not match the object");
            return Err(rejected(409, "Conflict", message));
        }
        self.terminate(&mut inner, &key);
        Ok(match inner.objects.get(&key) {
            None => Deleted::Gone,
            Some(object) => Deleted::Waits(Box::new(object.clone())),
        })
    }

    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = key_of(resource, text("namespace"), text("name"));
        self.ask(if dry_run { "dry-run" } else { "apply" }, &key).await?;
        let mut inner = self.lock();
        inner.serves(resource)?;
        inner.admits(resource, &key)?;
        expected(inner.objects.get(&key), object, &key)?;
        let mut after = applied(inner.objects.get(&key), object, inner.version);
        inner.refuses_change(&key, &after)?;
        if dry_run {
            return Ok(after);
        }
        if after["metadata"]["namespace"].is_null() && resource.namespaced {
            after["metadata"]["namespace"] = key.namespace.clone().into();
        }
        let stored = self.store(&mut inner, key, after);
        if inner.unanswered > 0 {
            inner.unanswered -= 1;
            return Err(ClusterError::Unavailable("connection reset".to_owned()));
        }
        Ok(stored)
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ClusterError> {
        let key = key_of(resource, namespace, name);
        self.ask("patch", &key).await?;
        let mut inner = self.lock();
        inner.serves(resource)?;
        let Some(mut object) = inner.objects.get(&key).cloned() else {
            return Err(rejected(404, "NotFound", format!("{key} not found")));
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
            return Err(rejected(
                409,
                "Conflict",
                "the object has been modified".to_owned(),
            ));
        }
        Ok(self.store(&mut inner, key, object))
    }

    fn watch(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
        watch::stream(self.clone(), resource.clone(), selector.clone())
    }
}
