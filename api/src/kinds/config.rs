//! ConfigMap and Secret, core/v1: variables, credentials, values.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::kind::Kind;
use crate::problem::Check;
use crate::secret::{SecretBytes, SecretData};
use crate::text::{Base64, decode_base64};

/// The most bytes all values of a ConfigMap or Secret may have together, as in Kubernetes.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// The fields of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapData {
    /// Texts by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Bytes by key, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: BTreeMap<String, Base64>,
    /// Whether the values may never change.
    #[serde(default, skip_serializing_if = "is_false")]
    pub immutable: bool,
}

impl Spec for ConfigMapData {
    const KIND: Kind = Kind::ConfigMap;

    fn check(&self, at: &mut Check<'_>) {
        for key in self.data.keys() {
            check_key(key, &mut at.at("data"));
        }
        for key in self.binary_data.keys() {
            check_key(key, &mut at.at("binaryData"));
            if self.data.contains_key(key) {
                at.at("binaryData").at(key).problem("the key is in data too");
            }
        }
        let texts = self.data.values().map(String::len).sum::<usize>();
        check_size(
            texts
                + self
                    .binary_data
                    .values()
                    .map(|value| value.as_str().len() / 4 * 3)
                    .sum::<usize>(),
            at,
        );
    }
}

/// The fields of a Secret as written. Lives only while a document is read; see [`SecretData`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretFields {
    /// The Secret's type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    /// Bytes by key, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, Base64>,
    /// Texts by key; win over `data`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    string_data: BTreeMap<String, String>,
    /// Whether the values may never change.
    #[serde(default, skip_serializing_if = "is_false")]
    immutable: bool,
}

impl Spec for SecretFields {
    const KIND: Kind = Kind::Secret;

    fn check(&self, at: &mut Check<'_>) {
        for key in self.data.keys() {
            check_key(key, &mut at.at("data"));
        }
        for key in self.string_data.keys() {
            check_key(key, &mut at.at("stringData"));
        }
        let texts = self.string_data.values().map(String::len).sum::<usize>();
        check_size(
            texts
                + self
                    .data
                    .values()
                    .map(|value| value.as_str().len() / 4 * 3)
                    .sum::<usize>(),
            at,
        );
    }
}

impl From<SecretFields> for SecretData {
    fn from(fields: SecretFields) -> Self {
        let decoded = fields.data.into_iter().map(|(key, value)| {
            let bytes = decode_base64(value.as_str()).unwrap_or_default();
            (key, SecretBytes::new(bytes))
        });
        let texts = fields
            .string_data
            .into_iter()
            .map(|(key, text)| (key, SecretBytes::new(text.into_bytes())));
        SecretData {
            type_name: fields.type_name.unwrap_or_else(|| "Opaque".to_owned()),
            immutable: fields.immutable,
            // Later entries win, as stringData does in the API server.
            data: decoded.chain(texts).collect(),
        }
    }
}

fn check_key(key: &str, at: &mut Check<'_>) {
    let fits = !key.is_empty()
        && key.len() <= 253
        && key != "."
        && key != ".."
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !fits {
        at.at(key)
            .problem("is not a valid key: at most 253 letters, digits, \"-\", \"_\" or \".\"");
    }
}

fn check_size(bytes: usize, at: &mut Check<'_>) {
    if bytes > MAX_DATA_BYTES {
        at.problem(format!(
            "the values have more than {MAX_DATA_BYTES} bytes together"
        ));
    }
}
