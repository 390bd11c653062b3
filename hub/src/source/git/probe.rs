//! Asks a remote which commit a reference names, for the price of a few hundred bytes: protocol 2 lists only the
//! refs asked for. Servers of protocol 0 and 1 list everything; that is read as it comes.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Url, header::CONTENT_TYPE};

use super::{
    CommitId, GitError, GitProgram, Reference, Remote, RemoteKey,
    discovery::{Advertisement, Packets, allowed, check, client_of, discover, endpoint, send, within},
    listing::{Listing, Target, Wanted},
    pktline::{Packet, write_delimiter, write_flush, write_line},
    ssh_probe::SshProber,
};
use crate::source::transport::Clients;

/// A reference resolved on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What it is of: the reference that was asked for, of which a range has become a tag.
    pub reference: Reference,
    /// The commit, tags peeled.
    pub commit: CommitId,
    /// What the ref itself points at: for an annotated tag, the tag.
    pub object: CommitId,
    /// Other tags of the very same version, and what they point at: which of them is the newest, only their commits tell.
    pub others: Vec<Target>,
    /// The revision as Flux writes it, e.g. `main@sha1:…`.
    pub revision: String,
    /// The repository's URL after redirects.
    pub base: Url,
    /// Bytes of the remote's answers, for tests and metrics; without headers.
    pub received: usize,
}

impl Resolved {
    /// What a list says of a reference; `None`: nothing.
    pub(super) fn of(
        remote: &Remote,
        reference: &Reference,
        listing: &Listing,
        base: &Url,
        received: usize,
    ) -> Result<Option<Self>, GitError> {
        let mut targets = listing.targets(remote, reference)?;
        Ok(targets.pop().map(|target| Self {
            revision: target.reference.revision(&target.commit),
            reference: target.reference,
            commit: target.commit,
            object: target.object,
            others: targets,
            base: base.clone(),
            received,
        }))
    }

    /// What is known before anything is: for messages.
    pub(super) fn nothing(base: &Url) -> Self {
        let id = CommitId::none();
        Self {
            reference: Reference::Commit {
                id: id.clone(),
                branch: None,
            },
            commit: id.clone(),
            object: id,
            others: Vec::new(),
            revision: String::new(),
            base: base.clone(),
            received: 0,
        }
    }

    /// A commit, which names itself.
    pub(super) fn itself(reference: &Reference, id: &CommitId, base: &Url) -> Self {
        Self {
            reference: reference.clone(),
            revision: reference.revision(id),
            commit: id.clone(),
            object: id.clone(),
            others: Vec::new(),
            base: base.clone(),
            received: 0,
        }
    }

    /// The same, of another one of the tags.
    pub(super) fn choose(self, target: Target) -> Self {
        Self {
            revision: target.reference.revision(&target.commit),
            reference: target.reference,
            commit: target.commit,
            object: target.object,
            others: Vec::new(),
            ..self
        }
    }
}

/// How long what a server said of itself is taken for true without asking again.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// Remotes known; beyond, all are forgotten and asked anew.
const MAX_KNOWN: usize = 100_000;

/// Asks remotes. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    clients: Clients,
    ssh: Option<SshProber>,
    key: [u8; 32],
    known: Arc<Mutex<HashMap<RemoteKey, Known>>>,
}

/// A server of protocol 2, as its first answer described it.
#[derive(Clone)]
struct Known {
    base: Url,
    object_format: String,
    since: Instant,
}

impl Prober {
    /// Makes a prober over shared clients. `key` belongs to this hub, see [`Remote::key`].
    pub fn new(clients: Clients, key: [u8; 32]) -> Self {
        Self {
            clients,
            ssh: None,
            key,
            known: Arc::default(),
        }
    }

    /// Asks over SSH too, by the git program, whose runs keep their files below `directory`.
    #[must_use]
    pub fn with_ssh(mut self, program: GitProgram, directory: PathBuf) -> Self {
        self.ssh = Some(SshProber::new(program, directory));
        self
    }

    /// Resolves `reference`. A commit resolves to itself, but the remote is still asked whether it answers.
    pub async fn probe(
        &self,
        remote: &Remote,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Resolved, GitError> {
        if remote.ssh().is_none() {
            return Box::pin(within(remote, timeout, self.resolve(remote, reference))).await;
        }
        let Some(ssh) = &self.ssh else {
            return Err(GitError::Local {
                url: remote.shown(),
                detail: "nothing here asks over ssh".into(),
            });
        };
        let resolved = ssh.resolve(remote, reference, self.clients.egress(), timeout);
        Box::pin(within(remote, timeout, resolved)).await
    }

    async fn resolve(&self, remote: &Remote, reference: &Reference) -> Result<Resolved, GitError> {
        if let Some(resolved) = self.resolve_known(remote, reference).await {
            return Ok(resolved);
        }
        let discovered = discover(&self.clients, remote, Wanted::of(reference)).await?;
        let base = &discovered.base;
        if let Reference::Commit { id, .. } = reference {
            return Ok(Resolved::itself(reference, id, base));
        }
        match &discovered.advertisement {
            Advertisement::Refs(listing) => match Resolved::of(remote, reference, listing, base, 0)? {
                Some(resolved) => Ok(resolved),
                None => Err(missing(remote, reference, listing.total == 0)),
            },
            Advertisement::V2 { object_format } => {
                let (listing, received) = self
                    .list(remote, base, object_format, Wanted::of(reference))
                    .await?;
                match Resolved::of(remote, reference, &listing, base, received)? {
                    Some(resolved) => {
                        self.remember(remote, base, object_format);
                        Ok(resolved)
                    }
                    None => Err(self.missing(remote, base, object_format, reference).await?),
                }
            }
        }
    }

    /// Asks a server that is known to speak protocol 2 for the ref at once. Whatever goes wrong, it is known no
    /// longer and asked from the beginning: that is where errors are judged and redirects followed.
    async fn resolve_known(&self, remote: &Remote, reference: &Reference) -> Option<Resolved> {
        // A commit names itself; only whether the remote answers is asked, and judged where all begins.
        if matches!(reference, Reference::Commit { .. }) {
            return None;
        }
        let key = remote.key(&self.key);
        let known = self.lock().get(&key).cloned()?;
        let wanted = Wanted::of(reference);
        if known.since.elapsed() < KNOWN_FOR
            && let Ok((listing, received)) =
                self.list(remote, &known.base, &known.object_format, wanted).await
            && let Ok(Some(resolved)) = Resolved::of(remote, reference, &listing, &known.base, received)
        {
            return Some(resolved);
        }
        self.lock().remove(&key);
        None
    }

    fn remember(&self, remote: &Remote, base: &Url, object_format: &str) {
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let one = Known {
            base: base.clone(),
            object_format: object_format.to_owned(),
            since: Instant::now(),
        };
        known.insert(remote.key(&self.key), one);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RemoteKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells an empty repository from one that lacks the ref: only the failing case pays for the second look.
    async fn missing(
        &self,
        remote: &Remote,
        base: &Url,
        format: &str,
        reference: &Reference,
    ) -> Result<GitError, GitError> {
        let (listing, _) = self.list(remote, base, format, Wanted::Any).await?;
        Ok(missing(remote, reference, listing.total == 0))
    }

    /// Lists the refs that are wanted, and tells how many bytes that took.
    async fn list(
        &self,
        remote: &Remote,
        base: &Url,
        format: &str,
        wanted: Wanted,
    ) -> Result<(Listing, usize), GitError> {
        let content = "application/x-git-upload-pack";
        let request = client_of(&self.clients, remote)?
            .post(endpoint(base, "/git-upload-pack", ""))
            .header(CONTENT_TYPE, format!("{content}-request"))
            .body(ls_refs(format, wanted.prefix()));
        allowed(&self.clients, remote, base)?;
        let response = send(remote, request).await?;
        check(remote, &response, &format!("{content}-result"))?;
        let mut packets = Packets::new(remote, response);
        let mut listing = Listing::new(wanted);
        loop {
            match packets.next().await? {
                Some(Packet::Line(line)) => take(&String::from_utf8_lossy(&line), &mut listing),
                Some(Packet::Flush) => break,
                Some(_) => {}
                None => return Err(truncated(remote)),
            }
            if listing.is_enough() {
                break;
            }
        }
        Ok((listing, packets.received()))
    }
}

/// Takes in `<id> <name>[ peeled:<id>]`.
fn take(line: &str, listing: &mut Listing) {
    let mut words = line.split(' ');
    if let (Some(id), Some(name)) = (words.next(), words.next()) {
        let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
        listing.take(name, id, peeled);
    }
}

fn ls_refs(object_format: &str, prefix: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(160);
    write_line("command=ls-refs", &mut body);
    write_line(concat!("agent=flotilla/", env!("CARGO_PKG_VERSION")), &mut body);
    write_line(&format!("object-format={object_format}"), &mut body);
    write_delimiter(&mut body);
    write_line("peel", &mut body);
    if !prefix.is_empty() {
        write_line(&format!("ref-prefix {prefix}"), &mut body);
    }
    write_flush(&mut body);
    body
}

pub(super) fn missing(remote: &Remote, reference: &Reference, empty: bool) -> GitError {
    let url = remote.shown();
    match reference {
        _ if empty => GitError::Empty { url },
        Reference::Semver(range) => GitError::NoVersion {
            url,
            range: range.to_string(),
        },
        _ => GitError::NotFound {
            url,
            reference: reference.to_string(),
        },
    }
}

fn truncated(remote: &Remote) -> GitError {
    GitError::Corrupt {
        url: remote.shown(),
        detail: "the list of refs has no end".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_asks_for_one_prefix_only() {
        let body = String::from_utf8(ls_refs("sha1", "refs/heads/main")).expect("text");
        assert!(body.starts_with("0014command=ls-refs\n"), "{body}");
        assert!(
            body.ends_with("object-format=sha1\n00010009peel\n001fref-prefix refs/heads/main\n0000"),
            "{body}"
        );
        assert!(body.len() < 160);
    }
}
