//! What the events of watches mean for units.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    apply::{
        UNIT_LABEL,
        drift::{Judgement, judge},
        ignore::Pointer,
        inventory::{Record, State as RecordState},
    },
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{
        event::Event,
        object::{Check, Observed},
    },
};
use serde_json::Value;
use tokio::time::Instant;

use super::{Scope, Stream, UNSERVED, Watched, narrowed::is_forbidden, why_not_listed};
use crate::{
    cluster::{ClusterError, WatchEvent},
    reconcile::{
        Reconciler, Unit,
        context::Context,
        definitions,
        observe::{gone, observe},
        pace::Pace,
        sightings::Sighting,
    },
};

/// Of watches without an answer one is logged this often.
const UNANSWERED: Duration = Duration::from_secs(60);

/// An event, and whose watch told it.
pub(in crate::reconcile) struct WatchNews {
    pub(super) stream: Arc<Stream>,
    /// The watch of all definitions: it tells which kinds come, and nothing of a unit's objects.
    pub(super) definitions: bool,
    pub(super) event: Result<Reduced, ClusterError>,
}

/// What is left of a watch event once the object is dropped: that happens in the watch's own task, so that what waits
/// for the loop is small whatever objects there are.
pub(super) enum Reduced {
    Listing,
    WentBack,
    /// With the version of the list.
    Listed(Option<u64>),
    Seen(Box<Seen>),
}

/// What was seen of an object.
pub(super) struct Seen {
    /// The object; `None`: it has no name.
    key: Option<ObjectKey>,
    /// The unit that its mark names.
    mark: Option<UnitId>,
    is_present: bool,
    /// What is kept of it; `None`: reading it panicked, and it is there as far as lists go.
    observed: Option<Observed>,
    /// Of a definition: what of it decides which kinds are served.
    definition: Option<Digest>,
    /// The whole of it, where it looks drifted.
    sighting: Option<Sighting>,
}

/// Reduces an event to what is kept of it.
pub(super) fn reduce(event: WatchEvent, context: &Context) -> Reduced {
    let (object, is_present) = match event {
        WatchEvent::Listing => return Reduced::Listing,
        WatchEvent::WentBack => return Reduced::WentBack,
        WatchEvent::Listed(version) => return Reduced::Listed(version),
        WatchEvent::Present(object) => (object, true),
        WatchEvent::Gone(object) => (object, false),
    };
    let key = ObjectKey::of(&object);
    let mark = object["metadata"]["labels"][UNIT_LABEL]
        .as_str()
        .and_then(|mark| mark.parse().ok())
        .map(UnitId);
    let observed = unless_it_panics(|| match is_present {
        true => {
            let judge = mark.and_then(|unit| context.judges.of(unit));
            let left = mark.map(|unit| left_to_others(context, unit, &object));
            observe(
                &object,
                context.ledger.key(),
                left.as_deref().unwrap_or_default(),
                context.wall(),
                judge.as_deref(),
            )
        }
        false => gone(Some(&object)),
    });
    Reduced::Seen(Box::new(Seen {
        definition: key
            .as_ref()
            .filter(|key| definitions::is_definition(key))
            .map(|_| definitions::state(&object)),
        sighting: match looks_drifted(context, mark, key.as_ref(), observed.as_ref()) {
            true => context.sightings.of(object),
            false => None,
        },
        key,
        mark,
        is_present,
        observed,
    }))
}

/// The fields of an object that the unit which its mark names leaves to others.
fn left_to_others(context: &Context, unit: UnitId, object: &Value) -> Vec<Pointer> {
    let entry = context.ledger.read(|state| {
        let enforced = state.units.get(&unit)?.enforced.as_ref()?.entry.as_ref()?;
        // As a rule nothing is left to others.
        (!enforced.settings.ignore.is_empty()).then(|| enforced.clone())
    });
    entry
        .map(|entry| context.left.of(&entry).of(object))
        .unwrap_or_default()
}

/// Tells whether an object is there and not as the ledger says that it was left. It is the state machine that decides.
fn looks_drifted(
    context: &Context,
    mark: Option<UnitId>,
    key: Option<&ObjectKey>,
    observed: Option<&Observed>,
) -> bool {
    let (Some(unit), Some(key)) = (mark, key) else {
        return false;
    };
    let Some(live) = observed.and_then(|observed| observed.observation.as_ref()) else {
        return false;
    };
    let record = context
        .ledger
        .read(|state| state.units.get(&unit)?.items.get(key).cloned());
    record.is_some_and(|record| matches!(judge(&record, Some(live)), Judgement::Suspicious(_)))
}

/// Tells whether an object waits for a check, or is in one.
pub(in crate::reconcile) fn is_to_check(unit: &Unit, key: &ObjectKey) -> bool {
    let object = unit.state.objects().get(key);
    object.is_some_and(|object| matches!(object.check, Check::Due | Check::Running))
}

/// Tells whether a list has come, or the server has said why not.
fn is_answer(event: &Result<Reduced, ClusterError>) -> bool {
    match event {
        Ok(reduced) => matches!(reduced, Reduced::Listed(_)),
        Err(error) => is_answered(error),
    }
}

/// The server has said what is wrong with this one request.
pub(super) fn is_answered(error: &ClusterError) -> bool {
    !matches!(
        error,
        ClusterError::Unavailable(_) | ClusterError::Overloaded { .. }
    )
}

/// The server does not know the agent: no watch is refused more than another.
fn is_unauthorized(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { code: 401, .. })
}

/// One odd object must not end the watch of all others.
fn unless_it_panics(read: impl FnOnce() -> Observed) -> Option<Observed> {
    let observed = catch_unwind(AssertUnwindSafe(read));
    if observed.is_err() {
        tracing::error!("watch: an object could not be read and is passed over");
    }
    observed.ok()
}

impl Reconciler {
    /// Takes in a watch event.
    pub(in crate::reconcile) async fn observed(
        &mut self,
        WatchNews {
            stream,
            definitions,
            event,
        }: WatchNews,
    ) {
        // It was closed while its event waited.
        if !definitions && !self.watches.is_open(&stream) {
            return;
        }
        if let Err(error) = &event
            && !definitions
            && is_forbidden(error)
            && !self.narrows(&stream)
            && self.lend(&stream)
        {
            return;
        }
        if !definitions && !self.watches.silent.is_empty() && is_answer(&event) {
            self.watches.silent.remove(&*stream);
        }
        if !definitions && is_answer(&event) && !event.as_ref().is_err_and(is_unauthorized) {
            let refusal = match &event {
                Err(error @ ClusterError::Rejected { .. })
                    if !((is_forbidden(error) || self.tries_wider(&stream.scope))
                        && self.narrows(&stream)) =>
                {
                    Some(why_not_listed(error, &self.context.namespaces))
                }
                _ => None,
            };
            self.note_refusal(&stream, refusal);
        }
        if !definitions && self.narrows(&stream) {
            match &event {
                Ok(Reduced::Listed(_)) => self.note_width(&stream, Ok(())),
                Ok(_) => {}
                Err(error) => self.note_width(&stream, Err(error)),
            }
        }
        match event {
            Ok(Reduced::Seen(seen)) => {
                if let (Some(key), Some(state)) = (&seen.key, seen.definition) {
                    let state = seen.is_present.then_some(state);
                    let now = Instant::now();
                    self.watches.definitions.seen(definitions, &key.name, state, now);
                }
                if !definitions {
                    self.seen(&stream, *seen);
                }
            }
            Ok(_) if definitions => {}
            Ok(Reduced::WentBack) => self.went_back(&stream.scope).await,
            Ok(Reduced::Listing) => {
                let expected: HashSet<_> = self
                    .written(&stream.scope)
                    .filter(|(_, _, record)| self.watches.believes(&stream, Some(record)))
                    .map(|(id, key, _)| (id, key.clone()))
                    .collect();
                self.watches.listing.insert(stream.as_ref().clone(), expected);
            }
            Ok(Reduced::Listed(version)) => {
                let mut pace = Pace::default();
                for (unit, key) in self.watches.listing.remove(&*stream).unwrap_or_default() {
                    // What was written since is newer than the list, and not gone.
                    let observed = Observed {
                        version,
                        ..gone(None)
                    };
                    self.observe(unit, key, observed);
                    pace.handled(1).await;
                }
            }
            Err(ClusterError::NotServed { .. }) if !definitions => {
                self.watches.listing.remove(&*stream);
                let unserved = Watched::unserved(Instant::now(), UNSERVED);
                self.watches.open.insert(stream.as_ref().clone(), unserved);
            }
            // Narrower ones take its place.
            Err(_) if !definitions && !self.watches.is_open(&stream) => {}
            Err(error) => self.log_failure(&stream.scope, &error),
        }
    }

    /// Logs why a watch fails. What is wrong with the server fails all of them in the same moment, and is told by whoever
    /// watches the server: of that one line is enough.
    fn log_failure(&mut self, scope: &Scope, error: &ClusterError) {
        let (group, kind, namespace) = (&scope.group, &scope.kind, &scope.namespace);
        let words = error.of_many();
        if is_answered(error) && !is_unauthorized(error) {
            tracing::warn!(group, kind, namespace, "watch: {words}");
            return;
        }
        let now = Instant::now();
        let logged = &mut self.watches.unanswered;
        if logged.is_none_or(|at| now.duration_since(at) >= UNANSWERED) {
            *logged = Some(now);
            tracing::warn!(
                group,
                kind,
                namespace,
                "watch: {words} (others that fail in this minute are not logged)"
            );
        } else {
            tracing::debug!(group, kind, namespace, "watch: {words}");
        }
    }

    /// Takes in what a watch has seen of an object.
    fn seen(&mut self, stream: &Stream, seen: Seen) {
        let Some((unit, key)) = self.owner(&seen) else {
            return;
        };
        if let Some(listing) = self.watches.listing.get_mut(stream).filter(|_| seen.is_present) {
            listing.remove(&(unit, key.clone()));
        }
        let objects = self.units.get(&unit).map(|unit| unit.state.objects());
        let record = objects.and_then(|objects| objects.get(&key)?.record.as_deref());
        if let Some(observed) = seen.observed
            && self.watches.believes(stream, record)
        {
            // What was seen before is older.
            self.context.sightings.take(unit, &key);
            self.observe(unit, key.clone(), observed);
            if let Some(sighting) = seen.sighting
                && self.is_checked_soon(unit, &key)
            {
                self.context.sightings.keep(unit, key, sighting);
            }
        }
    }

    /// The cluster's store was put back to an earlier state, with lower versions. Each kind finds it out for itself.
    async fn went_back(&mut self, scope: &Scope) {
        let Scope {
            group,
            kind,
            namespace,
        } = scope;
        let now = Instant::now();
        let logged = &mut self.watches.went_back;
        if logged.is_none_or(|at| now.duration_since(at) >= UNANSWERED) {
            *logged = Some(now);
            tracing::info!(
                group,
                kind,
                namespace,
                "watch: the API server's store was put back to an earlier state; all objects are looked at anew (others \
                 that find it in this minute are not logged)"
            );
        }
        self.forget_versions(scope).await;
    }

    /// Lets what comes next of a scope's objects be later than what is known, whatever its version.
    pub(super) async fn forget_versions(&mut self, scope: &Scope) {
        let mut pace = Pace::default();
        for (unit, key) in self.rows(scope) {
            self.context.sightings.take(unit, &key);
            self.feed(unit, Event::WentBack { key });
            pace.handled(1).await;
        }
    }

    /// The objects of a scope that units have.
    pub(super) fn rows(&self, scope: &Scope) -> Vec<(UnitId, Arc<ObjectKey>)> {
        let first = ObjectKey::new(&scope.group, &scope.kind, &scope.namespace, "");
        let rows = self.units.iter().flat_map(|(id, unit)| {
            let objects = unit.state.objects().range::<ObjectKey, _>(&first..);
            objects
                .map(|(key, _)| (*id, key.clone()))
                .take_while(|(_, key)| scope.covers(&key.group, &key.kind, &key.namespace))
        });
        rows.collect()
    }

    fn is_checked_soon(&self, unit: UnitId, key: &ObjectKey) -> bool {
        self.units
            .get(&unit)
            .is_some_and(|unit| unit.state.is_active() && is_to_check(unit, key))
    }

    fn observe(&mut self, unit: UnitId, key: Arc<ObjectKey>, observed: Observed) {
        self.feed(unit, Event::Observed { key, observed });
    }

    /// The objects of a scope that the inventories have, and that were written.
    pub(in crate::reconcile) fn written(
        &self,
        scope: &Scope,
    ) -> impl Iterator<Item = (UnitId, &Arc<ObjectKey>, &Arc<Record>)> {
        let first = ObjectKey::new(&scope.group, &scope.kind, &scope.namespace, "");
        self.units.iter().flat_map(move |(id, unit)| {
            unit.state
                .objects()
                .range::<ObjectKey, _>(&first..)
                .take_while(move |(key, _)| scope.covers(&key.group, &key.kind, &key.namespace))
                .filter_map(move |(key, object)| {
                    let record = object.record.as_ref();
                    let written = record.filter(|record| record.state != RecordState::Intent)?;
                    Some((*id, key, written))
                })
        })
    }

    /// The unit that has an object. Its mark alone proves nothing: operators copy labels.
    fn owner(&self, seen: &Seen) -> Option<(UnitId, Arc<ObjectKey>)> {
        let key = seen.key.as_ref()?;
        let holds = |id: &UnitId| {
            let (shared, _) = self.units.get(id)?.state.objects().get_key_value(key)?;
            Some((*id, shared.clone()))
        };
        seen.mark
            .as_ref()
            .and_then(holds)
            .or_else(|| self.holders.of(key).find_map(|id| holds(&id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_that_cannot_be_read_is_passed_over() {
        assert_eq!(unless_it_panics(|| gone(None)), Some(gone(None)));
        assert_eq!(unless_it_panics(|| unreachable!("odd")), None);
    }
}
