//! Go's layouts: the reference date written as wanted, cut into its parts.

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Returns the name of a month, counted from 1.
pub(in crate::helm) fn month(number: u32) -> &'static str {
    MONTHS[(number as usize + 11) % 12]
}

/// Returns the name of a day of the week, counted from Sunday, which is 0.
pub(in crate::helm) fn weekday(number: u32) -> &'static str {
    DAYS[number as usize % 7]
}

pub(super) const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The parts of a layout, the longest first where one starts another.
const TOKENS: [&str; 40] = [
    "January",
    "Monday",
    "2006",
    "MST",
    "Jan",
    "Mon",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "__2",
    "_2",
    ".000",
    ",000",
    ".999",
    ",999",
    ".0",
    ",0",
    ".9",
    ",9",
    "1",
    "2",
    "3",
    "4",
];

/// Returns the part of a layout at the start of `text`; if there is none, how much is no part.
pub(super) fn token(text: &str) -> (&str, usize) {
    if text.starts_with(['.', ',']) {
        let run = |digit: char| text[1..].chars().take_while(|c| *c == digit).count();
        for digit in ['0', '9'] {
            let length = run(digit);
            if length > 0 && !text[1 + length..].starts_with(|c: char| c.is_ascii_digit()) {
                return (&text[..=length], 0);
            }
        }
    } else if text.starts_with('5') {
        return (&text[..1], 0);
    } else if let Some(token) = TOKENS.iter().find(|token| text.starts_with(**token)) {
        let name = matches!(*token, "Jan" | "Mon");
        let name_goes_on = name && text[3..].starts_with(|c: char| c.is_ascii_lowercase());
        // A year may stand behind an underscore, which is no part of a day then.
        if !name_goes_on && !text.starts_with("_2006") {
            return (&text[..token.len()], 0);
        }
    }
    ("", text.chars().next().map_or(0, char::len_utf8))
}
