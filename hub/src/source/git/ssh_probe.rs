//! Asks a remote over SSH which commit a reference names: by the git program, which lists what is asked for and fetches
//! nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::{
    FetchLimits, GitError, GitProgram, Reference, Remote, Resolved,
    access::{Access, Route},
    discovery::redact,
    fetch::failed,
    listing::{Listing, TAGS, Wanted},
    probe::missing,
    program::Run,
    ssh,
};
use crate::source::egress::Egress;

/// Clients that ask at the same time.
const CONCURRENCY: usize = 8;
/// Where branches are.
const BRANCHES: &str = "refs/heads/";

/// Asks over SSH. Cheap to clone.
#[derive(Clone)]
pub(super) struct SshProber {
    program: GitProgram,
    directory: PathBuf,
    running: Arc<Semaphore>,
}

impl SshProber {
    /// Keeps the files of its runs below `directory`; those that a crash has left there are removed.
    pub(super) fn new(program: GitProgram, directory: PathBuf) -> Self {
        ssh::remove_left(&directory);
        Self {
            program,
            directory,
            running: Arc::new(Semaphore::new(CONCURRENCY)),
        }
    }

    pub(super) async fn resolve(
        &self,
        remote: &Remote,
        reference: &Reference,
        egress: &Egress,
        timeout: Duration,
    ) -> Result<Resolved, GitError> {
        let listing = self
            .list(remote, reference, Wanted::of(reference), egress, timeout)
            .await?;
        if let Reference::Commit { id, .. } = reference {
            return Ok(Resolved::itself(reference, id, remote.url()));
        }
        if let Some(resolved) = Resolved::of(remote, reference, &listing, remote.url(), 0)? {
            return Ok(resolved);
        }
        // Only the failing case pays for the second look.
        let all = self.list(remote, reference, Wanted::Any, egress, timeout).await?;
        Err(missing(remote, reference, all.total == 0))
    }

    async fn list(
        &self,
        remote: &Remote,
        reference: &Reference,
        wanted: Wanted,
        egress: &Egress,
        timeout: Duration,
    ) -> Result<Listing, GitError> {
        let local = |detail: &str| GitError::Local {
            url: remote.shown(),
            detail: redact(remote, detail),
        };
        let _running = self
            .running
            .acquire()
            .await
            .map_err(|_| local("the hub is stopping"))?;
        let access = Access::open(Route {
            remote,
            url: remote.url(),
            egress,
            directory: &self.directory,
            has_proxies: self.program.has_proxies(),
            timeout,
        });
        let limits = FetchLimits::default();
        let run = Run {
            repository: None,
            directory: &self.directory,
            arguments: arguments(&wanted),
            access: access.await?,
            timeout,
            max_bytes: u64::MAX,
            memory: limits.git_memory,
            cpu_seconds: limits.git_cpu_seconds,
            threads: limits.git_threads,
        };
        let mut listing = Listing::new(wanted);
        let read = self.program.read(&run, |line| take(line, &mut listing)).await;
        match read {
            Ok(()) => Ok(listing),
            Err(failure) => {
                let resolved = Resolved {
                    reference: reference.clone(),
                    ..Resolved::nothing(remote.url())
                };
                Err(failed(remote, &resolved, timeout, limits, failure))
            }
        }
    }
}

/// What git is asked. The server sends what begins like the kind of ref; git keeps what ends like the name.
fn arguments(wanted: &Wanted) -> Vec<String> {
    let mut arguments = vec!["ls-remote".to_owned()];
    match wanted.prefix() {
        prefix if prefix.starts_with(BRANCHES) => arguments.push("--heads".into()),
        prefix if prefix.starts_with(TAGS) => arguments.push("--tags".into()),
        _ => {}
    }
    arguments.extend(["--", "source"].map(str::to_owned));
    if let Wanted::Name(name) = wanted {
        arguments.extend([name.clone(), format!("{name}^{{}}")]);
    }
    arguments
}

/// Takes in `<id> <name>`, parted by a tab; what is behind an annotated tag follows it under its name and `^{}`.
fn take(line: &str, listing: &mut Listing) {
    let Some((id, name)) = line.split_once('\t') else {
        return;
    };
    match name.strip_suffix("^{}") {
        Some(tag) => listing.peel(tag, id),
        None => listing.take(name, id, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kind_of_ref_that_is_wanted_is_listed() {
        let name = |name: &str| arguments(&Wanted::Name(name.to_owned())).join(" ");
        assert_eq!(
            name("refs/heads/main"),
            "ls-remote --heads -- source refs/heads/main refs/heads/main^{}"
        );
        assert_eq!(
            name("refs/pull/1/head"),
            "ls-remote -- source refs/pull/1/head refs/pull/1/head^{}"
        );
        assert_eq!(arguments(&Wanted::Any).join(" "), "ls-remote -- source");
    }

    #[test]
    fn what_ls_remote_prints_is_read_with_tags_peeled() {
        let mut listing = Listing::new(Wanted::Name("refs/tags/v1".into()));
        let [tag, commit] = ["a", "b"].map(|digit| digit.repeat(40));
        for line in [
            format!("{tag}\trefs/tags/v1"),
            format!("{commit}\trefs/tags/v1^{{}}"),
            "warning: something".to_owned(),
        ] {
            take(&line, &mut listing);
        }
        assert_eq!(listing.total, 1);
        let peeled = listing.refs.first().and_then(|listed| listed.peeled.as_deref());
        assert_eq!(peeled, Some(commit.as_str()));
    }
}
