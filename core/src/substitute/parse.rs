//! Reads a text into literal pieces and expressions. Knows the grammar, not the variables.
//!
//! The grammar is that of the reference implementation, its gaps included: `${v-d}` is not an expression,
//! `${v:?d}` and `${v:+d}` are. Manifests written for Flux rely on what it accepts, so nothing is added.

use super::{MAX_DEPTH, SubstituteError};
use crate::text::runes;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Literal text, escapes already undone.
    Text(String),
    /// `${name…}`.
    Expression(Expression),
}

/// One `${…}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) name: String,
    pub(super) function: Function,
    pub(super) args: Vec<Node>,
}

/// What an expression does with its variable's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// `${v}`, and mixed casing such as `${v,^}`, which changes nothing.
    Value,
    /// `${#v}`
    Length,
    /// `${v=d}`, `${v:=d}`, `${v:-d}`, `${v:?d}`, `${v:+d}`: all the same.
    Default,
    /// `${v,}`
    LowerFirst,
    /// `${v,,}`
    Lower,
    /// `${v^}`
    UpperFirst,
    /// `${v^^}`
    Upper,
    /// `${v:position}`, `${v:position:length}`
    Substring,
    /// `${v#p}`
    TrimPrefix,
    /// `${v##p}`
    TrimLongestPrefix,
    /// `${v%p}`
    TrimSuffix,
    /// `${v%%p}`
    TrimLongestSuffix,
    /// `${v/p/r}`
    ReplaceFirst,
    /// `${v//p/r}`
    ReplaceAll,
    /// `${v/#p/r}`
    ReplacePrefix,
    /// `${v/%p/r}`
    ReplaceSuffix,
}

/// Where a literal ends, besides at `${` and the end of the text.
#[derive(Clone, Copy)]
enum Until {
    /// `}`
    Brace,
    /// `}` or `:`
    BraceOrColon,
    /// `/`
    Slash,
    /// Nowhere else.
    End,
}

impl Until {
    fn stops(self, c: char) -> bool {
        match self {
            Self::Brace => c == '}',
            Self::BraceOrColon => c == '}' || c == ':',
            Self::Slash => c == '/',
            Self::End => false,
        }
    }
}

/// Which escapes a literal undoes.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    None,
    /// `$$` is `$`.
    Dollar,
    /// `$$` is `$`, `\/` is `/`, `\\` is `\`.
    All,
}

/// Reads the whole text.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, SubstituteError> {
    let mut parser = Parser { rest: text, depth: 0 };
    let mut nodes = Vec::new();
    while !parser.rest.is_empty() {
        nodes.push(if parser.eat("${") {
            Node::Expression(parser.expression()?)
        } else {
            Node::Text(parser.literal(Until::End, Escapes::Dollar))
        });
    }
    Ok(nodes)
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads an expression whose `${` is consumed, up to and including its `}`.
    fn expression(&mut self) -> Result<Expression, SubstituteError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SubstituteError::TooDeep { limit: MAX_DEPTH });
        }
        let expression = self.expression_within_depth()?;
        self.depth -= 1;
        Ok(expression)
    }

    fn expression_within_depth(&mut self) -> Result<Expression, SubstituteError> {
        if self.eat("#") {
            let name = self.name().ok_or(SubstituteError::BadSubstitution)?;
            return self.close(name, Function::Length, Vec::new());
        }
        let name = self.name().ok_or(SubstituteError::VariableName)?;
        match self.peek() {
            Some('}') => self.close(name, Function::Value, Vec::new()),
            Some(':') => self.default_or_substring(name),
            Some('=') => {
                self.eat("=");
                self.default(name)
            }
            Some(',' | '^') => self.casing(name),
            Some('/') => self.replace(name),
            Some('#') => self.trim(name, '#', [Function::TrimPrefix, Function::TrimLongestPrefix]),
            Some('%') => self.trim(name, '%', [Function::TrimSuffix, Function::TrimLongestSuffix]),
            _ => Err(SubstituteError::MissingClosingBrace),
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c| !runes::is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn close(
        &mut self,
        name: String,
        function: Function,
        args: Vec<Node>,
    ) -> Result<Expression, SubstituteError> {
        if self.eat("}") {
            Ok(Expression { name, function, args })
        } else {
            Err(SubstituteError::BadSubstitution)
        }
    }

    fn default_or_substring(&mut self, name: String) -> Result<Expression, SubstituteError> {
        self.eat(":");
        match self.peek() {
            Some(c @ ('=' | '-' | '?' | '+')) => {
                self.eat(c.encode_utf8(&mut [0; 4]));
                self.default(name)
            }
            Some(c) if c.is_ascii() => self.substring(name),
            // The reference steps back by the width of this character instead of the colon's and fails.
            _ => Err(SubstituteError::BadSubstitution),
        }
    }

    fn default(&mut self, name: String) -> Result<Expression, SubstituteError> {
        let mut args = Vec::new();
        while self.peek() != Some('}') {
            args.push(self.param(Until::Brace, Escapes::None)?);
        }
        self.close(name, Function::Default, args)
    }

    fn substring(&mut self, name: String) -> Result<Expression, SubstituteError> {
        let mut args = vec![self.param(Until::BraceOrColon, Escapes::None)?];
        if self.peek() == Some(':') {
            self.rest = self.rest.trim_start_matches(':');
            args.push(self.param(Until::Brace, Escapes::None)?);
        }
        self.close(name, Function::Substring, args)
    }

    fn casing(&mut self, name: String) -> Result<Expression, SubstituteError> {
        let end = self
            .rest
            .bytes()
            .take(2)
            .take_while(|b| matches!(b, b',' | b'^'))
            .count();
        let (operator, rest) = self.rest.split_at(end);
        self.rest = rest;
        let function = match operator {
            "," => Function::LowerFirst,
            ",," => Function::Lower,
            "^" => Function::UpperFirst,
            "^^" => Function::Upper,
            _ => Function::Value,
        };
        self.close(name, function, Vec::new())
    }

    fn trim(
        &mut self,
        name: String,
        sign: char,
        functions: [Function; 2],
    ) -> Result<Expression, SubstituteError> {
        let sign = sign.encode_utf8(&mut [0; 4]).to_owned();
        self.eat(&sign);
        let function = functions[usize::from(self.eat(&sign))];
        let args = vec![self.param(Until::Brace, Escapes::None)?];
        self.close(name, function, args)
    }

    fn replace(&mut self, name: String) -> Result<Expression, SubstituteError> {
        self.eat("/");
        let function = match self.peek() {
            Some('/') => Function::ReplaceAll,
            Some('#') => Function::ReplacePrefix,
            Some('%') => Function::ReplaceSuffix,
            _ => Function::ReplaceFirst,
        };
        if function != Function::ReplaceFirst {
            self.rest = &self.rest[1..];
        }
        let mut args = vec![self.param(Until::Slash, Escapes::All)?];
        let after = self.rest.trim_start_matches('/');
        if after.len() == self.rest.len() {
            return Err(SubstituteError::BadSubstitution);
        }
        self.rest = after;
        if self.peek() != Some('}') {
            args.push(self.param(Until::Brace, Escapes::All)?);
        }
        self.close(name, function, args)
    }

    /// Reads one parameter: a nested expression, or a literal that is not empty.
    fn param(&mut self, until: Until, escapes: Escapes) -> Result<Node, SubstituteError> {
        if self.eat("${") {
            return self.expression().map(Node::Expression);
        }
        match self.peek() {
            Some(c) if !until.stops(c) => Ok(Node::Text(self.literal(until, escapes))),
            _ => Err(SubstituteError::FunctionParameter),
        }
    }

    fn literal(&mut self, until: Until, escapes: Escapes) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if self.rest.starts_with("${") {
                break;
            }
            if let Some(escaped) = self.escaped(escapes) {
                text.push(escaped);
                self.rest = &self.rest[2..];
                continue;
            }
            if until.stops(c) {
                break;
            }
            text.push(c);
            self.rest = &self.rest[c.len_utf8()..];
        }
        text
    }

    /// The character that the next two stand for, if they are an escape.
    fn escaped(&self, escapes: Escapes) -> Option<char> {
        let next = self.rest.as_bytes().get(..2)?;
        match next {
            b"$$" if escapes != Escapes::None => Some('$'),
            b"\\/" if escapes == Escapes::All => Some('/'),
            b"\\\\" if escapes == Escapes::All => Some('\\'),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| format!("{}x{}", "${a:=".repeat(n), "}".repeat(n));
        assert!(parse(&deep(MAX_DEPTH)).is_ok());
        assert_eq!(
            parse(&deep(MAX_DEPTH + 1)),
            Err(SubstituteError::TooDeep { limit: MAX_DEPTH })
        );
    }

    #[test]
    fn expressions_side_by_side_are_not_nesting() {
        assert_eq!(
            parse(&"${a}".repeat(10 * MAX_DEPTH)).map(|nodes| nodes.len()),
            Ok(10 * MAX_DEPTH)
        );
    }
}
