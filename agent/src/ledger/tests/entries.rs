//! Entries, which are read once.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_enforced_as_it_was_offered_is_one_entry_with_it_and_another_is_read() {
    let cells = Memory::default();
    let ledger = open(&cells).await;
    let (one, other) = (
        entry(unit(), Digest::of("x", b"1")),
        entry(unit(), Digest::of("x", b"2")),
    );
    let offered = |entry: &[u8]| Record::Offered {
        unit: unit(),
        entry: entry.to_vec().into(),
        at: Timestamp(7),
    };
    ledger.append(vec![offered(&one)]).await.expect("appends");
    let enforced = Record::Enforced {
        unit: unit(),
        entry: one.clone().into(),
    };
    ledger.append_later(vec![enforced]).expect("taken");
    ledger.flush().await.expect("durable");
    for ledger in [&ledger, &open(&cells).await] {
        let (offered, enforced) = held(ledger);
        assert!(Arc::ptr_eq(&offered.bytes, &enforced.bytes));
        assert_eq!(
            (enforced.digest, enforced.at),
            (offered.digest, Timestamp::default())
        );
        assert!(enforced.entry.is_some());
    }
    // A newer one that is not enforced yet leaves it what it is.
    ledger.append(vec![offered(&other)]).await.expect("appends");
    for ledger in [&ledger, &open(&cells).await] {
        let (offered, enforced) = held(ledger);
        assert_eq!((&offered.bytes[..], &enforced.bytes[..]), (&other[..], &one[..]));
        assert_eq!(enforced.digest, flotilla_core::unit::Entry::digest_of(&one));
    }
}

/// The entries of the unit, as they are in memory.
fn held(ledger: &Ledger) -> (state::StoredEntry, state::StoredEntry) {
    ledger.read(|state| {
        let unit = &state.units[&unit()];
        let both = (unit.offered.clone(), unit.enforced.clone());
        (both.0.expect("offered"), both.1.expect("enforced"))
    })
}
