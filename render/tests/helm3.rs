//! Where Helm's third series differs from the fourth, which decides: found with every row of the tables and
//! every rendering of the charts, and compared with what the documents list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use flotilla_render_tests::{Oracle, charts, rendered, templates};

#[test]
fn what_helm_3_does_otherwise_is_what_the_documents_list() {
    let (mut four, mut three) = (Oracle::start(), Oracle::helm3());
    let listed = listed();
    let mut seen = BTreeSet::new();
    let mut unlisted = Vec::new();
    for row in templates::deterministic_rows() {
        let answers = (
            rendered::theirs(&mut four, row),
            rendered::theirs(&mut three, row),
        );
        if differ(&answers.0, &answers.1) {
            let words: BTreeSet<&str> = row.split(|c: char| !c.is_ascii_alphanumeric()).collect();
            note(
                &mut seen,
                &mut unlisted,
                &listed,
                |mark| words.contains(mark),
                row,
            );
        }
    }
    for (chart, flags, _) in charts::renderings() {
        let files = charts::read_chart(&chart);
        let answers = (
            charts::theirs(&mut four, &files, &flags),
            charts::theirs(&mut three, &files, &flags),
        );
        if differ(&answers.0, &answers.1) {
            note(&mut seen, &mut unlisted, &listed, |mark| mark == chart, &chart);
        }
    }
    assert!(unlisted.is_empty(), "no row names what is seen in {unlisted:#?}");
    let unseen: Vec<&String> = listed.iter().filter(|mark| !seen.contains(*mark)).collect();
    assert!(unseen.is_empty(), "rows name what is not seen: {unseen:?}");
}

/// Notes which of the listed names a case that differs stands under, or that it stands under none.
fn note(
    seen: &mut BTreeSet<String>,
    unlisted: &mut Vec<String>,
    listed: &BTreeSet<String>,
    named: impl Fn(&str) -> bool,
    case: &str,
) {
    let under: Vec<&String> = listed.iter().filter(|mark| named(mark)).collect();
    if under.is_empty() {
        unlisted.push(case.to_owned());
    }
    seen.extend(under.into_iter().cloned());
}

/// Returns the names in the first column of the table on Helm 3.
fn listed() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/helm-differences.md");
    let text = fs::read_to_string(path).expect("the document is in the repository");
    let (_, table) = text.split_once("## Helm 3.22.0").expect("the section");
    table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// Returns whether the answers differ; two refusals never do, nor does white space around documents.
fn differ(four: &Result<String, String>, three: &Result<String, String>) -> bool {
    match (four, three) {
        (Ok(four), Ok(three)) => documents(four) != documents(three),
        (Err(_), Err(_)) => false,
        _ => true,
    }
}

fn documents(text: &str) -> Vec<&str> {
    text.split("---\n").map(str::trim).collect()
}
