//! The private Postgres of a hub without `DATABASE_URL`: the system's binaries, a data directory of ours, a unix
//! socket and nothing else. One command gives a working hub.
//!
//! Postgres refuses to run as root: then its processes run as `flotilla-pg` where there is such a user, else as `postgres`
//! or `nobody`, who owns the directory. Only the hub's own user may connect, and works as a role that is no superuser.

mod programs;
mod running;
mod user;

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

pub use programs::clients;
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
use user::{User, name_of};
pub use user::{check_way, is_ours};

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
    run_as: Option<User>,
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
    /// The binaries are of another version than the data.
    #[error(
        "the data in {data} is of PostgreSQL {needed}, and the programs that were found are of: {found}; install the package \
         `postgresql-{needed}` or set FLOTILLA_PG_BIN to the folder of its programs, or bring the data to a version that is \
         installed with `pg_upgrade`"
    )]
    OtherVersion {
        /// The data.
        data: PathBuf,
        /// Its version.
        needed: u32,
        /// Those that are installed.
        found: String,
    },
    /// The programs that dump and restore are missing.
    #[error(
        "the server is PostgreSQL {server}, and no `pg_dump` and `pg_restore` of that version or a newer one are on PATH, in \
         $FLOTILLA_PG_BIN or under /usr/lib/postgresql; install the package `postgresql-client-{server}`"
    )]
    NoClients {
        /// Version of the server.
        server: u32,
    },
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
        let this = Self::at(dir).await?;
        this.make_dir(dir)?;
        this.make_dir(&this.socket_dir)?;
        if !this.data.join("PG_VERSION").exists() {
            this.init(dir).await?;
        }
        // This process holds the lock: whatever bears the number that was written down is the server of this data, or
        // nobody's.
        if let Some(process) = this.process()
            && !running::is_server_of(process, &this.data)
            && !running::is_served(&this.data)
        {
            tracing::warn!(
                process = process.as_raw_nonzero().get(),
                "the private Postgres had ended without a word, and its process number is another's by now"
            );
            running::forget(&this.data, &this.socket_dir);
        }
        if !this.is_running().await
            && let Err(error) = this.launch().await
            && !this.lives().await
        {
            return Err(error);
        }
        this.ensure_database().await?;
        Ok(this)
    }

    /// The server that another process runs under `dir`.
    pub async fn attach(dir: &Path) -> Result<Self, PrivateError> {
        let this = Self::at(dir).await?;
        if this.is_running().await {
            Ok(this)
        } else {
            Err(PrivateError::NotRunning)
        }
    }

    async fn at(dir: &Path) -> Result<Self, PrivateError> {
        let data = dir.join("data");
        Ok(Self {
            bin: programs::find(&data).await?,
            dir: dir.to_owned(),
            data,
            socket_dir: socket_dir(dir),
            run_as: User::unprivileged()?,
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
                    sleep(RESTART).await;
                    if self.lives().await {
                        break;
                    }
                    tracing::warn!(%error, "the private Postgres does not start yet");
                }
                tracing::info!("the private Postgres runs again");
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = kept => {}
        }
    }

    /// Tells whether the server runs although its start has failed: `pg_ctl` gives up waiting for one that has much to
    /// replay. That one goes on, and no other can be started beside it.
    async fn lives(&self) -> bool {
        self.is_running().await && timeout(RESTART, self.ended()).await.is_err()
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
        let me = name_of(rustix::process::geteuid().as_raw());
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
        if programs::version_of(&self.data).is_some_and(|version| version >= SYNCFS) {
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
        let mut connection = self.connect(&options).await.map_err(failed)?;
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

    /// Connects, once the server takes connections: it has to replay what it had not written out when it ended, which takes
    /// as long as it takes. Another attempt to start the hub would wait for the same.
    async fn connect(&self, options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
        let mut is_told = false;
        loop {
            match PgConnection::connect_with(options).await {
                Err(error) if is_starting(&error) && self.lives().await => {
                    if !is_told {
                        tracing::warn!(%error, "the private Postgres recovers; the hub starts when it has");
                        is_told = true;
                    }
                    sleep(RESTART).await;
                }
                connected => return connected,
            }
        }
    }

    async fn run<'a>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<String, PrivateError> {
        let path = self.bin.join(program);
        let mut command = match &self.run_as {
            Some(user) => {
                let mut words = user.command().into_iter();
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words).arg(&path);
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
        let server = self.run_as.as_ref().map(|user| user.uid);
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
            std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid)).map_err(io)?;
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

/// Tells whether the server runs and takes no connections yet.
fn is_starting(error: &sqlx::Error) -> bool {
    // cannot_connect_now
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57P03"))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A `pg_ctl` whose server outlives the first wait for it, and which says of a start beside it what the real one says.
    const IMPATIENT: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
alive() { grep -qs '^State:.[RSD]' "/proc/$(head -n 1 data/postmaster.pid)/status"; }
case "$1" in
start)
    if alive; then echo x >> beside; echo "another server might be running"; exit 1; fi
    sleep 600 >/dev/null 2>&1 &
    echo $! > data/postmaster.pid
    echo x >> starts
    echo "server did not start in time"; exit 1;;
status) echo x >> asked; alive;;
esac
"#;

    #[tokio::test]
    async fn a_server_that_pg_ctl_gave_up_waiting_for_is_not_started_again_while_it_runs() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let place = tempfile::tempdir().expect("a directory");
        let (dir, data) = (place.path().to_owned(), place.path().join("data"));
        std::fs::create_dir(&data).expect("made");
        let pg_ctl = dir.join("pg_ctl");
        std::fs::write(&pg_ctl, IMPATIENT).expect("written");
        std::fs::set_permissions(&pg_ctl, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let postgres = PrivatePostgres {
            bin: dir.clone(),
            dir: dir.clone(),
            data,
            run_as: None,
            socket_dir: dir.clone(),
        };
        let lines = |name: &str| {
            let text = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
            text.lines().count()
        };
        let reached = async |name: &str, count: usize| {
            let at_least = async || Ok::<_, String>((lines(name) >= count).then_some(()));
            flotilla_testkit::wait_until(name, PATIENCE, at_least)
                .await
                .expect(name);
        };
        let end = || {
            if let Some(process) = postgres.process() {
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        };
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(postgres.clone().keep(stop.clone()));
        reached("starts", 1).await;
        // Asked whether it runs, or started beside it.
        let either = async || Ok::<_, String>((lines("asked") + lines("beside") > 0).then_some(()));
        flotilla_testkit::wait_until("the next step", PATIENCE, either)
            .await
            .expect("a step");
        end();
        reached("starts", 2).await;
        stop.cancel();
        keeper.await.expect("it ends");
        end();
        assert_eq!(lines("beside"), 0);
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
