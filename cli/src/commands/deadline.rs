//! How long a command may work that asks no hub: it is asked between steps, since nothing interrupts an engine.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::error::CommandError;

/// How often the clock is not looked at between two looks: it takes longer than a step.
const ASKED: u32 = 64;

/// When work has to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    timeout: Duration,
}

impl Deadline {
    /// Ends so long after now; never, where that is no time at all.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        let end = Instant::now()
            .checked_add(timeout)
            .filter(|_| timeout > Duration::ZERO);
        Deadline { end, timeout }
    }

    fn is_past(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Returns what an engine asks between steps whether to stop.
    pub(crate) fn stop(self) -> impl Fn() -> bool {
        let asked = Cell::new(0_u32);
        move || {
            let count = asked.get();
            asked.set(count.wrapping_add(1));
            count.is_multiple_of(ASKED) && self.is_past()
        }
    }

    /// Returns why the work failed: where its time was over, with what was being done then.
    pub(crate) fn told(&self, what: &str, error: CommandError) -> CommandError {
        if !self.is_past() {
            return error;
        }
        let timeout = self.timeout;
        CommandError::failed(format!(
            "{what} was not done within {timeout:?}: {}",
            error.message
        ))
        .hint("give it longer with --timeout, or any time with --timeout=0")
    }
}
