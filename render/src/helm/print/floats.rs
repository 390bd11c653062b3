//! Writes floats as the verbs of Go's fmt do.

use crate::yaml::number::shortest;

/// Splits a number into its sign, its mantissa of 53 bits and the power of two that goes with it.
fn parts(number: f64) -> (&'static str, u64, i32) {
    let bits = number.to_bits();
    let power = ((bits >> 52) & 0x7ff) as i32;
    let fraction = bits & ((1 << 52) - 1);
    let sign = if number.is_sign_negative() { "-" } else { "" };
    match power {
        0 => (sign, fraction, -1074),
        power => (sign, fraction | 1 << 52, power - 1075),
    }
}

/// `%b`: the mantissa, and the power of two.
pub(super) fn binary(number: f64) -> String {
    if !number.is_finite() {
        return shortest(number);
    }
    let (sign, mantissa, power) = parts(number);
    format!("{sign}{mantissa}p{power:+}")
}

/// `%x`: a mantissa between one and two with hexadecimal digits, and the power of two.
pub(super) fn hexadecimal(number: f64, precision: Option<usize>) -> String {
    if !number.is_finite() {
        return shortest(number);
    }
    let (sign, mut mantissa, mut power) = parts(number);
    if mantissa == 0 {
        power = 0;
    } else {
        let shift = mantissa.leading_zeros() as i32 - 11;
        mantissa <<= shift;
        power += 52 - shift;
    }
    // One digit in front of the point and thirteen behind it.
    if let Some(precision) = precision.filter(|precision| *precision < 13) {
        let dropped = (13 - precision) * 4;
        let (half, rest) = (1u64 << (dropped - 1), mantissa & ((1 << dropped) - 1));
        mantissa >>= dropped;
        mantissa += u64::from(rest > half || (rest == half && mantissa & 1 == 1));
        mantissa <<= dropped;
        if mantissa >> 53 != 0 {
            mantissa >>= 1;
            power += 1;
        }
    }
    let digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let digits = match precision {
        None => digits.trim_end_matches('0').to_owned(),
        Some(precision) if precision <= 13 => digits[..precision].to_owned(),
        Some(precision) => format!("{digits:0<precision$}"),
    };
    let point = if digits.is_empty() { "" } else { "." };
    let sign_of_power = if power < 0 { '-' } else { '+' };
    format!(
        "{sign}0x{}{point}{digits}p{sign_of_power}{:02}",
        mantissa >> 52,
        power.abs()
    )
}

/// No float has more digits behind its point; those that follow are zeros.
const MAX_DIGITS: usize = 1100;

pub(super) fn fixed(number: f64, precision: usize) -> String {
    let mut text = format!("{number:.*}", precision.min(MAX_DIGITS));
    if number.is_finite() {
        text.extend(std::iter::repeat_n('0', precision.saturating_sub(MAX_DIGITS)));
    }
    text
}

pub(super) fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.*e}", precision.min(MAX_DIGITS));
    match text.split_once('e') {
        Some((digits, power)) if precision > MAX_DIGITS => {
            format!("{digits}{}e{power}", "0".repeat(precision - MAX_DIGITS))
        }
        _ => text,
    }
}

/// Gives Rust's exponent Go's sign and two digits.
pub(super) fn exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%g` with a precision: so many significant digits, without zeros at the end.
pub(super) fn general(number: f64, precision: usize) -> String {
    let precision = precision.max(1);
    let scientific = format!("{number:.*e}", (precision - 1).min(MAX_DIGITS));
    let Some((mantissa, power)) = scientific.split_once('e') else {
        return shortest(number);
    };
    let power: i32 = power.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let digits = trimmed(mantissa).replace(['.', '-'], "").len() as i32;
    let limit = if precision as i32 > digits && digits > power {
        digits
    } else {
        precision as i32
    };
    if power < -4 || power >= limit {
        return exponent(&format!("{}e{power}", trimmed(mantissa)));
    }
    trimmed(&format!(
        "{number:.*}",
        usize::try_from(precision as i32 - 1 - power).unwrap_or(0)
    ))
}
