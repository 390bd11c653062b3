//! Texts that are data: YAML, and the lines of `--set` and its kin.

use flotilla_render::helm::strvals::{Syntax, parse_into};
use flotilla_render::yaml::node::{self, Node, ParseError, decode_documents, to_block};
use flotilla_render::yaml::{self, Limits, Map, Value};

use crate::parts;

/// Little, so that many inputs come to the limits.
pub(crate) fn limits() -> Limits {
    Limits {
        bytes: 1 << 20,
        nodes: 20_000,
        ..Limits::default()
    }
}

/// Reads the text both ways; what was read and written is read as the same again.
pub(crate) fn yaml(input: &[u8]) {
    let nodes = node::Limits {
        nodes: 20_000,
        ..node::Limits::default()
    };
    for document in documents(input, nodes).iter().flatten() {
        let _ = to_block(document);
        let _ = document.to_json(node::Schema::New);
        let _ = document.to_json(node::Schema::Old);
    }
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    nodes_by_both(text, nodes);
    let _ = yaml::places(text);
    for document in yaml::read_all(text, &limits()).into_iter().flatten() {
        let Ok(written) = yaml::write(&document) else {
            continue;
        };
        // The reference loses it too: it reads its own JSON as YAML, where a next line ends a line.
        if format!("{document:?}").contains("\\u{85}") {
            continue;
        }
        let again = yaml::read(&written, &limits());
        assert_eq!(again.as_ref(), Ok(&document), "written as {written}");
    }
    read_by_both(text);
}

fn documents(input: &[u8], limits: node::Limits) -> Result<Vec<Node>, ParseError> {
    decode_documents(input, |part| part.read(limits)).map(|(_, documents)| documents)
}

/// As [`read_by_both`], for the two readers of node trees.
fn nodes_by_both(text: &str, limits: node::Limits) {
    if text.starts_with(['\u{feff}', '%', '-']) {
        return;
    }
    let read = |text: &str| documents(text.as_bytes(), limits);
    let (fast, whole) = (read(text), read(&format!("#\t\n{text}")));
    assert_eq!(fast.is_ok(), whole.is_ok(), "{fast:?}, {whole:?}");
    if let (Ok(fast), Ok(whole)) = (fast, whole) {
        assert_eq!(fast, whole, "the readers differ");
    }
}

/// Reads the text as it is, and behind a comment with a tab, which only the reader that knows all of YAML takes:
/// where the reader of plain blocks answers, it answers the same.
fn read_by_both(text: &str) {
    if text.starts_with(['\u{feff}', '%']) || text.len() >= limits().bytes - 3 {
        return;
    }
    let whole = yaml::read(&format!("#\t\n{text}"), &limits());
    let read = yaml::read(text, &limits());
    assert_eq!(read.is_ok(), whole.is_ok(), "{read:?}, {whole:?}");
    if read.is_ok() {
        assert_eq!(read, whole, "the readers differ");
    }
}

/// Reads a line in each syntax into the values of the second part.
pub(crate) fn strvals(input: &[u8]) {
    let [line, values] = parts(input);
    let values = match yaml::read(&values, &limits()) {
        Ok(Value::Map(values)) => values,
        _ => Map::new(),
    };
    let mut file = |name: &str| Ok(name.as_bytes().to_vec());
    for syntax in [
        Syntax::Typed,
        Syntax::Text,
        Syntax::Literal,
        Syntax::Json,
        Syntax::File(&mut file),
    ] {
        let _ = parse_into(&line, &mut values.clone(), syntax);
    }
}
