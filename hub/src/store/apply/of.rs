//! What is stored of an object as it was read.

use flotilla_api::{Resource, kinds::config::ConfigMapData, support};
use flotilla_core::digest::{Digest, canonical_json};
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{NewResource, Payload};

impl NewResource {
    /// An object as it was read, in this scope. `key`: of the digests of Secrets.
    pub fn of(key: &[u8; 32], scope: Uuid, resource: &Resource) -> Self {
        let payload = match (resource.secret(), resource.spec::<ConfigMapData>()) {
            (Some(secret), _) => {
                let bytes = Zeroizing::new(secret.expose_json().as_bytes().to_vec());
                let digest = Digest::keyed(key, "payload", &bytes);
                Some(Payload {
                    digest: *digest.as_bytes(),
                    bytes,
                })
            }
            (None, Ok(config)) => {
                let bytes = Zeroizing::new(canonical_json(&config.data).into_bytes());
                Some(Payload {
                    digest: *Digest::of("payload", &bytes).as_bytes(),
                    bytes,
                })
            }
            (None, Err(_)) => None,
        };
        Self {
            scope,
            group: resource.id.group().to_owned(),
            kind: resource.id.kind.name().to_owned(),
            namespace: resource.id.namespace.clone(),
            name: resource.id.name.clone(),
            api_version: resource.id.kind.api_version().to_owned(),
            labels: json!(resource.labels),
            annotations: annotations(resource),
            // A Secret's keys are shown, its values never.
            spec: resource.value().cloned().unwrap_or_else(|| {
                let keys: Vec<&String> = resource
                    .secret()
                    .map(|secret| secret.data.keys().collect())
                    .unwrap_or_default();
                Value::from_iter([("keys", json!(keys))])
            }),
            payload,
            not_supported: support::unsupported(resource)
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

/// Annotations without kubectl's record of the whole object: of a Secret it holds the values.
fn annotations(resource: &Resource) -> Value {
    let mut kept = resource.annotations.clone();
    kept.remove("kubectl.kubernetes.io/last-applied-configuration");
    json!(kept)
}
