//! A folder that files are written below: no name leads out of it, and no link below it is followed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The folder, which may itself be named by a link.
pub(super) struct Below {
    folder: OwnedFd,
}

impl Below {
    /// Opens a folder.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            folder: rustix::fs::open(folder, flags, Mode::empty())?,
        })
    }

    /// Opens a file for writing, with the folders above it made; what stands in it stays where it is added to.
    pub(super) fn file(&self, path: &Path, add: bool) -> io::Result<File> {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(part) => parts.push(part),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::ParentDir => return Err(leaves()),
            }
        }
        let (name, folders) = parts.split_last().ok_or_else(leaves)?;
        let mut folder = self.folder.try_clone()?;
        for part in folders {
            match rustix::fs::mkdirat(&folder, *part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&folder, *part, flags, Mode::empty());
            folder = opened.map_err(|error| failed(&folder, part.as_ref(), error))?;
        }
        let rest = if add { OFlags::APPEND } else { OFlags::TRUNC };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | rest;
        let opened = rustix::fs::openat(&folder, *name, flags, Mode::from_raw_mode(0o666));
        let file = opened.map_err(|error| failed(&folder, name.as_ref(), error))?;
        Ok(file.into())
    }
}

fn leaves() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "the path leads out of the folder")
}

/// Returns the failure to open what stands in a folder, which is told of a link in words of its own.
fn failed(folder: &OwnedFd, name: &Path, error: Errno) -> io::Error {
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
        Ok(FileType::Symlink) => {
            io::Error::other(format!("{} is a link, which is not followed", name.display()))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_written_below_the_folder_only() {
        let outside = tempfile::tempdir().expect("a folder");
        let folder = outside.path().join("out");
        fs::create_dir(&folder).expect("new");
        fs::write(outside.path().join("kept"), "kept").expect("new");
        symlink("../kept", folder.join("file")).expect("new");
        symlink("..", folder.join("up")).expect("new");
        let below = Below::open(&folder).expect("a folder");
        for (path, words) in [
            ("../kept", "leads out of the folder"),
            ("a/../../kept", "leads out of the folder"),
            ("/kept", "leads out of the folder"),
            ("", "leads out of the folder"),
            ("file", "file is a link"),
            ("up/kept", "up is a link"),
        ] {
            let error = below.file(Path::new(path), false).expect_err("refused");
            assert!(error.to_string().contains(words), "{path}: {error}");
        }
        let kept = fs::read_to_string(outside.path().join("kept")).expect("it is there");
        assert_eq!(kept, "kept");
        for (add, text, whole) in [(false, "one", "one"), (true, "two", "onetwo"), (false, "x", "x")] {
            let mut file = below.file(Path::new("a/b/c"), add).expect("below");
            file.write_all(text.as_bytes()).expect("it is ours");
            assert_eq!(
                fs::read_to_string(folder.join("a/b/c")).expect("it is there"),
                whole
            );
        }
    }
}
