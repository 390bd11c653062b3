//! What the hub has of the rows when a stream begins. It names the root that the last report it has committed came
//! with; that covers all its rows, so whether they are ours is decided here, and only where they are not are all of
//! them told.

#[cfg(test)]
mod tests;

use flotilla_core::digest::Digest;
use flotilla_proto::agent::v1::ClusterCondition;

use super::{
    Condition, Full, Hold, InFlight, Inner,
    row::{Row, RowKey, Sum},
};

/// What the hub says that it has of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubRows {
    /// Those that it has acknowledged.
    Acknowledged,
    /// Those that have this root.
    Root(Digest),
    /// Nobody knows which.
    Unknown,
}

/// Begins a stream. What was in flight on the last one is sent again, unless the hub has committed it. Conditions are told
/// anew where those that the hub has as `wrong` are others than it has acknowledged.
pub(super) fn begin(inner: &mut Inner, hub: HubRows, wrong: Option<&[ClusterCondition]>) {
    let has = |root: Option<Digest>| root.is_some_and(|root| hub == HubRows::Root(root));
    let committed = |flight: &InFlight| has(flight.root) && !has(inner.acked_root);
    match inner.in_flight.take_if(|flight| committed(flight)) {
        Some(flight) => acknowledge(inner, flight),
        None => {
            let lost = inner.in_flight.take();
            inner.events_dropped += lost.map_or(0, |lost| lost.evicted);
        }
    }
    match hub {
        HubRows::Acknowledged => {}
        HubRows::Root(root) if inner.acked_root == Some(root) => {}
        HubRows::Root(root) => report_everything(inner, Some(root)),
        HubRows::Unknown => report_everything(inner, None),
    }
    if inner.full == Full::No && wrong.is_some_and(|wrong| !has_conditions(inner, wrong)) {
        inner.full = Full::Conditions;
    }
}

/// Tells whether the hub has the conditions as it has acknowledged them. What it has not is told in any case.
fn has_conditions(inner: &Inner, wrong: &[ClusterCondition]) -> bool {
    let of = |kind: i32| inner.conditions.get(&kind);
    let is_ours = |theirs: &ClusterCondition| match of(theirs.kind) {
        None => false,
        Some(own) if own.acked < own.change => true,
        Some(own) => !own.state.ok && own.state.message == theirs.message,
    };
    let has = |own: &Condition| wrong.iter().any(|theirs| theirs.kind == own.state.kind);
    let mut acked = inner.conditions.values().filter(|own| own.acked == own.change);
    wrong.iter().all(is_ours) && acked.all(|own| own.state.ok || has(own))
}

fn report_everything(inner: &mut Inner, expected: Option<Digest>) {
    inner.full = Full::After(None);
    inner.expected = expected;
    inner.acked = Sum::default();
    inner.acked_root = None;
    for entry in inner.rows.values_mut() {
        entry.disown();
    }
    inner.pending = inner.rows.keys().collect();
    for condition in inner.conditions.values_mut() {
        condition.acked = 0;
    }
}

/// Before a full report begins, once all rows are known: where the hub's have the same root, they are the same.
pub(super) fn compare(inner: &mut Inner) {
    if inner.hold != Hold::Nothing || inner.full != Full::After(None) {
        return;
    }
    let Some(expected) = inner.expected.take() else {
        return;
    };
    let mut all = Sum::default();
    let mut gone = Vec::new();
    for key in inner.rows.keys() {
        match inner.rows.get(&key) {
            Some(entry) if matches!(entry.row, Row::Gone(_)) => gone.push(key),
            Some(entry) => all.replace(None, Some(entry.row.digest(&key))),
            None => {}
        }
    }
    if all.root() != expected {
        return;
    }
    for key in gone {
        inner.rows.remove(&key);
    }
    for entry in inner.rows.values_mut() {
        entry.adopt();
    }
    inner.pending.clear();
    inner.acked = all;
    inner.acked_root = Some(expected);
    inner.full = Full::Conditions;
}

/// The hub has committed a report.
pub(super) fn acknowledge(inner: &mut Inner, flight: InFlight) {
    for (key, change, digest) in flight.rows {
        let Some(entry) = inner.rows.get_mut(&key) else {
            continue;
        };
        inner.acked.replace(entry.acked(&key), digest);
        entry.acknowledge(change, digest);
        if entry.change == change && !(flight.before_full && inner.hold == Hold::Nothing) {
            inner.pending.remove(&key);
            if digest.is_none() {
                inner.rows.remove(&key);
            }
        }
    }
    for (kind, change) in flight.conditions {
        if let Some(condition) = inner.conditions.get_mut(&kind) {
            condition.acked = change;
        }
    }
    while inner
        .events
        .front()
        .is_some_and(|(change, _)| *change <= flight.last_event)
    {
        let Some((_, sent)) = inner.events.pop_front() else {
            break;
        };
        inner.events_bytes -= prost::Message::encoded_len(&sent);
    }
    inner.events_dropped -= flight.dropped;
    inner.full = flight.full;
    inner.acked_root = flight.root;
}

/// Up to this place there is no row: a part that ends here says the conditions alone.
pub(super) fn before_all() -> RowKey {
    RowKey::Unit(flotilla_core::id::UnitId(uuid::Uuid::nil()))
}
