//! Values as Secrets of the agent's namespace: the default form, which needs no volume and survives the pod.
//! A write names the resourceVersion it replaces; the server decides races.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use super::key_value::{KeyValue, KeyValueError, Limits, Version, Versioned};

/// Longest wait for one call.
const CALL: Duration = Duration::from_secs(15);
/// The key of the bytes in a Secret.
const DATA: &str = "data";

/// Secrets of one namespace.
#[derive(Clone)]
pub struct Secrets {
    api: Api<Secret>,
}

impl Secrets {
    /// Keeps values in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    async fn is_gone(&self, name: &str) -> Result<bool, KeyValueError> {
        Ok(Self::within(name, self.api.get_opt(name)).await?.is_none())
    }

    async fn within<T>(
        name: &str,
        call: impl Future<Output = Result<T, kube::Error>> + Send,
    ) -> Result<T, KeyValueError> {
        match tokio::time::timeout(CALL, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(key_value_error(name, &e)),
            Err(_) => Err(KeyValueError::Unavailable {
                name: name.to_owned(),
                why: format!("nothing within {} s", CALL.as_secs()),
            }),
        }
    }
}

fn key_value_error(name: &str, error: &kube::Error) -> KeyValueError {
    let name = name.to_owned();
    match error {
        kube::Error::Api(status) if status.code == 409 => KeyValueError::Conflict { name },
        // 429 and 5xx pass.
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            KeyValueError::Refused {
                name,
                why: refusal(status.code, &status.reason, &status.message),
            }
        }
        // A store that is full, a webhook that does not answer: the server's words are about them.
        kube::Error::Api(status) => KeyValueError::Unavailable {
            name,
            why: match status.message.contains("failed calling webhook") {
                true => format!("{} {}; {WEBHOOK}", status.code, status.message),
                false => format!("{} {}", status.code, status.message),
            },
        },
        other => KeyValueError::Unavailable {
            name,
            why: crate::cluster::kube::transport_text(other),
        },
    }
}

/// What helps where a webhook on Secrets does not answer: with it no commit that would repair it is taken either.
const WEBHOOK: &str = "as long as that webhook does not answer, nothing new is accepted here, be it what repairs it: give it \
                       a namespaceSelector that leaves out the agent's namespace, after annotating it with \
                       kustomize.toolkit.fluxcd.io/reconcile: disabled so that it is not changed back";

/// What of a refusal may be told, and what helps: a webhook may quote what is stored, which is contents of Secrets.
fn refusal(code: u16, reason: &str, message: &str) -> String {
    if message.contains(" is forbidden: User ") {
        return format!("{code} {message}; the Role of the agent's chart allows it: run helm upgrade");
    }
    if message.contains(" is forbidden: exceeded quota: ") {
        return format!(
            "{code} {message}; raise the quota, or keep the state in a volume (`state.volume.enabled`)"
        );
    }
    if message.ends_with(" because it is being terminated") {
        return format!("{code} {message}");
    }
    if let Some((webhook, _)) = message.split_once(" denied the request") {
        return format!(
            "{code} {webhook} denied the request (its words are withheld, they may quote values)"
        );
    }
    format!("{code} {reason}")
}

#[async_trait]
impl KeyValue for Secrets {
    async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
        let Some(secret) = Self::within(name, self.api.get_opt(name)).await? else {
            return Ok(None);
        };
        let bytes = secret
            .data
            .unwrap_or_default()
            .remove(DATA)
            .map(|data| data.0)
            .unwrap_or_default();
        Ok(Some(Versioned {
            bytes,
            version: Version(secret.metadata.resource_version.unwrap_or_default()),
        }))
    }

    async fn put(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: expected.map(|version| version.0.clone()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "flotilla-agent".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some("fleet.flotilla.dev/agent-state".to_owned()),
            data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(bytes.to_vec()))])),
            ..Secret::default()
        };
        let params = PostParams::default();
        let written = match expected {
            None => Self::within(name, self.api.create(&params, &secret)).await?,
            Some(_) => match Self::within(name, self.api.replace(name, &params, &secret)).await {
                // It is gone, and so not what is to be replaced.
                Err(KeyValueError::Refused { .. }) if self.is_gone(name).await? => {
                    return Err(KeyValueError::Conflict {
                        name: name.to_owned(),
                    });
                }
                written => written?,
            },
        };
        Ok(Version(written.metadata.resource_version.unwrap_or_default()))
    }

    fn limits(&self) -> Limits {
        Limits {
            segment: 512 << 10,
            total: 16 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_refuses_and_what_helps_and_quotes_nothing() {
        for (message, said) in [
            (
                "secrets \"l\" is forbidden: User \"u\" cannot update resource \"secrets\" in API group \"\" in the \
                 namespace \"n\"",
                "in the namespace \"n\"; the Role of the agent's chart allows it: run helm upgrade",
            ),
            (
                "secrets \"l\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=9, limited: secrets=9",
                "limited: secrets=9; raise the quota",
            ),
            (
                "secrets \"l\" is forbidden: unable to create new content in namespace n because it is being terminated",
                "because it is being terminated",
            ),
            (
                "admission webhook \"w.example.com\" denied the request: CANARY",
                "admission webhook \"w.example.com\" denied the request",
            ),
            ("Secret \"l\" is invalid: data: CANARY", "403 Forbidden"),
        ] {
            let why = refusal(403, "Forbidden", message);
            assert!(why.starts_with("403 ") && why.contains(said), "{why}");
            assert!(!why.contains("CANARY"), "{why}");
        }
    }
}
