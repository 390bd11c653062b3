//! How errors show the paths of a tree.

/// Where a tree stands for the reader of its errors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paths<'a> {
    /// What stands before each path, such as the folder that the tree is a copy of.
    pub root: &'a str,
    /// A directory of the tree and how a person wrote it: it, and what is below it, is shown in that way.
    pub written: Option<(&'a str, &'a str)>,
}

impl Paths<'_> {
    /// Returns a path of the tree as errors show it.
    pub(crate) fn shown(&self, path: &str) -> String {
        if let Some((directory, written)) = self.written
            && let Some(below) = path.strip_prefix(directory)
            && (below.is_empty() || below.starts_with('/') || directory.is_empty())
        {
            let between = if directory.is_empty() { "/" } else { "" };
            return format!("{written}{between}{below}");
        }
        format!("{}{path}", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::Paths;

    #[test]
    fn only_what_is_in_a_directory_is_shown_as_it_was_written() {
        let paths = Paths {
            root: "/",
            written: Some(("a", "./x")),
        };
        let shown = ["a", "a/k.yaml", "ab/k.yaml", "x/a/b", "a-a/a"].map(|path| paths.shown(path));
        assert_eq!(shown, ["./x", "./x/k.yaml", "/ab/k.yaml", "/x/a/b", "/a-a/a"]);
    }
}
