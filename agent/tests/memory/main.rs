//! What the agent holds in memory for its objects, counted by an allocator that counts: bytes and calls do not
//! depend on the machine or on what else it does. A program of its own, since the allocator is the whole program's.

mod fixture;
mod objects;

use std::alloc::System;

use fixture::{CYCLE, Fleet};
use objects::SCOPES;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are held now.
fn held() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.cast_signed() - stats.bytes_deallocated.cast_signed()
}

/// Calls of the allocator so far.
fn calls() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// What an agent costs.
#[derive(Debug)]
struct Cost {
    /// Bytes that it holds at rest.
    held: isize,
    /// Calls of the allocator while it corrects one object.
    correction: usize,
    /// Bytes that it asks for meanwhile.
    correction_bytes: usize,
}

async fn cost(objects: usize) -> Cost {
    let mut fleet = Fleet::with(objects).await;
    fleet.settle().await;
    // Whatever happens only once has happened after the first.
    fleet.drift(7).await;
    fleet.settle().await;
    fleet.cluster.take_requests();
    let before = (calls(), ALLOCATOR.stats().bytes_allocated);
    fleet.drift(87).await;
    let correction = calls() - before.0;
    let correction_bytes = ALLOCATOR.stats().bytes_allocated - before.1;
    let requests = fleet.cluster.take_requests();
    assert_eq!(requests.values().sum::<u64>(), 1, "a write: {requests:?}");
    fleet.settle().await;
    // Two cycles on, the third is counted.
    tokio::time::sleep(2 * CYCLE).await;
    fleet.cluster.take_requests();
    tokio::time::sleep(CYCLE).await;
    let requests = fleet.cluster.take_requests();
    let (lists, all) = (requests.get("list"), requests.values().sum::<u64>());
    assert_eq!(lists, Some(&all), "nothing but lists: {requests:?}");
    assert!(
        all <= (SCOPES + objects / PAGE) as u64,
        "one list for each kind and namespace, in pages: {requests:?}"
    );
    // Dropping the agent gives back all that it holds; the cluster and its storage stay.
    let with = held();
    fleet.stop().await;
    Cost {
        held: with - held(),
        correction,
        correction_bytes,
    }
}

/// Objects in a page of a list of the cluster in memory.
const PAGE: usize = 10;
const SMALL: usize = 1000;
const LARGE: usize = 4000;

/// Bytes for each object more, what it is evaluated from included.
const PER_OBJECT: isize = 1100;

/// One test: the counts are the whole program's.
#[tokio::test(start_paused = true)]
async fn r29_an_object_more_costs_little_memory_and_corrections_cost_no_more_for_it() {
    let (small, large) = (cost(SMALL).await, cost(LARGE).await);
    let per_object = (large.held - small.held) / (LARGE - SMALL).cast_signed();
    println!("{SMALL} objects {small:?}, {LARGE} objects {large:?}: {per_object} bytes an object");
    assert!(
        per_object <= PER_OBJECT,
        "{per_object} bytes an object: {small:?}, {large:?}"
    );
    assert!(
        large.correction <= small.correction + small.correction / 4,
        "{small:?}, {large:?}"
    );
    assert!(
        large.correction_bytes <= small.correction_bytes + small.correction_bytes / 4,
        "{small:?}, {large:?}"
    );
}
