//! Reference implementations as long-lived child processes: small Go programs in `oracle/<name>/` that answer
//! one JSON line for each line asked. Built once and kept under the user's cache folder by the hash of their
//! sources. A missing Go toolchain fails the test that asks.

#![allow(
    dead_code,
    reason = "each test file that includes this module uses a part of it"
)]

use std::{
    env, fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// A running reference program.
pub(crate) struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// Builds `oracle/<name>` unless it is in the cache, and starts it.
    pub(crate) fn start(name: &str) -> Self {
        let mut child = Command::new(built(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reference program starts");
        let questions = child.stdin.take().expect("a piped standard input");
        let answers = BufReader::new(child.stdout.take().expect("a piped standard output"));
        Self {
            child,
            questions,
            answers,
        }
    }

    /// Asks one question and waits for its answer.
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("the reference program reads");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the reference program answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("answer {line:?} to {question}: {e}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn built(name: &str) -> PathBuf {
    // The tests of one file run side by side and ask for the same program.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle").join(name);
    let folder = cache().join("flotilla/oracle").join(hash_of(&source));
    let binary = folder.join(name);
    if !binary.exists() {
        fs::create_dir_all(&folder).expect("the cache folder can be made");
        // Tests build at the same time: each into its own file, the last rename wins with equal content.
        let own = folder.join(format!("{name}.{}", random_seed()));
        let status = Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(&own)
            .arg(".")
            .current_dir(&source)
            .status()
            .expect("go is on the PATH");
        assert!(status.success(), "go build of {} failed", source.display());
        fs::rename(&own, &binary).expect("the built program can be moved into place");
    }
    binary
}

fn cache() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache"))
}

fn hash_of(source: &Path) -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(source)
        .expect("the oracle's folder is readable")
        .map(|entry| entry.expect("a folder entry").path())
        .collect();
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.file_name().expect("a file name").as_encoded_bytes());
        hasher.update(&fs::read(&file).expect("the oracle's files are readable"));
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Random choices that can be had again: the seed is printed by a failing test and taken from `FLOTILLA_SEED`.
pub(crate) struct Random(u64);

impl Random {
    /// Seeds from `FLOTILLA_SEED`, else differently each run. Prints the seed.
    pub(crate) fn seeded() -> Self {
        let seed = env::var("FLOTILLA_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(random_seed);
        println!("FLOTILLA_SEED={seed}");
        Self(seed)
    }

    /// The next 64 random bits (SplitMix64).
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end as u64).expect("below a usize")
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
