//! Writes times in a layout.

use super::layout::{DAYS, MONTHS, token};
use super::{Civil, Time};

impl Time {
    /// Returns the time in a layout, which is Go's reference date written as wanted.
    pub(in crate::helm) fn format(self, layout: &str) -> String {
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
            "MST" if !self.zone.name().is_empty() => self.zone.name().to_owned(),
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
    pub(in crate::helm) fn rfc3339(self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }
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
