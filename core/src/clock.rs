//! Wall time as a parameter. Decisions take a [`Timestamp`]; only the edges of hub and agent read a clock.

use std::{fmt, ops::Add, ops::Sub, time::Duration};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time that has passed since `earlier`; zero when it lies ahead (clocks jump).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Reads the wall clock. The system's implementation lives in the binaries, the tests' in the tests.
pub trait Clock: Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;
}

/// Clocks of a hub and its agents that are this far apart are told: certificates are judged by both.
const APART: Duration = Duration::from_secs(60);

/// Says how far a cluster's clock is from its hub's, for people; `None` while they are near.
pub fn apart(cluster: Timestamp, hub: Timestamp) -> Option<String> {
    let off = Duration::from_millis(cluster.0.abs_diff(hub.0));
    if off <= APART {
        return None;
    }
    let way = if cluster > hub { "ahead of" } else { "behind" };
    let about = match off.as_secs() {
        seconds @ 0..=7200 => format!("{} minutes", seconds / 60),
        seconds @ 7201..=172_800 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    };
    Some(format!(
        "the cluster's clock is {about} {way} the hub's: certificates are renewed by it; set it"
    ))
}

/// Prints a duration as Go does, to the millisecond: `1h0m3.5s`, `250ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let fraction = format!("{:03}", millis % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", millis / 1000 % 60);
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_in_round_numbers() {
        let hub = Timestamp(1_800_000_000_000);
        let told = |ms: i64| apart(Timestamp(hub.0 + ms), hub);
        assert_eq!((told(5000), told(-60_000)), (None, None));
        for (ms, text) in [
            (3 * 86_400_000, "3 days ahead of the hub's"),
            (-600_000, "10 minutes behind the hub's"),
            (-3 * 3_600_000, "3 hours behind the hub's"),
        ] {
            assert!(told(ms).is_some_and(|told| told.contains(text)), "{text}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(apart(Timestamp(extreme), hub).is_some());
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (1000, "1s"),
            (30_050, "30.05s"),
            (60_000, "1m0s"),
            (90_001, "1m30.001s"),
            (3_600_000, "1h0m0s"),
            (3_661_500, "1h1m1.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
