//! Fuel instead of a clock: a build takes only so many steps, and stops when its caller says so.

use std::cell::Cell;

use super::error::{Done, cancelled, too_large};

/// Counts the steps of one build.
pub(crate) struct Steps<'a> {
    left: Cell<u64>,
    limit: u64,
    stop: Option<&'a dyn Fn() -> bool>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(limit: u64, stop: Option<&'a dyn Fn() -> bool>) -> Steps<'a> {
        Steps {
            left: Cell::new(limit),
            limit,
            stop,
        }
    }

    /// Takes steps, or fails when there are none left or the caller wants the build to stop.
    pub(crate) fn spend(&self, steps: usize) -> Done<()> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX).max(1);
        let Some(left) = self.left.get().checked_sub(steps) else {
            return Err(too_large(format!("the build exceeds {} steps", self.limit)));
        };
        self.left.set(left);
        match self.stop {
            Some(stop) if stop() => Err(cancelled()),
            _ => Ok(()),
        }
    }
}
