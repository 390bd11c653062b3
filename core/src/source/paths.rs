//! Whether a change of a source concerns what was made from it: by the paths that were looked at, and those that differ. Both
//! are named alike; a directory whose names count has a `/` at its end.

use std::collections::{BTreeMap, BTreeSet};

/// Stands for all that is below a directory.
const BELOW: &str = "/**";

/// What to keep of the paths that were looked at: at most so many, and at least one. Where there are more, whole directories
/// stand for what is below them, those that hold most first: what changes there may then concern it, and nothing else.
pub fn looked_at(paths: &BTreeSet<String>, most: usize) -> BTreeSet<String> {
    let mut kept = paths.clone();
    while kept.len() > most.max(1) {
        let folded = fold(&kept, most.max(1));
        let below = |path: &String| !directories(path).any(|directory| folded.contains(directory));
        kept.retain(below);
        kept.extend(folded.iter().map(|directory| format!("{directory}{BELOW}")));
    }
    kept
}

/// What a change of these paths is to be compared with what is kept by: one in common, and it may be concerned.
pub fn changed(paths: &BTreeSet<String>) -> BTreeSet<String> {
    let above: BTreeSet<&str> = paths.iter().flat_map(|path| directories(path)).collect();
    let above = above.into_iter().map(|directory| format!("{directory}{BELOW}"));
    paths.iter().cloned().chain(above).collect()
}

/// The directories to put in place of what is in them: the largest, as many as it takes; all, where each holds one path.
fn fold(kept: &BTreeSet<String>, most: usize) -> BTreeSet<String> {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for path in kept {
        if let Some(directory) = directories(path).next() {
            *held.entry(directory).or_default() += 1;
        }
    }
    let mut largest: Vec<(&str, usize)> = held.iter().map(|(directory, held)| (*directory, *held)).collect();
    largest.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
    let mut left = kept.len();
    let mut folded = BTreeSet::new();
    for (directory, held) in &largest {
        if left <= most || *held == 1 {
            break;
        }
        left -= held - 1;
        folded.insert((*directory).to_owned());
    }
    match folded.is_empty() {
        true => held.into_keys().map(str::to_owned).collect(),
        false => folded,
    }
}

/// The directories that a path is in, the nearest first; the root is `""`.
fn directories(path: &str) -> impl Iterator<Item = &str> {
    let parent = |path: &str| path.rfind('/').unwrap_or(0);
    let nearest = match path.strip_suffix(BELOW) {
        None => Some(&path[..parent(path)]),
        Some("") => None,
        Some(directory) => Some(&directory[..parent(directory)]),
    };
    std::iter::successors(nearest, move |directory| {
        (!directory.is_empty()).then(|| &directory[..parent(directory)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn set(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    fn concerns(kept: &BTreeSet<String>, path: &str) -> bool {
        !kept.is_disjoint(&changed(&set(&[path])))
    }

    #[test]
    fn few_paths_are_kept_as_they_are_and_only_they_count() {
        let paths = set(&["", "/", "a", "a/", "a/b.yaml"]);
        let kept = looked_at(&paths, 5);
        assert_eq!(kept, paths);
        for path in ["a/c.yaml", "b", "a/b.yaml/c", "ab/"] {
            assert!(!concerns(&kept, path), "{path}");
        }
        assert!(paths.iter().all(|path| concerns(&kept, path)));
    }

    #[test]
    fn of_many_paths_the_largest_directory_stands_for_what_is_below_it_and_for_nothing_else() {
        let mut paths = set(&["base/a.yaml", "base/deep/b.yaml", "over/kustomization.yaml"]);
        paths.extend((0..100).map(|n| format!("big/{n}.yaml")));
        let kept = looked_at(&paths, 10);
        let expected = [
            "base/a.yaml",
            "base/deep/b.yaml",
            "big/**",
            "over/kustomization.yaml",
        ];
        assert_eq!(kept, set(&expected));
        for path in ["big/7.yaml", "big/new.yaml", "big/", "big/inner/x"] {
            assert!(concerns(&kept, path), "{path}");
        }
        for path in ["big", "bigger/x", "base/c.yaml", "base/", "x"] {
            assert!(!concerns(&kept, path), "{path}");
        }
    }

    #[test]
    fn whatever_was_looked_at_counts_however_little_is_kept() {
        // Paths of every shape up to four levels, of a fixed pseudo-random choice.
        let mut numbers = Random(1);
        let mut next = |below: u64| numbers.below(below);
        for round in 0..300 {
            let paths: BTreeSet<String> = (0..40)
                .map(|_| {
                    let levels = next(4);
                    let mut path: Vec<String> = (0..=levels).map(|_| format!("d{}", next(4))).collect();
                    if next(4) == 0 {
                        path.push(String::new());
                    }
                    path.join("/")
                })
                .collect();
            for most in [1, 2, 5, 13, 40] {
                let kept = looked_at(&paths, most);
                assert!(kept.len() <= most, "round {round}: {} of {most}", kept.len());
                for path in &paths {
                    assert!(concerns(&kept, path), "round {round}: {path} of {most}");
                }
                if paths.len() <= most {
                    assert_eq!(kept, paths, "round {round}");
                }
            }
        }
    }

    #[test]
    fn paths_that_share_no_directory_are_kept_by_the_level_above() {
        let paths: BTreeSet<String> = (0..50).map(|n| format!("apps/{n}/all.yaml")).collect();
        let kept = looked_at(&paths, 10);
        assert_eq!(kept, set(&["apps/**"]));
        assert!(!concerns(&kept, "lib/x") && concerns(&kept, "apps/3/new.yaml"));
    }
}
