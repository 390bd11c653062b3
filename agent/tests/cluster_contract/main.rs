//! What the reconciler relies on of a cluster, stated once and held against the cluster in memory and a real API
//! server: the first is only worth something as long as it behaves as the second.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{sync::Arc, time::Duration};

use flotilla_agent::cluster::{
    Account, Cluster, ClusterError, Deleted, Discovery, Preconditions, Propagation, Resource, Selector,
    Served, WatchEvent, fake::Fake, kube::KubeCluster,
};
use flotilla_core::{
    apply::{drift::observe, managers},
    object::ObjectKey,
};
use flotilla_testkit::{FaultProxy, shared_clusters, wait_until};
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

mod account;
mod apply;
mod real_server_alone;
mod removal;
mod watch;

use self::{account::*, apply::*, removal::*, watch::*};

const KEY: &[u8; 32] = &[7; 32];

/// A cluster, and somebody else who works in it.
struct World {
    cluster: Arc<dyn Cluster>,
    namespace: String,
    /// Sets `data.a` of a ConfigMap as another manager.
    edit: Box<dyn Fn(&'static str, &'static str, &'static str) -> BoxFuture<'static, ()>>,
    /// Deletes a ConfigMap.
    delete: Box<dyn Fn(&'static str) -> BoxFuture<'static, ()>>,
}

fn fake() -> World {
    let fake = Fake::new();
    // As in a new cluster: a ServiceAccount may see what is served, and nothing else.
    fake.set_rights(Some(Box::new(|account, verb, _| {
        *account == Account::Agent || matches!(verb, "discover" | "version")
    })));
    let (editor, deleter) = (fake.clone(), fake.clone());
    let key = |name: &str| ObjectKey::new("", "ConfigMap", "default", name);
    World {
        cluster: Arc::new(fake),
        namespace: "default".to_owned(),
        edit: Box::new(move |manager, name, value| {
            editor.edit(manager, &key(name), |live| live["data"]["a"] = value.into());
            Box::pin(std::future::ready(()))
        }),
        delete: Box::new(move |name| {
            deleter.delete(&key(name));
            Box::pin(std::future::ready(()))
        }),
    }
}

async fn real() -> World {
    flotilla_testkit::install_tls_provider();
    let plane = shared_clusters(1).await.unwrap()[0];
    let (client, namespace) = (plane.client().await.unwrap(), plane.namespace().await.unwrap());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let (editor, deleter) = (api.clone(), api);
    World {
        cluster: Arc::new(KubeCluster::connect(Some(&plane.kubeconfig())).await.unwrap()),
        namespace,
        edit: Box::new(move |manager, name, value| {
            let api = editor.clone();
            Box::pin(async move {
                let params = PatchParams {
                    field_manager: Some(manager.to_owned()),
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(json!({"data": {"a": value}}));
                api.patch(name, &params, &patch).await.unwrap();
            })
        }),
        delete: Box::new(move |name| {
            let api = deleter.clone();
            Box::pin(async move {
                api.delete(name, &DeleteParams::default()).await.unwrap();
            })
        }),
    }
}

impl World {
    async fn config_maps(&self) -> Resource {
        self.resource("v1", "ConfigMap").await
    }

    /// The kind, once it is served.
    async fn resource(&self, api_version: &str, kind: &str) -> Resource {
        let served = || async {
            let discovery = self.cluster.discover().await.unwrap();
            match discovery.find(api_version, kind) {
                Served::Yes(resource) => Some(resource.clone()),
                _ => None,
            }
        };
        eventually("the kind is served", served).await
    }

    async fn apply(&self, resource: &Resource, object: &Value) -> Value {
        self.cluster.apply(resource, object, false).await.unwrap()
    }

    async fn delete(&self, resource: &Resource, live: &Value) -> Result<Deleted, ClusterError> {
        let text = |field: &str| live["metadata"][field].as_str().unwrap_or_default().to_owned();
        let preconditions = Preconditions {
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        };
        self.cluster
            .delete(
                resource,
                &text("namespace"),
                &text("name"),
                &preconditions,
                Propagation::Background,
            )
            .await
    }

    fn object(&self, name: &str, data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"contract": "yes"}}})
    }

    async fn get(&self, resource: &Resource, name: &str) -> Option<Value> {
        self.cluster.get(resource, &self.namespace, name).await.unwrap()
    }
}

/// Waits until something is there.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    wait_until(what, Duration::from_secs(90), async || {
        Ok::<_, String>(look().await)
    })
    .await
    .unwrap()
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test] async fn $name() { super::$name(super::fake()).await; })*
        }
        mod real_server {
            $(#[tokio::test] async fn $name() { super::$name(super::real().await).await; })*
        }
    };
}

contract! {
    an_applied_object_is_found_with_uid_version_and_our_fields,
    a_missing_object_is_none_and_a_missing_kind_an_error,
    a_dry_run_answers_and_stores_nothing,
    applying_the_same_again_changes_nothing,
    a_field_no_longer_applied_is_removed,
    anothers_change_of_our_field_takes_it_and_applying_takes_it_back,
    an_apply_that_names_a_version_is_for_that_one_alone,
    an_apply_of_a_version_that_never_was_creates_and_overwrites_nothing,
    folded_fields_are_ours_and_a_stale_fold_is_a_conflict,
    a_namespace_that_is_not_there_is_refused_and_not_unserved,
    a_watch_lists_then_follows_and_leaves_out_what_is_not_selected,
    a_watch_of_metadata_has_types_and_no_bodies,
    a_list_by_label_has_bodies_and_one_of_metadata_has_none,
    creating_what_exists_is_a_conflict,
    deleting_needs_the_object_that_was_looked_at_and_waits_for_finalizers,
    a_namespace_that_terminates_refuses_new_objects_and_goes_with_its_last,
    a_deleted_definition_takes_its_objects_along_and_ends_their_watch_until_it_is_back,
    an_account_without_rights_is_refused_and_never_served_as_the_agent,
}
