//! What a unit should be, content-addressed. A sum type from the first day: `Objects` (rendered templates of
//! objects) or, with the Helm controller, `Recipe` (inputs by digest for an evaluation in the cluster).

mod read;
mod table;

use serde::{Deserialize, Serialize};
use serde_json::Value;
pub use table::Table;

use crate::{
    claim::keys_digest,
    digest::{Digest, canonical_json},
    object::ObjectKey,
};

/// The content of a unit. Stored and sent as canonical JSON under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Content {
    /// Rendered objects, in the order in which the renderer gave them.
    Objects(Objects),
}

/// Rendered objects by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// The objects, in the renderer's order.
    pub entries: Vec<ObjectEntry>,
    /// How many there are; asserted by whoever rendered, so that a truncated list is not a smaller one.
    pub count: u32,
    /// Every source resolved, every file parsed, every child valid. Only a complete content may remove objects.
    pub complete: bool,
}

/// One object of a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEntry {
    /// Identity as rendered; the agent's discovery normalises it.
    pub key: ObjectKey,
    /// How the bytes are to be read.
    pub form: Form,
    /// Digest of the form and the bytes.
    pub digest: Digest,
}

/// How the bytes of an object are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Canonical JSON, final.
    Json,
    /// YAML text in which variables are substituted before it is parsed: types come from parsing afterwards.
    Yaml,
}

impl Form {
    /// As it stands in a content.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

/// Why a content cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// The bytes are no content this version knows.
    #[error("content is not readable: {0}")]
    Unreadable(String),
    /// The count differs from the list: something was cut.
    #[error("content asserts {asserted} objects but lists {listed}")]
    Count {
        /// The asserted count.
        asserted: u32,
        /// The number of entries.
        listed: usize,
    },
    /// An object stands twice.
    #[error("content lists {0} twice")]
    Duplicate(ObjectKey),
}

impl Content {
    /// The canonical bytes, which the digest covers.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_json(self).into_bytes()
    }

    /// Digest of the content's canonical bytes.
    pub fn digest(&self) -> Digest {
        Self::digest_of(&self.to_bytes())
    }

    /// Digest of bytes that claim to be a content.
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest::of("content", bytes)
    }

    /// Reads a content and checks what it asserts about itself.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidContent> {
        let mut entries = Vec::new();
        let read::Asserted { count, complete } = read::read(bytes, |entry| {
            let key = entry.key;
            entries.push(ObjectEntry {
                key: ObjectKey {
                    group: key.group.into_owned(),
                    kind: key.kind.into_owned(),
                    namespace: key.namespace.into_owned(),
                    name: key.name.into_owned(),
                },
                form: entry.form,
                digest: entry.digest,
            });
        })?;
        let objects = Objects {
            entries,
            count,
            complete,
        };
        let mut keys: Vec<&ObjectKey> = objects.entries.iter().map(|entry| &entry.key).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(InvalidContent::Duplicate(pair[0].clone())),
            None => Ok(Self::Objects(objects)),
        }
    }

    /// Digest of the objects' keys, in any order: contents with the same one claim the same. `None` where a name holds a
    /// variable, and the keys depend on more than the content.
    pub fn keys_digest(&self) -> Option<Digest> {
        let mut keys: Vec<&ObjectKey> = self.objects().iter().map(|entry| &entry.key).collect();
        let is_open = |entry: &ObjectEntry| {
            entry.form == Form::Yaml && (entry.key.name.contains('$') || entry.key.namespace.contains('$'))
        };
        if self.objects().iter().any(is_open) {
            return None;
        }
        keys.sort_unstable();
        Some(keys_digest(&keys))
    }

    /// The objects of this content.
    pub fn objects(&self) -> &[ObjectEntry] {
        let Self::Objects(objects) = self;
        &objects.entries
    }
}

/// Digests an object: its form and its bytes. Secrets take the tenant's permanent digest key.
pub fn object_digest(form: Form, bytes: &[u8], secret_key: Option<&[u8; 32]>) -> Digest {
    let kind = match form {
        Form::Json => "object/json",
        Form::Yaml => "object/yaml",
    };
    match secret_key {
        Some(key) => Digest::keyed(key, kind, bytes),
        None => Digest::of(kind, bytes),
    }
}

/// The canonical bytes of an object that needs no substitution.
pub fn object_bytes(object: &Value) -> Vec<u8> {
    canonical_json(object).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> ObjectEntry {
        ObjectEntry {
            key: ObjectKey::new("", "ConfigMap", "a", name),
            form: Form::Json,
            digest: object_digest(Form::Json, name.as_bytes(), None),
        }
    }

    #[test]
    fn a_cut_list_is_refused() {
        let whole = Content::Objects(Objects {
            entries: vec![entry("x")],
            count: 2,
            complete: true,
        });
        assert_eq!(
            Content::from_bytes(&whole.to_bytes()),
            Err(InvalidContent::Count {
                asserted: 2,
                listed: 1
            })
        );
    }

    #[test]
    fn contents_of_the_same_keys_are_known_as_such() {
        let of = |entries: Vec<ObjectEntry>| {
            let count = u32::try_from(entries.len()).expect("few");
            let objects = Objects {
                entries,
                count,
                complete: true,
            };
            Content::Objects(objects).keys_digest()
        };
        let other_bytes = ObjectEntry {
            digest: object_digest(Form::Json, b"other", None),
            ..entry("x")
        };
        assert_eq!(
            of(vec![entry("x"), entry("y")]),
            of(vec![entry("y"), other_bytes])
        );
        assert_ne!(of(vec![entry("x")]), of(vec![entry("x"), entry("y")]));
        let variable = |form| ObjectEntry {
            form,
            ..entry("x-${v}")
        };
        assert!(
            of(vec![variable(Form::Json)]).is_some(),
            "it is the name as it stands"
        );
        assert_eq!(of(vec![entry("x"), variable(Form::Yaml)]), None);
    }

    #[test]
    fn an_object_listed_twice_is_refused() {
        let twice = Content::Objects(Objects {
            entries: vec![entry("x"), entry("x")],
            count: 2,
            complete: true,
        });
        assert!(matches!(
            Content::from_bytes(&twice.to_bytes()),
            Err(InvalidContent::Duplicate(_))
        ));
    }

    #[test]
    fn a_content_reads_back_and_its_digest_is_of_its_bytes() {
        let content = Content::Objects(Objects {
            entries: vec![entry("x"), entry("y")],
            count: 2,
            complete: true,
        });
        assert_eq!(Content::from_bytes(&content.to_bytes()), Ok(content.clone()));
        assert_eq!(content.digest(), Content::digest_of(&content.to_bytes()));
    }

    #[test]
    fn form_and_key_are_part_of_an_objects_digest() {
        let plain = object_digest(Form::Json, b"{}", None);
        assert_ne!(plain, object_digest(Form::Yaml, b"{}", None));
        assert_ne!(plain, object_digest(Form::Json, b"{}", Some(&[1; 32])));
    }
}
