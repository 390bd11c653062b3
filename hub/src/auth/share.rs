//! Places that give way. When all are taken, the address that has the most of them loses its oldest to one that has fewer: so
//! whoever comes has a place at once, unless it has as many as anybody, however many are there and from how many addresses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::limit::network;

/// Places, bounded in all and for each address.
#[derive(Debug)]
pub struct Shares {
    total: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    came: u64,
    /// By address, the oldest first.
    each: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// Addresses by how many they have.
    by_count: BTreeSet<(usize, IpAddr)>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    from: IpAddr,
    number: u64,
    lost: CancellationToken,
}

impl Share {
    /// Waits until the place was given to another.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Shares {
    /// `total` places, of which one address may have `each`.
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            each,
            taken: Mutex::default(),
        })
    }

    /// Takes a place; `None` when this address has as many as it may, or all are taken and none has more than it.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Share> {
        let from = network(from);
        let mut taken = self.taken();
        let own = taken.each.get(&from).map_or(0, BTreeMap::len);
        if own >= self.each {
            return None;
        }
        if taken.all >= self.total {
            let (most, of) = taken.by_count.last().copied()?;
            if most <= own + 1 {
                return None;
            }
            let oldest = taken.each.get(&of)?.keys().next().copied()?;
            if let Some(lost) = taken.remove(of, oldest) {
                lost.cancel();
            }
        }
        let number = taken.came;
        taken.came += 1;
        let lost = CancellationToken::new();
        taken.add(from, number, lost.clone());
        Some(Share {
            shares: Arc::clone(self),
            from,
            number,
            lost,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing between two changes of it can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn add(&mut self, from: IpAddr, number: u64, lost: CancellationToken) {
        let own = self.each.entry(from).or_default();
        self.by_count.remove(&(own.len(), from));
        own.insert(number, lost);
        self.by_count.insert((own.len(), from));
        self.all += 1;
    }

    fn remove(&mut self, from: IpAddr, number: u64) -> Option<CancellationToken> {
        let own = self.each.get_mut(&from)?;
        let before = own.len();
        let lost = own.remove(&number)?;
        let left = own.len();
        self.by_count.remove(&(before, from));
        if left == 0 {
            self.each.remove(&from);
        } else {
            self.by_count.insert((left, from));
        }
        self.all -= 1;
        Some(lost)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // One that was lost is not there any more.
        self.shares.taken().remove(self.from, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_lost(share: &Share) -> bool {
        share.lost().now_or_never().is_some()
    }

    #[test]
    fn whoever_comes_has_a_place_however_many_addresses_have_taken_all() {
        let shares = Shares::new(40, 10);
        let mut held: Vec<Share> = (0..4)
            .flat_map(|of| (0..10).map(move |_| of))
            .map(|of| shares.take(address(of)).expect("free"))
            .collect();
        assert!(shares.take(address(1)).is_none(), "it has all that it may have");
        // Each one that comes takes one of whoever has most, and of that one the oldest.
        for of in 4..20 {
            held.push(shares.take(address(of)).expect("a place"));
            assert_eq!(shares.taken().all, 40);
        }
        let lost: Vec<bool> = held.iter().map(is_lost).collect();
        for of in 0..4 {
            assert_eq!(
                lost[of * 10..of * 10 + 10],
                [[true; 4].as_slice(), &[false; 6]].concat()[..]
            );
        }
        assert!(lost[40..].iter().all(|lost| !lost));
        drop(held);
        let taken = shares.taken();
        assert!(
            taken.all == 0 && taken.each.is_empty() && taken.by_count.is_empty(),
            "{taken:?}"
        );
    }

    #[test]
    fn nobody_takes_a_place_of_who_has_no_more_than_it() {
        let shares = Shares::new(4, 4);
        let held: Vec<Share> = (0..4).map(|of| shares.take(address(of)).expect("free")).collect();
        assert!(shares.take(address(4)).is_none());
        assert!(shares.take(address(0)).is_none());
        assert!(held.iter().all(|share| !is_lost(share)));
    }
}
