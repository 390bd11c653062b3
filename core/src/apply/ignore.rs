//! Fields that an app leaves to others, as `spec.ignore` says: an autoscaler's replicas, say. They are no drift, and a write
//! for another reason gives them what is live.
//!
//! As Flux does it: of a field that another applier owns nothing is sent; any other is sent as it is live, so that it stays.
//! What is created gets what the manifest says. A field that the live object lacks is not sent either.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    MANAGER,
    fields::{self, Items, Segment},
};
use crate::{
    fleet::selector::{InvalidSelector, Selector},
    text::re2::{Regex, SyntaxError},
};

/// Memory that one compiled expression may take.
const EXPRESSION_MAX: usize = 64 << 10;

/// Fields that are left to others, and of which objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreRule {
    /// JSON pointers to the fields.
    pub paths: Vec<String>,
    /// The objects; all of the app when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<IgnoreTarget>,
}

/// The objects that a rule is for. Expressions are of the whole text; an empty field is fulfilled by any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IgnoreTarget {
    /// API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// API version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    /// Annotations, in the same form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub annotation_selector: String,
}

/// A rule that cannot be read: the app says something wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.ignore[{rule}].{field}: {why}")]
pub struct InvalidRule {
    /// Which rule.
    pub rule: usize,
    /// Which of its fields.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// A JSON pointer in its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(Box<[String]>);

/// Rules that can be applied.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    paths: Vec<Pointer>,
    target: Option<Target>,
}

#[derive(Debug)]
struct Target {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Selector,
    annotations: Selector,
}

/// What a live object has where a rule points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    path: Pointer,
    /// `None`: nothing.
    live: Option<Value>,
    /// Another applier owns it.
    is_others: bool,
}

impl Rules {
    /// Reads rules.
    pub fn new(rules: &[IgnoreRule]) -> Result<Self, InvalidRule> {
        let read = rules.iter().enumerate().map(|(index, rule)| {
            let paths: Option<Vec<Pointer>> = rule.paths.iter().map(|path| Pointer::parse(path)).collect();
            let paths = paths.ok_or_else(|| InvalidRule {
                rule: index,
                field: "paths",
                why: "expected JSON pointers that begin with /".to_owned(),
            })?;
            let target = rule.target.as_ref().map(|target| Target::new(target, index));
            Ok(Rule {
                paths,
                target: target.transpose()?,
            })
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// The fields of an object that are left to others.
    pub fn of(&self, object: &Value) -> Vec<Pointer> {
        let fitting = self
            .0
            .iter()
            .filter(|rule| rule.target.as_ref().is_none_or(|target| target.fits(object)));
        let mut paths: Vec<Pointer> = fitting.flat_map(|rule| rule.paths.iter().cloned()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

impl Target {
    fn new(target: &IgnoreTarget, rule: usize) -> Result<Self, InvalidRule> {
        let expression = |field: &'static str, text: &str| -> Result<Option<Regex>, InvalidRule> {
            if text.is_empty() {
                return Ok(None);
            }
            let why = |error: SyntaxError| InvalidRule {
                rule,
                field,
                why: error.to_string(),
            };
            Regex::compile(&format!("^(?:{text})$"), EXPRESSION_MAX)
                .map(Some)
                .map_err(why)
        };
        let selector = |field: &'static str, text: &str| {
            if text.is_empty() {
                return Ok(Selector::default());
            }
            Selector::parse(text).map_err(|error: InvalidSelector| InvalidRule {
                rule,
                field,
                why: error.to_string(),
            })
        };
        Ok(Self {
            group: expression("target.group", &target.group)?,
            version: expression("target.version", &target.version)?,
            kind: expression("target.kind", &target.kind)?,
            name: expression("target.name", &target.name)?,
            namespace: expression("target.namespace", &target.namespace)?,
            labels: selector("target.labelSelector", &target.label_selector)?,
            annotations: selector("target.annotationSelector", &target.annotation_selector)?,
        })
    }

    fn fits(&self, object: &Value) -> bool {
        let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
        let api_version = text(&object["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let metadata = &object["metadata"];
        let fits = |expression: &Option<Regex>, text: &str| {
            expression
                .as_ref()
                .is_none_or(|expression| expression.is_match(text))
        };
        let map = |field: &str| {
            let entries = metadata[field].as_object().into_iter().flatten();
            entries.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        fits(&self.group, group)
            && fits(&self.version, version)
            && fits(&self.kind, &text(&object["kind"]))
            && fits(&self.name, &text(&metadata["name"]))
            && fits(&self.namespace, &text(&metadata["namespace"]))
            && (self.labels.is_empty() || self.labels.matches(&map("labels")))
            && (self.annotations.is_empty() || self.annotations.matches(&map("annotations")))
    }
}

impl Pointer {
    /// Reads a pointer; `None`: it does not begin with a slash, or names the whole object.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.strip_prefix('/')?.split('/');
        Some(Self(
            parts
                .map(|part| part.replace("~1", "/").replace("~0", "~"))
                .collect(),
        ))
    }

    /// Writes the pointer as it is read.
    pub fn text(&self) -> String {
        let parts = self.0.iter();
        parts
            .map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1")))
            .collect()
    }

    fn find<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(object, |value, part| step(value, part))
    }

    /// Where it leads in an object, as far as that goes.
    fn segments(&self, object: &Value) -> Vec<Segment> {
        let mut at = Some(object);
        let segments = self.0.iter().map(|part| {
            let segment = match (at, part.parse()) {
                (Some(Value::Array(_)), Ok(index)) => Segment::Index(index),
                _ => Segment::Field(part.clone()),
            };
            at = at.and_then(|value| step(value, part));
            segment
        });
        segments.collect()
    }

    fn set(&self, object: &mut Value, value: Value) {
        if let Some((parent, last)) = self.parent(object)
            && let Some(place) = step_mut(parent, last)
        {
            *place = value;
        }
    }

    fn remove(&self, object: &mut Value) {
        match self.parent(object) {
            Some((Value::Object(map), last)) => {
                map.remove(last);
            }
            Some((Value::Array(list), last)) => {
                if let Some(index) = last.parse().ok().filter(|index| *index < list.len()) {
                    list.remove(index);
                }
            }
            _ => {}
        }
    }

    fn parent<'a>(&self, object: &'a mut Value) -> Option<(&'a mut Value, &str)> {
        let (last, above) = self.0.split_last()?;
        let parent = above
            .iter()
            .try_fold(object, |value, part| step_mut(value, part))?;
        Some((parent, last))
    }
}

fn step<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(part),
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

fn step_mut<'a>(value: &'a mut Value, part: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(part),
        Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// What a live object has at fields that are left to others.
pub fn left(paths: &[Pointer], live: &Value) -> Vec<Left> {
    let others: Vec<&Value> = fields::entries(&live["metadata"])
        .iter()
        .filter(|entry| {
            entry["operation"] == "Apply"
                && entry["manager"] != MANAGER
                && entry["subresource"].as_str().is_none_or(str::is_empty)
        })
        .collect();
    let left = paths.iter().map(|path| {
        let segments = path.segments(live);
        Left {
            path: path.clone(),
            live: path.find(live).cloned(),
            is_others: others
                .iter()
                .any(|entry| has(&entry["fieldsV1"], live, &segments)),
        }
    });
    left.collect()
}

/// Makes what is sent leave these fields as they are live. The last of a list's items goes first, so that those before keep
/// their places.
pub fn leave(sent: &mut Value, left: &[Left]) {
    for Left {
        path,
        live,
        is_others,
    } in left.iter().rev()
    {
        if path.find(sent).is_none() || path.find(sent) == live.as_ref() {
            continue;
        }
        match live {
            Some(live) if !is_others => path.set(sent, live.clone()),
            _ => path.remove(sent),
        }
    }
}

/// Tells whether a set of fields has the place that `path` names in `live`, or a part of it.
fn has(set: &Value, live: &Value, path: &[Segment]) -> bool {
    let Some((segment, rest)) = path.split_first() else {
        return true;
    };
    let Some(children) = set.as_object() else {
        return false;
    };
    // Owned whole.
    if children.is_empty() {
        return true;
    }
    match segment {
        Segment::Field(name) => children
            .get(&format!("f:{name}"))
            .is_some_and(|child| has(child, &live[name.as_str()], rest)),
        Segment::Index(index) => {
            let mut items = Items::of(Some(live));
            children
                .iter()
                .any(|(name, child)| items.position(name) == Some(*index) && has(child, &live[*index], rest))
        }
    }
}

/// Takes fields that are left to others out of a set of fields of `live`. What is owned only with all around it stays.
pub(super) fn without(set: &Value, live: &Value, paths: &[Pointer]) -> Value {
    let mut set = set.clone();
    for path in paths {
        let Some(names) = names(&set, live, &path.segments(live)) else {
            continue;
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // An empty set would mean the whole object.
        set = fields::split(&set, &names)
            .0
            .unwrap_or_else(|| serde_json::json!({".": {}}));
    }
    set
}

/// What the set calls the parts of a path; `None`: it does not have it.
fn names(set: &Value, live: &Value, path: &[Segment]) -> Option<Vec<String>> {
    let Some((segment, rest)) = path.split_first() else {
        return Some(Vec::new());
    };
    let children = set.as_object()?;
    let (name, below) = match segment {
        Segment::Field(name) => (format!("f:{name}"), &live[name.as_str()]),
        Segment::Index(index) => {
            let mut items = Items::of(Some(live));
            let name = children
                .keys()
                .find(|name| items.position(name) == Some(*index))?;
            (name.clone(), &live[*index])
        }
    };
    let mut all = names(children.get(&name)?, below, rest)?;
    all.insert(0, name);
    Some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(paths: &[&str], target: Option<IgnoreTarget>) -> IgnoreRule {
        IgnoreRule {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            target,
        }
    }

    fn of_deployments() -> IgnoreTarget {
        IgnoreTarget {
            kind: "Deploy.*".into(),
            ..IgnoreTarget::default()
        }
    }

    fn deployment(replicas: u32) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "front"}},
            "spec": {"replicas": replicas, "paused": false}})
    }

    fn owned(mut object: Value, manager: &str, operation: &str, fields: &Value) -> Value {
        object["metadata"]["managedFields"] =
            json!([{"manager": manager, "operation": operation, "fieldsV1": fields}]);
        object
    }

    fn sent(live: &Value, desired: &Value, paths: &[&str]) -> Value {
        let paths: Vec<Pointer> = paths.iter().filter_map(|path| Pointer::parse(path)).collect();
        let mut sent = desired.clone();
        leave(&mut sent, &left(&paths, live));
        sent
    }

    #[test]
    fn a_field_that_nobody_else_applies_is_sent_as_it_is_live() {
        let fields = json!({"f:spec": {"f:replicas": {}}});
        for (manager, operation) in [(MANAGER, "Apply"), ("kube-controller-manager", "Update")] {
            let live = owned(deployment(7), manager, operation, &fields);
            let sent = sent(&live, &deployment(2), &["/spec/replicas"]);
            assert_eq!(sent["spec"], json!({"replicas": 7, "paused": false}), "{manager}");
        }
    }

    #[test]
    fn of_a_field_that_another_applies_nothing_is_sent() {
        let live = owned(
            deployment(7),
            "autoscaler",
            "Apply",
            &json!({"f:spec": {"f:replicas": {}}}),
        );
        let sent = sent(&live, &deployment(2), &["/spec/replicas"]);
        assert_eq!(sent["spec"], json!({"paused": false}));
    }

    #[test]
    fn what_is_the_same_stays_and_what_is_not_live_is_not_sent() {
        let live = owned(
            deployment(2),
            "autoscaler",
            "Apply",
            &json!({"f:spec": {"f:replicas": {}}}),
        );
        assert_eq!(
            sent(&live, &deployment(2), &["/spec/replicas"]),
            deployment(2),
            "nothing has drifted"
        );
        let mut bare = deployment(2);
        bare["spec"] = json!({});
        assert_eq!(
            sent(&bare, &deployment(2), &["/spec/replicas"])["spec"],
            json!({"paused": false})
        );
        let not_desired = sent(&live, &deployment(2), &["/spec/nothing", "/nowhere/at/all"]);
        assert_eq!(not_desired, deployment(2));
    }

    #[test]
    fn items_of_a_list_are_pointed_to_by_their_place() {
        let with = |images: [&str; 2]| json!({"spec": {"containers": [{"name": "a", "image": images[0]}, {"name": "b", "image": images[1]}]}});
        let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"b\"}": {"f:image": {}}}}});
        let live = owned(with(["a:9", "b:9"]), "updater", "Apply", &fields);
        let sent = sent(
            &live,
            &with(["a:1", "b:1"]),
            &["/spec/containers/0/image", "/spec/containers/1/image"],
        );
        assert_eq!(
            sent["spec"]["containers"],
            json!([{"name": "a", "image": "a:9"}, {"name": "b"}])
        );
    }

    #[test]
    fn keys_with_slashes_are_escaped_as_json_pointers_are() {
        let annotated = |value: &str| json!({"metadata": {"annotations": {"example.com/a~b": value}}});
        let sent = sent(
            &annotated("live"),
            &annotated("git"),
            &["/metadata/annotations/example.com~1a~0b"],
        );
        assert_eq!(sent, annotated("live"));
        let text = "/metadata/annotations/example.com~1a~0b";
        assert_eq!(
            Pointer::parse(text).map(|pointer| pointer.text()).as_deref(),
            Some(text)
        );
    }

    #[test]
    fn a_rule_is_for_the_objects_that_fit_all_of_its_target() {
        let of = |target: Option<IgnoreTarget>| {
            let rules = Rules::new(&[rule(&["/spec/replicas"], target)]).expect("it is well formed");
            !rules.of(&deployment(1)).is_empty()
        };
        assert!(of(None) && of(Some(of_deployments())));
        let target = |change: fn(&mut IgnoreTarget)| {
            let mut target = of_deployments();
            change(&mut target);
            of(Some(target))
        };
        assert!(target(|target| target.group = "apps".into()));
        assert!(!target(|target| target.group = "batch".into()));
        assert!(
            !target(|target| target.kind = "Deploy".into()),
            "the whole text counts"
        );
        assert!(target(|target| target.version = "v[0-9]".into()));
        assert!(!target(|target| target.name = "api|db".into()));
        assert!(!target(|target| target.namespace = "sho".into()));
        assert!(target(
            |target| target.label_selector = "tier in (front, back)".into()
        ));
        assert!(!target(|target| target.label_selector = "tier=back".into()));
        assert!(!target(|target| target.annotation_selector = "tier".into()));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_named() {
        for (rule, expected) in [
            (rule(&["spec/replicas"], None), "spec.ignore[0].paths"),
            (
                rule(
                    &["/a"],
                    Some(IgnoreTarget {
                        name: "(".into(),
                        ..IgnoreTarget::default()
                    }),
                ),
                "spec.ignore[0].target.name",
            ),
            (
                rule(
                    &["/a"],
                    Some(IgnoreTarget {
                        label_selector: "a in".into(),
                        ..IgnoreTarget::default()
                    }),
                ),
                "spec.ignore[0].target.labelSelector",
            ),
        ] {
            let error = Rules::new(&[rule]).expect_err("it is refused").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn fields_left_to_others_are_taken_out_of_what_is_ours() {
        let live = deployment(7);
        let paths: Vec<Pointer> = Pointer::parse("/spec/replicas").into_iter().collect();
        let before = json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
        let after = json!({"f:spec": {"f:paused": {}}});
        assert_eq!(without(&before, &live, &paths), after);
        assert_eq!(without(&after, &live, &paths), after, "others have taken it");
        let whole = json!({"f:spec": {}});
        assert_eq!(without(&whole, &live, &paths), whole, "it cannot be divided");
        assert_eq!(
            without(&json!({"f:spec": {"f:replicas": {}}}), &live, &paths),
            json!({".": {}})
        );
    }
}
