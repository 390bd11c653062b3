//! The bare repository of one remote on this machine's disk. A cache and nothing more: whatever is wrong with it,
//! it is thrown away and fetched again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{CommitId, program::size_of};

/// Each fetch leaves a pack; beyond this many the repository is begun anew rather than repacked.
const MAX_PACKS: usize = 64;
/// Namespace of the refs that fetches write.
const OWN: &str = "refs/flotilla";
/// Written each time that it is opened: when it was used last.
const USED: &str = "flotilla-used";

/// A bare repository. Whoever holds it has locked it against others of this process.
#[derive(Debug)]
pub(super) struct Repository {
    directory: PathBuf,
}

impl Repository {
    /// Opens the repository at `directory`, making it when there is none or when it is unusable or overgrown.
    /// Locks found here are left from a crash: this process holds the repository, and a git that survived its
    /// parent ends by its own limits; at worst the two spoil a cache.
    pub(super) fn open(directory: PathBuf, max_bytes: u64) -> io::Result<Self> {
        let repository = Self { directory };
        if repository.usable(max_bytes) {
            remove_leftovers(&repository.directory);
            fs::write(repository.directory.join(USED), "")?;
            return Ok(repository);
        }
        repository.discard()?;
        fs::create_dir_all(&repository.directory)?;
        let mut options = git2::RepositoryInitOptions::new();
        // No template: what the machine's administrator put there is not ours.
        options.bare(true).external_template(false);
        git2::Repository::init_opts(&repository.directory, &options).map_err(io::Error::other)?;
        fs::write(repository.directory.join(USED), "")?;
        Ok(repository)
    }

    fn usable(&self, max_bytes: u64) -> bool {
        let packs = self.directory.join("objects/pack");
        let count = fs::read_dir(&packs).into_iter().flatten().flatten().count();
        // A pack comes with its index, and the largest fetch must still fit.
        git2::Repository::open_bare(&self.directory).is_ok()
            && count <= 2 * MAX_PACKS
            && size_of(&packs) <= max_bytes / 2
    }

    /// Removes it from the disk.
    pub(super) fn discard(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The ref that a fetch of `full_name` (`refs/heads/main`) writes.
    pub(super) fn own_ref(full_name: &str) -> String {
        format!("{OWN}/{}", full_name.trim_start_matches("refs/"))
    }

    /// The commit behind one of our refs, tags peeled.
    pub(super) fn resolve(&self, own_ref: &str) -> Option<CommitId> {
        let repository = git2::Repository::open_bare(&self.directory).ok()?;
        let commit = repository.find_reference(own_ref).ok()?.peel_to_commit().ok()?;
        CommitId::parse(&commit.id().to_string()).ok()
    }

    /// Tells whether a commit and its tree are here.
    pub(super) fn has(&self, commit: &CommitId) -> bool {
        let has = || -> Result<(), git2::Error> {
            let repository = git2::Repository::open_bare(&self.directory)?;
            repository
                .find_commit(git2::Oid::from_str(commit.as_str())?)?
                .tree()?;
            Ok(())
        };
        has().is_ok()
    }
}

/// Repositories that were not opened for so long: name without its ending, and place.
pub(super) fn unused(directory: &Path, age: Duration) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".git"));
        let Some(name) = name.map(str::to_owned) else {
            continue;
        };
        let used = fs::metadata(path.join(USED)).or_else(|_| fs::metadata(&path))?;
        if used.modified()?.elapsed().is_ok_and(|since| since >= age) {
            found.push((name, path));
        }
    }
    Ok(found)
}

fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".lock") {
            let _ = fs::remove_file(entry.path());
        }
    }
    for entry in fs::read_dir(directory.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("tmp_") {
            let _ = fs::remove_file(entry.path());
        }
    }
    remove_ref_locks(&directory.join(OWN));
}

fn remove_ref_locks(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
            remove_ref_locks(&entry.path());
        } else if entry.file_name().to_string_lossy().ends_with(".lock") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn locks_and_halves_of_packs_left_by_a_crash_are_removed() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("r.git");
        Repository::open(directory.clone(), LIMIT).expect("made");
        let left = [
            "shallow.lock",
            "refs/flotilla/heads/a/b.lock",
            "objects/pack/tmp_pack_x",
        ]
        .map(|p| directory.join(p));
        for file in &left {
            fs::create_dir_all(file.parent().expect("inside")).expect("made");
            fs::write(file, "x").expect("written");
        }
        Repository::open(directory.clone(), LIMIT).expect("opened");
        assert!(left.iter().all(|file| !file.exists()));
    }

    #[test]
    fn what_is_no_repository_and_what_has_overgrown_is_begun_anew() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("r.git");
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("HEAD"), "garbage").expect("written");
        let repository = Repository::open(directory.clone(), LIMIT).expect("made");
        let pack = directory.join("objects/pack/pack-1.pack");
        fs::write(&pack, vec![0; 600 << 10]).expect("written");
        assert!(repository.resolve("refs/flotilla/heads/main").is_none());
        Repository::open(directory, LIMIT).expect("made");
        assert!(!pack.exists());
    }

    #[test]
    fn our_refs_stand_apart_from_what_the_remote_calls_them() {
        assert_eq!(Repository::own_ref("refs/heads/main"), "refs/flotilla/heads/main");
        assert_eq!(Repository::own_ref("refs/tags/v1"), "refs/flotilla/tags/v1");
    }
}
