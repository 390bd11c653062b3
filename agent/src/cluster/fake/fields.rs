//! Field ownership as server-side apply keeps it, near enough: lists are owned whole unless all their items are
//! maps with a `name`.

use flotilla_core::apply::MANAGER;
use serde_json::{Map, Value, json};

fn managed(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn entry(manager: &str, operation: &str, fields: Value, version: u64) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields, "time": format!("2026-01-01T{:02}:{:02}:{:02}Z", version / 3600 % 24, version / 60 % 60, version % 60),
    })
}

fn by_name(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|item| item["name"].is_string())
}

fn item_key(item: &Value) -> String {
    format!("k:{{\"name\":{}}}", item["name"])
}

/// The fields that an applied object claims.
fn claimed(object: &Value) -> Value {
    let mut fields = claimed_map(object, true);
    if let Some(metadata) = object.get("metadata") {
        let kept: Map<String, Value> = ["labels", "annotations"]
            .iter()
            .filter_map(|field| Some((format!("f:{field}"), claimed_node(metadata.get(field)?))))
            .collect();
        if !kept.is_empty() {
            fields.insert("f:metadata".to_owned(), Value::Object(kept));
        }
    }
    Value::Object(fields)
}

fn claimed_map(object: &Value, root: bool) -> Map<String, Value> {
    let skipped = |field: &str| root && ["apiVersion", "kind", "metadata", "status"].contains(&field);
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(field, _)| !skipped(field))
        .map(|(field, value)| (format!("f:{field}"), claimed_node(value)))
        .collect()
}

fn claimed_node(value: &Value) -> Value {
    match value {
        Value::Object(map) if !map.is_empty() => Value::Object(claimed_map(value, false)),
        Value::Array(list) if by_name(list) => Value::Object(
            list.iter()
                .map(|item| {
                    let mut fields = claimed_map(item, false);
                    fields.insert(".".to_owned(), json!({}));
                    (item_key(item), Value::Object(fields))
                })
                .collect(),
        ),
        _ => json!({}),
    }
}

/// The fields in which two objects differ.
fn changed_fields(before: &Value, after: &Value) -> Value {
    let (old, new) = (claimed(before), claimed(after));
    let mut changed = Map::new();
    differing(&old, &new, before, after, &mut changed);
    Value::Object(changed)
}

fn differing(old: &Value, new: &Value, before: &Value, after: &Value, out: &mut Map<String, Value>) {
    let empty = Map::new();
    let (old_map, new_map) = (
        old.as_object().unwrap_or(&empty),
        new.as_object().unwrap_or(&empty),
    );
    for (name, child) in new_map {
        if name == "." {
            continue;
        }
        let (from, to) = (place(before, name), place(after, name));
        if from == to {
            continue;
        }
        let mut nested = Map::new();
        if child.as_object().is_some_and(|child| !child.is_empty()) {
            differing(
                old_map.get(name).unwrap_or(&Value::Null),
                child,
                from,
                to,
                &mut nested,
            );
        }
        out.insert(name.clone(), Value::Object(nested));
    }
}

fn place<'a>(value: &'a Value, name: &str) -> &'a Value {
    match name.split_once(':') {
        Some(("f", field)) => &value[field],
        _ => value
            .as_array()
            .and_then(|list| list.iter().find(|item| item_key(item) == name))
            .unwrap_or(&Value::Null),
    }
}

/// The set without the leaves of `other`.
fn minus(set: &Value, other: &Value) -> Value {
    let Some(other) = other.as_object() else {
        return set.clone();
    };
    let mut kept = Map::new();
    for (name, child) in set.as_object().into_iter().flatten() {
        match other.get(name) {
            None => {
                kept.insert(name.clone(), child.clone());
            }
            Some(gone) if gone.as_object().is_some_and(|gone| !gone.is_empty()) => {
                let rest = minus(child, gone);
                if rest.as_object().is_some_and(|rest| !rest.is_empty()) {
                    kept.insert(name.clone(), rest);
                }
            }
            Some(_) => {}
        }
    }
    Value::Object(kept)
}

/// Puts what is applied over what is live.
fn merge(live: &mut Value, applied: &Value) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            for (field, value) in applied {
                merge(live.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(applied)) if by_name(live) && by_name(applied) => {
            for item in applied {
                match live.iter_mut().find(|held| held["name"] == item["name"]) {
                    Some(held) => merge(held, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, applied) => *live = applied.clone(),
    }
}

/// Removes from an object the leaves of a set that nobody owns any more.
fn remove(object: &mut Value, set: &Value) {
    for (name, child) in set.as_object().into_iter().flatten() {
        let leaf = child
            .as_object()
            .is_none_or(|child| child.keys().all(|key| key == "."));
        match name.split_once(':') {
            Some(("f", field)) => {
                if leaf {
                    if let Some(map) = object.as_object_mut() {
                        map.remove(field);
                    }
                } else if object.get(field).is_some() {
                    remove(&mut object[field], child);
                }
            }
            Some(("k", _)) => {
                let Some(list) = object.as_array_mut() else {
                    continue;
                };
                if child.get(".").is_some() {
                    list.retain(|item| item_key(item) != *name);
                } else if let Some(item) = list.iter_mut().find(|item| item_key(item) == *name) {
                    remove(item, child);
                }
            }
            _ => {}
        }
    }
}

/// Writes an object as a manager's update: it owns what it changed, and nobody else does any more.
pub(super) fn owned(before: Option<&Value>, manager: &str, object: Value, version: u64) -> Value {
    let mut after = object;
    let mut changed = changed_fields(before.unwrap_or(&Value::Null), &after);
    let entries = before.map(managed).unwrap_or_default();
    let mut entries: Vec<Value> = entries
        .into_iter()
        .map(|mut entry| {
            entry["fieldsV1"] = minus(&entry["fieldsV1"], &changed);
            entry
        })
        .collect();
    if let Some(mine) = entries
        .iter()
        .position(|entry| entry["manager"] == manager && entry["operation"] == "Update")
    {
        changed = flotilla_core::apply::fields::union(&entries.remove(mine)["fieldsV1"], &changed);
    }
    entries.push(entry(manager, "Update", changed, version));
    entries.retain(|entry| {
        entry["fieldsV1"]
            .as_object()
            .is_some_and(|fields| !fields.is_empty())
    });
    after["metadata"]["managedFields"] = Value::Array(entries);
    after
}

/// Writes an object by server-side apply as our manager, with force.
pub(super) fn applied(live: Option<&Value>, object: &Value, version: u64) -> Value {
    let claims = claimed(object);
    let mut after = live.cloned().unwrap_or_else(|| json!({}));
    let entries = live.map(managed).unwrap_or_default();
    let is_ours = |entry: &Value| entry["manager"] == MANAGER && entry["operation"] == "Apply";
    if let Some(ours) = entries.iter().find(|entry| is_ours(entry)) {
        let mut left = minus(&ours["fieldsV1"], &claims);
        for other in entries.iter().filter(|entry| !is_ours(entry)) {
            left = minus(&left, &other["fieldsV1"]);
        }
        remove(&mut after, &left);
    }
    // Forced: what others hold with another value is ours now.
    let taken = changed_fields(&after, &{
        let mut merged = after.clone();
        merge(&mut merged, object);
        merged
    });
    merge(&mut after, object);
    let mut others: Vec<Value> = entries
        .iter()
        .filter(|entry| !is_ours(entry))
        .cloned()
        .map(|mut entry| {
            entry["fieldsV1"] = minus(&entry["fieldsV1"], &taken);
            entry
        })
        .filter(|entry| {
            entry["fieldsV1"]
                .as_object()
                .is_some_and(|fields| !fields.is_empty())
        })
        .collect();
    let unchanged = entries
        .iter()
        .find(|entry| is_ours(entry) && entry["fieldsV1"] == claims);
    others.push(
        unchanged
            .cloned()
            .unwrap_or_else(|| entry(MANAGER, "Apply", claims, version)),
    );
    after["metadata"]["managedFields"] = Value::Array(others);
    after
}
