//! An API server that refuses something of one app, in words of its own: what a validating webhook does, without one.

use e2e::agent::apply;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::ConfigMap,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::app::App;

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Writes,
    Deletes,
}

impl App {
    /// From here on the API server refuses this to one ConfigMap of the app, in these words.
    pub(crate) async fn deny(&self, denied: Denied, name: &str, words: &str) {
        let (operations, object) = match denied {
            Denied::Writes => (&["CREATE", "UPDATE"][..], "object"),
            Denied::Deletes => (&["DELETE"][..], "oldObject"),
        };
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": self.name },
            "spec": { "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": operations, "resources": ["configmaps"] }] },
                "validations": [{ "expression": format!("{object}.metadata.name != '{name}'"), "message": words }] },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": self.name },
            "spec": { "policyName": self.name, "validationActions": ["Deny"], "matchResources": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": self.name } } } },
        });
        let client = self.place.plane.client().await.unwrap();
        apply(self.place.plane, &policy).await.unwrap();
        apply(self.place.plane, &binding).await.unwrap();
        // The API server takes it up a while later.
        let maps: Api<ConfigMap> = Api::namespaced(client, &self.name);
        self.until("it is denied", async || {
            let answer = match denied {
                Denied::Writes => {
                    let probe =
                        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
                    let params = PatchParams::apply("probe").dry_run();
                    maps.patch(name, &params, &Patch::Apply(&probe)).await.map(drop)
                }
                Denied::Deletes => maps
                    .delete(name, &DeleteParams::default().dry_run())
                    .await
                    .map(drop),
            };
            Ok(answer.is_err_and(|error| error.to_string().contains(words)))
        })
        .await;
    }

    /// It refuses nothing of the app any more.
    pub(crate) async fn deny_no_more(&self) {
        let client = self.place.plane.client().await.unwrap();
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        bindings
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
        policies
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
    }
}
