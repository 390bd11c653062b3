//! The parser's view of the tokens: looking ahead, putting back, and the errors that name a line.

use super::{MAX_DEPTH, Parser};
use crate::helm::lex::{Kind, Token};

impl<'a> Parser<'a> {
    pub(super) fn next(&mut self) -> Token<'a> {
        self.pushed.pop().unwrap_or_else(|| {
            let token = self.lexer.next();
            self.line = token.line;
            token
        })
    }

    pub(super) fn push_back(&mut self, token: Token<'a>) {
        self.pushed.push(token);
    }

    pub(super) fn peek(&mut self) -> &Token<'a> {
        if self.pushed.is_empty() {
            let token = self.next();
            self.pushed.push(token);
        }
        self.pushed
            .last()
            .unwrap_or_else(|| unreachable!("a token was just pushed"))
    }

    pub(super) fn next_non_space(&mut self) -> Token<'a> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    pub(super) fn peek_non_space(&mut self) -> &Token<'a> {
        while self.peek().kind == Kind::Space {
            self.pushed.pop();
        }
        self.peek()
    }

    pub(super) fn error<T>(&self, message: impl AsRef<str>) -> Result<T, String> {
        Err(format!(
            "template: {}:{}: {}",
            self.source.name,
            self.line,
            message.as_ref()
        ))
    }

    pub(super) fn unexpected<T>(&self, token: &Token<'_>, context: &str) -> Result<T, String> {
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {} in {context}", token.describe()));
        }
        let mut extra = String::new();
        if self.action_line != 0 && self.action_line != token.line {
            extra = format!(" in action started at {}:{}", self.source.name, self.action_line);
            if token.text.ends_with(" action") {
                extra = extra[" in action".len()..].to_owned();
            }
        }
        self.error(format!("{}{extra}", token.text))
    }

    pub(super) fn expect(&mut self, kind: Kind, context: &str) -> Result<Token<'a>, String> {
        let token = self.next_non_space();
        if token.kind == kind {
            Ok(token)
        } else {
            self.unexpected(&token, context)
        }
    }

    pub(super) fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("max expression depth exceeded");
        }
        Ok(())
    }
}
