//! The private Postgres of a hub without `DATABASE_URL`: the system's binaries, a data directory of ours, a unix
//! socket and nothing else. One command gives a working hub.
//!
//! Postgres refuses to run as root: then its processes run as `flotilla-pg` where there is such a user, else as `postgres`
//! or `nobody`, who owns the directory. Only the hub's own user may connect, and works as a role that is no superuser.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, WaitOptions, pidfd_open, test_kill_process, waitpid},
};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::Command,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The role that the hub works as.
const USER: &str = "flotilla";
/// Makes that role and its database, and nothing else.
const SUPERUSER: &str = "postgres";
const DATABASE: &str = "flotilla";

/// More than a hub may be given, and those of commands beside it.
const CONNECTIONS: u32 = 250;
/// How often the server is looked for where the kernel does not tell of its end.
const LOOK: Duration = Duration::from_secs(1);
/// Between attempts to start it again.
const RESTART: Duration = Duration::from_millis(250);
/// The first version that can ask the system to write all that it holds in one call.
const SYNCFS: u32 = 14;

/// A running private Postgres. Whoever holds the lock on the data directory starts, keeps and stops it; a command
/// beside a running hub is only attached to it. A crash of the hub leaves it running: the next start uses it.
#[derive(Debug, Clone)]
pub struct PrivatePostgres {
    bin: PathBuf,
    dir: PathBuf,
    data: PathBuf,
    run_as: Option<String>,
    socket_dir: PathBuf,
}

/// Why the private Postgres cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The binaries are missing.
    #[error(
        "PostgreSQL is not installed: no `initdb` on PATH, in $FLOTILLA_PG_BIN or under /usr/lib/postgresql; \
         install the package `postgresql`, or set DATABASE_URL to a server you run"
    )]
    Missing,
    /// Running as root and no unprivileged user to drop to.
    #[error(
        "PostgreSQL does not run as root, and none of the users `flotilla-pg`, `postgres` and `nobody` exists"
    )]
    NoUser,
    /// The user that the server would run as cannot come to the directory.
    #[error(
        "PostgreSQL does not run as root but as `{user}`, who may not pass through {dir}: choose another directory, for \
         example `--data-dir /var/lib/flotilla-hub`, or let others pass with `chmod o+x {dir}`"
    )]
    Closed {
        /// The user.
        user: String,
        /// The first directory on the way that is closed.
        dir: PathBuf,
    },
    /// A hub serves from this data directory, and its server is not there.
    #[error(
        "the hub's Postgres does not run; the hub that serves from this data directory starts it again, or stop that hub first"
    )]
    NotRunning,
    /// A file or directory cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// One of its programs failed.
    #[error("`{program}` failed: {output}")]
    Failed {
        /// The program.
        program: String,
        /// What it printed.
        output: String,
    },
}

impl PrivatePostgres {
    /// Starts the server under `dir`, making it at the first start. Continues from whatever a crash left. For the
    /// holder of the data directory's lock.
    pub async fn start(dir: &Path) -> Result<Self, PrivateError> {
        let this = Self::at(dir)?;
        this.make_dir(dir)?;
        this.make_dir(&this.socket_dir)?;
        if !this.data.join("PG_VERSION").exists() {
            this.init(dir).await?;
        }
        if !this.is_running().await {
            this.launch().await?;
        }
        this.ensure_database().await?;
        Ok(this)
    }

    /// The server that another process runs under `dir`.
    pub async fn attach(dir: &Path) -> Result<Self, PrivateError> {
        let this = Self::at(dir)?;
        if this.is_running().await {
            Ok(this)
        } else {
            Err(PrivateError::NotRunning)
        }
    }

    fn at(dir: &Path) -> Result<Self, PrivateError> {
        Ok(Self {
            bin: find_binaries().ok_or(PrivateError::Missing)?,
            dir: dir.to_owned(),
            data: dir.join("data"),
            socket_dir: socket_dir(dir),
            run_as: unprivileged_user()?,
        })
    }

    /// Starts the server again whenever it ends, until told to stop.
    pub async fn keep(self, stop: CancellationToken) {
        let kept = async {
            loop {
                self.ended().await;
                tracing::error!("the private Postgres ended; it is started again");
                // What its processes held is free when the last of them has ended: until then it does not start.
                while let Err(error) = self.launch().await {
                    tracing::warn!(%error, "the private Postgres does not start yet");
                    sleep(RESTART).await;
                }
                tracing::info!("the private Postgres runs again");
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = kept => {}
        }
    }

    /// Returns when the server does not run, as the kernel tells: it need not be a child for that.
    async fn ended(&self) {
        let Some(process) = self.process() else { return };
        match watch(process) {
            Ok(process_end) => drop(process_end.readable().await),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            // A kernel that does not tell.
            Err(_) => {
                while test_kill_process(process).is_ok() {
                    sleep(LOOK).await;
                }
            }
        }
        // It becomes a child where this process is a container's first: then it must be reaped to be gone.
        let _ = waitpid(Some(process), WaitOptions::NOHANG);
    }

    /// The server's process, as it wrote it down.
    fn process(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .username(USER)
            .database(DATABASE)
    }

    /// Stops the server, waiting for its shutdown checkpoint.
    pub async fn stop(&self) -> Result<(), PrivateError> {
        self.run(
            "pg_ctl",
            [
                OsStr::new("stop"),
                "-D".as_ref(),
                self.data.as_os_str(),
                "-m".as_ref(),
                "fast".as_ref(),
            ],
        )
        .await
        .map(drop)
    }

    async fn init(&self, dir: &Path) -> Result<(), PrivateError> {
        // Made beside and renamed: a crash half way leaves nothing that looks like a cluster.
        let fresh = dir.join("data.new");
        let _ = std::fs::remove_dir_all(&fresh);
        let args = [
            "-D".as_ref(),
            fresh.as_os_str(),
            "-U".as_ref(),
            SUPERUSER.as_ref(),
            "-A".as_ref(),
            "peer".as_ref(),
        ];
        let mut args = args.to_vec();
        args.extend(["-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"].map(OsStr::new));
        self.run("initdb", args).await?;
        self.write_access(&fresh)?;
        std::fs::rename(&fresh, &self.data).map_err(|source| PrivateError::Io {
            path: self.data.clone(),
            source,
        })
    }

    /// Only the user the hub runs as may connect, by the kernel's word for who that is.
    fn write_access(&self, data: &Path) -> Result<(), PrivateError> {
        let me = user_name(rustix::process::geteuid().as_raw());
        let write = |name: &str, text: String| {
            let path = data.join(name);
            std::fs::write(&path, text).map_err(|source| PrivateError::Io { path, source })
        };
        write("pg_hba.conf", "local all all peer map=flotilla\n".to_owned())?;
        write(
            "pg_ident.conf",
            format!("flotilla {me} {USER}\nflotilla {me} {SUPERUSER}\n"),
        )
    }

    async fn launch(&self) -> Result<(), PrivateError> {
        let log = self.dir.join("postgres.log");
        // A shell reads this.
        let socket_dir = self.socket_dir.display().to_string().replace('\'', r"'\''");
        // A fleet that joins fills empty tables within a minute, and plans made for empty tables go through all rows.
        let mut options = format!(
            "-k '{socket_dir}' -c listen_addresses='' -c max_connections={CONNECTIONS} -c autovacuum_naptime=15s"
        );
        // After a crash: one call instead of one for each of a thousand files, which takes seconds beside other writers.
        if self.major_version() >= SYNCFS {
            options.push_str(" -c recovery_init_sync_method=syncfs");
        }
        let args: Vec<&OsStr> = vec![
            "start".as_ref(),
            "-D".as_ref(),
            self.data.as_os_str(),
            "-w".as_ref(),
            "-t".as_ref(),
            "60".as_ref(),
            "-l".as_ref(),
            log.as_os_str(),
            "-o".as_ref(),
            options.as_ref(),
        ];
        self.run("pg_ctl", args)
            .await
            .map(drop)
            .map_err(|error| match error {
                PrivateError::Failed { program, output } => {
                    let tail = std::fs::read_to_string(&log).unwrap_or_default();
                    let tail: Vec<&str> = tail.lines().rev().take(5).collect();
                    let tail: Vec<&str> = tail.into_iter().rev().collect();
                    PrivateError::Failed {
                        program,
                        output: format!("{output}; {}: {}", log.display(), tail.join(" | ")),
                    }
                }
                other => other,
            })
    }

    /// The major version of the server that the data is of; 0 where that is not known.
    fn major_version(&self) -> u32 {
        let text = std::fs::read_to_string(self.data.join("PG_VERSION")).unwrap_or_default();
        text.trim()
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(0)
    }

    async fn is_running(&self) -> bool {
        self.run(
            "pg_ctl",
            ["status".as_ref(), "-D".as_ref(), self.data.as_os_str()],
        )
        .await
        .is_ok()
    }

    async fn ensure_database(&self) -> Result<(), PrivateError> {
        let failed = |error: sqlx::Error| PrivateError::Failed {
            program: "CREATE DATABASE".to_owned(),
            output: error.to_string(),
        };
        let options = self.options().username(SUPERUSER).database("postgres");
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
            .bind(USER)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if !known {
            sqlx::query("CREATE ROLE flotilla LOGIN")
                .execute(&mut connection)
                .await
                .map_err(failed)?;
        }
        let found: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if !found {
            // A name cannot be a parameter; this one is a constant of ours.
            sqlx::query("CREATE DATABASE flotilla OWNER flotilla")
                .execute(&mut connection)
                .await
                .map_err(failed)?;
        }
        connection.close().await.map_err(failed)
    }

    async fn run<'a>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<String, PrivateError> {
        let path = self.bin.join(program);
        let mut command = match &self.run_as {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user, "--regid", user, "--clear-groups", "--"])
                    .arg(&path);
                command
            }
            None => Command::new(&path),
        };
        let failed = |output: String| PrivateError::Failed {
            program: program.to_owned(),
            output,
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            // A directory that the server's user may enter.
            .current_dir("/")
            .stdin(Stdio::null());
        // `pg_ctl start` leaves a server behind that keeps its standard output open: reading to the end would
        // wait for ever, so output goes to a file of ours.
        let mut output = tempfile::tempfile().map_err(|e| failed(e.to_string()))?;
        let handle = || {
            output
                .try_clone()
                .map(Stdio::from)
                .map_err(|e| failed(e.to_string()))
        };
        command.stdout(handle()?).stderr(handle()?);
        let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
        let status = timeout(Duration::from_secs(90), child.wait())
            .await
            .map_err(|_| failed("no answer within 90 s".to_owned()))?
            .map_err(|e| failed(e.to_string()))?;
        let mut text = String::new();
        io::Seek::rewind(&mut output).map_err(|e| failed(e.to_string()))?;
        io::Read::read_to_string(&mut output, &mut text).map_err(|e| failed(e.to_string()))?;
        if status.success() {
            Ok(text)
        } else {
            Err(failed(text.trim().to_owned()))
        }
    }

    /// Tells whether a directory is the hub's own, or its server's.
    fn is_own_dir(&self, dir: &Path) -> io::Result<bool> {
        let found = std::fs::symlink_metadata(dir)?;
        let server = self.run_as.as_deref().and_then(user_ids).map(|(uid, _)| uid);
        let own = [Some(rustix::process::geteuid().as_raw()), server];
        Ok(found.is_dir() && own.contains(&Some(found.uid())))
    }

    fn make_dir(&self, dir: &Path) -> Result<(), PrivateError> {
        let io = |source| PrivateError::Io {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        // Beside others' in the temporary directory anybody may have made it before, as a link to elsewhere.
        if !self.is_own_dir(dir).map_err(io)? {
            return Err(io(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user or is no directory",
            )));
        }
        if let Some(user) = &self.run_as {
            let (uid, gid) = user_ids(user).ok_or(PrivateError::NoUser)?;
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).map_err(io)?;
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(io)
    }
}

/// What is readable once a process has ended.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe; the descriptor is made here, is nobody else's and lives in what is returned"
)]
fn watch(process: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = pidfd_open(process, PidfdFlags::NONBLOCK)?;
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// A socket's path holds 107 bytes; a long data directory gets a short one under the temporary directory.
fn socket_dir(dir: &Path) -> PathBuf {
    let beside = dir.join("run");
    if beside.as_os_str().len() <= 80 {
        return beside;
    }
    let digest = flotilla_core::digest::Digest::of("socket", dir.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("flotilla-pg-{}", digest.short()))
}

fn find_binaries() -> Option<PathBuf> {
    let named = std::env::var_os("FLOTILLA_PG_BIN").map(PathBuf::from);
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|dirs| dirs.flatten().map(|dir| dir.path().join("bin")).collect())
        .unwrap_or_default();
    // The newest version first: 17 before 15.
    packaged.sort_by_key(|path| {
        let version = path
            .parent()
            .and_then(Path::file_name)
            .and_then(OsStr::to_str)
            .and_then(|v| v.parse().ok());
        std::cmp::Reverse(version.unwrap_or(0_u32))
    });
    named
        .into_iter()
        .chain(on_path.unwrap_or_default())
        .chain(packaged)
        .find(|dir| dir.join("initdb").is_file() && dir.join("pg_ctl").is_file())
}

/// The user to run the server as; `None` when we are unprivileged already.
fn unprivileged_user() -> Result<Option<String>, PrivateError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    ["flotilla-pg", "postgres", "nobody"]
        .into_iter()
        .find(|user| user_ids(user).is_some())
        .map(|user| Some(user.to_owned()))
        .ok_or(PrivateError::NoUser)
}

fn user_ids(name: &str) -> Option<(u32, u32)> {
    passwd()
        .into_iter()
        .find(|(user, _, _)| user == name)
        .map(|(_, uid, gid)| (uid, gid))
}

fn user_name(uid: u32) -> String {
    passwd()
        .into_iter()
        .find(|(_, id, _)| *id == uid)
        .map_or_else(|| uid.to_string(), |(name, _, _)| name)
}

fn passwd() -> Vec<(String, u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some((name, uid, gid))
        })
        .collect()
}

/// Refuses a data directory that the server could not come to, before anything is made of it.
pub fn check_way(dir: &Path) -> Result<(), PrivateError> {
    let Some(user) = unprivileged_user()? else {
        return Ok(());
    };
    let ids = user_ids(&user).ok_or(PrivateError::NoUser)?;
    match closed_to(dir, ids) {
        Some(dir) => Err(PrivateError::Closed { user, dir }),
        None => Ok(()),
    }
}

/// The first directory above `dir`, from the root on, that a user may not pass through. What is not there yet is made by
/// us, and open to be passed.
fn closed_to(dir: &Path, (uid, gid): (u32, u32)) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    let there = dir
        .ancestors()
        .skip(1)
        .find_map(|above| above.canonicalize().ok())?;
    let mut way: Vec<&Path> = there.ancestors().collect();
    way.reverse();
    let is_closed = |above: &&&Path| {
        std::fs::metadata(above).is_ok_and(|found| {
            let passes = match (found.uid() == uid, found.gid() == gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            found.mode() & passes == 0
        })
    };
    way.iter().find(is_closed).map(|above| above.to_path_buf())
}

/// Tells whether `path` is owned by the user we run as; a data directory of somebody else is not ours to use.
pub fn is_ours(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_on_the_way_that_lets_nobody_pass_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path().join("not/there/yet");
        let mode = |mode| {
            std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).expect("its mode");
        };
        let own = std::fs::metadata(place.path()).expect("it is there").uid();
        let stranger = (own + 12_345, own + 12_345);
        let closed = place.path().canonicalize().expect("it is there");
        mode(0o700);
        assert_eq!(closed_to(&dir, stranger), Some(closed));
        assert_eq!(closed_to(&dir, (own, stranger.1)), None);
        mode(0o711);
        assert_eq!(closed_to(&dir, stranger), None);
    }

    #[test]
    fn a_link_or_a_file_in_place_of_a_directory_is_not_used() {
        let place = tempfile::tempdir().expect("a directory");
        let postgres = PrivatePostgres {
            bin: PathBuf::new(),
            dir: PathBuf::new(),
            data: PathBuf::new(),
            run_as: None,
            socket_dir: PathBuf::new(),
        };
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        postgres.make_dir(&real).expect("made");
        postgres.make_dir(&real).expect("used again");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let refused = postgres.make_dir(&link).expect_err("a link");
        assert!(matches!(refused, PrivateError::Io { path, .. } if path == link));
    }
}
