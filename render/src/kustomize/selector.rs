//! Selects objects by regular expressions over their identity and by label and annotation selectors.

use std::collections::HashSet;

use super::error::{Result, invalid};
use super::expression::Expression;
use super::fieldspec::NAMES_PER_STEP;
use super::id::Gvk;
use super::kustomization::Selector;
use super::resource::Resource;
use super::steps::Steps;
use crate::yaml::node::Node;

/// One pattern: anything, exactly a text, or a regular expression over the whole text.
#[derive(Debug)]
enum Pattern {
    Any,
    Exactly(String),
    Expression(Box<Expression>),
}

type Compile = fn(&str, &Steps<'_>) -> Result<Expression>;

impl Pattern {
    fn new(pattern: &str, compile: Compile, steps: &Steps<'_>) -> Result<Pattern> {
        if pattern.is_empty() {
            return Ok(Pattern::Any);
        }
        if pattern
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/'))
        {
            return Ok(Pattern::Exactly(pattern.to_string()));
        }
        let expression = compile(&format!("^(?:{pattern})$"), steps)?;
        Ok(Pattern::Expression(Box::new(expression)))
    }

    fn fits(&self, text: &str, steps: &Steps<'_>) -> Result<bool> {
        match self {
            Pattern::Any => Ok(true),
            Pattern::Exactly(wanted) => Ok(wanted == text),
            Pattern::Expression(expression) => expression.fits(text, steps),
        }
    }
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
    /// Reads a selector that goes before the next one is read.
    pub(crate) fn new(selector: &Selector, steps: &Steps<'_>) -> Result<Matcher> {
        Matcher::read(selector, Expression::new, steps)
    }

    /// Reads a selector that is kept with others.
    pub(crate) fn kept(selector: &Selector, steps: &Steps<'_>) -> Result<Matcher> {
        steps.spend_bytes(size_of::<Matcher>())?;
        Matcher::read(selector, Expression::kept, steps)
    }

    fn read(selector: &Selector, compile: Compile, steps: &Steps<'_>) -> Result<Matcher> {
        let pattern = |text: &str| Pattern::new(text, compile, steps);
        Ok(Matcher {
            group: pattern(&selector.gvk.group)?,
            version: pattern(&selector.gvk.version)?,
            kind: pattern(&selector.gvk.kind)?,
            name: pattern(&selector.name)?,
            namespace: pattern(&selector.namespace)?,
            annotations: Requirements::parse(&selector.annotations),
            labels: Requirements::parse(&selector.labels),
        })
    }

    /// Tells whether a patch with this target applies to an object.
    pub(crate) fn selects(&self, resource: &Resource, steps: &Steps<'_>) -> Result<bool> {
        let either = |pattern: &Pattern, first: &str, now: &str| -> Result<bool> {
            Ok(pattern.fits(first, steps)? || (first != now && pattern.fits(now, steps)?))
        };
        Ok(either(&self.name, resource.original_name(), resource.name())?
            && self.fits_gvk(resource.gvk(), steps)?
            && either(
                &self.namespace,
                resource.original_namespace(),
                resource.namespace(),
            )?
            && fit(&self.labels, resource, "labels", steps)?
            && fit(&self.annotations, resource, "annotations", steps)?)
    }

    /// Returns the one name that objects must have, when the selector has no pattern there.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        match &self.name {
            Pattern::Exactly(name) => Some(name),
            Pattern::Any | Pattern::Expression(_) => None,
        }
    }

    /// Tells whether a type fits.
    fn fits_gvk(&self, gvk: Gvk<'_>, steps: &Steps<'_>) -> Result<bool> {
        Ok(self.group.fits(gvk.group, steps)?
            && self.version.fits(gvk.version, steps)?
            && self.kind.fits(gvk.kind, steps)?)
    }

    /// Tells whether one identity of an object fits.
    pub(crate) fn fits_id(
        &self,
        gvk: Gvk<'_>,
        name: &str,
        namespace: &str,
        steps: &Steps<'_>,
    ) -> Result<bool> {
        Ok(self.fits_gvk(gvk, steps)?
            && self.name.fits(name, steps)?
            && self.namespace.fits(namespace, steps)?)
    }

    /// Tells whether labels and annotations fit.
    pub(crate) fn fits_metadata(&self, resource: &Resource, steps: &Steps<'_>) -> Result<bool> {
        let annotations = fit(&self.annotations, resource, "annotations", steps)?;
        Ok(fit(&self.labels, resource, "labels", steps)? && annotations)
    }
}

fn fit(
    requirements: &Result<Requirements, String>,
    resource: &Resource,
    field: &str,
    steps: &Steps<'_>,
) -> Result<bool> {
    match requirements {
        Ok(requirements) => requirements.fit(resource, field, steps),
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
    In(HashSet<String>),
    NotIn(HashSet<String>),
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

    fn fit(&self, resource: &Resource, field: &str, steps: &Steps<'_>) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let texts = resource.node.at(&["metadata", field]);
        let texts = texts.map_or(&[][..], Node::fields);
        let compared = 1 + texts.len() / NAMES_PER_STEP;
        steps.spend(self.0.len().saturating_mul(compared))?;
        Ok(self.0.iter().all(|requirement| requirement.fits(texts)))
    }
}

impl Requirement {
    fn fits(&self, texts: &[(Node, Node)]) -> bool {
        // Of a key that stands twice, the last counts.
        let found = texts.iter().rfind(|(key, _)| key.text() == self.key);
        let value = found.map(|(_, value)| value.text());
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
            return Some(Test::NotIn(HashSet::from([value(self.word())?])));
        }
        if self.eat("==") || self.eat("=") {
            return Some(Test::In(HashSet::from([value(self.word())?])));
        }
        if self.eat(">") {
            return bound(self.word()).map(Test::Greater);
        }
        if self.eat("<") {
            return bound(self.word()).map(Test::Less);
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

    fn values(&mut self) -> Option<HashSet<String>> {
        if !self.eat("(") {
            return None;
        }
        let mut values = HashSet::new();
        loop {
            values.insert(value(self.word())?);
            if self.eat(")") {
                return Some(values);
            }
            if !self.eat(",") {
                return None;
            }
        }
    }
}

/// Reads a key: a name, and perhaps a prefix before it, which is the name of a domain.
fn key(word: &str) -> Option<String> {
    let (prefix, name) = match word.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, word),
    };
    let fits = !name.is_empty() && name.len() <= 63 && is_label(name) && prefix.is_none_or(is_domain);
    fits.then(|| word.to_string())
}

/// Reads the number of a comparison, which is to be the value of a label too: one below zero is none.
fn bound(word: &str) -> Option<i64> {
    value(word)?.parse().ok()
}

fn value(word: &str) -> Option<String> {
    (word.is_empty() || (word.len() <= 63 && is_label(word))).then(|| word.to_string())
}

fn is_domain(text: &str) -> bool {
    let fits = |part: &str| {
        is_label(part)
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(fits)
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
