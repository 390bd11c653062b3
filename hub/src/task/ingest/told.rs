//! What agents tell of their desired states, on its way into the store. It is kept until it is committed, so a stream waits
//! before it hears more while the store has yet to take what came before.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::timeout};
use tracing::{error, warn};
use uuid::Uuid;

use super::{BATCH, COMMIT_TIMEOUT, is_about_the_rows};
use crate::store::{Store, session::Told};

/// Units of one transaction, and those of one cluster beyond which its stream waits: as many as a report has rows. An
/// acknowledgement has no bound but that of a message, and may name units that there are not.
const UNITS: usize = 2000;

/// What each cluster told last and is not committed.
#[derive(Default)]
pub(super) struct Latest {
    all: Mutex<All>,
    /// There is something to commit.
    pub(super) wake: Notify,
    /// Something was committed.
    committed: Notify,
}

#[derive(Default)]
struct All {
    last: HashMap<Uuid, Told>,
    /// Units of which is being committed what was told.
    taken: HashMap<Uuid, usize>,
}

impl All {
    fn is_crowded(&self, cluster: Uuid) -> bool {
        let last = self.last.get(&cluster).map_or(0, |told| told.units.len());
        last + self.taken.get(&cluster).copied().unwrap_or(0) > UNITS
    }

    /// Of several of one cluster only the last is of interest: it replaces those before it. What their units say stays.
    fn add(&mut self, told: Told) {
        let cluster = told.cluster;
        let told = match self.last.remove(&cluster) {
            // Its stream was replaced.
            Some(former) if former.epoch > told.epoch => former,
            Some(former) => told.after(former),
            None => told,
        };
        self.last.insert(cluster, told);
    }
}

impl Latest {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().last.is_empty()
    }

    /// Returns whether the cluster's stream is to wait for [`Self::room`].
    pub(super) fn add(&self, told: Told) -> bool {
        let cluster = told.cluster;
        let mut all = self.lock();
        all.add(told);
        let is_crowded = all.is_crowded(cluster);
        drop(all);
        self.wake.notify_one();
        is_crowded
    }

    /// Returns once most of what the cluster has told is committed.
    pub(super) async fn room(&self, cluster: Uuid) {
        loop {
            let mut committed = std::pin::pin!(self.committed.notified());
            committed.as_mut().enable();
            if !self.lock().is_crowded(cluster) {
                return;
            }
            committed.await;
        }
    }

    /// Takes what there is, until [`Self::end`] is told what of it is to be committed later: what goes along with reports of
    /// these clusters, in the transaction of these, and batches of all else.
    pub(super) fn take(&self, reporting: &HashSet<Uuid>) -> (Vec<Told>, Vec<Vec<Told>>) {
        let taken = {
            let mut all = self.lock();
            let taken = std::mem::take(&mut all.last);
            all.taken = taken.iter().map(|(id, told)| (*id, told.units.len())).collect();
            taken
        };
        let (mut along, mut rest, mut units) = (Vec::new(), Vec::new(), 0);
        for told in taken.into_values() {
            if reporting.contains(&told.cluster) && units + told.units.len() <= UNITS {
                units += told.units.len();
                along.push(told);
            } else {
                rest.push(told);
            }
        }
        (along, batches(rest.into_iter()))
    }

    /// Has what the store did not take wait for the next time, behind what has come later.
    pub(super) fn end(&self, left: Vec<Told>) {
        let mut all = self.lock();
        all.taken.clear();
        for told in left {
            let later = all.last.remove(&told.cluster);
            let told = match later {
                Some(later) if later.epoch < told.epoch => told,
                Some(later) => later.after(told),
                None => told,
            };
            all.last.insert(told.cluster, told);
        }
        drop(all);
        self.committed.notify_waiters();
    }
}

/// Commits batches; returns what the store does not take now.
pub(super) async fn commit(store: &Store, mut batches: Vec<Vec<Told>>) -> Vec<Told> {
    batches.reverse();
    let mut left = Vec::new();
    while let Some(mut batch) = batches.pop() {
        match timeout(COMMIT_TIMEOUT, store.told(&batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_about_the_rows(&error) && batch.len() > 1 => {
                batches.push(batch.split_off(batch.len() / 2));
                batches.push(batch);
            }
            // It would be refused again, and stand before what comes after it.
            Ok(Err(error)) if is_about_the_rows(&error) => {
                let cluster = batch.first().map(|told| told.cluster);
                error!(cluster.id = ?cluster, error = &error as &dyn std::error::Error,
                    "what an agent accepted is lost: the database does not take its rows");
            }
            _ => {
                warn!(
                    clusters = batch.len(),
                    "what agents accepted is not committed; it is tried again"
                );
                left.append(&mut batch);
            }
        }
    }
    left
}

/// What is committed together: not of too many clusters or units, and each cluster at most once. What one cluster told of
/// many units is in several, the last of which says that it has all been told.
fn batches(taken: impl Iterator<Item = Told>) -> Vec<Vec<Told>> {
    let mut batches: Vec<Vec<Told>> = Vec::new();
    let (mut batch, mut units) = (Vec::new(), 0);
    for mut told in taken {
        while told.units.len() > UNITS {
            batches.push(vec![first_part(&mut told)]);
        }
        if batch.len() == BATCH || units + told.units.len() > UNITS {
            batches.push(std::mem::take(&mut batch));
            units = 0;
        }
        units += told.units.len();
        batch.push(told);
    }
    batches.push(batch);
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// Takes the first units out of what was told.
fn first_part(told: &mut Told) -> Told {
    let from = told.units.keys().nth(UNITS).copied();
    let rest = from.map_or_else(BTreeMap::new, |from| told.units.split_off(&from));
    Told {
        cluster: told.cluster,
        epoch: told.epoch,
        accepted: None,
        units: std::mem::replace(&mut told.units, rest),
        refusal: None,
        message: told.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::digest::Digest;
    use futures::FutureExt as _;

    use super::*;
    use crate::store::session::{Answer, Refusal};

    fn told(cluster: u128, units: std::ops::Range<u128>) -> Told {
        let refused = Answer::Refused {
            entry: Digest::of("entry", b""),
            reason: "Invalid".into(),
            message: String::new(),
        };
        Told {
            cluster: Uuid::from_u128(cluster),
            epoch: 1,
            accepted: Some((1, 7)),
            units: units.map(|id| (Uuid::from_u128(id), refused.clone())).collect(),
            refusal: Some(Refusal {
                reason: "Stale".into(),
                message: String::new(),
            }),
            message: "said".into(),
        }
    }

    #[test]
    fn acknowledgements_of_many_units_are_committed_in_parts_and_nothing_is_left_out() {
        let many = told(1, 0..5000);
        let all = batches([many.clone(), told(2, 0..1500), told(3, 0..10)].into_iter());
        let sizes: Vec<usize> = all
            .iter()
            .map(|batch| batch.iter().map(|one| one.units.len()).sum())
            .collect();
        assert!(sizes.iter().all(|size| *size <= UNITS), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 5000 + 1500 + 10);
        for batch in &all {
            let mut clusters: Vec<Uuid> = batch.iter().map(|one| one.cluster).collect();
            clusters.dedup();
            assert_eq!(clusters.len(), batch.len(), "each once");
        }
        // Only its last part says which state it has accepted.
        let parts: Vec<&Told> = all
            .iter()
            .flatten()
            .filter(|one| one.cluster == many.cluster)
            .collect();
        let (last, first) = parts.split_last().expect("parts");
        assert!(
            first
                .iter()
                .all(|one| one.accepted.is_none() && one.refusal.is_none())
        );
        assert_eq!((last.accepted, &last.refusal), (many.accepted, &many.refusal));
        // Parts that were not taken are one again.
        let again = parts
            .into_iter()
            .cloned()
            .reduce(|former, later| later.after(former));
        assert_eq!(again, Some(many));
        let clusters = batches((0..2 * BATCH as u128).map(|id| told(id, 0..1)));
        assert_eq!(clusters.len(), 2);
    }

    #[test]
    fn what_was_told_goes_with_the_reports_of_the_same_clusters_unless_it_is_too_much() {
        let latest = Latest::default();
        for (cluster, units) in [(1, 10), (2, 10), (3, 3000)] {
            latest.add(told(cluster, 0..units));
        }
        let (one, other, large) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let (along, rest) = latest.take(&[one, large].into());
        assert_eq!(along.iter().map(|one| one.cluster).collect::<Vec<_>>(), [one]);
        let rest: BTreeMap<Uuid, usize> = rest.iter().flatten().fold(BTreeMap::new(), |mut rest, one| {
            *rest.entry(one.cluster).or_default() += one.units.len();
            rest
        });
        assert_eq!(rest, BTreeMap::from([(other, 10), (large, 3000)]));
        // What was not taken is there again.
        latest.end(along);
        assert_eq!(latest.take(&HashSet::new()).1, [vec![told(1, 0..10)]]);
    }

    #[test]
    fn a_stream_whose_agent_tells_more_than_is_committed_waits_and_no_other_does() {
        let latest = Latest::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(!latest.add(told(1, 0..1000)));
        // The same units again are no more than they were.
        assert!(!latest.add(told(1, 0..1000)));
        assert!(latest.add(told(1, 5000..7000)));
        assert!(latest.room(one).now_or_never().is_none());
        assert!(latest.room(other).now_or_never().is_some());
        assert!(!latest.add(told(2, 0..10)));
        // What is just being committed counts.
        let mut all = latest.lock();
        let taken = std::mem::take(&mut all.last);
        all.taken = taken.iter().map(|(id, told)| (*id, told.units.len())).collect();
        drop(all);
        assert!(latest.room(one).now_or_never().is_none());
        latest.lock().taken.clear();
        assert!(latest.room(one).now_or_never().is_some());
    }
}
