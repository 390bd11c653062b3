//! The committed desired state of the clusters connected to this replica. One writer, one `watch` per cluster;
//! what did not change wakes nobody. A slow agent sees the latest state and never a queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::store::{Result, Store, publish::DesiredRow};

/// A cluster's state as streams see it; `None` before the first publication.
pub type Watched = Option<Arc<DesiredRow>>;

/// Desired states by cluster.
pub struct Index {
    store: Store,
    slots: Mutex<HashMap<Uuid, watch::Sender<Watched>>>,
}

impl Index {
    /// An empty index over the store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// Watches a cluster. The state is read after the watch stands, so that no publication falls between.
    pub async fn subscribe(&self, cluster: Uuid) -> Result<watch::Receiver<Watched>> {
        let receiver = self
            .slots()
            .entry(cluster)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe();
        self.refresh(cluster).await?;
        Ok(receiver)
    }

    /// Reads a cluster's state again, if anybody watches it.
    pub async fn refresh(&self, cluster: Uuid) -> Result<()> {
        if !self.is_watched(cluster) {
            return Ok(());
        }
        let fresh = self.store.desired(cluster).await?.map(Arc::new);
        if let Some(sender) = self.slots().get(&cluster) {
            sender.send_if_modified(|held| {
                // Two readers may pass each other: the newer generation stays.
                let newer = generation(&fresh) > generation(held) || (held.is_none() && fresh.is_some());
                if newer {
                    *held = fresh;
                }
                newer
            });
        }
        Ok(())
    }

    /// Returns the state that streams of a cluster see here; `None` when none is open here or nothing is published.
    pub fn held(&self, cluster: Uuid) -> Watched {
        let slots = self.slots();
        let sender = slots.get(&cluster).filter(|sender| sender.receiver_count() > 0)?;
        sender.borrow().clone()
    }

    /// Polls the generations of all watched clusters: behind every notification, and where one was lost. One that
    /// cannot be read keeps no other from being read.
    pub async fn poll(&self) -> Result<()> {
        let held: HashMap<Uuid, u64> = self
            .slots()
            .iter()
            .map(|(id, sender)| (*id, generation(&sender.borrow())))
            .collect();
        let ids: Vec<Uuid> = held.keys().copied().collect();
        let mut ended = Ok(());
        for (id, generation) in self.store.desired_generations(&ids).await? {
            if held.get(&id).is_some_and(|held| *held < generation)
                && let Err(error) = self.refresh(id).await
            {
                ended = Err(error);
            }
        }
        ended
    }

    /// Clusters watched now.
    pub fn watched(&self) -> usize {
        self.slots().len()
    }

    fn is_watched(&self, cluster: Uuid) -> bool {
        let mut slots = self.slots();
        let watched = slots
            .get(&cluster)
            .is_some_and(|sender| sender.receiver_count() > 0);
        if !watched {
            slots.remove(&cluster);
        }
        watched
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<Watched>>> {
        // The map is whole between statements: a panic elsewhere while it was held harms nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn generation(watched: &Watched) -> u64 {
    watched.as_ref().map_or(0, |row| row.generation)
}
