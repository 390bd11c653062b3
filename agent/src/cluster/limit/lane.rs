//! The calls of one kind: reads, or writes. A webhook that takes long makes the answers about its kinds slow, and no
//! others: those get few places, and the rest of the cluster is asked as before.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::gate::{MOST, ONCE};

/// What a kind whose answers are slow keeps: one object that is slow by itself does not stop the others of its kind.
const LEAST: f64 = 2.0;

/// What the answers of a kind have told.
#[derive(Debug)]
struct State {
    limit: f64,
    in_flight: usize,
    halved: Option<Instant>,
    /// The last answer that was slow, unless one was fast since.
    slow: Option<Instant>,
}

/// The calls of a kind.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    freed: Notify,
}

/// A place in a lane.
pub(super) struct Place<'a>(&'a Lane);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.freed.notify_one();
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                limit: MOST,
                in_flight: 0,
                halved: None,
                slow: None,
            }),
            freed: Notify::new(),
        }
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. No lane takes more than `share` tells.
    pub(super) async fn enter(&self, share: impl Fn() -> f64) -> Place<'_> {
        loop {
            let share = share();
            {
                let mut state = self.state();
                if state.is_open(share) {
                    state.in_flight += 1;
                    if state.is_open(share) {
                        // A place freed while nobody waited is passed on.
                        self.freed.notify_one();
                    }
                    return Place(self);
                }
            }
            self.freed.notified().await;
        }
    }

    /// Takes in an answer that came in time.
    pub(super) fn fast(&self) {
        let mut state = self.state();
        state.slow = None;
        state.limit = (state.limit + 1.0 / state.limit).min(MOST);
    }

    /// Takes in an answer that was slow, or did not come.
    pub(super) fn slow(&self, now: Instant) {
        let mut state = self.state();
        state.slow = Some(now);
        if state.halved.is_none_or(|at| now.duration_since(at) > ONCE) {
            state.limit = (state.limit / 2.0).max(LEAST);
            state.halved = Some(now);
        }
    }

    /// Tells whether the last answer was slow, and not long ago.
    pub(super) fn is_slow(&self, now: Instant, lately: Duration) -> bool {
        self.state()
            .slow
            .is_some_and(|at| now.duration_since(at) <= lately)
    }
}

impl State {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 32 by construction"
    )]
    fn is_open(&self, share: f64) -> bool {
        self.in_flight < self.limit.min(share) as usize
    }
}
