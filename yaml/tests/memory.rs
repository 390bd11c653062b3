//! What is counted for maps and for JSON against what is allocated for them.

use std::alloc::System;
use std::collections::BTreeMap;

use flotilla_yaml::node::{Limits, Schema, parse_first};
use flotilla_yaml::{Value, json_bytes, map_bytes};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is made, in bytes that are held then.
fn held<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    (made, change.bytes_allocated - change.bytes_deallocated)
}

/// One test, since the allocations of others would be counted too.
#[test]
fn what_maps_and_json_take_is_counted_and_not_much_more() {
    for fields in [0, 1, 2, 11, 12, 13, 50, 1_000, 100_000] {
        let filled = |keys: &mut dyn Iterator<Item = usize>| {
            let mut map: BTreeMap<[u64; 3], Value> = BTreeMap::new();
            keys.for_each(|key| _ = map.insert([key as u64, 0, 0], Value::Null));
            map
        };
        // A step that leads to each number once, in no order.
        let mixed = (0..fields).map(|key| key * 7919 % fields.max(1));
        for (order, keys) in [
            ("upwards", &mut (0..fields) as &mut dyn Iterator<Item = usize>),
            ("downwards", &mut (0..fields).rev()),
            ("mixed", &mut { mixed }),
        ] {
            let (map, taken) = held(|| filled(keys));
            assert_eq!(map.len(), fields);
            let counted = map_bytes::<[u64; 3], Value>(fields);
            assert!(taken <= counted, "{fields} fields {order}: {taken} of {counted}");
            assert!(
                counted <= 2 * taken,
                "{fields} fields {order}: {taken} of {counted}"
            );
        }
    }
    for text in [
        "{a: 1}".to_owned(),
        format!("[{}]", "{a: x}, ".repeat(1_000)),
        format!("[{}]", "{a: {a: {a: {}}}}, ".repeat(1_000)),
        format!("[{}]", "x, ".repeat(1_000)),
        format!(
            "{{{}}}",
            (0..1_000).map(|at| format!("k{at}: v, ")).collect::<String>()
        ),
    ] {
        let node = parse_first(text.as_bytes(), Limits::default());
        let node = node.expect("YAML").expect("a document");
        let (json, taken) = held(|| node.to_json(Schema::New).expect("JSON"));
        for counted in [node.json_bytes(), json_bytes(&json)] {
            assert!(taken <= counted + 64, "{text:.40}: {taken} of {counted}");
            // Texts of one byte are counted as what the allocator takes for them.
            assert!(counted <= 3 * taken + 64, "{text:.40}: {taken} of {counted}");
        }
    }
}
