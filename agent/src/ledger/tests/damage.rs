//! Heads and segments that are not what was written.

use futures::FutureExt as _;

use super::*;

/// A ledger with a unit and an object, in segments and tail.
async fn filled(cells: &Memory) -> Ledger {
    let ledger = begun(cells).await;
    let mut batch: Vec<Record> = (0..20).map(blob).collect();
    batch.push(item("x"));
    ledger.append(batch).await.expect("appends");
    ledger.append(vec![item("y")]).await.expect("appends");
    ledger
}

fn flipped(bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let mut bytes = bytes;
    bytes[at] ^= 1;
    bytes
}

/// All ways of damaging what is stored, by name.
fn damages(cells: &Memory) -> Vec<(&'static str, String, Option<Vec<u8>>)> {
    let head = cells.bytes("ledger").expect("a head");
    let segment = cells.bytes("ledger-0").expect("a segment");
    let last = head.len() - 1;
    vec![
        ("head gone", "ledger".into(), None),
        ("head empty", "ledger".into(), Some(Vec::new())),
        (
            "head of somebody else",
            "ledger".into(),
            Some(b"hello, world".to_vec()),
        ),
        ("head cut", "ledger".into(), Some(head[..20].to_vec())),
        ("tail changed", "ledger".into(), Some(flipped(head, last))),
        ("segment gone", "ledger-0".into(), None),
        ("segment changed", "ledger-0".into(), Some(flipped(segment, 100))),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_damaged_head_ends_no_enforcement_and_is_told() {
    for n in 0..4 {
        let cells = Memory::default();
        let ledger = filled(&cells).await;
        let whole = cells.bytes("ledger");
        let (what, name, bytes) = damages(&cells).swap_remove(n);
        cells.set(&name, bytes);
        let outcome = ledger.append(vec![item("z")]).await;
        assert!(
            matches!(outcome, Err(LedgerError::Damaged(_))),
            "{what}: {outcome:?}"
        );
        assert!(matches!(ledger.health().state, HealthState::Damaged(_)), "{what}");
        assert_eq!(names(&ledger), ["x", "y"], "{what}: what is held is enforced");
        // Outcomes go on in memory, and to storage once somebody has put the head back.
        let _ = ledger.append_later(vec![item("later")]);
        assert_eq!(names(&ledger), ["later", "x", "y"]);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(matches!(ledger.health().state, HealthState::Damaged(_)), "{what}");
        cells.set("ledger", whole);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(ledger.health().state, HealthState::Ok, "{what}");
        assert_eq!(names(&open(&cells).await), ["later", "x", "y"], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_head_is_repaired_where_nobody_else_can_write() {
    for n in 0..4 {
        let cells = Memory::default().exclusive();
        let ledger = filled(&cells).await;
        let (what, name, bytes) = damages(&cells).swap_remove(n);
        cells.set(&name, bytes.clone());
        ledger.append(vec![item("z")]).await.expect("repaired");
        assert_eq!(ledger.health().state, HealthState::Ok, "{what}");
        assert_eq!(
            cells.bytes("ledger-damaged-0"),
            Some(bytes.unwrap_or_default()),
            "{what}"
        );
        assert_eq!(names(&open(&cells).await), ["x", "y", "z"], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_found_damaged_begins_anew_beside_what_is_there() {
    for n in 0..7 {
        let cells = Memory::default();
        drop(filled(&cells).await);
        let (what, name, bytes) = damages(&cells).swap_remove(n);
        cells.set(&name, bytes);
        let before: Vec<_> = cells
            .names()
            .into_iter()
            .map(|name| (name.clone(), cells.bytes(&name)))
            .collect();
        let ledger = open(&cells).await;
        assert!(matches!(ledger.opened(), Opened::Damaged(_)), "{what}");
        assert!(matches!(ledger.health().state, HealthState::Damaged(_)), "{what}");
        assert!(
            ledger.read(|state| state.units.is_empty() && state.accepted == Accepted::default()),
            "{what}"
        );
        for (name, bytes) in &before {
            assert_eq!(
                cells.bytes(name),
                *bytes,
                "{what}: nothing is written before the hub has answered"
            );
        }
        ledger
            .append(vec![Record::Accepted(Accepted {
                epoch: 7,
                ..Accepted::default()
            })])
            .await
            .expect("appends");
        assert!(
            matches!(ledger.health().state, HealthState::Damaged(_)),
            "{what}: no state is held yet"
        );
        ledger
            .append(accepted(unit(), 4, content(1, 20, 10_000)))
            .await
            .expect("appends");
        assert_eq!(ledger.health().state, HealthState::Ok, "{what}");
        for (name, bytes) in &before {
            let name = if name == "ledger" {
                "ledger-damaged-0"
            } else {
                name
            };
            assert_eq!(cells.bytes(name), *bytes, "{what}: the damaged cells are kept");
        }
        let again = open(&cells).await;
        assert_eq!(*again.opened(), Opened::Read, "{what}");
        assert_eq!(again.read(|state| state.accepted.generation), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_agents_that_find_damage_one_goes_on() {
    let cells = Memory::default();
    drop(filled(&cells).await);
    cells.set("ledger", Some(b"?".to_vec()));
    let (first, second) = (open(&cells).await, open(&cells).await);
    first
        .append(accepted(unit(), 4, content(1, 2, 100)))
        .await
        .expect("appends");
    assert!(matches!(
        second.append(accepted(unit(), 3, content(2, 2, 100))).await,
        Err(LedgerError::Lost)
    ));
    assert_eq!(open(&cells).await.read(|state| state.accepted.generation), 4);
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_beginning_anew_is_begun_again() {
    for bytes in [None, Some(b"?".to_vec())] {
        for writes in 0..10 {
            let cells = Memory::default();
            drop(filled(&cells).await);
            cells.set("ledger", bytes.clone());
            let state = || accepted(unit(), 4, content(1, 20, 10_000));
            cells.fail_after(writes);
            let done = open(&cells).await.append(state()).await.is_ok();
            cells.heal();
            let again = open(&cells).await;
            let generation = again.read(|state| state.accepted.generation);
            assert_eq!(generation, if done { 4 } else { 0 }, "after {writes} writes");
            assert_ne!(*again.opened(), Opened::New, "after {writes} writes");
            again.append(state()).await.expect("appends");
            let last = open(&cells).await;
            assert_eq!(
                (last.opened(), last.read(|state| state.accepted.generation)),
                (&Opened::Read, 4)
            );
            let kept = cells
                .names()
                .iter()
                .filter(|name| name.contains("damaged"))
                .count();
            assert!(kept <= 2, "{kept} heads are kept");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn damage_after_damage_keeps_all_that_was() {
    let cells = Memory::default();
    drop(filled(&cells).await);
    for round in 0..3_u32 {
        let bytes = format!("damage {round}").into_bytes();
        cells.set("ledger", Some(bytes.clone()));
        open(&cells)
            .await
            .append(accepted(unit(), 1, content(round, 20, 10_000)))
            .await
            .expect("appends");
        for before in 0..=round {
            let kept = cells.bytes(&format!("ledger-damaged-{before}"));
            assert_eq!(kept, Some(format!("damage {before}").into_bytes()));
        }
    }
    assert_eq!(*open(&cells).await.opened(), Opened::Read);
}

#[tokio::test(start_paused = true)]
async fn the_head_of_another_version_is_no_damage() {
    let cells = Memory::default();
    let ledger = filled(&cells).await;
    let json = br#"{"version":99,"unknown":true}"#;
    let head = [&(json.len() as u32).to_le_bytes()[..], json].concat();
    cells.set("ledger", Some(head.clone()));
    assert!(matches!(
        ledger.append(vec![item("z")]).await,
        Err(LedgerError::Lost)
    ));
    let opened = Ledger::open(Arc::new(cells.clone()), "ledger").await;
    assert!(matches!(opened, Err(LedgerError::Version(99))));
    assert_eq!(cells.bytes("ledger"), Some(head));
}

#[tokio::test(start_paused = true)]
async fn a_segment_found_damaged_while_the_ledger_merges_is_told_and_all_is_written_anew() {
    for damage in [None, Some(b"?".to_vec())] {
        let cells = Memory::default();
        let ledger = begun(&cells).await;
        let mut batch = content(1, 2, 10_000).1;
        batch.push(item("x"));
        ledger.append(batch).await.expect("appends");
        cells.set("ledger-0", damage);
        // As large as the segment, which is therefore read.
        let mut batch = content(2, 3, 10_000).1;
        batch.push(item("y"));
        ledger.append(batch).await.expect("appends");
        let state = ledger.health().state;
        assert!(
            matches!(&state, HealthState::Damaged(why) if why.contains("ledger-0")),
            "{state:?}"
        );
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(ledger.health().state, HealthState::Ok, "it is repaired");
        let again = open(&cells).await;
        assert_eq!(*again.opened(), Opened::Read);
        assert_eq!(names(&again), ["x", "y"]);
        again.append(vec![item("z")]).await.expect("it is sound");
    }
}

/// Whoever has taken the ledger over meanwhile has written segments of its own.
#[tokio::test(start_paused = true)]
async fn a_segment_that_another_writer_replaced_ends_this_one() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    ledger.append(content(1, 2, 10_000).1).await.expect("appends");
    let other = open(&cells).await;
    other.append(vec![item("theirs")]).await.expect("appends");
    cells.set("ledger-0", Some(b"?".to_vec()));
    let outcome = ledger.append(content(2, 3, 10_000).1).await;
    assert!(matches!(outcome, Err(LedgerError::Lost)), "{outcome:?}");
}

/// Fills a ledger over many segments, and returns what storage was before the later half.
async fn with_snapshot(cells: &Memory) -> (Ledger, crate::ledger::memory::Snapshot) {
    let ledger = begun(cells).await;
    ledger.append(content(1, 4, 10_000).1).await.expect("appends");
    ledger.append(vec![item("x")]).await.expect("appends");
    let snapshot = cells.snapshot();
    for seed in 2..8 {
        ledger.append(content(seed, 12, 10_000).1).await.expect("appends");
    }
    ledger.append(vec![item("y")]).await.expect("appends");
    (ledger, snapshot)
}

#[tokio::test(start_paused = true)]
async fn a_ledger_whose_storage_was_put_back_is_written_anew_from_memory_and_read_whole() {
    // A small write, one as large as a segment, and one of several segments.
    for (what, more) in [("small", 0), ("segment", 3), ("segments", 30)] {
        for drops in [false, true] {
            let cells = Memory::default();
            let (ledger, snapshot) = with_snapshot(&cells).await;
            if drops {
                ledger.append(vec![dropped("y")]).await.expect("appends");
            }
            cells.restore(&snapshot);
            let mut batch = vec![item("z")];
            batch.extend(content(20, more, 10_000).1);
            ledger.append(batch).await.expect("it repairs itself");
            let state = ledger.health().state;
            assert!(
                matches!(&state, HealthState::Damaged(why) if why.contains("put back to an earlier state")),
                "{what}: {state:?}"
            );
            let again = open(&cells).await;
            assert_eq!(*again.opened(), Opened::Read, "{what}");
            let expected: &[&str] = match drops {
                true => &["x", "z"],
                false => &["x", "y", "z"],
            };
            assert_eq!(names(&again), expected, "{what}");
            drop(again);
            tokio::time::sleep(Duration::from_secs(120)).await;
            assert_eq!(ledger.health().state, HealthState::Ok, "{what}");
            let writes = cells.writes();
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(cells.writes(), writes, "{what}: nothing goes on");
            ledger.append(vec![item("later")]).await.expect("it is sound");
            assert!(names(&open(&cells).await).contains(&"later".to_owned()), "{what}");
        }
    }
}

/// Etcd holds the objects, too: those that were deleted since are there again.
#[tokio::test(start_paused = true)]
async fn objects_that_only_the_earlier_state_knows_have_left_their_units_and_their_proof_is_kept() {
    // Found by a write of a few bytes, by one of several segments, and by who asks.
    for more in [Some(0), Some(30), None] {
        let cells = Memory::default();
        let ledger = begun(&cells).await;
        let mut batch: Vec<Record> = (0..20).map(blob).collect();
        batch.extend(["x", "y"].map(item));
        ledger.append(batch).await.expect("appends");
        let snapshot = cells.snapshot();
        ledger
            .append(vec![dropped("y"), item("z")])
            .await
            .expect("appends");
        cells.restore(&snapshot);
        match more {
            Some(more) => {
                let batch = content(20, more, 10_000).1;
                let batch = if batch.is_empty() { vec![item("x")] } else { batch };
                ledger.append(batch).await.expect("it repairs itself");
            }
            None => {
                ledger.check_writer().await.expect("alone");
                ledger.flush().await.expect("stored");
            }
        }
        let recovered = tokio::time::timeout(Duration::from_secs(1), ledger.recovered()).await;
        let recovered = recovered.expect("it is told");
        let names_of = |keys: &[(UnitId, Arc<ObjectKey>)]| -> Vec<String> {
            keys.iter().map(|(_, key)| key.name.clone()).collect()
        };
        assert_eq!(
            (names_of(&recovered.of_units), recovered.unproven),
            (vec!["y".to_owned()], vec![])
        );
        let again = open(&cells).await;
        for ledger in [&ledger, &again] {
            assert_eq!(names(ledger), ["x", "y", "z"]);
            let left: Vec<&str> = ["x", "y", "z"]
                .into_iter()
                .filter(|name| has_left(ledger, name))
                .collect();
            assert_eq!(left, ["y"]);
        }
        drop(again);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let writes = cells.writes();
        let told = tokio::time::timeout(Duration::from_secs(600), ledger.recovered()).await;
        assert!(told.is_err(), "once: {told:?}");
        assert_eq!(cells.writes(), writes, "nothing goes on");
    }
}

fn has_left(ledger: &Ledger, name: &str) -> bool {
    ledger.read(|state| {
        let mut items = state.units.values().flat_map(|unit| &unit.items);
        items.any(|(key, record)| key.name == name && record.state == ObjectState::PendingRemoval)
    })
}

/// Storage may be put back twice, to the same state too.
#[tokio::test(start_paused = true)]
async fn storage_that_is_put_back_again_and_again_is_repaired_each_time() {
    let cells = Memory::default();
    let (ledger, snapshot) = with_snapshot(&cells).await;
    for round in 0..3 {
        cells.restore(&snapshot);
        let name = format!("z{round}");
        ledger.append(vec![item(&name)]).await.expect("it repairs itself");
        assert!(names(&open(&cells).await).contains(&name));
    }
    assert_eq!(items(&open(&cells).await), 5);
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_storage_that_was_put_back_is_repaired_leaves_the_earlier_or_the_later_state() {
    for writes in 0..12 {
        let cells = Memory::default();
        let (ledger, snapshot) = with_snapshot(&cells).await;
        cells.restore(&snapshot);
        cells.fail_after(writes);
        let done = ledger.append(vec![item("z")]).await.is_ok();
        drop(ledger);
        cells.heal();
        let again = open(&cells).await;
        assert_eq!(*again.opened(), Opened::Read, "after {writes} writes");
        let expected: &[&str] = if done { &["x", "y", "z"] } else { &["x"] };
        assert_eq!(names(&again), expected, "after {writes} writes");
    }
}

/// What it was put back to is read in steps; whoever asked may go away before the last.
#[tokio::test(start_paused = true)]
async fn a_look_that_is_broken_off_after_storage_was_put_back_leaves_all_to_be_written_anew() {
    let cells = Memory::default();
    let (ledger, snapshot) = with_snapshot(&cells).await;
    cells.restore(&snapshot);
    let _ = ledger.check_writer().now_or_never();
    ledger.append(vec![item("z")]).await.expect("it repairs itself");
    assert_eq!(names(&open(&cells).await), ["x", "y", "z"]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_whether_the_ledger_is_still_its_own_finds_that_storage_was_put_back() {
    let cells = Memory::default();
    let (ledger, snapshot) = with_snapshot(&cells).await;
    cells.restore(&snapshot);
    ledger.check_writer().await.expect("it is the only writer");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&open(&cells).await), ["x", "y"]);
    let writes = cells.writes();
    tokio::time::sleep(Duration::from_secs(600)).await;
    ledger.check_writer().await.expect("it is the only writer");
    assert_eq!((cells.writes(), ledger.health().state), (writes, HealthState::Ok));
}
