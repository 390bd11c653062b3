//! Child processes that end with all they started.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// The process group of a child spawned with `process_group(0)`. Killed when dropped, unless disarmed.
#[derive(Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// The group that `child` leads.
    pub(crate) fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }

    /// The leader has ended by itself, and its number may be given away.
    pub(crate) fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails only when nothing of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
