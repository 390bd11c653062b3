//! Cuts a template into tokens as Go's text/template does, trim markers included. The parser pulls them one
//! by one, so that an error is found only where parsing reaches it.

use std::borrow::Cow;

use flotilla_core::text::runes::{is_name, is_print};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text of the token says what is wrong.
    Error,
    Bool,
    /// A character without a rule of its own, such as a comma.
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    End,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Dot,
    Keyword(Keyword),
}

/// A word with a meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Keyword {
    fn of(word: &str) -> Option<Keyword> {
        Some(match word {
            "block" => Keyword::Block,
            "break" => Keyword::Break,
            "continue" => Keyword::Continue,
            "define" => Keyword::Define,
            "else" => Keyword::Else,
            "end" => Keyword::End,
            "if" => Keyword::If,
            "nil" => Keyword::Nil,
            "range" => Keyword::Range,
            "template" => Keyword::Template,
            "with" => Keyword::With,
            _ => return None,
        })
    }
}

/// A token, where it starts in bytes, and its line counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) pos: usize,
    pub(super) line: usize,
    pub(super) text: Cow<'a, str>,
}

impl Token<'_> {
    /// Describes the token as Go's errors do.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.text.to_string(),
            Kind::Keyword(_) => format!("<{}>", self.text),
            Kind::Dot => "<.>".to_owned(),
            _ if self.text.chars().count() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                format!("{}...", super::quote::quote(&head))
            }
            _ => super::quote::quote(&self.text),
        }
    }
}

/// The lexer's place in a template.
pub(super) struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    line: usize,
    inside: bool,
    parens: usize,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a str) -> Self {
        Lexer {
            input,
            pos: 0,
            line: 1,
            inside: false,
            parens: 0,
        }
    }

    /// Returns the next token; after the last one, and after an error, the end forever.
    pub(super) fn next(&mut self) -> Token<'a> {
        if self.inside { self.action() } else { self.text() }
    }

    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn token(&mut self, kind: Kind, start: usize) -> Token<'a> {
        let text = &self.input[start..self.pos];
        let token = Token {
            kind,
            pos: start,
            line: self.line,
            text: text.into(),
        };
        // No other token can hold a line break.
        if matches!(kind, Kind::Text | Kind::Space | Kind::RawString) {
            self.line += lines(text);
        }
        token
    }

    fn error(&mut self, start: usize, message: impl Into<String>) -> Token<'a> {
        let line = self.line;
        // Nothing of the input is left to read after an error.
        self.input = "";
        self.pos = 0;
        self.inside = false;
        Token {
            kind: Kind::Error,
            pos: start,
            line,
            text: message.into().into(),
        }
    }

    /// Skips bytes that belong to no token.
    fn skip(&mut self, bytes: usize) {
        self.line += lines(&self.rest()[..bytes]);
        self.pos += bytes;
    }

    fn text(&mut self) -> Token<'a> {
        loop {
            let start = self.pos;
            let Some(at) = left_delimiter(self.rest()) else {
                self.pos = self.input.len();
                return if start < self.pos {
                    self.token(Kind::Text, start)
                } else {
                    Token {
                        kind: Kind::End,
                        pos: start,
                        line: self.line,
                        text: "EOF".into(),
                    }
                };
            };
            let trims = trims_left(&self.rest()[at + 2..]);
            if at > 0 {
                let before = &self.rest()[..at];
                let kept = if trims {
                    before.trim_end_matches(SPACES).len()
                } else {
                    at
                };
                self.pos += kept;
                let token = self.token(Kind::Text, start);
                self.skip(at - kept);
                if kept > 0 {
                    return token;
                }
            }
            let marker = if trims { 2 } else { 0 };
            if self.rest()[2 + marker..].starts_with("/*") {
                self.skip(2 + marker);
                if let Err(error) = self.comment() {
                    return error;
                }
                continue;
            }
            let start = self.pos;
            self.pos += 2;
            let token = self.token(Kind::LeftDelim, start);
            self.skip(marker);
            self.inside = true;
            self.parens = 0;
            return token;
        }
    }

    fn comment(&mut self) -> Result<(), Token<'a>> {
        let start = self.pos;
        let Some(end) = self.rest()[2..].find("*/") else {
            return Err(self.error(start, "unclosed comment"));
        };
        let after = &self.rest()[2 + end + 2..];
        let (delimiter, trims) = right_delimiter(after);
        if delimiter == 0 {
            return Err(self.error(start, "comment ends before closing delimiter"));
        }
        self.skip(2 + end + 2 + delimiter);
        if trims {
            self.skip_spaces();
        }
        Ok(())
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches(SPACES).len());
    }

    fn action(&mut self) -> Token<'a> {
        let start = self.pos;
        let (delimiter, trims) = right_delimiter(self.rest());
        if delimiter > 0 {
            return self.close(delimiter, trims);
        }
        let Some(c) = self.rest().chars().next() else {
            return self.error(start, "unclosed action");
        };
        match c {
            _ if is_space(c) => self.space(start),
            '=' => self.take(1, Kind::Assign),
            ':' if self.rest().starts_with(":=") => self.take(2, Kind::Declare),
            ':' => self.error(start, "expected :="),
            '|' => self.take(1, Kind::Pipe),
            '"' => self.quoted(start, b'"', Kind::String, "unterminated quoted string"),
            '\'' => self.quoted(
                start,
                b'\'',
                Kind::CharConstant,
                "unterminated character constant",
            ),
            '`' => match self.rest()[1..].find('`') {
                Some(end) => self.take(end + 2, Kind::RawString),
                None => self.error(start, "unterminated raw quoted string"),
            },
            '$' => self.field(start, Kind::Variable),
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) && self.rest().len() > 1 => {
                self.field(start, Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => self.number(start),
            _ if is_name(c) => self.identifier(start),
            '(' => {
                self.parens += 1;
                self.take(1, Kind::LeftParen)
            }
            ')' if self.parens == 0 => self.error(start, "unexpected right paren"),
            ')' => {
                self.parens -= 1;
                self.take(1, Kind::RightParen)
            }
            ' '..='~' => self.take(1, Kind::Char),
            _ => self.error(start, format!("unrecognized character in action: {}", unicode(c))),
        }
    }

    fn take(&mut self, bytes: usize, kind: Kind) -> Token<'a> {
        let start = self.pos;
        self.pos += bytes;
        self.token(kind, start)
    }

    fn close(&mut self, delimiter: usize, trims: bool) -> Token<'a> {
        if self.parens > 0 {
            return self.error(self.pos, "unclosed left paren");
        }
        self.skip(delimiter - 2);
        let token = self.take(2, Kind::RightDelim);
        if trims {
            self.skip_spaces();
        }
        self.inside = false;
        token
    }

    fn space(&mut self, start: usize) -> Token<'a> {
        let rest = self.rest();
        let mut length = rest.len() - rest.trim_start_matches(is_space).len();
        // The last blank may belong to a trim marker.
        let (delimiter, _) = right_delimiter(&rest[length - 1..]);
        if delimiter == 4 {
            length -= 1;
            if length == 0 {
                return self.close(4, true);
            }
        }
        let _ = start;
        self.take(length, Kind::Space)
    }

    fn quoted(&mut self, start: usize, quote: u8, kind: Kind, unterminated: &str) -> Token<'a> {
        let mut escaped = false;
        for (at, byte) in self.rest().bytes().enumerate().skip(1) {
            match byte {
                b'\n' => break,
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                _ if byte == quote => return self.take(at + 1, kind),
                _ => {}
            }
        }
        self.error(start, unterminated)
    }

    fn field(&mut self, start: usize, kind: Kind) -> Token<'a> {
        let name = &self.rest()[1..];
        let length = word(name);
        if let Err(bad) = terminator(&name[length..]) {
            return self.error(start, format!("bad character {}", unicode(bad)));
        }
        let kind = if length == 0 && kind == Kind::Field {
            Kind::Dot
        } else {
            kind
        };
        self.take(1 + length, kind)
    }

    fn identifier(&mut self, start: usize) -> Token<'a> {
        let rest = self.rest();
        let length = word(rest);
        if let Err(bad) = terminator(&rest[length..]) {
            return self.error(start, format!("bad character {}", unicode(bad)));
        }
        let kind = match &rest[..length] {
            "true" | "false" => Kind::Bool,
            word => Keyword::of(word).map_or(Kind::Identifier, Kind::Keyword),
        };
        self.take(length, kind)
    }

    fn number(&mut self, start: usize) -> Token<'a> {
        let (mut length, mut fits) = scan_number(self.rest());
        let mut kind = Kind::Number;
        if fits && self.rest()[length..].starts_with(['+', '-']) {
            let (imaginary, also_fits) = scan_number(&self.rest()[length..]);
            length += imaginary;
            fits = also_fits && self.rest()[..length].ends_with('i');
            kind = Kind::Complex;
        }
        if !fits {
            let bad = super::quote::quote(&self.rest()[..length]);
            return self.error(start, format!("bad number syntax: {bad}"));
        }
        self.take(length, kind)
    }
}

/// Returns how many bytes a number takes, and whether it ends there; if not, what follows is counted in.
fn scan_number(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let mut at = usize::from(text.starts_with(['+', '-']));
    let mut digits: fn(u8) -> bool = |byte| byte.is_ascii_digit() || byte == b'_';
    let mut exponent: &[u8] = b"eE";
    if bytes.get(at) == Some(&b'0') {
        at += 1;
        match bytes.get(at) {
            Some(b'x' | b'X') => {
                (digits, exponent) = (|byte: u8| byte.is_ascii_hexdigit() || byte == b'_', b"pP")
            }
            Some(b'o' | b'O') => (digits, exponent) = (|byte: u8| matches!(byte, b'0'..=b'7' | b'_'), b""),
            Some(b'b' | b'B') => (digits, exponent) = (|byte: u8| matches!(byte, b'0' | b'1' | b'_'), b""),
            _ => at -= 1,
        }
        at += 1;
    }
    let run = |from: usize, digits: fn(u8) -> bool| {
        from + bytes[from..].iter().take_while(|byte| digits(**byte)).count()
    };
    at = run(at, digits);
    if bytes.get(at) == Some(&b'.') {
        at = run(at + 1, digits);
    }
    if bytes.get(at).is_some_and(|byte| exponent.contains(byte)) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        at = run(at, |byte| byte.is_ascii_digit() || byte == b'_');
    }
    at += usize::from(bytes.get(at) == Some(&b'i'));
    match text[at..].chars().next() {
        Some(c) if is_name(c) => (at + c.len_utf8(), false),
        _ => (at, true),
    }
}

/// Returns whether a name may end before `rest`; if not, the character in the way.
fn terminator(rest: &str) -> Result<(), char> {
    match rest.chars().next() {
        None => Ok(()),
        Some(c) if is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
        Some(_) if rest.starts_with("}}") => Ok(()),
        Some(c) => Err(c),
    }
}

/// Returns where the first left delimiter stands.
fn left_delimiter(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'{', bytes).find(|at| bytes.get(at + 1) == Some(&b'{'))
}

/// Returns the length of the letters, digits and underscores at the start.
fn word(text: &str) -> usize {
    let plain = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
    let length = text.bytes().take_while(plain).count();
    match text.as_bytes().get(length) {
        Some(byte) if !byte.is_ascii() => text.find(|c| !is_name(c)).unwrap_or(text.len()),
        _ => length,
    }
}

/// Returns the length of the right delimiter at the start, with its trim marker, and whether it trims.
fn right_delimiter(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    if bytes.len() >= 4 && is_space(char::from(bytes[0])) && &bytes[1..4] == b"-}}" {
        (4, true)
    } else if bytes.starts_with(b"}}") {
        (2, false)
    } else {
        (0, false)
    }
}

fn trims_left(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && bytes[0] == b'-' && is_space(char::from(bytes[1]))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn lines(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

fn unicode(c: char) -> String {
    let code = format!("U+{:04X}", u32::from(c));
    if is_print(c) {
        format!("{code} '{c}'")
    } else {
        code
    }
}
