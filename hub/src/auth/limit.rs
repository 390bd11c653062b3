//! What strangers may take of the hub: places for connections by address, and attempts to enrol by time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Places that connections hold, bounded in all and for each address, so that one address cannot take them all.
#[derive(Debug)]
pub struct Places {
    total: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    from: IpAddr,
}

impl Places {
    /// `total` places, of which one address may have `each`.
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            each,
            taken: Mutex::default(),
        })
    }

    /// Takes a place; `None` when there is none left for this address.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = network(from);
        let mut taken = self.taken();
        let own = taken.each.get(&from).copied().unwrap_or(0);
        if taken.all >= self.total || own >= self.each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(from, own + 1);
        Some(Place {
            places: Arc::clone(self),
            from,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing between two changes of it can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(count) = taken.each.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                taken.each.remove(&self.from);
            }
        }
    }
}

/// A site of IPv6 has a /64 of addresses to give itself: all of them are one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => four.into(),
            None => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

/// Addresses remembered; one that is forgotten begins anew.
const ADDRESSES: usize = 10_000;
/// How often refusals are logged, together.
const LOGGED: Duration = Duration::from_secs(60);

/// Attempts to enrol: so many a second in all and from one address, with a burst. One that succeeds costs nothing.
#[derive(Debug)]
pub struct Attempts {
    all: Rate,
    each: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: Bucket,
    each: HashMap<IpAddr, Bucket>,
    refused: u64,
    logged: Option<(Instant, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

/// What was taken and has not come back yet.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.used = (self.used - passed.as_secs_f64() * rate.per_second).max(0.0);
        self.at = Some(now);
        let free = self.used + 1.0 <= rate.burst;
        if free {
            self.used += 1.0;
        }
        free
    }

    fn give_back(&mut self) {
        self.used = (self.used - 1.0).max(0.0);
    }
}

impl Attempts {
    /// `per_second` attempts in all, a tenth of them from one address.
    pub fn new(per_second: u32) -> Self {
        let rate = |per_second: f64, burst: f64| Rate { per_second, burst };
        let all = f64::from(per_second);
        Self {
            all: rate(all, all * 10.0),
            each: rate((all / 10.0).max(1.0), (all * 3.0).max(1.0)),
            state: Mutex::default(),
        }
    }

    /// So many attempts a second, in all and from one address.
    pub fn per_second(&self) -> [usize; 2] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "made of a small whole number"
        )]
        [self.all, self.each].map(|rate| rate.per_second as usize)
    }

    /// Takes an attempt; `false` when there have been too many.
    pub fn take(&self, from: IpAddr, now: Instant) -> bool {
        let from = network(from);
        let mut state = self.state();
        if state.each.len() >= ADDRESSES && !state.each.contains_key(&from) {
            state.each.clear();
        }
        state.each.entry(from).or_default().take(self.each, now) && state.all.take(self.all, now)
    }

    /// The attempt was an agent's that may join.
    pub fn succeeded(&self, from: IpAddr) {
        let mut state = self.state();
        state.all.give_back();
        if let Some(bucket) = state.each.get_mut(&network(from)) {
            bucket.give_back();
        }
    }

    /// Counts a refusal. Returns how many there were since the last time it told, at most once a minute.
    pub fn refused(&self, now: Instant) -> Option<u64> {
        let mut state = self.state();
        state.refused += 1;
        let (at, count) = state.logged.unwrap_or((now, 0));
        if state.logged.is_some() && now.saturating_duration_since(at) < LOGGED {
            return None;
        }
        let refused = state.refused;
        state.logged = Some((now, refused));
        Some(refused - count)
    }

    /// Refusals so far, for metrics.
    pub fn refusals(&self) -> u64 {
        self.state().refused
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers only: whatever panicked left them usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_address_cannot_take_the_places_of_others() {
        let places = Places::new(5, 3);
        let mut held: Vec<Place> = (0..3).filter_map(|_| places.take(address(1))).collect();
        assert_eq!(held.len(), 3);
        assert!(places.take(address(1)).is_none());
        held.extend((0..3).filter_map(|_| places.take(address(2))));
        assert_eq!(held.len(), 5, "in all");
        held.remove(0);
        assert!(places.take(address(3)).is_some());
        drop(held);
        let taken = places.taken();
        assert!(taken.all == 0 && taken.each.is_empty(), "{taken:?}");
    }

    #[test]
    fn addresses_of_one_ipv6_site_are_one() {
        let places = Places::new(10, 1);
        let six = |text: &str| text.parse::<IpAddr>().expect("an address");
        let _held = places.take(six("2001:db8:1:2::1")).expect("free");
        assert!(places.take(six("2001:db8:1:2:3::4")).is_none());
        assert!(places.take(six("2001:db8:1:3::1")).is_some());
        let _mapped = places.take(six("::ffff:192.0.2.1")).expect("free");
        assert!(places.take(address(1)).is_none());
    }

    #[test]
    fn attempts_come_back_with_time_and_those_that_succeed_at_once() {
        let attempts = Attempts::new(10);
        let start = Instant::now();
        let taken = |from, now| (0..1000).take_while(|_| attempts.take(from, now)).count();
        assert_eq!(taken(address(1), start), 30);
        assert_eq!(taken(address(2), start), 30, "another address has its own");
        attempts.succeeded(address(1));
        assert_eq!(taken(address(1), start), 1);
        assert_eq!(taken(address(1), start + Duration::from_secs(2)), 2);
        // All together are bounded as well.
        let all: usize = (3..200)
            .map(|last| taken(address(last), start + Duration::from_secs(2)))
            .sum();
        assert!(all < 100, "{all}");
    }

    #[test]
    fn refusals_are_told_together() {
        let attempts = Attempts::new(10);
        let start = Instant::now();
        assert_eq!(attempts.refused(start), Some(1));
        assert_eq!((0..5).filter_map(|_| attempts.refused(start)).count(), 0);
        assert_eq!(attempts.refused(start + LOGGED), Some(6));
        assert_eq!(attempts.refusals(), 7);
    }
}
