//! Places for which one waits in line: at first in that of one's own address, of which a bounded number has turns, then in
//! that of all. So whoever comes first is first, and an address of which thousands wait has only so many before others.
//! Who waits costs nothing until it is its turn.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limit::network;

/// Places, bounded in all and for each address.
#[derive(Debug)]
pub struct Line {
    all: Arc<Semaphore>,
    each: usize,
    addresses: Mutex<HashMap<IpAddr, Own>>,
}

/// An address of which somebody waits or has a place.
#[derive(Debug)]
struct Own {
    places: Arc<Semaphore>,
    there: usize,
}

/// One that waits or has a place. With the last one its address is forgotten.
#[derive(Debug)]
struct There {
    line: Arc<Line>,
    from: IpAddr,
    places: Arc<Semaphore>,
}

/// A place, given back when dropped: to the next of its address, and to the next of all.
#[derive(Debug)]
pub struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _there: There,
}

impl Line {
    /// `total` places, of which one address may have `each`.
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(total)),
            each,
            addresses: Mutex::default(),
        })
    }

    /// Waits for a place. One that waits no longer, since this was dropped, has left both lines.
    pub async fn wait(self: &Arc<Self>, from: IpAddr) -> Turn {
        const OPEN: &str = "lines are never closed";
        let there = self.come(network(from));
        let own = there.places.clone().acquire_owned().await.expect(OPEN);
        let all = self.all.clone().acquire_owned().await.expect(OPEN);
        Turn {
            _all: all,
            _own: own,
            _there: there,
        }
    }

    fn come(self: &Arc<Self>, from: IpAddr) -> There {
        let mut addresses = self.addresses();
        let own = addresses.entry(from).or_insert_with(|| Own {
            places: Arc::new(Semaphore::new(self.each)),
            there: 0,
        });
        own.there += 1;
        There {
            line: Arc::clone(self),
            from,
            places: own.places.clone(),
        }
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Own>> {
        // Nothing between two changes of it can panic.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for There {
    fn drop(&mut self) {
        let mut addresses = self.line.addresses();
        if let Some(own) = addresses.get_mut(&self.from) {
            own.there -= 1;
            if own.there == 0 {
                addresses.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, time::Duration};

    use futures::{FutureExt as _, poll};
    use tokio::time::{Instant, timeout, timeout_at};

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    type Waiting = Pin<Box<dyn Future<Output = Turn>>>;

    /// One that has come and waits.
    async fn waiting(line: &Arc<Line>, last: u8) -> Waiting {
        let line = line.clone();
        let mut waiting: Waiting = Box::pin(async move { line.wait(address(last)).await });
        assert!(poll!(&mut waiting).is_pending(), "there is a place");
        waiting
    }

    fn turn(line: &Arc<Line>, last: u8) -> Turn {
        line.wait(address(last)).now_or_never().expect("a place")
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_those_who_came_first() {
        let line = Line::new(10, 1);
        let mut held = turn(&line, 1);
        let mut line_up = Vec::new();
        for _ in 0..5 {
            line_up.push(waiting(&line, 1).await);
        }
        while !line_up.is_empty() {
            for other in &mut line_up {
                assert!(poll!(other).is_pending(), "before the place is free");
            }
            drop(held);
            for other in &mut line_up[1..] {
                assert!(poll!(other).is_pending(), "one that came later");
            }
            held = line_up.remove(0).now_or_never().expect("the first");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_of_which_many_wait_keeps_no_other_out() {
        let line = Line::new(4, 2);
        let mut held = vec![turn(&line, 1), turn(&line, 1)];
        let mut crowd = Vec::new();
        for _ in 0..20 {
            crowd.push(waiting(&line, 1).await);
        }
        held.extend([turn(&line, 2), turn(&line, 3)]);
        // All places are taken: another address is before all of the crowd that has its own share.
        let other = waiting(&line, 4).await;
        drop(held.pop());
        held.push(other.now_or_never().expect("the next place"));
        // A share that is free again is the crowd's.
        held.remove(0);
        held.push(crowd.remove(0).now_or_never().expect("its first"));
        assert!(poll!(&mut crowd[0]).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_a_place_or_by_its_deadline_and_leaves_nothing() {
        let line = Line::new(2, 1);
        let held = turn(&line, 1);
        let begun = Instant::now();
        let late = timeout_at(begun + Duration::from_secs(10), line.wait(address(1))).await;
        assert!(late.is_err());
        assert_eq!(begun.elapsed().as_secs(), 10);
        let ((), served) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_secs(7)).await;
                drop(held);
            },
            timeout(Duration::from_secs(10), line.wait(address(1)))
        );
        let served = served.expect("a place");
        assert_eq!(begun.elapsed().as_secs(), 17, "at once");
        let left = waiting(&line, 1).await;
        drop((left, served));
        assert!(line.addresses().is_empty(), "{line:?}");
        assert_eq!(line.all.available_permits(), 2);
    }

    #[tokio::test]
    async fn addresses_of_one_ipv6_site_are_one() {
        let line = Line::new(4, 1);
        let six = |text: &str| text.parse::<IpAddr>().expect("an address");
        let _held = line.wait(six("2001:db8:1:2::1")).await;
        assert!(line.wait(six("2001:db8:1:2:3::4")).now_or_never().is_none());
        assert!(line.wait(six("2001:db8:1:3::1")).now_or_never().is_some());
    }
}
