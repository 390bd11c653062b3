//! Sets of field paths in the API server's `fieldsV1` form: which fields a manager owns.
//!
//! A set is a tree: `f:name` a field, `k:{…}` a list item by its keys, `v:…` a list item by its value, `i:n` an
//! item by position, `.` the node itself. A node without children is owned whole.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::digest::{Digest, canonical_json, in_order, write_canonical, write_string};

/// Bytes that most projections fit into.
const PROJECTED: usize = 2048;
/// Items of a list that are looked through; longer ones are indexed.
const FEW: usize = 8;

/// The entry of `manager` for `operation` (`Apply` or `Update`) on the object itself, not on a subresource.
pub fn entry<'a>(metadata: &'a Value, manager: &str, operation: &str) -> Option<&'a Value> {
    entries(metadata)
        .iter()
        .find(|entry| entry["manager"] == manager && entry["operation"] == operation && is_whole(entry))
}

/// All `managedFields` entries.
pub fn entries(metadata: &Value) -> &[Value] {
    metadata["managedFields"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Tells whether an entry is for the object itself and not for a subresource.
pub fn is_whole(entry: &Value) -> bool {
    entry["subresource"].as_str().unwrap_or_default().is_empty()
}

/// The union of two sets. A node owned whole in one and by parts in the other is owned by itself and by the
/// parts.
pub fn union(a: &Value, b: &Value) -> Value {
    let empty = Map::new();
    let (a, b) = (a.as_object().unwrap_or(&empty), b.as_object().unwrap_or(&empty));
    let mut merged = a.clone();
    for (name, theirs) in b {
        let both = match merged.get(name) {
            Some(ours) if name != "." => union(ours, theirs),
            _ => theirs.clone(),
        };
        merged.insert(name.clone(), both);
    }
    if a.is_empty() != b.is_empty() {
        merged.insert(".".into(), Value::Object(Map::new()));
    }
    Value::Object(merged)
}

/// Divides a set into what remains without the node at `path`, and that node under its ancestors. Maps of which
/// nothing but their existence would remain go with the node.
pub(super) fn split(set: &Value, path: &[&str]) -> (Option<Value>, Option<Value>) {
    let whole = || (Some(set.clone()), None);
    let Some(((name, below), children)) = path.split_first().zip(set.as_object()) else {
        return whole();
    };
    let Some(child) = children.get(*name) else {
        return whole();
    };
    let (remains, taken) = match below {
        [] => (None, Some(child.clone())),
        below => split(child, below),
    };
    let Some(taken) = taken else { return whole() };
    let mut rest = children.clone();
    match remains {
        Some(remains) => rest.insert((*name).to_owned(), remains),
        None => rest.remove(*name),
    };
    let mut node = Map::from_iter([((*name).to_owned(), taken)]);
    if let Some(existence) = children.get(".") {
        node.insert(".".to_owned(), existence.clone());
    }
    let is_left = rest.keys().any(|name| name != ".");
    (is_left.then_some(Value::Object(rest)), Some(Value::Object(node)))
}

/// Tells whether the set covers the place that `path` names in `live`.
pub fn owns(set: &Value, live: &Value, path: &[Segment]) -> bool {
    let Some(children) = set.as_object() else {
        return false;
    };
    let Some((segment, rest)) = path.split_first() else {
        return children.is_empty() || children.contains_key(".");
    };
    if children.is_empty() {
        return true;
    }
    match segment {
        Segment::Field(name) => children
            .get(&format!("f:{name}"))
            .is_some_and(|child| owns(child, &live[name.as_str()], rest)),
        Segment::Index(index) => {
            let mut items = Items::of(Some(live));
            children
                .iter()
                .any(|(name, child)| items.position(name) == Some(*index) && owns(child, &live[*index], rest))
        }
    }
}

/// One step of a path into an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A field of a map.
    Field(String),
    /// An item of a list.
    Index(usize),
}

/// Writes a path as a JSON pointer.
pub fn pointer(path: &[Segment]) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Field(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            Segment::Index(index) => format!("/{index}"),
        })
        .collect()
}

/// The digest, under a key local to the agent, of the values that `live` has at exactly the paths of `set`:
/// each path counts, and what stands there. A field gained, lost or changed gives another digest; what others
/// own does not enter.
pub fn projection(set: &Value, live: &Value, key: &[u8; 32]) -> Digest {
    let mut bytes = String::with_capacity(PROJECTED);
    project(set, Some(live), &mut bytes);
    Digest::keyed(key, "projection", bytes.as_bytes())
}

/// Appends a node. Depth is that of parsed JSON, which the parser bounds.
fn project(set: &Value, live: Option<&Value>, out: &mut String) {
    let children = match set.as_object() {
        Some(children) if !children.is_empty() => children,
        // Owned whole: everything below counts.
        _ => return project_whole(live, out),
    };
    let mut items = Items::of(live);
    out.push('{');
    for (name, below) in in_order(children) {
        write_string(name, out);
        if name == "." {
            // The node itself: that it is there, and of which type, not what others put into it.
            out.push_str(kind_of(live));
        } else {
            let child = match name.strip_prefix("f:") {
                Some(field) => live.and_then(|live| live.get(field)),
                None => items.find(name),
            };
            project(below, child, out);
        }
    }
    out.push('}');
}

fn project_whole(live: Option<&Value>, out: &mut String) {
    match live {
        Some(value) => {
            out.push('=');
            write_canonical(value, out);
        }
        None => out.push('!'),
    }
}

fn kind_of(live: Option<&Value>) -> &'static str {
    match live {
        None => "!",
        Some(Value::Null) => "n",
        Some(Value::Object(_)) => "m",
        Some(Value::Array(_)) => "l",
        Some(_) => "s",
    }
}

/// A list's items by name. Indexed by key on first use: lists of thousands of ports or rules must not cost the
/// square of their length.
pub(super) struct Items<'a> {
    list: &'a [Value],
    by_keys: HashMap<Vec<String>, HashMap<String, usize>>,
    by_value: Option<HashMap<String, usize>>,
}

impl<'a> Items<'a> {
    pub(super) fn of(live: Option<&'a Value>) -> Self {
        let list = live
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        Self {
            list,
            by_keys: HashMap::new(),
            by_value: None,
        }
    }

    fn find(&mut self, name: &str) -> Option<&'a Value> {
        let list = self.list;
        list.get(self.position(name)?)
    }

    /// Where the item is that a `k:`, `v:` or `i:` name means; an `i:` name may lie beyond the list.
    pub(super) fn position(&mut self, name: &str) -> Option<usize> {
        let (sort, text) = name.split_once(':')?;
        match sort {
            "i" => text.parse().ok(),
            "v" => {
                let value: Value = serde_json::from_str(text).ok()?;
                if self.list.len() <= FEW {
                    return self.list.iter().position(|item| is_same(item, &value));
                }
                let list = self.list.iter().enumerate();
                let index = self
                    .by_value
                    .get_or_insert_with(|| list.rev().map(|(at, v)| (canonical_json(v), at)).collect());
                index.get(&canonical_json(&value)).copied()
            }
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(text).ok()?;
                if self.list.len() <= FEW {
                    let is_meant = |item: &Value| {
                        let mut keys = keys.iter();
                        keys.all(|(key, value)| item.get(key).is_some_and(|found| is_same(found, value)))
                    };
                    return self.list.iter().position(is_meant);
                }
                let names: Vec<String> = keys.keys().cloned().collect();
                let list = self.list;
                let index = self
                    .by_keys
                    .entry(names.clone())
                    .or_insert_with(|| index_by(list, &names));
                index.get(&canonical_json(&keys)).copied()
            }
            _ => None,
        }
    }
}

/// Tells whether two values are the same in canonical JSON: 1 and 1.0 are.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one == other,
        _ => one == other || canonical_json(one) == canonical_json(other),
    }
}

/// Items that have all the keys; of several equal ones the first.
fn index_by(list: &[Value], keys: &[String]) -> HashMap<String, usize> {
    list.iter()
        .enumerate()
        .rev()
        .filter_map(|(at, item)| {
            let found: Option<Map<String, Value>> = keys
                .iter()
                .map(|key| Some((key.clone(), item.get(key)?.clone())))
                .collect();
            Some((canonical_json(&found?), at))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &[u8; 32] = &[3; 32];

    fn set() -> Value {
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {"f:spec": {"f:containers": {
                    "k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}},
                }}},
            },
            "f:finalizers": {"v:\"a\"": {}},
        })
    }

    fn live() -> Value {
        json!({
            "metadata": {"labels": {"app": "web", "theirs": "1"}, "resourceVersion": "1"},
            "spec": {
                "replicas": 2,
                "template": {"spec": {"containers": [
                    {"name": "sidecar", "image": "s:1"},
                    {"name": "web", "image": "w:1", "imagePullPolicy": "Always"},
                ]}},
            },
            "finalizers": ["b", "a"],
        })
    }

    fn with(pointer: &str, value: Value) -> Digest {
        let mut object = live();
        *object.pointer_mut(pointer).expect("a place in the object") = value;
        projection(&set(), &object, KEY)
    }

    #[test]
    fn what_others_own_does_not_enter() {
        let base = projection(&set(), &live(), KEY);
        assert_eq!(with("/metadata/resourceVersion", json!("2")), base);
        assert_eq!(with("/metadata/labels/theirs", json!("2")), base);
        assert_eq!(with("/spec/template/spec/containers/0/image", json!("s:2")), base);
        assert_eq!(
            with("/spec/template/spec/containers/1/imagePullPolicy", json!("Never")),
            base
        );
        assert_eq!(with("/finalizers/0", json!("c")), base);
        let mut swapped = live();
        let containers = swapped
            .pointer_mut("/spec/template/spec/containers")
            .and_then(Value::as_array_mut);
        containers.expect("containers").reverse();
        assert_eq!(projection(&set(), &swapped, KEY), base);
    }

    #[test]
    fn items_of_short_and_of_long_lists_are_found_alike() {
        let item = |n: usize| json!({"port": n % 7, "protocol": "TCP", "n": n});
        for length in [0, 1, FEW, FEW + 1, 40] {
            let long: Vec<Value> = (0..40).map(|n| json!(n % 7)).collect();
            let lists = [
                Value::Array((0..length).map(item).collect()),
                Value::Array(long[..length].to_vec()),
            ];
            for name in [
                "k:{\"port\":3,\"protocol\":\"TCP\"}",
                "k:{\"port\":3.0}",
                "k:{\"other\":null}",
                "v:6",
                "v:6.0",
                "v:\"6\"",
                "i:2",
            ] {
                for list in &lists {
                    let found = Items::of(Some(list)).find(name);
                    let mut indexed = Items::of(Some(list));
                    let expected = match name.split_once(':') {
                        Some(("k", keys)) => {
                            let keys: Map<String, Value> = serde_json::from_str(keys).expect("keys");
                            let names: Vec<String> = keys.keys().cloned().collect();
                            let index = index_by(indexed.list, &names);
                            index.get(&canonical_json(&keys)).map(|at| &indexed.list[*at])
                        }
                        Some(("v", value)) => {
                            let value: Value = serde_json::from_str(value).expect("a value");
                            let text = canonical_json(&value);
                            indexed.list.iter().find(|item| canonical_json(item) == text)
                        }
                        _ => indexed.find(name),
                    };
                    assert_eq!(found, expected, "{name} of {length}");
                }
            }
        }
    }

    #[test]
    fn every_owned_value_and_path_counts() {
        let base = projection(&set(), &live(), KEY);
        assert_ne!(with("/metadata/labels/app", json!("x")), base);
        assert_ne!(with("/spec/replicas", json!(3)), base);
        assert_ne!(with("/spec/template/spec/containers/1/image", json!("w:2")), base);
        assert_ne!(
            with("/spec/template/spec/containers/1/name", json!("other")),
            base
        );
        assert_ne!(with("/finalizers/1", json!("c")), base);
        assert_ne!(with("/metadata/labels", json!(null)), base);
        let mut fewer = set();
        fewer["f:spec"]
            .as_object_mut()
            .expect("a map")
            .remove("f:replicas");
        assert_ne!(projection(&fewer, &live(), KEY), base);
        assert_ne!(projection(&set(), &live(), &[4; 32]), base);
    }

    #[test]
    fn a_union_keeps_what_either_owns() {
        let a = json!({"f:spec": {"f:a": {}, "f:m": {}}});
        let b = json!({"f:spec": {"f:b": {".": {}, "f:c": {}}, "f:m": {"f:x": {}}}});
        let both = json!({"f:spec": {"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:m": {".": {}, "f:x": {}}}});
        assert_eq!(union(&a, &b), both);
        assert_eq!(union(&b, &a), both);
        assert_eq!(union(&a, &a), a);
    }

    #[test]
    fn a_path_is_owned_through_list_keys() {
        let field = |name: &str| Segment::Field(name.into());
        let image = |index| {
            vec![
                field("spec"),
                field("template"),
                field("spec"),
                field("containers"),
                Segment::Index(index),
                field("image"),
            ]
        };
        assert!(owns(&set(), &live(), &image(1)));
        assert!(!owns(&set(), &live(), &image(0)));
        assert!(owns(
            &set(),
            &live(),
            &[field("metadata"), field("labels"), field("app")]
        ));
        assert!(!owns(
            &set(),
            &live(),
            &[field("metadata"), field("labels"), field("theirs")]
        ));
        assert_eq!(
            pointer(&[field("a/b"), field("c~"), Segment::Index(3)]),
            "/a~1b/c~0/3"
        );
    }

    #[test]
    fn a_set_is_split_at_a_path_and_both_parts_make_it_again() {
        let path = ["f:spec", "f:template", "f:note"];
        let note = json!({"f:spec": {"f:template": {".": {}, "f:note": {}}}});
        assert_eq!(split(&note, &path), (None, Some(note.clone())));
        let both = json!({"f:spec": {"f:paused": {}, "f:template": {".": {}, "f:note": {}}}});
        let rest = json!({"f:spec": {"f:paused": {}}});
        assert_eq!(split(&both, &path), (Some(rest), Some(note)));
        // A node owned whole cannot be divided, and what is not there cannot be taken.
        for set in [json!({"f:spec": {}}), json!({"f:data": {"f:a": {}}}), json!(null)] {
            assert_eq!(split(&set, &path), (Some(set), None));
        }
    }
}
