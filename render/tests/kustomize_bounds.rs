//! What the kustomize engine refuses, what it records, and that nothing it is given makes it panic.

use flotilla_render::kustomize::{Budget, BuildError, MemoryTree, RenderInput, Rendered, Restriction, build};

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
    assert!(rendered.reads.holds(&tree));
    tree.insert(
        "overlays/dev/kustomization.yaml",
        "resources: [../../base]\nnamePrefix: x-\n",
    );
    tree.insert("base/unused.yaml", OBJECT);
    assert!(
        rendered.reads.holds(&tree),
        "a sibling and a file nobody named change nothing"
    );
    tree.insert("base/a.yaml", OBJECT.replace("name: a", "name: b"));
    assert!(!rendered.reads.holds(&tree), "the base changed");
}

#[test]
fn a_result_does_not_outlive_a_kustomization_file_of_another_name() {
    let mut tree = tree(&[
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("a.yaml", OBJECT),
    ]);
    let rendered = render(&tree, "").unwrap();
    tree.insert("kustomization.yml", "resources: []\n");
    assert!(!rendered.reads.holds(&tree));
}

#[test]
fn paths_out_of_the_source_are_refused() {
    for path in ["../../a.yaml", "/etc/passwd", "x/../../../a.yaml", "..//..//a"] {
        let kustomization = format!("resources: [\"{path}\"]\n");
        let error = refusal(
            &[("app/kustomization.yaml", &kustomization), ("app/a.yaml", OBJECT)],
            "app",
        );
        assert!(
            error.contains("leads out of the source") || error.contains("does not exist"),
            "{path}: {error}"
        );
        assert!(
            error.starts_with("app/kustomization.yaml: resources: "),
            "{path}: {error}"
        );
    }
}

#[test]
fn links_out_of_the_source_and_in_circles_are_refused() {
    for target in ["/etc/passwd", "../../../etc/passwd", "self.yaml"] {
        let mut tree = tree(&[("app/kustomization.yaml", "resources: [self.yaml]\n")]);
        tree.insert_link("app/self.yaml", target);
        let error = render(&tree, "app").unwrap_err().to_string();
        assert!(
            error.contains("leads out of the source") || error.contains("in a circle"),
            "{target}: {error}"
        );
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
    assert!(!rendered.reads.holds(&tree));
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
    for url in [
        "https://169.254.169.254/latest/meta-data",
        "https://github.com/org/repo//base?ref=v1",
        "github.com/org/repo/base",
        "git@example.com:org/repo.git",
        "ssh://git@example.com/org/repo.git",
    ] {
        let error = refusal(&[("kustomization.yaml", &format!("resources:\n- {url}\n"))], "");
        assert!(
            error.contains("line 2") && error.contains(url) && error.contains("declare it as a source"),
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
    assert!(error.contains("YAML document exceeds 5000000 nodes"), "{error}");
}

#[test]
fn yaml_that_nests_past_the_budget_is_refused() {
    let deep = format!("{OBJECT}data: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let files = [("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &deep)];
    assert!(render(&tree(&files), "").is_err());
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
        error.starts_with("kustomization.yaml: patches: ConfigMap.v1.[noGrp]/a.default: remove"),
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
            "resources: [a.yaml]\nnamePrefix: p-\nlabels: [{pairs: {a: b}, includeSelectors: true}]\nimages: [{name: x, newTag: y}]\nreplicas: [{name: a, count: 1}]\nconfigMapGenerator: [{name: g, literals: [a=b]}]\npatches:\n- target: {kind: '.*'}\n  patch: '[{\"op\": \"add\", \"path\": \"/x/-\", \"value\": [1]}]'\nreplacements:\n- source: {kind: ConfigMap, name: a, fieldPath: data.x}\n  targets: [{select: {name: a}, fieldPaths: ['data.[y].*.0']}]\n",
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
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).unwrap_or(0)
    };
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
        }
    }
}
