//! Orders the objects for output: as they came, or kinds that others need first.

use std::cmp::Ordering;

use crate::kustomize::error::{Result, invalid};
use crate::kustomize::id;
use crate::kustomize::kustomization::SortOptions;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::tables;

struct Key {
    rank: i32,
    is_namespace: bool,
    group: String,
    gvk: String,
    rest: String,
}

/// Sorts the objects; without options in the order that kustomize calls legacy.
pub(crate) fn sort(map: &mut ResMap, options: Option<&SortOptions>) -> Result<()> {
    let mut legacy = None;
    if let Some(options) = options {
        match (options.order.as_str(), &options.legacy) {
            ("legacy", given) => legacy = given.as_ref(),
            ("fifo", None) => return Ok(()),
            ("fifo", Some(_)) => {
                return Err(invalid(
                    "the field 'sortOptions.legacySortOptions' is set but the selected sort order is 'fifo', not 'legacy'",
                ));
            }
            _ => {
                return Err(invalid(
                    "the field 'sortOptions.order' must be one of [fifo, legacy]",
                ));
            }
        }
    }
    let owned = |list: &[&str]| list.iter().map(|k| (*k).to_string()).collect::<Vec<_>>();
    let default;
    let (first, last) = match legacy {
        Some((first, last)) => (first, last),
        None => {
            default = (owned(tables::ORDER_FIRST), owned(tables::ORDER_LAST));
            (&default.0, &default.1)
        }
    };
    let mut keyed: Vec<(Key, Resource)> = std::mem::take(map.list_mut())
        .into_iter()
        .map(|r| (key(&r, first, last), r))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| compare(a, b));
    map.append_all(keyed.into_iter().map(|(_, resource)| resource).collect())
}

fn key(resource: &Resource, first: &[String], last: &[String]) -> Key {
    let gvk = resource.gvk();
    let at = |list: &[String]| {
        list.iter()
            .rposition(|k| k == gvk.kind)
            .and_then(|i| i32::try_from(i).ok())
    };
    let count = i32::try_from(first.len()).unwrap_or(i32::MAX);
    let rank = match (at(last), at(first)) {
        (Some(index), _) => index + 1,
        (None, Some(index)) => index - count,
        (None, None) => 0,
    };
    let or = |text: &str, none: &str| {
        if text.is_empty() {
            none.to_string()
        } else {
            text.to_string()
        }
    };
    let namespace = or(id::namespace(&resource.node), "~X");
    let rest = format!("{gvk}|{namespace}|{}", or(resource.name(), "~N"));
    Key {
        rank,
        is_namespace: gvk.kind == "Namespace",
        group: gvk.group.to_string(),
        gvk: gvk.sort_text(),
        rest,
    }
}

fn compare(a: &Key, b: &Key) -> Ordering {
    if a.gvk == b.gvk {
        return a.rest.cmp(&b.rest);
    }
    a.rank.cmp(&b.rank).then_with(|| {
        let namespaces = a.is_namespace && b.is_namespace && (a.group.is_empty() || b.group.is_empty());
        if namespaces {
            b.gvk.cmp(&a.gvk)
        } else {
            a.gvk.cmp(&b.gvk)
        }
    })
}
