//! How deep an object may nest: as deep as the reader of YAML lets it. Trees are walked by functions that call
//! themselves, and no agent reads an object that nests much deeper.

use crate::yaml::node::{Content, Node};

use super::error::{Result, shortened, too_large};

/// How many levels may lie below the top of an object.
pub(crate) const MAX_DEPTH: usize = 100;

/// Refuses a path that leads deeper than an object may nest.
pub(crate) fn check_path(parts: usize, path: &str) -> Result<()> {
    check(parts, || format!("the path '{}'", shortened(path)))
}

/// Refuses what makes an object nest that deep.
pub(crate) fn check(depth: usize, what: impl FnOnce() -> String) -> Result<()> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(too_large(format!(
        "{}: the object would nest deeper than {MAX_DEPTH}",
        what()
    )))
}

/// Counts the levels below a node.
pub(crate) fn of(node: &Node) -> usize {
    match &node.content {
        Content::Scalar(_) => 0,
        Content::Seq(items) => items.iter().map(|item| 1 + of(item)).max().unwrap_or(0),
        Content::Map(fields) => fields.iter().map(|(_, value)| 1 + of(value)).max().unwrap_or(0),
    }
}
