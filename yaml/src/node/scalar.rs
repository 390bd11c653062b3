//! What the text of a scalar makes of a node.

use super::{Content, Node, Style, Tag};
use crate::Version;
use crate::resolve::{Resolved, resolve};

impl Resolved {
    /// The tag that a scalar of this meaning carries.
    pub(super) fn tag(self) -> Tag {
        match self {
            Resolved::Null => Tag::Null,
            Resolved::Bool(_) => Tag::Bool,
            Resolved::Int(_) | Resolved::UInt(_) => Tag::Int,
            Resolved::Float(_) => Tag::Float,
            Resolved::Timestamp => Tag::Timestamp,
            Resolved::Text => Tag::Str,
        }
    }
}

/// Returns the tag of a scalar without quotes: by how it reads, but the merge key has one of its own.
pub(super) fn plain_tag(text: &str) -> Tag {
    match text {
        "<<" => Tag::Merge,
        _ => resolve(text, Version::V3).tag(),
    }
}

/// Tells whether a string node would be read as something else by go-yaml's second version if it stood without quotes.
pub(super) fn reads_as_non_string(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(text) => {
            node.style == Style::Plain
                && node.is_string()
                && !text.is_empty()
                && !text.contains('\n')
                && !matches!(resolve(text, Version::V2), Resolved::Text | Resolved::Timestamp)
        }
        _ => false,
    }
}
