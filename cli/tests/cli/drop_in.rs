//! `flotilla template` and `flotilla kustomize` in the place of the programs that they stand in for: the same
//! arguments, and the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use flotilla_testkit::{Tool, tool};

use crate::hub::command;

/// What a program printed; none when it failed.
pub(crate) type Printed = Option<String>;

pub(crate) fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
}

/// Runs the reference, with no configuration of whoever runs the test.
pub(crate) fn reference(program: &Path, home: &Path, args: &[&str], stdin: &str) -> Printed {
    let mut process = Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the reference was just built");
    // A program that reads nothing may be gone already.
    let _ = process.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    let output = process.wait_with_output().expect("the reference ends");
    let text = String::from_utf8(output.stdout).expect("text");
    output.status.success().then_some(text)
}

pub(crate) async fn ours(args: &[&str], stdin: &str) -> Printed {
    let ran = command(args, &BTreeMap::new(), stdin).await;
    assert_eq!(ran.code == 0, ran.err.is_empty(), "{args:?}: {}", ran.err);
    (ran.code == 0).then_some(ran.out)
}

/// A chart on which each flag shows.
pub(crate) const CHART: [(&str, &str); 10] = [
    (
        "chart/Chart.yaml",
        "apiVersion: v2\nname: all\nversion: 1.0.0\nappVersion: \"2\"\n",
    ),
    (
        "chart/values.yaml",
        "text: plain\nnumber: 1\nnested: {a: 1, b: [x, y]}\n",
    ),
    (
        "chart/values.schema.json",
        r#"{"type": "object", "properties": {"number": {"type": "integer"}}}"#,
    ),
    (
        "chart/crds/things.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: things.example.org\n",
    ),
    (
        "chart/templates/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n  namespace: {{ .Release.Namespace }}\ndata:\n  values: {{ toJson .Values | quote }}\n  upgrade: \"{{ .Release.IsUpgrade }} {{ .Release.IsInstall }} {{ .Release.Revision }}\"\n  kubernetes: \"{{ .Capabilities.KubeVersion }} {{ .Capabilities.KubeVersion.Minor }}\"\n  things: \"{{ .Capabilities.APIVersions.Has \"example.org/v1\" }} {{ .Capabilities.APIVersions.Has \"example.org/v1/Thing\" }}\"\n",
    ),
    (
        "chart/templates/account.yaml",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: account\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: late\n",
    ),
    (
        "chart/templates/hook.yaml",
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: before\n  annotations:\n    helm.sh/hook: pre-install\n",
    ),
    (
        "chart/templates/tests/test.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: test\n  annotations:\n    helm.sh/hook: test\n",
    ),
    ("chart/templates/NOTES.txt", "Installed {{ .Release.Name }}.\n"),
    ("chart/templates/empty.yaml", "{{ if false }}x{{ end }}\n"),
];

const FILES: [(&str, &str); 4] = [
    ("one.yaml", "text: one\nnested: {a: null, c: 3.0}\n"),
    ("two.yaml", "text: two\nnumber: 12345678\n"),
    ("config.txt", "a: \"b\"\n  c\n"),
    ("wrong.yaml", "text: [\n"),
];

/// Flags, and what is on standard input. Each prints something else than none do.
const FLAGS: [(&[&str], &str); 40] = [
    (&["-n", "prod"], ""),
    (&["-n", "test", "--namespace=prod"], ""),
    (&["--kube-version", "1.25", "--kube-version", "1.29"], ""),
    (&["--include-crds=false", "--include-crds"], ""),
    (
        &["--set", "text=a", "--no-hooks", "--no-hooks", "--set", "number=2"],
        "",
    ),
    (&["--namespace=prod"], ""),
    (&["-f", "{}/one.yaml"], ""),
    (&["-f", "{}/one.yaml", "--values", "{}/two.yaml"], ""),
    (&["-f", "{}/two.yaml,{}/one.yaml"], ""),
    (&["-f", "-"], "text: typed\n"),
    (&["-f", "{}/wrong.yaml"], ""),
    (&["-f", "{}/none.yaml"], ""),
    (&["--set", "text=new,nested.a=2,nested.b[1]=z"], ""),
    (&["--set", "nested=null"], ""),
    (&["--set", "list={a,b}", "--set", "text=-1"], ""),
    (&["--set", "nested.b[-1]=x"], ""),
    (&["-f", "{}/two.yaml", "--set", "text=wins"], ""),
    (&["--set-string", "text=1,nested.a=true"], ""),
    (&["--set-json", r#"nested={"a":[1,2.5,null],"z":{}}"#], ""),
    (&["--set-json", r#"{"text":"map"}"#], ""),
    (&["--set-json", "nested={"], ""),
    (&["--set-file", "text={}/config.txt"], ""),
    (&["--set-file", "text={}/none.txt"], ""),
    (&["--set-literal", "text=a,b={c}"], ""),
    (&["--kube-version", "1.25"], ""),
    (&["--kube-version", "v1.29.3+k3s1"], ""),
    (&["--kube-version", "latest"], ""),
    (&["-a", "example.org/v1"], ""),
    (&["--api-versions", "example.org/v1,example.org/v1/Thing"], ""),
    (&["--include-crds"], ""),
    (&["--is-upgrade"], ""),
    (&["--no-hooks"], ""),
    (&["--skip-tests"], ""),
    (&["--no-hooks", "--skip-tests"], ""),
    (&["--set", "number=text"], ""),
    (&["--set", "number=text", "--skip-schema-validation"], ""),
    (&["--show-only", "templates/account.yaml"], ""),
    (&["-s", "templates/map.yaml", "-s", "templates/tests/*.yaml"], ""),
    (&["-s", "templates/none.yaml"], ""),
    (&["--include-crds", "-s", "crds/things.yaml"], ""),
];

#[tokio::test]
async fn template_takes_helms_flags_and_prints_what_helm_prints() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    write(folder.path(), &FILES);
    let chart = folder.path().join("chart").display().to_string();
    let base = folder.path().display().to_string();
    let plain = ours(&["template", "r", &chart], "").await;
    for (flags, stdin) in FLAGS {
        let flags: Vec<String> = flags.iter().map(|flag| flag.replace("{}", &base)).collect();
        let mut args = vec!["template", "r", &chart];
        args.extend(flags.iter().map(String::as_str));
        let printed = ours(&args, stdin).await;
        assert_eq!(
            printed,
            reference(&helm, folder.path(), &args, stdin),
            "{flags:?}"
        );
        assert_ne!(printed, plain, "{flags:?} change nothing");
    }
    for args in [vec!["template", &chart], vec!["template", "UPPER", &chart]] {
        assert_eq!(
            ours(&args, "").await,
            reference(&helm, folder.path(), &args, ""),
            "{args:?}"
        );
    }
}

/// Flags that print what is printed without them, and some that are refused by both.
const CHANGE_NOTHING: [&[&str]; 51] = [
    &["-g", "no-name"],
    &["--generate-name=true", "no-name"],
    &["--generate-name=false", "no-name"],
    &["--release-name=false"],
    &["--release-name=true"],
    &["--name-template", "", "no-name"],
    &["-g"],
    &["--version", ">>>"],
    &["--atomic"],
    &["--force=false"],
    &["--dry-run=none"],
    &["--dry-run=false"],
    &["--dry-run=true"],
    &["--dry-run=bogus"],
    &["--wait=true"],
    &["--wait=bogus"],
    &["--wait="],
    &["--color=blue"],
    &["--colour=never"],
    &["-l", "a"],
    &["-l", "a=b,c=d"],
    &["-l", "a=b,c"],
    &["-l", "a=b,c,d=e"],
    &["--burst-limit", "-1"],
    &["--burst-limit=0x10"],
    &["--qps=0x10"],
    &["--qps=1e3"],
    &["--timeout=5"],
    &["--kube-version", ""],
    &["--namespace", ""],
    &["--values", ""],
    &["--api-versions", ""],
    &["--skip-crds"],
    &["--debug"],
    &["--dry-run"],
    &["--dry-run=client"],
    &["--create-namespace"],
    &["--dependency-update"],
    &["--release-name"],
    &["--render-subchart-notes"],
    &["--no-hooks=false"],
    &["--include-crds=F"],
    &["--is-upgrade=0"],
    &["--skip-tests=maybe"],
    &["--wait"],
    &["--wait=legacy"],
    &["--replace"],
    &["--server-side=false"],
    &["-l", "a=b"],
    &["--description", "x"],
    &["--name-template", "{{ upper `r` | lower }}", "no-name"],
];

#[tokio::test]
async fn template_passes_over_flags_of_installing_as_helm_does() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let chart = folder.path().join("chart").display().to_string();
    for flags in CHANGE_NOTHING {
        let mut args = match flags.last() {
            Some(&"no-name") => vec!["template", &chart],
            _ => vec!["template", "r", &chart],
        };
        args.extend(flags.iter().filter(|flag| **flag != "no-name"));
        let printed = ours(&args, "").await;
        assert_eq!(printed, reference(&helm, folder.path(), &args, ""), "{flags:?}");
    }
    for (flag, value) in [
        ("--include-crds", "--include-crds=true"),
        ("--no-hooks", "--no-hooks=t"),
        ("--is-upgrade", "--is-upgrade=1"),
    ] {
        let with = |flag| ["template", "r", &chart, flag];
        assert_eq!(
            ours(&with(flag), "").await,
            ours(&with(value), "").await,
            "{value}"
        );
    }
}

#[tokio::test]
async fn template_writes_files_as_helm_does() {
    let helm = tool(Tool::Helm).await.expect("the reference helm");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &CHART);
    let chart = folder.path().join("chart").display().to_string();
    let out = folder.path().join("out").display().to_string();
    for more in [
        &[][..],
        &["--release-name", "--include-crds"],
        &["--no-hooks"],
        &["--skip-tests"],
    ] {
        let mut args = vec!["template", "r", &chart, "--output-dir", &out];
        args.extend(more);
        let theirs = (
            reference(&helm, folder.path(), &args, ""),
            files_below(Path::new(&out)),
        );
        fs::remove_dir_all(&out).expect("helm wrote files");
        let ours = (ours(&args, "").await, files_below(Path::new(&out)));
        fs::remove_dir_all(&out).expect("files were written");
        assert_eq!(ours, theirs, "{more:?}");
    }
}

fn files_below(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(
                    path.display().to_string(),
                    fs::read_to_string(&path).expect("text"),
                );
            }
        }
    }
    found
}

#[tokio::test]
async fn template_names_each_flag_that_it_cannot_take_and_why() {
    for (flags, words) in [
        (
            &["--validate"][..],
            "--validate is a flag of helm template that is not taken here: no cluster is asked",
        ),
        (&["--dry-run=server"], "--dry-run=server is a flag"),
        (&["--enable-dns"], "rendering asks no network"),
        (&["--post-renderer", "x"], "no program is run"),
        (&["--repo", "https://example.org"], "charts are not fetched"),
        (
            &["--output-dir", "x", "-s", "templates/a.yaml"],
            "leaves no output to choose from",
        ),
        (&["--verify"], "signatures"),
    ] {
        let mut args = vec!["template", "r", "chart"];
        args.extend(flags);
        let ran = command(&args, &BTreeMap::new(), "").await;
        assert!(ran.code != 0 && ran.err.contains(words), "{flags:?}: {}", ran.err);
    }
}

const SOURCE: [(&str, &str); 5] = [
    (
        "base/kustomization.yaml",
        "resources: [web.yaml]\nconfigMapGenerator:\n- name: settings\n  literals: [a=1]\n",
    ),
    (
        "base/web.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      containers:\n      - name: web # the only one\n        image: web:1\n        envFrom:\n        - configMapRef: {name: settings}\n",
    ),
    (
        "over/kustomization.yml",
        "namespace: prod\nnamePrefix: eu-\nresources: [../base]\nimages:\n- name: web\n  newTag: \"2\"\npatches:\n- patch: |-\n    - op: add\n      path: /spec/replicas\n      value: 3\n  target: {kind: Deployment}\n",
    ),
    ("broken/kustomization.yaml", "resources: [../none]\n"),
    ("unknown/kustomization.yaml", "resource: []\n"),
];

#[tokio::test]
async fn kustomize_prints_what_kustomize_build_prints() {
    let kustomize = tool(Tool::Kustomize).await.expect("the reference kustomize");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &SOURCE);
    for (name, builds) in [
        ("base", true),
        ("over", true),
        ("broken", false),
        ("unknown", false),
    ] {
        let path = folder.path().join(name).display().to_string();
        let printed = ours(&["kustomize", &path], "").await;
        assert_eq!(printed.is_some(), builds, "{name}");
        assert_eq!(
            printed,
            reference(&kustomize, folder.path(), &["build", &path], ""),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_flag_of_kustomize_build_is_taken_or_refused_with_its_reason() {
    let kustomize = tool(Tool::Kustomize).await.expect("the reference kustomize");
    let folder = tempfile::tempdir().expect("a folder");
    let help = reference(&kustomize, folder.path(), &["build", "--help"], "").expect("it has help");
    let flags: Vec<&str> = help
        .lines()
        .filter_map(|line| line.split_once("--"))
        .filter(|(before, _)| before.trim().is_empty() || before.trim().ends_with(','))
        .filter_map(|(_, flag)| flag.split(' ').next())
        .collect();
    assert!(flags.len() > 12 && flags.contains(&"load-restrictor"), "{help}");
    let taken = ["help", "load-restrictor", "output", "reorder", "stack-trace"];
    // No folder to build; after `--output`, which takes it for its value, where to write.
    let none = folder.path().join("none").display().to_string();
    for flag in flags {
        let ran = command(
            &["kustomize", &format!("--{flag}=x"), &none],
            &BTreeMap::new(),
            "",
        )
        .await;
        let switch = command(&["kustomize", &format!("--{flag}"), &none], &BTreeMap::new(), "").await;
        let refusal = format!("--{flag} is a flag of kustomize build that is not taken here: ");
        let refused = ran.err.contains(&refusal) || switch.err.contains(&refusal);
        assert_eq!(
            refused,
            !taken.contains(&flag),
            "{flag}: {} {}",
            ran.err,
            switch.err
        );
    }
}

#[tokio::test]
async fn of_a_flag_that_is_given_twice_kustomize_takes_the_last() {
    let kustomize = tool(Tool::Kustomize).await.expect("the reference kustomize");
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            ("app/kustomization.yaml", "resources: [a.yaml, ../b.yaml]\n"),
            (
                "app/a.yaml",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n",
            ),
            ("b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"),
        ],
    );
    let app = folder.path().join("app").display().to_string();
    let mut printed = Vec::new();
    for orders in [["none", "legacy"], ["legacy", "none"]] {
        let [first, last] = orders.map(|order| format!("--reorder={order}"));
        let restrictors =
            ["RootOnly", "None"].map(|which| format!("--load-restrictor=LoadRestrictions{which}"));
        let switch = "--stack-trace";
        let args = [
            &app,
            &first,
            &restrictors[0],
            switch,
            &last,
            &restrictors[1],
            switch,
        ];
        let ours = ours(&[&["kustomize"], &args[..]].concat(), "").await;
        let theirs = reference(&kustomize, folder.path(), &[&["build"], &args[..]].concat(), "");
        assert_eq!(ours, theirs, "{orders:?}");
        printed.push(ours.expect("it builds"));
    }
    assert_ne!(printed[0], printed[1]);
    let timeouts = [
        "--timeout=0s",
        "--timeout=5m",
        "--load-restrictor=LoadRestrictionsNone",
    ];
    assert!(
        ours(&[&["kustomize", &app], &timeouts[..]].concat(), "")
            .await
            .is_some()
    );
}

#[tokio::test]
async fn kustomize_writes_the_files_that_kustomize_build_writes() {
    const OBJECTS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A.b, namespace: x}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: all}\n";
    let kustomize = tool(Tool::Kustomize).await.expect("the reference kustomize");
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[
            ("several/kustomization.yaml", "resources: [a.yaml]\n"),
            ("several/a.yaml", OBJECTS),
            (
                "one/kustomization.yaml",
                "resources: [../several]\nnamespace: other\n",
            ),
        ],
    );
    let read = |folder: &Path| -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry"));
        entries
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read_to_string(entry.path()).expect("a text"))
            })
            .collect()
    };
    for name in ["several", "one"] {
        let path = folder.path().join(name).display().to_string();
        let (theirs, ours_to) = (
            folder.path().join(format!("{name}-1")),
            folder.path().join(format!("{name}-2")),
        );
        for folder in [&theirs, &ours_to] {
            fs::create_dir(folder).expect("a folder");
        }
        let theirs_to = theirs.display().to_string();
        reference(&kustomize, folder.path(), &["build", &path, "-o", &theirs_to], "").expect("it builds");
        let printed = ours(&["kustomize", &path, "-o", &ours_to.display().to_string()], "").await;
        assert_eq!(printed.as_deref(), Some(""), "{name}");
        assert_eq!(read(&ours_to), read(&theirs), "{name}");
        let file = folder.path().join(format!("{name}.yaml"));
        ours(&["kustomize", &path, "--output", &file.display().to_string()], "")
            .await
            .expect("it builds");
        let whole = reference(&kustomize, folder.path(), &["build", &path], "");
        assert_eq!(fs::read_to_string(&file).ok(), whole, "{name}");
    }
    let path = folder.path().join("several").display().to_string();
    let args = ["--reorder", "none"];
    assert_eq!(
        ours(&["kustomize", &path, args[0], args[1]], "").await,
        reference(&kustomize, folder.path(), &["build", &path, args[0], args[1]], "")
    );
}
