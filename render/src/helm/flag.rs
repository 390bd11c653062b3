//! Values of flags as Helm reads them: what Go takes for a duration, a whole number and a number.

use super::numbers::{parse_float, parse_int};
use super::time::parse_duration;

/// Returns a duration that Go reads, such as `1h2.5s` or `-1us`, in nanoseconds.
pub fn duration(text: &str) -> Option<i64> {
    parse_duration(text).ok()
}

/// Tells whether Go reads a whole number of 64 bits, in any of its bases.
pub fn is_int(text: &str) -> bool {
    parse_int(text).is_some()
}

/// Tells whether Go reads a number of 32 bits, which may be infinite where it is written so.
pub fn is_float32(text: &str) -> bool {
    parse_float(text).is_some_and(|number| !number.is_finite() || (number as f32).is_finite())
}
