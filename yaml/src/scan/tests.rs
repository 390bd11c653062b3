//! What go-yaml reads otherwise than YAML 1.2; `render/tests/yaml.rs` compares far more of it with the reference.

use crate::{Limits, ReadError, read, read_all};

fn json(text: &str) -> String {
    match read(text, &Limits::default()) {
        Ok(value) => serde_json::Value::from(value).to_string(),
        Err(ReadError::Syntax { line, message }) => format!("{line}: {message}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn tabs_are_refused_where_a_key_could_begin() {
    let refused = |line: usize| Some(format!("{line}: "));
    let cases = [
        ("\t# c\na: 1\n", refused(1)),
        ("a: 1\n\t\nb: 2\n", refused(2)),
        ("a: 1\n\t# c\nb: 2\n", refused(2)),
        ("a:\n  b: 1\n  \t\n  c: 2\n", refused(3)),
        ("a:\n  b: 1\n   \t\n  c: 2\n", None),
        ("a:\n\t\n  b: 1\n", refused(2)),
        ("a: 'x'\n \t\nb: 2\n", refused(2)),
        ("a: 1 # c\n  \t\nb: 2\n", refused(2)),
        ("a: 1\n# c\n  \t\nb: 2\n", refused(3)),
        ("a: [1,\n\t2]\nb: {c:\n\t3}\n", None),
        ("a: 'x\n\ty'\n", None),
        ("a: |\n  x\n  \ty\nb: 1\n", None),
        ("- a\n- b\n\t\n", refused(3)),
        ("a\n\tb\n", None),
        ("a:\t1\n", None),
    ];
    for (text, want) in cases {
        let read = json(text);
        match want {
            Some(line) => assert!(read.starts_with(&line), "{text:?}: {read}"),
            None => assert!(read.starts_with(['{', '"']), "{text:?}: {read}"),
        }
    }
}

#[test]
fn line_breaks_of_yaml_1_1_end_a_line_and_separators_stay() {
    let cases = [
        ("a: 1\u{85}b: 2\u{2028}c: 3\n", r#"{"a":1,"b":2,"c":3}"#),
        ("a: x\u{2028} y\n", "{\"a\":\"x\u{2028}y\"}"),
        ("a: 'x\u{85} y'\n", r#"{"a":"x y"}"#),
        ("a: \"x\\\u{2029} y\"\n", r#"{"a":"xy"}"#),
        ("a: |\n x\u{2028} y\n", "{\"a\":\"x\u{2028}y\\n\"}"),
        ("a: >\n x\u{85} y\r\n z\n", r#"{"a":"x y z\n"}"#),
    ];
    for (text, want) in cases {
        assert_eq!(json(text), want, "{text:?}");
    }
}

#[test]
fn quotes_comments_and_flow_collections_are_as_lenient_as_the_reference() {
    let cases = [
        ("a:\n  b: 'x\ny'\n", r#"{"a":{"b":"x y"}}"#),
        ("a: \"it\\'s\"\n", r#"{"a":"it's"}"#),
        ("a: 'b'# c\n", r#"{"a":"b"}"#),
        ("[a, b]# c\n", r#"["a","b"]"#),
        ("a: [b:c, 'd':e, ?f]\n", r#"{"a":["b:c",{"d":"e"},{"f":null}]}"#),
        ("a:\n|\n b\n", r#"{"a":"b\n"}"#),
        ("a: |+\n b\n\n", r#"{"a":"b\n\n"}"#),
        ("a: |\n b", r#"{"a":"b"}"#),
        ("|\na\n", r#""""#),
        ("a: \"\\/\"\n", "1: found unknown escape character"),
        (
            "a: \"\\ud83d\\ude00\"\n",
            "1: found invalid Unicode character escape code",
        ),
        ("a: @b\n", "1: found character that cannot start any token"),
        ("a: b: c\n", "1: mapping values are not allowed in this context"),
        ("a: 'b\n\n", "1: found unexpected end of stream"),
        ("%YAML 1.2\n---\na\n", "1: found incompatible YAML document"),
        ("%TAG !x! tag:yaml.org,2002:\n---\n!x!str 1\n", r#""1""#),
        ("a: !x!y b\n", "1: found undefined tag handle"),
        ("a: !<tag:yaml.org,2002:str> 1\n", r#"{"a":"1"}"#),
        ("...\n", "1: did not find expected node content"),
    ];
    for (text, want) in cases {
        assert_eq!(json(text), want, "{text:?}");
    }
}

#[test]
fn a_document_ends_where_its_first_node_does() {
    assert_eq!(json("[a]\nb\n"), r#"["a"]"#);
    assert_eq!(json("{}: v\na: b\n"), "{}");
    let all = read_all("[a]\nb\n", &Limits::default());
    assert_eq!(
        all,
        Err(ReadError::Syntax {
            line: 2,
            message: "did not find expected <document start>".into()
        })
    );
}

#[test]
fn a_key_is_found_within_a_line_and_1024_characters() {
    let key = |length: usize| format!("{}: v\n", "é".repeat(length));
    assert!(json(&key(1024)).starts_with('{'));
    assert_eq!(
        json(&key(1025)),
        "1: mapping values are not allowed in this context"
    );
    assert_eq!(
        json("'a\nb': v\n"),
        "2: mapping values are not allowed in this context"
    );
}
