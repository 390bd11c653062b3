//! Runs a program to its end, and says how long it took, how much memory it had, and what it printed.
//!
//! The kernel counts into a child's peak what its parent had when it started it, so this process must stay small:
//! library calls are measured in a child of their own.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wait4::Wait4 as _;

/// One finished run.
#[derive(Debug)]
pub(crate) struct Run {
    /// From the start until the program is gone and its output read.
    pub(crate) wall: Duration,
    /// The largest resident set, in bytes.
    pub(crate) peak: u64,
    /// What was printed.
    pub(crate) output: Vec<u8>,
}

impl Run {
    /// Forgets what was printed: texts of many runs, kept here, would count into the peak of the runs after them.
    pub(crate) fn without_output(self) -> Run {
        Run {
            output: Vec::new(),
            ..self
        }
    }
}

/// Runs a program; one that fails is an error with what it said.
pub(crate) fn run<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> anyhow::Result<Run> {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let mut output = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut output)?;
    }
    let ended = child.wait4().with_context(|| format!("wait for {name}"))?;
    let wall = began.elapsed();
    ensure!(ended.status.success(), "{name} ended with {}", ended.status);
    Ok(Run {
        wall,
        peak: ended.rusage.maxrss,
        output,
    })
}

/// Returns the middle value, in seconds; the lower of two.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .map_or(f64::NAN, Duration::as_secs_f64)
}
