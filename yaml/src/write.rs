//! Writes a value byte for byte as `sigs.k8s.io/yaml` does: keys in its natural order, lists level with
//! their key, lines folded after 80 columns, quotes only where a reader would need them.
//!
//! That library writes JSON first and reads it back as YAML, so what JSON text cannot carry through a YAML
//! reader cannot be written: those are the errors here.

mod emitter;
mod reread;
mod scalar;
mod tree;

use emitter::Emitter;
pub(crate) use tree::{Shown, Tree};

use crate::node::Node;
use crate::shape::Shape;
use crate::value::Value;

/// Lists and maps may be nested this deep; Kubernetes objects stay below 100.
pub const MAX_WRITE_DEPTH: usize = 1000;

/// Why a value has no YAML text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A string holds a character that YAML does not allow even in quotes.
    #[error("yaml: control characters are not allowed")]
    ControlCharacter,
    /// A map key is too long for a reader to find the colon after it, or breaks the line.
    #[error("yaml: did not find expected ',' or '}}'")]
    Key,
    /// The value is nested deeper than [`MAX_WRITE_DEPTH`].
    #[error("yaml: exceeded max depth of {MAX_WRITE_DEPTH}")]
    Depth,
}

/// What an emitter does of what may be done in several ways.
#[derive(Debug, Clone, Copy)]
struct Options {
    /// Lines are folded at blanks behind this column.
    width: usize,
    /// Lists stand level with their key.
    level_lists: bool,
    /// Tabs may stand in block scalars, as the third version has it.
    tabs_in_blocks: bool,
    texts: Texts,
}

/// What becomes of texts that the reference does not keep.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Texts {
    /// They are written as it reads them back from JSON, or refused.
    AsRead,
    /// They are written as its third version does, which reads nothing back.
    Indented,
    /// They are kept.
    Kept,
}

/// As `sigs.k8s.io/yaml` writes.
const KUBERNETES: Options = Options {
    width: 80,
    level_lists: true,
    tabs_in_blocks: false,
    texts: Texts::AsRead,
};

/// Returns `value` as one YAML document, ending with a line break.
///
/// # Errors
///
/// Where the reference refuses too: control characters, keys above 1,024 bytes, nesting.
pub fn write(value: &Value) -> Result<String, WriteError> {
    Emitter::new(KUBERNETES).document(value)
}

/// Returns `value` as [`write`] does, but with lists below their key and lines of any length.
///
/// # Errors
///
/// As [`write`].
pub fn write_indented(value: &Value) -> Result<String, WriteError> {
    let options = Options {
        width: usize::MAX,
        level_lists: false,
        tabs_in_blocks: true,
        texts: Texts::Indented,
    };
    Emitter::new(options).document(value)
}

/// Appends a JSON value as one YAML document, to a text that is empty or ends a line: as the reference writes it, but
/// every text reads back as it is.
pub fn push_json(text: &mut String, value: &serde_json::Value) {
    let options = Options {
        texts: Texts::Kept,
        ..KUBERNETES
    };
    // What is kept is never refused.
    let _ = Emitter::behind(text, options).append(value);
}

/// Returns a node as one document in its own order, quotes and tags, with lines of any length: for YAML that stands as
/// text inside an object. Comments are not kept. Text is quoted when its plain form would mean something else, and what
/// is of a type that its text does not say gets a tag, as the third version writes.
pub(crate) fn write_node(node: &Node) -> String {
    let options = Options {
        width: usize::MAX,
        tabs_in_blocks: true,
        texts: Texts::Kept,
        ..KUBERNETES
    };
    let mut text = String::new();
    // What is kept is never refused.
    let _ = Emitter::behind(&mut text, options).append(node);
    text
}

/// Tells whether the text may be written as a block scalar.
pub(crate) fn is_block_allowed(text: &str) -> bool {
    let shape = Shape::of(text);
    shape.block && !shape.tabs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::push_json;
    use crate::node::{Limits, parse_first, to_block};

    #[test]
    fn json_reads_back_as_it_was() {
        let value =
            json!({"<<": {"a": "yes"}, "b": ["<<", "0644", "x\ty\n", "", null, 1.5, []], "c d": "\u{2028}"});
        let mut text = String::from("# c\n");
        push_json(&mut text, &value);
        let read = crate::read(&text, &crate::Limits::default()).expect("YAML");
        assert_eq!(serde_json::Value::from(read), value, "{text}");
    }

    #[test]
    fn nodes_keep_their_order_and_their_quotes() {
        let cases = [
            "b: 'x'\na: \"y\"\nc: {z: [1, 'a,b'], y: ''}\n",
            "- a: |\n    x\n    y\n- - b\n- \"0644\"\n- ''\n",
            "? [a, b]\n: c\nd:\ne: []\n",
            "just words\n",
            "a: !!int abc\nb: !!str 5\nc: !x\n  d: !y\n  - !<tag:a,b> {e: !!bool no}\n!!int 1: !!int\n",
            // The library of the reference leaves a line free behind a folded text that ends with a line break.
            "a: >-\n  b\n\n  c\nd: >\n  e\n\nf: 'g\n\n  h'\ni: [\"j\\nk\", 'l:m', '']\n",
            "a: |\n  b\tc\n",
        ];
        for text in cases {
            let node = parse_first(text.as_bytes(), Limits::default())
                .expect("YAML")
                .expect("a document");
            assert_eq!(to_block(&node), text);
        }
    }
}
