//! The folder a server of the rig keeps everything in, removed however the process ends.
//!
//! Values in statics are never dropped and a killed process drops nothing, so removal is not left to `Drop` alone:
//! a small shell holds the read end of a pipe, and removes the folders it was told of when the pipe breaks.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::RigError;
use crate::process::spawn_unbound;

/// Removes every folder named on its input once the input ends. Servers are killed at that very moment and may still
/// be writing, so it tries more than once.
const JANITOR: &str = r#"
while IFS= read -r dir; do set -- "$@" "$dir"; done
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$@" 2>/dev/null && exit 0
  sleep 0.3
done"#;

static JANITOR_INPUT: LazyLock<Mutex<Option<ChildStdin>>> = LazyLock::new(|| Mutex::new(start_janitor()));

fn start_janitor() -> Option<ChildStdin> {
    let mut command = Command::new("sh");
    command.args(["-c", JANITOR, "flotilla-rig-janitor"]);
    // Its own group: an interrupt typed at the terminal ends the rig, not the one who cleans up after it.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    spawn_unbound(command).ok()?.stdin.take()
}

/// A folder for one server; removed on drop, and by the janitor when the process dies before that.
#[derive(Debug)]
pub(crate) struct RigDir {
    path: PathBuf,
    keep: bool,
}

impl RigDir {
    /// Makes a folder with a short path (Unix socket paths end at 108 bytes) that other users may pass through.
    ///
    /// With `FLOTILLA_RIG_KEEP=1` it is left in place, for looking at logs afterwards.
    pub(crate) fn temporary() -> Result<Self, RigError> {
        let keep = std::env::var_os("FLOTILLA_RIG_KEEP").is_some_and(|value| value == "1");
        let base = std::env::temp_dir();
        let dir = tempfile::Builder::new()
            .prefix("flotilla-rig-")
            .tempdir_in(&base)
            .map_err(RigError::io("make a folder in", &base))?;
        let path = dir.keep();
        if !keep {
            tell_janitor(&path);
        }
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(&path, open).map_err(RigError::io("open to other users", &path))?;
        Ok(Self { path, keep })
    }

    /// Makes the folder the caller asked for, which must not exist yet, and leaves it in place in the end.
    pub(crate) fn kept(path: &Path) -> Result<Self, RigError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(RigError::io("make", parent))?;
        }
        std::fs::create_dir(path).map_err(RigError::io("make", path))?;
        let path = std::path::absolute(path).map_err(RigError::io("resolve", path))?;
        Ok(Self { path, keep: true })
    }

    /// The folder's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it that only its owner may enter.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, RigError> {
        let path = self.path.join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(RigError::io("make", &path))?;
        Ok(path)
    }

    /// Writes a file in it that only its owner may read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, RigError> {
        let path = self.path.join(name);
        write_private(&path, content.as_ref()).map_err(RigError::io("write", &path))?;
        Ok(path)
    }
}

impl Drop for RigDir {
    fn drop(&mut self) {
        if !self.keep {
            // What is left behind here is removed by the janitor.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

fn tell_janitor(path: &Path) {
    let mut input = JANITOR_INPUT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipe) = input.as_mut() {
        let mut line = path.as_os_str().as_encoded_bytes().to_vec();
        line.push(b'\n');
        let _ = pipe.write_all(&line);
    }
}
