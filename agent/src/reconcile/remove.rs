//! Removes objects that are no longer desired: reads each, and deletes the very one that was read, where what was read
//! proves it to be this unit's. Of a unit that lets go of all that it has nothing is deleted: its marks are taken off. What
//! proves it is decided in `core`; when and in which order is the state machine's to say.
//!
//! Nothing is noted before: whether an object is gone is found out by reading, after a crash too. Its record leaves the
//! inventory only once it was seen to be gone.

use std::sync::Arc;

use flotilla_core::{
    apply::{
        inventory::{Record, State},
        removal::{Blocker, Live, Parting, Release, Verdict, Wait, at_look, at_parting},
        stage::removal_rank,
    },
    object::ObjectKey,
    unit::{UnitState, problem::Retry, remove::Removed},
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    acting::Denied,
    circuit_breaker::{CircuitBreaker, Stopped},
    context::UnitContext,
    jobs::Done,
    message::shown,
    preflight::CONCURRENCY,
    records::stored_record,
    window::OPEN,
};
use crate::cluster::{ClusterError, Deleted, Discovery, Preconditions, Propagation, Resource, Served};

/// Removes objects, which come in their order.
pub(super) async fn remove(
    unit: &UnitContext,
    keys: Vec<Arc<ObjectKey>>,
    cancel: &CancellationToken,
) -> Done<(Arc<ObjectKey>, Removed)> {
    let context = &unit.context;
    // That they left, and which entry is enforced instead, is durable: else a restart could enforce one that has them.
    let prepared = match context.ledger.flush().await {
        Ok(()) => context.check_sole_writer().await,
        Err(error) => Err(error),
    };
    if let Err(error) = prepared {
        return Done::unsaved(Vec::new(), &error);
    }
    let discovery = match context.discovered_for(keys.iter().map(AsRef::as_ref)).await {
        Ok(discovery) => discovery,
        Err(error) => return Done::failed(&error),
    };
    let removal = Removal {
        until: Instant::now() + OPEN,
        unit,
        id: unit.unit.to_string(),
        discovery,
        breaker: CircuitBreaker::new(unit),
        cancel,
    };
    let mut outcomes = Vec::new();
    // What was applied last is asked to go before anything that was applied earlier is.
    for kind in keys.chunk_by(|one, other| removal_rank(one) == removal_rank(other)) {
        let looks: Vec<_> = kind.iter().map(|key| removal.remove(key)).collect();
        let looks = stream::iter(looks).buffer_unordered(CONCURRENCY);
        outcomes.extend(looks.filter_map(std::future::ready).collect::<Vec<_>>().await);
    }
    Done {
        outcomes,
        failure: None,
        lost: false,
    }
}

struct Removal<'a> {
    /// No look begins later: what is not reached follows, behind other units.
    until: Instant,
    unit: &'a UnitContext,
    /// The unit, as marks name it.
    id: String,
    discovery: Arc<Discovery>,
    breaker: CircuitBreaker<'a>,
    cancel: &'a CancellationToken,
}

impl Removal<'_> {
    /// `None`: not begun, or cancelled before anything was asked to go.
    async fn remove(&self, key: &Arc<ObjectKey>) -> Option<(Arc<ObjectKey>, Removed)> {
        if self.cancel.is_cancelled() || Instant::now() >= self.until {
            return None;
        }
        // A hub that does not know the unit clears nothing of it, whatever the one before it has cleared.
        if self.unit.context.is_unknown(self.unit.unit) {
            // What is let go of needs no clearing, and is looked at again once the hub names it.
            let removed = match self.unit.entry.is_parting() {
                true => Removed::Overtaken,
                false => Removed::Kept(Wait::NotCleared),
            };
            return Some((key.clone(), removed));
        }
        let Some(record) =
            stored_record(self.unit, key).filter(|record| record.state == State::PendingRemoval)
        else {
            return Some((key.clone(), Removed::Kept(Wait::Unproven)));
        };
        let removed = match self.look(key, &record).await {
            Ok(removed) => removed?,
            Err(stopped) => self.stopped(key, &record, &stopped),
        };
        Some((key.clone(), removed))
    }

    async fn look(&self, key: &Arc<ObjectKey>, record: &Record) -> Result<Option<Removed>, Stopped> {
        let context = &self.unit.context;
        let is_parting = self.unit.entry.is_parting();
        if context.protected.covers_removal(key) {
            return Ok(Some(match is_parting {
                true => Removed::Released(Release::LetGo),
                false => Removed::Kept(Wait::Protected),
            }));
        }
        let Some(resource) = self.resource(key, record) else {
            if is_parting {
                return Ok(Some(Removed::Released(Release::LetGo)));
            }
            // That its kind is not served proves nothing of the object.
            let why = format!("kept: its kind is not served as {}", record.api_version);
            return Ok(Some(Removed::Unseen(why)));
        };
        let reading = self.unit.cluster.get(resource, &key.namespace, &key.name);
        let live = tokio::select! {
            () = self.cancel.cancelled() => return Ok(None),
            live = self.breaker.call(key, reading) => live?,
        };
        if is_parting {
            return self.part(key, resource, record, live.as_ref()).await;
        }
        let live = live.map(|live| Live::of(&live["metadata"]));
        let verdict = at_look(key, record, &self.id, &context.protected, live.as_ref());
        Ok(Some(match verdict {
            Verdict::Gone => Removed::Gone,
            Verdict::Deleting(blocker) => Removed::Deleting(blocker),
            Verdict::Release(release) => Removed::Released(release),
            Verdict::Wait(wait) => Removed::Kept(wait),
            Verdict::Delete {
                uid,
                resource_version,
            } => {
                if self.cancel.is_cancelled() {
                    return Ok(None);
                }
                // Another unit may be offered it by now.
                if !self.unit.context.is_told_of_all() {
                    return Ok(Some(Removed::Overtaken));
                }
                let preconditions = Preconditions {
                    uid,
                    resource_version,
                };
                self.delete(key, resource, &preconditions).await?
            }
        }))
    }

    /// What is asked to go is waited for, whatever is cancelled meanwhile.
    async fn delete(
        &self,
        key: &ObjectKey,
        resource: &Resource,
        preconditions: &Preconditions,
    ) -> Result<Removed, Stopped> {
        let ObjectKey { namespace, name, .. } = key;
        let deleting =
            self.unit
                .cluster
                .delete(resource, namespace, name, preconditions, Propagation::Background);
        match self.breaker.call(key, deleting).await {
            Ok(Deleted::Gone) => Ok(Removed::Gone),
            Ok(Deleted::Waits(live)) => {
                let finalizers = Live::of(&live["metadata"]).finalizers;
                Ok(Removed::Deleting(Blocker(finalizers)))
            }
            Err(Stopped::Cluster(ClusterError::Rejected { code: 409, .. })) => Ok(Removed::Overtaken),
            Err(stopped) => Err(stopped),
        }
    }

    /// Takes off what says that an object is this unit's, of just the version that was read.
    async fn part(
        &self,
        key: &ObjectKey,
        resource: &Resource,
        record: &Record,
        live: Option<&Value>,
    ) -> Result<Option<Removed>, Stopped> {
        let patch = match at_parting(record, &self.id, live.map(|live| &live["metadata"])) {
            Parting::Gone => return Ok(Some(Removed::Gone)),
            Parting::Release(release) => return Ok(Some(Removed::Released(release))),
            Parting::Unmark(patch) => Value::Array(patch),
        };
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        // Another unit may be offered it by now, and takes it over with its mark.
        if !self.unit.context.is_told_of_all() {
            return Ok(Some(Removed::Overtaken));
        }
        let patching = self
            .unit
            .cluster
            .patch_metadata(resource, &key.namespace, &key.name, &patch);
        Ok(Some(match self.breaker.call(key, patching).await {
            Ok(_) => Removed::Released(Release::LetGo),
            Err(Stopped::Cluster(ClusterError::Rejected { code: 404, .. })) => Removed::Gone,
            Err(Stopped::Cluster(ClusterError::Rejected { code: 409, .. })) => Removed::Overtaken,
            // What may not be written any more is let go of all the same: nobody would ever end that.
            Err(Stopped::Cluster(error @ ClusterError::Rejected { .. })) if !error.is_transient() => {
                let said = shown(key, key.is_secret(), record.policy, &self.unit.acting, &error);
                Removed::Released(Release::StillMarked(said))
            }
            Err(Stopped::Terminating(_)) => Removed::Released(Release::LetGo),
            Err(stopped) => return Err(stopped),
        }))
    }

    /// How its kind is served: in the version that it was written in, or another.
    fn resource(&self, key: &ObjectKey, record: &Record) -> Option<&Resource> {
        match self.discovery.find(&record.api_version, &key.kind) {
            Served::Yes(resource) => Some(resource),
            _ => self.discovery.preferred(&key.group, &key.kind),
        }
    }

    fn stopped(&self, key: &ObjectKey, record: &Record, stopped: &Stopped) -> Removed {
        let error = match stopped {
            Stopped::Cluster(error) => error,
            Stopped::Terminating(why) => {
                return Removed::Unknown(format!("its namespace is being deleted {why}"));
            }
            Stopped::Denied(denied) => return self.denied(denied),
        };
        let message = shown(key, key.is_secret(), record.policy, &self.unit.acting, error);
        match error {
            ClusterError::Rejected { .. } | ClusterError::TooLarge { .. } => Removed::Refused {
                message: format!("not deleted: {message}"),
                retry: match error.is_transient() {
                    true => Retry::Soon,
                    false => Retry::Interval,
                },
            },
            ClusterError::NotServed { .. } => Removed::Unseen(message),
            ClusterError::Unavailable(_) | ClusterError::Overloaded { .. } => Removed::Unknown(message),
        }
    }

    /// Nothing can be asked as the unit's account. Where that is gone and its app is deleted, what the app has stays, as with
    /// Flux: nobody else deletes for it.
    fn denied(&self, denied: &Denied) -> Removed {
        let is_removing = matches!(self.unit.entry.state, UnitState::Removing(_));
        match self.unit.acting.service_account() {
            Some(account) if denied.is_missing && is_removing => {
                Removed::Released(Release::NoAccount(account.into()))
            }
            _ => Removed::Refused {
                message: format!("not deleted: {}", denied.words),
                retry: Retry::Interval,
            },
        }
    }
}
