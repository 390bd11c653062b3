//! A private Postgres on a Unix socket, and fresh databases in it.
//!
//! Its data would not survive a power cut (no fsync); it survives the crashes tests make. Postgres refuses to run as
//! root, so for root it runs as `postgres` or `nobody`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::RigError;
use crate::dir::RigDir;
use crate::process::{Death, Process, ProcessSpec};
use crate::wait::wait_until;

/// How long it may take until it answers.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The name of its superuser, whatever user runs it.
const ROLE: &str = "postgres";

static SHARED: OnceCell<TestPostgres> = OnceCell::const_new();

/// A running Postgres. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct TestPostgres {
    // Before the folder: the process ends first.
    process: Process,
    programs: PathBuf,
    socket: PathBuf,
    _dir: RigDir,
}

/// A user of the system that Postgres runs as when we are root.
#[derive(Debug)]
struct SystemUser {
    name: String,
    uid: u32,
    gid: u32,
}

impl TestPostgres {
    /// Makes a database cluster and starts it.
    ///
    /// # Errors
    /// [`RigError::MissingProgram`] when Postgres is not installed, else what went wrong while it started.
    pub async fn start() -> Result<Self, RigError> {
        let programs = find_programs()?;
        let user = if rustix::process::geteuid().is_root() {
            Some(unprivileged_user()?)
        } else {
            None
        };
        let dir = RigDir::temporary()?;
        let data = owned_folder(&dir, "data", user.as_ref())?;
        let socket = owned_folder(&dir, "socket", user.as_ref())?;
        init(&programs, &data, user.as_ref()).await?;
        let log = dir.path().join("postgres.log");
        let mut spec = ProcessSpec::new("postgres", &programs.join("postgres"), &data, log)
            .args([
                "-D".into(),
                data.clone().into_os_string(),
                "-k".into(),
                socket.clone().into_os_string(),
            ])
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        spec.user = user.map(|user| user.name);
        spec.death = Death::Quit;
        let server = Self {
            process: Process::start(spec)?,
            programs,
            socket,
            _dir: dir,
        };
        server.wait_ready().await?;
        Ok(server)
    }

    /// The one that all tests of this process share. It ends with the process.
    ///
    /// # Errors
    /// As [`TestPostgres::start`].
    pub async fn shared() -> Result<&'static Self, RigError> {
        SHARED.get_or_try_init(Self::start).await
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// [`RigError::Command`] when Postgres refuses it.
    pub async fn database(&self) -> Result<TestDb, RigError> {
        let name = format!("t_{}", uuid::Uuid::new_v4().simple());
        run(self.client_program("createdb").arg(&name)).await?;
        let url = self.url(&name);
        let mut drop_command = std::process::Command::new(self.programs.join("dropdb"));
        drop_command
            .args(self.connection())
            .args(["--force", "--if-exists", &name]);
        Ok(TestDb { url, drop_command })
    }

    /// The URL of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{ROLE}@localhost/{database}?host={}",
            self.socket.display()
        )
    }

    /// What its clients connect to.
    pub(crate) fn socket_file(&self) -> PathBuf {
        self.socket.join(".s.PGSQL.5432")
    }

    /// Ends it as a crash does: open transactions are lost, committed ones are recovered at the next start.
    pub fn crash(&self) {
        self.process.quit();
    }

    /// Starts it again, ending it first when it runs, and waits until it answers.
    ///
    /// # Errors
    /// As [`TestPostgres::start`].
    pub async fn restart(&self) -> Result<(), RigError> {
        self.process.quit();
        self.process.restart()?;
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<(), RigError> {
        wait_until("Postgres to answer", TIMEOUT, async || {
            if let Err(gone) = self.process.check() {
                return Ok(Some(Err(gone)));
            }
            run(&mut self.client_program("pg_isready")).await?;
            Ok::<_, RigError>(Some(Ok(())))
        })
        .await?
    }

    fn connection(&self) -> [std::ffi::OsString; 4] {
        [
            "-h".into(),
            self.socket.clone().into_os_string(),
            "-U".into(),
            ROLE.into(),
        ]
    }

    fn client_program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(self.connection());
        command
    }
}

/// What differs from a server that has something to lose. Commits stay synchronous: without syncing to disk they cost
/// nothing, and a crash of the process must lose none.
const SETTINGS: [&str; 6] = [
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=64MB",
    "log_min_messages=warning",
];

/// A database of its own for one test. Dropping it drops the database, with whoever is still connected.
#[derive(Debug)]
pub struct TestDb {
    url: String,
    drop_command: std::process::Command,
}

impl TestDb {
    /// Makes an empty database in the shared Postgres.
    ///
    /// # Errors
    /// As [`TestPostgres::start`] and [`TestPostgres::database`].
    pub async fn create() -> Result<Self, RigError> {
        TestPostgres::shared().await?.database().await
    }

    /// Its URL, for `sqlx`, `psql` or `DATABASE_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        // It also goes with its server, so a failure here costs nothing.
        let _ = self.drop_command.output();
    }
}

/// Runs a program to its end; what it printed is in the error when it fails.
async fn run(command: &mut Command) -> Result<(), RigError> {
    let program = command.as_std().get_program().to_owned();
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .map_err(RigError::io("start", PathBuf::from(&program)))?;
    if output.status.success() {
        return Ok(());
    }
    let command = Path::new(&program)
        .file_name()
        .unwrap_or(&program)
        .to_string_lossy()
        .into_owned();
    Err(RigError::Command {
        command,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

async fn init(programs: &Path, data: &Path, user: Option<&SystemUser>) -> Result<(), RigError> {
    let mut command = match user {
        Some(SystemUser { name, .. }) => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={name}"))
                .arg(format!("--regid={name}"))
                .arg("--init-groups");
            command.arg("--").arg(programs.join("initdb"));
            command
        }
        None => Command::new(programs.join("initdb")),
    };
    command.arg("-D").arg(data).args([
        "-U",
        ROLE,
        "-E",
        "UTF8",
        "--locale=C",
        "--auth=trust",
        "--no-sync",
    ]);
    run(command.current_dir(data)).await
}

/// Makes a folder that belongs to the user Postgres runs as.
fn owned_folder(dir: &RigDir, name: &str, user: Option<&SystemUser>) -> Result<PathBuf, RigError> {
    let path = dir.folder(name)?;
    if let Some(user) = user {
        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid))
            .map_err(RigError::io("give away", &path))?;
    }
    Ok(path)
}

/// What a folder must hold to be taken; some have only a part linked into a folder of the path.
const PROGRAMS: [&str; 5] = ["initdb", "postgres", "pg_isready", "createdb", "dropdb"];

/// Finds the folder with Postgres' programs: `FLOTILLA_PG_BIN`, the path, then Debian's folders, newest first.
fn find_programs() -> Result<PathBuf, RigError> {
    let complete = |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).is_file());
    let chosen = std::env::var_os("FLOTILLA_PG_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match chosen {
        Some(folder) => Some(folder).filter(complete),
        None => std::env::split_paths(&path)
            .chain(debian_folders())
            .find(complete),
    };
    found.ok_or_else(|| RigError::MissingProgram {
        program: "initdb".to_owned(),
        install: "install Debian's package postgresql, or set FLOTILLA_PG_BIN to the folder with initdb and postgres"
            .to_owned(),
    })
}

fn debian_folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut releases: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    releases.sort();
    releases.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// The user to run as instead of root.
fn unprivileged_user() -> Result<SystemUser, RigError> {
    let path = "/etc/passwd";
    let text = std::fs::read_to_string(path).map_err(RigError::io("read", path))?;
    let found = ["postgres", "nobody"]
        .iter()
        .find_map(|name| parse_user(&text, name));
    found.ok_or_else(|| RigError::Invalid("there is neither a user postgres nor a user nobody".to_owned()))
}

fn parse_user(passwd: &str, name: &str) -> Option<SystemUser> {
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect())
        .find(|fields: &Vec<&str>| fields.first() == Some(&name))?;
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some(SystemUser {
        name: name.to_owned(),
        uid: number(2)?,
        gid: number(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody2:x:7:8::/:/bin/sh\nnobody:x:65534:65533::/:/bin/sh\n";
        let user = parse_user(passwd, "nobody").expect("there is one");
        assert_eq!((user.uid, user.gid), (65534, 65533));
        assert!(parse_user(passwd, "postgres").is_none());
    }
}
