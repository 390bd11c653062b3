//! What a confined program may do; passed from parent to child as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Resource limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space, in bytes.
    pub memory: u64,
    /// Processor time, in seconds, of all threads together.
    pub cpu_seconds: u64,
    /// Open files.
    pub open_files: u64,
    /// Threads. The kernel counts those of all processes of a user together, and root's not at all: the parent looks.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            cpu_seconds: 300,
            open_files: 256,
            threads: 256,
        }
    }
}

/// What a confined program may do. Everything not named here is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Files and directories that may be read.
    pub read: Vec<PathBuf>,
    /// Files and directories that may be read and run; whatever runs replaces the process.
    pub execute: Vec<PathBuf>,
    /// Resource limits.
    pub limits: Limits,
    /// Whether only the limits hold: what an operator asked for on a machine that has no sandbox.
    pub unconfined: bool,
}
