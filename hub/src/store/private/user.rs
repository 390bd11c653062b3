//! The user that the private Postgres runs as, since it refuses to run as root; and whether that user can come to the data.

use std::{
    ffi::OsString,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::PrivateError;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    /// The user's own group, which may have another name.
    pub(super) gid: u32,
}

impl User {
    /// The user to run the server as; `None` when we are unprivileged already.
    pub(super) fn unprivileged() -> Result<Option<Self>, PrivateError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        ["flotilla-pg", "postgres", "nobody"]
            .into_iter()
            .find_map(Self::named)
            .map(Some)
            .ok_or(PrivateError::NoUser)
    }

    fn named(name: &str) -> Option<Self> {
        passwd().into_iter().find(|user| user.name == name)
    }

    /// The command that runs what follows it as this user. By number: `setpriv` takes the name of a user for the one and
    /// that of a group for the other, and the group of `nobody` is called `nogroup` on Debian.
    pub(super) fn command(&self) -> Vec<OsString> {
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &gid,
            "--clear-groups",
            "--",
        ]
        .map(OsString::from)
        .to_vec()
    }

    /// The first directory above `dir`, from the root on, that this user may not pass through. What is not there yet is
    /// made by us, and open to be passed.
    fn closed_on_the_way(&self, dir: &Path) -> Option<PathBuf> {
        let dir = std::path::absolute(dir).ok()?;
        let there = dir
            .ancestors()
            .skip(1)
            .find_map(|above| above.canonicalize().ok())?;
        let mut way: Vec<&Path> = there.ancestors().collect();
        way.reverse();
        let is_closed = |above: &&&Path| {
            std::fs::metadata(above).is_ok_and(|found| {
                let passes = match (found.uid() == self.uid, found.gid() == self.gid) {
                    (true, _) => 0o100,
                    (false, true) => 0o010,
                    (false, false) => 0o001,
                };
                found.mode() & passes == 0
            })
        };
        way.iter().find(is_closed).map(|above| above.to_path_buf())
    }
}

/// The name of a user, or the number where it has none.
pub(super) fn name_of(uid: u32) -> String {
    passwd()
        .into_iter()
        .find(|user| user.uid == uid)
        .map_or_else(|| uid.to_string(), |user| user.name)
}

fn passwd() -> Vec<User> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name, uid, gid })
        })
        .collect()
}

/// Refuses a data directory that the server could not come to, before anything is made of it.
pub fn check_way(dir: &Path) -> Result<(), PrivateError> {
    let Some(user) = User::unprivileged()? else {
        return Ok(());
    };
    match user.closed_on_the_way(dir) {
        Some(dir) => Err(PrivateError::Closed { user: user.name, dir }),
        None => Ok(()),
    }
}

/// Tells whether `path` is owned by the user we run as; a data directory of somebody else is not ours to use.
pub fn is_ours(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    fn a_directory_on_the_way_that_lets_nobody_pass_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path().join("not/there/yet");
        let mode = |mode| {
            std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).expect("its mode");
        };
        let own = std::fs::metadata(place.path()).expect("it is there").uid();
        let user = |uid: u32| User {
            name: "x".into(),
            uid,
            gid: own + 12_345,
        };
        let closed = place.path().canonicalize().expect("it is there");
        mode(0o700);
        assert_eq!(user(own + 12_345).closed_on_the_way(&dir), Some(closed));
        assert_eq!(user(own).closed_on_the_way(&dir), None);
        mode(0o711);
        assert_eq!(user(own + 12_345).closed_on_the_way(&dir), None);
    }

    #[test]
    fn programs_run_as_a_user_whose_group_has_another_name() {
        let user = User {
            name: "nobody".into(),
            uid: 65_534,
            gid: 65_533,
        };
        let command = user.command();
        assert_eq!(
            command,
            [
                "setpriv",
                "--reuid",
                "65534",
                "--regid",
                "65533",
                "--clear-groups",
                "--"
            ]
        );
        // Only root becomes another.
        if rustix::process::geteuid().is_root() {
            let ran = Command::new(&command[0])
                .args(&command[1..])
                .args(["sh", "-c", "id -u; id -g"])
                .output()
                .expect("it runs");
            assert_eq!(String::from_utf8_lossy(&ran.stdout), "65534\n65533\n", "{ran:?}");
        }
    }
}
