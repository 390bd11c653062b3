//! Addresses from which somebody came with a client certificate lately. They have a door of their own: whoever has none cannot
//! stand in it, from however many addresses.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::limit::network;

/// Addresses that are remembered: those of more agents than a hub has.
const MOST: usize = 65_536;
/// How long one is: an agent that is away for a week comes back as anybody does.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The addresses.
#[derive(Debug, Default)]
pub struct Known(Mutex<Addresses>);

#[derive(Debug, Default)]
struct Addresses {
    at: HashMap<IpAddr, Instant>,
    oldest: BTreeSet<(Instant, IpAddr)>,
}

impl Known {
    /// Notes that somebody has come from here with a certificate.
    pub fn came(&self, from: IpAddr, now: Instant) {
        let from = network(from);
        let mut addresses = self.addresses();
        if let Some(before) = addresses.at.insert(from, now) {
            addresses.oldest.remove(&(before, from));
        }
        addresses.oldest.insert((now, from));
        while addresses.at.len() > MOST {
            let Some((_, oldest)) = addresses.oldest.pop_first() else {
                break;
            };
            addresses.at.remove(&oldest);
        }
    }

    /// Whether somebody has, lately.
    pub fn has(&self, from: IpAddr, now: Instant) -> bool {
        let addresses = self.addresses();
        let at = addresses.at.get(&network(from));
        at.is_some_and(|at| now.saturating_duration_since(*at) < KEPT)
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        // Nothing between two changes of it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_for_a_week_after_a_certificate_and_the_oldest_are_forgotten() {
        let known = Known::default();
        let now = Instant::now();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(!known.has(address(1), now));
        known.came(address(1), now);
        known.came(address(1), now + Duration::from_secs(60));
        assert!(known.has(address(1), now + KEPT));
        assert!(!known.has(address(1), now + KEPT + Duration::from_secs(60)));
        let later = now + Duration::from_secs(120);
        for n in 0..u32::try_from(MOST).expect("small") {
            known.came(address(1 << 24 | n), later);
        }
        assert!(!known.has(address(1), later));
        let addresses = known.addresses();
        assert_eq!((addresses.at.len(), addresses.oldest.len()), (MOST, MOST));
    }
}
