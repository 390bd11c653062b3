//! Commands that need no hub.

use std::collections::BTreeMap;
use std::fs;

use insta::assert_snapshot;

use crate::hub::command;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn envsubst_takes_the_environment() {
    let set = variables(&[("region", "eu"), ("BASH_FUNC_x%%", "() { :; }")]);
    let text = "at: ${region}\nn: ${replicas:=3}\nliteral: $${region}\n";
    assert_snapshot!(command(&["envsubst"], &set, text).await, @"
    exit 0
    -- out
    at: eu
    n: 3
    literal: ${region}
    -- err
    ");
    assert_snapshot!(command(&["envsubst", "--strict"], &set, "x: ${missing}").await, @r#"
    exit 1
    -- out
    -- err
    ✗ variable not set (strict mode): "missing"
    "#);
}

#[tokio::test]
async fn the_clients_version_asks_no_hub() {
    let ran = command(&["version", "--client"], &BTreeMap::new(), "").await;
    assert_eq!(
        (ran.code, ran.out),
        (0, format!("flotilla: v{}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[tokio::test]
async fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = command(&["completion", shell], &BTreeMap::new(), "").await;
        assert_eq!(ran.code, 0, "{shell}");
        for name in [
            "apply",
            "get",
            "kustomize",
            "template",
            "envsubst",
            "load-restrictor",
        ] {
            assert!(ran.out.contains(name), "{shell}: {name}");
        }
    }
}

#[tokio::test]
async fn the_completion_of_bash_completes_commands_and_flags() {
    let script = command(&["completion", "bash"], &BTreeMap::new(), "").await.out;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flotilla.bash");
    fs::write(&path, script).expect("a file");
    for (words, expected) in [
        (vec!["flotilla", "kust"], "kustomize\n"),
        (vec!["flotilla", "template", "--set-j"], "--set-json\n"),
    ] {
        let ask = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _flotilla flotilla {} {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display(),
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let output = std::process::Command::new("bash")
            .args(["--norc", "-c", &ask])
            .output()
            .expect("bash is a prerequisite");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{words:?}");
    }
}

#[tokio::test]
async fn wrong_usage_has_its_own_exit_code_and_a_suggestion() {
    let ran = command(&["recocile"], &BTreeMap::new(), "").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("reconcile"), "{}", ran.err);
    assert_eq!(command(&["--help"], &BTreeMap::new(), "").await.code, 0);
    assert_eq!(
        command(&["get", "ks", "--timeout", "soon"], &BTreeMap::new(), "")
            .await
            .code,
        2
    );
}

#[tokio::test]
async fn a_directory_without_kustomization_gets_the_one_flux_would_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = folder.path().join("app");
    fs::create_dir_all(app.join("sub")).expect("a folder");
    let object = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n");
    fs::write(app.join("a.yaml"), object("a")).expect("a file");
    fs::write(app.join("sub/b.yaml"), object("b")).expect("a file");
    let ran = command(&["kustomize", &app.display().to_string()], &BTreeMap::new(), "").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("has no kustomization.yaml"), "{}", ran.err);
    assert_eq!(ran.out, format!("{}---\n{}", object("a"), object("b")));
    assert!(
        !app.join("kustomization.yaml").exists(),
        "the directory stays as it was"
    );
}

#[tokio::test]
async fn an_overlay_is_built_from_a_base_beside_it_and_faults_are_named_where_the_user_looks() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("base/kustomization.yaml", "resources: [map.yaml]\n");
    write(
        "base/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n",
    );
    write(
        "over/kustomization.yaml",
        "namePrefix: x-\nresources: [../base]\n",
    );
    let over = folder.path().join("over").display().to_string();
    let ran = command(&["kustomize", &over], &BTreeMap::new(), "").await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x-a\n")
    );
    write("over/kustomization.yaml", "resources: [../none]\n");
    let ran = command(&["kustomize", &over], &BTreeMap::new(), "").await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains(&format!("kustomize build failed: {over}/kustomization.yaml")),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_chart_renders_as_helm_template_prints_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let chart = folder.path().join("c");
    fs::create_dir_all(chart.join("templates")).expect("a folder");
    let write = |name: &str, text: &str| fs::write(chart.join(name), text).expect("a file");
    write("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    write("values.yaml", "a: 1\nb: 2\n");
    write(
        "templates/a.yaml",
        "kind: A\nat: {{ .Release.Namespace }}/{{ .Release.Name }}\nvalues: {{ toJson .Values }}\n",
    );
    write("templates/.hidden", "{{ fail \"ignored\" }}");
    let path = chart.to_str().expect("a path in UTF-8");
    let none = BTreeMap::new();
    let flags = [
        "template",
        "r",
        path,
        "-n",
        "prod",
        "--set",
        "a=null,c=-1",
        "-f",
        "-",
    ];
    assert_snapshot!(command(&flags, &none, "b: x\n").await, @r#"
    exit 0
    -- out
    ---
    # Source: c/templates/a.yaml
    kind: A
    at: prod/r
    values: {"b":"x","c":-1}
    -- err
    "#);
    let ran = command(&["template", path], &none, "").await;
    assert!(ran.out.contains("at: default/release-name"), "{}", ran.out);
    let ran = command(&["template", "stable/nginx"], &none, "").await;
    assert!(
        ran.code == 1 && ran.err.contains("is no folder or file"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_deprecated_chart_and_deprecated_fields_are_warned_of_beside_the_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let none = BTreeMap::new();
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  labels:\n    a: b\n  name: x\n";
    write("base/map.yaml", object);
    write(
        "base/kustomization.yaml",
        "resources: [map.yaml]\ncommonLabels: {a: b}\n",
    );
    for name in ["one", "two"] {
        write(
            &format!("{name}/kustomization.yaml"),
            &format!("nameSuffix: -{name}\nresources: [../base]\nvars: []\nbases: null\n"),
        );
    }
    write(
        "all/kustomization.yaml",
        "bases: [../one, ../two]\npatchesStrategicMerge: []\npatchesJson6902: []\nimageTags: []\n",
    );
    let root = folder.path().display().to_string();
    let ran = command(&["kustomize", &format!("{root}/all")], &none, "").await;
    let told: Vec<String> = ran
        .err
        .lines()
        .map(|line| line.replace(&format!("{root}/"), ""))
        .collect();
    let expected = [
        "all/kustomization.yaml: 'bases' is deprecated, use 'resources' instead",
        "all/kustomization.yaml: 'imageTags' is deprecated, use 'images' instead",
        "all/kustomization.yaml: 'patchesJson6902' is deprecated, use 'patches' instead",
        "all/kustomization.yaml: 'patchesStrategicMerge' is deprecated, use 'patches' instead",
        "one/kustomization.yaml: 'vars' is deprecated, use 'replacements' instead",
        "base/kustomization.yaml: 'commonLabels' is deprecated, use 'labels' instead",
        "two/kustomization.yaml: 'vars' is deprecated, use 'replacements' instead",
    ];
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(told.len(), expected.len(), "{}", ran.err);
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{told}: {expected}");
    }
    assert!(!ran.out.contains("deprecated"), "{}", ran.out);

    write(
        "c/Chart.yaml",
        "apiVersion: v2\nname: c\nversion: 1.0.0\ndeprecated: true\n",
    );
    write("c/templates/a.yaml", "kind: A\n");
    let ran = command(&["template", &format!("{root}/c")], &none, "").await;
    assert!(ran.err.contains("this chart is deprecated"), "{}", ran.err);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "---\n# Source: c/templates/a.yaml\nkind: A\n")
    );
}

#[tokio::test]
async fn options_of_a_hub_are_neither_taken_nor_shown_by_commands_that_ask_none() {
    for (name, options) in [
        ("kustomize", &["config", "context", "namespace"][..]),
        ("template", &["config", "context"]),
        ("envsubst", &["config", "context", "namespace", "timeout"]),
        ("completion", &["config", "context", "namespace", "timeout"]),
    ] {
        let none = BTreeMap::new();
        let help = command(&[name, "--help"], &none, "").await.out;
        let value = |option: &str| if option == "timeout" { "1m" } else { "x" };
        for option in options {
            assert!(!help.contains(&format!("--{option} ")), "{name}: {help}");
            let flag = format!("--{option}={}", value(option));
            let argument = if name == "completion" { "bash" } else { "." };
            let short: Vec<&str> = match *option {
                "namespace" => vec![name, argument, "-nx"],
                _ => vec![name, argument, &flag],
            };
            for args in [short, vec![name, argument, &flag], vec![&flag, name, argument]] {
                let args: Vec<&str> = args
                    .into_iter()
                    .filter(|arg| name != "envsubst" || *arg != ".")
                    .collect();
                let ran = command(&args, &none, "").await;
                assert!(
                    ran.code == 2
                        && ran
                            .err
                            .contains(&format!("--{option} means nothing to flotilla {name}")),
                    "{args:?}: {ran}"
                );
            }
        }
    }
}

#[tokio::test]
async fn commands_of_kustomize_in_the_place_of_the_directory_are_told_what_to_do() {
    for (args, words) in [
        (&["build", "app"][..], "leave out 'build': flotilla kustomize app"),
        (&["build"], "leave out 'build': flotilla kustomize DIRECTORY"),
        (
            &["edit", "fix"],
            "'kustomize edit' is not offered here; it needs kustomize itself",
        ),
        (
            &["edit", "set", "image", "nginx=nginx:1.27"],
            "'kustomize edit' is not offered here; it needs kustomize itself",
        ),
        (
            &["create"],
            "'kustomize create' is not offered here; it needs kustomize itself",
        ),
        (&["version"], "flotilla version tells the version"),
        (
            &["app", "other"],
            "unexpected argument 'other' behind the directory",
        ),
    ] {
        let args: Vec<&str> = [&["kustomize"][..], args].concat();
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert!(ran.code == 2 && ran.err.contains(words), "{args:?}: {ran}");
    }
}

#[tokio::test]
async fn an_argument_that_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&odd).expect("a folder");
    for command in ["template", "kustomize"] {
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_flotilla"))
            .arg(command)
            .arg(&odd)
            .output()
            .expect("it runs");
        let err = String::from_utf8_lossy(&ran.stderr);
        assert!(
            !ran.status.success() && err.contains("caf") && err.contains("not UTF-8"),
            "{command}: {err}"
        );
    }
}

#[tokio::test]
async fn an_error_of_several_lines_is_one_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let chart = folder.path().join("c");
    fs::create_dir_all(chart.join("templates")).expect("a folder");
    let write = |name: &str, text: &str| fs::write(chart.join(name), text).expect("a file");
    write("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    write("templates/a.yaml", "{{ fail \"one\\ntwo\" }}");
    let ran = command(&["template", &chart.display().to_string()], &BTreeMap::new(), "").await;
    assert_eq!(ran.err.matches('\u{2717}').count(), 1, "{ran}");
    assert!(ran.err.contains("\n  two"), "{ran}");
}
