//! A Go program that answers one JSON text a line with another, built once per state of its sources.
//!
//! A missing Go toolchain fails the test: agreement that was not checked is not agreement.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The name of the file that holds what a program writes to its standard error.
const ERRORS: &str = "stderr";

/// A running program. It is started again for the question after one that ended it.
#[derive(Debug)]
pub struct Program {
    binary: PathBuf,
    running: Running,
}

#[derive(Debug)]
struct Running {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What the program writes to its standard error, and its temporary files, which it leaves behind when it aborts.
    folder: TempDir,
}

impl Program {
    /// Builds the program of a folder of `render/oracle`, unless the cache has it, and starts it.
    pub fn start(folder: &str, linker_flags: &str) -> Program {
        let binary = built(folder, linker_flags);
        let running = Running::start(&binary);
        Program { binary, running }
    }

    /// Asks one question.
    ///
    /// # Errors
    ///
    /// The last words of a program that ended in place of an answer: a Go program cannot recover from a stack that
    /// overflows.
    pub fn ask(&mut self, question: &Value) -> Result<Value, String> {
        // A program that ends while it reads shows below, where nothing is to be read from it.
        let _ = writeln!(self.running.questions, "{question}");
        let mut line = String::new();
        self.running
            .answers
            .read_line(&mut line)
            .expect("the oracle answers in UTF-8");
        if line.is_empty() {
            let words = self.running.last_words();
            self.running = Running::start(&self.binary);
            return Err(words);
        }
        Ok(serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{cause}: {line:?} to {question}")))
    }
}

impl Running {
    fn start(binary: &Path) -> Running {
        let folder = tempfile::Builder::new()
            .prefix("flotilla-oracle-")
            .tempdir()
            .expect("the folder of temporary files can be written");
        let errors = File::create(folder.path().join(ERRORS)).expect("a new folder can be written");
        let mut process = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .env("HELM_NO_PLUGINS", "1")
            .env("TMPDIR", folder.path())
            // The reason of an abort alone, without a million lines of stack.
            .env("GOTRACEBACK", "none")
            .spawn()
            .expect("the oracle was just built");
        let questions = process.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Running {
            process,
            questions,
            answers,
            folder,
        }
    }

    /// Waits for the end of the program and returns what it said of it.
    fn last_words(&mut self) -> String {
        let status = self.process.wait().expect("a child can be waited for");
        let errors = fs::read(self.folder.path().join(ERRORS)).expect("the file of errors is there");
        let errors = String::from_utf8_lossy(&errors);
        let fatal = errors.lines().find(|line| line.starts_with("fatal error: "));
        format!("{}, {status}", fatal.unwrap_or("no words"))
    }
}

impl Drop for Running {
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
