//! A way from an app back to itself, along what each needs.

use std::collections::{BTreeMap, VecDeque};

/// Members of a way that are named.
const NAMED: usize = 8;

/// The shortest way from `start` along `next` back to it, `start` first and not repeated; `None`: there is none.
pub fn through<K: Ord + Clone>(start: &K, next: impl Fn(&K) -> Vec<K>) -> Option<Vec<K>> {
    let mut before: BTreeMap<K, K> = BTreeMap::new();
    let mut waiting = VecDeque::from([start.clone()]);
    while let Some(at) = waiting.pop_front() {
        for to in next(&at) {
            if to == *start {
                let mut way = vec![at];
                while let Some(one) = way.last().and_then(|one| before.get(one)) {
                    way.push(one.clone());
                }
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(&to) {
                before.insert(to.clone(), at.clone());
                waiting.push_back(to);
            }
        }
    }
    None
}

/// A cycle in words, its members in order: `dependency cycle: a -> b -> a`.
pub fn words(names: &[String]) -> String {
    let mut shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let more = names.len().saturating_sub(NAMED);
    let left = format!("({more} more)");
    if more > 0 {
        shown.push(&left);
    }
    shown.extend(names.first().map(String::as_str));
    format!("dependency cycle: {}", shown.join(" -> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(edges: &[(u8, u8)], start: u8) -> Option<Vec<u8>> {
        through(&start, |from| {
            let of = edges.iter().filter(|(one, _)| one == from);
            of.map(|(_, to)| *to).collect()
        })
    }

    #[test]
    fn the_shortest_way_back_is_found_and_what_merely_leads_into_a_cycle_is_in_none() {
        let edges = [
            (1, 2),
            (2, 3),
            (3, 1),
            (2, 4),
            (4, 5),
            (5, 2),
            (6, 1),
            (7, 7),
            (2, 9),
        ];
        assert_eq!(way(&edges, 1), Some(vec![1, 2, 3]));
        assert_eq!(way(&edges, 5), Some(vec![5, 2, 4]));
        assert_eq!(way(&edges, 7), Some(vec![7]));
        assert_eq!(way(&edges, 6), None);
        assert_eq!(way(&edges, 9), None);
    }

    #[test]
    fn a_cycle_names_its_members_in_order_and_of_a_long_one_the_first() {
        let names = |count: usize| (0..count).map(|n| format!("a/{n}")).collect::<Vec<_>>();
        assert_eq!(words(&names(2)), "dependency cycle: a/0 -> a/1 -> a/0");
        assert_eq!(words(&names(1)), "dependency cycle: a/0 -> a/0");
        let long = words(&names(1000));
        assert!(long.ends_with("a/7 -> (992 more) -> a/0"), "{long}");
    }
}
