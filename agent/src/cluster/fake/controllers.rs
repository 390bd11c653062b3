//! The controllers of Jobs and Deployments, as far as a test asks for them.

use std::time::Duration;

use flotilla_core::object::ObjectKey;
use serde_json::{Value, json};

use super::{Fake, Inner};

impl Fake {
    /// From now on each new Job completes at once, and is deleted `ttlSecondsAfterFinished` later where it says
    /// so.
    pub fn run_jobs(&self) {
        self.lock().jobs = true;
    }

    /// From now on each generation of a Deployment becomes ready at once.
    pub fn run_deployments(&self) {
        self.lock().deployments = true;
    }

    /// Sets the status of a Deployment of its present generation: all of its replicas are ready, or none.
    pub fn set_ready(&self, key: &ObjectKey, ready: bool) {
        let Some(object) = self.object(key) else { return };
        let replicas = object["spec"]["replicas"].as_u64().unwrap_or(1);
        let available = if ready { replicas } else { 0 };
        let (status, reason) = match ready {
            true => ("True", "MinimumReplicasAvailable"),
            false => ("False", "MinimumReplicasUnavailable"),
        };
        self.set_status(
            key,
            json!({
                "observedGeneration": object["metadata"]["generation"], "replicas": replicas,
                "updatedReplicas": replicas, "readyReplicas": available, "availableReplicas": available,
                "unavailableReplicas": replicas - available,
                "conditions": [
                    {"type": "Available", "status": status, "reason": reason},
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
                ],
            }),
        );
    }

    /// Lets the controllers that run see a write. They act later, as tasks of their own.
    pub(super) fn control(&self, inner: &Inner, key: &ObjectKey, before: Option<&Value>, after: &Value) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (fake, key) = (self.clone(), key.clone());
        let is_new = before.is_none_or(|before| before["metadata"]["uid"] != after["metadata"]["uid"]);
        let changed =
            before.is_none_or(|before| before["metadata"]["generation"] != after["metadata"]["generation"]);
        match (key.group.as_str(), key.kind.as_str()) {
            ("batch", "Job") if inner.jobs && is_new => {
                let uid = after["metadata"]["uid"].clone();
                let ttl = after["spec"]["ttlSecondsAfterFinished"].as_u64();
                runtime.spawn(async move { fake.run_job(key, uid, ttl).await });
            }
            ("apps", "Deployment") if inner.deployments && changed => {
                runtime.spawn(async move { fake.set_ready(&key, true) });
            }
            _ => {}
        }
    }

    async fn run_job(&self, key: ObjectKey, uid: Value, ttl: Option<u64>) {
        let is_the_same = |fake: &Self| {
            fake.object(&key)
                .is_some_and(|object| object["metadata"]["uid"] == uid)
        };
        if !is_the_same(self) {
            return;
        }
        self.set_status(
            &key,
            json!({"succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z",
                "conditions": [{"type": "Complete", "status": "True"}]}),
        );
        if let Some(ttl) = ttl {
            tokio::time::sleep(Duration::from_secs(ttl)).await;
            if is_the_same(self) {
                self.delete(&key);
            }
        }
    }
}
