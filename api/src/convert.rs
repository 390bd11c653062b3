//! Old versions of Flux's kinds become current ones: removed fields are dropped with a warning, renamed ones
//! moved, and what an old field meant is said in the current fields.

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::problem::{FieldPath, Problem};

/// Turns an object of a known kind into its current version.
///
/// Returns the object and what a person should know: that the version is old, and every field that was moved
/// or dropped.
pub fn convert(
    api_version: &str,
    kind: Kind,
    mut object: Map<String, Value>,
) -> (Map<String, Value>, Vec<Problem>) {
    let mut notes = Notes(Vec::new());
    let current = kind.api_version();
    if api_version != current {
        let path = FieldPath::root().field("apiVersion");
        notes
            .0
            .push(Problem::new(path, format!("{api_version} is deprecated")).hint(format!("use {current}")));
        object.insert("apiVersion".to_owned(), json!(current));
    }
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        let path = FieldPath::root().field("spec");
        match kind {
            Kind::GitRepository => git_repository(spec, &path, &mut notes, api_version != current),
            Kind::Bucket if api_version != current => notes.dropped(spec, "accessFrom", &path),
            Kind::HelmChart if api_version != current => values_file(spec, &path, &mut notes),
            Kind::Kustomization if api_version != current => kustomization(spec, &path, &mut notes),
            Kind::HelmRelease if api_version != current => helm_release(spec, &path, &mut notes),
            Kind::Alert => summary(spec, &path, &mut notes),
            Kind::ImageUpdateAutomation if api_version != current => commit_template(spec, &path, &mut notes),
            _ => {}
        }
    }
    (object, notes.0)
}

struct Notes(Vec<Problem>);

impl Notes {
    fn say(&mut self, path: FieldPath, message: &str) {
        self.0.push(Problem::new(path, message));
    }

    /// Removes a field that no version means anything by any more.
    fn dropped(&mut self, fields: &mut Map<String, Value>, name: &str, path: &FieldPath) {
        if fields.remove(name).is_some() {
            self.say(path.field(name), "was removed from the API and is ignored");
        }
    }
}

fn git_repository(spec: &mut Map<String, Value>, path: &FieldPath, notes: &mut Notes, old: bool) {
    if old {
        notes.dropped(spec, "gitImplementation", path);
        notes.dropped(spec, "accessFrom", path);
    }
    // The current version still takes the old spelling.
    if let Some(mode) = spec.get_mut("verify").and_then(|verify| verify.get_mut("mode"))
        && mode == "head"
    {
        *mode = json!("HEAD");
    }
}

/// The one values file stood before the list.
fn values_file(spec: &mut Map<String, Value>, path: &FieldPath, notes: &mut Notes) {
    let Some(file) = spec.remove("valuesFile") else {
        return;
    };
    notes.say(
        path.field("valuesFile"),
        "was renamed to valuesFiles and is converted",
    );
    prepend(spec, "valuesFiles", vec![file]);
}

fn kustomization(spec: &mut Map<String, Value>, path: &FieldPath, notes: &mut Notes) {
    notes.dropped(spec, "validation", path);
    old_patches(spec, path, notes);
}

fn helm_release(spec: &mut Map<String, Value>, path: &FieldPath, notes: &mut Notes) {
    let chart = path.field("chart").field("spec");
    if let Some(Value::Object(fields)) = spec.get_mut("chart").and_then(|chart| chart.get_mut("spec")) {
        values_file(fields, &chart, notes);
    }
    let Some(Value::Array(renderers)) = spec.get_mut("postRenderers") else {
        return;
    };
    for (index, renderer) in renderers.iter_mut().enumerate() {
        if let Some(Value::Object(fields)) = renderer.get_mut("kustomize") {
            old_patches(
                fields,
                &path.field("postRenderers").index(index).field("kustomize"),
                notes,
            );
        }
    }
}

/// Strategic merge patches ran before `patches`, JSON 6902 patches behind them.
fn old_patches(fields: &mut Map<String, Value>, path: &FieldPath, notes: &mut Notes) {
    if let Some(Value::Array(old)) = fields.remove("patchesStrategicMerge") {
        notes.say(
            path.field("patchesStrategicMerge"),
            "was replaced by patches and is converted",
        );
        prepend(
            fields,
            "patches",
            old.iter()
                .map(|patch| json!({ "patch": patch_text(patch) }))
                .collect(),
        );
    }
    if let Some(Value::Array(old)) = fields.remove("patchesJson6902") {
        notes.say(
            path.field("patchesJson6902"),
            "was replaced by patches and is converted",
        );
        let converted = old
            .iter()
            .map(|one| json!({ "target": exact(&one["target"]), "patch": patch_text(&one["patch"]) }));
        // Where it is not a list, the validation that follows says so.
        if let Value::Array(patches) = fields.entry("patches").or_insert_with(|| json!([])) {
            patches.extend(converted);
        }
    }
}

/// A patch given as an object becomes text; JSON is YAML.
fn patch_text(patch: &Value) -> String {
    match patch {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The old target named its object; the current one holds regular expressions.
fn exact(target: &Value) -> Value {
    let Value::Object(fields) = target else {
        return target.clone();
    };
    let quoted = fields.iter().map(|(name, value)| match value {
        Value::String(text) if !name.ends_with("Selector") => (name.clone(), json!(text.replace('.', "\\."))),
        other => (name.clone(), other.clone()),
    });
    Value::Object(quoted.collect())
}

fn prepend(fields: &mut Map<String, Value>, name: &str, mut first: Vec<Value>) {
    match fields.get_mut(name) {
        Some(Value::Array(rest)) => {
            first.append(rest);
            *rest = first;
        }
        // Not a list: the validation that follows says so.
        Some(other) if !other.is_null() => {}
        _ => {
            fields.insert(name.to_owned(), Value::Array(first));
        }
    }
}

/// The current version still takes `summary`; the metadata that was given explicitly wins.
fn summary(spec: &mut Map<String, Value>, path: &FieldPath, notes: &mut Notes) {
    let Some(summary) = spec.remove("summary") else {
        return;
    };
    notes.say(
        path.field("summary"),
        "was replaced by eventMetadata.summary and is converted",
    );
    if let Value::Object(metadata) = spec.entry("eventMetadata").or_insert_with(|| json!({})) {
        metadata.entry("summary").or_insert(summary);
    }
}

/// A template cannot be rewritten safely: the new data has other fields.
fn commit_template(spec: &Map<String, Value>, path: &FieldPath, notes: &mut Notes) {
    let commit = spec.get("git").map(|git| &git["commit"]["messageTemplate"]);
    if commit
        .and_then(Value::as_str)
        .is_some_and(|template| template.contains(".Updated"))
    {
        let path = path.field("git").field("commit").field("messageTemplate");
        notes.say(path, ".Updated was replaced by .Changed and is not converted");
    }
}
