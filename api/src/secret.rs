//! The content of a Secret: readable by those who ask for it by name, never printed, never serialised by
//! accident.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// One value of a Secret. `Debug` prints its length; the memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes a value into keeping.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// A Secret's type and values, `stringData` folded in. It has no `Serialize`: storing one means sealing
/// [`SecretData::expose_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretData {
    /// The Secret's type, `Opaque` unless given.
    pub type_name: String,
    /// Whether the Secret was marked immutable.
    pub immutable: bool,
    /// Values by key.
    pub data: BTreeMap<String, SecretBytes>,
}

/// A stored Secret that does not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored secret is not in the form it is written in")]
pub struct NotASecret;

impl SecretData {
    /// Returns a value by key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(SecretBytes::expose)
    }

    /// Returns type and values as canonical JSON, values in base64: the bytes to seal.
    pub fn expose_json(&self) -> Zeroizing<String> {
        let data: BTreeMap<_, _> = self
            .data
            .iter()
            .map(|(key, value)| (key, STANDARD.encode(value.expose())))
            .collect();
        Zeroizing::new(
            json!({ "type": self.type_name, "immutable": self.immutable, "data": data }).to_string(),
        )
    }

    /// Reads what [`SecretData::expose_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, NotASecret> {
        let value: Value = serde_json::from_str(text).map_err(|_| NotASecret)?;
        let data = value["data"].as_object().ok_or(NotASecret)?;
        Ok(Self {
            type_name: value["type"].as_str().ok_or(NotASecret)?.to_owned(),
            immutable: value["immutable"].as_bool().ok_or(NotASecret)?,
            data: data
                .iter()
                .map(|(key, value)| {
                    let bytes = value
                        .as_str()
                        .and_then(|text| STANDARD.decode(text).ok())
                        .ok_or(NotASecret)?;
                    Ok((key.clone(), SecretBytes::new(bytes)))
                })
                .collect::<Result<_, NotASecret>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> SecretData {
        SecretData {
            type_name: "Opaque".to_owned(),
            immutable: false,
            data: [("password".to_owned(), SecretBytes::new(b"hunter2\xff".to_vec()))].into(),
        }
    }

    #[test]
    fn debug_prints_keys_and_lengths_only() {
        let shown = format!("{:?}", secret());
        assert!(
            shown.contains("password") && shown.contains("[8 bytes]"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_is_sealed_reads_back() {
        assert_eq!(SecretData::from_json(&secret().expose_json()), Ok(secret()));
        assert_eq!(SecretData::from_json("{}"), Err(NotASecret));
    }
}
