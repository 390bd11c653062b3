use super::*;

#[tokio::test(start_paused = true)]
async fn small_records_cost_few_bytes_each_and_segments_stay_few() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    for n in 0..1000 {
        let record = Record::Offered {
            unit: UnitId(Uuid::from_u128(n)),
            entry: vec![b' '; 300].into(),
            at: Timestamp(1),
        };
        ledger.append(vec![record]).await.expect("appends");
    }
    let each = cells.written() / 1000;
    assert!(each < 14 << 10, "{each} bytes a record of 300");
    let segments = cells.names().len() - 1;
    assert!(segments <= 20, "{segments} segments of at most 64 KiB for 300 KB");
    drop(ledger);
    assert_eq!(open(&cells).await.read(|state| state.units.len()), 1000);
}

#[tokio::test(start_paused = true)]
async fn every_write_confirms_that_this_is_the_only_writer() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    let minute = Duration::from_secs(60);
    tokio::time::sleep(minute).await;
    assert!(ledger.confirmed().elapsed() >= minute);
    let (unit, key) = (unit(), Arc::new(ObjectKey::new("", "ConfigMap", "a", "x")));
    let record = Arc::new(record("applied"));
    ledger
        .append_later(vec![Record::Item { unit, key, record }])
        .expect("is queued");
    tokio::time::sleep(BATCH * 2).await;
    assert!(ledger.confirmed().elapsed() < minute);
    tokio::time::sleep(minute).await;
    ledger.check_writer().await.expect("no other writes");
    assert!(ledger.confirmed().elapsed() < minute);
}

#[tokio::test]
async fn appends_that_come_at_once_are_written_together() {
    let cells = Memory::default().yielding();
    let ledger = begun(&cells).await;
    let append = |n: usize| {
        let key = Arc::new(ObjectKey::new("", "ConfigMap", "a", &format!("o{n}")));
        let (unit, record) = (unit(), Arc::new(record("intent")));
        ledger.append(vec![Record::Item { unit, key, record }])
    };
    append(0).await.expect("appends");
    let before = cells.writes();
    append(1).await.expect("appends");
    let one = cells.writes() - before;
    let before = cells.writes();
    for appended in futures::future::join_all((2..52).map(append)).await {
        appended.expect("appends");
    }
    let all = cells.writes() - before;
    assert!(all <= 2 * one, "{all} writes for fifty appends, {one} for one");
    drop(ledger);
    let items = open(&cells).await.read(|state| state.units[&unit()].items.len());
    assert_eq!(items, 52);
}

#[tokio::test]
async fn append_that_does_not_fit_keeps_none_from_being_written_that_came_with_it() {
    let limits = key_value::Limits {
        segment: 64 << 10,
        total: 1 << 20,
    };
    let cells = Memory::default().with_limits(limits).yielding();
    let ledger = begun(&cells).await;
    let small = |n: usize| {
        let key = Arc::new(ObjectKey::new("", "ConfigMap", "a", &format!("o{n}")));
        let (unit, record) = (unit(), Arc::new(record("intent")));
        vec![Record::Item { unit, key, record }]
    };
    let large = vec![Record::Offered {
        unit: UnitId(Uuid::from_u128(2)),
        entry: vec![b' '; 2 << 20].into(),
        at: Timestamp(1),
    }];
    let appends = [small(0), large, small(1)].map(|records| ledger.append(records));
    // The first is under way when the others come.
    let outcomes = futures::future::join_all(appends.into_iter().rev()).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(
        matches!(outcomes[1], Err(LedgerError::Full { .. })),
        "{outcomes:?}"
    );
    drop(ledger);
    let items = open(&cells).await.read(|state| state.units[&unit()].items.len());
    assert_eq!(items, 2);
}
