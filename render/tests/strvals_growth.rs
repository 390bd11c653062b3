//! What a flag costs follows the flag: the calls of the allocator and the bytes of one are the same however much the
//! values hold that it is set in.

use std::alloc::System;

use flotilla_render::helm::strvals::{Syntax, parse_into};
use flotilla_render::helm::values;
use flotilla_render::yaml::Map;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FLAGS: usize = 100;
const FEW: usize = 200;

/// Values with so many entries of each kind that a line leads through.
fn given(entries: usize) -> Map {
    let keys: String = (0..entries).map(|at| format!("  k{at}: text\n")).collect();
    let items = "text, ".repeat(entries);
    let text = format!(
        "map:\n{keys}list: [{items}]\nlists: [[{items}]]\nmaps: [{{list: [{items}]}}]\ndeep: [[[{items}]]]\n"
    );
    values::load(text.as_bytes()).expect("the values are a map")
}

/// Returns the calls and the bytes that setting a place so many times takes.
fn cost(entries: usize, line: &str) -> (usize, usize) {
    let mut values = given(entries);
    let lines: Vec<String> = (0..FLAGS).map(|at| line.replace('N', &at.to_string())).collect();
    let region = Region::new(ALLOCATOR);
    for line in &lines {
        parse_into(line, &mut values, Syntax::Typed).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

#[test]
fn a_flag_costs_the_same_whatever_the_values_hold() {
    let costly: Vec<String> = [
        "map.kN=x",
        "list[N]=x",
        "lists[0][N]=x",
        "maps[0].list[N]=x",
        "deep[0][0][N]=x",
        "map.kN=x,lists[0][N]=x",
    ]
    .into_iter()
    .filter_map(|line| {
        let (few, many) = (cost(FEW, line), cost(10 * FEW, line));
        (few != many).then(|| format!("{line}: {few:?} grew to {many:?}"))
    })
    .collect();
    assert!(costly.is_empty(), "{}", costly.join("\n"));
}
