//! Dates and times, in the four forms that go-yaml knows.

/// Rewrites a date or time as Go prints it in JSON: RFC 3339, in UTC when no zone is given.
pub(crate) fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut scan = Scan { rest: &text[5..] };
    let year: u32 = text[..4].parse().ok()?;
    let month = scan.number(1, 2)?;
    scan.literal(b'-')?;
    let day = scan.number(1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if scan.rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let separator = scan.byte()?;
    let zoned = match separator {
        b'T' | b't' => true,
        // Go takes any number of spaces for one.
        b' ' => {
            scan.rest = scan.rest.trim_start_matches(' ');
            false
        }
        _ => return None,
    };
    let (hour, minute, second) = (scan.number(1, 2)?, scan.sixty()?, scan.sixty()?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = scan.fraction()?;
    let zone = if zoned { scan.zone()? } else { "Z".to_string() };
    if !scan.rest.is_empty() {
        return None;
    }
    Some(format!(
        "{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
    ))
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.rest.as_bytes().first()?;
        self.rest = self.rest.get(1..)?;
        Some(byte)
    }

    fn literal(&mut self, expected: u8) -> Option<()> {
        (self.byte()? == expected).then_some(())
    }

    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let length = self
            .rest
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if length < least {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits.parse().ok()
    }

    fn sixty(&mut self) -> Option<u32> {
        self.literal(b':')?;
        self.number(1, 2)
    }

    /// Reads an optional fraction of a second, without the zeros at its end.
    fn fraction(&mut self) -> Option<String> {
        let Some(after) = self.rest.strip_prefix(['.', ',']) else {
            return Some(String::new());
        };
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        let digits = after[..length.min(9)].trim_end_matches('0');
        self.rest = &after[length..];
        Some(if digits.is_empty() {
            String::new()
        } else {
            format!(".{digits}")
        })
    }

    fn zone(&mut self) -> Option<String> {
        match self.byte()? {
            b'Z' => Some("Z".to_string()),
            sign @ (b'+' | b'-') => {
                let hours = self.number(2, 2)?;
                self.literal(b':')?;
                let minutes = self.number(2, 2)?;
                if hours > 24 || minutes > 60 {
                    return None;
                }
                Some(if hours == 0 && minutes == 0 {
                    "Z".to_string()
                } else {
                    format!("{}{hours:02}:{minutes:02}", sign as char)
                })
            }
            _ => None,
        }
    }
}
