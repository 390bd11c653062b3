//! JSON patches (RFC 6902) as the library that kustomize uses applies them: negative indexes count from the end.

use serde_json::Value;

use crate::yaml::json::values_in;
use crate::yaml::node::{Kind, Schema};

use super::depth;
use super::error::{Error, Result, invalid, shortened};
use super::reader::Reader;
use super::steps::Steps;
use crate::surrogates::paired;

/// How many items of a list are moved in one step.
const ITEMS_PER_STEP: usize = 4;

/// One operation of a patch.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    op: String,
    path: String,
    from: Option<String>,
    value: Option<Value>,
}

impl Operation {
    /// Returns the operation as errors show it.
    fn shown(&self) -> String {
        format!("{} operation at '{}'", shortened(&self.op), shortened(&self.path))
    }
}

/// Reads a patch: JSON when it begins with a bracket, YAML otherwise.
pub(crate) fn decode(text: &str, reader: Reader<'_>) -> Result<Vec<Operation>> {
    let value: Value = if text.starts_with('[') {
        // Taken before anything is made, as long as the text may be.
        reader.steps().spend_copy(values_in(text), text.len())?;
        serde_json::from_str(&paired(text))
            .map_err(|error| invalid(format!("decoding JSON patch: {error}")))?
    } else {
        match reader.first(text.as_bytes())? {
            Some(node) if node.kind() == Kind::Map => return Err(no_list()),
            Some(node) => reader.to_json(&node, Schema::Old)?,
            None => Value::Null,
        }
    };
    match value {
        Value::Array(items) => items.into_iter().map(operation).collect(),
        Value::Null => Ok(Vec::new()),
        _ => Err(no_list()),
    }
}

fn no_list() -> Box<Error> {
    invalid("a JSON patch is a list of operations")
}

fn operation(value: Value) -> Result<Operation> {
    let Value::Object(mut fields) = value else {
        return Err(invalid("an operation is an object"));
    };
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (op, path, from) = (text("op").unwrap_or_default(), text("path"), text("from"));
    let path = path.ok_or_else(|| invalid(format!("operation '{}' has no path", shortened(&op))))?;
    Ok(Operation {
        op,
        path,
        from,
        value: fields.remove("value"),
    })
}

/// Applies the operations in order.
pub(crate) fn apply(document: &mut Value, operations: &[Operation], steps: &Steps<'_>) -> Result<()> {
    for (index, operation) in operations.iter().enumerate() {
        charge(document, operation, steps)?;
        step(document, operation).map_err(|reason| {
            let which = match operations.len() {
                1 => String::new(),
                _ => format!("operation {}: ", index + 1),
            };
            invalid(format!("{which}{}: {reason}", operation.shown()))
        })?;
    }
    Ok(())
}

/// Takes what an operation costs before it is carried out: a copy may be of all that earlier ones made.
fn charge(document: &Value, operation: &Operation, steps: &Steps<'_>) -> Result<()> {
    let moved = match (operation.op.as_str(), operation.from.as_deref()) {
        ("add" | "copy" | "remove", _) => behind(document, &operation.path),
        ("move", from) => behind(document, &operation.path) + behind(document, from.unwrap_or_default()),
        _ => 0,
    };
    steps.spend(1 + moved / ITEMS_PER_STEP)?;
    steps.spend_text(operation.path.len())?;
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
    size.add(value, operation.path.matches('/').count());
    depth::check(size.depth, || operation.shown())?;
    match copies {
        true => steps.spend_copy(size.nodes, size.text),
        false => steps.spend(size.nodes),
    }
}

/// Counts the items of a list that are moved where one is put in or taken out before them.
fn behind(document: &Value, path: &str) -> usize {
    let Some((parent, last)) = path.rsplit_once('/') else {
        return 0;
    };
    match look(document, parent) {
        Some(Value::Array(items)) => index(last, items.len()).map_or(0, |at| items.len() - at),
        _ => 0,
    }
}

/// What a value takes.
#[derive(Default)]
struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

impl Size {
    /// Adds a value that stands so deep.
    fn add(&mut self, value: &Value, depth: usize) {
        self.nodes += 1;
        self.depth = self.depth.max(depth);
        match value {
            Value::String(text) => self.text += text.len(),
            Value::Array(items) => items.iter().for_each(|item| self.add(item, depth + 1)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.text += name.len();
                    self.add(field, depth + 1);
                }
            }
            _ => {}
        }
    }
}

fn step(document: &mut Value, operation: &Operation) -> Result<(), String> {
    let value = || operation.value.clone().unwrap_or(Value::Null);
    match operation.op.as_str() {
        "add" => add(document, &operation.path, value()),
        "replace" => replace(document, &operation.path, value()),
        "remove" => take(document, &operation.path).map(|_| ()),
        "move" => {
            let from = operation.from.as_deref().ok_or("it has no from")?;
            let moved = take(document, from)?;
            add(document, &operation.path, moved)
        }
        "copy" => {
            let from = operation.from.as_deref().ok_or("it has no from")?;
            let copied = copied(document, from)?;
            add(document, &operation.path, copied)
        }
        "test" => {
            let wanted = operation.value.as_ref().unwrap_or(&Value::Null);
            // Integers are equal to the digit, and none is equal to a number with a point.
            match tested(document, &operation.path)? == wanted {
                true => Ok(()),
                false => Err("testing value failed".into()),
            }
        }
        other => Err(format!("unexpected kind of operation '{}'", shortened(other))),
    }
}

/// Returns what a test looks at: null for a field that its parent does not have.
fn tested<'v>(document: &'v Value, path: &str) -> Result<&'v Value, String> {
    if path.is_empty() {
        return Ok(document);
    }
    let (parent, last) = parts(path)?;
    match look(document, parent) {
        Some(Value::Object(fields)) => Ok(fields.get(&last).unwrap_or(&Value::Null)),
        Some(Value::Array(items)) => index(&last, items.len())
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

fn child<'v>(value: &'v Value, part: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(part),
        Value::Array(items) => items.get(index(part, items.len())?),
        _ => None,
    }
}

fn look<'v>(document: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('/')
        .skip(1)
        .try_fold(document, |value, part| child(value, &unescaped(part)))
}

/// Returns what a copy puts in its place: null for a field that is missing.
fn copied(document: &Value, from: &str) -> Result<Value, String> {
    let parent = from.rfind('/').map_or("", |at| &from[..at]);
    match (look(document, from), look(document, parent)) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(Value::Object(_))) => Ok(Value::Null),
        _ => Err("nothing stands at from".into()),
    }
}

fn container<'v>(document: &'v mut Value, path: &str) -> Result<&'v mut Value, String> {
    let mut value = document;
    for part in path.split('/').skip(1) {
        let part = unescaped(part);
        let next = match value {
            Value::Object(fields) => fields.get_mut(&part),
            Value::Array(items) => match index(&part, items.len()) {
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

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let (parent, last) = parts(path)?;
    match container(document, parent)? {
        Value::Object(fields) => {
            fields.insert(last, value);
            Ok(())
        }
        Value::Array(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
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

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (parent, last) = parts(path)?;
    let slot = match container(document, parent)? {
        // The library looks a missing field up without noticing that it is missing.
        Value::Object(fields) => Some(fields.entry(last).or_insert(Value::Null)),
        Value::Array(items) => match index(&last, items.len()) {
            Some(at) => items.get_mut(at),
            None => None,
        },
        _ => None,
    };
    *slot.ok_or("doc is missing key")? = value;
    Ok(())
}

fn take(document: &mut Value, path: &str) -> Result<Value, String> {
    let (parent, last) = parts(path)?;
    match container(document, parent)? {
        Value::Object(fields) => fields
            .remove(&last)
            .ok_or_else(|| "unable to remove nonexistent key".into()),
        Value::Array(items) => match index(&last, items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(format!("unable to access invalid index: {}", shortened(&last))),
        },
        _ => Err("its parent holds no fields".into()),
    }
}
