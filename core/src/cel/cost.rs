//! What evaluating an expression takes at most, worked out from the values before it is begun: evaluation itself cannot be
//! cut short. How long lists are is known where a path leads into the values, and bounded by their size elsewhere.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue},
};
use serde_json::Value;

/// Parts looked at, bytes read and written: some tenths of a second.
const MAX_WORK: f64 = 2_000_000.0;

/// What evaluations that belong together may take, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work(f64);

impl Default for Work {
    /// What one expression may take.
    fn default() -> Self {
        Self(MAX_WORK)
    }
}

impl Work {
    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.0 <= 0.0
    }

    /// Takes off what was taken off a whole one since it was begun.
    pub fn charge(&mut self, other: Self) {
        self.0 -= MAX_WORK - other.0;
    }

    /// Takes off reading that many bytes.
    pub(super) fn read(&mut self, bytes: usize) {
        self.0 -= number(bytes);
    }
}

/// Refuses what takes more than is left, and takes it off; the error says so.
pub(super) fn check(expr: &IdedExpr, data: &[(&str, &Value)], left: &mut Work) -> Result<(), String> {
    let read: f64 = data.iter().map(|(_, value)| Size::of(value).total).sum();
    let mut walk = Walk {
        data,
        bound: Vec::new(),
        work: read,
    };
    if read <= MAX_WORK {
        walk.at(expr);
    }
    let before = left.0;
    left.0 -= walk.work;
    if walk.work > MAX_WORK {
        return Err(format!(
            "evaluating it over this object may take more than {MAX_WORK} steps of work"
        ));
    }
    match walk.work <= before {
        true => Ok(()),
        false => Err(format!(
            "evaluating it and those before it may take more than {MAX_WORK} steps of work together"
        )),
    }
}

/// How large a value is at most.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Elements of a list or map, characters of a text.
    count: f64,
    /// All of its largest element.
    element: f64,
    /// All of it.
    total: f64,
}

/// True, a number, nothing.
const SMALL: Size = Size {
    count: 1.0,
    element: 1.0,
    total: 1.0,
};

#[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
fn number(count: usize) -> f64 {
    count as f64
}

impl Size {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => SMALL,
            Value::String(text) => Self::text(number(text.len())),
            Value::Array(items) => Self::all(items.iter().map(|item| Self::of(item).total)),
            Value::Object(fields) => Self::all(
                fields
                    .iter()
                    .map(|(name, value)| number(name.len()) + Self::of(value).total),
            ),
        }
    }

    fn text(bytes: f64) -> Self {
        Self {
            count: bytes,
            element: 1.0,
            total: 1.0 + bytes,
        }
    }

    fn all(totals: impl Iterator<Item = f64>) -> Self {
        totals.fold(
            Self {
                count: 0.0,
                element: 1.0,
                total: 1.0,
            },
            |all, one| Self {
                count: all.count + 1.0,
                element: all.element.max(one),
                total: all.total + one,
            },
        )
    }

    /// Whatever has no more than this in all.
    fn within(total: f64) -> Self {
        Self {
            count: total,
            element: total,
            total,
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            count: self.count.max(other.count),
            element: self.element.max(other.element),
            total: self.total.max(other.total),
        }
    }

    fn joined(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            element: self.element.max(other.element),
            total: self.total + other.total,
        }
    }
}

struct Walk<'a> {
    data: &'a [(&'a str, &'a Value)],
    bound: Vec<(&'a str, Size)>,
    work: f64,
}

impl<'a> Walk<'a> {
    /// Counts the work of a part, and gives how large its value is at most.
    fn at(&mut self, expr: &'a IdedExpr) -> Size {
        self.work += 1.0;
        if self.work > MAX_WORK {
            return SMALL;
        }
        if let Some(value) = self.path(&expr.expr) {
            // It is looked up, and not copied; finding out how large it is takes its time, too.
            let size = Size::of(value);
            self.work += size.total / 16.0;
            return size;
        }
        match &expr.expr {
            Expr::Unspecified | Expr::Struct(_) => SMALL,
            Expr::Literal(LiteralValue::String(text)) => Size::text(number(text.inner().len())),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Size::text(number(bytes.inner().len())),
            Expr::Literal(_) => SMALL,
            Expr::Ident(name) => {
                let bound = self.bound.iter().rev().find(|(one, _)| one == name);
                bound.map_or(SMALL, |(_, size)| *size)
            }
            Expr::Select(select) => Size::within(self.at(&select.operand).element),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let totals: Vec<f64> = list.elements.iter().map(|one| self.at(one).total).collect();
                self.made(Size::all(totals.into_iter()))
            }
            Expr::Map(map) => {
                let mut totals = Vec::new();
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        totals.push(self.at(&entry.key).total + self.at(&entry.value).total);
                    }
                }
                self.made(Size::all(totals.into_iter()))
            }
            Expr::Comprehension(of) => self.comprehension(of),
        }
    }

    fn made(&mut self, size: Size) -> Size {
        self.work += size.total;
        size
    }

    /// The value that a path of constant names leads to.
    fn path(&self, expr: &Expr) -> Option<&'a Value> {
        match expr {
            Expr::Ident(name) if !self.bound.iter().any(|(one, _)| one == name) => {
                let mut data = self.data.iter();
                data.find(|(one, _)| one == name).map(|(_, value)| *value)
            }
            Expr::Select(select) if !select.test => self.path(&select.operand.expr)?.get(&select.field),
            Expr::Call(call) if call.func_name == "_[_]" => match call.args.as_slice() {
                [of, at] => match &at.expr {
                    Expr::Literal(LiteralValue::String(name)) => self.path(&of.expr)?.get(name.inner()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Size {
        let sizes: Vec<Size> = call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .map(|one| self.at(one))
            .collect();
        let at = |index: usize| sizes.get(index).copied().unwrap_or(SMALL);
        let read: f64 = sizes.iter().map(|size| size.total).sum();
        match call.func_name.as_str() {
            "_&&_" | "_||_" | "!_" | "@not_strictly_false" => return SMALL,
            "_?_:_" => return at(1).larger(at(2)),
            "_[_]" | "_?._" | "_[?_]" => return Size::within(at(0).element),
            _ => self.work += read,
        }
        let (text, more) = (at(0).total, at(1).total);
        let size = match call.func_name.as_str() {
            "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "@in" | "size" | "contains"
            | "startsWith" | "endsWith" | "indexOf" | "lastIndexOf" | "hasValue" | "int" | "uint"
            | "double" | "bool" => SMALL,
            // The pattern is compiled, and may be in as many states at each character.
            "matches" => {
                self.work += 50.0 * more + text * more;
                SMALL
            }
            "_+_" => at(0).joined(at(1)),
            "replace" => Size::text((text + 1.0) * (at(2).total + 1.0)),
            "join" => Size::text(text + at(0).count * more),
            "split" => Size {
                count: text + 1.0,
                element: text,
                total: 2.0 * text + 1.0,
            },
            "format" => Size::text((text + 1.0) * (more + 32.0)),
            "quote" | "strings.quote" => Size::text(4.0 * text + 2.0),
            _ => Size::within(read + 32.0),
        };
        self.made(size)
    }

    fn comprehension(&mut self, of: &'a ComprehensionExpr) -> Size {
        let range = self.at(&of.iter_range);
        let begun = self.at(&of.accu_init);
        let before = self.bound.len();
        let item = Size::within(range.element);
        self.bound.push((
            &of.accu_var,
            Size {
                total: 0.0,
                count: 0.0,
                ..SMALL
            },
        ));
        self.bound.push((&of.iter_var, item));
        if let Some(second) = &of.iter_var2 {
            self.bound.push((second, item));
        }
        // One round, for as many as there are.
        let counted = std::mem::replace(&mut self.work, 0.0);
        self.at(&of.loop_cond);
        let step = self.at(&of.loop_step);
        self.work = counted + range.count * (self.work + range.element);
        self.bound.truncate(before);
        let gathered = Size {
            count: begun.count + range.count * step.count,
            element: begun.element.max(step.element),
            total: begun.total + range.count * step.total,
        };
        self.bound.push((&of.accu_var, gathered));
        let result = self.at(&of.result);
        self.bound.truncate(before);
        result
    }
}
