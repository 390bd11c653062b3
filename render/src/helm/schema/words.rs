//! What is told of a value that a schema refuses: the place, the rule and the limit, and numbers and sizes that are
//! there; never a text of the values, which may be secret.

use std::collections::{BTreeMap, HashMap};

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value as Json;

use crate::helm::quote::quote;

/// The most lines that are told of a chart.
const MAX_LINES: usize = 100;

/// Returns a line for each failure; properties that lack at one place share one. Patterns are told as the schema has
/// them, given by the ones that the checker has.
pub(super) fn lines<'e>(
    failures: impl Iterator<Item = ValidationError<'e>>,
    values: &Json,
    patterns: &HashMap<String, String>,
) -> Vec<String> {
    let mut telling = Telling {
        values,
        patterns,
        lines: Vec::new(),
    };
    let failures: Vec<ValidationError<'_>> = failures.collect();
    telling.tell(failures.iter(), 0);
    telling.lines
}

/// What is told so far.
struct Telling<'t> {
    values: &'t Json,
    patterns: &'t HashMap<String, String>,
    lines: Vec<String>,
}

impl Telling<'_> {
    /// Adds what failures say, so far in.
    fn tell<'f, 'e: 'f>(&mut self, failures: impl Iterator<Item = &'f ValidationError<'e>>, depth: usize) {
        let indent = "  ".repeat(depth);
        let mut missing: BTreeMap<(String, bool), (usize, Vec<String>)> = BTreeMap::new();
        for failure in failures {
            if depth > 0 && self.lines.len() >= MAX_LINES {
                break;
            }
            let place = failure.instance_path().to_string();
            if let Kind::Required { property } = failure.kind() {
                let next = self.lines.len();
                let (_, names) = missing.entry((place, is_asked_for(failure))).or_insert_with(|| {
                    self.lines.push(String::new());
                    (next, Vec::new())
                });
                names.push(shown(property));
                continue;
            }
            let words = self.words(failure);
            self.lines.push(format!("{indent}- at '{place}': {words}"));
            self.below(failure, depth + 1);
        }
        for ((place, is_asked_for), (at, names)) in missing {
            let what = if names.len() == 1 {
                "property"
            } else {
                "properties"
            };
            let why = if is_asked_for {
                ", which another property asks for"
            } else {
                ""
            };
            let words = format!("missing {what} {}{why}", names.join(", "));
            self.lines[at] = format!("{indent}- at '{place}': {words}");
        }
    }

    /// Adds what the schemas of a choice say, each further in; of a name, why it is refused.
    fn below(&mut self, failure: &ValidationError<'_>, depth: usize) {
        match failure.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                context.iter().for_each(|choice| self.tell(choice.iter(), depth));
            }
            Kind::PropertyNames { error } => self.tell(std::iter::once(&**error), depth),
            _ => {}
        }
    }

    fn words(&self, failure: &ValidationError<'_>) -> String {
        let is_additional = failure.schema_path().as_str().ends_with("/additionalProperties");
        if let (Kind::FalseSchema, true) = (failure.kind(), is_additional) {
            // Which of them is not told: without properties that are known, all are refused.
            let object = self
                .values
                .pointer(failure.instance_path().as_str())
                .and_then(Json::as_object);
            if let Some(object) = object {
                let names: Vec<String> = object.keys().cloned().collect();
                return format!("additional properties {} not allowed", quoted(&names));
            }
        }
        words(failure, self.patterns)
    }
}

/// Tells whether a property is missing only because another one is there; the checker does not say which.
fn is_asked_for(failure: &ValidationError<'_>) -> bool {
    let parts: Vec<&str> = failure.schema_path().as_str().split('/').collect();
    // A property may have such a name too.
    parts.windows(2).any(|pair| {
        matches!(pair[1], "dependentRequired" | "dependencies")
            && !matches!(
                pair[0],
                "properties" | "patternProperties" | "$defs" | "definitions"
            )
    })
}

fn words(failure: &ValidationError<'_>, patterns: &HashMap<String, String>) -> String {
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
        Kind::MultipleOf { multiple_of } => bound("multipleOf", &whole(*multiple_of)),
        Kind::MaxLength { limit } => size("maxLength", *limit),
        Kind::MinLength { limit } => size("minLength", *limit),
        Kind::MaxItems { limit } => size("maxItems", *limit),
        Kind::MinItems { limit } => size("minItems", *limit),
        Kind::MaxProperties { limit } => size("maxProperties", *limit),
        Kind::MinProperties { limit } => size("minProperties", *limit),
        Kind::Pattern { pattern } => {
            let pattern = patterns.get(pattern).unwrap_or(pattern);
            format!("value does not match pattern {}", single_quoted(pattern))
        }
        Kind::Format { format } => format!("value is not valid {format}"),
        Kind::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Kind::Not { .. } => "'not' failed".to_owned(),
        Kind::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Kind::OneOfMultipleValid { context } => {
            let matched = (0..context.len()).filter(|at| context[*at].is_empty());
            let matched: Vec<String> = matched.take(2).map(|at| at.to_string()).collect();
            format!("'oneOf' failed, subschemas {} matched", matched.join(", "))
        }
        Kind::PropertyNames { error } => format!("invalid propertyName {}", shown(error.instance())),
        Kind::UniqueItems => match equal_items(instance) {
            Some((first, second)) => format!("items at {first} and {second} are equal"),
            None => "items are equal".to_owned(),
        },
        Kind::Contains => "no items match contains schema".to_owned(),
        Kind::FalseSchema => "false schema".to_owned(),
        _ => format!("fails {}", failure.schema_path()),
    }
}

/// A number without the decimals that it does not have.
fn whole(number: f64) -> Json {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => Json::from(number as i64),
        false => Json::from(number),
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| single_quoted(name)).collect();
    quoted.join(", ")
}

/// Writes a text in single quotes, with Go's escapes.
fn single_quoted(text: &str) -> String {
    let double = quote(text);
    let inner = &double[1..double.len() - 1];
    format!("'{}'", inner.replace("\\\"", "\"").replace('\'', "\\'"))
}

/// Returns where the first two items of a list stand that are equal.
fn equal_items(list: &Json) -> Option<(usize, usize)> {
    let mut seen = HashMap::new();
    let items = list.as_array()?.iter().enumerate();
    items.into_iter().find_map(|(at, item)| {
        // Keys are sorted: equal values have one text.
        let first = *seen.entry(item.to_string()).or_insert(at);
        (first != at).then_some((first, at))
    })
}

/// Writes a value of the schema.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => single_quoted(text),
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
