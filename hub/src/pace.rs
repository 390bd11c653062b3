//! How long what comes one by one is collected before it is taken to the database together. What comes alone waits for
//! nothing. While much comes, it goes in few large transactions: most of what a small one costs is the same for a large one,
//! and a slow machine, on which things trickle in, would make a thousand of what are twenty on a fast one.

use std::time::Duration;

use tokio::time::Instant;

/// So many a second are many.
const MANY: f64 = 100.0;
/// So many are waited for.
const WANTED: f64 = 250.0;
/// They are counted over about this time.
const OVER: Duration = Duration::from_millis(250);

/// How much comes.
#[derive(Debug)]
pub(crate) struct Pace {
    /// A second, what came a while ago counting for less.
    rate: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { rate: 0.0, at: now }
    }

    /// Counts what was collected until now.
    pub(crate) fn count(&mut self, collected: usize, now: Instant) {
        let collected = f64::from(u32::try_from(collected).unwrap_or(u32::MAX));
        self.rate = self.rate_at(now) + collected / OVER.as_secs_f64();
        self.at = now;
    }

    /// How long what comes from now on is to be collected.
    pub(crate) fn collects(&self, now: Instant, longest: Duration) -> Duration {
        let rate = self.rate_at(now);
        if rate < MANY {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(WANTED / rate).min(longest)
    }

    fn rate_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).div_duration_f64(OVER);
        self.rate * (-passed).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(300);

    /// Transactions, and the longest of the times that things are collected, where `each` come a second for ten seconds and
    /// a transaction takes `takes`.
    fn transactions(each: u128, takes: Duration, longest: Duration) -> (u32, Duration) {
        let begun = Instant::now();
        let (mut pace, mut now, mut tick) = (Pace::new(begun), begun, Duration::ZERO);
        let (mut count, mut taken, mut waited) = (0, 0, Duration::ZERO);
        while now - begun < Duration::from_secs(10) {
            now += tick.max(Duration::from_millis(1));
            let come = (now - begun).as_micros() * each / 1_000_000;
            let collected = usize::try_from(come - taken).expect("few");
            taken = come;
            if collected > 0 {
                now += takes;
                count += 1;
                pace.count(collected, now);
                tick = pace.collects(now, longest);
                waited = waited.max(tick);
            }
        }
        (count, waited)
    }

    #[test]
    fn what_comes_alone_waits_for_nothing() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        for second in 1..100 {
            let now = begun + Duration::from_secs(second);
            for now in [now, now + Duration::from_millis(10)] {
                pace.count(3, now);
                assert_eq!(pace.collects(now, LONGEST), Duration::ZERO);
            }
        }
        let (_, waited) = transactions(20, Duration::from_millis(5), LONGEST);
        assert_eq!(waited, Duration::ZERO);
    }

    #[test]
    fn what_comes_of_many_is_few_transactions_however_slowly_it_comes() {
        for (each, most) in [(200, 90), (600, 70), (2000, 140), (5000, 260)] {
            for takes in [2, 20, 60].map(Duration::from_millis) {
                let (count, waited) = transactions(each, takes, LONGEST);
                assert!(count <= most, "{each} a second, {takes:?}: {count}");
                assert!(waited <= LONGEST, "{waited:?}");
            }
        }
    }

    #[test]
    fn it_is_collected_for_as_long_as_it_may_and_no_longer_once_little_comes() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let second = Duration::from_secs(1);
        pace.count(100, begun);
        assert_eq!(pace.collects(begun, second), Duration::from_millis(625));
        assert_eq!(pace.collects(begun, LONGEST), LONGEST);
        assert_eq!(pace.collects(begun + second, second), Duration::ZERO);
    }
}
