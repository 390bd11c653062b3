//! The items of lists that merge by keys: which there are, how they are found, set and removed.

use crate::yaml::node::{Kind, Node};

use super::is_empty_map;
use crate::kustomize::error::{Done, invalid};

/// Lists the keys of the items of patch and object, those of the patch first.
pub(super) fn element_values(patch: Option<&Node>, dest: &Node, keys: &[String]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if keys.is_empty() {
        return rows;
    }
    let mut seen = std::collections::HashSet::new();
    for item in patch.into_iter().chain([dest]).flat_map(Node::items) {
        let row: Vec<String> = keys
            .iter()
            .map(|key| {
                item.get(key)
                    .filter(|v| !v.is_empty())
                    .map_or("", Node::text)
                    .to_string()
            })
            .collect();
        if seen.insert(row.clone()) {
            rows.push(row);
        }
    }
    rows
}

pub(super) fn scalar_values(patch: Option<&Node>, dest: &Node) -> Vec<Vec<String>> {
    let mut seen = std::collections::HashSet::new();
    let items = patch.into_iter().chain([dest]).flat_map(Node::items);
    items
        .map(Node::text)
        .filter(|text| seen.insert(text.to_string()))
        .map(|text| vec![text.to_string()])
        .collect()
}

/// Makes one of rows that differ only where one of them says nothing.
pub(super) fn merge_rows(rows: &mut [Vec<String>]) {
    for i in 0..rows.len() {
        for j in 0..rows.len() {
            if let Some(merged) = merged_row(&rows[i], &rows[j]) {
                rows[i].clone_from(&merged);
                rows[j] = merged;
            }
        }
    }
}

fn merged_row(a: &[String], b: &[String]) -> Option<Vec<String>> {
    if a.len() != b.len() {
        return None;
    }
    let mut common = false;
    let mut merged = Vec::with_capacity(a.len());
    for (a, b) in a.iter().zip(b) {
        if a == b {
            common = true;
        } else if !a.is_empty() && !b.is_empty() {
            return None;
        }
        merged.push(if a.is_empty() { b.clone() } else { a.clone() });
    }
    common.then_some(merged)
}

/// Leaves out the keys that no row gives a value for.
pub(super) fn valid(rows: &[Vec<String>], row: &[String], keys: &[String]) -> (Vec<String>, Vec<String>) {
    let used = |index: usize| {
        rows.iter()
            .any(|row| row.get(index).is_some_and(|v| !v.is_empty()))
    };
    let any = (0..keys.len()).any(used);
    if !any {
        return (keys.to_vec(), row.to_vec());
    }
    let kept = |index: &usize| used(*index);
    let valid_keys = (0..keys.len()).filter(kept).map(|i| keys[i].clone()).collect();
    let valid_values = (0..row.len())
        .filter(|i| !row[*i].is_empty() || used(*i))
        .map(|i| row[i].clone())
        .collect();
    (valid_keys, valid_values)
}

pub(super) fn matches(item: &Node, keys: &[String], values: &[String]) -> bool {
    if keys.first().is_none_or(String::is_empty) {
        return item.text() == values.first().map_or("", String::as_str);
    }
    item.kind() == Kind::Map
        && !item.is_null()
        && keys.len() == values.len()
        && keys
            .iter()
            .zip(values)
            .all(|(key, value)| item.get(key).is_some_and(|v| v.text() == value))
}

pub(super) fn find_mut<'n>(
    items: &'n mut [Node],
    keys: &[String],
    values: &[String],
) -> Option<&'n mut Node> {
    items.iter_mut().find(|item| matches(item, keys, values))
}

/// Tells whether a field has a value; an empty value asks only for the field.
fn has(item: &Node, key: &str, value: &str) -> Done<bool> {
    if key.is_empty() {
        return match item.kind() {
            Kind::Scalar => Ok(item.text() == value),
            kind => Err(invalid(format!(
                "wrong node kind: expected a scalar but got {kind}"
            ))),
        };
    }
    match item.kind() {
        Kind::Map => Ok(item
            .get(key)
            .is_some_and(|v| value.is_empty() || v.text() == value)),
        kind => Err(invalid(format!("wrong node kind: expected a map but got {kind}"))),
    }
}

/// Replaces the items with given keys by an element, or removes them; adds the element when there is none.
pub(super) fn set_element(
    items: &mut Vec<Node>,
    element: Option<&Node>,
    keys: &[String],
    values: &[String],
) -> Done<()> {
    let by_key = keys.first().is_some_and(|k| !k.is_empty()) && values.first().is_some_and(|v| !v.is_empty());
    let mut found_any = false;
    let mut kept = Vec::with_capacity(items.len() + 1);
    for item in std::mem::take(items) {
        if item.is_null() || is_empty_map(&item) {
            continue;
        }
        if item.kind() != Kind::Map && by_key {
            kept.push(item);
            continue;
        }
        let (mut found, mut last) = (true, false);
        for (index, key) in keys.iter().enumerate() {
            if let Some(value) = values.get(index) {
                last = has(&item, key, value)?;
            }
            if !last {
                found = false;
                break;
            }
        }
        if !found {
            if !values.is_empty() {
                kept.push(item);
            }
            continue;
        }
        found_any = true;
        kept.extend(element.cloned());
    }
    if let Some(element) = element.filter(|e| !e.is_null())
        && !found_any
    {
        kept.push(element.clone());
    }
    *items = kept;
    Ok(())
}

/// Adds the items of the object behind those of the patch; an item of the same keys takes its place there.
pub(super) fn append_rest(list: &mut Vec<Node>, rest: Vec<Node>, keys: &[String]) -> Done<()> {
    for item in rest {
        if keys.first().is_none_or(String::is_empty) {
            let values = [item.text().to_string()];
            set_element(list, Some(&item), &[String::new()], &values)?;
            continue;
        }
        let mut values = Vec::new();
        for key in keys {
            match item.get(key) {
                Some(value) => values.push(value.text().to_string()),
                None => list.push(item.clone()),
            }
        }
        if keys.len() > 1 {
            set_element(list, None, keys, &values)?;
        }
        set_element(list, Some(&item), keys, &values)?;
    }
    Ok(())
}
