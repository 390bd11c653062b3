//! What several documents may grow to together: aliases make a few bytes of each into millions of values.

use crate::yaml::{self, ReadError, Value};

/// What is left of what one document may grow to.
#[derive(Debug)]
pub(super) struct Growth {
    nodes: usize,
    bytes: usize,
}

impl Default for Growth {
    fn default() -> Self {
        let limits = yaml::Limits::default();
        Growth {
            nodes: limits.nodes,
            bytes: limits.expanded,
        }
    }
}

impl Growth {
    /// Reads a document, and takes what it grew to from what is left. With `floats`, a whole number written as a float
    /// stays one.
    pub(super) fn read(&mut self, text: &str, floats: bool) -> Result<Value, ReadError> {
        let limits = yaml::Limits {
            nodes: self.nodes,
            expanded: self.bytes,
            floats,
            ..yaml::Limits::default()
        };
        let value = yaml::read(text, &limits)?;
        self.take(&value);
        Ok(value)
    }

    fn take(&mut self, value: &Value) {
        self.nodes = self.nodes.saturating_sub(1);
        match value {
            Value::String(text) => self.bytes = self.bytes.saturating_sub(text.len()),
            Value::List(items) => items.iter().for_each(|item| self.take(item)),
            Value::Map(fields) => {
                for (key, value) in fields {
                    self.bytes = self.bytes.saturating_sub(key.len());
                    self.take(value);
                }
            }
            _ => {}
        }
    }
}
