//! The parts of an object's `metadata` that are kept: name, namespace, labels and annotations. What a server
//! wrote into an exported object is left out in silence.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::kind::{FLEET, Kind};
use crate::kinds::{content_path, shape_of};
use crate::meta::{check_labels, label_key_error};
use crate::parse::{Mode, Options};
use crate::problem::{Check, FieldPath, Problem};
use crate::shape::{got, unknown_field};
use crate::text::{Label, Name};

/// The most bytes all annotations of an object may have, as in Kubernetes.
const MAX_ANNOTATION_BYTES: usize = 256 << 10;

const KEPT_FIELDS: &[&str] = &["name", "namespace", "labels", "annotations"];

/// Fields that an exported object carries and that say nothing here.
const SERVER_FIELDS: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What is kept.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    /// Empty for kinds without namespace.
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Reads and checks `metadata`.
    pub(crate) fn read(
        kind: Kind,
        value: Option<Value>,
        options: &Options<'_>,
        problems: &mut Vec<Problem>,
    ) -> Metadata {
        let path = FieldPath::root().field("metadata");
        let fields = match value {
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                problems.push(Problem::new(path, format!("expected a map, got {}", got(&other))));
                return Metadata::default();
            }
            None => Map::new(),
        };
        let mut metadata = Metadata::default();
        for (name, value) in fields {
            if let Err(problem) = metadata.take(kind, &name, value, &path, options.mode, problems) {
                problems.push(problem);
            }
        }
        let mut at = Check::new(path, problems);
        metadata.check_name(kind, &mut at);
        metadata.check_namespace(kind, options.namespace, &mut at);
        metadata.check_entries(&mut at);
        metadata
    }

    fn take(
        &mut self,
        kind: Kind,
        name: &str,
        value: Value,
        path: &FieldPath,
        mode: Mode,
        problems: &mut Vec<Problem>,
    ) -> Result<(), Problem> {
        let at = path.field(name);
        match (name, value) {
            (_, Value::Null) => {}
            ("name", Value::String(text)) => self.name = text,
            ("namespace", Value::String(text)) => self.namespace = text,
            ("labels", Value::Object(entries)) => self.labels = texts(entries, &at, problems),
            ("annotations", Value::Object(entries)) => self.annotations = texts(entries, &at, problems),
            ("name" | "namespace", other) => {
                let problem = Problem::new(at, format!("expected a string, got {}", got(&other)));
                return Err(problem.hint("put the value in quotes"));
            }
            ("labels" | "annotations", other) => {
                return Err(Problem::new(at, format!("expected a map, got {}", got(&other))));
            }
            (name, _) if mode == Mode::Strict && !SERVER_FIELDS.contains(&name) => {
                let known = KEPT_FIELDS.iter().chain(SERVER_FIELDS).copied();
                return Err(unknown_field(
                    name,
                    path,
                    known,
                    shape_of(kind),
                    &content_path(kind),
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_name(&self, kind: Kind, at: &mut Check<'_>) {
        // Clusters, groups and tenants are also label values and parts of names.
        let form = match kind.group() {
            FLEET => Label::new(self.name.as_str()).map(drop),
            _ => Name::new(self.name.as_str()).map(drop),
        };
        match form {
            _ if self.name.is_empty() => at.at("name").problem("is required"),
            Ok(()) => {}
            Err(error) => at.at("name").malformed(error),
        }
    }

    fn check_namespace(&mut self, kind: Kind, default: Option<&str>, at: &mut Check<'_>) {
        if !kind.is_namespaced() {
            if !self.namespace.is_empty() {
                at.at("namespace").problem(format!("a {kind} has no namespace"));
            }
            return;
        }
        if self.namespace.is_empty() {
            self.namespace = default.unwrap_or_default().to_owned();
        }
        match Label::new(self.namespace.as_str()) {
            _ if self.namespace.is_empty() => at.at("namespace").problem("is required"),
            Ok(_) => {}
            Err(error) => at.at("namespace").malformed(error),
        }
    }

    fn check_entries(&self, at: &mut Check<'_>) {
        check_labels(self.labels.iter(), &mut at.at("labels"));
        for key in self.annotations.keys() {
            if let Some(why) = label_key_error(key) {
                at.at("annotations").at(key).problem(why);
            }
        }
        let bytes: usize = self
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes > MAX_ANNOTATION_BYTES {
            at.at("annotations")
                .problem(format!("have more than {MAX_ANNOTATION_BYTES} bytes together"));
        }
    }
}

fn texts(
    entries: Map<String, Value>,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (key, value) in entries {
        match value {
            Value::String(text) => {
                texts.insert(key, text);
            }
            Value::Null => {}
            other => {
                let problem =
                    Problem::new(path.field(key), format!("expected a string, got {}", got(&other)));
                problems.push(problem.hint("put the value in quotes"));
            }
        }
    }
    texts
}
