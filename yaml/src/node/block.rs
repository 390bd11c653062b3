//! Shows a node tree to the emitter, in its own order, quotes and tags.

use std::borrow::Cow;
use std::fmt::Write;

use super::scalar::plain_tag;
use super::{Content, Kind, Node, Style, Tag};
use crate::shape;
use crate::write::{Shown, Tree, write_node};

/// Prints a node as one document, for YAML that stands as text inside an object.
///
/// Comments are not kept. Text is quoted when its plain form would mean something else, and what is of a type that its
/// text does not say is tagged: `!!int abc`.
pub fn to_block(node: &Node) -> String {
    write_node(node)
}

impl Tree for Node {
    fn shown(&self, in_flow: bool) -> Shown<'_, Node> {
        let flow = self.style == Style::Flow;
        match &self.content {
            Content::Seq(items) => Shown::List(items, flow),
            Content::Map(fields) => Shown::Fields(fields, flow),
            Content::Scalar(text) => match style(self, text, in_flow) {
                shape::Style::Plain if text.is_empty() => Shown::Nothing,
                style => Shown::Text(text, Some(style)),
            },
        }
    }

    fn written_tag(&self) -> Option<Cow<'_, str>> {
        if !self.tagged && is_implied(self) {
            return None;
        }
        Some(match &self.tag {
            Tag::None => return None,
            Tag::Null => "!!null".into(),
            Tag::Bool => "!!bool".into(),
            Tag::Str => "!!str".into(),
            Tag::Int => "!!int".into(),
            Tag::Float => "!!float".into(),
            Tag::Timestamp => "!!timestamp".into(),
            Tag::Binary => "!!binary".into(),
            Tag::Merge => "!!merge".into(),
            Tag::Map => "!!map".into(),
            Tag::Seq => "!!seq".into(),
            Tag::Other(tag) => other(tag).into(),
        })
    }
}

/// Tells whether a reader gives the node its tag without seeing it; text that would read otherwise is quoted.
fn is_implied(node: &Node) -> bool {
    match (&node.tag, node.kind()) {
        (Tag::None, _) | (Tag::Str, Kind::Scalar) | (Tag::Map, Kind::Map) | (Tag::Seq, Kind::Seq) => true,
        (tag, Kind::Scalar) => plain_tag(node.text()) == *tag,
        _ => false,
    }
}

/// Writes a tag of somebody's own: what may not stand in one is escaped.
fn other(tag: &str) -> String {
    let (before, rest, behind) = match (tag.strip_prefix("!!"), tag.strip_prefix('!')) {
        (Some(rest), _) => ("!!", rest, ""),
        (None, Some(rest)) => ("!", rest, ""),
        (None, None) => ("!<", tag, ">"),
    };
    let mut written = String::from(before);
    for byte in rest.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-;/?:@&=+$,_.~*'()[]".contains(&byte) => {
                written.push(char::from(byte));
            }
            byte => _ = write!(written, "%{byte:02X}"),
        }
    }
    written.push_str(behind);
    written
}

/// Returns the style of a scalar, as far as its characters allow.
fn style(node: &Node, text: &str, in_flow: bool) -> shape::Style {
    let is_ambiguous = node.tag == Tag::Str && !node.tagged && plain_tag(text) != Tag::Str;
    let breaks_flow = text.is_empty() || text.contains([',', '?', '[', ']', '{', '}', ':']);
    match node.style {
        Style::Single => shape::Style::Single,
        Style::Double => shape::Style::Double,
        Style::Literal | Style::Folded if in_flow => shape::Style::Double,
        Style::Literal => shape::Style::Literal,
        Style::Folded => shape::Style::Folded,
        _ if text.contains('\n') && in_flow => shape::Style::Double,
        _ if text.contains('\n') => shape::Style::Literal,
        _ if is_ambiguous => shape::Style::Double,
        _ if in_flow && breaks_flow => shape::Style::Single,
        _ => shape::Style::Plain,
    }
}
