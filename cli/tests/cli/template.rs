//! What `flotilla template` takes, warns of and says, beside what it prints.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

use flotilla_testkit::{Tool, tool};

use crate::drop_in::{CHART, ours, reference, write};
use crate::hub::command;

/// Runs a program with these variables and no others.
fn with(program: &Path, home: &Path, variables: &[(&str, String)], args: &[&str]) -> Output {
    let mut process = Command::new(program);
    process.args(args).current_dir(home).env_clear().env("HOME", home);
    process.envs(variables.iter().map(|(name, value)| (*name, value)));
    process.output().expect("it runs")
}

#[tokio::test]
async fn the_namespace_is_that_which_helm_takes() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let program = Path::new(env!("CARGO_BIN_EXE_flotilla"));
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let config = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- {{name: a, context: {{namespace: {namespace}-a}}}}\n- {{name: b, context: {{namespace: {namespace}-b}}}}\n"
        )
    };
    write(
        home,
        &[
            ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            ("c/templates/a.yaml", "at: {{ .Release.Namespace }}\n"),
            (".kube/config", &config("home")),
            ("other", &config("other")),
            ("current", "current-context: b\n"),
            ("wrong", "a: ["),
            (
                "twice",
                &format!(
                    "{}- {{name: b, context: {{namespace: again}}}}\n",
                    config("twice")
                ),
            ),
            (
                "users",
                &format!("{}users:\n- {{name: u}}\n- {{name: u}}\n", config("users")),
            ),
            ("pod", &config("pod").replace("Config", "Pod")),
            ("newer", &config("newer").replace("v1", "v2")),
            (
                "bare",
                &config("bare").replace("apiVersion: v1\nkind: Config\n", ""),
            ),
        ],
    );
    let variable = |name, value: &str| (name, value.to_owned());
    let paths = |names: &[&str]| {
        let paths: Vec<String> = names
            .iter()
            .map(|name| home.join(name).display().to_string())
            .collect();
        ("KUBECONFIG", paths.join(":"))
    };
    let mut seen = std::collections::BTreeSet::new();
    for (variables, flags) in [
        (vec![], &[][..]),
        (vec![], &["--kube-context", "b"]),
        (vec![], &["--kube-context", "unknown"]),
        (vec![], &["--kubeconfig", "other"]),
        (vec![], &["--kubeconfig", "none"]),
        (vec![variable("HELM_KUBECONTEXT", "b")], &[]),
        (vec![variable("HELM_NAMESPACE", "of-variable")], &[]),
        (
            vec![variable("HELM_NAMESPACE", "of-variable")],
            &["-n", "of-flag"],
        ),
        (vec![paths(&["other"])], &[]),
        (vec![paths(&["other"])], &["--kubeconfig", ".kube/config"]),
        (vec![paths(&["none", "other"])], &[]),
        (vec![paths(&["current", "other"])], &[]),
        (vec![paths(&["wrong", "other"])], &[]),
        (vec![], &["--kubeconfig", "twice"]),
        (vec![], &["--kubeconfig", "users"]),
        (vec![], &["--kubeconfig", "pod"]),
        (vec![], &["--kubeconfig", "newer"]),
        (vec![], &["--kubeconfig", "bare"]),
    ] {
        let args = [&["template", "c"], flags].concat();
        let ours = with(program, home, &variables, &args);
        let theirs = with(&helm, home, &variables, &args);
        let text = String::from_utf8_lossy(&ours.stdout).into_owned();
        assert_eq!(
            text,
            String::from_utf8_lossy(&theirs.stdout),
            "{variables:?} {flags:?}"
        );
        seen.insert(text);
    }
    assert!(seen.len() > 6, "they differ: {seen:?}");
}

#[tokio::test]
async fn what_is_no_yaml_is_printed_for_those_who_debug_and_they_are_told_how() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let program = Path::new(env!("CARGO_BIN_EXE_flotilla"));
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            ("c/templates/a.yaml", "kind: [ {{ .Release.Name }}\n"),
            ("c/templates/empty.yaml", "\n"),
            ("c/templates/NOTES.txt", "notes\n"),
        ],
    );
    let debug = [("HELM_DEBUG", "1".to_owned())];
    for (variables, flags) in [(&[][..], &["--debug"][..]), (&debug, &[]), (&[], &[])] {
        let args = [&["template", "c"], flags].concat();
        let ours = with(program, folder.path(), variables, &args);
        let theirs = with(&helm, folder.path(), variables, &args);
        let both = (ours.status.code(), String::from_utf8_lossy(&ours.stdout));
        let expected = (theirs.status.code(), String::from_utf8_lossy(&theirs.stdout));
        assert_eq!(both, expected, "{flags:?}");
        let err = String::from_utf8_lossy(&ours.stderr);
        assert_eq!(
            err.contains("hint: --debug"),
            both.1.is_empty(),
            "{flags:?}: {err}"
        );
    }
}

#[tokio::test]
async fn values_that_do_not_count_are_warned_of_where_helm_warns_and_are_not_shown() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            (
                "c/values.yaml",
                "a: secret\ntable: {x: {z: secret}}\nsub: {table: {x: {z: 2}}}\nglobal: {g: secret, h: {x: 1}}\n",
            ),
            ("c/templates/a.yaml", "kind: A\n"),
            (
                "c/charts/sub/Chart.yaml",
                "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
            ),
            (
                "c/charts/sub/values.yaml",
                "a: 1\ntable: {x: secret}\nglobal: {g: {a: secret}, h: 1}\n",
            ),
        ],
    );
    for (flags, count) in [
        (&["--set", "a.b=1", "--set", "table.x=5"][..], 5),
        (&["--set", "sub.global=5"], 2),
        (&["--set", "global=5"], 2),
        (
            &["--set", "a=2", "--set", "global=null", "--set", "sub.table=null"],
            0,
        ),
    ] {
        let args = [&["template", "c"], flags].concat();
        let theirs = String::from_utf8(with(&helm, folder.path(), &[], &args).stderr).expect("text");
        let ran = with(
            Path::new(env!("CARGO_BIN_EXE_flotilla")),
            folder.path(),
            &[],
            &args,
        );
        let ours = String::from_utf8(ran.stderr).expect("text");
        assert_eq!(ran.status.code(), Some(0), "{ours}");
        // Theirs ends with the value: `(…)`, and a dot or none.
        let meant = |line: &str| {
            let line = line.split_once("warning: ").map_or(line, |(_, line)| line);
            line.split(" (")
                .next()
                .unwrap_or_default()
                .trim_end_matches(['"', '.'])
                .to_owned()
        };
        let mut expected: Vec<String> = theirs.lines().map(meant).collect();
        let mut told: Vec<String> = ours
            .lines()
            .map(|line| line.trim_start_matches("\u{26a0}\u{fe0f} ").to_owned())
            .collect();
        expected.sort();
        told.sort();
        assert_eq!(told, expected, "{flags:?}");
        assert_eq!(told.len(), count, "{told:?}");
        assert!(!ours.contains("secret"), "{ours}");
    }
}

#[tokio::test]
async fn values_of_a_dependency_that_takes_no_part_are_warned_of_too() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            (
                "c/Chart.yaml",
                "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, condition: sub.taken}]\n",
            ),
            ("c/values.yaml", "sub: {taken: false, table: {x: secret}}\n"),
            (
                "c/charts/sub/Chart.yaml",
                "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
            ),
            ("c/charts/sub/values.yaml", "table: 5\n"),
        ],
    );
    let program = Path::new(env!("CARGO_BIN_EXE_flotilla"));
    for (flags, is_told) in [(&[][..], true), (&["--set", "sub.table=null"], false)] {
        let args = [&["template", "c"], flags].concat();
        let words = "skipped value for c.sub.table: Not a table";
        for program in [&helm, program] {
            let ran = with(program, folder.path(), &[], &args);
            let err = String::from_utf8(ran.stderr).expect("text");
            assert_eq!(err.contains(words), is_told, "{}: {err}", program.display());
        }
    }
}

#[tokio::test]
async fn what_means_nothing_in_a_chart_is_warned_of_where_helm_warns() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    let imports = "[missing, {child: no.such, parent: here}, {child: text, parent: x}, good]";
    let dependency = format!(
        "{{name: sub, alias: other, version: 1.0.0, condition: 'other.wrong,gone.x,other.taken,other.wrong', tags: [front, back], import-values: {imports}}}"
    );
    write(
        folder.path(),
        &[
            (
                "c/Chart.yaml",
                &format!("apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{dependency}]\n"),
            ),
            (
                "c/values.yaml",
                "other: {wrong: secret, taken: true}\ntags: {front: secret, back: false}\n",
            ),
            (
                "c/templates/a.yaml",
                "kind: A\nmetadata: {annotations: {helm.sh/hook: 'pre-install, nothing'}}\n",
            ),
            (
                "c/templates/b.yaml",
                "kind: B\nmetadata: {annotations: {helm.sh/hook: pre-install}}\n",
            ),
            (
                "c/charts/sub/Chart.yaml",
                "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
            ),
            (
                "c/charts/sub/values.yaml",
                "text: secret\nexports: {good: {a: 1}}\n",
            ),
        ],
    );
    let args = ["template", "c"];
    let theirs = with(&helm, folder.path(), &[], &args);
    let err = String::from_utf8(theirs.stderr).expect("text");
    let expected: std::collections::BTreeSet<&str> =
        err.lines().filter(|line| line.contains("level=")).collect();
    let ours = with(
        Path::new(env!("CARGO_BIN_EXE_flotilla")),
        folder.path(),
        &[],
        &args,
    );
    assert_eq!(ours.stdout, theirs.stdout);
    let told = String::from_utf8(ours.stderr).expect("text");
    let told: Vec<&str> = told
        .lines()
        .map(|line| line.trim_start_matches("\u{26a0}\u{fe0f} "))
        .collect();
    assert_eq!(
        told,
        [
            "tag front of dependency other: returned non-bool value",
            "condition other.wrong of dependency other: returned non-bool value",
            "import-values of dependency other: missing table exports.missing: \"missing\" is not a table",
            "import-values of dependency other: missing table no.such: \"no\" is not a table",
            "import-values of dependency other: missing table text: \"text\" is not a table",
            "c/templates/a.yaml: skipping unknown hooks \"pre-install, nothing\"",
        ]
    );
    assert_eq!(expected.len(), told.len(), "{err}");
}

#[tokio::test]
async fn files_of_more_than_five_mebibytes_are_refused_where_helm_takes_them() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let large = folder.path().join("large");
    fs::write(&large, format!("# {}\na: 1\n", "x".repeat(5 << 20))).expect("a file");
    let (chart, plain) = (folder.path().join("chart"), folder.path().join("plain"));
    write(
        &plain,
        &[("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n")],
    );
    fs::copy(&large, chart.join("large.txt")).expect("a file");
    let packed = folder.path().join("c.tgz").display().to_string();
    let tar = Command::new("tar")
        .args([
            "czf",
            &packed,
            "-C",
            &folder.path().display().to_string(),
            "chart",
        ])
        .status();
    assert!(tar.is_ok_and(|status| status.success()));
    let (large, chart, plain) = (
        large.display().to_string(),
        chart.display().to_string(),
        plain.display().to_string(),
    );
    let set = format!("a={large}");
    for (args, words) in [
        (&[&plain, "-f", &large][..], "large: it is larger than 5 MiB"),
        (&[&plain, "--set-file", &set], "large: it is larger than 5 MiB"),
        (&[&chart], "large.txt: it is larger than 5 MiB"),
        (&[&packed], "large.txt\" is over the limit of 5 MiB"),
    ] {
        let args = [&["template"], args].concat();
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert!(ran.code == 1 && ran.err.contains(words), "{ran}");
        let theirs = reference(&helm, folder.path(), &args, "");
        assert!(theirs.is_some(), "helm takes {args:?}");
    }
}

#[tokio::test]
async fn missing_dependencies_are_named_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let chart = folder.path().join("c").display().to_string();
    write(
        folder.path(),
        &[(
            "c/Chart.yaml",
            "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: x, version: 1.0.0, repository: \"\"}]\n",
        )],
    );
    for (flags, words) in [
        (&[][..], ""),
        (&["--dependency-update"], "--dependency-update fetches nothing"),
    ] {
        let args = [&["template", &chart], flags].concat();
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert!(
            ran.code == 1
                && ran.err.contains(words)
                && ran.err.contains("missing in charts/ directory: x")
                && ran.err.contains("hint: put them into its charts folder"),
            "{ran}"
        );
    }
}

#[tokio::test]
async fn a_file_whose_name_is_not_utf8_is_named_unless_it_is_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let chart = folder.path().join("chart");
    let odd = chart.join(OsStr::from_bytes(b"caf\xe9.txt"));
    fs::write(odd, "x").expect("a file");
    let args = ["template", &chart.display().to_string()];
    let ran = command(&args, &BTreeMap::new(), "").await;
    assert!(
        ran.code == 1 && ran.err.contains("its name is not UTF-8"),
        "{ran}"
    );
    fs::write(chart.join(".helmignore"), "caf*\n").expect("a file");
    let ran = command(&args, &BTreeMap::new(), "").await;
    assert_eq!(ran.code, 0, "{ran}");
}

#[tokio::test]
async fn what_is_called_wrongly_has_another_code_than_what_cannot_be_rendered() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let chart = folder.path().join("chart").display().to_string();
    for (args, code) in [
        (&["UPPER", &chart][..], 2),
        (&["", &chart], 2),
        (&[&chart, "--kube-version", "banana"], 2),
        (&[&chart, "--set", "a"], 2),
        (&[&chart, "--set-json", "{"], 2),
        (&[&chart, "--set-json", "a={"], 2),
        (&["r", &chart, "-g"], 2),
        (&["r", &chart, "--name-template", "x"], 2),
        (&[&chart, "--name-template", "{{"], 2),
        (&[&chart, "-s", "a", "--output-dir", "b"], 2),
        (&[&chart, "--validate"], 2),
        (&[&chart, "--timeout", "5x"], 2),
        (&[&chart, "--set-file", "a=none"], 1),
        (&[&chart, "-f", "none"], 1),
        (&[&chart, "-s", "none"], 1),
        (&[&chart, "--set", "number=text"], 1),
        (&["none"], 1),
        (&["./none"], 1),
    ] {
        let args = [&["template"], args].concat();
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert_eq!(ran.code, code, "{args:?}: {ran}");
    }
    let ran = command(&["kustomize", "--enable-helm", "."], &BTreeMap::new(), "").await;
    assert_eq!(ran.code, 2, "{ran}");
}

#[tokio::test]
async fn a_lock_is_taken_where_helm_takes_it() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let chart = folder.path().join("chart").display().to_string();
    for (generated, is_taken) in [
        ("generated: \"2020-01-02T03:04:05.6Z\"", true),
        ("generated: 2020-01-02T03:04:05+01:00", true),
        ("Generated: \"2020-01-02T03:04:05.123456789-23:59\"", true),
        ("generated: null", true),
        ("digest: x", true),
        ("generated: 2020", false),
        ("generated: \"2020\"", false),
        ("GENERATED: \"2020-01-02\"", false),
        ("generated: \"2020-01-02T3:04:05Z\"", true),
        ("generated: \"2020-01-02T03:04:05,6Z\"", true),
        ("generated: \"2020-13-02T03:04:05Z\"", false),
        ("generated: \"2020-01-02t03:04:05z\"", false),
        ("generated: \"\"", false),
        ("generated: {}", false),
    ] {
        write(folder.path(), &[("chart/Chart.lock", &format!("{generated}\n"))]);
        let args = ["template", &chart];
        let theirs = reference(&helm, folder.path(), &args, "");
        assert_eq!(theirs.is_some(), is_taken, "{generated}");
        assert_eq!(ours(&args, "").await, theirs, "{generated}");
    }
}

#[tokio::test]
async fn a_folder_that_is_no_chart_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("sub/a.txt", "x")]);
    let large = fs::File::create(folder.path().join("a.img")).expect("a file");
    large.set_len(6 << 20).expect("it has holes");
    std::os::unix::fs::symlink("none", folder.path().join("dangling")).expect("a link");
    let path = folder.path().display().to_string();
    let ran = command(&["template", &path], &BTreeMap::new(), "").await;
    assert!(
        ran.code == 1
            && ran
                .err
                .contains(&format!("cannot load chart {path}: Chart.yaml file is missing\n")),
        "{ran}"
    );
    write(folder.path(), &[(".helmignore", "[\n"), ("Chart.yaml", "")]);
    let ran = command(&["template", &path], &BTreeMap::new(), "").await;
    let words = format!("cannot load chart {path}: cannot load .helmignore: ");
    assert!(ran.code == 1 && ran.err.contains(&words), "{ran}");
}

#[tokio::test]
async fn refusals_say_the_rule() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    write(
        folder.path(),
        &[
            ("none.tgz", "hello\n"),
            (
                "lib/Chart.yaml",
                "apiVersion: v2\nname: lib\nversion: 1.0.0\ntype: library\n",
            ),
            (
                "new/Chart.yaml",
                "apiVersion: v2\nname: new\nversion: 1.0.0\nkubeVersion: '>9.0.0'\n",
            ),
            (
                "vague/Chart.yaml",
                "apiVersion: v2\nname: vague\nversion: 1.0.0\nkubeVersion: at least 1.28\n",
            ),
            (
                "several.yaml",
                "---\na: 1\n---\n---\n# c\nb: 1\n---\nc: 1\nd: [\n",
            ),
            (
                "broken/Chart.yaml",
                "apiVersion: v2\nname: broken\nversion: 1.0.0\n",
            ),
            (
                "broken/templates/a.yaml",
                "\n\na: 1\n---\nb: 1\n\n---\n\nc: 1\nd: {{ \"[\" }}\n",
            ),
            ("broken/templates/b.yaml", ""),
        ],
    );
    let [chart, none, library, chosen, vague, several, broken] = [
        "chart",
        "none.tgz",
        "lib",
        "new",
        "vague",
        "several.yaml",
        "broken",
    ]
    .map(|name| folder.path().join(name).display().to_string());
    for (args, words) in [
        (
            vec!["UPPER", &chart],
            r"must match regex ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ and the length must not be longer than 53",
        ),
        (vec!["", &chart], "release name \"\": no name provided"),
        (vec![""], "\"\" is no folder or file"),
        (vec![&none], "cannot be read: it is no gzipped archive"),
        (
            vec![&chart, "-s", "nope"],
            "could not find template nope in chart\n  hint: name it by its path in the chart, such as templates/service.yaml",
        ),
        (
            vec![&chart, "-f", &several],
            "several.yaml: cannot unmarshal yaml document: yaml: line 9: ",
        ),
        (
            vec![&broken],
            " (in the document that begins at line 9 of what was rendered)\n",
        ),
        (vec![&library], "library charts are not installable: lib is one"),
        (
            vec![&chosen],
            "hint: --kube-version tells the chart another version",
        ),
        (
            vec![&vague],
            "hint: kubeVersion in Chart.yaml is no range of versions, such as '>= 1.28.0-0'",
        ),
        (
            vec![&chart, "--kube-version", "1"],
            "it must begin with two or more numbers",
        ),
        (
            vec![&chart, "--set-json", "{\"a\": [}"],
            "no JSON, at its column 8",
        ),
        (
            vec![&chart, "--set-json", "a=1", "--set-json", "some.key=[secret"],
            "failed parsing --set-json data of \"some.key\"",
        ),
        (
            vec!["oci://example.org/chart"],
            "is not fetched: download it first",
        ),
        (
            vec!["https://user:hunter2@x.example/c.tgz?token=hunter2"],
            "\"https://x.example/c.tgz\" is no folder or file, and is not fetched: download it first",
        ),
        (
            vec![&chart, "-f", "https://user:hunter2@x.example/v.yaml"],
            "https://x.example/v.yaml is not fetched: download it first, and name the file",
        ),
        (
            vec![&chart, "--set-file", "a=s3://x.example/v?token=hunter2"],
            "s3://x.example/v is not fetched: download it first, and name the file",
        ),
        (vec!["stable/nginx"], "is not fetched: download it first"),
        (
            vec!["https://example.org/c.tgz"],
            "is not fetched: download it first",
        ),
    ] {
        let args = [vec!["template"], args].concat();
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert!(ran.code != 0 && ran.err.contains(words), "{args:?}: {ran}");
        assert!(!ran.err.contains("hunter2"), "{ran}");
    }
    fs::write(folder.path().join("chart/Chart.lock"), "5").expect("a file");
    let ran = command(&["template", &chart], &BTreeMap::new(), "").await;
    assert!(
        ran.err
            .contains("cannot load Chart.lock: Chart.lock is a number, not a map"),
        "{ran}"
    );
}

#[tokio::test]
async fn files_of_templates_are_written_through_no_link() {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            (
                "c/templates/a.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
            ),
            ("kept/templates/a.yaml", "kept"),
            ("out/x", ""),
        ],
    );
    std::os::unix::fs::symlink("../kept", folder.path().join("out/c")).expect("new");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ran = command(
        &["template", &path("c"), "--output-dir", &path("out")],
        &BTreeMap::new(),
        "",
    )
    .await;
    assert!(
        ran.code == 1 && ran.err.contains("c is a link, which is not followed"),
        "{ran}"
    );
    let kept = fs::read_to_string(folder.path().join("kept/templates/a.yaml")).expect("it is there");
    assert_eq!(kept, "kept");
}
