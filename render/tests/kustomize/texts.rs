//! The readers' table of texts as fields of an object, read and written by both.

use flotilla_render_tests::{Random, cases, seed, yaml_cases};

use super::corpus::{Case, Expected};
use super::oracle::Oracle;
use super::{Outcome, compare, require_agreement};

/// An anchor within itself, which ends the reference's process.
const OVERFLOWS: &[&str] = &["a: &x [*x]"];

/// What docs/reference/kustomize-differences.md tells: the reference loses these or gains from them.
const DIFFERENCES: &[&str] = &[
    "?",
    "&a: v",
    "\"<<\": {a: 1}",
    "a: |+\n  b\n\n # c",
    "a: |+\n\n# c",
    "--- a",
    "a: 1\n...\nb: 2",
];

fn case(text: &str) -> Case {
    let object = format!("apiVersion: v1\nkind: Thing\nmetadata:\n  name: thing\n{text}");
    Case {
        name: format!("{text:?}"),
        directory: String::new(),
        files: [
            (
                "kustomization.yaml".to_owned(),
                "resources: [thing.yaml]\n".to_owned(),
            ),
            ("thing.yaml".to_owned(), object),
        ]
        .into(),
        expected: Expected::Alike,
    }
}

#[test]
fn the_engine_reads_tabled_and_random_texts_as_kustomize_does() {
    let mut oracle = Oracle::start();
    let mut random = Random::new(seed(17));
    let mut texts = yaml_cases::texts();
    texts.extend((0..cases(3_000)).map(|_| yaml_cases::broken_lines(&mut random)));
    // The reference writes a scalar that ends in these without the line break behind it.
    texts.retain(|text| !text.contains(['\u{2028}', '\u{2029}']));
    let outcomes: Vec<Outcome> = texts
        .iter()
        .filter(|text| !OVERFLOWS.contains(&text.as_str()) && !DIFFERENCES.contains(&text.as_str()))
        .map(|text| compare(&mut oracle, &case(text)))
        .collect();
    require_agreement("texts", &outcomes, 30);
}
