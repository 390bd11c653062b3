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

/// How deep an object nests, and how many bytes it is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The levels below the top.
    pub(crate) depth: usize,
    /// The texts, and the blanks before them: what nests deeply is written in many times its text.
    pub(crate) bytes: usize,
}

/// By how many columns each level is indented.
const INDENTATION: usize = 2;
/// Texts are folded behind this column.
const WIDTH: usize = 80;

/// Measures an object.
pub(crate) fn of(node: &Node) -> Extent {
    let mut extent = Extent::default();
    measure(node, 0, &mut extent);
    extent
}

fn measure(node: &Node, level: usize, extent: &mut Extent) {
    extent.depth = extent.depth.max(level);
    let indentation = level.saturating_mul(INDENTATION);
    match &node.content {
        Content::Scalar(text) => {
            let written = text.len().saturating_add(lines(text, indentation) * indentation);
            extent.bytes = extent.bytes.saturating_add(written);
        }
        Content::Seq(items) => items.iter().for_each(|item| {
            extent.bytes = extent.bytes.saturating_add(indentation);
            measure(item, level + 1, extent);
        }),
        Content::Map(fields) => fields.iter().for_each(|(key, value)| {
            extent.bytes = extent.bytes.saturating_add(indentation + key.text_bytes());
            measure(value, level + 1, extent);
        }),
    }
}

/// Counts the lines of a text behind its first: those it has, and those it is folded into, at blanks only.
fn lines(text: &str, indentation: usize) -> usize {
    let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
    if text.len() + indentation <= WIDTH {
        return breaks;
    }
    let blanks = text.bytes().filter(|byte| *byte == b' ').count();
    let folds = text.len() / WIDTH.saturating_sub(indentation).max(1);
    breaks + blanks.min(folds)
}
