//! Functions that decide whether a rendering goes on, and with what: `and`, `or`, `not`, `required`, `fail`.

use super::{Function, Run, checked, pure, text};
use crate::helm::eval::Walk;
use crate::helm::exec_error::{WARN_END, WARN_START};
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "and",
        signature: checked("v*"),
        run: Run::Logic { stops_at: false },
        walk: Walk::All,
    },
    Function {
        name: "or",
        signature: checked("v*"),
        run: Run::Logic { stops_at: true },
        walk: Walk::All,
    },
    Function {
        name: "call",
        signature: checked("va*"),
        run: Run::Call,
        walk: Walk::All,
    },
    pure("not", "v", |args| Ok((!args[0].truth()).into())),
    pure("required", "sa", required),
    pure("fail", "s", |args| Err(warning(text(args, 0)))),
    pure("getHostByName", "s", |_| Ok("".into())),
    pure("hello", "", |_| Ok("Hello!".into())),
];

fn required(args: &[Val]) -> Result<Val, String> {
    match &args[1] {
        Val::Invalid | Val::Nil => Err(warning(text(args, 0))),
        Val::Str(value) if value.is_empty() => Err(warning(text(args, 0))),
        value => Ok(value.clone()),
    }
}

fn warning(message: &str) -> String {
    format!("{WARN_START}{message}{WARN_END}")
}
