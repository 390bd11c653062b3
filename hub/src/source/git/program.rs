//! The git program, cut off from everything around it: an environment of its own, no configuration but what is
//! passed here, no hooks, no prompts, no helpers, HTTP, HTTPS and, with a key, SSH only, no redirects. Nothing secret stands in its
//! arguments: URL and credential are configuration, and that is passed in the environment, which only the hub's
//! own user can read.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::access::Access;
use crate::process::{ProcessGroup, usage};

/// How much of what git says is kept.
const MAX_STDERR: usize = 16 << 10;
/// Where what arrives is written, while it arrives.
const PACKS: &str = "objects/pack";
/// How often its size, and what the processes use, is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The oldest version that can be told the addresses of a host.
const OLDEST: (u32, u32) = (2, 37);
/// How much of what git prints is read.
const MAX_STDOUT: usize = 64 << 20;
/// The longest line that is read whole.
const MAX_LINE: usize = 4096;

/// Sets the limits that a shell can set, and becomes the program: git and all it starts have them from their first
/// instruction. Of processor time the hard limit is a little above the other, since at that one the kernel kills without
/// saying why.
const LIMITED: &str =
    r#"ulimit -v "$1" && ulimit -S -t "$2" && ulimit -H -t "$(($2 + 5))" && shift 2 && exec "$@""#;

/// What does not depend on the remote. Larger blobs than `bigFileThreshold` are streamed, and packs are seen through
/// windows: an honest repository needs little memory.
const CONFIG: [(&str, &str); 24] = [
    ("core.hooksPath", "/dev/null"),
    ("core.askPass", ""),
    ("core.fsmonitor", "false"),
    ("core.bigFileThreshold", "16m"),
    ("core.packedGitWindowSize", "32m"),
    ("core.packedGitLimit", "256m"),
    ("credential.helper", ""),
    ("protocol.version", "2"),
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("http.followRedirects", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("pack.threads", "1"),
    ("fetch.unpackLimit", "1"),
    ("fetch.recurseSubmodules", "false"),
    ("transfer.fsckObjects", "true"),
    // Found in old and honest repositories, and harmless: nothing here is checked out.
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("transfer.bundleURI", "false"),
];

/// Proxies are the one thing taken from the hub's own environment.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Why there is no git program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It does not start.
    #[error("cannot run the git program '{path}': install git")]
    Missing {
        /// Where it was looked for.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too old, or says nothing that reads as a version.
    #[error("the git program '{path}' is version '{version}', expected {}.{} or newer", OLDEST.0, OLDEST.1)]
    Version {
        /// The program.
        path: String,
        /// What it says.
        version: String,
    },
}

/// A git program found fit.
#[derive(Debug, Clone)]
pub struct GitProgram {
    path: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// One run.
pub(super) struct Run<'a> {
    /// The bare repository; `None` for a run that needs none.
    pub(super) repository: Option<&'a Path>,
    /// Where it runs.
    pub(super) directory: &'a Path,
    /// The command and its arguments.
    pub(super) arguments: Vec<String>,
    /// How it reaches its remote.
    pub(super) access: Access,
    /// The run and all it started are killed after this.
    pub(super) timeout: Duration,
    /// The run is killed when its packs exceed this many bytes.
    pub(super) max_bytes: u64,
    /// Address space of each process, and memory of all, in bytes.
    pub(super) memory: u64,
    /// Processor time of each process, in seconds.
    pub(super) cpu_seconds: u64,
    /// Threads of all processes together.
    pub(super) threads: usize,
}

/// A run that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The program could not be run.
    Io(io::Error),
    /// The time is over.
    Timeout,
    /// The packs grew too large.
    TooLarge,
    /// It prints without end.
    TooLong,
    /// A process used up its processor time.
    Processor,
    /// All processes together had more threads than they may.
    Threads,
    /// All processes together had more memory than one may.
    Memory,
    /// Git gave up; what it said, not yet redacted.
    Exit(String),
}

impl GitProgram {
    /// Finds the program at `path`, or on the search path, and checks its version.
    pub async fn find(path: Option<PathBuf>) -> Result<Self, ProgramError> {
        let program = Self {
            path: path.unwrap_or_else(|| "git".into()),
            environment: environment(),
        };
        let path = program.path.display().to_string();
        let output = program
            .bare(&program.path)
            .arg("version")
            .stdin(Stdio::null())
            .output()
            .await;
        let output = output.map_err(|source| ProgramError::Missing {
            path: path.clone(),
            source,
        })?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match parse_version(&version) {
            Some(found) if found >= OLDEST => Ok(program),
            _ => Err(ProgramError::Version { path, version }),
        }
    }

    fn bare(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().cloned());
        command
    }

    fn command(&self, run: &Run<'_>) -> Command {
        let mut command = self.bare("/bin/sh");
        command
            .args(["-c", LIMITED, "sh"])
            .arg((run.memory >> 10).to_string())
            .arg(run.cpu_seconds.to_string())
            .arg(&self.path);
        let fixed = CONFIG.iter().map(|(key, value)| (*key, *value));
        let own = run
            .access
            .config
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let config: Vec<_> = fixed.chain(own).collect();
        command.env("GIT_CONFIG_COUNT", config.len().to_string());
        for (index, (key, value)) in config.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        for (name, value) in &run.access.environment {
            command.env(name, value);
        }
        if run.access.own_proxy {
            PROXIES.iter().for_each(|name| {
                command.env_remove(name);
            });
        }
        match (run.repository, run.directory.parent()) {
            (Some(repository), _) => command.env("GIT_DIR", repository),
            // Nothing above it is looked for a repository.
            (None, Some(above)) => command.env("GIT_CEILING_DIRECTORIES", above),
            (None, None) => &mut command,
        };
        command
            .env("HOME", run.directory)
            .current_dir(run.directory)
            .args(&run.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that the helpers git starts end with it.
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Whether the hub's environment names a proxy.
    pub(super) fn has_proxies(&self) -> bool {
        let is_proxy = |name: &OsString| {
            PROXIES
                .iter()
                .any(|proxy| name == proxy && !proxy.eq_ignore_ascii_case("no_proxy"))
        };
        self.environment
            .iter()
            .any(|(name, value)| is_proxy(name) && !value.is_empty())
    }

    pub(super) async fn run(&self, run: &Run<'_>) -> Result<(), Failure> {
        self.read(run, |_| {}).await
    }

    /// Runs, and hands on each line that is printed.
    pub(super) async fn read(&self, run: &Run<'_>, mut line: impl FnMut(&str)) -> Result<(), Failure> {
        let mut child = self.command(run).spawn().map_err(Failure::Io)?;
        let mut group = ProcessGroup::of(&child);
        let child_id = child.id();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let printed = async { lines(stdout, &mut line).await };
            let ended = async {
                let (said, status) = tokio::join!(stderr_of(stderr), group.wait(&mut child));
                Ok::<_, Failure>((said, status))
            };
            tokio::try_join!(printed, ended)
        };
        // Dropping the losers is safe: the group's guard kills what still runs.
        let ((), (said, status)) = tokio::select! {
            done = work => done?,
            () = tokio::time::sleep(run.timeout) => return Err(Failure::Timeout),
            failure = outgrown(run, child_id) => return Err(failure),
        };
        let status: ExitStatus = status.map_err(Failure::Io)?;
        if status.signal() == Some(Signal::XCPU.as_raw()) || said.contains("signal 24") {
            return Err(Failure::Processor);
        }
        if !status.success() {
            return Err(Failure::Exit(said));
        }
        // What came faster than it was looked at.
        if packs(run.directory).await > run.max_bytes {
            return Err(Failure::TooLarge);
        }
        Ok(())
    }
}

fn environment() -> Vec<(OsString, OsString)> {
    let kept = PROXIES.iter().chain(&["PATH"]);
    let kept = kept.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let fixed = [
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ALLOW_PROTOCOL", "https:http"),
        ("GIT_PROTOCOL_FROM_USER", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
    ];
    kept.chain(fixed.map(|(name, value)| (name.into(), value.into())))
        .collect()
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Reads all that git says and keeps its end, where the reason stands.
async fn stderr_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 4096];
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..count]);
            kept.drain(..kept.len().saturating_sub(MAX_STDERR));
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Hands on the lines of what is printed; of a long one the beginning.
async fn lines(stream: Option<impl AsyncRead + Unpin>, line: &mut impl FnMut(&str)) -> Result<(), Failure> {
    let Some(mut stream) = stream else {
        return Ok(());
    };
    let (mut begun, mut total): (Vec<u8>, usize) = (Vec::new(), 0);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer).await.map_err(Failure::Io)?;
        if count == 0 {
            break;
        }
        total += count;
        if total > MAX_STDOUT {
            return Err(Failure::TooLong);
        }
        let mut parts = buffer[..count].split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = MAX_LINE.saturating_sub(begun.len());
            begun.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                line(&String::from_utf8_lossy(&begun));
                begun.clear();
            }
        }
    }
    if !begun.is_empty() {
        line(&String::from_utf8_lossy(&begun));
    }
    Ok(())
}

/// Returns what a run exceeds, once it does: its bounds of packs, threads or memory.
async fn outgrown(run: &Run<'_>, process: Option<u32>) -> Failure {
    loop {
        tokio::time::sleep(LOOK).await;
        if packs(run.directory).await > run.max_bytes {
            return Failure::TooLarge;
        }
        let used = process.map(usage).unwrap_or_default();
        if used.threads > run.threads {
            return Failure::Threads;
        }
        if used.resident > run.memory {
            return Failure::Memory;
        }
    }
}

/// Bytes of a repository's packs; none where that cannot be told.
async fn packs(repository: &Path) -> u64 {
    let packs = repository.join(PACKS);
    let size = tokio::task::spawn_blocking(move || size_of(&packs));
    size.await.unwrap_or(0)
}

/// Adds up the files of a directory.
pub(super) fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_git_prints_is_read_by_lines_and_never_without_end() {
        let mut found = Vec::new();
        let text = format!("a\nb c\n{}\nlast", "x".repeat(3 * MAX_LINE));
        let read = lines(Some(text.as_bytes()), &mut |line: &str| {
            found.push(line.to_owned())
        })
        .await;
        assert!(read.is_ok());
        assert_eq!(found, ["a", "b c", &"x".repeat(MAX_LINE), "last"]);
        let endless = lines(Some(tokio::io::repeat(b'x')), &mut |_: &str| {}).await;
        assert!(matches!(endless, Err(Failure::TooLong)));
    }

    #[test]
    fn versions_are_read_from_what_git_says() {
        assert_eq!(parse_version("git version 2.39.5"), Some((2, 39)));
        assert_eq!(parse_version("git version 2.51.0.windows.1"), Some((2, 51)));
        assert_eq!(parse_version("git version next"), None);
        assert_eq!(parse_version("busybox"), None);
    }
}
