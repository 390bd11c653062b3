//! Prints floats as Go does, in its two habits.

/// Prints a float as Go's `%g` with the shortest digits: an exponent below -4 or from `limit` on.
///
/// `limit` is 21 for JSON and for `%v`, 6 for `strconv.FormatFloat(v, 'g', -1, 64)` when the digits are fewer.
pub(crate) fn go_float(value: f64, limit: i32) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() {
            "-0".into()
        } else {
            "0".into()
        };
    }
    let text = format!("{:e}", value.abs());
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if value < 0.0 { "-" } else { "" };
    if exponent < -4 || exponent >= limit {
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{mark}{:02}", exponent.abs());
    }
    format!("{sign}{}", value.abs())
}
