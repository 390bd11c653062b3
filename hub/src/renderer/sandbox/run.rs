//! The parent's side: finds out at start whether this machine can confine a program, then runs jobs, each in a
//! process group of its own that is killed with whatever is left of it.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::{
    confine::{CHECK, FAILED, SUBCOMMAND},
    policy::{Limits, Policy},
};
use crate::process::{ProcessGroup, usage};

/// How often its threads are counted: as many as start meanwhile are bounded by its memory.
const LOOK: Duration = Duration::from_millis(50);
/// How much of what a program complains is kept.
const MAX_SAID: usize = 64 << 10;

/// Whether programs are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Always, and refused where that cannot be had.
    Required,
    /// Only limited in memory and time: for machines without Landlock, where the operator trusts the sources.
    Off,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The hub's own program does not start again.
    #[error("cannot start the sandbox")]
    Start(#[source] io::Error),
    /// This machine does not have what it takes.
    #[error("this machine has no sandbox for renderers: {0}")]
    Unavailable(String),
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The program, by its full path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it runs; it may read all below.
    pub directory: PathBuf,
    /// What else it may run, besides itself: the libraries of a program that is linked dynamically.
    pub execute: Vec<PathBuf>,
    /// Bound of its time.
    pub timeout: Duration,
    /// Bound of what it prints.
    pub max_output: usize,
    /// Other limits.
    pub limits: Limits,
}

/// Why a job gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It took too long, and was killed.
    #[error("timed out")]
    Timeout,
    /// It printed too much, and was killed.
    #[error("printed more than {0} bytes")]
    Output(usize),
    /// It had too many threads, and was killed.
    #[error("started more than {0} threads")]
    Threads(usize),
    /// It failed, or a limit ended it; what it complained of.
    #[error("{0}")]
    Failed(String),
    /// It could not be confined or started.
    #[error("{0}")]
    Sandbox(String),
}

/// A way to run programs that was found to hold. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    launcher: PathBuf,
    isolation: Isolation,
}

impl Sandbox {
    /// Proves the sandbox on this machine: a process of `launcher` confines itself and tries what must fail.
    /// `launcher` is the hub's program, which hands its subcommand to [`exec`](super::exec).
    pub async fn probe(launcher: PathBuf, isolation: Isolation) -> Result<Self, SandboxError> {
        let sandbox = Self { launcher, isolation };
        let policy = sandbox.policy(Vec::new(), Vec::new(), Limits::default());
        let output = sandbox
            .command(&policy)
            .arg(CHECK)
            .stdout(Stdio::piped())
            .output();
        let output = output.await.map_err(SandboxError::Start)?;
        if output.status.success() {
            Ok(sandbox)
        } else {
            Err(SandboxError::Unavailable(complaint(
                &String::from_utf8_lossy(&output.stderr),
                output.status,
            )))
        }
    }

    /// The path by which the running hub starts itself again, also after its file was replaced.
    pub fn own_program() -> PathBuf {
        "/proc/self/exe".into()
    }

    /// Runs a job and returns what it printed.
    pub async fn run(&self, job: &Job) -> Result<Vec<u8>, RunError> {
        let mut execute = job.execute.clone();
        execute.push(job.program.clone());
        let policy = self.policy(vec![job.directory.clone()], execute, job.limits);
        let mut command = self.command(&policy);
        command
            .arg(&job.program)
            .args(&job.arguments)
            .current_dir(&job.directory)
            .env("HOME", &job.directory);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| RunError::Sandbox(error.to_string()))?;
        let mut group = ProcessGroup::of(&child);
        let child_id = child.id();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let ended = async {
                let status = group.wait(&mut child).await;
                status.map_err(|error| RunError::Sandbox(error.to_string()))
            };
            // Too much output ends all at once; what is dropped then is killed by the group's guard.
            tokio::try_join!(read(stdout, job.max_output), drain(stderr), ended)
        };
        let (printed, said, status) = tokio::select! {
            done = work => done?,
            () = tokio::time::sleep(job.timeout) => return Err(RunError::Timeout),
            () = crowded(child_id, job.limits.threads) => return Err(RunError::Threads(job.limits.threads)),
        };
        if status.success() {
            Ok(printed)
        } else {
            Err(failed(&said, status))
        }
    }

    fn policy(&self, read: Vec<PathBuf>, execute: Vec<PathBuf>, limits: Limits) -> Policy {
        Policy {
            read,
            execute,
            limits,
            unconfined: self.isolation == Isolation::Off,
        }
    }

    /// A launcher with an empty environment, waiting for a program to become.
    fn command(&self, policy: &Policy) -> Command {
        let policy = serde_json::to_string(policy).unwrap_or_default();
        let mut command = Command::new(&self.launcher);
        command
            .env_clear()
            .args([SUBCOMMAND, &policy])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Returns when a process has more than `max` threads.
async fn crowded(process: Option<u32>, max: usize) {
    loop {
        tokio::time::sleep(LOOK).await;
        if process.is_some_and(|process| usage(process).threads > max) {
            return;
        }
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, max: usize) -> Result<Vec<u8>, RunError> {
    let mut printed = Vec::new();
    if let Some(stream) = stream {
        let bounded = stream.take(max as u64 + 1).read_to_end(&mut printed).await;
        bounded.map_err(|error| RunError::Sandbox(error.to_string()))?;
    }
    if printed.len() > max {
        Err(RunError::Output(max))
    } else {
        Ok(printed)
    }
}

/// Reads all of a stream and keeps its beginning, where the reason stands.
async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Result<String, RunError> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4096];
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let room = MAX_SAID.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

fn failed(said: &str, status: ExitStatus) -> RunError {
    let complaint = complaint(said, status);
    if status.code() == Some(i32::from(FAILED)) {
        RunError::Sandbox(complaint)
    } else {
        RunError::Failed(complaint)
    }
}

fn complaint(said: &str, status: ExitStatus) -> String {
    let said = said.trim();
    if said.is_empty() {
        status.to_string()
    } else {
        said.to_owned()
    }
}
