//! Reads the entries of a content that are asked for. What is passed over costs no memory: of a content of 20,000
//! objects mostly one is wanted.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Form, InvalidContent, ObjectEntry, Objects};
use crate::{digest::Digest, object::ObjectKey};

/// A key as it stands in a content.
#[derive(Debug, Deserialize)]
pub struct KeyText<'a> {
    /// API group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// Kind.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// Namespace.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// Name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct EntryText<'a> {
    #[serde(borrow)]
    key: KeyText<'a>,
    form: Form,
    digest: Digest,
}

/// Reads a content of objects, and of these the ones that `keep` holds for. The count is that of the content.
pub(super) fn select(
    bytes: &[u8],
    keep: impl FnMut(&KeyText<'_>) -> bool,
) -> Result<Objects, InvalidContent> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let unreadable = |error: serde_json::Error| InvalidContent::Unreadable(error.to_string());
    let (objects, listed) = reader.deserialize_map(Whole(keep)).map_err(unreadable)?;
    reader.end().map_err(unreadable)?;
    match usize::try_from(objects.count) == Ok(listed) {
        true => Ok(objects),
        false => Err(InvalidContent::Count {
            asserted: objects.count,
            listed,
        }),
    }
}

struct Whole<F>(F);

impl<'de, F: FnMut(&KeyText<'_>) -> bool> Visitor<'de> for Whole<F> {
    type Value = (Objects, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut entries, mut count, mut complete) = (None, None, None, None);
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match &*field {
                "type" => kind = Some(map.next_value::<Cow<'de, str>>()?),
                "entries" => entries = Some(map.next_value_seed(Entries(&mut self.0))?),
                "count" => count = Some(map.next_value()?),
                "complete" => complete = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let kind = kind.ok_or_else(|| A::Error::missing_field("type"))?;
        if kind != "objects" {
            return Err(A::Error::unknown_variant(&kind, &["objects"]));
        }
        let (entries, listed) = entries.ok_or_else(|| A::Error::missing_field("entries"))?;
        let objects = Objects {
            entries,
            count: count.ok_or_else(|| A::Error::missing_field("count"))?,
            complete: complete.ok_or_else(|| A::Error::missing_field("complete"))?,
        };
        Ok((objects, listed))
    }
}

struct Entries<'k, F>(&'k mut F);

impl<'de, F: FnMut(&KeyText<'_>) -> bool> DeserializeSeed<'de> for Entries<'_, F> {
    type Value = (Vec<ObjectEntry>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&KeyText<'_>) -> bool> Visitor<'de> for Entries<'_, F> {
    type Value = (Vec<ObjectEntry>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut listed) = (Vec::new(), 0);
        while let Some(entry) = seq.next_element::<EntryText<'de>>()? {
            listed += 1;
            if (self.0)(&entry.key) {
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
            }
        }
        Ok((entries, listed))
    }
}
