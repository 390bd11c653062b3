//! How `flotilla template` takes its flags and arguments: as Helm does, held against it.

use std::collections::BTreeMap;
use std::path::Path;

use flotilla_testkit::{Tool, tool};

use crate::drop_in::{CHART, ours, reference, write};
use crate::hub::command;

/// Flags that cannot be had here.
const REFUSED: [&str; 5] = [
    "enable-dns",
    "post-renderer",
    "post-renderer-args",
    "repo",
    "verify",
];

#[tokio::test]
async fn every_flag_of_helm_template_is_taken_as_helm_takes_it_or_refused_with_its_reason() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let chart = folder.path().join("chart").display().to_string();
    let help = reference(&helm, folder.path(), &["template", "--help"], "").expect("it has help");
    // The deprecated ones are not shown.
    let hidden = ["atomic", "force"].map(|name| (name, ""));
    let shown = help.lines().filter_map(|line| {
        let (before, rest) = line.split_once("--")?;
        let is_flag = before.trim().is_empty() || before.trim().ends_with(',');
        let (name, rest) = rest.split_once(' ')?;
        is_flag.then(|| (name, rest.split("   ").next().unwrap_or_default()))
    });
    let flags: Vec<(&str, &str)> = shown.chain(hidden).collect();
    assert!(
        flags.len() > 60 && flags.contains(&("qps", "float32")),
        "{flags:?}"
    );
    for (name, kind) in flags {
        // A text that is empty is that of a variable that is not set, also for those that are refused.
        let is_text =
            !kind.is_empty() && !matches!(kind, "int" | "float32" | "duration") && kind != "stringToString";
        if is_text
            && !matches!(
                name,
                "wait" | "dry-run" | "color" | "colour" | "post-renderer-args"
            )
        {
            let flag = format!("--{name}=");
            let args = ["template", &chart, &flag];
            let ran = command(&args, &BTreeMap::new(), "").await;
            let printed = (ran.code == 0).then_some(ran.out);
            assert_eq!(
                printed,
                reference(&helm, folder.path(), &args, ""),
                "{flag}: {}",
                ran.err
            );
        }
        // Helm reads the first of them, and writes into the other.
        if matches!(name, "help" | "ca-file" | "output-dir") {
            continue;
        }
        let value = match (name, kind) {
            ("dry-run", _) => "client",
            ("wait", _) => "legacy",
            ("color" | "colour", _) => "never",
            (_, "int" | "float32") => "7",
            (_, "duration") => "5s",
            (_, "stringToString") => "a=b",
            (_, "") => "true",
            _ => "x",
        };
        let flag = format!("--{name}={value}");
        let args = ["template", &chart, &flag];
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert!(!ran.err.contains("unexpected argument"), "{flag}: {ran}");
        let refusal = format!("--{name} is a flag of helm template that is not taken here: ");
        assert_eq!(
            ran.err.contains(&refusal),
            REFUSED.contains(&name),
            "{flag}: {ran}"
        );
        if !REFUSED.contains(&name) {
            let printed = (ran.code == 0).then_some(ran.out);
            assert_eq!(printed, reference(&helm, folder.path(), &args, ""), "{flag}");
            let twice = command(&["template", &chart, &flag, &flag], &BTreeMap::new(), "").await;
            let twice = (twice.code == 0).then_some(twice.out);
            assert_eq!(twice, printed, "{flag} twice");
        }
    }
    let ca = ours(&["template", &chart, "--ca-file", "x"], "").await;
    assert_eq!(ca, ours(&["template", &chart], "").await);
}

#[tokio::test]
async fn values_of_flags_are_read_as_go_reads_them() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n")],
    );
    let chart = folder.path().display().to_string();
    let durations = "-5s 1.5h 0 +1m 5 60000000us 9.5s 1h1h 3000000h 2562047h48m 1.s s 1x -";
    let counts =
        "7 -7 1_000 017 08 --5 0x_1 9223372036854775808 -9223372036854775808 +0X1f 0o17 1__0 -0b1 1_ 1.5 x";
    let numbers = "7 1e3 inf -Inf NaN +.5 0x1p4 1e39 1e400 3.4e38 1_0 infinity 1e 0x1 x --1";
    let cases = [("timeout", durations), ("burst-limit", counts), ("qps", numbers)];
    let (mut taken, mut refused) = (0, 0);
    for (name, values) in cases {
        for value in values.split(' ').chain([""]) {
            let flag = format!("--{name}={value}");
            let args = ["template", &chart, &flag];
            let ours = command(&args, &BTreeMap::new(), "").await.code == 0;
            assert_eq!(
                ours,
                reference(&helm, folder.path(), &args, "").is_some(),
                "{flag}"
            );
            *(if ours { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert!(taken > 15 && refused > 12, "{taken} {refused}");
}

#[tokio::test]
async fn the_template_of_a_name_has_the_functions_of_charts_and_reads_no_environment() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            ("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            ("templates/a.yaml", "name: {{ .Release.Name }}\n"),
        ],
    );
    let chart = folder.path().display().to_string();
    for (template, ours, theirs) in [
        (r#"{{ printf "%s-%d" (lower "A") 5 }}"#, Some("a-5"), Some("a-5")),
        (r#"{{ env "HOME" | sha256sum | trunc 5 }}"#, None, Some("")),
        (r#"{{ expandenv "$HOME" | sha256sum | trunc 5 }}"#, None, Some("")),
        ("{{.x}}", None, None),
        ("a{{.x}}b", None, None),
        ("a{{.Release.Name}}b", None, None),
        ("a{{ . }}b", None, None),
        ("a{{ .x | default `y` }}b", Some("ayb"), Some("ayb")),
        ("a{{ if .x.y.z }}x{{ end }}b", Some("ab"), Some("ab")),
        (r#"{{ toYaml "a" }}"#, Some("a"), None),
        (r#"{{ "a" | required "x" }}"#, Some("a"), None),
    ] {
        let args = ["template", &chart, "--name-template", template];
        let ran = command(&args, &BTreeMap::new(), "").await;
        let name = |text: String| text.split("name: ").nth(1).map(|name| name.trim().to_owned());
        let printed = (ran.code == 0).then(|| name(ran.out.clone())).flatten();
        assert_eq!(printed.as_deref(), ours, "{template}: {ran}");
        let expected = reference(&helm, folder.path(), &args, "").and_then(name);
        assert_eq!(expected.is_some(), theirs.is_some(), "{template}: {expected:?}");
        assert!(theirs.is_none_or(str::is_empty) || expected.as_deref() == theirs);
    }
}

#[tokio::test]
async fn help_names_the_page_of_differences() {
    for (name, page) in [("template", "helm"), ("kustomize", "kustomize")] {
        let ran = command(&[name, "--help"], &BTreeMap::new(), "").await;
        let path = format!("docs/reference/{page}-differences.md");
        assert!(ran.out.contains(&path), "{ran}");
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(&path)
                .is_file()
        );
    }
}

#[tokio::test]
async fn one_argument_too_many_is_named() {
    for (args, words) in [
        (&["a", "b", "c", "d"][..], "unexpected arguments: c, d"),
        (&["a", "b", "--debug", "true"], "unexpected arguments: true"),
        (&["--debug", "true", "a", "b"], "unexpected arguments: b"),
    ] {
        let ran = command(&[&["template"], args].concat(), &BTreeMap::new(), "").await;
        assert!(
            ran.code == 2
                && ran
                    .err
                    .contains(&format!("expected at most two arguments, {words}\n"))
                && ran.err.contains("behind an equals sign: --debug=true"),
            "{args:?}: {ran}"
        );
    }
}
