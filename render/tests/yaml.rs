//! The YAML reader and writer against `sigs.k8s.io/yaml`: tabled and random values, both directions.

use flotilla_render::yaml::{self, Limits, Value};
use flotilla_render_tests::{Oracle, Random, cases, seed, yaml_cases};
use serde_json::json;

/// How many times the reference is asked again where it wrote another text: it gives each of three orders of a cycle of
/// keys at least once in all but one of 400,000 such runs.
const AGAIN: usize = 32;

/// Counts agreement and keeps the first differences, so that a run says how far off it is and where.
#[derive(Default)]
struct Tally {
    agreed: usize,
    /// How many of them are refused by both.
    refused: usize,
    /// How many texts are no YAML to both, and of how many both say the same.
    malformed: usize,
    worded_alike: usize,
    differences: Vec<String>,
}

impl Tally {
    fn compare(&mut self, input: &str, ours: &Result<String, String>, theirs: &Result<String, String>) {
        let agrees = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        if agrees {
            self.agreed += 1;
            self.refused += usize::from(ours.is_err());
        } else {
            self.differences.push(format!(
                "input:  {input:?}\nours:   {ours:?}\ntheirs: {theirs:?}\n"
            ));
        }
    }

    fn finish(self, table: &str, least: usize) {
        let total = self.agreed + self.differences.len();
        println!(
            "agreement: {table}: {} of {total}, {} of them refused; {} of {} with the same words",
            self.agreed, self.refused, self.worded_alike, self.malformed
        );
        for difference in self.differences.iter().take(400) {
            println!("{difference}");
        }
        assert!(total >= least, "{table}: {total} cases, {least} wanted");
        // Where a text has two faults, which of them is met first is not the same in every case.
        assert!(
            self.worded_alike * 100 >= self.malformed * 98,
            "{table}: errors are worded differently"
        );
        assert!(
            self.differences.is_empty(),
            "{table}: {} differ",
            self.differences.len()
        );
    }
}

fn write_both(oracle: &mut Oracle, tally: &mut Tally, json: &str) {
    let value: serde_json::Value = serde_json::from_str(json).expect("a case is JSON");
    let ours = yaml::write(&Value::from(value)).map_err(|cause| cause.to_string());
    let mut theirs = oracle.text("yaml_marshal", json);
    // The order of keys is not transitive ("1234567.5" < "1e-400" < "2021-02-29" < "1234567.5"), and the reference sorts
    // what a Go map yields in any order: it has several answers for such a map, and each of them is right.
    for _ in 0..AGAIN {
        if ours == theirs || theirs.is_err() {
            break;
        }
        theirs = oracle.text("yaml_marshal", json);
    }
    tally.compare(json, &ours, &theirs);
}

fn read_both(oracle: &mut Oracle, tally: &mut Tally, op: &str, text: &str) {
    let limits = Limits {
        strict: op == "yaml_strict",
        ..Limits::default()
    };
    let ours = yaml::read(text, &limits);
    let theirs = oracle.text(op, text).map(|json| {
        let value: serde_json::Value = serde_json::from_str(&json).expect("the oracle writes JSON");
        serde_json::Value::from(Value::from(value)).to_string()
    });
    if let (Err(yaml::ReadError::Syntax { message, .. }), Err(theirs)) = (&ours, &theirs) {
        tally.malformed += 1;
        tally.worded_alike += usize::from(theirs.ends_with(message));
    }
    let ours = ours.map_err(|cause| cause.to_string());
    let ours = ours.map(|value| serde_json::Value::from(value).to_string());
    tally.compare(text, &ours, &theirs);
}

#[test]
fn tabled_values_are_written_byte_for_byte() {
    let (mut oracle, mut tally) = (Oracle::start(), Tally::default());
    for value in yaml_cases::values() {
        write_both(&mut oracle, &mut tally, &value.to_string());
    }
    tally.finish("yaml, tabled values written", 2000);
}

#[test]
fn tabled_texts_mean_the_same() {
    let (mut oracle, mut tally) = (Oracle::start(), Tally::default());
    for text in yaml_cases::texts() {
        read_both(&mut oracle, &mut tally, "yaml_unmarshal", &text);
        read_both(&mut oracle, &mut tally, "yaml_strict", &text);
    }
    tally.finish("yaml, tabled texts read", 1000);
}

#[test]
fn random_values_go_both_ways() {
    let mut oracle = Oracle::start();
    let (mut written, mut read) = (Tally::default(), Tally::default());
    let mut random = Random::new(seed(7));
    let count = cases(10_000);
    for _ in 0..count {
        let value = yaml_cases::value(&mut random, 4);
        let json = value.to_string();
        write_both(&mut oracle, &mut written, &json);
        if let Ok(text) = yaml::write(&Value::from(value)) {
            read_both(&mut oracle, &mut read, "yaml_unmarshal", &text);
        }
    }
    written.finish("yaml, random values written", count);
    read.finish("yaml, random values read back", count / 10 * 9);
}

/// U+0085, U+2028 and U+2029 end a line in YAML 1.1, which Kubernetes reads, and none in YAML 1.2.
#[test]
fn line_breaks_of_yaml_1_1_end_a_line_here_too() {
    let (mut oracle, mut tally) = (Oracle::start(), Tally::default());
    let mut random = Random::new(seed(11));
    let count = cases(8_000);
    for _ in 0..count {
        let text = yaml_cases::broken_lines(&mut random);
        read_both(&mut oracle, &mut tally, "yaml_unmarshal", &text);
        read_both(&mut oracle, &mut tally, "yaml_strict", &text);
    }
    tally.finish("yaml, texts with line breaks of YAML 1.1", 2 * count);
}

#[test]
fn damaged_texts_mean_the_same() {
    let (mut oracle, mut tally) = (Oracle::start(), Tally::default());
    let mut random = Random::new(seed(23));
    let texts = yaml_cases::texts();
    let count = cases(10_000);
    for _ in 0..count {
        let mut text = texts[random.below(texts.len())].clone();
        for _ in 0..=random.below(4) {
            yaml_cases::damage(&mut random, &mut text);
        }
        read_both(&mut oracle, &mut tally, "yaml_unmarshal", &text);
    }
    tally.finish("yaml, damaged texts read", count);
}

#[test]
fn deep_nesting_is_refused_without_exhausting_the_stack() {
    for depth in [101, 10_000] {
        for text in ["[".repeat(depth), "{a: ".repeat(depth), "- ".repeat(depth)] {
            assert!(yaml::read(&text, &Limits::default()).is_err(), "{depth} levels");
        }
    }
}

#[test]
fn an_alias_bomb_is_refused_before_it_expands() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let refused = yaml::read(&text, &Limits::default());
    assert!(
        matches!(refused, Err(yaml::ReadError::Limit { .. })),
        "{refused:?}"
    );
}

#[test]
fn any_number_of_lines_within_quotes_may_be_indented_less() {
    let text = format!("a:\n  b: '{}'\n", "x\n".repeat(20_000));
    let read = yaml::read(&text, &Limits::default()).expect("as go-yaml reads it");
    let read = read.get("a").and_then(|a| a.get("b"));
    assert_eq!(read, Some(&Value::from(format!("{} ", ["x"; 20_000].join(" ")))));
}

#[test]
fn every_document_of_a_stream_is_read() {
    let documents =
        yaml::read_all("# first\n---\na: 1\n---\n---\nb\n...\n", &Limits::default()).expect("valid");
    let texts: Vec<String> = documents
        .into_iter()
        .map(|value| serde_json::Value::from(value).to_string())
        .collect();
    assert_eq!(
        texts,
        [json!({"a": 1}).to_string(), "null".into(), json!("b").to_string()]
    );
}
