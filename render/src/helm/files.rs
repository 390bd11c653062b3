//! `.Files`: the chart's files that are no templates, by name and by pattern.

use std::rc::Rc;

use base64::Engine as _;

use super::bytes;
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
        "Glob" => Val::Object(Rc::new(Object::Files(Rc::new(matching(files, argument)?)))),
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

fn matching(files: &Files, pattern: &str) -> Result<Files, String> {
    // A pattern that is none matches everything, as in the reference.
    let matcher = glob::compile(pattern)?;
    let matches = |name: &str| matcher.as_ref().is_none_or(|matcher| matcher.is_match(name));
    let found = files.iter().filter(|(name, _)| matches(name));
    Ok(found.map(|(name, data)| (name.clone(), data.clone())).collect())
}
