//! OpenSSH's own server before bare repositories: whoever has one of its keys may read and push.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::dir::RigDir;
use crate::process::{Process, ProcessSpec};
use crate::{PortLease, RigError, wait_until};

const SSHD: &str = "/usr/sbin/sshd";
/// Where it keeps itself apart when it runs as root; Debian makes it at boot.
const SEPARATED: &str = "/run/sshd";

/// A running SSH server. Dropping it ends it.
#[derive(Debug)]
pub struct SshServer {
    port: PortLease,
    user: String,
    host_key: String,
    // Before the folder: the server ends first.
    _process: Process,
    dir: RigDir,
}

/// A key that the server knows.
#[derive(Debug, Clone)]
pub struct SshKey {
    /// The private key, as OpenSSH writes it.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl SshServer {
    /// Starts a server on a free port of 127.0.0.1 that knows no key yet.
    ///
    /// # Errors
    /// [`RigError::MissingProgram`] without OpenSSH's server, and what else keeps it from starting.
    pub async fn start() -> Result<Self, RigError> {
        if !Path::new(SSHD).exists() {
            return Err(RigError::MissingProgram {
                program: SSHD.to_owned(),
                install: "install Debian's package openssh-server".to_owned(),
            });
        }
        if rustix::process::getuid().is_root() {
            std::fs::create_dir_all(SEPARATED).map_err(RigError::io("make", Path::new(SEPARATED)))?;
        }
        let dir = RigDir::temporary()?;
        let port = PortLease::take()?;
        let host_key = make_key(&dir, "host", None)?;
        let authorized = dir.write("authorized", "")?;
        let config = format!(
            "ListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             LogLevel VERBOSE\n",
            port.address(),
            dir.path().join("host").display(),
            authorized.display(),
        );
        let config = dir.write("sshd_config", config)?;
        let log = dir.path().join("log");
        let spec = ProcessSpec::new("sshd", Path::new(SSHD), dir.path(), log).args([
            "-D".into(),
            "-e".into(),
            "-f".into(),
            config.into_os_string(),
        ]);
        let process = Process::start(spec)?;
        let address = port.address();
        wait_until("sshd", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(address).await.map(Some)
        })
        .await?;
        Ok(Self {
            port,
            user: said(Command::new("id").arg("-un"))?,
            host_key: host_key.public,
            _process: process,
            dir,
        })
    }

    /// Makes a key of a type that `ssh-keygen` knows, encrypted when there is a passphrase, and lets it in.
    ///
    /// # Errors
    /// [`RigError::Command`] when there is no such type.
    pub fn key(&self, kind: &str, passphrase: Option<&str>) -> Result<SshKey, RigError> {
        let name = format!("{kind}-{}", passphrase.is_some());
        let key = make_key_of(&self.dir, &name, kind, passphrase)?;
        let path = self.authorized();
        let known = std::fs::read_to_string(&path).map_err(RigError::io("read", &path))?;
        std::fs::write(&path, format!("{known}{}\n", key.public.trim()))
            .map_err(RigError::io("write", &path))?;
        Ok(key)
    }

    /// Lets no key in any more.
    ///
    /// # Errors
    /// When the file of keys cannot be written.
    pub fn refuse_all(&self) -> Result<(), RigError> {
        let path = self.authorized();
        std::fs::write(&path, "").map_err(RigError::io("write", &path))
    }

    fn authorized(&self) -> PathBuf {
        self.dir.path().join("authorized")
    }

    /// The URL of a bare repository on this machine, with `host` in it, which stands for 127.0.0.1.
    #[must_use]
    pub fn url(&self, host: &str, repository: &Path) -> String {
        format!(
            "ssh://{}@{host}:{}{}",
            self.user,
            self.port.number(),
            repository.display()
        )
    }

    /// What `known_hosts` has for `host`.
    #[must_use]
    pub fn known_hosts(&self, host: &str) -> String {
        format!("[{host}]:{} {}", self.port.number(), self.host_key.trim())
    }

    /// What the server has written about its clients.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String, RigError> {
        let path = self.dir.path().join("log");
        std::fs::read_to_string(&path).map_err(RigError::io("read", &path))
    }
}

fn make_key(dir: &RigDir, name: &str, passphrase: Option<&str>) -> Result<SshKey, RigError> {
    make_key_of(dir, name, "ed25519", passphrase)
}

fn make_key_of(dir: &RigDir, name: &str, kind: &str, passphrase: Option<&str>) -> Result<SshKey, RigError> {
    let file = dir.path().join(name);
    said(
        Command::new("ssh-keygen")
            .args([
                "-q",
                "-t",
                kind,
                "-C",
                name,
                "-N",
                passphrase.unwrap_or_default(),
                "-f",
            ])
            .arg(&file),
    )?;
    let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(RigError::io("read", &path));
    Ok(SshKey {
        private: read(file.clone())?,
        public: read(file.with_extension("pub"))?,
    })
}

/// Runs a program and returns what it says.
fn said(command: &mut Command) -> Result<String, RigError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|_| RigError::MissingProgram {
        program: name.clone(),
        install: "install Debian's packages openssh-client and coreutils".to_owned(),
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(RigError::Command {
            command: name,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}
