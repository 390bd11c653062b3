//! What several documents may grow to together: aliases make a few bytes of each into millions of values.

use super::context::Stop;
use crate::yaml::{self, ReadError, Value};

/// How errors name what has grown too large: nodes and bytes.
type Names = [&'static str; 2];

const OF_CHART: Names = [
    "number of nodes of all files of the chart together, aliases expanded,",
    "bytes of text of all files of the chart together, aliases expanded,",
];
const OF_VALUES: Names = [
    "number of nodes of all values files together, aliases expanded,",
    "bytes of text of all values files together, aliases expanded,",
];

/// What is left of what one document may grow to.
#[derive(Debug)]
pub(super) struct Growth<'s> {
    nodes: usize,
    bytes: usize,
    names: Names,
    stop: Option<&'s Stop>,
}

impl<'s> Growth<'s> {
    /// What all files of a chart and its subcharts may grow to.
    pub(super) fn of_chart() -> Self {
        Growth::named(OF_CHART)
    }

    /// What all files of values that a user gives may grow to.
    pub(super) fn of_values() -> Self {
        Growth::named(OF_VALUES)
    }

    /// The same, of which no more is read once the caller wants to stop.
    pub(super) fn until(self, stop: &'s Stop) -> Self {
        Self {
            stop: Some(stop),
            ..self
        }
    }

    /// Tells whether the caller wants to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_some_and(Stop::is_wanted)
    }

    fn named(names: Names) -> Self {
        let limits = yaml::Limits::default();
        Growth {
            nodes: limits.nodes,
            bytes: limits.expanded,
            names,
            stop: None,
        }
    }

    /// Reads a document, and takes what it grew to from what is left. With `floats`, a whole number written as a float
    /// stays one.
    pub(super) fn read(&mut self, text: &str, floats: bool) -> Result<Value, ReadError> {
        let limits = yaml::Limits {
            nodes: self.nodes,
            expanded: self.bytes,
            floats,
            ..yaml::Limits::default()
        };
        let value = yaml::read(text, &limits).map_err(|error| self.told(error))?;
        self.take(&value);
        Ok(value)
    }

    /// Tells the whole limit of what came to the end of what is left.
    fn told(&self, error: ReadError) -> ReadError {
        let [nodes, bytes] = self.names;
        let whole = yaml::Limits::default();
        match error {
            ReadError::Limit { line, limit, .. } if limit == yaml::NODES => ReadError::Limit {
                line,
                limit: nodes,
                allowed: whole.nodes,
            },
            ReadError::Limit { line, limit, .. } if limit == yaml::EXPANDED => ReadError::Limit {
                line,
                limit: bytes,
                allowed: whole.expanded,
            },
            error => error,
        }
    }

    fn take(&mut self, value: &Value) {
        self.nodes = self.nodes.saturating_sub(1);
        match value {
            Value::String(text) => self.bytes = self.bytes.saturating_sub(text.len()),
            Value::List(items) => items.iter().for_each(|item| self.take(item)),
            Value::Map(fields) => {
                // As it was counted when it was read, keys included.
                let map = if fields.is_empty() { 0 } else { yaml::NODES_PER_MAP };
                self.nodes = self.nodes.saturating_sub(map + fields.len());
                for (key, value) in fields {
                    self.bytes = self.bytes.saturating_sub(key.len());
                    self.take(value);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_the_whole_limit_and_what_has_it() {
        for (mut growth, files) in [
            (Growth::of_chart(), "all files of the chart together"),
            (Growth::of_values(), "all values files together"),
        ] {
            growth.nodes = 5 + yaml::NODES_PER_MAP;
            assert!(growth.read("a: 1", false).is_ok());
            let error = growth.read("[1, 2]", false).expect_err("two nodes are left");
            let said = format!(
                "number of nodes of {files}, aliases expanded, exceeds the limit of {}",
                yaml::Limits::default().nodes
            );
            assert!(error.to_string().ends_with(&said), "{error}");
            (growth.nodes, growth.bytes) = (100, 5);
            let error = growth
                .read("a: &a long\nb: *a", false)
                .expect_err("five bytes are left");
            let said = format!(
                "bytes of text of {files}, aliases expanded, exceeds the limit of {}",
                yaml::Limits::default().expanded
            );
            assert!(error.to_string().ends_with(&said), "{error}");
        }
    }
}
