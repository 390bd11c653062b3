//! What a figure was measured on: without it a wall time means nothing.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

const GIB: u64 = 1024 * 1024 * 1024;

/// The machine, the build and the day of a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The day, UTC, `2026-11-30`.
    pub date: String,
    /// Processors that the program may use.
    pub processors: usize,
    /// The machine's memory, in bytes.
    pub memory: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// `release` or `debug`: how the measuring program itself was built.
    pub build: String,
}

impl Conditions {
    /// Asks the kernel and the clock.
    pub fn of_this_machine() -> Self {
        let system = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.totalram * u64::from(memory.mem_unit),
            kernel: format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} processors, {} GiB, {}, {} build",
            self.date,
            self.processors,
            self.memory.div_ceil(GIB),
            self.kernel,
            self.build
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_processors_memory_and_kernel() {
        let conditions = Conditions::of_this_machine();
        assert!(conditions.processors > 0);
        assert!(conditions.memory > GIB / 2);
        assert!(conditions.kernel.starts_with("Linux "), "{conditions}");
        assert_eq!(conditions.date.len(), "2026-11-30".len());
    }
}
