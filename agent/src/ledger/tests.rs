use flotilla_core::{
    apply::inventory::{Record as ObjectRecord, State as ObjectState},
    clock::Timestamp,
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
};
use uuid::Uuid;

use super::{
    memory::Memory,
    record::{Held, Record},
    state::{Blob, BlobKind},
    *,
};

async fn open(cells: &Memory) -> Ledger {
    Ledger::open(Arc::new(cells.clone()), "ledger")
        .await
        .expect("opens")
}

fn unit() -> UnitId {
    UnitId(Uuid::from_u128(1))
}

fn item(name: &str) -> Record {
    Record::Item {
        unit: unit(),
        key: ObjectKey::new("", "ConfigMap", "a", name),
        record: Box::new(ObjectRecord {
            api_version: "v1".into(),
            state: ObjectState::Intent,
            ..ObjectRecord::default()
        }),
    }
}

fn items(ledger: &Ledger) -> usize {
    ledger.read(|state| state.units.get(&unit()).map_or(0, |unit| unit.items.len()))
}

/// Bytes that do not compress.
fn noise(n: u32, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&n.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

fn blob(n: u32) -> Record {
    let bytes = noise(n, 10_000);
    Record::Blob(
        Digest::of("object/json", &bytes),
        Blob::new(BlobKind::Object, &bytes).expect("compresses"),
    )
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let held = Held {
        incarnation: 1,
        generation: 7,
        root: Some(Digest::of("root", b"")),
        epoch: 3,
    };
    let bytes = noise(1, 10_000);
    ledger
        .append(vec![Record::Held(held), item("x"), blob(1)])
        .await
        .expect("appends");
    ledger
        .append(vec![Record::Dropped {
            unit: unit(),
            key: ObjectKey::new("", "ConfigMap", "a", "x"),
        }])
        .await
        .expect("appends");
    let again = open(&cells).await;
    assert_eq!(again.read(|state| state.held), held);
    assert_eq!(
        again.read(|state| state.blob(&Digest::of("object/json", &bytes))),
        Some(bytes)
    );
    assert_eq!(items(&again), 0);
    assert_eq!(again.key(), ledger.key());
}

#[tokio::test]
async fn a_small_append_is_one_write() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    ledger.append(vec![item("x")]).await.expect("appends");
    let before = cells.writes();
    ledger.append(vec![item("y"), item("z")]).await.expect("appends");
    assert_eq!(cells.writes() - before, 1);
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_all_of_an_append_or_none() {
    for survived in 0..12 {
        let cells = Memory::default();
        let ledger = open(&cells).await;
        ledger.append(vec![item("before")]).await.expect("appends");
        cells.fail_after(survived);
        let mut batch: Vec<Record> = (0..40).map(blob).collect();
        batch.push(item("after"));
        let done = ledger.append(batch).await.is_ok();
        cells.heal();
        let again = open(&cells).await;
        assert_eq!(
            items(&again),
            if done { 2 } else { 1 },
            "crash after {survived} writes"
        );
        // And it goes on from there, over what the crash left behind.
        again
            .append((100..140).map(blob).collect())
            .await
            .expect("appends");
        assert_eq!(items(&open(&cells).await), if done { 2 } else { 1 });
    }
}

#[tokio::test]
async fn the_loser_of_a_race_learns_it() {
    let cells = Memory::default();
    let (first, second) = (open(&cells).await, open(&cells).await);
    first.append(vec![item("x")]).await.expect("appends");
    assert!(matches!(
        second.append(vec![item("y")]).await,
        Err(LedgerError::Lost)
    ));
    assert_eq!(items(&open(&cells).await), 1);
}

#[tokio::test]
async fn garbage_is_compacted_and_its_cells_written_again() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    ledger.append(vec![item("x")]).await.expect("appends");
    for round in 0..60 {
        ledger
            .append((0..10).map(|n| blob(round * 10 + n)).collect())
            .await
            .expect("appends");
    }
    // 6 MB were written and nothing refers to them.
    assert!(cells.size() < 1_500_000, "{} bytes are held", cells.size());
    assert_eq!(items(&open(&cells).await), 1);
}

#[tokio::test]
async fn a_changed_byte_is_damage_and_not_another_state() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    ledger
        .append(vec![Record::Offered {
            unit: unit(),
            entry: b"{}".to_vec(),
            at: Timestamp(1),
        }])
        .await
        .expect("appends");
    let mut cell = cells.get("ledger").await.expect("reads").expect("exists");
    let last = cell.bytes.len() - 1;
    cell.bytes[last] ^= 1;
    cells
        .put("ledger", &cell.bytes, Some(&cell.version))
        .await
        .expect("writes");
    assert!(matches!(
        Ledger::open(Arc::new(cells), "ledger").await,
        Err(LedgerError::Damaged(_))
    ));
}
