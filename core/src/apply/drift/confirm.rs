//! Confirms a suspicion by the result of a dry-run, and tells who made the difference.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::apply::{
    MANAGER,
    fields::{self, Items, Segment},
};

/// The most paths that a drift names.
pub const MAX_PATHS: usize = 32;

/// A confirmed difference between the live and the desired object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// JSON pointers of what differs, sorted, at most [`MAX_PATHS`]; [`Drift::EXISTENCE`] alone for an object
    /// that is gone.
    pub paths: Vec<String>,
    /// Who made it, as far as `managedFields` tell.
    pub manager: Option<String>,
}

impl Drift {
    /// The path of an object that is gone. No JSON pointer begins so.
    pub const EXISTENCE: &'static str = "existence";

    /// An object that is gone. Nothing in the cluster says who deleted it.
    pub fn gone() -> Self {
        Self {
            paths: vec![Self::EXISTENCE.to_owned()],
            manager: None,
        }
    }
}

/// Confirms a suspicion by the result of a dry-run apply over the live object. `None`: applying would change
/// nothing of ours. Compares what we own or would own: the two objects were read at two moments, and what others
/// changed in between is no drift. Of `metadata` only labels and annotations count, of `status` nothing.
pub fn confirm(live: &Value, dry_run: &Value) -> Option<Drift> {
    let ours = |object: &Value| {
        let entry = fields::entry(&object["metadata"], MANAGER, "Apply");
        entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
    };
    let set = compared(fields::union(&ours(live), &ours(dry_run)))?;
    let mut differences = Differences::default();
    differences.compare_owned(&set, &mut Vec::new(), Some(live), Some(dry_run));
    let first = differences.paths.first()?;
    let manager = manager_of(live, first);
    let mut paths: Vec<String> = differences
        .paths
        .iter()
        .map(|path| fields::pointer(path))
        .collect();
    paths.sort_unstable();
    Some(Drift { paths, manager })
}

/// Tells whether we have applied the object between two reads of it. Who takes a field over from us does not change the
/// time of our entry, and makes it smaller.
pub fn is_applied_since(before: &Value, after: &Value) -> bool {
    let ours = |object: &Value| fields::entry(&object["metadata"], MANAGER, "Apply").cloned();
    match (ours(before), ours(after)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => {
            let union = fields::union(&before["fieldsV1"], &after["fieldsV1"]);
            before["time"] != after["time"] || union != before["fieldsV1"]
        }
    }
}

/// What is compared of a set; `None`: nothing. An empty set would mean the whole object.
fn compared(mut set: Value) -> Option<Value> {
    let fields = set.as_object_mut()?;
    fields.remove("f:status");
    if let Some(metadata) = fields.get_mut("f:metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| matches!(name.as_str(), "f:labels" | "f:annotations"));
        if metadata.is_empty() {
            fields.remove("f:metadata");
        }
    }
    (!fields.is_empty()).then_some(set)
}

#[derive(Default)]
struct Differences {
    paths: Vec<Vec<Segment>>,
}

impl Differences {
    /// Notes the places of `set` that differ. Depth is that of parsed JSON, which the parser bounds.
    fn compare_owned(
        &mut self,
        set: &Value,
        path: &mut Vec<Segment>,
        live: Option<&Value>,
        dry: Option<&Value>,
    ) {
        if live == dry || self.paths.len() == MAX_PATHS {
            return;
        }
        let Some(children) = set.as_object().filter(|children| !children.is_empty()) else {
            return self.compare(path, live, dry);
        };
        if live.is_none() || dry.is_none() {
            // One side lacks the whole node: its parts need not be named.
            if !(is_empty(live) && is_empty(dry)) {
                self.paths.push(path.clone());
            }
            return;
        }
        let (mut live_items, mut dry_items) = (Items::of(live), Items::of(dry));
        for (name, child) in children.iter().filter(|(name, _)| *name != ".") {
            let field = name.strip_prefix("f:");
            let (segment, below) = match field {
                Some(field) => (
                    Segment::Field(field.into()),
                    [live, dry].map(|object| object.and_then(|object| object.get(field))),
                ),
                None => {
                    let (ours, theirs) = (live_items.position(name), dry_items.position(name));
                    let Some(at) = ours.or(theirs) else { continue };
                    let items = [(live, ours), (dry, theirs)].map(|(list, at)| list?.get(at?));
                    (Segment::Index(at), items)
                }
            };
            path.push(segment);
            self.compare_owned(child, path, below[0], below[1]);
            path.pop();
        }
    }

    /// Notes the deepest places that differ.
    fn compare(&mut self, path: &mut Vec<Segment>, live: Option<&Value>, dry: Option<&Value>) {
        if live == dry || is_empty(live) && is_empty(dry) || self.paths.len() == MAX_PATHS {
            return;
        }
        match (live, dry) {
            (Some(Value::Object(live)), Some(Value::Object(dry))) => {
                for field in keys(live, dry) {
                    path.push(Segment::Field(field.into()));
                    self.compare(path, live.get(field), dry.get(field));
                    path.pop();
                }
            }
            (Some(Value::Array(live)), Some(Value::Array(dry))) if live.len() == dry.len() => {
                for (index, (live, dry)) in live.iter().zip(dry).enumerate() {
                    path.push(Segment::Index(index));
                    self.compare(path, Some(live), Some(dry));
                    path.pop();
                }
            }
            _ => self.paths.push(path.clone()),
        }
    }
}

/// An absent map and an empty one are the same to the API server.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

fn keys<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let only_b = b.keys().filter(|key| !a.contains_key(*key));
    a.keys().chain(only_b).map(String::as_str)
}

/// Who wrote what stands at `path`: of the others that own it, whoever wrote last. A field that was removed has
/// no owner; whoever wrote last to the object is then the likeliest. Autoscalers and `kubectl scale` write
/// through the `scale` subresource; `status` is nothing of ours.
fn manager_of(live: &Value, path: &[Segment]) -> Option<String> {
    let others = || {
        fields::entries(&live["metadata"])
            .iter()
            .filter(|entry| entry["manager"] != MANAGER && entry["subresource"] != "status")
    };
    let latest = |a: &&Value, b: &&Value| a["time"].as_str().cmp(&b["time"].as_str());
    others()
        .filter(|entry| fields::owns(&entry["fieldsV1"], live, path))
        .max_by(latest)
        .or_else(|| others().max_by(latest))
        .and_then(|entry| entry["manager"].as_str())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::tests::{changed, edited_by, live},
        *,
    };

    #[test]
    fn a_dry_run_confirms_and_names_paths_and_manager() {
        let object = changed(|o| {
            o["spec"]["replicas"] = json!(5);
            o["metadata"]["labels"]["app"] = json!("x");
            o["metadata"]["managedFields"]
                .as_array_mut()
                .expect("a list")
                .extend([
                    edited_by("hpa", "2026-01-01T00:00:10Z"),
                    edited_by("kubectl-scale", "2026-01-01T00:00:20Z"),
                ]);
        });
        let drift = confirm(&object, &live()).expect("drift");
        assert_eq!(drift.paths, ["/metadata/labels/app", "/spec/replicas"]);
        assert_eq!(drift.manager.as_deref(), Some("kubectl-scale"));
    }

    #[test]
    fn a_dry_run_that_changes_only_bookkeeping_confirms_nothing() {
        let object = changed(|o| {
            o["metadata"]["resourceVersion"] = json!("9");
            o["metadata"]["generation"] = json!(4);
            o["metadata"]["annotations"] = json!({});
            o["status"] = json!({});
        });
        assert_eq!(confirm(&object, &live()), None);
    }

    /// An object of which we own `fields`.
    fn owned(fields: &Value, body: &Value) -> Value {
        let mut object = body.clone();
        object["metadata"]["managedFields"] =
            json!([{"manager": MANAGER, "operation": "Apply", "fieldsV1": fields}]);
        object
    }

    #[test]
    fn what_others_changed_between_look_and_dry_run_is_no_drift() {
        let ours = json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {".": {}, "f:name": {}, "f:image": {}}}},
        });
        let app = json!({"name": "app", "image": "a:1"});
        let looked = json!({
            "metadata": {"labels": {"app": "web"}, "finalizers": ["example.com/hold"]},
            "spec": {"containers": [app], "replicas": 2},
        });
        let injected = json!({
            "metadata": {"labels": {"app": "web", "mesh": "on"}, "annotations": {"theirs": "1"}},
            "spec": {"containers": [{"name": "proxy"}, app], "replicas": 9},
            "status": {"replicas": 9},
        });
        assert_eq!(confirm(&owned(&ours, &looked), &owned(&ours, &injected)), None);
    }

    #[test]
    fn items_of_a_list_are_compared_by_their_keys() {
        let ours = json!({"f:spec": {"f:ports": {
            "k:{\"port\":80}": {".": {}, "f:port": {}, "f:name": {}},
            "k:{\"port\":81}": {".": {}, "f:port": {}},
        }}});
        let ports = |ports: Value| owned(&ours, &json!({"spec": {"ports": ports}}));
        let desired = ports(json!([{"port": 80, "name": "http"}, {"port": 81}]));
        let renamed = ports(json!([{"port": 7}, {"port": 80, "name": "web"}, {"port": 81}]));
        let removed = ports(json!([{"port": 80, "name": "http"}]));
        let paths = |live: &Value| confirm(live, &desired).map(|drift| drift.paths);
        assert_eq!(paths(&renamed), Some(vec!["/spec/ports/1/name".into()]));
        assert_eq!(paths(&removed), Some(vec!["/spec/ports/1".into()]));
        let none = ports(json!([]));
        assert_eq!(
            paths(&none),
            Some(vec!["/spec/ports/0".into(), "/spec/ports/1".into()])
        );
        assert_eq!(paths(&desired), None);
    }

    #[test]
    fn a_field_that_we_own_and_desire_no_more_is_drift() {
        let before = owned(
            &json!({"f:data": {"f:a": {}, "f:b": {}}}),
            &json!({"data": {"a": "1", "b": "1"}}),
        );
        let after = owned(&json!({"f:data": {"f:a": {}}}), &json!({"data": {"a": "1"}}));
        assert_eq!(
            confirm(&before, &after).map(|drift| drift.paths),
            Some(vec!["/data/b".into()])
        );
    }

    #[test]
    fn who_scales_through_the_subresource_is_named() {
        let object = changed(|o| {
            o["spec"]["replicas"] = json!(5);
            let mut scaled = edited_by("kube-controller-manager", "2026-01-01T00:00:10Z");
            scaled["subresource"] = json!("scale");
            let mut status = edited_by("deployment-controller", "2026-01-01T00:00:20Z");
            status["subresource"] = json!("status");
            o["metadata"]["managedFields"]
                .as_array_mut()
                .expect("a list")
                .extend([scaled, status]);
        });
        let drift = confirm(&object, &live()).expect("drift");
        assert_eq!(drift.manager.as_deref(), Some("kube-controller-manager"));
    }

    #[test]
    fn a_drift_names_a_bounded_number_of_paths() {
        let wide = |n: i32| {
            let data: Map<_, _> = (0..1000).map(|i| (format!("k{i}"), json!(i * n))).collect();
            owned(&json!({"f:data": {}}), &json!({"data": data}))
        };
        assert_eq!(
            confirm(&wide(1), &wide(2)).map(|drift| drift.paths.len()),
            Some(MAX_PATHS)
        );
    }
}
