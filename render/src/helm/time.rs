//! Times and durations as Go has them: layouts made of a reference date, and durations such as `1h2m3s`.
//!
//! Only UTC and fixed offsets are known: what a zone's name means depends on a database and on the machine,
//! and rendering must depend on neither. `Local` is UTC. A name that was read with a time is shown with it, as in Go.

mod duration;
mod format;
mod layout;
mod methods;
mod parse;

use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

use super::object::Object;
use super::value::Val;

pub(super) use duration::{duration, duration_method, parse_duration, seconds};
pub(super) use layout::{month, weekday};

const NANOS: i64 = 1_000_000_000;

/// A point in time and the offset it is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    /// Seconds east of UTC.
    pub(super) offset: i32,
    zone: Zone,
}

/// The name of a zone as it was read, such as `CET` or `GMT+3`; empty for UTC and where only an offset was read. Of
/// what TOML says without a zone, the name tells what it was: `date-local`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Zone {
    letters: [u8; MAX_ZONE],
    length: u8,
}

/// The longest name of a zone.
const MAX_ZONE: usize = "datetime-local".len();

impl Zone {
    /// Takes a name of at most [`MAX_ZONE`] letters and signs.
    fn new(name: &str) -> Zone {
        let mut zone = Zone::default();
        for (to, from) in zone.letters.iter_mut().zip(name.bytes()) {
            *to = from;
            zone.length += 1;
        }
        zone
    }

    fn name(&self) -> &str {
        std::str::from_utf8(&self.letters[..usize::from(self.length)]).unwrap_or_default()
    }
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

/// Go's zero time, the first of January of year one.
const ZERO: i64 = -62_135_596_800;

impl Time {
    /// Returns the time so many nanoseconds after 1970.
    pub(super) fn from_nanos(nanos: i64) -> Time {
        Time {
            seconds: nanos.div_euclid(NANOS),
            nanos: nanos.rem_euclid(NANOS) as u32,
            offset: 0,
            zone: Zone::default(),
        }
    }

    pub(super) fn from_unix(seconds: i64) -> Time {
        Time {
            seconds,
            nanos: 0,
            offset: 0,
            zone: Zone::default(),
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
        Time {
            offset: 0,
            zone: Zone::default(),
            ..self
        }
    }

    /// Returns the time with another name for its zone.
    pub(super) fn named(self, zone: &str) -> Time {
        Time {
            zone: Zone::new(zone),
            ..self
        }
    }

    /// Returns the name that the zone was given, if any.
    pub(super) fn zone_name(&self) -> &str {
        self.zone.name()
    }

    /// Returns the time as Go's source, as `%#v` writes it.
    pub(super) fn source(self) -> String {
        let civil = self.civil();
        let zone = match (self.offset, self.zone.name()) {
            (0, "") => "time.UTC".to_owned(),
            (_, name) => format!("time.Location({})", super::quote::quote(name)),
        };
        format!(
            "time.Date({}, time.{}, {}, {}, {}, {}, {}, {zone})",
            civil.year,
            month(civil.month),
            civil.day,
            civil.hour,
            civil.minute,
            civil.second,
            self.nanos
        )
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

/// Returns the days from 1970 to a date of the proleptic Gregorian calendar; those of years that no time has wrap
/// around.
///
/// The calendars of libraries end within a million years. Go's does not: a template may add any number of years to a
/// time and print it.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year.wrapping_sub(1) } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era.wrapping_mul(146_097)
        .wrapping_add(of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
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
