//! Of which cluster a ledger is.

use super::*;

/// Waits until what is written by itself is written.
async fn a_moment() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_is_bound_to_its_cluster_though_nothing_else_is_written() {
    let cells = Memory::default();
    drop(begun(&cells).await);
    let settled = open(&cells).await;
    let writes = cells.writes();
    assert!(settled.is_of("here").await);
    a_moment().await;
    assert_eq!(cells.writes(), writes + 1, "the head alone");
    let copy = open(&cells).await;
    assert!(!copy.is_of("elsewhere").await);
    assert!(copy.is_of("here").await);
    a_moment().await;
    assert_eq!(cells.writes(), writes + 1, "it is known by now");
    assert_eq!(
        copy.read(|state| state.units.len()),
        1,
        "its records are as they were"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_at_once_has_bound_its_ledger() {
    let cells = Memory::default();
    drop(begun(&cells).await);
    let ledger = open(&cells).await;
    assert!(ledger.is_of("here").await);
    ledger.flush().await.expect("written");
    assert!(!open(&cells).await.is_of("elsewhere").await);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_nothing_was_stored_in_is_bound_with_its_first_record() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    assert!(ledger.is_of("here").await);
    a_moment().await;
    assert_eq!(
        cells.names().len(),
        0,
        "nothing in it could be enforced elsewhere"
    );
    ledger.append(vec![offered()]).await.expect("appends");
    assert!(!open(&cells).await.is_of("elsewhere").await);
}

#[tokio::test(start_paused = true)]
async fn storage_that_takes_nothing_keeps_nobody_waiting_and_the_binding_is_stored_once_it_does() {
    let cells = Memory::default();
    drop(begun(&cells).await);
    let ledger = open(&cells).await;
    cells.fail_after(0);
    assert!(ledger.is_of("here").await);
    assert!(
        !ledger.is_of("elsewhere").await,
        "it counts from the first moment"
    );
    a_moment().await;
    cells.heal();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!open(&cells).await.is_of("elsewhere").await);
}

#[tokio::test(start_paused = true)]
async fn storage_that_was_put_back_to_before_the_binding_unbinds_nothing() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    let before = cells.snapshot();
    assert!(ledger.is_of("here").await);
    a_moment().await;
    cells.restore(&before);
    ledger.append(vec![item("x")]).await.expect("repaired");
    a_moment().await;
    assert!(!open(&cells).await.is_of("elsewhere").await);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_begins_anew_is_of_this_cluster_and_holds_nothing_of_the_other_or_all_is_as_it_was() {
    let cells = Memory::default();
    let ledger = begun(&cells).await;
    assert!(ledger.is_of("there").await);
    ledger.flush().await.expect("written");
    let copy = open(&cells).await;
    assert!(!copy.is_elsewhere(), "it is not known yet");
    assert!(!copy.is_of("here").await && copy.is_elsewhere());
    cells.fail_after(0);
    copy.begin_anew("here").await.expect_err("storage takes nothing");
    assert!(!copy.is_of("here").await, "as it was");
    cells.heal();
    copy.begin_anew("here").await.expect("begins");
    assert!(copy.is_of("here").await && !copy.is_elsewhere());
    let again = open(&cells).await;
    assert!(again.is_of("here").await);
    assert_eq!(again.read(|state| state.units.len()), 0);
}
