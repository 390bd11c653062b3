//! Values to and from YAML, JSON and TOML.

use super::{Function, pure, reading, text};
use crate::helm::bytes;
use crate::helm::capabilities;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::json;
use crate::helm::object::Object;
use crate::helm::toml;
use crate::helm::value::{Entries, Items, MapVal, Val};
use crate::yaml::json::values_in;
use crate::yaml::{self, Limits, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("toYaml", "a", |args| {
        Ok(to_yaml(&args[0]).unwrap_or_default().into())
    }),
    pure("mustToYaml", "a", |args| to_yaml(&args[0]).map(Val::from)),
    pure("toYamlPretty", "a", |args| {
        Ok(to_pretty_yaml(&args[0]).unwrap_or_default().into())
    }),
    reading("fromYaml", "s", |interp, args| {
        as_map(interp, from_yaml(text(args, 0))?, FROM_YAML)
    }),
    reading("fromYamlArray", "s", |interp, args| {
        as_list(interp, from_yaml(text(args, 0))?, FROM_YAML)
    }),
    pure("toJson", "a", |args| {
        Ok(json::write(&args[0], json::COMPACT).unwrap_or_default().into())
    }),
    pure("mustToJson", "a", |args| {
        json::write(&args[0], json::COMPACT).map(Val::from)
    }),
    pure("toPrettyJson", "a", |args| {
        Ok(json::write(&args[0], json::PRETTY).unwrap_or_default().into())
    }),
    pure("mustToPrettyJson", "a", |args| {
        json::write(&args[0], json::PRETTY).map(Val::from)
    }),
    pure("toRawJson", "a", |args| {
        json::write(&args[0], json::RAW).map(Val::from)
    }),
    pure("mustToRawJson", "a", |args| {
        json::write(&args[0], json::RAW).map(Val::from)
    }),
    reading("fromJson", "s", |interp, args| {
        as_map(interp, from_json(text(args, 0))?, "")
    }),
    reading("fromJsonArray", "s", |interp, args| {
        as_list(interp, from_json(text(args, 0))?, "")
    }),
    reading("mustFromJson", "s", |interp, args| {
        let value = from_json(text(args, 0))?.map_err(ExecError::plain)?;
        value_of(interp, &value)
    }),
    pure("toToml", "a", |args| match &args[0] {
        // The reference's library looks at the type of nothing.
        Val::Nil | Val::Invalid => Err(toml::OF_NIL.to_owned()),
        value => match toml::write(value) {
            // The reference writes what is wrong in place of the text.
            Ok(text) | Err(toml::WriteError::Wrong(text)) => Ok(text.into()),
            Err(toml::WriteError::TooLong(why)) => Err(why),
        },
    }),
    pure("mustToToml", "a", |args| {
        toml::write(&args[0])
            .map(Val::from)
            .map_err(|cause| cause.to_string())
    }),
    pure("fromToml", "s", |args| {
        Ok(match bytes::is_utf8(text(args, 0)) {
            true => from_toml(text(args, 0))?.unwrap_or_else(error_map),
            false => error_map("toml: invalid UTF-8 byte".to_owned()),
        })
    }),
];

/// The most values that one text is read into, those that aliases repeat included.
const MAX_NODES: usize = 500_000;

fn too_many_values() -> String {
    format!("more than {MAX_NODES} values")
}

/// The most levels of maps and lists that `toYamlPretty` writes.
const MAX_PRETTY_DEPTH: usize = 200;

/// Returns the value as YAML, to the last line break.
pub(super) fn yaml_text(value: &Val) -> Result<String, String> {
    let written = yaml::write(&data(value)?).map_err(|cause| cause.to_string())?;
    Ok(bytes::text(written.as_bytes()).into_owned())
}

fn to_yaml(value: &Val) -> Result<String, String> {
    let mut written = yaml_text(value)?;
    written.truncate(written.trim_end_matches('\n').len().max(written.len() - 1));
    Ok(written)
}

fn to_pretty_yaml(value: &Val) -> Result<String, String> {
    let carry = Carry {
        floats: true,
        depth: MAX_PRETTY_DEPTH,
        ..JSON
    };
    let written = yaml::write_indented(&carried(value, 0, &carry)?).map_err(|cause| cause.to_string())?;
    let written = written.strip_suffix('\n').unwrap_or(&written);
    Ok(bytes::text(written.as_bytes()).into_owned())
}

/// How values become data.
struct Carry {
    /// Texts, as they are shown.
    shown: fn(&str) -> String,
    /// Floats stay floats, where JSON would turn whole ones into integers, and has none that are not finite.
    floats: bool,
    /// The most levels.
    depth: usize,
}

/// As JSON would carry them, with U+FFFD for each byte that is no UTF-8.
const JSON: Carry = Carry {
    shown: |text| bytes::lossy(text).into_owned(),
    floats: false,
    depth: yaml::MAX_WRITE_DEPTH,
};

/// Returns the value as JSON would carry it.
fn data(value: &Val) -> Result<Value, String> {
    carried(value, 0, &JSON)
}

/// Returns the value as [`data`] does, but texts as the engine has them.
pub(in crate::helm) fn raw_data(value: &Val) -> Result<Value, String> {
    let carry = Carry {
        shown: str::to_owned,
        ..JSON
    };
    carried(value, 0, &carry)
}

fn carried(value: &Val, depth: usize, carry: &Carry) -> Result<Value, String> {
    if depth > carry.depth {
        return Err("value is nested too deep".to_owned());
    }
    let shown = carry.shown;
    Ok(match value {
        Val::Float(number) if carry.floats => Value::Float(*number),
        Val::Invalid | Val::Nil => Value::Null,
        Val::Bool(flag) => Value::Bool(*flag),
        Val::Int(number) | Val::Int64(number) => Value::Int(*number),
        Val::UInt(number) => Value::from(*number),
        Val::Byte(number) => Value::Int(i64::from(*number)),
        Val::Float(number) if number.is_finite() => yaml::from_float(*number),
        Val::Float(_) => return Err("json: unsupported value: not a finite number".to_owned()),
        Val::Str(text) => Value::String(shown(text)),
        Val::List(list) if list.nil => Value::Null,
        Val::Map(map) if map.nil => Value::Null,
        Val::List(list) => Value::List(
            list.items
                .iter()
                .map(|item| carried(item, depth + 1, carry))
                .collect::<Result<_, _>>()?,
        ),
        Val::Map(map) => {
            let mut fields = yaml::Map::new();
            for (key, item) in map.entries.borrow().iter() {
                fields.insert(shown(key), carried(item, depth + 1, carry)?);
            }
            Value::Map(fields)
        }
        Val::Object(object) => object_data(object),
    })
}

fn object_data(object: &Object) -> Value {
    let texts = |names: &[String]| Value::List(names.iter().map(|name| Value::from(name.as_str())).collect());
    let map = |fields: Vec<(&str, Value)>| {
        Value::Map(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    };
    match object {
        Object::Time(time) => Value::from(time.rfc3339()),
        Object::Duration(nanos) => Value::Int(*nanos),
        Object::Version(version) | Object::VersionValue(version) => Value::from(version.to_string()),
        Object::KubeVersion(all) => map(vec![
            ("Version", all.kube_version.version.as_str().into()),
            ("Major", all.kube_version.major.as_str().into()),
            ("Minor", all.kube_version.minor.as_str().into()),
        ]),
        Object::ApiVersions(all) => texts(&all.api_versions),
        Object::Capabilities(all) => map(vec![
            ("KubeVersion", object_data(&Object::KubeVersion(all.clone()))),
            ("APIVersions", texts(&all.api_versions)),
            ("HelmVersion", object_data(&Object::HelmVersion)),
        ]),
        Object::Month(number) | Object::Weekday(number) => Value::Int(i64::from(*number)),
        // Fields that are empty are left out.
        Object::HelmVersion => map(vec![
            ("version", capabilities::HELM_VERSION.into()),
            ("go_version", capabilities::GO_VERSION.into()),
            ("kube_client_version", capabilities::KUBE_CLIENT_VERSION.into()),
        ]),
        Object::Certificate { certificate, key } => {
            map(vec![("Cert", (&**certificate).into()), ("Key", (&**key).into())])
        }
        Object::Bytes(bytes) => Value::from(super::encode::base64(bytes)),
        Object::Files(files) => Value::Map(
            files
                .iter()
                .map(|(name, data)| (name.to_string(), super::encode::base64(data).into()))
                .collect(),
        ),
    }
}

/// What was read, or why the text is not what it should be, which templates are given as a value. A bound is none: it ends
/// the rendering, or what is rendered would have holes.
type Read<T> = Result<T, String>;

fn from_yaml(text: &str) -> Result<Read<Value>, Box<ExecError>> {
    let limits = Limits {
        nodes: MAX_NODES,
        ..Limits::default()
    };
    if !bytes::is_utf8(text) {
        return Ok(Err(
            "error converting YAML to JSON: yaml: invalid UTF-8 octet".to_owned()
        ));
    }
    match yaml::read(text, &limits) {
        Err(cause @ yaml::ReadError::Limit { .. }) => Err(ExecError::plain(cause.to_string())),
        read => Ok(read.map_err(|cause| format!("error converting YAML to JSON: {cause}"))),
    }
}

fn from_json(text: &str) -> Result<Read<Value>, Box<ExecError>> {
    if values_in(text) > MAX_NODES {
        return Err(ExecError::plain(too_many_values()));
    }
    // Go's decoder takes U+FFFD for each byte that is no UTF-8.
    let lossy = bytes::lossy(text);
    let text = bytes::text(lossy.as_bytes());
    let read = json::read(&text).map(Value::from);
    if let Err(cause) = &read
        && cause.to_string().starts_with("recursion limit exceeded")
    {
        return Err(ExecError::plain(cause.to_string()));
    }
    Ok(read.map_err(|cause| match cause.is_eof() {
        true => "unexpected end of JSON input".to_owned(),
        false => cause.to_string(),
    }))
}

fn from_toml(text: &str) -> Result<Read<Val>, String> {
    // No value is written without one of them in front of it or behind it.
    let marks = text
        .bytes()
        .filter(|byte| matches!(byte, b'\n' | b',' | b'[' | b'{' | b'.' | b'='));
    match marks.count() > MAX_NODES {
        true => Err(too_many_values()),
        false => match toml::read(text) {
            Err(reason) if toml::is_bound(&reason) => Err(reason),
            read => Ok(read),
        },
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Map(_) => "object",
        _ => "number",
    }
}

/// What the reader of YAML puts before the words of the reader of JSON, to which it hands the document.
const FROM_YAML: &str = "error unmarshaling JSON: while decoding JSON: ";

/// Returns what was read as a template's value, where there is room for it.
fn value_of(interp: &Interp<'_>, read: &Value) -> Result<Val, Box<ExecError>> {
    interp.room(size(read))?;
    Ok(Val::from_document(read))
}

/// Returns how many bytes of memory a template's value takes at most.
fn size(value: &Value) -> usize {
    const NODE: usize = 64;
    const MAP: usize = 512;
    match value {
        Value::String(text) => NODE + text.len(),
        Value::List(items) => items.iter().fold(NODE, |sum, item| sum + size(item)),
        Value::Map(fields) => fields.iter().fold(NODE + MAP, |sum, (key, field)| {
            sum + NODE + key.len() + size(field)
        }),
        _ => NODE,
    }
}

fn as_map(interp: &Interp<'_>, read: Result<Value, String>, through: &str) -> Result<Val, Box<ExecError>> {
    Ok(match read {
        // The reader of YAML keeps the map that it was given.
        Ok(Value::Null) => Val::Map(MapVal {
            nil: through.is_empty(),
            ..MapVal::new(Entries::new())
        }),
        Ok(value @ Value::Map(_)) => value_of(interp, &value)?,
        Ok(other) => error_map(format!(
            "{through}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind(&other)
        )),
        Err(cause) => error_map(cause),
    })
}

fn error_map(cause: String) -> Val {
    Val::map([("Error".into(), Val::from(cause))].into())
}

fn as_list(interp: &Interp<'_>, read: Result<Value, String>, through: &str) -> Result<Val, Box<ExecError>> {
    Ok(match read {
        Ok(Value::Null) if through.is_empty() => Val::nil_list(Items::Any),
        Ok(Value::Null) => Val::list(Vec::new()),
        Ok(value @ Value::List(_)) => value_of(interp, &value)?,
        Ok(other) => Val::list(vec![Val::from(format!(
            "{through}json: cannot unmarshal {} into Go value of type []interface {{}}",
            kind(&other)
        ))]),
        Err(cause) => Val::list(vec![cause.into()]),
    })
}
