//! Paths in artifacts: relative, `/` between names, never leading out.

use std::cmp::Ordering;

/// Longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// Most directories below one another.
pub const MAX_DEPTH: usize = 64;

/// Tells whether a path stays below its root whatever reads it, within the limits.
pub fn is_safe(path: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name != "." && name != "..";
    path.len() <= MAX_PATH
        && !path.contains(['\0', '\n'])
        && path.split('/').all(name)
        && path.split('/').count() <= MAX_DEPTH + 1
}

/// Orders paths as a lexical walk meets them: a directory, then all it holds, then its next sibling.
pub fn walk_order(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

/// The directories above a path, nearest first.
pub fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(parent, _)| parent)).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_their_root_are_unsafe() {
        let deep = ["d"; 66].join("/");
        let long = "x".repeat(4097);
        for path in [
            "",
            "/",
            "/etc",
            "..",
            "a/..",
            "a/../../b",
            "./a",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            &deep,
            &long,
        ] {
            assert!(!is_safe(path), "{path:?}");
        }
        for path in ["a", "a/b", ".hidden", "..a", "a..", "a b", "ü"] {
            assert!(is_safe(path), "{path:?}");
        }
    }

    #[test]
    fn a_directorys_files_come_before_its_next_sibling() {
        let mut paths = ["a.txt", "a/b", "a", "a-b", "b"];
        paths.sort_by(|a, b| walk_order(a, b));
        assert_eq!(paths, ["a", "a/b", "a-b", "a.txt", "b"]);
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
    }
}
