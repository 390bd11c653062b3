//! Documents that users apply mean here what they mean to Kubernetes.
//!
//! The reader of configuration says more of an error than the one of renderings; what they read has to be the same.

use flotilla_api::yaml::{decode, split};
use flotilla_render::yaml::{self, Limits, as_yaml_1_2};
use serde_json::Value;

#[allow(dead_code, reason = "the table of values is for the writer")]
#[path = "../../render/tests/yaml_cases/mod.rs"]
mod yaml_cases;

/// Reads a text as `flotilla apply` does.
fn applied(text: &str) -> Option<Value> {
    let text = as_yaml_1_2(text, &Limits::default()).ok()?;
    let documents = split(&text).ok()?;
    documents
        .first()
        .map_or(Some(Value::Null), |first| decode(first).ok())
}

/// Reads a text as the reference does: `render/tests/yaml.rs` holds this reader against it.
fn meant(text: &str) -> Option<Value> {
    let strict = Limits {
        strict: true,
        ..Limits::default()
    };
    yaml::read(text, &strict).ok().map(Value::from)
}

/// Keys that are no text, which Kubernetes makes `"true"` of, keep their own; and scalars on a line of their own are
/// the concern of `api/tests`.
fn is_of_this_test(text: &str) -> bool {
    text.contains('\n') && !text.starts_with("yes: ")
}

#[test]
fn what_is_applied_reads_as_kubernetes_reads_it() {
    let mut random = yaml_cases::Random::new(23);
    let mut texts = yaml_cases::texts();
    texts.retain(|text| is_of_this_test(text));
    texts.extend((0..3_000).map(|_| random.broken_lines()));
    let mut differences = Vec::new();
    let mut read = 0;
    for text in &texts {
        let manifest = format!("kind: A\n{text}");
        // What is refused is told; what is read must not be read as something else.
        let (Some(ours), Some(theirs)) = (applied(&manifest), meant(&manifest)) else {
            continue;
        };
        read += 1;
        if ours != theirs {
            differences.push(format!("{text:?}\n  here: {ours}\n  Kubernetes: {theirs}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(read > 700, "{read} of {} can be read", texts.len());
}
