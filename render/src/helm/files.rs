//! `.Files`: the chart's files that are no templates, by name and by pattern.

use std::rc::Rc;

use base64::Engine as _;

use super::bytes;
use super::eval::Interp;
use super::exec_error::ExecError;
use super::glob;
use super::object::{Files, Object};
use super::value::Val;
use crate::yaml::{self, Map, Value};

pub(super) fn invoke(files: &Rc<Files>, name: &str, argument: &str) -> Result<Val, Box<ExecError>> {
    let data = || files.get(argument).map_or(&[][..], |data| &**data);
    Ok(match name {
        "Get" => Val::of_bytes(data()),
        "GetBytes" => Val::Object(Rc::new(Object::Bytes(data().into()))),
        "Lines" => lines(&bytes::text(data())),
        "AsSecrets" => as_yaml(files, |data| {
            base64::engine::general_purpose::STANDARD.encode(data)
        }),
        _ => as_yaml(files, |data| bytes::lossy(&bytes::text(data)).into_owned()),
    })
}

fn lines(text: &str) -> Val {
    if text.is_empty() {
        return Val::strings(Vec::<Rc<str>>::new());
    }
    Val::strings(text.strip_suffix('\n').unwrap_or(text).split('\n'))
}

/// Writes the files as a map from base name to text.
fn as_yaml(files: &Files, text: impl Fn(&[u8]) -> String) -> Val {
    let base = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let map: Map = files
        .iter()
        .map(|(name, data)| (base(name), Value::String(text(data))))
        .collect();
    let written = yaml::write(&Value::Map(map)).unwrap_or_default();
    Val::from(written.strip_suffix('\n').unwrap_or(&written))
}

/// How many states of a pattern are gone through for one step, at each byte of a name.
const STATES_PER_STEP: usize = 64;

/// Returns the files whose names match a pattern. Names may be long and many: the caller is asked between them.
pub(super) fn matching(interp: &mut Interp<'_>, files: &Files, pattern: &str) -> Result<Val, Box<ExecError>> {
    // A pattern that is none matches everything, as in the reference.
    let matcher = glob::compile(pattern)?;
    if let Some(matcher) = &matcher {
        interp.charge(matcher.ranges() as u64)?;
    }
    let mut found = Files::default();
    for (name, data) in files {
        let matches = match &matcher {
            Some(matcher) => {
                let states = matcher.states().saturating_mul(name.len());
                interp.charge((states / STATES_PER_STEP) as u64)?;
                matcher.is_match(name)
            }
            None => true,
        };
        if matches {
            found.insert(name.clone(), data.clone());
        }
    }
    Ok(Val::Object(Rc::new(Object::Files(Rc::new(found)))))
}
