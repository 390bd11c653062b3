//! Evaluates pipelines: their commands, operands, constants and the fields of values.

use std::fmt::Display;
use std::rc::Rc;

use super::charge::BYTES_COMPARED_PER_STEP;
use super::{Args, Dot, Frame, Interp, Outcome, RED_ZONE, STACK_STEP, Walk};
use crate::helm::ast::{Command, Expr, ExprKind, Number, Pipe};
use crate::helm::exec_error::ExecError;
use crate::helm::files;
use crate::helm::funcs::values;
use crate::helm::object::Object;
use crate::helm::value::{MapKind, Val};

/// How many variables are looked at for one step.
const VARIABLES_PER_STEP: u64 = 16;

impl Interp<'_> {
    pub(super) fn pipeline<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, pipe: &'t Pipe) -> Outcome<Dot> {
        frame.at = (pipe.pos, pipe);
        self.enter(frame)?;
        let value = stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.commands(frame, dot, pipe));
        self.depth -= 1;
        let value = value?;
        for name in &pipe.declares {
            if pipe.assigns {
                self.assign(frame, name, value.clone())?;
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
    pub(super) fn operand<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        expr: &'t Expr,
        nil: &str,
    ) -> Outcome<Dot> {
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
                let at = self.variable(frame, name)?;
                (frame.variables[at].1.clone(), fields)
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

    /// Assigns to the innermost variable of that name.
    pub(super) fn assign(&mut self, frame: &mut Frame<'_>, name: &str, value: Dot) -> Outcome<()> {
        let at = self.variable(frame, name)?;
        frame.variables[at].1 = value;
        Ok(())
    }

    /// Returns where the innermost variable of that name is.
    fn variable(&mut self, frame: &Frame<'_>, name: &str) -> Outcome<usize> {
        // The last are looked at first.
        let found = frame.variables.iter().rposition(|(other, _)| **other == *name);
        let looked_at = (frame.variables.len() - found.unwrap_or(0)) as u64;
        let compared = 1 + (name.len() / BYTES_COMPARED_PER_STEP) as u64;
        self.steps(frame, looked_at / VARIABLES_PER_STEP * compared)?;
        match found {
            Some(at) => Ok(at),
            None => self.fail(frame, format!("undefined variable: {name}")),
        }
    }

    /// Counts what a method has made, and returns it.
    fn method_returned<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        name: &str,
        node: (usize, &'t dyn Display),
        called: Result<Val, Box<ExecError>>,
    ) -> Outcome<Dot> {
        if let Ok(value) = &called {
            self.charge_made(frame, value)?;
        }
        self.returned(frame, name, node, called)
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
        self.charge_compared(frame, name)?;
        match &receiver.value {
            Val::Invalid => Ok(Dot::plain(Val::Invalid)),
            Val::Nil => self.fail(frame, format!("nil pointer evaluating interface {{}}.{name}")),
            Val::Map(map) if map.kind == MapKind::Values && values::method(name).is_some() => {
                let map = map.clone();
                let signature = values::method(name).unwrap_or_default();
                let args = self.arguments(frame, dot, name, signature, args)?;
                let walk = if &**name == "YAML" { Walk::All } else { Walk::Items };
                self.charge_arguments(frame, name, walk, &[Val::Map(map.clone())])?;
                let called = values::invoke(&map, name, &args);
                self.method_returned(frame, name, node, called)
            }
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
                    self.charge_made(frame, &field)?;
                    return Ok(Dot::plain(field));
                }
                let Some(signature) = object.method(name) else {
                    let of = receiver.type_name();
                    let message = match object.hides(name) {
                        true => format!("{name} is an unexported field of struct type {of}"),
                        false => format!("can't evaluate field {name} in type {of}"),
                    };
                    return self.fail(frame, message);
                };
                let args = self.arguments(frame, dot, name, signature, args)?;
                self.charge_method(frame, &receiver.value, name, &args)?;
                let called = match (&*object, args.first().and_then(Val::as_str)) {
                    (Object::Files(files), Some(pattern)) if &**name == "Glob" => {
                        files::matching(self, files, pattern)
                    }
                    _ => object.invoke(name, &args),
                };
                self.method_returned(frame, name, node, called)
            }
            _ => {
                let of = receiver.type_name();
                self.fail(frame, format!("can't evaluate field {name} in type {of}"))
            }
        }
    }
}
