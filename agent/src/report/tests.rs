use flotilla_proto::{
    agent::v1::ObjectState,
    limits::{REPORT_BYTES, REPORT_ROWS},
};
use uuid::Uuid;

use flotilla_proto::agent::v1::FullPart;

use super::*;

fn unit() -> UnitId {
    UnitId(Uuid::from_u128(1))
}

fn status(message: &str, at: i64) -> UnitStatus {
    UnitStatus {
        unit_id: unit().to_vec().into(),
        message: message.to_owned(),
        observed_at_ms: at,
        ..UnitStatus::default()
    }
}

fn object(state: ObjectState) -> ObjectStatus {
    ObjectStatus {
        unit_id: unit().to_vec().into(),
        state: state as i32,
        ..ObjectStatus::default()
    }
}

fn key() -> ObjectKey {
    named("x")
}

fn named(name: &str) -> ObjectKey {
    ObjectKey::new("", "ConfigMap", "a", name)
}

/// Takes reports as a hub does until there is none, each within the bounds.
fn take(reports: &Reports) -> Vec<Report> {
    let mut taken = Vec::new();
    while let Some(report) = reports.next(1) {
        assert!(
            report.encoded_len() <= REPORT_BYTES,
            "{} bytes",
            report.encoded_len()
        );
        assert!(report.units.len() + report.objects.len() <= REPORT_ROWS);
        assert!(report.events.len() <= REPORT_ROWS);
        reports.ack(report.seq);
        taken.push(report);
        assert!(taken.len() < 1000, "reports without end");
    }
    taken
}

#[test]
fn an_unchanged_row_is_not_sent_twice() {
    let reports = Reports::default();
    reports.unit(unit(), status("a", 1));
    let report = reports.next(1).expect("a report");
    reports.ack(report.seq);
    reports.unit(unit(), status("a", 2));
    assert_eq!(reports.next(1), None);
    reports.unit(unit(), status("b", 3));
    assert_eq!(reports.next(1).expect("a report").units.len(), 1);
    assert_eq!(
        reports.counts(),
        Counts {
            reports: 2,
            rows: 2,
            events: 0
        }
    );
}

#[test]
fn an_unacknowledged_row_is_sent_again_after_a_reconnect() {
    let reports = Reports::default();
    reports.unit(unit(), status("a", 1));
    let lost = reports.next(1).expect("a report");
    assert_eq!(reports.next(1), None, "one report at a time");
    reports.begin(HubRows::Acknowledged, None);
    let again = reports.next(2).expect("a report");
    assert_eq!(again.units, lost.units);
    assert!(again.seq > lost.seq && again.epoch == 2);
    // The late acknowledgement of the lost one proves nothing about this one.
    reports.ack(lost.seq);
    assert_eq!(reports.acked_root(), None);
    reports.ack(again.seq);
    assert!(reports.acked_root().is_some());
}

#[test]
fn a_row_that_changes_in_flight_is_sent_again() {
    let reports = Reports::default();
    reports.unit(unit(), status("a", 1));
    let first = reports.next(1).expect("a report");
    reports.unit(unit(), status("b", 2));
    reports.ack(first.seq);
    assert_eq!(reports.next(1).expect("a report").units[0].message, "b");
}

#[test]
fn events_are_kept_until_acknowledged_and_bounded_and_what_was_dropped_is_told() {
    let reports = Reports::default();
    for n in 0..EVENTS_MAX + 5 {
        reports.event(Event {
            message: n.to_string(),
            ..Event::default()
        });
    }
    let report = reports.next(1).expect("a report");
    assert_eq!(report.events.len(), EVENTS_MAX + 1);
    assert_eq!(report.events[0].reason, "EventsDropped");
    assert!(report.events[0].message.starts_with("5 events were dropped"));
    assert_eq!(report.events[1].message, "5");
    reports.event(Event::default());
    reports.ack(report.seq);
    let last = reports.next(1).expect("a report");
    assert_eq!(last.events.len(), 1, "told once: {:?}", last.events);
}

#[test]
fn events_are_bounded_in_bytes_too() {
    let reports = Reports::default();
    for _ in 0..EVENTS_MAX {
        reports.event(Event {
            message: "m".repeat(100_000),
            ..Event::default()
        });
    }
    let taken = take(&reports);
    let events: usize = taken.iter().map(|report| report.events.len()).sum();
    assert!(
        taken.len() > 1 && events > 400,
        "{} reports, {events} events",
        taken.len()
    );
    let bytes: usize = taken.iter().map(Report::encoded_len).sum();
    assert!(bytes < EVENTS_BYTES + 100_000, "{bytes}");
}

#[test]
fn many_long_failures_go_in_several_reports_within_the_bound() {
    let reports = Reports::default();
    for n in 0..1000 {
        let unit = UnitId(Uuid::from_u128(n));
        reports.unit(unit, status(&format!("{n} {}", "long ".repeat(5000)), 1));
        reports.object(unit, key(), object(ObjectState::Failed));
    }
    let taken = take(&reports);
    assert!(taken.len() > 3, "{}", taken.len());
    assert_eq!(taken.iter().map(|report| report.units.len()).sum::<usize>(), 1000);
    assert_eq!(
        taken.iter().map(|report| report.objects.len()).sum::<usize>(),
        1000
    );
    assert!(taken.iter().all(|report| report.full.is_none()));
}

#[test]
fn a_full_report_is_all_rows_in_parts_without_a_gap() {
    let reports = Reports::default();
    reports.unit(unit(), status("a", 1));
    for n in 0..2 * REPORT_ROWS {
        reports.object(unit(), named(&format!("{n:05}")), object(ObjectState::Applied));
    }
    let changed = take(&reports);
    let root = reports.acked_root();
    reports.begin(HubRows::Unknown, None);
    assert_eq!(reports.acked_root(), None, "until it has ended");
    let first = reports.next(1).expect("a part");
    let part = first.full.clone().expect("a part");
    assert!(part.begin && !part.end && part.after.is_none() && first.observed_root.is_empty());
    reports.ack(first.seq);
    // What changes before the place it has come to goes along, and the part stays what it is.
    reports.unit(unit(), status("b", 1));
    let mut last = part;
    let mut named = first.units.len() + first.objects.len();
    while let Some(report) = reports.next(1) {
        let part = report.full.clone().expect("a part");
        assert!(!part.begin);
        assert_eq!(part.after, last.until, "no gap");
        named += report.units.len() + report.objects.len();
        reports.ack(report.seq);
        last = part;
    }
    assert!(last.end && last.until.is_none());
    assert_eq!(named, 2 * REPORT_ROWS + 2, "each once, and the changed one again");
    reports.unit(unit(), status("a", 1));
    assert_eq!(take(&reports).len(), 1);
    assert_eq!(
        reports.acked_root(),
        root,
        "as after {} reports of changes",
        changed.len()
    );
}

#[test]
fn a_full_report_that_broke_off_begins_anew() {
    let reports = Reports::default();
    for n in 0..2 * REPORT_ROWS {
        reports.object(unit(), named(&format!("{n:05}")), object(ObjectState::Applied));
    }
    reports.begin(HubRows::Unknown, None);
    let first = reports.next(1).expect("a part");
    reports.ack(first.seq);
    assert!(reports.next(1).is_some());
    reports.begin(HubRows::Unknown, None);
    let again = reports.next(2).expect("a part");
    assert_eq!(again.full, first.full);
    assert_eq!(again.objects, first.objects);
}

#[test]
fn a_gone_object_is_forgotten_once_told_and_an_empty_full_report_is_one_part() {
    let reports = Reports::default();
    reports.unit(unit(), status("a", 1));
    reports.object(unit(), key(), object(ObjectState::Applied));
    take(&reports);
    reports.object(unit(), key(), object(ObjectState::Gone));
    let gone = reports.next(1).expect("a report");
    assert_eq!((gone.units.len(), gone.objects.len()), (0, 1));
    reports.ack(gone.seq);
    reports.begin(HubRows::Unknown, None);
    let all = reports.next(2).expect("a report");
    assert_eq!((all.units.len(), all.objects.len()), (1, 0));
    assert_eq!(all.observed_root, gone.observed_root);
    let whole = FullPart {
        begin: true,
        end: true,
        ..FullPart::default()
    };
    assert_eq!(all.full, Some(whole.clone()));
    reports.ack(all.seq);
    reports.forget(unit());
    reports.begin(HubRows::Unknown, None);
    let none = reports.next(3).expect("a report");
    assert_eq!((none.units.len(), none.full), (0, Some(whole)));
}

#[test]
fn a_condition_is_told_when_it_turns_and_keeps_its_time() {
    let reports = Reports::default();
    let kind = ClusterConditionKind::ApiServer;
    reports.condition(kind, true, String::new(), Timestamp(1));
    assert_eq!(reports.next(1), None, "well from the start needs no word");
    reports.condition(kind, false, "silent".to_owned(), Timestamp(5));
    reports.condition(kind, false, "silent".to_owned(), Timestamp(6));
    let told = take(&reports);
    assert_eq!(told.len(), 1);
    let silent = ClusterCondition {
        kind: kind as i32,
        ok: false,
        message: "silent".to_owned(),
        since_ms: 5,
    };
    assert_eq!(told[0].conditions, std::slice::from_ref(&silent));
    reports.condition(kind, false, "still silent".to_owned(), Timestamp(7));
    assert_eq!(take(&reports)[0].conditions[0].since_ms, 5);
    reports.condition(kind, true, String::new(), Timestamp(8));
    let told = take(&reports);
    assert!(told[0].conditions[0].ok && told[0].conditions[0].since_ms == 8);
    reports.begin(HubRows::Unknown, None);
    assert_eq!(take(&reports)[0].conditions.len(), 1, "again in a full report");
}

#[test]
fn a_full_report_that_begins_late_names_conditions_that_were_told_before_it() {
    let reports = Reports::default();
    reports.condition(
        ClusterConditionKind::Watches,
        false,
        "too many".to_owned(),
        Timestamp(1),
    );
    reports.hold(Hold::Rows);
    reports.begin(HubRows::Unknown, None);
    assert_eq!(
        take(&reports).len(),
        1,
        "the condition is told while rows are held"
    );
    reports.hold(Hold::Nothing);
    let begun = take(&reports);
    assert!(begun[0].full.as_ref().is_some_and(|part| part.begin));
    assert_eq!(begun[0].conditions.len(), 1, "what it does not name is forgotten");
    assert!(begun[1..].iter().all(|report| report.conditions.is_empty()));
}

/// After a start some rows are known long before the others.
#[test]
fn rows_that_went_before_a_late_full_report_are_named_by_it_again() {
    for is_in_flight in [false, true] {
        let reports = Reports::default();
        reports.hold(Hold::Rows);
        reports.begin(HubRows::Unknown, None);
        reports.object(unit(), named("seen"), object(ObjectState::Applied));
        assert_eq!(reports.next(1), None);
        reports.hold(Hold::Full);
        let first = reports.next(1).expect("what is known goes");
        assert_eq!((first.objects.len(), &first.full), (1, &None));
        if !is_in_flight {
            reports.ack(first.seq);
            assert_eq!(reports.next(1), None, "the full report waits");
        }
        reports.object(unit(), named("late"), object(ObjectState::Applied));
        reports.hold(Hold::Nothing);
        reports.ack(first.seq);
        let full = take(&reports);
        let names: Vec<&str> = full
            .iter()
            .flat_map(|report| &report.objects)
            .filter_map(|row| row.key.as_ref().map(|key| key.name.as_str()))
            .collect();
        assert_eq!(names, ["late", "seen"], "in flight: {is_in_flight}");
        let parts: Vec<(bool, bool)> = full
            .iter()
            .filter_map(|report| report.full.as_ref().map(|part| (part.begin, part.end)))
            .collect();
        assert_eq!(parts, [(true, true)]);
        reports.object(unit(), named("seen"), object(ObjectState::Failed));
        assert_eq!(take(&reports).len(), 1, "then changes go alone");
    }
}

#[test]
fn what_a_hub_may_have_left_out_is_told_again_also_what_is_on_its_way() {
    let reports = Reports::default();
    reports.object(unit(), named("a"), object(ObjectState::Applied));
    let root = take(&reports).pop().expect("told").observed_root;
    reports.again(unit());
    let again = reports.next(1).expect("told again");
    assert_eq!(again.objects.len(), 1);
    // It is said once more while that is under way.
    reports.again(unit());
    reports.ack(again.seq);
    let once_more = take(&reports);
    let rows: usize = once_more.iter().map(|report| report.objects.len()).sum();
    assert_eq!(rows, 1);
    assert_eq!(once_more.last().map(|report| &report.observed_root), Some(&root));
    reports.again(UnitId(Uuid::from_u128(99)));
    assert_eq!(reports.next(1), None, "of a unit without rows nothing is told");
}
