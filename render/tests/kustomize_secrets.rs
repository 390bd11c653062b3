//! What no error tells: values of Secrets, of generators and of patches. Errors go into statuses, events and logs.

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};

/// Stands wherever a secret may stand.
const MARKER: &str = "hunter2";

const OBJECTS: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: hunter2, n: '1'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n";

/// A kustomization beside [`OBJECTS`] in `a.yaml` and the text that is given in `b.yaml`.
fn refusal(kustomization: &str, text: &str) -> String {
    let tree: MemoryTree = [
        ("kustomization.yaml", kustomization),
        ("a.yaml", OBJECTS),
        ("b.yaml", text),
    ]
    .into_iter()
    .collect();
    let budget = Budget::default();
    match build(&RenderInput::new(&tree, "", &budget)) {
        Ok(_) => panic!("it builds:\n{kustomization}\n{text}"),
        Err(error) => error.to_string(),
    }
}

fn assert_untold(kustomization: &str, text: &str) {
    let error = refusal(kustomization, text);
    assert!(!error.contains(MARKER), "{error}\n{kustomization}\n{text}");
    let places = ["kustomization.yaml: ", "a.yaml: ", "b.yaml: "];
    assert!(
        places.iter().any(|place| error.starts_with(place)),
        "{error} names no place"
    );
}

#[test]
fn a_broken_generator_is_told_without_its_values() {
    for entry in [
        "literals: [hunter2]",
        "literals: ['=hunter2']",
        "literals: [k=hunter2, k=hunter2]",
        "literals: [hunter2=, hunter2=]",
        "literals: [hunter2==, hunter2==]",
        "literals: [{k: hunter2}]",
        "literals: hunter2",
        "files: ['k=v=hunter2']",
        "files: ['=hunter2']",
        "files: ['hunter2=']",
        "files: ['hunter2==']",
        "envs: [b.yaml]",
    ] {
        for field in ["secretGenerator", "configMapGenerator"] {
            assert_untold(
                &format!("{field}: [{{name: a, {entry}}}]\n"),
                "k=hunter2\nk=hunter2\n",
            );
        }
    }
    for field in ["generators", "transformers"] {
        let kustomization = format!(
            "resources: [a.yaml]\n{field}:\n- |-\n  apiVersion: builtin\n  kind: SecretGenerator\n  metadata: {{name: x\n  literals: [a=hunter2]\n"
        );
        assert_untold(&kustomization, "");
    }
}

#[test]
fn a_doubled_key_of_an_env_file_is_told_by_file_line_and_key() {
    for field in ["secretGenerator", "configMapGenerator"] {
        let kustomization = format!("{field}: [{{name: g, envs: [b.yaml]}}]\n");
        for (text, words) in [
            (
                "# c\nk=hunter2\nk=hunter2\n",
                "b.yaml: line 3: configmap g illegally repeats the key `k`",
            ),
            // A line without a key of its own may be the secret.
            (
                "hunter2\n\nhunter2\n",
                "b.yaml: line 3: configmap g illegally repeats a key",
            ),
            (
                "hunter2/+a==\nk=v\nhunter2/+a==\n",
                "b.yaml: line 3: configmap g illegally repeats a key",
            ),
            (
                "hunter2=\nhunter2=\n",
                "b.yaml: line 2: configmap g illegally repeats a key",
            ),
            (
                "hunter2==\nhunter2==\n",
                "b.yaml: line 2: configmap g illegally repeats a key",
            ),
            (
                "hunter2 a = b\n  hunter2 a = b\n",
                "b.yaml: line 2: configmap g illegally repeats a key",
            ),
        ] {
            assert_untold(&kustomization, text);
            let error = refusal(&kustomization, text);
            assert!(error.ends_with(words), "{error}");
        }
        let both = format!("{field}: [{{name: g, envs: [b.yaml], literals: [k=hunter2]}}]\n");
        assert_untold(&both, "k=hunter2\n");
        assert!(refusal(&both, "k=hunter2\n").ends_with("illegally repeats the key `k`"));
    }
}

#[test]
fn a_broken_patch_is_told_without_what_it_says() {
    let object = "apiVersion: v1\n  kind: Secret\n  metadata: {name: a}\n  stringData:";
    let many = format!("{object} {{a: hunter2}}\n  ---\n  {object} {{b: hunter2}}");
    let target = "target: {kind: Secret, name: a}";
    for (patch, target) in [
        (format!("{object} {{a: hunter2"), target),
        (format!("{object} [hunter2]"), target),
        (format!("{object} {{a: !!int hunter2}}"), target),
        (many, target),
        ("hunter2".to_owned(), target),
        (
            "[{op: test, path: /stringData/a, value: hunter2x}]".to_owned(),
            target,
        ),
        ("[{op: add, path: /none/a, value: hunter2}]".to_owned(), target),
        ("[{op: replace, path: '', value: hunter2}]".to_owned(), target),
        (
            "[{op: add, path: /stringData/a, value: hunter2}]".to_owned(),
            "options: {}",
        ),
        (
            "[{\"op\": \"add\", \"path\": \"/a\", \"value\": \"hunter2\"".to_owned(),
            target,
        ),
        ("- {op: add, value: hunter2}".to_owned(), target),
    ] {
        let inline = patch.replace("\n  ", "\n    ");
        assert_untold(
            &format!("resources: [a.yaml]\npatches:\n- {target}\n  patch: |-\n    {inline}\n"),
            "",
        );
        let file = patch.replace("\n  ", "\n");
        assert_untold(
            &format!("resources: [a.yaml]\npatches: [{{path: b.yaml, {target}}}]\n"),
            &file,
        );
    }
    for entry in [
        "{a: hunter2",
        "a: hunter2\n  b: [",
        "{kind: Secret, stringData: {a: hunter2}}",
    ] {
        assert_untold(
            &format!("resources: [a.yaml]\npatchesStrategicMerge:\n- |-\n  {entry}\n"),
            "",
        );
        assert_untold(
            &format!(
                "resources: [a.yaml]\npatchesJson6902:\n- target: {{version: v1, kind: Secret, name: a}}\n  patch: |-\n    {entry}\n"
            ),
            "",
        );
    }
}

#[test]
fn an_address_is_told_without_its_credentials() {
    for address in [
        "https://user:hunter2@x.example/y",
        "https://hunter2@x.example/y.git",
        "https://x.example/y.yaml?token=hunter2",
        "git::https://user:hunter2@x.example/y?ref=a",
        "ssh://user:hunter2@x.example/../../../y",
        "https://user:hun/hunter2@x.example/y",
    ] {
        for fields in [
            "resources: [ADDRESS]",
            "components: [ADDRESS]",
            "bases: [ADDRESS]",
            "crds: [ADDRESS]",
            "configurations: [ADDRESS]",
            "openapi: {path: ADDRESS}",
            "generators: [ADDRESS]",
            "transformers: [ADDRESS]",
            "validators: [ADDRESS]",
            "patches: [{path: ADDRESS, target: {kind: Secret}}]",
            "patchesStrategicMerge: [ADDRESS]",
            "patchesJson6902: [{path: ADDRESS, target: {version: v1, kind: Secret, name: a}}]",
            "replacements: [{path: ADDRESS}]",
            "configMapGenerator: [{name: g, files: [ADDRESS]}]",
            "secretGenerator: [{name: g, files: ['k=ADDRESS']}]",
            "secretGenerator: [{name: g, envs: [ADDRESS]}]",
            "helmCharts: [{name: c, repo: ADDRESS}]",
        ] {
            let own = match fields.starts_with("resources") {
                true => "",
                false => "resources: [a.yaml]\n",
            };
            assert_untold(&format!("{own}{}\n", fields.replace("ADDRESS", address)), "");
        }
    }
}

#[test]
fn a_broken_secret_is_told_without_its_values() {
    let object = "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n";
    for rest in [
        "stringData: {a: !!int hunter2}",
        "stringData: {a: [x, !!float hunter2]}",
        "stringData: {a: !!bool hunter2}",
        "stringData: {a: !!null hunter2}",
        "data: {a: !!binary 'hunter2%'}",
        "data: {a: 'hunter2",
        "data: {a: hunter2, b: *hunter2}",
        "data: {a: hunter2\n",
        "data:\n\t- hunter2",
        "data: {a: hunter2}\n--- hunter2\na: b",
        "data: {<<: hunter2}",
    ] {
        assert_untold(
            "resources: [b.yaml]\nnamePrefix: p-\n",
            &format!("{object}{rest}\n"),
        );
    }
    assert_untold(
        "resources: [b.yaml]\n",
        "metadata: {name: a}\nstringData: {a: hunter2}\n",
    );
    assert_untold(
        "resources: [b.yaml]\n",
        "kind: Secret\nstringData: {a: hunter2}\n",
    );
    assert_untold("resources: [b.yaml]\n", "stringData: {a: hunter2}\n");
}

#[test]
fn a_value_that_cannot_be_copied_is_not_told() {
    let tagged = "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\nstringData: {a: !!int hunter2, f: !!float hunter2}\n";
    for field in ["a", "f"] {
        let var = format!(
            "resources: [a.yaml, b.yaml]\nvars: [{{name: V, objref: {{apiVersion: v1, kind: Secret, name: b}}, fieldref: {{fieldpath: stringData.{field}}}}}]\n"
        );
        assert_untold(&var, tagged);
    }
    let select = "targets: [{select: {kind: ConfigMap}, fieldPaths: [data.a]}]";
    for (source, targets) in [
        (
            "source: {kind: Secret, fieldPath: stringData.a, options: {delimiter: ':', index: 3}}",
            select,
        ),
        ("source: {kind: Secret, fieldPath: stringData.a.b}", select),
        ("source: {kind: Secret, fieldPath: stringData.a.0}", select),
        (
            "source: {kind: Secret, fieldPath: stringData.a}",
            "targets: [{select: {kind: ConfigMap}, fieldPaths: [data.b]}]",
        ),
        (
            "source: {kind: ConfigMap, fieldPath: data.a}",
            "targets: [{select: {kind: Secret}, fieldPaths: [stringData.a.b]}]",
        ),
        (
            "sourceValue: hunter2",
            "targets: [{select: {kind: ConfigMap}, fieldPaths: [data.b.c]}]",
        ),
    ] {
        assert_untold(
            &format!("resources: [a.yaml]\nreplacements:\n- {source}\n  {targets}\n"),
            "",
        );
    }
}
