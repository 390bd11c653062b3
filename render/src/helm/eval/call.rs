//! Calls functions and methods: how many arguments they take, of which types, and what their errors say.

use std::fmt::Display;
use std::rc::Rc;

use super::{Args, Dot, Frame, Interp, Outcome, Walk};
use crate::helm::ast::{Expr, ExprKind, Number};
use crate::helm::exec_error::ExecError;
use crate::helm::funcs::{Function, Run};
use crate::helm::object::Object;
use crate::helm::value::{Entries, Items, MapKind, MapVal, Val};

impl Interp<'_> {
    pub(super) fn returned<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        name: &str,
        node: (usize, &'t dyn Display),
        called: Result<Val, Box<ExecError>>,
    ) -> Outcome<Dot> {
        match called {
            Ok(value) => Ok(Dot::plain(value)),
            Err(cause) => {
                frame.at = node;
                Err(cause.within(frame.level(format_args!("error calling {name}: "))))
            }
        }
    }

    pub(super) fn call<'t>(
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
        let callee = args.written.first();
        let values = self.arguments(frame, dot, function.name, function.signature, args)?;
        // Without a list or a map there is nothing to look into.
        let walk = match values.iter().any(Val::holds_others) {
            true => function.walk,
            false => Walk::All,
        };
        self.charge_arguments(frame, function.name, walk, &values)?;
        let called = match function.run {
            Run::Call => Err(ExecError::plain(not_callable(callee, &values[0]))),
            Run::Pure(run) => run(&values).map_err(ExecError::plain),
            Run::Reading(run) => run(self, &values),
            Run::Logic { .. } => Ok(Val::Invalid),
        };
        if let Ok(value) = &called {
            self.charge_result(frame, function.name, walk, value)?;
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
    pub(super) fn arguments<'t>(
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
            (ExprKind::Nil, b'a' | b'v') => return Ok(Dot::plain(Val::Nil)),
            (ExprKind::Nil, b'm' | b'l' | b'S') => return Ok(Dot::plain(nil_of(kind))),
            (ExprKind::Nil, _) => Err(format!("cannot assign nil to {}", type_of(kind))),
            (ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String { .. }, b'a' | b'v') => {
                return self.operand(frame, dot, arg, "");
            }
            (ExprKind::Bool(flag), b'b') => Ok(Val::Bool(*flag)),
            (ExprKind::String { text, .. }, b's') => Ok(Val::Str(text.clone())),
            (ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String { .. }, _) => {
                let number = match &arg.kind {
                    ExprKind::Number(number) => number_as(number, kind),
                    _ => None,
                };
                match (number, kind) {
                    (Some(number), _) => Ok(number),
                    (None, b'b') => mismatch("bool"),
                    (None, b's') => mismatch("string"),
                    (None, b'i' | b'I' | b'D') => mismatch("integer"),
                    (None, b'u') => mismatch("unsigned integer"),
                    (None, b'f') => mismatch("float"),
                    _ => Err(format!("can't handle {arg} for arg of type {}", type_of(kind))),
                }
            }
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
            (Val::Invalid, b'm' | b'l' | b'S') => return Ok(Dot::plain(nil_of(kind))),
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

/// Returns what a parameter for a map or a list is given where there is none.
fn nil_of(kind: u8) -> Val {
    match kind {
        b'm' => Val::Map(MapVal {
            nil: true,
            ..MapVal::new(Entries::new())
        }),
        b'S' => Val::nil_list(Items::Texts),
        _ => Val::nil_list(Items::Any),
    }
}

/// Returns why nothing can be called: what was given is nil or no function.
fn not_callable(written: Option<&Expr>, given: &Val) -> String {
    if matches!(given, Val::Invalid | Val::Nil) {
        return "call of nil".to_owned();
    }
    let of = given.type_name();
    let name = match (written, given) {
        (Some(expression), _) => expression.to_string(),
        (None, Val::Str(text)) => text.to_string(),
        (None, _) => format!("<{of} Value>"),
    };
    format!("non-function {name} of type {of}")
}

/// Returns a constant as the kind of number that a parameter's letter stands for.
fn number_as(number: &Number, kind: u8) -> Option<Val> {
    match kind {
        b'i' => number.int.map(Val::Int),
        b'I' => number.int.map(Val::Int64),
        b'u' => number.uint.map(|number| Val::Int64(i64::from(number as u32))),
        b'f' => number.float.map(Val::Float),
        b'D' => number
            .int
            .map(|nanos| Val::Object(Rc::new(Object::Duration(nanos)))),
        _ => None,
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
        b'D' => "time.Duration",
        b'u' => "uint32",
        b'V' => "*semver.Version",
        b'c' => "sprig.certificate",
        b'v' => "reflect.Value",
        _ => "interface {}",
    }
}
