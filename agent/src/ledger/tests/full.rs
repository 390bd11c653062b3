//! Ledgers near the size that their storage takes.

use super::*;

/// As Secrets have it.
fn secrets() -> Memory {
    Memory::default().with_limits(key_value::Limits {
        segment: 512 << 10,
        total: 16 << 20,
    })
}

fn nth(n: u128) -> UnitId {
    UnitId(Uuid::from_u128(n))
}

#[tokio::test]
async fn nine_of_sixteen_mib_in_use_take_changes_for_ever() {
    let cells = secrets();
    let ledger = open(&cells).await;
    for n in 0..9 {
        let records = accepted(nth(n.into()), 1, content(n, 10, 100_000));
        ledger.append(records).await.expect("appends");
    }
    // 40 MB go through one unit, and observations of its objects with them.
    for round in 0..40_u32 {
        let records = accepted(nth(0), 2 + u64::from(round), content(100 + round, 10, 100_000));
        ledger.append(records).await.expect("a change fits");
    }
    assert!(ledger.health().bytes < 10 << 20);
    assert_eq!(ledger.health().state, HealthState::Ok);
    let again = open(&cells).await;
    assert_eq!(again.read(|state| state.units.len()), 9);
    again.read(|state| {
        for unit in state.units.values() {
            assert!(is_whole(state, unit));
        }
    });
    assert!(cells.size() < 33 << 20, "{} bytes are held", cells.size());
}

#[tokio::test]
async fn what_is_full_is_told_and_recovers_once_content_goes() {
    let cells = secrets();
    let ledger = open(&cells).await;
    let mut states = Vec::new();
    let full = loop {
        let n = u32::try_from(states.len()).expect("few");
        let records = accepted(nth(n.into()), u64::from(n) + 1, content(n, 10, 100_000));
        match ledger.append(records).await {
            Ok(()) => states.push(ledger.health().state),
            Err(e) => break e,
        }
    };
    assert!(matches!(full, LedgerError::Full { limit, .. } if limit == ledger.limit()));
    assert_eq!(ledger.health().state, HealthState::Full);
    assert_eq!(states.len(), 15, "a MB each of nine tenths of 16 MiB");
    assert_eq!(states[10], HealthState::Ok);
    assert_eq!(states[13], HealthState::Warn, "three quarters are in use");
    // It is no wedge: outcomes are still stored, over many tails, and so is what makes room.
    for round in 0..1_500 {
        let name = format!("a-name-that-is-long-enough-to-fill-the-tail-soon-{}", round % 10);
        let one = Record::Item {
            unit: nth(0),
            key: ObjectKey::new("", "ConfigMap", "a", &name).into(),
            record: record("applied").into(),
        };
        ledger.append(vec![one]).await.expect("an outcome fits");
    }
    let refused = accepted(nth(99), 17, content(99, 20, 100_000));
    assert!(matches!(
        ledger.append(refused.clone()).await,
        Err(LedgerError::Full { .. })
    ));
    // In one append with what it replaces, and again by letting go.
    let smaller = accepted(nth(1), 17, content(200, 1, 1_000));
    ledger
        .append(smaller)
        .await
        .expect("takes less than what it replaces");
    ledger
        .append((2..4).map(|n| Record::Released { unit: nth(n) }).collect())
        .await
        .expect("letting go fits");
    ledger.append(refused).await.expect("there is room now");
    assert_ne!(ledger.health().state, HealthState::Full);
    let again = open(&cells).await;
    assert_eq!(again.read(|state| state.units.len()), 14);
    assert_eq!(again.read(State::live_size), ledger.read(State::live_size));
}

#[tokio::test]
async fn an_append_that_cannot_fit_is_refused_before_anything_is_made_bytes() {
    let cells = secrets();
    let ledger = open(&cells).await;
    for n in 0..14 {
        let records = accepted(nth(n.into()), 1, content(n, 10, 100_000));
        ledger.append(records).await.expect("appends");
    }
    let (encodings, writes) = (ledger.encodings(), cells.writes());
    for n in 20..70 {
        let refused = accepted(nth(n.into()), 2, content(n, 20, 100_000));
        let error = ledger.append(refused).await.expect_err("no room");
        assert!(
            matches!(error, LedgerError::Full { size, limit, .. } if size > limit),
            "{error}"
        );
    }
    assert_eq!((ledger.encodings(), cells.writes()), (encodings, writes));
    let need = ledger.read(State::need);
    let smaller = accepted(nth(1), 2, content(200, 1, 1_000));
    ledger
        .append(smaller)
        .await
        .expect("takes less than what it replaces");
    let freed = need - ledger.read(State::need);
    assert!((990_000..1_100_000).contains(&freed), "{freed} bytes were freed");
}

#[tokio::test]
async fn one_append_replaces_what_alone_would_not_fit_beside_it() {
    let cells = secrets();
    let ledger = open(&cells).await;
    ledger
        .append(accepted(nth(1), 1, content(1, 100, 100_000)))
        .await
        .expect("appends");
    ledger
        .append(accepted(nth(1), 2, content(2, 100, 100_000)))
        .await
        .expect("takes the place of the old content");
    let again = open(&cells).await;
    again.read(|state| {
        assert_eq!(state.accepted.generation, 2);
        assert_eq!(state.blobs.len(), 101, "the old content is gone");
    });
}

#[tokio::test]
async fn contents_that_came_before_their_entry_survive_compaction() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let (digest, blobs) = content(1, 20, 1_000);
    ledger.append(blobs).await.expect("appends");
    // Another unit's changes are compacted away meanwhile.
    for round in 0..40_u32 {
        let (other, mut records) = content(10 + round, 10, 10_000);
        records.push(Record::Offered {
            unit: nth(2),
            entry: entry(nth(2), other).into(),
            at: Timestamp(1),
        });
        ledger.append(records).await.expect("appends");
    }
    assert!(cells.size() < 2_000_000, "it was compacted");
    let again = open(&cells).await;
    again
        .append(accepted(nth(1), 1, (digest, Vec::new())))
        .await
        .expect("appends");
    again.read(|state| {
        assert!(is_whole(state, &state.units[&nth(1)]));
    });
}

#[tokio::test]
async fn a_ledger_full_of_garbage_is_compacted_when_it_is_opened() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    // Below what is worth compacting on the way, and then without a further append.
    ledger
        .append(accepted(nth(1), 1, content(1, 30, 10_000)))
        .await
        .expect("appends");
    ledger
        .append(vec![Record::Offered {
            unit: nth(1),
            entry: b"{}".to_vec().into(),
            at: Timestamp(2),
        }])
        .await
        .expect("appends");
    drop(ledger);
    let before = cells.writes();
    let again = open(&cells).await;
    assert!(cells.writes() > before);
    assert!(again.read(|state| state.blobs.is_empty()));
    assert!(open(&cells).await.read(|state| state.blobs.is_empty()));
}

#[tokio::test]
async fn content_that_is_not_readable_is_kept_as_it_came() {
    let ledger = open(&Memory::default()).await;
    let bytes = br#"{"type":"recipe","chart":"x"}"#;
    let digest = Digest::of("content", bytes);
    let blob = Blob::new(BlobKind::Content, bytes).expect("compresses");
    let records = accepted(nth(1), 1, (digest, vec![Record::Blob(digest, blob)]));
    ledger.append(records).await.expect("appends");
    ledger.read(|state| {
        assert!(state.table(&digest).is_none());
        assert_eq!(state.blob(&digest).as_deref(), Some(&bytes[..]));
        assert!(state.garbage().is_empty());
    });
}

/// Tells whether all that a unit's offered entry names is here.
fn is_whole(state: &State, unit: &state::Unit) -> bool {
    let entry = unit.offered.as_ref().and_then(|kept| kept.entry.as_ref());
    let content = entry.and_then(|entry| entry.content).expect("a content");
    let table = state.table(&content).expect("it is here");
    !table.is_empty()
        && table
            .digests()
            .iter()
            .all(|digest| state.blobs.contains_key(digest))
}

#[tokio::test(start_paused = true)]
async fn contents_that_nobody_names_make_room_once_and_are_not_stored_again() {
    let cells = Memory::default().with_limits(key_value::Limits {
        segment: 8 << 10,
        total: 64 << 10,
    });
    let ledger = open(&cells).await;
    let (_, waiting) = content(1, 5, 8_000);
    ledger.append(waiting).await.expect("there is room");
    let mut small = accepted(nth(1), 1, content(2, 5, 8_000));
    // The state is not held whole: another unit still waits for what was given up.
    small.pop();
    ledger
        .append(small)
        .await
        .expect("takes the room of what no entry names");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let writes = cells.writes();
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!(cells.writes(), writes, "nothing turns");
    let again = open(&cells).await;
    let blobs = |ledger: &Ledger| ledger.read(|state| (state.blobs.len(), state.live_size()));
    assert_eq!(blobs(&ledger).0, 6, "those of the unit, and its list");
    assert_eq!(blobs(&again), blobs(&ledger), "memory is what a restart reads");
}
