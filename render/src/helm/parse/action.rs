//! Parses actions: the words that control the flow, and the definitions and calls of templates.

use std::rc::Rc;

use super::{Ending, Item, Parser};
use crate::helm::ast::{Branch, List, Node};
use crate::helm::eval::{RED_ZONE, STACK_STEP};
use crate::helm::lex::{Keyword, Kind, Token};
use crate::helm::quote::quote;

impl<'a> Parser<'a> {
    pub(super) fn action(&mut self) -> Result<Item, String> {
        stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.parse_action())
    }

    fn parse_action(&mut self) -> Result<Item, String> {
        let token = self.next_non_space();
        let node = match token.kind {
            Kind::Keyword(Keyword::Block) => self.block()?,
            Kind::Keyword(Keyword::Break) => self.jump("{{break}}", Node::Break)?,
            Kind::Keyword(Keyword::Continue) => self.jump("{{continue}}", Node::Continue)?,
            Kind::Keyword(Keyword::Else) => return self.otherwise().map(Item::Ending),
            Kind::Keyword(Keyword::End) => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::Ending(Ending::End));
            }
            Kind::Keyword(Keyword::If) => Node::If(self.control("if")?),
            Kind::Keyword(Keyword::Range) => Node::Range(self.control("range")?),
            Kind::Keyword(Keyword::With) => Node::With(self.control("with")?),
            Kind::Keyword(Keyword::Template) => self.call_template()?,
            _ => {
                let pos = token.pos;
                self.push_back(token);
                Node::Action {
                    pos,
                    pipe: self.pipeline("command", Kind::RightDelim)?,
                }
            }
        };
        Ok(Item::Node(node))
    }

    fn jump(&mut self, word: &str, node: Node) -> Result<Node, String> {
        let token = self.next_non_space();
        if token.kind != Kind::RightDelim {
            return self.unexpected(&token, word);
        }
        if self.scope.ranges == 0 {
            return self.error(format!("{word} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn otherwise(&mut self) -> Result<Ending, String> {
        let peeked = self.peek_non_space();
        if let Kind::Keyword(word @ (Keyword::If | Keyword::With)) = peeked.kind {
            return Ok(Ending::Else {
                pos: peeked.pos,
                chains: Some(word),
            });
        }
        let token = self.expect(Kind::RightDelim, "else")?;
        Ok(Ending::Else {
            pos: token.pos,
            chains: None,
        })
    }

    fn control(&mut self, context: &'static str) -> Result<Box<Branch>, String> {
        let variables = self.scope.variables();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        self.scope.ranges += usize::from(context == "range");
        let (list, ending) = self.list()?;
        self.scope.ranges -= usize::from(context == "range");
        let otherwise = match ending {
            Ending::End => None,
            Ending::Else { pos, chains } => Some(self.else_list(context, pos, chains)?),
        };
        self.scope.leave(variables);
        Ok(Box::new(Branch {
            pos: pipe.pos,
            pipe,
            list,
            otherwise,
        }))
    }

    fn else_list(&mut self, context: &str, pos: usize, chains: Option<Keyword>) -> Result<List, String> {
        let chained = match (context, chains) {
            ("if", Some(Keyword::If)) => Some(Node::If as fn(Box<Branch>) -> Node),
            ("with", Some(Keyword::With)) => Some(Node::With as fn(Box<Branch>) -> Node),
            _ => None,
        };
        if let Some(node) = chained {
            self.next();
            self.enter()?;
            let word = if context == "if" { "if" } else { "with" };
            let branch = stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.control(word))?;
            self.depth -= 1;
            return Ok(List {
                pos,
                nodes: vec![node(branch)],
            });
        }
        let (list, ending) = self.list()?;
        match ending {
            Ending::End => Ok(list),
            Ending::Else { .. } => self.error(format!("expected end; found {}", ending.text())),
        }
    }

    fn block(&mut self) -> Result<Node, String> {
        let context = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        self.body(name.clone(), context)?;
        Ok(Node::Template {
            pos: token.pos,
            quoted: quote(&name).into(),
            name,
            pipe: Some(Box::new(pipe)),
        })
    }

    fn call_template(&mut self) -> Result<Node, String> {
        let context = "template clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, context)?;
        let after = self.next_non_space();
        let mut pipe = None;
        if after.kind != Kind::RightDelim {
            self.push_back(after);
            pipe = Some(Box::new(self.pipeline(context, Kind::RightDelim)?));
        }
        Ok(Node::Template {
            pos: token.pos,
            quoted: quote(&name).into(),
            name,
            pipe,
        })
    }

    fn template_name(&mut self, token: &Token<'a>, context: &str) -> Result<Rc<str>, String> {
        if matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unquoted(token);
        }
        self.unexpected(token, context)
    }
}
