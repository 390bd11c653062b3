//! From text to resources: each document is decoded, converted and validated alone, so that a bad one is an
//! error of its own and the others are read.

use serde_json::{Map, Value};

use crate::convert::convert;
use crate::id::{ResourceId, Scope};
use crate::kind::{FLEET, Kind, KindError};
use crate::kinds::config::SecretFields;
use crate::kinds::{check_content, content_path, shape_of};
use crate::metadata::Metadata;
use crate::problem::{FieldPath, Invalid, Problem};
use crate::resource::{Body, Resource};
use crate::shape::{Unknown, Walk, got};
use crate::yaml;

/// Who wrote the document, and so how strict to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A person applies it: an unknown field is an error.
    #[default]
    Strict,
    /// A parent app rendered it: an unknown field of a Flux kind is dropped with a warning, as an API server does.
    Nested,
}

/// How to read a text.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// The file's name, for errors.
    pub file: &'a str,
    /// Who wrote it.
    pub mode: Mode,
    /// Where the resources' names resolve.
    pub scope: Scope,
    /// The namespace of resources that name none; without it they are errors.
    pub namespace: Option<&'a str>,
}

/// One document, or one element of a `List`.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The document's number in the file, from 1, empty documents not counted.
    pub document: usize,
    /// The line the document starts at, from 1.
    pub line: usize,
    /// The resource, or all that is wrong with it.
    pub outcome: Result<Resource, Invalid>,
    /// What was converted or dropped.
    pub warnings: Vec<Problem>,
}

/// Reads all documents of a text. A text that is no UTF-8 or over a limit gives one error.
pub fn parse(text: &[u8], options: &Options<'_>) -> Vec<Parsed> {
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let line = 1 + text[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            return vec![unreadable(options, 1, line, "the text is not UTF-8")];
        }
    };
    match yaml::split(text) {
        Ok(documents) => documents
            .iter()
            .flat_map(|document| parse_document(document, options))
            .collect(),
        Err(error) => vec![unreadable(options, 1, error.line, &error.message)],
    }
}

/// Reads one object that was decoded already, such as one a parent rendered. Problems have no lines.
pub fn parse_value(object: Value, options: &Options<'_>) -> Parsed {
    let read = Reader {
        options,
        prefix: FieldPath::root(),
    }
    .read(object);
    finish(read, options, 1, 1)
}

fn parse_document(document: &yaml::Document<'_>, options: &Options<'_>) -> Vec<Parsed> {
    let value = match yaml::decode(document) {
        Ok(value) => value,
        Err(error) => return vec![unreadable(options, document.number, error.line, &error.message)],
    };
    objects(value)
        .into_iter()
        .map(|(prefix, object)| {
            let mut read = Reader { options, prefix }.read(object);
            locate(&mut read, document);
            finish(read, options, document.number, document.line)
        })
        .collect()
}

/// Takes a `List` apart.
fn objects(mut value: Value) -> Vec<(FieldPath, Value)> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => {
            let list = FieldPath::root().field("items");
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| (list.index(index), item))
                .collect()
        }
        Some(items) => {
            value["items"] = items;
            vec![(FieldPath::root(), value)]
        }
        None => vec![(FieldPath::root(), value)],
    }
}

fn locate(read: &mut Read, document: &yaml::Document<'_>) {
    let mut found: Vec<&mut Problem> = read.problems.iter_mut().chain(&mut read.warnings).collect();
    if found.is_empty() {
        return;
    }
    let paths: Vec<_> = found
        .iter()
        .map(|problem| problem.path.under(&read.prefix))
        .collect();
    let lines = yaml::lines(document, &paths);
    for ((problem, path), line) in found.iter_mut().zip(paths).zip(lines) {
        problem.path = path;
        problem.line = Some(line);
    }
}

fn finish(read: Read, options: &Options<'_>, document: usize, line: usize) -> Parsed {
    let Read {
        resource,
        object,
        mut problems,
        warnings,
        ..
    } = read;
    let outcome = match resource {
        Some(resource) if problems.is_empty() => Ok(resource),
        _ => {
            problems.sort_by_key(|problem| problem.line);
            Err(Invalid {
                file: options.file.to_owned(),
                document,
                line,
                object,
                problems,
            })
        }
    };
    Parsed {
        document,
        line,
        outcome,
        warnings,
    }
}

fn unreadable(options: &Options<'_>, document: usize, line: usize, message: &str) -> Parsed {
    let mut problem = Problem::new(FieldPath::root(), message);
    problem.line = Some(line);
    let invalid = Invalid {
        file: options.file.to_owned(),
        document,
        line,
        object: None,
        problems: vec![problem],
    };
    Parsed {
        document,
        line,
        outcome: Err(invalid),
        warnings: Vec::new(),
    }
}

/// Reads one object.
struct Reader<'a> {
    options: &'a Options<'a>,
    /// Where in the document the object stands.
    prefix: FieldPath,
}

/// What reading one object gave.
struct Read {
    prefix: FieldPath,
    resource: Option<Resource>,
    object: Option<String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Reader<'_> {
    fn read(self, value: Value) -> Read {
        let mut read = Read {
            prefix: self.prefix.clone(),
            resource: None,
            object: None,
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let root = FieldPath::root();
        let Value::Object(fields) = value else {
            read.problems.push(Problem::new(
                root,
                format!("expected an object, got {}", got(&value)),
            ));
            return read;
        };
        read.object = describe(&fields);
        let Some((kind, api_version)) = resolve(&fields, &mut read.problems) else {
            return read;
        };
        let (mut fields, warnings) = convert(&api_version, kind, fields);
        read.warnings = warnings;
        let metadata = Metadata::read(kind, fields.remove("metadata"), self.options, &mut read.problems);
        let body = self.body(kind, fields, &mut read);
        let id = ResourceId {
            scope: self.options.scope.clone(),
            kind,
            namespace: metadata.namespace,
            name: metadata.name,
        };
        read.resource = body.map(|body| Resource {
            id,
            written_as: api_version,
            labels: metadata.labels,
            annotations: metadata.annotations,
            body,
        });
        read
    }

    /// Compares the content with its kind and returns it, if nothing is wrong with it.
    fn body(&self, kind: Kind, fields: Map<String, Value>, read: &mut Read) -> Option<Body> {
        if kind == Kind::Secret && fields.contains_key("sops") {
            let problem = Problem::new(
                FieldPath::root().field("sops"),
                "the Secret is encrypted with SOPS",
            );
            read.problems
                .push(problem.hint("decrypt it first: sops decrypt FILE | flotilla apply -f -"));
            return None;
        }
        let (shape, prefix) = (shape_of(kind), content_path(kind));
        let nested = self.options.mode == Mode::Nested && kind.group() != FLEET;
        let mut walk = Walk {
            root: shape,
            prefix: &prefix,
            unknown: if nested { Unknown::Drop } else { Unknown::Refuse },
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let mut content = content(kind, fields, &mut walk);
        walk.admit(shape, &mut content, &prefix);
        let (mut problems, warnings) = (walk.problems, walk.warnings);
        check_content(kind, &content, &prefix, &mut problems);
        let sound = problems.is_empty();
        read.warnings.extend(warnings);
        read.problems.extend(problems);
        match kind {
            _ if !sound => None,
            // The walk and the checks passed, so this decodes.
            Kind::Secret => serde_json::from_value::<SecretFields>(content)
                .ok()
                .map(|fields| Body::Secret(fields.into())),
            _ => Some(Body::Open(content)),
        }
    }
}

/// Takes an object's content out of it; an absent `spec` is an empty one.
fn content(kind: Kind, mut fields: Map<String, Value>, walk: &mut Walk<'_>) -> Value {
    for field in ["apiVersion", "kind", "status"] {
        fields.remove(field);
    }
    if !kind.has_spec() {
        return Value::Object(fields);
    }
    let spec = fields.remove("spec").filter(|spec| !spec.is_null());
    for name in fields.keys() {
        walk.unknown_field(name, ["metadata", "spec"], &FieldPath::root());
    }
    spec.unwrap_or_else(|| Value::Object(Map::new()))
}

/// Reads `apiVersion` and `kind`.
fn resolve(fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> Option<(Kind, String)> {
    let root = FieldPath::root();
    let mut text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.as_str()),
        None | Some(Value::Null | Value::String(_)) => {
            problems.push(Problem::new(root.field(name), "is required"));
            None
        }
        Some(other) => {
            problems.push(Problem::new(
                root.field(name),
                format!("expected a string, got {}", got(other)),
            ));
            None
        }
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (api_version, kind) = (api_version?, kind?);
    match Kind::resolve(api_version, kind) {
        Ok((kind, _)) => Some((kind, api_version.to_owned())),
        Err(error) => {
            let field = match error {
                KindError::UnknownVersion { .. } | KindError::OtherGroup { .. } => "apiVersion",
                _ => "kind",
            };
            let problem = Problem::new(root.field(field), error.to_string());
            problems.push(match error.hint() {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
            None
        }
    }
}

/// Names the object as far as it can be read.
fn describe(fields: &Map<String, Value>) -> Option<String> {
    let kind = fields.get("kind")?.as_str()?;
    let metadata = fields.get("metadata");
    let text = |name: &str| metadata.and_then(|metadata| metadata[name].as_str());
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => Some(format!("{kind} {namespace}/{name}")),
        (None, Some(name)) => Some(format!("{kind} {name}")),
        (_, None) => Some(kind.to_owned()),
    }
}
