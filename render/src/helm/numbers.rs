//! Numbers in text, as Go's `strconv` reads them: in any of its bases, with underscores between digits.

/// Reads a number of 64 bits without a sign, as `strconv.ParseUint(text, 0, 64)`.
pub(super) fn parse_uint(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let (digits, radix) = match bytes {
        [b'0', b'x' | b'X', _, ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', _, ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', _, ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // Rust reads a sign of its own.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    if !digits.contains('_') {
        return u64::from_str_radix(digits, radix).ok();
    }
    if !underscores_separate_digits(text) {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// Reads a number of 64 bits, as `strconv.ParseInt(text, 0, 64)`.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(rest) => 0i64.checked_sub_unsigned(parse_uint(rest)?),
        None => i64::try_from(parse_uint(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
}

/// Reads a float of 64 bits, as `strconv.ParseFloat(text, 64)`: infinite only where it is written so.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned.as_bytes().first()? {
        b'i' | b'I' => {
            let is_word = ["inf", "infinity"]
                .iter()
                .any(|word| unsigned.eq_ignore_ascii_case(word));
            return is_word.then_some(sign * f64::INFINITY);
        }
        b'n' | b'N' => return text.eq_ignore_ascii_case("nan").then_some(f64::NAN),
        b'0'..=b'9' | b'.' => {}
        _ => return None,
    }
    if text.contains('_') && !underscores_separate_digits(text) {
        return None;
    }
    let unsigned = unsigned.replace('_', "");
    let magnitude = match unsigned.get(..2) {
        Some("0x" | "0X") => hexadecimal(&unsigned[2..])?,
        _ => unsigned.parse().ok().filter(|float: &f64| float.is_finite())?,
    };
    Some(sign * magnitude)
}

/// Tells whether each underscore of a number stands between two digits, of which a base's prefix counts as one.
fn underscores_separate_digits(number: &str) -> bool {
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number).as_bytes();
    let (is_hex, from) = match unsigned {
        [b'0', b'x' | b'X', ..] => (true, 2),
        [b'0', b'b' | b'B' | b'o' | b'O', ..] => (false, 2),
        _ => (false, 0),
    };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (is_hex && byte.is_ascii_hexdigit());
    (from..unsigned.len())
        .filter(|at| unsigned[*at] == b'_')
        .all(|at| {
            let before = at == from && from > 0 || at > from && is_digit(unsigned[at - 1]);
            before && unsigned.get(at + 1).is_some_and(|next| is_digit(*next))
        })
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
    use super::{parse_float, parse_int, parse_uint};

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

    #[test]
    fn floats_are_read_as_strconv_reads_them() {
        let cases = [
            ("1_000.5", Some(1000.5)),
            ("1_23.50_0_0e+1_2", Some(1.235e14)),
            ("-1_0e1_0", Some(-1e11)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("1._5", None),
            ("1e_5", None),
            ("1e5_", None),
            ("0x_1F.8p0", Some(31.5)),
            ("0x1.8_0p1", Some(3.0)),
            ("0x1.8p1_", None),
            ("1e400", None),
            ("-1e400", None),
            ("1e-400", Some(0.0)),
            ("inf", Some(f64::INFINITY)),
            ("+Inf", Some(f64::INFINITY)),
            ("-INFINITY", Some(f64::NEG_INFINITY)),
            ("infinit", None),
            ("-nan", None),
            ("+NaN", None),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            (".", None),
            ("", None),
            ("-", None),
            ("+-1", None),
            ("0b1", None),
            ("1 ", None),
            ("1f", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_float(text), want, "{text}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        assert!(parse_float("-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
    }

    #[test]
    fn whole_numbers_are_read_as_strconv_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1_000", Some(1000)),
            ("0_7", Some(7)),
            ("0x_f", Some(15)),
            ("0b1_0", Some(2)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("08", None),
            ("0x", None),
            ("0_", None),
            ("_1", None),
            ("1__0", None),
            ("--1", None),
            ("-+1", None),
            ("+5", Some(5)),
            ("0x-1", None),
            ("", None),
            ("1.0", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_int(text), want, "{text}");
        }
        assert_eq!(parse_uint("18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_uint("+1"), None);
    }
}
