//! A simulated fleet: the decisions of hub and agent, over a store and clusters in memory, with the time and all faults
//! chosen by a seed. After each step an independent oracle says what must be true; at the end every cluster is as the last
//! commit says, and nothing turns any more. See `docs/design/0026-simulation.md`.
//!
//! `FLOTILLA_SIM_SEEDS` says how many seeds, `FLOTILLA_SIM_SEED` replays one and shows its story.

mod agent;
mod clearing;
mod cluster;
mod end;
mod git;
mod hub;
mod link;
mod oracle;
mod random;
mod store;
mod story;
mod trace;
mod world;

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use trace::Trace;
use world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 100;
/// Seeds that failed once.
const FAILED: &str = include_str!("seeds.txt");

/// One story. Returns how many objects were deleted in it.
fn run(seed: u64, trace: Trace) -> usize {
    let mut world = World::new(seed, trace);
    world.begin();
    let length = 200 + world.random.below(600);
    let restless = 12 + world.random.below(40);
    for _ in 0..length {
        match world.random.below(restless) {
            0 => world.somebody(),
            1 if world.random.once_in(2) => world.bad_luck(),
            _ if world.random.once_in(20) => world.now += world.random.next() % 5_000,
            _ => drop(world.step(true)),
        }
    }
    world.heal();
    world.settle();
    world.assert_equal();
    world.assert_drained();
    world.assert_quiet();
    world.oracle.deletions_seen
}

/// Runs a seed and keeps its story. `Err`: it fails, with the story.
fn told(seed: u64) -> Result<String, String> {
    let trace = Trace::kept();
    let kept = trace.clone();
    match catch_unwind(AssertUnwindSafe(|| run(seed, kept))) {
        Ok(_) => Ok(trace.text()),
        Err(_) => Err(trace.text()),
    }
}

/// Runs seeds on all processors. Returns how many objects were deleted, and the seeds that fail.
fn run_all(seeds: &[u64]) -> (usize, Vec<u64>) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let (mut deletions, mut failed) = (0, Vec::new());
                    for seed in seeds.iter().skip(part).step_by(threads) {
                        match catch_unwind(|| run(*seed, Trace::default())) {
                            Ok(went) => deletions += went,
                            Err(_) => failed.push(*seed),
                        }
                    }
                    (deletions, failed)
                })
            })
            .collect();
        let mut all = (0, Vec::new());
        for part in parts {
            let (deletions, failed) = part.join().expect("a panic is caught");
            all.0 += deletions;
            all.1.extend(failed);
        }
        all.1.sort_unstable();
        all
    })
}

/// Fails with the story of the first of these.
fn show(failed: &[u64]) {
    if let Some(first) = failed.first() {
        let story = told(*first).unwrap_or_else(|story| story);
        eprintln!("{story}");
        panic!("seeds {failed:?} fail: replay one with FLOTILLA_SIM_SEED={first}");
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

#[test]
fn fleets_end_as_the_last_commit_says_and_delete_nothing_else_whatever_happens() {
    if let Some(seed) = number("FLOTILLA_SIM_SEED") {
        let told = told(seed);
        let is_well = told.is_ok();
        eprintln!("{}", told.unwrap_or_else(|story| story));
        assert!(is_well, "seed {seed} fails");
        return;
    }
    let seeds: Vec<u64> = (1..=number("FLOTILLA_SIM_SEEDS").unwrap_or(SEEDS)).collect();
    let (deletions, failed) = run_all(&seeds);
    show(&failed);
    // Stories in which nothing goes prove nothing.
    let is_lively = deletions * 4 > seeds.len() || (seeds.len() as u64) < SEEDS;
    assert!(is_lively, "{deletions} deletions in {} stories", seeds.len());
}

#[test]
fn seeds_that_failed_once_do_not_fail_again() {
    let lines = FAILED.lines().filter(|line| !line.starts_with('#'));
    let seeds = lines.map(|line| {
        let seed = line.split_whitespace().next();
        seed.and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| panic!("no seed: {line}"))
    });
    let (_, failed) = run_all(&seeds.collect::<Vec<u64>>());
    show(&failed);
}
