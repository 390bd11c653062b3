//! What is asked of single nodes.

use smol_str::SmolStr;

use crate::yaml::node::{Content, Node};

/// Returns the text of a scalar, shared with it, and an empty one of anything else.
pub(super) fn scalar(node: &Node) -> SmolStr {
    match &node.content {
        Content::Scalar(text) => text.clone(),
        Content::Seq(_) | Content::Map(_) => SmolStr::default(),
    }
}

/// Takes a value out of its field, and leaves there how it is written and, of a scalar, what it says.
pub(super) fn taken(value: &mut Node) -> Node {
    let content = match &value.content {
        Content::Scalar(text) => Content::Scalar(text.clone()),
        Content::Seq(_) | Content::Map(_) => Content::Seq(Vec::new()),
    };
    let shell = Node {
        tag: value.tag.clone(),
        content,
        ..*value
    };
    std::mem::replace(value, shell)
}

/// Tells whether walking a value without a patch and without a type would leave it as it is.
pub(super) fn walks_to_itself(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(_) | Content::Seq(_) => !node.is_null(),
        Content::Map(_) => false,
    }
}

pub(super) fn into_items(node: Node) -> Vec<Node> {
    match node.content {
        Content::Seq(items) => items,
        _ => Vec::new(),
    }
}

pub(super) fn is_empty_map(node: &Node) -> bool {
    matches!(&node.content, Content::Map(fields) if fields.is_empty())
}
