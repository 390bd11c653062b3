//! Kustomizations made to exhaust the engine by what they name and by what their files grow to.

use super::{Hostile, OBJECT, json_patched, kustomize, put_into_each_other, thousand_objects};

pub(super) const INPUTS: &[Hostile] = &[
    ("a-long-path-of-labels", "nest deeper", || {
        kustomized(&format!(
            "labels: [{{pairs: {{a: b}}, fields: [{{path: {}, create: true}}]}}]\n",
            path('/')
        ))
    }),
    ("a-long-path-of-replacements", "nest deeper", || {
        replaced(&path('.'))
    }),
    ("a-long-path-of-a-source", "nest deeper", || {
        kustomized(&format!(
            "replacements:\n- source: {{kind: ConfigMap, fieldPath: {}}}\n  targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [data.a]}}]\n",
            path('.')
        ))
    }),
    ("a-long-path-of-a-value", "nest deeper", || {
        kustomized(&format!(
            "transformers: ['{{apiVersion: builtin, kind: ValueAddTransformer, metadata: {{name: x}}, value: v, targets: [{{fieldPath: {}}}]}}']\n",
            path('/')
        ))
    }),
    ("a-long-path-of-a-configuration", "nest deeper", || {
        configured("namePrefix: x-", "namePrefix")
    }),
    ("a-long-path-of-replicas", "nest deeper", || {
        configured("replicas: [{name: a, count: 1}]", "replicas")
    }),
    ("a-long-path-of-a-variable", "nest deeper", || {
        kustomized(&format!(
            "vars: [{{name: V, objref: {{apiVersion: v1, kind: ConfigMap, name: a}}, fieldref: {{fieldpath: {}}}}}]\n",
            path('.')
        ))
    }),
    ("json-values-that-nest", "nest deeper", || {
        let add = |level: usize| format!("op: add, path: {}, value: {{}}", "/a".repeat(level));
        json_patched(
            format!("{OBJECT}a: {{}}\n"),
            &(2..900).map(add).collect::<Vec<_>>(),
        )
    }),
    ("replacements-that-nest", "nest deeper", || {
        put_into_each_other(5000, |_| "k".to_owned())
    }),
    ("a-path-through-nested-lists", "nest deeper", || {
        let path = vec!["a"; 99].join("/");
        kustomize(&[
            (
                "kustomization.yaml",
                format!(
                    "resources: [a.yaml]\nlabels: [{{pairs: {{a: b}}, fields: [{{path: x/{path}, create: true}}]}}]\n"
                ),
            ),
            (
                "a.yaml",
                format!("{OBJECT}x: {}{{}}{}\n", "[".repeat(90), "]".repeat(90)),
            ),
        ])
    }),
    ("documents-of-aliases", "bytes of text", || {
        let document = |at: usize| {
            format!(
                "{}{}",
                OBJECT.replace("name: a", &format!("name: a{at}")),
                grown()
            )
        };
        let documents: Vec<String> = (0..60).map(document).collect();
        kustomize(&[
            ("kustomization.yaml", "resources: [a.yaml]\n".to_owned()),
            ("a.yaml", documents.join("---\n")),
        ])
    }),
    ("patches-of-aliases", "bytes of text", || {
        many_files(
            "patches",
            |name| format!("{{path: {name}}}"),
            format!("{OBJECT}{}", grown()),
        )
    }),
    ("definitions-of-aliases", "bytes of text", || {
        let within = grown().replace('\n', "\n  ");
        many_files("crds", str::to_owned, format!("d:\n  {within}"))
    }),
    ("notes-of-a-transformer-of-a-long-name", "bytes of text", || {
        kustomize(&[
            (
                "kustomization.yaml",
                format!(
                    "resources: [a.yaml]\nbuildMetadata: [transformerAnnotations]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: PrefixTransformer\n  metadata: {{name: {}}}\n  prefix: p-\n  fieldSpecs: [{{path: metadata/name}}]\n",
                    "x".repeat(1 << 20)
                ),
            ),
            ("a.yaml", thousand_objects()),
        ])
    }),
    ("output-that-is-mostly-indentation", "bytes of text", || {
        kustomize(&[
            ("kustomization.yaml", "resources: [a.yaml]\n".to_owned()),
            (
                "a.yaml",
                format!(
                    "{OBJECT}x: {}{}{}\n",
                    "[".repeat(95),
                    "0,".repeat(1_200_000),
                    "]".repeat(95)
                ),
            ),
        ])
    }),
    ("json-copies-of-small-objects", "bytes of text", || {
        let value = format!("[{}null]", "{\"\":null},".repeat(20_000));
        let copies = vec!["op: copy, from: /x, path: /y/-".to_owned(); 22];
        let first = [
            format!("op: add, path: /x, value: {value}"),
            "op: add, path: /y, value: []".to_owned(),
        ];
        json_patched(OBJECT.to_owned(), &[&first[..], &copies].concat())
    }),
    ("a-json-patch-of-small-objects", "bytes of text", || {
        let value = format!("[{}null]", "{\"\":null},".repeat(450_000));
        json_patched_by(format!(
            "[{{\"op\": \"add\", \"path\": \"/x\", \"value\": {value}}}]"
        ))
    }),
    ("json-patches-of-many-values", "bytes of text", || {
        let value = format!("[{}0]", "0,".repeat(10 << 20));
        many_files(
            "patchesJson6902",
            |name| format!("{{path: {name}, target: {{version: v1, kind: ConfigMap, name: a}}}}"),
            format!("[{{\"op\": \"add\", \"path\": \"/x\", \"value\": {value}}}]"),
        )
    }),
];

fn json_patched_by(patch: String) -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n".to_owned(),
        ),
        ("a.yaml", OBJECT.to_owned()),
        ("p.yaml", patch),
    ])
}

/// A path of more parts than any stack is deep, and of fewer bytes than anybody would notice.
fn path(separator: char) -> String {
    vec!["a"; 8000].join(&separator.to_string())
}

/// A document of 370 bytes that has 700,000 nodes.
fn grown() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..5 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    text + "a: [*a4, *a4, *a4, *a4, *a4]\n"
}

fn kustomized(fields: &str) -> Result<(), String> {
    kustomize(&[
        ("kustomization.yaml", format!("resources: [a.yaml]\n{fields}")),
        ("a.yaml", format!("{OBJECT}data: {{a: b}}\n")),
    ])
}

fn replaced(path: &str) -> Result<(), String> {
    kustomized(&format!(
        "replacements:\n- source: {{kind: ConfigMap}}\n  targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [{path}], options: {{create: true}}}}]\n"
    ))
}

/// Builds with a configuration that gives a transformer a long path.
fn configured(transformer: &str, list: &str) -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            format!("resources: [a.yaml]\nconfigurations: [c.yaml]\n{transformer}\n"),
        ),
        ("a.yaml", OBJECT.to_owned()),
        (
            "c.yaml",
            format!("{list}: [{{path: {}, create: true}}]\n", path('/')),
        ),
    ])
}

/// Builds with a field that names a file of that text four times, and more often when the text is short.
fn many_files(field: &str, entry: impl Fn(&str) -> String, text: String) -> Result<(), String> {
    let count = if text.len() < 1000 { 60 } else { 4 };
    let names: Vec<String> = (0..count).map(|at| format!("f{at}.yaml")).collect();
    let entries: Vec<String> = names.iter().map(|name| entry(name)).collect();
    let mut files = vec![
        (
            "kustomization.yaml",
            format!("resources: [a.yaml]\n{field}: [{}]\n", entries.join(", ")),
        ),
        ("a.yaml", OBJECT.to_owned()),
    ];
    files.extend(names.iter().map(|name| (name.as_str(), text.clone())));
    kustomize(&files)
}
