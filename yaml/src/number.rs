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
    general(&scientific32(number), EXPONENT_FROM)
}

/// Of two texts that are as short and as near, Go takes the one with the even digit.
fn scientific32(number: f32) -> String {
    let shortest = format!("{number:e}");
    let digits = shortest
        .bytes()
        .take_while(|byte| *byte != b'e')
        .filter(u8::is_ascii_digit)
        .count();
    let exact = f64::from(number);
    let longer = format!("{exact:.digits$e}");
    let is_tie = longer.contains("5e") && longer.parse() == Ok(exact);
    let even = format!("{exact:.0$e}", digits.saturating_sub(1));
    if is_tie && even.parse() == Ok(number) {
        even
    } else {
        shortest
    }
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
        ];
        for (number, long, short, of_json, in_json) in cases {
            assert_eq!(shortest(number), long);
            assert_eq!(shortest32(number as f32), short);
            assert_eq!(shortest_of_json(number), of_json);
            assert_eq!(json(number), in_json);
        }
    }
}
