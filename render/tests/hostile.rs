//! Inputs made to exhaust a renderer: each ends, in a result or in a refusal that names the bound, within the usual
//! budgets and 512 MiB of address space. An allocation beyond that ends the process, and so fails the test.

#[path = "hostile/charts.rs"]
mod charts;
#[path = "growth/entries.rs"]
mod entries;
#[path = "hostile/kustomizations.rs"]
mod kustomizations;
#[path = "hostile/maps.rs"]
mod maps;
#[path = "hostile/merges.rs"]
mod merges;
#[path = "hostile/patterns.rs"]
mod patterns;
#[path = "hostile/pieces.rs"]
mod pieces;
#[path = "hostile/schemas.rs"]
mod schemas;
#[path = "hostile/shared_values.rs"]
mod shared_values;

use std::{path::Path, process::Command, sync::Mutex};

use flotilla_render::helm::action::{Output, template};
use flotilla_render::helm::archive::{File, Limits as ChartLimits};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::{Context, Limits};
use flotilla_render::helm::values;
use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};
use flotilla_render_tests::{cases, rendered::first_install};

/// In KiB, as the shell takes it.
const MEMORY: usize = 512 << 10;
/// Seconds of a processor's time that an input may take at most, as tests are built: many times what each takes, and far
/// less than what grows with the square of one.
const SECONDS: usize = 600;
/// Names the input that a process of its own is for.
const NAMED: &str = "FLOTILLA_HOSTILE";

const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

/// An input and how it ends: `builds`, or words of the refusal.
type Hostile = (&'static str, &'static str, fn() -> Result<(), String>);

const INPUTS: &[Hostile] = &[
    ("patch-of-a-large-list", "builds", patch_of_a_large_list),
    ("rows-that-say-little", "builds", rows_that_say_little),
    ("large-file-of-lines", "builds", large_file_of_lines),
    ("merge-keys-over-and-over", "nodes", merge_keys_over_and_over),
    ("aliases-of-a-long-text", "bytes of text", aliases_of_a_long_text),
    ("aliases-of-aliases", "nodes", aliases_of_aliases),
    (
        "a-value-for-every-object",
        "bytes of text",
        a_value_for_every_object,
    ),
    (
        "json-copies-that-double",
        "bytes of text",
        json_copies_that_double,
    ),
    ("json-copies-that-nest", "nest deeper", json_copies_that_nest),
    (
        "json-copies-of-a-long-text",
        "bytes of text",
        json_copies_of_a_long_text,
    ),
    (
        "a-json-value-for-every-object",
        "bytes of text",
        a_json_value_for_every_object,
    ),
    (
        "a-merge-patch-for-every-object",
        "bytes of text",
        a_merge_patch_for_every_object,
    ),
    (
        "a-merge-patch-of-many-items",
        "bytes of text",
        a_merge_patch_of_many_items,
    ),
    (
        "replacements-that-double",
        "bytes of text",
        replacements_that_double,
    ),
    ("items-without-a-name", "builds", items_without_a_name),
    (
        "variables-of-a-long-text",
        "bytes of text",
        variables_of_a_long_text,
    ),
    ("a-long-prefix", "bytes of text", || transformed("namePrefix")),
    ("a-long-suffix", "bytes of text", || transformed("nameSuffix")),
    ("a-long-namespace", "bytes of text", || transformed("namespace")),
    (
        "an-image-of-a-long-name",
        "bytes of text",
        an_image_of_a_long_name,
    ),
    (
        "a-long-label-of-generators",
        "bytes of text",
        a_long_label_of_generators,
    ),
    (
        "yaml-made-in-a-template",
        "exceeds the limit",
        yaml_made_in_a_template,
    ),
    ("texts-parsed-over-and-over", "steps", texts_parsed_over_and_over),
    ("text-that-doubles", "steps", text_that_doubles),
    // Each of the characters is behind all others, where they are looked through one by one.
    ("a-text-trimmed-of-many-characters", "builds", || {
        chart(
            "{{ $x := trimAll (print (repeat 400000 `a`) `b`) (repeat 400000 `b`) }}",
            "",
        )
    }),
    ("list-that-doubles", "steps", list_that_doubles),
    (
        "a-match-that-is-named-many-times",
        "text of more than",
        a_match_that_is_named_many_times,
    ),
    (
        "charts-of-many-aliases",
        "more than 1000 charts",
        charts_of_many_aliases,
    ),
    (
        "values-of-many-aliases",
        "bytes of copies",
        values_of_many_aliases,
    ),
    ("values-files-of-aliases", "nodes", values_files_of_aliases),
    ("manifests-of-aliases", "steps", manifests_of_aliases),
    ("a-file-kept-many-times", "bytes of output", || {
        kept("$.Files.Get `big`")
    }),
    ("bytes-of-a-file-kept-many-times", "bytes of output", || {
        kept("$.Files.GetBytes `big`")
    }),
    ("a-field-of-files-kept-many-times", "bytes of output", || {
        kept("index (list $.Files.big) 0")
    }),
    ("lines-of-a-file-kept-many-times", "bytes of output", || {
        kept("$.Files.Lines `big`")
    }),
    ("files-as-yaml-kept-many-times", "bytes of output", || {
        kept("$.Files.AsSecrets")
    }),
    ("values-as-yaml-kept-many-times", "bytes of output", || {
        kept("$.Values.YAML")
    }),
    ("globs-kept-many-times", "bytes of output", globs_kept_many_times),
    ("files-of-a-range-kept", "builds", files_of_a_range_kept),
    ("output-of-many-manifests", "builds", || output(52, 50_000)),
    ("output-of-few-manifests", "builds", || output(4, 600_000)),
    ("lists-printed-as-keys", "bytes of output", || {
        kept("dict (until 100000) 1")
    }),
];

/// So many entries of one field, transformer or generator build as well: 20,000 in a long run, whose memory grows in step
/// with them, as the tests of allocations hold.
fn many_entries() -> usize {
    match is_long() {
        true => 20_000,
        false => 4_000,
    }
}

/// Whether `make soak` runs the tests, which takes its time.
fn is_long() -> bool {
    cases(0) > 0
}

fn inputs() -> impl Iterator<Item = &'static Hostile> {
    INPUTS
        .iter()
        .chain(charts::INPUTS)
        .chain(schemas::INPUTS)
        .chain(kustomizations::INPUTS)
        .chain(merges::INPUTS)
        .chain(maps::INPUTS)
        .chain(patterns::INPUTS)
        .chain(pieces::INPUTS)
        .chain(shared_values::INPUTS)
}

fn names() -> impl Iterator<Item = &'static str> {
    let rows = entries::ROWS.iter().map(|(name, _)| *name);
    inputs().map(|(name, ..)| *name).chain(rows)
}

fn kustomize(files: &[(&str, String)]) -> Result<(), String> {
    let tree: MemoryTree = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let budget = Budget::default();
    build(&RenderInput::new(&tree, "", &budget))
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn one(text: String) -> Result<(), String> {
    kustomize(&[
        ("kustomization.yaml", "resources: [a.yaml]\n".to_owned()),
        ("a.yaml", text),
    ])
}

fn patched(object: String, patch: String) -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: p.yaml}]\n".to_owned(),
        ),
        ("a.yaml", object),
        ("p.yaml", patch),
    ])
}

fn pod(rows: impl Iterator<Item = String>) -> String {
    let rows: String = rows.map(|row| format!("        - {{{row}}}\n")).collect();
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n        ports:\n{rows}"
    )
}

fn patch_of_a_large_list() -> Result<(), String> {
    let rows = |step: usize| (1..=100_000).step_by(step);
    let row = |at: usize| format!("containerPort: {at}, protocol: TCP");
    patched(pod(rows(1).map(row)), pod(rows(10).map(row)))
}

/// Rows that have one of two keys, each of which may be any of many.
fn rows_that_say_little() -> Result<(), String> {
    let full = (1..=50_000).map(|at| format!("containerPort: {at}, protocol: P{at}"));
    let half = (1..=25_000).flat_map(|at| {
        [
            format!("containerPort: {at}"),
            format!("protocol: P{}", at + 25_000),
        ]
    });
    patched(pod(full), pod(half))
}

fn items_without_a_name() -> Result<(), String> {
    let rows = |from: usize| (from..from + 2000).map(|at| format!("name: n{at}, protocol: TCP"));
    patched(pod(rows(0)), pod(rows(1000)))
}

fn large_file_of_lines() -> Result<(), String> {
    let lines: String = (0..500_000).map(|at| format!("k{at}=v\n")).collect();
    kustomize(&[
        (
            "kustomization.yaml",
            "configMapGenerator: [{name: a, envs: [a.env]}]\n".to_owned(),
        ),
        ("a.env", lines),
    ])
}

fn merge_keys_over_and_over() -> Result<(), String> {
    let keys: String = (0..50_000).map(|at| format!("k{at}: v, ")).collect();
    let merged = "*a, ".repeat(50);
    one(format!(
        "{OBJECT}x: {{a: &a {{{keys}}}, b: {{<<: [{merged}]}}}}\n"
    ))
}

fn aliases_of_a_long_text() -> Result<(), String> {
    let long = "x".repeat(1 << 20);
    let aliases: String = (0..20_000).map(|at| format!("  k{at}: *a\n")).collect();
    one(format!("{OBJECT}data:\n  a: &a {long}\n{aliases}"))
}

fn aliases_of_aliases() -> Result<(), String> {
    let mut text = format!("{OBJECT}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    one(text)
}

fn a_value_for_every_object() -> Result<(), String> {
    let objects: Vec<String> = (0..1000)
        .map(|at| {
            format!(
                "{}data: {{a: b}}\n",
                OBJECT.replace("name: a", &format!("name: a{at}"))
            )
        })
        .collect();
    let source = format!(
        "apiVersion: example.com/v1\nkind: Source\nmetadata: {{name: s}}\ndata: {{a: {}}}\n",
        "x".repeat(1 << 20)
    );
    let kustomization = "resources: [a.yaml, s.yaml]\nreplacements:\n- source: {kind: Source, fieldPath: data.a}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.a]}]\n";
    kustomize(&[
        ("kustomization.yaml", kustomization.to_owned()),
        ("a.yaml", objects.join("---\n")),
        ("s.yaml", source),
    ])
}

/// Builds an object with a JSON patch for every ConfigMap.
fn json_patched(object: String, operations: &[String]) -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n".to_owned(),
        ),
        ("a.yaml", object),
        (
            "p.yaml",
            operations.iter().map(|one| format!("- {{{one}}}\n")).collect(),
        ),
    ])
}

fn json_copies_that_double() -> Result<(), String> {
    let copies = (0..30).map(|at| format!("op: copy, from: /data, path: /data/a/k{at}"));
    let operations: Vec<String> = std::iter::once("op: add, path: /data/a, value: {}".to_owned())
        .chain(copies)
        .collect();
    json_patched(format!("{OBJECT}data: {{a: b}}\n"), &operations)
}

fn json_copies_that_nest() -> Result<(), String> {
    let operations = vec!["op: copy, from: /data, path: /data/a".to_owned(); 2000];
    json_patched(format!("{OBJECT}data: {{}}\n"), &operations)
}

fn json_copies_of_a_long_text() -> Result<(), String> {
    let operations: Vec<String> = (0..3000)
        .map(|at| format!("op: copy, from: /data/a, path: /data/k{at}"))
        .collect();
    let long = "x".repeat(1 << 20);
    json_patched(format!("{OBJECT}data: {{a: {long}}}\n"), &operations)
}

fn thousand_objects() -> String {
    let objects: Vec<String> = (0..1000)
        .map(|at| OBJECT.replace("name: a", &format!("name: a{at}")))
        .collect();
    objects.join("---\n")
}

fn a_json_value_for_every_object() -> Result<(), String> {
    let value = "x".repeat(1 << 20);
    json_patched(
        thousand_objects(),
        &[format!("op: add, path: /data, value: {{a: {value}}}")],
    )
}

fn a_merge_patch_for_every_object() -> Result<(), String> {
    merged(&"x".repeat(1 << 20))
}

fn a_merge_patch_of_many_items() -> Result<(), String> {
    merged(&format!("[{}]", "0, ".repeat(100_000)))
}

/// Lays a field of that value over each of many objects.
fn merged(value: &str) -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n".to_owned(),
        ),
        ("a.yaml", thousand_objects()),
        ("p.yaml", format!("{OBJECT}data: {{a: {value}}}\n")),
    ])
}

/// Two objects that are put into each other in turn, each time into the field of that number.
fn put_into_each_other(turns: usize, field: impl Fn(usize) -> String) -> Result<(), String> {
    let object = |name: &str| {
        format!("apiVersion: example.com/v1\nkind: Part\nmetadata: {{name: {name}}}\nspec: {{a: b}}\n")
    };
    let put = |from: &str, into: &str, field: &str| {
        format!(
            "- source: {{name: {from}, fieldPath: spec}}\n  targets: [{{select: {{name: {into}}}, fieldPaths: [spec.{field}], options: {{create: true}}}}]\n"
        )
    };
    let replacements: String = (0..turns)
        .map(&field)
        .map(|field| put("a", "b", &field) + &put("b", "a", &field))
        .collect();
    kustomize(&[
        (
            "kustomization.yaml",
            format!("resources: [a.yaml]\nreplacements:\n{replacements}"),
        ),
        ("a.yaml", [object("a"), object("b")].join("---\n")),
    ])
}

fn replacements_that_double() -> Result<(), String> {
    put_into_each_other(30, |turn| format!("k{turn}"))
}

fn variables_of_a_long_text() -> Result<(), String> {
    let long = "x".repeat(1 << 20);
    let args = "$(V)".repeat(2000);
    let kustomization = "resources: [a.yaml]\nvars:\n- {name: V, objref: {apiVersion: v1, kind: ConfigMap, name: a}, fieldref: {fieldpath: data.a}}\n";
    kustomize(&[
        ("kustomization.yaml", kustomization.to_owned()),
        (
            "a.yaml",
            format!(
                "{OBJECT}data: {{a: {long}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, args: ['{args}']}}]}}\n"
            ),
        ),
    ])
}

/// Writes a long text into each of many objects by a field of the kustomization.
fn transformed(field: &str) -> Result<(), String> {
    kustomize(&[
        (
            "kustomization.yaml",
            format!("resources: [a.yaml]\n{field}: {}\n", "x".repeat(1 << 20)),
        ),
        ("a.yaml", thousand_objects()),
    ])
}

fn a_long_label_of_generators() -> Result<(), String> {
    let generators: String = (0..1000).map(|at| format!("- {{name: a{at}}}\n")).collect();
    let long = "x".repeat(1 << 20);
    kustomize(&[(
        "kustomization.yaml",
        format!("generatorOptions: {{labels: {{a: {long}}}}}\nconfigMapGenerator:\n{generators}"),
    )])
}

fn an_image_of_a_long_name() -> Result<(), String> {
    let containers: String = (0..1000)
        .map(|at| format!("{{name: c{at}, image: 'a:1'}}, "))
        .collect();
    kustomize(&[
        (
            "kustomization.yaml",
            format!(
                "resources: [a.yaml]\nimages: [{{name: a, newName: {}}}]\n",
                "x".repeat(1 << 20)
            ),
        ),
        (
            "a.yaml",
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{containers}]}}\n"
            ),
        ),
    ])
}

/// Renders a chart with a large file and large values that keeps a value many times.
fn kept(value: &str) -> Result<(), String> {
    let source = format!(
        "{{{{ $m := dict }}}}{{{{ range until 100000 }}}}{{{{ $_ := set $m (toString .) ({value}) }}}}{{{{ end }}}}"
    );
    let big = "line\n".repeat(200_000);
    let given = format!("big: {}\n", "x".repeat(1 << 20));
    // Less than the usual bytes, so that the test does not last.
    let limits = Limits {
        bytes: 32 << 20,
        ..Limits::default()
    };
    chart_with(&source, &given, &[("big", &big)], limits)
}

/// Each is a map of all names: a pattern that is none matches all.
fn globs_kept_many_times() -> Result<(), String> {
    let names: Vec<String> = (0..5_000).map(|at| format!("f/{at}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let source = "{{ $d := dict }}{{ range $i := until 3500 }}{{ $_ := set $d (toString $i) ($.Files.Glob `[`) }}{{ end }}a: {{ len $d }}";
    chart_with(source, "", &files, Limits::default())
}

/// The bytes of a file are there once, however often they are handed out.
fn files_of_a_range_kept() -> Result<(), String> {
    let file = "x".repeat(4_500_000);
    let names: Vec<String> = (0..10).map(|at| format!("f{at}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), file.as_str())).collect();
    let source = "{{ $d := dict }}{{ range until 12 }}{{ $_ := set $d (toString .) (repeat 16000000 `a`) }}{{ end }}{{ range $i := until 6 }}{{ range $k, $v := $.Files }}{{ $_ := set $d (printf `%d%s` $i $k) $v }}{{ end }}{{ end }}a: {{ len $d }}";
    chart_with(source, "", &files, Limits::default())
}

/// Writes so many manifests of so many lines each, and prints them.
fn output(manifests: usize, lines: usize) -> Result<(), String> {
    let line = format!("    {}\n", "x".repeat(95));
    let (head, text) = (OBJECT, line.repeat(50_000));
    let times = lines / 50_000;
    let source = format!(
        "{{{{ range until {manifests} }}}}---\n{head}data:\n  a: |\n{{{{ range until {times} }}}}{text}{{{{ end }}}}{{{{ end }}}}"
    );
    chart_with(&source, "", &[], Limits::default())
}

fn chart(source: &str, given: &str) -> Result<(), String> {
    let limits = Limits {
        steps: 300_000,
        ..Limits::default()
    };
    chart_with(source, given, &[], limits)
}

fn chart_with(source: &str, given: &str, more: &[(&str, &str)], limits: Limits) -> Result<(), String> {
    let files = [
        ("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
        ("templates/a.yaml", source),
    ];
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    rendered(files.iter().chain(more).map(owned).collect(), given, limits)
}

fn rendered(files: Vec<(String, String)>, given: &str, limits: Limits) -> Result<(), String> {
    let files = files
        .iter()
        .map(|(name, text)| File::new(name.as_str(), text.as_bytes()))
        .collect();
    let chart = Chart::from_directory(files, ChartLimits::default());
    let chart = chart.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
    let input = first_install(
        &chart,
        values::load(given.as_bytes()).map_err(|error| error.to_string())?,
        Context {
            limits,
            ..Context::default()
        },
    );
    let rendered = template(&input).map_err(|error| error.to_string())?;
    let text = rendered.text(&Output::default());
    text.map(|_| ()).map_err(|error| error.to_string())
}

fn yaml_made_in_a_template() -> Result<(), String> {
    chart(
        "{{ $v := fromYaml (printf \"a: &a %s\\nb: [%s]\" (repeat 1000000 \"a\") (repeat 400000 \"*a,\")) }}a: {{ $v.b | len }}",
        "",
    )
}

fn texts_parsed_over_and_over() -> Result<(), String> {
    let big = format!("{{{{if false}}}}{}{{{{end}}}}", "{{``}}".repeat(100_000));
    let source =
        "{{ range $i := until 100000 }}{{ tpl (printf `{{/*%d*/}}{{ tpl .Values.big . }}` $i) $ }}{{ end }}";
    chart(source, &format!("big: \"{big}\"\n"))
}

fn text_that_doubles() -> Result<(), String> {
    chart(
        "{{ $s := `xxxxxxxxxx` }}{{ range until 100 }}{{ $s = print $s $s }}{{ end }}{{ $s }}",
        "",
    )
}

fn a_match_that_is_named_many_times() -> Result<(), String> {
    chart(
        "{{ regexReplaceAll `.+` (repeat 200000 `a`) (repeat 4000 `$0`) | len }}",
        "",
    )
}

/// The files of charts of which each holds the next under ten names, and the last one these values.
fn nested_charts(depth: usize, values: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folder = String::new();
    for level in 0..=depth {
        let names: String = (0..10)
            .map(|at| format!("- {{name: c{}, version: 1.0.0, alias: d{at}}}\n", level + 1))
            .collect();
        let dependencies = match level < depth {
            true => format!("dependencies:\n{names}"),
            false => String::new(),
        };
        files.push((
            format!("{folder}Chart.yaml"),
            format!("apiVersion: v2\nname: c{level}\nversion: 1.0.0\n{dependencies}"),
        ));
        if level == depth {
            files.push((format!("{folder}values.yaml"), values.to_owned()));
        }
        folder.push_str(&format!("charts/c{}/", level + 1));
    }
    files
}

fn charts_of_many_aliases() -> Result<(), String> {
    rendered(nested_charts(5, "a: b\n"), "", Limits::default())
}

fn values_of_many_aliases() -> Result<(), String> {
    // Of maps each chart has its own.
    let values = format!("a: [{}]\n", "{}, ".repeat(200_000));
    rendered(nested_charts(2, &values), "", Limits::default())
}

/// Files of 370 bytes that have 700,000 nodes each.
fn values_files_of_aliases() -> Result<(), String> {
    let file = |at: usize| {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..5 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        text.push_str(&format!("k{at}: [*a4, *a4, *a4, *a4, *a4]\n"));
        (format!("{at}.yaml"), text.into_bytes())
    };
    let sources = values::Sources {
        files: (0..40).map(file).collect(),
        ..values::Sources::default()
    };
    let merged = sources.merge(&mut |_| Err("no file is asked for".to_owned()));
    merged
        .map(|_| ())
        .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
}

/// What templates write is read only behind them.
fn manifests_of_aliases() -> Result<(), String> {
    let mut document = format!("{OBJECT}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..5 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        document.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    chart(&vec![document; 20].join("---\n"), "")
}

fn list_that_doubles() -> Result<(), String> {
    chart(
        "{{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ toJson $l }}",
        "",
    )
}

#[test]
#[ignore = "run by the other test, in a process of its own"]
fn one_hostile_input() {
    let named = std::env::var(NAMED).expect("the other test names an input");
    if let Some((_, files)) = entries::ROWS.iter().find(|(name, _)| *name == named) {
        let tree = entries::tree(&files(many_entries()));
        if let Err(error) = build(&RenderInput::new(&tree, "", &Budget::default())) {
            panic!("{error}");
        }
    } else {
        let (_, end, run) = inputs()
            .find(|(name, ..)| *name == named)
            .expect("an input of that name");
        match run() {
            Ok(()) => assert_eq!(*end, "builds"),
            Err(error) => assert!(error.contains(end), "{error}"),
        }
    }
    println!("peak {named}: {}", peak().unwrap_or_default());
}

/// Returns the most memory that this process held at once, as the kernel tells it.
fn peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().to_owned())
}

#[test]
fn hostile_inputs_end_within_512_mebibytes() {
    let program = std::env::current_exe().expect("a test has a program");
    let (left, broken) = (Mutex::new(names()), Mutex::new(Vec::new()));
    let next = || left.lock().expect("no panic").next();
    let work = || {
        while let Some(name) = next() {
            if let Err(why) = ran(&program, name) {
                broken.lock().expect("no panic").push(why);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let broken = broken.into_inner().expect("no panic");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Runs one input in a process of its own.
fn ran(program: &Path, name: &str) -> Result<(), String> {
    let limited = format!("ulimit -v {MEMORY} && ulimit -t {SECONDS} && exec \"$0\" \"$@\"");
    let ran = Command::new("sh")
        .args(["-c", &limited])
        .arg(program)
        .args([
            "--ignored",
            "--exact",
            "one_hostile_input",
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env(NAMED, name)
        .output()
        .expect("there is a shell");
    if !ran.status.success() {
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let behind = said.chars().count().saturating_sub(600);
        let end: String = said.chars().skip(behind).collect();
        return Err(format!("{name}: {}\n{end}", ran.status));
    }
    let said = String::from_utf8_lossy(&ran.stdout);
    said.lines()
        .filter(|line| line.starts_with("peak"))
        .for_each(|line| println!("{line}"));
    Ok(())
}
