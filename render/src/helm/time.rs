//! Times and durations as Go has them: layouts made of a reference date, and durations such as `1h2m3s`.
//!
//! Only UTC and fixed offsets are known: what a zone's name means depends on a database and on the machine,
//! and rendering must depend on neither. `Local` is UTC.

use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

use super::fault::Fault;
use super::object::Object;
use super::value::Val;

const NANOS: i64 = 1_000_000_000;

/// A point in time and the offset it is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    /// Seconds east of UTC.
    pub(super) offset: i32,
}

/// The parts of a date.
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    /// Days since Sunday.
    weekday: u32,
    yearday: u32,
}

const MONTHS: [&str; 12] = [
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
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Go's zero time, the first of January of year one.
const ZERO: i64 = -62_135_596_800;

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

impl Time {
    /// Returns the time so many nanoseconds after 1970.
    pub(super) fn from_nanos(nanos: i64) -> Time {
        Time {
            seconds: nanos.div_euclid(NANOS),
            nanos: nanos.rem_euclid(NANOS) as u32,
            offset: 0,
        }
    }

    pub(super) fn from_unix(seconds: i64) -> Time {
        Time {
            seconds,
            nanos: 0,
            offset: 0,
        }
    }

    pub(super) fn zero() -> Time {
        Time::from_unix(ZERO)
    }

    pub(super) fn plus(self, nanos: i64) -> Time {
        let total = i64::from(self.nanos) + nanos.rem_euclid(NANOS);
        Time {
            seconds: self
                .seconds
                .saturating_add(nanos.div_euclid(NANOS))
                .saturating_add(total / NANOS),
            nanos: (total % NANOS) as u32,
            ..self
        }
    }

    /// Returns the nanoseconds from `other` to this time, within what 64 bits hold.
    pub(super) fn since(self, other: Time) -> i64 {
        let seconds = self.seconds.saturating_sub(other.seconds).saturating_mul(NANOS);
        seconds.saturating_add(i64::from(self.nanos) - i64::from(other.nanos))
    }

    pub(super) fn utc(self) -> Time {
        Time { offset: 0, ..self }
    }

    fn civil(self) -> Civil {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        let (days, rest) = (local.div_euclid(86_400), local.rem_euclid(86_400) as u32);
        let (year, month, day) = date(days);
        Civil {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7) as u32,
            yearday: (days - days_of(year, 1, 1)) as u32 + 1,
        }
    }

    /// Returns the time in a layout, which is Go's reference date written as wanted.
    pub(super) fn format(self, layout: &str) -> String {
        let civil = self.civil();
        let mut out = String::new();
        let mut rest = layout;
        while !rest.is_empty() {
            let (token, literal) = token(rest);
            if token.is_empty() {
                out.push_str(&rest[..literal]);
                rest = &rest[literal..];
                continue;
            }
            self.part(token, &civil, &mut out);
            rest = &rest[token.len()..];
        }
        out
    }

    fn part(self, token: &str, civil: &Civil, out: &mut String) {
        let hour12 = (civil.hour + 11) % 12 + 1;
        let month = MONTHS[(civil.month as usize - 1) % 12];
        let day = DAYS[civil.weekday as usize % 7];
        let text = match token {
            "January" => month.to_owned(),
            "Jan" => month[..3].to_owned(),
            "Monday" => day.to_owned(),
            "Mon" => day[..3].to_owned(),
            "2006" => format!("{:04}", civil.year),
            "06" => format!("{:02}", civil.year.rem_euclid(100)),
            "01" => format!("{:02}", civil.month),
            "1" => civil.month.to_string(),
            "02" => format!("{:02}", civil.day),
            "_2" => format!("{:2}", civil.day),
            "2" => civil.day.to_string(),
            "002" => format!("{:03}", civil.yearday),
            "__2" => format!("{:3}", civil.yearday),
            "15" => format!("{:02}", civil.hour),
            "03" => format!("{hour12:02}"),
            "3" => hour12.to_string(),
            "04" => format!("{:02}", civil.minute),
            "4" => civil.minute.to_string(),
            "05" => format!("{:02}", civil.second),
            "5" => civil.second.to_string(),
            "PM" => if civil.hour >= 12 { "PM" } else { "AM" }.to_owned(),
            "pm" => if civil.hour >= 12 { "pm" } else { "am" }.to_owned(),
            "MST" if self.offset == 0 => "UTC".to_owned(),
            "MST" => offset(self.offset, "-0700"),
            token if token.starts_with('Z') && self.offset == 0 => "Z".to_owned(),
            token if token.starts_with(['Z', '-']) => offset(self.offset, &format!("-{}", &token[1..])),
            token => self.fraction(token),
        };
        out.push_str(&text);
    }

    fn fraction(self, token: &str) -> String {
        let digits = format!("{:09}", self.nanos);
        let digits = &digits[..(token.len() - 1).min(9)];
        if token.ends_with('0') {
            return format!("{}{digits}", &token[..1]);
        }
        match digits.trim_end_matches('0') {
            "" => String::new(),
            digits => format!("{}{digits}", &token[..1]),
        }
    }

    /// Returns the time as JSON has it.
    pub(super) fn rfc3339(self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }

    /// Reads a time as JSON has it.
    pub(super) fn from_rfc3339(text: &str) -> Option<Time> {
        Time::parse("2006-01-02T15:04:05Z07:00", text)
    }

    /// Reads a time in a layout; none when the text does not have it.
    pub(super) fn parse(layout: &str, text: &str) -> Option<Time> {
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

    /// Calls a method of Go's type with arguments that fit it.
    pub(super) fn invoke(self, name: &str, args: &[Val]) -> Result<Val, Box<Fault>> {
        let civil = self.civil();
        let other = || match args.first() {
            Some(Val::Object(object)) => match &**object {
                Object::Time(time) => *time,
                _ => Time::zero(),
            },
            _ => Time::zero(),
        };
        let number = |at: usize| args.get(at).and_then(Val::as_signed).unwrap_or_default();
        Ok(match name {
            "Unix" => Val::Int64(self.seconds),
            "UnixNano" => Val::Int64(
                self.seconds
                    .wrapping_mul(NANOS)
                    .wrapping_add(i64::from(self.nanos)),
            ),
            "UnixMilli" => Val::Int64(self.seconds.wrapping_mul(1000) + i64::from(self.nanos / 1_000_000)),
            "Year" => Val::Int(civil.year),
            "Day" => Val::Int(civil.day.into()),
            "Hour" => Val::Int(civil.hour.into()),
            "Minute" => Val::Int(civil.minute.into()),
            "Second" => Val::Int(civil.second.into()),
            "Nanosecond" => Val::Int(self.nanos.into()),
            "YearDay" => Val::Int(civil.yearday.into()),
            "Month" => MONTHS[(civil.month as usize - 1) % 12].into(),
            "Weekday" => DAYS[civil.weekday as usize % 7].into(),
            "Format" => self.format(args[0].as_str().unwrap_or_default()).into(),
            "UTC" | "Local" => value(self.utc()),
            "IsZero" => (self.seconds == ZERO && self.nanos == 0).into(),
            "Add" => value(self.plus(number(0))),
            "AddDate" => {
                let month = i64::from(civil.month) - 1 + number(1);
                let year = civil.year + number(0) + month.div_euclid(12);
                let days =
                    days_of(year, month.rem_euclid(12) as u32 + 1, 1) + i64::from(civil.day) - 1 + number(2);
                let within = (self.seconds + i64::from(self.offset)).rem_euclid(86_400);
                value(Time {
                    seconds: days * 86_400 + within - i64::from(self.offset),
                    ..self
                })
            }
            "Sub" => Val::Object(Rc::new(Object::Duration(self.since(other())))),
            "Before" => (self.since(other()) < 0).into(),
            "After" => (self.since(other()) > 0).into(),
            "Equal" => (self.since(other()) == 0).into(),
            _ => self.to_string().into(),
        })
    }
}

/// Returns the time as a template's value.
pub(super) fn value(time: Time) -> Val {
    Val::Object(Rc::new(Object::Time(time)))
}

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// Returns the part of a layout at the start of `text`; if there is none, how much is no part.
fn token(text: &str) -> (&str, usize) {
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
        let month_goes_on = *token == "Jan" && text[3..].starts_with(|c: char| c.is_ascii_lowercase());
        if !month_goes_on {
            return (&text[..token.len()], 0);
        }
    }
    ("", text.chars().next().map_or(0, char::len_utf8))
}

fn offset(seconds: i32, layout: &str) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    match layout {
        "-07" => format!("{sign}{hours:02}"),
        "-0700" => format!("{sign}{hours:02}{minutes:02}"),
        "-070000" => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
        "-07:00:00" => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}"),
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
    offset: i32,
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
            "MST" => return text.strip_prefix("UTC").or_else(|| text.strip_prefix("GMT")),
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
        self.offset = sign * (part(0) * 3600 + part(1) * 60 + part(2));
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
        Some(Time {
            seconds: days * 86_400 + within - i64::from(self.offset),
            nanos: self.nanos,
            offset: self.offset,
        })
    }
}

/// Returns the days from 1970 to a date of the proleptic Gregorian calendar.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Returns a duration as Go writes it: `1h2m3.5s`, below a second `1.5ms`.
pub(super) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let decimal = |whole: u64, unit: u64| {
        let fraction = format!("{:0width$}", whole % unit, width = unit.ilog10() as usize);
        match fraction.trim_end_matches('0') {
            _ if unit == 1 => whole.to_string(),
            "" => (whole / unit).to_string(),
            fraction => format!("{}.{fraction}", whole / unit),
        }
    };
    if magnitude < 1_000_000_000 {
        let (unit, name) = match magnitude {
            ..=999 => (1, "ns"),
            1_000..=999_999 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(magnitude, unit));
    }
    let (hours, minutes) = (magnitude / 3_600_000_000_000, magnitude / 60_000_000_000 % 60);
    let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads a duration as Go does; the error is Go's.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || super::quote::quote(text);
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let length = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (name, after) = after.split_at(length);
        let unit: u64 = match name {
            "" => return Err(format!("time: missing unit in duration {}", quoted())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            name => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    super::quote::quote(name),
                    quoted()
                ));
            }
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let fraction: f64 = format!("0.{fraction}0").parse().map_err(|_| invalid())?;
        let part = whole.checked_mul(unit).ok_or_else(invalid)?;
        total = part
            .checked_add((fraction * unit as f64) as u64)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return 0i64.checked_sub_unsigned(total).ok_or_else(invalid);
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// Calls a method of Go's duration.
pub(super) fn duration_method(nanos: i64, name: &str) -> Val {
    match name {
        "Hours" => Val::Float(nanos as f64 / 3.6e12),
        "Minutes" => Val::Float(nanos as f64 / 6e10),
        "Seconds" => Val::Float(seconds(nanos)),
        "Milliseconds" => Val::Int64(nanos / 1_000_000),
        "Microseconds" => Val::Int64(nanos / 1_000),
        "Nanoseconds" => Val::Int64(nanos),
        _ => duration(nanos).into(),
    }
}

/// Returns the seconds of a duration as Go calculates them.
pub(super) fn seconds(nanos: i64) -> f64 {
    (nanos / NANOS) as f64 + (nanos % NANOS) as f64 / 1e9
}
