//! Which failures of the link were logged: a hub that is away for a day is told once an hour, not with each try.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use tokio::time::Instant;

/// How often the same is logged.
const AGAIN: Duration = Duration::from_secs(3600);
/// Failures that are told apart; of a hub that always fails differently no more are logged in that time.
const MOST: usize = 8;

/// The failures that were logged since the hub answered last.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<String, Instant>);

impl Said {
    /// Tells whether a failure is to be logged.
    fn is_news(&mut self, failure: &str, now: Instant) -> bool {
        self.0.retain(|_, said| now.duration_since(*said) < AGAIN);
        if self.0.len() == MOST || self.0.contains_key(failure) {
            return false;
        }
        self.0.insert(failure.to_owned(), now);
        true
    }

    /// Logs a failure unless it was lately.
    pub(super) fn tell(&mut self, failure: &impl Display) {
        let failure = failure.to_string();
        if self.is_news(&failure, Instant::now()) {
            tracing::warn!("{failure}");
        }
    }

    /// The hub has answered: whatever fails next is news.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_once_an_hour_and_when_the_hub_has_answered_meanwhile() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        let logged = (0..180).filter(|minute| said.is_news("refused", at(*minute)));
        assert_eq!(logged.collect::<Vec<_>>(), [0, 60, 120]);
        assert!(said.is_news("no such name", at(180)));
        said.clear();
        assert!(said.is_news("refused", at(180)));
    }

    #[test]
    fn failures_that_always_differ_are_few() {
        let (mut said, now) = (Said::default(), Instant::now());
        let logged = (0..1000).filter(|n| said.is_news(&format!("failure {n}"), now));
        assert_eq!(logged.count(), MOST);
    }
}
