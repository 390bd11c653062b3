//! Compares what each function takes with what the reference's takes.

use super::{Run, find};

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
