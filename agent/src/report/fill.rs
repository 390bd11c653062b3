//! Fills a report up to the wire's bound, and says what of it may wait.

use std::collections::btree_set;

use flotilla_core::digest::Digest;
use flotilla_proto::{
    agent::v1::{Event, FullPart, Readiness, Report, UnitStatus},
    limits::{REPORT_BYTES, REPORT_ROWS},
};
use prost::Message as _;

use super::{
    Full, Hold, InFlight, Inner, known,
    row::{Row, RowKey, Sent},
    rows::Entry,
};

/// Room for a report's own fields: numbers, root, the marks of a full report and what conditions say.
const OWN_BYTES: usize = 64 << 10;
/// Bytes of events in one report, so that old events keep no state from arriving.
const EVENTS_BYTES: usize = 256 << 10;
/// Tag and length of one repeated message.
const FRAME: usize = 8;

/// Tells whether the next report would say nothing but that units are on their way.
pub(super) fn is_passing(inner: &Inner) -> bool {
    let may_wait = inner.in_flight.is_none() && inner.hold == Hold::Nothing && inner.full == Full::No;
    let is_news = is_news(inner);
    // Rows of objects stand last: where there are some, units are not looked through.
    let is_of_units = matches!(inner.pending.last(), Some(RowKey::Unit(_)));
    may_wait && !is_news && is_of_units && {
        let mut rows = pending(inner.pending.iter(), inner);
        rows.all(|(_, entry)| matches!(&entry.row, Row::Unit(status) if is_on_its_way(status)))
    }
}

/// Tells whether there is something to tell, and more of it may come: it is no part of a full report, and far from one by
/// itself.
pub(super) fn may_gather(inner: &Inner) -> bool {
    inner.in_flight.is_none()
        && inner.hold == Hold::Nothing
        && inner.full == Full::No
        && inner.pending.len() < REPORT_ROWS / 4
        && (is_news(inner) || !inner.pending.is_empty())
}

/// Tells whether something is to be told that is no row.
fn is_news(inner: &Inner) -> bool {
    inner.events_dropped > 0
        || !inner.events.is_empty()
        || inner.conditions.values().any(|held| held.acked < held.change)
}

/// Tells whether the status is one that another follows by itself. Of a unit that is suspended or let go nothing is known
/// either, and that stays.
fn is_on_its_way(status: &UnitStatus) -> bool {
    status.ready() == Readiness::Unknown && status.reason == "Progressing"
}

/// Makes the next report, unless one is in flight or there is nothing to say.
pub(super) fn next(inner: &mut Inner, epoch: u64) -> Option<Report> {
    if inner.in_flight.is_some() {
        return None;
    }
    known::compare(inner);
    let mut report = Report {
        epoch,
        ..Report::default()
    };
    let conditions = conditions(inner, &mut report);
    let (last_event, events_bytes) = events(inner, &mut report);
    let filled = rows(inner, &mut report, REPORT_BYTES - OWN_BYTES - events_bytes);
    let full = match inner.hold {
        Hold::Nothing => full_part(inner, &filled, &mut report),
        Hold::Rows | Hold::Full => inner.full.clone(),
    };
    let nothing = filled.rows.is_empty() && report.events.is_empty() && conditions.is_empty();
    if nothing && report.full.is_none() {
        return None;
    }
    inner.seq += 1;
    report.seq = inner.seq;
    // While a full report has not ended, nobody knows what else the hub has.
    let root = match full {
        Full::No => Some(root_with(inner, &filled)),
        // Its rows are still as they were.
        _ if filled.rows.is_empty() => inner.expected,
        _ => {
            inner.expected = None;
            None
        }
    };
    if let Some(root) = &root {
        report.observed_root = bytes::Bytes::copy_from_slice(root.as_bytes());
    }
    inner.counts.reports += 1;
    inner.counts.rows += (filled.rows.len() + conditions.len()) as u64;
    inner.counts.events += report.events.len() as u64;
    inner.in_flight = Some(InFlight {
        seq: inner.seq,
        rows: filled.rows,
        conditions,
        last_event,
        dropped: inner.events_dropped,
        evicted: 0,
        before_full: inner.hold == Hold::Full && inner.full != Full::No,
        full,
        root,
    });
    Some(report)
}

/// Root of the rows that the hub has once it has these.
fn root_with(inner: &Inner, filled: &Filled) -> Digest {
    let mut sum = inner.acked;
    for (key, _, digest) in &filled.rows {
        let acked = inner.rows.get(key).and_then(|entry| entry.acked(key));
        sum.replace(acked, *digest);
    }
    sum.root()
}

fn conditions(inner: &Inner, report: &mut Report) -> Vec<(i32, u64)> {
    // What the first part of a full report does not name is forgotten by the hub, also when it was told a moment before.
    let begins = inner.hold == Hold::Nothing && matches!(inner.full, Full::After(None) | Full::Conditions);
    let changed = inner
        .conditions
        .iter()
        .filter(|(_, held)| begins || held.acked < held.change);
    changed
        .map(|(kind, held)| {
            report.conditions.push(held.state.clone());
            (*kind, held.change)
        })
        .collect()
}

/// Adds the oldest events, the number of dropped ones before them. Returns the last event's change, and the bytes.
fn events(inner: &Inner, report: &mut Report) -> (u64, usize) {
    let (mut last, mut bytes) = (0, 0);
    if inner.events_dropped > 0 {
        report.events.push(dropped(inner));
        bytes += OWN_EVENT;
    }
    for (change, event) in inner.events.iter().take(REPORT_ROWS - 1) {
        bytes += event.encoded_len() + FRAME;
        if bytes > EVENTS_BYTES {
            break;
        }
        report.events.push(event.clone());
        last = *change;
    }
    (last, bytes.min(EVENTS_BYTES))
}

/// Bytes that the event about dropped ones may take.
const OWN_EVENT: usize = 512;

/// Says how many events nobody will read; an event of the cluster, of no unit.
fn dropped(inner: &Inner) -> Event {
    Event {
        warning: true,
        reason: "EventsDropped".to_owned(),
        message: format!(
            "{} events were dropped: more happened than is kept for the hub until it takes them",
            inner.events_dropped
        ),
        at_ms: inner.events.front().map_or(0, |(_, event)| event.at_ms),
        ..Event::default()
    }
}

struct Filled {
    /// Key, change, and the digest that the hub has then; none for an object that is gone.
    rows: Vec<(RowKey, u64, Option<Digest>)>,
    /// Nothing is left.
    all: bool,
}

fn rows(inner: &Inner, report: &mut Report, room: usize) -> Filled {
    let mut left = room;
    let mut filled = Filled {
        rows: Vec::new(),
        all: inner.hold == Hold::Nothing,
    };
    if inner.hold == Hold::Rows {
        return filled;
    }
    for (key, entry) in pending(inner.pending.iter(), inner) {
        let sent = entry.row.to_sent(key);
        let size = sent.encoded_len() + FRAME;
        if filled.rows.len() == REPORT_ROWS || size > left {
            filled.all = false;
            break;
        }
        left -= size;
        match sent {
            Sent::Unit(status) => report.units.push(status),
            Sent::Object(status) => report.objects.push(status),
        }
        let is_gone = matches!(entry.row, Row::Gone(_));
        let digest = (!is_gone).then(|| entry.row.digest(key));
        filled.rows.push((key.clone(), entry.change, digest));
    }
    filled
}

fn pending<'a>(
    keys: btree_set::Iter<'a, RowKey>,
    inner: &'a Inner,
) -> impl Iterator<Item = (&'a RowKey, &'a Entry)> {
    keys.filter_map(|key| Some((key, inner.rows.get(key)?)))
}

/// Marks what part of a full report this is, if one is to be sent; returns where it is once this is acknowledged.
/// Rows that changed before the place it has come to go along; they are outside of the part and mean themselves only.
fn full_part(inner: &Inner, filled: &Filled, report: &mut Report) -> Full {
    let after = match &inner.full {
        Full::No => return Full::No,
        Full::Conditions => {
            report.full = Some(FullPart {
                begin: true,
                until: Some(known::before_all().to_wire()),
                ..FullPart::default()
            });
            return Full::No;
        }
        Full::After(after) => after,
    };
    let until = match filled.all {
        true => None,
        false => filled
            .rows
            .last()
            .map(|(key, ..)| key)
            .max(after.as_ref())
            .cloned(),
    };
    report.full = Some(FullPart {
        begin: after.is_none(),
        end: until.is_none(),
        after: after.as_ref().map(RowKey::to_wire),
        until: until.as_ref().map(RowKey::to_wire),
    });
    match until {
        None => Full::No,
        Some(until) => Full::After(Some(until)),
    }
}
