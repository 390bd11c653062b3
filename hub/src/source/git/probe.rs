//! Asks a remote which commit a reference names, for the price of a few hundred bytes: protocol 2 lists only the
//! refs asked for. Servers of protocol 0 and 1 list everything; that is read as it comes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Url, header::CONTENT_TYPE};

use super::{
    CommitId, GitError, Reference, Remote, RemoteKey,
    discovery::{Advertisement, ListedRef, Packets, check, client_of, discover, endpoint, send, within},
    pktline::{Packet, write_delimiter, write_flush, write_line},
};
use crate::source::transport::Clients;

/// A reference resolved on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The commit, tags peeled.
    pub commit: CommitId,
    /// The revision as Flux writes it, e.g. `main@sha1:…`.
    pub revision: String,
    /// The repository's URL after redirects.
    pub base: Url,
    /// Bytes of the remote's answers, for tests and metrics; without headers.
    pub received: usize,
}

/// How long what a server said of itself is taken for true without asking again.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// Remotes known; beyond, all are forgotten and asked anew.
const MAX_KNOWN: usize = 100_000;

/// Asks remotes. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    clients: Clients,
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
            key,
            known: Arc::default(),
        }
    }

    /// Resolves `reference`. A commit resolves to itself, but the remote is still asked whether it answers.
    pub async fn probe(
        &self,
        remote: &Remote,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Resolved, GitError> {
        Box::pin(within(remote, timeout, self.resolve(remote, reference))).await
    }

    async fn resolve(&self, remote: &Remote, reference: &Reference) -> Result<Resolved, GitError> {
        let name = reference.full_name();
        if let Some(resolved) = self.resolve_known(remote, reference, name.as_deref()).await {
            return Ok(resolved);
        }
        let wanted: Vec<&str> = name.as_deref().into_iter().collect();
        let discovered = discover(&self.clients, remote, &wanted).await?;
        let resolved = |commit: CommitId, received| Resolved {
            revision: reference.revision(&commit),
            commit,
            base: discovered.base.clone(),
            received,
        };
        if let Reference::Commit { id, .. } = reference {
            return Ok(resolved(id.clone(), 0));
        }
        let name = name.unwrap_or_default();
        match &discovered.advertisement {
            Advertisement::Refs { found, total } => {
                let commit = commit_of(remote, found, &name)?;
                commit
                    .map(|commit| resolved(commit, 0))
                    .ok_or_else(|| missing(remote, reference, *total == 0))
            }
            Advertisement::V2 { object_format } => {
                let listing = self.list(remote, &discovered.base, object_format, &name).await?;
                match commit_of(remote, &listing.refs, &name)? {
                    Some(commit) => {
                        self.remember(remote, &discovered.base, object_format);
                        Ok(resolved(commit, listing.received))
                    }
                    None => Err(self
                        .missing(remote, &discovered.base, object_format, reference)
                        .await?),
                }
            }
        }
    }

    /// Asks a server that is known to speak protocol 2 for the ref at once. Whatever goes wrong, it is known no
    /// longer and asked from the beginning: that is where errors are judged and redirects followed.
    async fn resolve_known(
        &self,
        remote: &Remote,
        reference: &Reference,
        name: Option<&str>,
    ) -> Option<Resolved> {
        // A commit names itself; only whether the remote answers is asked, and judged where all begins.
        let name = name.filter(|_| !matches!(reference, Reference::Commit { .. }))?;
        let key = remote.key(&self.key);
        let known = self.lock().get(&key).cloned()?;
        if known.since.elapsed() < KNOWN_FOR
            && let Ok(listing) = self.list(remote, &known.base, &known.object_format, name).await
            && let Ok(Some(commit)) = commit_of(remote, &listing.refs, name)
        {
            return Some(Resolved {
                revision: reference.revision(&commit),
                commit,
                base: known.base,
                received: listing.received,
            });
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
        let listing = self.list(remote, base, format, "").await?;
        Ok(missing(remote, reference, listing.total == 0))
    }

    /// Lists the refs that begin with `prefix`, keeping only the one with exactly this name.
    async fn list(
        &self,
        remote: &Remote,
        base: &Url,
        format: &str,
        prefix: &str,
    ) -> Result<Listing, GitError> {
        let content = "application/x-git-upload-pack";
        let request = client_of(&self.clients, remote)?
            .post(endpoint(base, "/git-upload-pack", ""))
            .header(CONTENT_TYPE, format!("{content}-request"))
            .body(ls_refs(format, prefix));
        let response = send(remote, request).await?;
        check(remote, &response, &format!("{content}-result"))?;
        let mut packets = Packets::new(remote, response);
        let mut listing = Listing::default();
        loop {
            match packets.next().await? {
                Some(Packet::Line(line)) => listing.take(&String::from_utf8_lossy(&line), prefix),
                Some(Packet::Flush) => break,
                Some(_) => {}
                None => return Err(truncated(remote)),
            }
            if prefix.is_empty() && listing.total > 0 {
                break;
            }
        }
        listing.received = packets.received();
        Ok(listing)
    }
}

#[derive(Default)]
struct Listing {
    refs: Vec<ListedRef>,
    total: usize,
    received: usize,
}

impl Listing {
    /// Takes in `<id> <name>[ peeled:<id>]`.
    fn take(&mut self, line: &str, wanted: &str) {
        let mut words = line.split(' ');
        let (Some(id), Some(name)) = (words.next(), words.next()) else {
            return;
        };
        self.total += 1;
        if name == wanted {
            let peeled = words
                .find_map(|word| word.strip_prefix("peeled:"))
                .map(str::to_owned);
            self.refs.push(ListedRef {
                name: name.to_owned(),
                id: id.to_owned(),
                peeled,
            });
        }
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

fn commit_of(remote: &Remote, refs: &[ListedRef], name: &str) -> Result<Option<CommitId>, GitError> {
    let Some(listed) = refs.iter().find(|listed| listed.name == name) else {
        return Ok(None);
    };
    let id = listed.peeled.as_ref().unwrap_or(&listed.id);
    let corrupt = |_| GitError::Corrupt {
        url: remote.shown(),
        detail: format!("{name} points at no object id"),
    };
    CommitId::parse(id).map(Some).map_err(corrupt)
}

fn missing(remote: &Remote, reference: &Reference, empty: bool) -> GitError {
    if empty {
        GitError::Empty { url: remote.shown() }
    } else {
        GitError::NotFound {
            url: remote.shown(),
            reference: reference.to_string(),
        }
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
    fn a_listing_keeps_only_the_ref_of_that_very_name() {
        let mut listing = Listing::default();
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        for line in [
            format!("{a} refs/heads/main"),
            format!("{b} refs/heads/main-2"),
            format!("{c} refs/heads/main/x symref-target:HEAD"),
            "garbage".into(),
        ] {
            listing.take(&line, "refs/heads/main");
        }
        let kept = ListedRef {
            name: "refs/heads/main".into(),
            id: a,
            peeled: None,
        };
        assert_eq!((listing.refs, listing.total), (vec![kept], 3));
    }

    #[test]
    fn a_tag_is_peeled() {
        let mut listing = Listing::default();
        let (tag, commit) = ("a".repeat(40), "b".repeat(40));
        listing.take(&format!("{tag} refs/tags/v1 peeled:{commit}"), "refs/tags/v1");
        let remote = Remote::new("http://h/r", None, None).expect("a remote");
        let resolved = commit_of(&remote, &listing.refs, "refs/tags/v1").expect("well-formed");
        assert_eq!(resolved.map(|id| id.to_string()), Some(commit));
    }

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
