//! Reading and changing objects in a cluster, straight at its API server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use flotilla_testkit::{ControlPlane, RigError, wait_until};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;

/// A watch: what its API server says as it happens, without asking it again and again.
pub struct Seen {
    events: BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>,
    cluster: String,
}

impl Seen {
    /// Returns when a ConfigMap was told of that is as `wanted` says; it must be so within `within`.
    pub async fn until(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(&ConfigMap) -> bool,
    ) -> anyhow::Result<Instant> {
        let look = async {
            while let Some(event) = self.events.try_next().await? {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) if wanted(&object) => {
                        return Ok(Instant::now());
                    }
                    WatchEvent::Error(error) => bail!("{}: the watch ended: {}", self.cluster, error.message),
                    _ => {}
                }
            }
            bail!("{}: the watch ended", self.cluster)
        };
        tokio::time::timeout(within, look)
            .await
            .with_context(|| format!("{}: not seen within {within:?}", self.cluster))?
    }
}

/// Tells whether a ConfigMap holds `value` at `key`.
pub fn holds(object: &ConfigMap, key: &str, value: &str) -> bool {
    object
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .is_some_and(|found| found == value)
}

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

    /// Watches a ConfigMap, first what is there.
    pub async fn watch(&self, name: &str) -> kube::Result<Seen> {
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let events = self.config_maps().watch(&params, "0").await?;
        Ok(Seen {
            events: events.boxed(),
            cluster: self.cluster.clone(),
        })
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
