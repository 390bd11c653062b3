//! Brings a commit into the remote's bare repository and reads it there. Fetches of one remote follow one another;
//! a repository that turns out to be broken is thrown away and fetched once more before anybody hears of it.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    CommitId, GitError, Reference, Remote, RemoteKey, Resolved,
    access::{Access, Route},
    discovery::{MAX_ANSWER, redact},
    program::{Failure, GitProgram, Run},
    repository::{self, Held, Repository},
    ssh,
    tree::{CommitTree, TreeError, TreeLimits},
};

use crate::source::egress::Egress;

/// Bounds of fetching.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Packs of one repository, in bytes.
    pub repository_bytes: u64,
    /// Git programs that run at the same time.
    pub concurrency: usize,
    /// Address space of each process of git, and memory of all of one fetch, in bytes: a few hundred bytes of a pack may
    /// ask for any amount.
    pub git_memory: u64,
    /// Threads of all processes of one fetch.
    pub git_threads: usize,
    /// Processor time of each process of git, in seconds.
    pub git_cpu_seconds: u64,
    /// Bounds of the tree that is read.
    pub tree: TreeLimits,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            repository_bytes: 2 << 30,
            concurrency: 8,
            git_memory: 1 << 30,
            git_threads: 64,
            git_cpu_seconds: 600,
            tree: TreeLimits::default(),
        }
    }
}

/// A fetched commit, and what was made of it.
#[derive(Debug)]
pub struct Fetched<T> {
    /// The commit.
    pub commit: CommitId,
    /// Its revision as Flux writes it.
    pub revision: String,
    /// The first line of its message.
    pub subject: String,
    /// What the reader returned.
    pub output: T,
}

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Fetches remotes into repositories below one directory. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    program: GitProgram,
    directory: PathBuf,
    key: [u8; 32],
    limits: FetchLimits,
    egress: Egress,
    running: Arc<Semaphore>,
    locks: Arc<Mutex<HashMap<RemoteKey, Lock>>>,
}

/// One fetch, its remote resolved and its repository held.
pub(super) struct Job<'a> {
    pub(super) fetcher: &'a Fetcher,
    /// Whose repository it is fetched into.
    pub(super) home: &'a Remote,
    /// Where it is fetched from.
    pub(super) remote: &'a Remote,
    pub(super) resolved: Resolved,
    pub(super) timeout: Duration,
}

impl Fetcher {
    /// Keeps repositories below `directory`; `key` belongs to this hub, see [`Remote::key`].
    pub fn new(program: GitProgram, directory: PathBuf, key: [u8; 32], limits: FetchLimits) -> Self {
        let running = Arc::new(Semaphore::new(limits.concurrency.max(1)));
        Self {
            program,
            directory,
            key,
            limits,
            egress: Egress::default(),
            running,
            locks: Arc::default(),
        }
    }

    /// Reaches only what this lets it.
    #[must_use]
    pub fn with_egress(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// Fetches what a probe has `resolved`, and hands its tree to `read`, which runs on a
    /// blocking thread while the repository is held. `read` is called again on a fresh repository when it finds
    /// objects missing or broken. `timeout` bounds each run of git.
    pub async fn fetch<T, F>(
        &self,
        remote: &Remote,
        resolved: Resolved,
        timeout: Duration,
        read: F,
    ) -> Result<Fetched<T>, GitError>
    where
        T: Send + 'static,
        F: Fn(&CommitTree) -> Result<T, TreeError> + Send + Sync + 'static,
    {
        self.fetch_into(remote, remote, resolved, timeout, read).await
    }

    /// As [`Self::fetch`], into the repository of `home`: where a submodule belongs to it, whose remote has its credentials.
    pub async fn fetch_into<T, F>(
        &self,
        home: &Remote,
        remote: &Remote,
        resolved: Resolved,
        timeout: Duration,
        read: F,
    ) -> Result<Fetched<T>, GitError>
    where
        T: Send + 'static,
        F: Fn(&CommitTree) -> Result<T, TreeError> + Send + Sync + 'static,
    {
        let job = Job {
            fetcher: self,
            home,
            remote,
            resolved,
            timeout,
        };
        let held = Arc::new(self.lock(home).lock_owned().await);
        let read = Arc::new(read);
        match Box::pin(job.attempt(Arc::clone(&read), &held)).await {
            Err(GitError::Corrupt { detail, .. }) => {
                tracing::info!(
                    url = remote.shown(),
                    detail,
                    "repository is broken, fetching it anew"
                );
                job.discard(&held).await?;
                Box::pin(job.attempt(read, &held)).await
            }
            result => result,
        }
    }

    /// Removes the repositories that nothing was fetched into for so long; whoever needs one again fetches it anew. A
    /// credential that changes each hour leaves one behind each hour. Returns how many.
    pub async fn remove_unused(&self, age: Duration) -> std::io::Result<usize> {
        let directory = self.directory.clone();
        let old = tokio::task::spawn_blocking(move || repository::unused(&directory, age)).await;
        let mut removed = 0;
        for (name, path) in old.map_err(std::io::Error::other)?? {
            let Ok(key) = name.parse::<RemoteKey>() else {
                continue;
            };
            // One that is in use is not unused.
            let Ok(held) = self.lock_of(key).try_lock_owned() else {
                continue;
            };
            let gone = tokio::task::spawn_blocking(move || {
                let gone = std::fs::remove_dir_all(path);
                drop(held);
                gone
            });
            gone.await.map_err(std::io::Error::other)??;
            removed += 1;
        }
        Ok(removed)
    }

    pub(super) fn lock(&self, remote: &Remote) -> Lock {
        self.lock_of(remote.key(&self.key))
    }

    fn lock_of(&self, key: RemoteKey) -> Lock {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(key).or_default())
    }
}

impl Job<'_> {
    /// Fetches and reads once.
    async fn attempt<T, F>(&self, read: Arc<F>, held: &Held) -> Result<Fetched<T>, GitError>
    where
        T: Send + 'static,
        F: Fn(&CommitTree) -> Result<T, TreeError> + Send + Sync + 'static,
    {
        let (repository, commit) = self.fetch(held).await?;
        let limits = self.fetcher.limits.tree;
        let id = commit.clone();
        // The repository goes along, and with it its lock: the reader may outlive an asker who gives up.
        let reading = tokio::task::spawn_blocking(move || {
            CommitTree::open(repository.directory(), &id, limits)
                .and_then(|tree| Ok((tree.subject(), read(&tree)?)))
        });
        let read = reading
            .await
            .map_err(|_| self.local("reading the commit was cut short"))?;
        let (subject, output) = read.map_err(|error| error.of(self.remote))?;
        Ok(Fetched {
            revision: self.resolved.reference.revision(&commit),
            commit,
            subject,
            output,
        })
    }

    /// Makes sure that the commit is in the repository.
    async fn fetch(&self, held: &Held) -> Result<(Repository, CommitId), GitError> {
        let _running = self.admitted().await?;
        let repository = self.repository(held).await?;
        let commit = match &self.resolved.reference {
            Reference::Commit { id, branch } => {
                if !repository.has(id).await {
                    let branch = branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
                    self.fetch_commit(&repository, id, branch.as_deref()).await?;
                }
                id.clone()
            }
            Reference::Branch(_) | Reference::Tag(_) | Reference::Name(_) | Reference::Semver(_) => {
                self.fetch_ref(&repository).await?
            }
        };
        Ok((repository, commit))
    }

    /// Waits until one more git may run.
    pub(super) async fn admitted(&self) -> Result<SemaphorePermit<'_>, GitError> {
        let admitted = self.fetcher.running.acquire().await;
        admitted.map_err(|_| self.local("the hub is stopping"))
    }

    async fn fetch_ref(&self, repository: &Repository) -> Result<CommitId, GitError> {
        let name = self.resolved.reference.full_name().unwrap_or_default();
        let own = Repository::own_ref(&name);
        if repository.target(&own).await.as_ref() != Some(&self.resolved.object)
            || !repository.has(&self.resolved.commit).await
        {
            self.fetch_tip(repository, &name, &own).await?;
        }
        repository.resolve(&own).await.ok_or_else(|| GitError::Corrupt {
            url: self.remote.shown(),
            detail: format!("{name} does not point at a commit"),
        })
    }

    /// Asks for what the probe found, which spares git the listing of refs; by name where the server gives only what it
    /// lists, or has moved on. Of an annotated tag the tag itself comes too: it is what is signed.
    async fn fetch_tip(&self, repository: &Repository, name: &str, own: &str) -> Result<(), GitError> {
        let (commit, object) = (&self.resolved.commit, &self.resolved.object);
        match self
            .run(repository, &["--depth=1"], &format!("+{object}:{own}"))
            .await
        {
            Ok(()) if repository.resolve(own).await.as_ref() == Some(commit) => Ok(()),
            Ok(()) | Err(GitError::NotFound { .. }) => {
                self.run(repository, &["--depth=1"], &format!("+{name}:{own}"))
                    .await
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for the commit itself; servers that give only what they list are asked for the branch, or all
    /// branches, with their history. The id is its own proof: whether a branch still holds it is not asked.
    async fn fetch_commit(
        &self,
        repository: &Repository,
        id: &CommitId,
        branch: Option<&str>,
    ) -> Result<(), GitError> {
        let own = Repository::own_commit_ref(id);
        let refused = match self
            .run(repository, &["--depth=1"], &format!("+{id}:{own}"))
            .await
        {
            Ok(()) if repository.has(id).await => return Ok(()),
            Ok(()) => self.not_found(id),
            Err(error @ GitError::NotFound { .. }) => error,
            Err(error) => return Err(error),
        };
        // The depth that git takes for "all", whether the repository is shallow or not.
        let whole = "--depth=2147483647";
        match branch {
            Some(name) => {
                let spec = format!("+{name}:{}", Repository::own_ref(name));
                self.run(repository, &[whole], &spec).await?;
            }
            None => {
                let spec = format!("+refs/heads/*:{}", Repository::own_branches());
                // Pruned first: a branch that went may have had the name of another's directory.
                self.run(repository, &[whole, "--prune"], &spec).await?;
            }
        }
        if repository.has(id).await {
            Ok(())
        } else {
            Err(refused)
        }
    }

    pub(super) async fn run(
        &self,
        repository: &Repository,
        options: &[&str],
        spec: &str,
    ) -> Result<(), GitError> {
        self.run_within(repository, options, spec, u64::MAX).await
    }

    /// As [`Self::run`], until the repository has so many bytes, if that is less than it may have.
    pub(super) async fn run_within(
        &self,
        repository: &Repository,
        options: &[&str],
        spec: &str,
        bytes: u64,
    ) -> Result<(), GitError> {
        let fixed = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--force",
            "--no-write-fetch-head",
            "--refmap=",
        ];
        let what = ["--", "source", spec];
        let arguments = fixed
            .iter()
            .chain(options)
            .chain(&what)
            .map(|&text| text.to_owned());
        let run = Run {
            repository: Some(repository.directory()),
            directory: repository.directory(),
            arguments: arguments.collect(),
            access: self.access().await?,
            timeout: self.timeout,
            max_bytes: self.fetcher.limits.repository_bytes.min(bytes),
            memory: self.fetcher.limits.git_memory,
            cpu_seconds: self.fetcher.limits.git_cpu_seconds,
            threads: self.fetcher.limits.git_threads,
        };
        let result = self.fetcher.program.run(&run).await;
        result.map_err(|failure| self.failed(failure))
    }

    async fn access(&self) -> Result<Access, GitError> {
        Access::open(Route {
            remote: self.remote,
            url: &self.resolved.base,
            egress: &self.fetcher.egress,
            directory: &self.fetcher.directory,
            has_proxies: self.fetcher.program.has_proxies(),
            timeout: self.timeout,
        })
        .await
    }

    pub(super) async fn repository(&self, held: &Held) -> Result<Repository, GitError> {
        let directory = self
            .fetcher
            .directory
            .join(format!("{}.git", self.home.key(&self.fetcher.key)));
        let opened = Repository::open(directory, self.fetcher.limits.repository_bytes, held).await;
        opened.map_err(|error| self.io(&error))
    }

    async fn discard(&self, held: &Held) -> Result<(), GitError> {
        let discarded = self.repository(held).await?.discard().await;
        discarded.map_err(|error| self.io(&error))
    }

    fn failed(&self, failure: Failure) -> GitError {
        let limits = self.fetcher.limits;
        failed(self.remote, &self.resolved, self.timeout, limits, failure)
    }

    fn not_found(&self, id: &CommitId) -> GitError {
        GitError::NotFound {
            url: self.remote.shown(),
            reference: id.to_string(),
        }
    }

    pub(super) fn io(&self, error: &io::Error) -> GitError {
        self.local(&error.to_string())
    }

    fn local(&self, detail: &str) -> GitError {
        GitError::Local {
            url: self.remote.shown(),
            detail: detail.to_owned(),
        }
    }
}

/// Says what a run that failed means for its remote.
pub(super) fn failed(
    remote: &Remote,
    resolved: &Resolved,
    timeout: Duration,
    limits: FetchLimits,
    failure: Failure,
) -> GitError {
    let url = remote.shown();
    let too_large = |what: &'static str, limit: String| GitError::TooLarge {
        url: remote.shown(),
        what,
        limit,
    };
    let memory = || too_large("the memory of git", format!("{} MiB", limits.git_memory >> 20));
    let said = match failure {
        Failure::Io(error) => {
            let detail = error.to_string();
            return GitError::Local { url, detail };
        }
        Failure::Timeout => return GitError::Timeout { url, after: timeout },
        Failure::TooLarge => {
            return too_large("the repository", format!("{} MiB", limits.repository_bytes >> 20));
        }
        Failure::TooLong => {
            return too_large("the list of refs", format!("{} MiB", MAX_ANSWER >> 20));
        }
        Failure::Processor => {
            return too_large(
                "the processor time of git",
                format!("{} s", limits.git_cpu_seconds),
            );
        }
        Failure::Threads => return too_large("the threads of git", limits.git_threads.to_string()),
        Failure::Memory => return memory(),
        Failure::Exit(said) => said,
    };
    if let Some(error) = remote.ssh().and_then(|_| ssh::judged(remote, &said)) {
        return error;
    }
    let plain = said.replace(resolved.base.as_str(), &url);
    let detail = summary(&redact(remote, &plain));
    match verdict(&said) {
        Verdict::Auth => GitError::Auth {
            url,
            detail: "authentication required",
        },
        Verdict::NotFound => GitError::NotFound {
            url,
            reference: resolved.reference.to_string(),
        },
        Verdict::Memory => memory(),
        Verdict::Corrupt => GitError::Corrupt { url, detail },
        Verdict::Disk => GitError::Local { url, detail },
        Verdict::Unreachable => GitError::Unreachable { url, detail },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Auth,
    NotFound,
    Memory,
    Corrupt,
    Disk,
    Unreachable,
}

/// Judges git's words (in the C locale). Discovery has gone before, so most failures never come here.
fn verdict(said: &str) -> Verdict {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&[
        "could not read Username",
        "could not read Password",
        "Authentication failed",
        "error: 401",
        "error: 403",
    ]) {
        Verdict::Auth
    } else if says(&[
        "couldn't find remote ref",
        "not our ref",
        "unadvertised object",
        "no such remote ref",
    ]) {
        Verdict::NotFound
    } else if says(&[
        "ut of memory",
        "Cannot allocate memory",
        "unable to create thread",
    ]) {
        // Before what follows from it: the pack is called broken as well.
        Verdict::Memory
    } else if says(&[
        "No space left on device",
        "Permission denied",
        "Read-only file system",
    ]) {
        Verdict::Disk
    } else if says(&[
        "bad pack header",
        "early EOF",
        "fsck error",
        "index-pack failed",
        "invalid index-pack output",
        "corrupt",
        "bad object",
        "missing object",
        "did not send all necessary objects",
        "pack has bad",
        "inflate",
        "SHA1 COLLISION",
        "not a git repository",
        "protocol error",
        "bad line length",
        "unpack-objects failed",
        "is disconnected",
        "invalid reference",
        "cannot lock ref",
        "unable to update local ref",
    ]) {
        Verdict::Corrupt
    } else {
        Verdict::Unreachable
    }
}

/// The lines in which git gives its reasons, bounded.
fn summary(said: &str) -> String {
    let reasons = said.lines().map(str::trim).filter(|line| {
        ["fatal:", "error:", "remote:"]
            .iter()
            .any(|prefix| line.starts_with(prefix))
    });
    let text = reasons.take(4).collect::<Vec<_>>().join("; ");
    let text = if text.is_empty() {
        said.trim().to_owned()
    } else {
        text
    };
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_judged_by_what_helps() {
        for (said, expected) in [
            (
                "fatal: could not read Username for 'http://h': terminal prompts disabled",
                Verdict::Auth,
            ),
            ("fatal: couldn't find remote ref refs/heads/x", Verdict::NotFound),
            (
                "fatal: remote error: upload-pack: not our ref 1234",
                Verdict::NotFound,
            ),
            (
                "error: Server does not allow request for unadvertised object 1234",
                Verdict::NotFound,
            ),
            (
                "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
                Verdict::Corrupt,
            ),
            (
                "error: object 12: badTree: cannot be parsed as a tree\nfatal: fsck error in packed object",
                Verdict::Corrupt,
            ),
            (
                "fatal: Out of memory, malloc failed (tried to allocate 419430401 bytes)\nfatal: fetch-pack: invalid index-pack output",
                Verdict::Memory,
            ),
            (
                "error: cannot lock ref 'refs/flotilla/x/y': 'refs/flotilla/x' exists; cannot create 'refs/flotilla/x/y'",
                Verdict::Corrupt,
            ),
            (
                "error: cannot lock ref 'refs/flotilla/x': Unable to create 'x.lock': Permission denied",
                Verdict::Disk,
            ),
            ("fatal: mmap failed: Cannot allocate memory", Verdict::Memory),
            ("fatal: write error: No space left on device", Verdict::Disk),
            (
                "fatal: unable to access 'http://h/': Failed to connect to h port 80",
                Verdict::Unreachable,
            ),
        ] {
            assert_eq!(verdict(said), expected, "{said}");
        }
    }

    #[test]
    fn only_reasons_are_told_and_never_much() {
        assert_eq!(
            summary("From http://h\nfatal: early EOF\nhint: x"),
            "fatal: early EOF"
        );
        assert_eq!(summary(&"x".repeat(9000)).len(), 500);
    }
}
