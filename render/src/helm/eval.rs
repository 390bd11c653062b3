//! Evaluates a parsed template as Go's text/template does, within a budget of steps, depth and output.

use std::collections::HashMap;
use std::fmt::Display;
use std::rc::Rc;

use super::ast::{Branch, Command, Expr, ExprKind, List, Node, Number, Pipe, Tree};
use super::context::{Context, Random, Reads};
use super::fault::Fault;
use super::funcs::{Function, Run};
use super::print;
use super::quote::quote;
use super::value::{Items, MapKind, Val};

/// How deep templates, blocks and pipelines may be nested together while they run.
const MAX_DEPTH: usize = 40_000;
/// How much stack must be left before more is taken.
pub(super) const RED_ZONE: usize = 128 * 1024;
pub(super) const STACK_STEP: usize = 4 * 1024 * 1024;

/// Templates by name; a `tpl` adds its own over those it can see.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) outer: Option<Rc<Set>>,
    pub(super) trees: HashMap<Rc<str>, Rc<Tree>>,
}

impl Set {
    pub(super) fn get(&self, name: &str) -> Option<&Rc<Tree>> {
        self.trees.get(name).or_else(|| self.outer.as_ref()?.get(name))
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
    /// How often each template is being included.
    pub(super) included: HashMap<Rc<str>, u32>,
    pub(super) parsed: HashMap<Rc<str>, Rc<Set>>,
    pub(super) fuel: u64,
    /// Bytes that functions made, which output alone does not bound.
    pub(super) made: usize,
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

type Outcome<T> = Result<T, Box<Fault>>;

impl<'c> Interp<'c> {
    pub(super) fn new(context: &'c Context, set: Rc<Set>) -> Self {
        Interp {
            context,
            set,
            out: String::new(),
            reads: Reads::default(),
            random: Random::default(),
            included: HashMap::new(),
            parsed: HashMap::new(),
            fuel: context.limits.steps,
            made: 0,
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
            variables: vec![("$".into(), data.clone())],
            at: (tree.root.pos, &tree.root),
        };
        self.list(&mut frame, &data, &tree.root).map(|_| ())
    }

    fn fail<T>(&self, frame: &Frame<'_>, message: impl Display) -> Outcome<T> {
        Err(self.fault(frame, message, None))
    }

    fn fault(&self, frame: &Frame<'_>, message: impl Display, cause: Option<Box<Fault>>) -> Box<Fault> {
        let (pos, node) = &frame.at;
        let location = frame.tree.source.location(*pos);
        let name = quote(&frame.tree.name);
        let text = format!("template: {location}: executing {name} at <{node}>: {message}");
        Box::new(Fault {
            text,
            executing: true,
            cause,
        })
    }

    /// Counts a step, and enters a level that [`Interp::leave`] leaves.
    fn enter(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(frame, format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.step(frame)
    }

    fn step(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        match self.fuel.checked_sub(1) {
            Some(left) => self.fuel = left,
            None => return self.fail(frame, format!("more than {} steps", self.context.limits.steps)),
        }
        if self.out.len() + self.made > self.context.limits.bytes {
            return self.fail(
                frame,
                format!("more than {} bytes of output", self.context.limits.bytes),
            );
        }
        Ok(())
    }

    fn list<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, list: &'t List) -> Outcome<Flow> {
        frame.at = (list.pos, list);
        self.enter(frame)?;
        let flow = stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.nodes(frame, dot, &list.nodes));
        self.depth -= 1;
        flow
    }

    fn nodes<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, nodes: &'t [Node]) -> Outcome<Flow> {
        for node in nodes {
            match self.node(frame, dot, node)? {
                Flow::On => {}
                jump => return Ok(jump),
            }
        }
        Ok(Flow::On)
    }

    fn node<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, node: &'t Node) -> Outcome<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action { pos, pipe } => {
                let value = self.pipeline(frame, dot, pipe)?;
                if pipe.declares.is_empty() {
                    frame.at = (*pos, node);
                    match &value.value {
                        Val::Str(text) => self.out.push_str(text),
                        Val::Invalid => self.out.push_str("<no value>"),
                        value => print::append(value, &mut self.out),
                    }
                }
            }
            Node::If(branch) => return self.branch(frame, dot, branch, false),
            Node::With(branch) => return self.branch(frame, dot, branch, true),
            Node::Range(branch) => {
                frame.at = (branch.pos, node);
                return self.range(frame, dot, branch);
            }
            Node::Template { pos, name, pipe, .. } => {
                frame.at = (*pos, node);
                self.template(frame, dot, name, pipe.as_ref())?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn branch<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        branch: &'t Branch,
        with: bool,
    ) -> Outcome<Flow> {
        let mark = frame.variables.len();
        let value = self.pipeline(frame, dot, &branch.pipe)?;
        let flow = if value.value.truth() {
            self.list(frame, if with { &value } else { dot }, &branch.list)
        } else if let Some(otherwise) = &branch.otherwise {
            self.list(frame, dot, otherwise)
        } else {
            Ok(Flow::On)
        };
        frame.variables.truncate(mark);
        flow
    }

    fn range<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, branch: &'t Branch) -> Outcome<Flow> {
        let outer = frame.variables.len();
        let over = self.pipeline(frame, dot, &branch.pipe)?.value;
        let ran = self.iterate(frame, branch, &over)?;
        let flow = match (&branch.otherwise, ran) {
            (Some(otherwise), false) => self.list(frame, dot, otherwise),
            _ => Ok(Flow::On),
        };
        frame.variables.truncate(outer);
        flow
    }

    /// Runs the body for every item; returns whether there was one.
    fn iterate<'t>(&mut self, frame: &mut Frame<'t>, branch: &'t Branch, over: &Val) -> Outcome<bool> {
        match over {
            Val::Invalid | Val::Nil => Ok(false),
            Val::List(list) => {
                for (at, item) in list.items.iter().enumerate() {
                    let item = Dot {
                        value: item.clone(),
                        boxed: list.of == Items::Any,
                    };
                    if self.once(frame, branch, Val::Int(at as i64), item)? == Flow::Break {
                        break;
                    }
                }
                Ok(!list.items.is_empty())
            }
            Val::Map(map) => {
                // The body may change the map; Go takes its entries before it starts.
                let entries: Vec<_> = map
                    .entries
                    .borrow()
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                let boxed = map.kind != MapKind::Strings;
                let some = !entries.is_empty();
                for (key, value) in entries {
                    if self.once(frame, branch, Val::Str(key), Dot { value, boxed })? == Flow::Break {
                        break;
                    }
                }
                Ok(some)
            }
            Val::Object(object) => match object.entries() {
                Some(entries) => {
                    let some = !entries.is_empty();
                    for (key, value) in entries {
                        if self.once(frame, branch, key, Dot::plain(value))? == Flow::Break {
                            break;
                        }
                    }
                    Ok(some)
                }
                None => self.cannot_range(frame, over),
            },
            other => match other
                .as_signed()
                .or(other.as_unsigned().map(|number| number as i64))
            {
                Some(_) if branch.pipe.declares.len() > 1 => {
                    let shown = print::text(other);
                    self.fail(
                        frame,
                        format!("can't use {shown} to iterate over more than one variable"),
                    )
                }
                Some(count) => {
                    for at in 0..count {
                        let item = match other {
                            Val::Int64(_) => Val::Int64(at),
                            _ => Val::Int(at),
                        };
                        if self.once(frame, branch, Val::Invalid, Dot::plain(item))? == Flow::Break {
                            break;
                        }
                    }
                    Ok(count > 0)
                }
                None => self.cannot_range(frame, over),
            },
        }
    }

    fn cannot_range<T>(&self, frame: &Frame<'_>, over: &Val) -> Outcome<T> {
        self.fail(frame, format!("range can't iterate over {}", print::text(over)))
    }

    fn once<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        branch: &'t Branch,
        index: Val,
        item: Dot,
    ) -> Outcome<Flow> {
        let mark = frame.variables.len();
        let index = Dot::plain(index);
        match (&branch.pipe.declares[..], branch.pipe.assigns) {
            ([], _) => {}
            ([one], true) => set(frame, one, item.clone()),
            ([first, second], true) => {
                set(frame, first, index);
                set(frame, second, item.clone());
            }
            ([_], false) => frame.variables[mark - 1].1 = item.clone(),
            (_, false) => {
                frame.variables[mark - 1].1 = item.clone();
                frame.variables[mark - 2].1 = index;
            }
            (_, true) => {}
        }
        self.step(frame)?;
        let flow = self.list(frame, &item, &branch.list);
        frame.variables.truncate(mark);
        flow
    }

    fn template<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        name: &str,
        pipe: Option<&'t Pipe>,
    ) -> Outcome<()> {
        let Some(tree) = self.set.get(name).cloned() else {
            return self.fail(frame, format!("template {} not defined", quote(name)));
        };
        let data = match pipe {
            Some(pipe) => self.pipeline(frame, dot, pipe)?,
            None => Dot::plain(Val::Invalid),
        };
        self.run(&tree, data)
    }

    fn pipeline<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, pipe: &'t Pipe) -> Outcome<Dot> {
        frame.at = (pipe.pos, pipe);
        self.enter(frame)?;
        let value = stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.commands(frame, dot, pipe));
        self.depth -= 1;
        let value = value?;
        for name in &pipe.declares {
            if pipe.assigns {
                set(frame, name, value.clone());
            } else {
                frame.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn commands<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, pipe: &'t Pipe) -> Outcome<Dot> {
        let mut last: Option<Dot> = None;
        for command in &pipe.commands {
            let value = self.command(frame, dot, command, last)?;
            last = Some(Dot::plain(value.value.unwrapped()));
        }
        Ok(last.unwrap_or_else(|| Dot::plain(Val::Invalid)))
    }

    fn command<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        command: &'t Command,
        last: Option<Dot>,
    ) -> Outcome<Dot> {
        let first = &command.args[0];
        let args = Args {
            written: &command.args[1..],
            last,
        };
        match &first.kind {
            ExprKind::Field(_) | ExprKind::Chain { .. } => self.reference(frame, dot, first, args),
            ExprKind::Variable { fields, .. } if !fields.is_empty() => {
                self.reference(frame, dot, first, args)
            }
            ExprKind::Call(function) => {
                frame.at = (first.pos, first);
                self.call(frame, dot, function, (command.pos, command), args)
            }
            _ => {
                if !matches!(first.kind, ExprKind::Pipe(_)) {
                    frame.at = (first.pos, first);
                }
                if args.given() {
                    return self.fail(frame, format!("can't give argument to non-function {first}"));
                }
                self.operand(frame, dot, first, "nil is not a command")
            }
        }
    }

    /// Evaluates what stands for a value by itself.
    fn operand<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, expr: &'t Expr, nil: &str) -> Outcome<Dot> {
        match &expr.kind {
            ExprKind::Dot => Ok(dot.clone()),
            ExprKind::Nil => self.fail(frame, nil),
            ExprKind::Bool(flag) => Ok(Dot::plain(Val::Bool(*flag))),
            ExprKind::Number(number) => self.constant(frame, number),
            ExprKind::String { text, .. } => Ok(Dot::plain(Val::Str(text.clone()))),
            ExprKind::Pipe(pipe) => self.pipeline(frame, dot, pipe),
            ExprKind::Field(_) | ExprKind::Chain { .. } | ExprKind::Variable { .. } => {
                self.reference(frame, dot, expr, Args::NONE)
            }
            ExprKind::Call(function) => self.call(frame, dot, function, (expr.pos, expr), Args::NONE),
        }
    }

    fn constant(&self, frame: &Frame<'_>, number: &Number) -> Outcome<Dot> {
        if number.complex {
            return self.fail(frame, "complex numbers are not supported");
        }
        let hexadecimal = number.text.len() > 2
            && (number.text.starts_with("0x") || number.text.starts_with("0X"))
            && !number.text.contains(['p', 'P']);
        let character = number.text.starts_with('\'');
        match number.float {
            Some(float) if !hexadecimal && !character && number.text.contains(['.', 'e', 'E', 'p', 'P']) => {
                Ok(Dot::plain(Val::Float(float)))
            }
            _ => match number.int {
                Some(int) => Ok(Dot::plain(Val::Int(int))),
                None => self.fail(frame, format!("{} overflows int", number.text)),
            },
        }
    }

    /// Evaluates a field, a variable or a parenthesis with fields; the arguments go to the last field.
    fn reference<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        expr: &'t Expr,
        args: Args<'t>,
    ) -> Outcome<Dot> {
        frame.at = (expr.pos, expr);
        let (start, fields) = match &expr.kind {
            ExprKind::Field(fields) => (dot.clone(), fields),
            ExprKind::Variable { name, fields } => {
                let found = frame.variables.iter().rev().find(|(other, _)| other == name);
                match found {
                    Some((_, value)) => (value.clone(), fields),
                    None => return self.fail(frame, format!("undefined variable: {name}")),
                }
            }
            ExprKind::Chain { base, fields } => {
                if matches!(base.kind, ExprKind::Nil) {
                    return self.fail(frame, format!("indirection through explicit nil in {expr}"));
                }
                frame.at = (base.pos, base.as_ref());
                let value = self.operand(frame, dot, base, "nil is not a command")?;
                (value, fields)
            }
            _ => return self.operand(frame, dot, expr, "nil is not a command"),
        };
        let Some((last, before)) = fields.split_last() else {
            return Ok(start);
        };
        let mut receiver = start;
        for field in before {
            receiver = self.field(frame, dot, field, (expr.pos, expr), Args::NONE, receiver)?;
        }
        self.field(frame, dot, last, (expr.pos, expr), args, receiver)
    }

    fn field<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        name: &Rc<str>,
        node: (usize, &'t dyn Display),
        args: Args<'t>,
        receiver: Dot,
    ) -> Outcome<Dot> {
        match &receiver.value {
            Val::Invalid => Ok(Dot::plain(Val::Invalid)),
            Val::Nil => self.fail(frame, format!("nil pointer evaluating interface {{}}.{name}")),
            Val::Map(map) => {
                if args.given() {
                    return self.fail(frame, format!("{name} is not a method but has arguments"));
                }
                self.reads.key(name);
                let value = map.get(name).unwrap_or_else(|| map.zero());
                Ok(Dot {
                    value,
                    boxed: map.kind != MapKind::Strings,
                })
            }
            Val::Object(object) => {
                let object = object.clone();
                if let Some(field) = object.field(name) {
                    if args.given() {
                        return self.fail(
                            frame,
                            format!("{name} has arguments but cannot be invoked as function"),
                        );
                    }
                    return Ok(Dot::plain(field));
                }
                let Some(signature) = object.method(name) else {
                    let of = receiver.type_name();
                    return self.fail(frame, format!("can't evaluate field {name} in type {of}"));
                };
                let args = self.arguments(frame, dot, name, signature, args)?;
                let called = object.invoke(name, &args);
                self.returned(frame, name, node, called)
            }
            _ => {
                let of = receiver.type_name();
                self.fail(frame, format!("can't evaluate field {name} in type {of}"))
            }
        }
    }

    fn returned<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        name: &str,
        node: (usize, &'t dyn Display),
        called: Result<Val, Box<Fault>>,
    ) -> Outcome<Dot> {
        match called {
            Ok(value) => Ok(Dot::plain(value)),
            Err(cause) => {
                frame.at = node;
                let message = format!("error calling {name}: {}", cause.text);
                Err(self.fault(frame, message, Some(cause)))
            }
        }
    }

    fn call<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        function: &'static Function,
        node: (usize, &'t dyn Display),
        args: Args<'t>,
    ) -> Outcome<Dot> {
        self.step(frame)?;
        if let Run::Logic { stops_at } = function.run {
            return self.logic(frame, dot, function, stops_at, args);
        }
        let values = self.arguments(frame, dot, function.name, function.signature, args)?;
        let called = match function.run {
            Run::Pure(run) => run(&values).map_err(Fault::plain),
            Run::Reading(run) => run(self, &values),
            Run::Logic { .. } => Ok(Val::Invalid),
        };
        if let Ok(Val::Str(text)) = &called {
            self.made += text.len() / 8;
        }
        self.returned(frame, function.name, node, called)
    }

    /// `and` and `or` evaluate their arguments only until one decides.
    fn logic<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        function: &'static Function,
        stops_at: bool,
        args: Args<'t>,
    ) -> Outcome<Dot> {
        if !args.given() {
            let name = function.name;
            return self.fail(
                frame,
                format!("wrong number of args for {name}: want at least 1 got 0"),
            );
        }
        let mut value = Dot::plain(Val::Invalid);
        for arg in args.written {
            value = self.argument(frame, dot, b'v', arg)?;
            if value.value.truth() == stops_at {
                return Ok(value);
            }
        }
        Ok(args.last.unwrap_or(value))
    }

    /// Evaluates the arguments and checks them against the parameters' types.
    fn arguments<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        name: &str,
        signature: &'static str,
        args: Args<'t>,
    ) -> Outcome<Vec<Val>> {
        let (fixed, variadic) = match signature.strip_suffix('*') {
            Some(all) => (&all.as_bytes()[..all.len() - 1], all.as_bytes().last().copied()),
            None => (signature.as_bytes(), None),
        };
        let count = args.written.len() + usize::from(args.last.is_some());
        if variadic.is_some() && count < fixed.len() {
            let (want, got) = (fixed.len(), args.written.len());
            return self.fail(
                frame,
                format!("wrong number of args for {name}: want at least {want} got {got}"),
            );
        }
        if variadic.is_none() && count != fixed.len() {
            let want = fixed.len();
            return self.fail(
                frame,
                format!("wrong number of args for {name}: want {want} got {count}"),
            );
        }
        let parameter = |at: usize| fixed.get(at).copied().or(variadic).unwrap_or(b'a');
        let mut values = Vec::with_capacity(count);
        for (at, arg) in args.written.iter().enumerate() {
            values.push(self.argument(frame, dot, parameter(at), arg)?.value);
        }
        if let Some(last) = args.last {
            let kind = parameter(values.len());
            values.push(self.validated(frame, last, kind)?.value);
        }
        Ok(values)
    }

    fn argument<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, kind: u8, arg: &'t Expr) -> Outcome<Dot> {
        frame.at = (arg.pos, arg);
        let mismatch = |what: &str| Err(format!("expected {what}; found {arg}"));
        let checked = match (&arg.kind, kind) {
            (ExprKind::Nil, b'a' | b'v' | b'm' | b'l' | b'S') => return Ok(Dot::plain(Val::Nil)),
            (ExprKind::Nil, _) => Err(format!("cannot assign nil to {}", type_of(kind))),
            (ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String { .. }, b'a' | b'v') => {
                return self.operand(frame, dot, arg, "");
            }
            (ExprKind::Bool(flag), b'b') => Ok(Val::Bool(*flag)),
            (ExprKind::String { text, .. }, b's') => Ok(Val::Str(text.clone())),
            (ExprKind::Number(Number { int: Some(int), .. }), b'i') => Ok(Val::Int(*int)),
            (ExprKind::Number(Number { int: Some(int), .. }), b'I') => Ok(Val::Int64(*int)),
            (
                ExprKind::Number(Number {
                    float: Some(float), ..
                }),
                b'f',
            ) => Ok(Val::Float(*float)),
            (ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String { .. }, _) => match kind {
                b'b' => mismatch("bool"),
                b's' => mismatch("string"),
                b'i' | b'I' => mismatch("integer"),
                b'f' => mismatch("float"),
                _ => Err(format!("can't handle {arg} for arg of type {}", type_of(kind))),
            },
            _ => {
                let value = self.operand(frame, dot, arg, "")?;
                return self.validated(frame, value, kind);
            }
        };
        match checked {
            Ok(value) => Ok(Dot::plain(value)),
            Err(message) => self.fail(frame, message),
        }
    }

    fn validated(&self, frame: &Frame<'_>, value: Dot, kind: u8) -> Outcome<Dot> {
        let fits = match (&value.value, kind) {
            (_, b'a' | b'v') => true,
            (Val::Invalid, b'm' | b'l' | b'S') => true,
            (Val::Invalid, _) => {
                return self.fail(frame, format!("invalid value; expected {}", type_of(kind)));
            }
            (Val::Str(_), b's') | (Val::Int(_), b'i') | (Val::Int64(_), b'I') => true,
            (Val::Float(_), b'f') | (Val::Bool(_), b'b') => true,
            (Val::Map(map), b'm') => map.kind != MapKind::Strings,
            (Val::List(list), b'l') => list.of == Items::Any,
            (Val::List(list), b'S') => list.of == Items::Texts,
            (Val::Object(object), kind) => object.type_name() == type_of(kind),
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let (expected, got) = (type_of(kind), value.value.type_name());
        self.fail(
            frame,
            format!("wrong type for value; expected {expected}; got {got}"),
        )
    }
}

fn set(frame: &mut Frame<'_>, name: &Rc<str>, value: Dot) {
    if let Some((_, slot)) = frame.variables.iter_mut().rev().find(|(other, _)| other == name) {
        *slot = value;
    }
}

/// Returns the Go type that a parameter's letter stands for.
fn type_of(kind: u8) -> &'static str {
    match kind {
        b's' => "string",
        b'i' => "int",
        b'I' => "int64",
        b'f' => "float64",
        b'b' => "bool",
        b'm' => "map[string]interface {}",
        b'l' => "[]interface {}",
        b'S' => "[]string",
        b't' => "time.Time",
        b'v' => "reflect.Value",
        _ => "interface {}",
    }
}
