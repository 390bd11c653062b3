//! What an expression is made of: its depth, its variables and functions. What it names and nobody has is a fault before
//! it is evaluated anywhere.

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr},
};

use super::Variables;

/// How deep parts stand in each other.
const MAX_DEPTH: usize = 48;

/// Functions by name, those behind operators aside.
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "format",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "quote",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "substring",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "value",
];

/// Types, which are values as well.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "optional",
    "optional_type",
    "string",
    "strings",
    "type",
    "uint",
];

/// Checks an expression of at most so many parts; the error says what is wrong.
pub(super) fn check(expr: &IdedExpr, variables: Variables<'_>, parts: usize) -> Result<(), String> {
    let mut walk = Walk {
        variables,
        bound: Vec::new(),
        parts: 0,
    };
    walk.at(expr, 0)?;
    match walk.parts <= parts {
        true => Ok(()),
        false => Err(format!("an expression has at most {parts} parts")),
    }
}

struct Walk<'e, 'v> {
    variables: Variables<'v>,
    /// Names that macros give.
    bound: Vec<&'e str>,
    /// Parts seen so far.
    parts: usize,
}

impl<'e> Walk<'e, '_> {
    fn at(&mut self, expr: &'e IdedExpr, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("parts stand in each other more than {MAX_DEPTH} deep"));
        }
        let depth = depth + 1;
        self.parts += 1;
        match &expr.expr {
            Expr::Unspecified => return Err("there is no expression".to_owned()),
            Expr::Literal(_) => {}
            Expr::Ident(name) => return self.variable(name),
            Expr::Select(select) => return self.at(&select.operand, depth),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let is_operator = name.contains('_') || name.starts_with(['@', '!', '-']);
                if !is_operator && !FUNCTIONS.contains(&name) {
                    return Err(format!("there is no function {name}"));
                }
                for one in call.target.as_deref().into_iter().chain(&call.args) {
                    self.at(one, depth)?;
                }
            }
            Expr::List(list) => {
                for one in &list.elements {
                    self.at(one, depth)?;
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.at(&entry.key, depth)?;
                        self.at(&entry.value, depth)?;
                    }
                }
            }
            Expr::Struct(of) => return Err(format!("messages cannot be made: {}", of.type_name)),
            Expr::Comprehension(of) => {
                self.at(&of.iter_range, depth)?;
                self.at(&of.accu_init, depth)?;
                let before = self.bound.len();
                self.bound.extend([of.iter_var.as_str(), of.accu_var.as_str()]);
                self.bound.extend(of.iter_var2.as_deref());
                for one in [&of.loop_cond, &of.loop_step, &of.result] {
                    self.at(one, depth)?;
                }
                self.bound.truncate(before);
            }
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Result<(), String> {
        match self.variables {
            Variables::Any => Ok(()),
            Variables::Only(known)
                if known.contains(&name) || self.bound.contains(&name) || TYPES.contains(&name) =>
            {
                Ok(())
            }
            Variables::Only(known) => Err(format!("there is no variable {name}: {} are", known.join(", "))),
        }
    }
}
