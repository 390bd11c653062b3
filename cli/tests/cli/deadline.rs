//! Renderings and builds end at their time, and when a person ends them.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::drop_in::write;
use crate::hub::{Ran, command};

/// A chart and a kustomization, of which neither is done in no time.
fn sources(template: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
    write(
        folder.path(),
        &[
            ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            ("c/templates/a.yaml", template),
            ("k/kustomization.yaml", "resources: [a.yaml]\n"),
            ("k/a.yaml", object),
        ],
    );
    folder
}

async fn ran(folder: &TempDir, args: &[&str]) -> Ran {
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (chart, directory) = (at("c"), at("k"));
    let args: Vec<&str> = args
        .iter()
        .map(|arg| match *arg {
            "c" => &chart,
            "k" => &directory,
            arg => arg,
        })
        .collect();
    command(&args, &BTreeMap::new(), "").await
}

#[tokio::test]
async fn a_rendering_ends_at_its_time_and_says_what_was_being_done() {
    let folder = sources("{{ range until 10000 }}{{ end }}");
    for args in [
        &["template", "c", "--timeout", "1ns"][..],
        &[
            "template",
            "c",
            "--name-template",
            "{{ range until 10000 }}{{ end }}",
            "--timeout=1ns",
        ],
    ] {
        let ran = ran(&folder, args).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {ran}");
        for words in [
            "the rendering was not done within 1ns",
            "was stopped",
            "hint: give it longer with --timeout",
        ] {
            assert!(ran.err.contains(words), "{args:?}: {ran}");
        }
    }
}

#[test]
fn a_rendering_ends_at_its_time_while_it_reads_what_gives_nothing() {
    let folder = sources("");
    for values in ["-", "/dev/stdin"] {
        let mut running = Command::new(env!("CARGO_BIN_EXE_flotilla"))
            .args(["template", "c", "--timeout=1ms", "-f", values])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        // Held open, so that there is no end to read.
        let stdin = running.stdin.take();
        let ended = running.wait_with_output().expect("it ends");
        drop(stdin);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let words = format!("was not done within 1ms: the reading of {values} was stopped");
        assert!(said.contains(&words), "{said}");
    }
}

#[tokio::test]
async fn a_rendering_ends_at_its_time_wherever_it_is() {
    let folder = sources("");
    write(folder.path(), &[("v.yaml", "a: 1\n")]);
    let values = folder.path().join("v.yaml").display().to_string();
    for (args, words) in [
        (
            &["-f", &values][..],
            format!("the reading of {values} was stopped"),
        ),
        (&["--set", "a=1"], "the reading of values was stopped".to_owned()),
        (
            &[],
            format!("the reading of {}", folder.path().join("c").display()),
        ),
    ] {
        let args = [&["template", "c", "--timeout", "1ns"][..], args].concat();
        let ran = ran(&folder, &args).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {ran}");
        assert!(ran.err.contains(&words), "{args:?}: {ran}");
    }
}

#[tokio::test]
async fn a_build_ends_at_its_time_and_names_its_directory() {
    let folder = sources("");
    let ran = ran(&folder, &["kustomize", "k", "--timeout", "1ns"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran}");
    let said = format!(
        "the build of {} was not done within 1ns",
        folder.path().join("k").display()
    );
    assert!(ran.err.contains(&said), "{ran}");
}

#[tokio::test]
async fn no_time_at_all_is_any_time() {
    let folder = sources("a: {{ len (until 10000) }}\n");
    for args in [
        &["template", "c", "--timeout", "0"][..],
        &["template", "c", "--timeout=-1s"],
        &["template", "c"],
        &["kustomize", "k", "--timeout", "0s"],
        &["kustomize", "k"],
    ] {
        let ran = ran(&folder, args).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}: {ran}");
    }
}

#[test]
fn a_person_ends_a_rendering_at_once() {
    // Left alone, it would take all its steps.
    let folder = sources("{{ range until 1000000 }}{{ range until 1000000 }}{{ end }}{{ end }}");
    // Whoever runs the tests in the background of a shell has them ignore this signal.
    let mut running = Command::new("env")
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_flotilla")])
        .args(["template", "c", "--timeout=0"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // Until it heeds it, and not by a program, which may take longer to start than all of it takes.
    let ended = loop {
        kill_process(Pid::from_child(&running), Signal::INT).expect("it is there");
        if let Some(ended) = running.try_wait().expect("it ends") {
            break ended;
        }
        std::thread::yield_now();
    };
    assert_eq!(ended.signal(), Some(2), "{ended}");
}
