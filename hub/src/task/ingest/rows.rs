//! From what an agent says to rows that the store takes, all bounded: one agent's nonsense stays its own, and is
//! named to it. Times of the agent's clock become times of the hub's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flotilla_core::{digest::Digest, object::ObjectKey};
use flotilla_proto::{
    agent::v1 as wire,
    limits::{MESSAGE_BYTES, NAME_BYTES, OBJECT_MESSAGE_BYTES, REPORT_BYTES, REPORT_ROWS, WORD_BYTES, cut},
};
use prost::Message as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::timestamp,
    store::report::{
        Attained, ClusterEventRow, ConditionRow, FullPart, HUBS_OWN, ObjectRow, Report, RowKey, StatusRow,
    },
};

/// A clock this near the hub's is right: what differs is the way here.
const CLOCK: time::Duration = time::Duration::SECOND;
/// Times further than this from now are taken for this far.
const FAR: time::Duration = time::Duration::days(3650);
/// Longest apply, in milliseconds.
const APPLY_MS: u64 = 1000 * 3600 * 24 * 365;

/// A report as the store takes it.
#[derive(Debug)]
pub struct Rows {
    /// What can be stored.
    pub report: Report,
    /// Why some of it cannot; empty when all can.
    pub left_out: String,
}

/// The clock of an agent, by what it says its time is.
#[derive(Debug, Clone, Copy)]
struct AgentClock {
    now: OffsetDateTime,
    ahead: time::Duration,
}

impl AgentClock {
    fn new(now: OffsetDateTime, sent_at_ms: i64) -> Self {
        let ahead = match sent_at_ms {
            0 => time::Duration::ZERO,
            ms => time::Duration::milliseconds(ms.saturating_sub(timestamp(now).0)),
        };
        let ahead = if ahead.abs() < CLOCK {
            time::Duration::ZERO
        } else {
            ahead
        };
        Self { now, ahead }
    }

    /// A time of the agent by the hub's clock, within what a database can hold.
    fn at(&self, ms: i64) -> OffsetDateTime {
        let ago =
            time::Duration::milliseconds(ms.saturating_sub(timestamp(self.now).0)).saturating_sub(self.ahead);
        self.now + ago.clamp(-FAR, time::Duration::DAY)
    }
}

/// Counts what is left out, by reason.
#[derive(Default)]
struct LeftOut(BTreeMap<&'static str, usize>);

impl LeftOut {
    fn keep<T>(&mut self, row: Result<T, &'static str>) -> Option<T> {
        row.map_err(|why| *self.0.entry(why).or_default() += 1).ok()
    }

    fn text(&self) -> String {
        let each = self.0.iter().map(|(why, count)| format!("{count} × {why}"));
        each.collect::<Vec<_>>().join("; ")
    }
}

/// Reads a report that came at `now`. A row that is named twice counts once.
pub fn rows(cluster: Uuid, epoch: u64, report: wire::Report, now: OffsetDateTime) -> Rows {
    let encoded_len = report.encoded_len();
    let clock = AgentClock::new(now, report.sent_at_ms);
    let mut left_out = LeftOut::default();
    let full = report.full.map(full_part).transpose();
    let rows = report.units.len() + report.objects.len();
    let too_large = encoded_len > REPORT_BYTES;
    let too_many = too_large || rows > REPORT_ROWS || report.events.len() > REPORT_ROWS + 1;
    let whole = match (full, too_many) {
        (Ok(full), false) => Some(full),
        (_, true) => left_out.keep(Err("report with more rows or bytes than a report may have")),
        (Err(why), false) => left_out.keep(Err(why)),
    };
    let Some(full) = whole else {
        return Rows {
            report: Report::left_out(cluster, epoch),
            left_out: left_out.text(),
        };
    };
    let units: HashMap<Uuid, StatusRow> = report
        .units
        .into_iter()
        .filter_map(|status| left_out.keep(status_row(status, &clock)))
        .map(|row| (row.unit, row))
        .collect();
    let objects: BTreeMap<RowKey, ObjectRow> = report
        .objects
        .into_iter()
        .filter_map(|status| left_out.keep(object_row(status)))
        .collect();
    let events = report.events.into_iter();
    let events = events
        .filter_map(|event| left_out.keep(event_row(event, &clock)))
        .collect();
    let mut kinds = BTreeSet::new();
    let conditions = report.conditions.into_iter();
    let conditions = conditions
        .filter_map(|condition| left_out.keep(condition_row(condition, &clock)))
        .filter(|row| kinds.insert(row.kind))
        .collect();
    let observed_root = left_out.keep(root(&report.observed_root)).unwrap_or_default();
    let left_out = left_out.text();
    Rows {
        report: Report {
            cluster,
            epoch,
            full,
            units: units.into_values().collect(),
            objects: objects.into_values().collect(),
            events,
            conditions,
            observed_root,
            left_out: !left_out.is_empty(),
        },
        left_out,
    }
}

fn root(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    match bytes.len() {
        0 | 32 => Ok(bytes.to_vec()),
        _ => Err("root that is no digest"),
    }
}

fn full_part(part: wire::FullPart) -> Result<FullPart, &'static str> {
    if part.begin != part.after.is_none() || part.end != part.until.is_none() {
        return Err("part of a full report whose marks and places differ");
    }
    Ok(FullPart {
        after: part.after.map(row_key).transpose()?,
        until: part.until.map(row_key).transpose()?,
    })
}

fn row_key(key: wire::RowKey) -> Result<RowKey, &'static str> {
    let unit = unit_id(&key.unit_id)?;
    Ok(match key.object {
        None => RowKey::Unit(unit),
        Some(object) => RowKey::Object(unit, object_key(object)?),
    })
}

fn unit_id(bytes: &[u8]) -> Result<Uuid, &'static str> {
    Uuid::from_slice(bytes).map_err(|_| "row without a unit id")
}

fn object_key(key: wire::ObjectKey) -> Result<ObjectKey, &'static str> {
    let parts = [&key.group, &key.kind, &key.namespace, &key.name];
    if parts
        .iter()
        .any(|part| part.len() > NAME_BYTES || part.contains('\0'))
    {
        return Err("object whose name no API server takes");
    }
    Ok(ObjectKey::new(&key.group, &key.kind, &key.namespace, &key.name))
}

fn attained(attained: Option<wire::Attained>) -> Result<Option<Attained>, &'static str> {
    let read = |attained: wire::Attained| {
        Digest::try_from_slice(&attained.target).map(|target| Attained {
            version: attained.version,
            target,
        })
    };
    attained
        .map(read)
        .transpose()
        .map_err(|_| "target that is no digest")
}

fn status_row(status: wire::UnitStatus, clock: &AgentClock) -> Result<StatusRow, &'static str> {
    let ready = match status.ready() {
        wire::Readiness::True => "True",
        wire::Readiness::False => "False",
        wire::Readiness::Unknown | wire::Readiness::Unspecified => "Unknown",
    };
    Ok(StatusRow {
        unit: unit_id(&status.unit_id)?,
        version: status.held_version,
        attempted: attained(status.attempted)?,
        applied: attained(status.applied)?,
        healthy: attained(status.healthy)?,
        healthy_since: (status.healthy_since_ms != 0).then(|| clock.at(status.healthy_since_ms)),
        ready,
        reason: text(status.reason, WORD_BYTES),
        message: text(status.message, MESSAGE_BYTES),
        notes: text(status.notes, MESSAGE_BYTES),
        health: text(status.health, WORD_BYTES),
        objects: count(status.objects),
        objects_failed: count(status.objects_failed),
        objects_pending_removal: count(status.objects_pending_removal),
        apply_ms: i64::try_from(status.apply_ms.min(APPLY_MS)).unwrap_or(0),
        observed_at: clock.at(status.observed_at_ms),
    })
}

fn object_row(status: wire::ObjectStatus) -> Result<(RowKey, ObjectRow), &'static str> {
    let state = match status.state() {
        wire::ObjectState::Applied => Some("Applied"),
        wire::ObjectState::Failed => Some("Failed"),
        wire::ObjectState::PendingRemoval => Some("PendingRemoval"),
        wire::ObjectState::Conflict => Some("Conflict"),
        wire::ObjectState::Waiting | wire::ObjectState::Unspecified => Some("Waiting"),
        wire::ObjectState::Gone => None,
    };
    let unit = unit_id(&status.unit_id)?;
    let key = object_key(status.key.ok_or("object without a key")?)?;
    let row = ObjectRow {
        unit,
        group: key.group.clone(),
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        api_version: text(status.api_version, NAME_BYTES),
        uid: text(status.uid, WORD_BYTES),
        state,
        health: text(status.health, WORD_BYTES),
        message: text(status.message, OBJECT_MESSAGE_BYTES),
        adopted: status.adopted,
        sent: root(&status.sent).map_err(|_| "sent object that is no digest")?,
    };
    Ok((RowKey::Object(unit, key), row))
}

fn event_row(event: wire::Event, clock: &AgentClock) -> Result<ClusterEventRow, &'static str> {
    let object = event.key.map(|key| {
        let parts = [key.kind, key.namespace, key.name];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    });
    let unit = match event.unit_id.is_empty() {
        true => None,
        false => Some(unit_id(&event.unit_id)?),
    };
    Ok(ClusterEventRow {
        unit,
        object: text(object.unwrap_or_default(), 3 * NAME_BYTES),
        warning: event.warning,
        reason: text(event.reason, WORD_BYTES),
        message: text(event.message, OBJECT_MESSAGE_BYTES),
        at: clock.at(event.at_ms),
    })
}

/// Conditions by their names in the store.
const CONDITIONS: [(wire::ClusterConditionKind, &str); 7] = [
    (wire::ClusterConditionKind::ApiServer, "ApiServer"),
    (wire::ClusterConditionKind::Ledger, "Ledger"),
    (wire::ClusterConditionKind::Certificate, "Certificate"),
    (wire::ClusterConditionKind::Reports, "Reports"),
    (wire::ClusterConditionKind::Clock, "Clock"),
    (wire::ClusterConditionKind::Watches, "Watches"),
    (wire::ClusterConditionKind::Units, "Units"),
];

/// Returns the kind that a name in the store stands for.
pub(crate) fn condition_kind(name: &str) -> Option<wire::ClusterConditionKind> {
    let of_name = CONDITIONS.iter().find(|(_, known)| *known == name);
    of_name.map(|(kind, _)| *kind)
}

fn condition_row(
    condition: wire::ClusterCondition,
    clock: &AgentClock,
) -> Result<ConditionRow, &'static str> {
    let of_kind = CONDITIONS.iter().find(|(kind, _)| *kind == condition.kind());
    let (_, kind) = *of_kind.ok_or("condition that this hub does not know")?;
    if HUBS_OWN.contains(&kind) {
        return Err("condition that the hub judges itself");
    }
    Ok(ConditionRow {
        kind,
        ok: condition.ok,
        message: text(condition.message, MESSAGE_BYTES),
        since: clock.at(condition.since_ms),
    })
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Text of a peer as it may enter the store, logs and terminals: without control characters, and bounded.
pub(crate) fn text(mut text: String, max: usize) -> String {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if !text.chars().all(harmless) {
        text = text
            .chars()
            .map(|c| if harmless(c) { c } else { '\u{fffd}' })
            .collect();
    }
    cut(&mut text, max);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-06-01 12:00 UTC);

    fn read(report: wire::Report) -> Rows {
        rows(Uuid::from_u128(1), 1, report, NOW)
    }

    fn status() -> wire::UnitStatus {
        wire::UnitStatus {
            unit_id: Uuid::from_u128(2).as_bytes().to_vec().into(),
            observed_at_ms: timestamp(NOW).0,
            ..wire::UnitStatus::default()
        }
    }

    fn object(name: &str) -> wire::ObjectStatus {
        wire::ObjectStatus {
            unit_id: Uuid::from_u128(2).as_bytes().to_vec().into(),
            key: Some(wire::ObjectKey {
                name: name.to_owned(),
                ..wire::ObjectKey::default()
            }),
            ..wire::ObjectStatus::default()
        }
    }

    #[test]
    fn nonsense_is_left_out_and_named_and_the_rest_stays() {
        let report = wire::Report {
            units: vec![
                status(),
                wire::UnitStatus::default(),
                wire::UnitStatus {
                    applied: Some(wire::Attained::default()),
                    ..status()
                },
            ],
            objects: vec![object("x"), object(&"n".repeat(3000)), object("a\0b")],
            ..wire::Report::default()
        };
        let read = read(report);
        assert_eq!((read.report.units.len(), read.report.objects.len()), (1, 1));
        assert_eq!(
            read.left_out,
            "2 × object whose name no API server takes; 1 × row without a unit id; 1 × target that is no digest"
        );
    }

    #[test]
    fn more_rows_than_a_report_may_have_are_no_rows() {
        let report = wire::Report {
            objects: (0..=REPORT_ROWS).map(|n| object(&n.to_string())).collect(),
            ..wire::Report::default()
        };
        let read = read(report);
        assert!(read.report.objects.is_empty() && read.left_out.contains("more rows"));
        let report = wire::Report {
            events: vec![wire::Event {
                message: "m".repeat(REPORT_BYTES),
                ..wire::Event::default()
            }],
            ..wire::Report::default()
        };
        assert!(super::tests::read(report).left_out.contains("more rows or bytes"));
    }

    #[test]
    fn times_are_the_hubs_and_within_what_a_database_holds() {
        let days = |days: i64| timestamp(NOW).0 + days * 86_400_000;
        let report = |sent_at_ms, observed_at_ms| wire::Report {
            sent_at_ms,
            units: vec![wire::UnitStatus {
                observed_at_ms,
                apply_ms: u64::MAX,
                ..status()
            }],
            ..wire::Report::default()
        };
        let observed = |report| read(report).report.units[0].observed_at;
        assert_eq!(
            observed(report(days(2), days(2) - 1000)),
            NOW - time::Duration::SECOND
        );
        assert_eq!(observed(report(0, timestamp(NOW).0)), NOW);
        assert_eq!(observed(report(timestamp(NOW).0, i64::MIN)), NOW - FAR);
        assert_eq!(
            observed(report(timestamp(NOW).0, i64::MAX)),
            NOW + time::Duration::DAY
        );
        assert_eq!(observed(report(i64::MIN, i64::MAX)), NOW + time::Duration::DAY);
    }

    #[test]
    fn texts_of_a_peer_are_bounded_and_without_control_characters() {
        assert_eq!(text("a\u{1b}[2J\0b\n".to_owned(), 100), "a\u{fffd}[2J\u{fffd}b\n");
        assert_eq!(text("n".repeat(200), WORD_BYTES).len(), WORD_BYTES);
    }

    #[test]
    fn an_agent_does_not_judge_what_the_hub_judges() {
        let condition = |kind: wire::ClusterConditionKind| wire::ClusterCondition {
            kind: kind as i32,
            ..wire::ClusterCondition::default()
        };
        let report = wire::Report {
            conditions: vec![
                condition(wire::ClusterConditionKind::Ledger),
                condition(wire::ClusterConditionKind::Ledger),
                condition(wire::ClusterConditionKind::Clock),
            ],
            ..wire::Report::default()
        };
        let read = read(report);
        assert_eq!(read.report.conditions.len(), 1);
        assert_eq!(read.left_out, "1 × condition that the hub judges itself");
    }

    #[test]
    fn a_part_whose_marks_lie_counts_for_nothing() {
        let report = wire::Report {
            full: Some(wire::FullPart {
                begin: true,
                ..wire::FullPart::default()
            }),
            units: vec![status()],
            ..wire::Report::default()
        };
        let read = read(report);
        assert!(read.report.full.is_none() && read.report.units.is_empty() && !read.left_out.is_empty());
    }
}
