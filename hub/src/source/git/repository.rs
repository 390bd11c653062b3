//! The bare repository of one remote on this machine's disk. A cache and nothing more: whatever is wrong with it,
//! it is thrown away and fetched again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use flotilla_core::digest::Digest;
use tokio::{sync::OwnedMutexGuard, task::spawn_blocking};

use super::{CommitId, program::size_of};

/// Each fetch leaves a pack; beyond this many the repository is begun anew rather than repacked.
const MAX_PACKS: usize = 64;
/// Namespace of the refs that fetches write.
const OWN: &str = "refs/flotilla";
/// Written each time that it is opened: when it was used last.
const USED: &str = "flotilla-used";
/// A repository within it that is not kept.
const SCRATCH: &str = "flotilla-look.git";

/// The lock of a repository. Work that goes on when nobody waits for it any more goes on holding it.
pub(super) type Held = Arc<OwnedMutexGuard<()>>;

/// A bare repository. Whoever has it has locked it against others of this process. All that reads or writes the disk runs
/// beside the runtime: a repository may be large, and a disk slow.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    directory: PathBuf,
    _held: Held,
}

impl Repository {
    /// Opens the repository at `directory`, making it when there is none or when it is unusable or overgrown.
    /// Locks of git found here are left from a crash: this process holds the repository, and a git that survived its
    /// parent ends by its own limits; at worst the two spoil a cache.
    pub(super) async fn open(directory: PathBuf, max_bytes: u64, held: &Held) -> io::Result<Self> {
        let repository = Self {
            directory,
            _held: held.clone(),
        };
        repository.blocking(move |this| this.prepare(max_bytes)).await??;
        Ok(repository)
    }

    /// Does what reads or writes the disk.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        spawn_blocking(move || work(&this))
            .await
            .map_err(io::Error::other)
    }

    /// Makes an empty repository within it, in place of one that a crash has left: for what is looked at and not kept. Git marks
    /// one into which it fetched commits alone as one that lacks objects, which this one is not to be.
    pub(super) async fn scratch(&self) -> io::Result<Self> {
        let scratch = Self {
            directory: self.directory.join(SCRATCH),
            _held: self._held.clone(),
        };
        scratch
            .blocking(|this| {
                this.remove()?;
                this.make()
            })
            .await??;
        Ok(scratch)
    }

    fn prepare(&self, max_bytes: u64) -> io::Result<()> {
        if self.usable(max_bytes) {
            remove_leftovers(&self.directory);
            return fs::write(self.directory.join(USED), "");
        }
        self.remove()?;
        self.make()
    }

    fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut options = git2::RepositoryInitOptions::new();
        // No template: what the machine's administrator put there is not ours.
        options.bare(true).external_template(false);
        git2::Repository::init_opts(&self.directory, &options).map_err(io::Error::other)?;
        fs::write(self.directory.join(USED), "")
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
    pub(super) async fn discard(&self) -> io::Result<()> {
        self.blocking(Self::remove).await?
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The ref that a fetch of `full_name` (`refs/heads/main`) writes: a digest of the name. Git keeps no ref `release`
    /// beside `release/1.0`, and what a remote once had stays here.
    pub(super) fn own_ref(full_name: &str) -> String {
        format!("{OWN}/names/{}", Digest::of("git-ref", full_name.as_bytes()))
    }

    /// The ref that a fetch of one commit writes.
    pub(super) fn own_commit_ref(id: &CommitId) -> String {
        format!("{OWN}/commits/{id}")
    }

    /// The refs that a fetch of all branches writes. They have the remote's names, which can be kept beside each other as
    /// long as those that the remote has no more are pruned.
    pub(super) fn own_branches() -> String {
        format!("{OWN}/branches/*")
    }

    /// The commit behind one of our refs, tags peeled.
    pub(super) async fn resolve(&self, own_ref: &str) -> Option<CommitId> {
        let own_ref = own_ref.to_owned();
        let resolved = self.blocking(move |this| {
            let repository = git2::Repository::open_bare(&this.directory).ok()?;
            let commit = repository.find_reference(&own_ref).ok()?.peel_to_commit().ok()?;
            CommitId::parse(&commit.id().to_string()).ok()
        });
        resolved.await.ok().flatten()
    }

    /// What one of our refs itself points at: for an annotated tag, the tag.
    pub(super) async fn target(&self, own_ref: &str) -> Option<CommitId> {
        let own_ref = own_ref.to_owned();
        let target = self.blocking(move |this| {
            let repository = git2::Repository::open_bare(&this.directory).ok()?;
            let target = repository.find_reference(&own_ref).ok()?.target()?;
            CommitId::parse(&target.to_string()).ok()
        });
        target.await.ok().flatten()
    }

    /// Tells whether a commit and its tree are here.
    pub(super) async fn has(&self, commit: &CommitId) -> bool {
        let commit = commit.clone();
        let has = self.blocking(move |this| -> Result<(), git2::Error> {
            let repository = git2::Repository::open_bare(&this.directory)?;
            repository
                .find_commit(git2::Oid::from_str(commit.as_str())?)?
                .tree()?;
            Ok(())
        });
        matches!(has.await, Ok(Ok(())))
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
    use flotilla_testkit::done_beside;
    use tokio::sync::Mutex;

    use super::*;

    const LIMIT: u64 = 1 << 20;

    async fn held() -> Held {
        Arc::new(Arc::new(Mutex::new(())).lock_owned().await)
    }

    #[test]
    fn a_repository_is_opened_and_read_beside_the_runtime_and_stays_locked_meanwhile() {
        let place = tempfile::tempdir().expect("a directory");
        let lock = Arc::new(Mutex::new(()));
        let held = Arc::new(lock.clone().try_lock_owned().expect("nobody has it"));
        let directory = place.path().join("r.git");
        let repository = done_beside(Repository::open(directory, LIMIT, &held)).expect("made");
        drop(held);
        assert!(
            lock.try_lock().is_err(),
            "whoever has the repository has it locked"
        );
        drop(repository);
        assert!(lock.try_lock().is_ok(), "and nobody else has");
    }

    #[tokio::test]
    async fn locks_and_halves_of_packs_left_by_a_crash_are_removed() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("r.git");
        let held = held().await;
        Repository::open(directory.clone(), LIMIT, &held)
            .await
            .expect("made");
        let left = [
            "shallow.lock",
            "refs/flotilla/branches/a/b.lock",
            "objects/pack/tmp_pack_x",
        ]
        .map(|p| directory.join(p));
        for file in &left {
            fs::create_dir_all(file.parent().expect("inside")).expect("made");
            fs::write(file, "x").expect("written");
        }
        Repository::open(directory.clone(), LIMIT, &held)
            .await
            .expect("opened");
        assert!(left.iter().all(|file| !file.exists()));
    }

    #[tokio::test]
    async fn what_is_no_repository_and_what_has_overgrown_is_begun_anew() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("r.git");
        let held = held().await;
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("HEAD"), "garbage").expect("written");
        let repository = Repository::open(directory.clone(), LIMIT, &held)
            .await
            .expect("made");
        let pack = directory.join("objects/pack/pack-1.pack");
        fs::write(&pack, vec![0; 600 << 10]).expect("written");
        let own = Repository::own_ref("refs/heads/main");
        assert!(repository.resolve(&own).await.is_none());
        Repository::open(directory, LIMIT, &held).await.expect("made");
        assert!(!pack.exists());
    }

    #[test]
    fn our_refs_stand_apart_from_what_the_remote_calls_them() {
        let own = Repository::own_ref("refs/heads/main");
        assert!(own.starts_with("refs/flotilla/names/"), "{own}");
        assert_ne!(own, Repository::own_ref("refs/tags/main"));
    }

    #[test]
    fn no_ref_of_ours_is_the_directory_of_another_whatever_the_remote_calls_them() {
        let name = |name: &str| Repository::own_ref(name);
        let names = [
            "refs/heads/release",
            "refs/heads/release/1.0",
            "refs/heads/x/commits",
        ]
        .map(name);
        for (one, other) in names
            .iter()
            .flat_map(|one| names.iter().map(move |other| (one, other)))
        {
            assert!(!other.starts_with(&format!("{one}/")), "{one} and {other}");
        }
    }
}
