//! The rig does what its users build on: each test asks a real server.

mod control_plane;
mod git;
mod lifetime;
mod postgres;
mod proxy;

use std::time::Duration;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
