//! A Go program that answers one JSON text a line with another, built once per state of its sources.
//!
//! A missing Go toolchain fails the test: agreement that was not checked is not agreement.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running program.
#[derive(Debug)]
pub struct Program {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// Builds the program of a folder of `render/oracle`, unless the cache has it, and starts it.
    pub fn start(folder: &str, linker_flags: &str) -> Program {
        let mut process = Command::new(built(folder, linker_flags))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("HELM_NO_PLUGINS", "1")
            .spawn()
            .expect("the oracle was just built");
        let questions = process.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Program {
            process,
            questions,
            answers,
        }
    }

    /// Asks one question.
    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("the oracle reads");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the oracle answers in UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{cause}: {line:?} to {question}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn built(name: &str, linker_flags: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle").join(name);
    let folder = cache().join(fingerprint(&sources, linker_flags));
    let program = folder.join(format!("{name}-oracle"));
    fs::create_dir_all(&folder).expect("the cache folder can be written");
    // Test binaries run side by side; one builds, the others wait for it.
    let lock = File::create(folder.join("lock")).expect("the cache folder can be written");
    lock.lock().expect("a local file can be locked");
    if !program.exists() {
        let partial = folder.join("building");
        let status = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", linker_flags, "-o"])
            .arg(&partial)
            .arg(".")
            .current_dir(&sources)
            // As the rig builds Helm's own program, so that both share what the compiler keeps.
            .env("CGO_ENABLED", "0")
            .status()
            .expect("Go is needed to build the oracle: apt-get install golang");
        assert!(status.success(), "the oracle does not build");
        fs::rename(&partial, &program).expect("both are in the cache folder");
    }
    program
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("flotilla/oracle")
}

fn fingerprint(sources: &Path, linker_flags: &str) -> String {
    let listed = fs::read_dir(sources).expect("the oracle's sources are in the repository");
    let mut paths: Vec<PathBuf> = listed
        .map(|entry| entry.expect("a listed file").path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    hasher.update(linker_flags.as_bytes());
    for path in paths {
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(&fs::read(&path).expect("a source file can be read"));
    }
    hasher.finalize().to_hex()[..32].to_owned()
}
