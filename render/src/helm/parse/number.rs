//! Reads the constants of templates: Go's integers in four bases, floats and characters.

use std::rc::Rc;

use crate::helm::ast::Number;
use crate::helm::lex::{Kind, Token};
use crate::helm::numbers::{parse_float, parse_int, parse_uint};
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
    number.uint = parse_uint(&text);
    number.int = parse_int(&text);
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
