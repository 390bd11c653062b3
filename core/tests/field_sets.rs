//! Sets of field paths against the code that the API server uses for `managedFields`.

#[path = "common/oracle.rs"]
mod oracle;

use flotilla_core::apply::fields::union;
use oracle::{Oracle, Random};
use serde_json::{Map, Value, json};

#[test]
fn unions_are_those_of_the_api_server() {
    let mut oracle = Oracle::start("fieldset");
    let mut random = Random::seeded();
    for _ in 0..3_000 {
        let (a, b) = (set(&mut random, 4), set(&mut random, 4));
        let ours = union(&a, &b);
        let answer = oracle.ask(&json!({"a": a, "b": b, "union": ours}));
        assert_eq!(answer["error"], "", "{a} and {b}");
        assert_eq!(
            answer["equal"], true,
            "{a} and {b}: ours {ours}, theirs {}",
            answer["union"]
        );
    }
}

/// A random set: every node is owned whole, by parts, or both.
fn set(random: &mut Random, depth: usize) -> Value {
    let names = [
        "f:a",
        "f:b",
        "f:c/d",
        "k:{\"name\":\"x\"}",
        "k:{\"port\":80,\"protocol\":\"TCP\"}",
        "v:\"s\"",
        "v:1",
        "i:0",
    ];
    let mut node = Map::new();
    for _ in 0..=random.below(3) {
        let child = if depth > 0 && !random.one_in(3) {
            set(random, depth - 1)
        } else {
            json!({})
        };
        node.insert(random.pick(&names).to_owned(), child);
    }
    if depth < 4 && random.one_in(3) {
        node.insert(".".into(), json!({}));
    }
    Value::Object(node)
}
