//! Durations as Go writes and reads them, such as `1h2m3.5s`.

use std::rc::Rc;

use super::NANOS;
use crate::helm::object::Object;
use crate::helm::quote::quote;
use crate::helm::value::Val;

/// Returns a duration as Go writes it: `1h2m3.5s`, below a second `1.5ms`.
pub(in crate::helm) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let decimal = |whole: u64, unit: u64| {
        let fraction = format!("{:0width$}", whole % unit, width = unit.ilog10() as usize);
        match fraction.trim_end_matches('0') {
            _ if unit == 1 => whole.to_string(),
            "" => (whole / unit).to_string(),
            fraction => format!("{}.{fraction}", whole / unit),
        }
    };
    if magnitude < 1_000_000_000 {
        let (unit, name) = match magnitude {
            ..=999 => (1, "ns"),
            1_000..=999_999 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(magnitude, unit));
    }
    let (hours, minutes) = (magnitude / 3_600_000_000_000, magnitude / 60_000_000_000 % 60);
    let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads a duration as Go does; the error is Go's.
pub(in crate::helm) fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || quote(text);
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let length = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (name, after) = after.split_at(length);
        let unit: u64 = match name {
            "" => return Err(format!("time: missing unit in duration {}", quoted())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            name => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote(name),
                    quoted()
                ));
            }
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let fraction: f64 = format!("0.{fraction}0").parse().map_err(|_| invalid())?;
        let part = whole.checked_mul(unit).ok_or_else(invalid)?;
        total = part
            .checked_add((fraction * unit as f64) as u64)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return 0i64.checked_sub_unsigned(total).ok_or_else(invalid);
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// Calls a method of Go's duration; `unit` is the argument of those that take one.
pub(in crate::helm) fn duration_method(nanos: i64, name: &str, unit: i64) -> Val {
    let value = |nanos| Val::Object(Rc::new(Object::Duration(nanos)));
    match name {
        "Hours" => Val::Float(nanos as f64 / 3.6e12),
        "Minutes" => Val::Float(nanos as f64 / 6e10),
        "Seconds" => Val::Float(seconds(nanos)),
        "Milliseconds" => Val::Int64(nanos / 1_000_000),
        "Microseconds" => Val::Int64(nanos / 1_000),
        "Nanoseconds" => Val::Int64(nanos),
        "Abs" => value(nanos.saturating_abs()),
        "Truncate" if unit > 0 => value(nanos - nanos % unit),
        "Round" if unit > 0 => value(rounded(nanos, unit)),
        "Truncate" | "Round" => value(nanos),
        _ => duration(nanos).into(),
    }
}

/// Rounds to a multiple of a unit, halves away from zero, as far as 64 bits go.
fn rounded(nanos: i64, unit: i64) -> i64 {
    let rest = nanos % unit;
    let down = nanos - rest;
    if rest.unsigned_abs() * 2 < unit.unsigned_abs() {
        down
    } else {
        down.saturating_add(unit * rest.signum())
    }
}

/// Returns the seconds of a duration as Go calculates them.
pub(in crate::helm) fn seconds(nanos: i64) -> f64 {
    (nanos / NANOS) as f64 + (nanos % NANOS) as f64 / 1e9
}
