//! Reads the string form of a selector, as `kubectl -l` does.

use super::{InvalidSelector, Operator, Requirement, check_key, check_value, invalid, requirement};

/// The characters that end a word.
const SIGNS: &[char] = &['=', '!', '(', ')', ',', '<', '>'];
const SPACES: &[char] = &[' ', '\t', '\r', '\n'];

/// Reads requirements separated by commas.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, InvalidSelector> {
    let mut reader = Reader { text, rest: text };
    let mut requirements = Vec::new();
    if reader.at_end() {
        return Ok(requirements);
    }
    loop {
        requirements.push(reader.requirement()?);
        if reader.at_end() {
            return Ok(requirements);
        }
        reader.expect(",", "expected `,` or the end")?;
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        let absent = self.eat("!");
        let key = self.word();
        check_key(key).map_err(|problem| self.fault(problem))?;
        if absent {
            return Ok(requirement(key, Operator::DoesNotExist, []));
        }
        if self.at_end() || self.is_next(",") {
            return Ok(requirement(key, Operator::Exists, []));
        }
        let (operator, values) = self.condition()?;
        for value in &values {
            check_value(value).map_err(|problem| self.fault(problem))?;
        }
        Ok(requirement(key, operator, values.into_iter().map(str::to_owned)))
    }

    fn condition(&mut self) -> Result<(Operator, Vec<&'a str>), InvalidSelector> {
        if self.eat("==") || self.eat("=") {
            return Ok((Operator::In, vec![self.value()?]));
        }
        if self.eat("!=") {
            return Ok((Operator::NotIn, vec![self.value()?]));
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return Err(self.fault("expected `=`, `==`, `!=`, `in` or `notin`")),
        };
        self.expect("(", "expected `(`")?;
        let mut values = vec![self.word()];
        while self.eat(",") {
            values.push(self.word());
        }
        self.expect(")", "expected `,` or `)`")?;
        Ok((operator, values))
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<&'a str, InvalidSelector> {
        let value = self.word();
        if value.is_empty() && !self.at_end() && !self.is_next(",") {
            return Err(self.fault("expected a value"));
        }
        Ok(value)
    }

    /// The next word; empty when a sign or the end comes first.
    fn word(&mut self) -> &'a str {
        self.skip_spaces();
        let end = self
            .rest
            .find(|c| SIGNS.contains(&c) || SPACES.contains(&c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.skip_spaces();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: &str, problem: &'static str) -> Result<(), InvalidSelector> {
        if self.eat(sign) {
            Ok(())
        } else {
            Err(self.fault(problem))
        }
    }

    fn is_next(&mut self, sign: &str) -> bool {
        self.skip_spaces();
        self.rest.starts_with(sign)
    }

    fn at_end(&mut self) -> bool {
        self.skip_spaces();
        self.rest.is_empty()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(SPACES);
    }

    /// Names the text up to where reading stopped.
    fn fault(&self, problem: &'static str) -> InvalidSelector {
        let read = &self.text[..self.text.len() - self.rest.len()];
        invalid(
            format!("selector `{}` after `{}`", self.text, read.trim_end()),
            problem,
        )
    }
}
