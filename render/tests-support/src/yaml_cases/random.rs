//! Random values and texts.

use serde_json::{Map, Value, json};

use super::values::{NUMBERS, SCALARS, number};
use crate::Random;

/// Changes a text at a random place.
pub fn damage(random: &mut Random, text: &mut String) {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    match random.below(4) {
        0 => {
            let _ = text.pop();
        }
        1 if at < text.len() => {
            text.remove(at);
        }
        2 => text.truncate(at),
        _ => text.insert_str(at, random.pick(PARTS)),
    }
}

/// Returns a text of few parts, the line breaks of YAML 1.1 among them.
pub fn broken_lines(random: &mut Random) -> String {
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
    let open = ["", "a: ", "a: '", "a: \"", "'", "- \"", "a: b\n", "k:\n  a: "][random.below(8)];
    let mut text = open.to_owned();
    for _ in 0..3 + random.below(8) {
        text.push_str(random.pick(PARTS));
    }
    if open.ends_with(['\'', '"']) && random.below(8) > 0 {
        text.push_str(&open[open.len() - 1..]);
    }
    text
}

/// Returns a value nested at most `depth` deep.
pub fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 10 }) {
        0 => json!(null),
        1 => json!(random.below(2) == 0),
        2 => number(random.pick(NUMBERS)),
        3..=5 => json!(text(random)),
        6 | 7 => (0..random.below(5)).map(|_| value(random, depth - 1)).collect(),
        _ => {
            let entries: Map<String, Value> = (0..random.below(5))
                .map(|_| (text(random), value(random, depth - 1)))
                .collect();
            entries.into()
        }
    }
}

fn text(random: &mut Random) -> String {
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
    if random.below(3) == 0 {
        return random.pick(SCALARS).to_owned();
    }
    let parts = [2, 4, 12, 40][random.below(4)];
    (0..random.below(parts)).map(|_| random.pick(PARTS)).collect()
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
