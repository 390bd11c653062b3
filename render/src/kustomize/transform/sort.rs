//! Orders the objects for output: as they came, or kinds that others need first.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::kustomize::error::{Result, invalid};
use crate::kustomize::id;
use crate::kustomize::kustomization::SortOptions;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::kustomize::tables;

struct Key {
    rank: i32,
    is_namespace: bool,
    group: String,
    gvk: String,
    rest: String,
}

/// Sorts the objects; without options in the order that kustomize calls legacy.
pub(crate) fn sort(map: &mut ResMap, options: Option<&SortOptions>, steps: &Steps<'_>) -> Result<()> {
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
    let ranks = match legacy {
        Some((first, last)) => Ranks::new(first, last),
        None => Ranks::new(tables::ORDER_FIRST, tables::ORDER_LAST),
    };
    steps.spend(ranks.0.len() + map.list().len())?;
    let mut keyed: Vec<(Key, Resource)> = Vec::with_capacity(map.list().len());
    for resource in std::mem::take(map.list_mut()) {
        let key = key(&resource, &ranks);
        steps.spend_bytes(key.gvk.len() + key.rest.len())?;
        keyed.push((key, resource));
    }
    keyed.sort_by(|(a, _), (b, _)| compare(a, b));
    map.append_all(keyed.into_iter().map(|(_, resource)| resource).collect())
}

/// Where kinds stand: below zero those that others need, above it those that need others.
struct Ranks<'o>(HashMap<&'o str, i32>);

impl<'o> Ranks<'o> {
    /// Of a kind that stands in a list twice the last place counts, and that in `last` where it stands in both.
    fn new<T: AsRef<str>>(first: &'o [T], last: &'o [T]) -> Ranks<'o> {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let count = number(first.len());
        let of_first = (0..).zip(first).map(|(at, kind)| (kind, at - count));
        let of_last = (1..).zip(last).map(|(at, kind)| (kind, at));
        Ranks(
            of_first
                .chain(of_last)
                .map(|(kind, rank)| (kind.as_ref(), rank))
                .collect(),
        )
    }

    fn of(&self, kind: &str) -> i32 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

fn key(resource: &Resource, ranks: &Ranks<'_>) -> Key {
    let gvk = resource.gvk();
    let rank = ranks.of(gvk.kind);
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
