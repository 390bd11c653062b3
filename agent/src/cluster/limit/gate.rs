//! How many calls there may be at once: twice as many after each round of answers until the server has had too much to
//! do for the first time, one more after that; half whenever it has. The slow start and the avoidance of TCP (RFC 5681).

use std::time::Duration;

use tokio::time::Instant;

use super::SLOW;

/// Calls at once, at first and at most.
pub(super) const FIRST: f64 = 8.0;
pub(super) const MOST: f64 = 32.0;
/// A limit is halved at most once in this time, so that one burst of refusals is one sign.
pub(super) const ONCE: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limit: f64,
    pub(super) in_flight: usize,
    halved: Option<Instant>,
    pub(super) held_until: Option<Instant>,
    /// Calls without an answer since the last that had one.
    pub(super) unanswered: u32,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            limit: FIRST,
            in_flight: 0,
            halved: None,
            held_until: None,
            unanswered: 0,
        }
    }

    pub(super) fn silence(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    pub(super) fn answered(&mut self, took: Duration) {
        self.unanswered = 0;
        if took <= SLOW {
            let more = match self.halved {
                None => 1.0,
                Some(_) => 1.0 / self.limit,
            };
            self.limit = (self.limit + more).min(MOST);
        }
    }

    pub(super) fn overloaded(&mut self, retry_after: Option<Duration>, now: Instant) {
        if self.halved.is_none_or(|at| now.duration_since(at) > ONCE) {
            self.limit = (self.limit / 2.0).max(1.0);
            self.halved = Some(now);
        }
        if let Some(wait) = retry_after {
            let until = now + wait.min(RETRY_AFTER_MAX);
            self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        }
    }

    /// What one kind may take: some is left for the others until it is known to be slow.
    pub(super) fn share(&self) -> f64 {
        (self.limit - (self.limit / 8.0).max(1.0)).max(1.0)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 32 by construction"
    )]
    pub(super) fn open(&self) -> bool {
        self.in_flight < self.limit as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_doubles_with_answers_until_it_was_too_much_and_halves_once_a_round() {
        let fast = Duration::from_millis(5);
        let (mut gate, now) = (Gate::new(), Instant::now());
        gate.answered(SLOW * 2);
        assert!((gate.limit - FIRST).abs() < f64::EPSILON, "{}", gate.limit);
        for _ in 0..8 {
            gate.answered(fast);
        }
        assert!((gate.limit - 2.0 * FIRST).abs() < f64::EPSILON, "{}", gate.limit);
        for _ in 0..20 {
            gate.overloaded(None, now);
        }
        assert!((gate.limit - FIRST).abs() < f64::EPSILON, "{}", gate.limit);
        for _ in 0..8 {
            gate.answered(fast);
        }
        assert!(gate.limit > 8.9 && gate.limit < 9.0, "{}", gate.limit);
        for n in 2..20 {
            gate.overloaded(None, now + Duration::from_secs(n * 2));
        }
        assert!((gate.limit - 1.0).abs() < f64::EPSILON);
        assert!(gate.open());
    }
}
