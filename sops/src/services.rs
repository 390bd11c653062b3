//! Services that have keys and give none away: AWS KMS, Google Cloud KMS, Azure Key Vault, and the transit engine of
//! HashiCorp Vault and OpenBao. Each is asked by its HTTP API to decrypt a data key, with credentials from a file of the
//! Secret that Flux names. Requests are made and answers read here; who sends them is the [`Transport`].
//!
//! What was opened is kept in memory, so that a document is asked for once, and not whenever it is evaluated.

mod assertion;
mod aws;
mod azure;
mod form;
mod gcp;
mod signature;
mod token;
mod transport;
mod vault;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flotilla_core::digest::Digest;
use flotilla_yaml::{Limits, read};
use serde_json::Value;
pub use transport::{Answering, AskError, Request, Response, Transport};

use crate::{
    keys::{Asking, DataKey, KeyService, Refusal},
    limits,
    stanza::{KeyKind, MasterKey},
};

/// Credentials of one service, and what it has opened.
pub(crate) struct Service {
    provider: Provider,
    opened: Mutex<HashMap<Digest, DataKey>>,
}

enum Provider {
    Aws(aws::Access),
    Azure(azure::Access),
    Gcp(gcp::Access),
    Vault(vault::Access),
}

/// The file of a Secret that has the credentials for a key; `None`: its identity is the key.
pub(crate) fn file_of(kind: &KeyKind) -> Option<&'static str> {
    match kind {
        KeyKind::AwsKms { .. } => Some(aws::FILE),
        KeyKind::AzureKeyVault { .. } => Some(azure::FILE),
        KeyKind::GcpKms { .. } => Some(gcp::FILE),
        KeyKind::Vault { .. } => Some(vault::FILE),
        KeyKind::Age { .. } | KeyKind::Pgp { .. } | KeyKind::HuaweiKms { .. } => None,
    }
}

impl Service {
    /// Reads a file of credentials; `None`: it is no such file. The error says what is wrong, and quotes nothing.
    pub(crate) fn of(file: &str, content: &[u8]) -> Option<Result<(Self, &'static str), String>> {
        let (provider, file) = match file {
            aws::FILE => (aws::Access::of(content).map(Provider::Aws), aws::FILE),
            azure::FILE => (azure::Access::of(content).map(Provider::Azure), azure::FILE),
            gcp::FILE => (gcp::Access::of(content).map(Provider::Gcp), gcp::FILE),
            vault::FILE => (vault::Access::of(content).map(Provider::Vault), vault::FILE),
            _ => return None,
        };
        let service = |provider| Self {
            provider,
            opened: Mutex::default(),
        };
        Some(provider.map(|provider| (service(provider), file)))
    }

    fn is_of(&self, kind: &KeyKind) -> bool {
        matches!(
            (&self.provider, kind),
            (Provider::Aws(_), KeyKind::AwsKms { .. })
                | (Provider::Azure(_), KeyKind::AzureKeyVault { .. })
                | (Provider::Gcp(_), KeyKind::GcpKms { .. })
                | (Provider::Vault(_), KeyKind::Vault { .. })
        )
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<Digest, DataKey>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn asked(&self, key: &MasterKey, transport: &dyn Transport) -> Result<(), AskError> {
        let encrypted = key.encrypted.trim();
        let opened = match (&self.provider, &key.kind) {
            (Provider::Aws(access), KeyKind::AwsKms { arn, role, context }) => {
                access.open(arn, role, context, encrypted, transport).await
            }
            (Provider::Azure(access), KeyKind::AzureKeyVault { vault, name, version }) => {
                access.open(vault, name, version, encrypted, transport).await
            }
            (Provider::Gcp(access), KeyKind::GcpKms { resource }) => {
                access.open(resource, encrypted, transport).await
            }
            (
                Provider::Vault(access),
                KeyKind::Vault {
                    address,
                    engine,
                    name,
                },
            ) => access.open(address, engine, name, encrypted, transport).await,
            _ => Err(AskError::refused("it is a key of another service")),
        }?;
        if opened.len() > limits::DATA_KEY {
            return Err(AskError::refused("what it opens is no data key"));
        }
        let mut all = self.opened();
        if all.len() >= limits::OPENED {
            all.clear();
        }
        all.insert(digest(key), opened);
        Ok(())
    }
}

/// Names a key and what is encrypted with it.
fn digest(key: &MasterKey) -> Digest {
    Digest::of("sops master key", format!("{key:?}").as_bytes())
}

impl KeyService for Service {
    fn open(&self, key: &MasterKey) -> Result<DataKey, Refusal> {
        if !self.is_of(&key.kind) {
            return Err(Refusal::NotMine);
        }
        self.opened().get(&digest(key)).cloned().ok_or(Refusal::Unasked)
    }

    fn ask<'a>(&'a self, key: &'a MasterKey, transport: &'a dyn Transport) -> Asking<'a> {
        Box::pin(self.asked(key, transport))
    }
}

/// The fields of a file of credentials, JSON or YAML, as Flux reads them.
struct Fields(Value);

impl Fields {
    fn of(content: &[u8]) -> Result<Self, String> {
        let bounds = Limits {
            bytes: limits::CREDENTIALS,
            nodes: 1000,
            ..Limits::default()
        };
        let json = serde_json::from_slice(content).ok();
        let value = json.or_else(|| {
            let text = std::str::from_utf8(content).ok()?;
            Some(Value::from(read(text, &bounds).ok()?))
        });
        match value {
            Some(value) if value.is_object() => Ok(Self(value)),
            _ => Err("it is no map in YAML or JSON".to_owned()),
        }
    }

    /// A text that is not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }
}
