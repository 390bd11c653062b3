//! A result that does not reach whoever asked for it is a failure; one that nobody wants any more is none.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use flotilla_cli::{Host, Ui, run};

use crate::drop_in::write;
use crate::fleet::resource;
use crate::hub::{Answers, Hub};

const FILES: [(&str, &str); 4] = [
    ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
    ("c/templates/a.yaml", "kind: A\n"),
    ("k/kustomization.yaml", "resources: [a.yaml]\n"),
    (
        "k/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n",
    ),
];

#[test]
fn a_result_that_cannot_be_written_fails_in_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &FILES);
    for args in [
        &["kustomize", "k"][..],
        &["template", "c"],
        &["template", "c", "--output-dir", "out"],
        &["version", "--client"],
        &["completion", "bash"],
        &["--help"],
    ] {
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("a full device");
        let ran = Command::new(env!("CARGO_BIN_EXE_flotilla"))
            .args(args)
            .current_dir(folder.path())
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .expect("it runs");
        let err = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.code() == Some(1)
                && err.contains("cannot write to standard output: No space left on device"),
            "{args:?}: {:?} {err}",
            ran.status
        );
    }
}

/// A pipe that nobody reads.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_pipe_ends_a_command_quietly_also_one_without_an_end() {
    let shown = vec![resource("Kustomization", "flux-system", "a", "True", "Applied")];
    let hub = Hub::start(Answers {
        resources: shown.clone(),
        next: vec![shown],
        ..Answers::default()
    })
    .await;
    let config = hub.folder.path().join("admin.yaml").display().to_string();
    for args in [
        &["get", "ks", "--watch", "--config", &config][..],
        &["completion", "bash"],
    ] {
        let mut host = Host {
            variables: Default::default(),
            stdin: Box::new(io::empty()),
            now_ms: || 0,
            ui: Ui::new(Box::new(Closed), Box::new(Never), false),
        };
        let args = std::iter::once("flotilla")
            .chain(args.iter().copied())
            .map(Into::into);
        assert_eq!(run(args, &mut host).await, 0);
    }
}

/// Standard error, on which nothing is said.
struct Never;

impl Write for Never {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        panic!("{}", String::from_utf8_lossy(bytes));
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
