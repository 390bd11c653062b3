//! The one error of the rig: which server or tool failed, at what, and what it said last.

use std::path::PathBuf;
use std::time::Duration;

/// What went wrong in the rig, told so that the reader can act on it without looking further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RigError {
    /// A program that the rig needs is not installed.
    #[error("{program} was not found: {install}")]
    MissingProgram {
        /// The program's name.
        program: String,
        /// What to install, or which variable to set.
        install: String,
    },
    /// The Go toolchain is older than the rig's modules ask for.
    #[error("go {found} is too old to build the rig: install Go {wanted} or newer")]
    GoTooOld {
        /// What `go env GOVERSION` answered.
        found: String,
        /// The oldest release that builds the rig.
        wanted: String,
    },
    /// A tool failed to compile.
    #[error("building {tool} failed: {output}")]
    Build {
        /// The tool that was being built.
        tool: String,
        /// The compiler's last lines.
        output: String,
    },
    /// A process ended although it should run.
    #[error("{process} exited ({status}); its last lines:\n{log}")]
    Exited {
        /// The process' name within its server.
        process: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A process was asked something while it was not running.
    #[error("{process} is not running")]
    NotRunning {
        /// The process' name within its server.
        process: String,
    },
    /// A command that should succeed did not.
    #[error("{command} failed: {output}")]
    Command {
        /// The command, without secrets.
        command: String,
        /// What it printed last.
        output: String,
    },
    /// A state that was waited for did not come in time.
    #[error("waited {waited:?} for {state}: {last}")]
    Timeout {
        /// The state that was waited for.
        state: String,
        /// How long it was waited for.
        waited: Duration,
        /// Why it was not there at the last look.
        last: String,
    },
    /// No free port was left in the rig's range.
    #[error("no free port between {first} and {last}")]
    NoPort {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// A file, folder or pipe could not be used.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate could not be made.
    #[error("make a certificate for {subject}")]
    Certificate {
        /// Whose certificate it was.
        subject: String,
        /// The library's answer.
        #[source]
        source: rcgen::Error,
    },
    /// A TLS configuration was refused.
    #[error("configure TLS")]
    Tls(#[from] rustls::Error),
    /// A kubeconfig could not be used.
    #[error("read the kubeconfig of {cluster}")]
    Kubeconfig {
        /// The control plane's name.
        cluster: String,
        /// The library's answer.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// A control plane refused or failed a request.
    #[error("{request} on {cluster}")]
    Kube {
        /// The control plane's name.
        cluster: String,
        /// What was asked.
        request: String,
        /// The library's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A line that should be JSON was not.
    #[error("parse {what}")]
    Json {
        /// What was being read or written.
        what: String,
        /// The library's answer.
        #[source]
        source: serde_json::Error,
    },
    /// A caller asked for something that cannot be.
    #[error("{0}")]
    Invalid(String),
}

impl RigError {
    /// Wraps an I/O error with the action and the path; fits `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> RigError {
        let path = path.into();
        move |source| RigError::Io { action, path, source }
    }
}
