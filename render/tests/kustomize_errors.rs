//! What the errors of the kustomize engine name: the file at fault, the field and its item, the line.

use flotilla_render::kustomize::{Budget, MemoryTree, Paths, RenderInput, build};

const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

/// Builds the root of a tree that stands in `src`, and returns why it does not build.
fn refusal(files: &[(&str, &str)]) -> String {
    let tree: MemoryTree = files.iter().map(|(path, text)| (*path, *text)).collect();
    let budget = Budget::default();
    let input = RenderInput {
        paths: Paths {
            root: "src/",
            ..Paths::default()
        },
        ..RenderInput::new(&tree, "", &budget)
    };
    build(&input).expect_err("the source is refused").to_string()
}

#[test]
fn a_second_object_without_a_separator_is_refused_with_its_line() {
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"a\"}}\n";
    let lines = |texts: &[&str]| texts.concat();
    for (text, line) in [
        (lines(&[json, json]), 2),
        (lines(&["# first\n", json, "\n", json, json]), 4),
        (lines(&[OBJECT, "...\n", OBJECT]), 6),
        (lines(&[OBJECT, "...\n", "a: [\n"]), 6),
        (lines(&[OBJECT, "---\n", OBJECT, "...\n# c\n", OBJECT]), 12),
        // A separator that is the last line is none.
        (lines(&[OBJECT, "--- {kind: A}"]), 5),
    ] {
        let error = refusal(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)]);
        let words = format!(
            "src/kustomization.yaml: resources: accumulating resources from 'a.yaml': line {line}: another document"
        );
        assert!(error.starts_with(&words), "{text}\n{error}");
    }
}

#[test]
fn lines_are_those_of_the_file() {
    // The third document begins on line 11, and is wrong on its third line.
    let before = format!("{OBJECT}---\n{OBJECT}---\n").replacen("name: a", "name: b", 1);
    let text = |wrong: &str| format!("{before}apiVersion: v1\nkind: ConfigMap\n{wrong}\n");
    let entry = |text: &str| text.replace('\n', "\n    ");
    for (wrong, words) in [
        ("metadata: [", "line 1"),
        ("\tmetadata: {name: c}", "line 13: "),
        ("metadata: {name: \"c\u{7}\"}", "line 13: control characters"),
        ("metadata: *none", "line 13: unknown anchor"),
        ("metadata: {<<: 5}", "line 13: it needs a map"),
        ("data: {<<: {a: b}, <<: {c: d}}", "line 13: it stands twice"),
        ("metadata: {name: c}\n...\n{}", "line 15: another document"),
    ] {
        let text = text(wrong);
        for fields in [
            "resources: [a.yaml]\n",
            "patchesStrategicMerge: [a.yaml]\n",
            "patches: [{path: a.yaml}]\n",
            "transformers: [a.yaml]\n",
            "generators: [a.yaml]\n",
        ] {
            let error = refusal(&[("kustomization.yaml", fields), ("a.yaml", &text)]);
            assert!(
                error.contains("a.yaml") && error.contains(words),
                "{fields}{text}\n{error}"
            );
        }
        // In place, they are those of the text.
        if !wrong.contains('\u{7}') {
            let own = format!("patches:\n- patch: |-\n    {}\n", entry(&text));
            let error = refusal(&[("kustomization.yaml", &own)]);
            assert!(
                error.contains("patches[0]: ") && error.contains(words),
                "{own}\n{error}"
            );
        }
    }
}

#[test]
fn nothing_behind_a_document_is_no_second_one() {
    for end in [
        "...\n",
        "...\n# c\n",
        "---",
        "...\n...\n",
        "# c\n",
        "---\n",
        "---\n---\n# c\n",
    ] {
        let text = format!("{OBJECT}{end}");
        let tree: MemoryTree = [
            ("kustomization.yaml", "resources: [a.yaml]\n"),
            ("a.yaml", text.as_str()),
        ]
        .into_iter()
        .collect();
        let built = build(&RenderInput::new(&tree, "", &Budget::default()));
        assert_eq!(built.map(|built| built.objects.len()), Ok(1), "{end:?}");
    }
}

#[test]
fn an_unknown_field_of_a_kustomization_is_told_with_its_line_and_what_was_meant() {
    let unknown = "src/kustomization.yaml: invalid Kustomization: json: unknown field";
    let long = "x".repeat(1_000);
    for (text, words) in [
        (
            "# c\nresorces: [a.yaml]\n",
            r#" "resorces": line 2: resorces (did you mean "resources"?)"#,
        ),
        (
            "patches:\n- path: p.yaml\n- target:\n    kind: A\n    nam: a\n",
            r#" "nam": line 5: patches[1].target.nam (did you mean "name"?)"#,
        ),
        // A field is known in any case.
        (
            "Patches:\n- pth: p.yaml\n",
            r#" "pth": line 2: patches[0].pth (did you mean "path"?)"#,
        ),
        ("namespace: a\nspec: {}\n", r#" "spec": line 2: spec"#),
        (
            "x: &x {litterals: [a=b]}\nconfigMapGenerator: [*x]\n",
            r#" "litterals": configMapGenerator[0].litterals (did you mean "literals"?)"#,
        ),
        (&format!("{long}: 1\n"), "xxx… (1000 bytes)\": line 1: xxx"),
    ] {
        let error = refusal(&[("kustomization.yaml", text)]);
        assert!(error.starts_with(unknown) && error.contains(words), "{error}");
        assert!(error.len() < 1_000, "{} bytes", error.len());
    }
    let files = [
        ("kustomization.yaml", "configurations: [c.yaml]\n"),
        ("c.yaml", "images:\n- pth: a\n"),
    ];
    let error = refusal(&files);
    assert!(
        error.ends_with(r#"src/c.yaml: unknown field "images[0].pth" (did you mean "path"?)"#),
        "{error}"
    );
}

#[test]
fn what_is_remote_is_named_with_field_and_line() {
    let ours = "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: t}\n";
    let far = format!("{ours}path: https://example.org/p.yaml\n");
    for (fields, place) in [
        ("resources:\n- https://example.org/x\n", "resources: line 2: "),
        (
            "components:\n- ./c\n- https://example.org/x\n",
            "components: line 3: ",
        ),
        ("components:\n- github.com/a/b\n", "components: line 2: "),
        (
            "resources: [a.yaml]\npatches:\n- path: https://example.org/x\n",
            "patches[0]: line 3: ",
        ),
        ("crds:\n- https://example.org/x\n", "crds[0]: line 2: "),
        (
            "configMapGenerator:\n- name: a\n  files: [https://example.org/x]\n",
            "configMapGenerator: a: line 3: ",
        ),
        (
            "resources: [a.yaml]\ntransformers: [far.yaml]\n",
            "transformers: ",
        ),
    ] {
        let error = refusal(&[
            ("kustomization.yaml", fields),
            ("a.yaml", OBJECT),
            ("far.yaml", &far),
            ("c/kustomization.yaml", "kind: Component\nnamePrefix: c-\n"),
        ]);
        assert!(
            error.starts_with(&format!("src/kustomization.yaml: {place}"))
                && error.contains("is remote and is not fetched")
                && !error.contains("line 0"),
            "{fields}\n{error}"
        );
    }
}

#[test]
fn a_path_that_reads_like_an_address_is_read_where_it_is_there() {
    let tree: MemoryTree = [
        (
            "kustomization.yaml",
            "resources: [github.com/a/b]\ncomponents: [github.com/a/c]\n",
        ),
        ("github.com/a/b/kustomization.yaml", "resources: [a.yaml]\n"),
        ("github.com/a/b/a.yaml", OBJECT),
        (
            "github.com/a/c/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamePrefix: c-\n",
        ),
    ]
    .into_iter()
    .collect();
    let built = build(&RenderInput::new(&tree, "", &Budget::default()));
    assert!(built.is_ok_and(|built| built.to_yaml().contains("name: c-a")));
}

#[test]
fn an_alias_without_an_anchor_is_told_with_its_line() {
    let wrong = "a: 1\nb: {c: *far}\n";
    let files = |path: &'static str| [("kustomization.yaml", path), ("wrong.yaml", wrong)];
    for fields in ["resources: [wrong.yaml]\n", "crds: [wrong.yaml]\n"] {
        let error = refusal(&files(fields));
        assert!(
            error.contains("wrong.yaml") && error.ends_with("line 2: unknown anchor referenced"),
            "{error}"
        );
    }
    let error = refusal(&files("a: 1\nb: &x [*x]\n"));
    assert_eq!(
        error,
        "src/kustomization.yaml: malformed YAML: line 2: anchor 'x' value contains itself"
    );
}

#[test]
fn an_object_that_stands_twice_is_named_with_both_files() {
    let error = refusal(&[
        ("kustomization.yaml", "resources: [base, sub/b.yaml]\n"),
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", OBJECT),
        ("sub/b.yaml", OBJECT),
    ]);
    let words = "already registered id: ConfigMap.v1.[noGrp]/a.default: it is in src/base/a.yaml and in src/sub/b.yaml";
    assert!(error.ends_with(words), "{error}");
    let error = refusal(&[
        ("kustomization.yaml", "resources: [a.yaml]\nnamespace: x\n"),
        (
            "a.yaml",
            &format!("{OBJECT}  namespace: b\n---\n{OBJECT}  namespace: c\n"),
        ),
    ]);
    assert!(error.ends_with("it is in src/a.yaml twice"), "{error}");
}

#[test]
fn files_that_a_field_lists_are_named_with_their_place_in_it() {
    let ours = "apiVersion: builtin\nmetadata: {name: t}\n";
    let unknown = format!("{ours}kind: Nothing\n");
    let wrong = format!("{ours}kind: LabelTransformer\nlabels: 5\n");
    for (fields, place) in [
        (
            "configurations: [empty.yaml, sub/wrong.yaml]\n",
            "configurations[1]: src/sub/wrong.yaml: malformed YAML",
        ),
        (
            "configurations: [empty.yaml, number.yaml]\n",
            "configurations[1]: src/number.yaml: ",
        ),
        (
            "crds: [sub/wrong.yaml]\n",
            "crds[0]: src/sub/wrong.yaml: malformed YAML",
        ),
        ("crds: [number.yaml]\n", "crds[0]: src/number.yaml: "),
        (
            "openapi: {path: sub/wrong.yaml}\n",
            "openapi: src/sub/wrong.yaml: malformed YAML",
        ),
        ("openapi: {path: number.yaml}\n", "openapi: src/number.yaml: "),
        (
            "transformers: [unknown.yaml]\n",
            "transformers: src/unknown.yaml: Nothing.builtin.[noGrp]/t",
        ),
        (
            "transformers: [label.yaml]\n",
            "transformers: src/label.yaml: LabelTransformer.builtin.[noGrp]/t",
        ),
        (
            "validators: [label.yaml]\n",
            "validators: src/label.yaml: LabelTransformer.builtin.[noGrp]/t",
        ),
        (
            "generators: [label.yaml]\n",
            "generators: src/label.yaml: LabelTransformer.builtin.[noGrp]/t",
        ),
        (
            "patches:\n- {path: number.yaml}\n",
            "patches[0]: src/number.yaml: unable to parse",
        ),
        (
            "patches:\n- {path: good.yaml, target: {kind: A}}\n- {path: sub/wrong.yaml}\n",
            "patches[1]: src/sub/wrong.yaml: unable to parse",
        ),
        (
            "patchesStrategicMerge: [patch.yaml, sub/wrong.yaml]\n",
            "patchesStrategicMerge[1]: src/sub/wrong.yaml: malformed YAML",
        ),
        (
            "patchesJson6902: [{target: {kind: A, name: a}, path: number.yaml}]\n",
            "patchesJson6902[0]: src/number.yaml: ",
        ),
        (
            "replacements: [{path: sub/wrong.yaml}]\n",
            "replacements[0]: src/sub/wrong.yaml: malformed YAML",
        ),
        (
            "replacements: [{path: number.yaml}]\n",
            "replacements[0]: src/number.yaml: ",
        ),
    ] {
        let error = refusal(&[
            ("kustomization.yaml", fields),
            ("good.yaml", "- {op: test, path: /a, value: 1}\n"),
            ("empty.yaml", "{}\n"),
            ("patch.yaml", OBJECT),
            ("number.yaml", "5\n"),
            ("sub/wrong.yaml", "a: [\n"),
            ("unknown.yaml", &unknown),
            ("label.yaml", &wrong),
        ]);
        assert!(
            error.starts_with(&format!("src/kustomization.yaml: {place}")),
            "{fields}\n{error}"
        );
    }
}

#[test]
fn a_patch_that_cannot_be_applied_is_named_with_its_place() {
    let error = refusal(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\npatches:\n- patch: 'kind: A'\n- path: p.yaml\n",
        ),
        ("a.yaml", OBJECT),
        ("p.yaml", "5\n"),
    ]);
    assert!(
        error.starts_with("src/kustomization.yaml: patches[0]: "),
        "{error}"
    );
}

#[test]
fn of_many_patches_and_replacements_the_one_that_does_not_apply_is_named_with_its_file() {
    let target = "target: {kind: ConfigMap}";
    let fine = r#"[{"op": "add", "path": "/data", "value": {"a": "b"}}]"#;
    let wrong = r#"[{"op": "remove", "path": "/none"}]"#;
    let merges = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    for (fields, text, words) in [
        (
            format!("patches:\n- {{patch: '{fine}', {target}}}\n- {{path: b.yaml, {target}}}\n"),
            "- {op: add, path: /x, value: 1}\n- {op: remove, path: /none}\n",
            "patches[1]: src/b.yaml: ConfigMap.v1.[noGrp]/a.default: operation 2: remove operation at '/none'",
        ),
        (
            format!("patches:\n- {{patch: '{fine}', {target}}}\n- {{patch: '{wrong}', {target}}}\n"),
            "",
            "patches[1]: ConfigMap.v1.[noGrp]/a.default: remove operation at '/none'",
        ),
        (
            format!("patches:\n- {{patch: '{fine}', {target}}}\n- path: b.yaml\n  target: {{kind: '['}}\n"),
            "metadata: {labels: {a: b}}\napiVersion: v1\nkind: ConfigMap\n",
            "patches[1]: src/b.yaml: ",
        ),
        (
            format!("patches:\n- {{patch: '{fine}', {target}}}\n- path: b.yaml\n"),
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
            "patches[1]: src/b.yaml: no resource matches",
        ),
        (
            "patchesStrategicMerge: [c.yaml, b.yaml]\n".to_owned(),
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
            "patchesStrategicMerge[1]: src/b.yaml: ",
        ),
        (
            format!("patchesJson6902:\n- {{patch: '{fine}', target: {{version: v1, kind: ConfigMap, name: a}}}}\n- {{path: b.yaml, target: {{version: v1, kind: ConfigMap, name: a}}}}\n"),
            wrong,
            "patchesJson6902[1]: src/b.yaml: ",
        ),
        (
            "replacements:\n- {sourceValue: x, targets: [{select: {kind: ConfigMap}, fieldPaths: [metadata.name]}]}\n- path: b.yaml\n".to_owned(),
            "source: {kind: ConfigMap, fieldPath: data.zz}\ntargets: [{select: {kind: ConfigMap}, fieldPaths: [metadata.name]}]\n",
            "replacements[1]: src/b.yaml: ",
        ),
        (
            "replacements:\n- path: b.yaml\n".to_owned(),
            "- {sourceValue: x, targets: [{select: {kind: ConfigMap}, fieldPaths: [metadata.name]}]}\n- {source: {kind: Secret}, targets: [{select: {kind: ConfigMap}, fieldPaths: [metadata.name]}]}\n",
            "replacements[0]: src/b.yaml[1]: nothing selected",
        ),
        (
            "replacements:\n- {sourceValue: x, targets: [{select: {kind: ConfigMap}, fieldPaths: [metadata.name]}]}\n- {source: {kind: Secret}, targets: [{select: {kind: ConfigMap}, fieldPaths: [metadata.name]}]}\n".to_owned(),
            "",
            "replacements[1]: nothing selected",
        ),
    ] {
        let error = refusal(&[
            ("kustomization.yaml", &format!("resources: [a.yaml]\n{fields}")),
            ("a.yaml", OBJECT),
            ("b.yaml", text),
            ("c.yaml", merges),
        ]);
        assert!(
            error.starts_with(&format!("src/kustomization.yaml: {words}")),
            "{fields}{text}\n{error}"
        );
    }
}

#[test]
fn a_replacement_over_a_number_is_told_with_the_type_that_stood_there() {
    let error = refusal(&[
        (
            "kustomization.yaml",
            "resources: [a.yaml]\nreplacements: [{source: {kind: Deployment, fieldPath: metadata.name}, targets: [{select: {kind: Deployment}, fieldPaths: [spec.replicas]}]}]\n",
        ),
        (
            "a.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2}\n",
        ),
    ]);
    assert!(
        error.ends_with(
            r#"'spec.replicas' held an integer, and what was written over it, as a replacement does, is none: replacements[0] of src/kustomization.yaml wrote it, from Deployment.[noVer].[noGrp]/[noName].[noNs]:metadata.name to "spec.replicas""#
        ),
        "{error}"
    );
}

#[test]
fn the_replacement_that_emptied_a_number_is_named_wherever_the_object_is_read() {
    let object = "apiVersion: v1\nkind: Thing\nmetadata: {name: t}\nspec: {n: 5, m: {b: [7]}, e: ''}\n";
    let base = "resources: [a.yaml]\nreplacements:\n- {sourceValue: '6', targets: [{select: {kind: Thing}, fieldPaths: [spec.n]}]}\n- path: r.yaml\n";
    let empties = "- {sourceValue: '', targets: [{select: {kind: Thing}, fieldPaths: [spec.n]}]}\n";
    let last = "- {source: {kind: Thing, fieldPath: spec.e}, targets: [{select: {kind: Thing}, fieldPaths: [spec.none, spec.m.b.0], options: {create: true}}]}\n";
    let mends = "- {sourceValue: '8', targets: [{select: {kind: Thing}, fieldPaths: [spec.n]}]}\n";
    for (listed, words) in [
        (
            format!("{mends}{last}"),
            r#"'spec.m.b.0' held an integer, and what was written over it, as a replacement does, is none: replacements[1]: src/b/r.yaml[1] of src/b/kustomization.yaml wrote it, from Thing.[noVer].[noGrp]/[noName].[noNs]:spec.e to "spec.m.b.0""#,
        ),
        (
            format!("{mends}{empties}"),
            r#"'spec.n' held an integer, and what was written over it, as a replacement does, is none: replacements[1]: src/b/r.yaml[1] of src/b/kustomization.yaml wrote it, from sourceValue to "spec.n""#,
        ),
    ] {
        for above in [
            "namePrefix: p-",
            "patches: [{target: {kind: Thing}, patch: '[{\"op\": \"add\", \"path\": \"/a\", \"value\": 1}]'}]",
        ] {
            let error = refusal(&[
                ("kustomization.yaml", &format!("resources: [b]\n{above}\n")),
                ("b/kustomization.yaml", base),
                ("b/a.yaml", object),
                ("b/r.yaml", &listed),
            ]);
            assert!(error.ends_with(words), "{above}: {error}");
        }
    }
    let tree: MemoryTree = [
        ("kustomization.yaml", base),
        ("a.yaml", object),
        ("r.yaml", &format!("{empties}{mends}")),
    ]
    .into_iter()
    .collect();
    let built = build(&RenderInput::new(&tree, "", &Budget::default())).expect("what was emptied is mended");
    assert!(built.to_yaml().contains("\"n\": 8"), "{}", built.to_yaml());
}

#[test]
fn an_object_without_kind_or_name_is_told_with_its_document_or_its_item() {
    let many = |wrong: &str| {
        format!(
            "# first\n{OBJECT}---\n\n{wrong}\n---\n{}",
            OBJECT.replace("name: a", "name: b")
        )
    };
    for (text, words) in [
        (
            many("apiVersion: v1\nkind: ConfigMap\nmetadata: {nme: c}"),
            "missing metadata.name in object ConfigMap (in the document that begins at line 7)",
        ),
        (
            many("apiVersion: v1\nkidn: ConfigMap\nmetadata: {name: c}"),
            "missing kind in object c (in the document that begins at line 7)",
        ),
        (
            many("[1]"),
            "missing Resource metadata (in the document that begins at line 7)",
        ),
        (
            "kind: List\nitems:\n- {kind: A, metadata: {name: a}}\n- {kind: B}\n".to_owned(),
            "missing metadata.name in object B (in items[1])",
        ),
        (
            "kind: ConfigMapList\nitems:\n- {kind: A, metadata: {name: a}}\n- {kind: B}\n".to_owned(),
            "missing metadata.name in object B (in ConfigMapList.items[1])",
        ),
        (
            "kind: ConfigMap\n".to_owned(),
            "missing metadata.name in object ConfigMap",
        ),
    ] {
        let error = refusal(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", &text)]);
        assert!(error.ends_with(words), "{text}\n{error}");
    }
}

#[test]
fn a_merge_that_fails_is_told_with_the_field() {
    let object = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n      - {name: a, env: [{name: x, value: y}]}\n      tolerations: [{key: a}]\n";
    for (spec, words) in [
        (
            "containers: [{name: a, env: {LOG: debug}}]",
            "spec.template.spec.containers[name=a].env: wrong node kind: expected a list but got a map",
        ),
        (
            "tolerations: {key: a}",
            "spec.template.spec.tolerations: wrong node kind: expected a list but got a map",
        ),
        (
            "containers: [{name: a, $patch: delte}]",
            "spec.template.spec.containers[name=a]: unknown patch strategy 'delte'",
        ),
    ] {
        let patch = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{template: {{spec: {{{spec}}}}}}}\n"
        );
        let error = refusal(&[
            (
                "kustomization.yaml",
                "resources: [a.yaml]\npatches: [{path: p.yaml}]\n",
            ),
            ("a.yaml", object),
            ("p.yaml", &patch),
        ]);
        assert!(error.ends_with(words), "{spec}\n{error}");
    }
}

#[test]
fn ordinary_mistakes_are_told_with_what_to_do() {
    let plugin = |kind: &str| {
        format!(
            "resources: [a.yaml]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: {kind}\n  metadata: {{name: x}}\n"
        )
    };
    for (fields, words) in [
        (
            "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |-\n    op: add\n    path: /x\n".to_owned(),
            "; a JSON patch is a list of operations",
        ),
        (
            "resources: [plain]\n".to_owned(),
            "no kustomization file in 'src/plain'; add one, or list the files that are in it",
        ),
        (
            "resources: [/etc/a.yaml]\n".to_owned(),
            "'/etc/a.yaml' is an absolute path; a path from the directory of the kustomization is needed",
        ),
        ("resources: [a.yaml, '']\n".to_owned(), "resources[1]: an empty path"),
        (plugin("Foo"), "Foo is not offered here; built-in transformers are"),
        (plugin("HelmChartInflationGenerator"), "HelmRelease"),
    ] {
        let error = refusal(&[
            ("kustomization.yaml", &fields),
            ("a.yaml", OBJECT),
            ("plain/a.yaml", OBJECT),
        ]);
        assert!(error.contains(words), "{fields}\n{error}");
    }
    let mut tree: MemoryTree = [(
        "kustomization.yaml",
        "secretGenerator: [{name: g, envs: [b.env]}]\n",
    )]
    .into_iter()
    .collect();
    tree.insert("b.env", b"a=b\n\xff=b\n".as_slice());
    let error = build(&RenderInput::new(&tree, "", &Budget::default())).expect_err("it is no text");
    assert!(
        error
            .to_string()
            .ends_with("b.env: line 2 has invalid utf8 bytes"),
        "{error}"
    );
}

#[test]
fn a_link_that_leads_nowhere_is_told_from_a_file_that_lacks() {
    let mut tree: MemoryTree = [("kustomization.yaml", "resources: [a.yaml]\n")]
        .into_iter()
        .collect();
    tree.insert_link("a.yaml", "sub/b.yaml");
    let error = build(&RenderInput::new(&tree, "", &Budget::default())).expect_err("nothing stands there");
    let words = "'a.yaml' does not exist: a link on the way leads to 'sub', where nothing stands";
    assert!(error.to_string().ends_with(words), "{error}");
}

#[test]
fn an_object_in_place_that_cannot_be_read_is_not_taken_for_a_path() {
    for field in [
        "transformers",
        "generators",
        "validators",
        "patchesStrategicMerge",
    ] {
        let text = "apiVersion: builtin\n  kind: [\n  secret: marked\n";
        let fields = format!("resources: [a.yaml]\n{field}:\n- |-\n  {text}");
        let error = refusal(&[("kustomization.yaml", &fields), ("a.yaml", OBJECT)]);
        assert!(
            error.starts_with(&format!("src/kustomization.yaml: {field}[0]: neither an object"))
                && error.contains("malformed YAML: line ")
                && !error.contains("marked"),
            "{error}"
        );
    }
}

/// What a reference to a name that cannot be read is told as, where no name changes.
#[test]
fn references_to_names_that_cannot_be_read_are_refused_without_a_change_of_names_too() {
    let binding = |subject: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: b}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}\nsubjects: [{subject}]\n"
        )
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {volumes: [{name: x, secret: foo}]}}}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, envFrom: [secretRef]}]}\n";
    for (text, object, words) in [
        (
            binding("{kind: ServiceAccount, name: sa, namespace: }"),
            "",
            "namespace is blank for resource RoleBinding",
        ),
        (
            binding("{kind: User, nme: sa}"),
            "RoleBinding.v1.rbac.authorization.k8s.io/b.",
            "path config error; no 'name' field in node",
        ),
        (
            deployment.to_owned(),
            "Deployment.v1.apps/d.",
            "spec.template.spec.volumes[0].secret: expected a list or a map",
        ),
        (
            pod.to_owned(),
            "Pod.v1.[noGrp]/p.",
            "spec.containers[0].envFrom[0]: expected a list or a map",
        ),
    ] {
        for more in ["", "namePrefix: x-\n"] {
            let kustomization = format!("resources: [a.yaml]\n{more}");
            let error = refusal(&[("kustomization.yaml", &kustomization), ("a.yaml", &text)]);
            assert!(error.starts_with(&format!("src/a.yaml: {object}")), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }
}

#[test]
fn an_operation_without_op_or_path_is_refused_with_what_was_likely_meant() {
    for (operation, words) in [
        (
            "{opp: add, path: /data, value: {}}",
            "the operation at '/data' has no op; did you mean op by 'opp'?",
        ),
        (
            "{op: add, Path: /data}",
            "operation 'add' has no path; did you mean path by 'Path'?",
        ),
        ("{op: add, value: {}}", "operation 'add' has no path"),
        (
            "{op: add, path: [a]}",
            "operation 'add' has a path that is no text",
        ),
        ("5", "an operation is an object"),
    ] {
        let patch = format!("patches: [{{target: {{kind: ConfigMap}}, patch: '- {operation}'}}]\n");
        let kustomization = format!("resources: [a.yaml]\n{patch}");
        let error = refusal(&[("kustomization.yaml", &kustomization), ("a.yaml", OBJECT)]);
        assert!(error.ends_with(words), "{operation}: {error}");
    }
}

#[test]
fn keys_that_are_no_texts_are_told_with_their_file_and_line() {
    for (data, line, words) in [
        ("data: {x: {{ .Values.y }}}\n", 10, "is not replaced here"),
        ("data:\n  1: a\n", 11, "map key \"1\" is not a string"),
    ] {
        let text = format!("{OBJECT}---\n{}{data}", OBJECT.replace("name: a", "name: b"));
        let error = refusal(&[
            ("kustomization.yaml", "resources: [base]\n"),
            ("base/kustomization.yaml", "resources: [d.yaml]\n"),
            ("base/d.yaml", &text),
        ]);
        let start = format!("src/base/d.yaml: ConfigMap.v1.[noGrp]/b.default: line {line}: ");
        assert!(error.starts_with(&start) && error.contains(words), "{error}");
    }
}

#[test]
fn values_without_meaning_are_told_with_their_file() {
    let error = refusal(&[
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("a.yaml", &format!("{OBJECT}data: {{x: !!int y}}\n")),
    ]);
    assert!(error.starts_with("src/a.yaml: "), "{error}");
}
