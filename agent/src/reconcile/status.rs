//! Writes a unit's state, and the rows of its objects, as the hub gets them.

use std::{collections::BTreeSet, sync::Arc};

use flotilla_core::{
    apply::inventory::State as RecordState,
    object::ObjectKey,
    unit::{
        object::Object,
        problem::Problem,
        record::{Attained, Ready},
        state::State,
    },
};
use flotilla_proto::agent::v1::{self as wire, ObjectState, ObjectStatus, Readiness, UnitStatus};

use super::{
    context::Context,
    message::{truncate, wire_key},
    pace::Pace,
};

/// Longest message of a unit.
const UNIT_MESSAGE_MAX: usize = 4096;

/// Writes the rows that may have changed. `unseen`: what is said of objects that no watch shows, and whether that is
/// news. Returns of which objects.
pub(super) async fn report(
    context: &Context,
    state: &mut State,
    (unseen, is_news): (&str, bool),
    pace: &mut Pace,
) -> BTreeSet<Arc<ObjectKey>> {
    let (objects, unit) = state.take_dirty();
    for key in &objects {
        report_object(context, state, key);
        pace.handled(1).await;
    }
    if unit || is_news {
        report_unit(context, state, unseen);
    }
    objects
}

fn report_unit(context: &Context, state: &State, unseen: &str) {
    let (record, condition, counts) = (state.record(), state.condition(), state.counts());
    let (mut message, mut notes) = (condition.message, condition.notes);
    if condition.ready == Ready::True && !unseen.is_empty() {
        let between = if notes.is_empty() { "" } else { "; " };
        notes = format!("{notes}{between}{unseen}");
    }
    truncate(&mut message, UNIT_MESSAGE_MAX);
    truncate(&mut notes, UNIT_MESSAGE_MAX);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let attained = |attained: Option<Attained>| {
        attained.map(|attained| wire::Attained {
            version: attained.version,
            target: bytes::Bytes::copy_from_slice(attained.target.as_bytes()),
        })
    };
    let unit = state.entry().unit;
    context.reports.unit(
        unit,
        UnitStatus {
            unit_id: unit.to_vec().into(),
            held_version: state.entry().version,
            attempted: attained(record.attempted),
            applied: attained(record.applied),
            healthy: attained(record.healthy),
            healthy_since_ms: record.healthy_since.map_or(0, |since| since.0),
            ready: match condition.ready {
                Ready::True => Readiness::True,
                Ready::False => Readiness::False,
                Ready::Unknown => Readiness::Unknown,
            } as i32,
            reason: condition.reason,
            message,
            observed_at_ms: context.wall().0,
            objects: count(counts.objects),
            objects_failed: count(counts.failed),
            objects_pending_removal: count(counts.pending_removal),
            apply_ms: record.apply_ms,
            health: state.health().as_str().to_owned(),
            notes,
        },
    );
}

fn report_object(context: &Context, state: &State, key: &Arc<ObjectKey>) {
    let unit = state.entry().unit;
    let object = state.objects().get(key).map(AsRef::as_ref);
    let record = object.and_then(|object| object.record.as_ref());
    let problem = object.and_then(|object| object.problem());
    let word = match (record, problem) {
        (_, Some(Problem::Unpruned(_))) => ObjectState::PendingRemoval,
        (_, Some(Problem::Failed(_))) => ObjectState::Failed,
        (_, Some(Problem::Withheld { .. })) => ObjectState::Conflict,
        (_, Some(Problem::Waiting(_) | Problem::Unanswered(_) | Problem::Unserved(_))) => {
            ObjectState::Waiting
        }
        // It is there, and not this unit's to write.
        (None, None) if object.is_some_and(Object::is_left_alone) => ObjectState::Applied,
        (None, None) if object.is_some_and(|object| object.desired.is_some()) => ObjectState::Waiting,
        (None, None) => ObjectState::Gone,
        (Some(record), None) => match record.state {
            RecordState::Intent => ObjectState::Waiting,
            RecordState::Applied => ObjectState::Applied,
            RecordState::PendingRemoval => ObjectState::PendingRemoval,
        },
    };
    let said = object.map_or("", Object::said);
    let message = problem.map_or(said, Problem::message).to_owned();
    let health = object.map_or(flotilla_core::health::State::Unknown, |object| {
        object.health_state()
    });
    context.reports.object(
        unit,
        key.clone(),
        ObjectStatus {
            unit_id: unit.to_vec().into(),
            key: Some(wire_key(key)),
            api_version: record
                .map(|record| record.api_version.to_string())
                .unwrap_or_default(),
            state: word as i32,
            uid: record
                .and_then(|record| record.uid.as_ref())
                .map_or_else(String::new, ToString::to_string),
            health: health.as_str().to_owned(),
            message,
            adopted: record.is_some_and(|record| record.adopted),
            sent: record
                .and_then(|record| record.sent)
                .map(|sent| bytes::Bytes::copy_from_slice(sent.as_bytes()))
                .unwrap_or_default(),
        },
    );
}
