//! The forms a list can be shown in, and small texts that several commands share.

use std::time::Duration;

use clap::ValueEnum;
pub(crate) use flotilla_core::explain::short_revision;
use flotilla_core::printable::printable_lines;
use flotilla_render::yaml;
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::ui::Ui;

/// How to show a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names only
    Name,
}

impl Format {
    /// Tells whether it is one for programs, which get all there is as one value.
    pub(crate) fn is_structured(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// Writes a value as JSON or YAML.
pub(crate) fn structured(ui: &mut Ui, format: Format, value: &Value) -> Result<(), CommandError> {
    if format == Format::Yaml {
        ui.document(&to_yaml(value)?);
    } else {
        ui.document(&format!("{value:#}\n"));
    }
    Ok(())
}

fn to_yaml(value: &Value) -> Result<String, CommandError> {
    let unwritable =
        |error: &dyn std::error::Error| CommandError::failed(format!("cannot be written as YAML: {error}"));
    // JSON is YAML; the reader gives the writer's own value type.
    let json = without_controls(value).to_string();
    let value = yaml::read(&json, &yaml::Limits::default()).map_err(|error| unwritable(&error))?;
    yaml::write(&value).map_err(|error| unwritable(&error))
}

/// YAML has no place for control characters: they are shown as people see them.
fn without_controls(value: &Value) -> Value {
    match value {
        Value::String(text) => printable_lines(text).into(),
        Value::Array(items) => items.iter().map(without_controls).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (printable_lines(name), without_controls(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Puts objects into a `List`, or returns the one that was asked for by name.
pub(crate) fn list(mut items: Vec<Value>, single: bool) -> Value {
    if single && items.len() == 1 {
        return items.remove(0);
    }
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// Writes a boolean as Flux's tables do.
pub(crate) fn title_bool(value: bool) -> String {
    if value { "True" } else { "False" }.to_owned()
}

/// Writes how long ago a time was: `12s`, `5m`, `3h`, `2d`; `never` for none.
pub(crate) fn ago(then_ms: i64, now_ms: i64) -> String {
    if then_ms == 0 {
        return "never".to_owned();
    }
    span(Duration::from_millis(
        now_ms.saturating_sub(then_ms).max(0).unsigned_abs(),
    ))
}

/// Writes how long something lasts, in one unit.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (200_000, "2d"),
        ] {
            assert_eq!(ago(1, 1 + seconds * 1000), text);
        }
        assert_eq!(ago(0, 1), "never");
        assert_eq!(
            ago(5_000, 1_000),
            "0s",
            "a clock behind the hub's is no age below zero"
        );
    }
}
