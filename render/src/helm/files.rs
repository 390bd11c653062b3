//! `.Files`: the chart's files that are no templates, by name and by pattern.

use std::rc::Rc;

use base64::Engine as _;
use regex::Regex;

use super::fault::Fault;
use super::object::{Files, Object};
use super::value::Val;
use crate::yaml::{self, Map, Value};

pub(super) fn invoke(files: &Rc<Files>, name: &str, argument: &str) -> Result<Val, Box<Fault>> {
    let data = || files.get(argument).map_or(&[][..], |data| &**data);
    Ok(match name {
        "Get" => Val::from(String::from_utf8_lossy(data()).into_owned()),
        "GetBytes" => Val::Object(Rc::new(Object::Bytes(data().to_vec()))),
        "Glob" => Val::Object(Rc::new(Object::Files(Rc::new(glob(files, argument))))),
        "Lines" => lines(&String::from_utf8_lossy(data())),
        "AsSecrets" => as_yaml(files, |data| {
            base64::engine::general_purpose::STANDARD.encode(data)
        }),
        _ => as_yaml(files, |data| String::from_utf8_lossy(data).into_owned()),
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

fn glob(files: &Files, pattern: &str) -> Files {
    // A pattern that is none matches everything, as in the reference.
    let matcher = translated(pattern).and_then(|pattern| Regex::new(&pattern).ok());
    let matches = |name: &str| matcher.as_ref().is_none_or(|matcher| matcher.is_match(name));
    files
        .iter()
        .filter(|(name, _)| matches(name))
        .map(|(name, data)| (name.clone(), data.clone()))
        .collect()
}

/// Turns a pattern, with `/` between segments, into a regular expression.
fn translated(pattern: &str) -> Option<String> {
    let mut out = String::from("(?s)^");
    let mut depth = 0;
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => out.push_str(".*"),
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '[' => {
                out.push('[');
                if rest.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
                loop {
                    match rest.next()? {
                        ']' => break,
                        '-' => out.push('-'),
                        c => out.push_str(&regex::escape(&c.to_string())),
                    }
                }
                out.push(']');
            }
            '\\' => out.push_str(&regex::escape(&rest.next()?.to_string())),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    (depth == 0).then(|| out + "$")
}
