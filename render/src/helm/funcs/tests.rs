//! Compares what each function takes with what the reference's takes, and with what it reads.

use super::{Run, TABLES, find};
use crate::helm::time::{self, Time};
use crate::helm::value::{Entries, Items, MapVal, Val};

/// Returns the letter of a Go type; an interface may be declared by any of several.
fn letter(of: &str) -> char {
    match of {
        "string" => 's',
        "int" => 'i',
        "int64" => 'I',
        "float64" => 'f',
        "bool" => 'b',
        "map[string]interface {}" => 'm',
        "[]interface {}" => 'l',
        "[]string" => 'S',
        "time.Time" => 't',
        "uint32" => 'u',
        "sprig.certificate" => 'c',
        "interface {}" => 'a',
        other => panic!("no letter for {other}"),
    }
}

/// Returns the letters of a Go function's parameters.
fn letters(function: &str) -> String {
    let parameters = function.strip_prefix("func(").expect("a function's type");
    let (mut depth, mut end) = (0, 0);
    for (at, c) in parameters.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => {
                end = at;
                break;
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    let mut letters = String::new();
    for parameter in parameters[..end].split(", ").filter(|one| !one.is_empty()) {
        match parameter.strip_prefix("...") {
            Some(of) => letters.extend([letter(of), '*']),
            None => letters.push(letter(parameter)),
        }
    }
    letters
}

#[test]
fn every_function_takes_what_the_reference_takes() {
    let listed = flotilla_render_tests::Oracle::start()
        .text("functions", "")
        .expect("the list");
    let mut compared = 0;
    let mut differences = Vec::new();
    // The functions of Go's templates themselves look at any value, and have no type to compare.
    for (name, of) in listed.lines().filter_map(|line| line.split_once(' ')) {
        let Some(function) = find(name) else {
            differences.push(format!("{name} is missing"));
            continue;
        };
        assert!(!matches!(function.run, Run::Logic { .. }), "{name}");
        let theirs = letters(of);
        if function.signature != theirs {
            differences.push(format!(
                "{name}: ours {}, theirs {theirs} of {of}",
                function.signature
            ));
        }
        compared += 1;
    }
    println!("signatures: {compared} compared");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Returns values that a parameter takes.
fn values_of(letter: u8) -> Vec<Val> {
    let map = || Val::Map(MapVal::new(Entries::new()));
    match letter {
        b's' => vec!["a".into(), "".into()],
        b'i' => vec![Val::Int(1)],
        b'I' => vec![Val::Int64(1)],
        b'f' => vec![Val::Float(1.5)],
        b'b' => vec![Val::Bool(true)],
        b'm' => vec![map()],
        b'l' => vec![Val::list(vec!["a".into()])],
        b'S' => vec![Val::nil_list(Items::Texts)],
        b't' => vec![time::value(Time::zero())],
        b'a' | b'v' => vec![
            "1".into(),
            Val::Int(1),
            Val::list(vec!["a".into()]),
            map(),
            Val::Nil,
        ],
        other => panic!("no value for {}", char::from(other)),
    }
}

/// The readers of arguments assert in this build that what they read is of the type that they return.
#[test]
fn functions_read_what_their_signatures_have() {
    let mut called = 0;
    for function in TABLES.iter().copied().flatten() {
        let Run::Pure(run) = function.run else { continue };
        let (fixed, repeated) = match function.signature.strip_suffix('*') {
            Some(all) => all.split_at(all.len() - 1),
            None => (function.signature, ""),
        };
        for repeats in 0..=3 {
            let letters = format!("{fixed}{}", repeated.repeat(repeats));
            for which in 0..values_of(b'a').len() {
                let values = letters.bytes().map(values_of);
                let args: Vec<Val> = values
                    .map(|values| values[which % values.len()].clone())
                    .collect();
                // Whether it takes them is not asked here.
                let _ = run(&args);
                called += 1;
            }
        }
    }
    println!("arguments: {called} calls");
    assert!(called > 1000, "{called}");
}
