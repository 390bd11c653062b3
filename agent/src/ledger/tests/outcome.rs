//! Writes of unknown outcome, and values that somebody else stored again.

use super::*;

async fn same_after_restart(cells: &Memory, ledger: &Ledger) {
    assert_eq!(names(&open(cells).await), names(ledger));
}

#[tokio::test(start_paused = true)]
async fn five_timeouts_of_a_write_that_was_stored_are_a_success() {
    for records in [vec![item("x")], (0..20).map(blob).chain([item("x")]).collect()] {
        let cells = Memory::default();
        let ledger = begun(&cells).await;
        cells.leave_unanswered(4);
        ledger.append(records).await.expect("it was stored");
        assert_eq!(names(&ledger), ["x"]);
        ledger.append(vec![item("y")]).await.expect("appends");
        same_after_restart(&cells, &ledger).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_outcome_cannot_be_found_out_is_settled_by_the_next() {
    for first in [vec![item("x")], (0..20).map(blob).chain([item("x")]).collect()] {
        let cells = Memory::default();
        let ledger = begun(&cells).await;
        // Stored or not, and nobody answers for a while.
        cells.leave_unanswered(20);
        let outcome = ledger.append(first).await;
        assert!(matches!(outcome, Err(LedgerError::Storage(_))), "{outcome:?}");
        assert!(matches!(ledger.health().state, HealthState::Unwritable(_)));
        cells.heal();
        ledger
            .append(vec![item("y")])
            .await
            .expect("it is no other agent");
        assert_eq!(ledger.health().state, HealthState::Ok);
        let mut batch: Vec<Record> = (100..120).map(blob).collect();
        batch.push(item("z"));
        ledger.append(batch).await.expect("appends");
        same_after_restart(&cells, &ledger).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cells_stored_again_with_equal_bytes_are_still_ours() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    let rotate = || {
        for name in cells.names() {
            cells.set(&name, cells.bytes(&name));
        }
    };
    for round in 0..6 {
        let mut batch: Vec<Record> = (round * 20..round * 20 + 20).map(blob).collect();
        batch.push(item(&format!("x-{round}")));
        ledger.append(batch).await.expect("appends");
        rotate();
        ledger
            .append(vec![item("y")])
            .await
            .expect("it is no other agent");
        rotate();
        same_after_restart(&cells, &ledger).await;
    }
    ledger.check_writer().await.expect("still the only writer");
}

#[tokio::test(start_paused = true)]
async fn another_writer_is_seen_without_a_write() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    ledger.check_writer().await.expect("alone");
    open(&cells).await.append(vec![item("x")]).await.expect("appends");
    assert!(matches!(ledger.check_writer().await, Err(LedgerError::Lost)));
    // What is appended later is told of it too.
    ledger.append_later(vec![item("y")]).expect("taken");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ledger.health().state, HealthState::Lost);
    assert!(matches!(
        ledger.append_later(vec![item("z")]),
        Err(LedgerError::Lost)
    ));
    assert!(matches!(
        ledger.append(vec![item("z")]).await,
        Err(LedgerError::Lost)
    ));
    assert_eq!(names(&open(&cells).await), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn an_append_whose_caller_goes_away_is_whole() {
    let cells = Memory::default().yielding();
    let ledger = begun(&cells).await;
    let batch: Vec<Record> = (0..20).map(blob).chain([item("x")]).collect();
    let gone = tokio::time::timeout(Duration::ZERO, ledger.append(batch)).await;
    assert!(gone.is_err());
    ledger.append(vec![item("y")]).await.expect("appends");
    assert_eq!(names(&ledger), ["x", "y"]);
    same_after_restart(&cells, &ledger).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_storage_that_takes_nothing_is_bounded_and_not_lost() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    cells.fail_after(0);
    for round in 0..40 {
        // Errors of earlier batches are told here; the records are taken all the same.
        let _ = ledger.append_later((0..1_000).map(|n| item(&format!("name-{round}-{n}"))).collect());
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
    assert!(ledger.shared.queue().bytes.len() < 2 << 20);
    cells.heal();
    ledger.flush().await.expect("durable");
    assert_eq!(items(&ledger), 40_000);
    assert_eq!(items(&open(&cells).await), 40_000);
}

#[tokio::test(start_paused = true)]
async fn storage_that_does_not_answer_is_asked_no_more_often_than_its_callers_come() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    cells.lose(1_000);
    let mut calls = Vec::new();
    for round in 0..4 {
        let before = cells.to_lose();
        let name = format!("away-{round}");
        ledger.append(vec![item(&name)]).await.expect_err("not stored");
        calls.push(before - cells.to_lose());
    }
    assert_eq!(
        calls,
        [6, 2, 2, 2],
        "attempts, and a look at what became of the last"
    );
    // A short break after that is bridged as ever.
    cells.heal();
    ledger.append(vec![item("back")]).await.expect("stored");
    cells.lose(4);
    ledger.append(vec![item("bridged")]).await.expect("stored");
    same_after_restart(&cells, &ledger).await;
}
