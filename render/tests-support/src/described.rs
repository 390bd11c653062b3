//! Writes values with their types, as the oracle does.

use flotilla_render::yaml::Value;

/// Writes a value with its Go type, as the oracle does.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(flag) => format!("bool({flag})"),
        Value::Int(number) => format!("int64({number})"),
        Value::UInt(number) => format!("uint64({number})"),
        Value::Float(number) => format!("float64({})", printed(*number)),
        Value::String(text) => serde_json::to_string(text).expect("text is JSON"),
        Value::List(items) => {
            format!("[{}]", items.iter().map(describe).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entries = map.iter().map(|(key, value)| {
                format!(
                    "{}: {}",
                    serde_json::to_string(key).expect("text is JSON"),
                    describe(value)
                )
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Writes a float as Go's `%v` does.
fn printed(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, power) = scientific.split_once('e').expect("an exponent");
    let power: i32 = power.parse().expect("a number");
    if (-4..6).contains(&power) {
        number.to_string()
    } else {
        format!("{digits}e{power:+03}")
    }
}
