//! Parses a template into trees: one for the text itself and one for each `define` and `block` in it. Errors
//! are worded as Go words them.

mod action;
mod number;

mod pipeline;
mod scope;
mod tokens;

use std::collections::HashMap;
use std::rc::Rc;

use super::ast::{List, Node, Source, Text, Tree};
use super::lex::{Keyword, Kind, Lexer, Token};
use super::quote::{quote, unquote};
use scope::Scope;

/// Nested blocks and parentheses; Go allows ten thousand parentheses, no template has fifty.
const MAX_DEPTH: usize = 500;

/// Returns the trees of `text`, of which they keep `kept` for the places of errors: first the definitions as they end,
/// last the text itself.
///
/// # Errors
///
/// Go's text: `template: NAME:LINE: what is wrong`.
pub(super) fn parse(name: &Rc<str>, text: &str, kept: Text) -> Result<Vec<Tree>, String> {
    let source = Rc::new(Source {
        name: name.clone(),
        text: kept,
    });
    let mut parser = Parser {
        source,
        lexer: Lexer::new(text),
        pushed: Vec::new(),
        line: 1,
        action_line: 0,
        scope: Scope::default(),
        trees: Vec::new(),
        named: HashMap::new(),
        depth: 0,
    };
    parser.template(name)?;
    Ok(parser.trees)
}

/// What each byte of an action takes in memory at most, parsed.
const BYTES_PER_BYTE: usize = 48;

/// Returns how many bytes of memory the trees of a text take at most; [`Tree::bytes`] says how many they do take.
pub(super) fn room(text: &str) -> usize {
    let mut actions = 0;
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        rest = &rest[open..];
        // Nothing is kept of a comment.
        let after = rest["{{".len()..]
            .strip_prefix('-')
            .map_or(&rest["{{".len()..], str::trim_start);
        let is_comment = after.starts_with("/*");
        let close = if is_comment { "*/" } else { "}}" };
        let length = rest.find(close).map_or(rest.len(), |at| at + close.len());
        actions += if is_comment { 0 } else { length };
        rest = &rest[length..];
    }
    // What stands between actions is kept as it is.
    text.len() + actions * BYTES_PER_BYTE
}

struct Parser<'a> {
    source: Rc<Source>,
    lexer: Lexer<'a>,
    pushed: Vec<Token<'a>>,
    /// The line of the token read last, which errors name.
    line: usize,
    action_line: usize,
    scope: Scope,
    trees: Vec<Tree>,
    /// Where the tree of each name is.
    named: HashMap<Rc<str>, Named>,
    depth: usize,
}

/// A tree that was parsed.
struct Named {
    at: usize,
    is_empty: bool,
}

/// What ends a list of nodes.
enum Ending {
    End,
    Else { pos: usize, chains: Option<Keyword> },
}

impl Ending {
    fn text(&self) -> &'static str {
        match self {
            Ending::End => "{{end}}",
            Ending::Else { .. } => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Ending(Ending),
}

impl<'a> Parser<'a> {
    fn template(&mut self, name: &Rc<str>) -> Result<(), String> {
        let pos = self.peek().pos;
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::End {
            if self.peek().kind == Kind::LeftDelim {
                let delimiter = self.next();
                let token = self.next_non_space();
                if token.kind == Kind::Keyword(Keyword::Define) {
                    self.definition()?;
                    continue;
                }
                self.push_back(token);
                self.push_back(delimiter);
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => return self.error(format!("unexpected {}", ending.text())),
            }
        }
        nodes.shrink_to_fit();
        self.add(Tree {
            name: name.clone(),
            source: self.source.clone(),
            root: List { pos, nodes },
        })
    }

    fn add(&mut self, tree: Tree) -> Result<(), String> {
        let is_empty = tree.is_empty();
        let Some(known) = self.named.get_mut(&tree.name) else {
            let at = self.trees.len();
            self.named.insert(tree.name.clone(), Named { at, is_empty });
            self.trees.push(tree);
            return Ok(());
        };
        if known.is_empty {
            known.is_empty = is_empty;
            self.trees[known.at] = tree;
        } else if !is_empty {
            let name = quote(&tree.name);
            return self.error(format!("template: multiple definition of template {name}"));
        }
        Ok(())
    }

    fn definition(&mut self) -> Result<(), String> {
        let context = "define clause";
        let token = self.next_non_space();
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unexpected(&token, context);
        }
        let name = self.unquoted(&token)?;
        self.expect(Kind::RightDelim, context)?;
        self.body(name, context)
    }

    /// Parses a definition's nodes in a scope of their own, up to its end.
    fn body(&mut self, name: Rc<str>, context: &str) -> Result<(), String> {
        let outer = std::mem::take(&mut self.scope);
        // A definition inside an action starts without one.
        let action_line = std::mem::take(&mut self.action_line);
        let (root, ending) = self.list()?;
        if !matches!(ending, Ending::End) {
            return self.error(format!("unexpected {} in {context}", ending.text()));
        }
        self.add(Tree {
            name,
            source: self.source.clone(),
            root,
        })?;
        self.scope = outer;
        self.action_line = action_line;
        Ok(())
    }

    fn unquoted(&self, token: &Token<'_>) -> Result<Rc<str>, String> {
        let inner = token
            .text
            .get(1..token.text.len().saturating_sub(1))
            .unwrap_or_default();
        if !inner.contains(['\\', '\r', '"', '\n']) {
            return Ok(inner.into());
        }
        unquote(&token.text).map_or_else(|| self.error("invalid syntax"), |text| Ok(text.into()))
    }

    fn list(&mut self) -> Result<(List, Ending), String> {
        self.enter()?;
        let pos = self.peek_non_space().pos;
        let mut nodes = Vec::new();
        while self.peek_non_space().kind != Kind::End {
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => {
                    self.depth -= 1;
                    nodes.shrink_to_fit();
                    return Ok((List { pos, nodes }, ending));
                }
            }
        }
        self.error("unexpected EOF")
    }

    fn item(&mut self) -> Result<Item, String> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text((&*token.text).into()))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action();
                self.action_line = 0;
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }
}
