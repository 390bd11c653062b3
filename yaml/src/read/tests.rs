//! Holds the reader of plain block YAML against the whole reader: what it answers must be the same.

use std::fmt::Write as _;

use flotilla_render_tests::{Random, cases, seed, yaml_cases};

use super::{Limits, plain, read_fields, read_whole};
use crate::Value;
use crate::samples::fixtures;

/// Counts texts and those that the block reader answered for.
#[derive(Default)]
struct Seen {
    texts: usize,
    answered: usize,
}

impl Seen {
    fn compare(&mut self, text: &str, limits: &Limits) {
        self.texts += 1;
        let Some(value) = plain::read(text, limits, None) else {
            return;
        };
        self.answered += 1;
        let whole = read_whole(text, limits);
        assert_eq!(whole.as_ref(), Ok(&value), "of {text:?} with {limits:?}");
        let some = read_fields(text, limits, &["kind", "metadata"]).expect("the whole can be read");
        for field in ["kind", "Kind", "metadata"] {
            assert_eq!(some.get(field), value.get(field), "{field} of {text:?}");
        }
    }
}

fn strict() -> Limits {
    Limits {
        strict: true,
        ..Limits::default()
    }
}

/// Returns the documents of a stream, as charts' renderings are cut.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n")
        .map(|document| document.trim_start_matches("---\n"))
}

#[test]
fn fixtures_and_their_documents_are_read_as_the_whole_reader_reads_them() {
    let mut seen = Seen::default();
    for text in fixtures() {
        seen.compare(&text, &Limits::default());
        seen.compare(&text, &strict());
        documents(&text).for_each(|document| seen.compare(document, &Limits::default()));
    }
    assert!(seen.answered > 500, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn tabled_texts_are_read_as_the_whole_reader_reads_them() {
    let mut seen = Seen::default();
    for text in yaml_cases::texts() {
        for text in [
            text.clone(),
            format!("{text}\n"),
            format!("a: {text}\nb: 1\n"),
            format!("- {text}\n"),
            format!("a:\n  - b: {text}\n    c: |\n      {text}\n"),
            format!("a: [{text}]\nb: {{c: {text}}}\n"),
            format!("{text}: a\n\"{text}\": b\n"),
            format!("a: \"{text}\"\nb: '{text}' # c\n"),
        ] {
            seen.compare(&text, &Limits::default());
            seen.compare(&text, &strict());
        }
    }
    assert!(seen.answered > 500, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn mutated_fixtures_are_read_as_the_whole_reader_reads_them() {
    let mut random = Random::new(seed(7));
    let mut seen = Seen::default();
    let all = fixtures();
    let short: Vec<&str> = all
        .iter()
        .flat_map(|text| documents(text))
        .filter(|text| text.len() < 1500 && plain::read(text, &Limits::default(), None).is_some())
        .collect();
    let count = cases(5000);
    for _ in 0..count {
        let mut text = random.pick(&short).to_owned();
        for _ in 0..=random.below(3) {
            yaml_cases::damage(&mut random, &mut text);
        }
        seen.compare(&text, &Limits::default());
    }
    assert!(seen.answered > count / 5, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn random_block_documents_are_read_as_the_whole_reader_reads_them() {
    let mut random = Random::new(seed(11));
    let mut seen = Seen::default();
    let count = cases(12_000);
    for turn in 0..count {
        let mut text = String::new();
        let indent = random.below(2) * random.below(3);
        collection(&mut text, indent, 3, &mut random);
        if turn % 3 == 0 {
            yaml_cases::damage(&mut random, &mut text);
        }
        let limits = Limits {
            depth: if turn % 5 == 0 { random.below(5) } else { 100 },
            nodes: if turn % 7 == 0 { random.below(12) } else { 1000 },
            strict: turn % 2 == 0,
            ..Limits::default()
        };
        seen.compare(&text, &limits);
    }
    assert!(seen.answered > count / 6, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn what_is_not_of_the_part_is_left_to_the_whole_reader() {
    for text in [
        "a: &x 1\n",
        "a: *x\n",
        "a: !!str 1\n",
        "<<: {a: 1}\n",
        "? a\n",
        "%YAML 1.1\n---\na: 1\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\n",
        "a: b\n  c\n",
        "a: \"b\n  c\"\n",
        "a:\tb\n",
        "a: b: c\n",
        "a: |+\n  b\n",
        "a: |2\n  b\n",
        "a: .inf\n",
        "~: a\n",
        "text\n",
        "\u{feff}a: 1\n",
        "a: \u{2028}\n",
    ] {
        assert_eq!(plain::read(text, &Limits::default(), None), None, "{text:?}");
    }
}

#[test]
fn fields_that_are_not_wanted_are_read_but_not_kept() {
    let text = "Kind: A\nspec:\n  a: [1, x]\n  b: |\n    c\nmetadata: {name: x}\n";
    let limits = Limits::default();
    let read = plain::read(text, &limits, Some(&["kind", "metadata"])).expect("plain");
    let fields: Vec<&String> = read.as_map().expect("a map").keys().collect();
    assert_eq!(fields, ["Kind", "metadata"]);
    assert_eq!(
        read.get("metadata").and_then(|m| m.get("name")),
        Some(&Value::from("x"))
    );
    assert!(read_fields("kind: A\nspec: {a: .nan}\n", &limits, &["kind"]).is_err());
}

const KEYS: &[&str] = &[
    "a",
    "b",
    "kind",
    "Kind",
    "metadata",
    "c-d",
    "e.f/g",
    "y",
    "on",
    "1",
    "0x1f",
    "1.5",
    "null",
    "\"q\"",
    "'s t'",
    "\"<<\"",
    "h i",
    "\"\\n\"",
    "2024-01-01",
    "1e3",
    "_",
    "/x",
    "a:b",
    "k#",
];

const PLAIN: &[&str] = &[
    "v",
    "two words",
    "1",
    "-1",
    "0644",
    "1_000",
    "1e3",
    "0.5",
    ".5",
    "true",
    "off",
    "~",
    "null",
    "2024-01-02",
    "12:30:45",
    "a:b",
    "a#b",
    "a #b",
    "-x",
    "--flag=y",
    "?x",
    ":x",
    "http://x.y/z",
    "a, b",
    "a]b",
    "x{y}",
    "é",
    "\"q\"",
    "\"q\\\"r\\\\s\\n\"",
    "'it''s'",
    "''",
    "\"\"",
    "\"a\" # c",
    "'a' #c",
    "'a\\b'",
    "[]",
    "{}",
    "[a, 'b', \"c\"]",
    "[[1, 2], {a: b}]",
    "{a: 1, \"b\":2, 'c': [x]}",
    "{\"a\":{\"b\":[1,2,\"x\"]}}",
    "[ a , b ]",
    "{ a: b }",
    "[a,b]",
    "[] # c",
    "\"\\x41\"",
    "[a, ]",
    "{a, b}",
    "[a: b]",
    "1.0",
    "1e21",
    "18446744073709551615",
    "<<",
    "=",
    "a\u{a0}b",
    "#c",
    "# c",
    "a'b",
    "a\"b",
    "-",
    "- x",
    "a: b",
    "\"a\":b",
    "[1, 2.5, true, ~]",
    "{y: n}",
    "[-1]",
    "\"a\"b",
    "$x",
];

fn line_end(text: &mut String, random: &mut Random) {
    text.push_str(random.pick(&[
        "\n",
        "\n",
        "\n",
        "\n",
        " \n",
        " # c\n",
        "\n\n",
        "\n# c\n",
        "\n    # c\n",
        "\n  \n",
    ]));
}

/// Writes a map or a list; the cursor stands where its first key or dash belongs.
fn collection(text: &mut String, indent: usize, depth: usize, random: &mut Random) {
    let list = random.below(3) == 0;
    let first = text.is_empty() || text.ends_with('\n');
    for at in 0..=random.below(4) {
        if at > 0 || first {
            let off = if random.below(60) == 0 { 1 } else { 0 };
            let _ = write!(text, "{:1$}", "", indent + off);
        }
        if list {
            let gap = 1 + random.below(8) / 7;
            let _ = write!(text, "-{:1$}", "", gap);
            match random.below(4) {
                0 if depth > 0 => collection(text, indent + 1 + gap, depth - 1, random),
                _ => value(text, indent, depth, random),
            }
        } else {
            text.push_str(random.pick(KEYS));
            text.push(':');
            value(text, indent, depth, random);
        }
    }
}

/// Writes what follows a dash or a colon.
fn value(text: &mut String, indent: usize, depth: usize, random: &mut Random) {
    match random.below(8) {
        0 => line_end(text, random),
        1 | 2 if depth > 0 => {
            line_end(text, random);
            collection(text, indent + random.below(4), depth - 1, random);
        }
        3 => block_scalar(text, indent, random),
        _ => {
            let _ = write!(text, "{:1$}", "", 1 + random.below(8) / 7);
            text.push_str(random.pick(PLAIN));
            line_end(text, random);
        }
    }
}

fn block_scalar(text: &mut String, indent: usize, random: &mut Random) {
    text.push(' ');
    text.push_str(random.pick(&["|", "|-", ">", ">-", "|", "|-", "|+", "|1", "| # c", ">+"]));
    text.push('\n');
    let inner = indent + random.below(4);
    for _ in 0..random.below(5) {
        match random.below(8) {
            0 => text.push('\n'),
            1 => {
                let _ = writeln!(text, "{:1$}", "", random.below(inner + 3));
            }
            2 => {
                let _ = writeln!(text, "{:1$}x", "", inner + random.below(3));
            }
            _ => {
                let line = random.pick(&["x", "x y: z", "# x", "- a", "'", "a ", "{{ x }}", "é", "---"]);
                let _ = writeln!(text, "{:1$}{line}", "", inner);
            }
        }
    }
    if random.below(10) == 0 {
        text.pop();
    }
}
