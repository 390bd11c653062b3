//! The table of values: scalars that a writer must quote or not, numbers, shapes, lengths and keys.

use serde_json::{Map, Value, json};

/// Texts that some rule of YAML 1.1 or of the writer treats in its own way.
pub(super) const SCALARS: &[&str] = &[
    "",
    "~",
    "null",
    "Null",
    "NULL",
    "nULL",
    "y",
    "Y",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "n",
    "N",
    "no",
    "No",
    "NO",
    "on",
    "On",
    "ON",
    "off",
    "Off",
    "OFF",
    "true",
    "True",
    "TRUE",
    "tRue",
    "false",
    "False",
    "FALSE",
    "t",
    "f",
    "0",
    "-0",
    "+0",
    "00",
    "1",
    "-1",
    "+1",
    "007",
    "08",
    "0644",
    "-0644",
    "0o17",
    "0O17",
    "0b11",
    "0B11",
    "-0b11",
    "0b-1",
    "0b2",
    "0x1F",
    "0X1f",
    "-0x1",
    "0x",
    "0b",
    "0o",
    "1_000",
    "_1",
    "1_",
    "1__0",
    "0x_1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "+18446744073709551615",
    "1.5",
    "-1.5",
    "+1.5",
    ".5",
    "-.5",
    "+.5",
    "5.",
    "1e3",
    "1E3",
    "1e+3",
    "1e-3",
    "1.5e10",
    "1e400",
    "1e-400",
    ".",
    "..",
    "...",
    ".e1",
    "e1",
    "1e",
    "1e+",
    "1.2.3",
    ".inf",
    ".Inf",
    ".INF",
    "+.inf",
    "-.inf",
    ".nan",
    ".NaN",
    ".NAN",
    "inf",
    "nan",
    "1:20",
    "12:30:45",
    "1:60",
    "1:2.5",
    "-1:20",
    "1:",
    ":1",
    "190:20:30",
    "2020-01-01",
    "2020-1-1",
    "2020-13-01",
    "2020-02-30",
    "2020-02-29",
    "2021-02-29",
    "2020-01-01T00:00:00Z",
    "2020-01-01t00:00:00Z",
    "2020-01-01 00:00:00",
    "2020-01-01  00:00:00",
    "2020-01-01T00:00:00+01:00",
    "2020-01-01T0:0:0Z",
    "2020-01-01T00:00:00.123Z",
    "2020-01-01T00:00:00",
    "2020-01-01 00:00:00Z",
    "20-01-01",
    "12345-01-01",
    "<<",
    "=",
    "!",
    "!!",
    "!a",
    "&",
    "&a",
    "*",
    "*a",
    "#",
    "#a",
    "a#",
    "a #b",
    "a# b",
    "-",
    "--",
    "---",
    "--- a",
    "---a",
    "-a",
    "- a",
    "?",
    "? a",
    "?a",
    ":",
    ": a",
    ":a",
    "a:",
    "a: b",
    "a:b",
    "a :b",
    ",",
    ",a",
    "a,b",
    "[",
    "]",
    "[a]",
    "{",
    "}",
    "{a}",
    "|",
    ">",
    "@",
    "`",
    "%",
    "%a",
    "a%",
    "'",
    "''",
    "\"",
    "\"\"",
    "a'b",
    "a\"b",
    "it's",
    "\\",
    "a\\b",
    " ",
    "  ",
    " a",
    "a ",
    "a  b",
    "\t",
    "\ta",
    "a\t",
    "a\tb",
    "\n",
    "\n\n",
    "a\n",
    "a\n\n",
    "\na",
    "a\nb",
    "a\nb\n",
    "a\n\nb",
    "a \nb",
    "a\n b",
    " a\nb",
    "a\nb ",
    "a\n\tb",
    "\ta\nb",
    "a\r\nb",
    "\r",
    "a\rb",
    "a: b\nc: d\n",
    "- a\n- b\n",
    "#!/bin/sh\necho a\n",
    "a\u{85}b",
    "a\u{2028}b",
    "a\u{2029}\n",
    "\u{a0}",
    "a\u{a0}b",
    "\u{feff}a",
    "é",
    "日本語",
    "😀",
    "a😀b",
    "\u{e000}",
    "\u{fffd}",
    "\u{200b}",
    "\u{7f}",
    "\u{80}",
    "\u{9f}",
    "\u{1}",
    "\u{7}",
    "\u{8}",
    "\u{b}",
    "\u{c}",
    "\u{e}",
    "\u{1b}",
    "\u{1f}",
    "\0",
    "\u{fffe}",
    "\u{ffff}",
    "<a>",
    "a&b",
    "{{ .Values.a }}",
    "${VAR}",
    "key=value",
    "app.kubernetes.io/name",
    "10.0.0.1",
    "10.0.0.0/8",
    "1Gi",
    "100m",
    "50%",
    "v1.2.3",
    "1.2",
    "1.20",
    "sha256:abc",
    "http://a.b/c?d=e#f",
    "*.example.com",
    "0.0.0.0:80",
    "a/b",
    "a@b",
    "/",
    "//",
    "$",
    "^a$",
    "(a)",
    "a;b",
    "a|b",
    "a > b",
    "_",
    "__a",
    "A",
    "a",
    "ab",
    "abc def",
    "2021",
    "2021.0",
    "1.0",
    "-1.0",
    "100000000000000000000",
    "1e21",
    "0.1",
    "0.000001",
    "0.0000001",
    "123456789.125",
    "1234567.5",
    "123456.5",
];

/// Numbers at the edges of their kinds.
pub(super) const NUMBERS: &[&str] = &[
    "0",
    "-0.0",
    "1",
    "-1",
    "1.0",
    "1.5",
    "0.1",
    "1e6",
    "1234567",
    "1234567.5",
    "100000000.5",
    "1e20",
    "1e21",
    "1.5e21",
    "1e22",
    "1e-4",
    "1e-5",
    "1e-6",
    "1e-7",
    "1.25e-5",
    "1e100",
    "1e308",
    "5e-324",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "4503599627370497.5",
    "9007199254740993",
    "0.30000000000000004",
    "2147483648",
    "123456.789",
    "999999.5",
    "1000000.5",
    "-1e-9",
];

pub(super) fn number(text: &str) -> Value {
    serde_json::from_str(text).expect("a number of the table")
}

/// Returns every scalar in every place, and shapes of lists and maps.
pub fn values() -> Vec<Value> {
    let mut values = Vec::new();
    for text in SCALARS {
        for value in [
            json!(text),
            json!({"k": text}),
            json!({*text: "v"}),
            json!([text]),
            json!([[text]]),
        ] {
            values.push(value);
        }
        values.push(json!({*text: {"k": text}}));
        values.push(json!([{*text: [text]}]));
        values.push(json!({"a": {"b": {"c": format!("{text} {text}")}}}));
        values.push(json!({"k": format!("{text}\n{text}\n")}));
        values.push(json!({"k": format!("word {}{text}", "word ".repeat(20))}));
        values.push(json!({"k": format!("{text} {}", "longer words: ".repeat(9))}));
        values.push(json!({"k": format!("{}{text}", "x".repeat(100))}));
    }
    for text in NUMBERS {
        values.extend([number(text), json!({"k": number(text)}), json!([number(text)])]);
    }
    values.extend(shapes());
    values.extend(lengths());
    values.extend(keys());
    values
}

fn shapes() -> Vec<Value> {
    let leaves = [
        json!(null),
        json!(true),
        json!(1),
        json!("a"),
        json!("a\nb"),
        json!([]),
        json!({}),
    ];
    let mut shapes = Vec::new();
    for one in &leaves {
        for two in &leaves {
            shapes.push(json!([one, two]));
            shapes.push(json!({"a": one, "b": two}));
            shapes.push(json!([[one], [two]]));
            shapes.push(json!([{"a": one, "b": two}]));
            shapes.push(json!({"a": [one, two]}));
            shapes.push(json!({"a": {"b": [{"c": one}, [two]]}}));
            shapes.push(json!({"a\nb": one, "c": two}));
            shapes.push(json!({"a\nb": [one], "c": {"d": two}}));
            shapes.push(json!([{"a\nb": {"c": one}, "d": [[two]]}]));
        }
    }
    shapes
}

fn lengths() -> Vec<Value> {
    let mut values = Vec::new();
    for length in [
        70, 76, 77, 78, 79, 80, 81, 82, 83, 90, 127, 128, 129, 160, 161, 200, 1020, 1021, 1022, 1023, 1024,
        1025,
    ] {
        let solid = "x".repeat(length);
        let words: String = "ab cde f ".chars().cycle().take(length).collect();
        let wide: String = "日本 語é ".chars().cycle().take(length).collect();
        for text in [&solid, &words, &wide] {
            values.push(json!({"k": text}));
            values.push(json!({"k": format!("{text}: a")}));
            values.push(json!({"k": format!("{text}\t a  b")}));
            values.push(json!({"k": format!("{text} 😀 x y z")}));
            values.push(json!({"a": [{"b": text}]}));
            values.push(json!({text.as_str(): "v"}));
            values.push(json!({text.as_str(): ["v", text]}));
            values.push(json!(text));
        }
    }
    values
}

// Keys with leading zeros, or with letters after digits, are left out: the reference's order is none there, and changes by run.
fn keys() -> Vec<Value> {
    let sets: &[&[&str]] = &[
        &["a1", "a2", "a10", "a11", "a100", "a20"],
        &["1", "2", "10", "9", "99", "100", "a1"],
        &["a", "A", "b", "B", "_", "-", ".", "/", "~", " ", ""],
        &["x100", "x99", "x9", "x0", "x00", "x10", "x101", "x110"],
        &["é", "e", "z", "日", "٣", "3", "٣٤", "½", "ⅷ", "ª", "ͅ"],
        &["a-b", "a.b", "a_b", "ab", "aB", "a b", "a/b", "a:b"],
    ];
    sets.iter()
        .map(|set| {
            set.iter()
                .map(|key| ((*key).to_owned(), json!(1)))
                .collect::<Map<_, _>>()
                .into()
        })
        .collect()
}
