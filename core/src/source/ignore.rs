//! Which paths of a source stay out of its artifact: `.sourceignore` files, `spec.ignore`, and default lists.
//!
//! Patterns read like gitignore's and match as Flux matches them, which differs from git: every path is judged
//! alone, so a file below an excluded folder can be included again; `/` in the middle anchors a pattern; `**`
//! counts only as a whole part. The last pattern that matches decides.

use crate::text::glob::{self, Budget, Stop};

/// The name of the files that hold patterns, each for its folder and what is below.
pub const IGNORE_FILE: &str = ".sourceignore";
/// The most patterns of one source.
pub const MAX_PATTERNS: usize = 10_000;
/// The longest line. Flux silently stops reading at a longer one.
pub const MAX_LINE: usize = 64 << 10;
/// The most steps that all paths of a source may take, seconds of them: those of a hundred thousand files in folders and some
/// hundred patterns.
pub const MAX_STEPS: u64 = 1_000_000_000;

/// Always left out, unless a pattern includes it again.
const VCS: &[&str] = &[".git/", ".gitignore", ".gitmodules", ".gitattributes"];
/// Left out only where a source has no pattern at all.
const DEFAULTS: &[&str] = &[
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];

/// The rules of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    patterns: Vec<Pattern>,
}

/// Why patterns are refused. Nothing helps until the source changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// More patterns than [`MAX_PATTERNS`].
    #[error("more than {limit} ignore patterns")]
    TooMany {
        /// The limit in force.
        limit: usize,
    },
    /// A line longer than [`MAX_LINE`].
    #[error("an ignore pattern is longer than {limit} bytes")]
    TooLong {
        /// The limit in force.
        limit: usize,
    },
    /// Comparing all paths with the patterns takes more than so many steps.
    #[error("comparing the paths with the ignore patterns takes more than {limit} steps")]
    TooMuchWork {
        /// The limit in force.
        limit: u64,
    },
}

/// What comparing paths with patterns may take still.
#[derive(Debug)]
pub struct Steps {
    left: Budget,
    limit: u64,
}

impl Steps {
    /// So many.
    pub fn new(limit: u64) -> Self {
        Self {
            left: Budget(limit),
            limit,
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), IgnoreError> {
        let spent = self.left.spend(steps);
        spent.map_err(|_| self.used_up())
    }

    /// A match costs at most the product of pattern and name.
    fn fits(&mut self, pattern: &[u8], name: &[u8]) -> Result<bool, IgnoreError> {
        self.spend(pattern.len())?;
        match glob::matches(pattern, name, &mut self.left) {
            Ok(matches) => Ok(matches),
            Err(Stop::BadPattern) => Ok(false),
            Err(Stop::TooMuchWork) => Err(self.used_up()),
        }
    }

    fn used_up(&self) -> IgnoreError {
        IgnoreError::TooMuchWork { limit: self.limit }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new(MAX_STEPS)
    }
}

impl Rules {
    /// Makes the rules of a source from the text of its ignore files, each with the path of its folder (empty
    /// for the root, parts separated by `/`), and from `spec.ignore`. Deeper files win over those above them,
    /// `spec` over all. Files inside a `.git` folder are not read.
    pub fn new<'a>(
        files: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        spec: Option<&[u8]>,
    ) -> Result<Self, IgnoreError> {
        let mut files: Vec<(Vec<&[u8]>, &[u8])> = files
            .into_iter()
            .map(|(folder, text)| (parts(folder), text))
            .collect();
        files.retain(|(folder, _)| !folder.contains(&b".git".as_slice()));
        files.sort();
        let mut given = Vec::new();
        for (folder, text) in files
            .iter()
            .map(|(folder, text)| (folder.as_slice(), *text))
            .chain(spec.map(|text| (&[][..], text)))
        {
            read(text, folder, &mut given)?;
        }
        let root = |list: &[&str]| -> Vec<Pattern> {
            list.iter()
                .map(|line| Pattern::parse(line.as_bytes(), &[]))
                .collect()
        };
        let mut patterns = root(VCS);
        patterns.extend(if given.is_empty() { root(DEFAULTS) } else { given });
        Ok(Self { patterns })
    }

    /// Tells whether a path, its parts separated by `/`, is left out. A folder that is left out does not settle
    /// what is below it: ask for each path.
    ///
    /// # Errors
    ///
    /// No steps are left.
    pub fn excludes(&self, path: &[u8], is_folder: bool, steps: &mut Steps) -> Result<bool, IgnoreError> {
        let path = parts(path);
        for pattern in self.patterns.iter().rev() {
            steps.spend(pattern.folder.len())?;
            if pattern.matches(&path, is_folder, steps)? {
                return Ok(!pattern.includes);
            }
        }
        Ok(false)
    }
}

fn parts(path: &[u8]) -> Vec<&[u8]> {
    if path.is_empty() {
        return Vec::new();
    }
    path.split(|&byte| byte == b'/').collect()
}

fn read(text: &[u8], folder: &[&[u8]], patterns: &mut Vec<Pattern>) -> Result<(), IgnoreError> {
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() >= MAX_LINE {
            return Err(IgnoreError::TooLong { limit: MAX_LINE });
        }
        if line.starts_with(b"#") || String::from_utf8_lossy(line).trim().is_empty() {
            continue;
        }
        if patterns.len() == MAX_PATTERNS {
            return Err(IgnoreError::TooMany { limit: MAX_PATTERNS });
        }
        patterns.push(Pattern::parse(line, folder));
    }
    Ok(())
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// The folder it applies to.
    folder: Vec<Vec<u8>>,
    /// Its parts; more than one when a `/` stands inside.
    parts: Vec<Vec<u8>>,
    includes: bool,
    folders_only: bool,
}

impl Pattern {
    fn parse(line: &[u8], folder: &[&[u8]]) -> Self {
        let (includes, mut line) = match line.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        if !line.ends_with(b"\\ ") {
            while let Some(rest) = line.strip_suffix(b" ") {
                line = rest;
            }
        }
        let (folders_only, line) = match line.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        Self {
            folder: folder.iter().map(|part| part.to_vec()).collect(),
            parts: line.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect(),
            includes,
            folders_only,
        }
    }

    fn matches(&self, path: &[&[u8]], is_folder: bool, steps: &mut Steps) -> Result<bool, IgnoreError> {
        if path.len() <= self.folder.len() || !self.folder.iter().zip(path).all(|(a, b)| a == b) {
            return Ok(false);
        }
        let path = &path[self.folder.len()..];
        match self.parts.as_slice() {
            [name] => self.matches_name(name, path, is_folder, steps),
            parts => self.matches_path(parts, path, is_folder, steps),
        }
    }

    /// A pattern without `/` matches the first part of that name, at any depth, and with it all below.
    fn matches_name(
        &self,
        name: &[u8],
        path: &[&[u8]],
        is_folder: bool,
        steps: &mut Steps,
    ) -> Result<bool, IgnoreError> {
        Ok(first(name, path, steps)?.is_some_and(|at| {
            let is_path_itself = at + 1 == path.len();
            !(self.folders_only && is_path_itself && !is_folder)
        }))
    }

    /// A pattern with `/` matches from its folder on, part by part, and with what it matches all below.
    fn matches_path(
        &self,
        parts: &[Vec<u8>],
        mut path: &[&[u8]],
        is_folder: bool,
        steps: &mut Steps,
    ) -> Result<bool, IgnoreError> {
        let (mut matched, mut any_depth) = (false, false);
        for (index, part) in parts.iter().enumerate() {
            steps.spend(part.len())?;
            match part.as_slice() {
                b"" => any_depth = false,
                b"**" if index + 1 == parts.len() => break,
                b"**" => any_depth = true,
                part if part.windows(2).any(|pair| pair == b"**") || path.is_empty() => return Ok(false),
                part => {
                    let reach = if any_depth { path.len() } else { 1 };
                    match first(part, &path[..reach], steps)? {
                        Some(at) => (matched, path) = (true, &path[at + 1..]),
                        // Parts that follow and are empty or `**` ask for nothing more, but nothing matched.
                        None if any_depth => (matched, path) = (false, &[]),
                        None => return Ok(false),
                    }
                    any_depth = false;
                }
            }
        }
        Ok(matched && !(self.folders_only && !is_folder && path.is_empty()))
    }
}

/// The first of the names that matches.
fn first(pattern: &[u8], names: &[&[u8]], steps: &mut Steps) -> Result<Option<usize>, IgnoreError> {
    for (at, name) in names.iter().enumerate() {
        if steps.fits(pattern, name)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::new([], Some(text.as_bytes())).expect("few and short patterns")
    }

    fn excludes(rules: &Rules, path: &[u8], is_folder: bool) -> bool {
        let excluded = rules.excludes(path, is_folder, &mut Steps::default());
        excluded.expect("few and short patterns")
    }

    #[test]
    fn patterns_and_paths_of_which_each_is_allowed_end_within_the_steps_together() {
        for (line, path) in [
            ("*a".repeat(30_000) + "b", "a".repeat(4000)),
            ("**/x/".repeat(12_000), "y/".repeat(2000)),
            ("x".repeat(60_000), "x/".repeat(60)),
        ] {
            let rules = rules(&line);
            let (mut steps, mut paths) = (Steps::new(20_000_000), 0);
            let ended = loop {
                match rules.excludes(path.as_bytes(), false, &mut steps) {
                    Ok(_) => paths += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(ended, IgnoreError::TooMuchWork { limit: 20_000_000 });
            assert!(paths < 20_000, "{paths} of {}", &line[..4]);
        }
    }

    #[test]
    fn without_patterns_the_default_lists_hold() {
        let rules = Rules::new([], None).expect("no patterns");
        for path in [
            "a/b.png",
            ".github/x.yaml",
            ".git/config",
            "x/.sops.yaml",
            ".gitignore",
            "a.tar.gz",
        ] {
            assert!(excludes(&rules, path.as_bytes(), false), "{path}");
        }
        for path in ["a/b.yaml", "github/x.yaml", ".gitea"] {
            assert!(!excludes(&rules, path.as_bytes(), false), "{path}");
        }
    }

    #[test]
    fn one_pattern_drops_the_default_lists_but_not_those_of_version_control() {
        let rules = rules("*.txt");
        assert!(excludes(&rules, b"a.txt", false));
        assert!(!excludes(&rules, b"a.png", false));
        assert!(excludes(&rules, b".git/config", false));
    }

    #[test]
    fn a_file_that_holds_only_comments_is_no_pattern() {
        assert_eq!(
            rules("# nothing\n\n  \n"),
            Rules::new([], None).expect("no patterns")
        );
    }

    #[test]
    fn all_but_one_folder() {
        let rules = rules("/*\n!/deploy/\n");
        assert!(excludes(&rules, b"src/main.go", false));
        assert!(!excludes(&rules, b"deploy", true));
        assert!(!excludes(&rules, b"deploy/a/b.yaml", false));
    }

    #[test]
    fn a_file_holds_for_its_folder_only_and_the_spec_wins() {
        let files: [(&[u8], &[u8]); 2] = [(b"a", b"*.txt"), (b"a/b", b"!x.txt")];
        let rules = Rules::new(files, Some(b"!a/keep.txt")).expect("few patterns");
        assert!(excludes(&rules, b"a/x.txt", false));
        assert!(!excludes(&rules, b"x.txt", false));
        assert!(!excludes(&rules, b"a/b/x.txt", false));
        assert!(!excludes(&rules, b"a/keep.txt", false));
    }

    #[test]
    fn patterns_are_bounded() {
        let many = "a\n".repeat(MAX_PATTERNS + 1);
        assert_eq!(
            Rules::new([], Some(many.as_bytes())),
            Err(IgnoreError::TooMany { limit: MAX_PATTERNS })
        );
        let long = "a".repeat(MAX_LINE);
        assert_eq!(
            Rules::new([], Some(long.as_bytes())),
            Err(IgnoreError::TooLong { limit: MAX_LINE })
        );
    }
}
