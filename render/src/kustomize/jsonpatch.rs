//! JSON patches (RFC 6902) as the library that kustomize uses applies them: negative indexes count from the end, and
//! `test` compares how scalars are written.

mod document;

use flotilla_core::text::edit::closest;
use serde_json::Value;

use crate::yaml::json::values_in;
use crate::yaml::node::{Kind, Schema};

use super::depth;
use super::error::{Error, Result, invalid, shortened};
use super::reader::Reader;
use super::steps::Steps;
use document::Document;

/// How many items of a list are moved in one step.
const ITEMS_PER_STEP: usize = 4;
/// What an object takes beside its values, however few they are: room for eleven fields.
const BYTES_PER_OBJECT: usize = 768;

/// One operation of a patch.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    op: String,
    /// Missed only where it is applied: a patch that finds no object is not looked at.
    path: Option<String>,
    from: Option<String>,
    value: Option<Document>,
    /// What it lacks.
    fault: Option<String>,
}

impl Operation {
    /// Returns the operation as errors show it.
    fn shown(&self) -> String {
        format!(
            "{} operation at '{}'",
            shortened(&self.op),
            shortened(self.path())
        )
    }

    fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }
}

/// Reads a patch: JSON when it begins with a bracket, YAML otherwise.
pub(crate) fn decode(text: &str, reader: Reader<'_>) -> Result<Vec<Operation>> {
    let read = if text.starts_with('[') {
        // Taken before anything is made, as long as the text may be.
        reader.steps().spend_copy(values_in(text), text.len())?;
        let objects = text.bytes().filter(|byte| *byte == b'{').count();
        reader
            .steps()
            .spend_bytes(objects.saturating_mul(BYTES_PER_OBJECT))?;
        Document::read(text).map_err(|error| invalid(format!("decoding JSON patch: {error}")))?
    } else {
        match reader.first(text.as_bytes())? {
            Some(node) if node.kind() == Kind::Map => return Err(no_list()),
            Some(node) => reader.to_json(&node, Schema::Old)?.into(),
            None => Document::NULL,
        }
    };
    match read {
        Document::Array(items) => {
            let count = items.len();
            let operations = items.into_iter().enumerate();
            operations
                .map(|(at, item)| operation(item).map_err(|fault| numbered(fault, at, count)))
                .collect()
        }
        read if read.is_null() => Ok(Vec::new()),
        _ => Err(no_list()),
    }
}

fn no_list() -> Box<Error> {
    invalid("a JSON patch is a list of operations")
}

/// Says of which operation of several a fault is.
fn numbered(fault: String, at: usize, count: usize) -> Box<Error> {
    match count {
        1 => invalid(fault),
        _ => invalid(format!("operation {}: {fault}", at + 1)),
    }
}

fn operation(read: Document) -> Result<Operation, String> {
    let Document::Object(mut fields) = read else {
        return Err("an operation is an object".to_owned());
    };
    let text = |name: &str| fields.get(name).and_then(Document::as_str).map(str::to_owned);
    let (op, path, from) = (text("op").unwrap_or_default(), text("path"), text("from"));
    let fault = match (&path, fields.contains_key("path")) {
        (None, true) => Some(format!(
            "operation '{}' has a path that is no text",
            shortened(&op)
        )),
        (None, false) => {
            let meant = misspelt("path", fields.keys());
            Some(format!("operation '{}' has no path{meant}", shortened(&op)))
        }
        (Some(path), _) if op.is_empty() => {
            let meant = misspelt("op", fields.keys());
            Some(format!("the operation at '{}' has no op{meant}", shortened(path)))
        }
        _ => None,
    };
    Ok(Operation {
        op,
        path,
        from,
        value: fields.remove("value").map(Document::given),
        fault,
    })
}

/// Names a key that was likely meant to be one that is missing.
fn misspelt<'k>(wanted: &str, keys: impl Iterator<Item = &'k String>) -> String {
    let short = keys.filter(|key| key.len() <= 8);
    let meant = short
        .into_iter()
        .find(|key| closest(key, [wanted]).is_some() || key.starts_with(wanted));
    meant.map_or_else(String::new, |key| format!("; did you mean {wanted} by '{key}'?"))
}

/// Applies the operations to an object in order.
pub(crate) fn apply(object: Value, operations: &[Operation], steps: &Steps<'_>) -> Result<Value> {
    let mut document = Document::from(object);
    for (index, operation) in operations.iter().enumerate() {
        let which = || match operations.len() {
            1 => String::new(),
            _ => format!("operation {}: ", index + 1),
        };
        if let Some(fault) = &operation.fault {
            return Err(invalid(format!("{}{fault}", which())));
        }
        charge(&document, operation, steps)?;
        step(&mut document, operation)
            .map_err(|reason| invalid(format!("{}{}: {reason}", which(), operation.shown())))?;
    }
    Ok(document.into())
}

/// Takes what an operation costs before it is carried out: a copy may be of all that earlier ones made.
fn charge(document: &Document, operation: &Operation, steps: &Steps<'_>) -> Result<()> {
    let moved = match (operation.op.as_str(), operation.from.as_deref()) {
        ("add" | "copy" | "remove", _) => behind(document, operation.path()),
        ("move", from) => behind(document, operation.path()) + behind(document, from.unwrap_or_default()),
        _ => 0,
    };
    steps.spend(1 + moved / ITEMS_PER_STEP)?;
    steps.spend_text(operation.path().len())?;
    let (value, copies) = match operation.op.as_str() {
        "add" | "replace" => (operation.value.as_ref(), true),
        "copy" => (
            operation.from.as_deref().and_then(|from| look(document, from)),
            true,
        ),
        "move" => (
            operation.from.as_deref().and_then(|from| look(document, from)),
            false,
        ),
        "test" => (operation.value.as_ref(), false),
        _ => (None, false),
    };
    let Some(value) = value else { return Ok(()) };
    let mut size = Size::default();
    size.add(value, operation.path().matches('/').count());
    depth::check(size.depth, || operation.shown())?;
    match copies {
        true => {
            steps.spend_bytes(size.objects.saturating_mul(BYTES_PER_OBJECT))?;
            steps.spend_copy(size.nodes, size.text)
        }
        false => steps.spend(size.nodes),
    }
}

/// Counts the items of a list that are moved where one is put in or taken out before them.
fn behind(document: &Document, path: &str) -> usize {
    let Some((parent, last)) = path.rsplit_once('/') else {
        return 0;
    };
    match look(document, parent) {
        Some(Document::Array(items)) => index(last, items.len()).map_or(0, |at| items.len() - at),
        _ => 0,
    }
}

/// What a value takes.
#[derive(Default)]
struct Size {
    nodes: usize,
    objects: usize,
    text: usize,
    depth: usize,
}

impl Size {
    /// Adds a value that stands so deep.
    fn add(&mut self, value: &Document, depth: usize) {
        self.nodes += 1;
        self.depth = self.depth.max(depth);
        match value {
            Document::Scalar(_) => self.text += value.text_bytes(),
            Document::Array(items) => items.iter().for_each(|item| self.add(item, depth + 1)),
            Document::Object(fields) => {
                self.objects += 1;
                for (name, field) in fields {
                    self.text += name.len();
                    self.add(field, depth + 1);
                }
            }
        }
    }
}

fn step(document: &mut Document, operation: &Operation) -> Result<(), String> {
    let value = || operation.value.clone().unwrap_or(Document::NULL);
    let path = operation.path.as_deref().ok_or("it has no path")?;
    match operation.op.as_str() {
        "add" => add(document, path, value()),
        "replace" => replace(document, path, value()),
        "remove" => take(document, path).map(|_| ()),
        "move" => {
            let from = operation.from.as_deref().ok_or("it has no from")?;
            let moved = take(document, from)?;
            add(document, path, moved)
        }
        "copy" => {
            let from = operation.from.as_deref().ok_or("it has no from")?;
            let copied = copied(document, from)?;
            add(document, path, copied)
        }
        "test" => {
            let found = tested(document, path)?;
            let wanted = operation.value.as_ref();
            let is_as_wanted = match found.is_nothing() {
                true => wanted.is_none_or(Document::is_null),
                false => wanted.is_some_and(|wanted| wanted == found),
            };
            match is_as_wanted {
                true => Ok(()),
                false => Err("testing value failed".into()),
            }
        }
        other => Err(format!("unexpected kind of operation '{}'", shortened(other))),
    }
}

/// Returns what a test looks at: null for a field that its parent does not have.
fn tested<'v>(document: &'v Document, path: &str) -> Result<&'v Document, String> {
    if path.is_empty() {
        return Ok(document);
    }
    let (parent, last) = parts(path)?;
    match look(document, parent) {
        Some(Document::Object(fields)) => Ok(fields.get(&last).unwrap_or(&Document::NULL)),
        Some(Document::Array(items)) => index(&last, items.len())
            .and_then(|at| items.get(at))
            .ok_or_else(|| format!("unable to access invalid index: {}", shortened(&last))),
        _ => Err("its parent is missing, or holds no fields".into()),
    }
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// Splits a pointer into that of the container and the name there.
fn parts(path: &str) -> Result<(&str, String), String> {
    let (parent, last) = path.rsplit_once('/').ok_or("the path is empty")?;
    Ok((parent, unescaped(last)))
}

fn index(text: &str, length: usize) -> Option<usize> {
    let number: i64 = text.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let at = if number < 0 { length + number } else { number };
    (0..length)
        .contains(&at)
        .then(|| usize::try_from(at).ok())
        .flatten()
}

fn child<'v>(value: &'v Document, part: &str) -> Option<&'v Document> {
    match value {
        Document::Object(fields) => fields.get(part),
        Document::Array(items) => items.get(index(part, items.len())?),
        _ => None,
    }
}

fn look<'v>(document: &'v Document, path: &str) -> Option<&'v Document> {
    path.split('/')
        .skip(1)
        .try_fold(document, |value, part| child(value, &unescaped(part)))
}

/// Returns what a copy puts in its place: null for a field that is missing.
fn copied(document: &Document, from: &str) -> Result<Document, String> {
    let (parent, _) = parts(from)?;
    match (look(document, from), look(document, parent)) {
        (Some(value), _) => Ok(value.copied()),
        (None, Some(Document::Object(_))) => Ok(Document::NULL),
        _ => Err("nothing stands at from".into()),
    }
}

fn container<'v>(document: &'v mut Document, path: &str) -> Result<&'v mut Document, String> {
    let mut value = document;
    for part in path.split('/').skip(1) {
        let part = unescaped(part);
        let next = match value {
            Document::Object(fields) => fields.get_mut(&part),
            Document::Array(items) => match index(&part, items.len()) {
                Some(at) => items.get_mut(at),
                None => None,
            },
            _ => None,
        };
        value = next.ok_or_else(|| {
            let below = path.split_once('/').map_or("", |(_, below)| below);
            format!("doc is missing path: '/{}'", shortened(&unescaped(below)))
        })?;
    }
    Ok(value)
}

fn add(document: &mut Document, path: &str, value: Document) -> Result<(), String> {
    let (parent, last) = parts(path)?;
    match container(document, parent)? {
        Document::Object(fields) => {
            fields.insert(last, value);
            Ok(())
        }
        Document::Array(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Document::Array(items) => {
            let number: i64 = last
                .parse()
                .map_err(|_| format!("'{}' is no index", shortened(&last)))?;
            let size = i64::try_from(items.len()).map_err(|_| "too many items")? + 1;
            let at = if number < 0 { size + number } else { number };
            if !(0..size).contains(&at) {
                return Err(format!("unable to access invalid index: {number}"));
            }
            items.insert(usize::try_from(at).map_err(|_| "too many items")?, value);
            Ok(())
        }
        _ => Err("its parent holds no fields".into()),
    }
}

fn replace(document: &mut Document, path: &str, value: Document) -> Result<(), String> {
    if path.is_empty() {
        if let Document::Scalar(_) = value {
            return Err("its value must be an object or a list".into());
        }
        *document = value;
        return Ok(());
    }
    let (parent, last) = parts(path)?;
    let slot = match container(document, parent)? {
        // The library looks a missing field up without noticing that it is missing.
        Document::Object(fields) => Some(fields.entry(last).or_insert(Document::NULL)),
        Document::Array(items) => match index(&last, items.len()) {
            Some(at) => items.get_mut(at),
            None => None,
        },
        _ => None,
    };
    *slot.ok_or("doc is missing key")? = value;
    Ok(())
}

fn take(document: &mut Document, path: &str) -> Result<Document, String> {
    let (parent, last) = parts(path)?;
    match container(document, parent)? {
        Document::Object(fields) => fields
            .remove(&last)
            .ok_or_else(|| "unable to remove nonexistent key".into()),
        Document::Array(items) => match index(&last, items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(format!("unable to access invalid index: {}", shortened(&last))),
        },
        _ => Err("its parent holds no fields".into()),
    }
}
