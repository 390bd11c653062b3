//! What is kept for the rows that units write, and what the last bytes of a ledger cost.

use flotilla_core::{content::Table, id::Uid};

use super::*;

fn little() -> Memory {
    Memory::default().with_limits(key_value::Limits {
        segment: 64 << 10,
        total: 1 << 20,
    })
}

fn nth(n: u128) -> UnitId {
    UnitId(Uuid::from_u128(n))
}

/// Offers units of many small objects until one is refused. Returns those that were taken.
async fn fill(ledger: &Ledger) -> Vec<UnitId> {
    let mut taken = Vec::new();
    for n in 1..200_u32 {
        let records = accepted(nth(n.into()), n.into(), content(n, 100, 24));
        match ledger.append(records).await {
            Ok(()) => taken.push(nth(n.into())),
            Err(LedgerError::Full { size, limit, more }) => {
                assert!(size > limit && more > 0 && limit == ledger.limit());
                return taken;
            }
            Err(e) => panic!("{e}"),
        }
    }
    panic!("it never is full")
}

fn tables(ledger: &Ledger, unit: UnitId) -> Arc<Table> {
    ledger.read(|state| {
        let offered = state.units[&unit].offered.as_ref().expect("offered");
        let content = offered.entry.as_ref().and_then(|entry| entry.content);
        state
            .table(&content.expect("a content"))
            .expect("it is here")
            .clone()
    })
}

/// A row as it is once an object was written.
fn written(n: u128) -> ObjectRecord {
    let mut record = record("applied");
    record.uid = serde_json::from_value::<Uid>(json!(Uuid::from_u128(n).to_string())).ok();
    record.sent = Some(Digest::of("sent", &n.to_be_bytes()));
    record.projection = Some(Digest::of("projection", &n.to_be_bytes()));
    record
}

fn rows(ledger: &Ledger, unit: UnitId, record: impl Fn(u128) -> ObjectRecord) -> Vec<Record> {
    let table = tables(ledger, unit);
    let rows = table.rows().map(|row| Record::Item {
        unit,
        key: table.key(row).into(),
        record: record(u128::from(row)).into(),
    });
    rows.collect()
}

#[tokio::test]
async fn contents_leave_room_for_the_rows_of_all_their_objects() {
    let cells = little();
    let ledger = open(&cells).await;
    let taken = fill(&ledger).await;
    assert!(taken.len() > 5, "{} units", taken.len());
    for (step, &unit) in taken.iter().enumerate() {
        let intents = rows(&ledger, unit, |_| record("intent"));
        ledger.append(intents).await.expect("intents have room");
        ledger
            .append(rows(&ledger, unit, |n| {
                written(n + 1_000 * u128::try_from(step).expect("few"))
            }))
            .await
            .expect("rows have room");
        let kept = Record::Unit {
            unit,
            state: vec![b'x'; 200],
        };
        ledger
            .append(vec![kept])
            .await
            .expect("and what the unit remembers");
    }
    assert!(ledger.health().bytes < 1 << 20);
    let again = open(&cells).await;
    assert_eq!(again.read(State::need), ledger.read(State::need));
}

#[tokio::test]
async fn few_bytes_are_no_rewrite_each_in_a_ledger_that_is_full() {
    let cells = little();
    let ledger = open(&cells).await;
    for unit in fill(&ledger).await {
        ledger
            .append(rows(&ledger, unit, written))
            .await
            .expect("rows have room");
    }
    let (before, bytes) = (ledger.encodings(), cells.written());
    for n in 0..400 {
        let one = Record::Item {
            unit: nth(1),
            key: ObjectKey::new("", "ConfigMap", "a", "x-1").into(),
            record: written(n).into(),
        };
        ledger.append(vec![one]).await.expect("an outcome fits");
    }
    let (rewrites, bytes) = (ledger.encodings() - before, cells.written() - bytes);
    assert!(rewrites <= 2, "{rewrites} times all was written");
    assert!(bytes < 32 << 20, "{bytes} bytes");
}

/// Rows may become larger than was counted on.
#[tokio::test]
async fn a_ledger_that_is_over_its_limit_takes_an_entry_that_names_no_other_contents() {
    let ledger = open(&little()).await;
    let taken = fill(&ledger).await;
    for &unit in &taken {
        let rows = rows(&ledger, unit, written);
        ledger.append(rows).await.expect("rows have room");
    }
    let mut units = taken.iter().cycle();
    let mut size = 2_000;
    while ledger.read(State::need) <= ledger.limit() {
        size += 200;
        let kept = Record::Unit {
            unit: *units.next().expect("some were taken"),
            state: vec![b'x'; size],
        };
        ledger
            .append(vec![kept])
            .await
            .expect("what a unit remembers fits");
    }
    let offered = |content: Digest| {
        let entry = String::from_utf8(entry(taken[0], content)).expect("JSON");
        let entry = entry.replace("active", "suspended").into_bytes();
        vec![Record::Offered {
            unit: taken[0],
            entry: entry.into(),
            at: Timestamp(2),
        }]
    };
    let content = ledger.read(|state| {
        let offered = state.units[&taken[0]].offered.as_ref().expect("offered");
        offered.entry.as_ref().and_then(|entry| entry.content)
    });
    let (same, other) = (
        offered(content.expect("a content")),
        offered(Digest::of("content", b"x")),
    );
    let fits = ledger.fitting(&[same.clone(), other]).await;
    assert!(fits[0].is_ok(), "{fits:?}");
    let before = ledger.read(State::need);
    ledger.append(same).await.expect("it is suspended");
    assert!(ledger.read(State::need) > before);
    let (_, more) = super::content(999, 1, 10);
    assert!(matches!(ledger.append(more).await, Err(LedgerError::Full { .. })));
}

#[tokio::test]
async fn a_set_without_room_leaves_it_to_the_next() {
    let cells = little();
    let ledger = open(&cells).await;
    fill(&ledger).await;
    let writes = (ledger.encodings(), cells.writes());
    let room = ledger.read(|state| ledger.limit() - state.need());
    let offered = |n: u128, seed: u32, len: usize| {
        let mut records = accepted(nth(n), 1, content(seed, 1, len));
        records.pop();
        records
    };
    let sets = [
        offered(900, 900, room + 1),
        // Less than what it takes the place of, and so there is room for another.
        offered(1, 901, 10),
        offered(901, 902, room + 1),
        offered(902, 903, 1 << 20),
    ];
    let fits: Vec<bool> = ledger.fitting(&sets).await.iter().map(Result::is_ok).collect();
    assert_eq!(fits, [false, true, true, false], "{room} bytes are free");
    assert_eq!(
        (ledger.encodings(), cells.writes()),
        writes,
        "nothing was made or written"
    );
}
