//! Prints a node tree as block YAML in its own order and quotes, for YAML that stands as text inside an object.
//!
//! Comments are not kept, and text is quoted when its plain form would mean something else.

use super::scalar::{Meaning, resolve};
use super::{Content, Node, Style, Tag};
use crate::yaml::write::{push_double, push_text};

/// Prints a node as one document.
pub fn to_block(node: &Node) -> String {
    let mut out = String::new();
    match &node.content {
        _ if is_inline(node) => {
            inline(node, 0, &mut out);
            out.push('\n');
        }
        _ => collection(node, 0, &mut out, true),
    }
    out
}

fn is_inline(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(_) => true,
        Content::Seq(items) => items.is_empty() || node.style == Style::Flow,
        Content::Map(fields) => fields.is_empty() || node.style == Style::Flow,
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
        _ => flow(node, out),
    }
}

/// Writes a list in brackets, a map in braces, and all that is in them likewise.
fn flow(node: &Node, out: &mut String) {
    match &node.content {
        Content::Scalar(text) => {
            let plain = node.style == Style::Plain && matches!(node.tag, Tag::Str | Tag::None);
            if plain && text.contains([',', '?', '[', ']', '{', '}']) && !text.contains('\'') {
                out.push('\'');
                out.push_str(text);
                out.push('\'');
            } else if text.contains('\n') {
                push_double(out, text);
            } else {
                scalar(node, 0, out);
            }
        }
        Content::Seq(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                flow(item, out);
            }
            out.push(']');
        }
        Content::Map(fields) => {
            out.push('{');
            for (at, (key, value)) in fields.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                flow(key, out);
                out.push_str(": ");
                flow(value, out);
            }
            out.push('}');
        }
    }
}

fn scalar(node: &Node, indent: usize, out: &mut String) {
    let text = node.text();
    let is_text = matches!(node.tag, Tag::Str | Tag::None);
    let ambiguous = node.tag == Tag::Str && resolve(text) != Meaning::Text;
    match node.style {
        _ if text.contains('\n') => push_text(out, text, indent, true),
        Style::Single => {
            out.push('\'');
            out.push_str(&text.replace('\'', "''"));
            out.push('\'');
        }
        Style::Double => push_double(out, text),
        _ if ambiguous => push_double(out, text),
        _ if is_text => push_text(out, text, indent, false),
        _ => out.push_str(text),
    }
}
