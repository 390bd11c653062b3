//! Templates against Helm's own engine: syntax, functions and error texts, each case in its own chart.

use std::collections::HashSet;

use flotilla_render_tests::rendered::{ours, theirs};
use flotilla_render_tests::{Oracle, templates};

/// Compares every case; what differs is shown, and more than `known` fails.
fn compare(table: &str, cases: &[&str], known: &[&str]) {
    let mut oracle = Oracle::start();
    let mut differences = Vec::new();
    let mut agreed = 0;
    for case in cases {
        let (ours, theirs) = (ours(case), theirs(&mut oracle, case));
        if ours == theirs {
            agreed += 1;
        } else if !known.contains(case) {
            differences.push(format!(
                "template: {case}\nours:     {ours:?}\ntheirs:   {theirs:?}\n{}",
                calls_that_differ(&mut oracle, case)
            ));
        }
    }
    println!("agreement: {table}: {agreed} of {}", cases.len());
    for difference in &differences {
        println!("{difference}");
    }
    assert!(differences.is_empty(), "{table}: {} differ", differences.len());
}

/// Names the actions of a row that differ by themselves, so that nobody counts braces.
fn calls_that_differ(oracle: &mut Oracle, row: &str) -> String {
    let actions = row.split_inclusive("}}").filter(|part| part.contains("{{"));
    let differing = actions.filter(|action| ours(action) != theirs(oracle, action));
    differing
        .map(|action| format!("  of these: {action}\n"))
        .collect()
}

#[test]
fn syntax_means_what_it_means_to_go() {
    compare("template syntax", templates::SYNTAX, &[]);
}

#[test]
fn errors_are_worded_as_helm_words_them() {
    compare("template errors", templates::ERRORS, templates::KNOWN);
}

#[test]
fn functions_return_what_go_functions_return() {
    compare("template functions", templates::FUNCTIONS, templates::KNOWN);
}

#[test]
fn keys_and_ciphers_have_the_shape_that_go_gives_them() {
    compare("keys", templates::KEYS, &[]);
}

#[test]
fn text_that_is_no_utf8_is_kept_to_the_byte() {
    compare("bytes", templates::BYTES, &[]);
}

#[test]
fn letters_change_their_case_one_to_one() {
    compare("cases", templates::CASES, &[]);
}

#[test]
fn regular_expressions_are_read_as_go_reads_them() {
    compare("expressions", templates::REGEXPS, &[]);
}

#[test]
fn patterns_of_files_match_what_they_match_in_helm() {
    compare("patterns", templates::GLOBS, &[]);
}

#[test]
fn layouts_and_texts_within_texts_are_those_of_go() {
    compare("layouts", templates::LAYOUTS, &[]);
}

#[test]
fn constants_and_verbs_are_those_of_go() {
    compare("constants", templates::NUMBERS, &[]);
}

#[test]
fn nothing_is_what_go_has_there() {
    compare("nothing", templates::NOTHING, &[]);
}

#[test]
fn halves_of_characters_in_json_are_replaced() {
    compare("json", templates::JSON, &[]);
}

#[test]
fn values_have_their_methods_and_functions_return_their_types() {
    compare("methods", templates::METHODS, &[]);
}

#[test]
fn maps_may_hold_themselves() {
    compare("cycles", templates::CYCLES, &[]);
}

#[test]
fn addresses_are_read_and_written_as_go_does() {
    compare("addresses", templates::URLS, &[]);
}

#[test]
fn structs_and_named_numbers_are_printed_as_go_prints_them() {
    compare("structs", templates::STRUCTS, &[]);
}

#[test]
fn widths_indexes_and_flags_of_printf_are_those_of_go() {
    compare("formats", templates::FORMATS, &[]);
}

#[test]
fn zero_keeps_its_sign_where_go_keeps_it() {
    compare("zeros", templates::ZEROS, &[]);
}

#[test]
fn toml_is_read_and_written_as_the_library_of_the_reference_does() {
    compare("toml", templates::TOML, &[]);
}

#[test]
fn every_function_of_helm_is_here_and_has_a_row() {
    let mut oracle = Oracle::start();
    let listed = oracle.text("functions", "").expect("the list");
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 200, "{names:?}");
    let absent = |name: &&&str| {
        let named = ours(&format!("{{{{ if false }}}}{{{{ {name} }}}}{{{{ end }}}}"));
        named.is_err_and(|cause| cause.contains("not defined"))
    };
    let absent: Vec<&&str> = names.iter().filter(absent).collect();
    assert!(absent.is_empty(), "not here: {absent:?}");
    let words: HashSet<&str> = templates::every_row()
        .flat_map(|row| row.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .collect();
    let without: Vec<&&str> = names.iter().filter(|name| !words.contains(**name)).collect();
    assert!(without.is_empty(), "without a row: {without:?}");
    println!("functions: {} of {}", names.len() - absent.len(), names.len());
}

#[test]
fn printf_prints_as_go_prints() {
    let cases: Vec<String> = templates::printf();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    compare("printf", &cases, &[]);
}

#[test]
fn endless_templates_are_stopped() {
    let bombs = [
        "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}",
        "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}",
        "{{ define \"a\" }}{{ tpl \"{{ include \\\"a\\\" . }}\" . }}{{ end }}{{ include \"a\" . }}",
        "{{ range until 10000000 }}{{ range until 10000000 }}{{ end }}{{ end }}",
        "{{ repeat 1000000000 \"x\" }}",
        "{{ range untilStep 0 1000000000 1 }}{{ end }}",
        "{{ $s := \"xxxxxxxxxx\" }}{{ range until 100 }}{{ $s = print $s $s }}{{ end }}{{ $s }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ $d }}",
    ];
    for bomb in bombs {
        assert!(ours(bomb).is_err(), "{bomb}");
    }
}

#[test]
fn deep_nesting_is_refused_without_exhausting_the_stack() {
    let depth = 10_000;
    for (open, close) in [
        ("{{ if . }}", "{{ end }}"),
        ("{{ with . }}", "{{ end }}"),
        ("{{ range . }}", "{{ end }}"),
    ] {
        assert!(
            ours(&format!("{}{}", open.repeat(depth), close.repeat(depth))).is_err(),
            "{open}"
        );
    }
    assert!(ours(&format!("{{{{ {}1{} }}}}", "(".repeat(depth), ")".repeat(depth))).is_err());
    let chained = format!("{{{{ if . }}}}{}{{{{ end }}}}", "{{ else if . }}".repeat(depth));
    assert!(ours(&chained).is_err());
}
