//! The methods of Helm's `Values`, which hide values of their names.

use super::convert;
use crate::helm::exec_error::ExecError;
use crate::helm::quote::quote;
use crate::helm::value::{MapKind, MapVal, Val};

/// Returns the parameters of the method of that name, as [`super::Function`] writes them.
pub(in crate::helm) fn method(name: &str) -> Option<&'static str> {
    Some(match name {
        "AsMap" | "YAML" => "",
        "Table" | "PathValue" => "s",
        // A writer, which no template has.
        "Encode" => "w",
        _ => return None,
    })
}

/// Calls the method of that name with arguments that fit its parameters.
pub(in crate::helm) fn invoke(values: &MapVal, name: &str, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let path = args.first().and_then(Val::as_str).unwrap_or_default();
    match name {
        "AsMap" => Ok(Val::Map(values.of_kind(MapKind::Any))),
        "YAML" => convert::yaml_text(&Val::Map(values.clone()))
            .map(Val::from)
            .map_err(ExecError::plain),
        "Table" => table(values, path).map(|table| Val::Map(table.of_kind(MapKind::Values))),
        _ => path_value(values, path),
    }
}

/// Follows the dots of a path through maps.
fn table(values: &MapVal, path: &str) -> Result<MapVal, Box<ExecError>> {
    path.split('.')
        .try_fold(values.clone(), |table, key| match table.get(key) {
            Some(Val::Map(below)) if below.kind != MapKind::Strings => Ok(below),
            _ => Err(ExecError::plain(format!("{} is not a table", quote(key)))),
        })
}

/// Returns what a path leads to when that is no map.
fn path_value(values: &MapVal, path: &str) -> Result<Val, Box<ExecError>> {
    if path.is_empty() {
        return Err(ExecError::plain("YAML path cannot be empty".to_owned()));
    }
    let (above, key) = match path.rsplit_once('.') {
        Some((above, key)) => (table(values, above).ok(), key),
        None => (Some(values.clone()), path),
    };
    match above.and_then(|above| above.get(key)) {
        None => Err(ExecError::plain(format!("{} is not a value", quote(key)))),
        Some(Val::Map(map)) if map.kind == MapKind::Any => {
            Err(ExecError::plain(format!("{} is not a value", quote(key))))
        }
        Some(value) => Ok(value),
    }
}
