mod cluster;
mod damage;
mod deltas;
mod entries;
mod full;
mod outcome;
pub(in crate::ledger) mod random;
mod room;
mod small;

use flotilla_core::{
    apply::inventory::{Record as ObjectRecord, State as ObjectState},
    clock::Timestamp,
    content::{Content, Form, ObjectEntry, Objects},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
};
use flotilla_testkit::done_beside;
use serde_json::json;
use uuid::Uuid;

use super::{
    health::HealthState,
    memory::Memory,
    record::{Accepted, Record},
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

fn offered() -> Record {
    Record::Offered {
        unit: unit(),
        entry: b"{}".to_vec().into(),
        at: Timestamp(1),
    }
}

/// A ledger that knows the unit.
async fn begun(cells: &Memory) -> Ledger {
    let ledger = open(cells).await;
    ledger.append(vec![offered()]).await.expect("appends");
    ledger
}

fn record(state: &str) -> ObjectRecord {
    serde_json::from_value(json!({"api_version": "v1", "state": state})).expect("a record")
}

/// An entry of a unit that names a content.
pub(in crate::ledger) fn entry(unit: UnitId, content: Digest) -> Vec<u8> {
    let entry = json!({
        "unit": unit,
        "version": 1,
        "app": {"uid": unit, "kind": "Kustomization", "namespace": "a", "name": "b"},
        "content": content,
        "target": content,
        "state": {"type": "active"},
        "settings": {"interval": 60_000, "retryInterval": 60_000, "timeout": 60_000},
    });
    entry.to_string().into_bytes()
}

/// The records of a content of `count` objects of `len` bytes that do not compress, and its digest.
pub(in crate::ledger) fn content(seed: u32, count: u32, len: usize) -> (Digest, Vec<Record>) {
    let mut records = Vec::new();
    let entries = (0..count).map(|n| {
        let bytes = noise(seed * 10_000 + n, len);
        let digest = Digest::of("object/json", &bytes);
        records.push(Record::Blob(
            digest,
            Blob::new(BlobKind::Object, &bytes).expect("compresses"),
        ));
        ObjectEntry {
            key: ObjectKey::new("", "ConfigMap", "a", &format!("x-{n}")),
            form: Form::Json,
            digest,
        }
    });
    let content = Content::Objects(Objects {
        entries: entries.collect(),
        count,
        complete: true,
    });
    let blob = Blob::new(BlobKind::Content, &content.to_bytes()).expect("compresses");
    records.push(Record::Blob(content.digest(), blob));
    (content.digest(), records)
}

/// The records of an acceptance: a unit's new content.
pub(in crate::ledger) fn accepted(
    unit: UnitId,
    generation: u64,
    content: (Digest, Vec<Record>),
) -> Vec<Record> {
    let (digest, mut records) = content;
    records.push(Record::Offered {
        unit,
        entry: entry(unit, digest).into(),
        at: Timestamp(1),
    });
    records.push(Record::Accepted(Accepted {
        incarnation: 1,
        generation,
        ..Accepted::default()
    }));
    records
}

fn item(name: &str) -> Record {
    Record::Item {
        unit: unit(),
        key: ObjectKey::new("", "ConfigMap", "a", name).into(),
        record: Arc::new(record("intent")),
    }
}

fn dropped(name: &str) -> Record {
    Record::Dropped {
        unit: unit(),
        key: ObjectKey::new("", "ConfigMap", "a", name).into(),
    }
}

fn names(ledger: &Ledger) -> Vec<String> {
    ledger.read(|state| {
        let keys = state
            .units
            .get(&unit())
            .into_iter()
            .flat_map(|unit| unit.items.keys());
        keys.map(|key| key.name.clone()).collect()
    })
}

fn items(ledger: &Ledger) -> usize {
    names(ledger).len()
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
    let ledger = begun(&cells).await;
    let held = Accepted {
        incarnation: 1,
        generation: 7,
        root: Some(Digest::of("root", b"")),
        epoch: 3,
        cluster: Some(Digest::of("cluster", b"id")),
    };
    let bytes = noise(1, 10_000);
    ledger
        .append(vec![Record::Accepted(held), item("x"), blob(1)])
        .await
        .expect("appends");
    ledger.append(vec![dropped("x")]).await.expect("appends");
    let again = open(&cells).await;
    assert_eq!(again.read(|state| state.accepted), held);
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
        let ledger = begun(&cells).await;
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
    begun(&cells).await;
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
    let ledger = begun(&cells).await;
    ledger.append(vec![item("x")]).await.expect("appends");
    for round in 0..60_u32 {
        ledger
            .append(accepted(unit(), u64::from(round), content(round, 10, 10_000)))
            .await
            .expect("appends");
    }
    // 6 MB were written, and a sixtieth of that is needed.
    assert!(cells.size() < 1_500_000, "{} bytes are held", cells.size());
    assert_eq!(items(&open(&cells).await), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_later_is_there_at_once_and_durable_in_one_write() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    let before = cells.writes();
    for name in ["x", "y", "z"] {
        ledger.append_later(vec![item(name)]).expect("taken");
    }
    assert_eq!(items(&ledger), 3);
    assert_eq!(items(&open(&cells).await), 0);
    tokio::time::sleep(BATCH * 2).await;
    assert_eq!(items(&open(&cells).await), 3);
    assert_eq!(cells.writes() - before, 1);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(cells.writes() - before, 1, "a settled ledger writes nothing");
}

#[tokio::test(start_paused = true)]
async fn an_append_makes_all_that_was_queued_before_it_durable() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    ledger.append_later(vec![item("x")]).expect("taken");
    let before = cells.writes();
    ledger
        .append(vec![dropped("x"), item("y")])
        .await
        .expect("appends");
    assert_eq!(cells.writes() - before, 1);
    for ledger in [&ledger, &open(&cells).await] {
        assert_eq!(names(ledger), ["y"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_failed_is_told_and_tried_again() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    let mut health = ledger.subscribe();
    cells.fail_after(0);
    ledger.append_later(vec![item("x")]).expect("taken");
    health
        .wait_for(|health| matches!(health.state, HealthState::Unwritable(_)))
        .await
        .expect("told");
    assert!(matches!(
        ledger.append_later(vec![item("y")]),
        Err(LedgerError::Storage(_))
    ));
    assert_eq!(names(&ledger), ["x", "y"]);
    cells.heal();
    health
        .wait_for(|health| health.state == HealthState::Ok)
        .await
        .expect("told");
    assert_eq!(names(&open(&cells).await), ["x", "y"]);
    // What comes after waits no longer than usual, whatever wait there was before.
    cells.fail_after(0);
    for _ in 0..20 {
        let _ = ledger.append_later(vec![item("z")]);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    cells.heal();
    ledger.flush().await.expect("durable");
    ledger
        .append_later(vec![item("zz"), dropped("z")])
        .expect("no error is left");
    tokio::time::sleep(BATCH * 2).await;
    assert_eq!(names(&open(&cells).await), ["x", "y", "zz"]);
    ledger
        .append_later(vec![dropped("zz"), item("z")])
        .expect("taken");
    ledger.flush().await.expect("durable");
    assert_eq!(names(&open(&cells).await), ["x", "y", "z"]);
}

#[tokio::test]
async fn a_unit_that_was_never_offered_or_is_let_go_does_not_come_back() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let ghosts = || {
        vec![
            item("x"),
            Record::Enforced {
                unit: unit(),
                entry: b"{}".to_vec().into(),
            },
            Record::Unit {
                unit: unit(),
                state: b"s".to_vec(),
            },
        ]
    };
    ledger.append(ghosts()).await.expect("appends");
    assert!(ledger.read(|state| state.units.is_empty()));
    ledger.append(vec![offered()]).await.expect("appends");
    ledger.append(ghosts()).await.expect("appends");
    assert_eq!(items(&ledger), 1);
    ledger
        .append(vec![Record::Released { unit: unit() }])
        .await
        .expect("appends");
    ledger.append(ghosts()).await.expect("appends");
    for ledger in [&ledger, &open(&cells).await] {
        assert!(ledger.read(|state| state.units.is_empty()));
    }
}

#[tokio::test]
async fn a_units_record_and_the_scopes_of_kinds_survive_compaction() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    ledger
        .append(vec![
            Record::Unit {
                unit: unit(),
                state: b"applied".to_vec(),
            },
            Record::Kind {
                group: "apps".into(),
                kind: "Deployment".into(),
                namespaced: true,
            },
        ])
        .await
        .expect("appends");
    for round in 0..60_u32 {
        ledger
            .append(accepted(unit(), u64::from(round), content(round, 10, 10_000)))
            .await
            .expect("appends");
    }
    assert!(cells.size() < 1_500_000, "it was compacted");
    open(&cells).await.read(|state| {
        let record = state.units[&unit()].record.as_deref();
        assert_eq!(record, Some(&b"applied"[..]));
        assert_eq!(
            state.kinds.get(&("apps".into(), "Deployment".into())),
            Some(&true)
        );
    });
}

/// Rows of a large unit.
fn rows(count: usize) -> Vec<Record> {
    let row = |n| Record::Item {
        unit: unit(),
        key: Arc::new(ObjectKey::new("apps", "Deployment", "a", &format!("x-{n}"))),
        record: record("applied").into(),
    };
    (0..count).map(row).collect()
}

/// Runs what leads to a test's situation.
fn before<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

#[test]
fn other_tasks_run_while_all_is_written_anew() {
    // What each replaces is garbage, and is soon half of all.
    let state = |n| {
        let state = vec![n; 300 << 10];
        vec![Record::Unit { unit: unit(), state }]
    };
    let appended = async |times: u8| {
        let ledger = begun(&Memory::default()).await;
        ledger.append(rows(5_000)).await.expect("appends");
        let encodings = ledger.encodings();
        for n in 0..times {
            ledger.append(state(n)).await.expect("appends");
            if ledger.encodings() > encodings {
                return (n, ledger);
            }
        }
        (times, ledger)
    };
    let (last, _) = before(appended(8));
    assert!(last < 8, "all was written anew");
    let (_, ledger) = before(appended(last));
    done_beside(ledger.append(state(last))).expect("appends");
}

#[test]
fn other_tasks_run_while_the_ledger_is_read_at_the_start() {
    let cells = Memory::default();
    before(async {
        let ledger = begun(&cells).await;
        ledger.append(rows(20_000)).await.expect("appends");
    });
    let ledger = done_beside(open(&cells));
    assert_eq!(ledger.read(|state| state.units[&unit()].items.len()), 20_000);
}

/// A job of a unit looks at each of these.
#[tokio::test]
async fn kinds_of_a_unit_are_as_many_steps_as_there_are_kinds() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    let kinds = [
        ("", "ConfigMap"),
        ("", "ConfigMapList"),
        ("apps", "Deployment"),
        ("batch", "Job"),
    ];
    let items = kinds.iter().flat_map(|(group, kind)| {
        (0..50).map(move |n| Record::Item {
            unit: unit(),
            key: ObjectKey::new(group, kind, &format!("n{n}"), "x").into(),
            record: Arc::new(record("intent")),
        })
    });
    ledger.append(items.collect()).await.expect("appends");
    let found: Vec<(String, String)> = ledger.read(|state| {
        let keys = state.units[&unit()].kinds();
        keys.map(|key| (key.group.clone(), key.kind.clone())).collect()
    });
    let expected: Vec<(String, String)> = kinds
        .iter()
        .map(|(g, k)| ((*g).to_owned(), (*k).to_owned()))
        .collect();
    assert_eq!(found, expected);
}
