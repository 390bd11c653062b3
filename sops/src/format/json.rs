//! JSON in the order of its fields.

use std::fmt;

use flotilla_yaml::json::{Layout, write as written};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::Format;
use crate::{
    error::Error,
    object::{encode, text_of},
    tree::{Field, Node},
};

/// Reads the object that a text begins with. What follows it is not looked at, as SOPS does not.
pub(super) fn read(content: &[u8]) -> Result<Vec<Field>, Error> {
    let mut reader = serde_json::Deserializer::from_slice(content);
    // The reader's words quote what it stumbles over.
    let bad = |error: serde_json::Error| {
        let at = (error.line(), error.column());
        Format::Json.unreadable(format!("it is not JSON at line {}, column {}", at.0, at.1))
    };
    match Node::deserialize(&mut reader).map_err(bad)? {
        Node::Map(fields) => Ok(fields),
        _ => Err(Format::Json.unreadable("only files with an object at the top are supported")),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Node::Int(value)),
            // Go takes what is no integer of its own for a float.
            Err(_) => value.to_string().parse().map(Node::Float).map_err(E::custom),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::text(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Node::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some((name, value)) = fields.next_entry()? {
            all.push(Field::Value(name, value));
        }
        Ok(Node::Map(all))
    }
}

/// Writes an object as SOPS does: indented by tabs.
pub(super) fn write(fields: &[Field]) -> Result<Vec<u8>, Error> {
    let mut writer = Writer {
        out: String::new(),
        depth: 0,
    };
    writer.map(fields)?;
    writer.out.push('\n');
    Ok(writer.out.into_bytes())
}

struct Writer {
    out: String,
    depth: usize,
}

impl Writer {
    fn node(&mut self, node: &Node) -> Result<(), Error> {
        let scalar = match node {
            Node::Map(fields) => return self.map(fields),
            Node::List(items) => return self.list(items),
            Node::Null | Node::Comment(_) => Value::Null,
            Node::Bool(flag) => (*flag).into(),
            Node::Int(number) => (*number).into(),
            Node::Float(number) => match serde_json::Number::from_f64(*number) {
                Some(number) => number.into(),
                None => return Err(Format::Json.inexpressible("a number is not finite")),
            },
            Node::Text(bytes) | Node::Time(bytes) => text_of(bytes.clone()).into(),
            Node::Bytes(bytes) => encode(bytes).into(),
        };
        self.out.push_str(&written(&scalar, Layout::COMPACT));
        Ok(())
    }

    fn map(&mut self, fields: &[Field]) -> Result<(), Error> {
        let fields = fields.iter().filter_map(|field| match field {
            Field::Value(name, value) => Some((name, value)),
            Field::Comment(_) => None,
        });
        self.between('{', '}', fields, |writer, (name, value)| {
            let name = written(&Value::String(name.clone()), Layout::COMPACT);
            writer.out.push_str(&name);
            writer.out.push_str(": ");
            writer.node(value)
        })
    }

    fn list(&mut self, items: &[Node]) -> Result<(), Error> {
        let items = items.iter().filter(|item| !matches!(item, Node::Comment(_)));
        self.between('[', ']', items, Self::node)
    }

    fn between<T>(
        &mut self,
        open: char,
        close: char,
        items: impl Iterator<Item = T>,
        each: impl Fn(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        self.depth += 1;
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                self.out.push(',');
            }
            is_empty = false;
            self.line();
            each(self, item)?;
        }
        self.depth -= 1;
        if !is_empty {
            self.line();
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n('\t', self.depth));
    }
}
