//! Starts the Go program that answers what Helm itself does, built once per state of its sources.
//!
//! A missing Go toolchain fails the test: agreement that was not checked is not agreement.
#![allow(unreachable_pub, reason = "a test's module is its own crate's")]
#![allow(dead_code, reason = "each test binary uses the operations it compares")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A running oracle: one question a line, one answer a line.
pub struct Oracle {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What the reference answered: `Err` holds its error text.
pub type Answer = Result<Output, String>;

/// The reference's output.
#[derive(Debug, Default)]
pub struct Output {
    /// The text of an operation with one output.
    pub text: String,
    /// The texts by template name.
    pub files: BTreeMap<String, String>,
    /// The least time of one run, when repeats were asked for.
    pub nanos: u64,
}

impl Oracle {
    /// Starts the Helm that decides, built anew if the program's sources have changed.
    pub fn start() -> Oracle {
        Oracle::of("helm")
    }

    /// Starts the last Helm of the third series, which has the operations on templates and charts only.
    pub fn helm3() -> Oracle {
        Oracle::of("helm3")
    }

    fn of(folder: &str) -> Oracle {
        let mut process = Command::new(built(folder))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("HELM_NO_PLUGINS", "1")
            .spawn()
            .expect("the oracle was just built");
        let questions = process.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Oracle {
            process,
            questions,
            answers,
        }
    }

    /// Asks one question; its fields are those of `request` in `render/oracle/helm/main.go`.
    pub fn ask(&mut self, question: &Value) -> Answer {
        writeln!(self.questions, "{question}").expect("the oracle reads");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the oracle answers in UTF-8");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{cause}: {line:?}"));
        if answer["failed"].as_bool().unwrap_or(true) {
            return Err(answer["error"].as_str().unwrap_or_default().to_owned());
        }
        let files = answer["files"].as_object().into_iter().flatten();
        Ok(Output {
            text: answer["output"].as_str().unwrap_or_default().to_owned(),
            files: files
                .map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned()))
                .collect(),
            nanos: answer["nanos"].as_u64().unwrap_or_default(),
        })
    }

    /// Asks an operation that takes one text.
    pub fn text(&mut self, op: &str, text: &str) -> Result<String, String> {
        self.ask(&json!({ "op": op, "text": text }))
            .map(|output| output.text)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn built(name: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle").join(name);
    let folder = cache().join(fingerprint(&sources));
    let program = folder.join("helm-oracle");
    fs::create_dir_all(&folder).expect("the cache folder can be written");
    // Test binaries run side by side; one builds, the others wait for it.
    let lock = File::create(folder.join("lock")).expect("the cache folder can be written");
    lock.lock().expect("a local file can be locked");
    if !program.exists() {
        let partial = folder.join("building");
        let status = Command::new("go")
            .args(["build", "-trimpath", "-o"])
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

fn fingerprint(sources: &Path) -> String {
    let listed = fs::read_dir(sources).expect("the oracle's sources are in the repository");
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("a listed file").path()).collect();
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(&fs::read(&path).expect("a source file can be read"));
    }
    hasher.finalize().to_hex()[..32].to_owned()
}
