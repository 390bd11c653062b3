//! How long to wait before trying again, and how intervals are spread so that a thousand things do not happen
//! in the same second. The caller brings the random bits.

use std::time::Duration;

/// How far an interval may be off, in percent, as Flux has it.
pub const INTERVAL_JITTER_PERCENT: u32 = 5;

/// Exponential backoff with a cap and full jitter: the wait is anywhere between zero and the bound, since what
/// failed together would otherwise try again together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait; it doubles with each failure.
    pub base: Duration,
    /// The bound that is never exceeded.
    pub cap: Duration,
}

impl Backoff {
    /// Flux's for failed reconciliations.
    pub const RECONCILE: Self = Self {
        base: Duration::from_millis(750),
        cap: Duration::from_secs(15 * 60),
    };

    /// The longest that the wait after `failures` failures in a row can be. No failure, no wait.
    pub fn bound(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doublings);
        factor
            .and_then(|factor| self.base.checked_mul(factor))
            .map_or(self.cap, |bound| bound.min(self.cap))
    }

    /// The wait after `failures` failures in a row.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        share(self.bound(failures), random)
    }
}

/// An interval made up to [`INTERVAL_JITTER_PERCENT`] longer or shorter.
pub fn jittered(interval: Duration, random: u64) -> Duration {
    let reach = interval / 100 * INTERVAL_JITTER_PERCENT;
    interval - reach + share(reach * 2, random)
}

/// The part of `whole` that `random` is of all 64-bit numbers.
fn share(whole: Duration, random: u64) -> Duration {
    let nanos = whole.as_nanos().min(u128::from(u64::MAX));
    let part = (nanos * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_cap() {
        let bounds: Vec<u128> = (0..13).map(|n| Backoff::RECONCILE.bound(n).as_millis()).collect();
        assert_eq!(
            bounds,
            [
                0, 750, 1500, 3000, 6000, 12_000, 24_000, 48_000, 96_000, 192_000, 384_000, 768_000, 900_000
            ]
        );
        assert_eq!(Backoff::RECONCILE.bound(u32::MAX), Backoff::RECONCILE.cap);
    }

    #[test]
    fn a_wait_is_anywhere_below_its_bound() {
        let backoff = Backoff::RECONCILE;
        assert_eq!(backoff.delay(4, 0), Duration::ZERO);
        assert_eq!(backoff.delay(4, 1 << 63), Duration::from_secs(3));
        assert!(backoff.delay(4, u64::MAX) < backoff.bound(4));
        assert!(backoff.delay(4, u64::MAX) > backoff.bound(4) - Duration::from_millis(1));
        assert_eq!(backoff.delay(0, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn an_interval_is_off_by_five_percent_at_most() {
        let interval = Duration::from_secs(600);
        assert_eq!(jittered(interval, 0), Duration::from_secs(570));
        assert_eq!(jittered(interval, 1 << 63), interval);
        assert!(jittered(interval, u64::MAX) <= Duration::from_secs(630));
        assert_eq!(jittered(Duration::ZERO, u64::MAX), Duration::ZERO);
        assert!(jittered(Duration::MAX, u64::MAX) >= Duration::MAX / 100 * 94);
    }
}
