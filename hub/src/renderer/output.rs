//! Takes apart what a renderer printed: one text of many YAML documents becomes objects in the same order, each
//! with its key, its value and, where it may hold variables, its own text. Lists are expanded; an object that is too
//! large, has no identity, or comes twice fails the whole, since a set with holes must never be applied.

use std::{collections::HashSet, fmt, io};

use flotilla_core::{object::ObjectKey, printable::printable, substitute};
use flotilla_render::yaml;
use serde_json::Value;

use super::RenderFailure;

/// The largest object: what etcd takes in one request by default.
pub const MAX_OBJECT: usize = 3 << 19;
/// The most objects of one rendering.
pub const MAX_OBJECTS: usize = 50_000;
/// All objects of one rendering together.
pub const MAX_OUTPUT: usize = 64 << 20;
/// Their texts together: more than objects within [`MAX_OUTPUT`] take unless most of it is indentation.
pub const MAX_TEXT: usize = 4 * MAX_OUTPUT;
/// What all objects and their texts may take in memory: a map takes a hundred times what it is written in.
pub const MAX_HELD: usize = 256 << 20;

/// Prints an object.
type Print<'p> = &'p dyn Fn(&Value) -> Result<String, RenderFailure>;

/// One object of a rendering.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedObject {
    /// Identity.
    pub key: ObjectKey,
    /// Value.
    pub value: Value,
    /// The document as the renderer printed it, for one that substitution works on.
    pub text: Option<String>,
}

/// Takes apart `text`; `substitutes`: objects that may hold variables keep theirs.
pub fn objects(text: &str, substitutes: bool) -> Result<Vec<RenderedObject>, RenderFailure> {
    let mut taken = Taken::new(substitutes);
    for (index, document) in documents(text).enumerate() {
        let value = read(document).map_err(|reason| fault(&format!("document {}: {reason}", index + 1)))?;
        taken.document(Place::Document(index + 1), value, &|_| Ok(document.to_owned()))?;
    }
    Ok(taken.objects)
}

/// Splits at the markers that renderers print at the start of a line; within a value such a line is indented.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix("---\n").unwrap_or(text);
    text.split("\n---\n")
        .map(|document| document.trim_end_matches('\n'))
        .filter(|document| !document.trim().is_empty())
}

fn read(document: &str) -> Result<Value, yaml::ReadError> {
    yaml::read(document, &yaml::Limits::default()).map(Value::from)
}

/// Where an object stands.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    /// In this file of the source.
    File(&'a str),
    /// Among all that was printed, counted from 1.
    Document(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&printable(path)),
            Self::Document(number) => write!(f, "document {number}"),
        }
    }
}

/// Takes objects one by one, within the bounds. A text is made only of an object that substitution works on.
pub struct Taken {
    substitutes: bool,
    objects: Vec<RenderedObject>,
    keys: HashSet<ObjectKey>,
    size: usize,
    held: usize,
    text: usize,
    documents: usize,
}

impl Taken {
    /// Nothing so far.
    pub fn new(substitutes: bool) -> Self {
        Self {
            substitutes,
            objects: Vec::new(),
            keys: HashSet::new(),
            size: 0,
            held: 0,
            text: 0,
            documents: 0,
        }
    }

    /// Takes an object as an engine gives it, with the file that it was read from, and prints it, if that is needed, once its
    /// size is within the bounds.
    pub fn add(
        &mut self,
        value: Value,
        file: Option<&str>,
        print: &dyn Fn(&Value) -> String,
    ) -> Result<(), RenderFailure> {
        self.documents += 1;
        let place = file.map_or(Place::Document(self.documents), Place::File);
        self.document(place, value, &|value| Ok(print(value)))
    }

    /// What was taken, in order.
    pub fn into_objects(self) -> Vec<RenderedObject> {
        self.objects
    }

    fn document(&mut self, place: Place<'_>, value: Value, print: Print<'_>) -> Result<(), RenderFailure> {
        if value.is_null() {
            return Ok(());
        }
        // Lists may nest: each gives up its items, so that none of them is there twice.
        match items(value) {
            Err(value) => self.object(place, value, print),
            Ok(items) => items.into_iter().try_for_each(|item| {
                self.document(place, item, &|item| {
                    let text = yaml::write(&yaml::Value::from(item.clone()));
                    text.map_err(|error| fault(&error.to_string()))
                })
            }),
        }
    }

    fn object(&mut self, place: Place<'_>, value: Value, print: Print<'_>) -> Result<(), RenderFailure> {
        let Some(key) = ObjectKey::of(&value) else {
            return Err(fault(&format!("{place}: {}", unnamed(&value))));
        };
        let size = size(&value);
        if size > MAX_OBJECT {
            return Err(too_large(&format!("the size of {key}"), "1.5 MiB"));
        }
        self.size = self.size.saturating_add(size);
        if self.size > MAX_OUTPUT {
            return Err(too_large("the size of all objects", "64 MiB"));
        }
        self.hold(yaml::json_bytes(&value))?;
        if self.objects.len() == MAX_OBJECTS {
            return Err(too_large("the number of objects", &MAX_OBJECTS.to_string()));
        }
        if !self.keys.insert(key.clone()) {
            return Err(fault(&format!("{key} is rendered twice")));
        }
        let mut text = None;
        if self.substitutes && is_substituted(&value) {
            let mut printed = print(&value)?;
            printed.truncate(printed.trim_end_matches('\n').len());
            printed.push('\n');
            self.text = self.text.saturating_add(printed.len());
            if self.text > MAX_TEXT {
                return Err(too_large("the text of all objects", "256 MiB"));
            }
            self.hold(printed.len())?;
            text = Some(printed);
        }
        self.objects.push(RenderedObject { key, value, text });
        Ok(())
    }

    /// Takes what is held until all is written.
    fn hold(&mut self, bytes: usize) -> Result<(), RenderFailure> {
        self.held = self.held.saturating_add(bytes);
        match self.held > MAX_HELD {
            true => Err(too_large("what all objects take in memory", "256 MiB")),
            false => Ok(()),
        }
    }
}

/// Whether substitution works on an object: it may hold a variable, and does not say that it is to be left alone.
fn is_substituted(value: &Value) -> bool {
    !substitute::is_disabled(&value["metadata"]) && holds_variable(value)
}

/// A variable begins with `$`, which is printed as it is wherever it stands. Depth is bounded by the reader's.
fn holds_variable(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('$'),
        Value::Array(items) => items.iter().any(holds_variable),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('$') || holds_variable(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Counts the bytes of a value as JSON, which nobody keeps.
fn size(value: &Value) -> usize {
    struct Counted(usize);
    impl io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, value).map_or(usize::MAX, |()| counted.0)
}

/// The items of a list of objects, as `kubectl get -o yaml` writes one, or what is no such list. Depth is bounded by the
/// reader's.
fn items(mut value: Value) -> Result<Vec<Value>, Value> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
        && value.pointer("/metadata/name").is_none();
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => Ok(items),
        Some(other) => {
            value["items"] = other;
            Err(value)
        }
        None => Err(value),
    }
}

/// Says of an object without identity what it is, as far as that is known, and which fields it lacks.
fn unnamed(value: &Value) -> String {
    let text = |path: &str| {
        let text = value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        printable(text)
    };
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let namespace = text("/metadata/namespace");
    let what = match (kind.as_str(), namespace.as_str(), name.as_str()) {
        ("", _, "") => "an object".to_owned(),
        ("", _, name) => format!("an object named {name}"),
        (kind, _, "") => format!("an object of kind {kind}"),
        (kind, "", name) => format!("{kind}/{name}"),
        (kind, namespace, name) => format!("{kind}/{namespace}/{name}"),
    };
    let fields = [
        ("apiVersion", text("/apiVersion")),
        ("kind", kind),
        ("metadata.name", name),
    ];
    let lacks = fields
        .iter()
        .filter(|(_, text)| text.is_empty())
        .map(|(field, _)| *field);
    format!("{what} has no {}", lacks.collect::<Vec<_>>().join(" and no "))
}

fn fault(reason: &str) -> RenderFailure {
    RenderFailure::Build(reason.to_owned())
}

fn too_large(what: &str, limit: &str) -> RenderFailure {
    RenderFailure::TooLarge {
        what: what.to_owned(),
        limit: limit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failure(text: &str) -> String {
        objects(text, true).expect_err("refused").to_string()
    }

    #[test]
    fn documents_become_objects_in_order_with_their_own_text() {
        let text = "apiVersion: v1\ndata:\n  a: |\n    ---\n    $b\nkind: ConfigMap\nmetadata:\n  name: x\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: apps\nspec:\n  ${a}: 1\n";
        let found = objects(text, true).expect("well-formed");
        let keys: Vec<_> = found.iter().map(|object| object.key.to_string()).collect();
        assert_eq!(keys, ["ConfigMap/x", "Deployment/apps/web"]);
        assert_eq!(
            found
                .iter()
                .filter_map(|object| object.text.as_deref())
                .collect::<Vec<_>>()
                .join("---\n"),
            text
        );
        assert_eq!(found[0].value["data"]["a"], "---\n$b\n");
        assert_eq!(objects("", true).expect("empty"), []);
        assert_eq!(objects("---\n# nothing\n", true).expect("empty"), []);
    }

    #[test]
    fn a_text_is_made_only_of_what_may_hold_a_variable_and_is_to_be_substituted() {
        let printed = Cell::new(0);
        let made = |substitutes: bool, value: Value| {
            let mut taken = Taken::new(substitutes);
            let print = |_: &Value| {
                printed.set(printed.get() + 1);
                "text\n\n".to_owned()
            };
            taken.add(value, None, &print).expect("taken");
            taken.into_objects().remove(0).text
        };
        let object = |data: Value, annotations: Value| {
            serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x", "annotations": annotations },
                "data": data,
            })
        };
        let none = || serde_json::json!({});
        let left_alone = serde_json::json!({ "kustomize.toolkit.fluxcd.io/substitute": "disabled" });
        for data in [
            serde_json::json!({ "a": [{ "b": "x${v}" }] }),
            serde_json::json!({ "$v": 1 }),
        ] {
            assert_eq!(
                made(true, object(data.clone(), none())).as_deref(),
                Some("text\n")
            );
            assert_eq!(made(false, object(data.clone(), none())), None);
            assert_eq!(made(true, object(data, left_alone.clone())), None);
        }
        assert_eq!(
            made(true, object(serde_json::json!({ "a": "plain", "n": 1 }), none())),
            None
        );
        assert_eq!(printed.get(), 2);
    }

    #[test]
    fn lists_are_expanded_but_not_what_only_looks_like_one() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: $a}}\n- {apiVersion: v1, kind: ConfigMapList, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]}\n";
        let found = objects(list, true).expect("well-formed");
        assert_eq!(
            found
                .iter()
                .map(|object| object.key.to_string())
                .collect::<Vec<_>>(),
            ["Secret/$a", "ConfigMap/b"]
        );
        assert_eq!(
            found[0].text.as_deref(),
            Some("apiVersion: v1\nkind: Secret\nmetadata:\n  name: $a\n")
        );
        let own = "apiVersion: x/v1\nkind: AllowList\nmetadata:\n  name: a\nitems: [1]\n";
        assert_eq!(objects(own, true).expect("an object").len(), 1);
    }

    /// A copy of its items at each level would be 40 times as much.
    #[test]
    fn lists_within_lists_take_no_more_than_what_is_in_them() {
        let list = |inner: Value| {
            let mut list = serde_json::json!({ "apiVersion": "v1", "kind": "XList" });
            list["items"] = Value::Array(vec![inner]);
            list
        };
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "x" }
        });
        let text = |value: &Value| value["data"]["k"].as_str().map(str::as_ptr);
        let held = text(&object);
        let nested = (0..40).fold(object, |inner, _| list(inner));
        let mut taken = Taken::new(true);
        taken
            .add(nested, None, &|_| String::new())
            .expect("within the bounds");
        assert_eq!(text(&taken.into_objects()[0].value), held);
    }

    #[test]
    fn what_cannot_be_applied_fails_the_whole_and_is_named() {
        let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n";
        assert_eq!(
            failure(&format!("{object}---\n{object}")),
            "kustomize build failed: ConfigMap/x is rendered twice"
        );
        assert_eq!(
            failure("kind: A\n"),
            "kustomize build failed: document 1: an object of kind A has no apiVersion and no metadata.name"
        );
        assert_eq!(
            failure("apiVersion: v1\n"),
            "kustomize build failed: document 1: an object has no kind and no metadata.name"
        );
        assert_eq!(
            failure("apiVersion: v1\nkind: A\nmetadata: {}\n"),
            "kustomize build failed: document 1: an object of kind A has no metadata.name"
        );
        for (lacking, named) in [
            (
                "kind: A\nmetadata: {name: x}\n",
                "document 2: A/x has no apiVersion",
            ),
            (
                "kind: A\nmetadata: {name: x, namespace: web}\n",
                "document 2: A/web/x has no apiVersion",
            ),
            (
                "apiVersion: v1\nmetadata: {name: x}\n",
                "document 2: an object named x has no kind",
            ),
        ] {
            let message = failure(&format!("{object}---\n{lacking}"));
            assert_eq!(message, format!("kustomize build failed: {named}"));
        }
        assert!(
            failure(&format!("{object}---\na: [\n"))
                .starts_with("kustomize build failed: document 2: yaml: ")
        );
        let large = format!("{object}data:\n  a: {}\n", "x".repeat(MAX_OBJECT));
        assert_eq!(
            failure(&large),
            "kustomize build failed: the size of ConfigMap/x exceeds the limit of 1.5 MiB"
        );
    }

    #[test]
    fn the_limit_of_an_object_is_that_of_its_json_to_the_byte() {
        let of_size = |size: usize| {
            let object = |text: String| {
                serde_json::json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" }, "data": { "k": text }
                })
            };
            let rest = object(String::new()).to_string().len();
            let value = object("x".repeat(size - rest));
            assert_eq!(value.to_string().len(), size);
            Taken::new(true).add(value, None, &|_| String::new())
        };
        of_size(MAX_OBJECT).expect("at the limit");
        let error = of_size(MAX_OBJECT + 1).expect_err("over it");
        assert_eq!(
            error.to_string(),
            "kustomize build failed: the size of ConfigMap/x exceeds the limit of 1.5 MiB"
        );
    }

    #[test]
    fn all_objects_together_are_bounded() {
        let text = "x".repeat(1 << 20);
        let mut taken = Taken::new(true);
        let mut add = |n: usize| {
            let name = format!("m{n}");
            let value = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": text }
            });
            taken.add(value, None, &|_| String::new())
        };
        let refused = (0..1000).find_map(|n| add(n).err().map(|error| (n, error.to_string())));
        let message = "kustomize build failed: the size of all objects exceeds the limit of 64 MiB";
        assert_eq!(refused, Some((63, message.to_owned())));
    }

    #[test]
    fn maps_are_bounded_by_what_they_take_and_not_by_what_they_are_written_in() {
        let maps = vec![serde_json::json!({ "a": 1 }); 100_000];
        let mut taken = Taken::new(true);
        let mut add = |n: usize| {
            let value = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("m{n}") }, "z": maps
            });
            taken.add(value, None, &|_| String::new())
        };
        let refused = (0..8).find_map(|n| add(n).err().map(|error| (n, error.to_string())));
        let message = "kustomize build failed: what all objects take in memory exceeds the limit of 256 MiB";
        assert_eq!(refused, Some((3, message.to_owned())));
    }

    #[test]
    fn an_object_over_the_limit_is_never_printed() {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" }, "data": "$".repeat(MAX_OBJECT)
        });
        let printed = std::cell::Cell::new(false);
        let print = |_: &Value| {
            printed.set(true);
            String::new()
        };
        Taken::new(true)
            .add(value, None, &print)
            .expect_err("over the limit");
        assert!(!printed.get());
    }

    #[test]
    fn what_is_mostly_indentation_is_bounded_by_its_text() {
        let mut taken = Taken {
            text: MAX_TEXT - "a\n".len(),
            ..Taken::new(true)
        };
        let mut add = |name: &str| {
            let value = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "$v" }
            });
            taken.add(value, None, &|_| "a".to_owned())
        };
        add("a").expect("at the limit");
        let error = add("b").expect_err("over it");
        assert_eq!(
            error.to_string(),
            "kustomize build failed: the text of all objects exceeds the limit of 256 MiB"
        );
    }
}
