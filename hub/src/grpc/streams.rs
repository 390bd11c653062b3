//! The agent streams open on this replica: who is connected, last heard of when, and how to close one that was
//! replaced. Heartbeats live here and are flushed to the store in one batch.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Open streams by cluster.
#[derive(Default)]
pub struct Streams {
    open: Mutex<HashMap<Uuid, Open>>,
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
}
