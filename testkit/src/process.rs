//! One process of a server: started so that it cannot outlive the rig, its output in a file, and handles to freeze,
//! continue, stop, kill and restart it.
//!
//! The kernel ends it with the thread that started it (`setpriv --pdeathsig`). Test threads come and go, so one thread
//! that lives as long as this process starts them all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::RigError;
use crate::wait::wait_until;

/// How much of a log's end an error carries.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 15;
/// How long a server that ends cleanly on drop may take before it is killed.
const DROP_GRACE: Duration = Duration::from_secs(2);

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

static SPAWNER: LazyLock<Option<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, inbox) = mpsc::channel::<Job>();
    let run = move || {
        for (mut command, answer) in inbox {
            let _ = answer.send(command.spawn());
        }
    };
    std::thread::Builder::new()
        .name("rig-spawner".to_owned())
        .spawn(run)
        .ok()
        .map(|_| jobs)
});

/// Starts a command from the thread that lives as long as this process, with nothing that ends it.
pub(crate) fn spawn_unbound(command: Command) -> std::io::Result<Child> {
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    let jobs = SPAWNER.as_ref().ok_or_else(gone)?;
    let (answer, inbox) = mpsc::channel();
    jobs.send((command, answer)).map_err(|_| gone())?;
    inbox.recv().map_err(|_| gone())?
}

/// How a process ends when nobody is left to ask it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// At once.
    Kill,
    /// At once as far as its clients see, after giving back what the system would not (shared memory).
    Quit,
}

/// What to run, as whom, and where its output goes.
#[derive(Debug, Clone)]
pub(crate) struct ProcessSpec {
    /// Name for errors and progress.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Variables set beside the inherited ones.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The folder it runs in.
    pub(crate) folder: PathBuf,
    /// The file its output is appended to.
    pub(crate) log: PathBuf,
    /// The user it runs as, where that is not ours.
    pub(crate) user: Option<String>,
    /// The signal that ends it with us: `KILL`, or one at which it cleans up first.
    pub(crate) death: Death,
}

impl ProcessSpec {
    /// Describes a process that runs in `folder` as we do and is killed with us.
    pub(crate) fn new(name: &str, program: &Path, folder: &Path, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: folder.to_owned(),
            log,
            user: None,
            death: Death::Kill,
        }
    }

    /// Adds arguments.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The command with its output going to the log file.
    fn command(&self) -> Result<Command, RigError> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(RigError::io("open", &self.log))?;
        let errors = log.try_clone().map_err(RigError::io("open", &self.log))?;
        let death = match self.death {
            Death::Kill => "KILL",
            Death::Quit => "QUIT",
        };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", death]);
        if let Some(user) = &self.user {
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"))
                .arg("--init-groups");
        }
        command.arg("--").arg(&self.program).args(&self.args);
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder);
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        Ok(command)
    }

    fn spawn(&self) -> Result<Child, RigError> {
        spawn_unbound(self.command()?).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => RigError::MissingProgram {
                program: "setpriv".to_owned(),
                install: "install Debian's package util-linux".to_owned(),
            },
            _ => RigError::Io {
                action: "start",
                path: self.program.clone(),
                source,
            },
        })
    }
}

/// A process of a server. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    spec: ProcessSpec,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(spec: ProcessSpec) -> Result<Self, RigError> {
        let child = spec.spawn()?;
        Ok(Self {
            spec,
            child: Mutex::new(Some(child)),
        })
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name, such as `kube-apiserver`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// The file that holds all it has printed, restarts included.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.spec.log
    }

    /// Tells whether it runs.
    ///
    /// # Errors
    /// [`RigError::Exited`] with the end of its log when it ended by itself, [`RigError::NotRunning`] when it was
    /// stopped.
    pub fn check(&self) -> Result<(), RigError> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else {
            return Err(self.not_running());
        };
        match running.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.exited(status.to_string())),
            Err(error) => Err(self.exited(error.to_string())),
        }
    }

    /// How it ended, once it did; a process that was stopped by us has no status left.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        self.child()
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    fn exited(&self, status: String) -> RigError {
        RigError::Exited {
            process: self.spec.name.clone(),
            status,
            log: tail(&self.spec.log),
        }
    }

    /// Freezes it, and returns once it is: it keeps its memory, ports and connections, and answers nothing.
    ///
    /// # Errors
    /// [`RigError::NotRunning`] when it does not run.
    pub fn freeze(&self) -> Result<(), RigError> {
        self.signal(Signal::STOP)?;
        // The signal reaches its threads one by one; until the last has it, the others may answer.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let running = self.child().as_ref().map(Pid::from_child);
        let status = running.and_then(|pid| waitid(WaitId::Pid(pid), stopped).ok().flatten());
        if status.is_some_and(|status| status.stopped()) {
            Ok(())
        } else {
            Err(self.not_running())
        }
    }

    /// Lets it continue after [`Process::freeze`].
    ///
    /// # Errors
    /// [`RigError::NotRunning`] when it does not run.
    pub fn resume(&self) -> Result<(), RigError> {
        self.signal(Signal::CONT)
    }

    /// Kills it at once, as a power cut would, and waits until it is gone. Nothing happens when it does not run.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            end(&mut child, Death::Kill);
        }
    }

    /// Ends it without warning, but lets it give back what the system would not. Nothing happens when it does not run.
    pub(crate) fn quit(&self) {
        if let Some(mut child) = self.child().take() {
            end(&mut child, Death::Quit);
        }
    }

    /// Asks it to end (`TERM`), and kills it after `grace`. Nothing happens when it does not run.
    pub async fn stop(&self, grace: Duration) {
        if self.signal(Signal::TERM).is_err() {
            return;
        }
        let gone = async || Ok::<_, RigError>(self.check().is_err().then_some(()));
        // Over the grace or not, `kill` ends and collects it.
        let _ = wait_until("the process to end", grace, gone).await;
        self.kill();
    }

    /// Starts it again with the same arguments, killing it first when it still runs.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn restart(&self) -> Result<(), RigError> {
        self.kill();
        let fresh = self.spec.spawn()?;
        *self.child() = Some(fresh);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), RigError> {
        self.check()?;
        let child = self.child();
        let running = child.as_ref().map(Pid::from_child);
        let sent = running.map(|pid| kill_process(pid, signal));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.not_running()),
        }
    }

    fn not_running(&self) -> RigError {
        RigError::NotRunning {
            process: self.spec.name.clone(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            end(&mut child, self.spec.death);
        }
    }
}

/// Ends a process, waits a short while where it cleans up, kills what is left, and collects the exit status.
fn end(child: &mut Child, death: Death) {
    if death == Death::Quit {
        let _ = kill_process(Pid::from_child(child), Signal::QUIT);
        let start = Instant::now();
        while start.elapsed() < DROP_GRACE && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The last lines of a log; empty when there is none.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut end = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut end)?;
        Ok(end)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(TAIL_LINES)..)
        .unwrap_or_default()
        .join("\n")
}
