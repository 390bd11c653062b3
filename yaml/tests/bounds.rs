//! What a text made to exhaust its reader may take: bytes that are allocated, all in all, which is no less than what is
//! held at once.

use std::alloc::System;

use flotilla_yaml::{Limits, node, read};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What any text may make a reader allocate, and the part of it, and of the limits, that is tried here.
const MOST: usize = 512 << 20;
const PART: usize = 64;

/// Who refuses a text: the reader of values, and that of nodes.
const BOTH: [bool; 2] = [true, true];
const NEITHER: [bool; 2] = [false, false];

/// Texts made to exhaust a reader, and who refuses them.
fn hostile() -> Vec<(&'static str, String, [bool; 2])> {
    let aliases = |count: usize| "*a, ".repeat(count);
    let nested: String = (1..=90).map(|level| format!("&a{level} [")).collect();
    let fields: String = (0..1_000).map(|at| format!("k{at}: v, ")).collect();
    let bomb: String = (1..40)
        .map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")))
        .collect();
    vec![
        (
            "aliases of a long text",
            format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), aliases(10_000)),
            BOTH,
        ),
        (
            "anchors around anchors",
            format!("{nested}{}{}", "1, ".repeat(10_000), "]".repeat(90)),
            BOTH,
        ),
        ("aliases of aliases", format!("a0: &a0 x\n{bomb}"), BOTH),
        (
            "one map merged many times",
            format!("a: &a {{{fields}}}\nb: {{<<: [{}]}}\n", aliases(80)),
            BOTH,
        ),
        ("a long list", format!("[{}]", "1,".repeat(70_000)), BOTH),
        (
            "a map of many keys",
            (0..40_000).map(|at| format!("{at}:\n")).collect(),
            BOTH,
        ),
        (
            "maps of one field",
            format!("[{}]", "{a: {a: {a: 1}}}, ".repeat(4_000)),
            [true, false],
        ),
        (
            "maps of one field by aliases",
            format!(
                "a: &a [{}]\nb: [{}]\n",
                "{a: {a: {a: 1}}}, ".repeat(40),
                aliases(100)
            ),
            [true, false],
        ),
        ("many empty lists", format!("[{}]", "[],".repeat(70_000)), BOTH),
        ("brackets", "[".repeat(50_000), BOTH),
        ("dashes", "- ".repeat(50_000), BOTH),
        ("maps in maps", "{a: ".repeat(50_000), BOTH),
        ("keys that need not be", "? ".repeat(50_000), BOTH),
        (
            "anchors",
            (0..7_000).map(|at| format!("- &a{at} x\n")).collect(),
            NEITHER,
        ),
        (
            "tag directives",
            (0..20_000).map(|at| format!("%TAG !{at}! x\n")).collect(),
            BOTH,
        ),
        (
            // Each node has a tag of which the nodes keep a copy.
            "tags of a long prefix",
            format!(
                "%TAG !e! {}\n---\n{}",
                "x".repeat(100_000),
                "- !e!x a\n".repeat(1_000)
            ),
            [false, true],
        ),
        (
            "a long text in quotes",
            format!("a: \"{}\"\n", "\\n".repeat(200_000)),
            NEITHER,
        ),
        (
            "a long folded text",
            format!("a: >\n{}", " x\n".repeat(100_000)),
            NEITHER,
        ),
        (
            "a long text over many lines",
            format!("a: {}", "x\n ".repeat(100_000)),
            NEITHER,
        ),
    ]
}

/// One test, since the allocations of others would be counted too.
#[test]
fn no_text_makes_a_reader_allocate_more_than_its_bounds() {
    let values = Limits::default();
    let values = Limits {
        nodes: values.nodes / PART,
        expanded: values.expanded / PART,
        ..values
    };
    let nodes = node::Limits::default();
    let nodes = node::Limits {
        nodes: nodes.nodes / PART,
        bytes: nodes.bytes / PART,
        ..nodes
    };
    for (name, text, refused) in hostile() {
        let region = Region::new(ALLOCATOR);
        let read = read(&text, &values);
        let allocated = region.change().bytes_allocated;
        println!("{name}: {} KiB for values", allocated >> 10);
        assert_eq!(read.is_err(), refused[0], "{name}");
        assert!(allocated < MOST / PART, "{name}: {allocated} bytes for values");
        drop(read);

        let region = Region::new(ALLOCATOR);
        let read = node::parse_first(text.as_bytes(), nodes);
        let allocated = region.change().bytes_allocated;
        println!("{name}: {} KiB for nodes", allocated >> 10);
        assert_eq!(read.is_err(), refused[1], "{name}");
        assert!(allocated < MOST / PART, "{name}: {allocated} bytes for nodes");
    }
}
