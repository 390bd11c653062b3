//! Where PostgreSQL's programs are. Data is served by programs of its own version and no others: a machine that got a newer
//! PostgreSQL keeps the older one beside it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::PrivateError;

/// The longest that a program may take to say its version.
const ANSWER: Duration = Duration::from_secs(10);

/// A directory of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Programs {
    dir: PathBuf,
    /// Their major version; `None`: they do not say it.
    version: Option<u32>,
}

/// The programs for the data in `data`, or to make it with where there is none.
pub(super) async fn find(data: &Path) -> Result<PathBuf, PrivateError> {
    let Some(needed) = version_of(data) else {
        return candidates().into_iter().next().ok_or(PrivateError::Missing);
    };
    let mut found = Vec::new();
    for dir in candidates() {
        let version = version(&dir).await;
        found.push(Programs { dir, version });
    }
    if let Some(chosen) = choose(&found, needed) {
        return Ok(chosen.dir.clone());
    }
    let versions: Vec<String> = found
        .iter()
        .filter_map(|one| Some(one.version?.to_string()))
        .collect();
    Err(PrivateError::OtherVersion {
        data: data.to_owned(),
        needed,
        found: match versions.is_empty() {
            true => "none".to_owned(),
            false => versions.join(", "),
        },
    })
}

/// The major version of the server that the data is of; `None`: there is none, or it does not say.
pub(super) fn version_of(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join("PG_VERSION")).ok()?;
    text.trim().split('.').next()?.parse().ok()
}

/// The programs that dump and restore a database of a server of this version: of the same version, else of the next newer
/// one that is there, as an older one refuses the server.
pub async fn clients(server: u32) -> Result<PathBuf, PrivateError> {
    let has = |dir: &PathBuf| dir.join("pg_dump").is_file() && dir.join("pg_restore").is_file();
    let mut found = Vec::new();
    for dir in places().into_iter().filter(has) {
        if let Some(version) = version_said(&dir.join("pg_dump")).await {
            found.push((version, dir));
        }
    }
    let fitting = found.iter().filter(|(version, _)| *version >= server);
    match fitting.min_by_key(|(version, _)| *version) {
        Some((_, dir)) => Ok(dir.clone()),
        None => Err(PrivateError::NoClients { server }),
    }
}

/// The first of that version; else the first that does not say which it is.
fn choose(found: &[Programs], needed: u32) -> Option<&Programs> {
    let of = |version: Option<u32>| found.iter().find(move |one| one.version == version);
    of(Some(needed)).or_else(|| of(None))
}

/// Directories with the programs of a server.
fn candidates() -> Vec<PathBuf> {
    let has = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("pg_ctl").is_file();
    places().into_iter().filter(has).collect()
}

/// Directories of programs: the one that is named, those on the path, those of packages.
fn places() -> Vec<PathBuf> {
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
        .collect()
}

async fn version(dir: &Path) -> Option<u32> {
    version_said(&dir.join("pg_ctl")).await
}

/// The major version that a program says it is of.
async fn version_said(program: &Path) -> Option<u32> {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(ANSWER, command.output()).await.ok()?.ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// The major version in `pg_ctl (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major(said: &str) -> Option<u32> {
    let version = said.split("(PostgreSQL) ").nth(1)?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(dir: &str, version: Option<u32>) -> Programs {
        Programs {
            dir: dir.into(),
            version,
        }
    }

    #[test]
    fn data_of_postgres_15_is_served_by_the_programs_of_15_beside_those_of_17() {
        let found = [programs("/17", Some(17)), programs("/15", Some(15))];
        assert_eq!(choose(&found, 15), Some(&found[1]));
        assert_eq!(choose(&found, 17), Some(&found[0]));
        assert_eq!(choose(&found, 16), None);
        let unknown = [programs("/17", Some(17)), programs("/own", None)];
        assert_eq!(choose(&unknown, 15), Some(&unknown[1]), "it may be of any");
    }

    #[test]
    fn the_version_that_pg_ctl_says_is_read() {
        for (said, expected) in [
            ("pg_ctl (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(15)),
            ("pg_ctl (PostgreSQL) 17beta1\n", Some(17)),
            ("pg_ctl (EDB) x\n", None),
            ("", None),
        ] {
            assert_eq!(major(said), expected, "{said}");
        }
    }

    #[tokio::test]
    async fn programs_for_data_of_a_version_that_is_not_installed_are_refused_with_both_remedies() {
        let place = tempfile::tempdir().expect("a directory");
        let installed = find(place.path()).await.expect("PostgreSQL is installed");
        let known = version(&installed).await.expect("its version");
        std::fs::write(place.path().join("PG_VERSION"), format!("{known}\n")).expect("written");
        assert_eq!(find(place.path()).await.expect("found"), installed);
        std::fs::write(place.path().join("PG_VERSION"), "9\n").expect("written");
        let said = find(place.path()).await.expect_err("not installed").to_string();
        for expected in ["PostgreSQL 9", "`postgresql-9`", "FLOTILLA_PG_BIN", "pg_upgrade"] {
            assert!(said.contains(expected), "{expected} in {said}");
        }
    }
}
