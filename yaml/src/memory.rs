//! What maps take in memory, and what JSON takes: whoever bounds what is made counts it by these.
//!
//! A map of one field takes as much as one of eleven: ten times what a scalar takes. That is what `BTreeMap` allocates;
//! the tests of this crate measure it.

use serde_json::Value as Json;

use crate::node::{Content, Node};
use crate::value::Value;

/// For how many fields a part of a map has room.
const ROOM: usize = 11;
/// How many fields a part of a large map holds at least, that between it and the next included.
const FEWEST: usize = 6;
/// What a part of a map, or a text, takes beside what it holds.
const HEAD: usize = 24;
/// What a node of a document stands for where only nodes are counted.
const BYTES_PER_NODE: usize = 64;

/// As how many nodes a map that has fields counts, beside those of its keys and values.
pub const NODES_PER_MAP: usize = map_bytes::<String, Value>(1).div_ceil(BYTES_PER_NODE);

/// Returns how many bytes a `BTreeMap` of so many fields takes, without what its keys and values point to.
pub const fn map_bytes<K, V>(fields: usize) -> usize {
    let part = ROOM * (size_of::<K>() + size_of::<V>()) + HEAD;
    match fields {
        0 => 0,
        1..=ROOM => part,
        // A fifth more, for those that hold the others.
        more => (more / FEWEST + 1).saturating_mul(part + part / 5),
    }
}

/// Returns how many bytes a value of JSON takes beside its own place.
pub fn json_bytes(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text_bytes(text),
        Json::Array(items) => list_bytes(items.len()) + items.iter().map(json_bytes).sum::<usize>(),
        Json::Object(fields) => {
            let inside = fields
                .iter()
                .map(|(key, value)| text_bytes(key) + json_bytes(value));
            map_bytes::<String, Json>(fields.len()) + inside.sum::<usize>()
        }
    }
}

impl Node {
    /// Returns how many bytes the tree takes as JSON, or more.
    pub fn json_bytes(&self) -> usize {
        match &self.content {
            Content::Scalar(text) => text_bytes(text),
            Content::Seq(items) => {
                list_bytes(items.len()) + items.iter().map(Node::json_bytes).sum::<usize>()
            }
            Content::Map(fields) => {
                let inside = fields
                    .iter()
                    .map(|(key, value)| key.json_bytes() + value.json_bytes());
                map_bytes::<String, Json>(fields.len()) + inside.sum::<usize>()
            }
        }
    }

    /// Returns how many bytes the maps of the tree take as JSON, without what they hold.
    pub fn json_map_bytes(&self) -> usize {
        match &self.content {
            Content::Scalar(_) => 0,
            Content::Seq(items) => items.iter().map(Node::json_map_bytes).sum(),
            Content::Map(fields) => {
                let inside = fields.iter().map(|(_, value)| value.json_map_bytes());
                map_bytes::<String, Json>(fields.len()) + inside.sum::<usize>()
            }
        }
    }

    /// Returns how many bytes the tree is written in as JSON on one line, or more: markup, for one, is escaped.
    pub fn written_bytes(&self) -> usize {
        match &self.content {
            Content::Scalar(text) => text.bytes().map(written_bytes).sum::<usize>() + PUNCTUATION,
            Content::Seq(items) => items.iter().map(Node::written_bytes).sum::<usize>() + PUNCTUATION,
            Content::Map(fields) => {
                let inside = fields
                    .iter()
                    .map(|(key, value)| key.written_bytes() + value.written_bytes());
                inside.sum::<usize>() + PUNCTUATION
            }
        }
    }
}

/// Quotes or brackets, a comma, a colon.
const PUNCTUATION: usize = 4;

/// Returns how many bytes a byte of a text is written in, those of a character together.
fn written_bytes(byte: u8) -> usize {
    match byte {
        b'<' | b'>' | b'&' | 0..=0x1f => 6,
        // U+2028 begins with this.
        0xe2 => 4,
        b'"' | b'\\' => 2,
        _ => 1,
    }
}

fn text_bytes(text: &str) -> usize {
    HEAD + text.len()
}

/// The room of a list that is filled item by item doubles.
fn list_bytes(items: usize) -> usize {
    items * 2 * size_of::<Json>()
}
