//! Runs the Go program that links kustomize, and speaks JSON lines with it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::corpus::Case;

/// The version that `managedByLabel` names.
const VERSION_FLAG: &str = "-X sigs.k8s.io/kustomize/api/provenance.version=kustomize/v5.8.1";

/// What kustomize made of a case.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) error: Option<String>,
    pub(crate) yaml: String,
    pub(crate) agree: bool,
    pub(crate) same: bool,
    pub(crate) reason: String,
}

/// A running oracle.
pub(crate) struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    /// Builds the program unless it is in the cache, and starts it.
    pub(crate) fn start() -> Oracle {
        let mut child = Command::new(binary())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let input = child.stdin.take().expect("its input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Oracle { child, input, output }
    }

    /// Asks what kustomize makes of a case, and whether a text means the same.
    pub(crate) fn ask(&mut self, case: &Case, ours: Option<&str>) -> Answer {
        let request = json!({ "id": case.name, "files": case.files, "dir": case.directory, "ours": ours });
        writeln!(self.input, "{request}").expect("the oracle reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the oracle answers");
        let answer: Answer = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{}: the oracle said {line:?}: {error}", case.name));
        assert_eq!(answer.id, case.name, "the oracle answers in order");
        answer
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/kustomize");
    let mut hasher = blake3::Hasher::new();
    for name in ["go.mod", "go.sum", "main.go"] {
        hasher.update(&std::fs::read(source.join(name)).expect("the oracle's sources are there"));
    }
    hasher.update(VERSION_FLAG.as_bytes());
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    let directory = cache
        .join("flotilla/oracle")
        .join(&hasher.finalize().to_hex()[..32]);
    let binary = directory.join("kustomize-oracle");
    if !binary.exists() {
        std::fs::create_dir_all(&directory).expect("the cache is writable");
        let fresh = directory.join(format!("kustomize-oracle.{}", std::process::id()));
        let status = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", VERSION_FLAG, "-o"])
            .arg(&fresh)
            .arg(".")
            .current_dir(&source)
            .status()
            .expect("Go is installed: these tests need it");
        assert!(status.success(), "the oracle builds");
        std::fs::rename(&fresh, &binary).expect("the oracle moves into the cache");
    }
    binary
}
