//! Dates and durations. The time of now is the caller's, and asking for it is recorded.

use std::num::{IntErrorKind, ParseIntError};
use std::rc::Rc;

use super::{Function, pure, reading, text};
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::object::Object;
use crate::helm::time::{Time, duration, parse_duration, seconds, value};
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    reading("now", "", |interp, _| Ok(value(now(interp)))),
    reading("date", "sa", |interp, args| {
        Ok(at(interp, &args[1]).format(text(args, 0)).into())
    }),
    reading("dateInZone", "sas", |interp, args| {
        Ok(at(interp, &args[1]).format(text(args, 0)).into())
    }),
    reading("date_in_zone", "sas", |interp, args| {
        Ok(at(interp, &args[1]).format(text(args, 0)).into())
    }),
    reading("htmlDate", "a", |interp, args| {
        Ok(at(interp, &args[0]).format("2006-01-02").into())
    }),
    reading("htmlDateInZone", "as", |interp, args| {
        Ok(at(interp, &args[0]).format("2006-01-02").into())
    }),
    reading("ago", "a", ago),
    pure("dateModify", "st", |args| {
        Ok(modified(args).unwrap_or_else(|_| args[1].clone()))
    }),
    pure("date_modify", "st", |args| {
        Ok(modified(args).unwrap_or_else(|_| args[1].clone()))
    }),
    pure("mustDateModify", "st", modified),
    pure("must_date_modify", "st", modified),
    pure("toDate", "ss", |args| {
        Ok(value(
            Time::parse(text(args, 0), text(args, 1)).unwrap_or_else(Time::zero),
        ))
    }),
    pure("mustToDate", "ss", |args| {
        match Time::parse(text(args, 0), text(args, 1)) {
            Some(time) => Ok(value(time)),
            // The text may be secret, and Go's words on it are not ours.
            None => Err(format!("parsing time as {:?}: cannot parse", text(args, 0))),
        }
    }),
    pure("unixEpoch", "t", |args| {
        Ok(time(&args[0]).map_or(0, |time| time.seconds).to_string().into())
    }),
    pure(
        "duration",
        "a",
        |args| Ok(duration(from_seconds(&args[0])).into()),
    ),
    reading("durationRound", "a", rounded),
    pure("mustToDuration", "a", |args| {
        as_duration(&args[0]).map(duration_value)
    }),
    pure("durationSeconds", "a", |args| {
        Ok(Val::Float(seconds(duration_or_zero(&args[0]))))
    }),
    pure("durationMilliseconds", "a", |args| {
        Ok(Val::Int64(duration_or_zero(&args[0]) / 1_000_000))
    }),
    pure("durationMicroseconds", "a", |args| {
        Ok(Val::Int64(duration_or_zero(&args[0]) / 1_000))
    }),
    pure("durationNanoseconds", "a", |args| {
        Ok(Val::Int64(duration_or_zero(&args[0])))
    }),
    pure("durationMinutes", "a", |args| {
        Ok(Val::Float(in_units(duration_or_zero(&args[0]), 60_000_000_000)))
    }),
    pure("durationHours", "a", |args| Ok(Val::Float(hours(&args[0])))),
    pure("durationDays", "a", |args| Ok(Val::Float(hours(&args[0]) / 24.0))),
    pure("durationWeeks", "a", |args| {
        Ok(Val::Float(hours(&args[0]) / 24.0 / 7.0))
    }),
    pure("durationRoundTo", "aa", |args| Ok(to_multiple(args, round_to))),
    pure("durationTruncateTo", "aa", |args| {
        Ok(to_multiple(args, |nanos, multiple| nanos - nanos % multiple))
    }),
];

fn now(interp: &mut Interp<'_>) -> Time {
    interp.reads.clock = true;
    Time::from_nanos(interp.context.now)
}

fn time(value: &Val) -> Option<Time> {
    match value {
        Val::Object(object) => match &**object {
            Object::Time(time) => Some(*time),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the time a value stands for, in UTC: a time, or seconds since 1970; anything else is now.
fn at(interp: &mut Interp<'_>, given: &Val) -> Time {
    match given {
        Val::Int(seconds) | Val::Int64(seconds) => Time::from_unix(*seconds),
        other => time(other).unwrap_or_else(|| now(interp)).utc(),
    }
}

fn ago(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let then = at(interp, &args[0]);
    Ok(duration(round_to(now(interp).since(then), 1_000_000_000)).into())
}

fn modified(args: &[Val]) -> Result<Val, String> {
    let nanos = parse_duration(text(args, 0))?;
    Ok(time(&args[1]).map_or_else(|| args[1].clone(), |time| value(time.plus(nanos))))
}

fn from_seconds(given: &Val) -> i64 {
    let seconds = match given {
        Val::Str(text) => text
            .parse()
            .unwrap_or_else(|error: ParseIntError| match error.kind() {
                // Go's parser gives the nearest integer beside its error, and the error is passed over.
                IntErrorKind::PosOverflow => i64::MAX,
                IntErrorKind::NegOverflow => i64::MIN,
                _ => 0,
            }),
        Val::Int64(seconds) => *seconds,
        _ => 0i64,
    };
    seconds.wrapping_mul(1_000_000_000)
}

fn rounded(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let nanos = match &args[0] {
        Val::Str(text) => parse_duration(text).unwrap_or(0),
        Val::Int64(nanos) => *nanos,
        other => match time(other) {
            Some(then) => now(interp).since(then),
            None => 0,
        },
    };
    let magnitude = nanos.unsigned_abs();
    const SECOND: u64 = 1_000_000_000;
    let units = [
        (31_536_000, "y"),
        (2_592_000, "mo"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let unit = units.iter().find(|(seconds, _)| magnitude > seconds * SECOND);
    Ok(unit
        .map_or_else(
            || "0s".to_owned(),
            |(seconds, name)| format!("{}{name}", magnitude / (seconds * SECOND)),
        )
        .into())
}

fn duration_value(nanos: i64) -> Val {
    Val::Object(Rc::new(Object::Duration(nanos)))
}

fn as_duration(given: &Val) -> Result<i64, String> {
    let overflow = |shown: String| format!("duration seconds overflow: {shown}");
    let from_float = |seconds: f64| {
        if !seconds.is_finite() {
            return Err(format!(
                "invalid duration seconds: {}",
                crate::helm::print::text(&Val::Float(seconds))
            ));
        }
        if seconds.abs() > i64::MAX as f64 / 1e9 {
            return Err(overflow(crate::helm::print::text(&Val::Float(seconds))));
        }
        Ok((seconds * 1e9) as i64)
    };
    match given {
        Val::Str(text) => {
            let trimmed = text.trim();
            if trimmed.is_empty() {
                return Err("empty duration".to_owned());
            }
            if let Ok(nanos) = parse_duration(trimmed) {
                return Ok(nanos);
            }
            match trimmed.parse::<f64>() {
                Ok(seconds) => from_float(seconds),
                Err(_) => Err(format!(
                    "could not parse duration {}",
                    crate::helm::quote::quote(text)
                )),
            }
        }
        Val::Invalid | Val::Nil => Err("invalid duration".to_owned()),
        Val::Float(seconds) => from_float(*seconds),
        Val::Object(object) => match **object {
            Object::Duration(nanos) => Ok(nanos),
            _ => Err(format!("unsupported duration type {}", object.type_name())),
        },
        other => match other
            .as_signed()
            .map(i128::from)
            .or(other.as_unsigned().map(i128::from))
        {
            Some(seconds) => i64::try_from(seconds)
                .ok()
                .and_then(|seconds| seconds.checked_mul(1_000_000_000))
                .ok_or_else(|| overflow(seconds.to_string())),
            None => Err(format!("unsupported duration type {}", other.type_name())),
        },
    }
}

fn duration_or_zero(given: &Val) -> i64 {
    as_duration(given).unwrap_or(0)
}

fn in_units(nanos: i64, unit: i64) -> f64 {
    (nanos / unit) as f64 + (nanos % unit) as f64 / unit as f64
}

fn hours(given: &Val) -> f64 {
    in_units(duration_or_zero(given), 3_600_000_000_000)
}

fn to_multiple(args: &[Val], adjust: fn(i64, i64) -> i64) -> Val {
    let Ok(nanos) = as_duration(&args[0]) else {
        return duration_value(0);
    };
    match as_duration(&args[1]) {
        Ok(multiple) if multiple > 0 => duration_value(adjust(nanos, multiple)),
        _ => duration_value(nanos),
    }
}

/// Rounds half away from zero.
fn round_to(nanos: i64, multiple: i64) -> i64 {
    let rest = nanos % multiple;
    if rest.unsigned_abs() * 2 < multiple.unsigned_abs() {
        return nanos - rest;
    }
    let away = if nanos < 0 { -multiple } else { multiple };
    (nanos - rest).saturating_add(away)
}
