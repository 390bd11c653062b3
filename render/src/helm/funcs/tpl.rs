//! `tpl`: a text that is a template itself.

use std::rc::Rc;

use super::{Function, reading};
use crate::helm::ast::Text;
use crate::helm::eval::{Interp, Set};
use crate::helm::exec_error::ExecError;
use crate::helm::parse;
use crate::helm::quote::quote;
use crate::helm::render::{BYTES_PER_STEP, without_no_value};
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[reading("tpl", "sa", tpl)];

/// How many texts may be evaluated within each other; the reference runs out of its stack.
const MAX_EVALUATING: u32 = 1000;

/// The most bytes of texts whose parsed form is kept.
const MAX_PARSED: usize = 16 << 20;

/// The name that text given to `tpl` has in errors.
pub(super) const ROOT: &str = "gotpl";

fn tpl(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let Some(Val::Str(source)) = args.first() else {
        return Ok("".into());
    };
    interp.room(source.len())?;
    if !source.contains("{{") {
        return Ok(Val::from(without_no_value(source.to_string())));
    }
    if interp.evaluating >= MAX_EVALUATING {
        return Err(ExecError::plain(format!(
            "tpl is nested deeper than {MAX_EVALUATING}"
        )));
    }
    let outer = interp.set.clone();
    let set = match interp.parsed.get(source) {
        // The same text means the same only where the same templates are seen.
        Some(set) if set.outer.as_ref().is_some_and(|other| Rc::ptr_eq(other, &outer)) => set.clone(),
        _ => {
            interp.charge(1 + source.len() as u64 / BYTES_PER_STEP)?;
            interp.room(parse::room(source))?;
            let set = Rc::new(parsed(source, &outer)?);
            // What is kept is bounded: a template may make one text after another.
            interp.parsed_bytes += source.len();
            if interp.parsed_bytes > MAX_PARSED {
                interp.parsed.clear();
                interp.parsed_bytes = source.len();
            }
            interp.parsed.insert(source.clone(), set.clone());
            set
        }
    };
    let previous = std::mem::replace(&mut interp.set, set.clone());
    let start = interp.out.len();
    interp.evaluating += 1;
    let result = match set.trees.get(ROOT).cloned() {
        Some(tree) => interp.execute(&tree, args[1].clone().unwrapped()),
        None => Ok(()),
    };
    interp.evaluating -= 1;
    // Until it is a value, the text stands there twice.
    let result = result.and_then(|()| interp.room(2 * (interp.out.len() - start)));
    let output = interp.out.split_off(start);
    interp.set = previous;
    match result {
        Ok(()) => Ok(Val::from(without_no_value(output))),
        Err(cause) => {
            let text = format!(
                "error during tpl function execution for {}: {}",
                quote(source),
                cause.text
            );
            Err(Box::new(ExecError {
                text,
                executing: false,
                cause: Some(cause),
            }))
        }
    }
}

fn parsed(source: &Rc<str>, outer: &Rc<Set>) -> Result<Set, Box<ExecError>> {
    let trees = parse::parse(&ROOT.into(), source, Text::Made(source.clone()))
        .map_err(|cause| ExecError::plain(format!("cannot parse template {}: {cause}", quote(source))))?;
    let mut set = Set {
        outer: Some(outer.clone()),
        ..Set::default()
    };
    trees.into_iter().for_each(|tree| set.add(tree));
    Ok(set)
}
