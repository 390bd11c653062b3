//! Maps of one field, which take ten times what a scalar takes, written out and made by aliases.

use std::fmt::Write;

use flotilla_render::helm::context::Limits;

use super::{Hostile, OBJECT, chart_with, json_patched, kustomize, rendered};

pub(super) const INPUTS: &[Hostile] = &[
    ("some-maps-of-one-field", "builds", || object(plain(100_000))),
    ("maps-of-one-field", "bytes of text", || object(plain(600_000))),
    ("maps-by-aliases", "bytes of text", || object(aliases(60, 18))),
    ("maps-of-many-objects", "bytes of text", maps_of_many_objects),
    ("a-json-patch-of-some-maps", "builds", || patched(plain(60_000))),
    ("a-json-patch-of-maps", "bytes of text", || {
        patched(plain(270_000))
    }),
    ("a-json-patch-of-maps-by-aliases", "bytes of text", || {
        patched(aliases(60, 18))
    }),
    ("json-patches-of-maps", "bytes of text", json_patches_of_maps),
    ("a-hash-of-maps", "bytes of text", || hashed(plain(600_000))),
    ("a-hash-of-fewer-maps", "bytes of text", || hashed(plain(250_000))),
    ("a-hash-of-markup", "bytes of text", a_hash_of_markup),
    ("a-plugin-of-maps", "bytes of text", a_plugin_of_maps),
    ("maps-in-a-text-of-json", "bytes of text", maps_in_a_text_of_json),
    ("values-of-maps", "files of the chart together", || {
        values(plain(550_000))
    }),
    ("values-of-maps-by-aliases", "files of the chart together", || {
        values(aliases(60, 36))
    }),
    (
        "values-of-fewer-maps-by-aliases",
        "files of the chart together",
        || values(aliases(60, 9)),
    ),
    ("values-of-as-many-maps-as-may-be", "bytes of copies", || {
        values(plain(300_000))
    }),
    ("values-of-some-maps", "builds", || values(plain(20_000))),
    ("given-values-of-maps", "bytes of copies", || {
        chart_with("a: 1\n", &plain(300_000), &[], Limits::default())
    }),
    ("a-manifest-of-maps-by-aliases", "number of nodes", || {
        chart_with(
            &format!("{OBJECT}{}", aliases(60, 18)),
            "",
            &[],
            Limits::default(),
        )
    }),
    ("a-manifest-of-maps", "builds", || {
        chart_with(&format!("{OBJECT}{}", plain(500_000)), "", &[], Limits::default())
    }),
];

/// A list of so many maps, written out.
fn plain(maps: usize) -> String {
    format!("z:\n{}", "- {a: 1}\n".repeat(maps))
}

/// A few thousand bytes: 800 chains of so many maps, as often as that.
fn aliases(depth: usize, times: usize) -> String {
    let chain = format!("{}1{}", "{a: ".repeat(depth), "}".repeat(depth));
    let mut text = format!("a0: &a0 [{}]\n", vec![chain; 8].join(", "));
    for level in 1..3 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{inner}]");
    }
    text + &format!("z: [{}]\n", vec!["*a2"; times].join(", "))
}

fn object(fields: String) -> Result<(), String> {
    kustomize(&[
        ("kustomization.yaml", "resources: [a.yaml]\n".to_owned()),
        ("a.yaml", OBJECT.to_owned() + &fields),
    ])
}

/// Objects of which each is within what the largest may have as JSON.
fn maps_of_many_objects() -> Result<(), String> {
    let one = |at: usize| OBJECT.replace("name: a", &format!("name: a{at}")) + &aliases(5, 50);
    let all: Vec<String> = (0..9).map(one).collect();
    kustomize(&[
        ("kustomization.yaml", "resources: [a.yaml]\n".to_owned()),
        ("a.yaml", all.join("---\n")),
    ])
}

fn patched(fields: String) -> Result<(), String> {
    json_patched(
        OBJECT.to_owned() + &fields,
        &["op: add, path: /data, value: {x: y}".to_owned()],
    )
}

/// What patches hold themselves.
fn json_patches_of_maps() -> Result<(), String> {
    let fields = aliases(60, 18).replace('\n', "\n    ");
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n".to_owned(),
        ),
        ("a.yaml", OBJECT.to_owned()),
        (
            "p.yaml",
            format!("- op: test\n  path: /x\n  value:\n    {fields}\n"),
        ),
    ])
}

fn hashed(fields: String) -> Result<(), String> {
    kustomize(&[
        ("kustomization.yaml", "resources: [a.yaml]\n".to_owned()),
        (
            "a.yaml",
            "apiVersion: example.com/v1\nkind: Part\nmetadata: {name: a, annotations: {internal.config.kubernetes.io/needsHashSuffix: enabled}}\n".to_owned()
                + &fields,
        ),
    ])
}

/// Six bytes are written for each.
fn a_hash_of_markup() -> Result<(), String> {
    hashed(format!("z: '{}'\n", "<".repeat(40 << 20)))
}

fn a_plugin_of_maps() -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\ntransformers: [t.yaml]\n".to_owned(),
        ),
        ("a.yaml", OBJECT.to_owned()),
        (
            "t.yaml",
            "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: x}\nprefix: p-\nfieldSpecs: [{path: metadata/name}]\n".to_owned()
                + &plain(600_000),
        ),
    ])
}

fn maps_in_a_text_of_json() -> Result<(), String> {
    let maps = vec!["{\"a\":1}"; 650_000].join(",");
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\nreplacements: [{sourceValue: w, targets: [{select: {kind: ConfigMap}, fieldPaths: [data.j.k]}]}]\n".to_owned(),
        ),
        (
            "a.yaml",
            format!("{OBJECT}data: {{j: '{{\"k\":\"v\",\"z\":[{maps}]}}'}}\n"),
        ),
    ])
}

/// Renders a chart with these default values.
fn values(values: String) -> Result<(), String> {
    let files = [
        (
            "Chart.yaml",
            "apiVersion: v2\nname: c\nversion: 1.0.0\n".to_owned(),
        ),
        ("values.yaml", values),
        ("templates/a.yaml", "a: 1\n".to_owned()),
    ];
    let owned = files.map(|(name, text)| (name.to_owned(), text));
    rendered(owned.into(), "", Limits::default())
}
