//! Holds the reader of the plain part against the whole parser: the trees it gives must be the same.

use flotilla_render_tests::{Random, cases, seed, yaml_cases};

use super::super::parse::{Limits, parse_whole, split_documents};
use super::read;
use crate::samples::fixtures;

/// Counts texts and those that were answered for.
#[derive(Default)]
struct Seen {
    texts: usize,
    answered: usize,
}

impl Seen {
    fn compare(&mut self, text: &str, limits: Limits) {
        self.texts += 1;
        let Some(node) = read(text, limits) else {
            return;
        };
        self.answered += 1;
        let whole = parse_whole(text, limits).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert_eq!(whole, Some(node), "of {text:?} with {limits:?}");
    }
}

/// Returns the documents of all fixtures and seeds.
fn documents() -> Vec<String> {
    let documents = |text: &String| -> Vec<String> {
        let parts = split_documents(text).unwrap_or_default();
        parts.into_iter().map(str::to_owned).collect()
    };
    fixtures().iter().flat_map(documents).collect()
}

#[test]
fn fixtures_are_read_as_the_whole_parser_reads_them() {
    let mut seen = Seen::default();
    for text in documents() {
        seen.compare(&text, Limits::default());
        seen.compare(&format!("---\n{text}"), Limits::default());
    }
    assert!(seen.answered > 300, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn mutated_documents_are_read_as_the_whole_parser_reads_them() {
    let mut random = Random::new(seed(17));
    let mut seen = Seen::default();
    let all = documents();
    let is_short = |text: &&String| text.len() < 1500 && read(text, Limits::default()).is_some();
    let short: Vec<&String> = all.iter().filter(is_short).collect();
    let count = cases(20_000);
    for turn in 0..count {
        let mut text = short[random.below(short.len())].clone();
        for _ in 0..=random.below(3) {
            yaml_cases::damage(&mut random, &mut text);
        }
        let limits = Limits {
            depth: if turn % 5 == 0 { random.below(5) } else { 100 },
            nodes: if turn % 7 == 0 { random.below(40) } else { 1000 },
            ..Limits::default()
        };
        seen.compare(&text, limits);
    }
    assert!(seen.answered > count / 5, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn texts_put_together_at_random_are_read_as_the_whole_parser_reads_them() {
    let mut random = Random::new(seed(29));
    let mut seen = Seen::default();
    let count = cases(100_000);
    for _ in 0..count {
        let mut text = String::new();
        for _ in 0..=random.below(6) {
            text.extend(std::iter::repeat_n(' ', random.below(3) * random.below(4)));
            text.push_str(LINES[random.below(LINES.len())]);
            text.push_str(ENDS[random.below(ENDS.len())]);
        }
        seen.compare(&text, Limits::default());
    }
    assert!(seen.answered > count / 20, "{} of {}", seen.answered, seen.texts);
}

#[test]
fn what_is_not_of_the_part_is_left_to_the_whole_parser() {
    for text in [
        "",
        "# only\n",
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
        "a: >\n  b\n",
        "text\n",
        "\u{feff}a: 1\n",
        "a: \u{2028}\n",
    ] {
        assert_eq!(read(text, Limits::default()), None, "{text:?}");
    }
}

/// Lines of which texts are put together, at any indentation.
const LINES: &[&str] = &[
    "a: 1",
    "b:",
    "c: x y",
    "- d",
    "-",
    "- e: f",
    "- - g",
    "h: |",
    "i: |-",
    "- |",
    "text",
    "\"j\": 'k'",
    "l: [m, 1]",
    "n: {o: p}",
    "q: \"r\\ns\"",
    "# t",
    "u: v # w",
    "x: >",
    "'y': ~",
    "z: []",
    "1: {}",
    "- [a, [b]]",
    "",
    "-1: 2",
    "a-b/c.d: 2001-01-01",
    "a: 'it''s'",
    "- {a: \"b\"}",
    "a: -",
    "a: - b",
    ": a",
    "a : b",
    "- \"x\": y",
    "...",
    "---",
];

/// What lines end with.
const ENDS: &[&str] = &["\n", "\n", "\n", "\n", " \n", "\n\n", ""];
