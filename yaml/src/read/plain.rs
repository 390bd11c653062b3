//! Values made by the reader of the plain part of YAML. The same code as in the full parser decides what a scalar
//! means.

use std::borrow::Cow;
use std::vec::Drain;

use super::{Limits, key_of_plain, of_plain};
use crate::Version;
use crate::memory::NODES_PER_MAP;
use crate::plain::{self, Tree, Written};
use crate::resolve::{Resolved, resolve};
use crate::value::{Map, Value};

/// Returns the only document of a text that is of the plain part. Of a map at the root just the fields that
/// `wanted` names (in lower case) are kept where it is given; the others are read and dropped.
pub(super) fn read(text: &str, limits: &Limits, wanted: Option<&[&str]>) -> Option<Value> {
    let tree = Values {
        // A key that occurs twice must not go unseen.
        wanted: wanted.filter(|_| !limits.strict),
        strict: limits.strict,
        floats: limits.floats,
    };
    let limits = plain::Limits {
        depth: limits.depth,
        nodes: limits.nodes,
    };
    plain::read(text, limits, tree).map(Option::unwrap_or_default)
}

struct Values<'w> {
    /// The fields of the root that are kept.
    wanted: Option<&'w [&'w str]>,
    /// Whether a key that occurs twice is an error, which the full parser reports.
    strict: bool,
    /// Whether floats stay floats.
    floats: bool,
}

impl<'a> Tree<'a> for Values<'_> {
    type Node = Value;
    type Key = Cow<'a, str>;

    const FOLDED: bool = true;
    const NODES_PER_MAP: usize = NODES_PER_MAP;

    fn plain(&self, text: &str, kept: bool) -> Option<Value> {
        match resolve(text, Version::V2) {
            Resolved::Text if !kept => Some(Value::Null),
            found => of_plain(found, text, self.floats),
        }
    }

    fn text(&self, text: Cow<'_, str>, _: Written, kept: bool) -> Value {
        if kept {
            Value::String(text.into_owned())
        } else {
            Value::Null
        }
    }

    fn plain_key(&self, text: &'a str) -> Option<Cow<'a, str>> {
        match resolve(text, Version::V2) {
            Resolved::Text | Resolved::Timestamp => Some(Cow::Borrowed(text)),
            found => key_of_plain(found).map(Cow::Owned),
        }
    }

    fn text_key(&self, text: Cow<'a, str>, _: Written) -> Cow<'a, str> {
        text
    }

    fn is_wanted(&self, key: &Cow<'a, str>) -> bool {
        let named = |wanted: &[&str]| wanted.iter().any(|field| key.eq_ignore_ascii_case(field));
        // A letter outside of ASCII may have a lower case within it.
        self.wanted.is_none_or(named) || !key.is_ascii()
    }

    fn list(&self, items: Drain<'_, Value>, _: bool) -> Value {
        Value::List(items.collect())
    }

    fn map(&self, fields: Drain<'_, (Cow<'a, str>, Value)>, _: bool) -> Option<Value> {
        let mut map = Map::new();
        for (key, value) in fields {
            if map.insert(key.into_owned(), value).is_some() && self.strict {
                return None;
            }
        }
        Some(Value::Map(map))
    }
}
