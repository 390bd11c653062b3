//! Arithmetic, with the leniency of sprig: text that is a number counts, anything else is zero.

use std::num::IntErrorKind;

use super::{Function, counted, int, pure};
use crate::helm::numbers::{parse_float, parse_int};
use crate::helm::print;
use crate::helm::value::Val;

/// Reads an integer; what is none is zero, and what is beyond 64 bits the nearest that is not.
fn parsed(text: &str) -> i64 {
    match text.parse::<i64>().map_err(|cause| *cause.kind()) {
        Ok(number) => number,
        Err(IntErrorKind::PosOverflow) => i64::MAX,
        Err(IntErrorKind::NegOverflow) => i64::MIN,
        Err(_) => 0,
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    pure("int", "a", |args| Ok(Val::Int(to_int(&args[0])))),
    pure("int64", "a", |args| Ok(Val::Int64(to_int(&args[0])))),
    pure("float64", "a", |args| Ok(Val::Float(to_float(&args[0])))),
    pure("atoi", "s", |args| Ok(Val::Int(parsed(super::text(args, 0))))),
    pure("toDecimal", "a", |args| {
        Ok(Val::Int64(
            i64::from_str_radix(&print::text(&args[0]), 8).unwrap_or(0),
        ))
    }),
    pure("add1", "a", |args| {
        Ok(Val::Int64(to_int(&args[0]).wrapping_add(1)))
    }),
    pure("add", "a*", |args| {
        Ok(Val::Int64(args.iter().map(to_int).fold(0, i64::wrapping_add)))
    }),
    pure("sub", "aa", |args| {
        Ok(Val::Int64(to_int(&args[0]).wrapping_sub(to_int(&args[1]))))
    }),
    pure("div", "aa", |args| divided(args, i64::wrapping_div)),
    pure("mod", "aa", |args| divided(args, i64::wrapping_rem)),
    pure("mul", "aa*", |args| {
        Ok(Val::Int64(args.iter().map(to_int).fold(1, i64::wrapping_mul)))
    }),
    pure("add1f", "a", |args| decimal(&args[0], &[Val::Int(1)], Op::Add)),
    pure("addf", "a*", |args| decimal(&Val::Float(0.0), args, Op::Add)),
    pure("subf", "aa*", |args| decimal(&args[0], &args[1..], Op::Sub)),
    pure("mulf", "aa*", |args| decimal(&args[0], &args[1..], Op::Mul)),
    pure("divf", "aa*", |args| decimal(&args[0], &args[1..], Op::Div)),
    pure("max", "aa*", |args| {
        Ok(Val::Int64(args.iter().map(to_int).max().unwrap_or(0)))
    }),
    pure("biggest", "aa*", |args| {
        Ok(Val::Int64(args.iter().map(to_int).max().unwrap_or(0)))
    }),
    pure("min", "aa*", |args| {
        Ok(Val::Int64(args.iter().map(to_int).min().unwrap_or(0)))
    }),
    pure("maxf", "aa*", |args| {
        Ok(Val::Float(
            args.iter().map(to_float).fold(f64::NEG_INFINITY, larger),
        ))
    }),
    pure("minf", "aa*", |args| {
        Ok(Val::Float(args.iter().map(to_float).fold(f64::INFINITY, smaller)))
    }),
    pure("ceil", "a", |args| Ok(Val::Float(to_float(&args[0]).ceil()))),
    pure("floor", "a", |args| Ok(Val::Float(to_float(&args[0]).floor()))),
    pure("round", "aif*", round),
    pure("until", "i", |args| {
        stepped(0, int(args, 0), if int(args, 0) < 0 { -1 } else { 1 })
    }),
    pure("untilStep", "iii", |args| {
        stepped(int(args, 0), int(args, 1), int(args, 2))
    }),
    pure("seq", "i*", seq),
];

/// Returns the integer that sprig makes of a value; zero of what is none.
pub(super) fn to_int(value: &Val) -> i64 {
    match value {
        Val::Bool(flag) => i64::from(*flag),
        Val::Float(number) => go_truncated(*number),
        Val::UInt(number) => *number as i64,
        Val::Byte(number) => i64::from(*number),
        Val::Str(text) => parse_int(without_zero_decimals(text)).unwrap_or(0),
        other => other.as_signed().unwrap_or(0),
    }
}

/// Converts as amd64 does: what does not fit is the least integer.
fn go_truncated(number: f64) -> i64 {
    if number.is_nan() || !(-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&number) {
        return i64::MIN;
    }
    number as i64
}

fn without_zero_decimals(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    }
}

/// Returns the float that sprig makes of a value; zero of what is none.
pub(super) fn to_float(value: &Val) -> f64 {
    match value {
        Val::Float(number) => *number,
        Val::Bool(flag) => f64::from(u8::from(*flag)),
        Val::UInt(number) => *number as f64,
        Val::Byte(number) => f64::from(*number),
        Val::Str(text) => parse_float(text).unwrap_or(0.0),
        other => other.as_signed().unwrap_or(0) as f64,
    }
}

fn divided(args: &[Val], by: fn(i64, i64) -> i64) -> Result<Val, String> {
    match to_int(&args[1]) {
        0 => Err("runtime error: integer divide by zero".to_owned()),
        divisor => Ok(Val::Int64(by(to_int(&args[0]), divisor))),
    }
}

#[derive(Clone, Copy)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

/// A decimal number: `digits` times ten to the power of `-scale`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    scale: u32,
}

impl Decimal {
    /// Returns the shortest decimal that reads back as the float; none beyond what 128 bits hold.
    fn of(number: f64) -> Option<Decimal> {
        let text = format!("{number}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Decimal {
            digits,
            scale: fraction.len() as u32,
        })
    }

    fn scaled(self, scale: u32) -> Option<i128> {
        self.digits
            .checked_mul(10i128.checked_pow(scale.checked_sub(self.scale)?)?)
    }

    fn apply(self, op: Op, other: Decimal) -> Option<Decimal> {
        let scale = self.scale.max(other.scale);
        match op {
            Op::Add => Some(Decimal {
                digits: self.scaled(scale)?.checked_add(other.scaled(scale)?)?,
                scale,
            }),
            Op::Sub => Some(Decimal {
                digits: self.scaled(scale)?.checked_sub(other.scaled(scale)?)?,
                scale,
            }),
            Op::Mul => Some(Decimal {
                digits: self.digits.checked_mul(other.digits)?,
                scale: self.scale + other.scale,
            }),
            // Sixteen places behind the point, rounded half away from zero.
            Op::Div => {
                let numerator = self.scaled(scale)?.checked_mul(10i128.pow(17))?;
                let quotient = numerator.checked_div(other.scaled(scale)?)?;
                let rounded = (quotient + if quotient < 0 { -5 } else { 5 }) / 10;
                Some(Decimal {
                    digits: rounded,
                    scale: 16,
                })
            }
        }
    }

    fn float(self) -> f64 {
        format!("{}e-{}", self.digits, self.scale).parse().unwrap_or(0.0)
    }
}

/// Calculates in decimals, as sprig does, so that 0.1 + 0.2 is 0.3.
fn decimal(first: &Val, others: &[Val], op: Op) -> Result<Val, String> {
    let mut plain = to_float(first);
    let mut exact = Decimal::of(plain);
    for other in others {
        let other = to_float(other);
        if matches!(op, Op::Div) && other == 0.0 {
            return Err("decimal division by 0".to_owned());
        }
        exact = exact.zip(Decimal::of(other)).and_then(|(a, b)| a.apply(op, b));
        plain = match op {
            Op::Add => plain + other,
            Op::Sub => plain - other,
            Op::Mul => plain * other,
            Op::Div => plain / other,
        };
    }
    Ok(Val::Float(exact.map_or(plain, Decimal::float)))
}

fn round(args: &[Val]) -> Result<Val, String> {
    let on = args.get(2).map_or(0.5, to_float);
    let power = 10f64.powf(int(args, 1) as f64);
    let scaled = power * to_float(&args[0]);
    let rounded = if scaled.fract() >= on {
        scaled.ceil()
    } else {
        scaled.floor()
    };
    Ok(Val::Float(rounded / power))
}

fn numbers(start: i64, stop: i64, step: i64) -> Result<Vec<i64>, String> {
    let down = stop < start;
    if (down && step >= 0) || (!down && step <= 0) {
        return Ok(Vec::new());
    }
    let count = stop.abs_diff(start).div_ceil(step.unsigned_abs());
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    // What wraps around on the way comes back: the sum is before `stop`.
    counted((0..count).map(|at| start.wrapping_add(at.wrapping_mul(step))))
}

fn stepped(start: i64, stop: i64, step: i64) -> Result<Val, String> {
    numbers(start, stop, step).map(|numbers| Val::ints(numbers.into_iter()))
}

fn seq(args: &[Val]) -> Result<Val, String> {
    let (start, step, end) = match args.len() {
        1 => (1, None, int(args, 0)),
        2 => (int(args, 0), None, int(args, 1)),
        3 => (int(args, 0), Some(int(args, 1)), int(args, 2)),
        _ => return Ok("".into()),
    };
    let down = end < start;
    let direction = if down { -1 } else { 1 };
    if down && step.is_some_and(|step| step > 0) {
        return Ok("".into());
    }
    let numbers = numbers(start, end.saturating_add(direction), step.unwrap_or(direction))?;
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    Ok(texts.join(" ").into())
}

/// Returns the larger number as Go does: no number beats all but infinity, and a zero without a sign beats the other.
fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b && a.is_sign_negative() {
        b
    } else if a >= b {
        a
    } else {
        b
    }
}

fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}
