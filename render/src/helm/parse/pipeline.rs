//! Parses pipelines: declarations, commands and operands.

use std::rc::Rc;

use super::Parser;
use super::number::number;
use crate::helm::ast::{Command, Expr, ExprKind, Pipe};
use crate::helm::eval::{RED_ZONE, STACK_STEP};
use crate::helm::funcs;
use crate::helm::lex::{Keyword, Kind, Token};
use crate::helm::quote::quote;

impl Parser<'_> {
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.parse_pipeline(context, end))
    }

    fn parse_pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe {
            pos,
            assigns: false,
            declares: Vec::new(),
            commands: Vec::with_capacity(1),
        };
        while self.declaration(&mut pipe, context)? {}
        loop {
            let token = self.next_non_space();
            if token.kind == end {
                return self.checked(pipe, context);
            }
            match token.kind {
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Keyword(Keyword::Nil)
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.push_back(token);
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    /// Takes one variable that the pipeline declares or assigns; returns whether another may follow.
    fn declaration(&mut self, pipe: &mut Pipe, context: &str) -> Result<bool, String> {
        if self.peek_non_space().kind != Kind::Variable {
            return Ok(false);
        }
        let variable = self.next();
        let after = self.next();
        let spaced = after.kind == Kind::Space;
        let (next, space) = if spaced {
            (self.next_non_space(), Some(after))
        } else {
            (after, None)
        };
        match next.kind {
            Kind::Assign | Kind::Declare => {
                pipe.assigns = next.kind == Kind::Assign;
                self.declare(pipe, &variable);
                Ok(false)
            }
            Kind::Char if next.text == "," => {
                self.declare(pipe, &variable);
                if context != "range" || pipe.declares.len() >= 2 {
                    return self.error(format!("too many declarations in {context}"));
                }
                match self.peek_non_space().kind {
                    Kind::Variable | Kind::RightDelim | Kind::RightParen => Ok(true),
                    _ => self.error("range can only initialize variables"),
                }
            }
            _ => {
                self.push_back(next);
                if let Some(space) = space {
                    self.push_back(space);
                }
                self.push_back(variable);
                Ok(false)
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, variable: &Token<'_>) {
        let name: Rc<str> = (&*variable.text).into();
        pipe.declares.push(name.clone());
        self.scope.declare(name);
    }

    fn checked(&self, pipe: Pipe, context: &str) -> Result<Pipe, String> {
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (at, command) in pipe.commands.iter().enumerate().skip(1) {
            if let Some(
                ExprKind::Bool(_)
                | ExprKind::Dot
                | ExprKind::Nil
                | ExprKind::Number(_)
                | ExprKind::String { .. },
            ) = command.args.first().map(|arg| &arg.kind)
            {
                return self.error(format!("non executable command in pipeline stage {}", at + 1));
            }
        }
        Ok(pipe)
    }

    fn command(&mut self) -> Result<Command, String> {
        let pos = self.peek_non_space().pos;
        let mut args = Vec::new();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.push_back(token),
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if args.is_empty() {
            return self.error("empty command");
        }
        // Most have one, and there are many.
        args.shrink_to_fit();
        Ok(Command { pos, args })
    }

    fn operand(&mut self) -> Result<Option<Expr>, String> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut fields: Vec<Rc<str>> = Vec::new();
        while self.peek().kind == Kind::Field {
            let field = self.next();
            fields.push(field.text[1..].into());
        }
        let kind = match term.kind {
            ExprKind::Field(mut first) => {
                first.extend(fields);
                ExprKind::Field(first)
            }
            ExprKind::Variable {
                name,
                fields: mut first,
            } => {
                first.extend(fields);
                ExprKind::Variable { name, fields: first }
            }
            ExprKind::Bool(_)
            | ExprKind::String { .. }
            | ExprKind::Number(_)
            | ExprKind::Nil
            | ExprKind::Dot => {
                let term = quote(&term.to_string());
                return self.error(format!("unexpected . after term {term}"));
            }
            _ => ExprKind::Chain {
                base: Box::new(term),
                fields,
            },
        };
        Ok(Some(Expr { pos, kind }))
    }

    fn term(&mut self) -> Result<Option<Expr>, String> {
        let token = self.next_non_space();
        let kind = match token.kind {
            Kind::Identifier => match funcs::find(&token.text) {
                Some(function) => ExprKind::Call(function),
                None => return self.error(format!("function {} not defined", quote(&token.text))),
            },
            Kind::Dot => ExprKind::Dot,
            Kind::Keyword(Keyword::Nil) => ExprKind::Nil,
            Kind::Variable => self.variable(&token)?,
            Kind::Field => ExprKind::Field(vec![token.text[1..].into()]),
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => match number(&token) {
                Ok(number) => ExprKind::Number(Box::new(number)),
                Err(message) => return self.error(message),
            },
            Kind::LeftParen => {
                self.enter()?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                let pos = pipe.pos;
                return Ok(Some(Expr {
                    pos,
                    kind: ExprKind::Pipe(Box::new(pipe)),
                }));
            }
            Kind::String | Kind::RawString => ExprKind::String {
                text: self.unquoted(&token)?,
                quoted: (&*token.text).into(),
            },
            _ => {
                self.push_back(token);
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos: token.pos, kind }))
    }

    fn variable(&mut self, token: &Token<'_>) -> Result<ExprKind, String> {
        let name: Rc<str> = (&*token.text).into();
        if !self.scope.knows(&name) {
            return self.error(format!("undefined variable {}", quote(&name)));
        }
        Ok(ExprKind::Variable {
            name,
            fields: Vec::new(),
        })
    }
}
