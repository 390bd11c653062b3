//! What the kustomize engine refuses, what it records, and that nothing it is given makes it panic.

use flotilla_render::kustomize::{
    Budget, BuildError, MemoryTree, Paths, RenderInput, Rendered, Restriction, build,
};
use flotilla_render_tests::{Random, seed};

const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

fn tree(files: &[(&str, &str)]) -> MemoryTree {
    files.iter().map(|(path, text)| (*path, *text)).collect()
}

fn render(tree: &MemoryTree, directory: &str) -> Result<Rendered, BuildError> {
    build(&RenderInput::new(tree, directory, &Budget::default()))
}

fn refusal(files: &[(&str, &str)], directory: &str) -> String {
    render(&tree(files), directory)
        .expect_err("the source is refused")
        .to_string()
}

#[test]
fn an_overlay_renders_again_when_its_base_changes_and_not_when_a_sibling_does() {
    let mut tree = tree(&[
        ("overlays/prod/kustomization.yaml", "resources: [../../base]\n"),
        (
            "overlays/dev/kustomization.yaml",
            "resources: [../../base]\nnamePrefix: dev-\n",
        ),
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", OBJECT),
    ]);
    let rendered = render(&tree, "overlays/prod").unwrap();
    assert!(rendered.reads.is_current(&tree));
    tree.insert(
        "overlays/dev/kustomization.yaml",
        "resources: [../../base]\nnamePrefix: x-\n",
    );
    tree.insert("base/unused.yaml", OBJECT);
    assert!(
        rendered.reads.is_current(&tree),
        "a sibling and a file nobody named change nothing"
    );
    tree.insert("base/a.yaml", OBJECT.replace("name: a", "name: b"));
    assert!(!rendered.reads.is_current(&tree), "the base changed");
}

#[test]
fn a_result_does_not_outlive_a_kustomization_file_of_another_name() {
    let mut tree = tree(&[
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("a.yaml", OBJECT),
    ]);
    let rendered = render(&tree, "").unwrap();
    tree.insert("kustomization.yml", "resources: []\n");
    assert!(!rendered.reads.is_current(&tree));
}

#[test]
fn paths_out_of_the_source_are_refused() {
    for (path, why) in [
        ("../../a.yaml", "leads out of the source"),
        ("/etc/passwd", "is an absolute path"),
        ("x/../../../a.yaml", "leads out of the source"),
        ("..//..//a", "leads out of the source"),
    ] {
        let kustomization = format!("resources: [\"{path}\"]\n");
        let error = refusal(
            &[("app/kustomization.yaml", &kustomization), ("app/a.yaml", OBJECT)],
            "app",
        );
        assert!(error.contains(why), "{path}: {error}");
        assert!(
            error.starts_with("app/kustomization.yaml: resources: "),
            "{path}: {error}"
        );
    }
}

#[test]
fn links_out_of_the_source_and_in_circles_are_refused() {
    for (target, why) in [
        ("/etc/passwd", "leads out of the source"),
        ("../../../etc/passwd", "leads out of the source"),
        ("self.yaml", "in a circle"),
    ] {
        let mut tree = tree(&[("app/kustomization.yaml", "resources: [self.yaml]\n")]);
        tree.insert_link("app/self.yaml", target);
        let error = render(&tree, "app").unwrap_err().to_string();
        assert!(error.contains(why), "{target}: {error}");
    }
}

#[test]
fn a_link_inside_the_source_is_followed_and_recorded() {
    let mut tree = tree(&[
        ("app/kustomization.yaml", "resources: [link.yaml]\n"),
        ("app/real/a.yaml", OBJECT),
    ]);
    tree.insert_link("app/link.yaml", "real/a.yaml");
    let rendered = render(&tree, "app").unwrap();
    assert_eq!(rendered.objects.len(), 1);
    tree.insert_link("app/link.yaml", "real/b.yaml");
    assert!(!rendered.reads.is_current(&tree));
}

#[test]
fn a_link_to_a_sibling_directory_is_refused_unless_the_whole_tree_is_allowed() {
    let mut tree = tree(&[
        ("app/kustomization.yaml", "resources: [link.yaml]\n"),
        ("other/a.yaml", OBJECT),
    ]);
    tree.insert_link("app/link.yaml", "../other/a.yaml");
    assert!(
        render(&tree, "app")
            .unwrap_err()
            .to_string()
            .contains("is not in or below 'app'")
    );
    let budget = Budget::default();
    let input = RenderInput {
        restriction: Restriction::Tree,
        ..RenderInput::new(&tree, "app", &budget)
    };
    assert_eq!(build(&input).unwrap().objects.len(), 1);
}

#[test]
fn remote_bases_are_refused_with_line_and_remedy() {
    for (url, shown) in [
        (
            "https://169.254.169.254/latest/meta-data",
            "https://169.254.169.254/latest/meta-data",
        ),
        (
            "https://github.com/org/repo//base?ref=v1",
            "https://github.com/org/repo//base",
        ),
        ("github.com/org/repo/base", "github.com/org/repo/base"),
        ("git@example.com:org/repo.git", "example.com:org/repo.git"),
        (
            "ssh://git@example.com/org/repo.git",
            "ssh://example.com/org/repo.git",
        ),
    ] {
        let error = refusal(&[("kustomization.yaml", &format!("resources:\n- {url}\n"))], "");
        assert!(
            error.contains("line 2")
                && error.contains(&format!("'{shown}'"))
                && error.contains("declare it as a source"),
            "{error}"
        );
    }
}

#[test]
fn bases_that_include_each_other_are_refused() {
    let error = refusal(
        &[
            ("a/kustomization.yaml", "resources: [../b]\n"),
            ("b/kustomization.yaml", "resources: [../a]\n"),
        ],
        "a",
    );
    assert!(error.contains("cycle detected"), "{error}");
}

#[test]
fn aliases_that_grow_past_the_budget_are_refused() {
    let mut text = format!("{OBJECT}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)];
    let error = refusal(&files, "");
    assert!(error.contains("YAML document exceeds 2000000 nodes"), "{error}");
}

#[test]
fn aliases_of_long_texts_are_refused_before_they_are_copied() {
    let long = "x".repeat(1 << 20);
    let aliases: String = (0..20_000).map(|at| format!("  k{at}: *a\n")).collect();
    let text = format!("{OBJECT}data:\n  a: &a {long}\n{aliases}");
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)];
    let error = refusal(&files, "");
    assert!(
        error.contains("YAML document exceeds 134217728 bytes of text"),
        "{error}"
    );
}

#[test]
fn anchors_around_anchors_are_counted_for_each() {
    let levels = 90;
    let open: String = (0..levels).map(|level| format!("&a{level} [")).collect();
    let text = format!(
        "{OBJECT}data: {open}{}{}\n",
        "1,".repeat(100_000),
        "]".repeat(levels)
    );
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)];
    let error = refusal(&files, "");
    assert!(error.contains("YAML document exceeds 2000000 nodes"), "{error}");
}

#[test]
fn what_is_written_into_every_object_is_counted_before_it_is_written() {
    let objects: Vec<String> = (0..1000)
        .map(|at| OBJECT.replace("name: a", &format!("name: a{at}")))
        .collect();
    let kustomization = format!(
        "resources: [a.yaml]\ncommonAnnotations:\n  a: {}\n",
        "x".repeat(1 << 20)
    );
    let files = [
        ("kustomization.yaml", kustomization.as_str()),
        ("a.yaml", &objects.join("---\n")),
    ];
    let error = refusal(&files, "");
    assert!(
        error.contains("makes more than 268435456 bytes of text"),
        "{error}"
    );
}

#[test]
fn objects_are_counted_before_they_are_made() {
    let long = "x".repeat(1 << 20);
    let document = |at: usize| {
        let aliases: String = (0..100).map(|at| format!("  k{at}: *a\n")).collect();
        format!(
            "{}data:\n  a: &a {long}\n{aliases}",
            OBJECT.replace("name: a", &format!("name: a{at}"))
        )
    };
    let text: Vec<String> = (0..4).map(document).collect();
    let text = text.join("---\n");
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)];
    let error = refusal(&files, "");
    assert!(
        error.contains("makes more than 268435456 bytes of text"),
        "{error}"
    );
}

fn steps_of(files: &[(&str, &str)]) -> u64 {
    render(&tree(files), "").expect("it builds").steps
}

/// Returns a Deployment with so many ports, and a patch of one of them.
fn many_ports(ports: usize) -> (String, String) {
    let head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n        ports:\n";
    let row = |at: usize| format!("        - {{containerPort: {at}, protocol: TCP}}\n");
    let object = format!("{head}{}", (1..=ports).map(row).collect::<String>());
    let patch = format!("{head}        - {{containerPort: 1, protocol: TCP, name: x}}\n");
    (object, patch)
}

#[test]
fn a_patch_of_a_list_of_a_hundred_thousand_rows_is_merged_by_keys() {
    let kustomization = "resources: [a.yaml]\npatches: [{path: p.yaml}]\n";
    let files = |ports: usize| {
        let (object, patch) = many_ports(ports);
        [
            ("kustomization.yaml", kustomization.to_owned()),
            ("a.yaml", object),
            ("p.yaml", patch),
        ]
        .into_iter()
        .collect::<MemoryTree>()
    };
    let built = |ports: usize| render(&files(ports), "").expect("it builds");
    let (small, large) = (built(1000), built(100_000));
    let ports = &large.objects[0].value["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports.as_array().map(Vec::len), Some(100_000));
    assert_eq!(ports[0]["name"], "x");
    assert!(
        large.steps < 120 * small.steps,
        "{} and {}",
        small.steps,
        large.steps
    );
}

#[test]
fn rows_without_their_second_key_are_made_one_with_those_that_have_it() {
    let head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n        ports:\n";
    let files = |rows: usize| {
        let full = |at: usize| format!("        - {{containerPort: {at}, protocol: TCP}}\n");
        let bare = |at: usize| format!("        - {{containerPort: {at}, name: n{at}}}\n");
        let object = format!("{head}{}", (1..=rows).map(full).collect::<String>());
        let patch = format!("{head}{}", (1..=rows).map(bare).collect::<String>());
        [
            (
                "kustomization.yaml",
                "resources: [a.yaml]\npatches: [{path: p.yaml}]\n".to_owned(),
            ),
            ("a.yaml", object),
            ("p.yaml", patch),
        ]
        .into_iter()
        .collect::<MemoryTree>()
    };
    let steps = |rows: usize| render(&files(rows), "").expect("it builds").steps;
    let (small, large) = (steps(200), steps(2000));
    assert!(large < 15 * small, "{small} and {large}");
}

#[test]
fn fields_of_a_map_that_a_patch_merges_are_charged_once() {
    let kustomization = "resources: [a.yaml]\npatches: [{path: p.yaml}]\n";
    let steps = |fields: usize| {
        let data: String = (0..fields).map(|at| format!("  k{at}: v\n")).collect();
        let object = format!("{OBJECT}data:\n{data}");
        steps_of(&[
            ("kustomization.yaml", kustomization),
            ("a.yaml", &object),
            ("p.yaml", &format!("{OBJECT}data: {{k0: w}}\n")),
        ])
    };
    let (small, large) = (steps(2000), steps(20_000));
    assert!(large > 18_000 && large < 12 * small, "{small} and {large}");
}

#[test]
fn a_value_copied_into_many_fields_is_charged_for_each_copy() {
    let long = "x".repeat(1 << 20);
    let objects: Vec<String> = (0..1000)
        .map(|at| {
            format!(
                "{}data: {{a: b}}\n",
                OBJECT.replace("name: a", &format!("name: a{at}"))
            )
        })
        .collect();
    let kustomization = "resources: [a.yaml, s.yaml]\nreplacements:\n- source: {kind: Source, fieldPath: data.a}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.a]}]\n";
    let source =
        format!("apiVersion: example.com/v1\nkind: Source\nmetadata: {{name: s}}\ndata: {{a: {long}}}\n");
    let files = [
        ("kustomization.yaml", kustomization),
        ("a.yaml", &objects.join("---\n")),
        ("s.yaml", &source),
    ];
    let error = refusal(&files, "");
    assert!(
        error.contains("makes more than 268435456 bytes of text"),
        "{error}"
    );
}

#[test]
fn a_generator_takes_many_lines_of_one_file() {
    let env: String = (0..100_000).map(|at| format!("k{at}=v\n")).collect();
    let files = [
        (
            "kustomization.yaml",
            "configMapGenerator: [{name: a, envs: [a.env]}]\n",
        ),
        ("a.env", env.as_str()),
    ];
    let rendered = render(&tree(&files), "").expect("it builds");
    let data = rendered.objects[0].value["data"]
        .as_object()
        .expect("it has data");
    assert_eq!(data.len(), 100_000);
}

#[test]
fn many_maps_merged_into_one_are_looked_up() {
    let keys: String = (0..20_000).map(|at| format!("k{at}: v, ")).collect();
    let merged = "*a, ".repeat(40);
    let text = format!("{OBJECT}x: {{a: &a {{{keys}}}, b: {{<<: [{merged}]}}}}\n");
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)];
    let rendered = render(&tree(&files), "").expect("it builds");
    let merged = rendered.objects[0].value["x"]["b"].as_object().expect("a map");
    assert_eq!(merged.len(), 20_000);
}

#[test]
fn a_caller_stops_a_build_within_one_object() {
    let (object, patch) = many_ports(2000);
    let source = tree(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: p.yaml}]\n",
        ),
        ("a.yaml", &object),
        ("p.yaml", &patch),
    ]);
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 8
    };
    let budget = Budget::default();
    let input = RenderInput {
        stop: Some(&stop),
        ..RenderInput::new(&source, "", &budget)
    };
    assert_eq!(build(&input), Err(BuildError::Cancelled));
}

#[test]
fn yaml_that_nests_past_the_budget_is_refused() {
    let deep = format!("{OBJECT}data: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &deep)];
    assert!(render(&tree(&files), "").is_err());
}

#[test]
fn a_json_patch_that_puts_items_before_others_is_charged_for_moving_them() {
    let steps = |at: &str| {
        let operations = format!("- {{op: add, path: /data/{at}, value: a}}\n").repeat(4000);
        steps_of(&[
            (
                "kustomization.yaml",
                "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n",
            ),
            (
                "a.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: []\n",
            ),
            ("p.yaml", &operations),
        ])
    };
    let (first, last) = (steps("0"), steps("-"));
    // Half of 4,000 on average, of which four are moved in a step.
    assert!(first > last + 4000 * 400, "{first} steps, {last} at the end");
}

fn within(budget: Budget) -> Result<Rendered, BuildError> {
    let source = tree(&[
        ("kustomization.yaml", "resources: [base]\n"),
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", OBJECT),
    ]);
    build(&RenderInput::new(&source, "", &budget))
}

#[test]
fn a_budget_that_just_suffices_lets_a_build_through() {
    let suffices = Budget {
        files: 3,
        depth: 2,
        ..Budget::default()
    };
    within(suffices).unwrap();
}

fn assert_too_large(budget: Budget, limit: &str) {
    match within(budget) {
        Err(error @ BuildError::TooLarge { .. }) => assert!(error.to_string().contains(limit), "{error}"),
        other => panic!("{budget:?}: {other:?}"),
    }
}

#[test]
fn more_files_than_the_budget_are_refused() {
    let budget = Budget {
        files: 2,
        ..Budget::default()
    };
    assert_too_large(budget, "exceeds 2 files");
}

#[test]
fn more_bytes_than_the_budget_are_refused() {
    let budget = Budget {
        bytes: 30,
        ..Budget::default()
    };
    assert_too_large(budget, "exceeds 30 bytes");
}

#[test]
fn more_steps_than_the_budget_are_refused() {
    let budget = Budget {
        steps: 0,
        ..Budget::default()
    };
    assert_too_large(budget, "exceeds 0 steps");
}

#[test]
fn kustomizations_that_nest_past_the_budget_are_refused() {
    let budget = Budget {
        depth: 1,
        ..Budget::default()
    };
    assert_too_large(budget, "nest more than 1 deep");
}

#[test]
fn charts_are_refused_with_field_and_remedy() {
    let remedy = "declare the chart as a HelmRelease";
    for field in ["helmCharts", "helmChartInflationGenerator"] {
        let error = refusal(
            &[("kustomization.yaml", &format!("{field}: [{{name: x}}]\n"))],
            "",
        );
        assert!(
            error.starts_with(&format!("kustomization.yaml: {field}: ")),
            "{error}"
        );
        assert!(error.contains(remedy), "{error}");
    }
    let generator = "apiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata: {name: x}\nname: x\n";
    let error = refusal(
        &[
            ("kustomization.yaml", "generators: [g.yaml]\n"),
            ("g.yaml", generator),
        ],
        "",
    );
    assert!(
        error.starts_with("kustomization.yaml: generators: HelmChartInflationGenerator: "),
        "{error}"
    );
    assert!(error.contains(remedy), "{error}");
}

#[test]
fn an_openapi_version_that_is_not_built_in_is_refused_with_field_and_remedy() {
    let error = refusal(&[("kustomization.yaml", "openapi: {version: v1.30.0}\n")], "");
    assert!(
        error.starts_with("kustomization.yaml: openapi: OpenAPI version v1.30.0"),
        "{error}"
    );
    assert!(error.contains("name a document by `path`"), "{error}");
}

#[test]
fn a_source_in_utf_16_with_a_mark_is_read() {
    let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(bytes)
            .collect()
    };
    let object = format!("{OBJECT}data: {{a: é𝄞}}\n");
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let mut tree = tree(&[]);
        tree.insert("kustomization.yaml", wide("resources: [a.yaml]\n", bytes));
        tree.insert("a.yaml", wide(&object, bytes));
        let rendered = render(&tree, "").expect("it builds");
        assert_eq!(rendered.objects[0].value["data"]["a"], "é𝄞");
    }
    let mut odd = tree(&[("kustomization.yaml", "resources: [a.yaml]\n")]);
    odd.insert("a.yaml", b"\xff\xfea".to_vec());
    assert!(
        render(&odd, "")
            .expect_err("half a character")
            .to_string()
            .contains("incomplete UTF-16")
    );
}

#[test]
fn a_key_that_stands_twice_is_found_in_its_file() {
    let text = format!("{OBJECT}data: {{a: b, a: c}}\n");
    let files = [
        ("o/kustomization.yaml", "resources: [../base]\nnamePrefix: p-\n"),
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", &text),
    ];
    let error = refusal(&files, "o");
    assert!(error.starts_with("base/a.yaml: "), "{error}");
    assert!(
        error.contains("line 5: mapping key \"a\" already defined"),
        "{error}"
    );
}

/// kustomize ends with a panic of Go here.
#[test]
fn a_test_of_a_list_that_holds_null_is_answered() {
    let built = |wanted: &str| {
        let kustomization = format!(
            "resources: [a.yaml]\npatches:\n- target: {{kind: ConfigMap}}\n  patch: '[{{\"op\": \"test\", \"path\": \"/l\", \"value\": {wanted}}}]'\n"
        );
        let object = format!("{OBJECT}l: [null, a]\n");
        let files = [
            ("kustomization.yaml", kustomization.as_str()),
            ("a.yaml", object.as_str()),
        ];
        render(&tree(&files), "").map_err(|error| error.to_string())
    };
    built("[null, \"a\"]").expect("it is the list");
    for wanted in ["[null, null]", "[\"a\", null]", "[null]"] {
        let error = built(wanted).expect_err(wanted);
        assert!(error.contains("testing value failed"), "{error}");
    }
}

#[test]
fn a_key_that_a_patch_brings_is_not_blamed_on_the_file_of_the_object() {
    for (new, key) in [
        ("new:\n  x: 1\n  x: 2\n", "mapping key \"x\" already defined"),
        ("new:\n  7: 1\n", "7"),
        ("new:\n  ? {a: b}\n  : 1\n", "key"),
    ] {
        let error = refusal(
            &[
                (
                    "kustomization.yaml",
                    "resources: [a.yaml]\npatches: [{path: p.yaml}]\n",
                ),
                ("a.yaml", OBJECT),
                ("p.yaml", &format!("{OBJECT}{new}")),
            ],
            "",
        );
        assert!(error.starts_with("kustomization.yaml: ConfigMap"), "{error}");
        assert!(
            error.contains(key) && error.contains("a.yaml has no such key: a patch"),
            "{error}"
        );
    }
}

#[test]
fn errors_name_paths_from_where_the_tree_stands() {
    let tree = tree(&[
        ("o/kustomization.yaml", "resources: [../base]\n"),
        ("base/kustomization.yaml", "resources: [nope.yaml]\n"),
    ]);
    let budget = Budget::default();
    let input = RenderInput {
        paths: Paths {
            root: "/srv/",
            written: Some(("base", "./b")),
        },
        ..RenderInput::new(&tree, "o", &budget)
    };
    let error = build(&input).expect_err("a file lacks").to_string();
    assert!(error.starts_with("./b/kustomization.yaml: "), "{error}");
    assert!(error.contains("'./b/nope.yaml' does not exist"), "{error}");
    let error = build(&RenderInput {
        paths: Paths {
            root: "/srv/",
            ..Paths::default()
        },
        ..RenderInput::new(&tree, "o", &budget)
    });
    let error = error.expect_err("a file lacks").to_string();
    assert!(error.starts_with("/srv/base/kustomization.yaml: "), "{error}");
}

#[test]
fn an_image_that_is_no_text_is_named_with_its_object() {
    let files = [
        (
            "kustomization.yaml",
            "resources: [a.yaml]\nimages: [{name: engine, newTag: '2'}]\n",
        ),
        (
            "a.yaml",
            "apiVersion: d/v1\nkind: Database\nmetadata: {name: orders}\nspec: {initContainers: [{image: {a: b}}]}\n",
        ),
    ];
    let error = refusal(&files, "");
    for word in ["Database", "orders", "initContainers"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn the_hash_of_other_kinds_is_that_of_their_content() {
    let annotation = "annotations: {internal.config.kubernetes.io/needsHashSuffix: enabled}";
    let name = |comment: &str, value: u8| {
        let job = format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: j\n  {annotation}\n{comment}spec: {{a: {value}}}\n"
        );
        let files = [
            ("kustomization.yaml", "resources: [a.yaml]\n"),
            ("a.yaml", job.as_str()),
        ];
        let rendered = render(&tree(&files), "").expect("it builds");
        assert!(rendered.objects[0].value["metadata"]["annotations"].is_null());
        rendered.objects[0].value["metadata"]["name"]
            .as_str()
            .map(str::to_owned)
    };
    let first = name("", 1).expect("a name");
    assert!(first.starts_with("j-") && first.len() == 12, "{first}");
    assert_eq!(name("# a comment\n\n", 1).as_ref(), Some(&first));
    assert_ne!(name("", 2).as_ref(), Some(&first));
}

#[test]
fn a_caller_stops_a_build() {
    let tree = tree(&[
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("a.yaml", OBJECT),
    ]);
    let budget = Budget::default();
    let input = RenderInput {
        stop: Some(&|| true),
        ..RenderInput::new(&tree, "", &budget)
    };
    assert_eq!(build(&input), Err(BuildError::Cancelled));
}

#[test]
fn errors_name_file_field_and_object() {
    let error = refusal(
        &[
            (
                "kustomization.yaml",
                "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |-\n    - {op: remove, path: /data}\n",
            ),
            ("a.yaml", OBJECT),
        ],
        "",
    );
    assert!(
        error.starts_with("kustomization.yaml: patches[0]: ConfigMap.v1.[noGrp]/a.default: remove"),
        "{error}"
    );
}

#[test]
fn the_engine_serves_many_threads_at_once() {
    let tree = tree(&[
        ("kustomization.yaml", "resources: [a.yaml]\nnamePrefix: p-\n"),
        ("a.yaml", OBJECT),
    ]);
    let texts: Vec<String> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| render(&tree, "").unwrap().to_yaml()))
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Cuts, doubles and flips pieces of valid sources; the engine may refuse the result but not panic.
#[test]
fn damaged_sources_never_panic() {
    let seeds = [
        (
            "kustomization.yaml",
            "resources: [a.yaml]\nnamePrefix: p-\nlabels: [{pairs: {a: b}, includeSelectors: true}]\nimages: [{name: x, newTag: z}]\nreplicas: [{name: a, count: 1}]\nconfigMapGenerator: [{name: g, literals: [a=b]}]\npatches:\n- target: {kind: '.*'}\n  patch: '[{\"op\": \"add\", \"path\": \"/metadata/labels\", \"value\": {\"a\": \"1\"}}]'\nreplacements:\n- source: {kind: ConfigMap, name: a, fieldPath: data.x}\n  targets: [{select: {kind: Deployment}, fieldPaths: ['spec.template.spec.containers.[name=c].image', 'spec.template.spec.containers.*.name']}, {select: {kind: ConfigMap, name: a}, fieldPaths: ['data.y.a.1.b']}]\n",
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: &x {k: v}}\ndata:\n  <<: *x\n  x: |\n    text\n  y: '{\"a\": [1, {\"b\": 2}]}'\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: c, image: 'x:1'}]}}}\n",
        ),
    ];
    let pieces = [
        "",
        "{",
        "]",
        "\n- ",
        ": ",
        "&x ",
        "*x",
        "<<: ",
        "\u{feff}",
        "!!int ",
        "---\n",
        "é",
        "\0",
        "$patch: delete",
        "null",
        "'",
    ];
    let mut random = Random::new(seed(1));
    let mut next = |n: usize| random.below(n);
    let mut built = 0;
    for _ in 0..4000 {
        let mut files: Vec<(&str, String)> = seeds
            .iter()
            .map(|(path, text)| (*path, (*text).to_string()))
            .collect();
        for _ in 0..1 + next(3) {
            let (_, text) = &mut files[next(2)];
            let at = (0..=next(text.len() + 1))
                .rev()
                .find(|i| text.is_char_boundary(*i))
                .unwrap_or(0);
            let end = (at..=(at + next(6)).min(text.len()))
                .rev()
                .find(|i| text.is_char_boundary(*i))
                .unwrap_or(at);
            text.replace_range(at..end, pieces[next(pieces.len())]);
        }
        let tree: MemoryTree = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        if let Ok(rendered) = render(&tree, "") {
            let _ = rendered.to_yaml();
            built += 1;
        }
    }
    assert!(built > 40, "{built} of 4000 still build");
}

/// Definitions of which each refers to the next by ten fields; a field of the last says what it holds, or none does.
fn definitions(last: &str) -> String {
    let mut definitions = String::new();
    for level in 0..40 {
        let fields: String = (0..10)
            .map(|at| format!("    f{at}: {{$ref: T{}}}\n", level + 1))
            .collect();
        definitions.push_str(&format!(
            "T{level}:\n  Schema:\n   properties:\n    kind: {{}}\n    apiVersion: {{}}\n    metadata: {{}}\n{fields}"
        ));
    }
    definitions + &format!("T40:\n  Schema:\n   properties:\n    f: {{{last}}}\n")
}

#[test]
fn definitions_that_refer_to_each_other_are_read_once_or_within_the_steps() {
    let files = |last| {
        tree(&[
            ("kustomization.yaml", "resources: [a.yaml]\ncrds: [crd.yaml]\n"),
            ("a.yaml", OBJECT),
            ("crd.yaml", &definitions(last)),
        ])
    };
    let steps = render(&files("type: string"), "").expect("it builds").steps;
    assert!(steps < 200_000, "{steps} steps");
    let budget = Budget {
        steps: 1_000_000,
        ..Budget::default()
    };
    let named = files("x-kubernetes-annotation: a");
    let error = build(&RenderInput::new(&named, "", &budget)).expect_err("there is no end of fields");
    assert!(error.to_string().contains("exceeds 1000000 steps"), "{error}");
}

#[test]
fn steps_of_configurations_grow_with_their_fields_and_not_with_their_square() {
    let steps = |count: usize, field: &dyn Fn(usize) -> String| {
        let fields: String = (0..count).map(|at| format!("- {{{}}}\n", field(at))).collect();
        let references: String = (0..count)
            .map(|at| format!("- {{kind: K{at}, fieldSpecs: [{{path: spec/a, kind: L{at}}}]}}\n"))
            .collect();
        steps_of(&[
            (
                "kustomization.yaml",
                "resources: [a.yaml]\nconfigurations: [c.yaml]\n",
            ),
            ("a.yaml", OBJECT),
            (
                "c.yaml",
                &format!("namePrefix:\n{fields}nameReference:\n{references}"),
            ),
        ])
    };
    let fields: [&dyn Fn(usize) -> String; 3] = [
        &|at| format!("path: spec/a{at}"),
        &|at| format!("path: spec/a, kind: K{at}"),
        &|_| "path: spec/a".to_owned(),
    ];
    for field in fields {
        let (small, large) = (steps(200, field), steps(2000, field));
        assert!(large < 12 * small, "{small} steps, {large} for ten times as many");
        assert!(small > 1000, "{small} steps: merging them is not counted");
    }
}
