//! What a build holds at once: an object is given away as it is made, and what it was made of goes with it.

use std::alloc::System;

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build_each};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const OBJECTS: usize = 2_000;

fn source() -> MemoryTree {
    let fields: String = (0..20).map(|at| format!("  key-{at}: value {at}\n")).collect();
    let objects: Vec<String> = (0..OBJECTS)
        .map(|at| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a{at}\ndata:\n{fields}"))
        .collect();
    let mut tree = MemoryTree::new();
    tree.insert("kustomization.yaml", "resources: [a.yaml]\nnamePrefix: x-\n");
    tree.insert("a.yaml", objects.join("---\n"));
    tree
}

/// Returns how many bytes the build holds beside what it was given, as the first and as the last object is given
/// away; the objects are kept or not.
fn held(tree: &MemoryTree, keep: bool) -> (usize, usize) {
    let budget = Budget::default();
    let input = RenderInput::new(tree, "", &budget);
    let region = Region::new(ALLOCATOR);
    let (mut kept, mut first, mut last) = (Vec::with_capacity(OBJECTS), 0, 0);
    build_each(&input, &mut |object| {
        if keep {
            kept.push(object);
        } else {
            drop(object);
        }
        let change = region.change();
        last = change.bytes_allocated - change.bytes_deallocated;
        if first == 0 {
            first = last;
        }
    })
    .expect("the source builds");
    (first, last)
}

#[test]
fn no_object_is_held_twice() {
    let tree = source();
    let (all, rest) = held(&tree, false);
    assert!(
        rest < all / 10,
        "{all} bytes before the objects are given away, {rest} behind them"
    );
    let (_, objects) = held(&tree, true);
    assert!(objects < 2 * all, "{objects} bytes of objects, made of {all}");
}
