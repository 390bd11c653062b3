//! The present, twice: durations are measured by a clock that never jumps, and what outlives a restart is dated
//! by the wall.

use std::{ops::Add, time::Duration};

use crate::clock::Timestamp;

/// Time since the process began, by a clock that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// The time that has passed since `earlier`.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The present, and bits for backoff.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For durations.
    pub mono: Mono,
    /// For dates.
    pub wall: Timestamp,
    /// Random bits, so that what failed together is not tried again together.
    pub random: u64,
}
