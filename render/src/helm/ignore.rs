//! Decides which files of a chart's directory do not belong to it: the rules of `.helmignore`.
//!
//! The rules are Helm's, not Git's: the first rule that matches decides, there is no `**`, and a rule with
//! `!` ignores whatever it does *not* match.

use super::archive::{Budget, File};
use super::chart::ChartError;
use super::pathmatch::{self, BadPattern};

/// The file in a chart's root that holds its rules.
pub const FILE_NAME: &str = ".helmignore";

/// Rules in the order in which they decide.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// Why rules cannot be read. Nothing helps but another `.helmignore`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A rule holds `**`.
    #[error("double-star (**) syntax is not supported")]
    DoubleStar,
    /// A rule is not a pattern.
    #[error("rule {rule:?} cannot be read")]
    Pattern {
        /// The rule as written.
        rule: String,
        /// What is wrong.
        #[source]
        source: BadPattern,
    },
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    negated: bool,
    only_directories: bool,
    place: Place,
}

/// What of a path a rule is compared with.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The last part.
    Name,
    /// All of it.
    Path,
}

impl Rules {
    /// Reads a `.helmignore` and adds the rule that always holds: hidden files of `templates/` are ignored.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for line in text.lines() {
            rules.extend(Rule::parse(line)?);
        }
        rules.extend(Rule::parse("templates/.?*")?);
        Ok(Self { rules })
    }

    /// Returns whether the file or directory at `path`, relative to the chart's root, is ignored.
    pub fn ignores(&self, path: &str, is_directory: bool) -> bool {
        for rule in &self.rules {
            let applies = is_directory || !rule.only_directories;
            match (rule.negated, applies && rule.matches(path)) {
                (false, true) | (true, false) => return true,
                (false, false) | (true, true) => {}
            }
        }
        false
    }

    /// Returns whether a file is ignored by itself or by a directory that it is in.
    fn ignores_in_tree(&self, path: &str) -> bool {
        let above = path
            .match_indices('/')
            .any(|(at, _)| self.ignores(&path[..at], true));
        above || self.ignores(path, false)
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Option<Self>, IgnoreError> {
        let rule = line.trim();
        if rule.is_empty() || rule.starts_with('#') {
            return Ok(None);
        }
        if rule.contains("**") {
            return Err(IgnoreError::DoubleStar);
        }
        pathmatch::matches(rule, "abc").map_err(|source| IgnoreError::Pattern {
            rule: rule.to_owned(),
            source,
        })?;
        let (negated, pattern) = cut_prefix(rule, '!');
        let only_directories = pattern.ends_with('/');
        let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
        let (rooted, pattern) = cut_prefix(pattern, '/');
        let place = if rooted || pattern.contains('/') {
            Place::Path
        } else {
            Place::Name
        };
        Ok(Some(Self {
            pattern: pattern.to_owned(),
            negated,
            only_directories,
            place,
        }))
    }

    fn matches(&self, path: &str) -> bool {
        let subject = match self.place {
            Place::Path => path,
            Place::Name => path.rsplit('/').next().unwrap_or(path),
        };
        pathmatch::matches(&self.pattern, subject).unwrap_or(false)
    }
}

fn cut_prefix(text: &str, prefix: char) -> (bool, &str) {
    text.strip_prefix(prefix)
        .map_or((false, text), |rest| (true, rest))
}

/// Returns the files of a chart's directory that belong to the chart, in the order of a walk through it.
pub(super) fn filter(files: Vec<File>, budget: &Budget<'_>) -> Result<Vec<File>, ChartError> {
    let rules = match files.iter().find(|file| file.name == FILE_NAME) {
        Some(file) => Rules::parse(&file.text())?,
        None => Rules::parse("")?,
    };
    let mut kept = Vec::with_capacity(files.len());
    for file in files {
        budget.go_on()?;
        if !rules.ignores_in_tree(&file.name) {
            kept.push(file);
        }
    }
    kept.sort_by(|left, right| left.name.split('/').cmp(right.name.split('/')));
    Ok(kept)
}
