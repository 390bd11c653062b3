//! Reads fields of an object's status: leniently where kstatus is lenient, with an error where it has one.

use serde_json::Value;

use super::Unreadable;

/// An object's fields by path.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Value);

impl<'a> Fields<'a> {
    /// What stands at `path`, if all on the way are maps.
    pub(super) fn at(self, path: &[&str]) -> Option<&'a Value> {
        path.iter().try_fold(self.0, |value, field| value.get(field))
    }

    /// A text, or `default` when it is missing or no text.
    pub(super) fn text(self, path: &[&str], default: &'a str) -> &'a str {
        self.at(path).and_then(Value::as_str).unwrap_or(default)
    }

    /// An integer, or `default` when it is missing or no integer.
    pub(super) fn int(self, path: &[&str], default: i64) -> i64 {
        self.at(path).and_then(Value::as_i64).unwrap_or(default)
    }

    /// An integer of `status`, zero by default.
    pub(super) fn status(self, field: &str) -> i64 {
        self.int(&["status", field], 0)
    }

    /// A text that must be one where it is present.
    pub(super) fn text_strict(self, outer: &str, field: &str) -> Result<Option<&'a str>, Unreadable> {
        self.strict(outer, field, "a text", Value::as_str)
    }

    /// An integer that must be one where it is present.
    pub(super) fn int_strict(self, outer: &str, field: &str) -> Result<Option<i64>, Unreadable> {
        self.strict(outer, field, "an integer", Value::as_i64)
    }

    fn strict<T>(
        self,
        outer: &str,
        field: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Unreadable> {
        match self.0.get(outer) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => match map.get(field) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => read(value)
                    .map(Some)
                    .ok_or_else(|| format!("{outer}.{field} is not {what}")),
            },
            Some(_) => Err(format!("{outer} is not a map")),
        }
    }
}

/// The conditions of an object's status, in their order.
pub(super) struct Conditions<'a>(pub(super) Vec<Condition<'a>>);

/// One condition; missing fields are empty.
#[derive(Clone, Copy)]
pub(super) struct Condition<'a> {
    pub(super) kind: &'a str,
    pub(super) status: &'a str,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

impl<'a> Conditions<'a> {
    pub(super) fn of(object: &'a Value) -> Result<Self, Unreadable> {
        let status = match object.get("status") {
            None | Some(Value::Null) => return Ok(Self(Vec::new())),
            Some(status @ Value::Object(_)) => status,
            Some(_) => return Err("status is not a map".into()),
        };
        match status.get("conditions") {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(items)) => items.iter().map(condition).collect::<Result<_, _>>().map(Self),
            Some(_) => Err("status.conditions is not a list".into()),
        }
    }

    /// The first condition of this type and status.
    pub(super) fn with(&self, kind: &str, status: &str) -> Option<&Condition<'a>> {
        self.0
            .iter()
            .find(|condition| condition.kind == kind && condition.status == status)
    }
}

fn condition(item: &Value) -> Result<Condition<'_>, Unreadable> {
    if !item.is_object() && !item.is_null() {
        return Err("status.conditions holds an item that is not a map".into());
    }
    let text = |field: &str| match item.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(value) => value
            .as_str()
            .ok_or_else(|| format!("status.conditions[].{field} is not a text")),
    };
    Ok(Condition {
        kind: text("type")?,
        status: text("status")?,
        reason: text("reason")?,
        message: text("message")?,
    })
}
