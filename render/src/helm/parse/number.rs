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

fn parse_float(text: &str) -> Option<f64> {
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|float: &f64| float.is_finite())
}
