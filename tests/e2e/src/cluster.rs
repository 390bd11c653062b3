//! Reading and changing objects in a cluster, straight at its API server.

use std::time::Duration;

use flotilla_testkit::{ControlPlane, RigError, wait_until};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// The objects of one namespace in one cluster.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    namespace: String,
    cluster: String,
}

impl Objects {
    /// Those of `namespace` in `plane`.
    pub async fn of(plane: &ControlPlane, namespace: &str) -> Result<Self, RigError> {
        let client = plane.client().await?;
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            cluster: plane.name().to_owned(),
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A ConfigMap as it is now.
    pub async fn config_map(&self, name: &str) -> kube::Result<Option<ConfigMap>> {
        self.config_maps().get_opt(name).await
    }

    /// A ConfigMap's value as it is now.
    pub async fn value(&self, name: &str, key: &str) -> kube::Result<Option<String>> {
        Ok(self
            .config_map(name)
            .await?
            .and_then(|found| found.data?.get(key).cloned()))
    }

    /// Waits until a ConfigMap holds `value`.
    pub async fn until(&self, name: &str, key: &str, value: &str, within: Duration) -> Result<(), RigError> {
        let state = format!(
            "{}: ConfigMap {}/{name} has {key}={value}",
            self.cluster, self.namespace
        );
        wait_until(&state, within, async || match self.value(name, key).await {
            Ok(Some(found)) if found == value => Ok(Some(())),
            Ok(found) => Err(format!("{key} is {found:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Changes a ConfigMap by hand, as a person with kubectl would.
    pub async fn edit(&self, name: &str, key: &str, value: &str) -> kube::Result<()> {
        let patch = json!({ "data": { key: value } });
        let params = PatchParams {
            field_manager: Some("kubectl-edit".to_owned()),
            ..PatchParams::default()
        };
        self.config_maps()
            .patch(name, &params, &Patch::Merge(&patch))
            .await?;
        Ok(())
    }
}
