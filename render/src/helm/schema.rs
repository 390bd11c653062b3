//! Checks the values of charts against their `values.schema.json`.
//!
//! A schema stands alone: references to other documents are refused, except `urn:` ones, which allow all as
//! in the reference. What a schema may cost is decided before it runs (`cost`).

use std::fmt::Display;

use flotilla_core::text::address::shown_address;
use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value as Json;

use super::dependencies::Resolved;
use super::value::Val;
use super::values::coalesce::CoalesceError;
use super::values::copies::Copies;
use super::values::table::{Table, as_table};
use prepared::Prepared;

mod cost;
mod formats;
mod patterns;
mod prepared;
mod words;

/// The most bytes that a schema may have.
pub const MAX_SCHEMA_BYTES: usize = 5 << 20;
/// The most bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The most patterns that may take more.
const MAX_LARGE_PATTERNS: usize = 8;
/// The most bytes that these may take.
const MAX_LARGE_PATTERN_BYTES: usize = 16 << 20;
/// The most bytes of what searches find out about all patterns, which the checker keeps; and those of one of them.
const MAX_PATTERN_CACHES: usize = 64 << 20;
const MAX_PATTERN_CACHE: usize = 1 << 20;
/// The most ranges of characters that all patterns of a schema are compiled of, which take about a hundred bytes each.
const MAX_RANGES: usize = 1 << 20;
/// What it costs to compile a range, in values that are copied.
const VALUES_PER_RANGE: usize = 4;
/// The most failures that are told of each chart.
const MAX_FAILURES: usize = 20;

/// Values that a chart does not accept, or a schema that cannot be used. Nothing helps but other values or
/// another chart. Failures name places, rules, numbers and sizes, never a text that stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("values don't meet the specifications of the schema(s) in the following chart(s):\n{}", .failures.join("\n"))]
pub struct SchemaError {
    /// Each failure, the chart's name in front of its failures.
    pub failures: Vec<String>,
}

/// Checks the values of a chart and of its subcharts, each against its own schema. The inner result is what the schemas
/// say; the outer one, that a bound was reached or the caller asked to stop.
pub(crate) fn check(
    chart: &Resolved<'_>,
    values: &Table,
    copies: &Copies<'_>,
) -> Result<Result<(), SchemaError>, CoalesceError> {
    let mut failures = Vec::new();
    collect(chart, values, copies, &mut failures)?;
    Ok(match failures.is_empty() {
        true => Ok(()),
        false => Err(SchemaError { failures }),
    })
}

/// Why values were not accepted by one schema.
enum Refusal {
    /// The schema, or what it says of the values: a line for each failure.
    Said(Vec<String>),
    /// A bound was reached, or the caller asked to stop.
    Over(CoalesceError),
}

impl Refusal {
    /// Tells what is wrong with the schema itself.
    fn of_schema(what: impl Display) -> Refusal {
        Refusal::Said(vec![format!("- schema {what}")])
    }
}

impl From<CoalesceError> for Refusal {
    fn from(error: CoalesceError) -> Refusal {
        Refusal::Over(error)
    }
}

fn collect(
    chart: &Resolved<'_>,
    values: &Table,
    copies: &Copies<'_>,
    failures: &mut Vec<String>,
) -> Result<(), CoalesceError> {
    if let Some(schema) = &chart.chart.schema {
        // One that is there under many names is checked for each of them.
        copies.spend_text(schema.len())?;
        match check_one(schema, values, copies) {
            Ok(()) => {}
            Err(Refusal::Said(found)) => {
                failures.push(format!("{}:", chart.name()));
                failures.extend(found);
            }
            Err(Refusal::Over(error)) => return Err(error),
        }
    }
    for inside in &chart.dependencies {
        match (values.table(inside.name()), values.get(inside.name())) {
            (Some(below), _) => collect(inside, &below, copies, failures)?,
            (None, None | Some(Val::Nil)) => {}
            (None, Some(_)) => failures.push(format!("{}: values are not a map", inside.name())),
        }
    }
    Ok(())
}

/// Checks values against one schema.
fn check_one(schema: &[u8], values: &Table, copies: &Copies<'_>) -> Result<(), Refusal> {
    let schema = read(schema)?;
    let ranges = patterns::ranges(&schema, copies)?;
    if ranges > MAX_RANGES {
        return Err(Refusal::of_schema(format!(
            "has patterns of more than {MAX_RANGES} ranges of characters, each as often as it repeats"
        )));
    }
    // They are compiled twice at most, and gone through to look which are large.
    copies.spend(VALUES_PER_RANGE * ranges)?;
    copies.room_for_json(values)?;
    let values = json(values);
    let cost = cost::check(&schema, &values, copies)?;
    let prepared = prepared::prepare(schema, copies)?;
    let validator = validator(&prepared, copies)?;
    copies.spend(cost.held)?;
    if validator.is_valid(&values) {
        return Ok(());
    }
    let Some(told) = cost.told else {
        return Err(Refusal::Said(vec![
            "- at '': fails at too many places to tell them".to_owned(),
        ]));
    };
    copies.spend(told)?;
    let failures = validator.iter_errors(&values).take(MAX_FAILURES);
    Err(Refusal::Said(words::lines(failures, &values, &prepared.patterns)))
}

fn read(schema: &[u8]) -> Result<Json, Refusal> {
    if schema.len() > MAX_SCHEMA_BYTES {
        return Err(Refusal::of_schema(format!(
            "is over the limit of {MAX_SCHEMA_BYTES} bytes"
        )));
    }
    serde_json::from_slice(schema).map_err(|error| Refusal::of_schema(format!("is not JSON: {error}")))
}

/// Compiles a schema. Few of its patterns may be larger than most are.
fn validator(prepared: &Prepared, copies: &Copies<'_>) -> Result<Validator, Refusal> {
    let cache = MAX_PATTERN_CACHES / prepared.patterns.len().max(1);
    let patterns = |bytes| {
        PatternOptions::regex()
            .size_limit(bytes)
            .dfa_size_limit(cache.min(MAX_PATTERN_CACHE))
    };
    let build = |bytes| {
        jsonschema::options()
            .with_draft(draft(&prepared.schema))
            .with_retriever(NoDocuments)
            .with_pattern_options(patterns(bytes))
            .with_format("regex", formats::regex)
            .with_format("uuid", formats::uuid)
            .with_format("duration", formats::duration)
            .with_format("semver", formats::semver)
            // The reference reads no content.
            .without_content_encoding_support("base64")
            .without_content_media_type_support("application/json")
            .build(&prepared.schema)
    };
    let error = match build(MAX_PATTERN_BYTES) {
        Ok(validator) => return Ok(validator),
        Err(error) => error,
    };
    let large = prepared.large_patterns(MAX_PATTERN_BYTES, MAX_LARGE_PATTERNS + 1, copies)?;
    if large > MAX_LARGE_PATTERNS {
        return Err(Refusal::of_schema(format!(
            "has more than {MAX_LARGE_PATTERNS} patterns that take more than {MAX_PATTERN_BYTES} bytes"
        )));
    }
    let error = match large {
        0 => error,
        _ => match build(MAX_LARGE_PATTERN_BYTES) {
            Ok(validator) => return Ok(validator),
            Err(error) => error,
        },
    };
    Err(Refusal::of_schema(match &prepared.remote {
        Some(address) => {
            format!(
                "refers to {}, which is not fetched; render with --skip-schema-validation",
                shown_address(address)
            )
        }
        None if prepared.large_patterns(MAX_LARGE_PATTERN_BYTES, 1, copies)? > 0 => {
            format!("has a pattern that takes more than {MAX_LARGE_PATTERN_BYTES} bytes")
        }
        None => format!(
            "cannot be used at {:?}: {}",
            error.instance_path().to_string(),
            error.masked()
        ),
    }))
}

/// Returns the dialect that `$schema` names; the newest when it names none.
fn draft(schema: &Json) -> Draft {
    let named = schema.get("$schema").and_then(Json::as_str).unwrap_or_default();
    match named.trim_end_matches('#') {
        "http://json-schema.org/draft-04/schema" | "https://json-schema.org/draft-04/schema" => Draft::Draft4,
        "http://json-schema.org/draft-06/schema" | "https://json-schema.org/draft-06/schema" => Draft::Draft6,
        "http://json-schema.org/draft-07/schema" | "https://json-schema.org/draft-07/schema" => Draft::Draft7,
        "https://json-schema.org/draft/2019-09/schema" => Draft::Draft201909,
        _ => Draft::Draft202012,
    }
}

/// Returns values as JSON, whole floats as integers.
pub(crate) fn json(values: &Table) -> Json {
    Json::Object(
        values
            .entries()
            .iter()
            .map(|(key, value)| (key.to_string(), json_value(value)))
            .collect(),
    )
}

fn json_value(value: &Val) -> Json {
    match value {
        Val::Bool(flag) => Json::Bool(*flag),
        Val::Int(number) | Val::Int64(number) => Json::from(*number),
        Val::UInt(number) => Json::from(*number),
        #[expect(clippy::cast_possible_truncation, reason = "the float is whole and fits")]
        Val::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Json::from(*number as i64),
        Val::Float(number) => Json::from(*number),
        Val::Str(text) => Json::from(&*super::bytes::lossy(text)),
        Val::List(list) => list.items.iter().map(json_value).collect(),
        Val::Map(_) => as_table(value).as_ref().map_or(Json::Null, json),
        // Values come from documents and flags, which make nothing else.
        Val::Invalid | Val::Nil | Val::Byte(_) | Val::Object(_) => Json::Null,
    }
}

/// Gives no document but the one that allows all, for names without a place.
struct NoDocuments;

impl Retrieve for NoDocuments {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> {
        if uri.scheme().as_str() == "urn" {
            Ok(Json::Bool(true))
        } else {
            Err(format!("reference to another document: {}", uri.scheme().as_str()).into())
        }
    }
}
