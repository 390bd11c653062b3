//! The committed desired state of the clusters connected to this replica: its number and root, and what changed last
//! while that is small. One writer, one `watch` per cluster; what did not change wakes nobody. A slow agent sees the
//! latest state and never a queue; what it lacks beyond the last change is read from the store when it is sent.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_core::desired::Head;
use tokio::sync::watch;
use uuid::Uuid;

use crate::store::{
    Result, Store,
    publish::{CLUSTERS, DesiredRow, EntryRow, Published},
};

/// Bytes of a last change that are kept for a cluster.
const KEPT: usize = 4 << 10;

/// A cluster's state as streams see it; `None` before the first publication.
pub type Watched = Option<Arc<State>>;

/// A cluster's committed state.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// Which.
    pub head: Head,
    /// What changed after a generation, that one and the entries; `None` where it is not kept.
    pub changes: Option<(u64, Vec<EntryRow>)>,
}

/// Desired states by cluster.
pub struct Index {
    store: Store,
    slots: Mutex<HashMap<Uuid, watch::Sender<Watched>>>,
    /// Clusters of which this hub's last publication is here, and its notification is still to come.
    own: Mutex<HashSet<Uuid>>,
}

impl Index {
    /// An empty index over the store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            slots: Mutex::new(HashMap::new()),
            own: Mutex::default(),
        }
    }

    /// Watches a cluster. Its state is to be read after the watch stands, so that no publication falls between.
    pub fn watch(&self, cluster: Uuid) -> watch::Receiver<Watched> {
        self.slots()
            .entry(cluster)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// Takes in which state of a cluster was found to be published, by who watches it.
    pub fn found(&self, cluster: Uuid, head: Head) {
        let changes = None;
        self.set(cluster, State { head, changes });
    }

    /// Notes that this hub begins to publish states of these clusters: however that ends, what is notified is read, unless
    /// [`Self::published`] is called.
    pub fn publishes(&self, clusters: &[Uuid]) {
        let mut own = self.own();
        for cluster in clusters {
            own.remove(cluster);
        }
    }

    /// Takes in what this hub has published, as it was committed.
    pub fn published(&self, published: Published) {
        let Published {
            cluster,
            head,
            entries,
            ..
        } = published;
        let changed = DesiredRow { head, entries };
        if self.set(cluster, kept(changed, head.generation.checked_sub(1))) {
            self.own().insert(cluster);
        }
    }

    /// Lets go of what changed with a state: whoever watches the cluster has sent it, and at rest ten thousand would be kept.
    pub fn sent(&self, cluster: Uuid, head: Head) {
        let slots = self.slots();
        let Some(sender) = slots.get(&cluster).filter(|sender| sender.receiver_count() == 1) else {
            return;
        };
        sender.send_if_modified(|held| {
            if held
                .as_ref()
                .is_some_and(|held| held.head == head && held.changes.is_some())
            {
                let changes = None;
                *held = Some(Arc::new(State { head, changes }));
            }
            // It is the same state.
            false
        });
    }

    /// Of clusters that a notification names those whose states are to be read: where no other hub publishes, all but those
    /// whose publication is here.
    pub fn unread(&self, mut clusters: Vec<Uuid>, is_alone: bool) -> Vec<Uuid> {
        let mut own = self.own();
        clusters.retain(|cluster| !own.remove(cluster) || !is_alone);
        clusters
    }

    /// Reads the states of those of the clusters again that anybody watches.
    pub async fn refresh(&self, clusters: &[Uuid]) -> Result<()> {
        let held = self.held(clusters);
        for batch in held.chunks(CLUSTERS) {
            // Before the first state there is no change: its number is all that is asked for.
            let since: Vec<(Uuid, u64)> = batch
                .iter()
                .map(|(id, held)| (*id, held.unwrap_or(u64::MAX)))
                .collect();
            let bases: HashMap<Uuid, Option<u64>> = batch.iter().copied().collect();
            for (cluster, desired) in self.store.desired_since(&since).await? {
                let base = bases.get(&cluster).copied().flatten();
                self.set(cluster, kept(desired, base));
            }
        }
        Ok(())
    }

    /// Reads the states of all watched clusters: behind every notification, and where one was lost.
    pub async fn poll(&self) -> Result<()> {
        let clusters: Vec<Uuid> = self.slots().keys().copied().collect();
        self.refresh(&clusters).await
    }

    /// Clusters watched now.
    pub fn watched(&self) -> usize {
        self.slots().len()
    }

    /// Sets a state, and tells whether anybody watches it.
    fn set(&self, cluster: Uuid, fresh: State) -> bool {
        let slots = self.slots();
        let Some(sender) = slots.get(&cluster) else {
            return false;
        };
        sender.send_if_modified(|held| {
            // Two readers may pass each other: the later state stays.
            let later = held
                .as_ref()
                .is_none_or(|held| fresh.head.order() > held.head.order());
            if later {
                *held = Some(Arc::new(fresh));
            }
            later
        });
        sender.receiver_count() > 0
    }

    /// The generations held of those of the clusters that anybody watches; slots of all others go.
    fn held(&self, clusters: &[Uuid]) -> Vec<(Uuid, Option<u64>)> {
        let mut slots = self.slots();
        let mut held = Vec::new();
        for cluster in clusters {
            match slots.get(cluster) {
                Some(sender) if sender.receiver_count() > 0 => {
                    let generation = sender.borrow().as_ref().map(|state| state.head.generation);
                    held.push((*cluster, generation));
                }
                Some(_) => drop(slots.remove(cluster)),
                None => {}
            }
        }
        held
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<Watched>>> {
        // The map is whole between statements: a panic elsewhere while it was held harms nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of a state that was read from a generation on.
fn kept(desired: DesiredRow, base: Option<u64>) -> State {
    let size: usize = desired.entries.iter().map(|entry| entry.bytes.len()).sum();
    State {
        head: desired.head,
        changes: base.filter(|_| size <= KEPT).map(|base| (base, desired.entries)),
    }
}
