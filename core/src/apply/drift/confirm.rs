//! Confirms a suspicion by the result of a dry-run, and tells who made the difference.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::apply::{
    MANAGER,
    fields::{self, Segment},
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
/// nothing. Compares labels, annotations and everything outside `metadata` and `status`.
pub fn confirm(live: &Value, dry_run: &Value) -> Option<Drift> {
    let mut differences = Differences::default();
    let (live_map, dry_map) = (live.as_object()?, dry_run.as_object()?);
    for field in keys(live_map, dry_map).filter(|field| !matches!(*field, "metadata" | "status")) {
        differences.compare(
            &mut vec![Segment::Field(field.into())],
            live_map.get(field),
            dry_map.get(field),
        );
    }
    for field in ["labels", "annotations"] {
        let mut path = vec![Segment::Field("metadata".into()), Segment::Field(field.into())];
        differences.compare(
            &mut path,
            live["metadata"].get(field),
            dry_run["metadata"].get(field),
        );
    }
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

#[derive(Default)]
struct Differences {
    paths: Vec<Vec<Segment>>,
}

impl Differences {
    /// Notes the deepest places that differ. Depth is that of parsed JSON, which the parser bounds.
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
/// no owner; whoever wrote last to the object is then the likeliest.
fn manager_of(live: &Value, path: &[Segment]) -> Option<String> {
    let others = || {
        fields::entries(&live["metadata"])
            .iter()
            .filter(|entry| entry["manager"] != MANAGER && fields::is_whole(entry))
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

    #[test]
    fn a_drift_names_a_bounded_number_of_paths() {
        let wide = |n: i32| json!({"data": (0..1000).map(|i| (format!("k{i}"), json!(i * n))).collect::<Map<_, _>>()});
        assert_eq!(
            confirm(&wide(1), &wide(2)).map(|drift| drift.paths.len()),
            Some(MAX_PATHS)
        );
    }
}
