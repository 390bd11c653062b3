//! The stanza of a document: the `sops` block that says for whom it is encrypted, and which of its values are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{limits, rule::Rule};

/// What a document says of its own encryption.
#[derive(Debug, Clone)]
pub struct Stanza {
    /// Groups of keys; each key of a group opens the same part of the data key.
    pub groups: Vec<Vec<MasterKey>>,
    /// How many groups are needed, where there are several.
    pub threshold: usize,
    pub(crate) rule: Rule,
    pub(crate) mac: String,
    pub(crate) last_modified: String,
    pub(crate) mac_only_encrypted: bool,
}

/// A key that a document is encrypted for, and the data key, or a part of it, encrypted with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MasterKey {
    /// Which key.
    pub kind: KeyKind,
    /// The data key as this key encrypts it.
    pub encrypted: String,
}

/// A key, by the names of whoever has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// An age recipient.
    Age {
        /// `age1…`.
        recipient: String,
    },
    /// An OpenPGP key.
    Pgp {
        /// Its fingerprint.
        fingerprint: String,
    },
    /// A key of AWS KMS.
    AwsKms {
        /// Its ARN.
        arn: String,
        /// A role to assume.
        role: String,
        /// The encryption context.
        context: BTreeMap<String, String>,
    },
    /// A key of Google Cloud KMS.
    GcpKms {
        /// `projects/…/cryptoKeys/…`.
        resource: String,
    },
    /// A key of Azure Key Vault.
    AzureKeyVault {
        /// URL of the vault.
        vault: String,
        /// Name of the key.
        name: String,
        /// Version of the key.
        version: String,
    },
    /// A key of HashiCorp Vault's or OpenBao's transit engine.
    Vault {
        /// Address of the server.
        address: String,
        /// Path of the engine.
        engine: String,
        /// Name of the key.
        name: String,
    },
    /// A key of Huawei Cloud KMS.
    HuaweiKms {
        /// Its id.
        id: String,
    },
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Age { recipient } => format!("age {recipient}"),
            Self::Pgp { fingerprint } => format!("PGP {fingerprint}"),
            Self::AwsKms { arn, .. } => format!("AWS KMS {arn}"),
            Self::GcpKms { resource } => format!("GCP KMS {resource}"),
            Self::AzureKeyVault { vault, name, .. } => format!("Azure Key Vault {vault}/keys/{name}"),
            Self::Vault {
                address,
                engine,
                name,
            } => format!("Vault {address} {engine}/{name}"),
            Self::HuaweiKms { id } => format!("Huawei Cloud KMS {id}"),
        };
        // A stanza is what anybody may have written.
        let shown = text.chars().filter(|c| !c.is_control()).take(160);
        f.write_str(&shown.collect::<String>())
    }
}

impl Stanza {
    /// Reads a stanza; numbers and truths may be texts, as formats without types have them.
    pub(crate) fn of(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("sops is no map")?;
        let groups = groups(fields)?;
        let threshold = match fields.get("shamir_threshold") {
            None | Some(Value::Null) => 0,
            Some(Value::Number(number)) => number.as_u64().ok_or("shamir_threshold is no count")?,
            Some(Value::String(text)) => text.parse().map_err(|_| "shamir_threshold is no count")?,
            Some(_) => return Err("shamir_threshold is no count".to_owned()),
        };
        Ok(Self {
            threshold: usize::try_from(threshold).unwrap_or(usize::MAX),
            groups,
            rule: Rule::of(|name| text(fields, name))?,
            mac: text(fields, "mac").unwrap_or_default(),
            last_modified: text(fields, "lastmodified").unwrap_or_default(),
            mac_only_encrypted: match fields.get("mac_only_encrypted") {
                Some(Value::Bool(flag)) => *flag,
                Some(Value::String(text)) => matches!(text.as_str(), "true" | "1"),
                _ => false,
            },
        })
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name)?.as_str().map(str::to_owned)
}

/// The groups: the stanza's own keys are one, and where it has none, `key_groups` lists them.
fn groups(fields: &Map<String, Value>) -> Result<Vec<Vec<MasterKey>>, String> {
    let own = group(fields)?;
    let groups = match own.is_empty() {
        false => vec![own],
        true => {
            let listed = fields.get("key_groups").and_then(Value::as_array);
            let listed = listed.map(Vec::as_slice).unwrap_or_default();
            if listed.len() > limits::GROUPS {
                return Err(format!("it has more than {} groups of keys", limits::GROUPS));
            }
            let read = |one: &Value| group(one.as_object().ok_or("a group of keys is no map")?);
            listed.iter().map(read).collect::<Result<_, String>>()?
        }
    };
    if groups.is_empty() {
        return Err("it names no keys".to_owned());
    }
    if groups.iter().map(Vec::len).sum::<usize>() > limits::KEYS {
        return Err(format!("it has more than {} keys", limits::KEYS));
    }
    Ok(groups)
}

/// In the order in which SOPS tries them: age, then OpenPGP, then the others.
fn group(fields: &Map<String, Value>) -> Result<Vec<MasterKey>, String> {
    let mut all = Vec::new();
    let mut take = |name: &str, kind: &dyn Fn(&Map<String, Value>) -> KeyKind| -> Result<(), String> {
        let listed = match fields.get(name) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(listed)) => listed,
            // An empty list in a format without types.
            Some(Value::String(text)) if text.is_empty() => return Ok(()),
            Some(_) => return Err(format!("{name} is no list")),
        };
        for one in listed {
            let one = one
                .as_object()
                .ok_or_else(|| format!("a key of {name} is no map"))?;
            let encrypted = text(one, "enc").unwrap_or_default();
            if encrypted.len() > limits::ENCRYPTED_KEY {
                return Err(format!(
                    "a data key of {name} has more than {} bytes",
                    limits::ENCRYPTED_KEY
                ));
            }
            all.push(MasterKey {
                kind: kind(one),
                encrypted,
            });
        }
        Ok(())
    };
    let of = |one: &Map<String, Value>, name: &str| text(one, name).unwrap_or_default();
    take("age", &|one| KeyKind::Age {
        recipient: of(one, "recipient"),
    })?;
    take("pgp", &|one| KeyKind::Pgp {
        fingerprint: of(one, "fp"),
    })?;
    take("kms", &|one| KeyKind::AwsKms {
        arn: of(one, "arn"),
        role: of(one, "role"),
        context: context(one),
    })?;
    take("gcp_kms", &|one| KeyKind::GcpKms {
        resource: of(one, "resource_id"),
    })?;
    take("hckms", &|one| KeyKind::HuaweiKms {
        id: of(one, "key_id"),
    })?;
    take("azure_kv", &|one| KeyKind::AzureKeyVault {
        vault: of(one, "vault_url"),
        name: of(one, "name"),
        version: of(one, "version"),
    })?;
    take("hc_vault", &|one| KeyKind::Vault {
        address: of(one, "vault_address"),
        engine: of(one, "engine_path"),
        name: of(one, "key_name"),
    })?;
    Ok(all)
}

fn context(one: &Map<String, Value>) -> BTreeMap<String, String> {
    let context = one.get("context").and_then(Value::as_object);
    context
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}
