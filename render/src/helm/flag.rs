//! Values of flags as Helm reads them: what Go takes for a duration, a whole number and a number.

use super::funcs::parse_int;
use super::parse::parse_float;
use super::time::parse_duration;

/// Tells whether Go reads a duration, such as `1h2.5s` or `-1us`.
pub fn is_duration(text: &str) -> bool {
    parse_duration(text).is_ok()
}

/// Tells whether Go reads a whole number of 64 bits, in any of its bases.
pub fn is_int(text: &str) -> bool {
    parse_int(text).is_some()
}

/// Tells whether Go reads a number of 32 bits, which may be infinite where it is written so.
pub fn is_float32(text: &str) -> bool {
    let word = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let is_finite = |number: f64| number.abs() <= f64::from(f32::MAX);
    matches!(word.as_str(), "inf" | "infinity" | "nan") || parse_float(text).is_some_and(is_finite)
}
