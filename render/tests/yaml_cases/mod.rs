//! The table of values and texts, and random ones: built of parts that are known to be told apart by readers
//! and writers of YAML.

#![allow(unreachable_pub, reason = "a test's module is its own crate's")]

use serde_json::{Map, Value, json};

/// Texts that some rule of YAML 1.1 or of the writer treats in its own way.
const SCALARS: &[&str] = &[
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
const NUMBERS: &[&str] = &[
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

fn number(text: &str) -> Value {
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

/// Returns each scalar in each place of a document, and documents of the idioms in use.
pub fn texts() -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for scalar in SCALARS {
        texts.push((*scalar).to_owned());
        texts.push(format!("k: {scalar}"));
        texts.push(format!("- {scalar}\n- b"));
        texts.push(format!("[{scalar}, b]"));
        texts.push(format!("{scalar}: v"));
        texts.push(format!("k: !!str {scalar}"));
        if !scalar.contains(['\\', '"', '\n']) {
            texts.push(format!("k: \"{scalar}\""));
        }
    }
    texts.extend(DOCUMENTS.iter().map(|text| (*text).to_owned()));
    texts
}

const DOCUMENTS: &[&str] = &[
    "a: 1\na: 2",
    "a: 1\n\"a\": 2",
    "1: a\n2.5: b\ntrue: c",
    "1.0: a",
    "1e3: a",
    "123456789.5: a",
    "0.1: a",
    "? a\n: b",
    "? [a]\n: b",
    "? {a: b}\n: c",
    "null: a",
    "~: a",
    "18446744073709551615: a",
    "b: &x {a: 1, c: 2}\nd:\n  <<: *x\n  c: 3",
    "b: &x {a: 1, c: 2}\nd:\n  c: 3\n  <<: *x",
    "x: &x {a: 1}\ny: &y {a: 2, b: 3}\nz:\n  <<: [*x, *y]",
    "z:\n  <<: {a: 1}\n  b: 2",
    "z:\n  <<: [{a: 1}, {a: 2, b: 1}]",
    "z:\n  <<: 1",
    "z:\n  <<: [1]",
    "x: &x [1]\nz:\n  <<: *x",
    "\"<<\": {a: 1}",
    "a: &x 1\nb: *x",
    "a: &x [1, 2]\nb: [*x, *x]",
    "a: *x",
    "a: &x [*x]",
    "&k a: 1\nb: *k",
    "*x : 1",
    "a: !!int 1",
    "a: !!int \"1\"",
    "a: !!int x",
    "a: !!float 1",
    "a: !!float 1.5",
    "a: !!float x",
    "a: !!bool yes",
    "a: !!bool x",
    "a: !!null x",
    "a: !!null ''",
    "a: !!null null",
    "a: !!binary aGVsbG8=",
    "a: !!binary |\n  aGVs\n  bG8=",
    "a: !!binary x",
    "a: !!timestamp 2020-01-01",
    "a: !!timestamp x",
    "a: !!map {b: 1}",
    "a: !!seq [1]",
    "a: !custom 1",
    "a: !custom {b: 1}",
    "a: !<tag:yaml.org,2002:str> 1",
    "a: ! 1",
    "%YAML 1.1\n---\na: 1",
    "%TAG !e! tag:example.com,2000:\n---\na: !e!x 1",
    "---\na: 1\n---\nb: 2",
    "a: 1\n...\nb: 2",
    "--- a",
    "---\n",
    "# only a comment",
    "a: |\n  one\n  two\n",
    "a: |-\n  one\n  two\n",
    "a: |+\n  one\n\n\nb: 1",
    "a: |2\n    one\n   two\n",
    "a: >\n  one\n  two\n\n  three\n    four\n  five\n",
    "a: >-\n  one\n  two\n",
    "a: >+\n  one\n\n",
    "a: |\n\n  one\n",
    "a: |\nb: 1",
    "a: 'one\n  two'",
    "a: \"one\n  two\\\n  three\"",
    "a: \"\\x41\\u00e9\\U0001F600\\n\\t\\e\\_\\N\\L\\P\\/\"",
    "a: \"\\q\"",
    "a: one\n  two\n  three",
    "a: one\n\n  two",
    "a:\n- 1\n- 2\nb:\n  - 3",
    "- - 1\n  - 2\n- - 3",
    "- a: 1\n  b: 2\n- c: 3",
    "-\n  a: 1",
    "a: {b: 1, c: [1, 2, {d: e}]}",
    "a: {b, c: 1}",
    "a: [b: 1, c]",
    "a: [1, 2,]",
    "a: {b: 1,}",
    "a: [,]",
    "a: {\"b\":1}",
    "{\"a\":[1,2.5,null,true,\"x\"]}",
    "a: [\n1,\n2\n]",
    "a: b: c",
    "a:\n\tb: 1",
    "a: 1\n b: 2",
    "  a: 1\n  b: 2",
    "a: 1\n- b",
    "[a",
    "{a: 1",
    "\"a",
    "'a",
    "a: 'it''s'",
    "a: # comment\n  b: 1 # more\n# end",
    "a: x#y",
    "a:\n  # c\n  - 1",
    "a: http://x.y/z",
    "a: \"b\": c",
    "a: -",
    "a: - b",
    "a: ? b",
    "a: @b",
    "a: `b`",
    "a: %b",
    "a: |x\n b",
    "a: &",
    "a: *",
    "a: & b",
    "\u{feff}a: 1",
    "a: b\u{85}c: d",
    "a: b\u{2028}c: d",
    "a: b\u{2028}  c",
    "a: b  \n \u{2029}  c\nd: 1",
    "a: 'b\u{2028}c'",
    "a: 'b\u{2028}  c'",
    "a: 'b \u{2028}\n\n \u{2029}\n c'",
    "'a\u{2028}b': c",
    "a: \"b\u{2028}  c\u{85} d\"",
    "a: b # c\u{2028}d: e",
    "a: |\n  b\u{85}  c\n",
    "a: b\r\u{85}c: d",
    "a: \"b\nc\"\nd: 1",
    "a:\n- 'b\n\n\tc\n\n  d'\n- 1",
    "a: \"b\\\n c\"",
    "a: \"b\n---\nc\"",
    "a: \"it\\'s\"\nb: \"\\\\'\\'\"",
    "a: \"\\q\"",
    "a: |\n  b\n# c",
    "a: |\n  b\n # c",
    "a: |\n  b\n\n # c",
    "a: |+\n  b\n\n # c",
    "a: |-\n  b\n # c",
    "a: >\n  b\n # c",
    "a:\n  b: |\n    c\n  # d",
    "a:\n  b: |\n    c\n  # d\n  # e",
    "a: |\n  b\n ",
    "a: |\n  b\n   ",
    "a: |\n  b\n  # c",
    "a: |+\n  b\n ",
    "a: |+\n  b\n   ",
    "a: >\n  b\n   ",
    "a: |+\n\n# c",
    "a: |+\n\n # c",
    "a: |+\n ",
    "a: |+\n\n ",
    "a: |\n   ",
    "a: |+",
    "a: |+\n",
    "a: |2\n     ",
    "a: |2+\n     ",
    "a: |+\n\u{2028}\n",
    "a: \u{e9}\nb: 日本",
    "a:\r\n  b: 1\r\n  c: |\r\n    x\r\n    y\r\n",
    "a: 'x\r\n  y'",
    "a: \"x  \n  y\"",
    "a:  1  ",
    "a:\n  b:\n    c:\n  d:",
    "a: null\nb: ~\nc:\nd: ''",
    "key with spaces: v",
    "\"quoted key\": v",
    "'quoted': v",
    "a.b/c: d",
    "a : b",
    "[a, b]: c",
    "{a: b}: c",
    "? |\n  block\n: v",
    "a: [a, [b, [c]]]",
    "a: {x: {y: {z: 1}}}",
    "a: yes\nb: no\nc: on\nd: off\ne: y\nf: n",
    "yes: 1\nno: 2",
    "on: push",
    "a: 1 # c\nb: '#'",
    "a: \"#\" # c",
    "- 1\n-2",
    "-1",
    "- ",
    "-\n-",
    "a: >\n\n\n  x",
    "a: |1\n x",
    "a: |9\n x",
    "a: |0\n x",
    "a: |-1\n x",
    "a: |1-\n x",
    "a: \"\"\nb: ''",
    "a: !!str\nb: !!null",
    "!!map {a: 1}",
    "&a a: &b b\nc: *b",
    "a: [*a]",
    "a: <<",
    "<<: a",
    "- <<",
];

/// A small generator with a fixed seed, so that a difference can be run again.
pub struct Random(u64);

impl Random {
    /// Starts from a seed other than zero.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Changes a text at a random place.
    pub fn damage(&mut self, text: &mut String) {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        match self.below(4) {
            0 => {
                let _ = text.pop();
            }
            1 if at < text.len() => {
                text.remove(at);
            }
            2 => text.truncate(at),
            _ => text.insert_str(at, PARTS[self.below(PARTS.len())]),
        }
    }

    /// Returns a text of few parts, the line breaks of YAML 1.1 among them.
    pub fn broken_lines(&mut self) -> String {
        const PARTS: &[&str] = &[
            "a",
            "b",
            "c",
            "a: ",
            "b: ",
            "- ",
            "'",
            "\"",
            " ",
            "  ",
            "\n",
            "\n  ",
            "\r\n",
            "\u{85}",
            "\u{2028}",
            "\u{2028} ",
            "\u{2029}",
            "\u{2028}  ",
            "\\",
            "# ",
            " # ",
            "|\n  ",
            ">\n  ",
            "[",
            "]",
            ", ",
            "''",
        ];
        let open = ["", "a: ", "a: '", "a: \"", "'", "- \"", "a: b\n", "k:\n  a: "][self.below(8)];
        let mut text = open.to_owned();
        for _ in 0..3 + self.below(8) {
            text.push_str(PARTS[self.below(PARTS.len())]);
        }
        if open.ends_with(['\'', '"']) && self.below(8) > 0 {
            text.push_str(&open[open.len() - 1..]);
        }
        text
    }

    /// Returns a value nested at most `depth` deep.
    pub fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => json!(null),
            1 => json!(self.below(2) == 0),
            2 => number(NUMBERS[self.below(NUMBERS.len())]),
            3..=5 => json!(self.text()),
            6 | 7 => (0..self.below(5)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let entries: Map<String, Value> = (0..self.below(5))
                    .map(|_| (self.text(), self.value(depth - 1)))
                    .collect();
                entries.into()
            }
        }
    }

    fn text(&mut self) -> String {
        const PARTS: &[&str] = &[
            "a",
            "b",
            "word",
            " ",
            "  ",
            "\n",
            ":",
            ": ",
            "#",
            " #",
            "-",
            "- ",
            "'",
            "\"",
            "\\",
            "1",
            "0",
            ".",
            "/",
            "yes",
            "{",
            "}",
            "[",
            ",",
            "é",
            "日本",
            "😀",
            "\t",
            "longer words of a text",
            "Z",
            "_",
            "%",
            "@",
            "|",
            ">",
            "!",
            "&",
            "*",
            "?",
            "~",
        ];
        if self.below(3) == 0 {
            return SCALARS[self.below(SCALARS.len())].to_owned();
        }
        let parts = [2, 4, 12, 40][self.below(4)];
        (0..self.below(parts))
            .map(|_| PARTS[self.below(PARTS.len())])
            .collect()
    }
}

/// Parts that are put into a text at a random place.
const PARTS: &[&str] = &[
    " ",
    "  ",
    "\n",
    "\n\n",
    ":",
    ": ",
    "#",
    " #",
    "-",
    "- ",
    "'",
    "\"",
    "\\",
    "|",
    ">",
    "|-\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!",
    "!!str ",
    "%",
    "@",
    "`",
    "?",
    "? ",
    "<<: ",
    "---\n",
    "...\n",
    "\t",
    "\r",
    "é",
    "\u{a0}",
    "\u{2028}",
    "\u{85}",
    "\u{1F600}",
    "~",
    "0",
    ".",
    "=",
    "\n#",
    "\n # x\n",
    "\r\n",
    "  \t",
    "\\\n",
    "|2\n",
    "!!int ",
    "!<tag:yaml.org,2002:str> ",
    "%TAG ! tag:x,1:\n---\n",
    "[a, b]: c\n",
];
