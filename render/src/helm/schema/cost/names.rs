//! Where the references of a schema lead. Where that is not certain, to more than one place: what is visited is bounded
//! from above.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::MAX_DEPTH;
use crate::helm::schema::Refusal;

/// The schemas that can be referred to within one document.
pub(super) struct Names<'a> {
    root: &'a Json,
    /// Schemas by their `$anchor` and `$dynamicAnchor`, and by an `$id` that is a fragment only.
    anchors: HashMap<&'a str, Vec<&'a Json>>,
    /// Documents within the document, by the last part of their `$id`: which base it is joined to does not change that.
    documents: HashMap<&'a str, Vec<&'a Json>>,
    /// The innermost document that a schema with a reference stands in, where that is not the whole.
    homes: HashMap<usize, &'a Json>,
}

impl<'a> Names<'a> {
    pub(super) fn of(root: &'a Json) -> Result<Names<'a>, Refusal> {
        let mut names = Names {
            root,
            anchors: HashMap::new(),
            documents: HashMap::new(),
            homes: HashMap::new(),
        };
        names.collect(root, root, 0)?;
        Ok(names)
    }

    fn collect(&mut self, schema: &'a Json, mut home: &'a Json, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::of_schema(format!("is nested deeper than {MAX_DEPTH}")));
        }
        match schema {
            Json::Object(fields) => {
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = fields.get(key).and_then(Json::as_str) {
                        self.anchors.entry(name).or_default().push(schema);
                    }
                }
                for id in ["$id", "id"].iter().filter_map(|key| fields.get(*key)?.as_str()) {
                    let (base, fragment) = id.split_once('#').unwrap_or((id, ""));
                    if !base.is_empty() {
                        self.documents.entry(last_part(base)).or_default().push(schema);
                        home = schema;
                    }
                    if !fragment.is_empty() {
                        self.anchors.entry(fragment).or_default().push(schema);
                    }
                }
                let refers = ["$ref", "$dynamicRef", "$recursiveRef"]
                    .iter()
                    .any(|key| fields.contains_key(*key));
                if refers && !std::ptr::eq(home, self.root) {
                    self.homes.insert(std::ptr::from_ref(schema).addr(), home);
                }
                fields
                    .values()
                    .try_for_each(|below| self.collect(below, home, depth + 1))
            }
            Json::Array(items) => items
                .iter()
                .try_for_each(|below| self.collect(below, home, depth + 1)),
            _ => Ok(()),
        }
    }

    /// Returns the schemas that a reference of this schema may mean.
    pub(super) fn meant(&self, schema: &'a Json, reference: &str) -> Vec<&'a Json> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        // Which keyword names a document, and which document is meant dynamically, depends on the dialect.
        let documents = match base {
            "" => self.around(schema),
            base => self.documents.get(last_part(base)).cloned().unwrap_or_default(),
        };
        if fragment.is_empty() {
            return documents;
        }
        let fragment = percent_decoded(fragment);
        match fragment.starts_with('/') {
            true => documents
                .iter()
                .filter_map(|document| document.pointer(&fragment))
                .collect(),
            false => self.anchors.get(fragment.as_str()).cloned().unwrap_or_default(),
        }
    }

    /// Returns the documents that a schema stands in.
    fn around(&self, schema: &Json) -> Vec<&'a Json> {
        let home = self.homes.get(&std::ptr::from_ref(schema).addr());
        home.copied().into_iter().chain([self.root]).collect()
    }
}

fn last_part(address: &str) -> &str {
    address.rsplit(['/', ':']).next().unwrap_or(address)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
