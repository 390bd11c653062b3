//! How long a command may work that asks no hub: it is asked between steps, since nothing interrupts an engine.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::error::CommandError;

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

    /// Returns what an engine asks whether to stop, which looks at the clock once in so many times: an engine that asks at
    /// every step would wait for it longer than the step takes, and of one that asks behind many steps each counts.
    pub(crate) fn stop(self, once_in: u32) -> impl Fn() -> bool {
        let asked = Cell::new(0_u32);
        move || {
            let count = asked.get();
            asked.set(count.wrapping_add(1));
            count.is_multiple_of(once_in) && self.is_past()
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
