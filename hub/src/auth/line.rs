//! Places for which one waits in line: each address has a line of its own, and the next place goes to the next address in turn, to
//! the first of its line. So of one address whoever comes first is first, and whoever comes alone waits for one of each
//! other address at most, however many of them wait. Who waits costs nothing until it is its turn.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::limit::network;

/// Places, bounded in all and for each address.
#[derive(Debug)]
pub struct Line {
    each: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    came: u64,
    addresses: HashMap<IpAddr, Own>,
    /// Addresses of which somebody waits, each once, in the order of their turns.
    turns: VecDeque<IpAddr>,
}

/// An address of which somebody waits or has a place.
#[derive(Debug, Default)]
struct Own {
    held: usize,
    /// The first to come first.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place, given back when dropped: to the next in line. Before it was given, one that waits, and leaves when dropped.
#[derive(Debug)]
pub struct Turn {
    line: Arc<Line>,
    from: IpAddr,
    number: u64,
}

impl Line {
    /// `total` places, of which one address may have `each`.
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        let state = State {
            free: total,
            came: 0,
            addresses: HashMap::new(),
            turns: VecDeque::new(),
        };
        Arc::new(Self {
            each,
            state: Mutex::new(state),
        })
    }

    /// Waits for a place. One that waits no longer, since this was dropped, has left the line.
    pub async fn wait(self: &Arc<Self>, from: IpAddr) -> Turn {
        let (turn, given) = self.come(network(from));
        // The sender stays in the line for as long as its turn is there.
        let _ = given.await;
        turn
    }

    fn come(self: &Arc<Self>, from: IpAddr) -> (Turn, oneshot::Receiver<()>) {
        let (give, given) = oneshot::channel();
        let mut state = self.state();
        let number = state.came;
        state.came += 1;
        let own = state.addresses.entry(from).or_default();
        own.waiting.insert(number, give);
        if own.waiting.len() == 1 {
            state.turns.push_back(from);
        }
        state.give(self.each);
        let line = Arc::clone(self);
        (Turn { line, from, number }, given)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between two changes of it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives what is free to those whose turn it is.
    fn give(&mut self, each: usize) {
        // Those that have as many as they may keep their turn; there are only so many of them as have a share.
        let mut passed = 0;
        while self.free > 0 && passed < self.turns.len() {
            let Some(from) = self.turns.pop_front() else {
                return;
            };
            let Some(own) = self.addresses.get_mut(&from) else {
                continue;
            };
            if own.held >= each {
                self.turns.push_back(from);
                passed += 1;
                continue;
            }
            let Some((_, give)) = own.waiting.pop_first() else {
                continue;
            };
            // Whoever was given one and does not take it gives it back when it is dropped.
            let _ = give.send(());
            (own.held, self.free, passed) = (own.held + 1, self.free - 1, 0);
            if !own.waiting.is_empty() {
                self.turns.push_back(from);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.line.state();
        let Some(own) = state.addresses.get_mut(&self.from) else {
            return;
        };
        let waited = own.waiting.remove(&self.number).is_some();
        if !waited {
            own.held -= 1;
        }
        let (waits, is_gone) = (!own.waiting.is_empty(), own.waiting.is_empty() && own.held == 0);
        if is_gone {
            state.addresses.remove(&self.from);
        }
        if waited && !waits {
            let from = self.from;
            state.turns.retain(|other| *other != from);
        }
        if !waited {
            state.free += 1;
            state.give(self.line.each);
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
        let state = line.state();
        assert!(state.addresses.is_empty() && state.turns.is_empty(), "{state:?}");
        assert_eq!(state.free, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_alone_waits_for_one_of_each_other_address_however_many_wait() {
        let line = Line::new(4, 2);
        let mut held = VecDeque::new();
        let mut crowd: Vec<Waiting> = Vec::new();
        for of in 1..=8 {
            for _ in 0..50 {
                let line = line.clone();
                let mut one: Waiting = Box::pin(async move { line.wait(address(of)).await });
                match poll!(&mut one) {
                    std::task::Poll::Ready(turn) => held.push_back(turn),
                    std::task::Poll::Pending => crowd.push(one),
                }
            }
        }
        let mut alone = waiting(&line, 100).await;
        let mut given = 0;
        let turn = loop {
            if let std::task::Poll::Ready(turn) = poll!(&mut alone) {
                break turn;
            }
            drop(held.pop_front());
            given += 1;
            assert!(given <= 9, "one of each other address was before it");
            let mut waits = Vec::new();
            for mut one in crowd {
                match poll!(&mut one) {
                    std::task::Poll::Ready(turn) => held.push_back(turn),
                    std::task::Poll::Pending => waits.push(one),
                }
            }
            crowd = waits;
        };
        drop((turn, held, crowd));
        let state = line.state();
        assert!(state.addresses.is_empty() && state.turns.is_empty(), "{state:?}");
        assert_eq!(state.free, 4);
    }

    #[tokio::test]
    async fn a_place_that_was_given_and_not_taken_is_the_next_ones() {
        let line = Line::new(1, 1);
        let held = turn(&line, 1);
        let (given, next) = (waiting(&line, 2).await, waiting(&line, 3).await);
        drop(held);
        drop(given);
        next.now_or_never().expect("it is its turn");
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
