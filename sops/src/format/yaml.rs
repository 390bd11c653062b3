//! YAML. Decrypted texts keep their comments and their look: encrypted values are replaced where they stand. Only where
//! that does not give what it should, a text is written anew, without comments.

use std::collections::HashMap;

use flotilla_yaml::node::{self, Content, Limits, Schema, Style, Tag, decode_documents, to_block};

use super::{Format, STANZA};
use crate::{
    error::Error,
    limits,
    object::{encode, text_of},
    tree::{Field, Node},
};

const ENCRYPTED: &str = "ENC[AES256_GCM,";

/// Reads all documents of a text.
pub(super) fn read(content: &[u8]) -> Result<Vec<Vec<Field>>, Error> {
    let bounds = Limits {
        depth: limits::DEPTH,
        nodes: limits::VALUES * 2,
        bytes: limits::BYTES * 2,
    };
    // What the reader says of a text that was decrypted may quote it.
    let bad = |error: node::ParseError| {
        Format::Yaml.unreadable(match error {
            node::ParseError::Syntax { line, .. } | node::ParseError::Merge { line, .. } => {
                format!("it is not YAML at line {line}")
            }
            other => other.to_string(),
        })
    };
    let (_, documents) = decode_documents(content, |part| part.read(bounds)).map_err(bad)?;
    documents
        .iter()
        .map(|document| -> Result<Vec<Field>, Error> {
            match &document.content {
                Content::Map(fields) => fields.iter().map(field).collect(),
                _ => Err(Format::Yaml.unreadable("only documents with a map at the top are supported")),
            }
        })
        .collect()
}

fn field((key, value): &(node::Node, node::Node)) -> Result<Field, Error> {
    match key.content {
        Content::Scalar(_) => Ok(Field::Value(key.text().to_owned(), tree(value)?)),
        _ => Err(Format::Yaml.unreadable("a key is no text")),
    }
}

fn tree(node: &node::Node) -> Result<Node, Error> {
    let scalar = match &node.content {
        Content::Seq(items) => return items.iter().map(tree).collect::<Result<_, _>>().map(Node::List),
        Content::Map(fields) => return fields.iter().map(field).collect::<Result<_, _>>().map(Node::Map),
        Content::Scalar(_) => node.to_json(Schema::New),
    };
    let scalar = scalar.map_err(|_| Format::Yaml.unreadable("a value does not fit its tag"))?;
    Ok(match scalar {
        serde_json::Value::Null => Node::Null,
        serde_json::Value::Bool(flag) => Node::Bool(flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Node::Int(number),
            None => Node::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Node::Text(text.into_bytes()),
        _ => Node::Null,
    })
}

/// What a decrypted text was read from.
pub(crate) struct Source<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// Its documents before they were decrypted.
    pub(crate) before: &'a [Vec<Field>],
    /// Finds what an encrypted comment says.
    pub(crate) comment: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

/// Writes decrypted documents.
pub(super) fn write(documents: &[Vec<Field>], source: Option<Source<'_>>) -> Result<Vec<u8>, Error> {
    if let Some(source) = source {
        let text = replaced(&source, documents);
        if read(text.as_bytes()).is_ok_and(|reread| reread == shown(documents)) {
            return Ok(text.into_bytes());
        }
    }
    let texts = documents.iter().map(|fields| to_block(&map(fields)));
    Ok(texts.collect::<Vec<_>>().join("---\n").into_bytes())
}

/// Documents as they read back: bytes are base64 there.
fn shown(documents: &[Vec<Field>]) -> Vec<Vec<Field>> {
    fn node(one: &Node) -> Node {
        match one {
            Node::Text(bytes) | Node::Time(bytes) => Node::Text(text_of(bytes.clone()).into_bytes()),
            Node::List(items) => Node::List(items.iter().map(node).collect()),
            Node::Map(all) => Node::Map(fields(all)),
            // As JSON has it.
            Node::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                format!("{number:.0}").parse().map_or(Node::Null, Node::Int)
            }
            other => other.clone(),
        }
    }
    fn fields(all: &[Field]) -> Vec<Field> {
        all.iter()
            .map(|field| match field {
                Field::Value(name, value) => Field::Value(name.clone(), node(value)),
                Field::Comment(text) => Field::Comment(text.clone()),
            })
            .collect()
    }
    documents.iter().map(|all| fields(all)).collect()
}

/// Puts decrypted values and comments into the place of the encrypted ones, and leaves the stanzas out.
fn replaced(source: &Source<'_>, after: &[Vec<Field>]) -> String {
    let mut values = HashMap::new();
    for (before, after) in source.before.iter().zip(after) {
        pair_fields(before, after, &mut values);
    }
    let mut out = String::with_capacity(source.text.len());
    let mut is_stanza = false;
    for line in source.text.split_inclusive('\n') {
        let begins = !line.starts_with([' ', '\t', '\n', '\r', '#', '-']);
        if line.starts_with("---") || begins {
            is_stanza = line
                .strip_prefix(STANZA)
                .is_some_and(|rest| rest.starts_with(':'));
        }
        if !is_stanza {
            push_line(&mut out, line, &values, source.comment);
        }
    }
    out
}

fn pair_fields<'t>(before: &'t [Field], after: &'t [Field], values: &mut HashMap<&'t str, &'t Node>) {
    for (before, after) in before.iter().zip(after) {
        if let (Field::Value(_, before), Field::Value(_, after)) = (before, after) {
            pair(before, after, values);
        }
    }
}

fn pair<'t>(before: &'t Node, after: &'t Node, values: &mut HashMap<&'t str, &'t Node>) {
    match (before, after) {
        (Node::Map(before), Node::Map(after)) => pair_fields(before, after, values),
        (Node::List(before), Node::List(after)) => {
            let items = before.iter().zip(after);
            items.for_each(|(before, after)| pair(before, after, values));
        }
        (Node::Text(text), after) => {
            if let Ok(text) = std::str::from_utf8(text)
                && text.starts_with(ENCRYPTED)
            {
                values.insert(text, after);
            }
        }
        _ => {}
    }
}

/// Writes a line with what is encrypted in it decrypted.
fn push_line(
    out: &mut String,
    line: &str,
    values: &HashMap<&str, &Node>,
    comment: &dyn Fn(&str) -> Option<Vec<u8>>,
) {
    let mut rest = line;
    while let Some(at) = rest.find(ENCRYPTED) {
        let Some(length) = rest[at..].find(']') else { break };
        let (begin, end) = (at, at + length + 1);
        let token = &rest[begin..end];
        if rest[..begin].ends_with('#') {
            out.push_str(&rest[..begin]);
            match comment(token) {
                // A comment of several lines is several.
                Some(text) => out.push_str(&text_of(text).replace('\n', "\n#")),
                None => out.push_str(token),
            }
            rest = &rest[end..];
            continue;
        }
        let Some(value) = values.get(token) else {
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        };
        let quote = rest[..begin]
            .chars()
            .next_back()
            .filter(|sign| matches!(sign, '"' | '\''));
        let is_quoted = quote.is_some_and(|quote| rest[end..].starts_with(quote));
        let (begin, end) = match is_quoted {
            true => (begin - 1, end + 1),
            false => (begin, end),
        };
        out.push_str(&rest[..begin]);
        push_scalar(out, value, content_column(line));
        rest = &rest[end..];
    }
    out.push_str(rest);
}

/// The column at which go-yaml writes the lines of a text that begins in this line.
fn content_column(line: &str) -> usize {
    let mut column = line.len() - line.trim_start_matches(' ').len();
    let mut rest = &line[column..];
    while let Some(item) = rest.strip_prefix("- ") {
        column += 2;
        rest = item;
    }
    match rest.starts_with(ENCRYPTED) || rest.starts_with(['"', '\'']) && !rest.contains(": ") {
        true => column,
        false => (column + 4) / 4 * 4,
    }
}

/// Writes a scalar as go-yaml does: a text of several lines as a block of them.
fn push_scalar(out: &mut String, value: &Node, column: usize) {
    let mut scalar = leaf(value);
    let is_plain_block = |text: &str| {
        text.contains('\n')
            && !text.starts_with([' ', '\n', '\t'])
            && text
                .chars()
                .all(|c| c == '\n' || !c.is_control() && c != '\u{feff}')
            && !text.contains(['\u{85}', '\u{2028}', '\u{2029}'])
            && text.lines().all(|line| !line.ends_with([' ', '\t']))
    };
    if let Content::Scalar(text) = &scalar.content
        && text.contains('\n')
    {
        if is_plain_block(text) {
            let body = text.trim_end_matches('\n');
            out.push_str(match text.len() - body.len() {
                0 => "|-",
                1 => "|",
                _ => "|+",
            });
            for line in body.split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    out.extend(std::iter::repeat_n(' ', column));
                    out.push_str(line);
                }
            }
            out.extend(std::iter::repeat_n(
                '\n',
                (text.len() - body.len()).saturating_sub(1),
            ));
            return;
        }
        scalar.style = Style::Double;
    }
    let mut holder = node::Node::map();
    holder.append("k", scalar);
    let written = to_block(&holder);
    let written = written.strip_prefix("k:").unwrap_or_default();
    out.push_str(written.trim_start_matches(' ').trim_end_matches('\n'));
}

fn leaf(node: &Node) -> node::Node {
    match node {
        Node::Text(bytes) => node::Node::string(text_of(bytes.clone())),
        Node::Time(bytes) => node::Node::tagged(Tag::Timestamp, text_of(bytes.clone())),
        Node::Bytes(bytes) => node::Node::tagged(Tag::Binary, encode(bytes)),
        Node::Int(number) => node::Node::tagged(Tag::Int, number.to_string()),
        Node::Float(number) => node::Node::tagged(Tag::Float, flotilla_yaml::number::shortest(*number)),
        Node::Bool(flag) => node::Node::tagged(Tag::Bool, flag.to_string()),
        Node::Null | Node::Comment(_) | Node::List(_) | Node::Map(_) => node::Node::tagged(Tag::Null, "null"),
    }
}

fn map(fields: &[Field]) -> node::Node {
    let mut map = node::Node::map();
    for field in fields {
        if let Field::Value(name, value) = field {
            map.append(name.as_str(), whole(value));
        }
    }
    map
}

fn whole(value: &Node) -> node::Node {
    match value {
        Node::Map(fields) => map(fields),
        Node::List(items) => {
            let mut list = node::Node::seq();
            if let Some(all) = list.items_mut() {
                let items = items.iter().filter(|item| !matches!(item, Node::Comment(_)));
                all.extend(items.map(whole));
            }
            list
        }
        other => leaf(other),
    }
}
