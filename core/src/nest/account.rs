//! What an app that acts as a ServiceAccount may have kept. The hub would reconcile it with rights of its own, so it is held to
//! what that account has by its name alone: its namespace, its own rights, nothing of others. Pure.

use std::{collections::BTreeSet, str::FromStr};

use serde_json::Value;

use crate::object::ObjectKey;

/// Groups whose apps act as the account that they name.
const ACTING: [&str; 2] = ["kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"];
/// Clouds whose sources are read with the identity of whoever reads them.
const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
/// Where objects of Flux name others that they read.
const READ: [&str; 5] = [
    "/spec/sourceRef",
    "/spec/chartRef",
    "/spec/chart/spec/sourceRef",
    "/spec/imageRepositoryRef",
    "/spec/chartTemplate/spec/sourceRef",
];
/// Where they name several.
const READ_EACH: [&str; 2] = ["/spec/eventSources", "/spec/resources"];

/// The account that an app acts as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its namespace, which is the app's.
    pub namespace: String,
}

impl FromStr for Account {
    type Err = String;

    /// As `namespace/name`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                })
            }
            _ => Err(format!("{text:?} is not namespace/name of a ServiceAccount")),
        }
    }
}

/// How far the apps that render objects are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Accounts of those who have all rights in their clusters: apps that act as one are as those without.
    pub accounts: BTreeSet<Account>,
    /// What is kept reads nothing of other namespaces, for whomever.
    pub only_own_namespace: bool,
}

impl Trust {
    /// What an app is held to that acts as an account; `name` is '' for none.
    pub fn confines(&self, namespace: &str, name: &str) -> Option<Account> {
        let account = Account {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        };
        (!name.is_empty() && !self.accounts.contains(&account)).then_some(account)
    }

    /// Has an object be kept as its app may have it, or says why it is not.
    pub fn admit(
        &self,
        account: Option<&Account>,
        key: &ObjectKey,
        object: &mut Value,
    ) -> Result<(), String> {
        if let Some(account) = account {
            account.admit(key, object)?;
        }
        match elsewhere(&key.namespace, object).filter(|_| self.only_own_namespace) {
            Some(field) => Err(format!(
                "{field}: nothing of other namespaces is read on this hub"
            )),
            None => Ok(()),
        }
    }
}

/// The field by which an object reads something of another namespace than this.
fn elsewhere(namespace: &str, object: &Value) -> Option<String> {
    let one = READ
        .iter()
        .filter_map(|path| Some((*path, object.pointer(path)?)));
    let each = READ_EACH.iter().flat_map(|path| {
        let each = object.pointer(path).and_then(Value::as_array);
        each.into_iter().flatten().map(|one| (*path, one))
    });
    let is_elsewhere = |read: &Value| match &read["namespace"] {
        Value::Null => false,
        Value::String(text) => !text.is_empty() && text != namespace,
        _ => true,
    };
    let (path, _) = one.chain(each).find(|(_, read)| is_elsewhere(read))?;
    Some(path.trim_start_matches('/').replace('/', "."))
}

impl Account {
    /// Has an object that its app renders act as this account, or says why it is not kept.
    pub fn admit(&self, key: &ObjectKey, object: &mut Value) -> Result<(), String> {
        let Self { name, namespace } = self;
        if key.namespace != *namespace {
            return Err(format!(
                "what acts as ServiceAccount {namespace}/{name} has objects kept in namespace {namespace} alone"
            ));
        }
        self.refuse_others(object)?;
        if ACTING.contains(&key.group.as_str()) {
            self.act(object)?;
        }
        Ok(())
    }

    fn refuse_others(&self, object: &Value) -> Result<(), String> {
        let Self { name, namespace } = self;
        let spec = &object["spec"];
        let is_set = |value: &Value| !value.is_null();
        if is_set(&spec["kubeConfig"]) {
            return Err(format!(
                "spec.kubeConfig: ServiceAccount {namespace}/{name} is one of this cluster"
            ));
        }
        if spec["provider"].as_str().is_some_and(|one| CLOUDS.contains(&one)) {
            return Err(format!(
                "spec.provider: the hub's own identity is not lent to ServiceAccount {namespace}/{name}"
            ));
        }
        match elsewhere(namespace, object) {
            Some(field) => Err(format!(
                "{field}: what ServiceAccount {namespace}/{name} keeps reads nothing of other namespaces"
            )),
            None => Ok(()),
        }
    }

    /// What would have the rights of the agent has those of its parent.
    fn act(&self, object: &mut Value) -> Result<(), String> {
        let Self { name, namespace } = self;
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return Err("spec: is required".to_owned());
        };
        match spec.get("serviceAccountName") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() || text == name => {}
            Some(_) => {
                return Err(format!(
                    "spec.serviceAccountName: what ServiceAccount {namespace}/{name} keeps acts as {name}"
                ));
            }
        }
        spec.insert("serviceAccountName".to_owned(), Value::from(name.as_str()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn admit(mut object: Value) -> Result<Value, String> {
        let account = Account {
            name: "tenant".into(),
            namespace: "tenant-a".into(),
        };
        let key = ObjectKey::of(&object).expect("a key");
        account.admit(&key, &mut object).map(|()| object)
    }

    fn app(namespace: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": "x", "namespace": namespace }, "spec": spec
        })
    }

    #[test]
    fn an_app_of_a_tenant_acts_as_the_tenant_whether_it_says_so_or_not() {
        for spec in [
            json!({}),
            json!({ "serviceAccountName": null }),
            json!({ "serviceAccountName": "" }),
            json!({ "serviceAccountName": "tenant", "sourceRef": { "name": "a", "namespace": "tenant-a" } }),
        ] {
            let admitted = admit(app("tenant-a", spec)).expect("admitted");
            assert_eq!(admitted["spec"]["serviceAccountName"], "tenant");
        }
    }

    #[test]
    fn nothing_that_has_other_rights_than_the_tenant_is_kept() {
        let refused = [
            (app("flux-system", json!({})), "in namespace tenant-a alone"),
            (app("", json!({})), "in namespace tenant-a alone"),
            (
                app("tenant-a", json!({ "serviceAccountName": "admin" })),
                "spec.serviceAccountName: ",
            ),
            (
                app("tenant-a", json!({ "serviceAccountName": 1 })),
                "spec.serviceAccountName: ",
            ),
            (app("tenant-a", json!(null)), "spec: is required"),
            (
                app("tenant-a", json!({ "sourceRef": { "namespace": "tenant-b" } })),
                "spec.sourceRef: ",
            ),
            (
                app(
                    "tenant-a",
                    json!({ "kubeConfig": { "secretRef": { "name": "x" } } }),
                ),
                "spec.kubeConfig: ",
            ),
        ];
        for (object, why) in refused {
            let said = admit(object.clone()).expect_err("refused");
            assert!(said.contains(why), "{object}: {said}");
        }
    }

    #[test]
    fn an_account_of_the_platform_is_trusted_as_none_is_and_a_hub_may_refuse_what_reads_elsewhere() {
        let trust = Trust {
            accounts: BTreeSet::from(["flux-system/kustomize-controller".parse().expect("an account")]),
            only_own_namespace: true,
        };
        assert_eq!(trust.confines("flux-system", ""), None);
        assert_eq!(trust.confines("flux-system", "kustomize-controller"), None);
        assert!(trust.confines("tenant-a", "kustomize-controller").is_some());
        let admit = |mut object: Value| {
            let key = ObjectKey::of(&object).expect("a key");
            trust.admit(None, &key, &mut object)
        };
        assert_eq!(
            admit(app("tenant-a", json!({ "sourceRef": { "name": "a" } }))),
            Ok(())
        );
        assert!(admit(app("tenant-a", json!({ "sourceRef": { "namespace": "b" } }))).is_err());
        for wrong in ["", "a", "/a", "a/", "a/b/c"] {
            assert!(wrong.parse::<Account>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_app_is_held_to_the_namespace_and_lends_nothing_of_the_hub() {
        let of = |group: &str, kind: &str, spec: Value| {
            json!({
                "apiVersion": format!("{group}/v1"), "kind": kind,
                "metadata": { "name": "x", "namespace": "tenant-a" }, "spec": spec
            })
        };
        let source = |spec| of("source.toolkit.fluxcd.io", "GitRepository", spec);
        assert!(admit(source(json!({ "url": "https://a", "provider": "generic" }))).is_ok());
        let plain = source(json!({ "url": "https://a" }));
        assert_eq!(admit(plain.clone()), Ok(plain));
        for object in [
            source(json!({ "provider": "azure" })),
            of(
                "helm.toolkit.fluxcd.io",
                "HelmRelease",
                json!({ "chart": { "spec": { "sourceRef": { "namespace": "b" } } } }),
            ),
            of(
                "notification.toolkit.fluxcd.io",
                "Alert",
                json!({ "eventSources": [{ "name": "*" }, { "name": "*", "namespace": "b" }] }),
            ),
        ] {
            assert!(admit(object.clone()).is_err(), "{object}");
        }
        let secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "x", "namespace": "b" } });
        assert!(admit(secret).is_err());
    }
}
