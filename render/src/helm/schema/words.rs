//! What is told of a value that a schema refuses: the place, the rule and the limit, and numbers and sizes that are
//! there; never a text of the values, which may be secret.

use std::collections::BTreeMap;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value as Json;

/// Returns a line for each failure; properties that lack at one place share one.
pub(super) fn lines<'e>(failures: impl Iterator<Item = ValidationError<'e>>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut missing: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for failure in failures {
        let place = failure.instance_path().to_string();
        if let Kind::Required { property } = failure.kind() {
            let next = lines.len();
            let (_, names) = missing.entry(place).or_insert_with(|| {
                lines.push(String::new());
                (next, Vec::new())
            });
            names.push(shown(property));
            continue;
        }
        lines.push(format!("- at '{place}': {}", words(&failure)));
    }
    for (place, (at, names)) in missing {
        let what = if names.len() == 1 {
            "property"
        } else {
            "properties"
        };
        lines[at] = format!("- at '{place}': missing {what} {}", names.join(", "));
    }
    lines
}

fn words(failure: &ValidationError<'_>) -> String {
    let instance = failure.instance();
    let length = match &**instance {
        Json::String(text) => text.chars().count(),
        Json::Array(items) => items.len(),
        Json::Object(fields) => fields.len(),
        _ => 0,
    };
    let bound = |keyword: &str, limit: &Json| match &**instance {
        Json::Number(number) => format!("{keyword}: got {number}, want {limit}"),
        _ => format!("{keyword}: want {limit}"),
    };
    let size = |keyword: &str, limit: u64| format!("{keyword}: got {length}, want {limit}");
    match failure.kind() {
        Kind::AdditionalProperties { unexpected } => {
            format!("additional properties {} not allowed", quoted(unexpected))
        }
        Kind::UnevaluatedProperties { unexpected } => {
            format!("unevaluated properties {} not allowed", quoted(unexpected))
        }
        Kind::Enum { options } => match options.as_array().map(Vec::as_slice) {
            Some([one]) => format!("value must be {}", shown(one)),
            Some(all) => {
                let all: Vec<String> = all.iter().map(shown).collect();
                format!("value must be one of {}", all.join(", "))
            }
            None => "'enum' failed".to_owned(),
        },
        Kind::Constant { expected_value } => format!("value must be {}", shown(expected_value)),
        Kind::Type { kind } => {
            let want: Vec<String> = match kind {
                TypeKind::Single(one) => vec![one.to_string()],
                TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect(),
            };
            format!("got {}, want {}", type_name(instance), want.join(" or "))
        }
        Kind::Maximum { limit } => bound("maximum", limit),
        Kind::Minimum { limit } => bound("minimum", limit),
        Kind::ExclusiveMaximum { limit } => bound("exclusiveMaximum", limit),
        Kind::ExclusiveMinimum { limit } => bound("exclusiveMinimum", limit),
        Kind::MultipleOf { multiple_of } => bound("multipleOf", &Json::from(*multiple_of)),
        Kind::MaxLength { limit } => size("maxLength", *limit),
        Kind::MinLength { limit } => size("minLength", *limit),
        Kind::MaxItems { limit } => size("maxItems", *limit),
        Kind::MinItems { limit } => size("minItems", *limit),
        Kind::MaxProperties { limit } => size("maxProperties", *limit),
        Kind::MinProperties { limit } => size("minProperties", *limit),
        Kind::Pattern { pattern } => format!("value does not match pattern '{pattern}'"),
        Kind::Format { format } => format!("value is not valid {format}"),
        Kind::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Kind::Not { .. } => "'not' failed".to_owned(),
        Kind::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Kind::OneOfMultipleValid { .. } => "'oneOf' failed, several matched".to_owned(),
        Kind::PropertyNames { .. } => "invalid propertyName".to_owned(),
        Kind::UniqueItems => "items are equal".to_owned(),
        Kind::Contains => "no items match contains schema".to_owned(),
        Kind::FalseSchema => "false schema".to_owned(),
        _ => format!("fails {}", failure.schema_path()),
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    quoted.join(", ")
}

/// Writes a value of the schema.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}

fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}
