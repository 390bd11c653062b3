//! Reads the objects of a content one by one: the whole is never in memory in another form than the one asked for.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Form, InvalidContent};
use crate::digest::Digest;

/// A key as it stands in a content.
#[derive(Debug, Deserialize)]
pub(super) struct KeyText<'a> {
    #[serde(borrow, default)]
    pub(super) group: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
}

/// An object as it stands in a content.
#[derive(Deserialize)]
pub(super) struct EntryText<'a> {
    #[serde(borrow)]
    pub(super) key: KeyText<'a>,
    pub(super) form: Form,
    pub(super) digest: Digest,
}

/// What a content says of itself.
pub(super) struct Asserted {
    pub(super) count: u32,
    pub(super) complete: bool,
}

/// Gives each object of a content to `take`, in the renderer's order. After an error what was given is to be dropped.
pub(super) fn read(bytes: &[u8], take: impl FnMut(EntryText<'_>)) -> Result<Asserted, InvalidContent> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let unreadable = |error: serde_json::Error| InvalidContent::Unreadable(error.to_string());
    let (asserted, listed) = reader.deserialize_map(Whole(take)).map_err(unreadable)?;
    reader.end().map_err(unreadable)?;
    match usize::try_from(asserted.count) == Ok(listed) {
        true => Ok(asserted),
        false => Err(InvalidContent::Count {
            asserted: asserted.count,
            listed,
        }),
    }
}

struct Whole<F>(F);

impl<'de, F: FnMut(EntryText<'_>)> Visitor<'de> for Whole<F> {
    type Value = (Asserted, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut listed, mut count, mut complete) = (None, None, None, None);
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match &*field {
                "type" => kind = Some(map.next_value::<Cow<'de, str>>()?),
                "entries" => listed = Some(map.next_value_seed(Entries(&mut self.0))?),
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
        let asserted = Asserted {
            count: count.ok_or_else(|| A::Error::missing_field("count"))?,
            complete: complete.ok_or_else(|| A::Error::missing_field("complete"))?,
        };
        Ok((
            asserted,
            listed.ok_or_else(|| A::Error::missing_field("entries"))?,
        ))
    }
}

struct Entries<'k, F>(&'k mut F);

impl<'de, F: FnMut(EntryText<'_>)> DeserializeSeed<'de> for Entries<'_, F> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(EntryText<'_>)> Visitor<'de> for Entries<'_, F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut listed = 0;
        while let Some(entry) = seq.next_element::<EntryText<'de>>()? {
            listed += 1;
            (self.0)(entry);
        }
        Ok(listed)
    }
}
