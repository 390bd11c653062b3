//! Prints a node tree as block YAML in its own order and quotes, for YAML that stands as text inside an object.
//!
//! Comments are not kept, and text is quoted when its plain form would mean something else.

use super::scalar::{Meaning, resolve};
use super::{Content, Node, Style, Tag};

/// Prints a node as one document.
pub fn to_block(node: &Node) -> String {
    let mut out = String::new();
    match &node.content {
        Content::Scalar(_) => {
            scalar(node, 0, &mut out);
            out.push('\n');
        }
        _ => collection(node, 0, &mut out, true),
    }
    out
}

fn is_inline(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(_) => true,
        Content::Seq(items) => items.is_empty(),
        Content::Map(fields) => fields.is_empty(),
    }
}

fn collection(node: &Node, indent: usize, out: &mut String, mut first: bool) {
    let mut start = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match &node.content {
        Content::Map(fields) => {
            for (key, value) in fields {
                start(out);
                scalar(key, indent, out);
                out.push(':');
                after_key(value, indent, out);
            }
        }
        Content::Seq(items) => {
            for item in items {
                start(out);
                out.push_str("- ");
                if is_inline(item) {
                    inline(item, indent, out);
                    out.push('\n');
                } else {
                    collection(item, indent + 2, out, true);
                }
            }
        }
        Content::Scalar(_) => {}
    }
}

fn after_key(value: &Node, indent: usize, out: &mut String) {
    if is_inline(value) {
        if value.text().is_empty() && value.is_null() {
            out.push('\n');
            return;
        }
        out.push(' ');
        inline(value, indent, out);
        out.push('\n');
        return;
    }
    out.push('\n');
    let inner = if matches!(value.content, Content::Map(_)) {
        indent + 2
    } else {
        indent
    };
    collection(value, inner, out, false);
}

fn inline(node: &Node, indent: usize, out: &mut String) {
    match &node.content {
        Content::Scalar(_) => scalar(node, indent, out),
        Content::Seq(_) => out.push_str("[]"),
        Content::Map(_) => out.push_str("{}"),
    }
}

fn scalar(node: &Node, indent: usize, out: &mut String) {
    let text = node.text();
    let is_text = matches!(node.tag, Tag::Str | Tag::None);
    let ambiguous = node.tag == Tag::Str && resolve(text) != Meaning::Text;
    match node.style {
        _ if text.contains('\n') => super::text::push_text(out, text, indent, true),
        Style::Single => {
            out.push('\'');
            out.push_str(&text.replace('\'', "''"));
            out.push('\'');
        }
        Style::Double => super::text::push_double(out, text),
        _ if ambiguous => super::text::push_double(out, text),
        _ if is_text => super::text::push_text(out, text, indent, false),
        _ => out.push_str(text),
    }
}
