//! Reads JSON into kustomize's own types as Go's decoder does: names in any case, nulls as absent, unknown names and
//! wrong types refused.

use std::collections::BTreeMap;

use flotilla_core::text::edit::closest;
use serde_json::{Map, Value};

use super::error::{Result, invalid, unknown_field};
use super::unknown::UnknownField;

/// The fields of one JSON object, asked for one by one.
pub(crate) struct Fields<'v> {
    object: Option<&'v Map<String, Value>>,
    /// The names that there may be.
    asked: Vec<&'static str>,
    at: String,
    strict: bool,
    set: bool,
}

impl<'v> Fields<'v> {
    /// Starts on a value that must be an object or null; `at` is its path, for errors.
    pub(crate) fn new(value: &'v Value, at: &str) -> Result<Fields<'v>> {
        let object = match value {
            Value::Object(object) => Some(object),
            Value::Null => None,
            _ => return Err(invalid(format!("{}: an object was expected", place(at)))),
        };
        Ok(Fields {
            object,
            asked: Vec::new(),
            at: at.to_string(),
            strict: true,
            set: false,
        })
    }

    /// Reads like a decoder that drops unknown fields and makes text of numbers.
    pub(crate) fn not_strict(mut self) -> Fields<'v> {
        self.strict = false;
        self
    }

    /// Reads as the fields around these are read.
    pub(crate) fn strict_if(mut self, strict: bool) -> Fields<'v> {
        self.strict &= strict;
        self
    }

    /// Returns whether unknown fields are refused.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    fn path(&self, name: &str) -> String {
        if self.at.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.at)
        }
    }

    /// Takes a field's value; null counts as absent.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.push(name);
        let object = self.object?;
        let entry = object
            .get_key_value(name)
            .or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))?;
        (!entry.1.is_null()).then_some(entry.1)
    }

    fn wrong<T>(&self, name: &str, wanted: &str) -> Result<T> {
        Err(invalid(format!("{}: {wanted} was expected", self.path(name))))
    }

    /// Takes a text field; absent is empty.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => {
                self.set |= !text.is_empty();
                Ok(text.clone())
            }
            Some(value @ (Value::Bool(_) | Value::Number(_))) if !self.strict => Ok(value.to_string()),
            Some(_) => self.wrong(name, "a string"),
        }
    }

    /// Takes a flag; absent is false.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => self.wrong(name, "true or false"),
        }
    }

    /// Takes an integer, if it is there.
    pub(crate) fn integer(&mut self, name: &'static str) -> Result<Option<i64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => self.wrong(name, "an integer"),
            },
        }
    }

    /// Takes a map of texts, if it is there.
    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Option<BTreeMap<String, String>>> {
        let value = match self.take(name) {
            None => return Ok(None),
            Some(Value::Object(object)) => object,
            Some(_) => return self.wrong(name, "a map of strings"),
        };
        self.set = true;
        let mut texts = BTreeMap::new();
        for (key, value) in value {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                Value::Bool(_) | Value::Number(_) if !self.strict => value.to_string(),
                _ => return self.wrong(&format!("{name}.{key}"), "a string"),
            };
            texts.insert(key.clone(), text);
        }
        Ok(Some(texts))
    }

    /// Takes a list, decoding each item with its path; absent is empty.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        mut item: impl FnMut(&'v Value, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        let items = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return self.wrong(name, "a list"),
        };
        self.set = true;
        let path = self.path(name);
        items
            .iter()
            .enumerate()
            .map(|(index, value)| item(value, &format!("{path}[{index}]")))
            .collect()
    }

    /// Takes a list of texts; absent is empty.
    pub(crate) fn strings(&mut self, name: &'static str) -> Result<Vec<String>> {
        let strict = self.strict;
        self.list(name, |value, at| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            Value::Bool(_) | Value::Number(_) if !strict => Ok(value.to_string()),
            _ => Err(invalid(format!("{at}: a string was expected"))),
        })
    }

    /// Takes a list that is added to another: an empty one says nothing.
    pub(crate) fn added<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let set = self.set;
        let items = read(self)?;
        self.set = set || !items.is_empty();
        Ok(items)
    }

    /// Takes an object, decoding its fields, if it is there.
    pub(crate) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'v>) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        self.set = true;
        let mut fields = Fields::new(value, &self.path(name))?;
        fields.strict = self.strict;
        let result = read(&mut fields)?;
        fields.finish()?;
        Ok(Some(result))
    }

    /// Tells whether a field was taken that says something.
    pub(crate) fn says_something(&self) -> bool {
        self.set
    }

    /// Refuses fields that nobody asked for.
    pub(crate) fn finish(self) -> Result<()> {
        if !self.strict {
            return Ok(());
        }
        let Some(object) = self.object else { return Ok(()) };
        let is_known = |key: &str| self.asked.iter().any(|name| name.eq_ignore_ascii_case(key));
        match object.keys().find(|key| !is_known(key)) {
            Some(key) => Err(unknown_field(UnknownField {
                name: key.clone(),
                parent: self.at,
                meant: closest(key, self.asked.iter().copied()),
            })),
            None => Ok(()),
        }
    }
}

fn place(at: &str) -> &str {
    if at.is_empty() { "the file" } else { at }
}
