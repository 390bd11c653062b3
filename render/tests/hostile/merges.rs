//! Patches made to exhaust the engine by what merging copies, and by what it looks items up in.

use super::pieces::built;
use super::{Hostile, OBJECT, is_long, kustomize};

pub(crate) const INPUTS: &[Hostile] = &[
    ("large-items-that-double-with-each-patch", "bytes of text", || {
        let fields: String = (0..1000).map(|at| format!(", f{at}: a")).collect();
        doubled("Service", "ports", &format!("{{protocol: UDP{fields}}}"), 14)
    }),
    ("small-items-that-double-with-each-patch", "bytes of text", || {
        doubled("Service", "ports", "{protocol: UDP, name: a}", 30)
    }),
    // Both are merged with one patch each, and are many by then.
    ("items-that-double-are-few-at-first", "builds", || {
        doubled("Service", "ports", "{protocol: UDP, name: a}", 10)
    }),
    ("as-many-keys-as-items", "more than 16 keys", || {
        keyed(7_000, 7_000)
    }),
    ("many-keys-of-no-items", "more than 16 keys", || keyed(100_000, 1)),
    ("as-many-keys-as-are-taken", "builds", || keyed(16, 20_000)),
    ("keys-of-a-list-that-are-long", "builds", keys_that_are_long),
    (
        "items-of-each-set-of-keys",
        "the build",
        items_of_each_set_of_keys,
    ),
    ("lists-within-lists-that-merge", "builds", lists_within_lists),
    ("patches-that-replace-large-objects", "builds", || {
        let data: String = (0..20_000).map(|at| format!("k{at}: v, ")).collect();
        let patch = "- patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, $patch: replace, data: {k: v}}'\n";
        built(
            &format!("patches:\n{}", patch.repeat(if is_long() { 200 } else { 40 })),
            format!("{OBJECT}data: {{{data}}}\n"),
        )
    }),
];

/// An object of which one item has one of two keys, and so many patches of another item.
fn doubled(kind: &str, list: &str, item: &str, patches: usize) -> Result<(), String> {
    let object = |items: &str| {
        format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: a}}, spec: {{{list}: [{items}]}}}}")
    };
    let other = "{port: 80, protocol: TCP}";
    let patch = format!("- patch: '{}'\n", object(other));
    built(
        &format!("patches:\n{}", patch.repeat(patches)),
        object(&format!("{item}, {other}")) + "\n",
    )
}

/// Merges a patch into a list of a type of its own, whose items are told apart by these keys.
fn typed(keys: &[String], more: &str, items: &str, patch: &str) -> Result<(), String> {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    let schema = format!(
        r##"{{"definitions":{{"g.v1.K":{{"x-kubernetes-group-version-kind":[{{"group":"g","version":"v1","kind":"K"}}],"type":"object","properties":{{"spec":{{"$ref":"#/definitions/S"}}}}}},"S":{{"type":"object","properties":{{"items":{{"type":"array","x-kubernetes-patch-strategy":"merge","x-kubernetes-list-map-keys":[{}],"items":{{"type":"object"{more}}}}}}}}}}}}}"##,
        keys.join(",")
    );
    let object = |items: &str| {
        format!("apiVersion: g/v1\nkind: K\nmetadata: {{name: a}}\nspec:\n  items: [{items}]\n")
    };
    kustomize(&[
        (
            "kustomization.yaml",
            "openapi: {path: schema.json}\nresources: [a.yaml]\npatches: [{path: p.yaml}]\n".to_owned(),
        ),
        ("schema.json", schema),
        ("a.yaml", object(items)),
        ("p.yaml", object(patch)),
    ])
}

fn keyed(keys: usize, items: usize) -> Result<(), String> {
    let keys: Vec<String> = (0..keys).map(|at| format!("k{at}")).collect();
    let items: String = (0..items).map(|at| format!("{{k0: v{at}}}, ")).collect();
    typed(&keys, "", &items, "{k0: v0, x: y}")
}

fn keys_that_are_long() -> Result<(), String> {
    let keys: Vec<String> = (0..4).map(|at| format!("{}{at}", "k".repeat(1 << 20))).collect();
    let items: String = (0..2_000).map(|at| format!("{{x: v{at}}}, ")).collect();
    typed(&keys, "", &items, "{x: y}")
}

/// Each item has other keys than the others, and is looked up by those.
fn items_of_each_set_of_keys() -> Result<(), String> {
    let keys: Vec<String> = (0..16).map(|at| format!("k{at}")).collect();
    let items: String = (1..1 << 16)
        .map(|set| {
            let fields = (0..16).filter(|at| set >> at & 1 == 1);
            let fields: Vec<String> = fields.map(|at| format!("k{at}: v{set}")).collect();
            format!("{{{}}}, ", fields.join(", "))
        })
        .collect();
    typed(&keys, "", &items, "{k0: v1, x: y}")
}

/// Each level is merged, and copied, with all that is below it.
fn lists_within_lists() -> Result<(), String> {
    let nested = |depth: usize, inner: &str| {
        format!(
            "{}{inner}{}",
            "{k0: a, items: [".repeat(depth),
            "]}".repeat(depth)
        )
    };
    let inner: String = (0..20_000).map(|at| format!("{{k0: v{at}}}, ")).collect();
    let more = r##","properties":{"items":{"$ref":"#/definitions/S/properties/items"}}"##;
    typed(
        &["k0".to_owned()],
        more,
        &nested(40, &inner),
        &nested(40, "{k0: b}"),
    )
}
