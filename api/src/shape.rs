//! The allowed form of a value, derived from its type's JSON schema, and the walk that compares a document
//! with it.
//!
//! Serde stops at the first mistake and cannot name its path; the walk reports them all. Because the form comes
//! from the type's own schema, the two cannot differ. What the schema cannot say (one of two fields, say) is
//! checked afterwards by the kind itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::problem::{Check, FieldPath, Problem};
use crate::text::Form;
use flotilla_core::text::edit::closest;

/// The most problems reported for one document: the rest say the same.
const MAX_PROBLEMS: usize = 50;

/// The form of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Any value at all, such as Helm values.
    Any,
    /// Known fields, each with its form.
    Object(BTreeMap<String, Field>),
    /// Any keys, values of one form.
    Map(Box<Shape>),
    /// Elements of one form.
    List(Box<Shape>),
    /// One of these words.
    Word(Vec<String>),
    /// A text, perhaps of a form.
    Text(Option<Form>),
    /// A whole number, at least the minimum.
    Integer(Option<i64>),
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A count, or a percentage as text.
    CountOrPercent,
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

/// The `format` of a count or percentage, which two JSON types may hold.
pub(crate) const COUNT_OR_PERCENT: &str = "count-or-percent";

impl Shape {
    /// Derives the form of a type from its schema.
    pub(crate) fn of<T: JsonSchema>() -> Self {
        Self::read(schema::<T>().as_value())
    }

    fn read(schema: &Value) -> Self {
        let format = schema["format"].as_str();
        if format == Some(COUNT_OR_PERCENT) {
            return Shape::CountOrPercent;
        }
        if let Some(words) = words(schema) {
            return Shape::Word(words);
        }
        if let Some(alternatives) = schema["anyOf"].as_array() {
            return alternatives
                .iter()
                .find(|one| one["type"] != "null")
                .map_or(Shape::Any, Self::read);
        }
        match primary_type(schema) {
            Some("object") => Self::read_object(schema),
            Some("array") => Shape::List(Box::new(Self::read(&schema["items"]))),
            Some("string") => Shape::Text(format.and_then(Form::of_format)),
            Some("integer") => Shape::Integer(schema["minimum"].as_i64()),
            Some("number") => Shape::Number,
            Some("boolean") => Shape::Boolean,
            _ => Shape::Any,
        }
    }

    fn read_object(schema: &Value) -> Self {
        if let Some(values) = schema
            .get("additionalProperties")
            .filter(|values| **values != Value::Bool(false))
        {
            return Shape::Map(Box::new(Self::read(values)));
        }
        let required = |name: &str| {
            schema["required"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one == name))
        };
        let fields = schema["properties"].as_object().into_iter().flatten();
        Shape::Object(
            fields
                .map(|(name, schema)| {
                    (
                        name.clone(),
                        Field {
                            shape: Self::read(schema),
                            required: required(name),
                        },
                    )
                })
                .collect(),
        )
    }

    /// Returns the paths, as text below `prefix`, of every field of that name.
    pub(crate) fn find(&self, name: &str, prefix: &FieldPath) -> Vec<FieldPath> {
        match self {
            Shape::Object(fields) => fields
                .iter()
                .flat_map(|(field, Field { shape, .. })| {
                    let path = prefix.field(field.clone());
                    let mut found = shape.find(name, &path);
                    if field == name {
                        found.push(path);
                    }
                    found
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Returns the JSON schema of a type, without references.
pub(crate) fn schema<T: JsonSchema>() -> schemars::Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>()
}

/// Returns the words of an enumeration, which schemars writes in one of two ways.
fn words(schema: &Value) -> Option<Vec<String>> {
    let owned = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(owned).collect());
    }
    let alternatives = schema["oneOf"].as_array()?;
    let mut words = Vec::new();
    for one in alternatives.iter().filter(|one| one["type"] != "null") {
        match (one["const"].as_str(), one["enum"].as_array()) {
            (Some(word), _) => words.push(word.to_owned()),
            (None, Some(several)) => words.extend(several.iter().filter_map(owned)),
            (None, None) => return None,
        }
    }
    Some(words)
}

fn primary_type(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(name) => Some(name),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null"),
        _ => None,
    }
}

/// What to do with a field the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The document is refused.
    Refuse,
    /// The field is dropped with a warning, as an API server does.
    Drop,
}

/// One walk through a document.
pub(crate) struct Walk<'a> {
    /// The form of the whole content, to say where a misplaced field belongs.
    pub(crate) root: &'a Shape,
    /// The path of the content.
    pub(crate) prefix: &'a FieldPath,
    /// What to do with unknown fields.
    pub(crate) unknown: Unknown,
    /// What was found wrong.
    pub(crate) problems: Vec<Problem>,
    /// What was dropped.
    pub(crate) warnings: Vec<Problem>,
}

impl Walk<'_> {
    /// Compares a value with its form: drops nulls where a field may be absent, and unknown fields if so asked.
    pub(crate) fn admit(&mut self, shape: &Shape, value: &mut Value, path: &FieldPath) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        match (shape, value) {
            (Shape::Any, _) | (Shape::Boolean, Value::Bool(_)) | (Shape::Number, Value::Number(_)) => {}
            (Shape::Object(fields), Value::Object(values)) => self.admit_fields(fields, values, path),
            (Shape::Map(shape), Value::Object(values)) => {
                for (key, value) in values.iter_mut() {
                    self.admit(shape, value, &path.field(key.clone()));
                }
            }
            (Shape::List(shape), Value::Array(values)) => {
                for (index, value) in values.iter_mut().enumerate() {
                    self.admit(shape, value, &path.index(index));
                }
            }
            (Shape::Word(words), Value::String(word)) => self.admit_word(words, word, path),
            (Shape::Text(form), Value::String(text)) => self.admit_text(*form, text, path),
            (Shape::Integer(minimum), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                if let (Some(minimum), Some(number)) = (minimum, number.as_i64())
                    && number < *minimum
                {
                    self.problem(path, format!("must be at least {minimum}"));
                }
            }
            (Shape::CountOrPercent, Value::Number(number)) if number.is_u64() => {}
            (Shape::CountOrPercent, Value::String(text)) if percent(text).is_some() => {}
            (shape, value) => self.mismatch(shape, value, path),
        }
    }

    fn admit_fields(
        &mut self,
        fields: &BTreeMap<String, Field>,
        values: &mut Map<String, Value>,
        path: &FieldPath,
    ) {
        let unknown: Vec<String> = values
            .keys()
            .filter(|key| !fields.contains_key(*key))
            .cloned()
            .collect();
        for name in unknown {
            self.unknown_field(&name, fields.keys().map(String::as_str), path);
            values.remove(&name);
        }
        for (name, field) in fields {
            match values.get_mut(name) {
                // A null means that the field is not set, as an API server takes it; where anything goes it stays.
                Some(Value::Null) if field.shape != Shape::Any => {
                    values.remove(name);
                }
                Some(value) => {
                    self.admit(&field.shape, value, &path.field(name.clone()));
                    continue;
                }
                None => {}
            }
            if field.required {
                self.problem(&path.field(name.clone()), "is required");
            }
        }
    }

    /// Refuses or drops a field that does not belong where it stands.
    pub(crate) fn unknown_field<'s>(
        &mut self,
        name: &str,
        siblings: impl IntoIterator<Item = &'s str>,
        parent: &FieldPath,
    ) {
        let problem = unknown_field(name, parent, siblings, self.root, self.prefix);
        match self.unknown {
            Unknown::Refuse => self.problems.push(problem),
            Unknown::Drop => {
                self.warnings.push(Problem {
                    message: format!("{}, ignored", problem.message),
                    ..problem
                });
            }
        }
    }

    fn admit_word(&mut self, words: &[String], word: &str, path: &FieldPath) {
        if !words.iter().any(|known| known == word) {
            let meant = closest(word, words.iter().map(String::as_str));
            let problem = Problem::new(
                path.clone(),
                format!("{word:?} is not one of {}", words.join(", ")),
            );
            self.problems.push(problem.suggest(meant));
        }
    }

    fn admit_text(&mut self, form: Option<Form>, text: &str, path: &FieldPath) {
        let Some(Err(malformed)) = form.map(|form| form.check(text)) else {
            return;
        };
        Check::new(path.clone(), &mut self.problems).malformed(malformed);
    }

    fn mismatch(&mut self, shape: &Shape, value: &Value, path: &FieldPath) {
        let problem = Problem::new(
            path.clone(),
            format!("expected {}, got {}", wanted(shape), got(value)),
        );
        self.problems.push(match (shape, value) {
            // The text as written is gone (1.20 is 1.2 by now), so the hint does not repeat it.
            (Shape::Text(_) | Shape::Word(_), Value::Number(_) | Value::Bool(_)) => {
                problem.hint("put the value in quotes")
            }
            (Shape::Boolean | Shape::Integer(_) | Shape::Number, Value::String(text)) if is_bare(text) => {
                problem.hint(format!("without quotes: {text}"))
            }
            (Shape::List(_), Value::Object(_)) => problem.hint("start each element with \"- \""),
            _ => problem,
        });
    }

    fn problem(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.problems.push(Problem::new(path.clone(), message));
    }
}

/// Describes a field that does not belong where it stands: misspelt, or misplaced.
pub(crate) fn unknown_field<'a>(
    name: &str,
    parent: &FieldPath,
    siblings: impl IntoIterator<Item = &'a str>,
    root: &Shape,
    prefix: &FieldPath,
) -> Problem {
    let path = parent.field(name);
    let problem = Problem::new(path.clone(), "unknown field");
    if let Some(meant) = closest(name, siblings) {
        return problem.suggest(Some(meant));
    }
    match root.find(name, prefix).as_slice() {
        [place] if *place != path => problem.suggest(Some(&place.to_string())),
        _ => problem,
    }
}

/// Reads `25%` as 25.
pub(crate) fn percent(text: &str) -> Option<u32> {
    text.strip_suffix('%')?
        .parse()
        .ok()
        .filter(|percent| *percent <= 100)
}

fn is_bare(text: &str) -> bool {
    matches!(text, "true" | "false") || text.parse::<i64>().is_ok()
}

fn wanted(shape: &Shape) -> &'static str {
    match shape {
        Shape::Any => "a value",
        Shape::Object(_) | Shape::Map(_) => "a map",
        Shape::List(_) => "a list",
        Shape::Word(_) | Shape::Text(_) => "a string",
        Shape::Integer(_) => "a whole number",
        Shape::Number => "a number",
        Shape::Boolean => "true or false",
        Shape::CountOrPercent => "a count or a percentage such as \"25%\"",
    }
}

/// Names the type of a value, never the value.
pub(crate) fn got(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
