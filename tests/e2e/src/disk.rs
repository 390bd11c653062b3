//! A disk of little room, for programs that must say so when it is full.

use std::path::{Path, PathBuf};

/// Mounts the disk where only this process and its children see it, and becomes the program.
const ENTER: &str =
    r#"set -e; mount -t tmpfs -o "size=$2" small "$1"; shift 2; exec setpriv --pdeathsig KILL -- "$@""#;

/// Where it is, and how much room it has, as `512k`. Needs root.
pub struct SmallDisk {
    /// The folder.
    pub at: PathBuf,
    /// The room.
    pub size: String,
}

impl SmallDisk {
    /// The command that runs a program with it.
    pub fn command(&self, program: &Path, args: Vec<String>) -> (PathBuf, Vec<String>) {
        let text = |path: &Path| path.display().to_string();
        let enter = [
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            ENTER,
            "disk",
        ];
        let mut all: Vec<String> = enter.map(str::to_owned).into();
        all.extend([text(&self.at), self.size.clone(), text(program)]);
        all.extend(args);
        (PathBuf::from("unshare"), all)
    }
}
