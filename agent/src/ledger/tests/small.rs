use super::*;

#[tokio::test(start_paused = true)]
async fn small_records_cost_few_bytes_each_and_segments_stay_few() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    for n in 0..1000 {
        let record = Record::Offered {
            unit: UnitId(Uuid::from_u128(n)),
            entry: vec![b' '; 300],
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
