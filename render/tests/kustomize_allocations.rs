//! Twice the entries may not take much more than twice the steps, nor twice the allocations or the bytes of them,
//! whatever the entries are of: what is copied for each entry without a step is seen here.

#[path = "growth/entries.rs"]
mod entries;

use std::alloc::System;

use entries::{ROWS, tree};
use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ENTRIES: usize = 1_000;
/// In tenths: twice with its logarithm, and far below its square.
const BOUND: u64 = 25;

/// What a build takes, by what it is counted in.
fn cost(tree: &MemoryTree) -> Result<[(&'static str, u64); 3], String> {
    let budget = Budget::default();
    let region = Region::new(ALLOCATOR);
    let built = build(&RenderInput::new(tree, "", &budget)).map_err(|error| error.to_string())?;
    let change = region.change();
    let number = |count: usize| u64::try_from(count).expect("a number of 64 bits");
    Ok([
        ("steps", built.steps),
        ("allocations", number(change.allocations + change.reallocations)),
        ("bytes", number(change.bytes_allocated)),
    ])
}

#[test]
fn cost_grows_with_the_entries_and_not_with_their_square() {
    let mut broken = Vec::new();
    for (row, files) in ROWS {
        let (small, large) = match [ENTRIES, 2 * ENTRIES].map(|count| cost(&tree(&files(count)))) {
            [Ok(small), Ok(large)] => (small, large),
            [Err(fault), _] | [_, Err(fault)] => {
                broken.push(format!("{row}: {fault}"));
                continue;
            }
        };
        for ((what, small), (_, large)) in small.into_iter().zip(large) {
            if large * 10 >= small * BOUND {
                broken.push(format!("{row}: {small} {what} grew to {large}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
