//! Reads the constants of templates: Go's integers in four bases, floats and characters.

use std::rc::Rc;

use crate::helm::ast::Number;
use crate::helm::lex::{Kind, Token};
use crate::helm::quote::{quote, unquote_char};

pub(super) fn number(token: &Token<'_>) -> Result<Number, String> {
    let text: Rc<str> = (&*token.text).into();
    let mut number = Number {
        text: text.clone(),
        int: None,
        uint: None,
        float: None,
        complex: false,
    };
    if token.kind == Kind::CharConstant {
        let c = unquote_char(&text).ok_or_else(|| format!("malformed character constant: {text}"))?;
        number.int = Some(i64::from(u32::from(c)));
        number.uint = Some(u64::from(u32::from(c)));
        number.float = Some(f64::from(u32::from(c)));
        return Ok(number);
    }
    if token.kind == Kind::Complex || text.ends_with('i') {
        number.complex = true;
        return Ok(number);
    }
    number.uint = parse_unsigned(&text);
    number.int = parse_signed(&text);
    if let Some(int) = number.int {
        number.float = Some(int as f64);
        number.uint = number.uint.or(u64::try_from(int).ok());
    } else if let Some(uint) = number.uint {
        number.float = Some(uint as f64);
    } else if let Some(float) = parse_float(&text) {
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", quote(&text)));
        }
        number.float = Some(float);
        if float.fract() == 0.0 && float.abs() < 9.3e18 {
            number.int = Some(float as i64);
            number.uint = (float >= 0.0).then_some(float as u64);
        }
    } else {
        return Err(format!("illegal number syntax: {}", quote(&text)));
    }
    Ok(number)
}

fn parse_unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = based(text)?;
    u64::from_str_radix(&digits, radix).ok()
}

fn parse_signed(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (&text[..1], rest),
        None => ("", text),
    };
    let (digits, radix) = based(rest)?;
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Splits a literal into digits without underscores and their base, as Go's base 0.
fn based(text: &str) -> Option<(String, u32)> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let unsigned = !digits.starts_with(['+', '-']);
    let spaced = !text.ends_with('_') && !text.contains("__") && !text.starts_with('_');
    (unsigned && spaced).then(|| (digits.replace('_', ""), radix))
}

pub(in crate::helm) fn parse_float(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with("0x") || digits.starts_with("0X") {
        return hexadecimal(&digits[2..].replace('_', "")).map(|float| sign * float);
    }
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|float: &f64| float.is_finite())
}

/// Reads a hexadecimal mantissa with its power of two, which Go asks for, rounded to the nearest float.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, power) = text.split_once(['p', 'P'])?;
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Beyond these, every mantissa that a template can hold is zero or too large.
    let power: i64 = power.parse().unwrap_or(if power.starts_with('-') {
        i64::MIN / 2
    } else {
        i64::MAX / 2
    });
    let mut power = power.clamp(-(1 << 40), 1 << 40);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut bits, mut lost) = (0u64, false);
    for (at, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        if bits >> 60 == 0 {
            bits = bits << 4 | digit;
            power -= if at >= whole.len() { 4 } else { 0 };
        } else {
            lost |= digit != 0;
            power += if at >= whole.len() { 0 } else { 4 };
        }
    }
    scaled(bits, power, lost)
}

/// Returns `bits` times a power of two, rounded to even; none when it is too large.
fn scaled(bits: u64, power: i64, lost: bool) -> Option<f64> {
    if bits == 0 {
        return Some(0.0);
    }
    let width = 64 - i64::from(bits.leading_zeros());
    // The place of the last bit that a float of this size has.
    let last = (width + power - 53).max(-1074);
    let dropped = last - power;
    let kept = match dropped {
        ..=0 => bits << dropped.unsigned_abs().min(63),
        1..=64 => {
            let wide = u128::from(bits);
            let (kept, rest, half) = (
                wide >> dropped,
                wide & ((1 << dropped) - 1),
                1u128 << (dropped - 1),
            );
            let up = rest > half || (rest == half && (lost || kept & 1 == 1));
            (kept + u128::from(up)) as u64
        }
        _ => 0,
    };
    // A power of two at a time stays exact: what is too small was rounded already.
    let mut float = kept as f64;
    let mut left = last;
    while left != 0 && float != 0.0 && float.is_finite() {
        let step = left.clamp(-1000, 1000);
        float *= 2f64.powi(step as i32);
        left -= step;
    }
    float.is_finite().then_some(float)
}

#[cfg(test)]
mod tests {
    use super::parse_float;

    #[test]
    fn hexadecimal_floats_are_rounded_as_go_does() {
        let cases = [
            ("0x1p60", Some(1_152_921_504_606_846_976.0)),
            ("0x1.8p1", Some(3.0)),
            ("-0X.8P0", Some(-0.5)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x1.fffffffffffff7p0", Some(1.999_999_999_999_999_8)),
            ("0x10000000000000000000p-76", Some(1.0)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1075", Some(0.0)),
            ("0x1.8p-1075", Some(5e-324)),
            ("0x1p1024", None),
            ("0x1p99999999999999999999", None),
            ("0x0p5", Some(0.0)),
            ("0x1.8", None),
            ("0xp1", None),
            ("0x1p", None),
            ("0x_1p4", Some(16.0)),
        ];
        for (text, want) in cases {
            assert_eq!(parse_float(text), want, "{text}");
        }
    }
}
