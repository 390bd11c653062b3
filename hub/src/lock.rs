//! The lock on the data directory: one hub works in it. A command that is given while a hub serves works beside it and
//! touches nothing that is the hub's to start or stop. The kernel keeps the lock: it ends with its process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

const NAME: &str = "lock";
/// How long a command of an operator may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The lock, held.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another hub works in the directory.
    #[error(
        "another hub (process {process}) serves from {dir}; stop it first, or use another data directory"
    )]
    Serving {
        /// The directory.
        dir: PathBuf,
        /// Its process.
        process: String,
    },
    /// A command works in it and does not end.
    #[error("a command (process {process}) has worked in {dir} for {}s and does not end", PATIENCE.as_secs())]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// Its process.
        process: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Who holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Serve,
    Command,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Command => "command",
        }
    }
}

impl DataDirLock {
    /// The lock for a hub that will serve. Waits for a command to end; another hub is an error.
    pub async fn to_serve(dir: &Path) -> Result<Self, LockError> {
        match acquire(dir, Role::Serve).await? {
            Ok(lock) => Ok(lock),
            Err(process) => Err(LockError::Serving {
                dir: dir.to_owned(),
                process,
            }),
        }
    }

    /// The lock for a command; `None` while a hub serves.
    pub async fn for_command(dir: &Path) -> Result<Option<Self>, LockError> {
        Ok(acquire(dir, Role::Command).await?.ok())
    }
}

/// Takes the lock, or tells the process of the hub that serves.
async fn acquire(dir: &Path, role: Role) -> Result<Result<DataDirLock, String>, LockError> {
    let path = dir.join(NAME);
    let failed = |source| LockError::Io {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        // Empty for a moment: locked, and not yet written.
        let (holder, process) = holder(&mut file).map_err(failed)?;
        if holder == Role::Serve.as_str() {
            return Ok(Err(process));
        }
        if Instant::now() > deadline {
            return Err(LockError::Busy {
                dir: dir.to_owned(),
                process,
            });
        }
        sleep(PAUSE).await;
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{} {}", role.as_str(), std::process::id()))
        .map_err(failed)?;
    Ok(Ok(DataDirLock { _file: file }))
}

fn holder(file: &mut File) -> io::Result<(String, String)> {
    let mut text = String::new();
    file.rewind()?;
    file.take(64).read_to_string(&mut text)?;
    let (role, process) = text.split_once(' ').unwrap_or_default();
    Ok((role.to_owned(), process.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_two_hubs_in_one_data_directory_the_second_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DataDirLock::to_serve(dir.path()).await.expect("locked");
        let refused = DataDirLock::to_serve(dir.path())
            .await
            .expect_err("locked already");
        let message = refused.to_string();
        assert!(message.contains(&std::process::id().to_string()), "{message}");
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        assert!(
            DataDirLock::for_command(dir.path())
                .await
                .expect("looked")
                .is_none()
        );
        drop(first);
        // A program that another test is just starting has the file open until it runs.
        flotilla_testkit::wait_until("free again", PATIENCE, async || {
            DataDirLock::to_serve(dir.path()).await.map(Some)
        })
        .await
        .expect("free again");
    }

    #[tokio::test]
    async fn a_hub_waits_for_a_command_to_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let command = DataDirLock::for_command(dir.path()).await.expect("locked");
        assert!(command.is_some());
        let path = dir.path().to_owned();
        let serve = tokio::spawn(async move { DataDirLock::to_serve(&path).await });
        tokio::task::yield_now().await;
        assert!(!serve.is_finished());
        drop(command);
        serve.await.expect("no panic").expect("locked");
    }
}
