//! Whether the process that a data directory names is its server. Postgres writes its number down, and after a crash that
//! number may be somebody else's: in a container, where numbers begin anew, that of one of the hub's own threads. Whoever
//! asks the kernel whether such a process lives is told that it does, and so is Postgres, which then does not start.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

/// Tells whether the process is a Postgres that serves this data. Where the kernel shows no processes it is believed.
pub(super) fn is_server_of(process: Pid, data: &Path) -> bool {
    let place = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
    !Path::new("/proc/self/exe").exists() || serves(&place, data)
}

/// Tells whether any Postgres serves this data: of a server that was killed others of its processes may live.
pub(super) fn is_served(data: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    processes.flatten().any(|process| {
        let is_process = process
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        is_process && serves(&process.path(), data)
    })
}

/// A server's processes work in its data directory.
fn serves(place: &Path, data: &Path) -> bool {
    let (Ok(program), Ok(works_in)) = (fs::read_link(place.join("exe")), fs::read_link(place.join("cwd")))
    else {
        return false;
    };
    let name = program
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let is_postgres = name.is_some_and(|name| name.starts_with("postgres"));
    is_postgres && data.canonicalize().is_ok_and(|data| data == works_in)
}

/// Removes what a server that is no more has left, which would keep another from starting: the number of its process, in
/// its data and beside its socket.
pub(super) fn forget(data: &Path, socket_dir: &Path) {
    let mut left = vec![data.join("postmaster.pid")];
    let sockets = fs::read_dir(socket_dir).into_iter().flatten().flatten();
    left.extend(sockets.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with(".s.PGSQL."))
    }));
    for path in left {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "what a Postgres that is gone has left cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_postgres_of_the_directory_is_not_its_server() {
        let data = tempfile::tempdir().expect("a directory");
        let sockets = tempfile::tempdir().expect("a directory");
        let me = rustix::process::getpid();
        assert!(!is_server_of(me, data.path()) && !is_served(data.path()));
        for name in ["postmaster.pid", "PG_VERSION"] {
            fs::write(data.path().join(name), "").expect("written");
        }
        for name in [".s.PGSQL.5432", ".s.PGSQL.5432.lock", "other"] {
            fs::write(sockets.path().join(name), "").expect("written");
        }
        forget(data.path(), sockets.path());
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).expect("read").flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(
            (names(data.path()), names(sockets.path())),
            (vec!["PG_VERSION".to_owned()], vec!["other".to_owned()])
        );
    }
}
