//! The methods that templates may call on a time.

use std::rc::Rc;

use super::{NANOS, Time, ZERO, days_of, value};
use crate::helm::exec_error::ExecError;
use crate::helm::object::Object;
use crate::helm::value::Val;

fn bytes(text: String) -> Val {
    Val::Object(Rc::new(Object::Bytes(text.into_bytes().into())))
}

impl Time {
    /// Returns by how many nanoseconds the time lies behind a multiple of a unit since the year one.
    fn beyond(self, unit: i64) -> i64 {
        if unit <= 0 {
            return 0;
        }
        let seconds = i128::from(self.seconds) - i128::from(ZERO);
        let nanos = seconds * i128::from(NANOS) + i128::from(self.nanos);
        nanos.rem_euclid(i128::from(unit)) as i64
    }

    fn minus(self, nanos: i64) -> Time {
        self.plus(-nanos)
    }

    /// Calls a method of Go's type with arguments that fit it.
    pub(in crate::helm) fn invoke(self, name: &str, args: &[Val]) -> Result<Val, Box<ExecError>> {
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
            "UnixMilli" => Val::Int64(
                self.seconds
                    .wrapping_mul(1000)
                    .wrapping_add(i64::from(self.nanos / 1_000_000)),
            ),
            "Year" => Val::Int(civil.year),
            "Day" => Val::Int(civil.day.into()),
            "Hour" => Val::Int(civil.hour.into()),
            "Minute" => Val::Int(civil.minute.into()),
            "Second" => Val::Int(civil.second.into()),
            "Nanosecond" => Val::Int(self.nanos.into()),
            "YearDay" => Val::Int(civil.yearday.into()),
            "UnixMicro" => Val::Int64(
                self.seconds
                    .wrapping_mul(1_000_000)
                    .wrapping_add(i64::from(self.nanos / 1000)),
            ),
            "Month" => Val::Object(Rc::new(Object::Month(civil.month))),
            "Weekday" => Val::Object(Rc::new(Object::Weekday(civil.weekday))),
            "GoString" => self.source().into(),
            "IsDST" => false.into(),
            "MarshalJSON" => bytes(format!("\"{}\"", self.rfc3339())),
            "MarshalText" => bytes(self.rfc3339()),
            "Truncate" => value(self.minus(self.beyond(number(0)))),
            "Round" => {
                let (unit, rest) = (number(0), self.beyond(number(0)));
                let up = unit > 0 && rest >= unit - rest;
                value(if up {
                    self.plus(unit - rest)
                } else {
                    self.minus(rest)
                })
            }
            "Compare" => Val::Int(self.since(other()).signum()),
            "Format" => self.format(args[0].as_str().unwrap_or_default()).into(),
            "UTC" | "Local" => value(self.utc()),
            "IsZero" => (self.seconds == ZERO && self.nanos == 0).into(),
            "Add" => value(self.plus(number(0))),
            "AddDate" => {
                // A template may give any numbers, and Go's wrap around.
                let month = (i64::from(civil.month) - 1).wrapping_add(number(1));
                let year = civil
                    .year
                    .wrapping_add(number(0))
                    .wrapping_add(month.div_euclid(12));
                let days = days_of(year, month.rem_euclid(12) as u32 + 1, 1)
                    .wrapping_add(i64::from(civil.day) - 1)
                    .wrapping_add(number(2));
                let offset = i64::from(self.offset);
                let within = self.seconds.wrapping_add(offset).rem_euclid(86_400);
                value(Time {
                    seconds: days
                        .wrapping_mul(86_400)
                        .wrapping_add(within)
                        .wrapping_sub(offset),
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
