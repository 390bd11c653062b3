//! What is wrong with a document, said so that a person can fix it: file, line, object, field, and what was
//! probably meant. A problem never holds a value of a Secret.

use std::fmt;

use crate::text::Malformed;

/// A step into a value: a field's name or an element's index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A field of a map.
    Field(String),
    /// An element of a list, from 0.
    Index(usize),
}

/// A path to a field, printed as `spec.dependsOn[0].name`; keys that are not plain words stand in brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Step>);

impl FieldPath {
    /// Returns the path of the document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Returns the path of a field below this one.
    pub fn field(&self, name: impl Into<String>) -> Self {
        self.then(Step::Field(name.into()))
    }

    /// Returns the path of an element below this one.
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// Returns this path seen from outside `prefix`.
    pub fn under(&self, prefix: &FieldPath) -> Self {
        Self(prefix.0.iter().chain(&self.0).cloned().collect())
    }

    /// Returns the steps from the document's root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) if !plain(name) => write!(f, "[{name:?}]")?,
                Step::Field(name) if position == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '$')
}

/// One thing that is wrong, or worth a warning, at one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field; empty when it is the document itself.
    pub path: FieldPath,
    /// The line in the file, from 1, of the field or of what should contain it.
    pub line: Option<usize>,
    /// What is wrong, without the field's name.
    pub message: String,
    /// What was probably meant, as a phrase: `did you mean "interval"?`.
    pub hint: Option<String>,
}

impl Problem {
    /// Makes a problem at a field whose line is not known yet.
    pub fn new(path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            path,
            line: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what the user should do or probably meant.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds `did you mean "…"?` when there is a suggestion.
    pub(crate) fn suggest(self, meant: Option<&str>) -> Self {
        match meant {
            Some(meant) => self.hint(format!("did you mean {meant:?}?")),
            None => self,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.steps().is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// A document that cannot be taken, with all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines().join("\n"))]
pub struct Invalid {
    /// The file's name as the caller gave it.
    pub file: String,
    /// The document's number in the file, from 1, empty documents not counted.
    pub document: usize,
    /// The line the document starts at, from 1.
    pub line: usize,
    /// `Kind namespace/name` as far as it could be read.
    pub object: Option<String>,
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// Returns one line per problem: `file:line: document 2: Kind ns/name: field: message (hint)`.
    pub fn lines(&self) -> Vec<String> {
        self.problems
            .iter()
            .map(|problem| self.describe(problem))
            .collect()
    }

    fn describe(&self, problem: &Problem) -> String {
        let line = problem.line.unwrap_or(self.line);
        let object = self
            .object
            .as_ref()
            .map(|object| format!("{object}: "))
            .unwrap_or_default();
        format!(
            "{}:{line}: document {}: {object}{problem}",
            self.file, self.document
        )
    }
}

/// Collects problems below one field; what a kind's own checks write to.
pub struct Check<'a> {
    path: FieldPath,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Starts collecting at a field.
    pub fn new(path: FieldPath, problems: &'a mut Vec<Problem>) -> Self {
        Self { path, problems }
    }

    /// Continues at a field below.
    pub fn at(&mut self, field: &str) -> Check<'_> {
        Check {
            path: self.path.field(field),
            problems: self.problems,
        }
    }

    /// Continues at each element of a list field.
    pub fn each<T>(&mut self, field: &str, elements: &[T], check: impl Fn(&T, &mut Check<'_>)) {
        let list = self.path.field(field);
        for (index, element) in elements.iter().enumerate() {
            check(
                element,
                &mut Check {
                    path: list.index(index),
                    problems: self.problems,
                },
            );
        }
    }

    /// Records a problem at this field.
    pub fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(Problem::new(self.path.clone(), message));
    }

    /// Records a problem made elsewhere.
    pub(crate) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Records that a text does not have its form.
    pub(crate) fn malformed(&mut self, malformed: Malformed) {
        let problem = Problem::new(self.path.clone(), malformed.message);
        self.problems.push(Problem {
            hint: malformed.hint,
            ..problem
        });
    }

    /// Returns this field's path.
    pub(crate) fn path(&self) -> FieldPath {
        self.path.clone()
    }

    /// Records a problem at this field with advice.
    pub fn advise(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.problems
            .push(Problem::new(self.path.clone(), message).hint(hint));
    }

    /// Records a problem unless exactly one of the named fields is set.
    pub fn exactly_one(&mut self, fields: &[(&str, bool)]) {
        if fields.iter().filter(|(_, set)| *set).count() != 1 {
            let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            self.problem(format!("exactly one of {} must be set", names.join(", ")));
        }
    }

    /// Records a problem if more than one of the named fields is set.
    pub fn at_most_one(&mut self, fields: &[(&str, bool)]) {
        if fields.iter().filter(|(_, set)| *set).count() > 1 {
            let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            self.problem(format!("at most one of {} may be set", names.join(", ")));
        }
    }
}
