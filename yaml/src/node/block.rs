//! Shows a node tree to the emitter, in its own order and quotes.

use super::scalar::plain_tag;
use super::{Content, Node, Style, Tag};
use crate::shape;
use crate::write::{Shown, Tree, write_node};

/// Prints a node as one document, for YAML that stands as text inside an object.
///
/// Comments are not kept, and text is quoted when its plain form would mean something else.
pub fn to_block(node: &Node) -> String {
    write_node(node)
}

impl Tree for Node {
    fn shown(&self, in_flow: bool) -> Shown<'_, Node> {
        let flow = self.style == Style::Flow;
        match &self.content {
            Content::Seq(items) => Shown::List(items, flow),
            Content::Map(fields) => Shown::Fields(fields, flow),
            Content::Scalar(text) if text.is_empty() && self.is_null() => Shown::Nothing,
            Content::Scalar(text) => match style(self, text, in_flow) {
                Some(style) => Shown::Text(text, Some(style)),
                None => Shown::Plain(text),
            },
        }
    }
}

/// Returns the style of a scalar that is text, as far as its characters allow; none when it means something else.
fn style(node: &Node, text: &str, in_flow: bool) -> Option<shape::Style> {
    let is_text = matches!(node.tag, Tag::Str | Tag::None);
    let is_ambiguous = node.tag == Tag::Str && plain_tag(text) != Tag::Str;
    let breaks_flow = in_flow && text.contains([',', '?', '[', ']', '{', '}']);
    Some(match node.style {
        _ if text.contains('\n') && in_flow => shape::Style::Double,
        _ if text.contains('\n') => shape::Style::Literal,
        Style::Single => shape::Style::Single,
        Style::Double => shape::Style::Double,
        _ if is_ambiguous => shape::Style::Double,
        _ if is_text && (text.is_empty() || breaks_flow) => shape::Style::Single,
        _ if is_text => shape::Style::Plain,
        _ => return None,
    })
}
