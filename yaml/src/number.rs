//! Writes floats as Go does.

/// The least power of ten that is written with an exponent: Go decides as if a number without a precision had six.
const EXPONENT_FROM: i32 = 6;
/// The same where a number comes from JSON.
const JSON_EXPONENT_FROM: i32 = 21;

/// Returns the shortest text of `number` that reads back the same, as Go's `%v` has it: with an exponent of
/// two digits at least below 1e-4 and from 1e6 on.
pub fn shortest(number: f64) -> String {
    general(&format!("{number:e}"), EXPONENT_FROM)
}

/// As [`shortest`], for a number of 32 bits.
pub(crate) fn shortest32(number: f32) -> String {
    general(&format!("{number:e}"), EXPONENT_FROM)
}

/// Returns the text of a number that JSON held: as [`shortest`], but with an exponent from 1e21 on only.
pub(crate) fn shortest_of_json(number: f64) -> String {
    general(&format!("{number:e}"), JSON_EXPONENT_FROM)
}

/// Returns the number as Go's JSON encoder writes it: an exponent below 1e-6 and from 1e21 on.
pub fn json(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{number:e}");
        return if text.contains("e-") {
            text
        } else {
            text.replacen('e', "e+", 1)
        };
    }
    format!("{number}")
}

/// Turns Rust's shortest scientific notation into Go's `g` form.
fn general(scientific: &str, exponent_from: i32) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return match scientific {
            "inf" => "+Inf".into(),
            "-inf" => "-Inf".into(),
            _ => "NaN".into(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    if !(-4..exponent_from).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{direction}{:02}", exponent.unsigned_abs());
    }
    let digits = mantissa.replace('.', "");
    if exponent < 0 {
        return format!(
            "{sign}0.{}{digits}",
            "0".repeat(exponent.unsigned_abs() as usize - 1)
        );
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}
