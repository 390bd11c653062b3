//! Decides which files of a chart's directory do not belong to it: the rules of `.helmignore`.
//!
//! The rules are Helm's, not Git's: the first rule that matches decides, there is no `**`, and a rule with
//! `!` ignores whatever it does *not* match.

use std::cell::Cell;

use super::archive::{Budget, File};
use super::chart::ChartError;
use super::pathmatch::{self, BadPattern};

/// The file in a chart's root that holds its rules.
pub const FILE_NAME: &str = ".helmignore";

/// The most steps that the rules of one chart may take: those of a hundred thousand files in folders and some twenty rules.
const MAX_STEPS: u64 = 50_000_000;
/// How many bytes are compared for one step.
const BYTES_PER_STEP: usize = 16;

/// Rules in the order in which they decide.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Rule>,
    /// How many steps were taken.
    steps: Cell<u64>,
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
    /// There are too many files for so many rules.
    #[error("comparing its rules with the files of the chart takes more than {MAX_STEPS} steps")]
    TooMany,
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
        let steps = Cell::new(0);
        Ok(Self { rules, steps })
    }

    /// Returns whether the file or directory at `path`, relative to the chart's root, is ignored.
    ///
    /// # Errors
    ///
    /// All calls together take more than is allowed.
    pub fn is_ignored(&self, path: &str, is_directory: bool) -> Result<bool, IgnoreError> {
        for rule in &self.rules {
            self.spend(rule.steps(path))?;
            let applies = is_directory || !rule.only_directories;
            match (rule.negated, applies && rule.matches(path)) {
                (false, true) | (true, false) => return Ok(true),
                (false, false) | (true, true) => {}
            }
        }
        Ok(false)
    }

    /// Returns whether a file is ignored by itself or by a directory that it is in.
    fn ignores_in_tree(&self, path: &str) -> Result<bool, IgnoreError> {
        for (at, _) in path.match_indices('/') {
            if self.is_ignored(&path[..at], true)? {
                return Ok(true);
            }
        }
        self.is_ignored(path, false)
    }

    fn spend(&self, steps: usize) -> Result<(), IgnoreError> {
        let taken = self.steps.get().saturating_add(steps as u64);
        self.steps.set(taken);
        match taken > MAX_STEPS {
            true => Err(IgnoreError::TooMany),
            false => Ok(()),
        }
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
        pathmatch::matches(&self.pattern, self.subject(path)).unwrap_or(false)
    }

    /// Returns what comparing takes: a part behind a star is tried at each place.
    fn steps(&self, path: &str) -> usize {
        let places = match self.pattern.contains('*') {
            true => self.subject(path).len().max(1),
            false => 1,
        };
        1 + self.pattern.len().saturating_mul(places) / BYTES_PER_STEP
    }

    fn subject<'p>(&self, path: &'p str) -> &'p str {
        match self.place {
            Place::Path => path,
            Place::Name => path.rsplit('/').next().unwrap_or(path),
        }
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
        if !rules.ignores_in_tree(&file.name)? {
            kept.push(file);
        }
    }
    kept.sort_by(|left, right| left.name.split('/').cmp(right.name.split('/')));
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::{IgnoreError, MAX_STEPS, Rules};

    /// Returns how many steps it takes to look whether a file is ignored.
    fn steps(rules: &str, path: &str) -> u64 {
        let rules = Rules::parse(rules).expect("they are rules");
        rules.ignores_in_tree(path).expect("they are few");
        rules.steps.get()
    }

    #[test]
    fn rules_take_steps_for_each_folder_and_for_each_place_of_a_star() {
        let long = format!("*{}", "x".repeat(159));
        let name = "a".repeat(100);
        for (rules, path, taken) in [
            ("x\ny\n", "a", 2),
            ("x\ny\n", "a/b/c", 3 * 2),
            (long.as_str(), name.as_str(), 1 + 160 * 100 / 16),
        ] {
            assert_eq!(steps(rules, path) - steps("", path), taken, "{rules} {path}");
        }
    }

    #[test]
    fn all_files_together_take_no_more_steps_than_are_allowed() {
        let rules = Rules::parse("x\n").expect("they are rules");
        rules.steps.set(MAX_STEPS - 2);
        assert_eq!(rules.ignores_in_tree("a"), Ok(false));
        assert_eq!(rules.ignores_in_tree("a"), Err(IgnoreError::TooMany));
    }
}
