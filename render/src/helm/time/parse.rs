//! Reads times in a layout.

use super::layout::{DAYS, MONTHS, token};
use super::{Time, Zone, days_of};

impl Time {
    /// Reads a time as JSON has it.
    pub(in crate::helm) fn from_rfc3339(text: &str) -> Option<Time> {
        Time::parse("2006-01-02T15:04:05Z07:00", text)
    }

    /// Reads a time in a layout; none when the text does not have it.
    pub(in crate::helm) fn parse(layout: &str, text: &str) -> Option<Time> {
        let mut fields = Fields::default();
        let (mut layout, mut text) = (layout, text);
        while !layout.is_empty() {
            let (token, literal) = token(layout);
            if token.is_empty() {
                text = text.strip_prefix(&layout[..literal])?;
                layout = &layout[literal..];
            } else {
                text = fields.read(token, text)?;
                layout = &layout[token.len()..];
                let fraction_follows = layout.starts_with(['.', ',']);
                if matches!(token, "05" | "5") && text.starts_with(['.', ',']) && !fraction_follows {
                    text = fields.read_fraction(text)?;
                }
            }
        }
        if !text.is_empty() {
            return None;
        }
        fields.time()
    }
}

#[derive(Default)]
struct Fields {
    year: i64,
    month: Option<u32>,
    day: Option<u32>,
    yearday: Option<u32>,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    afternoon: Option<bool>,
    offset: Option<i32>,
    zone: Zone,
    /// The text says UTC, which counts more than an offset.
    utc: bool,
}

impl Fields {
    fn read<'t>(&mut self, token: &str, text: &'t str) -> Option<&'t str> {
        let exactly = |length: usize| -> Option<(u32, &'t str)> {
            let digits = text.get(..length)?;
            digits
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then_some((digits.parse().ok()?, &text[length..]))
        };
        let loosely = || exactly(2).or_else(|| exactly(1));
        let named = |names: &[&str], length: Option<usize>| {
            names.iter().enumerate().find_map(|(at, name)| {
                let name = length.map_or(*name, |length| &name[..length]);
                let head = text.get(..name.len())?;
                head.eq_ignore_ascii_case(name)
                    .then(|| (at as u32 + 1, &text[name.len()..]))
            })
        };
        let (number, rest) = match token {
            "2006" => exactly(4)?,
            "06" | "01" | "02" | "03" | "04" | "05" => exactly(2)?,
            "15" | "1" | "2" | "3" | "4" | "5" => loosely()?,
            "_2" => return self.read("2", text.strip_prefix(' ').unwrap_or(text)),
            "002" | "__2" => exactly(3)?,
            "January" => named(&MONTHS, None)?,
            "Jan" => named(&MONTHS, Some(3))?,
            "Monday" => named(&DAYS, None)?,
            "Mon" => named(&DAYS, Some(3))?,
            "PM" | "pm" => {
                let head = text.get(..2)?;
                self.afternoon = Some(match head {
                    "PM" | "pm" => true,
                    "AM" | "am" => false,
                    _ => return None,
                });
                return Some(&text[2..]);
            }
            "MST" => {
                if let Some(rest) = text.strip_prefix("UTC") {
                    self.utc = true;
                    return Some(rest);
                }
                let (name, rest) = text.split_at(zone(text)?);
                self.zone = Zone::new(name);
                return Some(rest);
            }
            token if token.starts_with(['.', ',']) => return self.read_fraction(text),
            token => return self.read_offset(token, text),
        };
        match token {
            "2006" => self.year = number.into(),
            "06" => self.year = i64::from(number) + if number >= 69 { 1900 } else { 2000 },
            "01" | "1" | "January" | "Jan" => {
                self.month = Some(number).filter(|month| (1..=12).contains(month))
            }
            "02" | "2" => self.day = Some(number),
            "002" | "__2" => self.yearday = Some(number),
            "15" | "03" | "3" => self.hour = number,
            "04" | "4" => self.minute = number,
            "05" | "5" => self.second = number,
            _ => {}
        }
        let month_read = !matches!(token, "01" | "1") || self.month.is_some();
        (month_read && self.hour < 24 && self.minute < 60 && self.second < 60).then_some(rest)
    }

    fn read_fraction<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let Some(digits) = text.strip_prefix(['.', ',']) else {
            return Some(text);
        };
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        self.nanos = format!("{:0<9}", &digits[..length.min(9)]).parse().ok()?;
        Some(&digits[length..])
    }

    fn read_offset<'t>(&mut self, token: &str, text: &'t str) -> Option<&'t str> {
        if token.starts_with('Z')
            && let Some(rest) = text.strip_prefix('Z')
        {
            self.utc = true;
            return Some(rest);
        }
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let shape = &token[1..];
        let digits = text.get(1..=shape.len())?;
        let colons = shape
            .bytes()
            .zip(digits.bytes())
            .all(|(shape, digit)| (shape == b':') == (digit == b':'));
        let parts: Vec<i32> = digits
            .replace(':', "")
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok()?.parse().ok())
            .collect::<Option<_>>()?;
        let part = |at: usize| parts.get(at).copied().unwrap_or(0);
        self.offset = Some(sign * (part(0) * 3600 + part(1) * 60 + part(2)));
        colons.then(|| &text[1 + shape.len()..])
    }

    fn time(self) -> Option<Time> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let days = match self.yearday {
            Some(day) => days_of(self.year, 1, 1) + i64::from(day) - 1,
            None => {
                let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
                let next = if month == 12 {
                    days_of(self.year + 1, 1, 1)
                } else {
                    days_of(self.year, month + 1, 1)
                };
                let first = days_of(self.year, month, 1);
                if day < 1 || i64::from(day) > next - first {
                    return None;
                }
                first + i64::from(day) - 1
            }
        };
        let within = i64::from(hour * 3600 + self.minute * 60 + self.second);
        let read = Time {
            seconds: days * 86_400 + within,
            nanos: self.nanos,
            offset: 0,
            zone: Zone::default(),
        };
        Some(match self.offset {
            _ if self.utc => read,
            Some(offset) => Time {
                seconds: read.seconds - i64::from(offset),
                offset,
                zone: self.zone,
                ..read
            },
            // Nobody knows what the name means; Go shows it, and takes the hours that stand in it for shown already.
            None => Time {
                offset: self.zone.name().strip_prefix("GMT").map_or(0, hours),
                zone: self.zone,
                ..read
            },
        })
    }
}

/// Reads the hours behind `GMT` as seconds.
fn hours(text: &str) -> i32 {
    text.parse::<i32>().map_or(0, |hours| hours * 3600)
}

/// Returns the length of the name of a zone.
fn zone(text: &str) -> Option<usize> {
    let signed = |text: &str| {
        let digits = text.get(1..)?.bytes().take_while(u8::is_ascii_digit).count();
        let hours: i32 = text.get(1..=digits)?.parse().ok()?;
        (text.starts_with(['+', '-']) && hours <= 23).then_some(1 + digits)
    };
    if text.starts_with("ChST") || text.starts_with("MeST") {
        return Some(4);
    }
    if let Some(hours) = text.strip_prefix("GMT") {
        return Some(3 + signed(hours).unwrap_or(0));
    }
    if text.starts_with(['+', '-']) {
        return signed(text);
    }
    let capitals = text.bytes().take(6).take_while(u8::is_ascii_uppercase).count();
    let ends_in_t = text.as_bytes().get(capitals.wrapping_sub(1)) == Some(&b'T');
    match capitals {
        3 => Some(3),
        4 if ends_in_t || text.starts_with("WITA") => Some(4),
        5 if ends_in_t => Some(5),
        _ => None,
    }
}
