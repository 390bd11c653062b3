//! Nodes made by the reader of the plain part of YAML.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::vec::Drain;

use smol_str::SmolStr;

use super::scalar::plain_tag;
use super::{Content, Limits, Node, Style, Tag};
use crate::plain::{self, Tree, Written};

/// Returns the only document of a text that is of the plain part and has content.
pub(super) fn read(text: &str, limits: Limits) -> Option<Node> {
    let limits = plain::Limits {
        depth: limits.depth,
        nodes: limits.nodes,
    };
    plain::read(text, limits, Nodes).flatten()
}

struct Nodes;

impl<'a> Tree<'a> for Nodes {
    type Node = Node;
    type Key = Node;

    const FOLDED: bool = false;
    /// Its maps are lists of pairs.
    const NODES_PER_MAP: usize = 0;

    fn plain(&self, text: &str, _: bool) -> Option<Node> {
        let node = untagged(text);
        (node.tag != Tag::Merge).then_some(node)
    }

    fn text(&self, text: Cow<'_, str>, written: Written, _: bool) -> Node {
        let style = match written {
            Written::Single => Style::Single,
            Written::Double => Style::Double,
            Written::Literal => Style::Literal,
            Written::Folded => Style::Folded,
        };
        Node {
            style,
            ..Node::string(SmolStr::from(&*text))
        }
    }

    fn plain_key(&self, text: &'a str) -> Option<Node> {
        Some(untagged(text))
    }

    fn text_key(&self, text: Cow<'a, str>, written: Written) -> Node {
        self.text(text, written, true)
    }

    fn is_wanted(&self, _: &Node) -> bool {
        true
    }

    fn list(&self, items: Drain<'_, Node>, flow: bool) -> Node {
        Node {
            tag: Tag::Seq,
            style: style(flow),
            ..Node::of(Content::Seq(items.collect()))
        }
    }

    fn map(&self, fields: Drain<'_, (Node, Node)>, flow: bool) -> Option<Node> {
        Some(Node {
            tag: Tag::Map,
            style: style(flow),
            ..Node::of(Content::Map(fields.collect()))
        })
    }
}

fn style(flow: bool) -> Style {
    if flow { Style::Flow } else { Style::Plain }
}

/// Returns a scalar without quotes, tagged by how it reads.
fn untagged(text: &str) -> Node {
    Node {
        tag: plain_tag(text),
        ..Node::plain(SmolStr::from(text))
    }
}
