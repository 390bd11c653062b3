//! Artifacts that are no longer used are set aside, and removed after a while: one that is kept again, by this hub or
//! another, just when it is set aside is brought back by whoever misses it.

use std::time::Duration;

use object_store::{Error, ObjectStoreExt as _, path::Path as Key};
use time::OffsetDateTime;

use super::{
    ArtifactDigest, ArtifactStore, StoreError,
    failure::{Operation, Unanswered},
    store::{is_settled, key},
};

/// What is below it was set aside: `aside/<digest>/<seconds since 1970>`.
const ASIDE: &str = "aside";

impl ArtifactStore {
    /// Sets an artifact aside, unless it was kept again within `age`. `now` is of the clock that all hubs go by: what one sets
    /// aside another sweeps.
    pub async fn set_aside(
        &self,
        digest: ArtifactDigest,
        age: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        match self.found_in_place(digest).await? {
            Some(found) if is_settled(&found, age) => {}
            _ => return Ok(()),
        }
        let place = place(digest).join(now.unix_timestamp().to_string());
        self.moved(key(digest), place, Operation::Remove).await.map(drop)
    }

    /// Brings back an artifact that was set aside. `false`: there is none.
    pub(super) async fn bring_back(&self, digest: ArtifactDigest) -> Result<bool, StoreError> {
        let newest = self
            .all_aside(place(digest))
            .await?
            .into_iter()
            .max_by_key(|(at, _)| *at);
        if let Some((_, aside)) = newest
            && self.moved(aside, key(digest), Operation::Write).await?
        {
            return Ok(true);
        }
        // Somebody else may have brought it back in this moment.
        Ok(self.found_in_place(digest).await?.is_some())
    }

    /// Removes what was set aside for so long, by the same clock, and returns how many there were.
    pub async fn sweep(&self, grace: Duration, now: OffsetDateTime) -> Result<u64, StoreError> {
        let before = (now - grace).unix_timestamp();
        let mut removed = 0;
        for (at, aside) in self.all_aside(Key::from(ASIDE)).await? {
            if at <= before && self.removed(aside).await? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Moves an object. `false`: it has gone.
    async fn moved(&self, from: Key, to: Key, operation: Operation) -> Result<bool, StoreError> {
        let store = self.store.clone();
        let moved = self
            .bounds
            .within(|_| async move { store.rename(&from, &to).await });
        match moved.await {
            Ok(()) => Ok(true),
            Err(Unanswered::Said(Error::NotFound { .. })) => Ok(false),
            Err(error) => Err(self.failed(operation, &error)),
        }
    }

    /// What was set aside below a key, each with when that was.
    async fn all_aside(&self, below: Key) -> Result<Vec<(i64, Key)>, StoreError> {
        self.listed(Some(&below), |found| {
            let at = found.location.filename()?.parse().ok()?;
            Some((at, found.location))
        })
        .await
    }
}

fn place(digest: ArtifactDigest) -> Key {
    Key::from(ASIDE).join(digest.hex())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::artifact::{ArchiveWriter, store::Stored};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    struct Place {
        dir: tempfile::TempDir,
        store: ArtifactStore,
    }

    impl Place {
        async fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let opened = ArtifactStore::open(dir.path().join("artifacts"), dir.path().join("incoming"));
            let store = opened.await.expect("opened");
            Self { dir, store }
        }

        async fn put(&self) -> Stored {
            let mut archive = ArchiveWriter::new(self.store.writer().expect("a writer"));
            archive.file("f", false, b"1").expect("written");
            let kept = self.store.keep(archive.finish().expect("finished")).await;
            kept.expect("kept")
        }

        /// Makes it two days old.
        fn age(&self, digest: ArtifactDigest) {
            let path = self.dir.path().join("artifacts").join(key(digest).as_ref());
            let file = fs::File::options().write(true).open(path).expect("there");
            let since = file.metadata().expect("there").modified().expect("told");
            file.set_modified(since - 2 * DAY).expect("set");
        }

        async fn aside(&self) -> usize {
            self.store
                .all_aside(Key::from(ASIDE))
                .await
                .expect("listed")
                .len()
        }
    }

    #[tokio::test]
    async fn one_that_is_kept_again_after_it_was_found_unused_stays() {
        let place = Place::new().await;
        let kept = place.put().await;
        place.age(kept.digest);
        assert_eq!(place.store.settled(DAY).await.expect("listed"), [kept.digest]);
        place.put().await;
        place
            .store
            .set_aside(kept.digest, DAY, now())
            .await
            .expect("looked");
        assert_eq!(place.aside().await, 0);
        assert!(place.store.has(kept.digest).await.expect("looked"));
    }

    #[tokio::test]
    async fn one_that_is_kept_again_just_when_it_is_set_aside_is_brought_back_by_whoever_misses_it() {
        let place = Place::new().await;
        let kept = place.put().await;
        place.age(kept.digest);
        // The other hub's upload is between the look and the move: what is moved is the fresh one.
        place
            .store
            .set_aside(kept.digest, DAY, now())
            .await
            .expect("set aside");
        assert_eq!(place.aside().await, 1);
        assert_eq!(place.store.list().await.expect("listed").len(), 0);
        assert_eq!(place.store.sweep(DAY, now()).await.expect("swept"), 0);
        assert!(place.store.has(kept.digest).await.expect("looked"));
        assert_eq!(
            (
                place.aside().await,
                place.store.list().await.expect("listed").len()
            ),
            (0, 1)
        );
        // A read misses it as well.
        place.age(kept.digest);
        place
            .store
            .set_aside(kept.digest, DAY, now())
            .await
            .expect("set aside");
        let bytes = place.store.read(kept.digest).await.expect("brought back");
        assert_eq!(ArtifactDigest::of(&bytes), kept.digest);
    }

    #[tokio::test]
    async fn what_nobody_misses_is_removed_after_its_grace_and_then_nothing_is_left_to_do() {
        let place = Place::new().await;
        let kept = place.put().await;
        place.age(kept.digest);
        place
            .store
            .set_aside(kept.digest, DAY, now())
            .await
            .expect("set aside");
        place
            .store
            .set_aside(kept.digest, DAY, now())
            .await
            .expect("gone already");
        assert_eq!(
            place
                .store
                .sweep(Duration::from_secs(3600), now())
                .await
                .expect("swept"),
            0
        );
        assert_eq!(place.store.sweep(Duration::ZERO, now()).await.expect("swept"), 1);
        assert_eq!(
            (
                place.aside().await,
                place.store.sweep(Duration::ZERO, now()).await.expect("swept")
            ),
            (0, 0)
        );
        assert!(!place.store.has(kept.digest).await.expect("looked"));
        assert!(matches!(
            place.store.read(kept.digest).await,
            Err(StoreError::Missing(_))
        ));
    }

    #[tokio::test]
    async fn its_grace_goes_by_the_clock_that_all_hubs_go_by_and_not_by_that_of_one() {
        let place = Place::new().await;
        let kept = place.put().await;
        place.age(kept.digest);
        // The machine's clock is a week off; the hubs' common one says when it was set aside, and when it is swept.
        let common = now() - 7 * DAY;
        place
            .store
            .set_aside(kept.digest, DAY, common)
            .await
            .expect("set aside");
        let sweep = async |at| place.store.sweep(DAY, at).await.expect("swept");
        assert_eq!(sweep(common + DAY / 2).await, 0);
        assert_eq!(sweep(common + DAY).await, 1);
    }
}
