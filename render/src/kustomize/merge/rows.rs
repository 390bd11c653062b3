//! The rows of a list that merges by keys: for each item the values of its keys, and which rows are the same item.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use smol_str::SmolStr;

use crate::kustomize::error::Result;
use crate::yaml::node::Node;

use super::nodes::scalar;
use super::room::Room;

/// The values of an item's keys; empty where the item says nothing.
pub(super) type Row = Vec<SmolStr>;

/// Which values of a row there are.
type Mask = Vec<bool>;
/// The rows of one mask by their values at some of its positions.
type ByValues = HashMap<Row, BTreeSet<usize>>;

/// Lists the rows of the items of patch and object, those of the patch first.
pub(super) fn rows(patch: Option<&Node>, object: &Node, keys: &[&str], room: &Room<'_>) -> Result<Vec<Row>> {
    // Taken before anything is made: a type may have many keys, and a list many items.
    room.rows(count(patch, object), keys.len())?;
    let mut seen = HashSet::new();
    let items = patch.into_iter().chain([object]).flat_map(Node::items);
    let value = |item: &Node, key: &str| {
        let value = item.get(key).filter(|v| !v.is_empty());
        value.map_or_else(SmolStr::default, scalar)
    };
    Ok(items
        .map(|item| keys.iter().map(|key| value(item, key)).collect::<Row>())
        .filter(|row| !row.is_empty() && seen.insert(row.clone()))
        .collect())
}

/// Lists the scalars of patch and object, each as a row.
pub(super) fn scalars(patch: Option<&Node>, object: &Node, room: &Room<'_>) -> Result<Vec<Row>> {
    room.rows(count(patch, object), 1)?;
    let mut seen = HashSet::new();
    let items = patch.into_iter().chain([object]).flat_map(Node::items);
    Ok(items
        .map(|item| vec![scalar(item)])
        .filter(|row| seen.insert(row.clone()))
        .collect())
}

fn count(patch: Option<&Node>, object: &Node) -> usize {
    patch.map_or(0, |patch| patch.items().len()) + object.items().len()
}

/// Makes one of rows that differ only where one of them says nothing.
///
/// kyaml compares each row with each other, in order. Here a row finds its like by the values that both have, so that
/// only pairs are looked at of which at least one changes.
pub(super) fn merge(rows: Vec<Row>, room: &Room<'_>) -> Result<Vec<Row>> {
    if rows.iter().all(|row| row.iter().all(|value| !value.is_empty())) {
        return Ok(rows);
    }
    room.rows(rows.len(), rows.first().map_or(0, Vec::len))?;
    let mut index = Index::new(rows);
    for i in 0..index.rows.len() {
        let mut from = 0;
        while let Some(j) = index.next_like(i, from, room)? {
            let merged: Row = index.rows[i]
                .iter()
                .zip(&index.rows[j])
                .map(|(a, b)| if a.is_empty() { b.clone() } else { a.clone() })
                .collect();
            index.replace(i, merged.clone(), room)?;
            index.replace(j, merged, room)?;
            from = j + 1;
        }
    }
    Ok(index.rows)
}

/// Rows, found by the values at some positions.
struct Index {
    rows: Vec<Row>,
    /// The rows of each mask.
    masks: BTreeMap<Mask, BTreeSet<usize>>,
    /// For a mask and some of its positions, made when first asked for.
    by_values: HashMap<(Mask, Mask), ByValues>,
}

fn mask(row: &[SmolStr]) -> Mask {
    row.iter().map(|value| !value.is_empty()).collect()
}

fn values_at(row: &[SmolStr], positions: &Mask) -> Row {
    let chosen = row.iter().zip(positions).filter(|(_, chosen)| **chosen);
    chosen.map(|(value, _)| value.clone()).collect()
}

impl Index {
    fn new(rows: Vec<Row>) -> Index {
        let mut masks: BTreeMap<Mask, BTreeSet<usize>> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            masks.entry(mask(row)).or_default().insert(at);
        }
        Index {
            rows,
            masks,
            by_values: HashMap::new(),
        }
    }

    /// Returns the first row from a position on that is another than row `i` and may be made one with it.
    ///
    /// Rows of the same mask are the same or contradict each other.
    fn next_like(&mut self, i: usize, from: usize, room: &Room<'_>) -> Result<Option<usize>> {
        let row = &self.rows[i];
        let own = mask(row);
        let mut first: Option<usize> = None;
        room.steps.spend(self.masks.len().saturating_mul(own.len()))?;
        for (other, members) in self.masks.iter().filter(|(other, _)| **other != own) {
            let both: Mask = own.iter().zip(other).map(|(a, b)| *a && *b).collect();
            let neither = own.iter().zip(other).any(|(a, b)| !*a && !*b);
            if !neither && !both.contains(&true) {
                continue;
            }
            let key = (other.clone(), both);
            if !self.by_values.contains_key(&key) {
                room.rows(members.len(), key.1.len())?;
                let mut by_values = ByValues::new();
                for at in members {
                    let values = values_at(&self.rows[*at], &key.1);
                    by_values.entry(values).or_default().insert(*at);
                }
                self.by_values.insert(key.clone(), by_values);
            }
            let found = self.by_values.get(&key).and_then(|by_values| {
                let alike = by_values.get(&values_at(row, &key.1))?;
                alike.range(from..).next().copied()
            });
            first = match (first, found) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(first)
    }

    fn replace(&mut self, at: usize, row: Row, room: &Room<'_>) -> Result<()> {
        if self.rows[at] == row {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.rows[at], row);
        for (row, present) in [(&old, false), (&self.rows[at], true)] {
            let mask = mask(row);
            let members = self.masks.entry(mask.clone()).or_default();
            let _ = if present {
                members.insert(at)
            } else {
                members.remove(&at)
            };
            let of_mask = self.by_values.iter_mut().filter(|((of, _), _)| *of == mask);
            for ((_, positions), by_values) in of_mask {
                let values = values_at(row, positions);
                if !by_values.contains_key(&values) {
                    room.rows(1, positions.len())?;
                }
                let alike = by_values.entry(values).or_default();
                let _ = if present {
                    alike.insert(at)
                } else {
                    alike.remove(&at)
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kustomize::steps::Steps;

    /// The rule as kyaml has it: each row against each other, in order.
    fn pair_by_pair(mut rows: Vec<Row>) -> Vec<Row> {
        for i in 0..rows.len() {
            for j in 0..rows.len() {
                let pairs = || rows[i].iter().zip(&rows[j]);
                let fits = pairs().all(|(a, b)| a == b || a.is_empty() || b.is_empty());
                if fits && pairs().any(|(a, b)| a == b) {
                    let merged: Row = pairs()
                        .map(|(a, b)| if a.is_empty() { b.clone() } else { a.clone() })
                        .collect();
                    rows[i].clone_from(&merged);
                    rows[j] = merged;
                }
            }
        }
        rows
    }

    #[test]
    fn rows_are_made_one_as_when_each_is_compared_with_each() {
        let mut state = 7_u64;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        let mut changed = 0;
        for _ in 0..2000 {
            let (width, count) = (1 + draw(4), draw(9));
            let mut value = || ["", "a", "b"].map(SmolStr::new_static)[draw(3) as usize].clone();
            let rows: Vec<Row> = (0..count)
                .map(|_| (0..width).map(|_| value()).collect())
                .collect();
            let steps = Steps::new(u64::MAX, usize::MAX, None);
            let merged = merge(rows.clone(), &Room::new(&steps)).expect("there is no bound");
            assert_eq!(merged, pair_by_pair(rows.clone()), "{rows:?}");
            changed += usize::from(merged != rows);
        }
        assert!(changed > 500, "{changed} of 2000 had rows to make one");
    }
}
