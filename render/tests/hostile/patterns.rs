//! Regular expressions made to exhaust a renderer by their groups, and by what searches keep of each.

use flotilla_render::helm::context::Limits;

use super::{Hostile, chart, chart_with, kustomize};

pub(super) const INPUTS: &[Hostile] = &[
    ("groups-of-a-selector", "builds", || {
        let pattern = format!("[ab]*a[ab]{{300}}c{}", "()".repeat(6_000));
        built(
            &format!(
                "patches: [{{target: {{name: '{pattern}'}}, patch: '[{{\"op\": \"remove\", \"path\": \"/data\"}}]'}}]\n"
            ),
            &format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}\n",
                letters(16_000)
            ),
        )
    }),
    ("groups-of-an-image-name", "builds", || {
        let pattern = format!("[ab]*a[ab]{{300}}c{}", "()".repeat(6_000));
        built(
            &format!("images: [{{name: '{pattern}', newTag: x}}]\n"),
            &pod(&letters(16_000)),
        )
    }),
    ("kept-names-of-images", "builds", || {
        let entries: String = (0..520)
            .map(|at| format!("- {{name: '[ab]*a[ab]{{20}}c{at}', newTag: x}}\n"))
            .collect();
        built(&format!("images:\n{entries}"), &pod(&letters(9_000)))
    }),
    ("groups-of-a-schema", "builds", || {
        let schema = format!(
            "{{\"properties\":{{\"a\":{{\"type\":\"string\",\"pattern\":\"{}x\"}}}}}}",
            "()".repeat(80_000)
        );
        let files = [("values.schema.json", schema.as_str())];
        chart_with("", "a: hello-x\n", &files, Limits::default())
    }),
    ("groups-of-a-replacement", "too many groups", || {
        chart(
            "{{ regexReplaceAll (printf `%s[ab]*a[ab]{500}.*` (repeat 1500 `()`)) (repeat 100000 `ab`) `$1` | len }}",
            "",
        )
    }),
    ("groups-that-each-match-copies", "steps", || {
        chart(
            "{{ regexReplaceAll (printf `%s[ab]*a[ab]{100}.*` (repeat 400 `()`)) (repeat 100000 `ab`) `$1` | len }}",
            "",
        )
    }),
    // Behind each of them, none closes.
    ("braces-of-a-selector", "builds", || {
        let pattern = format!("(?:{}){{0}}|a", "{".repeat(250_000));
        built(
            &format!(
                "patches: [{{target: {{name: '{pattern}'}}, patch: '[{{\"op\": \"remove\", \"path\": \"/data\"}}]'}}]\n"
            ),
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {}\n",
        )
    }),
    ("groups-that-nothing-names", "builds", || {
        chart(
            "a: {{ regexReplaceAll (printf `%sa` (repeat 4000 `()`)) (repeat 1000 `ab`) `y` | len }}",
            "",
        )
    }),
    ("beginnings-of-keys-without-an-end", "parsing private key", || {
        chart_with(
            "{{ (genCAWithKey `x` 1 (repeat 900000 `-----BEGIN A-----\n`)).Cert }}",
            "",
            &[],
            Limits::default(),
        )
    }),
];

fn built(fields: &str, object: &str) -> Result<(), String> {
    kustomize(&[
        ("kustomization.yaml", format!("resources: [a.yaml]\n{fields}")),
        ("a.yaml", object.to_owned()),
    ])
}

fn pod(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
    )
}

/// A text of two letters, which leads an automaton to another state at each of them.
fn letters(count: u32) -> String {
    let bit = |at: u32| at.wrapping_mul(at).wrapping_mul(2_654_435_761) >> 31;
    (0..count)
        .map(|at| if bit(at) == 0 { 'a' } else { 'b' })
        .collect()
}
