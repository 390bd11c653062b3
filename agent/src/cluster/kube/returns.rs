//! Whether the API server is away, and when it is back. What waits to try again need not wait for longer then: the first
//! request that is answered says so to all.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::cluster::ClusterError;

/// How the last request fared, for all who share it.
#[derive(Debug, Default)]
pub(super) struct Returns {
    is_away: AtomicBool,
    times: watch::Sender<u64>,
}

/// Waits until the server is back.
pub(in crate::cluster) type Return = watch::Receiver<u64>;

impl Returns {
    /// Takes in what came of a request. That the server has too much to do says neither, nor what it says as it starts:
    /// that nobody may do anything yet, or an error of its own.
    pub(super) fn heard<T>(&self, answer: &Result<T, ClusterError>) {
        match answer {
            Err(
                ClusterError::Overloaded { .. }
                | ClusterError::Rejected {
                    code: 401 | 403 | 500..,
                    ..
                },
            ) => {}
            Err(ClusterError::Unavailable(_)) => self.is_away.store(true, Ordering::Relaxed),
            _ => {
                // Looked at first: as a rule nothing is written.
                if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
                    self.times.send_modify(|times| *times += 1);
                }
            }
        }
    }

    /// Returns what changes with the next return.
    pub(super) fn next(&self) -> Return {
        self.times.subscribe()
    }
}
