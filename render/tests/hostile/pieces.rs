//! Kustomizations made to exhaust the engine by the pieces of one text, by what is kept of each, and by lists that are
//! gone through for each object.

use super::{Hostile, OBJECT, kustomize};

pub(super) const INPUTS: &[Hostile] = &[
    (
        "names-of-variables-that-do-not-end",
        "builds",
        names_of_variables_that_do_not_end,
    ),
    ("tags-of-a-long-prefix", "bytes of text", tags_of_a_long_prefix),
    ("patches-of-a-long-name", "builds", patches_of_a_long_name),
    (
        "patches-that-rename-over-and-over",
        "bytes of text",
        patches_that_rename_over_and_over,
    ),
    ("images-with-a-note-each", "builds", images_with_a_note_each),
    ("a-text-of-delimiters", "builds", a_text_of_delimiters),
    ("a-path-of-many-parts", "nest deeper", a_path_of_many_parts),
    ("a-file-of-many-folders", "does not exist", a_file_of_many_folders),
    ("a-pointer-of-many-parts", "missing path", a_pointer_of_many_parts),
    ("a-value-in-a-long-path", "builds", a_value_in_a_long_path),
    ("an-env-file-of-keys", "bytes of text", an_env_file_of_keys),
    ("an-order-of-many-kinds", "builds", an_order_of_many_kinds),
];

/// Builds an object, with what a kustomization says beside it.
pub(crate) fn built(fields: &str, object: String) -> Result<(), String> {
    kustomize(&[
        ("kustomization.yaml", format!("resources: [a.yaml]\n{fields}")),
        ("a.yaml", object),
    ])
}

fn names_of_variables_that_do_not_end() -> Result<(), String> {
    let args = "$(".repeat(1_000_000);
    built(
        "vars: [{name: A, objref: {apiVersion: v1, kind: Pod, name: p}, fieldref: {fieldpath: metadata.name}}]\n",
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, args: ['{args}']}}]}}\n"
        ),
    )
}

fn tags_of_a_long_prefix() -> Result<(), String> {
    let items = "- !e!x a\n".repeat(10_000);
    kustomize(&[(
        "kustomization.yaml",
        format!("%TAG !e! {}\n---\nresources:\n{items}", "x".repeat(100_000)),
    )])
}

/// So many patches of the one object that keep its name, which is long.
fn patches_of_a_long_name() -> Result<(), String> {
    let patch = "- target: {kind: ConfigMap}\n  patch: '[{\"op\": \"add\", \"path\": \"/data\", \"value\": {\"a\": \"b\"}}]'\n";
    built(
        &format!("patches:\n{}", patch.repeat(6000)),
        OBJECT.replace("name: a", &format!("name: {}", "c".repeat(150_000))),
    )
}

/// So many patches of which each gives the one object another long name.
fn patches_that_rename_over_and_over() -> Result<(), String> {
    let long = "c".repeat(150_000);
    let patches: String = (0..200)
        .map(|at| {
            format!(
                "- target: {{kind: ConfigMap}}\n  patch: '[{{\"op\": \"replace\", \"path\": \"/metadata/name\", \"value\": \"n{at}-{long}\"}}]'\n"
            )
        })
        .collect();
    built(&format!("patches:\n{patches}"), OBJECT.to_owned())
}

/// So many entries with a transformer each, and as many fields that each of them has.
fn images_with_a_note_each() -> Result<(), String> {
    let images: String = (0..8_000)
        .map(|at| format!("- {{name: i{at}, newTag: a}}\n"))
        .collect();
    let fields: String = (0..8_000)
        .map(|at| format!("- {{path: a/b{at}, kind: Zz}}\n"))
        .collect();
    kustomize(&[
        (
            "kustomization.yaml",
            format!(
                "resources: [a.yaml]\nbuildMetadata: [transformerAnnotations]\nconfigurations: [c.yaml]\nimages:\n{images}"
            ),
        ),
        // A definition has no images, so that no field is looked for.
        (
            "a.yaml",
            OBJECT
                .replace("v1", "apiextensions.k8s.io/v1")
                .replace("ConfigMap", "CustomResourceDefinition"),
        ),
        ("c.yaml", format!("images:\n{fields}")),
    ])
}

fn a_text_of_delimiters() -> Result<(), String> {
    built(
        "replacements:\n- sourceValue: x\n  targets: [{select: {name: a}, fieldPaths: [data.x], options: {delimiter: ',', index: 1}}]\n",
        format!("{OBJECT}data: {{x: '{}'}}\n", ",".repeat(17_000_000)),
    )
}

fn a_path_of_many_parts() -> Result<(), String> {
    built(
        &format!(
            "replacements:\n- sourceValue: x\n  targets: [{{select: {{name: a}}, fieldPaths: ['{}b']}}]\n",
            "a.".repeat(8_000_000)
        ),
        OBJECT.to_owned(),
    )
}

fn a_file_of_many_folders() -> Result<(), String> {
    kustomize(&[(
        "kustomization.yaml",
        format!("crds: ['{}b']\n", "a/".repeat(8_000_000)),
    )])
}

fn a_pointer_of_many_parts() -> Result<(), String> {
    built(
        &format!(
            "patches:\n- target: {{kind: ConfigMap}}\n  patch: |\n    [{{\"op\": \"remove\", \"path\": \"{}\"}}]\n",
            "/a".repeat(8_000_000)
        ),
        OBJECT.to_owned(),
    )
}

fn a_value_in_a_long_path() -> Result<(), String> {
    built(
        "transformers: ['{apiVersion: builtin, kind: ValueAddTransformer, metadata: {name: x}, value: v, targets: [{fieldPath: data/x, filePathPosition: 2}]}']\n",
        format!("{OBJECT}data: {{x: '{}'}}\n", "/".repeat(17_000_000)),
    )
}

fn an_env_file_of_keys() -> Result<(), String> {
    let lines: String = (0..4_000_000).map(|at| format!("{at:06x}\n")).collect();
    kustomize(&[
        (
            "kustomization.yaml",
            "configMapGenerator: [{name: a, envs: [a.env]}]\n".to_owned(),
        ),
        ("a.env", lines),
    ])
}

fn an_order_of_many_kinds() -> Result<(), String> {
    let kinds: Vec<String> = (0..150_000).map(|at| format!("Aonfig{at:06}")).collect();
    let objects: Vec<String> = (0..5000)
        .map(|at| format!("apiVersion: v1\nkind: ConfigMapData\nmetadata: {{name: c{at}}}\n"))
        .collect();
    built(
        &format!(
            "sortOptions: {{order: legacy, legacySortOptions: {{orderFirst: [{}], orderLast: []}}}}\n",
            kinds.join(", ")
        ),
        objects.join("---\n"),
    )
}
