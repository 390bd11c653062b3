//! `include`: what a named template writes, as text.

use super::tpl::ROOT;
use super::{Function, reading};
use crate::helm::eval::Interp;
use crate::helm::exec_error::{ExecError, quote_beginning};
use crate::helm::quote::quote;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[reading("include", "sa", include)];

/// How often a template may be included within itself.
const MAX_INCLUDES: u32 = 1000;

fn include(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let Some(Val::Str(name)) = args.first() else {
        return Ok("".into());
    };
    let count = interp.included.entry(name.clone()).or_insert(0);
    if *count > MAX_INCLUDES {
        return Err(ExecError::plain(format!(
            "rendering template has a nested reference name: {name}: unable to execute template"
        )));
    }
    *count += 1;
    let result = captured(interp, name, args[1].clone().unwrapped());
    if let Some(count) = interp.included.get_mut(name) {
        *count -= 1;
    }
    result
}

fn captured(interp: &mut Interp<'_>, name: &str, data: Val) -> Result<Val, Box<ExecError>> {
    interp.charge_sets()?;
    let Some(tree) = interp.set.get(name).cloned() else {
        let (name, root) = (quote_beginning(name), quote(ROOT));
        return Err(ExecError::plain(format!(
            "template: no template {name} associated with template {root}"
        )));
    };
    let start = interp.out.len();
    // Until it is cut off, the text stands in the output too.
    let result = interp
        .execute(&tree, data)
        .and_then(|()| interp.room(interp.out.len() - start));
    let value = result.map(|()| Val::from(&interp.out[start..]));
    interp.out.truncate(start);
    value
}
