//! Functions that need the rendering: `include`, `tpl`, `required`, `fail`, `lookup`.

use std::rc::Rc;

use super::{Function, Run, pure, reading, text};
use crate::helm::eval::{Interp, Reach, Set};
use crate::helm::fault::{Fault, WARN_END, WARN_START};
use crate::helm::parse;
use crate::helm::quote::quote;
use crate::helm::render::without_no_value;
use crate::helm::value::{Entries, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "and",
        signature: "v*",
        run: Run::Logic { stops_at: false },
        reach: Reach::All,
    },
    Function {
        name: "or",
        signature: "v*",
        run: Run::Logic { stops_at: true },
        reach: Reach::All,
    },
    Function {
        name: "call",
        signature: "va*",
        run: Run::Call,
        reach: Reach::All,
    },
    pure("not", "v", |args| Ok((!args[0].truth()).into())),
    reading("include", "sa", include),
    reading("tpl", "sa", tpl),
    reading("lookup", "ssss", lookup),
    pure("required", "sa", required),
    pure("fail", "s", |args| Err(warning(text(args, 0)))),
    pure("getHostByName", "s", |_| Ok("".into())),
    pure("hello", "", |_| Ok("Hello!".into())),
];

/// How often a template may be included within itself.
const MAX_INCLUDES: u32 = 1000;
/// How many texts may be evaluated within each other; the reference runs out of its stack.
const MAX_EVALUATING: u32 = 1000;

/// How many bytes of text are parsed for one step.
const BYTES_PER_STEP: u64 = 16;
/// The most bytes of texts whose parsed form is kept.
const MAX_PARSED: usize = 16 << 20;

/// The name that text given to `tpl` has in errors.
const ROOT: &str = "gotpl";

fn include(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<Fault>> {
    let Some(Val::Str(name)) = args.first() else {
        return Ok("".into());
    };
    let count = interp.included.entry(name.clone()).or_insert(0);
    if *count > MAX_INCLUDES {
        return Err(Fault::plain(format!(
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

fn captured(interp: &mut Interp<'_>, name: &str, data: Val) -> Result<Val, Box<Fault>> {
    let Some(tree) = interp.set.get(name).cloned() else {
        let (name, root) = (quote(name), quote(ROOT));
        return Err(Fault::plain(format!(
            "template: no template {name} associated with template {root}"
        )));
    };
    let start = interp.out.len();
    let result = interp.execute(&tree, data);
    let value = Val::from(&interp.out[start..]);
    interp.out.truncate(start);
    result.map(|()| value)
}

fn tpl(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<Fault>> {
    let Some(Val::Str(source)) = args.first() else {
        return Ok("".into());
    };
    if !source.contains("{{") {
        return Ok(Val::from(without_no_value(source.to_string())));
    }
    if interp.evaluating >= MAX_EVALUATING {
        return Err(Fault::plain(format!(
            "tpl is nested deeper than {MAX_EVALUATING}"
        )));
    }
    let outer = interp.set.clone();
    let set = match interp.parsed.get(source) {
        // The same text means the same only where the same templates are seen.
        Some(set) if set.outer.as_ref().is_some_and(|other| Rc::ptr_eq(other, &outer)) => set.clone(),
        _ => {
            interp.charge(1 + source.len() as u64 / BYTES_PER_STEP)?;
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
            Err(Box::new(Fault {
                text,
                executing: false,
                cause: Some(cause),
            }))
        }
    }
}

fn parsed(source: &Rc<str>, outer: &Rc<Set>) -> Result<Set, Box<Fault>> {
    let trees = parse::parse(&ROOT.into(), source)
        .map_err(|cause| Fault::plain(format!("cannot parse template {}: {cause}", quote(source))))?;
    let mut set = Set {
        outer: Some(outer.clone()),
        ..Set::default()
    };
    trees.into_iter().for_each(|tree| set.add(tree));
    Ok(set)
}

fn lookup(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<Fault>> {
    interp.reads.cluster = true;
    let Some(cluster) = &interp.context.cluster else {
        return Ok(Val::map(Entries::new()));
    };
    let found = cluster.lookup(text(args, 0), text(args, 1), text(args, 2), text(args, 3));
    found.map(|value| Val::from(&value)).map_err(Fault::plain)
}

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
