//! Writes floats as Go does.

/// The least power of ten that is written with an exponent: Go decides as if a number without a precision had six.
const EXPONENT_FROM: i32 = 6;
/// The same where a number comes from JSON.
const JSON_EXPONENT_FROM: i32 = 21;

/// Returns the shortest text of `number` that reads back the same, as Go's `%v` has it: with an exponent of
/// two digits at least below 1e-4 and from 1e6 on.
pub fn shortest(number: f64) -> String {
    general(&scientific(number), EXPONENT_FROM)
}

/// As [`shortest`], for a number of 32 bits.
pub(crate) fn shortest32(number: f32) -> String {
    let reads_back = |text: &str| text.parse() == Ok(number);
    general(
        &to_even(format!("{number:e}"), f64::from(number), reads_back),
        EXPONENT_FROM,
    )
}

/// Returns the shortest digits that read back the same, and their power of ten.
fn scientific(number: f64) -> String {
    let shortest = format!("{number:e}");
    // Two texts of fewer digits are never within one number.
    if shortest.len() < 16 {
        return shortest;
    }
    to_even(shortest, number, |text| text.parse() == Ok(number))
}

/// Of two texts that are as short and as near, Go takes the one with the even digit.
fn to_even(shortest: String, number: f64, reads_back: impl Fn(&str) -> bool) -> String {
    /// So many digits show whether a number ends in a five.
    const EXACT: usize = 40;
    let digits = shortest
        .bytes()
        .take_while(|byte| *byte != b'e')
        .filter(u8::is_ascii_digit)
        .count();
    let exact = format!("{number:.EXACT$e}");
    let mut behind = exact
        .bytes()
        .take_while(|byte| *byte != b'e')
        .filter(u8::is_ascii_digit)
        .skip(digits);
    let is_tie = behind.next() == Some(b'5') && behind.all(|digit| digit == b'0');
    if !is_tie {
        return shortest;
    }
    let even = format!("{number:.0$e}", digits.saturating_sub(1));
    if reads_back(&even) { even } else { shortest }
}

/// Returns the text of a number that JSON held: as [`shortest`], but with an exponent from 1e21 on only.
pub(crate) fn shortest_of_json(number: f64) -> String {
    general(&scientific(number), JSON_EXPONENT_FROM)
}

/// Returns the number as Go's JSON encoder writes it: an exponent below 1e-6 and from 1e21 on.
pub fn json(number: f64) -> String {
    let magnitude = number.abs();
    let text = scientific(number);
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        return text
            .split_once('e')
            .map_or_else(String::new, |(mantissa, exponent)| positional(mantissa, exponent));
    }
    if text.contains("e-") {
        text
    } else {
        text.replacen('e', "e+", 1)
    }
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
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..exponent_from).contains(&power) {
        return positional(mantissa, exponent);
    }
    let direction = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{direction}{:02}", power.unsigned_abs())
}

/// Writes digits and their power of ten without an exponent.
fn positional(mantissa: &str, exponent: &str) -> String {
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
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

#[cfg(test)]
mod tests {
    use super::{json, shortest, shortest_of_json, shortest32};

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let cases = [
            (
                1_234_567.5,
                "1.2345675e+06",
                "1.2345675e+06",
                "1234567.5",
                "1234567.5",
            ),
            (
                1e20,
                "1e+20",
                "1e+20",
                "100000000000000000000",
                "100000000000000000000",
            ),
            (1e21, "1e+21", "1e+21", "1e+21", "1e+21"),
            (1e-7, "1e-07", "1e-07", "1e-07", "1e-7"),
            (0.0001, "0.0001", "0.0001", "0.0001", "0.0001"),
            (-0.0, "-0", "-0", "-0", "-0"),
            (
                2_233_720.25,
                "2.23372025e+06",
                "2.2337202e+06",
                "2233720.25",
                "2233720.25",
            ),
            (
                2_233_720.75,
                "2.23372075e+06",
                "2.2337208e+06",
                "2233720.75",
                "2233720.75",
            ),
            (
                3_602_879_701_896_397.0 / 4.0,
                "9.007199254740992e+14",
                "9.0071994e+14",
                "900719925474099.2",
                "900719925474099.2",
            ),
            (
                -3_602_879_701_896_399.0 / 4.0,
                "-9.007199254740998e+14",
                "-9.0071994e+14",
                "-900719925474099.8",
                "-900719925474099.8",
            ),
            (1.5e-6, "1.5e-06", "1.5e-06", "1.5e-06", "0.0000015"),
        ];
        for (number, long, short, of_json, in_json) in cases {
            assert_eq!(shortest(number), long);
            assert_eq!(shortest32(number as f32), short);
            assert_eq!(shortest_of_json(number), of_json);
            assert_eq!(json(number), in_json);
        }
    }
}
