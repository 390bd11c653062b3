//! The tree of a parsed template. Each node knows where it starts and writes itself as Go's errors quote it.

mod size;

use std::fmt::{self, Display, Formatter, Write};
use std::rc::Rc;
use std::sync::Arc;

use super::funcs::Function;

/// A template's text and the name it was read under, for the line and column of an error.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Rc<str>,
    pub(super) text: Text,
}

/// The text of a template, shared with whoever has it already.
#[derive(Debug, Clone)]
pub(super) enum Text {
    /// A file of a chart, which is text as it is.
    File(Arc<[u8]>),
    /// What was made of one, or in a template.
    Made(Rc<str>),
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Text::File(bytes) => bytes,
            Text::Made(text) => text.as_bytes(),
        }
    }
}

impl Source {
    /// Returns name, line and column of a byte, as Go's errors have them.
    pub(super) fn location(&self, pos: usize) -> String {
        let text = self.text.as_bytes();
        let before = &text[..pos.min(text.len())];
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let column = match memchr::memrchr(b'\n', before) {
            Some(at) => pos - at - 1,
            None => pos,
        };
        format!("{}:{line}:{column}", self.name)
    }
}

/// A named template.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: Rc<str>,
    pub(super) source: Rc<Source>,
    pub(super) root: List,
}

impl Tree {
    /// Returns whether the template holds nothing but blanks, so that it replaces none.
    pub(super) fn is_empty(&self) -> bool {
        self.root
            .nodes
            .iter()
            .all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
    }
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) pos: usize,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(Rc<str>),
    Action {
        pos: usize,
        pipe: Pipe,
    },
    If(Box<Branch>),
    With(Box<Branch>),
    Range(Box<Branch>),
    Template {
        pos: usize,
        name: Rc<str>,
        quoted: Rc<str>,
        pipe: Option<Box<Pipe>>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pos: usize,
    pub(super) pipe: Pipe,
    pub(super) list: List,
    pub(super) otherwise: Option<List>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) pos: usize,
    /// Whether the variables exist already.
    pub(super) assigns: bool,
    pub(super) declares: Vec<Rc<str>>,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) pos: usize,
    pub(super) args: Vec<Expr>,
}

#[derive(Debug)]
pub(super) struct Expr {
    pub(super) pos: usize,
    pub(super) kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Box<Number>),
    String { quoted: Rc<str>, text: Rc<str> },
    Field(Vec<Rc<str>>),
    Variable { name: Rc<str>, fields: Vec<Rc<str>> },
    Call(&'static Function),
    Chain { base: Box<Expr>, fields: Vec<Rc<str>> },
    Pipe(Box<Pipe>),
}

/// A number literal with every Go kind that can hold it.
#[derive(Debug, Clone)]
pub(super) struct Number {
    pub(super) text: Rc<str>,
    pub(super) int: Option<i64>,
    pub(super) uint: Option<u64>,
    pub(super) float: Option<f64>,
    pub(super) complex: bool,
}

impl Display for List {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| node.fmt(f))
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Node::Text(text) => f.write_str(text),
            Node::Action { pipe, .. } => write!(f, "{{{{{pipe}}}}}"),
            Node::If(branch) => branch.write("if", f),
            Node::With(branch) => branch.write("with", f),
            Node::Range(branch) => branch.write("range", f),
            Node::Template {
                quoted, pipe: None, ..
            } => write!(f, "{{{{template {quoted}}}}}"),
            Node::Template {
                quoted,
                pipe: Some(pipe),
                ..
            } => write!(f, "{{{{template {quoted} {pipe}}}}}"),
            Node::Break => f.write_str("{{break}}"),
            Node::Continue => f.write_str("{{continue}}"),
        }
    }
}

impl Branch {
    fn write(&self, word: &str, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{{word} {}}}}}{}", self.pipe, self.list)?;
        if let Some(otherwise) = &self.otherwise {
            write!(f, "{{{{else}}}}{otherwise}")?;
        }
        f.write_str("{{end}}")
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, name) in self.declares.iter().enumerate() {
            write!(f, "{}{name}", if at > 0 { ", " } else { "" })?;
        }
        if !self.declares.is_empty() {
            f.write_str(if self.assigns { " = " } else { " := " })?;
        }
        for (at, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if at > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, arg) in self.args.iter().enumerate() {
            if at > 0 {
                f.write_char(' ')?;
            }
            arg.write_grouped(f)?;
        }
        Ok(())
    }
}

impl Expr {
    fn write_grouped(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.kind {
            ExprKind::Pipe(_) => write!(f, "({self})"),
            _ => self.fmt(f),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (base, fields): (&dyn Display, &[Rc<str>]) = match &self.kind {
            ExprKind::Dot => (&".", &[]),
            ExprKind::Nil => (&"nil", &[]),
            ExprKind::Bool(flag) => (flag, &[]),
            ExprKind::Number(number) => (&number.text, &[]),
            ExprKind::String { quoted, .. } => (quoted, &[]),
            ExprKind::Field(fields) => (&"", fields),
            ExprKind::Variable { name, fields } => (name, fields),
            ExprKind::Call(function) => (&function.name, &[]),
            ExprKind::Pipe(pipe) => (pipe, &[]),
            ExprKind::Chain { base, fields } => {
                base.write_grouped(f)?;
                (&"", fields)
            }
        };
        base.fmt(f)?;
        fields.iter().try_for_each(|field| write!(f, ".{field}"))
    }
}
