//! Lists of what is configured and has hardly a status of its own: Placements, ClusterGroups, ConfigMaps, Secrets. Of the last
//! two the keys are shown; the hub tells no values.

use flotilla_api::Kind;
use flotilla_core::fleet::selector::{Expression, Selector};
use flotilla_proto::fleet::v1::Resource;
use serde_json::Value;

use super::{Shown, readiness};
use crate::error::CommandError;
use crate::output::ago;

/// Names of one cell that are shown, unless more columns are.
const NAMED: usize = 5;

/// Shows objects of one of these kinds.
pub(crate) fn show_configuration(
    kind: Kind,
    resources: &[Resource],
    namespaces: bool,
    wide: bool,
    now_ms: i64,
    single: bool,
) -> Result<Shown, CommandError> {
    let mut columns = vec!["NAME"];
    columns.extend(match kind {
        Kind::Placement => &["APPS", "CLUSTERS", "READY", "MESSAGE"][..],
        Kind::ClusterGroup => &["CLUSTERS", "READY", "MESSAGE"],
        _ => &["KEYS"],
    });
    let namespaces = namespaces && kind.is_namespaced();
    if namespaces {
        columns.insert(0, "NAMESPACE");
    }
    if wide {
        columns.push("AGE");
    }
    let mut shown = Shown::empty(columns, single);
    let most = if wide { usize::MAX } else { NAMED };
    for resource in resources {
        let reference = resource.r#ref.clone().unwrap_or_default();
        let object = super::object(resource)?;
        let spec = &object["spec"];
        let mut row = vec![reference.name.clone()];
        match kind {
            Kind::Placement => row.extend([apps(spec, most), clusters(&spec["clusters"], most)]),
            Kind::ClusterGroup => row.push(clusters(spec, most)),
            _ => row.push(few(texts(&spec["keys"]), most)),
        }
        if matches!(kind, Kind::Placement | Kind::ClusterGroup) {
            let (ready, message) = readiness(resource);
            row.extend([ready.to_owned(), message.to_owned()]);
        }
        if namespaces {
            row.insert(0, reference.namespace.clone());
        }
        if wide {
            row.push(ago(resource.created_at_ms, now_ms));
        }
        shown.add(row, &reference, object);
    }
    Ok(shown)
}

/// The apps that a Placement names.
fn apps(spec: &Value, most: usize) -> String {
    let apps = spec["apps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |app: &Value, field: &str| app[field].as_str().unwrap_or_default().to_owned();
    let names = apps.iter().map(|app| {
        let kind = text(app, "kind").to_lowercase();
        match text(app, "namespace").as_str() {
            "" => format!("{kind}/{}", text(app, "name")),
            namespace => format!("{kind}/{namespace}/{}", text(app, "name")),
        }
    });
    few(names.collect(), most)
}

/// How clusters are chosen: by labels, by groups, by name.
fn clusters(choice: &Value, most: usize) -> String {
    let mut said = Vec::new();
    if let Some(selector) = choice.get("selector").filter(|selector| !selector.is_null()) {
        said.push(match selected(selector) {
            Some(selector) if selector.is_empty() => "all".to_owned(),
            Some(selector) => selector,
            // What a newer hub knows.
            None => selector.to_string(),
        });
    }
    for (field, word) in [("groups", "groups "), ("names", ""), ("exclude", "not ")] {
        let names = texts(&choice[field]);
        if !names.is_empty() {
            said.push(format!("{word}{}", few(names, most)));
        }
    }
    said.join("; ")
}

/// A selector as kubectl takes it.
fn selected(selector: &Value) -> Option<String> {
    let field = |name: &str, empty: &str| {
        let value = selector.get(name).filter(|value| !value.is_null());
        value.map_or_else(|| empty.to_owned(), Value::to_string)
    };
    let labels = serde_json::from_str(&field("matchLabels", "{}")).ok()?;
    let expressions: Vec<Expression> = serde_json::from_str(&field("matchExpressions", "[]")).ok()?;
    Some(Selector::from_parts(&labels, &expressions).ok()?.to_string())
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// The first of these names.
fn few(mut names: Vec<String>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    names.truncate(most);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
