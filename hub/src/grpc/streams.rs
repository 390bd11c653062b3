//! The agent streams open on this replica: who is connected, last heard of when, and how to close one that was
//! replaced. Heartbeats live here and are flushed to the store in one batch.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Fetches of one cluster at once: an agent makes two.
const FETCHES: usize = 4;

/// Open streams by cluster.
#[derive(Default)]
pub struct Streams {
    open: Mutex<HashMap<Uuid, Open>>,
    fetches: Arc<Mutex<HashMap<Uuid, usize>>>,
}

/// One fetch in progress; ends with its drop.
pub struct Fetch {
    cluster: Uuid,
    all: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.cluster) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.cluster);
            }
        }
    }
}

struct Open {
    epoch: u64,
    last_seen: OffsetDateTime,
    close: CancellationToken,
}

impl Streams {
    /// Registers a stream, closing the cluster's former one on this replica. The token tells when this one is
    /// to close in turn: at once when a stream of a higher epoch came first.
    pub fn open(&self, cluster: Uuid, epoch: u64, now: OffsetDateTime) -> CancellationToken {
        let close = CancellationToken::new();
        let mut open = self.lock();
        // Two streams that open together get their epochs from the store and arrive here in any order.
        if open.get(&cluster).is_some_and(|other| other.epoch > epoch) {
            close.cancel();
            return close;
        }
        if let Some(former) = open.insert(
            cluster,
            Open {
                epoch,
                last_seen: now,
                close: close.clone(),
            },
        ) {
            former.close.cancel();
        }
        close
    }

    /// Notes that the cluster was heard of.
    pub fn seen(&self, cluster: Uuid, epoch: u64, now: OffsetDateTime) {
        if let Some(open) = self.lock().get_mut(&cluster).filter(|open| open.epoch == epoch) {
            open.last_seen = now;
        }
    }

    /// Begins a fetch of a cluster's content; `None`: it has too many already.
    pub fn fetch(&self, cluster: Uuid) -> Option<Fetch> {
        let mut all = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(cluster).or_default();
        if *count >= FETCHES {
            return None;
        }
        *count += 1;
        let all = self.fetches.clone();
        Some(Fetch { cluster, all })
    }

    /// Forgets a stream, unless another has replaced it.
    pub fn closed(&self, cluster: Uuid, epoch: u64) {
        let mut open = self.lock();
        if open.get(&cluster).is_some_and(|stream| stream.epoch == epoch) {
            open.remove(&cluster);
        }
    }

    /// When each connected cluster was last heard of: (cluster, epoch, time).
    pub fn last_seen(&self) -> Vec<(Uuid, u64, OffsetDateTime)> {
        self.lock()
            .iter()
            .map(|(id, open)| (*id, open.epoch, open.last_seen))
            .collect()
    }

    /// Streams of these clusters that are open here: (cluster, epoch).
    pub fn of(&self, clusters: &HashSet<Uuid>) -> Vec<(Uuid, u64)> {
        let open = self.lock();
        let streams = clusters.iter().filter_map(|id| Some((*id, open.get(id)?.epoch)));
        streams.collect()
    }

    /// Closes those of the streams `seen` that do not hold their cluster any more.
    pub fn close_unless(&self, seen: &[(Uuid, u64)], held: &[(Uuid, u64)]) {
        let held: HashSet<&(Uuid, u64)> = held.iter().collect();
        let lost = seen.iter().filter(|stream| !held.contains(stream)).copied();
        self.close(lost);
    }

    /// Closes these streams, unless others have come in their place.
    pub fn close(&self, lost: impl IntoIterator<Item = (Uuid, u64)>) {
        let open = self.lock();
        for (cluster, epoch) in lost {
            if let Some(stream) = open.get(&cluster).filter(|stream| stream.epoch == epoch) {
                stream.close.cancel();
            }
        }
    }

    /// Streams open now.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_streams_the_one_with_the_higher_epoch_stays_whichever_came_first() {
        let (streams, cluster, now) = (Streams::default(), Uuid::from_u128(1), OffsetDateTime::UNIX_EPOCH);
        let first = streams.open(cluster, 1, now);
        let third = streams.open(cluster, 3, now);
        let second = streams.open(cluster, 2, now);
        assert!(first.is_cancelled() && second.is_cancelled() && !third.is_cancelled());
        assert_eq!(streams.last_seen(), [(cluster, 3, now)]);
        streams.closed(cluster, 2);
        assert_eq!(streams.count(), 1);
    }

    #[test]
    fn one_cluster_has_few_fetches_at_once_and_another_its_own() {
        let streams = Streams::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut turns: Vec<Fetch> = (0..FETCHES).filter_map(|_| streams.fetch(one)).collect();
        assert!(turns.len() == FETCHES && streams.fetch(one).is_none() && streams.fetch(two).is_some());
        turns.pop();
        assert!(streams.fetch(one).is_some());
    }

    #[test]
    fn a_stream_that_was_replaced_elsewhere_is_closed_and_a_newer_one_is_not() {
        let (streams, now) = (Streams::default(), OffsetDateTime::UNIX_EPOCH);
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (kept, replaced) = (streams.open(one, 1, now), streams.open(two, 1, now));
        let seen = streams.of(&[one, two, Uuid::from_u128(3)].into());
        assert_eq!(seen.len(), 2);
        streams.close_unless(&seen, &[(one, 1)]);
        assert!(!kept.is_cancelled() && replaced.is_cancelled());
        // Opened after the list was made.
        let newer = streams.open(two, 2, now);
        streams.close_unless(&seen, &[(one, 1)]);
        assert!(!newer.is_cancelled());
    }
}
