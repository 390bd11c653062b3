//! Schemas that are small and take long, or many bytes, to compile, to hold values against, or to tell what fails.

use flotilla_render::helm::context::Limits;

use super::{Hostile, chart_with};

pub(crate) const INPUTS: &[Hostile] = &[
    (
        "a-schema-of-many-schemas",
        "schemas to compile",
        a_schema_of_many_schemas,
    ),
    (
        "a-schema-that-asks-what-many-evaluate",
        "schemas to compile",
        a_schema_that_asks_what_many_evaluate,
    ),
    (
        "a-schema-that-asks-what-each-within-it-evaluates",
        "take too long",
        a_schema_that_asks_what_each_within_it_evaluates,
    ),
    ("names-held-against-doubling-references", "take too long", || {
        names_held_against_doubling_references("#/$defs/")
    }),
    ("names-held-against-doubling-addresses", "take too long", || {
        names_held_against_doubling_references("https://example.org/a#/$defs/")
    }),
    ("a-text-of-many-patterns", "steps", a_text_of_many_patterns),
    ("values-of-a-long-enum", "steps", values_of_a_long_enum),
    (
        "items-that-each-lack-many-properties",
        "too many places",
        items_that_each_lack_many_properties,
    ),
    (
        "a-text-that-is-none-of-many",
        "too many places",
        a_text_that_is_none_of_many,
    ),
];

fn checked(schema: &str, given: &str) -> Result<(), String> {
    chart_with("", given, &[("values.schema.json", schema)], Limits::default())
}

fn many(count: usize, entry: impl Fn(usize) -> String) -> String {
    let all: Vec<String> = (0..count).map(entry).collect();
    all.join(",")
}

fn a_schema_of_many_schemas() -> Result<(), String> {
    let properties = many(400_000, |at| format!("\"{at}\":{{}}"));
    checked(&format!("{{\"properties\":{{{properties}}}}}"), "a: 1\n")
}

/// Schemas of which each refers twice to the next.
fn doubling(prefix: &str) -> String {
    let definitions = many(40, |at| {
        let next = format!("{{\"$ref\":\"{prefix}d{}\"}}", at + 1);
        format!("\"d{at}\":{{\"allOf\":[{next},{next}]}}")
    });
    format!("\"$defs\":{{{definitions},\"d40\":{{}}}}")
}

/// No value is held against them.
fn a_schema_that_asks_what_many_evaluate() -> Result<(), String> {
    let definitions = doubling("#/$defs/");
    checked(
        &format!(
            "{{\"properties\":{{\"none\":{{\"$ref\":\"#/$defs/d0\",\"unevaluatedProperties\":false}}}},{definitions}}}"
        ),
        "a: 1\n",
    )
}

fn a_schema_that_asks_what_each_within_it_evaluates() -> Result<(), String> {
    let (begin, end) = ("{\"allOf\":[", "],\"unevaluatedProperties\":true}");
    checked(&format!("{}{{}}{}", begin.repeat(50), end.repeat(50)), "a: 1\n")
}

fn names_held_against_doubling_references(prefix: &str) -> Result<(), String> {
    let definitions = doubling(prefix);
    checked(
        &format!(
            "{{\"$id\":\"https://example.org/a\",\"propertyNames\":{{\"$ref\":\"{prefix}d0\"}},{definitions}}}"
        ),
        "a: 1\n",
    )
}

fn a_text_of_many_patterns() -> Result<(), String> {
    let patterns = many(1000, |at| format!("{{\"pattern\":\"(a|b)*a(a|b){{9}}c{at}\"}}"));
    let text = "ab".repeat(500_000);
    checked(
        &format!("{{\"properties\":{{\"a\":{{\"allOf\":[{patterns}]}}}}}}"),
        &format!("a: {text}\n"),
    )
}

fn values_of_a_long_enum() -> Result<(), String> {
    let options = many(100_000, |at| format!("\"{at}\""));
    checked(
        &format!("{{\"properties\":{{\"a\":{{\"items\":{{\"enum\":[{options}]}}}}}}}}"),
        &format!("a: [{}]\n", "x, ".repeat(10_000)),
    )
}

fn items_that_each_lack_many_properties() -> Result<(), String> {
    let required = many(1000, |at| format!("\"p{at}\""));
    checked(
        &format!("{{\"properties\":{{\"a\":{{\"items\":{{\"required\":[{required}]}}}}}}}}"),
        &format!("a: [{}]\n", "{b: 1}, ".repeat(10_000)),
    )
}

/// Of a choice, each failure has the text for itself.
fn a_text_that_is_none_of_many() -> Result<(), String> {
    let others = many(2000, |at| format!("{{\"const\":{at}}}"));
    checked(
        &format!("{{\"properties\":{{\"a\":{{\"anyOf\":[{others}]}}}}}}"),
        &format!("a: {}\n", "x".repeat(1 << 20)),
    )
}
