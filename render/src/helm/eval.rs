//! Evaluates a parsed template as Go's text/template does, within a budget of steps, depth and output.

mod call;
mod charge;
mod control;
mod held;
mod pipeline;

pub(super) use charge::Walk;
use held::Held;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Display;
use std::rc::{Rc, Weak};

use super::ast::{Expr, Tree};
use super::context::{Context, Random, Reads};
use super::exec_error::{ExecError, Level};
use super::value::{Shared, Val};

/// How deep templates, blocks and pipelines may be nested together while they run.
const MAX_DEPTH: usize = 40_000;
/// How much stack must be left before more is taken.
pub(super) const RED_ZONE: usize = 128 * 1024;
pub(super) const STACK_STEP: usize = 4 * 1024 * 1024;
/// How many steps are taken before the caller is asked whether to stop.
const ASK_EVERY: u64 = 4096;

/// Templates by name; a `tpl` adds its own over those it can see.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) outer: Option<Rc<Set>>,
    pub(super) trees: HashMap<Rc<str>, Rc<Tree>>,
    /// What its trees take, where that is counted while it is there: those of a text, and not of the chart.
    pub(super) _taken: Option<Taken>,
}

/// Bytes of memory that are counted until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.set(self.all.get().saturating_sub(self.bytes));
    }
}

impl Set {
    pub(super) fn get(&self, name: &str) -> Option<&Rc<Tree>> {
        let mut set = self;
        loop {
            match set.trees.get(name) {
                Some(tree) => return Some(tree),
                None => set = set.outer.as_ref()?,
            }
        }
    }

    /// Adds a template; one that holds nothing replaces none.
    pub(super) fn add(&mut self, tree: Tree) {
        if tree.is_empty() && self.get(&tree.name).is_some() {
            return;
        }
        self.trees.insert(tree.name.clone(), Rc::new(tree));
    }
}

/// What a rendering keeps while it runs.
pub(super) struct Interp<'c> {
    pub(super) context: &'c Context,
    pub(super) set: Rc<Set>,
    pub(super) out: String,
    pub(super) reads: Reads,
    pub(super) random: Random,
    /// `$`, the variable that every template begins with.
    root_name: Rc<str>,
    /// How many texts are being evaluated within each other.
    pub(super) evaluating: u32,
    /// How often each template is being included.
    pub(super) included: HashMap<Rc<str>, u32>,
    pub(super) parsed: HashMap<Rc<str>, Rc<Set>>,
    /// What it takes: the texts, and what they were parsed to.
    pub(super) parsed_bytes: usize,
    /// What the trees of texts take that are kept or run. Those of the chart have a bound of their own.
    trees: Rc<Cell<usize>>,
    pub(super) fuel: u64,
    /// Steps until the caller is asked whether to stop.
    until_asked: u64,
    /// Bytes that functions made, which output alone does not bound.
    pub(super) made: usize,
    /// The maps and lists among what they made.
    held: Held,
    /// Maps that were given other maps or lists, which may hold them in turn.
    pub(super) holders: Vec<Weak<Shared>>,
    depth: usize,
}

/// A value and whether it still sits in an interface, as items of lists and maps do: errors name its type so.
#[derive(Clone)]
pub(super) struct Dot {
    pub(super) value: Val,
    pub(super) boxed: bool,
}

impl Dot {
    fn plain(value: Val) -> Dot {
        Dot { value, boxed: false }
    }

    fn type_name(&self) -> &'static str {
        if self.boxed {
            "interface {}"
        } else {
            self.value.type_name()
        }
    }
}

/// One template being executed.
struct Frame<'t> {
    tree: &'t Tree,
    variables: Vec<(Rc<str>, Dot)>,
    /// The node that an error names, and where it starts.
    at: (usize, &'t dyn Display),
}

impl Frame<'_> {
    /// Returns an error at the node that is executed.
    fn level(&self, message: impl Display) -> Level {
        let (pos, node) = &self.at;
        Level::executing((&self.tree.source, *pos), &self.tree.name, node, message)
    }
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// A function's arguments as written, and what the pipeline adds.
struct Args<'t> {
    written: &'t [Expr],
    last: Option<Dot>,
}

impl<'t> Args<'t> {
    const NONE: Args<'static> = Args {
        written: &[],
        last: None,
    };

    fn given(&self) -> bool {
        !self.written.is_empty() || self.last.is_some()
    }
}

type Outcome<T> = Result<T, Box<ExecError>>;

impl Drop for Interp<'_> {
    /// Empties maps that hold themselves, which would never be freed.
    fn drop(&mut self) {
        for holder in self.holders.drain(..) {
            if let Some(map) = holder.upgrade() {
                drop(map.take());
            }
        }
    }
}

impl<'c> Interp<'c> {
    pub(super) fn new(context: &'c Context, set: Rc<Set>) -> Self {
        Interp {
            context,
            set,
            out: String::new(),
            reads: Reads::default(),
            random: Random::default(),
            root_name: "$".into(),
            evaluating: 0,
            included: HashMap::new(),
            parsed: HashMap::new(),
            parsed_bytes: 0,
            trees: Rc::default(),
            until_asked: ASK_EVERY,
            fuel: context.limits.steps,
            made: 0,
            held: Held::default(),
            holders: Vec::new(),
            depth: 0,
        }
    }

    /// Executes the template, and appends what it writes to the output.
    pub(super) fn execute(&mut self, tree: &Rc<Tree>, data: Val) -> Outcome<()> {
        self.run(tree, Dot::plain(data))
    }

    fn run(&mut self, tree: &Rc<Tree>, data: Dot) -> Outcome<()> {
        let tree = Rc::clone(tree);
        let mut frame = Frame {
            tree: &tree,
            variables: vec![(self.root_name.clone(), data.clone())],
            at: (tree.root.pos, &tree.root),
        };
        self.list(&mut frame, &data, &tree.root).map(|_| ())
    }

    fn fail<T>(&self, frame: &Frame<'_>, message: impl Display) -> Outcome<T> {
        Err(ExecError::new(frame.level(message)))
    }

    /// Takes out what was written from a place on.
    pub(super) fn take_output(&mut self, start: usize) -> String {
        if start > 0 {
            return self.out.split_off(start);
        }
        // Splitting all of it off would make room for as much again.
        let mut all = std::mem::take(&mut self.out);
        all.shrink_to_fit();
        all
    }

    /// Counts what trees take until what is returned is dropped.
    pub(super) fn take_trees(&self, bytes: usize) -> Taken {
        self.trees.set(self.trees.get().saturating_add(bytes));
        Taken {
            bytes,
            all: self.trees.clone(),
        }
    }

    /// Counts a step, and enters a level that [`Interp::leave`] leaves.
    fn enter(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(frame, format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.step(frame)
    }

    /// Takes the steps of work that lasts far longer than a node's.
    pub(super) fn charge(&mut self, steps: u64) -> Outcome<()> {
        self.take(steps).map_err(ExecError::plain)
    }

    /// Takes steps, and asks the caller in time whether to stop; returns why it is not to go on.
    fn take(&mut self, count: u64) -> Result<(), String> {
        match self.fuel.checked_sub(count) {
            Some(left) => self.fuel = left,
            None => return Err(self.context.no_more_steps()),
        }
        self.ask(count)
    }

    /// Lets the caller stop in work that may last as long as so many steps, and for which none is taken.
    pub(super) fn pause(&mut self, steps: u64) -> Outcome<()> {
        self.ask(steps).map_err(ExecError::plain)
    }

    fn ask(&mut self, count: u64) -> Result<(), String> {
        match self.until_asked.checked_sub(count) {
            Some(left) => self.until_asked = left,
            None => {
                self.until_asked = ASK_EVERY;
                self.context.go_on()?;
            }
        }
        Ok(())
    }

    /// Returns how many steps may still be taken.
    pub(super) fn steps_left(&self) -> u64 {
        self.fuel
    }

    fn step(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        self.steps(frame, 1)
    }

    /// Makes sure that there is room for so many bytes more, which a function is about to make.
    pub(super) fn room(&self, bytes: usize) -> Outcome<()> {
        self.has_room(bytes).map_err(ExecError::plain)
    }

    /// Counts bytes that a function has made, and fails where they are more than is allowed.
    pub(super) fn make(&mut self, bytes: usize) -> Outcome<()> {
        self.made = self.made.saturating_add(bytes);
        self.room(0)
    }

    /// Makes sure that there is room for so many bytes more, which the trees of a text are going to take.
    pub(super) fn room_for_trees(&self, bytes: usize) -> Outcome<()> {
        match self.is_over(bytes) {
            true => Err(ExecError::plain(self.context.no_more_bytes_with_trees())),
            false => Ok(()),
        }
    }

    /// Returns why so many bytes more are more than output and values may take.
    fn has_room(&self, bytes: usize) -> Result<(), String> {
        match self.is_over(bytes) {
            true if self.trees.get() > 0 => Err(self.context.no_more_bytes_with_trees()),
            true => Err(self.context.no_more_bytes()),
            false => Ok(()),
        }
    }

    fn is_over(&self, bytes: usize) -> bool {
        let counted = [self.out.len(), self.made, self.trees.get(), bytes];
        counted.into_iter().fold(0, usize::saturating_add) > self.context.limits.bytes
    }

    fn steps(&mut self, frame: &Frame<'_>, count: u64) -> Outcome<()> {
        let taken = self.take(count).and_then(|()| self.has_room(0));
        taken.or_else(|why| self.fail(frame, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_looked_for_in_many_sets_without_a_stack() {
        let mut set = Rc::new(Set::default());
        for _ in 0..200_000 {
            set = Rc::new(Set {
                outer: Some(set),
                ..Set::default()
            });
        }
        assert!(set.get("absent").is_none());
        // Freed one by one, as templates never nest so deep that freeing them takes much of a stack.
        while let Some(outer) = Rc::into_inner(set).and_then(|set| set.outer) {
            set = outer;
        }
    }
}
