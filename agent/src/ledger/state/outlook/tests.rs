//! What is foreseen against what comes of it.

use flotilla_core::{clock::Timestamp, id::UnitId};
use uuid::Uuid;

use super::*;
use crate::ledger::tests::{accepted, content, entry, random::Choices};

/// What a unit is offered, whole or without some of what its content names, or what comes of that later.
fn records(choices: &mut Choices) -> Vec<Record> {
    let mut below = |n| u32::try_from(choices.below(n)).expect("few");
    let unit = UnitId(Uuid::from_u128(below(4).into()));
    let (seed, count) = (below(5), 1 + below(6));
    let (digest, blobs) = content(seed, count, 300);
    match below(8) {
        0 => vec![Record::Released { unit }],
        1 => vec![Record::Offered {
            unit,
            entry: b"unreadable".to_vec().into(),
            at: Timestamp(1),
        }],
        2 => {
            let mut records = accepted(unit, 1, (digest, blobs));
            records.remove(0);
            records
        }
        3 => vec![Record::Offered {
            unit,
            entry: entry(unit, digest).into(),
            at: Timestamp(1),
        }],
        _ => accepted(unit, 1, (digest, blobs)),
    }
}

fn parsed(state: &State, records: &[Record]) -> HashMap<Digest, Parsed> {
    let unparsed = state.unparsed(records).into_iter();
    unparsed
        .filter_map(|(digest, blob)| Some((digest, blob.parse()?)))
        .collect()
}

#[test]
fn what_is_foreseen_is_what_is_needed_once_it_is_taken_in() {
    for seed in 0..40 {
        let (mut state, mut choices) = (State::default(), Choices(seed));
        for step in 0..60 {
            let records = records(&mut choices);
            let parsed = parsed(&state, &records);
            let mut outlook = Outlook::new(&state, &parsed, true);
            assert_eq!(outlook.need, state.need(), "seed {seed}, step {step}");
            // What is taken back leaves nothing behind.
            let need = outlook.need;
            if outlook.take(&records, need).is_err() {
                assert_eq!(outlook.need, need, "seed {seed}, step {step}");
            } else {
                outlook = Outlook::new(&state, &parsed, true);
            }
            outlook.take(&records, usize::MAX).expect("there is room");
            let foreseen = outlook.need;
            for record in records {
                state.apply(record);
            }
            assert_eq!(foreseen, state.need(), "seed {seed}, step {step}");
        }
    }
}

/// The old objects stay in the inventory until they are removed.
#[test]
fn rows_of_objects_that_take_the_place_of_others_are_counted_beside_them() {
    let unit = UnitId(Uuid::from_u128(1));
    let mut state = State::default();
    let (before, mut blobs) = content(1, 50, 10);
    blobs.extend(accepted(unit, 1, (before, Vec::new())));
    for record in blobs {
        state.apply(record);
    }
    assert_eq!(
        state.owed(&state.units[&unit]) / ROW,
        50 + entry(unit, before).len() / ROW
    );
    let record = || serde_json::from_value(serde_json::json!({"api_version": "v1", "state": "applied"}));
    let names: Vec<_> = {
        let table = state.table(&before).expect("it is here");
        table.rows().map(|row| table.key(row)).collect()
    };
    for key in names {
        let record: flotilla_core::apply::inventory::Record = record().expect("a record");
        state.apply(Record::Item {
            unit,
            key: key.into(),
            record: record.into(),
        });
    }
    assert!(
        state.owed(&state.units[&unit]) < 2 * ROW + entry(unit, before).len(),
        "they are written"
    );
}
