//! Stanzas: nested as they are read, or flattened into names like `age__list_0__map_enc` where a format has no maps.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::dotenv::unescaped;
use crate::{
    limits,
    object::text_of,
    tree::{Field, Node},
};

const MAP: &str = "__map_";
const LIST: &str = "__list_";

/// Takes the fields with a prefix out of a document.
pub(super) fn prefixed(fields: &mut Vec<Field>, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let is_meant = |field: &mut Field| matches!(field, Field::Value(name, _) if name.starts_with(prefix));
    let taken = fields.extract_if(.., is_meant);
    taken
        .filter_map(|field| match field {
            Field::Value(name, Node::Text(text)) => Some((name.strip_prefix(prefix)?.to_owned(), text)),
            _ => None,
        })
        .collect()
}

/// Takes a section out of a document. In it line breaks are `\n`.
pub(super) fn section(sections: &mut Vec<Field>, name: &str) -> Vec<(String, Vec<u8>)> {
    let is_meant = |field: &mut Field| matches!(field, Field::Value(section, _) if section.as_str() == name);
    let taken: Vec<Field> = sections.extract_if(.., is_meant).collect();
    let mut all = Vec::new();
    for field in taken {
        let Field::Value(_, Node::Map(fields)) = field else {
            continue;
        };
        all.extend(fields.into_iter().filter_map(|field| match field {
            Field::Value(name, Node::Text(text)) => Some((name, unescaped(&text))),
            _ => None,
        }));
    }
    all
}

/// Makes a stanza of texts under flattened names; `None`: they contradict each other.
pub(crate) fn unflatten_texts(texts: impl IntoIterator<Item = (String, Vec<u8>)>) -> Option<Value> {
    unflatten(texts.into_iter().collect())
}

/// One place of a stanza that is put together.
#[derive(Default)]
struct Place {
    value: Option<Vec<u8>>,
    fields: BTreeMap<String, Place>,
    items: BTreeMap<usize, Place>,
}

pub(super) fn unflatten(texts: Vec<(String, Vec<u8>)>) -> Option<Value> {
    let mut root = Place::default();
    // Each key of a stanza has few fields.
    if texts.len() > limits::KEYS * 16 {
        return None;
    }
    for (name, text) in texts {
        let mut place = &mut root;
        for step in steps(&name)? {
            place = match step {
                Step::Field(name) => place.fields.entry(name.to_owned()).or_default(),
                Step::Item(index) => place.items.entry(index).or_default(),
            };
        }
        if place.value.replace(text).is_some() {
            return None;
        }
    }
    root.built(0)
}

enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

fn steps(name: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let (mut rest, mut is_item) = (name, false);
    loop {
        let next = [
            rest.find(MAP).map(|at| (at, false)),
            rest.find(LIST).map(|at| (at, true)),
        ];
        let next = next.into_iter().flatten().min();
        let part = next.map_or(rest, |(at, _)| &rest[..at]);
        steps.push(match is_item {
            true => Step::Item(part.parse().ok().filter(|index| *index < limits::KEYS)?),
            false => Step::Field(part),
        });
        let Some((at, item)) = next else { break };
        rest = &rest[at + if item { LIST.len() } else { MAP.len() }..];
        is_item = item;
    }
    (steps.len() <= 16).then_some(steps)
}

impl Place {
    fn built(self, depth: usize) -> Option<Value> {
        let kinds = [
            self.value.is_some(),
            !self.fields.is_empty(),
            !self.items.is_empty(),
        ];
        if depth > 16 || kinds.into_iter().filter(|is| *is).count() > 1 {
            return None;
        }
        if let Some(text) = self.value {
            return Some(Value::String(text_of(text)));
        }
        if !self.items.is_empty() {
            let is_whole = self.items.keys().copied().eq(0..self.items.len());
            let items = self.items.into_values().map(|place| place.built(depth + 1));
            return is_whole.then(|| items.collect::<Option<_>>()).flatten();
        }
        let fields = self.fields.into_iter();
        let built: Option<Map<String, Value>> = fields
            .map(|(name, place)| Some((name, place.built(depth + 1)?)))
            .collect();
        built.map(Value::Object)
    }
}

/// A stanza that was read as a map.
pub(super) fn value(node: &Node) -> Value {
    match node {
        Node::Null | Node::Comment(_) => Value::Null,
        Node::Bool(flag) => (*flag).into(),
        Node::Int(number) => (*number).into(),
        Node::Float(number) => (*number).into(),
        Node::Text(bytes) | Node::Time(bytes) | Node::Bytes(bytes) => text_of(bytes.clone()).into(),
        Node::List(items) => {
            let items = items.iter().filter(|item| !matches!(item, Node::Comment(_)));
            items.map(value).collect()
        }
        Node::Map(fields) => {
            let fields = fields.iter().filter_map(|field| match field {
                Field::Value(name, node) => Some((name.clone(), value(node))),
                Field::Comment(_) => None,
            });
            Value::Object(fields.collect())
        }
    }
}
