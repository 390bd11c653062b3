//! The hub's directory: who may read it, and which hub it belongs to. A hub that is started without the address of its
//! database, or with that of another, would be a new and empty one in the place of the old: it would write its own
//! credential over the only one there is, and every agent would refuse it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{config::Database, store::private};

/// The file that names the hub.
const NAME: &str = "hub";

/// Makes the directory and what is in it ours alone. As root it may be passed through (not read) by the user that Postgres
/// runs as.
pub fn prepare(database: &Database) -> anyhow::Result<()> {
    let dir = &database.data_dir;
    if database.database_url.is_none() {
        private::check_way(dir)?;
    }
    let failed = || format!("cannot use the data directory {}", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    if !private::is_ours(dir) {
        anyhow::bail!("the data directory {} belongs to another user", dir.display());
    }
    let mode = if rustix::process::geteuid().is_root() {
        0o711
    } else {
        0o700
    };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).with_context(failed)?;
    // What is in them is read by nobody else: private repositories, and what was made of them.
    for name in ["artifacts", "incoming", "repositories", "scratch"] {
        let dir = dir.join(name);
        let failed = || format!("cannot use the directory {}", dir.display());
        fs::create_dir_all(&dir).with_context(failed)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).with_context(failed)?;
    }
    Ok(())
}

/// The hub that a directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its trust domain, which it has for ever.
    pub trust_domain: String,
    /// Its data is in the Postgres of the directory, and not in one that is named by its address.
    pub is_private: bool,
}

impl Owner {
    /// Reads whose the directory is. `None`: no hub has served from it.
    pub fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let field = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(|value| value.trim().to_owned())
        };
        let trust_domain =
            field("trustDomain").with_context(|| format!("{} names no hub", path.display()))?;
        Ok(Some(Self {
            trust_domain,
            is_private: field("database").is_none_or(|database| database == "private"),
        }))
    }

    /// Writes whose the directory is.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let text = format!(
            "# The hub that this directory belongs to.\ntrustDomain: {}\ndatabase: {}\n",
            self.trust_domain,
            if self.is_private {
                "private"
            } else {
                "DATABASE_URL"
            }
        );
        let (path, fresh) = (dir.join(NAME), dir.join("hub.new"));
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Refuses, before anything is made, a start without the address of the database that the directory's hub has.
pub fn check_database(database: &Database) -> anyhow::Result<()> {
    let dir = &database.data_dir;
    match Owner::read(dir)? {
        Some(owner) if !owner.is_private && database.database_url.is_none() => anyhow::bail!(
            "{} is the directory of hub {}, whose data is in a Postgres that DATABASE_URL names, and DATABASE_URL is not \
             set: set it; or, to give the directory to another hub for good, remove {}",
            dir.display(),
            owner.trust_domain,
            file(dir).display()
        ),
        _ => Ok(()),
    }
}

/// Refuses a database that is not that of the directory's hub: `found` is the trust domain in it, if it has any.
pub fn check_hub(dir: &Path, found: Option<&str>) -> anyhow::Result<()> {
    let Some(owner) = Owner::read(dir)?.filter(|owner| found != Some(&owner.trust_domain)) else {
        return Ok(());
    };
    let has = match found {
        Some(other) => format!("that of hub {other}"),
        None => "empty".to_owned(),
    };
    anyhow::bail!(
        "{} is the directory of hub {}, and this database is {has}: set DATABASE_URL as that hub has it; or, to give the \
         directory to another hub for good, remove {}",
        dir.display(),
        owner.trust_domain,
        file(dir).display()
    )
}

/// Refuses a command that is about a hub where there is none.
pub fn check_served(database: &Database) -> anyhow::Result<()> {
    let dir = &database.data_dir;
    if database.database_url.is_some() || dir.join("postgres/data").exists() {
        return Ok(());
    }
    anyhow::bail!(
        "no hub has worked in {}: name its directory with --data-dir, or its database with DATABASE_URL",
        dir.display()
    )
}

fn file(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &Path, url: Option<&str>) -> Database {
        Database {
            data_dir: dir.to_owned(),
            database_url: url.map(str::to_owned),
            database_connections: 4,
        }
    }

    #[test]
    fn a_directory_knows_its_hub_and_takes_no_other_database() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert_eq!(Owner::read(dir).expect("nothing"), None);
        check_hub(dir, None).expect("anything goes");
        check_served(&database(dir, None)).expect_err("no hub");
        let owner = Owner {
            trust_domain: "fleet.test".to_owned(),
            is_private: false,
        };
        owner.write(dir).expect("written");
        assert_eq!(Owner::read(dir).expect("read"), Some(owner.clone()));
        check_database(&database(dir, Some("postgres://h/d"))).expect("its database");
        let refused = check_database(&database(dir, None))
            .expect_err("none")
            .to_string();
        assert!(
            refused.contains("DATABASE_URL") && refused.contains("fleet.test"),
            "{refused}"
        );
        check_hub(dir, Some("fleet.test")).expect("its own");
        for (found, word) in [(None, "empty"), (Some("other.test"), "other.test")] {
            let refused = check_hub(dir, found).expect_err("another").to_string();
            assert!(
                refused.contains(word) && refused.contains(&*file(dir).to_string_lossy()),
                "{refused}"
            );
        }
        // What was private may have moved to a server: then its trust domain tells.
        let moved = Owner {
            is_private: true,
            ..owner
        };
        moved.write(dir).expect("written");
        check_database(&database(dir, Some("postgres://h/d"))).expect("perhaps");
        check_database(&database(dir, None)).expect("its own");
    }
}
