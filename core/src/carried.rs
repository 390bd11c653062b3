//! Values that SOPS encrypted and that leave their file on the way through kustomize, as those of env files and patches do.
//! Each carries its file's stanza and its own place, so that whoever has the keys can decrypt it wherever it ends up.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{digest::canonical_json, text};

/// Begins a carried value, and nothing that SOPS writes.
pub const PREFIX: &str = "ENC[FLOTILLA,";
/// Bytes of a carried value.
const MAX: usize = 1 << 20;

/// An encrypted value with all that it takes to decrypt it but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The value as SOPS wrote it.
    #[serde(rename = "v")]
    pub value: String,
    /// The names of the fields that led to it in its file, each followed by a colon.
    #[serde(rename = "p")]
    pub place: String,
    /// The stanza of its file.
    #[serde(rename = "s")]
    pub stanza: Value,
    /// The stanza is a map of texts under flattened names, as formats without maps have it.
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    pub flat: bool,
}

impl Carried {
    /// The text that stands for the value.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}]", STANDARD.encode(canonical_json(self)))
    }

    /// Reads a text that stands for a value; `None`: it does not.
    pub fn of(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?.strip_suffix(']')?;
        let bytes = (encoded.len() <= MAX).then(|| text::base64::decode(encoded))??;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_carried_value_reads_back_and_nothing_else_does() {
        let carried = Carried {
            value: "ENC[AES256_GCM,data:x]".into(),
            place: "data:a:".into(),
            stanza: json!({"mac": "ENC[…]"}),
            flat: false,
        };
        let text = carried.to_text();
        assert_eq!(Carried::of(&text), Some(carried));
        for other in [
            "",
            "ENC[AES256_GCM,data:x]",
            "ENC[FLOTILLA,]",
            "ENC[FLOTILLA,e30=]",
            &text[1..],
        ] {
            assert_eq!(Carried::of(other), None, "{other}");
        }
    }
}
