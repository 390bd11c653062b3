//! Selects objects by regular expressions over their identity and by label and annotation selectors.

use std::collections::BTreeMap;

use flotilla_core::text::re2::{self, Compiled};
use regex::Regex;

use super::error::{Result, invalid};
use super::id::Gvk;
use super::kustomization::Selector;
use super::resource::Resource;

/// One pattern: anything, exactly a text, or a regular expression over the whole text.
#[derive(Debug)]
enum Pattern {
    Any,
    Exactly(String),
    Regex(Box<Regex>),
}

impl Pattern {
    fn new(pattern: &str) -> Result<Pattern> {
        if pattern.is_empty() {
            return Ok(Pattern::Any);
        }
        if pattern
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/'))
        {
            return Ok(Pattern::Exactly(pattern.to_string()));
        }
        compiled(&format!("^(?:{pattern})$")).map(|compiled| Pattern::Regex(Box::new(compiled.regex)))
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exactly(wanted) => wanted == text,
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 1 << 20;

/// Compiles a regular expression in Go's syntax.
pub(crate) fn compiled(pattern: &str) -> Result<Compiled> {
    re2::compile(pattern, MAX_COMPILED).map_err(|error| invalid(error.to_string()))
}

/// A selector ready to be applied.
#[derive(Debug)]
pub(crate) struct Matcher {
    group: Pattern,
    version: Pattern,
    kind: Pattern,
    name: Pattern,
    namespace: Pattern,
    /// What cannot be read is told once an object is asked for it.
    annotations: Result<Requirements, String>,
    labels: Result<Requirements, String>,
}

impl Matcher {
    pub(crate) fn new(selector: &Selector) -> Result<Matcher> {
        Ok(Matcher {
            group: Pattern::new(&selector.gvk.group)?,
            version: Pattern::new(&selector.gvk.version)?,
            kind: Pattern::new(&selector.gvk.kind)?,
            name: Pattern::new(&selector.name)?,
            namespace: Pattern::new(&selector.namespace)?,
            annotations: Requirements::parse(&selector.annotations),
            labels: Requirements::parse(&selector.labels),
        })
    }

    /// Tells whether a patch with this target applies to an object.
    pub(crate) fn selects(&self, resource: &Resource) -> Result<bool> {
        let in_namespace = || {
            self.namespace.fits(resource.original_namespace()) || self.namespace.fits(resource.namespace())
        };
        let fits = (self.name.fits(resource.original_name()) || self.name.fits(resource.name()))
            && self.fits_gvk(resource.gvk())
            && (matches!(self.namespace, Pattern::Any) || in_namespace());
        Ok(
            fits && fit(&self.labels, resource, "labels")?
                && fit(&self.annotations, resource, "annotations")?,
        )
    }

    /// Returns the one name that objects must have, when the selector has no pattern there.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        match &self.name {
            Pattern::Exactly(name) => Some(name),
            Pattern::Any | Pattern::Regex(_) => None,
        }
    }

    /// Tells whether a type fits.
    pub(crate) fn fits_gvk(&self, gvk: Gvk<'_>) -> bool {
        self.group.fits(gvk.group) && self.version.fits(gvk.version) && self.kind.fits(gvk.kind)
    }

    /// Tells whether one identity of an object fits.
    pub(crate) fn fits_id(&self, gvk: Gvk<'_>, name: &str, namespace: &str) -> bool {
        self.fits_gvk(gvk) && self.name.fits(name) && self.namespace.fits(namespace)
    }

    /// Tells whether labels and annotations fit.
    pub(crate) fn fits_metadata(&self, resource: &Resource) -> Result<bool> {
        let annotations = fit(&self.annotations, resource, "annotations")?;
        Ok(fit(&self.labels, resource, "labels")? && annotations)
    }
}

fn fit(requirements: &Result<Requirements, String>, resource: &Resource, field: &str) -> Result<bool> {
    match requirements {
        Ok(requirements) => Ok(requirements.fit(resource, field)),
        Err(reason) => Err(invalid(reason.clone())),
    }
}

/// A label selector: `a=b,c!=d,e in (f,g),h,!i`.
#[derive(Debug)]
struct Requirements(Vec<Requirement>);

#[derive(Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

impl Requirements {
    fn parse(text: &str) -> Result<Requirements, String> {
        let mut scan = Scan { rest: text };
        let mut list = Vec::new();
        if text.trim().is_empty() {
            return Ok(Requirements(list));
        }
        loop {
            list.push(
                scan.requirement()
                    .ok_or_else(|| format!("unable to parse requirement in selector '{text}'"))?,
            );
            scan.skip();
            if scan.rest.is_empty() {
                return Ok(Requirements(list));
            }
            if !scan.eat(",") {
                return Err(format!(
                    "unable to parse selector '{text}': found '{}'",
                    scan.rest
                ));
            }
        }
    }

    fn fit(&self, resource: &Resource, field: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let texts = resource.texts(field);
        self.0.iter().all(|requirement| requirement.fits(&texts))
    }
}

impl Requirement {
    fn fits(&self, texts: &BTreeMap<String, String>) -> bool {
        let value = texts.get(&self.key);
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater(bound) => number().is_some_and(|n| n > *bound),
            Test::Less(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.skip();
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '!' | '(' | ')' | '<' | '>'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn requirement(&mut self) -> Option<Requirement> {
        if self.eat("!") {
            let key = key(self.word())?;
            return Some(Requirement {
                key,
                test: Test::Missing,
            });
        }
        let key = key(self.word())?;
        let test = self.test()?;
        Some(Requirement { key, test })
    }

    fn test(&mut self) -> Option<Test> {
        if self.eat("!=") {
            return Some(Test::NotIn(vec![value(self.word())?]));
        }
        if self.eat("==") || self.eat("=") {
            return Some(Test::In(vec![value(self.word())?]));
        }
        if self.eat(">") {
            return self.word().parse().ok().map(Test::Greater);
        }
        if self.eat("<") {
            return self.word().parse().ok().map(Test::Less);
        }
        self.skip();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Some(Test::Exists);
        }
        match self.word() {
            "in" => self.values().map(Test::In),
            "notin" => self.values().map(Test::NotIn),
            _ => None,
        }
    }

    fn values(&mut self) -> Option<Vec<String>> {
        if !self.eat("(") {
            return None;
        }
        let mut values = Vec::new();
        loop {
            values.push(value(self.word())?);
            if self.eat(")") {
                return Some(values);
            }
            if !self.eat(",") {
                return None;
            }
        }
    }
}

fn key(word: &str) -> Option<String> {
    let name = word.rsplit_once('/').map_or(word, |(_, name)| name);
    let fits = !name.is_empty() && name.len() <= 63 && is_label(name);
    fits.then(|| word.to_string())
}

fn value(word: &str) -> Option<String> {
    (word.is_empty() || (word.len() <= 63 && is_label(word))).then(|| word.to_string())
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
