//! `tpl`: a text that is a template itself.

use std::rc::Rc;

use super::{Function, reading};
use crate::helm::ast::{Text, Tree};
use crate::helm::eval::{Interp, Set};
use crate::helm::exec_error::{ExecError, Level, quote_beginning};
use crate::helm::parse;
use crate::helm::render::{BYTES_PER_STEP, without_no_value};
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[reading("tpl", "sa", tpl)];

/// How many texts may be evaluated within each other; the reference runs out of its stack.
const MAX_EVALUATING: u32 = 1000;

/// The most bytes that texts and what they were parsed to take, which are kept.
const MAX_PARSED: usize = 32 << 20;

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
            let room = parse::room(source);
            // What is kept makes room first: nothing but steps is lost by it.
            if interp.room_for_trees(room).is_err() {
                forget_parsed(interp);
            }
            interp.room_for_trees(room)?;
            let (set, bytes) = parsed(interp, source, &outer)?;
            // What is kept is bounded: a template may make one text after another.
            if interp.parsed_bytes + bytes > MAX_PARSED {
                forget_parsed(interp);
            }
            interp.parsed_bytes += bytes;
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
    let output = interp.take_output(start);
    interp.set = previous;
    match result {
        Ok(()) => Ok(Val::from(without_no_value(output))),
        Err(cause) => {
            let source = quote_beginning(source);
            let text = format!("error during tpl function execution for {source}: ");
            Err(cause.within(Level::of_function(text)))
        }
    }
}

fn forget_parsed(interp: &mut Interp<'_>) {
    interp.parsed.clear();
    interp.parsed_bytes = 0;
}

/// Returns the templates of a text, and how many bytes of memory the text and they take.
fn parsed(
    interp: &Interp<'_>,
    source: &Rc<str>,
    outer: &Rc<Set>,
) -> Result<(Rc<Set>, usize), Box<ExecError>> {
    let trees = parse::parse(&ROOT.into(), source, Text::Made(source.clone())).map_err(|cause| {
        let source = quote_beginning(source);
        ExecError::plain(format!("cannot parse template {source}: {cause}"))
    })?;
    let bytes = trees.iter().map(Tree::bytes).sum::<usize>();
    let mut set = Set {
        outer: Some(outer.clone()),
        // The text itself is counted where it was made.
        _taken: Some(interp.take_trees(bytes)),
        ..Set::default()
    };
    trees.into_iter().for_each(|tree| set.add(tree));
    Ok((Rc::new(set), source.len() + bytes))
}
