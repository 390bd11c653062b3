//! Trees read lately, by the digest of their artifact: a commit that a thousand apps look at is unpacked once. Bounded
//! in bytes; who was used longest ago goes first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::{ArtifactDigest, Tree};

/// Trees by digest. Whoever asks for one while it is read waits for that reading.
#[derive(Debug)]
pub(super) struct TreeCache {
    bound: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    trees: HashMap<ArtifactDigest, Slot>,
    /// Rises with each use.
    clock: u64,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    tree: Arc<OnceCell<Arc<Tree>>>,
    used: u64,
}

impl Slot {
    fn bytes(&self) -> Option<u64> {
        self.tree.get().map(|tree| tree.bytes())
    }
}

impl TreeCache {
    /// Holds trees of so many bytes together.
    pub(super) fn new(bound: u64) -> Self {
        Self {
            bound,
            held: Mutex::default(),
        }
    }

    /// The tree of an artifact, by `read` where it is not held. What fails is not held: the next one reads again.
    pub(super) async fn get<E>(
        &self,
        digest: ArtifactDigest,
        read: impl Future<Output = Result<Tree, E>>,
    ) -> Result<Arc<Tree>, E> {
        let cell = self.slot(digest);
        let tree = cell
            .get_or_try_init(async || read.await.map(Arc::new))
            .await
            .cloned();
        self.make_room(digest);
        tree
    }

    fn slot(&self, digest: ArtifactDigest) -> Arc<OnceCell<Arc<Tree>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clock += 1;
        let used = held.clock;
        let slot = held.trees.entry(digest).or_default();
        slot.used = used;
        slot.tree.clone()
    }

    /// Drops what is over the bound, least lately used first; a tree that is larger than the bound alone is not held.
    fn make_room(&self, just_used: ArtifactDigest) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A reading that failed leaves an empty slot, unless somebody is at it again.
        held.trees.retain(|digest, slot| {
            *digest != just_used || slot.bytes().is_some() || Arc::strong_count(&slot.tree) > 2
        });
        if held.trees.get(&just_used).and_then(Slot::bytes) > Some(self.bound) {
            held.trees.remove(&just_used);
        }
        let mut sum: u64 = held.trees.values().filter_map(Slot::bytes).sum();
        while sum > self.bound {
            let oldest = held
                .trees
                .iter()
                .filter_map(|(digest, slot)| Some((slot.used, *digest, slot.bytes()?)))
                .min_by_key(|(used, ..)| *used);
            let Some((_, digest, bytes)) = oldest else { return };
            held.trees.remove(&digest);
            sum -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use bytes::Bytes;

    use super::*;
    use crate::artifact::File;

    fn tree(size: usize) -> Tree {
        let mut tree = Tree::default();
        let file = File {
            executable: false,
            bytes: Bytes::from(vec![b'x'; size]),
        };
        tree.insert_file("f", file).expect("new");
        tree
    }

    #[tokio::test]
    async fn a_thousand_who_ask_at_once_read_a_tree_once() {
        let cache = TreeCache::new(1 << 20);
        let reads = AtomicUsize::new(0);
        let ask = || {
            cache.get(ArtifactDigest::of(b"1"), async {
                reads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(tree(1))
            })
        };
        let all = futures::future::join_all((0..1000).map(|_| ask())).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_bound_is_of_bytes_and_the_latest_stay() {
        let two = 2 * tree(10_000).bytes();
        let cache = TreeCache::new(two + 5_000);
        let reads = AtomicUsize::new(0);
        let ask = async |name: &[u8], size| {
            let read = async {
                reads.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(tree(size))
            };
            cache
                .get(ArtifactDigest::of(name), read)
                .await
                .expect("read")
                .bytes()
        };
        for (name, size, expected) in [
            (b"1", 10_000, 1),
            (b"2", 10_000, 2),
            (b"1", 10_000, 2),
            // The second is the one used longest ago.
            (b"3", 10_000, 3),
            (b"1", 10_000, 3),
            (b"2", 10_000, 4),
        ] {
            ask(name, size).await;
            assert_eq!(reads.load(Ordering::SeqCst), expected, "{name:?}");
        }
        // Too large to be held, and no reason to drop the others.
        assert!(ask(b"4", 100_000).await > two + 5_000);
        ask(b"4", 100_000).await;
        ask(b"2", 10_000).await;
        assert_eq!(reads.load(Ordering::SeqCst), 6);
    }

    #[tokio::test]
    async fn what_failed_is_read_again() {
        let cache = TreeCache::new(1 << 20);
        let digest = ArtifactDigest::of(b"1");
        assert_eq!(
            cache
                .get(digest, async { Err("gone") })
                .await
                .expect_err("failed"),
            "gone"
        );
        assert!(cache.get(digest, async { Ok::<_, &str>(tree(1)) }).await.is_ok());
    }
}
