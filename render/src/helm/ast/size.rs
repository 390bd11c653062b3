//! What a parsed template takes in memory.

use std::mem::size_of;
use std::rc::Rc;

use super::{Branch, Command, Expr, ExprKind, List, Node, Number, Pipe, Tree};

/// What an allocation takes beside its content.
const BYTES_PER_ALLOCATION: usize = 16;

impl Tree {
    /// Returns how many bytes the tree takes, its source left out.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Tree>() + of_text(&self.name) + self.root.bytes()
    }
}

impl List {
    fn bytes(&self) -> usize {
        of_items(&self.nodes) + self.nodes.iter().map(Node::bytes).sum::<usize>()
    }
}

impl Node {
    fn bytes(&self) -> usize {
        match self {
            Node::Text(text) => of_text(text),
            Node::Action { pipe, .. } => pipe.bytes(),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => branch.bytes(),
            Node::Template {
                name, quoted, pipe, ..
            } => {
                let pipe = pipe.as_deref().map_or(0, |pipe| of_box::<Pipe>() + pipe.bytes());
                of_text(name) + of_text(quoted) + pipe
            }
            Node::Break | Node::Continue => 0,
        }
    }
}

impl Branch {
    fn bytes(&self) -> usize {
        let otherwise = self.otherwise.as_ref().map_or(0, List::bytes);
        of_box::<Branch>() + self.pipe.bytes() + self.list.bytes() + otherwise
    }
}

impl Pipe {
    fn bytes(&self) -> usize {
        of_texts(&self.declares)
            + of_items(&self.commands)
            + self.commands.iter().map(Command::bytes).sum::<usize>()
    }
}

impl Command {
    fn bytes(&self) -> usize {
        of_items(&self.args) + self.args.iter().map(Expr::bytes).sum::<usize>()
    }
}

impl Expr {
    fn bytes(&self) -> usize {
        match &self.kind {
            ExprKind::Dot | ExprKind::Nil | ExprKind::Bool(_) | ExprKind::Call(_) => 0,
            ExprKind::Number(number) => of_box::<Number>() + of_text(&number.text),
            ExprKind::String { quoted, text } => of_text(quoted) + of_text(text),
            ExprKind::Field(names) => of_texts(names),
            ExprKind::Variable { name, fields } => of_text(name) + of_texts(fields),
            ExprKind::Chain { base, fields } => of_box::<Expr>() + base.bytes() + of_texts(fields),
            ExprKind::Pipe(pipe) => of_box::<Pipe>() + pipe.bytes(),
        }
    }
}

fn of_box<T>() -> usize {
    size_of::<T>() + BYTES_PER_ALLOCATION
}

/// With the two counts in front of it.
fn of_text(text: &Rc<str>) -> usize {
    text.len() + 2 * size_of::<usize>() + BYTES_PER_ALLOCATION
}

fn of_texts(texts: &Vec<Rc<str>>) -> usize {
    of_items(texts) + texts.iter().map(of_text).sum::<usize>()
}

/// What a list has room for.
fn of_items<T>(items: &Vec<T>) -> usize {
    match items.capacity() {
        0 => 0,
        many => many * size_of::<T>() + BYTES_PER_ALLOCATION,
    }
}
