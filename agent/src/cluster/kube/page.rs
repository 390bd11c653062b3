//! One page of a list.

use std::{fmt, io::Read};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::answer::no_json;
use crate::cluster::{ClusterError, Page};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    /// A Go server writes an empty list as null.
    #[serde(default = "none")]
    items: Option<Vec<T>>,
}

fn none<T>() -> Option<Vec<T>> {
    None
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    r#continue: String,
    remaining_item_count: Option<usize>,
    resource_version: String,
}

/// An object of which nothing but its metadata is kept, without managed fields.
#[derive(Deserialize)]
struct Lean {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default)]
struct Metadata(Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("metadata")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut fields = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "managedFields" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        fields.insert(name, map.next_value()?);
                    }
                }
                Ok(Metadata(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads a page of whole objects.
pub(super) fn read(bytes: &[u8]) -> Result<Page, ClusterError> {
    let list: List<Value> = serde_json::from_slice(bytes).map_err(|e| no_json(&e))?;
    Ok(page(list, |object| object))
}

/// Reads a page of metadata, and passes managed fields over.
pub(super) fn read_lean(bytes: impl Read) -> Result<Page, ClusterError> {
    let list: List<Lean> = serde_json::from_reader(bytes).map_err(|e| no_json(&e))?;
    Ok(page(list, |Lean { metadata }| {
        Value::Object(Map::from_iter([(
            "metadata".to_owned(),
            Value::Object(metadata.0),
        )]))
    }))
}

fn page<T>(list: List<T>, object: impl Fn(T) -> Value) -> Page {
    Page {
        items: list.items.unwrap_or_default().into_iter().map(object).collect(),
        next: list.metadata.r#continue,
        remaining: list.metadata.remaining_item_count.unwrap_or_default(),
        version: list.metadata.resource_version,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_without_managed_fields_has_all_other_metadata_and_nothing_else() {
        let metadata = json!({"name": "a", "resourceVersion": "7", "labels": {"l": "v"}});
        let mut managed = metadata.clone();
        managed["managedFields"] = json!([{"manager": "m", "fieldsV1": {"f:data": {}}}]);
        let list = json!({"kind": "List", "metadata": {"resourceVersion": "9", "continue": "t", "remainingItemCount": 3},
            "items": [{"kind": "PartialObjectMetadata", "metadata": managed, "data": {"x": "y"}}]});
        let text = list.to_string();
        let lean = read_lean(text.as_bytes()).expect("readable");
        assert_eq!(lean.items, [json!({"metadata": metadata})]);
        let whole = read(text.as_bytes()).expect("readable");
        assert_eq!(whole.items[0], list["items"][0]);
        for page in [lean, whole] {
            assert_eq!((&*page.next, page.remaining, &*page.version), ("t", 3, "9"));
        }
        let empty = read(br#"{"metadata": {}, "items": null}"#).expect("readable");
        assert_eq!((empty.items.len(), &*empty.next), (0, ""));
    }

    #[test]
    fn what_is_no_list_is_told_without_its_text() {
        let error = read_lean(&br#"{"items": "secret"}"#[..]).expect_err("no list");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
