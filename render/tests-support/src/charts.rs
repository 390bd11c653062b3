//! The charts of `charts/` and the renderings of them that `charts/cases.txt` lists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::json;

use crate::Oracle;

/// A chart's files by path below it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Where our own charts are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/charts")
}

/// What Helm does with a chart and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It prints.
    Builds,
    /// It fails, and these words are among what it says.
    Fails(String),
}

/// Returns the renderings: a chart, the flags, and what Helm does.
pub fn renderings() -> Vec<(String, Vec<String>, Expected)> {
    let text = fs::read_to_string(folder().join("cases.txt")).expect("the cases are in the repository");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (line, expected) = match line.split_once(" => fails: ") {
                Some((line, words)) => (line, Expected::Fails(words.trim().to_owned())),
                None => (line, Expected::Builds),
            };
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next().unwrap_or_default(), words.collect(), expected)
        })
        .collect()
}

/// Reads a chart of the folder. A name outside ASCII stands there with `%` and two digits for each byte, since not every
/// file system keeps such names.
pub fn read_chart(name: &str) -> Files {
    read_folder(&folder().join(name))
        .into_iter()
        .map(|(name, data)| (unescaped(&name), data))
        .collect()
}

fn unescaped(name: &str) -> String {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).expect("two digits");
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).expect("a name is text")
}

/// Reads all files below a folder.
pub fn read_folder(root: &Path) -> Files {
    let mut files = Files::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("a chart's folder can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            // A link may lead to nothing.
            if !path.is_file() {
                continue;
            }
            let name = path
                .strip_prefix(root)
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            files.insert(name, fs::read(&path).expect("a chart's file can be read"));
        }
    }
    files
}

/// Renders a chart with Helm's command.
///
/// # Errors
///
/// What Helm says of its failure.
pub fn theirs(oracle: &mut Oracle, files: &Files, flags: &[String]) -> Result<String, String> {
    let encode = |data: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(data);
    let sent: BTreeMap<String, String> = files
        .iter()
        .map(|(name, data)| (format!("c/{name}"), encode(data)))
        .collect();
    let mut args = vec![
        "template".to_owned(),
        "release-name".to_owned(),
        "{dir}/c".to_owned(),
    ];
    args.extend(flags.iter().map(|flag| flag.replace("{dir}", "{dir}/c")));
    oracle
        .ask(&json!({ "op": "chart_template", "files": sent, "args": args }))
        .map(|output| output.text)
}

/// Shows the first lines in which two outputs differ.
pub fn difference(ours: &Result<String, String>, theirs: &Result<String, String>) -> String {
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
        let brief = |side: &Result<String, String>| match side {
            Ok(text) => format!("{} bytes", text.len()),
            Err(error) => format!("error: {error}"),
        };
        return format!("ours   {}\ntheirs {}", brief(ours), brief(theirs));
    };
    let (mut left, mut right) = (ours.lines(), theirs.lines());
    let mut shown = String::new();
    let mut number = 0;
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (None, None) => return shown,
            (left, right) if left == right => {}
            (left, right) => {
                shown += &format!("line {number}\n  ours   {left:?}\n  theirs {right:?}\n");
                if shown.lines().count() > 12 {
                    return shown;
                }
            }
        }
    }
}
